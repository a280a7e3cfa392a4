"""People in files; what `export` writes, `import` reads.

An import has two steps. Rows are first checked and put in a temporary file, which finds usernames
that come twice and keeps memory flat; only then is anything stored. So a file with a bad row
changes nothing, also when it comes from a pipe that can't be read again.
"""

import csv
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import date
from itertools import islice
from typing import Literal, NamedTuple, TextIO

import msgspec

from hello.birthday import InvalidDateError, InvalidUsernameError, Person, parse_date_of_birth, parse_username
from hello.digest import Digest
from hello.rows import FIELDS, rows
from hello.stores import Entry, Store

Format = Literal["csv", "jsonl"]
Progress = Callable[[int], None]

CHECK = 10_000  # rows between two calls of the progress
LOAD = 5000  # people stored at once: a lock of some 30 ms, so that a service beside it goes on

_TABLES = """
    PRAGMA journal_mode = OFF;
    PRAGMA synchronous = OFF;
    CREATE TABLE checked (line INTEGER PRIMARY KEY, key TEXT, username TEXT, born TEXT);
    CREATE TABLE people (key TEXT PRIMARY KEY, username TEXT, born TEXT, line INTEGER) WITHOUT ROWID;
    BEGIN;
"""
# Sorted once: rows come in any order, and one by one they would each go to another place of the file.
_MAKE_PEOPLE = """
    INSERT INTO people SELECT key, username, born, line FROM checked WHERE true ORDER BY key, line
    ON CONFLICT (key) DO UPDATE SET username = excluded.username WHERE born = excluded.born
"""
_CONTRADICTIONS = """
    SELECT checked.line, people.line FROM checked JOIN people USING (key)
    WHERE checked.born <> people.born ORDER BY checked.line
"""


class TemporaryFileError(Exception):
    """The temporary file of an import can't be written; the message says what to do."""


class BadRow(NamedTuple):
    """A row that can't be imported, and why."""

    line: int
    reason: str

    def __str__(self) -> str:
        return f"line {self.line}: {self.reason}"


class Staged:
    """Checked rows, which become people: one a key, of the first row's date and the last row's spelling."""

    def __init__(self) -> None:
        # The empty name is SQLite's for a file of its own that vanishes when it is closed.
        self._file = sqlite3.connect("", isolation_level=None)
        self._file.executescript(_TABLES)
        self._rows = 0

    def add(self, checked: Sequence[tuple[int, str, str, str]]) -> None:
        """Take rows: line, key, username, date of birth."""
        with _temporary_file():
            self._file.executemany("INSERT INTO checked VALUES (?, ?, ?, ?)", checked)
        self._rows += len(checked)

    def make_people(self) -> Iterator[BadRow]:
        """Make people of the rows; yield those that give a username another date than an earlier row."""
        with _temporary_file():
            self._file.execute(_MAKE_PEOPLE)
            if len(self) < self._rows:
                for line, first in self._file.execute(_CONTRADICTIONS):
                    yield BadRow(line, f"this username has another date of birth in line {first}")

    def __len__(self) -> int:
        return int(self._file.execute("SELECT count(*) FROM people").fetchone()[0])

    def batches(self) -> Iterator[list[Entry]]:
        """Yield the people in the order of their keys, in which stores take them fastest."""
        with _temporary_file():
            people = self._file.execute("SELECT key, username, born FROM people ORDER BY key")
            while batch := [
                Entry(key, name, date.fromisoformat(born)) for key, name, born in islice(people, LOAD)
            ]:
                yield batch

    def close(self) -> None:
        """Let go of the temporary file."""
        self._file.close()


def stage(file: TextIO, today: date, bad: Callable[[BadRow], None], progress: Progress) -> Staged:
    """Read and check all rows of a CSV or JSON lines file, whichever it is.

    Args:
        file: text in UTF-8, opened with newline="" and errors="surrogateescape".
        today: dates of birth lie before it.
        bad: called with each row that can't be imported; the others are staged.
        progress: called now and then with the number of rows read.

    Raises:
        UnreadableError: neither form.
        TemporaryFileError: no room to stage the rows.
    """
    staged = Staged()
    try:
        checked: list[tuple[int, str, str, str]] = []
        count = 0
        for count, (line, fields) in enumerate(rows(file), 1):
            if isinstance(fields, str):
                bad(BadRow(line, fields))
            else:
                try:
                    username, key = parse_username(fields[0])
                    parse_date_of_birth(fields[1], today)
                except (InvalidUsernameError, InvalidDateError) as error:
                    bad(BadRow(line, _reason(fields, error)))
                else:
                    checked.append((line, key, username, fields[1]))
            if count % CHECK == 0:
                staged.add(checked)
                checked.clear()
                progress(count)
        staged.add(checked)
        progress(count)
        for row in staged.make_people():
            bad(row)
    except BaseException:
        staged.close()
        raise
    return staged


async def load(
    staged: Staged, store: Store, progress: Progress, go_on: Callable[[], Awaitable[bool]]
) -> Digest:
    """Store the people staged, in batches; return the digest of those that are stored.

    Args:
        staged: people to create or replace.
        store: where.
        progress: called with the number stored so far, after each batch; durable by then.
        go_on: awaited after each batch; False ends the load.
    """
    digest = Digest()
    for batch in staged.batches():
        await store.put_many(batch)
        digest.add((entry.username, entry.born) for entry in batch)
        progress(digest.count)
        if not await go_on():
            break
    return digest


async def dump(store: Store, file: TextIO, form: Format, progress: Progress) -> Digest:
    """Write everyone, a page at a time; return the digest of those written."""
    write = _csv_writer(file) if form == "csv" else _jsonl_writer(file)
    digest = Digest()
    async for people in _pages(store):
        write(people)
        digest.add(people)
        progress(digest.count)
    return digest


def write_people(file: TextIO, form: Format, people: Sequence[Person]) -> Digest:
    """Write these people; return their digest."""
    digest = Digest()
    (_csv_writer(file) if form == "csv" else _jsonl_writer(file))(people)
    digest.add(people)
    return digest


async def survey(store: Store, progress: Progress) -> Digest:
    """Read everyone, a page at a time; return their digest."""
    digest = Digest()
    async for people in _pages(store):
        digest.add(people)
        progress(digest.count)
    return digest


async def _pages(store: Store) -> AsyncIterator[Sequence[Person]]:
    after = None
    while True:
        page = await store.people(LOAD, after)
        yield page.people
        if page.next is None:
            return
        after = page.next


def _csv_writer(file: TextIO) -> Callable[[Sequence[Person]], None]:
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(FIELDS)
    return lambda people: writer.writerows((name, born.isoformat()) for name, born in people)


def _jsonl_writer(file: TextIO) -> Callable[[Sequence[Person]], None]:
    encode = msgspec.json.Encoder().encode_lines

    def write(people: Sequence[Person]) -> None:
        file.write(encode([dict(zip(FIELDS, person, strict=True)) for person in people]).decode())

    return write


def _reason(fields: tuple[str, str], error: ValueError) -> str:
    if any("\udc80" <= character <= "\udcff" for field in fields for character in field):
        return "not UTF-8; convert the file first, for example with iconv"
    return str(error)


@contextmanager
def _temporary_file() -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise TemporaryFileError(
            f"The rows can't be put in a temporary file: {error}. Name a folder with room in TMPDIR."
        ) from error
