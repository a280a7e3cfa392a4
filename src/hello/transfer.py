"""People in files: CSV with a header, or JSON lines; what `export` writes, `import` reads.

An import has two steps. Rows are first checked and put in a temporary table on disk, which finds
usernames that come twice and keeps memory flat; only then is anything stored. So a file with a bad
row changes nothing, also when it comes from a pipe that can't be read again.
"""

import csv
import json
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from datetime import date
from itertools import islice
from typing import Any, Literal, NamedTuple, TextIO

from hello.birthday import InvalidDateError, InvalidUsernameError, Person, parse_date_of_birth, parse_username
from hello.stores import Entry, Store

Format = Literal["csv", "jsonl"]
Progress = Callable[[int], None]

FIELDS = ("username", "dateOfBirth")
LOAD = 5000  # people stored at once: a lock of some 30 ms, so that a service beside it goes on
LINE_CHARACTERS = 100_000  # a longer line is no person


class UnreadableError(ValueError):
    """The file as a whole is not what import reads; the message says why."""


class BadRow(NamedTuple):
    """A row that can't be imported, and why."""

    line: int
    reason: str

    def __str__(self) -> str:
        return f"line {self.line}: {self.reason}"


class Staged:
    """People checked and waiting in a temporary table, by key."""

    def __init__(self) -> None:
        # The empty name is SQLite's for a file of its own that vanishes when it is closed.
        self._table = sqlite3.connect("", isolation_level=None)
        self._table.execute("PRAGMA journal_mode = OFF")
        self._table.execute("PRAGMA synchronous = OFF")
        self._table.execute(
            "CREATE TABLE staged (key TEXT PRIMARY KEY, username TEXT, born TEXT, line INTEGER) WITHOUT ROWID"
        )
        self._table.execute("BEGIN")

    def add(self, entry: Entry, line: int) -> BadRow | None:
        """Take an entry; return why not, where an earlier line gave the username another date."""
        row = (entry.key, entry.username, entry.born.isoformat(), line)
        if self._table.execute("INSERT OR IGNORE INTO staged VALUES (?, ?, ?, ?)", row).rowcount:
            return None
        born, first = self._table.execute(
            "SELECT born, line FROM staged WHERE key = ?", (entry.key,)
        ).fetchone()
        if born == row[2]:
            return None
        return BadRow(line, f"this username has another date of birth in line {first}")

    def __len__(self) -> int:
        return int(self._table.execute("SELECT count(*) FROM staged").fetchone()[0])

    def batches(self) -> Iterator[list[Entry]]:
        """Yield all entries in the order of their keys, in which stores take them fastest."""
        rows = self._table.execute("SELECT key, username, born FROM staged ORDER BY key")
        while batch := [Entry(key, name, date.fromisoformat(born)) for key, name, born in islice(rows, LOAD)]:
            yield batch

    def close(self) -> None:
        """Let go of the temporary file."""
        self._table.close()


def stage(file: TextIO, today: date, bad: Callable[[BadRow], None], progress: Progress) -> Staged:
    """Read and check all rows of a CSV or JSON lines file, whichever it is.

    Args:
        file: text in UTF-8, opened with newline="".
        today: dates of birth lie before it.
        bad: called with each row that can't be imported; the others are staged.
        progress: called now and then with the number of rows read.

    Raises:
        UnreadableError: no such form, or not UTF-8.
    """
    staged = Staged()
    try:
        count = 0
        for line, fields in _rows(file):
            if isinstance(fields, str):
                bad(BadRow(line, fields))
            else:
                try:
                    username, key = parse_username(fields[0])
                    entry = Entry(key, username, parse_date_of_birth(fields[1], today))
                except (InvalidUsernameError, InvalidDateError) as error:
                    bad(BadRow(line, str(error)))
                else:
                    if problem := staged.add(entry, line):
                        bad(problem)
            count += 1
            if count % 10_000 == 0:
                progress(count)
        progress(count)
    except UnicodeDecodeError as error:
        staged.close()
        raise UnreadableError("The file is not UTF-8; convert it first, for example with iconv.") from error
    except BaseException:
        staged.close()
        raise
    return staged


async def load(staged: Staged, store: Store, progress: Progress, pause: Callable[[], Any]) -> int:
    """Store what was staged; return how many. `pause` is awaited between batches."""
    count = 0
    with closing(staged):
        for batch in staged.batches():
            await store.put_many(batch)
            count += len(batch)
            progress(count)
            await pause()
    return count


async def dump(store: Store, file: TextIO, form: Format, progress: Progress) -> int:
    """Write everyone, a page at a time; return how many."""
    write = _csv_writer(file) if form == "csv" else _jsonl_writer(file)
    count, after = 0, None
    while True:
        page = await store.people(LOAD, after)
        write(page.people)
        count += len(page.people)
        progress(count)
        if page.next is None:
            return count
        after = page.next


def _csv_writer(file: TextIO) -> Callable[[Sequence[Person]], None]:
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(FIELDS)
    return lambda people: writer.writerows((name, born.isoformat()) for name, born in people)


def _jsonl_writer(file: TextIO) -> Callable[[Sequence[Person]], None]:
    def write(people: Sequence[Person]) -> None:
        for name, born in people:
            record = dict(zip(FIELDS, (name, born.isoformat()), strict=True))
            file.write(json.dumps(record, ensure_ascii=False) + "\n")

    return write


def _rows(file: TextIO) -> Iterator[tuple[int, tuple[str, str] | str]]:
    """Yield line number and the two fields of each row, or why there are none."""
    lines = _lines(file)
    first = next(((number, line) for number, line in enumerate(lines, 1) if line.strip()), None)
    if first is None:
        return
    number, line = first
    if line.lstrip().startswith("{"):
        yield from _jsonl_rows([line], number)
        yield from _jsonl_rows(lines, number + 1)
    else:
        yield from _csv_rows(line, number, lines)


def _lines(file: TextIO) -> Iterator[str]:
    beginning = True
    while line := file.readline(LINE_CHARACTERS):
        yield line.removeprefix("\ufeff") if beginning else line  # spreadsheets write a mark before UTF-8
        beginning = False


def _csv_rows(header: str, number: int, lines: Iterator[str]) -> Iterator[tuple[int, tuple[str, str] | str]]:
    names = [name.strip() for name in next(csv.reader([header]))]
    if sorted(names) != sorted(FIELDS):
        raise UnreadableError(
            f"Line {number} should be the header {','.join(FIELDS)} of a CSV file, or an object of JSON lines"
            ' such as {"username": "Zoe", "dateOfBirth": "1990-04-23"}.'
        )
    first, second = (names.index(name) for name in FIELDS)
    reader = csv.reader(lines, strict=True)
    while True:
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield number + reader.line_num, f"not CSV: {error}"
            continue
        if len(row) == 2:
            yield number + reader.line_num, (row[first], row[second])
        elif row:  # not an empty line
            yield number + reader.line_num, f"{len(row)} fields where {','.join(names)} are 2"


def _jsonl_rows(lines: Iterable[str], start: int) -> Iterator[tuple[int, tuple[str, str] | str]]:
    for number, line in enumerate(lines, start):
        if line.strip():
            yield number, _jsonl_row(line)


def _jsonl_row(line: str) -> tuple[str, str] | str:
    try:
        pairs = json.loads(line, object_pairs_hook=list)
    except (ValueError, RecursionError):
        return "not JSON"
    named = isinstance(pairs, list) and all(isinstance(pair, tuple) for pair in pairs)
    if not named or sorted(name for name, _ in pairs) != sorted(FIELDS):
        return 'not an object with the keys "username" and "dateOfBirth", each once'
    fields = dict(pairs)
    username, born = (fields[name] for name in FIELDS)
    if not isinstance(username, str) or not isinstance(born, str):
        return "username and dateOfBirth are not both text"
    return username, born
