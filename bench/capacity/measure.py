"""One process of hello in front of a DynamoDB that takes a known time: what a request costs, at which load.

`python -m bench.capacity.measure [PART …]` writes `measured.json`, from which the simulation takes its
figures. The load comes from wrk, whose 256 connections pause at random, in whole milliseconds; and at low
rates from `open_loop.py`, request by request. The stub and the load have the other core. On a machine that
has other work, `nice -n -15` before the command keeps that out of the latencies. It needs wrk and etcd.
"""

import http.client
import json
import sys
import tempfile
import time
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

from bench.capacity.curve import CONNECTIONS, STUB_SECONDS
from bench.load import Names, Sample, measure, wrk
from bench.machine import describe
from bench.people import write_csv, write_dates, write_sample
from bench.processes import BenchError, Command, Running, free_port, interruptible, run
from bench.servers import HELLO, ROOT, importing, serving

MEASURED = Path(__file__).with_name("measured.json")
LOAD_CORE, SERVER_CORE = 0, 1
RATES = (250, 500, 1_000, 2_000, 3_000, 4_000, 6_000, 8_000, 12_000, 16_000)  # requests/s asked for
ONE_BY_ONE = (500, 1_000, 2_000, 3_000, 4_000)  # as many as the load's core can send so, beside the stub
CROWDS = (256, 500, 1_000, 2_000)  # connections
ROUNDS, SECONDS = 3, 3.0
FEED_PEOPLE = 1_000


def main(parts: Sequence[str]) -> None:
    """Measure the parts that are named, or all; write them beside what is known of the others."""
    found = json.loads(MEASURED.read_text()) if MEASURED.exists() else {}
    with tempfile.TemporaryDirectory() as path, interruptible():
        folder = Path(path)
        names = Names(folder / "names", folder / "dates")
        write_sample(names.names, 100_000)
        write_dates(names.dates)
        for part in parts or PARTS:
            found[part] = PARTS[part](folder, names)
        found |= {"day": f"{datetime.now(UTC):%Y-%m-%d}", "machine": describe(folder)}
    MEASURED.write_text(json.dumps(found, indent=1) + "\n")


def _rates(folder: Path, names: Names) -> list[dict[str, float]]:
    """Return the medians of the rounds for each rate of requests."""
    rounds: dict[int, list[Sample]] = {rate: [] for rate in RATES}
    with _on_dynamodb(folder) as (server, port):
        for number in range(ROUNDS):
            for rate in RATES:
                sample = measure(
                    server,
                    port,
                    "GET",
                    names,
                    headers={},
                    connections=CONNECTIONS,
                    seconds=SECONDS,
                    core=LOAD_CORE,
                    think=CONNECTIONS / rate - STUB_SECONDS,
                )
                rounds[rate].append(sample)
                print(f"round {number + 1}: {rate}/s: {sample}", flush=True)
    return [{"asked": rate, **_middle(samples)} for rate, samples in rounds.items()]


def _one_by_one(folder: Path, names: Names) -> list[dict[str, float]]:
    found = []
    with _on_dynamodb(folder) as (server, port):
        for rate in ONE_BY_ONE:
            used = server.cpu_seconds()
            script = Path(__file__).with_name("open_loop.py")
            arguments: list[str | Path] = [
                HELLO / "python",
                script,
                str(port),
                str(rate),
                str(SECONDS),
                names.names,
            ]
            run(Command(arguments), folder, LOAD_CORE)
            seen = json.loads((folder / "run.log").read_text())
            cpu = (server.cpu_seconds() - used) / (seen["rate"] * SECONDS)
            found.append({"asked": rate, **{key: float(f"{value:.4g}") for key, value in seen.items()}})
            found[-1]["cpu"] = float(f"{cpu:.4g}")
            print(found[-1], flush=True)
    return found


def _registration(folder: Path, names: Names) -> float:
    """Return the processor time of etcd, one member, for what keeps an instance there: a keepalive, and a
    transaction that looks at its record, over the JSON gateway."""
    port, peer, own = free_port(), free_port(), folder / "etcd"
    own.mkdir()
    url, at = f"http://127.0.0.1:{port}", f"http://127.0.0.1:{peer}"
    options = ("--data-dir", own / "data", "--listen-client-urls", url, "--advertise-client-urls", url)
    peers = ("--listen-peer-urls", at, "--initial-advertise-peer-urls", at)
    name = ("--initial-cluster", f"default={at}")
    with Running([Command(["etcd", *options, *peers, *name])], own, SERVER_CORE) as server:
        server.first_200(port, "/health")
        connection = http.client.HTTPConnection("127.0.0.1", port)

        def post(path: str, body: Mapping[str, Any]) -> Any:
            connection.request("POST", path, json.dumps(body))
            return json.loads(connection.getresponse().read())

        lease = {"ID": post("/v3/lease/grant", {"TTL": "15"})["ID"]}
        key = b64encode(b"/skydns/local/hello/10-0-0-5-5000").decode()
        put = {"request_put": {"key": key, "value": b64encode(bytes(150)).decode(), "lease": lease["ID"]}}
        ours = {"key": key, "target": "LEASE", "result": "EQUAL", "lease": lease["ID"]}
        kept, used, end = 0, server.cpu_seconds(), time.monotonic() + SECONDS
        while time.monotonic() < end:
            if post("/v3/lease/keepalive", lease)["result"].get("TTL") != "15":
                raise BenchError("etcd lost the lease.")
            there = post("/v3/kv/txn", {"compare": [ours], "failure": [put]}).get("succeeded", False)
            if there != bool(kept):  # the first one puts it there
                raise BenchError("etcd lost the record.")
            kept += 1
        return float(f"{(server.cpu_seconds() - used) / kept:.4g}")


def _middle(samples: list[Sample]) -> dict[str, float]:
    rows = [asdict(sample) for sample in samples]
    return {key: float(f"{median(row[key] for row in rows):.4g}") for key in rows[0]}


def _crowds(folder: Path, names: Names) -> list[dict[str, int]]:
    """Return what is answered and refused a second, of connections that ask again at once."""
    found = []
    with _on_dynamodb(folder) as (_, port):
        for connections in CROWDS:
            result = wrk(port, "GET", names, {}, connections, SECONDS, LOAD_CORE)
            seconds, refused = result["microseconds"] / 1e6, result["status"]
            answered = (result["requests"] - refused) / seconds
            found.append(
                {"connections": connections, "answered": round(answered), "refused": round(refused / seconds)}
            )
            print(found[-1], flush=True)
    return found


def _refusal(folder: Path, names: Names) -> float:
    """Return the processor time of a 503: of a service that works on one request at a time, and has many."""
    with _on_dynamodb(folder, "--max-in-flight", "1") as (server, port):
        used = server.cpu_seconds()
        result = wrk(port, "GET", names, {}, CONNECTIONS, SECONDS, LOAD_CORE)
        used = server.cpu_seconds() - used
    if result["status"] < 0.95 * result["requests"]:
        raise BenchError(f"Too few were refused: {result}.")
    return float(f"{used / result['requests']:.4g}")


def _feed(folder: Path, names: Names) -> float:
    """Return the processor time of a calendar feed, from SQLite."""
    csv, port, own = folder / "people.csv", free_port(), folder / "feed"
    own.mkdir()
    write_csv(csv, FEED_PEOPLE)
    store = f"sqlite:///{own / 'people.db'}"
    run(importing(csv, store), own, SERVER_CORE)
    with Running([serving(store, port)], own, SERVER_CORE) as server:
        server.first_200(port, "/ready")
        connection = http.client.HTTPConnection("127.0.0.1", port)
        feeds, used, end = 0, server.cpu_seconds(), time.monotonic() + SECONDS
        while time.monotonic() < end:
            connection.request("GET", "/birthdays.ics")
            if connection.getresponse().read().count(b"BEGIN:VEVENT") != FEED_PEOPLE:
                raise BenchError("The feed is not whole.")
            feeds += 1
        return float(f"{(server.cpu_seconds() - used) / feeds:.4g}")


@contextmanager
def _on_dynamodb(folder: Path, *options: str) -> Iterator[tuple[Running, int]]:
    """Run hello on the stub of DynamoDB; both end with the block."""
    stub_port, port = free_port(), free_port()
    environment = {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{stub_port}",
        "AWS_ACCESS_KEY_ID": "bench",
        "AWS_SECRET_ACCESS_KEY": "bench",
    }
    own = folder / f"hello-{port}"
    (own / "stub").mkdir(parents=True)
    stub = Command([HELLO / "python", ROOT / "bench" / "dynamodb_stub.py", str(stub_port), str(STUB_SECONDS)])
    arguments = serving("dynamodb://us-east-1/people", port).arguments
    hello = Command([*arguments, *options], environment)
    with Running([stub], own / "stub", LOAD_CORE), Running([hello], own, SERVER_CORE) as server:
        server.first_200(port, "/ready")
        yield server, port


PARTS: dict[str, Callable[[Path, Names], Any]] = {
    "rates": _rates,
    "one_by_one": _one_by_one,
    "crowds": _crowds,
    "refusal_cpu": _refusal,
    "feed_cpu": _feed,
    "etcd_registration_cpu": _registration,
}

if __name__ == "__main__":
    main(sys.argv[1:])
