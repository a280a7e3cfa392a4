"""Decision 8: putting many people into PostgreSQL, by unnest and by COPY into a temporary table."""

import asyncio
import os
import tempfile
import time
from collections.abc import Sequence
from datetime import date, timedelta
from pathlib import Path
from statistics import median

import asyncpg

from bench import postgresql
from bench.choices.timing import ROUNDS
from bench.markdown import table
from bench.people import born, username
from bench.processes import Running, free_port
from hello.stores.base import Entry
from hello.stores.postgresql import PostgreSQLStore

SIZE = 5_000
GIVEN = "CREATE TEMPORARY TABLE given (key bytea, username text, born date) ON COMMIT DROP"
COPIED = """
    INSERT INTO people AS old (key, username, born) SELECT key, username, born FROM given
    ON CONFLICT (key) DO UPDATE SET username = excluded.username, born = excluded.born
    WHERE (old.username, old.born) IS DISTINCT FROM (excluded.username, excluded.born)
"""


def measure() -> str:
    """Return a table: ms for 5,000 people, new ones and changed ones."""
    port = free_port()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        postgresql.create(folder / "cluster")
        with Running([postgresql.serving(folder / "cluster", port)], folder, max(os.sched_getaffinity(0))):
            found = asyncio.run(_compare(postgresql.url(port)))
    rows = [(way, *(f"{median(times) * 1e3:.0f}" for times in both)) for way, both in found.items()]
    return table(("way", "ms, new people", "ms, changed ones"), rows)


async def _compare(url: str) -> dict[str, tuple[list[float], list[float]]]:
    await PostgreSQLStore.migrate(url, timeout=30)
    store = await PostgreSQLStore.open(url, timeout=30, connections=1)
    connection = await asyncpg.connect(url)

    async def by_copy(entries: Sequence[Entry]) -> None:
        async with connection.transaction():
            await connection.execute(GIVEN)
            rows = [(entry.key.encode(), entry.username, entry.born) for entry in entries]
            await connection.copy_records_to_table("given", records=rows)
            await connection.execute(COPIED)

    found: dict[str, tuple[list[float], list[float]]] = {"unnest": ([], []), "COPY": ([], [])}
    ways = {"unnest": store.put_many, "COPY": by_copy}
    for number in range(ROUNDS):
        for which, (way, put) in enumerate(ways.items()):
            first = (2 * number + which) * SIZE
            for changed in (0, 1):
                entries = [_entry(first + index, changed) for index in range(SIZE)]
                started = time.perf_counter()
                await put(entries)
                found[way][changed].append(time.perf_counter() - started)
    await connection.close()
    await store.close()
    return found


def _entry(index: int, days: int) -> Entry:
    name = username(index)
    return Entry(name.lower(), name, date.fromisoformat(born(index)) + timedelta(days=days))
