"""PostgreSQL that goes away, hangs, or takes no more: what operations and requests see, and how it ends."""

import asyncio
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import date

import asyncpg
import pytest

from hello.birthday import Person
from hello.stores import Entry, Store, StoreUnavailableError, open_store
from tests.support.environment import until
from tests.support.postgresql import PASSWORD, Cluster
from tests.support.service import letters

pytestmark = pytest.mark.anyio

BORN = date(1990, 4, 23)
TIMEOUT = 1.0
RECOVERY_SECONDS = 2.0
LATE = 2.0  # what a busy machine may add to a time limit


@pytest.fixture(scope="module")
def anyio_backend() -> tuple[str, dict[str, bool]]:
    """Run these tests on the loop that the service runs on."""
    return "asyncio", {"use_uvloop": True}


@asynccontextmanager
async def opened(server: Cluster, timeout: float = TIMEOUT, connections: int = 5) -> AsyncIterator[Store]:  # noqa: ASYNC109
    """Open a store, and close it at the end."""
    store = await open_store(server.url("hello"), timeout=timeout, connections=connections)
    try:
        yield store
    finally:
        await store.close()


def entry(name: str) -> Entry:
    return Entry(name, name.upper(), BORN)


async def fails(store: Store) -> str:
    """See each operation fail within its time; return why."""
    operations = [
        store.get("zoe"),
        store.get_many(["zoe", "adam"]),
        store.put(entry("zoe")),
        store.put(entry("zoe"), create=True),
        store.put_many([entry("zoe"), entry("adam")]),
        store.delete("zoe"),
        store.people(10),
        store.birthdays([("01-01", "12-31")], 10),
        store.ping(),
    ]
    begin = time.monotonic()
    outcomes = await asyncio.gather(*operations, return_exceptions=True)
    assert time.monotonic() - begin < TIMEOUT + LATE
    assert [type(outcome) for outcome in outcomes] == [StoreUnavailableError] * len(operations)
    for said in map(str, outcomes):
        assert PASSWORD not in said
        assert "s3cret" not in said
    return str(outcomes[-1])


async def recovers(store: Store) -> None:
    """See the store work again in time."""
    begin = time.monotonic()
    while True:
        with suppress(StoreUnavailableError):
            await store.put(entry("back"))
            break
        assert time.monotonic() - begin < RECOVERY_SECONDS + LATE
        await asyncio.sleep(0.02)
    assert time.monotonic() - begin < RECOVERY_SECONDS
    assert await store.get("back") == Person("BACK", BORN)


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
async def test_a_server_that_is_gone_fails_operations_until_it_is_back(
    server: Cluster, how: signal.Signals
) -> None:
    """Stopped or killed: each operation fails in time and says why; all work soon after it answers again."""
    async with opened(server) as store:
        await asyncio.gather(*(store.ping() for _ in range(20)))
        server.stop(how)
        assert f"PostgreSQL at 127.0.0.1:{server.port}: " in await fails(store)
        while "connection refused" not in await fails(store):  # noqa: ASYNC110 - until the next try
            await asyncio.sleep(0.1)
        server.start()
        await recovers(store)


async def test_a_server_that_hangs_fails_operations_in_time(server: Cluster) -> None:
    """Nothing waits for longer than the time limit, closing included, and all works once it goes on."""
    async with opened(server) as store, opened(server) as other:
        await asyncio.gather(*(one.ping() for one in [store, other] for _ in range(20)))
        server.send(signal.SIGSTOP)
        try:
            assert "no answer in time" in await fails(store)
            assert "no answer in time" in await fails(store)
            begin = time.monotonic()
            await other.close()
            assert time.monotonic() - begin < TIMEOUT + LATE
        finally:
            server.send(signal.SIGCONT)
        await recovers(store)


async def test_a_restart_while_nothing_is_asked_is_not_noticed(server: Cluster) -> None:
    """Whatever is safe to repeat is repeated on a new connection, where the old ones turn out to be dead."""
    async with opened(server, timeout=30) as store:
        await asyncio.gather(*(store.ping() for _ in range(20)))
        # These calls hold up the loop, so that it can't see the connections end.
        server.stop()
        server.start()
        await asyncio.gather(
            *(store.put(entry(letters(n))) for n in range(20)),
            *(store.put_many([entry(letters(n)), entry("zoe")]) for n in range(20)),
            *(store.get_many(["zoe", letters(n)]) for n in range(20)),
            *(store.get("zoe") for _ in range(20)),
            store.people(10),
            store.birthdays([("01-01", "12-31")], 10),
            store.ping(),
        )
        assert len((await store.people(100)).people) == 21


async def test_what_may_have_been_done_is_not_repeated(server: Cluster) -> None:
    """A create or delete whose connection breaks fails: done twice, it would tell the wrong outcome."""
    async with opened(server, connections=1) as store:
        terminate = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'hello'"
        await store.put(entry("adam"))
        server.sql(terminate)
        with pytest.raises(StoreUnavailableError):
            await store.delete("adam")
        assert await store.put(entry("bea"), create=True) is True
        server.sql(terminate)
        with pytest.raises(StoreUnavailableError):
            await store.put(entry("carl"), create=True)
        assert await store.put(entry("carl"), create=True) is True


async def test_a_server_that_takes_no_more_connections_works_with_those_it_gave(server: Cluster) -> None:
    """Who wants more connections than there are waits for one; who has none is told which setting it is."""
    async with opened(server, timeout=30, connections=30) as store:
        opened_by_hello = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'hello'"
        async with asyncio.timeout(30):  # a slow machine may serve a burst by fewer
            while server.sql(opened_by_hello) != "9":  # of 12, of which 3 are the superuser's own
                await asyncio.gather(*(store.put(entry(letters(n))) for n in range(1000)))
        with pytest.raises(StoreUnavailableError, match="max_connections"):
            await open_store(server.url("hello"), timeout=TIMEOUT)
        other = await open_store(server.url("hello"), timeout=TIMEOUT, patient=True)
    await recovers(other)
    await other.close()


async def test_a_lock_fails_what_waits_for_it(server: Cluster) -> None:
    """A write that waits for too long fails, and is given up by the server too: it is not done later."""
    async with opened(server) as store:
        await store.put(entry("zoe"))
        blocker = await asyncpg.connect(server.socket_url("hello"))
        async with blocker.transaction():
            await blocker.execute("UPDATE people SET username = 'zoe'")
            with pytest.raises(StoreUnavailableError, match="lock"):
                await store.put(Entry("zoe", "Zoe", date(2000, 1, 1)))
            assert await store.get("zoe") == Person("ZOE", BORN)
            active = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'hello' AND state = 'active'"
            until(lambda: server.sql(active) == "0", "the server to give up the statement")
        await blocker.close()
        assert await store.get("zoe") == Person("zoe", BORN)


async def test_no_acknowledged_write_is_lost_when_the_server_is_killed(server: Cluster) -> None:
    """What put and put_many had returned is there after a kill -9, although the server's default is async."""
    acknowledged: list[str] = []
    numbers = iter(range(10**9))

    async def write(store: Store) -> None:
        while True:
            one, two, three = (letters(next(numbers)) for _ in range(3))
            await store.put(entry(one))
            acknowledged.append(one)
            await store.put_many([entry(two), entry(three)])
            acknowledged.extend((two, three))

    async with opened(server) as store:
        for goal in (500, 1500, 3000):
            writers = [asyncio.create_task(write(store)) for _ in range(5)]
            while len(acknowledged) < goal:
                await store.ping()
            server.stop(signal.SIGKILL)  # holds up the loop: nothing is acknowledged meanwhile
            await asyncio.gather(*writers, return_exceptions=True)
            server.start()
            await recovers(store)
            found = await store.get_many(acknowledged)
            assert [person for person in found if person is None] == []
