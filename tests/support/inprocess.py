"""The application and its parts in process, where time is the test's own."""

import asyncio
import json
import selectors
import socket
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from contextvars import Context
from dataclasses import dataclass
from datetime import UTC, datetime
from http.client import HTTPMessage, HTTPResponse, IncompleteRead
from typing import Any, TypeVarTuple
from urllib.parse import quote, unquote

import uvicorn
from starlette.types import Message, Scope

from hello.app import Application
from hello.birthday import Person
from hello.protocol import Protocol, State
from hello.stores import Entry, Page, Store
from tests.support.environment import until
from tests.support.service import JSON, Answer

Ts = TypeVarTuple("Ts")

# A time zone, the moment in UTC when a day begins there, the day before, and the day.
MIDNIGHTS = [
    ("UTC", "2026-11-24T00:00", "2026-11-23", "2026-11-24"),
    ("Pacific/Kiritimati", "2026-11-23T10:00", "2026-11-23", "2026-11-24"),
    ("Pacific/Niue", "2026-11-24T11:00", "2026-11-23", "2026-11-24"),
    ("Asia/Kathmandu", "2026-11-23T18:15", "2026-11-23", "2026-11-24"),
    ("Europe/Berlin", "2026-03-28T23:00", "2026-03-28", "2026-03-29"),  # summer time begins
    ("Europe/Berlin", "2026-03-29T22:00", "2026-03-29", "2026-03-30"),
    ("Europe/Berlin", "2026-10-25T23:00", "2026-10-25", "2026-10-26"),  # and has ended
    ("America/Sao_Paulo", "2018-11-04T03:00", "2018-11-03", "2018-11-04"),  # a day without a midnight
    ("Pacific/Apia", "2011-12-30T10:00", "2011-12-29", "2011-12-31"),  # a day that never was
]


class _Selector(selectors.SelectSelector):
    """Never waits: the time that the loop would wait has passed at once."""

    now = 0.0

    def select(self, timeout: float | None = None) -> Any:
        if timeout is None:
            raise AssertionError("all tasks wait, and no timer will end it")
        self.now += max(timeout, 0)
        return super().select(0)


class Loop(asyncio.SelectorEventLoop):
    """A loop that is at its next timer as soon as there is nothing else to do."""

    def __init__(self) -> None:
        self._own_selector = _Selector()
        self.timers: list[float] = []  # the time of each that was made, for whatever
        super().__init__(self._own_selector)

    def time(self) -> float:
        return self._own_selector.now

    def call_at(
        self, when: float, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.TimerHandle:
        self.timers.append(when)
        return super().call_at(when, callback, *args, context=context)


class Clock:
    """A clock that shows what it is set to."""

    def __init__(self, now: str) -> None:
        self.set(now)

    def set(self, now: str) -> None:
        """Set it; what names no offset is in UTC."""
        moment = datetime.fromisoformat(now)
        self.now = moment if moment.tzinfo else moment.replace(tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now


@dataclass(frozen=True)
class Reply(Answer):
    """An answer; `whole` tells whether it was brought to its end."""

    whole: bool


class Caller:
    """Calls an application as the server does, without a socket, on a loop of its own."""

    def __init__(self, application: Application, runner: asyncio.Runner) -> None:
        self.application = application
        self._runner = runner

    def request(
        self,
        method: str,
        target: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        *,
        arrives: bool = True,
    ) -> Reply:
        """Send one request; `target` is percent-encoded; the body is one that never `arrives`, if so told."""
        return self._runner.run(self._request(method, target, body, headers or {}, arrives))

    def get(self, target: str, headers: Mapping[str, str] | None = None) -> Reply:
        """GET."""
        return self.request("GET", target, headers=headers)

    def put(self, username: str, born: str, query: str = "") -> Reply:
        """Register."""
        body = json.dumps({"dateOfBirth": born}).encode()
        return self.request("PUT", f"/hello/{quote(username)}{query}", body, JSON)

    async def _request(
        self, method: str, target: str, body: bytes | None, headers: Mapping[str, str], arrives: bool
    ) -> Reply:
        path, _, query = target.partition("?")
        length = {} if body is None else {"Content-Length": str(len(body))}
        scope: Scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "root_path": "",
            "path": unquote(path),
            "raw_path": path.encode("ascii"),
            "query_string": query.encode("ascii"),
            "headers": [
                (name.lower().encode("ascii"), value.encode("latin-1"))
                for name, value in {**length, **headers}.items()
            ],
            "client": ("127.0.0.1", 50000),
            "server": ("127.0.0.1", 5000),
            "state": {},
        }
        waiting = [{"type": "http.request", "body": body or b"", "more_body": False}] if arrives else []
        sent: list[Message] = []

        async def receive() -> Message:
            if waiting:
                return waiting.pop()
            nothing: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
            return await nothing

        async def send(message: Message) -> None:
            sent.append(message)

        await self.application(scope, receive, send)
        start, *parts = sent
        fields = HTTPMessage()
        for name, value in start["headers"]:
            fields.add_header(name.decode("latin-1"), value.decode("latin-1"))
        content = b"".join(part.get("body", b"") for part in parts)
        whole = bool(parts) and not parts[-1].get("more_body", False)
        return Reply(start["status"], fields, b"" if method == "HEAD" else content, whole)


class Served(Caller):
    """Sends requests to an application over a socket, where plain ones take the fast path."""

    def __init__(self, application: Application, runner: asyncio.Runner) -> None:
        super().__init__(application, runner)
        self._state = State(1000, application.refused, application.fast_path)
        self._server = runner.run(self._listen())
        self._port: int = self._server.sockets[0].getsockname()[1]

    def close(self) -> None:
        """Stop listening, and let the connections end."""
        self._server.close()
        until(self._ended, "the connections to end")

    def _ended(self) -> bool:
        self._runner.run(asyncio.sleep(0))
        return not self._state.in_order

    async def _listen(self) -> asyncio.Server:
        config = uvicorn.Config(
            self.application, ws="none", lifespan="off", log_config=None, access_log=False
        )
        config.load()
        loop = asyncio.get_running_loop()
        return await loop.create_server(lambda: Protocol(config, self._state, {}), "127.0.0.1", 0)

    async def _request(
        self, method: str, target: str, body: bytes | None, headers: Mapping[str, str], arrives: bool
    ) -> Reply:
        return await asyncio.to_thread(self._exchange, method, target, body, headers)

    def _exchange(self, method: str, target: str, body: bytes | None, headers: Mapping[str, str]) -> Reply:
        length = {} if body is None else {"Content-Length": str(len(body))}
        fields = {"Host": "localhost", **length, **headers}
        head = f"{method} {target} HTTP/1.1\r\n" + "".join(f"{k}: {v}\r\n" for k, v in fields.items())
        with socket.create_connection(("127.0.0.1", self._port), timeout=30) as connection:
            connection.sendall(head.encode("latin-1") + b"\r\n" + (body or b""))  # whole, for the fast path
            with closing(HTTPResponse(connection, method=method)) as response:
                response.begin()
                try:
                    content, whole = response.read(), True
                except IncompleteRead as cut:
                    content, whole = cut.partial, False
                return Reply(response.status, response.headers, content, whole)


class FailingStore(Store):
    """A store whose every operation fails."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    async def get(self, key: str) -> Person | None:
        raise self.error

    async def get_many(self, keys: Sequence[str]) -> Sequence[Person | None]:
        raise self.error

    async def put(self, entry: Entry, *, create: bool = False) -> bool:
        raise self.error

    async def put_many(self, entries: Sequence[Entry]) -> None:
        raise self.error

    async def delete(self, key: str) -> bool:
        raise self.error

    async def people(self, limit: int, after: str | None = None) -> Page:
        raise self.error

    async def birthdays(
        self, ranges: Sequence[tuple[str, str]], limit: int, after: str | None = None
    ) -> Page:
        raise self.error

    async def ping(self) -> None:
        raise self.error

    async def close(self) -> None:
        raise self.error
