"""The comparison: each server on one core, the load on the other, all in turn, several times."""

import http.client
import json
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from bench.load import Names, Sample, measure
from bench.people import born, greeting, username, write_csv, write_dates, write_sample
from bench.processes import BenchError, Running, free_port
from bench.servers import Server

PEOPLE = 100_000


@dataclass(frozen=True)
class Plan:
    """How long, how often and where to measure."""

    rounds: int
    seconds: float
    warm: float
    connections: int
    server_core: int
    load_core: int


@dataclass(frozen=True)
class Visit:
    """What one round showed of one server; seconds and bytes."""

    get: Sample
    put: Sample | None
    first_200: float
    resident: int
    peak: int


def compare(servers: Sequence[Server], plan: Plan, folder: Path) -> dict[str, list[Visit]]:
    """Measure all servers in turn, `plan.rounds` times; `folder` takes their stores."""
    csv = folder / "people.csv"
    names = Names(folder / "names", folder / "dates")
    write_csv(csv, PEOPLE)
    write_sample(names.names, PEOPLE)
    write_dates(names.dates)
    for server in servers:
        say(f"{server.title}: fill the store with {PEOPLE:,} people")
        full = folder / f"{server.key}.full"
        full.mkdir()
        server.fill(full, csv, PEOPLE, plan.server_core)
    visits: dict[str, list[Visit]] = {server.key: [] for server in servers}
    for number in range(1, plan.rounds + 1):
        for server in servers:
            visit = _visit(server, plan, folder, names)
            visits[server.key].append(visit)
            say(f"round {number}: {server.title}: {_line(visit)}")
    return visits


def say(text: str) -> None:
    """Tell the terminal what goes on; the report alone goes to standard output."""
    print(text, file=sys.stderr, flush=True)


def _visit(server: Server, plan: Plan, folder: Path, names: Names) -> Visit:
    """Start a server on a fresh copy of its filled store, measure it, stop it."""
    store = folder / server.key
    shutil.copytree(folder / f"{server.key}.full", store, ignore=shutil.ignore_patterns("*.sock"))
    os.sync()  # the copy must not be written back during the run
    try:
        return _measured(server, plan, store, names)
    finally:
        shutil.rmtree(store)


def _measured(server: Server, plan: Plan, store: Path, names: Names) -> Visit:
    port = free_port()
    with Running(server.commands(store, port), store, plan.server_core) as running:
        first_200 = running.first_200(port, server.ready or f"/hello/{username(0)}")
        if server.puts:
            _check(server, port, server.headers(store))

        def load(method: str, seconds: float) -> Sample:
            return measure(
                running,
                port,
                "PUT" if method == "PUT" else "GET",
                names,
                headers=server.headers(store),
                connections=plan.connections,
                seconds=seconds,
                core=plan.load_core,
            )

        load("GET", plan.warm)
        get = load("GET", plan.seconds)
        put = None
        if server.puts:
            load("PUT", plan.warm)
            put = load("PUT", plan.seconds)
        return Visit(get, put, first_200, running.resident(), running.peak())


def _check(server: Server, port: int, headers: Mapping[str, str]) -> None:
    """Make sure that a server does the work that is compared: stores, validates, counts days, greets."""
    name, newcomer, today = username(0), username(PEOPLE), datetime.now(UTC).date()
    leapling = "2000-02-29"
    steps = (
        ("GET", name, None, {200}, greeting(name, born(0), today)),
        ("GET", newcomer, None, {404}, None),
        ("PUT", newcomer, leapling, {204}, None),
        ("GET", newcomer, None, {200}, greeting(newcomer, leapling, today)),
        ("PUT", newcomer, str(today), {400, 422}, None),
        ("PUT", newcomer, "2001-02-29", {400, 422}, None),
        ("PUT", "R2D2", leapling, {400, 422}, None),
    )
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    for method, who, birth, statuses, message in steps:
        body = json.dumps({"dateOfBirth": birth}) if birth else None
        connection.request(method, f"/hello/{who}", body, {"Content-Type": "application/json", **headers})
        answer = connection.getresponse()
        content = answer.read()
        if answer.status not in statuses or (message and json.loads(content) != {"message": message}):
            raise BenchError(f"{server.title}: {method} {who} {birth}: {answer.status} {content!r}")
    connection.close()


def _line(visit: Visit) -> str:
    put = f", PUT {visit.put.rate:,.0f}/s" if visit.put else ""
    return f"GET {visit.get.rate:,.0f}/s{put}, first 200 after {visit.first_200:.2f} s"
