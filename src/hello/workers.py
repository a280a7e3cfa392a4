"""Several processes on one port: each accepts from the same socket, and a dead one is replaced."""

import logging
import os
import shutil
import signal
import socket
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import TYPE_CHECKING

from hello.settings import Settings
from hello.usage import UsageError

if TYPE_CHECKING:
    from hello.tls import Credentials

logger = logging.getLogger("hello.workers")

FAST_DEATH_SECONDS = 2.0  # a worker that lives shorter than this counts as a failed start
FAST_DEATHS = 5


class Supervisor:
    """Forks the workers, replaces the dead, passes signals on, and waits for all of them at the end."""

    def __init__(
        self, settings: Settings, bound: socket.socket, secured_by: "Credentials | None" = None
    ) -> None:
        self._settings = settings
        self._socket = bound
        self._secured_by = secured_by  # as at the start; each worker goes on from there by itself
        self._turn = None if settings.etcd is None else tempfile.TemporaryFile()  # noqa: SIM115 - as long as we
        self._started: dict[int, float] = {}
        self._stopping = False
        self._passed_on = 0
        self._fast_deaths = 0
        self._forced = 0  # the exit status after a second signal

    def run(self) -> int:
        """Supervise until a signal; return the exit status: 0 if all workers ended well.

        Raises:
            UsageError: there is no folder for what the workers count.
        """
        # Read by prometheus-client when it is imported: hence here, and the import in the workers.
        metrics = os.environ["PROMETHEUS_MULTIPROC_DIR"] = _folder_for_metrics()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._pass_on)
        try:
            for _ in range(self._settings.workers):
                self._fork()
            return self._wait()
        finally:
            shutil.rmtree(metrics, ignore_errors=True)

    def _fork(self) -> None:
        # Blocked until the child has its own handlers: a signal in between must not be lost.
        signals = {signal.SIGTERM, signal.SIGINT}
        signal.pthread_sigmask(signal.SIG_BLOCK, signals)
        if not self._stopping:
            parent = os.getpid()
            pid = os.fork()
            if pid == 0:
                os._exit(_work(lambda: self._serve(parent)))
            self._started[pid] = time.monotonic()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, signals)

    def _serve(self, parent: int) -> None:
        from hello import server

        _end_with(parent)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM, signal.SIGINT})
        turn = None if self._turn is None else self._turn.fileno()
        server.run(self._settings, self._socket, self._secured_by, supervised=True, turn=turn)

    def _wait(self) -> int:
        failed = 0
        while self._started:
            pid, status = os.wait()
            lived = time.monotonic() - self._started.pop(pid)
            code = os.waitstatus_to_exitcode(status)
            _forget_metrics(pid)
            if self._stopping:
                # One that had no handler yet was ended by the signal itself, and had nothing to finish.
                failed = failed or (0 if -code == self._passed_on else code)
                continue
            logger.error("worker ended", extra={"fields": {"pid": pid, "status": code}})
            self._fast_deaths = self._fast_deaths + 1 if lived < FAST_DEATH_SECONDS else 0
            if self._fast_deaths >= FAST_DEATHS:
                logger.error("workers keep ending at once: giving up")
                self._pass_on(signal.SIGTERM, None)
                failed = 1
            else:
                self._fork()
        return self._forced or abs(failed)

    def _pass_on(self, number: int, _: FrameType | None) -> None:
        if self._stopping:
            logger.warning("second signal: stopping at once")
            self._forced = 128 + number
            number = signal.SIGKILL
        self._stopping = True
        self._passed_on = number
        for pid in self._started:
            with suppress(ProcessLookupError):  # it has just ended, and was not taken off the list yet
                os.kill(pid, number)
        self._socket.close()  # the workers listen on their own copies, for as long as each of them drains


def _folder_for_metrics() -> str:
    try:
        return tempfile.mkdtemp(prefix="hello-metrics-")
    except OSError as error:
        raise UsageError(
            f"--workers above 1 needs a folder for what the workers count: {error.strerror or error}.\n"
            "Name one that can be written to in TMPDIR, or mount one at /tmp; or serve with one worker."
        ) from error


def _work(serve: Callable[[], None]) -> int:
    try:
        serve()
    except Exception:
        logger.exception("worker failed")
        return 1
    return 0


def _end_with(parent: int) -> None:
    """Have the kernel stop this worker if the supervisor dies, where the kernel can."""
    import ctypes

    pr_set_pdeathsig = 1
    prctl = getattr(ctypes.CDLL(None), "prctl", None)
    if prctl is not None:
        prctl(pr_set_pdeathsig, signal.SIGTERM)
    if os.getppid() != parent:
        os._exit(1)


def _forget_metrics(pid: int) -> None:
    from prometheus_client.multiprocess import mark_process_dead

    mark_process_dead(pid)  # type: ignore[no-untyped-call]
