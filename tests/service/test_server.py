"""The server: stopping without losing a request, several workers, and clients that mean no good."""

import errno
import os
import re
import resource
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from http.client import HTTPConnection, HTTPException
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from hello.settings import Settings
from hello.usage import UsageError
from hello.workers import Supervisor
from tests.conftest import Serve
from tests.support.commands import hello, refused
from tests.support.environment import HELLO, missing, need, until
from tests.support.service import JSON, Answer, Service, connect, locked, messages, read_to_end, workers

BODY = b'{"dateOfBirth":"1990-04-23"}'
PUT = (
    b"PUT /hello/%s HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 28\r\n\r\n"
    + BODY
)
GET = b"GET /hello/Zoe HTTP/1.1\r\nHost: x\r\n\r\n"
FLOOD = 64 << 20  # bytes of an endless header or body, where nothing ends it
GROWTH = 24 << 20  # bytes that the process may grow by meanwhile
HALF_OPEN = 2000
STOPS = [signal.SIGTERM, signal.SIGINT]


def listening(service: Service) -> bool:
    """Tell whether a connection is taken."""
    try:
        connect(service).close()
    except ConnectionRefusedError:
        return False
    return True


def alive(pid: int) -> bool:
    """Tell whether a process is there and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def resident(service: Service) -> int:
    """Return the memory that the process holds, in bytes."""
    status = Path(f"/proc/{service.process.pid}/status").read_text()
    return int(re.findall(r"VmRSS:\s+(\d+) kB", status)[0]) * 1024


class Held:
    """A PUT of its own thread, which waits while the test holds the database's lock."""

    def __init__(self, service: Service, username: str) -> None:
        self._answer: Answer | None = None
        self._service = service
        self._username = username
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        with suppress(OSError, HTTPException):
            self._answer = self._service.put(self._username, "1990-04-23")

    @property
    def waits(self) -> bool:
        """Whether no answer has come."""
        return self._thread.is_alive()

    def wait(self) -> Answer | None:
        """Wait for the answer and return it, None if the connection was cut."""
        self._thread.join(60)
        assert not self.waits
        return self._answer


def in_flight(service: Service) -> float:
    """Return how many requests are being answered, the one that asks included."""
    text = service.get("/metrics").body.decode()
    return float(re.findall(r"^hello_http_requests_in_flight (\S+)$", text, re.MULTILINE)[0])


# Stopping


WRK_PUT = """
wrk.method, wrk.body = "PUT", '{"dateOfBirth":"1990-04-23"}'
wrk.headers["Content-Type"] = "application/json"
"""


@pytest.mark.parametrize("count", ["1", "2"])
@pytest.mark.parametrize("method", ["GET", "PUT"])
def test_a_stop_under_load_loses_no_request(serve: Serve, method: str, count: str, tmp_path: Path) -> None:
    """SIGTERM with a drain that outlasts the load: every request is answered, and the exit status is 0."""
    service = serve("--drain-seconds", "3", "--workers", count)
    if count == "2":
        until(lambda: len(workers(service)) == 2, "both workers")
    assert service.put("Zoe", "1990-04-23").status == 204
    script = tmp_path / "put.lua"
    script.write_text(WRK_PUT if method == "PUT" else "")
    # wrk sends one request at a time on a connection, and none after `Connection: close`, as proxies do.
    command = [need("wrk"), "-t1", "-c16", "-d1s", "-s", str(script), f"{service.url}/hello/Zoe"]
    load = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    time.sleep(0.2)
    service.signal(signal.SIGTERM)
    report, _ = load.communicate(timeout=60)
    assert load.returncode == 0
    assert service.process.poll() is None, "the load outlasted the drain"
    assert "Socket errors" not in report, report
    assert "Non-2xx" not in report, report
    assert int(re.findall(r"(\d+) requests in", report)[0]) > 100
    assert service.process.wait(60) == 0
    assert messages(service).count("stopped") == int(count)


@pytest.mark.parametrize("number", STOPS)
def test_the_order_of_stopping(serve: Serve, number: signal.Signals) -> None:
    """Unhealthy, serving on with closed connections, not listening, finishing what is in flight, exit 0."""
    service = serve("--drain-seconds", "3", "--store-timeout", "30")
    assert service.put("Zoe", "1990-04-23").status == 204
    with closing(HTTPConnection("127.0.0.1", service.port, timeout=30)) as kept:
        kept.request("GET", "/hc")
        response = kept.getresponse()
        assert (response.status, response.read()) == (200, b'{"status":"ok"}')
        with locked(service.database):
            held = Held(service, "Adam")
            until(lambda: in_flight(service) == 2, "the PUT to be in flight")
            service.signal(number)
            until(lambda: "draining" in messages(service), "the drain")

            kept.request("GET", "/hc")  # on a connection from before: as load balancers have
            response = kept.getresponse()
            assert (response.status, response.read()) == (503, b'{"status":"draining"}')
            assert response.headers["Connection"] == "close"
            assert service.get("/ready").status == 503
            during = service.get("/hello/Zoe")
            assert (during.status, during.headers["Connection"]) == (200, "close")
            assert "no longer listening" not in messages(service)

            until(lambda: not listening(service), "the port to be closed")
            assert "no longer listening" in messages(service)
            assert held.waits
            assert service.process.poll() is None
            assert "stopped" not in messages(service)
    answer = held.wait()
    assert answer is not None
    assert answer.status == 204
    assert service.process.wait(30) == 0
    order = [m for m in messages(service) if m in {"listening", "draining", "no longer listening", "stopped"}]
    assert order == ["listening", "draining", "no longer listening", "stopped"]
    assert not any("raw" in entry or "exception" in entry for entry in service.log())
    assert service.start().get("/hello/Adam").status == 200


def test_workers_finish_what_is_in_flight_and_refuse_new_connections(serve: Serve) -> None:
    """With several workers too, the port is closed while the last requests are being answered."""
    service = serve("--workers", "2", "--drain-seconds", "0.5", "--store-timeout", "30")
    until(lambda: len(workers(service)) == 2, "both workers")
    assert service.put("Zoe", "1990-04-23").status == 204
    with locked(service.database):
        held = [Held(service, name) for name in ("Adam", "Bea", "Carl", "Dora")]
        until(lambda: in_flight(service) == 5, "the PUTs to be in flight")
        service.signal(signal.SIGTERM)
        until(lambda: not listening(service), "the port to be closed")
        assert service.process.poll() is None
        assert all(put.waits for put in held)
    answers = [put.wait() for put in held]
    assert [answer and answer.status for answer in answers] == [204] * 4
    assert service.process.wait(30) == 0


@pytest.mark.parametrize("count", ["1", "2"])
def test_the_stop_limit_ends_the_wait(serve: Serve, count: str) -> None:
    """What is not finished within --stop-seconds is given up, whatever it waits for, with a plain answer."""
    service = serve("--stop-seconds", "0.5", "--store-timeout", "60", "--workers", count)
    assert service.put("Zoe", "1990-04-23").status == 204
    with locked(service.database):
        held = Held(service, "Adam")
        until(lambda: in_flight(service) == 2, "the PUT to be in flight")
        service.signal(signal.SIGTERM)
        assert service.process.wait(30) == 0  # far from the 60 s that the write would wait
        answer = held.wait()
    assert answer is not None
    assert answer.status == 503
    assert answer.json()["type"] == "/docs#stopped"
    assert not any("raw" in entry or "exception" in entry for entry in service.log())


@pytest.mark.parametrize("count", ["1", "2"])
@pytest.mark.parametrize("number", STOPS)
def test_a_second_signal_stops_at_once(serve: Serve, number: signal.Signals, count: str) -> None:
    """However long the drain, a second signal ends it, with the status 128 and the signal's number."""
    service = serve("--drain-seconds", "600", "--workers", count)
    until(lambda: len(workers(service)) == int(count), "all workers")
    service.signal(number)
    until(lambda: messages(service).count("draining") == int(count), "the drain")
    service.signal(number)
    assert service.process.wait(30) == 128 + number
    until(lambda: not any(alive(pid) for pid in workers(service)), "all processes to end")


@pytest.mark.parametrize("number", STOPS)
def test_a_signal_to_the_whole_group_is_one_signal(serve: Serve, number: signal.Signals) -> None:
    """Ctrl-C and service managers signal every process of the group: the workers drain all the same."""
    service = serve("--drain-seconds", "1", "--workers", "2", prefix=(need("setsid"),))
    until(lambda: len(workers(service)) == 2, "both workers")
    os.killpg(service.process.pid, number)
    until(lambda: messages(service).count("draining") == 2, "the drain")
    assert service.get("/version").status == 200
    assert service.process.wait(30) == 0
    assert messages(service).count("stopped") == 2


@pytest.mark.parametrize("count", ["1", "4"])
@pytest.mark.parametrize("number", STOPS)
def test_a_signal_during_the_start_ends_it(tmp_path: Path, number: signal.Signals, count: str) -> None:
    """Once "starting" is logged, a signal at any moment ends all processes, without a traceback."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("HELLO_", "OTEL_"))}
    command = [str(HELLO), "serve", "--port", "0", "--log", "json", "--workers", count]
    for round_ in range(5):
        with subprocess.Popen(
            command, stderr=subprocess.PIPE, cwd=tmp_path, env=environment, start_new_session=True
        ) as process:
            assert process.stderr is not None
            first = process.stderr.readline()
            time.sleep(round_ * 0.03)
            process.send_signal(number)
            try:
                said = first + process.communicate(timeout=30)[1]
            finally:
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)
        assert b'"starting"' in first
        assert b"Traceback" not in said, said.decode()
        assert process.returncode in {0, 128 + number, -number}, said.decode()


def test_a_killed_worker_is_replaced_and_no_other_is_disturbed(serve: Serve) -> None:
    """kill -9 of one worker cuts its own connections only, and another takes its place."""
    service = serve("--workers", "2")
    until(lambda: len(workers(service)) == 2, "both workers")
    assert service.put("Zoe", "1990-04-23").status == 204
    with ExitStack() as stack:
        connections = [stack.enter_context(connect(service)) for _ in range(40)]
        for connection in connections:
            connection.sendall(GET)
            assert connection.recv(4096).startswith(b"HTTP/1.1 200 ")
        os.kill(workers(service)[0], signal.SIGKILL)
        survivors = 0
        for connection in connections:
            with suppress(ConnectionError):
                connection.sendall(GET)
                survivors += connection.recv(4096).startswith(b"HTTP/1.1 200 ")
        assert 0 < survivors < 40
        for _ in range(20):
            assert service.get("/hello/Zoe").status == 200
    until(lambda: len(workers(service)) == 3, "the replacement")
    assert service.stop() == 0
    assert messages(service).count("stopped") == 2


def test_workers_do_not_outlive_their_supervisor(serve: Serve) -> None:
    """kill -9 of the supervisor ends the workers, and the port is free."""
    service = serve("--workers", "2")
    until(lambda: len(workers(service)) == 2, "both workers")
    service.process.kill()
    service.process.wait()
    until(lambda: not any(alive(pid) for pid in workers(service)), "the workers to end")
    assert not listening(service)


def test_workers_need_a_temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nothing can be written, as in a container that is read-only, it says what to do."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "missing"))
    with socket.socket() as bound, pytest.raises(UsageError, match=r"No such file or directory\.\n.* TMPDIR"):
        Supervisor(Settings(workers=2), bound).run()


def test_metrics_of_workers_add_up(serve: Serve) -> None:
    """Whichever worker is asked, /metrics counts the requests that all of them answered."""
    service = serve("--workers", "2")
    until(lambda: len(workers(service)) == 2, "both workers")
    count = 120
    for _ in range(count):
        assert service.get("/hello/Zoe").status == 404

    def counted() -> float:
        families = text_string_to_metric_families(service.get("/metrics").body.decode())
        samples = [sample for family in families for sample in family.samples]
        return sum(
            sample.value
            for sample in samples
            if sample.name == "hello_http_requests_total" and sample.labels["route"] == "/hello/{username}"
        )

    until(lambda: counted() == count, "all requests to be counted")
    assert {counted() for _ in range(20)} == {count}


# Overload and abuse


@pytest.fixture
def many_files() -> Iterator[None]:
    """Let the test itself hold thousands of connections."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 2 * HALF_OPEN + 500:
        missing(f"the limit of open files is {hard}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.usefixtures("many_files")
@pytest.mark.parametrize("limit", [None, 1024])
@pytest.mark.parametrize("sent", [b"", b"GET /hello/Zoe HTTP/1.1\r\nHo"], ids=["nothing", "half a head"])
def test_half_open_connections_keep_nobody_out(serve: Serve, limit: int | None, sent: bytes) -> None:
    """Thousands of connections that send no request take no other's place, also where files are few."""
    prefix = (need("prlimit"), f"--nofile={limit}:{limit}") if limit else ()
    service = serve("--request-timeout", "600", prefix=prefix)
    assert service.put("Zoe", "1990-04-23").status == 204
    with ExitStack() as stack:
        for number in range(HALF_OPEN):
            connection = stack.enter_context(connect(service))
            with suppress(ConnectionError):  # closed already, to make room
                connection.sendall(sent)
            if number % 50 == 0:
                assert service.get("/hello/Zoe").status == 200
        for number in range(50):
            assert service.get("/hello/Zoe").status == 200
            assert service.put("Adam", f"1990-04-{number % 28 + 1:02}").status == 204
    assert not any("raw" in entry or "exception" in entry for entry in service.log())


def test_a_burst_of_connections_beyond_the_limit_of_files_keeps_nobody_out(serve: Serve) -> None:
    """Connections that all come at once, more than there are files, are accepted and given up in turn."""
    service = serve(prefix=(need("prlimit"), "--nofile=256:256"))
    assert service.put("Zoe", "1990-04-23").status == 204
    for _ in range(3):
        with ExitStack() as stack:
            # While it is stopped, the connections gather, and are accepted in one go.
            service.signal(signal.SIGSTOP)
            for _ in range(800):
                stack.enter_context(connect(service))
            last = stack.enter_context(connect(service))
            last.sendall(GET)
            service.signal(signal.SIGCONT)
            assert last.recv(4096).startswith(b"HTTP/1.1 200 ")
            assert service.get("/hello/Zoe").status == 200
    assert not any("raw" in entry or "exception" in entry for entry in service.log())


@pytest.mark.usefixtures("many_files")
@pytest.mark.parametrize("limit", [None, 1024])
def test_slow_clients_keep_nobody_out(serve: Serve, limit: int | None) -> None:
    """A byte now and then, or a body that never comes, holds up nobody else."""
    prefix = (need("prlimit"), f"--nofile={limit}:{limit}") if limit else ()
    service = serve("--max-in-flight", "16", prefix=prefix)
    assert service.put("Zoe", "1990-04-23").status == 204
    with ExitStack() as stack:
        slow = [stack.enter_context(connect(service)) for _ in range(600)]
        for connection in slow[300:]:
            connection.sendall(PUT[: -len(BODY)] % b"Slow")
        for position in range(20):
            for connection in slow[:300]:
                connection.sendall(GET[position : position + 1])
            assert service.get("/hello/Zoe").status == 200
            assert service.put("Adam", "1990-04-23").status == 204


def test_clients_that_do_not_read_keep_nobody_out(serve: Serve, tmp_path: Path) -> None:
    """Those who ask for much and read nothing hold their requests in flight for a time only."""
    rows = "".join(f"p{''.join(chr(97 + int(d)) for d in str(n))},1990-04-23\n" for n in range(40_000))
    assert hello("import", folder=tmp_path, stdin=f"username,dateOfBirth\n{rows}".encode()).returncode == 0
    service = serve("--max-in-flight", "8", "--request-timeout", "1")
    with ExitStack() as stack:
        for _ in range(10):
            connection = stack.enter_context(socket.socket())
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.connect(("127.0.0.1", service.port))
            connection.sendall(b"GET /birthdays.ics HTTP/1.1\r\nHost: x\r\n\r\n")
        until(lambda: service.get("/hello/pa").status == 503, "the slow readers to fill the place")
        until(lambda: service.get("/hello/pa").status == 200, "the slow readers to be given up")


def test_a_client_that_reads_slowly_gets_all_of_it(serve: Serve, tmp_path: Path) -> None:
    """The time limit is for a standstill: who reads on, however slowly, is served to the end."""
    rows = "".join(f"p{''.join(chr(97 + int(d)) for d in str(n))},1990-04-23\n" for n in range(20_000))
    assert hello("import", folder=tmp_path, stdin=f"username,dateOfBirth\n{rows}".encode()).returncode == 0
    service = serve("--request-timeout", "1")
    with closing(socket.socket()) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        connection.connect(("127.0.0.1", service.port))
        connection.sendall(b"GET /birthdays.ics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        received = bytearray()
        for _ in range(15):
            received += connection.recv(65536)
            time.sleep(0.2)
        received += read_to_end(connection)
    assert received.count(b"BEGIN:VEVENT") == 20_000
    assert b"END:VCALENDAR" in received[-40:]


def test_connections_without_a_request_are_closed_in_time(serve: Serve) -> None:
    """Who sends no head within --request-timeout is cut off; a connection idle between requests is not."""
    service = serve("--request-timeout", "1")
    assert service.put("Zoe", "1990-04-23").status == 204
    with ExitStack() as stack:
        silent, partial, dripping, second, idle = (stack.enter_context(connect(service)) for _ in range(5))
        partial.sendall(GET[:20])
        for connection in (second, idle):
            connection.sendall(GET)
            assert connection.recv(4096).startswith(b"HTTP/1.1 200 ")
        second.sendall(GET[:20])

        for _ in range(300):  # half a minute, where nobody ends it
            try:
                dripping.sendall(b"G")
            except ConnectionError:
                break
            time.sleep(0.1)
        else:
            pytest.fail("a byte now and then keeps a connection open")
        for connection in (silent, partial, second):
            assert read_to_end(connection)[:12] in {b"", b"HTTP/1.1 408"}
        idle.sendall(GET)
        assert idle.recv(4096).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("head", [b"Content-Length: 28", b"Transfer-Encoding: chunked"])
def test_a_body_that_stalls_is_408(serve: Serve, head: bytes) -> None:
    """A body that does not arrive within --request-timeout is answered, and the connection closed."""
    service = serve("--request-timeout", "1")
    with closing(connect(service)) as connection:
        connection.sendall(
            b"PUT /hello/Zoe HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n" + head + b"\r\n\r\n"
        )
        connection.sendall(b'{"dateOf' if head.startswith(b"Content") else b'8\r\n{"dateOf\r\n')
        answer = read_to_end(connection)
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"application/problem+json" in answer
    assert b"\r\nconnection: close\r\n" in answer.lower()
    assert service.get("/hello/Zoe").status == 404


def test_more_than_max_in_flight_is_refused_at_once(serve: Serve) -> None:
    """One more than --max-in-flight is 503 with Retry-After; those before it are answered in the end."""
    service = serve("--max-in-flight", "8", "--store-timeout", "30")
    with locked(service.database), ExitStack() as stack:
        waiting = [stack.enter_context(connect(service)) for _ in range(8)]
        for number, connection in enumerate(waiting):
            connection.sendall(PUT % (b"p" + bytes([97 + number])))
        until(lambda: service.get("/hello/pa").status == 503, "eight to be in flight")
        refusal = service.put("Zoe", "1990-04-23")
        assert refusal.status == 503
        assert refusal.json()["type"] == "/docs#overloaded"
        assert int(refusal.headers["Retry-After"]) > 0
        for path in ("/hc", "/version", "/metrics"):  # an overload is no reason to be killed or unseen
            assert service.get(path).status == 200
        connections = stack.pop_all()
    with connections:
        for connection in waiting:
            assert connection.recv(4096).startswith(b"HTTP/1.1 204 ")
    assert service.put("Zoe", "1990-04-23").status == 204
    assert service.get("/hello/ph").status == 200


def test_an_overload_is_logged_together(serve: Serve) -> None:
    """Of requests that are refused at once there is a line with their number, and none for each."""
    service = serve("--max-in-flight", "1", "--store-timeout", "30")

    def refused() -> list[int]:
        return [entry["requests"] for entry in service.log() if entry["message"] == "overloaded"]

    with locked(service.database), connect(service) as working, ExitStack() as stack:
        working.sendall(PUT % b"pa")
        with_this_one = "hello_http_requests_in_flight 2.0\n"
        until(lambda: with_this_one in service.get("/metrics").body.decode(), "one to be in flight")
        connections = [stack.enter_context(connect(service)) for _ in range(40)]
        for connection in connections:  # each is accepted
            connection.sendall(b"GET /version HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert connection.recv(4096).startswith(b"HTTP/1.1 200 ")
        service.signal(signal.SIGSTOP)  # so that it finds them all at once
        for connection in connections[::2]:
            connection.sendall(PUT % b"pb")
        for connection in connections[1::2]:
            connection.sendall(b"GET /hello/pb HTTP/1.1\r\nHost: localhost\r\n\r\n")
        service.signal(signal.SIGCONT)
        for connection in connections:
            answer = connection.recv(4096)
            assert answer.startswith(b"HTTP/1.1 503 ")
            assert b"\r\nretry-after: " in answer
    until(lambda: sum(refused()) == 40, "all to be logged")
    assert len(refused()) < 20
    assert not [entry for entry in service.log() if entry.get("status") == 503 and "method" in entry]
    metrics = text_string_to_metric_families(service.get("/metrics").body.decode())
    counted = [s for family in metrics for s in family.samples if s.name == "hello_http_requests_total"]
    by_method = {s.labels["method"]: s.value for s in counted if s.labels["status"] == "503"}
    assert by_method == {"GET": 20, "PUT": 20}


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """One service for all that only sends it bytes, and leaves nothing behind."""
    service = Service(tmp_path_factory.mktemp("shared"))
    yield service.start()
    service.stop()


def flood(service: Service, opening: bytes, piece: bytes) -> tuple[bytes, int, int]:
    """Send what never ends until it is refused; return the answer, the bytes sent, and the growth."""
    before = resident(service)
    highest, sent = before, 0
    with closing(connect(service)) as connection:
        with suppress(ConnectionError):
            connection.sendall(opening)
            while sent < FLOOD:
                connection.sendall(piece)
                sent += len(piece)
                if sent % (1 << 20) < len(piece):
                    highest = max(highest, resident(service))
        highest = max(highest, resident(service))
        connection.settimeout(20)
        with suppress(OSError):
            connection.shutdown(socket.SHUT_WR)
        answer = read_to_end(connection)
    return answer, sent, highest - before


CHUNKED_PUT = PUT.partition(b"Content-Length")[0] % b"Zoe" + b"Transfer-Encoding: chunked\r\n\r\n"
HEAD = b"GET /hello/Zoe HTTP/1.1\r\nHost: x\r\n"


@pytest.mark.parametrize(
    ("opening", "piece"),
    [
        (CHUNKED_PUT, b"4000\r\n" + b" " * 0x4000 + b"\r\n"),
        (CHUNKED_PUT, b"1\r\n \r\n" * 2000),
        (CHUNKED_PUT + b"1", b";extension" * 1600),
        (CHUNKED_PUT + b"0\r\n", b"Trailer: x\r\n" * 1400),
        (CHUNKED_PUT + b"0\r\nTrailer: ", b"x" * 16000),
        (CHUNKED_PUT.replace(b"PUT", b"GET"), b"4000\r\n" + b" " * 0x4000 + b"\r\n"),
        (CHUNKED_PUT.replace(b"PUT", b"GET") + b"0\r\n", b"Trailer: x\r\n" * 1400),
        (CHUNKED_PUT.replace(b"PUT", b"POST"), b"4000\r\n" + b" " * 0x4000 + b"\r\n"),
        (PUT.replace(b"28", b"999999999") % b"Zoe", b" " * 16000),
        pytest.param(b"", PUT % b"Quick" * 100, marks=pytest.mark.full),  # each is a durable write
        pytest.param(
            b"", (PUT % b"Quick").replace(b"Host", b"X-Request-ID: a\r\nHost") * 100, marks=pytest.mark.full
        ),
        (HEAD, b"Field: x\r\n" * 1600),
        (HEAD + b"Field: ", b"x" * 16000),
        (HEAD, b"x" * 16000),
        (b"GET /hello/", b"x" * 16000),
        (b"", b"\r\n" * 8000),
        (b"", b"x" * 16000),
    ],
    ids=[
        "body of large chunks",
        "body of small chunks",
        "chunk extension",
        "trailers",
        "trailer",
        "body of a GET",
        "trailers of a GET",
        "body of a POST",
        "body of declared length",
        "pipelined PUTs",
        "pipelined PUTs of the usual path",
        "header fields",
        "value",
        "name",
        "path",
        "empty lines",
        "no HTTP",
    ],
)
def test_what_never_ends_takes_no_memory(shared: Service, opening: bytes, piece: bytes) -> None:
    """An endless header or body is refused or passed over; the process does not grow by it."""
    flood(shared, opening, piece)  # what the first one loads and allocates is none of the growth
    answer, sent, growth = flood(shared, opening, piece)
    assert growth < GROWTH, f"{growth >> 20} MiB for {sent >> 20} MiB sent"
    assert answer == b"" or re.match(rb"HTTP/1.1 (204|40[0458]|413|414|431) ", answer), answer
    assert shared.get("/hc").status == 200


def exchange(service: Service, sent: bytes) -> bytes:
    """Send bytes and return all that comes back."""
    with closing(connect(service)) as connection:
        with suppress(ConnectionError):
            connection.sendall(sent)
        return read_to_end(connection)


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"GET /hello/" + b"x" * 9000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 414),
        (HEAD + b"Field: x\r\n" * 150 + b"\r\n", 431),
        (b"no HTTP at all\r\n\r\n", 400),
        (CHUNKED_PUT + b"no size\r\n", 400),
    ],
)
@pytest.mark.parametrize("before", [GET, PUT % b"Quick", GET.replace(b"/hello/Zoe", b"/version")])
@pytest.mark.parametrize("together", [True, False])
def test_what_is_refused_is_answered_in_its_turn(
    shared: Service, before: bytes, sent: bytes, status: int, together: bool
) -> None:
    """Behind other requests, waiting or answered, the refusal is the last answer, and none is lost."""
    with closing(connect(shared)) as connection:
        connection.sendall(before + sent if together else before)
        if not together:
            assert connection.recv(65536).startswith(b"HTTP/1.1 ")
            connection.sendall(sent)
        answers = read_to_end(connection)
    statuses = re.findall(rb"HTTP/1.1 (\d+) ", answers)
    assert statuses[-1] == b"%d" % status
    assert len(statuses) == 1 + together
    assert shared.get("/hc").status == 200


def test_a_refusal_keeps_the_callers_id(shared: Service) -> None:
    """X-Request-ID is returned by what is refused before it is a request, too."""
    with closing(connect(shared)) as connection:
        connection.sendall(HEAD + b"X-Request-ID: mine\r\n" + b"Field: x\r\n" * 150 + b"\r\n")
        answer = read_to_end(connection)
    assert b"\r\nx-request-id: mine\r\n" in answer


def test_trailers_are_no_header_fields(shared: Service) -> None:
    """What comes behind a body declares nothing about it (RFC 9110, 6.5.1)."""
    head = b"PUT /hello/Zoe HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
    chunks = b"1c\r\n" + BODY + b"\r\n0\r\nContent-Type: application/json\r\nX-Request-ID: trailer\r\n\r\n"
    with closing(connect(shared)) as connection:
        connection.sendall(head + chunks)
        answer = read_to_end(connection)
    assert answer.startswith(b"HTTP/1.1 415 ")
    assert b"trailer" not in answer


def test_who_leaves_mid_body_is_no_slow_client(serve: Serve) -> None:
    """A client that is gone before its request was whole is logged as 499, and answered nothing."""
    service = serve()
    with closing(connect(service)) as connection:
        connection.sendall((PUT % b"Zoe")[:-5])
        until(lambda: in_flight(service) == 2, "the PUT to be in flight")
    until(lambda: 499 in [entry.get("status") for entry in service.log()], "the entry")
    assert service.get("/hello/Zoe").status == 404


def test_what_is_just_within_the_limits_is_served(shared: Service) -> None:
    """100 header fields, 32,000 bytes of header, a path of 8,000 bytes and a body of 4 KiB are fine."""
    close = b"Connection: close\r\n"
    assert exchange(shared, HEAD + close + b"Field: x\r\n" * 98 + b"\r\n").startswith(b"HTTP/1.1 404 ")
    assert exchange(shared, HEAD + close + b"Field: " + b"x" * 32_000 + b"\r\n\r\n").startswith(
        b"HTTP/1.1 404 "
    )
    path = b"GET /" + b"x" * 8000 + b" HTTP/1.1\r\nHost: x\r\n" + close + b"\r\n"
    assert exchange(shared, path).startswith(b"HTTP/1.1 404 ")
    assert shared.request("PUT", "/hello/Zoe", BODY.ljust(4096), JSON).status == 204


def test_pipelined_requests_are_all_answered_in_order(shared: Service) -> None:
    """Requests sent in one piece, longer together than a header may be, are no header."""
    count = 1500
    requests = b"".join(
        b"GET /hello/%s HTTP/1.1\r\nHost: x\r\n\r\n" % (b"x" if n % 2 else b"1") for n in range(count)
    )
    last = b"GET /version HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    with closing(connect(shared)) as connection:
        connection.sendall(requests + last[:10])
        time.sleep(0.1)
        connection.sendall(last[10:])
        answers = read_to_end(connection)
    statuses = re.findall(rb"HTTP/1.1 (\d+) ", answers)
    assert statuses == [b"400", b"404"] * (count // 2) + [b"200"]


# What can't be served


def test_a_port_in_use_is_said(served: Service, tmp_path: Path) -> None:
    """The message names address and port, and the way out."""
    said = refused("--port", str(served.port), folder=tmp_path)
    assert f"127.0.0.1 port {served.port}" in said
    assert os.strerror(errno.EADDRINUSE) in said
    assert "--port" in said


@pytest.mark.parametrize("host", ["no-such-host.invalid", "a..b", "x" * 70, "192.0.2.1", "::ffff:999"])
def test_an_address_of_no_use_is_said(tmp_path: Path, host: str) -> None:
    """A host that is unknown, malformed or another machine's is named."""
    assert host in refused("--host", host, "--open", folder=tmp_path)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.com"])
def test_other_addresses_than_loopback_need_open(tmp_path: Path, host: str) -> None:
    """Nothing but loopback is listened on unless it is asked for, and the message tells how."""
    said = refused("--host", host, folder=tmp_path)
    assert host in said
    assert "--open" in said
    assert list(tmp_path.iterdir()) == []


def test_open_serves_all_addresses(serve: Serve) -> None:
    """With --open the service listens where it is told."""
    service = serve("--host", "0.0.0.0", "--open")
    assert service.url.startswith("http://0.0.0.0:")
    service.url = f"http://127.0.0.2:{service.port}"
    assert service.get("/hc").status == 200


def test_ipv6_loopback_is_served(serve: Serve) -> None:
    """::1 is loopback as well, and the URL has it in brackets."""
    try:
        with closing(socket.socket(socket.AF_INET6)) as probe:
            probe.bind(("::1", 0))
    except OSError:
        missing("this machine has no IPv6 loopback")
    service = serve("--host", "::1")
    assert service.url.startswith("http://[::1]:")
    assert service.put("Zoe", "1990-04-23").status == 204
    assert service.get("/hello/Zoe").status == 200


def test_a_connection_at_rest_is_closed_when_it_was_told(serve: Serve) -> None:
    """A connection that asks nothing more stays open for keep-alive-seconds, and no shorter."""
    service = serve("--keep-alive-seconds", "1.5")
    with closing(HTTPConnection("127.0.0.1", service.port, timeout=30)) as connection:
        connection.request("GET", "/hc")
        connection.getresponse().read()
        answered = time.monotonic()
        assert connection.sock.recv(1) == b""
        assert time.monotonic() - answered >= 1


def test_keep_alive_serves_many_requests_on_one_connection(shared: Service) -> None:
    """One connection serves request after request."""
    with closing(HTTPConnection("127.0.0.1", shared.port, timeout=30)) as connection:
        for number in range(300):
            connection.request("GET", f"/nothing?n={number}")
            response = connection.getresponse()
            assert (response.status, response.headers["Connection"]) == (404, None)
            response.read()
