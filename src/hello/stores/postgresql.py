"""People in PostgreSQL, over a pool of connections: one round trip an operation."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import date
from typing import Any, TypeVar

import asyncpg

from hello.birthday import Person
from hello.stores import postgresql_schema, postgresql_url
from hello.stores.base import Engine, Entry, Page, StoreUnavailableError, reached
from hello.stores.connections import Connection, Connections
from hello.stores.postgresql_connect import NO_CONNECTION, connect, translated
from hello.timeouts import SharedTimeout

T = TypeVar("T")

ATTEMPTS = 3  # of one operation, where it is safe to repeat, within its time limit

# Dates go out as numbers of days: asyncpg takes the calendar's first and last day for infinity.
_EPOCH = date(1, 1, 1).toordinal()
_BORN = "DATE '0001-01-01' + {}::integer"
_GET = "SELECT username, born FROM people WHERE key = $1"
_GET_MANY = "SELECT key, username, born FROM people WHERE key = ANY($1::bytea[])"
_INSERT = f"INSERT INTO people AS old (key, username, born) VALUES ($1, $2, {_BORN.format('$3')})"  # noqa: S608 - constants
_CREATE = f"{_INSERT} ON CONFLICT (key) DO NOTHING"
# What is there already is not written again: repeating a PUT costs no row.
_REPLACE = """
    ON CONFLICT (key) DO UPDATE SET username = excluded.username, born = excluded.born
    WHERE (old.username, old.born) IS DISTINCT FROM (excluded.username, excluded.born)
"""
_PUT = f"{_INSERT} {_REPLACE}"
_PUT_MANY = f"""
    INSERT INTO people AS old (key, username, born)
    SELECT key, username, {_BORN.format("days")}
    FROM unnest($1::bytea[], $2::text[], $3::integer[]) AS given (key, username, days)
    {_REPLACE}
"""  # noqa: S608 - constants
_DELETE = "DELETE FROM people WHERE key = $1"
_PEOPLE = "SELECT username, born, key FROM people WHERE key > $1 ORDER BY key LIMIT $2"
_BIRTHDAYS = """
    SELECT username, born, birthday, key FROM people
    WHERE (birthday, key) > ($1, $2) AND birthday <= $3 ORDER BY birthday, key LIMIT $4
"""
_PING = "SELECT 1 FROM people LIMIT 1"

# Connecting was not refused: the server was stopped meanwhile, and may be back. The last but one is the
# driver's, that has lost track of a connection which broke while it was being made.
_BROKEN_OFF = (
    asyncpg.PostgresConnectionError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.InternalClientError,
    ConnectionResetError,
)
# The server has refused the statement, or undone it: nothing was written, and another try may succeed.
_UNDONE = (asyncpg.TransactionRollbackError, asyncpg.ReadOnlySQLTransactionError)
# The connection is gone, and with it the news of what the statement did.
_LOST = (*_BROKEN_OFF, asyncpg.CannotConnectNowError, asyncpg.InterfaceError, OSError)


class PostgreSQLStore(Engine):
    """See `Store`. Open it with `PostgreSQLStore.open`, in the event loop that will use it."""

    def __init__(self, url: str, timeout: float, connections: int) -> None:
        self._url = url
        self._server = postgresql_url.server(url)
        self._timeout = timeout
        self._limit = SharedTimeout(timeout)
        self._connections = Connections(self._connect, connections)
        self._checked = False
        self._under_way = 0
        self._closed = False
        self._at_rest = asyncio.Event()

    @classmethod
    def check_url(cls, url: str) -> None:
        postgresql_url.check_url(url)

    @classmethod
    async def open(
        cls,
        url: str,
        *,
        timeout: float,  # noqa: ASYNC109 - of each operation to come
        create: bool = True,
        patient: bool = False,
        connections: int = 10,
    ) -> "PostgreSQLStore":
        """Open a first connection, and check the schema, which `hello migrate` makes.

        Raises:
            StoreUnavailableError: the server can't be reached, and `patient` is not set.
            StoreError: the schema is missing or newer, or the server refuses user, password or database.
        """
        return await reached(cls(url, timeout, connections), patient=patient)

    @classmethod
    async def migrate(cls, url: str, *, timeout: float) -> str:  # noqa: ASYNC109 - as `open` has it
        server = postgresql_url.server(url)
        connection = None
        try:
            async with asyncio.timeout(timeout):
                connection = await connect(url, timeout)
                return await postgresql_schema.migrate(connection)
        except NO_CONNECTION as error:
            raise translated(server, error) from None
        finally:
            if connection is not None:
                connection.terminate()

    @classmethod
    async def compact(cls, url: str, *, timeout: float, pause: float) -> str:  # noqa: ASYNC109 - as `open` has it
        server = postgresql_url.server(url)
        connection = None
        try:
            connection = await connect(url, timeout)
            await postgresql_schema.check(connection)
            return await postgresql_schema.compact(connection, pause)
        except NO_CONNECTION as error:
            raise translated(server, error) from None
        finally:
            if connection is not None:
                connection.terminate()

    async def get(self, key: str) -> Person | None:
        rows = await self._run(Connection.fetch, _GET, key.encode())
        return Person(*rows[0]) if rows else None

    async def get_many(self, keys: Sequence[str]) -> Sequence[Person | None]:
        if len(keys) == 1:
            return [await self.get(keys[0])]
        if not keys:
            return []
        encoded = [key.encode() for key in keys]
        rows = await self._run(Connection.fetch, _GET_MANY, encoded)
        found = {key: Person(username, born) for key, username, born in rows}
        return [found.get(key) for key in encoded]

    async def put(self, entry: Entry, *, create: bool = False) -> bool:
        statement = _CREATE if create else _PUT
        status = await self._run(Connection.execute, statement, *_row(entry), repeatable=not create)
        return not create or status.endswith(" 1")

    async def put_many(self, entries: Sequence[Entry]) -> None:
        if len(entries) == 1:
            await self.put(entries[0])
            return
        # One of each key, for a statement must not touch a row twice; sorted, so that batches that run
        # at once lock the rows that they share in the same order.
        last = {entry.key.encode(): entry for entry in entries}
        rows = [_row(last[key]) for key in sorted(last)]
        if rows:
            await self._run(Connection.execute, _PUT_MANY, *map(list, zip(*rows, strict=True)))

    async def delete(self, key: str) -> bool:
        status = await self._run(Connection.execute, _DELETE, key.encode(), repeatable=False)
        return status.endswith(" 1")

    async def people(self, limit: int, after: str | None = None) -> Page:
        rows = await self._run(Connection.fetch, _PEOPLE, (after or "").encode(), limit + 1)
        people = [Person(username, born) for username, born, _ in rows[:limit]]
        return Page(people, rows[limit - 1]["key"].decode() if len(rows) > limit else None)

    async def birthdays(
        self, ranges: Sequence[tuple[str, str]], limit: int, after: str | None = None
    ) -> Page:
        rows: list[Any] = []
        for first, last in ranges:
            if after is None:
                start = (first, "")
            elif first <= after[:5] <= last:
                start, after = (after[:5], after[5:]), None
            else:
                continue  # a range that the earlier pages have given
            bounds = _month_day(start[0]), start[1].encode(), _month_day(last)
            rows += await self._run(Connection.fetch, _BIRTHDAYS, *bounds, limit + 1 - len(rows))
            if len(rows) > limit:
                break
        people = [Person(username, born) for username, born, _, _ in rows[:limit]]
        return Page(people, _position(rows[limit - 1]) if len(rows) > limit else None)

    async def ping(self) -> None:
        await self._run(Connection.fetch, _PING)

    async def close(self) -> None:
        self._closed = True
        if self._under_way:
            await self._at_rest.wait()
        await self._connections.close()

    async def _run(
        self,
        call: Callable[..., Awaitable[T]],
        statement: str,
        *arguments: object,
        repeatable: bool = True,
    ) -> T:
        """Execute a statement by `call`, a method of Connection, within the time limit."""
        if self._closed:
            raise StoreUnavailableError("The store is closed.")
        self._under_way += 1
        try:
            with self._limit:
                return await self._attempt(call, statement, arguments, repeatable)
        except TimeoutError as error:
            raise translated(self._server, error) from None
        finally:
            self._ended()

    def _ended(self) -> None:
        self._under_way -= 1
        if self._closed and not self._under_way:
            self._at_rest.set()

    async def _attempt(
        self,
        call: Callable[..., Awaitable[T]],
        statement: str,
        arguments: Sequence[object],
        repeatable: bool,
    ) -> T:
        attempt = 0
        while True:
            connection = await self._connections.acquire()
            if connection.is_closed():  # since it was handed over; nothing was sent
                self._connections.discard(connection)
                continue
            attempt += 1
            try:
                result = await call(connection, statement, *arguments)
            except _UNDONE as error:
                if isinstance(error, asyncpg.ReadOnlySQLTransactionError):
                    self._connections.discard_idle()  # their server is a standby by now
                self._connections.discard(connection)
                if attempt == ATTEMPTS:
                    raise translated(self._server, error) from error
            except _LOST as error:
                self._connections.discard_idle()  # they were to the same server, which is gone
                self._connections.discard(connection)
                if attempt == ATTEMPTS or not repeatable:
                    raise translated(self._server, error) from error
            except asyncpg.PostgresError as error:
                self._connections.release(connection)
                raise translated(self._server, error, after_start=True) from error
            except BaseException:  # given up: the time limit, or the caller is gone
                self._connections.discard(connection)
                raise
            else:
                self._connections.release(connection)
                return result

    async def _connect(self) -> Connection:
        try:
            async with asyncio.timeout(self._timeout):
                try:
                    return await self._connect_checked()
                except _BROKEN_OFF:
                    return await self._connect_checked()
        except NO_CONNECTION as error:
            raise translated(self._server, error) from None  # what it is made of may hold a password

    async def _connect_checked(self) -> Connection:
        connection = await connect(self._url, self._timeout)
        if not self._checked:
            try:
                await postgresql_schema.check(connection)
            except BaseException:
                connection.terminate()
                raise
            self._checked = True
        return connection


def _row(entry: Entry) -> tuple[bytes, str, int]:
    return entry.key.encode(), entry.username, entry.born.toordinal() - _EPOCH


def _month_day(text: str) -> int:
    return int(text[:2]) * 100 + int(text[3:])


def _position(row: Any) -> str:
    month, day = divmod(row["birthday"], 100)
    return f"{month:02}-{day:02}{row['key'].decode()}"
