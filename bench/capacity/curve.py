"""What one vCPU does with any load: simulated once, kept in `curve.json`, and looked up by the fleet."""

import json
import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

from bench.capacity.station import (
    Costs,
    Limits,
    Outcome,
    Poisson,
    Thinking,
    histogram,
    percentile_of,
    simulate,
)

FOLDER = Path(__file__).parent
KEPT = FOLDER / "curve.json"
STORE_SECONDS = 0.005  # of a read within a region; assumed
# A vCPU of Graviton3 beside the core that was measured: assumed, also for TLS to DynamoDB, which is in it.
SPEED = 0.8
LOADS = (
    *(
        10,
        100,
        250,
        500,
        750,
        1_000,
        1_500,
        2_000,
        3_000,
        4_000,
        6_000,
        8_000,
        10_000,
        12_000,
        14_000,
        16_000,
    ),
    *(17_000, 18_000, 19_000, 20_000, 22_000, 25_000, 30_000, 40_000, 60_000, 100_000),
)
CONNECTIONS, STUB_SECONDS = 256, 0.004  # of the measurement
SECONDS = 4.0
SEED = 1


@dataclass(frozen=True)
class Point:
    """What a process does with `load` requests a second."""

    load: float
    answered: float  # share of the requests within the time
    cpu: float  # share of the core
    latencies: dict[int, float]  # of those answered: share in each bin of `histogram`

    def latency(self, share: float) -> float:
        """Return a percentile, in seconds."""
        return mixed_percentile([(1.0, self)], share)


def measured() -> Any:
    """Return what `measure.py` wrote."""
    return json.loads((FOLDER / "measured.json").read_text())


def as_measured(costs: Costs, rate: float, seconds: float = 1.0) -> Outcome:
    """Simulate what wrk was asked for: 256 connections that pause for whole milliseconds."""
    think = CONNECTIONS / rate - STUB_SECONDS
    return simulate(Thinking(CONNECTIONS, think, seconds, Random(SEED)), costs, Limits(), seconds)


def fit() -> Costs:
    """Return the costs with which the simulation uses as much processor time as was measured.

    The store's time is what is left of the median latency at the lowest rate: the stub's timer is coarse.
    """
    found = measured()
    rates = [rate for rate in found["rates"] if rate["asked"] >= 500]  # an idle processor wakes up slowly
    store = found["rates"][0]["p50"] - found["rates"][0]["cpu"]

    def error(costs: Costs) -> float:
        return sum(math.log(as_measured(costs, r["asked"], 0.5).cpu / r["cpu"]) ** 2 for r in rates)

    candidates = [
        Costs(batch * 1e-6, request * 1e-6, found["refusal_cpu"], store)
        for batch in range(350, 475, 25)
        for request in range(24, 34, 2)
    ]
    return min(candidates, key=error)


def simulate_curve(costs: Costs) -> list[Point]:
    """Return what a vCPU does at each of the loads, of people who know nothing of each other."""
    points = []
    for load in LOADS:
        seconds = min(SECONDS, max(0.5, 100_000 / load))
        outcome = simulate(Poisson(load, seconds, Random(SEED)), costs, Limits(), seconds)
        total = len(outcome.latencies) + outcome.refused
        counts = histogram(outcome.latencies)
        shares = {number: round(n / sum(counts), 6) for number, n in enumerate(counts) if n}
        cpu = outcome.busy / max(seconds, outcome.ended)
        points.append(Point(load, round(len(outcome.latencies) / total, 6), round(min(1.0, cpu), 4), shares))
    return points


def keep(costs: Costs) -> None:
    """Simulate the curve, and write it down."""
    points = simulate_curve(on_aws(costs))
    lines = ",\n".join(json.dumps(asdict(point)) for point in points)
    KEPT.write_text(f'{{"costs": {json.dumps(asdict(costs))},\n"points": [\n{lines}\n]}}\n')


def on_aws(costs: Costs) -> Costs:
    """Return what a request costs there, of what it costs on the measured core."""
    return Costs(costs.batch, costs.request, costs.refusal, STORE_SECONDS).on(SPEED)


def kept_costs() -> Costs:
    """Return the costs that the kept curve is made of, on the measured core."""
    return Costs(**json.loads(KEPT.read_text())["costs"])


@cache
def curve() -> Sequence[Point]:
    """Return the kept curve."""
    rows = json.loads(KEPT.read_text())["points"]
    for row in rows:
        row["latencies"] = {int(number): share for number, share in row["latencies"].items()}
    return [Point(**row) for row in rows]


def around(load: float) -> list[tuple[int, float]]:
    """Return the indexes of the two points beside a load, and how much each has of it."""
    index = bisect_right(LOADS, load)
    if index in (0, len(LOADS)):
        return [(max(0, index - 1), 1.0)]
    lower, upper = LOADS[index - 1], LOADS[index]
    part = (load - lower) / (upper - lower)
    return [(index - 1, 1 - part), (index, part)]


def mixed_percentile(parts: Sequence[tuple[float, Point]], share: float) -> float:
    """Return a percentile of the latency of requests, of which each point has so many."""
    counts: dict[int, float] = {}
    for weight, point in parts:
        for number, part in point.latencies.items():
            counts[number] = counts.get(number, 0.0) + weight * part
    return percentile_of([counts.get(number, 0.0) for number in range(max(counts, default=0) + 1)], share)
