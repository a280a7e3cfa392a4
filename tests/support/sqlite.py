"""SQLite databases of the service, made ahead of a test."""

import asyncio
from datetime import date
from pathlib import Path

import pytest

from hello.stores import Entry, open_store
from tests.support.service import letters

BORN = date(1990, 4, 23)


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """A database of the service, with 2,000 people, that nobody has open."""
    path = tmp_path / "hello.db"

    async def fill() -> None:
        store = await open_store(f"sqlite:///{path}", timeout=10)
        await store.put_many([Entry(f"p{letters(n)}", f"P{letters(n)}", BORN) for n in range(2000)])
        await store.close()

    asyncio.run(fill())
    return path
