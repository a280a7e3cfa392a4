"""The parsers, each with what must be true of its answer; most against another way to find it."""

import io
import json
import tempfile
import unicodedata
from contextlib import suppress
from datetime import date, datetime, timedelta
from pathlib import Path

import msgspec
from cyclopts import CycloptsError

from hello import birthday, cursor, person, rows, stores
from hello.cli import app
from hello.headers import check_content_type, matches, prefers_html
from hello.problems import InvalidBodyError, InvalidParameterError, UnsupportedMediaTypeError
from hello.query import parameters, whole_number

TODAY = date(2026, 11, 24)
CATEGORIES = {"L", "M"}
SECRET = "Zq9-xK"  # pragma: allowlist secret


def username(data: bytes) -> None:
    """A username is 1 to 64 letters in NFC; its key is the same however it is spelled, and a key itself."""
    text = data.decode("utf-8", "replace")
    try:
        name, key = birthday.parse_username(text)
    except birthday.InvalidUsernameError as error:
        assert not (text.isascii() and text.isalpha() and len(text) <= birthday.USERNAME_LENGTH)
        assert str(error).isprintable()
        return
    assert 1 <= len(name) <= birthday.USERNAME_LENGTH
    assert {unicodedata.category(letter)[0] for letter in name} <= CATEGORIES
    assert unicodedata.is_normalized("NFC", name)
    assert birthday.may_be_key(key)
    for spelled in (name, unicodedata.normalize("NFD", name)):
        assert birthday.username_key(spelled) == key


def date_of_birth(data: bytes) -> None:
    """A date of birth is what `strptime` takes in ten ASCII characters, before today."""
    text = data.decode("utf-8", "replace")
    try:
        born: date | None = birthday.parse_date_of_birth(text, TODAY)
    except birthday.InvalidDateError as error:
        assert str(error).isprintable()
        born = None
    expected = None
    if len(text) == 10 and text.isascii():
        with suppress(ValueError):
            expected = datetime.strptime(text, "%Y-%m-%d").date()  # noqa: DTZ007 - a date of the calendar
    if expected is not None and (str(expected) != text or expected >= TODAY):
        expected = None
    assert born == expected


def body(data: bytes) -> None:
    """A body is taken where another JSON parser finds one key, once, and text."""
    try:
        found: str | None = person._date_of_birth(data)
        str(found).encode()
    except InvalidBodyError as error:
        assert str(error).isprintable()
        found = None
    except UnicodeEncodeError:  # half of a surrogate pair, which is no date either
        found = None
    assert found == _expected(data)


def _expected(data: bytes) -> str | None:
    try:
        value = msgspec.json.decode(data)
        keys: list[str] = []
        json.loads(data, object_pairs_hook=lambda pairs: keys.extend(key for key, _ in pairs))
    except (ValueError, RecursionError):
        return None
    only = isinstance(value, dict) and keys == ["dateOfBirth"] and isinstance(value["dateOfBirth"], str)
    return value["dateOfBirth"] if only else None


def query(data: bytes) -> None:
    """Parameters are those asked for, as text that can be encoded; numbers are within their bounds."""
    try:
        values = parameters(data, "tz", "limit", "after", "days")
    except InvalidParameterError as error:
        assert str(error).isprintable()
        return
    assert set(values) <= {"tz", "limit", "after", "days"}
    for value in values.values():
        value.encode()
    with suppress(InvalidParameterError):
        assert 1 <= whole_number(values, "limit", 100, 1, 1000) <= 1000
    with suppress(birthday.UnknownTimeZoneError):
        birthday.time_zone(values.get("tz", "UTC"))
    with suppress(cursor.InvalidCursorError):
        cursor.decode("people", values.get("after", ""))


def cursors(data: bytes) -> None:
    """A cursor that is taken is the one that its position makes; what is made is taken."""
    text = data.decode("utf-8", "replace")
    with suppress(cursor.InvalidCursorError):
        position = cursor.decode("people", text)
        assert cursor.encode("people", position) == text
    if text:
        assert cursor.decode("people", cursor.encode("people", text)) == text


def fields(data: bytes) -> None:
    """Conditions and negotiation take any bytes; what matches a list matches one of its parts."""
    etag = b'"0123456789abcdef"'
    if matches(data, etag):
        assert data.strip() == b"*" or etag in data
    if prefers_html(data.decode("latin-1")):
        assert any(media_range in data.lower() for media_range in (b"text/html", b"text/*", b"*/*"))
    with suppress(UnsupportedMediaTypeError):
        check_content_type({"headers": [(b"content-type", data)]})
        assert data.strip().lower().startswith(b"application/json")


def store_url(data: bytes) -> None:
    """A URL of a store is taken or refused by ValueError, whose message holds nothing of it."""
    url = data.decode("utf-8", "replace").replace("password", SECRET)
    try:
        stores.check_url(url)
    except ValueError as error:
        assert SECRET not in str(error)
    else:
        assert url.partition("://")[0] in stores.ENGINES


def toml(data: bytes) -> None:
    """A file of settings is taken, or refused with a message."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "hello.toml")
        file.write_bytes(data)
        with suppress(CycloptsError):
            app.parse_args(["serve", "--config", str(file)], exit_on_error=False, print_error=False)


def people(data: bytes) -> None:
    """Rows have growing line numbers, and two texts or a reason; JSON lines are what `json` reads."""
    text = data.decode("utf-8", "replace")
    last = 0
    with suppress(rows.UnreadableError):
        for number, found in rows.rows(io.StringIO(text, newline="")):
            assert number > last
            last = number
            if isinstance(found, str):
                assert found
            else:
                assert [type(field) for field in found] == [str, str]
    line = text.partition("\n")[0]
    usual = rows._USUAL.fullmatch(line)
    if usual:
        assert json.loads(line) == {"username": usual[1], "dateOfBirth": usual[2]}


def days(data: bytes) -> None:
    """Whenever one was born, the next birthday is 0 to 365 days away, and has the ranges of its days."""
    numbers = [int.from_bytes(data[start : start + 3], "big") for start in (0, 3)]
    born, today = (date.min + timedelta(number % 3_652_059) for number in numbers)
    for leap_day in ("feb28", "mar1"):
        away = birthday.days_until(born, today, leap_day)
        assert 0 <= away <= birthday.LAST_DAYS_UNTIL
        ranges = birthday.birthday_ranges(today, away, leap_day)
        within = any(first <= f"{born:%m-%d}" <= last for first, last in ranges)
        assert within or (date.max - today).days < 366  # the calendar's end
