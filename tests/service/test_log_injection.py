"""The log keeps its shape, and its silence about people, whatever anybody sends."""

import json
import logging
import re
from collections.abc import Iterator
from contextlib import closing, suppress

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hello.logs import JSONFormatter, TextFormatter
from tests.conftest import Serve
from tests.support.service import Service, connect, read_to_end

NAME, DATE, SECRET = "Wilhelmina", "1917-03-08", "sesame"  # pragma: allowlist secret
FORGED = "00:00:00 error   forged"
# Line breaks of any kind, a terminal's escapes, turns of direction, invisible and invalid characters.
PIECES = [
    b"\r\n",
    b"\n",
    b"\r",
    b"\0",
    b"\x0b",
    b"\x0c",
    b"\x1b[2J\x1b[31m",
    b"\x7f",
    b"\x80\xff\xfe",
    b"\xc0\xaf",
    b"\xed\xa0\x80",
    "\x85".encode(),
    "\x9b31m".encode(),
    "\u2028\u2029".encode(),
    "\u202e\u2066\u200f".encode(),
    "\u200b\ufeff".encode(),
    b'"}\n{"level":"error","message":"forged"}',
]
LEVELS = r"debug|info|warning|error|critical"


def hostile(piece: bytes) -> Iterator[bytes]:
    """Yield requests that have it in the method, path, query, header fields and body."""
    text = NAME.encode() + piece + FORGED.encode().replace(b" ", b"_")
    coded = b"".join(b"%%%02x" % byte for byte in text)
    close = b"Host: x\r\nConnection: close\r\n"
    authorized = b"Authorization: Bearer " + SECRET.encode() + b"\r\n"
    yield b"GET" + text + b" /hc HTTP/1.1\r\n" + close + b"\r\n"
    for target in (text, coded):
        yield b"GET /hello/" + target + b" HTTP/1.1\r\n" + close + authorized + b"\r\n"
        yield b"GET /" + target + b"?" + target + b" HTTP/1.1\r\n" + close + b"\r\n"
        yield b"GET /hello?after=" + target + b"&limit=" + target + b" HTTP/1.1\r\n" + close + b"\r\n"
        yield b"GET /hello/Zoe?tz=" + target + b" HTTP/1.1\r\n" + close + b"\r\n"
    identified = b"X-Request-ID: x" + piece + FORGED.encode()  # what is sane in it is logged
    yield b"GET /nothing HTTP/1.1\r\n" + close + identified + b"\r\n\r\n"
    for field in (b"User-Agent", b"Host", b"Authorization", b"X-Forwarded-For", b"Accept"):
        yield b"GET /nothing HTTP/1.1\r\n" + close + field + b": " + SECRET.encode() + text + b"\r\n\r\n"
    yield b"GET /nothing HTTP/1.1\r\n" + close + text + b": x\r\n\r\n"
    for body in (
        text,
        json.dumps({text.decode("latin-1"): DATE}).encode(),
        b'{"dateOfBirth":"' + text + b'"}',
    ):
        yield (
            b"PUT /hello/%b HTTP/1.1\r\nContent-Type: application/json\r\n" % NAME.encode()
            + close
            + b"Content-Length: %d\r\n\r\n" % len(body)
            + body
        )


def send(service: Service, data: bytes) -> bytes:
    """Send a request, and return what comes back."""
    with closing(connect(service)) as connection:
        with suppress(ConnectionError):
            connection.sendall(data)
        return read_to_end(connection)


@pytest.mark.parametrize("form", ["json", "text"])
def test_nobody_shapes_the_log(serve: Serve, form: str) -> None:
    """Each entry is one line of printable characters; no name, date or secret; no traceback and no 500."""
    service = serve("--log", form, "--access-log", "all", "--request-timeout", "5")
    started = (service.folder / "log").stat().st_size
    assert service.put(NAME, DATE).status == 204
    sent = 1
    for piece in PIECES:
        for data in hostile(piece):
            received = send(service, data)
            assert re.match(rb"HTTP/1\.1 [234]\d\d ", received), (data, received)
            assert FORGED.encode() not in received.partition(b"\r\n\r\n")[0]
            sent += len(re.findall(rb"HTTP/1\.1 \d", received))
    assert service.stop() == 0
    raw = (service.folder / "log").read_bytes()[started:].decode()  # raises at what is no UTF-8
    lines = raw.split("\n")
    assert lines.pop() == ""
    assert all(line.isprintable() for line in lines)
    for line in lines:
        if form == "json":
            assert json.loads(line)["level"] in LEVELS.split("|")
        else:
            assert re.match(rf"\d\d:\d\d:\d\d ({LEVELS}) ", line), line
    requests = [line for line in lines if re.search(r"\brequest_id\b", line)]
    assert len(requests) == sent
    assert not re.search(
        rf"forged|{NAME}|{DATE}|{SECRET}|Traceback|status\W+500", "\n".join(requests), re.IGNORECASE
    )
    assert len(lines) - len(requests) == len(["draining", "no longer listening", "stopped"])


def record(message: str, field: str, error: str) -> logging.LogRecord:
    """Return an entry with a field of its own and an exception."""
    failure = LookupError(error)
    entry = logging.LogRecord("x", logging.ERROR, "x", 1, "%s", (message,), (LookupError, failure, None))
    entry.fields = {"field": field}
    return entry


texts = st.text(st.characters(exclude_categories=["Cs"])) | st.sampled_from(
    [piece.decode("utf-8", "replace") for piece in PIECES]
)


@given(texts, texts, texts)
@example("\n" + FORGED, "\x9b2J", f"\n{FORGED}\u2028\x1b[2J")
def test_any_text_stays_within_its_entry(message: str, field: str, error: str) -> None:
    """In JSON the entry is one printable line that holds the text as it was; in text the rest is indented."""
    line = JSONFormatter().format(record(message, field, error))
    assert line.isprintable()
    entry = json.loads(line)
    assert (entry["message"], entry["field"]) == (message, field)
    assert error in entry["exception"]
    first, *others = TextFormatter().format(record(message, field, error)).split("\n")
    assert re.match(r"\d\d:\d\d:\d\d error   ", first)
    assert all(line.startswith("    ") for line in others)
    assert all(line.isprintable() for line in (first, *others))
