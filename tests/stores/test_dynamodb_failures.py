"""DynamoDB that throttles, fails, hangs or goes away: what operations and requests see, and how it ends."""

import asyncio
import json
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import date
from typing import Any

import pytest

from hello.birthday import Person
from hello.stores import Entry, Store, StoreUnavailableError, open_store
from tests.support.dynamodb import CREDENTIALS
from tests.support.dynamodb_proxy import Call, Proxy, Reply, always, forward, refusal
from tests.support.service import letters

pytestmark = pytest.mark.anyio

BORN = date(1990, 4, 23)
TIMEOUT = 1.0
LATE = 2.0  # what a busy machine may add to a time limit
SECRET = CREDENTIALS["AWS_SECRET_ACCESS_KEY"]


@pytest.fixture(scope="module")
def anyio_backend() -> tuple[str, dict[str, bool]]:
    """Run these tests on the loop that the service runs on."""
    return "asyncio", {"use_uvloop": True}


@asynccontextmanager
async def opened(url: str, timeout: float = TIMEOUT) -> AsyncIterator[Store]:  # noqa: ASYNC109
    """Open a store, and close it at the end."""
    store = await open_store(url, timeout=timeout)
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
        store.put_many([entry(letters(number)) for number in range(60)]),
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
        assert SECRET not in said
    return str(outcomes[0])


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        (refusal("ProvisionedThroughputExceededException"), "throttle"),
        (refusal("ThrottlingException"), "throttle"),
        (refusal("RequestLimitExceeded"), "throttle"),
        (refusal("InternalServerError", 500), "status 500"),
        ((503, b"<html>out of order</html>"), "status 503"),
        ((200, b"<html>a portal</html>"), "not JSON"),
        (refusal("ExpiredTokenException"), "credentials"),
        (refusal("UnrecognizedClientException"), "credentials"),
        (refusal("AccessDeniedException"), "does not let"),
        (None, "connection was lost"),
    ],
)
async def test_what_goes_on_failing_fails_operations_in_time(
    dynamodb_url: str, proxy: Proxy, reply: Reply, said: str
) -> None:
    """Each operation says why it failed, without secrets, and all work at once when that is over."""
    async with opened(dynamodb_url) as store:
        proxy.play = always(reply)
        assert said in await fails(store)
        proxy.play = forward
        assert await store.put(entry("zoe")) is True
        assert await store.get("zoe") == Person("ZOE", BORN)


async def test_an_endpoint_that_hangs_fails_operations_in_time(dynamodb_url: str, proxy: Proxy) -> None:
    """Nothing waits for longer than the time limit, and all works once the endpoint answers again."""
    async with opened(dynamodb_url) as store:
        proxy.play = proxy.hold
        await fails(store)
        await fails(store)
        proxy.play = forward
        assert await store.put(entry("zoe")) is True


@pytest.mark.parametrize("played", [refusal("ThrottlingException"), (500, b""), None])
async def test_a_passing_failure_is_not_noticed(dynamodb_url: str, proxy: Proxy, played: Reply) -> None:
    """What is safe to repeat is repeated until it succeeds, whether it had been done or not."""
    tried: dict[str, int] = {}

    def twice(call: Call) -> Reply:
        request = json.dumps([call.action, call.payload])
        tried[request] = tried.get(request, 0) + 1
        return played if tried[request] <= 2 else call.forward()

    people = [Person(letters(number).upper(), BORN) for number in range(60)]
    async with opened(dynamodb_url, timeout=60) as store:
        proxy.play = twice
        await store.put_many([entry(person.username.lower()) for person in people])
        assert await store.put(entry("zoe")) is True
        assert await store.get("zoe") == Person("ZOE", BORN)
        assert list(await store.get_many(["zoe", "a", "x" * 64])) == [Person("ZOE", BORN), people[0], None]
        assert sorted((await store.people(100)).people) == sorted([*people, Person("ZOE", BORN)])
        found = await store.birthdays([("01-01", "12-31")], 100)
        assert sorted(found.people) == sorted([*people, Person("ZOE", BORN)])
        await store.ping()
    assert set(tried.values()) == {3}


@pytest.mark.parametrize("played", [None, (500, b""), (200, b"")])
async def test_what_may_have_been_done_is_not_repeated(
    dynamodb_url: str, proxy: Proxy, played: Reply
) -> None:
    """A create or delete that was done and not answered fails: again, it would tell the wrong outcome."""

    def lose(call: Call) -> Reply:
        call.forward()
        return played

    async with opened(dynamodb_url, timeout=30) as store:
        proxy.answered.clear()
        proxy.play = lose
        with pytest.raises(StoreUnavailableError):
            await store.put(entry("zoe"), create=True)
        assert proxy.actions == ["PutItem"]
        proxy.play = forward
        assert await store.get("zoe") == Person("ZOE", BORN)
        proxy.answered.clear()
        proxy.play = lose
        with pytest.raises(StoreUnavailableError):
            await store.delete("zoe")
        assert proxy.actions == ["DeleteItem"]
        proxy.play = forward
        assert await store.get("zoe") is None


async def test_a_throttled_create_or_delete_is_repeated(dynamodb_url: str, proxy: Proxy) -> None:
    """What was throttled was not done, so that it can be sent again and tell the outcome."""

    def throttle(call: Call) -> Reply:
        before = proxy.actions.count(call.action)
        return refusal("ThrottlingException") if before <= 2 else call.forward()

    async with opened(dynamodb_url, timeout=30) as store:
        proxy.answered.clear()
        proxy.play = throttle
        assert await store.put(entry("zoe"), create=True) is True
        assert await store.delete("zoe") is True
        assert proxy.actions == ["PutItem"] * 3 + ["DeleteItem"] * 3


async def test_expired_credentials_are_renewed_once(dynamodb_url: str, proxy: Proxy) -> None:
    """A request that comes with credentials just expired is sent again with what their source has then."""
    async with opened(dynamodb_url, timeout=30) as store:
        proxy.answered.clear()
        proxy.play = lambda call: (
            refusal("ExpiredTokenException") if len(proxy.actions) == 1 else call.forward()
        )
        assert await store.put(entry("zoe"), create=True) is True
        assert proxy.actions == ["PutItem", "PutItem"]


# Batches


async def test_what_a_batch_left_is_worked_off(dynamodb_url: str, proxy: Proxy) -> None:
    """Unprocessed items and keys are asked for again, until none is left."""

    def few(call: Call) -> Reply:
        if call.action == "BatchWriteItem":
            (table, requests), *_ = call.payload["RequestItems"].items()
            call.payload["RequestItems"] = {table: requests[:10]}
            status, body = call.forward()
            return status, json.dumps(
                {**json.loads(body), "UnprocessedItems": left(table, requests[10:])}
            ).encode()
        if call.action == "BatchGetItem":
            (table, asked), *_ = call.payload["RequestItems"].items()
            keys = asked["Keys"]
            call.payload["RequestItems"] = {table: {**asked, "Keys": keys[:30]}}
            status, body = call.forward()
            rest = {table: {**asked, "Keys": keys[30:]}} if keys[30:] else {}
            return status, json.dumps({**json.loads(body), "UnprocessedKeys": rest}).encode()
        return call.forward()

    def left(table: str, requests: list[Any]) -> dict[str, Any]:
        return {table: requests} if requests else {}

    names = [letters(number) for number in range(230)]
    async with opened(dynamodb_url, timeout=60) as store:
        proxy.play = few
        await store.put_many([entry(name) for name in names])
        assert proxy.actions.count("BatchWriteItem") == 9 * 3 + 1  # of nine 25 and one 5
        assert list(await store.get_many(names)) == [Person(name.upper(), BORN) for name in names]
        assert proxy.actions.count("BatchGetItem") == 2 * 4 + 1  # of two 100 and one 30


async def test_a_batch_that_leaves_all_each_time_is_given_up_in_time(dynamodb_url: str, proxy: Proxy) -> None:
    """Unprocessed for ever is a failure, and is tried with growing pauses meanwhile."""

    def nothing(call: Call) -> Reply:
        left = "UnprocessedItems" if call.action == "BatchWriteItem" else "UnprocessedKeys"
        return 200, json.dumps({"Responses": {}, left: call.payload["RequestItems"]}).encode()

    async with opened(dynamodb_url) as store:
        proxy.play = nothing
        for operation in (
            store.put_many([entry(letters(number)) for number in range(50)]),
            store.get_many([letters(number) for number in range(200)]),
        ):
            proxy.answered.clear()
            begin = time.monotonic()
            with pytest.raises(StoreUnavailableError):
                await operation
            assert time.monotonic() - begin < TIMEOUT + LATE
            assert 4 <= len(proxy.actions) < 100


# Nothing is lost


async def test_no_acknowledged_write_is_lost(dynamodb_url: str, proxy: Proxy) -> None:
    """Whatever fails meanwhile, what put, create, delete and put_many had done is so afterwards."""
    chance = random.Random(23)

    def trouble(call: Call) -> Reply:
        kind = chance.randrange(6)
        if kind == 0:
            return refusal("ThrottlingException")
        if kind == 1:
            call.forward()
            return None
        if kind == 2:
            call.forward()
            return 500, b""
        return call.forward()

    kept: list[str] = []
    erased: list[str] = []

    async def write(store: Store, start: int) -> None:
        for number in range(start, start + 40):
            name = letters(number)
            try:
                if number % 4 == 0:
                    await store.put_many([entry(name), entry(f"{name}x")])
                    kept.append(f"{name}x")
                else:
                    assert await store.put(entry(name), create=number % 4 == 1) is True
                if number % 4 == 3:
                    assert await store.delete(name) is True
                    erased.append(name)
                else:
                    kept.append(name)
            except StoreUnavailableError:
                continue

    async with opened(dynamodb_url, timeout=30) as store:
        proxy.play = trouble
        await asyncio.gather(*(write(store, 100 * (part + 1)) for part in range(4)))
        proxy.play = forward
        assert len(kept) > 60
        assert len(erased) > 10
        assert [person for person in await store.get_many(kept) if person is None] == []
        assert [person for person in await store.get_many(erased) if person is not None] == []
