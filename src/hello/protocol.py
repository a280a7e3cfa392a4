"""HTTP/1.1 as uvicorn speaks it, with the limits that uvicorn's parser doesn't have.

What can't become a request is answered here, in the form that the application's own errors have.
"""

import asyncio
import re
import ssl
import typing
from collections.abc import Callable, Coroutine, Hashable, Sequence
from typing import Any, cast

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser
from uvicorn.config import Config
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol
from uvicorn.server import ServerState

from hello import problems
from hello.fast_path import FastPath, FastRequest
from hello.headers import lines
from hello.joined_writes import JoinedWrites
from hello.rights import ANYONE
from hello.sweeper import NOT_READING, RESTING, SENDING, Connection, unacknowledged

URL_BYTES = 8192
HEADER_FIELDS = 100
HEADER_BYTES = 32768
FRAMING = frozenset({b"content-length", b"transfer-encoding"})
PIECE_BYTES = 8192  # that the parser is fed at once

_NOT_ASCII = re.compile(rb"[\x80-\xff]")
_AUTHORITY = re.compile(rb"(?i)https?://[^/?]+")  # of a target in absolute form (RFC 9112, 3.2.2)


Refused = Callable[[problems.Kind, Sequence[tuple[bytes, bytes]]], bytes]


class _Refused(Exception):  # noqa: N818 - ends the parser's work on a request, and is never seen outside
    pass


class _BodyOnly:
    """What a parser tells of a message whose head is known already."""

    def __init__(self, protocol: "Protocol") -> None:
        self.on_chunk_header = protocol.on_chunk_header
        self.on_body = protocol.on_body
        self.on_message_complete = protocol.on_message_complete


class Counted(Connection, Hashable, typing.Protocol):
    """A connection that counts, and may be given up for a newer one while it is idle."""

    @property
    def idle(self) -> bool: ...


class State(ServerState):
    """What the connections of a server share."""

    # Where there is TLS: for connections to come, and told why a handshake failed.
    secured_by: ssl.SSLContext
    handshake_failed: Callable[[str], None]

    def __init__(self, max_connections: int, refused: Refused, fast_path: FastPath | None) -> None:
        """Keep to `max_connections`; `refused` is told of what is answered here, and returns its id."""
        super().__init__()
        self.refused = refused
        self.fast_path = fast_path
        self.max_connections = max_connections
        self.in_order: dict[Counted, None] = {}  # the open connections, the oldest first
        self._default_headers: list[tuple[bytes, bytes]] = []
        self._default_fields = b""

    def default_fields(self) -> bytes:
        """Return the header fields that uvicorn adds to all answers, as they are sent."""
        if self._default_headers is not self.default_headers:  # made anew each second
            self._default_headers = self.default_headers
            self._default_fields = lines(self.default_headers)
        return self._default_fields

    def enter(self, connection: Counted) -> None:
        """Count a connection; beyond the limit the oldest that is not being answered makes room."""
        self.in_order[connection] = None
        if len(self.in_order) > self.max_connections:
            idle = next((c for c in self.in_order if c.idle), connection)  # it has had its time
            idle.transport.abort()


class _FlowControl(FlowControl):
    """uvicorn's, but nothing is read while requests wait; uvicorn's own resumes with each body it awaits."""

    def __init__(self, transport: asyncio.Transport, waiting: Callable[[], bool]) -> None:
        super().__init__(transport)
        self._waiting = waiting

    def resume_reading(self) -> None:
        if not self._waiting():
            super().resume_reading()


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
        self._refusing = False  # nothing more is taken, and the refusal is the last answer
        self._received = 0  # bytes of the data at hand
        self._head_bytes = 0  # bytes of the head that came before it
        self._in_message = False
        self._in_head = False
        self._line_open = False  # of a head that has begun, the request line is not complete
        self._after_chunk = False
        self._begins_here = False  # in the data at hand, that is
        self._backlog = bytearray()  # received, and still to be parsed
        self._answered = 0
        self._resting = False  # nothing has come since the last answer
        self._set_aside: list[bytes] | None = None  # the body of what the fast path may take
        self._caller = ANYONE  # of it

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._socket = transport
        self._joined = JoinedWrites(transport)
        super().connection_made(cast("asyncio.Transport", self._joined))
        self.flow = _FlowControl(transport, lambda: bool(self._backlog or self.pipeline or self._refusing))
        self._state.enter(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._state.in_order.pop(self, None)
        super().connection_lost(exc)

    @property
    def idle(self) -> bool:
        """Whether no request is being answered: the head of one may be under way."""
        return self.cycle is None or self.cycle.response_complete

    @property
    def held_up(self) -> tuple[str, object] | None:
        """What the client holds the connection up with, the same while nothing moves; else None."""
        if unread := self.transport.get_write_buffer_size():
            return (NOT_READING, (unread, unacknowledged(self.transport)))
        if not self.idle:
            return None
        return (RESTING if self._resting and not self._in_message else SENDING, self._answered)

    def data_received(self, data: bytes) -> None:
        if self._refusing:
            return
        if self._backlog or len(data) > PIECE_BYTES:
            self._backlog += data
            self._work_off()
        else:
            self._feed(data)

    def _work_off(self) -> None:
        """Feed the parser from the backlog, for as long as no request has to wait for another.

        uvicorn makes a cycle, some 3 KiB, of each request that it finds, however many a client sends
        without waiting, and reads on after each answer. Here bytes wait as bytes, some 256 KiB at most.
        """
        while self._backlog and not (self.pipeline or self._refusing or self.transport.is_closing()):
            piece = bytes(self._backlog[:PIECE_BYTES])
            del self._backlog[:PIECE_BYTES]
            self._feed(piece)
        if self._backlog:
            self.flow.pause_reading()

    def _feed(self, data: bytes) -> None:
        if not data.isascii() and (self._line_open or not self._in_message):
            data = _encode_request_line(data)
        self._received = len(data)
        self._begins_here = self._resting = False
        try:
            self.parser.feed_data(data)
        except HttpParserUpgrade as upgrade:
            self.cycle.keep_alive = False  # the wish is passed over, and the parser stops behind the head
            self._feed_body(data[upgrade.args[0] :])
        except HttpParserError:
            self._refuse_input()
        if self._set_aside is not None and not self.transport.is_closing():
            self._take_usual_path()  # the rest of the body is still to come
        if self._in_head or (self._after_chunk and not self._begins_here):
            # A piece in which a head begins may hold many requests before it, up to the last blank line.
            self._head_bytes += len(data.rpartition(b"\r\n\r\n")[2] if self._begins_here else data)
            if self._head_bytes > HEADER_BYTES:
                self._refusal = problems.HEADERS_TOO_LARGE
                self._refuse_input()
        if self._in_head:
            # The rare case of a head that comes in pieces; the last blank line ends what came before.
            ended = b"\n" in data.rpartition(b"\r\n\r\n")[2]
            self._line_open = not ended and (self._begins_here or self._line_open)

    def _feed_body(self, data: bytes) -> None:
        """Go on with the body of a request that asked for an upgrade: the parser holds it for none."""
        framing = [field for field in self.headers if field[0] in FRAMING]
        if not framing:
            return
        self.cycle.more_body = self._in_message = True
        self.cycle.message_event.clear()
        self.parser = HttpRequestParser(_BodyOnly(self))
        self.parser.feed_data(b"PUT / HTTP/1.1\r\nConnection: close\r\n%b\r\n" % lines(framing))
        if data:
            self._feed(data)

    def on_message_begin(self) -> None:
        self._in_message = self._in_head = self._begins_here = True
        self._head_bytes = 0
        self.url = b""
        self.headers = []

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._in_head:  # trailers must not pass for header fields (RFC 9110, 6.5.1)
            self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        if len(self.url) > URL_BYTES:
            self._refuse(problems.URI_TOO_LONG)
        if len(self.headers) > HEADER_FIELDS:
            self._refuse(problems.HEADERS_TOO_LARGE)
        # Added up only where it can be too much: a head mostly comes in one small piece.
        if self._received + self._head_bytes > HEADER_BYTES:
            self._check_head_bytes()
        fast_path = self._state.fast_path
        if (
            fast_path is not None
            and self.idle
            and (caller := fast_path.qualifies(self.parser.get_method(), self.url, self.headers))
            and self.parser.should_keep_alive()
            and self.parser.get_http_version() == "1.1"
            and not self.flow.write_paused
        ):
            self._in_head = self._line_open = False
            self._set_aside = []
            self._caller = caller
        else:
            self._check_head()
            self._in_head = self._line_open = False
            self._start_cycle()

    def on_chunk_header(self) -> None:
        # What follows is the chunk, or after the last one the trailers, which are bounded as a head is.
        self._after_chunk = self._begins_here = True
        self._head_bytes = 0

    def on_body(self, body: bytes) -> None:
        self._after_chunk = False
        if self._set_aside is not None:
            self._set_aside.append(body)
        else:
            super().on_body(body)

    def on_message_complete(self) -> None:
        self._in_message = self._after_chunk = False
        if self._set_aside is not None:
            if self._take_fast_path(b"".join(self._set_aside)):
                return
            self._take_usual_path()
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Go on with what follows. Unlike uvicorn's, sets no timer: the sweeper ends what rests too long."""
        self._joined.flush()
        self._answered += 1
        if self.transport.is_closing():
            return
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
        elif self._refusing:
            self._send_refusal()
        else:
            self._resting = True
        if not self.pipeline:
            self._work_off()
        self.flow.resume_reading()

    def spawn(self, work: Coroutine[None, None, None]) -> None:
        """Run in a task that a stop waits for."""
        task = self.loop.create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    def answer(self, request: FastRequest, status: int, fields: bytes, body: bytes) -> None:
        """Send the answer to a request on the fast path, and go on with what follows."""
        request.response_complete = True
        if not request.disconnected:
            close = b"" if request.keep_alive else b"connection: close\r\n"
            head = (STATUS_LINE[status], self._state.default_fields(), fields, close, b"\r\n", body)
            self._socket.write(b"".join(head))
            if close:
                self.transport.close()
        self.on_response_complete()

    def _take_fast_path(self, body: bytes) -> bool:
        fast_path = self._state.fast_path
        request = fast_path and fast_path.take(self, self.parser.get_method(), self.url, body, self._caller)
        if request is None:
            return False
        self._set_aside = None
        self.cycle = request  # type: ignore[assignment] # stands in for uvicorn's
        return True

    def _take_usual_path(self) -> None:
        body, self._set_aside = self._set_aside or [], None
        self._start_cycle()
        for part in body:
            super().on_body(part)

    def _start_cycle(self) -> None:
        url, headers = self.url, self.headers
        super().on_message_begin()  # makes the scope, and begins both anew
        self.url = url
        self.headers += headers
        self.expect_100_continue = any(n == b"expect" and v.lower() == b"100-continue" for n, v in headers)
        super().on_headers_complete()

    def _check_head(self) -> None:
        """Refuse what the parser lets pass and another program may read otherwise (RFC 9112)."""
        if not self.url.startswith(b"/"):
            self.url = _origin_form(self.parser.get_method(), self.url)
        version = self.parser.get_http_version()
        hosts = codings = 0
        for name, value in self.headers:
            if name == b"host":
                hosts += 1
            elif name == b"transfer-encoding":
                codings += 1 if value.lower() == b"chunked" else 2
        if (
            not self.url
            or b"#" in self.url
            or version not in {"1.0", "1.1"}
            or hosts > 1
            or (version == "1.1" and not hosts)
            or codings > (version == "1.1")
        ):
            self._refuse(problems.MALFORMED)

    def _check_head_bytes(self) -> None:
        if sum(len(name) + len(value) for name, value in self.headers) > HEADER_BYTES:
            self._refuse(problems.HEADERS_TOO_LARGE)

    def _refuse_input(self) -> None:
        """Take nothing more; answer what was received so far, then say why and close the connection."""
        if self._refusing or self.transport.is_closing():
            return
        self._refusing = True
        self._backlog.clear()
        self.flow.pause_reading()
        earlier = not self.idle
        if self._in_message and not self._in_head:
            # The body is what is wrong, and the application knows of the request already, or waits for it.
            cycle = self.cycle
            cycle.disconnected = True
            cycle.message_event.set()
            if cycle.response_started:
                self.transport.close()
                return
            earlier = bool(self.pipeline)
            if earlier:
                self.pipeline.popleft()
        if not earlier:
            self._send_refusal()

    def _send_refusal(self) -> None:
        kind = self._refusal
        headers, body = problems.answer(kind)
        request_id = self._state.refused(kind, self.headers if self._in_message else ())
        own = lines([*headers, (b"connection", b"close"), (b"x-request-id", request_id)])
        self._socket.write(STATUS_LINE[kind.status] + self._state.default_fields() + own + b"\r\n" + body)
        self.transport.close()  # sends it

    def _refuse(self, kind: problems.Kind) -> None:
        self._refusal = kind
        raise _Refused


def _encode_request_line(data: bytes) -> bytes:
    """Percent-encode what is not ASCII before the first line break.

    Clients send `/hello/Zoë` as the terminal's bytes, and the parser takes only what RFC 3986 allows.
    """
    line, separator, rest = data.partition(b"\n")
    return _NOT_ASCII.sub(lambda byte: b"%%%02X" % byte[0][0], line) + separator + rest


def _origin_form(method: bytes, target: bytes) -> bytes:
    """Return the path and query of a target that doesn't begin with a path; nothing where it has none."""
    if target == b"*" and method == b"OPTIONS":
        return target
    authority = _AUTHORITY.match(target)
    if authority is None:
        return b""
    rest = target[authority.end() :]
    return rest if rest.startswith(b"/") else b"/" + rest
