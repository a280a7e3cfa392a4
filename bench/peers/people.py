"""What the FastAPI and the Flask peer share: the table, the engine's settings, the rules of the contract.

`python people.py PEOPLE.csv URL` puts these people in an empty database.
"""

import asyncio
import csv
import sys
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import event
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Base(DeclarativeBase):
    """The declarative base of the one table."""


class Person(Base):
    """A username as its owner spells it, under what makes it unique."""

    __tablename__ = "people"

    key: Mapped[str] = mapped_column(primary_key=True)
    username: Mapped[str]
    born: Mapped[date]


def set_pragmas(engine: Engine) -> None:
    """Make each commit as durable as hello's (synced before it returns), and readers free of writers."""

    @event.listens_for(engine, "connect")
    def connected(connection: Any, record: object) -> None:
        cursor = connection.cursor()
        cursor.execute("PRAGMA journal_mode = WAL")
        cursor.execute("PRAGMA synchronous = FULL")
        cursor.close()


def upsert(dialect: str, key: str, username: str, born: date) -> sqlite.Insert | postgresql.Insert:
    """Create or replace in one statement: half the round trips of `Session.merge`, and no race."""
    insert = postgresql.insert if dialect == "postgresql" else sqlite.insert
    statement = insert(Person).values(key=key, username=username, born=born)
    return statement.on_conflict_do_update(index_elements=["key"], set_={"username": username, "born": born})


def valid_username(text: str) -> bool:
    """Whether the text is 1 to 64 letters."""
    return len(text) <= 64 and text.isalpha()


def parse_born(text: str) -> date:
    """Return the date that YYYY-MM-DD names.

    Raises:
        ValueError: another form, no date of the calendar, or not before today.
    """
    born = date.fromisoformat(text)
    if len(text) != 10 or text[4] != "-" or text[7] != "-" or born >= datetime.now(UTC).date():
        raise ValueError("dateOfBirth is a day before today, as YYYY-MM-DD")
    return born


def message(username: str, born: date) -> str:
    """Return the greeting of today."""
    today = datetime.now(UTC).date()
    birthday = _birthday_in(today.year, born)
    if birthday < today:
        birthday = _birthday_in(today.year + 1, born)
    days = (birthday - today).days
    if days == 0:
        return f"Hello, {username}! Happy birthday!"
    return f"Hello, {username}! Your birthday is in {days} day(s)"


def _birthday_in(year: int, born: date) -> date:
    try:
        return born.replace(year=year)
    except ValueError:  # 29 February
        return date(year, 2, 28)


def read(people: str) -> list[dict[str, Any]]:
    """Return the rows of a CSV file."""
    with Path(people).open(newline="", encoding="utf-8") as lines:
        return [
            {
                "key": row["username"].lower(),
                "username": row["username"],
                "born": parse_born(row["dateOfBirth"]),
            }
            for row in csv.DictReader(lines)
        ]


async def preload(rows: list[dict[str, Any]], url: str) -> None:
    """Put people in an empty database."""
    engine = create_async_engine(url)
    if engine.dialect.name == "sqlite":
        set_pragmas(engine.sync_engine)

    def fill(connection: Connection) -> None:
        Base.metadata.create_all(connection)
        connection.execute(Person.__table__.insert(), rows)

    async with engine.begin() as connection:
        await connection.run_sync(fill)
    await engine.dispose()


if __name__ == "__main__":
    asyncio.run(preload(read(sys.argv[1]), sys.argv[2]))
