"""Tables of one process: what was measured beside what is simulated, and what it does with any load."""

from collections.abc import Mapping, Sequence
from random import Random

from bench.capacity.curve import as_measured, curve, kept_costs, measured
from bench.capacity.station import Limits, Poisson, Thinking, percentile, simulate
from bench.markdown import table


def model_and_measurement() -> str:
    """Compare what a process did with what the simulation says."""
    rows = []
    for rate in measured()["rates"]:
        done = as_measured(kept_costs(), rate["asked"])
        rows.append(_compared(f"{rate['asked']:,}/s", done.cpu, done.latencies, rate))
    for rate in measured()["one_by_one"]:
        one = simulate(Poisson(rate["asked"], 1, Random(1)), kept_costs(), Limits(), 1)
        rows.append(_compared(f"{rate['asked']:,}/s, one by one", one.cpu, one.latencies, rate))
    head = (
        "load",
        "µs of processor",
        "simulated",
        "error",
        "p50 ms",
        "simulated",
        "error",
        "p99 ms",
        "simulated",
    )
    return table(head, rows)


def _compared(load: str, cpu: float, latencies: Sequence[float], real: Mapping[str, float]) -> Sequence[str]:
    p50, p99 = (percentile(sorted(latencies), share) for share in (0.5, 0.99))
    return (
        load,
        f"{real['cpu'] * 1e6:.0f}",
        f"{cpu * 1e6:.0f}",
        f"{cpu / real['cpu'] - 1:+.0%}",
        f"{real['p50'] * 1e3:.1f}",
        f"{p50 * 1e3:.1f}",
        f"{p50 / real['p50'] - 1:+.0%}",
        f"{real['p99'] * 1e3:.1f}",
        f"{p99 * 1e3:.1f}",
    )


def crowds() -> str:
    """Compare what a process answers and refuses, of connections that ask again at once."""
    rows = []
    for crowd in measured()["crowds"]:
        done = simulate(Thinking(crowd["connections"], 1e-5, 1, Random(1)), kept_costs(), Limits(), 1)
        answered, refused = f"{done.rate:,.0f}", f"{done.refused / done.seconds:,.0f}"
        rows.append(
            (
                f"{crowd['connections']:,}",
                f"{crowd['answered']:,}",
                answered,
                f"{crowd['refused']:,}",
                refused,
            )
        )
    return table(("connections", "answered/s", "simulated", "refused/s", "simulated"), rows)


def one_vcpu() -> str:
    """Tell what a vCPU does with any load."""
    loads = (100, 500, 1_000, 2_000, 4_000, 8_000, 16_000, 20_000, 22_000, 25_000, 30_000, 40_000)
    rows = [
        (
            f"{point.load:,}",
            f"{point.cpu:.0%}",
            f"{point.latency(0.5) * 1e3:.0f}",
            f"{point.latency(0.99) * 1e3:.0f}",
            f"{1 - point.answered:.0%}",
        )
        for point in curve()
        if point.load in loads
    ]
    return table(("requests/s", "processor", "p50 ms", "p99 ms", "refused"), rows)


def in_flight() -> str:
    """Tell what `max-in-flight` does at and above the capacity of a process, as it was measured."""
    rows = []
    for most in (64, 128, 256, 512, 1_024, 2_048):
        cells = [f"{most:,}"]
        for rate in (20_000, 40_000):
            done = simulate(Poisson(rate, 1, Random(1)), kept_costs(), Limits(max_in_flight=most), 1)
            cells += [f"{done.rate:,.0f}", f"{percentile(sorted(done.latencies), 0.99) * 1e3:,.0f}"]
        rows.append(cells)
    return table(("max-in-flight", "20,000/s: answered", "p99 ms", "40,000/s: answered", "p99 ms"), rows)
