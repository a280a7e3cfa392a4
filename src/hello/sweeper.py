"""The end of connections that their clients hold up, found by a look at all of them now and then."""

import asyncio
import fcntl
import termios
from array import array
from collections.abc import Iterable
from typing import Protocol

NOT_READING, SENDING, RESTING = "reads nothing", "sends no head", "asks no more"


class Connection(Protocol):
    """What the sweeper needs of a connection."""

    @property
    def transport(self) -> asyncio.Transport: ...

    @property
    def held_up(self) -> tuple[str, object] | None:
        """What the client holds it up with, one of the three, the same while nothing moves; else None."""


class Sweeper:
    """Closes the connections whose client holds them up: sends no head, reads nothing, or asks no more.

    A timer for each request would take longer than some of the requests.
    """

    def __init__(self, timeout: float, keep_alive: float) -> None:
        self._limits = {NOT_READING: timeout, SENDING: timeout, RESTING: keep_alive}
        self._held_up: dict[Connection, tuple[tuple[str, object], float]] = {}

    def sweep(self, connections: Iterable[Connection], now: float) -> None:
        """Close those that were seen held up in the same way for the time limit."""
        held_up: dict[Connection, tuple[tuple[str, object], float]] = {}
        for connection in connections:
            sign = connection.held_up
            if sign is not None:
                before, since = self._held_up.get(connection, (None, now))
                held_up[connection] = (sign, since if before == sign else now)
        self._held_up = held_up
        for connection, (sign, since) in held_up.items():
            if now - since >= self._limits[sign[0]]:
                connection.transport.abort()


def unacknowledged(transport: asyncio.Transport) -> int:
    """Return the bytes in the kernel that the client has not taken yet; they shrink while it reads on."""
    buffer = array("i", [0])
    try:
        fcntl.ioctl(transport.get_extra_info("socket").fileno(), termios.TIOCOUTQ, buffer)
    except OSError:  # gone meanwhile
        return 0
    return buffer[0]
