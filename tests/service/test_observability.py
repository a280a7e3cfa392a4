"""What an operator sees: metrics, logs and traces, and what none of them may tell."""

import gzip
import re
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status
from prometheus_client import CollectorRegistry, Histogram, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from hello import __version__
from hello.observability import BulkHistogram
from tests.conftest import Serve
from tests.support.environment import need, until
from tests.support.service import JSON, Service, connect, locked, read_to_end

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]

BORN = "1983-07-19"
SECRET_NAMES = ["Wilhelmina", "%E1%8A%A0%E1%89%A0%E1%89%A0", "Zo%C3%AB"]
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}(\+00:00|Z)")


def scrape(service: Service) -> Samples:
    """Return the value of each sample, by name and labels."""
    families = text_string_to_metric_families(service.get("/metrics").body.decode())
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in families
        for sample in family.samples
    }


def value(samples: Samples, name: str, **labels: str) -> float:
    """Return one sample's value, 0 where there is none yet."""
    return samples.get((name, frozenset(labels.items())), 0)


def total(samples: Samples, name: str, **labels: str) -> float:
    """Return the sum over all samples of a name that have these labels."""
    return sum(number for (n, all_), number in samples.items() if n == name and labels.items() <= set(all_))


def requests_logged(service: Service) -> list[dict[str, Any]]:
    """Return the entries of requests."""
    return [entry for entry in service.log() if entry.get("message") == "request"]


def trouble(service: Service) -> None:
    """Send good requests and bad ones, of all kinds, with names and dates that nothing may tell."""
    for name in SECRET_NAMES:
        service.put(name, BORN)
        service.put(name, BORN, {"If-None-Match": "*"})
        service.put(name, "1983-02-30")
        service.put(f"{name}1", BORN)
        service.get(f"/hello/{name}?tz=Europe/Berlin")
        service.get(f"/hello/{name}?tz={name}")
        service.get(f"/hello/{name}{name * 20}")
        service.get(f"/{name}")
        service.get(f"/hello/{name}/{name}")
        service.get(f"/web/{name}")
        service.get(f"/hello?after={name}")
        service.get(f"/birthdays?days={name}")
        service.request("PATCH", f"/hello/{name}")
        service.request("PROPFIND", f"/{name}")
        service.request("PUT", f"/hello/{name}", b'{"dateOfBirth":"%s",}' % BORN.encode(), JSON)
        service.request("PUT", f"/hello/{name}", b'{"dateOfBirth":"%s"}' % BORN.encode())
        service.request("PUT", f"/hello/{name}", b'{"%s":"%s"}' % (name.encode(), BORN.encode()), JSON)
        service.request("PUT", f"/hello/{name}", b"x" * 5000, JSON)
        service.request("PUT", "/hello", b'{"dateOfBirth":"%s"}' % BORN.encode(), JSON)
        for raw in (
            b"GET /hello/%s HTTP/7\r\n\r\n" % name.encode(),
            b"%s /hello HTTP/1.1\r\nHost: x\r\n\r\n" % name.encode(),
            b"GET /hello/%s HTTP/1.1\r\n%s\r\n\r\n" % (name.encode(), name.encode()),
            b"GET /hello/%s HTTP/1.1\r\nX: %s\r\n\r\n" % (name.encode(), name.encode() * 4000),
            b"GET /hello/%s HTTP/1.1\r\nHost: x\r\n\r\n" % (name.encode() * 1000),
        ):
            with closing(connect(service)) as connection:
                connection.sendall(raw)
                connection.shutdown(socket.SHUT_WR)
                read_to_end(connection)
    service.get("/hello")
    service.get("/birthdays?days=366")
    service.get("/birthdays.ics")
    with locked(service.database):
        service.put(SECRET_NAMES[0], BORN)
    service.request("DELETE", f"/hello/{SECRET_NAMES[0]}")


def assert_tells_nobody(text: str) -> None:
    """Check that no username and no date of birth that `trouble` sends is in the text."""
    for secret in [
        "wilhelmina",
        "አበበ",
        "%e1%8a",
        "\\u12a0",
        "zoë",
        "zo%c3",
        "zo\\u00eb",
        "1983-",
        "19830719",
    ]:
        assert secret not in text.lower()


# Metrics


@pytest.mark.parametrize("workers", ["1", "2"])
def test_promtool_finds_nothing_to_complain_of(serve: Serve, workers: str) -> None:
    """Names, types and help are as Prometheus' own linter wants them."""
    service = serve("--workers", workers, "--store-timeout", "0.2")
    trouble(service)
    until(lambda: total(scrape(service), "hello_store_operations_total"), "metrics")
    text = service.get("/metrics").body
    result = subprocess.run(
        [need("promtool"), "check", "metrics"], input=text, capture_output=True, timeout=60, check=False
    )
    assert (result.returncode, result.stdout + result.stderr) == (0, b"")


def test_requests_are_counted_by_route_method_and_status(served: Service) -> None:
    """Each request is one, under the template of its route; the durations count the same."""
    for _ in range(3):
        served.put("Zoe", BORN)
    served.get("/hello/Zoe")
    served.get("/hello/Adam")
    served.request("HEAD", "/hello/Zoe")
    served.request("DELETE", "/hello/Zoe")
    served.request("PATCH", "/hello/Zoe")
    served.get("/nothing")
    served.get("/web/nothing")
    samples = scrape(served)
    expected = {
        ("/hello/{username}", "PUT", "204"): 3,
        ("/hello/{username}", "GET", "200"): 1,
        ("/hello/{username}", "GET", "404"): 1,
        ("/hello/{username}", "HEAD", "200"): 1,
        ("/hello/{username}", "DELETE", "204"): 1,
        ("/hello/{username}", "PATCH", "405"): 1,
        ("unknown", "GET", "404"): 1,
        ("/web/{path}", "GET", "404"): 1,
    }
    for (route, method, status), count in expected.items():
        name = "hello_http_requests_total"
        assert value(samples, name, route=route, method=method, status=status) == count, route
    assert total(samples, "hello_http_requests_total") == 10
    name = "hello_http_request_duration_seconds"
    assert value(samples, f"{name}_count", route="/hello/{username}", method="PUT") == 3
    assert value(samples, f"{name}_bucket", route="/hello/{username}", method="PUT", le="+Inf") == 3
    assert 0 < value(samples, f"{name}_sum", route="/hello/{username}", method="PUT") < 60


def test_what_is_refused_before_it_is_a_request_is_counted(served: Service) -> None:
    """Bytes that are no request, and heads that are too long, count and are logged with their status."""
    answered = []
    for sent, status in (
        (b"nonsense\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: x\r\n" + b"X: x\r\n" * 200 + b"\r\n", 431),
        (b"GET /" + b"x" * 9000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 414),
    ):
        with closing(connect(served)) as connection:
            connection.sendall(sent)
            head = read_to_end(connection).partition(b"\r\n\r\n")[0].decode()
        answered += [(i, status) for i in re.findall(r"(?im)^x-request-id: (\S+)", head)]
        assert total(scrape(served), "hello_http_requests_total", status=str(status)) == 1
    assert served.stop() == 0
    assert len(answered) == 3
    assert [(entry["request_id"], entry["status"]) for entry in requests_logged(served)] == answered


def test_store_operations_are_counted_by_kind_and_outcome(serve: Serve) -> None:
    """Operations are counted and timed; those that the store refuses are errors."""
    service = serve("--store-timeout", "0.2")
    service.put("Zoe", BORN)
    service.put("Zoe", BORN, {"If-None-Match": "*"})
    service.get("/hello/Zoe")
    service.get("/hello/Zoe")
    service.get("/hello")
    service.get("/birthdays")
    service.get("/ready")
    with locked(service.database):
        assert service.put("Zoe", BORN).status == 503
    service.request("DELETE", "/hello/Zoe")
    samples = scrape(service)
    expected = {
        "put_many": 1,
        "create": 1,
        "get_many": 2,
        "people": 1,
        "birthdays": 1,
        "ping": 1,
        "delete": 1,
    }
    name = "hello_store_operations_total"
    for operation, count in expected.items():
        assert value(samples, name, operation=operation, outcome="ok") == count, operation
    assert total(samples, name, outcome="error") == 1
    assert value(samples, name, operation="put_many", outcome="error") == 1
    name = "hello_store_operation_duration_seconds"
    assert value(samples, f"{name}_count", operation="put_many") == 2
    assert value(samples, f"{name}_sum", operation="put_many") >= 0.2


def test_requests_in_flight_are_counted(serve: Serve) -> None:
    """The gauge counts those that wait, and goes back when they are done."""
    service = serve("--store-timeout", "30")
    name = "hello_http_requests_in_flight"
    assert value(scrape(service), name) == 1  # the scrape itself
    with locked(service.database):
        clients = [threading.Thread(target=service.put, args=(name_, BORN)) for name_ in ("Adam", "Bea")]
        for client in clients:
            client.start()
        until(lambda: value(scrape(service), name) == 3, "two in flight")
    for client in clients:
        client.join()
    assert value(scrape(service), name) == 1


def test_the_build_is_told(serve: Serve) -> None:
    """Version and commit are labels of a metric, and the answer of /version."""
    service = serve(environment={"HELLO_COMMIT": "0123abc"})
    assert value(scrape(service), "hello_build_info", version=__version__, commit="0123abc") == 1
    assert service.get("/version").json() == {"version": __version__, "commit": "0123abc"}


def test_label_values_are_bounded_and_tell_nobody(serve: Serve) -> None:
    """Whatever is asked for, by whatever method, the set of series stays, and holds no username."""
    service = serve("--store-timeout", "0.2")

    def ask(numbers: range, methods: list[str]) -> Samples:
        for number in numbers:
            name = "x" + "".join(chr(ord("a") + int(digit)) for digit in str(number))
            for path in (f"/{name}", f"/web/{name}", f"/hello/{name}", f"/hello/{name}/{name}"):
                service.get(path)
        for method in methods:
            service.request(method, "/nothing")
        return scrape(service)

    trouble(service)
    ask(range(1), [])
    before = ask(range(1), ["PROPFIND", "Wilhelmina"])
    samples = ask(range(1, 100), ["MKCOL", "SEARCH", "LINK", "BREW", "wilhelmina", "get", "Get", "PURGE"])
    assert set(samples) == set(before)
    routes = {dict(labels).get("route") for _, labels in samples} - {None}
    methods = {dict(labels).get("method") for _, labels in samples} - {None}
    assert routes <= {*service.get("/openapi.json").json()["paths"], "/web/{path}", "unknown"}
    assert methods <= {"GET", "HEAD", "PUT", "DELETE", "POST", "PATCH", "OPTIONS", "other"}
    assert_tells_nobody(service.get("/metrics").body.decode())


def test_observing_in_bulk_is_observing_one_by_one() -> None:
    """The histogram that takes many at once gives the same text as the library's own."""
    buckets = (0.1, 1, 2.5)
    amounts = [0.05, 0.1, 0.1000001, 1, 3, 2.5, 0, 7, 0.99]
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    bulk = BulkHistogram("x", "X.", buckets=buckets, registry=ours)
    single = Histogram("x", "X.", buckets=buckets, registry=theirs)
    for batch in (amounts, [], amounts[:2]):
        bulk.observe_many(list(batch))
        for amount in batch:
            single.observe(amount)

    def samples(registry: CollectorRegistry) -> dict[Any, Any]:
        families = text_string_to_metric_families(generate_latest(registry).decode())
        return {(s.name, s.labels.get("le")): s.value for f in families for s in f.samples}

    assert samples(ours) == pytest.approx(samples(theirs))


# Logs


def test_the_log_is_one_json_object_a_line(serve: Serve) -> None:
    """Every line has time, level and message; a request also its id, method, route, status, duration."""
    service = serve("--store-timeout", "0.2", environment={"HELLO_ACCESS_LOG": "all"})
    trouble(service)
    assert service.stop() == 0
    entries = service.log()
    assert len(entries) > 50
    for entry in entries:
        assert TIME.fullmatch(entry["time"])
        assert datetime.fromisoformat(entry["time"])
        assert entry["level"] in {"info", "warning", "error"}
        assert entry["message"]
    for entry in requests_logged(service):
        assert set(entry) == {
            "time",
            "level",
            "message",
            "request_id",
            "method",
            "route",
            "status",
            "duration",
        }
        assert re.fullmatch(r"[0-9a-f]{32}", entry["request_id"])
        assert isinstance(entry["status"], int)
        assert 0 <= entry["duration"] < 60
        level = "error" if entry["status"] >= 500 else "warning" if entry["status"] >= 400 else "info"
        assert entry["level"] == level


def test_failed_requests_are_logged_and_good_ones_are_not(served: Service) -> None:
    """By default the log has the requests that failed, and none of those that went well."""
    served.put("Zoe", BORN)
    served.get("/hello/Zoe")
    served.get("/hello/Adam")
    served.get("/hc")
    served.get("/hello/R2D2")
    assert served.stop() == 0
    logged = [(e["method"], e["route"], e["status"]) for e in requests_logged(served)]
    assert logged == [("GET", "/hello/{username}", 404), ("GET", "/hello/{username}", 400)]


def test_slow_requests_are_logged(serve: Serve) -> None:
    """A request that took over a second is logged although it went well."""
    service = serve("--store-timeout", "30")
    with locked(service.database):
        client = threading.Thread(target=service.put, args=("Zoe", BORN))
        client.start()
        until(lambda: total(scrape(service), "hello_http_requests_in_flight") == 2, "the PUT to be in flight")
        time.sleep(1.1)  # the duration is of the real clock
    client.join()
    assert service.stop() == 0
    (entry,) = requests_logged(service)
    assert (entry["method"], entry["status"]) == ("PUT", 204)
    assert entry["duration"] >= 1


def test_all_requests_are_logged_where_asked(serve: Serve) -> None:
    """With HELLO_ACCESS_LOG=all each request is one entry."""
    service = serve(environment={"HELLO_ACCESS_LOG": "all"})
    service.put("Zoe", BORN)
    service.get("/hello/Zoe")
    service.get("/hc")
    service.get("/nothing")
    assert service.stop() == 0
    logged = [(e["method"], e["route"], e["status"]) for e in requests_logged(service)]
    assert logged == [
        ("PUT", "/hello/{username}", 204),
        ("GET", "/hello/{username}", 200),
        ("GET", "/hc", 200),
        ("GET", "unknown", 404),
    ]


def test_the_request_id_is_answered_and_logged(served: Service) -> None:
    """A sane X-Request-ID is the caller's, else one is made; the entry of the request has it."""
    own = served.get("/nothing", {"X-Request-ID": "trace-1:abc/DEF=="})
    assert own.headers["X-Request-ID"] == "trace-1:abc/DEF=="
    made = served.get("/nothing")
    assert re.fullmatch(r"[0-9a-f]{32}", made.headers["X-Request-ID"])
    assert served.stop() == 0
    assert [e["request_id"] for e in requests_logged(served)] == [
        "trace-1:abc/DEF==",
        made.headers["X-Request-ID"],
    ]


INSANE = [
    'x"}{"level":"error',
    "x\tlevel=error",
    "x level=error",
    "x\x1b[31mred",
    "x\x85y",
    "\xfc",
    "x" * 129,
    "",
]


@pytest.mark.parametrize("form", ["json", "text"])
def test_a_request_id_cannot_shape_a_line(serve: Serve, form: str) -> None:
    """An id with control characters, quotes or spaces, or a long one, is replaced by one of ours."""
    service = serve("--log", form)
    for identifier in INSANE:
        with closing(connect(service)) as connection:
            connection.sendall(
                b"GET /nothing HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX-Request-ID: "
                + identifier.encode("latin-1")
                + b"\r\n\r\n"
            )
            assert read_to_end(connection).startswith((b"HTTP/1.1 404 ", b"HTTP/1.1 400 "))
    assert service.stop() == 0
    lines = (service.folder / "log").read_bytes().decode().split("\n")
    requests = [line for line in lines if re.search(r"\brequest_id\b", line)]
    assert len(requests) == len(INSANE)
    for line in requests:
        assert re.search(r"request_id\W{1,3}[0-9a-f]{32}\b", line)
        assert not any(identifier in line for identifier in INSANE if identifier)


def test_the_start_logs_the_effective_settings(serve: Serve) -> None:
    """The first entry has the version and every setting as it is in effect."""
    service = serve("--leap-day", "mar1", environment={"HELLO_TIMEZONE": "Asia/Tokyo"})
    entry = service.log()[0]
    assert (entry["message"], entry["version"]) == ("starting", __version__)
    settings = entry["settings"]
    assert settings["leap_day"] == "mar1"
    assert settings["timezone"] == "Asia/Tokyo"
    assert settings["store"] == f"sqlite:///{service.database}"
    assert settings["stop_seconds"] == 30
    assert settings["host"] == "127.0.0.1"


def test_no_log_tells_of_a_person(serve: Serve) -> None:
    """After good and bad requests of all kinds, no line has a username or a date of birth."""
    service = serve("--store-timeout", "0.2", "--access-log", "all")
    trouble(service)
    assert service.stop() == 0
    assert not any("raw" in entry or "exception" in entry for entry in service.log())
    text = "\n".join(
        re.sub(r'"(time|request_id|duration)":("[^"]*"|[\d.e-]+),?', "", line)
        for line in (service.folder / "log").read_text().splitlines()
    )
    assert_tells_nobody(text)


def test_an_unknown_variable_is_warned_of(serve: Serve) -> None:
    """A HELLO_* variable that is no setting is named with what was meant perhaps, and changes nothing."""
    environment = {"HELLO_TIMEZON": "Asia/Tokyo", "HELLO_QQQQ": "x", "HELLO_FORGED\n\x1b[2J": "x"}
    service = serve(environment=environment)
    warnings = [entry["message"] for entry in service.log() if entry["level"] == "warning"]
    assert len(warnings) == 3
    by_name = {warning.split()[0]: warning for warning in warnings}
    assert "Did you mean HELLO_TIMEZONE?" in by_name["HELLO_TIMEZON"]
    assert "Did you mean" not in by_name["HELLO_QQQQ"]
    assert "\x1b" not in (service.folder / "log").read_text()
    assert service.log()[3]["settings"]["timezone"] == "UTC"


def test_the_log_in_text_is_one_line_an_entry(serve: Serve) -> None:
    """For a terminal: time, level, message, fields; what would shape a line is escaped."""
    environment = {"HELLO_X\n00:00:00 error   forged\x1b[2J": "x", "HELLO_COMMIT": "a\r\nb\u2028c"}
    service = serve("--log", "text", environment=environment)
    service.get("/nothing", {"X-Request-ID": "mine"})
    assert service.stop() == 0
    text = (service.folder / "log").read_bytes().decode()
    assert not re.search(r"[^\n -~]", text)
    lines = [line for line in text.split("\n") if re.match(r"\d\d:\d\d:\d\d ", line)]
    rest = r"method=GET route=unknown status=404 duration=[\d.e-]+"
    assert any(re.fullmatch(rf"\S+ warning request request_id=mine {rest}", line) for line in lines)
    assert not any(" forged" in line[:30] for line in lines)
    assert [line.split()[2] for line in lines if " info " in line] == [
        "starting",
        "listening",
        "draining",
        "no",
        "stopped",
    ]


# Traces


class Receiver(ThreadingHTTPServer):
    """Takes what OpenTelemetry's exporters send."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.received: list[ExportTraceServiceRequest] = []
        self.url = f"http://127.0.0.1:{self.server_address[1]}"

    def spans(self) -> list[Span]:
        """Return all spans so far."""
        return [
            span
            for message in self.received
            for resource in message.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]

    def names(self) -> set[str]:
        """Return the service names that the spans came under."""
        return {
            attribute.value.string_value
            for message in self.received
            for resource in message.resource_spans
            for attribute in resource.resource.attributes
            if attribute.key == "service.name"
        }


class Handler(BaseHTTPRequestHandler):
    """One export."""

    server: Receiver

    def do_POST(self) -> None:
        """Take spans."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers["Content-Encoding"] == "gzip":
            body = gzip.decompress(body)
        if self.path == "/v1/traces":
            self.server.received.append(ExportTraceServiceRequest.FromString(body))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Keep quiet."""


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """A place for traces."""
    server = Receiver()
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def attributes(span: Span) -> dict[str, str | int]:
    """Return the attributes of a span."""
    return {a.key: a.value.string_value or a.value.int_value for a in span.attributes}


TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"  # pragma: allowlist secret


def test_a_request_makes_a_server_span_under_the_callers_trace(serve: Serve, receiver: Receiver) -> None:
    """Route, method and status are told, under the parent of `traceparent`; spans are sent before the end."""
    service = serve(environment={"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url})
    service.put("Zoe", BORN, {"traceparent": f"00-{TRACE}-{PARENT}-01"})
    service.get("/hello/Adam")
    assert service.stop() == 0
    put, get = receiver.spans()
    assert put.kind == Span.SPAN_KIND_SERVER
    assert put.name == "PUT /hello/{username}"
    assert put.trace_id.hex() == TRACE
    assert put.parent_span_id.hex() == PARENT
    expected = {
        "http.request.method": "PUT",
        "http.route": "/hello/{username}",
        "http.response.status_code": 204,
        "url.scheme": "http",
    }
    assert expected.items() <= attributes(put).items()
    assert put.end_time_unix_nano > put.start_time_unix_nano
    assert get.name == "GET /hello/{username}"
    assert attributes(get)["http.response.status_code"] == 404
    assert get.trace_id.hex() != TRACE
    assert get.parent_span_id == b""
    assert get.status.code == Status.STATUS_CODE_UNSET
    assert receiver.names() == {"hello"}


def test_a_failure_of_the_service_is_an_error_span(serve: Serve, receiver: Receiver) -> None:
    """A status of 5xx marks the span as an error."""
    service = serve("--store-timeout", "0.2", environment={"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url})
    with locked(service.database):
        assert service.put("Zoe", BORN).status == 503
    assert service.stop() == 0
    (span,) = receiver.spans()
    assert span.status.code == Status.STATUS_CODE_ERROR
    assert attributes(span)["http.response.status_code"] == 503


def test_spans_tell_nobody(serve: Serve, receiver: Receiver) -> None:
    """No span has a username, a date of birth or a query, whatever was asked for."""
    service = serve("--store-timeout", "0.2", environment={"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url})
    trouble(service)
    assert service.stop() == 0
    assert len(receiver.spans()) > 50
    for span in receiver.spans():
        assert_tells_nobody(str(span.attributes) + span.name + str(span.events) + str(span.status))
        assert_tells_nobody("".join(str(text) for text in attributes(span).values()) + span.name)
        assert not {"url.query", "url.path", "url.full", "http.target", "http.url"} & set(attributes(span))


@pytest.mark.parametrize("workers", ["1", "2"])
def test_the_service_name_of_the_environment_is_used(serve: Serve, receiver: Receiver, workers: str) -> None:
    """OTEL_SERVICE_NAME names the service, also where several workers send."""
    environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url, "OTEL_SERVICE_NAME": "greetings"}
    service = serve("--workers", workers, environment=environment)
    service.get("/hc")
    assert service.stop() == 0
    assert receiver.names() == {"greetings"}


@pytest.mark.parametrize(
    "off",
    [{"OTEL_SDK_DISABLED": "true"}, {"OTEL_TRACES_EXPORTER": "none"}, {"OTEL_EXPORTER_OTLP_ENDPOINT": ""}],
)
def test_traces_are_off_where_so_told(serve: Serve, receiver: Receiver, off: dict[str, str]) -> None:
    """The SDK's own switches are honoured: nothing is sent."""
    service = serve(environment={"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url, **off})
    assert service.get("/hc").status == 200
    assert service.stop() == 0
    assert receiver.received == []
    assert [entry for entry in service.log() if entry["level"] != "info"] == []


def test_an_unknown_exporter_is_a_warning(serve: Serve) -> None:
    """An exporter that this service does not know is named, and the service runs without traces."""
    service = serve(environment={"OTEL_TRACES_EXPORTER": "zipkin"})
    assert service.get("/hc").status == 200
    assert any("zipkin" in entry["message"] for entry in service.log() if entry["level"] == "warning")
    assert service.stop() == 0


def test_a_receiver_that_is_gone_harms_no_request_and_no_stop(serve: Serve) -> None:
    """Without anyone to send spans to, requests are answered and the end is in order."""
    with closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    service = serve(environment={"OTEL_EXPORTER_OTLP_ENDPOINT": url, "OTEL_EXPORTER_OTLP_TIMEOUT": "1"})
    assert service.put("Zoe", BORN).status == 204
    assert service.stop() == 0
    assert not any("raw" in entry for entry in service.log())


def test_a_receiver_that_never_answers_holds_up_no_stop(serve: Serve) -> None:
    """Spans that nobody takes are dropped when the service stops, long before the exporter gives up."""
    with socket.create_server(("127.0.0.1", 0)) as receiver:
        service = serve(
            environment={
                "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{receiver.getsockname()[1]}",
                "OTEL_EXPORTER_OTLP_TIMEOUT": "250",
            }
        )
        assert service.get("/hc").status == 200
        service.signal(signal.SIGTERM)
        assert service.process.wait(60) == 0
    assert service.log()[-1]["message"] == "stopped"
