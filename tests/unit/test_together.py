"""Requests that run together: what one that fails, or a time limit, leaves behind."""

import asyncio

import pytest

from hello.stores.base import StoreUnavailableError
from hello.stores.dynamodb_client import together
from hello.timeouts import SharedTimeout

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def anyio_backend() -> tuple[str, dict[str, bool]]:
    """Run these tests on the loop that the service runs on."""
    return "asyncio", {"use_uvloop": True}


async def number(result: int) -> int:
    """Return it a little later, the larger the sooner."""
    for _ in range(10 - result):
        await asyncio.sleep(0)
    return result


async def hang(ended: list[str]) -> int:
    """Never return; note the end."""
    never: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    try:
        return await never
    finally:
        await asyncio.sleep(0)
        ended.append("hang")


async def fail(message: str, ended: list[str]) -> int:
    """Fail; note the end."""
    await asyncio.sleep(0)
    ended.append(message)
    raise StoreUnavailableError(message)


async def test_results_come_in_the_order_of_the_calls() -> None:
    """Whichever is done first; none for none."""
    assert await together(number(n) for n in range(10)) == list(range(10))
    assert await together([]) == []


async def test_with_the_first_that_fails_the_rest_ends() -> None:
    """The failure is raised as it is, once nothing goes on any more."""
    ended: list[str] = []
    before = asyncio.all_tasks()
    with pytest.raises(StoreUnavailableError, match=r"^first$"):
        await together([hang(ended), fail("first", ended), hang(ended), fail("second", ended)])
    assert sorted(ended) == ["first", "hang", "hang", "second"]
    assert asyncio.all_tasks() == before


async def test_a_time_limit_ends_all() -> None:
    """Past the limit nothing goes on, and the limit holds again for what comes next."""
    limit = SharedTimeout(0.05)
    ended: list[str] = []
    before = asyncio.all_tasks()
    for count in (2, 4):
        with pytest.raises(TimeoutError), limit:
            await together([hang(ended), hang(ended), number(9)])
        assert len(ended) == count
        assert asyncio.all_tasks() == before
