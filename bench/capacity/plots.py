"""The plots of docs/capacity.md. They are white also where the page is dark, so that all can read them."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure

from bench.capacity import cost, scale
from bench.capacity.arrivals import HOUR, MINUTE
from bench.capacity.cost import EC2, FARGATE
from bench.capacity.curve import as_measured, kept_costs, measured
from bench.capacity.fleet import Policy
from bench.capacity.scale import POLICY
from bench.capacity.station import percentile
from bench.capacity.tables import PATTERNS, runs

BLUE, ORANGE, GREEN, GREY = "#0072b2", "#d55e00", "#009e73", "#666666"  # told apart by the colour-blind too
STYLE = {
    "font.family": "sans-serif",
    "font.size": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#dddddd",
    "legend.frameon": False,
    "lines.linewidth": 2,
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "hello",  # the same bytes each time
}
FOLDER = "capacity"


def draw(docs: Path) -> None:
    """Write all plots into a folder of the documentation."""
    (docs / FOLDER).mkdir(exist_ok=True)
    for name, plot in (("process", process), ("flash", flash), ("daily", daily), ("cost", costs)):
        with mpl.rc_context(STYLE), _figure(docs / FOLDER / f"{name}.svg") as figure:
            plot(figure)


@contextmanager
def _figure(path: Path) -> Iterator[Figure]:
    figure = Figure(figsize=(8.5, 3.6), layout="constrained", facecolor="white")
    yield figure
    figure.savefig(path, metadata={"Date": None, "Creator": None})


def process(figure: Figure) -> None:
    """Processor time a request, and the median latency: simulated and measured."""
    left, right = figure.subplots(1, 2)
    rates = [rate["asked"] for rate in measured()["rates"]]
    done = [as_measured(kept_costs(), rate) for rate in rates]
    left.plot(rates, [one.cpu * 1e6 for one in done], color=BLUE, label="simulated")
    left.plot(rates, [rate["cpu"] * 1e6 for rate in measured()["rates"]], "o", color=ORANGE, label="measured")
    left.set(xscale="log", ylim=(0, None), ylabel="µs of processor time a request")
    medians = [percentile(sorted(one.latencies), 0.5) * 1e3 for one in done]
    right.plot(rates, medians, color=BLUE, label="p50, simulated")
    right.plot(
        rates, [rate["p50"] * 1e3 for rate in measured()["rates"]], "o", color=ORANGE, label="p50, measured"
    )
    right.plot(
        rates, [rate["p99"] * 1e3 for rate in measured()["rates"]], "^", color=GREY, label="p99, measured"
    )
    right.set(xscale="log", ylim=(0, None), ylabel="ms")
    for axes in (left, right):
        axes.set_xlabel("requests a second, one process")
        axes.set_xticks([250, 1_000, 4_000, 16_000], ["250", "1,000", "4,000", "16,000"], minor=False)
        axes.minorticks_off()
        axes.legend()


def flash(figure: Figure) -> None:
    """What comes in the flash crowd, what is in service, and what is refused; also with twice the target."""
    left, right = figure.subplots(1, 2, width_ratios=(3, 2))
    pattern, shown = PATTERNS[2], range(25, 60)
    asked = [pattern.rate(minute * MINUTE) / 1e3 for minute in shown]
    left.plot([m - 30 for m in shown], asked, color=GREY, label="thousand requests a second")
    for mode, color in ((FARGATE, BLUE), (EC2, ORANGE)):
        minutes = runs(pattern, mode).minutes
        vcpus = [minutes[m].instances / MINUTE * mode.vcpus for m in shown]
        left.step([m - 30 for m in shown], vcpus, color=color, label=f"vCPUs, {mode.title}", where="post")
    left.set(xlabel="minutes since the crowd", ylim=(0, 300))
    left.legend()
    for target, color in ((POLICY.requests, BLUE), (2 * POLICY.requests, ORANGE)):
        done = runs(pattern, FARGATE, Policy(target, POLICY.cpu, POLICY.minimum, POLICY.maximum))
        shares = [100 * done.minutes[m].refused / done.minutes[m].requests for m in shown]
        right.plot([m - 30 for m in shown], shares, color=color, label=f"{target / 1e3:,.0f},000 a vCPU")
    right.set(xlabel="minutes since the crowd", ylabel="% refused, Fargate", ylim=(0, 100))
    right.legend(title="target")


def daily(figure: Figure) -> None:
    """The daily wave, and the vCPUs in service."""
    (axes,) = figure.subplots(1, 1, squeeze=False)[0]
    pattern = PATTERNS[1]
    hours = [second / HOUR for second in range(0, pattern.seconds, MINUTE)]
    axes.plot(
        hours,
        [pattern.rate(int(hour * HOUR)) / 1e3 for hour in hours],
        color=GREY,
        label="thousand requests a second",
    )
    for mode, color in ((FARGATE, BLUE), (EC2, ORANGE)):
        vcpus = [minute.instances / MINUTE * mode.vcpus for minute in runs(pattern, mode).minutes]
        axes.step(hours, vcpus, color=color, label=f"vCPUs, {mode.title}", where="post")
    axes.set(xlabel="hours", xticks=range(0, 25, 3), ylim=(0, 12.5))
    axes.legend(ncols=3, loc="upper center")


def costs(figure: Figure) -> None:
    """What a thousand requests a second cost a month, by mode and load."""
    (axes,) = figure.subplots(1, 1, squeeze=False)[0]
    rates = [10 ** (3 + step / 50) for step in range(151)]
    lines = (
        (FARGATE, 0.0, BLUE, "-"),
        (EC2, 0.0, ORANGE, "-"),
        (FARGATE, 0.5, BLUE, "--"),
        (EC2, 0.5, ORANGE, "--"),
    )
    for mode, spot, color, style in lines:
        values = [
            (
                cost.compute(mode, cost.instances(mode, rate, POLICY.requests, POLICY.minimum), spot)
                + cost.around(mode)
            )
            / rate
            * 1e3
            for rate in rates
        ]
        label = f"{mode.title}, {'half Spot' if spot else 'on demand'}"
        axes.plot(rates, values, style, color=color, label=label)
    found = cost.break_even(scale.cheaper_on_ec2())
    if found:
        axes.axvline(found, color=GREY, linewidth=1)
        axes.annotate(f"EC2 is cheaper\nfrom {found:,.0f}/s", (found * 1.08, 75), color=GREY)
    axes.set(xscale="log", ylim=(0, 100), xlabel="requests a second, all the time")
    axes.set_ylabel("USD a month for 1,000/s")
    axes.set_xticks([1e3, 1e4, 1e5, 1e6], ["1,000", "10,000", "100,000", "1,000,000"])
    axes.legend()
