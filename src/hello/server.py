"""The server: uvicorn on a socket of ours, and the order of stopping.

On SIGTERM or SIGINT: be registered no longer; be unhealthy; go on serving for `drain_seconds`, closing
each connection after its answer; stop listening; finish what is in flight; close the store; return. A
second signal ends the process at once.
"""

import asyncio
import contextlib
import gc
import logging
import os
import resource
import signal
import socket
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import uvicorn
import uvloop
from starlette.types import ASGIApp

from hello.app import Application, create_app
from hello.audit import AuditLog
from hello.encrypted import Encrypted
from hello.guard import guard_of
from hello.headers import STRICT_TRANSPORT_SECURITY
from hello.listening import BACKLOG, url_of
from hello.observability import Metrics
from hello.protocol import Protocol, State
from hello.settings import Settings
from hello.stores import open_store
from hello.sweeper import Sweeper
from hello.tracing import Traced, traced

if TYPE_CHECKING:
    from hello.discovery import Registration
    from hello.tls import Credentials

logger = logging.getLogger("hello.server")

SPARE_FILES = 64  # for the store, the logs and whatever else the process opens
LAST_WORDS_SECONDS = 1.0
EVERYWHERE = [("x-content-type-options", "nosniff")]  # header fields of every answer
UNDER_TLS = [*EVERYWHERE, (STRICT_TRANSPORT_SECURITY[0].decode(), STRICT_TRANSPORT_SECURITY[1].decode())]
GC_THRESHOLD = 50_000  # a request leaves no cycles behind, so the collector need not look after each few


def raise_file_limit() -> int:
    """Raise the limit of open files as far as allowed; return how many connections it leaves room for."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):  # some systems name a limit that they don't grant
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        soft = hard
    return max(soft - SPARE_FILES, 16) if soft != resource.RLIM_INFINITY else 1 << 20


def run(
    settings: Settings,
    bound: socket.socket,
    secured_by: "Credentials | None" = None,
    *,
    supervised: bool = False,
    turn: int | None = None,
    on_listening: Callable[[], None] = lambda: None,
) -> None:
    """Serve until a signal ends it.

    Args:
        settings: all of them; host and port are those that `bound` is bound to.
        bound: the socket to listen on.
        secured_by: for TLS; without, HTTP is in clear.
        supervised: one of several workers, whose supervisor handles second signals and whose
            metrics are shared.
        turn: a file that the workers share; see `discovery`.
        on_listening: called once requests are taken.

    Raises:
        KeysError: the keys can't be read.
        StoreError: the store can't be opened.
    """
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(settings, bound, secured_by, supervised, turn, on_listening))


async def _serve(
    settings: Settings,
    bound: socket.socket,
    secured_by: "Credentials | None",
    supervised: bool,
    turn: int | None,
    on_listening: Callable[[], None],
) -> None:
    metrics = Metrics(
        settings.commit,
        shared=supervised,
        certificate_ends=secured_by.expiry if secured_by is not None else None,
        discovery=settings.etcd is not None,
    )
    guard = guard_of(settings)
    audit = AuditLog.open(settings.audit_log, metrics)
    store = await open_store(
        settings.store,
        timeout=settings.store_timeout,
        patient=True,
        connections=settings.store_connections,
    )
    registration = None
    try:
        await guard.start()
        application = create_app(settings, store, guard=guard, audit=audit, metrics=metrics)
        outermost = traced(application, os.environ)
        registration = _registration(settings, bound, application, turn)
        server = Server(
            settings,
            application,
            outermost,
            secured_by,
            on_listening,
            registration=registration,
            supervised=supervised,
        )
        await server.serve([bound])
        if cut := server.server_state.tasks:  # by the time limit: let them say so
            await asyncio.wait(cut, timeout=LAST_WORDS_SECONDS)
    finally:
        if registration is not None:  # where a stop has not done so
            await registration.close()
        await guard.close()
        await store.close()
        if audit is not None:
            audit.close()
    if isinstance(outermost, Traced):
        await outermost.shutdown()
    logger.info("stopped")


def _registration(
    settings: Settings, bound: socket.socket, application: Application, turn: int | None
) -> "Registration | None":
    if settings.etcd is None or application.metrics.discovery is None:
        return None
    from hello.discovery import Registration  # with an HTTP client that takes long to load

    port = bound.getsockname()[1]
    return Registration.open(settings, port, application.is_ready, application.metrics.discovery, turn)


class Server(uvicorn.Server):
    """uvicorn's server, with this module's order of stopping."""

    def __init__(
        self,
        settings: Settings,
        application: Application,
        outermost: ASGIApp,
        secured_by: "Credentials | None",
        on_listening: Callable[[], None],
        *,
        registration: "Registration | None",
        supervised: bool,
    ) -> None:
        """Serve `outermost`, which is the application or wraps it."""
        super().__init__(
            uvicorn.Config(
                outermost,
                http=Protocol if secured_by is None else Encrypted,
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                headers=EVERYWHERE if secured_by is None else UNDER_TLS,
                proxy_headers=False,
                backlog=BACKLOG,
                timeout_keep_alive=settings.keep_alive_seconds,  # type: ignore[arg-type] # seconds, which may be 1.5
                timeout_graceful_shutdown=settings.stop_seconds,  # type: ignore[arg-type] # seconds, as wait_for takes
            )
        )
        # Tracing wraps the application, and the fast path would pass it by.
        fast_path = application.fast_path if outermost is application else None
        self.server_state = self._state = State(raise_file_limit(), application.refused, fast_path)
        self._secured_by = secured_by
        if tls := application.metrics.tls:
            self._state.handshake_failed = tls.handshake_failed
        self._look: asyncio.Task[None] | None = None
        self._application = application
        self._drain_seconds = settings.drain_seconds
        self._sweeper = Sweeper(settings.request_timeout, settings.keep_alive_seconds)
        self._registration = registration
        self._leaving: asyncio.Task[None] | None = None
        self._supervised = supervised
        self._on_listening = on_listening
        self._stopping = False

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        self._secure()
        await super().startup(sockets)
        # What is there now stays until the end: the collector need not look at it again.
        gc.collect()
        gc.freeze()
        gc.set_threshold(GC_THRESHOLD)
        url = url_of((sockets or [])[0], tls=self._secured_by is not None)
        logger.info("listening", extra={"fields": {"url": url, "pid": os.getpid()}})
        self._on_listening()
        if self._registration is not None and not self._stopping:
            self._registration.start()

    async def on_tick(self, counter: int) -> bool:
        if counter % 10 == 0:  # once a second
            self._application.tick()
            self._secure()
            self._sweeper.sweep(self._state.in_order, asyncio.get_running_loop().time())
        return await super().on_tick(counter)

    def _secure(self) -> None:
        """Have TLS files looked at, in a thread, for they may be on a network; use what was found before."""
        if self._secured_by is None:
            return
        self._state.secured_by = self._secured_by.context
        if tls := self._application.metrics.tls:
            tls.certificate_ends(self._secured_by.expiry)
        if self._look is None or self._look.done():
            self._look = asyncio.create_task(asyncio.to_thread(self._secured_by.refresh))

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        signals = (signal.SIGTERM, signal.SIGINT)
        for number in signals:
            loop.add_signal_handler(number, self.stop, number)
        yield
        # No handler is removed: a signal during the last steps is a second one.

    def stop(self, number: int = signal.SIGTERM) -> None:
        """Begin to stop; called again, end the process at once."""
        if self._stopping and self._supervised:
            return  # Ctrl-C reaches all processes, and the supervisor passes its own on
        if self._stopping:
            logger.warning("second signal: stopping at once")
            os._exit(128 + number)
        self._stopping = True
        self._leaving = asyncio.get_running_loop().create_task(self._leave())

    async def _leave(self) -> None:
        # First: who finds us by etcd should send nothing more before we are seen to be unhealthy.
        if self._registration is not None:
            await self._registration.close()
        logger.info("draining", extra={"fields": {"seconds": self._drain_seconds}})
        self._application.start_draining()
        asyncio.get_running_loop().call_later(self._drain_seconds, self._stop_listening)

    def _stop_listening(self) -> None:
        logger.info(
            "no longer listening", extra={"fields": {"in_flight": self._application.metrics.in_flight}}
        )
        self.should_exit = True
