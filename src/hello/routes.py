"""The routes: parse the request, ask the domain and the store, answer.

Handlers raise; `app` makes answers of what they raise.
"""

import json
import re
from collections.abc import AsyncIterator, Callable
from datetime import date, datetime
from functools import cached_property
from hashlib import blake2b
from importlib.resources import files
from mimetypes import guess_type
from typing import Any, Never
from urllib.parse import parse_qsl

import msgspec
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from hello import __version__, birthday, cursor, schema
from hello.settings import Settings
from hello.stores import Entry, Store

BODY_BYTES = 4096
DEFAULT_LIMIT, MAX_LIMIT = 100, 1000
DEFAULT_DAYS, MAX_DAYS = 30, 366
FEED_PAGE = 500  # people read at once for the calendar feed
CURSOR_DAYS = 2  # a list of birthdays can be paged through for this long

CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self';"
    " base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

_BODY = re.compile(rb'\s*\{\s*"dateOfBirth"\s*:\s*"([0-9]{4}-[0-9]{2}-[0-9]{2})"\s*\}\s*')
_encode = msgspec.json.Encoder().encode


class NotFoundError(Exception):
    """There is nothing at this path."""


class UnknownNameError(Exception):
    """Nobody is registered under this username."""


class NameTakenError(Exception):
    """The username is taken, and the request was to create only."""


class InvalidParameterError(ValueError):
    """A query parameter can't be used."""


class InvalidBodyError(ValueError):
    """The body is not the JSON that is asked for."""


class UnsupportedMediaTypeError(Exception):
    """The body is not declared as JSON."""


class UnsupportedPreconditionError(Exception):
    """A conditional header that this resource does not understand."""


class MethodNotAllowedError(Exception):
    """The resource has no such method; `allow` lists those it has."""

    def __init__(self, allow: str) -> None:
        super().__init__(f"Use one of: {allow}.")
        self.allow = allow


class JSONResponse(Response):
    """An answer encoded from a type of `schema`."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        return _encode(content)


class Routes:
    """The handlers, and what they share: the store, the settings, the clock."""

    def __init__(
        self,
        settings: Settings,
        store: Store,
        clock: Callable[[], datetime],
        render_metrics: Callable[[], bytes],
    ) -> None:
        self._settings = settings
        self._store = store
        self._clock = clock
        self._render_metrics = render_metrics
        self._zone = birthday.time_zone(settings.timezone)
        self.person = PersonResource(settings, store, self.today)
        self.draining = False
        self.openapi: bytes = b""  # `app` sets both, from the table of errors
        self.problems_html: str = ""

    def table(self) -> list[Route]:
        """Return the routes, for Starlette's router and for the OpenAPI document."""
        return [
            Route("/hello/{username}", self.person, methods=PersonResource.METHODS),
            Route("/hello", self.people, methods=["GET"]),
            Route("/birthdays", self.birthdays, methods=["GET"]),
            Route("/birthdays.ics", self.feed, methods=["GET"]),
            Route("/", self.index, methods=["GET"]),
            Route("/hc", self.health, methods=["GET"]),
            Route("/ready", self.ready, methods=["GET"]),
            Route("/version", self.version, methods=["GET"]),
            Route("/metrics", self.metrics, methods=["GET"]),
            Route("/openapi.json", self.openapi_document, methods=["GET"]),
            Route("/docs", self.docs, methods=["GET"]),
            Route("/web/{path:path}", self.asset, methods=["GET"], include_in_schema=False),
        ]

    def today(self, query: bytes = b"") -> date:
        """Return the date in the time zone of the `tz` parameter, else of the settings."""
        zone = self._zone
        if query and (name := parameters(query, "tz").get("tz")) is not None:
            zone = birthday.time_zone(name)
        return birthday.today_in(zone, self._clock())

    async def people(self, request: Request) -> Response:
        """GET /hello."""
        values = parameters(request.url.query.encode(), "limit", "after")
        limit = _number(values, "limit", DEFAULT_LIMIT, 1, MAX_LIMIT)
        after = cursor.decode("people", values["after"]) if "after" in values else None
        page = await self._store.people(limit, after)
        return JSONResponse(
            schema.People(
                people=[schema.PersonRecord(name, born.isoformat()) for name, born in page.people],
                next=cursor.encode("people", page.next) if page.next else None,
            )
        )

    async def birthdays(self, request: Request) -> Response:
        """GET /birthdays."""
        query = request.url.query.encode()
        values = parameters(query, "days", "limit", "after", "tz")
        days = _number(values, "days", DEFAULT_DAYS, 0, MAX_DAYS)
        limit = _number(values, "limit", DEFAULT_LIMIT, 1, MAX_LIMIT)
        today = self.today(query)
        leap_day = self._settings.leap_day
        after = None
        if "after" in values:
            # The cursor keeps the day of the first page, so that midnight does not tear a list apart.
            first_day, after = _split_position(cursor.decode("birthdays", values["after"]))
            if abs((today - first_day).days) > CURSOR_DAYS:
                raise cursor.InvalidCursorError(
                    "This cursor is from another day; start again without `after`."
                )
            today = first_day
        page = await self._store.birthdays(birthday.birthday_ranges(today, days, leap_day), limit, after)
        upcoming = [(name, birthday.next_birthday(born, today, leap_day)) for name, born in page.people]
        return JSONResponse(
            schema.Birthdays(
                birthdays=[
                    schema.UpcomingBirthday(name, day.isoformat(), (day - today).days)
                    for name, day in upcoming
                ],
                next=cursor.encode("birthdays", f"{today}{page.next}") if page.next else None,
            )
        )

    async def feed(self, request: Request) -> Response:
        """GET /birthdays.ics: streamed, so that its length costs no memory."""
        first_page = await self._store.people(FEED_PAGE)  # before the first byte, to fail as a 503
        body = self._feed(first_page) if request.method == "GET" else _nothing()
        return StreamingResponse(
            body,
            media_type="text/calendar",
            headers={
                "cache-control": "private, no-cache",
                "content-disposition": 'inline; filename="birthdays.ics"',
            },
        )

    async def _feed(self, page: Any) -> AsyncIterator[bytes]:
        from hello import feed  # icalendar is slow to load, and most processes never need it

        today = self.today()
        yield feed.opening()
        while True:
            for start in range(0, len(page.people), 50):  # a part at a time: others want the loop as well
                yield b"".join(
                    feed.event(person, today, self._settings.leap_day)
                    for person in page.people[start : start + 50]
                )
            if page.next is None:
                break
            page = await self._store.people(FEED_PAGE, page.next)
        yield feed.CLOSING

    async def index(self, request: Request) -> Response:
        """GET /: the page for browsers, an overview for programs."""
        if prefers_html(request.headers.get("accept", "")):
            return _html(_web("index.html").decode())
        return JSONResponse(
            schema.Service(
                service="hello",
                version=__version__,
                commit=self._settings.commit,
                links=schema.Links(
                    greeting="/hello/{username}",
                    people="/hello",
                    birthdays="/birthdays",
                    calendar="/birthdays.ics",
                    docs="/docs",
                    openapi="/openapi.json",
                    health="/hc",
                    readiness="/ready",
                    metrics="/metrics",
                ),
            ),
            headers={"vary": "accept"},
        )

    async def health(self, request: Request) -> Response:
        """GET /hc: of the process alone; never touches the store."""
        if self.draining:
            return JSONResponse(schema.Health("draining"), 503)
        return JSONResponse(schema.Health("ok"))

    async def ready(self, request: Request) -> Response:
        """GET /ready: whether requests should be sent here."""
        if self.draining:
            return JSONResponse(schema.Health("draining"), 503)
        await self._store.ping()
        return JSONResponse(schema.Health("ready"))

    async def version(self, request: Request) -> Response:
        """GET /version."""
        return JSONResponse(schema.Version(__version__, self._settings.commit))

    async def metrics(self, request: Request) -> Response:
        """GET /metrics."""
        return Response(self._render_metrics(), media_type="text/plain; version=0.0.4")

    async def openapi_document(self, request: Request) -> Response:
        """GET /openapi.json."""
        return Response(self.openapi, media_type="application/json")

    async def docs(self, request: Request) -> Response:
        """GET /docs."""
        return _html(_web("docs.html").decode().replace("<!-- problems -->", self.problems_html))

    async def asset(self, request: Request) -> Response:
        """GET /web/…: the files of the pages."""
        path = request.path_params["path"]
        content = self._assets.get(path)
        if content is None:
            raise NotFoundError
        etag = _etag(content)
        headers = {"etag": etag.decode(), "cache-control": "no-cache", "x-content-type-options": "nosniff"}
        if _matches(request.headers.get("if-none-match", "").encode("latin-1"), etag):
            return Response(status_code=304, headers=headers)
        return Response(content, media_type=guess_type(path)[0], headers=headers)

    @cached_property
    def _assets(self) -> dict[str, bytes]:
        """The shipped files by path, read once: what is not in here is not served."""
        root = files("hello") / "web"
        found: dict[str, bytes] = {}
        folders = [("", root)]
        while folders:
            prefix, folder = folders.pop()
            for child in folder.iterdir():
                if child.is_dir():
                    folders.append((f"{prefix}{child.name}/", child))
                else:
                    found[prefix + child.name] = child.read_bytes()
        return found


class PersonResource:
    """/hello/{username}, a plain ASGI application: Starlette's Request would double its cost."""

    METHODS = ("GET", "PUT", "DELETE")
    ALLOW = "DELETE, GET, HEAD, PUT"

    def __init__(self, settings: Settings, store: Store, today: Callable[[bytes], date]) -> None:
        self._leap_day = settings.leap_day
        self._store = store
        self._today = today

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        method = scope["method"]
        if method in {"GET", "HEAD"}:
            await self.greet(scope, send)
        elif method == "PUT":
            await self.register(scope, receive, send)
        elif method == "DELETE":
            await self.forget(scope, send)
        else:
            raise MethodNotAllowedError(self.ALLOW)

    async def greet(self, scope: Scope, send: Send) -> None:
        """GET: the greeting, which changes at midnight; its ETag does too."""
        key = birthday.username_key(_username(scope))
        today = self._today(scope["query_string"])
        person = await self._store.get(key)
        if person is None:
            raise UnknownNameError
        text = birthday.message(person.username, birthday.days_until(person.born, today, self._leap_day))
        body = _encode({"message": text})
        etag = _etag(body)
        headers = [
            (b"content-type", b"application/json"),
            (b"etag", etag),
            (b"cache-control", b"private, no-cache"),
        ]
        if _matches(_header(scope, b"if-none-match"), etag):
            await send({"type": "http.response.start", "status": 304, "headers": headers[1:]})
            await send({"type": "http.response.body"})
            return
        headers.append((b"content-length", b"%d" % len(body)))
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def register(self, scope: Scope, receive: Receive, send: Send) -> None:
        """PUT: create or replace; with `If-None-Match: *`, only create."""
        username, key = birthday.parse_username(_username(scope))
        create = _creates_only(scope)
        today = self._today(scope["query_string"])
        body = (await receive())["body"]  # whole: `app` has read it
        born = birthday.parse_date_of_birth(_date_of_birth(body), today)
        if not await self._store.put(Entry(key, username, born), create=create):
            raise NameTakenError
        await _no_content(send)

    async def forget(self, scope: Scope, send: Send) -> None:
        """DELETE."""
        key = birthday.username_key(_username(scope))
        if _header(scope, b"if-match") or _header(scope, b"if-none-match"):
            raise UnsupportedPreconditionError
        if not await self._store.delete(key):
            raise UnknownNameError
        await _no_content(send)


def parameters(query: bytes, *names: str) -> dict[str, str]:
    """Return the query parameters of these names; others are none of our business.

    Raises:
        InvalidParameterError: one of them is given twice.
    """
    values: dict[str, str] = {}
    for name, value in parse_qsl(query.decode("latin-1"), keep_blank_values=True, errors="replace"):
        if name in values:
            raise InvalidParameterError(f"Give the parameter `{name}` once.")
        if name in names:
            values[name] = value
    return values


def prefers_html(accept: str) -> bool:
    """Return whether an Accept header (RFC 9110, 12.5.1) ranks text/html above application/json."""
    return _quality(accept, "text/html") > _quality(accept, "application/json")


def check_content_type(scope: Scope) -> None:
    """Raise UnsupportedMediaTypeError unless the body is declared as JSON, in UTF-8, as it is."""
    kind, *options = _header(scope, b"content-type").lower().split(b";")
    charsets = [o.strip()[8:].strip(b'"') for o in options if o.strip().startswith(b"charset=")]
    encoding = _header(scope, b"content-encoding").lower()
    if (
        kind.strip() != b"application/json"
        or charsets not in ([], [b"utf-8"])
        or encoding not in {b"", b"identity"}
    ):
        raise UnsupportedMediaTypeError


def _quality(accept: str, media_type: str) -> float:
    best = (0, 0.0)  # of the most specific range that matches
    ranges = ("*/*", media_type.partition("/")[0] + "/*", media_type)
    for item in accept.lower().split(","):
        name, *options = (part.strip() for part in item.split(";"))
        if name in ranges:
            quality = next((o[2:] for o in options if o.startswith("q=")), "1")
            valid = re.fullmatch(r"[01](\.[0-9]{0,3})?", quality)
            best = max(best, (ranges.index(name) + 1, float(quality) if valid else 0.0))
    return best[1]


def _number(values: dict[str, str], name: str, default: int, low: int, high: int) -> int:
    text = values.get(name)
    if text is None:
        return default
    if not re.fullmatch(r"[0-9]{1,9}", text) or not low <= int(text) <= high:
        raise InvalidParameterError(f"Give `{name}` as a whole number from {low} to {high}.")
    return int(text)


def _split_position(position: str) -> tuple[date, str]:
    try:
        return date.fromisoformat(position[:10]), position[10:]
    except ValueError:
        raise cursor.InvalidCursorError("This is not a cursor of this list.") from None


def _username(scope: Scope) -> str:
    path: str = scope["path"]
    return path[len("/hello/") :]


def _header(scope: Scope, name: bytes) -> bytes:
    values = [value for key, value in scope["headers"] if key == name]
    return values[0] if len(values) == 1 else b", ".join(values)


def _creates_only(scope: Scope) -> bool:
    condition = _header(scope, b"if-none-match").strip()
    # An unknown condition must not be passed over: the caller relies on it (RFC 9110, 13.1).
    if condition not in {b"", b"*"} or _header(scope, b"if-match"):
        raise UnsupportedPreconditionError
    return condition == b"*"


def _date_of_birth(body: bytes) -> str:
    """Return the date in the body, still to be parsed.

    Raises:
        InvalidBodyError: anything but an object with the one key.
    """
    if match := _BODY.fullmatch(body):
        return match[1].decode()
    try:
        value = json.loads(body.decode(), object_pairs_hook=_no_repeats, parse_constant=_no_constants)
    except UnicodeDecodeError:
        raise InvalidBodyError("The body is not UTF-8.") from None
    except json.JSONDecodeError as error:
        raise InvalidBodyError(
            f"The body is not JSON ({error.msg.lower()} at character {error.pos + 1});"
            ' send {"dateOfBirth": "YYYY-MM-DD"}.'
        ) from None
    except RecursionError:
        raise InvalidBodyError("The body is nested too deeply.") from None
    if not isinstance(value, dict) or list(value) != ["dateOfBirth"]:
        raise InvalidBodyError('Send an object with one key: {"dateOfBirth": "YYYY-MM-DD"}.')
    if not isinstance(value["dateOfBirth"], str):
        raise InvalidBodyError('Send dateOfBirth as text: {"dateOfBirth": "YYYY-MM-DD"}.')
    return value["dateOfBirth"]


def _no_repeats(pairs: list[tuple[str, object]]) -> dict[str, object]:
    value = dict(pairs)
    if len(value) < len(pairs):
        raise InvalidBodyError('A key comes twice; send {"dateOfBirth": "YYYY-MM-DD"}.')
    return value


def _no_constants(_: str) -> Never:
    raise InvalidBodyError("NaN and Infinity are not JSON.")


def _etag(body: bytes) -> bytes:
    return b'"%s"' % blake2b(body, digest_size=8).hexdigest().encode()


def _matches(condition: bytes, etag: bytes) -> bool:
    """Compare If-None-Match weakly (RFC 9110, 13.1.2)."""
    if not condition:
        return False
    return condition.strip() == b"*" or etag in [
        tag.strip().removeprefix(b"W/") for tag in condition.split(b",")
    ]


def _html(text: str) -> Response:
    headers = {
        "cache-control": "no-cache",
        "content-security-policy": CONTENT_SECURITY_POLICY,
        "referrer-policy": "no-referrer",
        "vary": "accept",
        "x-content-type-options": "nosniff",
    }
    return Response(text, media_type="text/html", headers=headers)


def _web(name: str) -> bytes:
    return (files("hello") / "web" / name).read_bytes()


async def _no_content(send: Send) -> None:
    await send({"type": "http.response.start", "status": 204, "headers": []})
    await send({"type": "http.response.body"})


async def _nothing() -> AsyncIterator[bytes]:
    return
    yield b""
