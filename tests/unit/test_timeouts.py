"""The shared time limit, on a loop whose time is the test's own."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hello.timeouts import SharedTimeout
from tests.support.inprocess import Loop

T = TypeVar("T")
LIMIT = 1.0  # times are sums of powers of two, so that floats hold them exactly


def run(work: Callable[[Loop], Coroutine[Any, Any, T]]) -> T:
    """Run `work(loop)` from time 0."""
    with asyncio.Runner(loop_factory=Loop) as runner:
        loop = runner.get_loop()
        assert isinstance(loop, Loop)
        return runner.run(work(loop))


def test_who_stays_too_long_is_ended() -> None:
    """At the limit the wait ends with TimeoutError, and the task goes on as if nothing had been."""

    async def work(loop: Loop) -> None:
        limit = SharedTimeout(LIMIT)
        for number in (1, 2, 3):  # the limit can be used again, by the same task
            with pytest.raises(TimeoutError), limit:
                await asyncio.sleep(10)
            assert loop.time() == number * LIMIT
            task = asyncio.current_task()
            assert task
            assert task.cancelling() == 0

    run(work)


@pytest.mark.parametrize("seconds", [0.0, 0.5, 1 - 2**-20])
def test_who_leaves_in_time_is_left_alone(seconds: float) -> None:
    """What ends within the limit has its outcome, and its task is not cancelled later."""

    async def work(loop: Loop) -> str:
        limit = SharedTimeout(LIMIT)
        other = asyncio.create_task(stay(limit, 10))  # keeps the timer in use
        with limit:
            outcome = await asyncio.sleep(seconds, "done")
        await asyncio.sleep(100)
        with pytest.raises(TimeoutError):
            await other
        return outcome

    assert run(work) == "done"


async def stay(limit: SharedTimeout, seconds: float) -> float:
    """Stay within the limit for so long; return when it is over."""
    with limit:
        await asyncio.sleep(seconds)
    return asyncio.get_running_loop().time()


async def fail_when_cancelled() -> None:
    """Wait for long, and fail at the end, whenever that is."""
    try:
        await asyncio.sleep(10)
    finally:
        raise LookupError


def test_the_outcome_is_that_of_the_work() -> None:
    """An error of the work's own passes through, before the limit and when the limit has ended the wait."""

    async def work(_: Loop) -> None:
        limit = SharedTimeout(LIMIT)
        with pytest.raises(LookupError), limit:
            raise LookupError
        with pytest.raises(LookupError), limit:
            await fail_when_cancelled()
        await asyncio.sleep(10)

    run(work)


def test_who_takes_no_notice_has_its_outcome() -> None:
    """Where the work itself swallows the cancellation, there is no TimeoutError; as with asyncio.timeout."""

    async def work(loop: Loop) -> float:
        with SharedTimeout(LIMIT):
            try:
                await asyncio.sleep(10)
            except asyncio.CancelledError:
                await asyncio.sleep(2)
        return loop.time()

    assert run(work) == LIMIT + 2


def test_a_cancellation_from_elsewhere_passes_through() -> None:
    """A task that is cancelled within the limit ends as cancelled, and not as too late."""

    async def work(loop: Loop) -> float:
        task = asyncio.create_task(stay(SharedTimeout(LIMIT), 10))
        loop.call_later(0.5, task.cancel)
        with pytest.raises(asyncio.CancelledError):
            await task
        assert task.cancelled()
        await asyncio.sleep(10)
        return loop.time()

    assert run(work) == 10.5


@pytest.mark.parametrize("first", ["the limit", "elsewhere"])
def test_a_cancellation_in_the_moment_of_the_limit_counts(first: str) -> None:
    """Where both come before the task runs again, the one from elsewhere is what it sees."""

    async def work(loop: Loop) -> None:
        limit = SharedTimeout(LIMIT)
        task: asyncio.Task[float]
        if first == "elsewhere":
            loop.call_at(LIMIT, lambda: task.cancel())
            task = asyncio.create_task(stay(limit, 10))
        else:
            task = asyncio.create_task(stay(limit, 10))
            await asyncio.sleep(0)
            loop.call_at(LIMIT, lambda: task.cancel())
        with pytest.raises(asyncio.CancelledError):
            await task
        assert task.cancelled()

    run(work)


def test_what_was_cancelled_before_can_still_be_too_late() -> None:
    """A task that cleans up after a cancellation is held to the limit as any other."""

    async def work(loop: Loop) -> str:
        async def clean_up() -> str:
            try:
                return await asyncio.sleep(10, "in time")
            except asyncio.CancelledError:
                try:
                    with SharedTimeout(LIMIT):
                        return await asyncio.sleep(10, "in time")
                except TimeoutError:
                    return f"too late at {loop.time()}"

        task = asyncio.create_task(clean_up())
        loop.call_at(0.5, task.cancel)
        return await task

    assert run(work) == f"too late at {0.5 + LIMIT}"


@pytest.mark.parametrize(("outer", "inner"), [(1.0, 2.0), (2.0, 1.0), (1.0, 1.0)])
def test_limits_within_limits(outer: float, inner: float) -> None:
    """Of two limits the shorter one speaks; where both are over at once, the outer."""

    async def work(loop: Loop) -> list[str]:
        said: list[str] = []
        try:
            with SharedTimeout(outer):
                try:
                    with SharedTimeout(inner):
                        await asyncio.sleep(10)
                except TimeoutError:
                    said.append("inner")
        except TimeoutError:
            said.append("outer")
        assert loop.time() == min(outer, inner)
        task = asyncio.current_task()
        assert task
        assert task.cancelling() == 0
        return said

    assert run(work) == (["inner"] if inner < outer else ["outer"])


def test_each_has_the_whole_limit_in_its_order() -> None:
    """Whoever comes is ended the limit's time later, in the order of coming."""

    async def work(loop: Loop) -> list[tuple[int, float]]:
        limit = SharedTimeout(LIMIT)
        ended: list[tuple[int, float]] = []

        async def wait(number: int) -> None:
            await asyncio.sleep(number / 8)
            with pytest.raises(TimeoutError):
                await stay(limit, 10)
            ended.append((number, loop.time()))

        await asyncio.gather(*(wait(number) for number in reversed(range(20))))
        return ended

    assert run(work) == [(number, number / 8 + LIMIT) for number in range(20)]


def test_many_share_one_timer() -> None:
    """A thousand tasks that wait make one timer at a time, whether they leave in time or not."""

    async def work(loop: Loop) -> list[float]:
        limit = SharedTimeout(LIMIT)
        doors = [loop.create_future() for _ in range(1000)]

        async def wait(door: asyncio.Future[None]) -> None:
            with limit:
                await door

        tasks = [asyncio.create_task(wait(door)) for door in doors]
        await asyncio.sleep(0.5)
        for door in doors[::2]:
            door.set_result(None)
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        assert outcomes[::2] == [None] * 500
        assert {type(outcome) for outcome in outcomes[1::2]} == {TimeoutError}
        return loop.timers

    assert run(work) == [0.5, LIMIT]  # the first is of this test


def test_nobody_waits_for_the_timer() -> None:
    """Once the last has left, the timer that is still set does nothing, and the next who comes is limited."""

    async def work(loop: Loop) -> float:
        limit = SharedTimeout(LIMIT)
        await stay(limit, 0.25)
        await asyncio.sleep(10)
        with pytest.raises(TimeoutError):
            await stay(limit, 10)
        return loop.time()

    assert run(work) == 10.25 + LIMIT


Wait = Callable[[float], Coroutine[Any, Any, None]]
Visit = tuple[int, int, int | None]  # sixteenths: when it comes, how long it stays, when it is cancelled


async def visits(
    loop: Loop, plan: list[Visit], wait: Callable[[float], Coroutine[Any, Any, None]]
) -> list[str]:
    """Let each come, stay and be cancelled as planned; return how and when each ended."""

    async def visit(comes: int, stays: int) -> str:
        await asyncio.sleep(comes / 16)
        try:
            await wait(stays / 16)
        except TimeoutError:
            outcome = "too late"
        else:
            outcome = "in time"
        return f"{outcome} at {loop.time()}"

    tasks = [asyncio.create_task(visit(comes, stays)) for comes, stays, _ in plan]
    for task, (_, _, cancelled) in zip(tasks, plan, strict=True):
        if cancelled is not None:
            # Between two sixteenths, so that no two things happen at one time.
            loop.call_at(cancelled / 16 + 1 / 32, task.cancel)
    await asyncio.wait(tasks)
    return ["cancelled" if task.cancelled() else task.result() for task in tasks]


stays = st.integers(0, 40).filter(lambda n: n != 16)  # at the limit itself either outcome is right


@given(st.lists(st.tuples(st.integers(0, 40), stays, st.none() | st.integers(0, 60)), min_size=1, max_size=8))
@example([(0, 40, None), (8, 4, None), (8, 40, 20), (30, 40, None)])
def test_it_does_what_a_timer_each_would_do(plan: list[Visit]) -> None:
    """However tasks come, stay and are cancelled, each ends as it would under asyncio.timeout."""
    shared = SharedTimeout(LIMIT)

    async def wait_with_own(seconds: float) -> None:
        async with asyncio.timeout(LIMIT):
            await asyncio.sleep(seconds)

    async def wait(seconds: float) -> None:
        with shared:
            await asyncio.sleep(seconds)

    assert run(lambda loop: visits(loop, plan, wait)) == run(lambda loop: visits(loop, plan, wait_with_own))
