"""The application and its parts in process, where time is the test's own."""

import asyncio
import selectors
from collections.abc import Callable
from contextvars import Context
from typing import Any, TypeVarTuple

Ts = TypeVarTuple("Ts")


class _Selector(selectors.SelectSelector):
    """Never waits: the time that the loop would wait has passed at once."""

    now = 0.0

    def select(self, timeout: float | None = None) -> Any:
        if timeout is None:
            raise AssertionError("all tasks wait, and no timer will end it")
        self.now += max(timeout, 0)
        return super().select(0)


class Loop(asyncio.SelectorEventLoop):
    """A loop that is at its next timer as soon as there is nothing else to do."""

    def __init__(self) -> None:
        self._own_selector = _Selector()
        self.timers: list[float] = []  # the time of each that was made, for whatever
        super().__init__(self._own_selector)

    def time(self) -> float:
        return self._own_selector.now

    def call_at(
        self, when: float, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.TimerHandle:
        self.timers.append(when)
        return super().call_at(when, callback, *args, context=context)
