"""The fast path: what takes it, and that nobody can tell from the answers."""

import re
import signal
import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.conftest import Serve
from tests.support.environment import until
from tests.support.fast_path import BORN, exchange, get, operations, put, receive
from tests.support.service import Service, connect, locked

AN_ID = b"X-Request-ID: an-id-of-the-caller\r\n"


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """One service, in which Zoe is registered."""
    service = Service(tmp_path_factory.mktemp("shared")).start()
    assert service.put("Zoe", "1990-04-23").status == 204
    yield service
    service.stop()


def comparable(answer: tuple[bytes, bytes]) -> tuple[list[bytes], bytes]:
    """Return head and body without what differs between any two answers; the order is kept."""
    head, body = answer
    head = re.sub(rb"(x-request-id|date): .*\r\n", rb"\1\r\n", head)
    return head.split(b"\r\n"), body


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", b"/hello/Zoe"), ("GET", b"/hello/zOE"), ("GET", b"/hello/Nobody"), ("PUT", b"/hello/Zoe")],
)
def test_both_paths_answer_alike(shared: Service, method: str, path: bytes) -> None:
    """Status line, header fields, their order and the body are the same on both paths."""
    make = get if method == "GET" else put
    before = operations(shared)
    [fast] = exchange(shared, make(path))
    between = operations(shared)
    [usual] = exchange(shared, make(path, fields=AN_ID))
    after = operations(shared)
    many, one = f"{method.lower()}_many", method.lower()
    assert between.get(many, 0) - before.get(many, 0) == 1
    assert after.get(one, 0) - between.get(one, 0) == 1
    assert comparable(fast) == comparable(usual)


def test_both_paths_fail_alike(serve: Serve) -> None:
    """A store that can't be written to is the same problem on both paths."""
    service = serve("--store-timeout", "0.2")
    with locked(service.database):
        [fast], [usual] = exchange(service, put()), exchange(service, put(fields=AN_ID))
    assert fast[0].startswith(b"HTTP/1.1 503 ")
    assert comparable(fast) == comparable(usual)
    until(lambda: [e.get("status") for e in service.log()].count(503) == 2, "both to be logged")


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (get(b"/hello/Zoe?tz=Asia/Tokyo"), 200),
        (get(b"/hello/Zoe?"), 200),
        (get(b"/hello/Zo%65"), 200),
        (get("/hello/Zo\u00eb".encode()), 404),
        (get(b"/hello/" + b"a" * 65), 400),
        (get(b"/hello/R2D2"), 400),
        (get(b"/hello/"), 400),
        (get(fields=AN_ID), 200),
        (get(fields=b"If-None-Match: *\r\n"), 304),
        (get(fields=b"Connection: close\r\n"), 200),
        (get(fields=b"Content-Length: 2\r\n") + b"{}", 200),
        (get().replace(b"HTTP/1.1", b"HTTP/1.0"), 200),
        (get().replace(b"GET", b"HEAD"), 200),
        (get().replace(b"GET", b"DELETE").replace(b"Zoe", b"Nobody"), 404),
        (put(fields=b"If-None-Match: *\r\n"), 412),
        (put(fields=b"Content-Encoding: gzip\r\n"), 415),
        (put(fields=b"Expect: 100-continue\r\n"), 100),
        (put().replace(b"application/json", b"text/plain"), 415),
        (put().replace(b"application/json", b"application/json; charset=utf-8"), 204),
        (put(body=b'{"dateOfBirth":"2999-01-01"}'), 400),
        (put(body=b'{"dateOfBirth":"1990-02-30"}'), 400),
        (put(body=b'{"dateOfBirth":19900423}'), 400),
        (put(body=b'{"dateOfBirth":"1990-04-23","a":1}'), 400),
        (put(body=BORN.ljust(300)), 204),
        (put(body=BORN.ljust(5000)), 413),
        (put(body=b""), 400),
    ],
)
def test_what_needs_a_closer_look_takes_the_usual_path(shared: Service, data: bytes, status: int) -> None:
    """Anything but the plainest GET or PUT is answered by the rules that `app` knows."""
    before = operations(shared)
    [(head, _)] = exchange(shared, data)
    assert head.startswith(b"HTTP/1.1 %d " % status)
    after = operations(shared)
    for operation in ("get_many", "put_many"):
        assert after.get(operation, 0) == before.get(operation, 0)


@pytest.mark.parametrize(
    "fields",
    [
        b"",
        b"User-Agent: curl/8\r\nAccept: */*\r\n",
        b"Connection: keep-alive\r\nX-Forwarded-For: 192.0.2.1\r\n",
    ],
)
def test_what_clients_usually_send_takes_the_fast_path(shared: Service, fields: bytes) -> None:
    """curl, HTTP libraries and load balancers are served by it."""
    before = operations(shared)
    assert [head[9:12] for head, _ in exchange(shared, get(fields=fields))] == [b"200"]
    assert [head[9:12] for head, _ in exchange(shared, put(fields=fields))] == [b"204"]
    after = operations(shared)
    assert after["get_many"] - before["get_many"] == after["put_many"] - before["put_many"] == 1


def test_requests_of_one_piece_are_answered_in_order(shared: Service) -> None:
    """Pipelined requests of both paths, in one piece of data, are done and answered one after the other."""
    later = b'{"dateOfBirth":"1991-05-24"}'
    data = b"".join(
        (
            put(b"/hello/Ann"),
            get(b"/hello/Ann"),
            put(b"/hello/Ann", later),
            get(b"/hello/Ann"),
            get(b"/hc"),
            get(b"/hello/Ann"),
            get(b"/hello/Ann").replace(b"GET", b"DELETE"),
            get(b"/hello/Ann"),
        )
    )
    answers = exchange(shared, data, 8)
    assert [head[9:12] for head, _ in answers] == [b"204", b"200", b"204", *[b"200"] * 3, b"204", b"404"]
    assert answers[1][1] != answers[3][1] == answers[5][1]


@pytest.mark.parametrize("size", [1, 7, 40])
@pytest.mark.parametrize("data", [get(), put()], ids=["GET", "PUT"])
def test_a_request_may_come_in_pieces(shared: Service, data: bytes, size: int) -> None:
    """However a request is cut, it is answered once, and so is the next on its connection."""
    with closing(connect(shared)) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for _ in range(2):
            for start in range(0, len(data), size):
                connection.sendall(data[start : start + size])
            [(head, _)] = receive(connection)
            assert head[9:12] in {b"200", b"204"}


def test_one_pass_reads_and_writes_once(serve: Serve) -> None:
    """Requests that wait for the service at once share one reading, and one write, of the store."""
    service = serve()
    assert service.put("Zoe", "1990-04-23").status == 204
    connections = [connect(service) for _ in range(40)]
    until(lambda: service.get("/hc").status == 200, "the connections to be taken")
    before = operations(service)
    service.signal(signal.SIGSTOP)
    for number, connection in enumerate(connections):
        connection.sendall(put(b"/hello/p" + bytes([97 + number % 26])) if number % 2 else get())
    service.signal(signal.SIGCONT)
    for connection in connections:
        with closing(connection):
            assert receive(connection)[0][0][9:12] in {b"200", b"204"}
    after = operations(service)
    assert 1 <= after["get_many"] - before.get("get_many", 0) <= 3
    assert 1 <= after["put_many"] - before.get("put_many", 0) <= 3


def test_who_leaves_before_the_answer_harms_nobody(serve: Serve) -> None:
    """A client that is gone when its write is done leaves no trace but the record."""
    service = serve("--store-timeout", "30")
    with locked(service.database):
        connection = connect(service)
        connection.sendall(put())
        until(lambda: b"in_flight 2.0" in service.get("/metrics").body, "the PUT to be in flight")
        connection.close()
    until(lambda: b"in_flight 1.0" in service.get("/metrics").body, "the PUT to end")
    assert service.get("/hello/Zoe").status == 200
    assert not [entry for entry in service.log() if entry.get("level") == "error" or "raw" in entry]


def test_a_client_that_does_not_read_is_not_served_on(serve: Serve, tmp_path: Path) -> None:
    """Answers to who sends and never reads don't pile up in memory; the connection ends in time."""
    service = serve("--request-timeout", "1")
    with closing(connect(service)) as connection:
        connection.settimeout(5)
        sent = 0
        try:
            while sent < 64 << 20:
                sent += connection.send(get() * 500)
        except OSError:
            pass
        assert sent < 64 << 20
    assert service.get("/hello/Zoe").status == 404
    status = Path(f"/proc/{service.process.pid}/status").read_text()
    assert int(re.findall(r"VmHWM:\s+(\d+) kB", status)[0]) < 100_000


def test_draining_and_logging_all_leave_the_fast_path(serve: Serve, tmp_path: Path) -> None:
    """While all is logged, each request is logged; in a drain, each connection is closed."""
    service = serve("--access-log", "all", "--drain-seconds", "2")
    exchange(service, put())
    exchange(service, get())
    until(
        lambda: [e.get("method") for e in service.log() if e.get("status")] == ["PUT", "GET"], "both logged"
    )
    service.stop()
    other = tmp_path / "other"
    other.mkdir()
    service = serve("--drain-seconds", "2", folder=other)
    exchange(service, put())
    service.signal(signal.SIGTERM)
    until(lambda: any(e["message"] == "draining" for e in service.log()), "the drain")
    [(head, _)] = exchange(service, get())
    assert b"\r\nconnection: close\r\n" in head + b"\r\n"
