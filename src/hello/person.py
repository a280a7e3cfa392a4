"""/hello/{username}: greet, register, forget."""

import json
import re
from collections.abc import Awaitable
from datetime import date
from typing import Never

import msgspec
from starlette.types import Receive, Scope, Send

from hello import birthday
from hello.audit import Action, AuditLog, Change
from hello.birthday import Person
from hello.headers import entity_tag, header, matches
from hello.problems import (
    InvalidBodyError,
    MethodNotAllowedError,
    NameTakenError,
    UnknownNameError,
    UnsupportedPreconditionError,
)
from hello.query import Today
from hello.rights import PERSON_PREFIX, Admission
from hello.stores import Entry, Store

BODY = re.compile(rb'_\{_"dateOfBirth"_:_"([0-9]{4}-[0-9]{2}-[0-9]{2})"_\}_'.replace(b"_", rb"[ \t\r\n]*"))
_encode = msgspec.json.Encoder().encode


class PersonResource:
    """/hello/{username}, a plain ASGI application: Starlette's Request would double its cost."""

    METHODS = ("GET", "PUT", "DELETE")
    ALLOW = "DELETE, GET, HEAD, PUT"

    def __init__(
        self, leap_day: birthday.LeapDay, store: Store, today: Today, audit: AuditLog | None
    ) -> None:
        self._audit = audit
        self._leap_day = leap_day
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
        body, etag = self.greeting(person, today)
        headers = [
            (b"content-type", b"application/json"),
            (b"etag", etag),
            (b"cache-control", b"private, no-cache"),
        ]
        if b"if-none-match" in dict(scope["headers"]) and matches(header(scope, b"if-none-match"), etag):
            await send({"type": "http.response.start", "status": 304, "headers": headers[1:]})
            await send({"type": "http.response.body"})
            return
        headers.append((b"content-length", b"%d" % len(body)))
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    def greeting(self, person: Person, today: date) -> tuple[bytes, bytes]:
        """Return the body that greets the person, and its entity tag."""
        days = birthday.days_until(person.born, today, self._leap_day)
        body = _encode({"message": birthday.message(person.username, days)})
        return body, entity_tag(body)

    async def register(self, scope: Scope, receive: Receive, send: Send) -> None:
        """PUT: create or replace; with `If-None-Match: *`, only create."""
        username, key = birthday.parse_username(_username(scope))
        create = _creates_only(scope)
        today = self._today(scope["query_string"])
        body = (await receive())["body"]  # whole: `app` has read it
        born = birthday.parse_date_of_birth(_date_of_birth(body), today)
        putting = self._store.put(Entry(key, username, born), create=create)
        if not await self._followed(putting, scope, "create" if create else "put", key):
            raise NameTakenError
        await _no_content(send)

    async def forget(self, scope: Scope, send: Send) -> None:
        """DELETE."""
        key = birthday.username_key(_username(scope))
        if _conditions(scope):
            raise UnsupportedPreconditionError
        if not await self._followed(self._store.delete(key), scope, "delete", key):
            raise UnknownNameError
        await _no_content(send)

    def _followed(self, changing: Awaitable[bool], scope: Scope, action: Action, key: str) -> Awaitable[bool]:
        """Have the audit log, where there is one, follow a change."""
        if self._audit is None:
            return changing
        admission: Admission = scope["hello.admission"]
        change = Change(admission.request_id, admission.caller.subject, admission.address, action, key)
        return self._audit.follow(changing, change)


def _username(scope: Scope) -> str:
    path: str = scope["path"]
    return path[len(PERSON_PREFIX) :]


def _creates_only(scope: Scope) -> bool:
    conditions = _conditions(scope)
    # An unknown condition must not be passed over: the caller relies on it (RFC 9110, 13.1).
    if conditions and (conditions != [b"if-none-match"] or header(scope, b"if-none-match").strip() != b"*"):
        raise UnsupportedPreconditionError
    return bool(conditions)


def _conditions(scope: Scope) -> list[bytes]:
    return [name for name, _ in scope["headers"] if name in {b"if-match", b"if-none-match"}]


def _date_of_birth(body: bytes) -> str:
    """Return the date in the body, still to be parsed.

    Raises:
        InvalidBodyError: anything but an object with the one key.
    """
    if match := BODY.fullmatch(body):
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


async def _no_content(send: Send) -> None:
    await send({"type": "http.response.start", "status": 204, "headers": []})
    await send({"type": "http.response.body"})
