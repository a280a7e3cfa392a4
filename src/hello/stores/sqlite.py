"""People in one SQLite file: reads in the event loop, writes batched through one thread.

A read is a few microseconds, less than handing it to a thread, so it runs in the loop. All reads of
one pass of the loop share a snapshot: taking the file's locks costs more than the read itself. A
snapshot is dropped before the loop takes new requests from its sockets, so a request always sees
what was durable when it was sent, also what another process wrote.

A write waits for the disk, so it runs in the writer thread (`sqlite_writer`), and the writes that
arrive while one batch is being synced make up the next one.
"""

import asyncio
import json
import logging
import sqlite3
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import date
from pathlib import Path
from typing import Any

from hello.birthday import Person
from hello.stores.base import Engine, Entry, Page, StoreError, StoreUnavailableError
from hello.stores.sqlite_compact import compact
from hello.stores.sqlite_writer import RETRY_SECONDS, Write, Writer, is_busy
from hello.timeouts import SharedTimeout

logger = logging.getLogger("hello.stores")

SCHEME = "sqlite://"
APPLICATION_ID = 0x68656C6F  # "helo", in the file's header: tells our files from others
SCHEMA_VERSION = 1
OLDEST_SQLITE = (3, 35, 0)  # RETURNING

_SCHEMA = f"""
    BEGIN IMMEDIATE;
    CREATE TABLE people (
        key TEXT NOT NULL PRIMARY KEY,
        username TEXT NOT NULL,
        born TEXT NOT NULL,
        birthday TEXT NOT NULL GENERATED ALWAYS AS (substr(born, 6)) VIRTUAL
    ) WITHOUT ROWID;
    CREATE INDEX people_birthday ON people (birthday, key);
    PRAGMA application_id = {APPLICATION_ID};
    PRAGMA user_version = {SCHEMA_VERSION};
    COMMIT;
"""
_GET = "SELECT username, born FROM people WHERE key = ?"
_GET_MANY = "SELECT people.key, username, born FROM json_each(?) CROSS JOIN people ON people.key = value"
_PEOPLE = "SELECT username, born, key FROM people WHERE key > ? ORDER BY key LIMIT ?"
_BIRTHDAYS = """
    SELECT username, born, birthday || key FROM people
    WHERE (birthday, key) > (?, ?) AND birthday <= ? ORDER BY birthday, key LIMIT ?
"""


class SQLiteStore(Engine):
    """See `Store`. Open it with `SQLiteStore.open`, in the event loop that will use it."""

    def __init__(self, reader: sqlite3.Connection, writer: Writer, timeout: float) -> None:
        self._reader = reader
        self._writer = writer
        self._limit = SharedTimeout(timeout)
        self._loop = asyncio.get_running_loop()
        self._snapshot = False

    @classmethod
    def check_url(cls, url: str) -> None:
        path = url.removeprefix(SCHEME)
        if not path.startswith("/") or path in {"/", "/:memory:"} or "?" in path:
            raise ValueError("A SQLite URL is sqlite:/// and the path of a file: sqlite:///hello.db.")

    @classmethod
    async def open(
        cls,
        url: str,
        *,
        timeout: float,  # noqa: ASYNC109 - of each operation to come
        create: bool = True,
        patient: bool = False,
        connections: int = 2,
    ) -> "SQLiteStore":
        """Open the file, and make or upgrade its schema: a file needs no other preparation.

        Raises:
            StoreError: missing without `create`, not ours, newer, corrupt, read-only, on a full disk.
        """
        path = url.removeprefix(SCHEME + "/")
        if sqlite3.sqlite_version_info < OLDEST_SQLITE:
            raise StoreError(f"SQLite 3.35 or newer is needed; this Python has {sqlite3.sqlite_version}.")
        _prepare_path(Path(path), create)
        opened: list[sqlite3.Connection] = []
        try:
            for _ in range(2):
                opened.append(_connect(path, timeout))
                _patiently(timeout, opened[-1], path)
        except (sqlite3.Error, StoreError) as error:
            for connection in opened:
                connection.close()
            if isinstance(error, StoreError):
                raise
            raise StoreError(_explain(error, path)) from error
        reader, writing = opened
        reader.execute("PRAGMA busy_timeout = 100")  # it would hold up the loop; reads hardly ever wait
        writing.execute("PRAGMA busy_timeout = 0")  # the writer thread has its own, fairer wait
        return cls(reader, Writer(writing, lambda error: _explain(error, path)), timeout)

    @classmethod
    async def migrate(cls, url: str, *, timeout: float) -> str:  # noqa: ASYNC109 - as `open` has it
        store = await cls.open(url, timeout=timeout)
        await store.close()
        return f"the schema is version {SCHEMA_VERSION}; a SQLite file gets it whenever it is opened"

    @classmethod
    async def compact(cls, url: str, *, timeout: float, pause: float) -> str:  # noqa: ASYNC109 - as `open` has it
        await (await cls.open(url, timeout=timeout, create=False)).close()  # a file of ours?
        path = url.removeprefix(SCHEME + "/")
        try:
            compact(path, patience=timeout, pause=pause)
        except sqlite3.Error as error:
            raise StoreError(_explain(error, path)) from error
        return "rewrote the file; nothing is left in it of who was erased"

    async def get(self, key: str) -> Person | None:
        rows = self._read(_GET, (key,))
        return Person(rows[0][0], date.fromisoformat(rows[0][1])) if rows else None

    async def get_many(self, keys: Sequence[str]) -> Sequence[Person | None]:
        if len(keys) == 1:
            return [await self.get(keys[0])]
        rows = self._read(_GET_MANY, (json.dumps(keys),))
        found = {key: Person(username, date.fromisoformat(born)) for key, username, born in rows}
        return [found.get(key) for key in keys]

    async def people(self, limit: int, after: str | None = None) -> Page:
        rows = self._read(_PEOPLE, (after or "", limit + 1))
        return _page(rows, limit)

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
            rows += self._read(_BIRTHDAYS, (*start, last, limit + 1 - len(rows)))
            if len(rows) > limit:
                break
        return _page(rows, limit)

    async def put(self, entry: Entry, *, create: bool = False) -> bool:
        return await self._write("create" if create else "put", [entry])

    async def put_many(self, entries: Sequence[Entry]) -> None:
        await self._write("put", entries)

    async def delete(self, key: str) -> bool:
        return await self._write("delete", [Entry(key, "", date.min)])

    async def ping(self) -> None:
        self._read("SELECT 1 FROM people LIMIT 1", ())

    async def close(self) -> None:
        await self._writer.close()
        self._end_snapshot()
        self._reader.close()

    def _read(self, statement: str, parameters: tuple[object, ...]) -> list[Any]:
        try:
            if not self._snapshot:
                self._reader.execute("BEGIN")
                self._snapshot = True
                # Runs first in the loop's next pass: before what that pass's sockets deliver.
                self._loop.call_soon(self._end_snapshot)
            return self._reader.execute(statement, parameters).fetchall()
        except sqlite3.Error as error:
            raise StoreUnavailableError(_explain(error, "the database")) from error

    def _end_snapshot(self) -> None:
        if self._snapshot:
            self._snapshot = False
            try:
                self._reader.execute("COMMIT")
            except sqlite3.Error as error:
                logger.error("store: %s", _explain(error, "the database"))
                with suppress(sqlite3.Error):  # or each later read would find a transaction open
                    self._reader.execute("ROLLBACK")

    async def _write(self, kind: str, entries: Sequence[Entry]) -> bool:
        write = Write(kind, entries, self._loop)
        self._writer.submit(write)
        try:
            with self._limit:
                return await write.done
        except TimeoutError:
            reason = self._writer.obstacle or "The disk did not answer in time."
            raise StoreUnavailableError(reason) from None


def _page(rows: list[Any], limit: int) -> Page:
    people = [Person(username, date.fromisoformat(born)) for username, born, _ in rows[:limit]]
    return Page(people, rows[limit - 1][2] if len(rows) > limit else None)


def _prepare_path(path: Path, create: bool) -> None:
    if not create and not path.exists():
        raise StoreError(f"There is no database at {path}; `hello import` or `hello serve` makes one.")
    if not path.resolve().parent.is_dir():
        raise StoreError(f"There is no folder {path.resolve().parent}; make it first.")
    if not path.exists():
        with suppress(OSError):  # SQLite tells better what is wrong
            path.touch(0o600)  # personal data; SQLite gives its files beside it the same mode


def _connect(path: str, timeout: float) -> sqlite3.Connection:
    # isolation_level=None: transactions are begun and committed here, never by the driver.
    return sqlite3.connect(path, timeout=timeout, isolation_level=None, check_same_thread=False)


def _prepare(connection: sqlite3.Connection, path: str) -> None:
    """Check that the file is ours, make the schema where there is none, and set the connection up."""
    connection.execute("BEGIN")  # one look at all three: another process may be making the schema
    ours, version, tables = (
        connection.execute(statement).fetchone()[0]
        for statement in (
            "PRAGMA application_id",
            "PRAGMA user_version",
            "SELECT count(*) FROM sqlite_schema",
        )
    )
    connection.execute("COMMIT")
    if ours != APPLICATION_ID and (ours or version or tables):
        raise StoreError(f"{path} is a database of another program; name another file.")
    if version > SCHEMA_VERSION:
        raise StoreError(
            f"{path} was written by a newer version of hello (schema {version}, this one knows"
            f" {SCHEMA_VERSION}); run that version or newer. Nothing was changed."
        )
    connection.execute(
        "PRAGMA page_size = 1024"
    )  # small writes to many pages: a quarter of the bytes of 4096
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA wal_autocheckpoint = 64000")  # pages: 64 MB, in which a page changes often
    connection.execute("PRAGMA synchronous = FULL")  # each commit is synced before it returns
    connection.execute("PRAGMA temp_store = MEMORY")  # the journal of a statement with many rows
    connection.execute("PRAGMA fullfsync = ON")  # macOS: down to the disk, not into its cache
    connection.execute("PRAGMA cache_size = -8192")  # KiB, each connection: 100,000 people fit
    connection.execute("PRAGMA secure_delete = ON")  # the bytes are personal; costs nothing measurable
    connection.execute("PRAGMA journal_size_limit = 67108864")  # the log shrinks again after an import
    if not tables:
        _create(connection)
    # Fails here, and not at the first PUT, where the file or its folder is read-only.
    connection.execute("BEGIN IMMEDIATE")
    connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
    connection.execute("ROLLBACK")


def _patiently(timeout: float, connection: sqlite3.Connection, path: str) -> None:
    """Prepare, and again while another process does: SQLite does not wait for each lock by itself."""
    deadline = time.monotonic() + timeout
    while True:
        try:
            return _prepare(connection, path)
        except sqlite3.OperationalError as error:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            if not is_busy(error) or time.monotonic() > deadline:
                raise
            time.sleep(RETRY_SECONDS)


def _create(connection: sqlite3.Connection) -> None:
    try:
        connection.executescript(_SCHEMA)
    except sqlite3.OperationalError:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        # Another process that opened the same new file may have been first.
        if connection.execute("PRAGMA application_id").fetchone()[0] != APPLICATION_ID:
            raise


_REASONS: dict[int, Callable[[str], str]] = {
    sqlite3.SQLITE_BUSY: lambda path: f"Another process keeps {path} locked.",
    sqlite3.SQLITE_CANTOPEN: lambda path: f"{path} can't be opened; check the path and its permissions.",
    sqlite3.SQLITE_CORRUPT: lambda path: f"{path} is damaged; restore a backup. Nothing was changed.",
    sqlite3.SQLITE_FULL: lambda path: f"The disk that holds {path} is full; free some space.",
    sqlite3.SQLITE_IOERR: lambda path: f"The disk that holds {path} reports an error.",
    sqlite3.SQLITE_NOTADB: lambda path: f"{path} is not a database; name another file. Nothing was changed.",
    sqlite3.SQLITE_PERM: lambda path: f"{path} can't be opened; check its permissions.",
    sqlite3.SQLITE_READONLY: lambda path: f"{path} or its folder is read-only; make both writable.",
}


def _explain(error: sqlite3.Error, path: str) -> str:
    code = getattr(error, "sqlite_errorcode", None)
    reason = _REASONS.get(code & 0xFF) if code is not None else None  # the low byte is the kind of error
    return f"{reason(path)} ({error})" if reason else f"{path} can't be used: {error}"
