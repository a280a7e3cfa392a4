"""Rows of people in text: CSV with a header, or JSON lines, told apart by the first line."""

import csv
import json
import re
from collections.abc import Iterator
from typing import TextIO

FIELDS = ("username", "dateOfBirth")
LINE_CHARACTERS = 100_000  # a longer line is no person

Fields = tuple[str, str]  # username, date of birth

# What most lines are, export's among them; the decoder takes ten times as long.
_USUAL = re.compile(
    r'_\{_"username"_:_"([^"\\\x00-\x1f]*)"_,_"dateOfBirth"_:_"([^"\\\x00-\x1f]*)"_\}_'.replace(
        "_", r"[ \t\r\n]*"
    )
)
_decode = json.JSONDecoder(object_pairs_hook=list).decode


class UnreadableError(ValueError):
    """The file as a whole is not what import reads; the message says why."""


class _LineTooLongError(ValueError):
    def __init__(self) -> None:
        super().__init__(f"the line is longer than {LINE_CHARACTERS:,} characters")


class _Lines(Iterator[str]):
    """The lines of a file, counted. One that is too long raises, and the next call goes on after it."""

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self._cut = False
        self.number = 0

    def __next__(self) -> str:
        while self._cut:
            self._cut = not _ends(self._file.readline(LINE_CHARACTERS))
        line = self._file.readline(LINE_CHARACTERS)
        if not line:
            raise StopIteration
        self.number += 1
        if len(line) == LINE_CHARACTERS and not _ends(line):
            self._cut = True
            raise _LineTooLongError
        # Spreadsheets write a mark before UTF-8.
        return line.removeprefix("\ufeff") if self.number == 1 else line


def _ends(line: str) -> bool:
    return line[-1:] in {"\n", "\r", ""}


def rows(file: TextIO) -> Iterator[tuple[int, Fields | str]]:
    """Yield the number of each row's first line, and its two fields or why it has none.

    Args:
        file: text opened with newline="". Empty lines are passed over.

    Raises:
        UnreadableError: neither form.
    """
    lines = _Lines(file)
    try:
        first = next((line for line in lines if line.strip()), None)
    except _LineTooLongError:
        raise _unreadable(1) from None
    if first is None:
        return
    if first.lstrip().startswith("{"):
        yield lines.number, _fields_of_json(first)
        yield from _json_rows(lines)
    else:
        yield from _csv_rows(first, lines)


def _csv_rows(header: str, lines: _Lines) -> Iterator[tuple[int, Fields | str]]:
    names = [name.strip() for name in next(csv.reader([header]))]
    if sorted(names) != sorted(FIELDS):
        raise _unreadable(lines.number)
    first, second = (names.index(name) for name in FIELDS)
    reader = csv.reader(lines, strict=True)
    while True:
        line = lines.number + 1  # a quoted field may go over several
        try:
            for row in reader:
                if len(row) == 2:
                    yield line, (row[first], row[second])
                elif any(field.strip() for field in row):
                    yield line, f"a row has 2 fields, {','.join(names)}; this one has {len(row)}"
                line = lines.number + 1
        except csv.Error as error:
            lines_read = f"line {line}" if lines.number == line else f"lines {line} to {lines.number}"
            yield line, f"not CSV: {error}; check the quotes of {lines_read}"
        except _LineTooLongError as error:
            yield line, str(error)
        else:
            return


def _json_rows(lines: _Lines) -> Iterator[tuple[int, Fields | str]]:
    while True:
        try:
            for line in lines:
                if line.strip():
                    yield lines.number, _fields_of_json(line)
        except _LineTooLongError as error:
            yield lines.number, str(error)
        else:
            return


def _fields_of_json(line: str) -> Fields | str:
    if match := _USUAL.fullmatch(line):
        return match[1], match[2]
    try:
        pairs = _decode(line)
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


def _unreadable(line: int) -> UnreadableError:
    return UnreadableError(
        f"Line {line} should be the header {','.join(FIELDS)} of CSV, or an object of JSON lines"
        ' such as {"username": "Zoe", "dateOfBirth": "1990-04-23"}; both in UTF-8.'
    )
