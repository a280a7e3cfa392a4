"""What was measured, as Markdown: targets first, then the tables, then every sample."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from statistics import median

from bench.load import Sample
from bench.servers import Server
from bench.sizes import Size, Transfer
from bench.throughput import PEOPLE, Plan, Visit

MIB = 2**20
Visits = Mapping[str, Sequence[Visit]]

GET_TARGETS = {"starlette": 0.85, "go": 1.25, "fastapi": 15.0}
PUT_TARGETS = {"go": 1.0}
MEMORY_TARGET = 64 * MIB
FIRST_200_TARGET = 0.5
P99_TARGET = 1.5
BIRTHDAYS_TARGET = 0.020
IMPORT_OF, IMPORT_TARGET = 1_000_000, 20.0


@dataclass(frozen=True)
class Target:
    """One promise, what became of it, and what puts that into perspective."""

    promise: str
    measured: str
    met: bool
    beside: str = ""


@dataclass(frozen=True)
class Middle:
    """The medians of one server's rounds."""

    get: Sample
    put: Sample | None
    first_200: float
    resident: float
    peak: float


def middle(visits: Sequence[Visit]) -> Middle:
    """Return the medians of the rounds, each figure by itself."""
    puts = [visit.put for visit in visits if visit.put]
    return Middle(
        get=_middle_sample([visit.get for visit in visits]),
        put=_middle_sample(puts) if puts else None,
        first_200=median(visit.first_200 for visit in visits),
        resident=median(visit.resident for visit in visits),
        peak=median(visit.peak for visit in visits),
    )


def targets(visits: Visits, sizes: Sequence[Size]) -> list[Target]:
    """Return the promises that the run could check, and whether it found them kept."""
    middles = {key: middle(rounds) for key, rounds in visits.items()}
    return [
        *_throughput_targets(middles),
        *_process_targets(middles),
        *_size_targets(sizes),
        *_transfer_targets(sizes),
    ]


def report(
    day: str,
    servers: Sequence[Server],
    visits: Visits,
    sizes: Sequence[Size],
    plan: Plan,
    machine: Mapping[str, str],
    versions: Mapping[str, str],
) -> str:
    """Return the whole report."""
    chosen = [server for server in servers if server.key in visits]
    parts = [f"# Bench of {day}\n", _targets(targets(visits, sizes))]
    if chosen:
        parts += [_throughput(chosen, visits, plan), _ratios(chosen, visits)]
    if sizes:
        parts.append(_sizes(sizes))
    parts += [_facts("Machine", machine), _facts("Versions", versions)]
    if chosen:
        parts.append(_samples(chosen, visits))
    return "\n".join(parts)


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table whose columns line up; all but the first are set right."""
    widths = [max(len(row[column]) for row in [head, *rows]) for column in range(len(head))]

    def line(cells: Sequence[str]) -> str:
        first = cells[0].ljust(widths[0])
        others = (cell.rjust(width) for cell, width in zip(cells[1:], widths[1:], strict=True))
        return "| " + " | ".join([first, *others]) + " |"

    rule = "|" + "|".join(["-" * (widths[0] + 2), *("-" * (width + 1) + ":" for width in widths[1:])]) + "|"
    return "\n".join([line(head), rule, *(line(row) for row in rows)]) + "\n"


def _middle_sample(samples: Sequence[Sample]) -> Sample:
    return Sample(
        **{field.name: median(getattr(sample, field.name) for sample in samples) for field in fields(Sample)}
    )


def _throughput_targets(middles: Mapping[str, Middle]) -> Iterator[Target]:
    hello = middles.get("hello")
    if hello is None:
        return
    for key, least in GET_TARGETS.items():
        if key in middles:
            yield _at_least(f"GET: at least {least} of {key}", hello.get, middles[key].get, least)
    for key, least in PUT_TARGETS.items():
        peer = middles[key].put if key in middles else None
        if hello.put and peer:
            yield _at_least(f"PUT, durable: at least {least} of {key}", hello.put, peer, least)


def _at_least(promise: str, hello: Sample, peer: Sample, least: float) -> Target:
    ratio = hello.rate / peer.rate
    return Target(promise, f"{ratio:.2f}", ratio >= least, f"{_cpu_ratio(hello, peer)} by processor time")


def _cpu_ratio(hello: Sample, peer: Sample) -> str:
    """Return how many requests hello answers in the processor time in which the peer answers one."""
    return f"{peer.cpu / hello.cpu:.2f}" if hello.cpu and peer.cpu else "?"


def _process_targets(middles: Mapping[str, Middle]) -> Iterator[Target]:
    hello = middles.get("hello")
    if hello is None:
        return
    yield Target(
        f"Resident memory after the run: at most {MEMORY_TARGET // MIB} MiB",
        f"{hello.resident / MIB:.1f} MiB",
        hello.resident <= MEMORY_TARGET,
        f"highest {hello.peak / MIB:.1f} MiB",
    )
    yield Target(
        f"First 200 within {FIRST_200_TARGET} s of the start",
        f"{hello.first_200:.2f} s",
        hello.first_200 <= FIRST_200_TARGET,
    )


def _size_targets(sizes: Sequence[Size]) -> Iterator[Target]:
    if len(sizes) > 1:
        slowest, fastest = max(sizes, key=lambda size: size.p99), min(sizes, key=lambda size: size.p99)
        ratio = slowest.p99 / fastest.p99
        yield Target(
            f"GET p99 of {_counts(sizes)} people: within {P99_TARGET} of each other",
            f"{ratio:.2f}",
            ratio <= P99_TARGET,
            f"p50 within {max(s.p50 for s in sizes) / min(s.p50 for s in sizes):.2f}",
        )
    if sizes:
        slow = max(sizes, key=lambda size: size.birthdays)
        yield Target(
            f"First page of /birthdays?days=30 in {BIRTHDAYS_TARGET * 1000:.0f} ms",
            f"{_ms(slow.birthdays)} ms",
            slow.birthdays <= BIRTHDAYS_TARGET,
            f"{slow.people:,} people; slowest of all {_ms(max(size.birthdays_worst for size in sizes))} ms",
        )


def _transfer_targets(sizes: Sequence[Size]) -> Iterator[Target]:
    moved = [size for size in sizes if size.people == IMPORT_OF]
    for transfer in [size.imported for size in moved]:
        yield Target(
            f"Import of {IMPORT_OF:,} people within {IMPORT_TARGET:.0f} s",
            f"{transfer.seconds:.1f} s",
            transfer.seconds <= IMPORT_TARGET,
        )


def _counts(sizes: Sequence[Size]) -> str:
    return " and ".join(f"{size.people:,}" for size in sizes)


def _targets(found: Sequence[Target]) -> str:
    rows = [
        (target.promise, target.measured, "met" if target.met else "NOT MET", target.beside)
        for target in found
    ]
    return table(("target", "measured", "", "beside it"), rows) if rows else ""


def _throughput(servers: Sequence[Server], visits: Visits, plan: Plan) -> str:
    rows = []
    for server in servers:
        found = middle(visits[server.key])
        memory, first = f"{found.resident / MIB:.0f}", f"{found.first_200:.2f}"
        rows.append([server.title, *_sample(found.get), *_sample(found.put), memory, first])
    head = ["server", "GET/s", "p50", "p99", "CPU", "PUT/s", "p50", "p99", "CPU", "MiB", "first 200"]
    return (
        f"\n## Throughput\n\nMedians of {plan.rounds} rounds of {plan.seconds:g} s each, {plan.connections}"
        f" connections, {PEOPLE:,} people; server on core {plan.server_core}, wrk on core {plan.load_core}."
        " p50 and p99 in ms, under full load: they tell of the queue more than of the service. CPU is the"
        " server's processor time in µs per request, its store's included; MiB the resident memory after"
        " the run; first 200 the seconds from the start of the program.\n\n"
    ) + table(head, rows)


def _sample(sample: Sample | None) -> list[str]:
    if sample is None:
        return ["-"] * 4
    return [f"{sample.rate:,.0f}", _ms(sample.p50), _ms(sample.p99), f"{sample.cpu * 1e6:.1f}"]


def _ratios(servers: Sequence[Server], visits: Visits) -> str:
    if "hello" not in visits:
        return ""
    hello, rows = middle(visits["hello"]), []
    for server in servers:
        if server.key != "hello":
            peer = middle(visits[server.key])
            rows.append([server.title, *_ratio(hello.get, peer.get), *_ratio(hello.put, peer.put)])
    head = ("hello against", "GET/s", "by CPU", "PUT/s", "by CPU")
    return (
        "\nhello's requests for each of the peer's, in the same time and in the same processor time.\n\n"
    ) + table(head, rows)


def _ratio(hello: Sample | None, peer: Sample | None) -> list[str]:
    if hello is None or peer is None:
        return ["-", "-"]
    return [f"{hello.rate / peer.rate:.2f}", _cpu_ratio(hello, peer)]


def _sizes(sizes: Sequence[Size]) -> str:
    rows = [
        (
            f"{size.people:,}",
            f"{size.p50 * 1e6:.0f}",
            f"{size.p99 * 1e6:.0f}",
            " ".join(f"{p99 * 1e6:.0f}" for p99 in size.p99s),
            _ms(size.birthdays),
            _ms(size.birthdays_worst),
            f"{size.resident / MIB:.0f}",
            f"{size.database / MIB:,.0f}",
        )
        for size in sizes
    ]
    head = (
        "people",
        "p50 µs",
        "p99 µs",
        "p99 of each round",
        "birthdays ms",
        "slowest ms",
        "MiB",
        "file MiB",
    )
    moved = [(f"import of {size.people:,}", *_transfer(size.imported)) for size in sizes]
    moved += [(f"export of {size.people:,}", *_transfer(size.exported)) for size in sizes if size.exported]
    return (
        "\n## Sizes\n\nGET by one connection, so that a latency is the time of the service; medians of the"
        " rounds, in which the sizes take turns. Birthdays: the first page of `/birthdays?days=30`, median"
        " and slowest of 50.\n\n"
        + table(head, rows)
        + "\n"
        + table(("transfer", "rows/s", "seconds", "highest MiB", "measured on"), moved)
    )


def _transfer(transfer: Transfer) -> tuple[str, str, str, str]:
    rate = f"{transfer.rows / transfer.seconds:,.0f}"
    return rate, f"{transfer.seconds:.1f}", f"{transfer.peak / MIB:.0f}", transfer.date


def _facts(title: str, facts: Mapping[str, str]) -> str:
    return f"\n## {title}\n\n" + "".join(f"- {name}: {fact}\n" for name, fact in facts.items())


def _samples(servers: Sequence[Server], visits: Visits) -> str:
    rows = []
    for server in servers:
        for number, visit in enumerate(visits[server.key], 1):
            memory, first = f"{visit.resident / MIB:.1f}", f"{visit.first_200:.3f}"
            get, put = [*_sample(visit.get), *_shares(visit.get)], [*_sample(visit.put), *_shares(visit.put)]
            rows.append([f"{server.title}, {number}", *get, *put, memory, first])
    runs = ("p50", "p99", "CPU", "wrk", "others")
    head = ["round", "GET/s", *runs, "PUT/s", *runs, "MiB", "first 200"]
    return (
        "\n## Every round\n\nwrk is the share of its core that the load generator used: near 100 %, it is the"
        " limit and not the server. others is the share of the server's core that went to anything else,"
        " other virtual machines included: a round with much of it says little of the server.\n\n"
    ) + table(head, rows)


def _shares(sample: Sample | None) -> list[str]:
    return [f"{sample.load:.0%}", f"{sample.others:.0%}"] if sample else ["-", "-"]


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.2f}"
