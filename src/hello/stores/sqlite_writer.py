"""The one thread that writes to a SQLite file, a batch a transaction.

Each batch costs one sync of the disk, however many writes are in it: that is what makes durable
writes fast (8.7k/s one a commit, 178k/s thirty-two a commit on the same disk).
"""

import asyncio
import queue
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from functools import cache
from itertools import groupby
from operator import attrgetter

from hello.stores.base import Entry, StoreUnavailableError

BATCH = 1000
ROWS = 64  # of one statement
RETRY_SECONDS = 0.001  # SQLite's own wait backs off to 100 ms, and starves beside a busy importer

_INSERT = "INSERT INTO people (key, username, born) VALUES {rows} ON CONFLICT (key) DO {what}"
# What is there already is not written again: repeating a PUT costs nothing.
_UPDATE = """
    UPDATE SET username = excluded.username, born = excluded.born
    WHERE (excluded.username, excluded.born) <> (username, born)
"""
_CREATE = _INSERT.format(rows="(?, ?, ?)", what="NOTHING")
_DELETE = "DELETE FROM people WHERE key = ?"


class Write:
    """A write that waits for its turn: `put`, `create` or `delete`, its entries, and its outcome."""

    __slots__ = ("done", "entries", "kind")

    def __init__(self, kind: str, entries: Sequence[Entry], loop: asyncio.AbstractEventLoop) -> None:
        self.kind = kind
        self.entries = entries
        self.done: asyncio.Future[bool] = loop.create_future()


class Writer:
    """Applies writes in the order they were submitted, and resolves each when it is on disk.

    Writes are gathered in the loop while the thread is at work: waking it for each would cost more than
    the write, for both compete for the interpreter.
    """

    def __init__(self, connection: sqlite3.Connection, explain: Callable[[sqlite3.Error], str]) -> None:
        self.obstacle: str | None = None  # why the writes at hand have to wait
        self._connection = connection
        self._explain = explain
        self._loop = asyncio.get_running_loop()
        self._waiting: list[Write] = []
        self._at_work = False
        self._batches: queue.SimpleQueue[list[Write] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="sqlite-writer", daemon=True)
        self._thread.start()

    def submit(self, write: Write) -> None:
        """Take a write; `write.done` tells when it is durable, or why it isn't. Called in the loop."""
        self._waiting.append(write)
        if not self._at_work:
            self._hand_over()

    async def close(self) -> None:
        """Finish what was submitted and is still waited for, then close the connection."""
        while self._waiting:
            self._hand_over()
        self._batches.put(None)
        await asyncio.to_thread(self._thread.join)

    def _hand_over(self) -> None:
        self._at_work = True
        self._batches.put(self._waiting[:BATCH])
        del self._waiting[:BATCH]

    def _run(self) -> None:
        while (batch := self._batches.get()) is not None:
            outcome: list[bool] | Exception
            try:
                outcome = self._commit(batch)
            except sqlite3.Error as error:
                outcome = StoreUnavailableError(self._explain(error))
            except Exception as error:  # noqa: BLE001 - a defect fails its batch, and must not end the thread
                outcome = error
            self._loop.call_soon_threadsafe(self._done, batch, outcome)
        self._connection.close()

    def _done(self, batch: list[Write], outcome: list[bool] | Exception) -> None:
        self._at_work = False
        if self._waiting:
            self._hand_over()  # first: the thread goes on while the loop answers
        for index, write in enumerate(batch):
            if write.done.done():  # timed out or cancelled meanwhile
                continue
            if isinstance(outcome, Exception):
                write.done.set_exception(outcome)
            else:
                write.done.set_result(outcome[index])

    def _commit(self, batch: list[Write]) -> list[bool]:
        """Apply the batch in one transaction, once no other process writes.

        Writes that nobody waits for any more leave it: who was told that a write failed may have written
        something else since, from another process perhaps.
        """
        while True:
            batch[:] = [write for write in batch if not write.done.done()]
            if not batch:
                return []
            try:
                outcome = self._transaction(batch)
            except sqlite3.OperationalError as error:
                if not is_busy(error):
                    raise
                self.obstacle = self._explain(error)
                time.sleep(RETRY_SECONDS)
            else:
                self.obstacle = None
                return outcome

    def _transaction(self, batch: list[Write]) -> list[bool]:
        entries = [entry for write in batch if write.kind == "put" for entry in write.entries]
        if 0 < len(entries) <= ROWS and all(write.kind == "put" for write in batch):
            # A statement is a transaction. Within it the interpreter is left alone, and the loop goes on.
            self._put(entries)
            return [True] * len(batch)
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            outcome = [
                done
                for kind, run in groupby(batch, attrgetter("kind"))
                for done in self._apply(kind, list(run))
            ]
            self._connection.execute("COMMIT")
        except sqlite3.Error:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise
        return outcome

    def _apply(self, kind: str, writes: list[Write]) -> list[bool]:
        """Execute writes of one kind; return for each whether it did what it was to do."""
        execute = self._connection.execute
        if kind == "put":
            entries = [entry for write in writes for entry in write.entries]
            for start in range(0, len(entries), ROWS):
                self._put(entries[start : start + ROWS])
            return [True] * len(writes)
        if kind == "create":
            return [execute(_CREATE, _row(write.entries[0])).rowcount == 1 for write in writes]
        return [execute(_DELETE, (write.entries[0].key,)).rowcount == 1 for write in writes]

    def _put(self, entries: Sequence[Entry]) -> None:
        values = [value for entry in entries for value in _row(entry)]
        self._connection.execute(_put_statement(len(entries)), values)


@cache
def _put_statement(rows: int) -> str:
    return _INSERT.format(rows=", ".join(["(?, ?, ?)"] * rows), what=_UPDATE)


def _row(entry: Entry) -> tuple[str, str, str]:
    return entry.key, entry.username, entry.born.isoformat()


def is_busy(error: sqlite3.Error) -> bool:
    """Return whether another process has a lock that is needed."""
    return error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY
