"""How many requests come, second by second."""

import math
from collections.abc import Callable
from dataclasses import dataclass

MINUTE, HOUR, DAY = 60, 3600, 86_400


@dataclass(frozen=True)
class Pattern:
    """Requests a second over time, from the start of the simulation on.

    `work` is how much of a process a second's requests take, counted in greetings: the load balancer counts a
    calendar feed as one request, and it is the work of many.
    """

    key: str
    title: str
    seconds: int
    rate: Callable[[int], float]
    feeds: Callable[[int], float] = lambda second: 0.0


def steady(rate: float) -> Pattern:
    """The same all the time."""
    return Pattern("steady", "steady", HOUR, lambda second: rate)


def daily(peak: float) -> Pattern:
    """A wave with its peak in the evening, and a fifth of it early in the morning."""
    middle, half = 0.6 * peak, 0.4 * peak
    return Pattern(
        "daily",
        "daily wave",
        DAY,
        lambda second: middle - half * math.cos(2 * math.pi * (second / DAY - 1 / 6)),
    )


def flash(rate: float, times: float = 20) -> Pattern:
    """`times` as many within a minute; it stays a quarter of an hour, then halves every five minutes."""

    def at(second: int) -> float:
        since = second - HOUR / 2
        if since < 0:
            return rate
        rise = min(1.0, since / MINUTE)
        fall = math.exp2(-max(0.0, (since - 15 * MINUTE) / (5 * MINUTE)))
        return rate * (1 + (times - 1) * rise * fall)

    return Pattern("flash", f"flash crowd, {times:g} times in a minute", 2 * HOUR, at)


def midnight(rate: float, calendars: int) -> Pattern:
    """Every calendar refreshes within the minute after midnight, most of them at once; else it is steady."""

    def feeds(second: int) -> float:
        since = second - HOUR / 2
        return calendars / 10 * math.exp(-since / 10) if 0 <= since < MINUTE else 0.0

    return Pattern("midnight", f"midnight rush of {calendars:,} calendars", HOUR, lambda second: rate, feeds)
