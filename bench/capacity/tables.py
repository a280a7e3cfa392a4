"""The tables of docs/capacity.md, and the place where each goes."""

import re
from collections.abc import Callable, Mapping, Sequence
from functools import cache

from bench.capacity import arrivals, cost, process, scale
from bench.capacity.cost import EC2, FARGATE, MODES
from bench.capacity.fleet import Mode, Policy, Run, run
from bench.capacity.scale import LEVELS, POLICY
from bench.markdown import table

BASE, CALENDARS = 10_000.0, 5_000
PATTERNS = (
    arrivals.steady(BASE),
    arrivals.daily(BASE),
    arrivals.flash(BASE),
    arrivals.midnight(BASE, CALENDARS),
)
TARGETS = (30_000, 60_000, 120_000, 240_000)
SPEEDS = (0.5, 0.8, 1.0, 1.2)


@cache
def runs(pattern: arrivals.Pattern, mode: Mode, policy: Policy = POLICY, lost: float = 0.0) -> Run:
    """Return a simulation, of which each is done once."""
    at = (pattern.seconds // 2, lost) if lost else None
    return run(pattern, mode, policy, feed_work=scale.feed_work(), lost=at)


def patterns() -> str:
    """Tell how each mode gets through each pattern."""
    rows = [_pattern(pattern.title, runs(pattern, mode), mode) for pattern in PATTERNS for mode in MODES]
    rows += [
        _pattern("steady, a zone of three is lost", runs(PATTERNS[0], mode, lost=1 / 3), mode)
        for mode in MODES
    ]
    head = (
        "pattern",
        "on",
        "p50 ms",
        "p99 ms",
        "refused",
        "in the worst minute",
        "instances",
        "most",
        "USD/h",
    )
    return table(head, rows)


def _pattern(title: str, done: Run, mode: Mode) -> Sequence[str]:
    return (
        title,
        mode.title,
        *(_milliseconds(done.latency(share)) for share in (0.5, 0.99)),
        _share(done.refused),
        _share(done.worst),
        f"{done.mean:.1f}",
        f"{done.most:.0f}",
        f"{done.cost / len(done.minutes) * 60:.2f}",
    )


def targets() -> str:
    """Tell what each target of requests a vCPU costs, and what it does in a flash crowd."""
    rows = []
    for target in TARGETS:
        policy = Policy(target, POLICY.cpu, POLICY.minimum, POLICY.maximum)
        requests_only = Policy(target, None, POLICY.minimum, POLICY.maximum)
        crowd, day = runs(PATTERNS[2], FARGATE, policy), runs(PATTERNS[1], FARGATE, policy)
        alone = runs(PATTERNS[1], FARGATE, requests_only)
        rows.append(
            (
                f"{target:,}",
                f"{scale.capacity() * 60 / target:.0f}",
                _share(crowd.refused),
                _share(crowd.worst),
                _milliseconds(crowd.latency(0.99)),
                f"{day.cost * 365 / 12:,.0f}",
                f"{alone.cost * 365 / 12:,.0f}",
            )
        )
    head = (
        "requests a vCPU and minute",
        "times until refusal",
        "flash crowd: refused",
        "in the worst minute",
        "p99 ms",
        "daily wave: USD/month",
        "without the CPU policy",
    )
    return table(head, rows)


def break_even() -> str:
    """Tell from which load on EC2 is cheaper."""
    cases = (
        ("on demand", "on demand", 0.0, 0.0),
        ("on demand", "half Spot", 0.5, 0.0),
        ("half Spot", "half Spot", 0.5, 0.5),
        ("half Spot", "on demand", 0.0, 0.5),
    )
    rows = []
    for fargate, ec2, spot_ec2, spot_fargate in cases:
        found = cost.break_even(scale.cheaper_on_ec2(spot_ec2, spot_fargate))
        prices = [
            cost.compute(mode, 1 / mode.vcpus, spot)
            for mode, spot in ((FARGATE, spot_fargate), (EC2, spot_ec2))
        ]
        told = f"{found:,.0f}/s" if found else "never"
        rows.append((fargate, ec2, *(f"{price:.2f}" for price in prices), told))
    head = ("Fargate", "EC2", "Fargate: USD a vCPU and month", "EC2", "EC2 is cheaper from")
    return table(head, rows)


def levels() -> str:
    """Tell what large loads need and cost."""

    def row(title: str, value: Callable[[scale.Level], str]) -> Sequence[str]:
        return (title, *(value(level) for level in LEVELS))

    def count(mode: Mode, level: scale.Level) -> int:
        return cost.instances(mode, level.load.rate, POLICY.requests, POLICY.minimum)

    def computing(mode: Mode, level: scale.Level) -> float:
        return cost.compute(mode, count(mode, level)) + cost.around(mode)

    def dollars(value: Callable[[cost.Load], float]) -> Callable[[scale.Level], str]:
        return lambda level: f"{value(level.load):,.0f}"

    def everything(mode: Mode, units: Callable[[cost.Load], float]) -> Callable[[scale.Level], str]:
        return lambda level: f"{scale.total(level.load, computing(mode, level), units(level.load)):,.0f}"

    rows = [
        row("people", lambda level: f"{level.load.people:,.0f}"),
        row("Fargate tasks of 1 vCPU", lambda level: f"{count(FARGATE, level):,}"),
        row("EC2: c7g.large", lambda level: f"{count(EC2, level):,}"),
        row("DynamoDB: reads/s", lambda level: f"{level.load.reads_a_second:,.0f}"),
        row("DynamoDB: writes/s, with the index", lambda level: f"{level.load.writes_a_second:,.0f}"),
        row(
            "shards of the index: new people, changed days",
            lambda level: f"{scale.index_shards(level.load, 1)}, {scale.index_shards(level.load, 2)}",
        ),
        row("DynamoDB: GB, with the index", lambda level: f"{cost.gigabytes(level.load.people):,.1f}"),
        row("load balancer: LCUs", lambda level: f"{cost.lcus(level.load):,.0f}"),
        row("etcd: requests/s", lambda level: f"{scale.registrations(count(EC2, level)):,.1f}"),
        row("**USD a month:** Fargate", lambda level: f"{computing(FARGATE, level):,.0f}"),
        row("or EC2, and what is around it", lambda level: f"{computing(EC2, level):,.0f}"),
        row("DynamoDB on demand", dollars(cost.on_demand)),
        row("or provisioned", dollars(cost.provisioned)),
        row("DynamoDB: storage, recovery", dollars(lambda load: cost.storage(load.people))),
        row("load balancer", dollars(cost.balancing)),
        row("answers to the internet", dollars(cost.egress)),
        row("interface endpoints", dollars(lambda load: cost.endpoints())),
        row("**all**, Fargate, on demand", everything(FARGATE, cost.on_demand)),
        row("**all**, EC2, provisioned", everything(EC2, cost.provisioned)),
    ]
    return table(("", *(level.title for level in LEVELS)), rows)


def limits() -> str:
    """Tell which part comes to its limit at which load."""
    load = LEVELS[0].load
    rows = [
        (limit.part, limit.bears, f"{limit.of(load):,.0f}/s", limit.more)
        for limit in sorted(scale.limits(), key=lambda limit: limit.of(load))
    ]
    return table(("part", "bears", "reached at", "more"), rows)


def sensitivity() -> str:
    """Tell what a faster or slower vCPU changes."""
    base = scale.capacity()
    rows = []
    for speed in SPEEDS:
        at = speed / 0.8
        rate = POLICY.requests / 60 * at
        vcpus = 1e6 / rate
        rows.append(
            (
                f"{speed:g}",
                f"{base * at:,.0f}",
                f"{POLICY.requests * at:,.0f}",
                f"{vcpus:,.0f}",
                f"{cost.compute(FARGATE, vcpus):,.0f}",
                f"{cost.compute(EC2, vcpus / 2) + cost.around(EC2):,.0f}",
            )
        )
    head = (
        "speed of a vCPU",
        "answers/s at most",
        "target a vCPU and minute",
        "vCPUs for 1,000,000/s",
        "Fargate: USD/month",
        "EC2",
    )
    return table(head, rows)


TABLES: Mapping[str, Callable[[], str]] = {
    "model and measurement": process.model_and_measurement,
    "crowds": process.crowds,
    "one vCPU": process.one_vcpu,
    "patterns": patterns,
    "targets": targets,
    "in flight": process.in_flight,
    "break-even": break_even,
    "levels": levels,
    "limits": limits,
    "sensitivity": sensitivity,
}


def filled(page: str) -> str:
    """Return a page with each table in its place: after `<!-- table: NAME -->`, an empty line around it."""

    def replace(found: re.Match[str]) -> str:
        return f"{found[1]}\n{TABLES[found[2]]()}\n"

    return re.sub(r"(<!-- table: (.+?) -->\n)\n(?:\|.*\n)*\n*", replace, page)


def _share(value: float) -> str:
    return "0" if value < 5e-6 else f"{value:.2%}" if value < 0.01 else f"{value:.0%}"


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1e3:,.0f}"
