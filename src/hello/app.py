"""The application: what happens to every request, and how errors are answered.

`Application` is plain ASGI around Starlette's router. It gives each request an id, holds off what is
too much, too long or too slow, answers what handlers raise, and has the outcome counted and logged.
Plain requests for a person can take the fast path instead, which answers alike.
"""

import asyncio
import re
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from starlette.routing import Router
from starlette.types import Message, Receive, Scope, Send

from hello import problems
from hello.audit import AuditLog
from hello.fast_path import FastPath
from hello.guard import Guard, guard_of
from hello.headers import STRICT_TRANSPORT_SECURITY, check_content_type
from hello.observability import Metrics, ObservedStore
from hello.outcomes import Outcomes, make_id
from hello.query import Today
from hello.rights import PERSON, PERSON_PREFIX, Admission
from hello.routes import Routes
from hello.settings import Settings
from hello.stores import Store, StoreError
from hello.timeouts import SharedTimeout

CLIENT_GONE = 499  # in logs and metrics only, as nginx has it: no answer was sent
BODY_BYTES = 4096
LINGER_BYTES = 1 << 20  # a longer body than this is not read to its end to keep the connection
ALWAYS_ANSWERED = frozenset({"/hc", "/version", "/metrics"})  # a busy process is alive, and worth a look
METHODS = frozenset({"GET", "HEAD", "PUT", "DELETE", "POST", "PATCH", "OPTIONS"})

Fields = Sequence[tuple[bytes, bytes]]

_REQUEST_ID = re.compile(rb"[A-Za-z0-9._:/+=@-]{1,128}")


class Application:
    """The ASGI application."""

    def __init__(
        self,
        settings: Settings,
        store: Store,
        guard: Guard,
        audit: AuditLog | None,
        metrics: Metrics,
        clock: Callable[[], datetime],
    ) -> None:
        self.metrics = metrics
        self._guard = guard
        self._audit = audit
        self._max_in_flight = settings.max_in_flight
        self._body_limit = SharedTimeout(settings.request_timeout)
        self._outcomes = Outcomes(metrics, log_all=settings.access_log == "all")
        today = Today(settings.timezone, clock)
        observed = self._store = ObservedStore(store, metrics)
        needs = guard.rights.table if guard.rights else None
        self._routes = Routes(settings, observed, today, audit, needs, metrics.render)
        table = self.table = self._routes.table()
        self._person = self._routes.person
        self.fast_path = FastPath(
            self._person, observed, today, guard, audit, metrics, self._outcomes, self._max_in_flight
        )
        self._router = Router(table, redirect_slashes=False, default=_not_found)
        # A route's label is its template.
        self._labels = {route.path: route.path for route in table if "{" not in route.path}

    def start_draining(self) -> None:
        """From now on be unhealthy, and close each connection after its answer."""
        self._routes.draining = True
        self.fast_path.closed = True

    async def is_ready(self) -> bool:
        """Return whether /ready would be 200: the store answers."""
        try:
            await self._store.ping()
        except StoreError:
            return False
        return True

    def tick(self) -> None:
        """Do what is to be done now and then; called each second."""
        self.metrics.fold()
        self._guard.refresh()
        if self._audit is not None:
            self._audit.refresh()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise RuntimeError(f"Unexpected ASGI scope {scope['type']}")
        start = time.perf_counter()
        exchange = _Exchange(scope, send, draining=self._routes.draining)
        admission = scope["hello.admission"] = exchange.admission
        path: str = scope["path"]
        # Looked up here: Starlette's router and exception handling would take half of the request's time.
        to_person = path.startswith(PERSON_PREFIX) and (
            path.count("/") == 2 or scope["raw_path"].count(b"/") == 2
        )
        route = PERSON if to_person else self._label(path)
        scope["hello.route"] = route  # for `tracing`
        metrics = self.metrics
        metrics.in_flight += 1
        try:
            await self._let_in(scope, route, admission)
            if to_person and scope["method"] == "PUT":
                receive = await self._read_body(scope, receive)
            if route not in ALWAYS_ANSWERED:
                self._admit()
            if to_person:
                await self._person(scope, receive, exchange.send)
            elif route == "unknown" or path.endswith("\n"):  # a last line break matches Starlette's `$`
                await _not_found(scope, receive, exchange.send)
            else:
                scope["app"] = self  # makes Starlette's router raise, where it would answer in plain text
                await self._router(scope, receive, exchange.send)
        except problems.ClientGoneError:
            exchange.status = CLIENT_GONE
        except Exception as error:  # noqa: BLE001 - answered and, where it is a defect, logged
            await self._fail(exchange, error)
        except asyncio.CancelledError:  # the stop's time limit; nothing runs in this task after it
            await self._fail(exchange, problems.StoppedError())
        finally:
            metrics.in_flight -= 1
            method = scope["method"] if scope["method"] in METHODS else "other"
            seconds = time.perf_counter() - start
            self._outcomes.ended(
                exchange.request_id,
                route,
                method,
                exchange.status,
                seconds,
                admission.caller.name,
                admission.address,
            )

    def refused(self, kind: problems.Kind, headers: Fields) -> bytes:
        """Count and log what could not become a request; return the id for its answer."""
        request_id = _request_id(headers)
        self._outcomes.ended(request_id, "unknown", "other", kind.status, 0.0)
        return request_id

    async def _let_in(self, scope: Scope, route: str, admission: Admission) -> None:
        """Have the guard look at a request, which is no work: it may wait for an issuer of tokens."""
        self.metrics.waiting += 1
        try:
            await self._guard.admit(scope, route, admission)
        finally:
            self.metrics.waiting -= 1

    def _admit(self) -> None:
        if self.metrics.worked_on > self._max_in_flight:
            raise problems.OverloadedError

    async def _read_body(self, scope: Scope, receive: Receive) -> Receive:
        """Read the body, which is waited for here: a slow client must not count as work."""
        check_content_type(scope)
        declared = next((v for k, v in scope["headers"] if k == b"content-length"), b"0")
        if int(declared) > BODY_BYTES:
            raise problems.BodyTooLargeError
        body = b""
        self.metrics.waiting += 1
        try:
            with self._body_limit:
                more = True
                while more:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise problems.ClientGoneError
                    body += message["body"]
                    more = message["more_body"]
                    if len(body) > BODY_BYTES:
                        raise problems.BodyTooLargeError
        except TimeoutError:
            raise problems.SlowBodyError from None
        finally:
            self.metrics.waiting -= 1

        async def replay() -> Message:
            return {"type": "http.request", "body": body, "more_body": False}

        return replay

    async def _fail(self, exchange: "_Exchange", error: Exception) -> None:
        """Answer an error."""
        status, headers, body = self._outcomes.problem(exchange.request_id, error)
        if exchange.status:
            return  # the answer has begun: the server breaks it off, and the client sees that it is cut
        too_long = isinstance(error, problems.BodyTooLargeError) and exchange.lingers()
        if too_long or isinstance(error, problems.SlowBodyError):
            headers.append((b"connection", b"close"))
        await exchange.send({"type": "http.response.start", "status": status, "headers": headers})
        await exchange.send({"type": "http.response.body", "body": body})

    def _label(self, path: str) -> str:
        return self._labels.get(path) or ("/web/{path}" if path.startswith("/web/") else "unknown")


class _Exchange:
    """One request and its answer: the id it goes by, who sent it, and the status once there is one."""

    __slots__ = ("_draining", "_scope", "_send", "admission", "request_id", "status")

    def __init__(self, scope: Scope, send: Send, *, draining: bool) -> None:
        self._scope = scope
        self._send = send
        self._draining = draining
        self.status = 0
        self.request_id = _request_id(scope["headers"])
        self.admission = Admission(self.request_id)

    async def send(self, message: Message) -> None:
        """Send the application's message, with the header fields that every answer has."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            message["headers"] += ((b"x-request-id", self.request_id), *self.admission.fields)
            if self.admission.over_tls and self._scope["scheme"] == "http":  # else the server says so
                message["headers"].append(STRICT_TRANSPORT_SECURITY)
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
    guard: Guard | None = None,
    metrics: Metrics | None = None,
    clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    audit: AuditLog | None = None,
) -> Application:
    """Return the ASGI application on an open store; `clock` gives the present, with its zone.

    Raises:
        KeysError: the settings name keys that can't be read.
    """
    metrics = metrics or Metrics(settings.commit)
    return Application(settings, store, guard or guard_of(settings), audit, metrics, clock)


def _request_id(headers: Fields) -> bytes:
    """Return the caller's id where it is sane, else one of ours."""
    for name, value in headers:
        if name == b"x-request-id" and _REQUEST_ID.fullmatch(value):
            return value
    return make_id()


async def _not_found(scope: Scope, receive: Receive, send: Send) -> None:
    raise problems.NotFoundError
