"""A fleet of instances behind a load balancer, second by second, scaled by target tracking as AWS does it."""

import math
from collections import deque
from dataclasses import dataclass, field
from functools import cached_property

from bench.capacity.arrivals import MINUTE, Pattern
from bench.capacity.curve import LOADS, around, curve, mixed_percentile

METRIC_DELAY = 60  # seconds from the end of a minute until its figures can raise an alarm; assumed
OUT_POINTS, IN_POINTS = 3, 15  # minutes above the target, or below 0.9 of it, as in the alarms that AWS makes
IN_THRESHOLD = 0.9
DRAIN = 30  # seconds that an instance is paid for after it was taken out


@dataclass(frozen=True)
class Mode:
    """A way to run instances."""

    key: str
    title: str
    vcpus: int
    start: int  # seconds from the decision until the load balancer sends requests
    price: float  # USD an hour and instance
    burst: int = 100  # instances that start at once
    launches: int = 20  # and each second after


@dataclass(frozen=True)
class Policy:
    """What Terraform sets."""

    requests: float  # a vCPU and minute: times the vCPUs, the target value of requests per target
    cpu: float | None  # target of the processor's use, 0 to 1; None: not tracked
    minimum: int
    maximum: int
    cooldown_in: int = 300


@dataclass
class Minute:
    """What the load balancer and the instances tell of a minute."""

    requests: float = 0.0
    refused: float = 0.0
    cpu: float = 0.0  # sum over the seconds
    instances: float = 0.0  # in service, sum over the seconds
    paid: float = 0.0  # instance seconds
    answered: list[float] = field(default_factory=lambda: [0.0] * len(LOADS))  # as at each point of the curve


@dataclass
class Run:
    """What a simulation showed."""

    mode: Mode
    minutes: list[Minute]

    @cached_property
    def requests(self) -> float:
        return sum(minute.requests for minute in self.minutes)

    @property
    def refused(self) -> float:
        """The share of the requests that got 503, or no answer."""
        return sum(minute.refused for minute in self.minutes) / self.requests

    @property
    def worst(self) -> float:
        """The same share of the worst minute."""
        return max(minute.refused / minute.requests for minute in self.minutes)

    @property
    def most(self) -> float:
        """The most instances at a time."""
        return max(minute.paid for minute in self.minutes) / MINUTE

    @property
    def mean(self) -> float:
        """The instances on average."""
        return sum(minute.paid for minute in self.minutes) / MINUTE / len(self.minutes)

    @property
    def cost(self) -> float:
        """USD for the instances alone."""
        return sum(minute.paid for minute in self.minutes) / 3600 * self.mode.price

    def latency(self, share: float) -> float:
        """Return a percentile of all answers, in seconds."""
        answered = [sum(column) for column in zip(*(minute.answered for minute in self.minutes), strict=True)]
        return mixed_percentile(list(zip(answered, curve(), strict=True)), share)


class Scaler:
    """Target tracking of one service: two policies, of which the one that wants more has its way."""

    def __init__(self, policy: Policy, mode: Mode) -> None:
        self._policy, self._mode = policy, mode
        self._loads: deque[tuple[float, float]] = deque(maxlen=IN_POINTS)  # as multiples of the targets
        self._last_in = -math.inf

    def desired(self, now: int, seen: Minute, desired: int) -> int:
        """Return how many instances there shall be, once the figures of a minute are known."""
        # Those that were in service in that minute: what is starting is not asked for again.
        instances = seen.instances / MINUTE
        target = self._policy.requests * self._mode.vcpus
        cpu = seen.cpu / MINUTE / self._policy.cpu if self._policy.cpu else 0.0
        self._loads.append((seen.requests / instances / target, cpu))
        wanted = self._within(math.ceil(instances * max(self._loads[-1]) - 1e-9))
        if wanted > desired:
            return wanted if self._above() else desired
        below = all(max(loads) < IN_THRESHOLD for loads in self._loads)
        rested = now - self._last_in >= self._policy.cooldown_in
        if wanted < desired and below and rested and len(self._loads) == IN_POINTS:
            self._last_in = now
            return wanted
        return desired

    def _above(self) -> bool:
        """Return whether one metric was above its target in each of the last three minutes."""
        last = list(self._loads)[-OUT_POINTS:]
        return len(last) == OUT_POINTS and any(all(loads[which] > 1 for loads in last) for which in (0, 1))

    def _within(self, wanted: int) -> int:
        return max(self._policy.minimum, min(self._policy.maximum, wanted))


def run(
    pattern: Pattern,
    mode: Mode,
    policy: Policy,
    *,
    feed_work: float = 0.0,
    lost: tuple[int, float] | None = None,
) -> Run:
    """Simulate.

    `feed_work` is what a calendar feed takes, in greetings; `lost` is when which share of the instances ends.
    """
    desired = _enough(pattern, mode, policy, feed_work)
    ready, starting, draining = desired, deque[int](), deque[int]()
    scaler, minutes, allowance = Scaler(policy, mode), [Minute()], float(mode.burst)
    for second in range(pattern.seconds):
        if lost and second == lost[0]:
            ready -= int(ready * lost[1])
        allowance = min(mode.burst, allowance + mode.launches)
        while ready + len(starting) < desired and allowance >= 1:
            starting.append(second + mode.start)
            allowance -= 1
        while starting and starting[0] <= second:
            starting.popleft()
            ready += 1
        while draining and draining[0] <= second:
            draining.popleft()
        minute = minutes[-1]
        _serve(minute, pattern, second, ready * mode.vcpus, feed_work)
        minute.instances += ready
        minute.paid += ready + len(starting) + len(draining)
        if (second + 1) % MINUTE == 0:
            known = len(minutes) - 1 - METRIC_DELAY // MINUTE
            if known >= 0:
                desired = scaler.desired(second, minutes[known], desired)
            out = max(0, ready + len(starting) - desired)
            for _ in range(min(out, len(starting))):
                starting.pop()
            leaving = max(0, ready - desired)
            ready -= leaving
            draining.extend([second + DRAIN] * leaving)
            minutes.append(Minute())
    return Run(mode, minutes[:-1])


def _enough(pattern: Pattern, mode: Mode, policy: Policy, feed_work: float) -> int:
    """Return how many instances target tracking would have come to before the start."""
    target = policy.requests / MINUTE * mode.vcpus
    wanted = math.ceil(pattern.rate(0) / target)
    return max(policy.minimum, min(policy.maximum, wanted))


def _serve(minute: Minute, pattern: Pattern, second: int, vcpus: float, feed_work: float) -> None:
    rate, feeds = pattern.rate(second), pattern.feeds(second)
    requests = rate + feeds
    minute.requests += requests
    for index, weight in around((rate + feeds * feed_work) / vcpus):
        point = curve()[index]
        minute.cpu += weight * point.cpu
        minute.refused += weight * requests * (1 - point.answered)
        minute.answered[index] += weight * requests * point.answered
