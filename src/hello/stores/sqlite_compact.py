"""Rewriting a SQLite file, so that nothing is left in it of who was erased.

`secure_delete` overwrites what is deleted, and still two places keep it: the log, until it is begun
anew, and pages that were rebuilt before, whose unused part has copies of what moved to a neighbour: of
one in some 5,000 people erased. VACUUM makes each page anew. Writes wait for it; reads go on.
"""

import sqlite3
import time
from contextlib import closing

from hello.stores.base import StoreError, StoreUnavailableError
from hello.stores.sqlite_writer import RETRY_SECONDS, is_busy

COPYING = 0.6  # the part of a VACUUM's time in which it can be given up; the rest puts the copy in place
STEPS = 10_000  # of SQLite's machine between two looks at the clock: a millisecond or so
LOCK_SECONDS = 0.05  # that readers are waited for at once, with writes held up


def compact(path: str, *, patience: float, pause: float) -> None:
    """Rewrite the file and empty its log, also while others use it.

    Args:
        path: a file that is ours.
        patience: seconds to wait for other processes that write or, at the end, read.
        pause: seconds that their writes may wait, about.

    Raises:
        StoreError: it would take longer than `pause`; nothing was changed.
        StoreUnavailableError: somebody reads the log all the while.
        sqlite3.Error: no room for the copy, say.
    """
    deadline = time.monotonic() + patience
    with closing(sqlite3.connect(path, timeout=0, isolation_level=None)) as connection:
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA fullfsync = ON")
        _vacuum(connection, path, pause, deadline)
        _empty_log(connection, path, deadline)


def _vacuum(connection: sqlite3.Connection, path: str, pause: float, deadline: float) -> None:
    began = 0.0
    connection.set_progress_handler(lambda: time.monotonic() - began > COPYING * pause, STEPS)
    while True:
        began = time.monotonic()
        try:
            connection.execute("VACUUM")
            break
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode == sqlite3.SQLITE_INTERRUPT:
                raise StoreError(
                    f"Rewriting {path} would hold up writes for longer than store-timeout ({pause:g} s);"
                    " nothing was changed. With --full it is done however long it takes, and writes"
                    " get 503 meanwhile."
                ) from None
            if not is_busy(error) or began > deadline:
                raise
            time.sleep(RETRY_SECONDS)
    connection.set_progress_handler(None, 0)


def _empty_log(connection: sqlite3.Connection, path: str, deadline: float) -> None:
    connection.execute(f"PRAGMA busy_timeout = {round(LOCK_SECONDS * 1000)}")
    while True:
        connection.execute("PRAGMA wal_checkpoint(PASSIVE)")  # most of the work, and holds up nobody
        busy = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
        if not busy:
            return
        if time.monotonic() > deadline:
            raise StoreUnavailableError(
                f"{path} was rewritten, but another process reads its log, in which erased people may be"
                " left; when that has ended, run it again."
            )
        time.sleep(RETRY_SECONDS)
