"""How instances that lost a server together come back to it."""

import asyncio
import heapq
import random
from collections.abc import Iterator

import pytest

from hello.stores.base import StoreUnavailableError
from hello.stores.connections import Connection, Connections
from hello.stores.reconnect import SPREAD_SECONDS, Gate

INSTANCES = 1000


class Clock:
    """A time that stands still."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def tries_of_a_thousand(clock: Clock, down_seconds: float) -> Iterator[tuple[float, int]]:
    """Yield each try, by its time since the server was lost and its instance, until all are back.

    Each instance has requests all the time, so it tries as soon as it may.
    """
    part = random.Random(7).random
    gates = [Gate(clock, part) for _ in range(INSTANCES)]
    lost = clock.now
    due = [(lost, number) for number in range(INSTANCES)]
    while due:
        clock.now, number = heapq.heappop(due)
        assert not gates[number].shut
        yield clock.now - lost, number
        if clock.now - lost < down_seconds:
            gates[number].failed()
            heapq.heappush(due, (gates[number].opens_at, number))


@pytest.mark.parametrize("down_seconds", [0.001, 0.5, 10, 60])
def test_a_thousand_instances_come_back_one_after_the_other(down_seconds: float) -> None:
    """However long the server was away: all are back within a second, and no tenth of it has a quarter."""
    tries = list(tries_of_a_thousand(Clock(), down_seconds))
    back = [moment - down_seconds for moment, _ in tries if moment >= down_seconds]
    assert len(back) == INSTANCES
    assert max(back) <= SPREAD_SECONDS
    tenths = [sum(n / 10 <= moment < (n + 1) / 10 for moment in back) for n in range(10)]
    assert max(tenths) < INSTANCES / 4
    assert min(tenths[:8]) > 0


def test_a_server_that_is_away_is_not_hammered() -> None:
    """An instance tries it twice a second on average, however many requests it has."""
    tries = list(tries_of_a_thousand(Clock(), 60))
    assert 1.5 < (len(tries) - INSTANCES) / INSTANCES / 60 < 2.5


class FakeServer:
    """A server that is away; it counts how often it was tried, and how many tries there were at once."""

    def __init__(self) -> None:
        self.tries = 0
        self.at_once = 0
        self.most_at_once = 0

    async def connect(self) -> Connection:
        """Be refused, a little later."""
        self.tries += 1
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        await asyncio.sleep(0)
        self.at_once -= 1
        raise StoreUnavailableError(f"away, try {self.tries}")


async def ask(connections: Connections) -> str:
    """Want a connection; return why there is none."""
    with pytest.raises(StoreUnavailableError) as error:
        await connections.acquire()
    return str(error.value)


@pytest.mark.anyio
async def test_one_try_tells_all_who_wait() -> None:
    """A thousand who want a connection at once cost one try; then all fail without one until it is time."""
    clock, server = Clock(), FakeServer()
    connections = Connections(server.connect, 10, Gate(clock, lambda: 0.5))
    assert set(await asyncio.gather(*(ask(connections) for _ in range(1000)))) == {"away, try 1"}
    clock.now += 0.49 * SPREAD_SECONDS
    assert set(await asyncio.gather(*(ask(connections) for _ in range(1000)))) == {"away, try 1"}
    clock.now += 0.02 * SPREAD_SECONDS
    assert set(await asyncio.gather(*(ask(connections) for _ in range(1000)))) == {"away, try 2"}
    assert (server.tries, server.most_at_once) == (2, 1)
