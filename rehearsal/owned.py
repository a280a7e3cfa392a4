"""Processes that end with the one that started them, however that ends.

As a command it runs another and owns all that this starts: `python -m rehearsal.owned COMMAND…`
"""

import ctypes
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import FrameType

PR_SET_PDEATHSIG = 1
_prctl = ctypes.CDLL(None).prctl  # found now: between fork and exec there is no time to look


def die_with_parent(number: int = signal.SIGKILL) -> None:
    """Have the kernel signal this process when the thread that started it ends."""
    _prctl(PR_SET_PDEATHSIG, number)


def command(*arguments: str) -> list[str]:
    """Return the command that runs another one and owns it; give it `die_with_parent` as preexec_fn, for it
    takes a while to start."""
    return [sys.executable, "-m", "rehearsal.owned", *arguments]


def _others() -> list[int]:
    """Return who else is in this process's session; job control of shells makes groups, and no sessions."""
    session, found = os.getsid(0), []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it ended meanwhile
        if int(fields[3]) == session and fields[0] != "Z" and int(entry.name) != os.getpid():
            found.append(int(entry.name))
    return found


def end_session() -> None:
    """Kill whoever else is in the session, and whom they start meanwhile."""
    while others := _others():
        for pid in others:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue


def main() -> None:
    """Run a command in a session of its own; all of it ends when the parent does, or this is told to stop."""
    os.setsid()

    def end(number: int, _: FrameType | None) -> None:
        end_session()
        os._exit(128 + number)

    signal.signal(signal.SIGTERM, end)
    die_with_parent(signal.SIGTERM)
    status = subprocess.call(sys.argv[1:])
    end_session()  # what it left in the background
    sys.exit(status if status >= 0 else 128 - status)


if __name__ == "__main__":
    main()
