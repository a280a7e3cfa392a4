"""Servers as processes: pinned to a core, ended with the runner, and asked what they use."""

import ctypes
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

TICKS = os.sysconf("SC_CLK_TCK")
START_SECONDS = 30.0
STOP_SECONDS = 30.0
POLL_SECONDS = 0.001
_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None)


class BenchError(Exception):
    """The bench can't go on; the message says why."""


@dataclass(frozen=True)
class Command:
    """A program to start: its arguments, what it gets in its environment, and what it is awaited by.

    One with `ready` is a server of its own, such as a database: nothing else is started before that is true.
    """

    arguments: Sequence[str | Path]
    environment: dict[str, str] = field(default_factory=dict)
    ready: Callable[[], bool] | None = None


class Running:
    """The processes of one server, from their start to the end of the `with` block."""

    def __init__(self, commands: Sequence[Command], folder: Path, core: int) -> None:
        self.core = core
        self._log = folder / "log"
        self._processes: list[subprocess.Popen[bytes]] = []
        self.started = time.perf_counter()
        try:
            for command in commands:
                self._processes.append(start(command, folder, core, self._log))
                if command.ready:
                    self._await(command.ready)
                    self.started = time.perf_counter()
        except BaseException:
            self.stop()
            raise

    def __enter__(self) -> "Running":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """End all processes, the first one last, and whatever they left in their groups."""
        for process in reversed(self._processes):
            process.terminate()
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
            finally:
                _kill_group(process.pid)
                process.wait()

    def first_200(self, port: int, path: str) -> float:
        """Return the seconds from the start of the first process that was not awaited to the first 200."""
        request = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n".encode()
        while time.perf_counter() - self.started < START_SECONDS:
            if _answers_200(port, request):
                return time.perf_counter() - self.started
            self.check_alive()
            time.sleep(POLL_SECONDS)  # for the server's sake, where the two cores are threads of one
        raise BenchError(f"No 200 of {path} within {START_SECONDS:.0f} s.\n{self.last_lines()}")

    def _await(self, ready: Callable[[], bool]) -> None:
        while not ready():
            if time.perf_counter() - self.started > START_SECONDS:
                raise BenchError(f"Not ready within {START_SECONDS:.0f} s.\n{self.last_lines()}")
            self.check_alive()
            time.sleep(0.02)

    def check_alive(self) -> None:
        """Raise BenchError where a process has ended."""
        for process in self._processes:
            if process.poll() is not None:
                raise BenchError(f"{process.args!r} ended with {process.returncode}.\n{self.last_lines()}")

    def last_lines(self) -> str:
        """Return the end of the log."""
        return "\n".join(self._log.read_text(errors="replace").splitlines()[-20:])

    def cpu_seconds(self) -> float:
        """Return the processor time that the processes and their children have used."""
        return sum(_cpu_seconds(pid) for pid in self._tree())

    def resident(self) -> int:
        """Return the resident memory of the processes and their children, in bytes.

        Without shared segments (PostgreSQL's buffers), which would count once for each process.
        """
        return sum(_status(pid, "VmRSS") - _status(pid, "RssShmem") for pid in self._tree())

    def peak(self) -> int:
        """Return the sum of the processes' highest resident memory, in bytes."""
        return sum(_status(pid, "VmHWM") for pid in self._tree())

    def _tree(self) -> list[int]:
        parents = _parents()
        pids = [process.pid for process in self._processes]
        for pid in pids:  # grows while it is read: children of children
            pids += [child for child, parent in parents.items() if parent == pid]
        return pids


def start(command: Command, folder: Path, core: int, log: Path) -> subprocess.Popen[bytes]:
    """Start a program in `folder`, in a group of its own, on one core; it ends when the runner does."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HELLO_")}
    with log.open("ab") as output:
        return subprocess.Popen(
            [str(argument) for argument in command.arguments],
            cwd=folder,
            env=environment | command.environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            preexec_fn=tied_to(os.getpid(), core),
        )


def tied_to(parent: int, core: int) -> Callable[[], None]:
    """Return what a child does before it becomes its program: die with its parent, stay on its core."""

    def prepare() -> None:
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it died before the call
            os._exit(1)
        os.sched_setaffinity(0, {core})

    return prepare


def run(command: Command, folder: Path, core: int) -> tuple[float, int]:
    """Run a program to its end; return its seconds and its highest resident memory in bytes.

    Raises:
        BenchError: it ended with another status than 0.
    """
    log = folder / "run.log"
    log.write_bytes(b"")
    started = time.perf_counter()
    process = start(command, folder, core, log)
    peak = 0
    try:
        while process.poll() is None:
            peak = max(peak, _status(process.pid, "VmHWM"))
            time.sleep(0.01)
        seconds = time.perf_counter() - started
    finally:
        _kill_group(process.pid)
        process.wait()
    if process.returncode:
        raise BenchError(
            f"{process.args!r} ended with {process.returncode}.\n{log.read_text(errors='replace')}"
        )
    return seconds, peak


def core_seconds(core: int) -> float:
    """Return the processor time that a core has given to programs, or lost to other virtual machines."""
    for line in Path("/proc/stat").read_text().splitlines():
        if line.startswith(f"cpu{core} "):
            # user, nice, system, idle, iowait, irq, softirq, steal: the interrupts are the requests' own.
            fields = [int(field) for field in line.split()[1:9]]
            return (sum(fields[:3]) + fields[7]) / TICKS
    return 0.0


def free_port() -> int:
    """Return a TCP port of loopback that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


@contextmanager
def interruptible() -> Iterator[None]:
    """Let SIGTERM end the runner as Ctrl-C does, also in the background, so that it stops what it started."""

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _answers_200(port: int, request: bytes) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
            connection.sendall(request)
            return connection.recv(64).startswith((b"HTTP/1.1 200", b"HTTP/1.0 200"))
    except OSError:
        return False


def _kill_group(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)


def _parents() -> dict[int, int]:
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal() and (fields := _stat(int(entry.name))):
            parents[int(entry.name)] = int(fields[1])
    return parents


def _cpu_seconds(pid: int) -> float:
    fields = _stat(pid)
    return (int(fields[11]) + int(fields[12])) / TICKS if fields else 0.0


def _stat(pid: int) -> list[str]:
    """Return /proc/PID/stat from the state on (the name before it may hold spaces), or nothing."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def _status(pid: int, name: str) -> int:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:")), 0)
