"""The sweeper, which ends the connections that their clients hold up."""

import asyncio
from unittest.mock import Mock

from hello.sweeper import NOT_READING, RESTING, SENDING, Sweeper


class Client:
    """A connection as the sweeper sees it."""

    def __init__(self, held_up: tuple[str, object] | None) -> None:
        self.held_up = held_up
        self.transport = Mock(asyncio.Transport)

    @property
    def aborted(self) -> bool:
        """Whether it was ended."""
        return bool(self.transport.abort.called)


def test_the_sweeper_ends_what_stays_as_it_is_for_the_limit() -> None:
    """Each way to hold a connection up has its limit, which begins anew when anything moves."""
    sweeper = Sweeper(timeout=10, keep_alive=75)
    slow, unread, resting, busy, moving = connections = [
        Client((SENDING, 0)),
        Client((NOT_READING, (4096, 4096))),
        Client((RESTING, 7)),
        Client(None),
        Client((SENDING, 0)),
    ]
    ended: dict[Client, int] = {}
    for second in range(90):
        moving.held_up = (SENDING, second // 8)
        sweeper.sweep(connections, second)
        for connection in [c for c in connections if c.aborted]:
            connections.remove(connection)
            ended[connection] = second
    assert ended == {slow: 10, unread: 10, resting: 75}
    assert connections == [busy, moving]
