"""`hello` and `python -m hello`."""

import signal
import sys


def main() -> None:
    """Run the command line."""
    # Until a command has something to finish, Ctrl-C just ends the process, also while modules load.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from hello import cli

    sys.exit(cli.run())


if __name__ == "__main__":
    main()
