"""The fast path: plain requests to greet or register, answered together, as many as came at once.

Most requests are alike, and a task, a scope and a chain of ASGI calls for each takes twice as long as
their work. What qualifies goes from the parser straight to the domain: the requests that one pass of
the event loop brings share one reading and one durable write of the store. All else takes the usual
path through `app`: other paths, query parameters, conditions, ids, whatever needs a closer look.
Both paths answer alike, which a test compares.
"""

import asyncio
import time
from collections.abc import Coroutine, Sequence
from datetime import date
from typing import Literal, Protocol

from hello import birthday
from hello.audit import AuditLog, Change, Outcome
from hello.birthday import USERNAME_LENGTH
from hello.guard import Guard, is_local
from hello.headers import STRICT_TRANSPORT_SECURITY, lines
from hello.limits import fields as limit_fields
from hello.observability import Metrics
from hello.outcomes import Outcomes, make_id
from hello.person import BODY, PersonResource
from hello.problems import OverloadedError, StoppedError, TooManyRequestsError, UnknownNameError
from hello.query import Today
from hello.rights import ANYONE, PERSON, PERSON_PREFIX, Caller
from hello.stores import Entry, Store

PREFIX = PERSON_PREFIX.encode()
PLAIN_BODY = 256  # bytes

# What the usual path looks at. A PUT has its length, and its type to the letter; all else has none of
# them but the host, which each request has once (RFC 9112, 3.2).
NOTICED = frozenset(
    {
        b"authorization",
        b"content-encoding",
        b"content-length",
        b"content-type",
        b"expect",
        b"host",
        b"if-match",
        b"if-none-match",
        b"transfer-encoding",
        b"upgrade",
        b"x-request-id",
    }
)
METHODS = frozenset({b"GET", b"PUT"})
DECLARED_JSON = (b"content-type", b"application/json")
GREETING = (
    b"content-type: application/json\r\netag: %b\r\n"
    b"cache-control: private, no-cache\r\ncontent-length: %d\r\n"
)


class Connection(Protocol):
    """What the fast path needs of a connection."""

    client: tuple[str, int] | None
    scheme: Literal["http", "https"] | None
    headers: list[tuple[bytes, bytes]]  # of the request at hand

    def spawn(self, work: Coroutine[None, None, None]) -> None:
        """Run in a task that a stop waits for."""

    def answer(self, request: "FastRequest", status: int, fields: bytes, body: bytes) -> None:
        """Send the answer, with the header fields that every one has, and go on with what follows."""


class _Unheard:
    def set(self) -> None:
        pass


class FastRequest:
    """A request on the fast path. To uvicorn it is the connection's cycle, so it has a cycle's state."""

    __slots__ = (
        "address",
        "caller",
        "connection",
        "disconnected",
        "entry",
        "fields",
        "keep_alive",
        "key",
        "request_id",
        "response_complete",
        "start",
    )

    message_event = _Unheard()
    response_started = False

    def __init__(self, connection: Connection, key: str, caller: Caller, entry: Entry | None = None) -> None:
        """A caller's GET of the person with this key, or with an entry the PUT of it."""
        self.connection = connection
        self.caller = caller
        self.address = ""
        self.fields = b""  # of the answer: what is left of the limits
        self.key = key
        self.entry = entry
        self.request_id = make_id()
        self.start = time.perf_counter()
        self.keep_alive = True
        self.disconnected = False
        self.response_complete = False

    @property
    def method(self) -> str:
        """Return the method."""
        return "PUT" if self.entry else "GET"


class FastPath:
    """Takes requests that qualify, and answers them a batch at a time."""

    def __init__(
        self,
        person: PersonResource,
        store: Store,
        today: Today,
        guard: Guard,
        audit: AuditLog | None,
        metrics: Metrics,
        outcomes: Outcomes,
        max_in_flight: int,
    ) -> None:
        self._person = person
        self._store = store
        self._today = today
        self._rights = guard.rights
        self._limits = guard.limits
        self._addresses = guard.addresses
        self._local_only = guard.local_only
        self._metrics = metrics
        self._outcomes = outcomes
        self._max_in_flight = max_in_flight
        self._audit = audit
        self._gets: list[FastRequest] = []
        self._puts: list[FastRequest] = []
        self._refused: list[FastRequest] = []
        self._day = date.max
        self.closed = outcomes.log_all  # writing the log takes longer than what this saves

    def qualifies(self, method: bytes, url: bytes, headers: Sequence[tuple[bytes, bytes]]) -> Caller | None:
        """Return whose request this is if one with this head may be taken once its body is there."""
        name = url[len(PREFIX) :]
        # bytes.isalpha() is true of ASCII letters alone, which need none of RFC 8265's tables.
        if self.closed or not url.startswith(PREFIX) or not name.isalpha() or len(name) > USERNAME_LENGTH:
            return None
        declared = method == b"GET"
        hosts = 0
        authorization = None
        for field in headers:
            kind = field[0]
            if kind not in NOTICED:
                continue
            if kind == b"host":
                hosts += 1
                if self._local_only and not is_local(field[1]):
                    return None
            elif kind == b"authorization":
                if authorization is not None:
                    return None
                authorization = field[1]
            elif field == DECLARED_JSON and not declared:
                declared = True
            elif method == b"GET" or kind != b"content-length":
                return None
        if not declared or hosts != 1 or method not in METHODS:
            return None
        if self._rights is None:
            return ANYONE
        caller = self._rights.known(authorization) if authorization else None
        needed = "read" if method == b"GET" else "write"
        return caller if caller and needed in caller.scopes else None  # else the usual path says why

    def take(
        self, connection: Connection, method: bytes, url: bytes, body: bytes, caller: Caller
    ) -> FastRequest | None:
        """Take a whole request whose head qualified; None if it needs the usual path after all."""
        username = url[len(PREFIX) :].decode()
        key = username.lower()
        if method == b"GET":
            request = FastRequest(connection, key, caller)
            batch, work = self._gets, self._greet
        else:
            if not self._puts:
                self._day = self._today()  # of the batch that begins here
            born = self._date_of_birth(body)
            if born is None:
                return None
            request = FastRequest(connection, key, caller, Entry(key, username, born))
            batch, work = self._puts, self._register
        if self._limits.any or self._addresses.any or (self._audit and request.entry):
            peer = connection.client[0] if connection.client else ""
            request.address = self._addresses.client(peer, connection.headers)
            if not self._within_limits(request):
                return None
            if connection.scheme == "http" and self._addresses.over_tls(peer, connection.headers):
                request.fields += lines([STRICT_TRANSPORT_SECURITY])
        if self._metrics.worked_on >= self._max_in_flight:
            batch, work = self._refused, self._refuse
        if not batch:
            connection.spawn(work())  # runs once all connections have been read from
        batch.append(request)
        self._metrics.in_flight += 1
        return request

    def _within_limits(self, request: FastRequest) -> bool:
        if self._limits.over(request.caller):
            return False  # before a token of the address is taken
        try:
            taken = self._limits.take_of_address(request.address)
            taken += self._limits.take_of_caller(request.caller)
        except TooManyRequestsError:
            return False  # the usual path asks again, and says so
        request.fields = lines(limit_fields(taken))
        return True

    def _date_of_birth(self, body: bytes) -> date | None:
        match = BODY.fullmatch(body) if len(body) <= PLAIN_BODY else None
        try:
            return match and birthday.parse_date_of_birth(match[1].decode(), self._day)
        except birthday.InvalidDateError:
            return None  # the usual path tells why

    async def _greet(self) -> None:
        requests, self._gets = self._gets, []
        try:
            people = await self._store.get_many([request.key for request in requests])
            today = self._today()
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - becomes their answer
            self._fail(requests, error)
            return
        for request, person in zip(requests, people, strict=True):
            try:
                fields, body = self._greeting(person, today)
            except Exception as error:  # noqa: BLE001 - becomes its answer, and no other's
                self._fail([request], error)
            else:
                self._answer(request, 200, fields, body)

    def _greeting(self, person: birthday.Person | None, today: date) -> tuple[bytes, bytes]:
        if person is None:
            raise UnknownNameError
        body, etag = self._person.greeting(person, today)
        return GREETING % (etag, len(body)), body

    async def _register(self) -> None:
        requests, self._puts = self._puts, []
        try:
            await self._store.put_many([request.entry for request in requests if request.entry])
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - becomes their answer
            self._record(requests, "unknown")
            self._fail(requests, error)
            return
        self._record(requests, "done")
        for request in requests:
            self._answer(request, 204, b"", b"")

    async def _refuse(self) -> None:
        """Answer those that there is no room for.

        It has to cost less than to greet them: an overload must not grow by what is refused for it.
        """
        requests, self._refused = self._refused, []
        status, fields, body = self._outcomes.problem(b"", OverloadedError())
        head = lines(fields)
        for request in requests:
            seconds = self._send(request, status, head, body)
            self._metrics.request(PERSON, request.method, status, seconds, request.caller.name)
        self._outcomes.overloaded(PERSON, len(requests))

    def _record(self, requests: Sequence[FastRequest], outcome: Outcome) -> None:
        if self._audit is not None:
            changes = [Change(r.request_id, r.caller.subject, r.address, "put", r.key) for r in requests]
            self._audit.record(changes, outcome)

    def _fail(self, requests: Sequence[FastRequest], error: BaseException) -> None:
        if isinstance(error, asyncio.CancelledError):
            error = StoppedError()  # the stop's time limit; nothing runs in this task after it
        for request in requests:
            status, fields, body = self._outcomes.problem(request.request_id, error)
            self._answer(request, status, lines(fields), body)

    def _answer(self, request: FastRequest, status: int, fields: bytes, body: bytes) -> None:
        seconds = self._send(request, status, fields, body)
        self._outcomes.ended(
            request.request_id, PERSON, request.method, status, seconds, request.caller.name, request.address
        )

    def _send(self, request: FastRequest, status: int, fields: bytes, body: bytes) -> float:
        """Send an answer; return the seconds since the request."""
        fields = b"%b%bx-request-id: %b\r\n" % (fields, request.fields, request.request_id)
        request.connection.answer(request, status, fields, body)
        self._metrics.in_flight -= 1
        return time.perf_counter() - request.start
