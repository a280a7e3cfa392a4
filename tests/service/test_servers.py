"""Servers of one's own: the very files of `deploy/`, on machines that are restarted and cut off."""

import subprocess
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import pytest

from tests.support.environment import until
from tests.support.haproxy import Load
from tests.support.postgresql import Cluster
from tests.support.servers import Site, one_machine, three_machines
from tests.support.service import request

BODY = b'{"dateOfBirth":"1990-04-23"}'
MOVED_SECONDS = 2.2  # by keepalived's: three and a half times `advert_int`, and what it takes to see the loss
LATE_SECONDS = 3.0  # what a busy machine may add


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """One machine, with Zoe in its file."""
    with one_machine(tmp_path_factory.mktemp("one")) as site:
        assert site.ask("PUT", "/hello/Zoe", BODY).status == 204
        yield site


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Site, Cluster]]:
    """Three machines, with Zoe in the database on the first of them."""
    with three_machines(tmp_path_factory.mktemp("three")) as (site, cluster):
        assert site.ask("PUT", "/hello/Zoe", BODY).status == 204
        yield site, cluster


@pytest.fixture
def three(both: tuple[Site, Cluster]) -> Site:
    """Three machines, the first of them without the address, which is where the database is."""
    site, _ = both
    first = site.machines[0]
    if first.floats():
        site.plug(first, inserted=False)
        until(lambda: any(machine.floats() for machine in site.machines[1:]), "the address to move")
        site.plug(first, inserted=True)
        until(lambda: not first.floats(), "the first machine to see another one with the address")
    until(lambda: all(site.answers(machine) for machine in site.machines), "the database to be back")
    return site


def more(load: Load, count: int) -> None:
    """Wait for so many more answers."""
    wanted = len(load.seconds) + count
    until(lambda: len(load.seconds) >= wanted, "more answers")


@pytest.mark.parametrize("kind", ["one", "three"])
def test_haproxy_has_no_objection(kind: str, one: Site, both: tuple[Site, Cluster]) -> None:
    """Neither an error nor a warning."""
    (machine, *_) = one.machines if kind == "one" else both[0].machines
    command = ["haproxy", "-c", "-f", str(machine.folder / "haproxy.cfg")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, "Configuration file is valid\n")


def test_what_is_not_https_is_sent_there(one: Site) -> None:
    """And answers to HTTPS tell to stay with it, for hello believes HAProxy that they are."""
    with one.switch.callers.entered():
        answer = request(f"http://{one.public}", "GET", "/hello/Zoe?tz=UTC")
    assert (answer.status, answer.headers["Location"]) == (308, f"https://{one.public}/hello/Zoe?tz=UTC")
    assert one.ask("GET", "/hello/Zoe").headers["Strict-Transport-Security"]


def test_certbot_is_asked_by_http(one: Site) -> None:
    """Let's Encrypt's question reaches the server that certbot starts for it."""

    class Certbot(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(self.path.encode())

    with one.machines[0].network.entered():
        server = HTTPServer(("127.0.0.1", 8080), Certbot)
    Thread(target=server.handle_request, daemon=True).start()
    with one.switch.callers.entered():
        answer = request(f"http://{one.public}", "GET", "/.well-known/acme-challenge/token")
    server.server_close()
    assert (answer.status, answer.body) == (200, b"/.well-known/acme-challenge/token")


def test_restarting_one_machine_costs_no_request(one: Site) -> None:
    """HAProxy holds back what comes meanwhile."""
    with one.load() as load:
        for _ in range(2):
            one.machines[0].restart()
            more(load, 100)
    print(f"one, restarted twice: {load}")
    assert load.failures == []


def test_a_rolling_restart_costs_no_request(three: Site) -> None:
    """Each of three is restarted, one after the other."""
    with three.load() as load:
        for machine in three.machines:
            machine.restart()
            until(lambda one=machine: three.answers(one), "it to answer again")  # type: ignore[misc]
    print(f"three, restarted: {load}")
    assert load.failures == []


def test_a_machine_that_is_lost_costs_no_request(three: Site) -> None:
    """What it had taken is sent again, to another one, after `timeout server`."""
    lost = next(machine for machine in three.machines[1:] if not machine.floats())
    with three.load() as load:
        three.plug(lost, inserted=False)
        more(load, 800)
    three.plug(lost, inserted=True)
    print(f"one of three lost: {load}")
    assert load.failures == []


def test_the_address_moves(three: Site) -> None:
    """Where the machine that has it is lost, another one has it soon, and all is answered from then on."""
    holder = next(machine for machine in three.machines if machine.floats())
    with three.load(timeout=5) as meanwhile:
        start = time.monotonic()
        three.plug(holder, inserted=False)
        others = [machine for machine in three.machines if machine is not holder]
        until(lambda: any(machine.floats() for machine in others), "another one to have the address")
        moved = time.monotonic() - start
        until(three.answers, "the address to answer")
        more(meanwhile, 400)
    with three.load() as load:
        more(load, 400)
    three.plug(holder, inserted=True)
    until(lambda: not holder.floats(), "the one that is back to leave the address where it is")
    print(f"the address moved after {moved:.2f} s; meanwhile {meanwhile}; then {load}")
    assert load.failures == []
    assert moved < MOVED_SECONDS + LATE_SECONDS


def test_the_address_leaves_a_machine_without_haproxy(three: Site) -> None:
    """keepalived gives it away where nothing listens."""
    holder = next(machine for machine in three.machines if machine.floats())
    start = time.monotonic()
    holder.stop_balancing()
    until(lambda: not holder.floats() and three.answers(), "another one to have the address")
    print(f"the address left after {time.monotonic() - start:.2f} s")
    holder.balance()


def test_without_its_database_it_says_so(three: Site) -> None:
    """The machine of the database is lost: 503 for what needs it, and once it is back all is as it was."""
    first = three.machines[0]
    three.plug(first, inserted=False)
    until(lambda: three.ask("GET", "/hello/Zoe").status == 503, "an answer without the database")
    answer = three.ask("GET", "/hello/Zoe")
    assert answer.status == 503
    assert answer.headers["Retry-After"]
    assert three.ask("GET", "/hc").status == 200
    start = time.monotonic()
    three.plug(first, inserted=True)
    until(lambda: three.ask("GET", "/hello/Zoe").status == 200, "the database to be back")
    print(f"the database is back after {time.monotonic() - start:.2f} s")
