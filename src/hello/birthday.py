"""The domain: usernames, dates of birth, days until a birthday, the message.

Pure functions of their arguments; nothing here knows of HTTP, of a store or of the clock.
"""

import re
import unicodedata
from collections.abc import Sequence
from datetime import date, datetime, timedelta
from functools import cache
from importlib.resources import files
from typing import Literal, NamedTuple
from zoneinfo import ZoneInfo

LeapDay = Literal["feb28", "mar1"]

USERNAME_LENGTH = 64
KEY_LENGTH = 2 * USERNAME_LENGTH  # one letter, İ, is two in lower case
LAST_DAYS_UNTIL = 365  # no birthday is further away than this

_ISO_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")


class InvalidUsernameError(ValueError):
    """The text is no username; the message says why, without repeating it."""


class InvalidDateError(ValueError):
    """The text is no date of birth; the message says why, without repeating it."""


class UnknownTimeZoneError(ValueError):
    """The text is no name of an IANA time zone."""


class Person(NamedTuple):
    """One person: the username as spelled in the last PUT, in NFC, and the date of birth."""

    username: str
    born: date


def username_key(text: str) -> str:
    """Return what makes a username unique: its form under UsernameCaseMapped (RFC 8265, 3.3).

    Raises:
        InvalidUsernameError: not 1 to 64 letters of any script, in NFC.
    """
    # Most names are ASCII letters, whose case-mapped form is plain lower case: this line answers
    # for them without the profile's tables (0.2 µs instead of 30 µs).
    if text.isascii() and text.isalpha() and len(text) <= USERNAME_LENGTH:
        return text.lower()
    return _checked_key(unicodedata.normalize("NFC", text))


def may_be_key(text: str) -> bool:
    """Return whether `username_key` may have made this: an empty, longer or other text it never makes."""
    return 0 < len(text) <= KEY_LENGTH and all(unicodedata.category(letter)[0] in "LM" for letter in text)


def parse_username(text: str) -> tuple[str, str]:
    """Return the username in NFC, and its key (see `username_key`, which says what it raises)."""
    return unicodedata.normalize("NFC", text), username_key(text)


def _checked_key(name: str) -> str:
    from precis_i18n import get_profile  # loaded with the first name beyond ASCII

    if not name:
        raise InvalidUsernameError("The username is empty; it is 1 to 64 letters.")
    if len(name) > USERNAME_LENGTH:
        raise InvalidUsernameError("The username is too long; it is 1 to 64 letters.")
    for position, character in enumerate(name):
        category = unicodedata.category(character)[0]
        if category != "L" and (category != "M" or position == 0):
            raise InvalidUsernameError(
                f"Character {position + 1} of the username is not a letter;"
                " a username is 1 to 64 letters of any script, and nothing else."
            )
    try:
        return str(get_profile("UsernameCaseMapped").enforce(name))
    except UnicodeEncodeError as error:
        raise InvalidUsernameError(
            "The username has letters that usernames can't hold or mixes writing directions"
            " (RFC 8265, UsernameCaseMapped); spell it with other letters."
        ) from error


def parse_date_of_birth(text: str, today: date) -> date:
    """Return the date that ten ASCII characters YYYY-MM-DD name.

    Raises:
        InvalidDateError: another form, no date of the calendar, or not before today.
    """
    # date.fromisoformat also takes 20000101 and 2000-W01-1, so the form is checked here.
    if not _ISO_DATE.fullmatch(text):
        raise InvalidDateError("Write dateOfBirth as YYYY-MM-DD, for example 1990-04-23.")
    try:
        born = date.fromisoformat(text)
    except ValueError as error:
        raise InvalidDateError("There is no such date in the calendar; check year, month and day.") from error
    if born >= today:
        raise InvalidDateError("A date of birth lies before today.")
    return born


def birthday_in(year: int, born: date, leap_day: LeapDay) -> date:
    """Return the day in `year` on which someone born on `born` has their birthday."""
    try:
        return born.replace(year=year)
    except ValueError:  # 29 February, and a common year
        return date(year, 2, 28) if leap_day == "feb28" else date(year, 3, 1)


def next_birthday(born: date, today: date, leap_day: LeapDay) -> date:
    """Return the next birthday, which may be today; raise ValueError where it is beyond `date.max`."""
    birthday = birthday_in(today.year, born, leap_day)
    return birthday if birthday >= today else birthday_in(today.year + 1, born, leap_day)


def days_until(born: date, today: date, leap_day: LeapDay) -> int:
    """Return the number of days to the next birthday: 0 to 365, 0 on the day."""
    if today.year == date.max.year:  # the next may be in a year that `date` lacks: the calendar repeats
        today = today.replace(year=today.year - 400)
    return (next_birthday(born, today, leap_day) - today).days


def message(username: str, days: int) -> str:
    """Return the greeting; its text is part of the contract, `day(s)` included."""
    if days == 0:
        return f"Hello, {username}! Happy birthday!"
    return f"Hello, {username}! Your birthday is in {days} day(s)"


def birthday_ranges(today: date, days: int, leap_day: LeapDay) -> Sequence[tuple[str, str]]:
    """Return the dates of birth whose next birthday lies within `days` of today, as ranges.

    A range is a first and a last "MM-DD", both included. The ranges follow each other in the order
    of the birthdays, and together hold no day twice, so that a store with an index on month and day
    reads what it needs and no more. They end with the calendar of `date`, on 31 December 9999.
    """
    days = min(days, (date.max - today).days)
    first = _month_days(today, leap_day)[0]
    if days >= LAST_DAYS_UNTIL:
        # Everyone: up to the day before today's, a year on.
        before_first = (date(2000, int(first[:2]), int(first[3:])) - timedelta(days=1)).strftime("%m-%d")
        return [(first, "12-31")] if first == "01-01" else [(first, "12-31"), ("01-01", before_first)]
    end = today + timedelta(days=days)
    last = _month_days(end, leap_day)[-1]
    return [(first, last)] if end.year == today.year else [(first, "12-31"), ("01-01", last)]


def _month_days(day: date, leap_day: LeapDay) -> list[str]:
    """Return the "MM-DD" of birth that are celebrated on `day`, in calendar order."""
    month_days = [f"{day:%m-%d}"]
    if birthday_in(day.year, date(2000, 2, 29), leap_day) == day:
        month_days = sorted({*month_days, "02-29"})
    return month_days


def today_in(zone: ZoneInfo, now: datetime) -> date:
    """Return the calendar date in `zone` at the moment `now`, which knows its own zone."""
    try:
        return now.astimezone(zone).date()
    except OverflowError:  # a clock at the very ends of the calendar
        return date.min if now.year == date.min.year else date.max


def time_zone(name: str) -> ZoneInfo:
    """Return the time zone of an IANA name such as `Europe/Berlin`.

    Raises:
        UnknownTimeZoneError: the database has no zone of this name.
    """
    # Looked up in the list of names first: ZoneInfo would try the text as a path below its folder.
    if name not in time_zone_names():
        raise UnknownTimeZoneError("Unknown time zone; give an IANA name such as Europe/Berlin or UTC.")
    return ZoneInfo(name)


@cache
def time_zone_names() -> frozenset[str]:
    """Return the names in the IANA database."""
    # The package's list, and not the system's, which has files besides the zones of the database.
    return frozenset((files("tzdata") / "zones").read_text().split())
