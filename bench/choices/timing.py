"""Calls that are timed in turn, so that a slow minute of the machine is everybody's."""

import time
from collections.abc import Callable, Mapping
from statistics import median

ROUNDS = 15
SECONDS = 0.05  # of a case in a round


def per_call(
    cases: Mapping[str, Callable[[], object]], clock: Callable[[], float] = time.process_time
) -> dict[str, float]:
    """Return the seconds of a call of each case: medians over the rounds, of processor time by default."""
    counts = {name: _count(call, clock) for name, call in cases.items()}
    times: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(ROUNDS):
        for name, call in cases.items():
            started = clock()
            for _ in range(counts[name]):
                call()
            times[name].append((clock() - started) / counts[name])
    return {name: median(found) for name, found in times.items()}


def micro(seconds: float) -> str:
    """Return a time in µs, with two digits at least."""
    return f"{seconds * 1e6:,.{0 if seconds >= 1e-5 else 1 if seconds >= 1e-6 else 2}f}"


def _count(call: Callable[[], object], clock: Callable[[], float]) -> int:
    """Return how many calls take about `SECONDS`; the first ones warm up."""
    count = 1
    while True:
        started = clock()
        for _ in range(count):
            call()
        if (spent := clock() - started) > SECONDS / 5:
            return max(1, round(count * SECONDS / spent))
        count *= 4
