"""A connection under TLS.

The event loop's own TLS keeps the socket's transport to itself. Here it is at hand: handshakes count as
connections from the moment that they are accepted, each takes the context that is in force, alerts are
sent, and a connection is closed as soon as what waits is sent, whether or not the client closes too.
"""

import asyncio
import ssl
from contextlib import suppress
from typing import Any, cast

from uvicorn.config import Config

from hello import problems
from hello.headers import lines
from hello.protocol import Protocol, State
from hello.sweeper import SENDING

RECORD_BYTES = 16384  # the most that a record holds
PLAIN = "HTTP_REQUEST"  # OpenSSL's name for a request in clear


class Encrypted(asyncio.Protocol, asyncio.Transport):
    """The protocol of a socket's transport, and the transport of an HTTP protocol."""

    def __init__(
        self,
        config: Config,
        server_state: State,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__()
        self._arguments = (config, server_state, app_state, _loop)
        self._state = server_state
        self._loop = _loop or asyncio.get_running_loop()
        self._tls: ssl.SSLObject | None = None
        self._protocol: Protocol | None = None  # once the handshake is done
        self._paused = False  # by the HTTP protocol
        self._full = False  # the socket's buffer is: to read on could make more to write (a key update does)

    # What the sweeper and the count of connections ask of a handshake

    idle = True
    held_up = (SENDING, None)  # the same throughout: a handshake has its time as the head of a request has

    @property
    def transport(self) -> asyncio.Transport:
        """The transport of the socket."""
        return self._socket

    # What the socket's transport calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._socket = cast("asyncio.Transport", transport)
        # Found without a step between: these are asked for with each request.
        self.is_closing = self._socket.is_closing  # type: ignore[method-assign]
        self._state.connections.add(self)  # type: ignore[arg-type] # for `shutdown`
        self._state.enter(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._leave()
        if self._protocol is not None:
            self._protocol.connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._tls is None:  # made late: clients that send nothing cost little
            self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
            self._tls = self._state.secured_by.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._incoming.write(data)
        if self._protocol is None:
            self._shake_hands(self._tls)
        self._read()

    def pause_writing(self) -> None:
        self._full = True
        self._socket.pause_reading()
        if self._protocol is not None:
            self._protocol.pause_writing()

    def resume_writing(self) -> None:
        self._full = False
        if not self._paused:
            self._socket.resume_reading()
        if self._protocol is not None:
            self._protocol.resume_writing()

    # What the HTTP protocol calls

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if not data or self._tls is None or self._socket.is_closing():
            return
        sent = self._tls.write(cast("bytes", data))
        while sent < len(data):
            sent += self._tls.write(cast("bytes", memoryview(data)[sent : sent + RECORD_BYTES]))
        self._socket.write(self._outgoing.read())

    def close(self) -> None:
        """Send what waits and close_notify, then close; the client's own need not come (RFC 8446, 6.1)."""
        if self._tls is None or self._socket.is_closing():
            return
        with suppress(ssl.SSLError):  # it wants the client's
            self._tls.unwrap()
        self._send()
        self._socket.close()

    def abort(self) -> None:
        self._socket.abort()

    def pause_reading(self) -> None:
        self._paused = True
        self._socket.pause_reading()

    def resume_reading(self) -> None:
        self._paused = False
        if not self._full:
            self._socket.resume_reading()
        self._loop.call_soon(self._read)  # what was decrypted, or could be, before the pause

    def get_write_buffer_size(self) -> int:
        return self._socket.get_write_buffer_size()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        if name == "sslcontext":
            return self._tls.context if self._tls is not None else default
        return self._socket.get_extra_info(name, default)

    def shutdown(self) -> None:
        """End the handshake, as uvicorn ends connections that have not asked anything yet."""
        self._socket.close()

    def _leave(self) -> None:
        self._state.connections.discard(self)
        self._state.in_order.pop(self, None)

    def _shake_hands(self, tls: ssl.SSLObject) -> None:
        try:
            tls.do_handshake()
        except ssl.SSLWantReadError:
            self._send()
        except ssl.SSLError as error:
            self._state.handshake_failed(error.reason or "other")
            self._send()  # the alert that says why
            if error.reason == PLAIN:
                self._socket.write(self._answer_in_clear())
            self._socket.close()
        else:
            self._send()
            self._leave()  # the protocol takes its place
            self._protocol = Protocol(*self._arguments)
            self._protocol.connection_made(self)

    def _read(self) -> None:
        """Hand what has come to the HTTP protocol, for as long as it takes it."""
        tls, protocol = self._tls, self._protocol
        if tls is None or protocol is None:
            return
        try:
            while (self._incoming.pending or tls.pending()) and not self._paused and not self.is_closing():
                data = tls.read(RECORD_BYTES)
                if not data:  # close_notify
                    self.close()
                    return
                protocol.data_received(data)
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLError:
            self._send()  # the alert
            self._socket.close()
            return
        if self._outgoing.pending:  # the answer to a key update, say
            self._send()

    def _send(self) -> None:
        if self._outgoing.pending and not self._socket.is_closing():
            self._socket.write(self._outgoing.read())

    def _answer_in_clear(self) -> bytes:
        kind = problems.MALFORMED
        headers, body = problems.answer(kind, "This port speaks TLS: the URL begins with https://.")
        own = lines([*headers, (b"connection", b"close"), (b"x-request-id", self._state.refused(kind, ()))])
        return b"HTTP/1.1 400 Bad Request\r\n" + own + b"\r\n" + body
