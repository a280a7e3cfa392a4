"""hello alone, on stores of different sizes: do a greeting and the next birthdays cost the same?

One connection asks and waits for the answer before it asks again, so that a latency is the time of the
service and not of a queue before it: with more connections, or at a rate near capacity, p99 would
tell how the machine shares its core. The services of all sizes run at once and are asked in turn.
"""

import http.client
import json
import time
from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

from bench.kept import Kept
from bench.load import Names, measure
from bench.people import write_csv, write_dates, write_sample
from bench.processes import BenchError, Running, free_port, run
from bench.servers import exporting, importing, serving
from bench.throughput import Plan, say

SIZES = (1_000, 1_000_000, 10_000_000)
EXPORTED = 1_000_000
ROUNDS = 5  # at least: a p99 of a few seconds is easily one neighbour's doing
BIRTHDAYS = 50


@dataclass(frozen=True)
class Transfer:
    """An import or an export: rows, seconds, the highest resident memory in bytes, and the day."""

    rows: int
    seconds: float
    peak: int
    date: str


@dataclass(frozen=True)
class Size:
    """What a store of `people` showed; latencies in seconds, bytes."""

    people: int
    p50: float
    p99: float
    p99s: Sequence[float]
    birthdays: float
    birthdays_worst: float
    resident: int
    database: int
    imported: Transfer
    exported: Transfer | None


@dataclass
class _Service:
    people: int
    store: str
    stored: int
    imported: Transfer
    running: Running
    port: int
    names: Names


def compare_sizes(kept: Kept, sizes: Sequence[int], plan: Plan, folder: Path, fresh: bool) -> list[Size]:
    """Measure hello on a store of each size. Stores are kept for the next time, and made anew if `fresh`."""
    write_dates(folder / "dates")
    with ExitStack() as stack:
        kept.open(stack, folder, plan.server_core)
        transfers = [_import(kept, people, plan.server_core, fresh) for people in sizes]
        services = [_serve(stack, folder / kept.key, kept, imported, plan) for imported in transfers]
        latencies = _latencies(services, plan)
        birthdays = _birthdays(services)
        return [
            Size(
                people=service.people,
                p50=median(p50 for p50, _ in latencies[service.people]),
                p99=median(p99 for _, p99 in latencies[service.people]),
                p99s=[p99 for _, p99 in latencies[service.people]],
                birthdays=median(birthdays[service.people]),
                birthdays_worst=max(birthdays[service.people]),
                resident=service.running.resident(),
                database=service.stored,
                imported=service.imported,
                exported=_export(service, folder, plan.server_core),
            )
            for service in services
        ]


def _import(kept: Kept, people: int, core: int, fresh: bool) -> Transfer:
    record = kept.folder / f"{kept.name(people)}.json"
    if record.exists() and not fresh:
        return Transfer(**json.loads(record.read_text()))
    say(f"{kept.title}: import {people:,} people")
    url = kept.make(people, core)
    csv = kept.folder / f"{people}.csv"
    write_csv(csv, people)
    seconds, peak = run(importing(csv, url), kept.folder, core)
    csv.unlink()
    kept.settle(people)
    transfer = Transfer(people, seconds, peak, f"{datetime.now(UTC):%Y-%m-%d}")
    record.write_text(json.dumps(asdict(transfer)))  # last: a store without it is not whole
    return transfer


def _export(service: _Service, folder: Path, core: int) -> Transfer | None:
    if service.people != EXPORTED:
        return None
    csv = folder / "exported.csv"
    seconds, peak = run(exporting(service.store, csv), folder, core)
    with csv.open("rb") as lines:
        rows = sum(1 for _ in lines) - 1
    csv.unlink()
    if rows != service.people:
        raise BenchError(f"The export has {rows} rows of {service.people}.")
    return Transfer(rows, seconds, peak, f"{datetime.now(UTC):%Y-%m-%d}")


def _serve(stack: ExitStack, folder: Path, kept: Kept, imported: Transfer, plan: Plan) -> _Service:
    people = imported.rows
    own = folder / str(people)
    own.mkdir(parents=True)
    names = Names(own / "names", folder.parent / "dates")
    write_sample(names.names, people)
    files = kept.files(people)
    for file in files:
        _read_through(file)
    port, url = free_port(), kept.url(people)
    running = stack.enter_context(Running([serving(url, port)], own, plan.server_core))
    running.first_200(port, "/ready")
    stored = sum(file.stat().st_size for file in files)
    return _Service(people, url, stored, imported, running, port, names)


def _read_through(path: Path) -> None:
    """Bring a file into the page cache: the sizes are compared, not the disk with the memory."""
    with path.open("rb", buffering=0) as file:
        while file.read(1 << 20):
            pass


def _latencies(services: Sequence[_Service], plan: Plan) -> dict[int, list[tuple[float, float]]]:
    latencies: dict[int, list[tuple[float, float]]] = {service.people: [] for service in services}
    rounds = max(ROUNDS, plan.rounds) if plan.rounds > 1 else 1
    for number in range(rounds + 1):
        for service in services:
            sample = measure(
                service.running,
                service.port,
                "GET",
                service.names,
                headers={},
                connections=1,
                seconds=max(1, plan.seconds / 3),
                core=plan.load_core,
            )
            if number:  # the first one warms up
                latencies[service.people].append((sample.p50, sample.p99))
        say(f"sizes: round {number} of {rounds}")
    return latencies


def _birthdays(services: Sequence[_Service]) -> dict[int, list[float]]:
    """Return what the first page took, BIRTHDAYS times for each size."""
    times: dict[int, list[float]] = {service.people: [] for service in services}
    with ExitStack() as stack:
        connections = {
            service.people: stack.enter_context(
                closing(http.client.HTTPConnection("127.0.0.1", service.port, timeout=10))
            )
            for service in services
        }
        for _ in range(BIRTHDAYS):
            for people, connection in connections.items():
                times[people].append(_first_page(connection))
    return times


def _first_page(connection: http.client.HTTPConnection) -> float:
    started = time.perf_counter()
    connection.request("GET", "/birthdays?days=30")
    answer = connection.getresponse()
    content = answer.read()
    seconds = time.perf_counter() - started
    if answer.status != 200 or not json.loads(content)["birthdays"]:
        raise BenchError(f"/birthdays: {answer.status} {content[:200]!r}")
    return seconds
