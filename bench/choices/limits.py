"""Decision 10: counting a request, by libraries for limits, each with 10,000 callers in turn."""

from collections.abc import Callable
from datetime import timedelta
from itertools import cycle

from limits import RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import FixedWindowRateLimiter, MovingWindowRateLimiter
from throttled.rate_limiter import GCRARateLimiter, TokenBucketRateLimiter, per_duration
from throttled.store import MemoryStore

from bench.choices.timing import micro, per_call
from bench.markdown import table
from hello import limits
from hello.rates import Rate

COUNT, CALLERS = 600, [f"caller-{number}" for number in range(10_000)]  # a minute


def measure() -> str:
    """Return a table: µs a request."""
    quota, item = per_duration(timedelta(minutes=1), COUNT, COUNT), RateLimitItemPerMinute(COUNT)
    gcra, bucket = (kind(quota, MemoryStore()) for kind in (GCRARateLimiter, TokenBucketRateLimiter))
    fixed, moving = (kind(MemoryStorage()) for kind in (FixedWindowRateLimiter, MovingWindowRateLimiter))
    own = limits.Bucket("bench", Rate.parse("1000000/min"))
    found = per_call(
        {
            "throttled-py, GCRA": _each(gcra.limit),
            "throttled-py, token bucket": _each(bucket.limit),
            "limits, fixed window": _each(lambda caller: fixed.hit(item, caller)),
            "limits, moving window": _each(lambda caller: moving.hit(item, caller)),
            "hello: GCRA with header fields": _each(own.take),
        }
    )
    return table(("way", "µs a request"), [(name, micro(time)) for name, time in found.items()])


def _each(take: Callable[[str], object]) -> Callable[[], object]:
    callers = cycle(CALLERS)
    return lambda: take(next(callers))
