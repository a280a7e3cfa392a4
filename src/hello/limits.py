"""Limits on the rate of requests, by a token bucket for each caller and each address.

The buckets are throttled-py's: GCRA, which is a token bucket kept as one moment in time. Its algorithm
of that name counts in whole seconds, and gives no token back to whoever asks once a second at 30/min.
"""

import math
from datetime import timedelta

from hello.addresses import limited_as
from hello.problems import TooManyRequestsError
from hello.rates import Rate
from hello.rights import Caller

BUCKETS = 20_000  # of each kind; the least recently used makes room

Fields = list[tuple[bytes, bytes]]


class Bucket:
    """The buckets of one kind: one for each key or address that was seen lately."""

    def __init__(self, name: str, rate: Rate) -> None:
        from throttled.rate_limiter import GCRARateLimiter, per_duration  # where there is a limit at all
        from throttled.store import MemoryStore

        quota = per_duration(timedelta(seconds=rate.seconds), rate.count, rate.count)
        self._limiter = GCRARateLimiter(quota, MemoryStore(options={"MAX_SIZE": BUCKETS}))
        self._name = name.encode()
        self._policy = b'"%b";q=%d;w=%d' % (self._name, rate.count, rate.seconds)

    def take(self, whose: str) -> tuple[bytes, bytes]:
        """Take one token; return the policy and what is left of it, as header fields tell them.

        Raises:
            TooManyRequestsError: there is none.
        """
        result = self._limiter.limit(whose)
        state = result.state
        left = b'"%b";r=%d;t=%d' % (self._name, max(state.remaining, 0), math.ceil(state.reset_after))
        if result.limited:
            raise TooManyRequestsError(
                self._name.decode(), max(math.ceil(state.retry_after), 1), fields([(self._policy, left)])
            )
        return self._policy, left

    def empty(self, whose: str) -> bool:
        """Return whether there is no token, without taking one."""
        return self._limiter.peek(whose).remaining < 1


class Limits:
    """What requests are held to; nothing of it is shared between processes."""

    def __init__(self, *, caller: Rate | None, address: Rate | None, failure: Rate | None) -> None:
        """Hold to these rates: of each caller with a key or token, of each address, of wrong credentials."""
        self._callers = Bucket("key", caller) if caller else None
        self._addresses = Bucket("address", address) if address else None
        self._failures = Bucket("failures", failure) if failure else None
        self.any = bool(caller or address)

    def take_of_address(self, address: str) -> list[tuple[bytes, bytes]]:
        """Take a request of this address; raise TooManyRequestsError."""
        return [self._addresses.take(limited_as(address))] if self._addresses else []

    def take_of_caller(self, caller: Caller) -> list[tuple[bytes, bytes]]:
        """Take a request of this caller; raise TooManyRequestsError."""
        return [self._callers.take(caller.subject)] if self._callers else []

    def over(self, caller: Caller) -> bool:
        """Return whether this caller's bucket is empty, without taking anything."""
        return self._callers is not None and self._callers.empty(caller.subject)

    def failed(self, address: str) -> None:
        """Take down that credentials were wrong; raise TooManyRequestsError where that was too often."""
        if self._failures:
            self._failures.take(limited_as(address))

    def refuse_who_fails(self, address: str) -> None:
        """Raise TooManyRequestsError where credentials of this address were wrong too often already."""
        if self._failures is not None and self._failures.empty(limited_as(address)):
            self.failed(address)


def fields(taken: list[tuple[bytes, bytes]]) -> Fields:
    """Return the header fields of draft-ietf-httpapi-ratelimit-headers for what was taken."""
    if not taken:
        return []
    policies, left = zip(*taken, strict=True)
    return [(b"ratelimit-policy", b", ".join(policies)), (b"ratelimit", b", ".join(left))]
