"""Tasks and instances as processes of a built version, each on a loopback address of its own."""

import os
import signal
import socket
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import cycle
from pathlib import Path

from rehearsal.owned import die_with_parent
from rehearsal.service import TaskDefinition

PORT = 5000  # the container's


class AddressTakenError(Exception):
    """Another process listens where a task is to."""

    def __init__(self, address: str, port: int) -> None:
        super().__init__(
            f"{address}:{port} is taken, so that requests would reach another process: "
            f"end it (ss -tlnp 'sport = :{port}' tells which), or choose other addresses with --network."
        )


def check_free(address: str, port: int = PORT) -> None:
    """Make sure that nobody listens there.

    Raises:
        AddressTakenError: somebody does.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # past connections are no matter
        try:
            probe.bind((address, port))
        except OSError as error:
            raise AddressTakenError(address, port) from error


class Process:
    """A task or an instance: a command in the folder of its version, with files of its own in `folder`."""

    def __init__(
        self,
        definition: TaskDefinition,
        address: str,
        command: Sequence[str],
        folder: Path,
        **given: str,
    ) -> None:
        self.address = address
        self.log = folder / "log"
        self._command = command
        self._folder = definition.folder
        temporary = folder / "tmp"
        temporary.mkdir(parents=True)
        self._environment = {
            **_inherited(),
            "HOME": str(folder),  # or credentials of the person who rehearses are found there
            "TMPDIR": str(temporary),
            **definition.environment,
            "HELLO_HOST": address,
            "HELLO_COMMIT": definition.commit,
            "PYTHONPATH": str(definition.folder / "src"),
            **given,
        }
        self.start()

    def start(self) -> None:
        """Start it, for the first time or again."""
        with self.log.open("ab") as output:
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=self._folder,
                env=self._environment,
                process_group=0,
                preexec_fn=die_with_parent,
            )
        self.pid = self._process.pid

    def status(self) -> int | None:
        """Return the exit status, or None while it runs."""
        return self._process.poll()

    def terminate(self) -> None:
        """Ask it to stop."""
        self._process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it at once, and its workers: those also where it has ended by itself."""
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self._process.wait()


class Launcher:
    """Starts tasks on the addresses network.2 to network.249, in turn.

    `python` has what hello depends on; the code is the version's.
    """

    def __init__(self, folder: Path, network: str, python: str) -> None:
        self._folder = folder
        self._python = python
        self._addresses: Iterator[str] = cycle(f"{network}.{number}" for number in range(2, 250))

    def __call__(self, task: str, definition: TaskDefinition) -> Process:
        """Start a task.

        Raises:
            AddressTakenError: another process listens on its address.
        """
        command = [self._python, "-m", "hello", *definition.command]
        return Process(definition, self.address(), command, self._folder / task)

    def address(self) -> str:
        """Return the next address.

        Raises:
            AddressTakenError: another process listens there.
        """
        address = next(self._addresses)
        check_free(address)
        return address


def _inherited() -> Mapping[str, str]:
    """Return the little that a container would have too: nothing that was set for hello or AWS here."""
    return {name: os.environ[name] for name in ("PATH", "LANG", "LC_ALL") if name in os.environ}
