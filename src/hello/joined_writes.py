"""Fewer packets and system calls an answer."""

import asyncio
from typing import Any


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
