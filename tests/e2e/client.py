"""A client of the service, of the standard library alone: whole requests, raw bytes, the calendar's days."""

import http.client
import io
import json
import socket
import ssl
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any, TypeVar
from urllib.parse import quote, urlsplit

T = TypeVar("T")

JSON = {"Content-Type": "application/json"}
TIMEOUT = 30
# Each path that answers without a name, and its media type.
PAGES = [
    ("/hello", "application/json"),
    ("/birthdays", "application/json"),
    ("/birthdays.ics", "text/calendar"),
    ("/", "application/json"),
    ("/hc", "application/json"),
    ("/ready", "application/json"),
    ("/version", "application/json"),
    ("/metrics", "text/plain"),
    ("/openapi.json", "application/json"),
    ("/docs", "text/html"),
]


@dataclass(frozen=True)
class Answer:
    """A response, read to its end."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def content_type(self) -> str:
        return self.headers.get_content_type()

    @property
    def message(self) -> str:
        """The greeting of a 200."""
        assert self.status == 200, self
        text = self.json()["message"]
        assert isinstance(text, str)
        return text


class Client:
    """Requests on one connection that is kept alive."""

    def __init__(self, url: str) -> None:
        self.parts = urlsplit(url)
        assert self.parts.scheme in {"http", "https"}, f"{url} is no URL of a service"
        assert self.parts.hostname
        self.host = self.parts.hostname
        kind = http.client.HTTPSConnection if self.parts.scheme == "https" else http.client.HTTPConnection
        self.connection = kind(self.host, self.parts.port, timeout=TIMEOUT)

    def send(
        self, method: str, target: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """Send a request; `target` goes out as it is."""
        self.connection.request(method, target, body, dict(headers or {}))
        response = self.connection.getresponse()
        return Answer(response.status, response.headers, response.read())

    def get(self, target: str, **headers: str) -> Answer:
        """GET; header fields as keywords, `_` for `-`."""
        return self.send("GET", target, headers={k.replace("_", "-"): v for k, v in headers.items()})

    def put(self, name: str, born: str | date, query: str = "", **headers: str) -> Answer:
        body = json.dumps({"dateOfBirth": str(born)}).encode()
        fields = {k.replace("_", "-"): v for k, v in headers.items()}
        return self.send("PUT", path_of(name) + query, body, {**JSON, **fields})

    def put_body(self, name: str, body: bytes, headers: Mapping[str, str] | None = None) -> Answer:
        """PUT these very bytes."""
        return self.send("PUT", path_of(name), body, JSON if headers is None else headers)

    def greet(self, name: str, query: str = "", **headers: str) -> Answer:
        return self.get(path_of(name) + query, **headers)

    def pages(self, target: str, key: str) -> Iterable[list[dict[str, Any]]]:
        """Return the pages of a list, following `next` to the end; `target` has a query already."""
        cursor = ""
        while cursor is not None:
            answer = self.get(target + (f"&after={quote(cursor)}" if cursor else ""))
            assert answer.status == 200, answer
            page = answer.json()
            assert set(page) == {key, "next"}
            yield page[key]
            cursor = page["next"]
            assert cursor is None or (isinstance(cursor, str) and cursor)

    def exchange(self, data: bytes, methods: Iterable[str] = ("GET",)) -> list[Answer]:
        """Send raw bytes on a connection that the service closes; return its answers, one a method."""
        port = self.parts.port or (443 if self.parts.scheme == "https" else 80)
        connection = socket.create_connection((self.host, port), timeout=TIMEOUT)
        if self.parts.scheme == "https":
            connection = ssl.create_default_context().wrap_socket(connection, server_hostname=self.host)
        with connection:
            connection.sendall(data)
            received = _Received(connection.makefile("rb").read())
        answers = [_read_answer(received, method) for method in methods]
        assert received.read() == b""
        return answers

    def head(self, method: str, target: bytes, *fields: bytes, close: bool = True) -> bytes:
        """Return the bytes of a request without a body."""
        lines = [b"%s %s HTTP/1.1" % (method.encode(), target), b"Host: %s" % self.parts.netloc.encode()]
        lines += [*fields, *([b"Connection: close"] if close else [])]
        return b"\r\n".join(lines) + b"\r\n\r\n"

    def close(self) -> None:
        self.connection.close()


class _Received(io.BytesIO):
    """What several HTTPResponse objects read from, one after the other, each closing it in the end."""

    def makefile(self, _: str) -> "_Received":
        return self

    def close(self) -> None:
        pass


def _read_answer(received: _Received, method: str) -> Answer:
    response = http.client.HTTPResponse(received, method=method)  # type: ignore[arg-type]
    response.begin()
    return Answer(response.status, response.headers, response.read())


def path_of(name: str) -> str:
    """Return the path of a person."""
    return f"/hello/{quote(name, safe='')}"


def greeting(name: str, days: int) -> str:
    """Return the text of the greeting, to the letter."""
    return f"Hello, {name}! Your birthday is in {days} day(s)" if days else f"Hello, {name}! Happy birthday!"


def days_until(born: date, today: date, leap_day: str) -> int:
    """Count the days to the next birthday, one by one."""
    return next(n for n in range(367) if _celebrated(born, today + timedelta(days=n), leap_day))


def _celebrated(born: date, day: date, leap_day: str) -> bool:
    if (born.month, born.day) == (2, 29) and not _is_leap(day.year):
        return (day.month, day.day) == ((2, 28) if leap_day == "feb28" else (3, 1))
    return (day.month, day.day) == (born.month, born.day)


def _is_leap(year: int) -> bool:
    return year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)


def noon_zone() -> str:
    """Return a time zone in which it is about noon, so that the day does not change under a test."""
    offset = 12 - datetime.now(UTC).hour  # -11 to 12
    return f"Etc/GMT{-offset:+d}"  # the sign is POSIX's: Etc/GMT-2 is two hours ahead


def within_an_hour(act: Callable[[], T]) -> T:
    """Do it, and again if a full hour passed meanwhile: only then does any day of these tests begin."""
    while True:
        hour = datetime.now(UTC).hour
        result = act()
        if datetime.now(UTC).hour == hour:
            return result
