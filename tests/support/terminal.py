"""A terminal for tests: a command runs on it, its keys are typed, what it shows is read."""

import os
import select
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Self

CTRL_C = "\x03"
CTRL_D = "\x04"
CTRL_S = "\x13"  # holds what is shown, and with it a command that has something to show

# Makes the terminal the command's own, so that Ctrl-C reaches it, as signals do by default.
_TAKE_TERMINAL = """
import fcntl, os, signal, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
signal.signal(signal.SIGINT, signal.SIG_DFL)
os.execvp(sys.argv[1], sys.argv[1:])
"""


class Terminal:
    """A command on a pseudo-terminal of 100 columns; standard output goes to `output` where given."""

    def __init__(
        self,
        *command: str | Path,
        folder: Path,
        environment: Mapping[str, str] | None = None,
        output: Path | None = None,
    ) -> None:
        self.shown = ""
        self._terminal, other = os.openpty()
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(("HELLO_", "OTEL_"))}
        with open(output or os.devnull, "wb") as file:  # noqa: PTH123 - either of them
            self.process = subprocess.Popen(
                [sys.executable, "-c", _TAKE_TERMINAL, *command],
                stdin=other,
                stdout=file if output else other,
                stderr=other,
                cwd=folder,
                env={**inherited, "COLUMNS": "100", "TERM": "xterm", **(environment or {})},
                start_new_session=True,
            )
        os.close(other)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self._terminal)

    def wait_for(self, text: str, seconds: float = 60) -> None:
        """Read until `text` is shown."""
        deadline = time.monotonic() + seconds
        while text not in self.shown:
            assert time.monotonic() < deadline, f"still waiting for {text!r}: {self.shown!r}"
            assert self._read(1) is not None, f"ended without {text!r}: {self.shown!r}"

    def type(self, keys: str) -> None:
        """Press keys."""
        os.write(self._terminal, keys.encode())

    def end(self) -> int:
        """Read to the end and return the exit status."""
        while self._read(60):
            pass
        return self.process.wait(60)

    def _read(self, seconds: float) -> str | None:
        """Return what comes within the time, None at the end."""
        if not select.select([self._terminal], [], [], seconds)[0]:
            return ""
        try:
            read = os.read(self._terminal, 65536).decode(errors="replace")
        except OSError:  # Linux has this for the end
            return None
        self.shown += read
        return read or None
