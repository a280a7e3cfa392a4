"""What was measured, as Markdown: targets first, then the tables, then every sample."""

from collections.abc import Mapping, Sequence
from statistics import median

from bench.dynamodb import TITLES
from bench.found import Found, Visits
from bench.load import Sample
from bench.markdown import table
from bench.servers import SERVERS, Server
from bench.sizes import Size, Transfer
from bench.targets import MIB, Target, cpu_ratio, middle, targets
from bench.throughput import PEOPLE, Plan

ENGINES = {"sqlite": "SQLite", "postgresql": "PostgreSQL"}


def report(
    day: str, found: Found, plan: Plan, machine: Mapping[str, str], versions: Mapping[str, str]
) -> str:
    """Return the whole report."""
    chosen = [server for server in SERVERS if server.key in found.visits]
    parts = [f"# Bench of {day}\n", _targets(targets(found))]
    for store in dict.fromkeys(server.store for server in chosen):
        servers = [server for server in chosen if server.store == store]
        parts += [_throughput(servers, found.visits, plan), _ratios(servers, found.visits)]
    parts += [_sizes(store, sizes) for store, sizes in found.sizes.items()]
    if found.clients:
        parts.append(_clients(found.clients, plan))
    parts += [_facts("Machine", machine), _facts("Versions", versions)]
    if chosen:
        parts.append(_samples(chosen, found.visits))
    return "\n".join(parts)


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
        f"\n## Throughput with {ENGINES[servers[0].store]}\n\n"
        f"Medians of {plan.rounds} rounds of {plan.seconds:g} s each, {plan.connections}"
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
    first, *peers = servers
    if not first.key.startswith("hello"):
        return ""
    hello, rows = middle(visits[first.key]), []
    for server in peers:
        peer = middle(visits[server.key])
        rows.append([server.title, *_ratio(hello.get, peer.get), *_ratio(hello.put, peer.put)])
    head = ("hello against", "GET/s", "by CPU", "PUT/s", "by CPU")
    return (
        "\nhello's requests for each of the peer's, in the same time and in the same processor time.\n\n"
    ) + table(head, rows)


def _ratio(hello: Sample | None, peer: Sample | None) -> list[str]:
    if hello is None or peer is None:
        return ["-", "-"]
    return [f"{hello.rate / peer.rate:.2f}", cpu_ratio(hello, peer)]


def _sizes(store: str, sizes: Sequence[Size]) -> str:
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
        "store MiB",
    )
    moved = [(f"import of {size.people:,}", *_transfer(size.imported)) for size in sizes]
    moved += [(f"export of {size.people:,}", *_transfer(size.exported)) for size in sizes if size.exported]
    return (
        f"\n## Sizes in {store}\n\n"
        "GET by one connection, so that a latency is the time of the service; medians of the"
        " rounds, in which the sizes take turns. Birthdays: the first page of `/birthdays?days=30`, median"
        " and slowest of 50.\n\n"
        + table(head, rows)
        + "\n"
        + table(("transfer", "rows/s", "seconds", "highest MiB", "measured on"), moved)
    )


def _transfer(transfer: Transfer) -> tuple[str, str, str, str]:
    rate = f"{transfer.rows / transfer.seconds:,.0f}"
    return rate, f"{transfer.seconds:.1f}", f"{transfer.peak / MIB:.0f}", transfer.date


def _clients(clients: Mapping[str, Sequence[float]], plan: Plan) -> str:
    peer = median(clients["aiobotocore"])
    rows = [
        (
            TITLES[key],
            f"{median(cpus) * 1e6:.1f}",
            f"{median(cpus) / peer:.2f}",
            " ".join(f"{cpu * 1e6:.1f}" for cpu in cpus),
        )
        for key, cpus in clients.items()
    ]
    return (
        "\n## Clients of DynamoDB\n\n"
        "Processor time in µs for each person that was read, in the client's process alone; medians of"
        f" {plan.rounds} rounds of {plan.seconds:g} s, in which the clients take turns, with ten connections"
        " to one stub that answers what DynamoDB would.\n\n"
    ) + table(("client", "CPU", "of aiobotocore's", "CPU of each round"), rows)


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
