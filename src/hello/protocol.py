"""HTTP/1.1 as uvicorn speaks it, with the limits that uvicorn's parser doesn't have.

What can't become a request is answered here, in the form that the application's own errors have.
"""

import asyncio
import http
from collections.abc import Callable, Iterable
from typing import Any, cast
from urllib.parse import quote

from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from hello import problems

URL_BYTES = 8192
HEADER_FIELDS = 100
HEADER_BYTES = 32768


class _Refused(Exception):  # noqa: N818 - ends the parser's work on a request, and is never seen outside
    pass


class State(ServerState):
    """What the connections of a server share."""

    def __init__(self, max_connections: int, refused: Callable[[problems.Kind], bytes]) -> None:
        """Keep to `max_connections`; `refused` is told of what is answered here, and returns its id."""
        super().__init__()
        self.refused = refused
        self.max_connections = max_connections
        self.in_order: dict[Protocol, None] = {}  # the open connections, the oldest first


class JoinedWrites:
    """A transport that sends the head of a response together with the start of its body.

    uvicorn writes them one after the other, which costs a system call, a packet, and waking the
    client twice. ASGI lets a server keep the head until the first body message.
    """

    __slots__ = ("__dict__", "_head", "_transport")

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._head = b""
        # Found without __getattr__: these are asked for with each request.
        self.is_closing = transport.is_closing

    def write(self, data: bytes) -> None:
        """Send the data, behind the head that waits; if it is a head itself, keep it."""
        if self._head:
            data, self._head = self._head + data, b""
        elif data.startswith(b"HTTP/1.1 ") and not data.startswith(b"HTTP/1.1 100"):
            self._head = data
            return
        self._transport.write(data)

    def flush(self) -> None:
        """Send the head, where no body follows."""
        if self._head:
            head, self._head = self._head, b""
            self._transport.write(head)

    def close(self) -> None:
        """Send what waits, then close."""
        self.flush()
        self._transport.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


class Protocol(HttpToolsProtocol):
    """One connection."""

    def __init__(
        self,
        config: Config,
        server_state: State,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._state = server_state
        self._refusal = problems.MALFORMED
        self._received = 0  # bytes of the data at hand
        self._head_bytes = 0  # bytes of the head that came before it
        self._in_head = False
        self._begins_here = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._joined = JoinedWrites(transport)
        super().connection_made(cast("asyncio.Transport", self._joined))
        connections = self._state.in_order
        connections[self] = None
        if len(connections) > self._state.max_connections:
            # The oldest that is not being answered makes room: it has had its time.
            idle = next((c for c in connections if c.idle), self)
            idle.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._state.in_order.pop(self, None)
        super().connection_lost(exc)

    @property
    def idle(self) -> bool:
        """Whether no request is being answered: the head of one may be under way."""
        return self.cycle is None or self.cycle.response_complete

    @property
    def waits_for_head(self) -> bool:
        """Whether the client owes us the head of a request, and no keep-alive timer is running."""
        return self.idle and self.timeout_keep_alive_task is None

    def data_received(self, data: bytes) -> None:
        self._received = len(data)
        self._begins_here = False
        super().data_received(data)
        # A piece in which a head begins may hold many requests before it: only what follows counts.
        if self._in_head and not self._begins_here:
            self._head_bytes += len(data)
            if self._head_bytes > HEADER_BYTES:
                self._refusal = problems.HEADERS_TOO_LARGE
                self.send_400_response("")

    def on_message_begin(self) -> None:
        self._in_head = self._begins_here = True
        self._head_bytes = 0
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        # curl sends `/hello/Zoë` as the terminal's bytes; uvicorn wants them percent-encoded.
        super().on_url(url if url.isascii() else quote(url, safe="%/?&=+;:@!$'()*,~").encode())

    def on_headers_complete(self) -> None:
        self._in_head = False
        if len(self.url) > URL_BYTES:
            self._refuse(problems.URI_TOO_LONG)
        if len(self.headers) > HEADER_FIELDS:
            self._refuse(problems.HEADERS_TOO_LARGE)
        # Added up only where it can be too much: a head mostly comes in one small piece.
        if self._received + self._head_bytes > HEADER_BYTES:
            self._check_head_bytes()
        super().on_headers_complete()

    def on_response_complete(self) -> None:
        self._joined.flush()
        super().on_response_complete()

    def _check_head_bytes(self) -> None:
        if sum(len(name) + len(value) for name, value in self.headers) > HEADER_BYTES:
            self._refuse(problems.HEADERS_TOO_LARGE)

    def send_400_response(self, msg: str) -> None:
        """Refuse what was received, and close the connection."""
        if self.transport.is_closing():
            return
        kind = self._refusal
        headers, body = problems.answer(kind)
        head = b"HTTP/1.1 %d %s\r\n" % (kind.status, http.HTTPStatus(kind.status).phrase.encode())
        own = [(b"connection", b"close"), (b"x-request-id", self._state.refused(kind))]
        fields = [*self.server_state.default_headers, *headers, *own]
        head += b"".join(b"%s: %s\r\n" % field for field in fields)
        self.transport.write(head + b"\r\n" + body)
        self.transport.close()  # sends it

    def _refuse(self, kind: problems.Kind) -> None:
        self._refusal = kind
        raise _Refused


class Sweeper:
    """Closes the connections whose client does not send the head of its request in time.

    A look at all connections now and then, instead of a timer for each request.
    """

    def __init__(self, timeout: float) -> None:
        self._timeout = timeout
        self._waiting: dict[Protocol, tuple[object, float]] = {}

    def sweep(self, connections: Iterable[Protocol], now: float) -> None:
        """Close those that were seen waiting for the same request for the time limit."""
        waiting = {}
        for connection in connections:
            if connection.waits_for_head:
                # The cycle is the last request: the same one again means that none came in between.
                cycle, since = self._waiting.get(connection, (None, now))
                same = cycle is connection.cycle
                waiting[connection] = (cast("object", connection.cycle), since if same else now)
        self._waiting = waiting
        for connection, (_, since) in waiting.items():
            if now - since >= self._timeout:
                connection.transport.close()
