"""HTTP/1.1 as uvicorn speaks it, with the limits that uvicorn's parser doesn't have.

What can't become a request is answered here, in the form that the application's own errors have.
"""

import asyncio
import http
from collections.abc import Iterable
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

    def __init__(self, max_connections: int) -> None:
        super().__init__()
        self.max_connections = max_connections
        self.in_order: dict[Protocol, None] = {}  # the open connections, the oldest first


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
        self._head_bytes = 0
        self._in_head = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
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
        super().data_received(data)
        if self._in_head:
            self._head_bytes += len(data)
            if self._head_bytes > HEADER_BYTES:
                self._refusal = problems.HEADERS_TOO_LARGE
                self.send_400_response("")

    def on_message_begin(self) -> None:
        self._in_head = True
        self._head_bytes = 0
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        # curl sends `/hello/Zoë` as the terminal's bytes; uvicorn wants them percent-encoded.
        super().on_url(url if url.isascii() else quote(url, safe="%/?&=+;:@!$'()*,~").encode())

    def on_headers_complete(self) -> None:
        self._in_head = False
        if len(self.url) > URL_BYTES:
            self._refuse(problems.URI_TOO_LONG)
        if len(self.headers) > HEADER_FIELDS or sum(len(n) + len(v) for n, v in self.headers) > HEADER_BYTES:
            self._refuse(problems.HEADERS_TOO_LARGE)
        super().on_headers_complete()

    def send_400_response(self, msg: str) -> None:
        """Refuse what was received, and close the connection."""
        if self.transport.is_closing():
            return
        kind = self._refusal
        headers, body = problems.answer(kind)
        head = b"HTTP/1.1 %d %s\r\n" % (kind.status, http.HTTPStatus(kind.status).phrase.encode())
        fields = [*self.server_state.default_headers, *headers, (b"connection", b"close")]
        head += b"".join(b"%s: %s\r\n" % field for field in fields)
        self.transport.write(head + b"\r\n" + body)
        self.transport.close()

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
