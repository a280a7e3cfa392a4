"""The one thread that writes to a SQLite file, a batch a transaction.

Each batch costs one sync of the disk, however many writes are in it: that is what makes durable
writes fast (8.7k/s one a commit, 178k/s thirty-two a commit on the same disk).
"""

import asyncio
import queue
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from operator import attrgetter

from hello.stores.base import Entry, StoreUnavailableError

BATCH = 1000
RETRY_SECONDS = 0.001  # SQLite's own wait backs off to 100 ms, and starves beside a busy importer

_INSERT = "INSERT INTO people (key, username, born) VALUES (?, ?, ?) ON CONFLICT (key) DO"
# What is there already is not written again: repeating a PUT costs nothing.
_PUT = f"""
    {_INSERT} UPDATE SET username = excluded.username, born = excluded.born
    WHERE (excluded.username, excluded.born) <> (username, born)
"""
_CREATE = f"{_INSERT} NOTHING"
_DELETE = "DELETE FROM people WHERE key = ?"


class Write:
    """A write that waits for its turn: `put`, `create` or `delete`, its entries, and its outcome."""

    __slots__ = ("done", "entries", "kind", "loop")

    def __init__(self, kind: str, entries: Sequence[Entry], loop: asyncio.AbstractEventLoop) -> None:
        self.kind = kind
        self.entries = entries
        self.loop = loop
        self.done: asyncio.Future[bool] = loop.create_future()


class Writer:
    """Applies writes in the order they were submitted, and resolves each when it is on disk."""

    def __init__(
        self, connection: sqlite3.Connection, timeout: float, explain: Callable[[sqlite3.Error], str]
    ) -> None:
        self._connection = connection
        self._timeout = timeout
        self._explain = explain
        self._closing = False
        self._queue: queue.SimpleQueue[Write | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="sqlite-writer", daemon=True)
        self._thread.start()

    def submit(self, write: Write) -> None:
        """Take a write; `write.done` tells when it is durable, or why it isn't."""
        self._queue.put(write)

    def close(self) -> None:
        """Finish what was submitted and is still waited for, then close the connection."""
        self._closing = True
        self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        for batch in self._batches():
            outcome: list[bool] | Exception
            try:
                outcome = self._commit(batch)
            except sqlite3.Error as error:
                outcome = StoreUnavailableError(self._explain(error))
            except Exception as error:  # noqa: BLE001 - a defect fails its batch, and must not end the thread
                outcome = error
            batch[0].loop.call_soon_threadsafe(_resolve, batch, outcome)
        self._connection.close()

    def _batches(self) -> Iterator[list[Write]]:
        last = False
        while not last:
            batch: list[Write] = []
            taken = self._queue.get()
            while taken is not None:
                batch.append(taken)
                if len(batch) == BATCH:
                    break
                try:
                    taken = self._queue.get_nowait()
                except queue.Empty:
                    break
            else:
                last = True
            if batch:
                yield batch

    def _commit(self, batch: list[Write]) -> list[bool]:
        """Apply the batch in one transaction; wait for another process's, up to the time limit."""
        deadline = time.monotonic() + self._timeout
        while True:
            try:
                self._connection.execute("BEGIN IMMEDIATE")
                break
            except sqlite3.OperationalError as error:
                forsaken = self._closing and all(write.done.done() for write in batch)
                if forsaken or time.monotonic() > deadline or not _is_busy(error):
                    raise
                time.sleep(RETRY_SECONDS)
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
            rows = (_row(entry) for write in writes for entry in write.entries)
            self._connection.executemany(_PUT, rows)
            return [True] * len(writes)
        if kind == "create":
            return [execute(_CREATE, _row(write.entries[0])).rowcount == 1 for write in writes]
        return [execute(_DELETE, (write.entries[0].key,)).rowcount == 1 for write in writes]


def _row(entry: Entry) -> tuple[str, str, str]:
    return entry.key, entry.username, entry.born.isoformat()


def _is_busy(error: sqlite3.Error) -> bool:
    return error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY


def _resolve(batch: list[Write], outcome: list[bool] | Exception) -> None:
    for index, write in enumerate(batch):
        if write.done.done():  # timed out or cancelled meanwhile
            continue
        if isinstance(outcome, Exception):
            write.done.set_exception(outcome)
        else:
            write.done.set_result(outcome[index])
