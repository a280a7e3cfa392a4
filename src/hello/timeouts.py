"""A time limit that many tasks share, with one timer for all of them.

asyncio.timeout makes a timer each time, which costs more than the work that it guards here.
"""

import asyncio
from types import TracebackType


class SharedTimeout:
    """`with limit:` raises TimeoutError in a task that stays inside for longer than `seconds`.

    A task enters the same limit once at a time. As with asyncio.timeout, what ends the wait is a
    cancellation; one from elsewhere passes through.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        # Each task's deadline, and how many cancellations it had when it came. The earliest is first:
        # all wait equally long.
        self._waiting: dict[asyncio.Task[object], tuple[float, int]] = {}
        self._expired: dict[asyncio.Task[object], int] = {}
        self._timer: asyncio.TimerHandle | None = None

    def __enter__(self) -> None:
        loop = asyncio.get_running_loop()
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a time limit needs a task")
        deadline = loop.time() + self._seconds
        self._waiting[task] = deadline, task.cancelling()
        if self._timer is None:
            self._timer = loop.call_at(deadline, self._expire, loop)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        task = asyncio.current_task()
        if task is None or self._waiting.pop(task, None) is not None:
            return
        before = self._expired.pop(task)
        if task.uncancel() <= before and kind is asyncio.CancelledError:
            raise TimeoutError from error

    def _expire(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = None
        for task, (deadline, before) in list(self._waiting.items()):
            if deadline > loop.time():
                self._timer = loop.call_at(deadline, self._expire, loop)
                break
            del self._waiting[task]
            self._expired[task] = before
            task.cancel()
