"""The application: what happens to every request, and the one table that makes answers of errors.

`Application` is plain ASGI around Starlette's router. It gives each request an id, holds off what is
too much, too long or too slow, answers what handlers raise, and counts and logs the outcome.
"""

import asyncio
import html
import logging
import random
import re
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import NamedTuple

import msgspec
from starlette.exceptions import HTTPException
from starlette.routing import Router
from starlette.types import Message, Receive, Scope, Send

from hello import birthday, cursor, openapi, routes
from hello.observability import Metrics, ObservedStore
from hello.schema import Problem
from hello.settings import Settings
from hello.stores import Store, StoreError

logger = logging.getLogger("hello.request")

SLOW_SECONDS = 1.0
RETRY_AFTER = b"1"
CANCELLED = 499  # in logs and metrics only: the stop's time limit or a lost connection ended the request
LINGER_BYTES = 1 << 20  # a longer body than this is not read to its end to keep the connection
METHODS = frozenset({"GET", "HEAD", "PUT", "DELETE", "POST", "PATCH", "OPTIONS"})

_REQUEST_ID = re.compile(rb"[A-Za-z0-9._:/+=@-]{1,128}")


class OverloadedError(Exception):
    """More requests are being worked on than the settings allow."""


class BodyTooLargeError(Exception):
    """The body is longer than any that is asked for."""


class SlowBodyError(Exception):
    """The body did not arrive in time."""


class Kind(NamedTuple):
    """One kind of error: how it is answered, and how it is explained on /docs."""

    status: int
    slug: str
    title: str
    explanation: str


UNEXPECTED = Kind(
    500,
    "unexpected",
    "Something went wrong here",
    "A defect of this service; the log has it under the request id.",
)

KINDS: Mapping[type[BaseException], Kind] = {
    birthday.InvalidUsernameError: Kind(
        400, "username", "Not a username", "A username is 1 to 64 letters of any script, and nothing else."
    ),
    birthday.InvalidDateError: Kind(
        400, "date-of-birth", "Not a date of birth", "A day of the calendar before today, written YYYY-MM-DD."
    ),
    birthday.UnknownTimeZoneError: Kind(
        400, "time-zone", "Unknown time zone", "`tz` takes an IANA name such as Europe/Berlin."
    ),
    cursor.InvalidCursorError: Kind(
        400, "cursor", "Not a cursor", "`after` takes the `next` of the page before, unchanged."
    ),
    routes.InvalidParameterError: Kind(
        400, "parameter", "Not a parameter's value", "A query parameter is out of range, or given twice."
    ),
    routes.InvalidBodyError: Kind(
        400, "body", "Not the body asked for", 'PUT takes {"dateOfBirth": "YYYY-MM-DD"} and nothing else.'
    ),
    routes.UnsupportedPreconditionError: Kind(
        400,
        "precondition",
        "Unsupported precondition",
        "PUT understands `If-None-Match: *`, and no other condition; DELETE none.",
    ),
    routes.NotFoundError: Kind(404, "path", "No such path", "The document /openapi.json lists the paths."),
    routes.UnknownNameError: Kind(
        404, "unknown-name", "Unknown username", "Nobody has registered under this username."
    ),
    routes.MethodNotAllowedError: Kind(
        405, "method", "Method not allowed", "The header `Allow` lists what may be done with this path."
    ),
    SlowBodyError: Kind(408, "slow", "Request too slow", "The request did not arrive within the time limit."),
    routes.NameTakenError: Kind(
        412,
        "name-taken",
        "Username taken",
        "`If-None-Match: *` only creates, and somebody has this username.",
    ),
    BodyTooLargeError: Kind(413, "body-too-large", "Body too large", "A body is at most 4096 bytes."),
    routes.UnsupportedMediaTypeError: Kind(
        415, "media-type", "Not declared as JSON", "PUT needs the header `Content-Type: application/json`."
    ),
    OverloadedError: Kind(
        503, "overloaded", "Too many requests at once", "Try again after the seconds in `Retry-After`."
    ),
    StoreError: Kind(
        503,
        "store-unavailable",
        "The store does not answer",
        "What needs the store can't be answered now. Try again after the seconds in `Retry-After`;"
        " a PUT or DELETE may have been done nevertheless, and can be repeated safely.",
    ),
}
# Answered by the server, before there is a request that the application could see.
MALFORMED = Kind(400, "malformed", "Not an HTTP request", "The bytes received are no request of HTTP/1.1.")
URI_TOO_LONG = Kind(414, "uri-too-long", "Path too long", "Path and query are at most 8192 bytes.")
HEADERS_TOO_LARGE = Kind(
    431,
    "headers-too-large",
    "Header too large",
    "A request has at most 100 header fields, of 32768 bytes in all.",
)
ALL_KINDS = (*KINDS.values(), MALFORMED, URI_TOO_LONG, HEADERS_TOO_LARGE, UNEXPECTED)


def problem(kind: Kind, detail: str = "") -> tuple[list[tuple[bytes, bytes]], bytes]:
    """Return header fields and body of an error's answer (RFC 9457)."""
    body = msgspec.json.encode(
        Problem(f"/docs#{kind.slug}", kind.title, kind.status, detail or kind.explanation)
    )
    headers = [
        (b"content-type", b"application/problem+json"),
        (b"content-length", b"%d" % len(body)),
    ]
    if kind.status == 503:
        headers.append((b"retry-after", RETRY_AFTER))
    return headers, body


class Application:
    """The ASGI application."""

    def __init__(
        self, settings: Settings, store: Store, metrics: Metrics, clock: Callable[[], datetime]
    ) -> None:
        self.metrics = metrics
        self._max_in_flight = settings.max_in_flight
        self._request_timeout = settings.request_timeout
        self._reading = 0  # requests in flight whose body is still being waited for
        self._log_all = settings.access_log == "all"
        self._routes = routes.Routes(settings, ObservedStore(store, metrics), clock, metrics.render)
        table = self._routes.table()
        self._routes.openapi = openapi.document(table, ALL_KINDS)
        self._routes.problems_html = _problems_html()
        self._person = self._routes.person
        self._router = Router(table, redirect_slashes=False, default=_not_found)
        # A route's label is its template; "/web/{path:path}" stands for all of its files.
        self._labels = {route.path: route.path for route in table}

    def start_draining(self) -> None:
        """From now on be unhealthy, and close each connection after its answer."""
        self._routes.draining = True

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise RuntimeError(f"Unexpected ASGI scope {scope['type']}")
        start = time.perf_counter()
        exchange = _Exchange(scope, send, draining=self._routes.draining)
        path: str = scope["path"]
        # The hot route is looked up here: Starlette's router and exception handling take 15 µs, a
        # third of the whole request.
        to_person = path.startswith("/hello/") and (
            path.count("/") == 2 or scope["raw_path"].count(b"/") == 2
        )
        route = "/hello/{username}" if to_person else self._label(path)
        scope["hello.route"] = route  # for `tracing`
        metrics = self.metrics
        metrics.in_flight += 1
        try:
            if to_person and scope["method"] == "PUT":
                receive = await self._read_body(scope, receive)
            if metrics.in_flight - self._reading > self._max_in_flight:
                raise OverloadedError
            if to_person:
                await self._person(scope, receive, exchange.send)
            else:
                scope["app"] = self  # makes Starlette's router raise, where it would answer in plain text
                await self._router(scope, receive, exchange.send)
        except Exception as error:  # noqa: BLE001 - answered and, where it is a defect, logged
            await self._fail(exchange, error)
        finally:
            metrics.in_flight -= 1
            method = scope["method"] if scope["method"] in METHODS else "other"
            seconds = time.perf_counter() - start
            exchange.status = exchange.status or CANCELLED
            metrics.request(route, method, exchange.status, seconds)
            if exchange.status >= 400 or seconds >= SLOW_SECONDS or self._log_all:
                _log(exchange, method, route, seconds)

    async def _read_body(self, scope: Scope, receive: Receive) -> Receive:
        """Read the body, which is waited for here: a slow client must not count as work."""
        routes.check_content_type(scope)
        declared = next((v for k, v in scope["headers"] if k == b"content-length"), b"0")
        if int(declared) > routes.BODY_BYTES:
            raise BodyTooLargeError
        body = b""
        self._reading += 1
        try:
            async with asyncio.timeout(self._request_timeout):
                more = True
                while more:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise SlowBodyError
                    body += message["body"]
                    more = message["more_body"]
                    if len(body) > routes.BODY_BYTES:
                        raise BodyTooLargeError
        except TimeoutError:
            raise SlowBodyError from None
        finally:
            self._reading -= 1

        async def replay() -> Message:
            return {"type": "http.request", "body": body, "more_body": False}

        return replay

    async def _fail(self, exchange: "_Exchange", error: Exception) -> None:
        """Answer an error, as the table says."""
        extra: list[tuple[bytes, bytes]] = []
        detail = ""
        if isinstance(error, HTTPException):  # Starlette's router, on the method
            allow = (error.headers or {}).get("Allow", "")
            error = routes.MethodNotAllowedError(", ".join(sorted(allow.split(", "))))
        kind = next((KINDS[c] for c in type(error).__mro__ if c in KINDS), UNEXPECTED)
        if kind is UNEXPECTED:
            logger.error(
                "unexpected error", exc_info=error, extra={"fields": {"request_id": exchange.request_id}}
            )
        elif isinstance(error, StoreError):
            # The reason is for the operator: it can hold paths and addresses.
            logger.error("store: %s", error, extra={"fields": {"request_id": exchange.request_id}})
        elif isinstance(error, ValueError | routes.MethodNotAllowedError):
            detail = str(error)
        if isinstance(error, routes.MethodNotAllowedError):
            extra.append((b"allow", error.allow.encode()))
        if isinstance(error, SlowBodyError) or (isinstance(error, BodyTooLargeError) and exchange.lingers()):
            extra.append((b"connection", b"close"))
        if exchange.status:
            return  # the answer has begun: the server breaks it off, and the client sees that it is cut
        headers, body = problem(kind, detail)
        await exchange.send(
            {"type": "http.response.start", "status": kind.status, "headers": headers + extra}
        )
        await exchange.send({"type": "http.response.body", "body": body})

    def _label(self, path: str) -> str:
        return self._labels.get(path) or ("/web/{path}" if path.startswith("/web/") else "unknown")


class _Exchange:
    """One request and its answer: the id it goes by, and the status once there is one."""

    __slots__ = ("_draining", "_scope", "_send", "request_id", "status")

    def __init__(self, scope: Scope, send: Send, *, draining: bool) -> None:
        self._scope = scope
        self._send = send
        self._draining = draining
        self.status = 0
        for name, value in scope["headers"]:
            if name == b"x-request-id" and _REQUEST_ID.fullmatch(value):
                self.request_id: bytes = value
                break
        else:
            self.request_id = b"%032x" % random.getrandbits(128)  # noqa: S311 - an id, no secret

    async def send(self, message: Message) -> None:
        """Send the application's message, with the header fields that every answer has."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            message["headers"].append((b"x-request-id", self.request_id))
            if self._draining:
                message["headers"].append((b"connection", b"close"))
        await self._send(message)

    def lingers(self) -> bool:
        """Return whether the rest of the body is too long, or of unknown length, to be skipped."""
        length = next((v for k, v in self._scope["headers"] if k == b"content-length"), None)
        return length is None or int(length) > LINGER_BYTES


def create_app(
    settings: Settings,
    store: Store,
    *,
    metrics: Metrics | None = None,
    clock: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> Application:
    """Return the ASGI application on an open store; `clock` gives the present, with its zone."""
    return Application(settings, store, metrics or Metrics(settings.commit), clock)


async def _not_found(scope: Scope, receive: Receive, send: Send) -> None:
    raise routes.NotFoundError


def _log(exchange: _Exchange, method: str, route: str, seconds: float) -> None:
    status = exchange.status
    level = logging.ERROR if status >= 500 else logging.WARNING if status >= 400 else logging.INFO
    fields = {
        "request_id": exchange.request_id.decode(),
        "method": method,
        "route": route,
        "status": status,
        "duration": round(seconds, 6),
    }
    logger.log(level, "request", extra={"fields": fields})


def _problems_html() -> str:
    return "\n".join(
        f'<dt id="{kind.slug}">{kind.status} {html.escape(kind.title)}</dt>\n<dd>{html.escape(kind.explanation)}</dd>'
        for kind in sorted(ALL_KINDS)
    )
