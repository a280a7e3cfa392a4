"""Registration: the record in a real etcd, for as long as the instance is there and no longer."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.conftest import Serve
from tests.support.dynamodb import CREDENTIALS
from tests.support.environment import until
from tests.support.etcd import LEASE_SECONDS, Cluster, Link, answering, id_of, metric, warnings
from tests.support.service import Service, messages, workers

Register = Callable[..., Service]


@pytest.fixture
def register(serve: Serve, etcd: Cluster, prefix: str, tmp_path: Path) -> Register:
    """Start services that register under the test's own prefix, through all members or those of `urls`."""
    numbers = count(1)

    def start(*options: str, urls: str = "", **more: Any) -> Service:
        folder = tmp_path / str(next(numbers))
        folder.mkdir()
        return serve("--etcd", urls or etcd.urls, "--etcd-prefix", prefix, *options, folder=folder, **more)

    return start


# The record


def test_the_record_is_what_coredns_reads(register: Register, etcd: Cluster, prefix: str) -> None:
    """Host, port and a time to live, and what hello adds, under a name of one label and a lease of 15 s."""
    service = register("--commit", "c0ffee")
    until(lambda: etcd.get(prefix), "the record")
    record = etcd.get(prefix)[id_of(service)]
    lease = record.pop("lease")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", record.pop("since"))
    version = service.get("/version").json()["version"]
    assert record == {
        "host": "127.0.0.1", "port": service.port, "ttl": 5,
        "scheme": "http", "version": version, "commit": "c0ffee",
    }  # fmt: skip
    told = json.loads(etcd.ctl("lease", "timetolive", f"{lease:x}", "-w", "json"))
    assert told["granted-ttl"] == LEASE_SECONDS
    assert metric(service, "hello_discovery_registered") == 1


def test_the_address_to_register(register: Register, etcd: Cluster, prefix: str) -> None:
    """It is the one given; else what is listened on or, where that is all, what the way to etcd begins at."""
    given, everywhere = register("--advertise", "192.0.2.7"), register("--host", "0.0.0.0", "--open")
    until(lambda: len(etcd.get(prefix)) == 2, "the records")
    there = {name: (record["host"], record["port"]) for name, record in etcd.get(prefix).items()}
    assert there == {
        f"192-0-2-7-{given.port}": ("192.0.2.7", given.port),
        f"127-0-0-1-{everywhere.port}": ("127.0.0.1", everywhere.port),
    }


def test_it_registers_once_it_is_ready(register: Register, etcd: Cluster, prefix: str) -> None:
    """While /ready is 503 there is no record."""
    with answering(b"{}") as store:  # what DynamoDB answers if an item is missing: it is available
        link = Link(urlsplit(store).port or 0)
        link.cut()
        options = ("--store", "dynamodb://us-east-1/people", "--store-timeout", "0.3")
        service = register(*options, environment={**CREDENTIALS, "AWS_ENDPOINT_URL": link.url})
        looks = 'hello_store_operations_total{operation="ping",outcome="error"}'
        until(lambda: looks in service.get("/metrics").body.decode(), "a first look at the store")
        until(lambda: metric(service, re.escape(looks)) > 3, "more looks at the store")
        assert service.get("/ready").status == 503
        assert etcd.get(prefix) == {}
        link.mend()
        until(lambda: etcd.get(prefix), "the record")
        assert service.get("/ready").status == 200
        link.close()


# Its lease


def test_a_record_lasts_as_long_as_its_instance_can_be_heard(
    register: Register, etcd: Cluster, prefix: str
) -> None:
    """It outlives its lease by far, and of one that was killed or cut off it goes with the lease.

    One that is cut off serves on, says so once, and is registered again when the way is free.
    """
    link = Link(etcd.members[0].port)
    alive, killed, cut = register(), register(), register(urls=link.url)
    until(lambda: len(etcd.get(prefix)) == 3, "three records")
    killed.signal(signal.SIGKILL)
    link.cut()
    start = time.monotonic()
    what_is_lost_in_etcd_comes_back(alive, etcd, prefix)
    until(lambda: id_of(killed) not in etcd.get(prefix), "the record of the killed one to go")
    until(lambda: id_of(cut) not in etcd.get(prefix), "the record of the one that is cut off to go")
    assert time.monotonic() - start > LEASE_SECONDS * 2 / 3 - 1, "the lease was younger than that"
    assert id_of(alive) in etcd.get(prefix)
    assert metric(alive, "hello_discovery_registered") == 1
    assert metric(alive, "hello_discovery_failures_total") == 0
    assert cut.put("Zoe", "1990-04-23").status == 204
    assert metric(cut, "hello_discovery_registered") == 0
    assert metric(cut, "hello_discovery_failures_total") > 1
    assert len(warnings(cut)) == 1
    link.mend()
    until(lambda: id_of(cut) in etcd.get(prefix), "the record to be back")
    until(lambda: metric(cut, "hello_discovery_registered") == 1, "the metric")
    assert messages(cut).count("registered") == 2
    assert cut.stop() == 0
    link.close()


def what_is_lost_in_etcd_comes_back(service: Service, etcd: Cluster, prefix: str) -> None:
    """A lease that others revoked, and then a record that was deleted: there again at the next keepalive."""
    lease = etcd.get(prefix)[id_of(service)]["lease"]
    etcd.ctl("lease", "revoke", f"{lease:x}")
    assert id_of(service) not in etcd.get(prefix)
    until(lambda: id_of(service) in etcd.get(prefix), "the record to be back")
    again = etcd.get(prefix)[id_of(service)]["lease"]
    assert again != lease
    assert warnings(service) == ["the lease was lost: registering anew"]
    etcd.ctl("del", f"{prefix}/{id_of(service)}")
    until(lambda: id_of(service) in etcd.get(prefix), "the record to be back")
    assert etcd.get(prefix)[id_of(service)]["lease"] == again
    assert len(warnings(service)) == 1


def test_what_is_no_answer_of_etcd_is_no_harm(serve: Serve) -> None:
    """Another server at its address is a failure as others are: one warning, and tries."""
    with answering(b"{}") as url:
        service = serve("--etcd", url)
        until(lambda: metric(service, "hello_discovery_failures_total") > 1, "a second try")
        assert len(warnings(service)) == 1
        assert service.get("/ready").status == 200
        assert service.stop() == 0


# Stopping


def test_a_stop_revokes_first(register: Register, etcd: Cluster, prefix: str) -> None:
    """The record is gone before the service is unhealthy, and it goes on meanwhile."""
    service = register("--drain-seconds", "2")
    until(lambda: etcd.get(prefix), "the record")
    service.signal(signal.SIGTERM)
    until(lambda: "draining" in messages(service), "the drain")
    assert etcd.get(prefix) == {}
    assert service.get("/hc").status == 503
    assert service.get("/hello/Zoe").status == 404
    assert service.process.wait(30) == 0
    told = [message for message in messages(service) if message in {"no longer registered", "draining"}]
    assert told == ["no longer registered", "draining"]


def test_workers_have_one_record(register: Register, etcd: Cluster, prefix: str) -> None:
    """One of them registers. When it is killed, another one takes the record over, and it was never gone.

    At a stop the record is gone before the first of them is unhealthy.
    """
    service = register("--workers", "3")
    until(lambda: len(workers(service)) == 3, "all workers")
    until(lambda: etcd.get(prefix), "the record")
    ((name, record),) = etcd.get(prefix).items()
    assert messages(service).count("registered") == 1
    locks = re.findall(r"POSIX +ADVISORY +WRITE (\d+) ", Path("/proc/locks").read_text())
    (holder,) = set(map(int, locks)) & set(workers(service))
    os.kill(holder, signal.SIGKILL)
    until(lambda: messages(service).count("registered") == 2, "another worker")
    ((again, taken),) = etcd.get(prefix).items()
    assert again == name
    assert taken["lease"] != record["lease"]
    until(lambda: len(workers(service)) == 4, "the dead one to be replaced")
    assert service.stop() == 0
    assert etcd.get(prefix) == {}
    told = [message for message in messages(service) if message in {"no longer registered", "draining"}]
    assert told == ["no longer registered", *["draining"] * 3]


@pytest.mark.parametrize(("answers", "number"), [("nobody", signal.SIGINT), ("silence", signal.SIGTERM)])
def test_etcd_that_is_down_holds_up_neither_start_nor_stop(
    answers: str, number: signal.Signals, serve: Serve
) -> None:
    """It serves, warns once, and ends in order, whether connections are refused or nothing ever answers."""
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        if answers == "nobody":
            listener.close()
        service = serve("--etcd", url)
        assert service.put("Zoe", "1990-04-23").status == 204
        if answers == "nobody":
            until(lambda: metric(service, "hello_discovery_failures_total") > 1, "a second try")
            assert len(warnings(service)) == 1
        service.signal(number)
        assert service.process.wait(30) == 0
        assert messages(service)[-1] == "stopped"


@pytest.mark.parametrize(("others", "asked"), [(0, b"/lease/grant"), (0, b"/kv/txn"), (1, b"/kv/txn")])
def test_a_stop_in_the_middle_of_registration(
    others: int, asked: bytes, register: Register, etcd: Cluster, prefix: str
) -> None:
    """What a member has got of it is revoked through another one, or ends with its lease."""
    link = Link(etcd.members[0].port, cut_at=asked)
    service = register(urls=",".join([link.url, *(member.url for member in etcd.members[1 : others + 1])]))
    until(lambda: link.is_cut or etcd.get(prefix), "the request")
    service.signal(signal.SIGTERM)
    assert service.process.wait(30) == 0
    records = etcd.get(prefix).values()
    assert all(record["lease"] for record in records)
    assert not (records and others)
    link.close()


def test_a_second_signal_ends_it_while_etcd_is_waited_for(
    register: Register, etcd: Cluster, prefix: str
) -> None:
    """The record then ends with its lease."""
    link = Link(etcd.members[0].port)
    service = register(urls=link.url)
    until(lambda: etcd.get(prefix), "the record")
    link.cut()
    service.signal(signal.SIGTERM)
    time.sleep(0.3)
    assert service.process.poll() is None
    service.signal(signal.SIGTERM)
    assert service.process.wait(30) == 128 + signal.SIGTERM
    assert "draining" not in messages(service)
    ((_, record),) = etcd.get(prefix).items()
    assert record["lease"]
    link.close()


# Without it


def test_nothing_of_it_is_loaded_without_etcd(serve: Serve) -> None:
    """Neither the commands nor a service load the client of etcd, nor the HTTP client that it needs."""
    script = "import hello.cli, sys; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    ).stdout.split()
    assert "hello.discover_command" in loaded
    assert not {"aiohttp", "hello.etcd", "hello.discovery", "hello.discover"} & set(loaded)
    with_etcd, without = serve("--etcd", "http://127.0.0.1:1"), serve()
    assert "/aiohttp/" in Path(f"/proc/{with_etcd.process.pid}/maps").read_text()
    assert "/aiohttp/" not in Path(f"/proc/{without.process.pid}/maps").read_text()
    assert "hello_discovery" not in without.get("/metrics").body.decode()
