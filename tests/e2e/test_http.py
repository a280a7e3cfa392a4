"""What runs here, and how it speaks HTTP: methods, negotiation, ids, connections, what is no request."""

import re

import pytest

from tests.e2e.client import JSON, PAGES, Client
from tests.e2e.conftest import Problem

pytestmark = pytest.mark.storeless


# What runs here


def test_the_overview_links_everything(client: Client, name: str) -> None:
    """`/` names the service, its version and commit, and links that lead somewhere."""
    overview = client.get("/").json()
    assert set(overview) == {"service", "version", "commit", "links"}
    assert overview["service"] == "hello"
    assert client.get("/version").json() == {key: overview[key] for key in ("version", "commit")}
    client.put(name, "1815-12-10")
    for link in overview["links"].values():
        assert client.get(link.replace("{username}", name)).status == 200, link


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("*/*", "application/json"),
        ("application/json", "application/json"),
        ("text/html", "text/html"),
        ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", "text/html"),
        ("text/html;q=0.5, application/json", "application/json"),
        ("application/json;q=0.5, text/html", "text/html"),
        ("text/*", "text/html"),
        ("application/json, text/html;q=0", "application/json"),
        ("image/png", "application/json"),
        ("TEXT/HTML", "text/html"),
        ("text/html;q=x", "application/json"),
        (",;,=", "application/json"),
    ],
)
def test_the_page_is_for_who_prefers_html(client: Client, accept: str, kind: str) -> None:
    """`/` is an HTML page where `Accept` ranks it above JSON, and says that it depends on it."""
    answer = client.get("/", Accept=accept)
    assert (answer.status, answer.content_type) == (200, kind)
    assert "accept" in answer.headers["Vary"].lower()


def test_without_accept_there_is_json(client: Client) -> None:
    """A client that names no media type gets JSON."""
    (answer,) = client.exchange(client.head("GET", b"/"))
    assert answer.content_type == "application/json"


def test_health_and_readiness(client: Client) -> None:
    """`/hc` says ok; `/ready` is 200 while the store answers."""
    assert client.get("/hc").json() == {"status": "ok"}
    assert client.get("/ready").status == 200


def test_version_and_commit_are_texts(client: Client) -> None:
    """`/version` holds the two, and neither is empty."""
    version = client.get("/version").json()
    assert set(version) == {"version", "commit"}
    assert all(isinstance(value, str) and value for value in version.values())


def test_metrics_are_prometheus_text(client: Client, person: str) -> None:
    """`/metrics` is in Prometheus' text format, counts requests, and names nobody."""
    name = person.rpartition("/")[2]
    client.get(person)
    text = client.get("/metrics").body.decode()
    sample = r'[a-zA-Z_:][\w:]*(\{([a-zA-Z_]\w*="(\\.|[^"\\])*",?)*\})? \S+'
    for line in text.splitlines():
        assert line.startswith("#") or re.fullmatch(sample, line), line
    assert 'route="/hello/{username}"' in text
    assert name not in text


def test_the_openapi_document_has_all_paths(client: Client) -> None:
    """The document is OpenAPI 3.1 and describes each path of the contract."""
    document = client.get("/openapi.json").json()
    assert document["openapi"].startswith("3.1.")
    assert set(document["paths"]) == {"/hello/{username}", *(target for target, _ in PAGES)}
    assert set(document["paths"]["/hello/{username}"]) >= {"get", "put", "delete"}


@pytest.mark.parametrize("target", ["/docs", "/"])
def test_pages_bring_what_they_load(client: Client, target: str) -> None:
    """All that a page loads comes from the service itself, and is there."""
    page = client.get(target, Accept="text/html").body.decode()
    loaded = re.findall(r'<(?:script|link|img)\b[^>]*?\b(?:src|href)="([^"]+)"', page)
    assert loaded
    for address in loaded:
        assert re.match(r"/(?!/)", address), address
        answer = client.get(address)
        assert answer.status == 200
        assert client.get(address, If_None_Match=answer.headers["ETag"]).status == 304


# Methods and paths


@pytest.mark.parametrize("method", ["POST", "PATCH", "OPTIONS", "PUT", "DELETE", "TRACE", "PROPFIND"])
@pytest.mark.parametrize("target", [target for target, _ in PAGES])
def test_reading_is_all_that_most_paths_allow(
    client: Client, problem: Problem, target: str, method: str
) -> None:
    """Another method than GET and HEAD is a 405, and `Allow` lists the two."""
    answer = client.send(method, target, b"{}" if method == "PUT" else None, JSON)
    assert "GET" in problem(answer, 405)
    assert answer.headers["Allow"].split(", ") == ["GET", "HEAD"]


@pytest.mark.parametrize("method", ["POST", "PATCH", "OPTIONS", "TRACE", "PROPFIND"])
def test_a_person_allows_four_methods(client: Client, person: str, problem: Problem, method: str) -> None:
    """Another method on a person is a 405, and `Allow` lists those there are."""
    answer = client.send(method, person, b'{"dateOfBirth": "2000-01-01"}', JSON)
    problem(answer, 405)
    assert sorted(answer.headers["Allow"].split(", ")) == ["DELETE", "GET", "HEAD", "PUT"]


@pytest.mark.parametrize(
    "target",
    [
        "/nothing",
        "/Hello",
        "/hello/ada/",
        "/hello/ada/x",
        "/hello//",
        "//hello",
        "/hc/",
        "/birthdays/",
        "/birthdays.ics/",
        "/version/x",
        "/web/",
        "/web/nothing.js",
        "/web/../../schema.py",
        "/web/%2e%2e/schema.py",
        "/web/..%2f..%2fetc%2fpasswd",
        "/web//etc/passwd",
        "/favicon.php",
        "/.env",
        "/%00",
        "/%FF",
    ],
)
def test_an_unknown_path_is_404(client: Client, problem: Problem, target: str) -> None:
    """What is no path is a 404, below /web/ a 405 by other methods; no other file is served."""
    problem(client.get(target), 404)
    problem(client.send("DELETE", target), 405 if target.startswith("/web/") else 404)
    assert client.send("HEAD", target).status == 404


def test_parameters_of_others_are_passed_over(client: Client, person: str) -> None:
    """A query parameter that a path does not know changes nothing."""
    for target in (person, "/hello", "/birthdays", "/hc", "/birthdays.ics"):
        assert client.get(f"{target}?utm_source=x&utm_source=y&%FF=%00&&=").status == 200


# Request ids


@pytest.mark.parametrize(
    "given", ["abc", "7f3c9a52-1c1e-4a5c-8f57-2d3a1d5f8e10", "Root=1-67891233-abcdef012345", "x" * 128]
)
def test_a_sane_request_id_is_taken(client: Client, given: str) -> None:
    """`X-Request-ID` of the caller comes back, with good answers and bad ones."""
    for target in ("/hc", "/nothing", "/hello/ada1"):
        assert client.get(target, X_Request_ID=given).headers.get_all("X-Request-ID") == [given]


@pytest.mark.parametrize(
    "given", ["", " ", "two words", "x" * 129, "x" * 5000, "a\tb", "é", '"', "<b>", "a;b", "\x7f"]
)
def test_another_request_id_is_replaced(client: Client, given: str) -> None:
    """What could confuse a log is not taken: an id is made instead."""
    (made,) = client.get("/hc", X_Request_ID=given).headers.get_all("X-Request-ID") or []
    assert made != given
    assert re.fullmatch(r"[\w.-]{8,64}", made, re.ASCII)


def test_request_ids_are_made(client: Client) -> None:
    """Each answer without an id of the caller's has one of its own."""
    targets = ["/hc", "/nothing", "/hello/ada1", "/hello", "/birthdays.ics", "/docs"]
    assert len({client.get(target).headers["X-Request-ID"] for target in targets}) == len(targets)


# Connections


def test_a_connection_is_kept_alive(client: Client, person: str) -> None:
    """A connection serves request after request, good and bad."""
    client.get("/hc")
    used = client.connection.sock
    assert used
    for target in (person, "/nothing", "/hello/ada1", "/birthdays.ics", "/docs", "/hello"):
        client.get(target)
        client.put_body("ada1", b"{}")
        client.send("POST", person, b"x" * 2000)
        client.put_body("ada", b" " * 5000)
        client.put_body("ada", b"{}", {})
    assert client.connection.sock is used


def test_http_1_0_is_answered(client: Client) -> None:
    """A request of HTTP/1.0 is answered, and its connection closed."""
    (answer,) = client.exchange(b"GET /hc HTTP/1.0\r\n\r\n")
    assert answer.json() == {"status": "ok"}


# What is no request


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"hello\r\n\r\n", id="text"),
        pytest.param(b"GET\r\n\r\n", id="method alone"),
        pytest.param(b"GET /hc HTTP/9.9\r\n\r\n", id="version to come"),
        pytest.param(b"GET /hc HTTP/x\r\n\r\n", id="no number"),
        pytest.param(b"get /hc HTTP/1.1\r\nHost: x\r\n\r\n", id="lower case"),
        pytest.param(b"GET hc HTTP/1.1\r\nHost: x\r\n\r\n", id="no slash"),
        pytest.param(b"GET /h c HTTP/1.1\r\nHost: x\r\n\r\n", id="space in the path"),
        pytest.param(b"GET /hc HTTP/1.1\r\nno colon\r\n\r\n", id="field without a colon"),
        pytest.param(b"GET /hc HTTP/1.1\r\nX : y\r\n\r\n", id="space before the colon"),
        pytest.param(b"GET /hc HTTP/1.1\r\nX: a\x00b\r\n\r\n", id="NUL in a field"),
        pytest.param(b"GET /\x00 HTTP/1.1\r\nHost: x\r\n\r\n", id="NUL in the path"),
        pytest.param(b"PUT /hello/ada HTTP/1.1\r\nContent-Length: -1\r\n\r\n", id="negative length"),
        pytest.param(b"PUT /hello/ada HTTP/1.1\r\nContent-Length: x\r\n\r\n", id="length that is no number"),
        pytest.param(
            b"PUT /hello/ada HTTP/1.1\r\nContent-Length: 1" + b"0" * 30 + b"\r\n\r\n", id="huge length"
        ),
        pytest.param(
            b"PUT /hello/ada HTTP/1.1\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}", id="two lengths"
        ),
        pytest.param(
            b"PUT /hello/ada HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            id="length and chunks",
        ),
        pytest.param(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 200, id="TLS"),
        pytest.param(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", id="HTTP/2"),
        pytest.param(b"\x00" * 500, id="zeros"),
    ],
)
def test_what_is_no_request_is_400(client: Client, problem: Problem, data: bytes) -> None:
    """Bytes that are no request of HTTP/1.1 get one answer, a 400, and the connection is closed."""
    (answer,) = client.exchange(data)
    problem(answer, 400)
    assert answer.headers["Connection"] == "close"


def test_a_bad_chunk_is_4xx(client: Client, problem: Problem) -> None:
    """A chunked body that is no such body is refused."""
    head = client.head("PUT", b"/hello/ada", b"Content-Type: application/json", b"Transfer-Encoding: chunked")
    (answer,) = client.exchange(head + b"zz\r\nxx\r\n0\r\n\r\n", ["PUT"])
    problem(answer, 400)


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param([b"X-Long: " + b"x" * 40_000], id="one long field"),
        pytest.param([b"X-%d: " % n + b"x" * 900 for n in range(60)], id="much in all"),
        pytest.param([b"X-%d: y" % n for n in range(150)], id="many fields"),
        pytest.param([b"X" * 40_000 + b": y"], id="long name"),
    ],
)
def test_too_much_header_is_431(client: Client, problem: Problem, fields: list[bytes]) -> None:
    """A header of more than 100 fields or 32 KiB is a 431."""
    (answer,) = client.exchange(client.head("GET", b"/hc", *fields))
    problem(answer, 431)


def test_a_header_without_an_end_is_431(client: Client, problem: Problem) -> None:
    """A header that goes on and on is refused before it ends."""
    (answer,) = client.exchange(b"GET /hc HTTP/1.1\r\nX-Endless: " + b"x" * 40_000)
    problem(answer, 431)


@pytest.mark.parametrize("target", [b"/hello/" + b"x" * 9000, b"/hc?" + b"x" * 9000])
def test_a_long_url_is_414(client: Client, problem: Problem, target: bytes) -> None:
    """A path and query of more than 8 KiB is a 414."""
    (answer,) = client.exchange(client.head("GET", target))
    problem(answer, 414)


def test_a_header_of_good_size_is_taken(client: Client) -> None:
    """What stays within the bounds is answered: 90 fields, 20 KB, a query of 7 KB."""
    fields = [b"X-%d: " % n + b"y" * 200 for n in range(90)]
    (answer,) = client.exchange(client.head("GET", b"/hc?" + b"x" * 7000, *fields))
    assert answer.status == 200


def test_the_service_is_well_after_all_this(client: Client) -> None:
    """Refused bytes harm nobody else: the service goes on."""
    for data in (
        b"\x00" * 100,
        b"GET /hc HTTP/1.1\r\nX",
        b"PUT /hello/a HTTP/1.1\r\nContent-Length: 9\r\n\r\n{",
    ):
        connection = Client(f"{client.parts.scheme}://{client.parts.netloc}").connection
        connection.connect()
        assert connection.sock
        connection.sock.sendall(data)
        connection.close()
    assert client.get("/hc").status == 200
    assert client.get("/ready").status == 200
