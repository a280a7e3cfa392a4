"""`hello` and `python -m hello`."""

import os
import signal
import sys


def main() -> None:
    """Run the command line."""
    if os.getpid() == 1:
        # In a container: the kernel keeps from PID 1 each signal that it has no handler for, so that a
        # stop while modules load would be lost.
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda received, _: os._exit(128 + received))
    elif signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        # Until a command has something to finish, Ctrl-C just ends the process, also while modules load.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from hello import cli

    sys.exit(cli.run())


if __name__ == "__main__":
    main()
