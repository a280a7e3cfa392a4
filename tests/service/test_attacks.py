"""The table of attacks: each is tried on the service, and through a proxy in front of it."""

import csv
import re
import subprocess
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest

from tests.support import attacks
from tests.support.attacks import ATTACKS, BY_TEST, EVIL, GROUPS, NEXT, Attack
from tests.support.environment import ROOT, free_port, need, until
from tests.support.service import Service, connect, read_to_end

BORDERS = ["The length of a body", "Length and chunks", "Chunks", "Requests hidden in a body"]
PROXY = """
global
    maxconn 200
defaults
    mode http
    timeout connect 5s
    timeout client 10s
    timeout server 10s
    timeout http-request 10s
    retries 0
    http-reuse always
    {lenient}
frontend proxy
    bind 127.0.0.1:{port}
    stats enable
    stats uri /proxy
    default_backend service
backend service
    option httpchk GET /hc
    server one 127.0.0.1:{service} maxconn 1
"""


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """One service for all attacks, in which Zoe is registered; none leaves anything in its log."""
    service = Service(tmp_path_factory.mktemp("attacked"), ("--request-timeout", "2")).start()
    assert service.put("Zoe", "1990-04-23").status == 204
    yield service
    assert service.stop() == 0
    assert not [e for e in service.log() if "raw" in e or "exception" in e or e.get("status") == 500]


def exchange(service: Service, sent: bytes) -> bytes:
    """Send bytes, and return all that comes back until the service closes the connection."""
    with closing(connect(service)) as connection:
        with suppress(ConnectionError):
            connection.sendall(sent)
        return read_to_end(connection)


def unharmed(service: Service) -> bool:
    """Return whether Zoe is greeted, and what was hidden was not carried out."""
    greeted = service.get("/hello/Zoe")
    return (greeted.status, service.get("/hello/Hidden").status) == (200, 404)


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name[:60])
def test_each_attack_has_its_answer(service: Service, attack: Attack) -> None:
    """As many answers as the table has, of these statuses; nothing of the attacker's in them; no harm."""
    after = b"" if attack.closes else NEXT.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
    received = exchange(service, attack.sent + after)
    statuses = [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) ", received)]
    assert statuses == [*attack.answers, *([] if attack.closes else [200])], received
    assert EVIL not in received.lower()
    assert b"set-cookie" not in received.lower()
    if attack.closes:
        *_, last = received.rpartition(b"HTTP/1.1 ")
        assert b"\r\nconnection: close\r\n" in last.lower()
        assert attack.answers[-1] < 300 or b"\r\ncontent-type: application/problem+json\r\n" in last
    assert unharmed(service)


@pytest.fixture(params=["strict", "lenient"])
def proxy(request: pytest.FixtureRequest, service: Service, tmp_path: Path) -> Iterator[Service]:
    """HAProxy in front of the service, with one connection to it for everyone; as a service to talk to."""
    port = free_port()
    lenient = "option accept-invalid-http-request" if request.param == "lenient" else ""
    configuration = tmp_path / "haproxy.cfg"
    configuration.write_text(PROXY.format(port=port, service=service.port, lenient=lenient))
    command = [need("setpriv"), "--pdeathsig", "KILL", need("haproxy"), "-db", "-q", "-f", str(configuration)]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        front = Service(tmp_path, url=f"http://127.0.0.1:{port}")
        try:
            until(lambda: answers(front), "the proxy")
            yield front
        finally:
            process.kill()


def answers(service: Service) -> bool:
    """Return whether /hc is answered."""
    with suppress(OSError):
        return service.get("/hc").status == 200
    return False


def counted(service: Service) -> int:
    """Return how many requests the service has answered, those for its metrics left aside.

    One whose body turns out to be none counts twice, as a request that broke off (499) and as no HTTP.
    """
    text = service.get("/metrics").body.decode()
    pattern = r'^hello_http_requests_total\{(?!.*"(/metrics|499)").*\} (\S+)$'
    return sum(int(float(match[2])) for match in re.finditer(pattern, text, re.MULTILINE))


def forwarded(proxy: Service) -> tuple[int, int]:
    """Return how many requests the proxy sent on, and how many of them on a connection used before."""
    lines = proxy.get("/proxy;csv").body.decode().removeprefix("# ").splitlines()
    (server,) = (row for row in csv.DictReader(lines) if row["svname"] == "one")
    return int(server["stot"]), int(server["reuse"])


def test_a_proxy_and_the_service_agree_where_messages_end(proxy: Service, service: Service) -> None:
    """As many requests come as the proxy sends, and each client on their connection gets its own answers."""
    offset = counted(service) - forwarded(proxy)[0]
    through = 0
    ending = [attack for title in BORDERS for attack in GROUPS[title] if 408 not in attack.answers]
    for attack in ending:
        with closing(connect(proxy)) as connection:
            connection.settimeout(5)
            with suppress(OSError):
                connection.sendall(attack.sent)
                through += connection.recv(9).startswith(b"HTTP/1.1 ")
        for number in range(2):
            mine = f"{attack.name.encode().hex()[:60]}-{number}"
            answer = proxy.get(f"/hello/Zoe?n={number}", {"X-Request-ID": mine})
            assert (answer.status, answer.headers["X-Request-ID"]) == (200, mine), attack
            assert answer.json()["message"].startswith("Hello, Zoe! "), attack
    assert through > 50
    until(lambda: counted(service) - offset == forwarded(proxy)[0], "as many requests as were sent on", 5)
    sent, reused = forwarded(proxy)
    assert reused > sent / 2, "the clients did not share connections"
    service.request("DELETE", "/hello/Hidden")  # where the proxy too took it for a request


def test_the_page_is_the_table() -> None:
    """docs/attacks.md shows the attacks that are tried, and the tests that it names exist."""
    page = (ROOT / "docs" / "attacks.md").read_text()
    assert page[page.index("\n## ") + 1 :] == attacks.page(), "run: python -m tests.support.attacks"
    for _, _, test in BY_TEST:
        file, _, function = test.partition("::")
        assert f"def {function}(" in (ROOT / "tests" / file).read_text(), test


def test_each_attack_has_a_name_of_its_own() -> None:
    """No row hides another."""
    assert len({(title, a.name) for title, rows in GROUPS.items() for a in rows}) == len(ATTACKS)
