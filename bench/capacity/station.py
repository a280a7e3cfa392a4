"""One process of hello, request by request: an event loop that takes all that has come, a batch at a time.

The loop is simulated as it works: each turn reads the requests and the answers of the store that are there,
which takes processor time, and sends what they lead to. Requests of one turn share one request to the store
(`hello.fast_path`), so that a busy process spends less on each. Past `max_in_flight` a request is refused.
"""

import math
from bisect import bisect_right
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from heapq import heapify, heappop, heappush
from itertools import accumulate
from random import Random
from typing import Protocol

CHUNK = 100  # the most people that one request to the store asks for
BINS = 240
_FIRST_BIN, _BINS_A_DECADE = 1e-5, 40  # seconds


@dataclass(frozen=True)
class Costs:
    """Processor time in seconds of a process, on the core that it was measured on."""

    batch: float  # a request to the store and its answer, whatever they carry
    request: float  # each request beside that
    refusal: float  # a 503
    store: float = 0.0  # how long the store takes, which is no work; 0: the work is done in one turn

    def on(self, speed: float) -> "Costs":
        """Return the costs on a core that is `speed` times as fast."""
        return Costs(self.batch / speed, self.request / speed, self.refusal / speed, self.store)


@dataclass(frozen=True)
class Limits:
    """The settings of a process that bound its work."""

    max_in_flight: int = 512
    connections: int = 32  # to the store
    turns: int = 6  # of the loop that an answer of the store takes, from the socket to whoever waits for it
    most: int = 1_000_000  # requests of one turn: 1 makes it a queue as in the textbooks
    exponential: bool = False  # the work on a request varies so, and else not at all


class Arrivals(Protocol):
    """When requests come."""

    def next(self) -> float:
        """Return when the next request comes; infinity: never."""

    def take(self) -> float:
        """Take that request, and return when it came."""

    def answered(self, at: float) -> None:
        """Hear that a request was answered."""


class Poisson:
    """Requests of people who know nothing of each other, `rate` a second."""

    def __init__(self, rate: float, seconds: float, random: Random) -> None:
        self._rate, self._end, self._random = rate, seconds, random
        self._next = 0.0
        self.take()

    def next(self) -> float:
        return self._next

    def take(self) -> float:
        taken = self._next
        self._next += self._random.expovariate(self._rate)
        if self._next > self._end:
            self._next = math.inf
        return taken

    def answered(self, at: float) -> None:
        pass


class Thinking:
    """Connections that each wait `think` seconds on average before they ask again, in whole milliseconds.

    As wrk does it with `bench/requests.lua`.
    """

    def __init__(self, connections: int, think: float, seconds: float, random: Random) -> None:
        self._think, self._end, self._random = think, seconds, random
        self._times: list[float] = []
        for _ in range(connections):
            self.answered(0.0)
        heapify(self._times)

    def next(self) -> float:
        return self._times[0] if self._times else math.inf

    def take(self) -> float:
        return heappop(self._times)

    def answered(self, at: float) -> None:
        due = at * 1e3 + self._random.expovariate(1 / self._think) * 1e3
        due = math.ceil(due) / 1e3
        if due < self._end:
            heappush(self._times, due)


@dataclass
class Outcome:
    """What a process did; times in seconds."""

    seconds: float
    ended: float = 0.0  # the last answer
    busy: float = 0.0
    refused: int = 0
    latencies: list[float] = field(default_factory=list)  # of what was answered, in this order

    @property
    def rate(self) -> float:
        """Requests answered a second, without those refused."""
        return len(self.latencies) / self.seconds

    @property
    def cpu(self) -> float:
        """Processor time a request answered."""
        return self.busy / len(self.latencies)


def simulate(
    arrivals: Arrivals, costs: Costs, limits: Limits, seconds: float, random: Random | None = None
) -> Outcome:
    """Let a process work until all requests are answered, which come within `seconds`."""
    outcome = Outcome(seconds)
    answers: list[tuple[float, int, int, Sequence[float]]] = []  # of the store: when, turns, number, requests
    queue: deque[Sequence[float]] = deque()  # batches that wait for a connection to the store
    now, in_flight, sent = 0.0, 0, 0
    while True:
        now = max(now, min(arrivals.next(), answers[0][0] if answers else math.inf))
        if now == math.inf:
            return outcome
        work, done = 0.0, list[float]()
        again = []
        while answers and answers[0][0] <= now:
            _, turns, number, batch = heappop(answers)
            work += (_requests_to_store(batch) * costs.batch + len(batch) * costs.request) / 2 / limits.turns
            if turns > 1:
                again.append((now, turns - 1, number, batch))
            else:
                done += batch
        taken, refused = list[float](), 0
        while arrivals.next() <= now and len(taken) + refused < limits.most:
            came = arrivals.take()
            if in_flight + len(taken) < limits.max_in_flight:
                taken.append(came)
            else:
                refused += 1
        in_flight += len(taken)
        work += refused * costs.refusal
        if taken:
            each = sum(random.expovariate(1) for _ in taken) if limits.exponential and random else len(taken)
            whole = _requests_to_store(taken) * costs.batch + each * costs.request
            work += whole / 2 if costs.store else whole
        now = outcome.ended = now + work
        outcome.busy += work
        outcome.refused += refused
        for answer in again:
            heappush(answers, answer)
        if costs.store:
            if taken:
                queue.append(taken)
            while queue and len(answers) < limits.connections:
                sent += 1
                heappush(answers, (now + costs.store, limits.turns, sent, queue.popleft()))
        else:
            done += taken
        in_flight -= len(done)
        outcome.latencies += [now - came for came in done]
        for _ in range(len(done) + refused):
            arrivals.answered(now)


def _requests_to_store(batch: Sequence[float]) -> int:
    return -(-len(batch) // CHUNK)


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value that `share` of them, which are in order, do not exceed."""
    return values[min(len(values) - 1, int(share * len(values)))]


def histogram(latencies: Sequence[float]) -> list[int]:
    """Return how many latencies are in each bin, of which a power of ten has 40."""
    counts = [0] * BINS
    for latency in latencies:
        counts[_bin(latency)] += 1
    return counts


def percentile_of(counts: Sequence[float], share: float) -> float:
    """Return the same of a histogram: the upper end of the bin."""
    sums = list(accumulate(counts))
    return upper_end(bisect_right(sums, share * sums[-1] * (1 - 1e-12))) if sums[-1] else math.nan


def upper_end(number: int) -> float:
    """Return the longest latency of a bin."""
    return float(_FIRST_BIN * 10 ** ((number + 1) / _BINS_A_DECADE))


def _bin(latency: float) -> int:
    return min(BINS - 1, max(0, int(math.log10(latency / _FIRST_BIN) * _BINS_A_DECADE)))
