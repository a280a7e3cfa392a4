"""SQLite as the store: durable, shared by processes, and plain about the files that it can't use."""

import asyncio
import random
import sqlite3
import threading
import time
from contextlib import closing
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest

from hello.stores import Entry, open_store, sqlite
from hello.stores.base import Store
from hello.stores.sqlite import SQLiteStore
from tests.support.service import letters, locked

BORN = date(1990, 4, 23)


@pytest.mark.parametrize(
    ("statement", "parameters", "plan"),
    [
        (sqlite._GET, 1, "SEARCH people USING PRIMARY KEY (key=?)"),
        (sqlite._PEOPLE, 2, "SEARCH people USING PRIMARY KEY (key>?)"),
        (
            sqlite._BIRTHDAYS,
            4,
            "SEARCH people USING INDEX people_birthday ((birthday,key)>(?,?) AND birthday<?)",
        ),
    ],
)
def test_reads_seek_and_never_scan_or_sort(
    database: Path, statement: str, parameters: int, plan: str
) -> None:
    """Each read finds its first row by an index and reads on in its order."""
    with closing(sqlite3.connect(database)) as connection:
        rows = connection.execute(f"EXPLAIN QUERY PLAN {statement}", ["x"] * parameters).fetchall()
    assert [row[3] for row in rows] == [plan]


def test_commits_are_synced(tmp_path: Path) -> None:
    """The writing connection syncs each commit to the disk (which kill -9 can't show)."""

    async def settings() -> tuple[Any, Any]:
        store = await SQLiteStore.open(f"sqlite:///{tmp_path / 'hello.db'}", timeout=5)
        try:
            connection = store._writer._connection
            return (
                connection.execute("PRAGMA synchronous").fetchone()[0],
                connection.execute("PRAGMA journal_mode").fetchone()[0],
            )
        finally:
            await store.close()

    assert asyncio.run(settings()) == (2, "wal")


Operation = tuple[str, str, date]


async def apply(store: Store, operation: Operation) -> bool | None:
    """Do one operation on the store."""
    kind, key, born = operation
    entry = Entry(key, key.upper(), born)
    match kind:
        case "put":
            return await store.put(entry)
        case "create":
            return await store.put(entry, create=True)
        case "delete":
            return await store.delete(key)
        case _:
            fillers = [Entry(f"filler{letters(n)}", "F", BORN) for n in range(120)]
            await store.put_many([entry, *fillers])
            return None


def expect(people: dict[str, date], operation: Operation) -> bool | None:
    """Do it on a dictionary."""
    kind, key, born = operation
    if kind == "delete":
        return people.pop(key, None) is not None
    if kind == "create" and key in people:
        return False
    people[key] = born
    return None if kind == "many" else True


@pytest.mark.parametrize("seed", range(5))
def test_writes_in_one_batch_happen_in_their_order(tmp_path: Path, seed: int) -> None:
    """Writes of one key that are committed together have the outcome of one after the other."""
    path = tmp_path / "hello.db"
    dice = random.Random(seed)
    kinds = ["put", "create", "create", "delete", "delete"] + (["many"] if seed % 2 else [])
    operations = [
        (dice.choice(kinds), dice.choice("abc"), BORN + timedelta(days=number)) for number in range(400)
    ]

    async def run() -> tuple[list[bool | None], dict[str, date]]:
        store = await open_store(f"sqlite:///{path}", timeout=30)
        try:
            with locked(path):
                # Keeps the writer waiting, so that all the others are there when it takes the next batch.
                first = asyncio.create_task(store.put(Entry("first", "first", BORN)))
                await asyncio.sleep(0.1)
                tasks = [asyncio.create_task(apply(store, operation)) for operation in operations]
                await asyncio.sleep(0.1)
                assert not first.done()
            assert await first
            outcomes = [await task for task in tasks]
            people = (await store.people(1000)).people
            return outcomes, {p.username.lower(): p.born for p in people if len(p.username) == 1}
        finally:
            await store.close()

    outcomes, stored = asyncio.run(run())
    people: dict[str, date] = {}
    assert outcomes == [expect(people, operation) for operation in operations]
    people.pop("f", None)
    stored.pop("f", None)
    assert stored == people


def test_closing_waits_for_the_disk(tmp_path: Path) -> None:
    """A write that is held up when the store is closed is on disk when the close returns."""
    path = tmp_path / "hello.db"

    async def run() -> list[tuple[str]]:
        store = await open_store(f"sqlite:///{path}", timeout=30)
        held = threading.Event()

        def hold() -> None:
            with locked(path):
                held.set()
                time.sleep(0.3)

        holder = threading.Thread(target=hold)
        holder.start()
        held.wait()
        write = asyncio.create_task(store.put(Entry("zoe", "Zoe", BORN)))
        await asyncio.sleep(0)
        await store.close()
        with closing(sqlite3.connect(path)) as connection:
            found = connection.execute("SELECT username FROM people").fetchall()
        holder.join()
        assert await write
        return found

    assert asyncio.run(run()) == [("Zoe",)]
