"""The domain, against the contract stated anew: a wall calendar, Unicode's categories, RFC 8265."""

import calendar
import re
import sys
import unicodedata
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from importlib.resources import files
from typing import cast
from zoneinfo import ZoneInfo

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from precis_i18n import get_profile

from hello import birthday
from hello.birthday import (
    InvalidDateError,
    InvalidUsernameError,
    LeapDay,
    UnknownTimeZoneError,
    birthday_ranges,
    days_until,
    may_be_key,
    message,
    next_birthday,
    parse_date_of_birth,
    parse_username,
    time_zone,
    today_in,
    username_key,
)
from tests.support.inprocess import MIDNIGHTS
from tests.support.names import SCRIPTS, is_username, usernames

# Days and years

MONTHS = (31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)

Day = tuple[int, int, int]  # year, month, day; the years of a wall calendar don't end with 9999

LEAP_YEARS = [year for year in range(4, 10000, 4) if calendar.isleap(year)]
DAYS = st.dates() | st.sampled_from([date.max - timedelta(days=n) for n in range(800)])
AROUND_LEAP_DAYS = st.builds(
    lambda year, days: date(year, 2, 26) + timedelta(days=days), st.integers(1, 9999), st.integers(0, 6)
)
BORN = DAYS | st.sampled_from(LEAP_YEARS).map(lambda year: date(year, 2, 29))
TODAY = DAYS | AROUND_LEAP_DAYS
LEAP_DAYS = st.sampled_from(cast("list[LeapDay]", ["feb28", "mar1"]))
EVERY_DAY = [date(2000, 1, 1) + timedelta(days=n) for n in range(366)]


def walk(day: date) -> Iterator[Day]:
    """Yield a day and those after it, as one turns the leaves of a wall calendar."""
    year, month, number = day.year, day.month, day.day
    while True:
        yield year, month, number
        number += 1
        if number > 28 and number > month_length(year, month):
            month, number = month + 1, 1
        if month > 12:
            year, month = year + 1, 1


def month_length(year: int, month: int) -> int:
    """Count the days of a month."""
    return 29 if month == 2 and calendar.isleap(year) else MONTHS[month - 1]


def is_birthday(born: date, day: Day, leap_day: LeapDay) -> bool:
    """Tell whether `day` is the birthday, as a person with a wall calendar would."""
    if (born.month, born.day) == day[1:]:
        return True
    if (born.month, born.day) != (2, 29) or calendar.isleap(day[0]):
        return False
    return day[1:] == ((2, 28) if leap_day == "feb28" else (3, 1))


def count(born: date, today: date, leap_day: LeapDay) -> int:
    """Count the days to the birthday, leaf by leaf."""
    return next(n for n, day in enumerate(walk(today)) if is_birthday(born, day, leap_day))


@given(BORN, TODAY, LEAP_DAYS)
@example(date(2000, 1, 1), date.max, "feb28")
@example(date(2000, 2, 29), date(9999, 3, 1), "feb28")  # the year 10000 is a leap year
@example(date(2000, 2, 29), date(2096, 3, 1), "mar1")  # eight years without a leap day
def test_days_until_is_the_count_of_a_calendar_walk(born: date, today: date, leap_day: LeapDay) -> None:
    """The days to a birthday are those that one counts on the calendar, in every year that a date has."""
    assert days_until(born, today, leap_day) == count(born, today, leap_day)


@given(BORN, st.dates(max_value=date(9998, 12, 31)) | AROUND_LEAP_DAYS, LEAP_DAYS)
def test_the_next_birthday_is_that_many_days_away(born: date, today: date, leap_day: LeapDay) -> None:
    """The date of the next birthday and the days until then are one statement."""
    assume(today.year < date.max.year)
    assert next_birthday(born, today, leap_day) == today + timedelta(days=count(born, today, leap_day))


@given(TODAY, st.integers(0, 366), LEAP_DAYS)
@example(date.max, 366, "feb28")
@example(date(9999, 1, 1), 366, "mar1")
@example(date(9998, 12, 31), 365, "mar1")
@example(date(2023, 3, 1), 366, "mar1")
@example(date(2023, 2, 28), 366, "feb28")
def test_ranges_hold_whom_the_days_reach(today: date, days: int, leap_day: LeapDay) -> None:
    """Each day of birth within reach is in one range, nobody else is, and the order is that of the days."""
    found = [
        born
        for first, last in birthday_ranges(today, days, leap_day)
        for born in EVERY_DAY
        if first <= f"{born:%m-%d}" <= last
    ]
    waits = [days_until(born, today, leap_day) for born in found]
    assert waits == sorted(waits)
    assert len(found) == len(set(found))
    reach = min(days, (date.max - today).days)  # the list ends with the calendar
    assert set(found) == {born for born in EVERY_DAY if days_until(born, today, leap_day) <= reach}
    for born in found:
        assert (next_birthday(born, today, leap_day) - today).days == days_until(born, today, leap_day)


@pytest.mark.parametrize(
    ("days", "text"),
    [
        (0, "Hello, Zoë! Happy birthday!"),
        (1, "Hello, Zoë! Your birthday is in 1 day(s)"),
        (365, "Hello, Zoë! Your birthday is in 365 day(s)"),
    ],
)
def test_the_message_is_literal(days: int, text: str) -> None:
    """The text is that of the contract, to the letter."""
    assert message("Zoë", days) == text


# Dates of birth

YEARS = [1, 4, 100, 400, 999, 1000, 1582, 1752, 1900, 1999, 2000, 2024, 9999]


def is_date(text: str) -> bool:
    """Tell whether the text names a day of the calendar, in the form of the contract."""
    match = re.fullmatch("([0-9]{4})-([0-9]{2})-([0-9]{2})", text, re.ASCII)
    if match is None:
        return False
    year, month, day = map(int, match.groups())
    return year > 0 and 1 <= month <= 12 and 1 <= day <= month_length(year, month)


@pytest.mark.parametrize("year", YEARS)
def test_every_real_date_is_one(year: int) -> None:
    """All days of a year are dates of birth, and no others of its 13 months of 32 days."""
    for month in range(14):
        for day in range(33):
            text = f"{year:04}-{month:02}-{day:02}"
            try:
                taken = parse_date_of_birth(text, date.max) == date(year, month, day)
            except InvalidDateError:
                taken = False
            assert taken == (is_date(text) and text != "9999-12-31")


@given(st.dates(), st.dates())
@example(date.min, date.min)
def test_a_date_of_birth_lies_before_today(born: date, today: date) -> None:
    """Any day from year 1 on is one, as long as it is before today."""
    if born < today:
        assert parse_date_of_birth(born.isoformat(), today) == born
    else:
        with pytest.raises(InvalidDateError, match="before today"):
            parse_date_of_birth(born.isoformat(), today)


@given(
    st.text()
    | st.from_regex("[0-9]{4}-[0-9]{2}-[0-9]{2}", fullmatch=True)
    | st.from_regex(r"\d{3,5}[-W/.]?\d{1,3}[-/.]?\d{0,2}.?", fullmatch=True)
)
@example("2000-1-1")
@example("20000101")
@example("2000-W01-1")
@example("1999-02-29")
@example("0000-01-01")
@example("\uff12\uff10\uff10\uff10-01-01")
@example("2000-01-01\n")
@example("2000-01-01T00:00:00Z")
def test_no_other_text_is_a_date(text: str) -> None:
    """Ten ASCII characters YYYY-MM-DD that name a day of the calendar, and nothing else; no echo of it."""
    if is_date(text) and text != "9999-12-31":
        assert parse_date_of_birth(text, date.max).isoformat() == text
        return
    with pytest.raises(InvalidDateError) as caught:
        parse_date_of_birth(text, date.max)
    assert len(text) < 3 or text not in str(caught.value)


# Usernames

PROFILE = get_profile("UsernameCaseMapped")
LETTERS_AND_MARKS = st.text(st.characters(categories=["L", "M"]), max_size=70)
AROUND_THE_LENGTH = st.builds(
    lambda name, size: (name * 70)[:size],
    st.sampled_from(["x", "é", "漢", "e\u0301", "अनि"]),
    st.integers(60, 140),
)
TEXTS = (
    st.text() | LETTERS_AND_MARKS | AROUND_THE_LENGTH | usernames() | st.text(st.characters(codec="ascii"))
)


def key_by_the_contract(text: str) -> str | None:
    """Return the key, None for what is no username, as the contract says it."""
    name = unicodedata.normalize("NFC", text)
    if not 1 <= len(name) <= 64 or not name[0].isalpha():
        return None
    if not all(c.isalpha() or unicodedata.category(c) in {"Mn", "Mc", "Me"} for c in name):
        return None
    try:
        return str(PROFILE.enforce(name))
    except UnicodeEncodeError:
        return None


@given(TEXTS)
@example("")
@example("\N{COMBINING ACUTE ACCENT}e")
@example("a\N{ZERO WIDTH JOINER}b")
@example("a\0")
@example("\ud800")
@example("K")
@example("\N{KELVIN SIGN}")
@example("\N{LATIN SMALL LIGATURE FFI}")
def test_usernames_are_those_of_the_contract(text: str) -> None:
    """Letters and later marks, 1 to 64 after NFC, that RFC 8265 takes; the key is what it maps them to."""
    expected = key_by_the_contract(text)
    if expected is None:
        with pytest.raises(InvalidUsernameError) as caught:
            username_key(text)
        assert len(text) < 3 or text not in str(caught.value)
    else:
        assert username_key(text) == expected
        assert parse_username(text) == (unicodedata.normalize("NFC", text), expected)


@given(st.text(st.characters(codec="ascii", categories=["L"]), min_size=1, max_size=64))
def test_the_short_cut_for_ascii_changes_nothing(name: str) -> None:
    """For names of ASCII letters the key is what the profile's tables say too."""
    assert username_key(name) == birthday._checked_key(name) == PROFILE.enforce(name)


@given(usernames())
def test_keys_are_final(name: str) -> None:
    """The profile maps a key to itself, and so does the domain, where it is a username."""
    key = username_key(name)
    assert PROFILE.enforce(key) == key
    if is_username(key):
        assert username_key(key) == key


@given(usernames(max_size=20), st.sampled_from(["NFC", "NFD"]))
def test_spellings_of_a_name_have_one_key(name: str, form: str) -> None:
    """Normal forms and case don't matter, where upper case is only that (and not SS for ß)."""
    for spelled in (name, name.lower(), *([name.upper()] if name.upper().lower() == name.lower() else [])):
        assert username_key(unicodedata.normalize(form, spelled)) == username_key(name)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", SCRIPTS)
def test_names_of_any_script_are_usernames(name: str) -> None:
    """Whatever they are written in, names are taken as they are."""
    assert parse_username(name)[0] == unicodedata.normalize("NFC", name)


@pytest.mark.parametrize(
    ("names", "key"),
    [
        (["Zoë", "ZOË", "zoe\u0308"], "zoë"),
        (["ΝΊΚΟΣ", "Νίκος", "νίκος"], "νίκος"),  # a sigma at the end
        (["ΣΟΦΊΑ", "Σοφία", "σοφία"], "σοφία"),
        (["İpek", "i\u0307pek"], "i\u0307pek"),
        (["IPEK", "Ipek", "ipek"], "ipek"),
        (["\u0131pek"], "\u0131pek"),
        (["Straße", "STRAẞE"], "straße"),
        (["STRASSE", "strasse"], "strasse"),
        (["\uff3a\uff4f\uff45", "\uff3a\uff2f\uff25", "ZOE"], "zoe"),  # fullwidth
        (["\uff7b\uff78\uff97", "サクラ"], "サクラ"),  # halfwidth
        (["\u1100\u1161\u11a8", "\u1100\u1161\u11a8", "각"], "각"),  # jamo that compose
        (["ÅSA", "\N{ANGSTROM SIGN}sa", "a\u030asa"], "åsa"),
        (["Nguyễn", "NGUYỄN", "nguye\u0302\u0303n"], "nguyễn"),
        (["مُحَمَّد"], "مُحَمَّد"),
        (["น้อย"], "น้อย"),
        (["हिन्दी"], "हिन्दी"),
        (["ᏣᎳᎩ", "ꮳꮃꭹ"], "ꮳꮃꭹ"),
        (["ᲜᲘᲜᲝ", "ნინო"], "ნინო"),
        (["𐐔𐐯𐑅", "𐐼𐐯𐑅"], "𐐼𐐯𐑅"),
    ],
)
def test_letters_with_a_twist(names: list[str], key: str) -> None:
    """Spellings of one name have the one key that RFC 8265 gives them."""
    assert {username_key(name) for name in names} == {key}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "empty"),
        ("x" * 65, "too long"),
        ("漢" * 65, "too long"),
        ("e\u0301" * 65, "too long"),
        ("\u0301e", "Character 1 "),
        ("J0hn", "Character 2 "),
        ("Zoe ", "Character 4 "),
        ("Zoe\n", "Character 4 "),
        ("Zoe\0", "Character 4 "),
        ("O'Hara", "Character 2 "),
        ("Jean-Luc", "Character 5 "),
        ("a\u200db", "Character 2 "),  # zero width joiner
        ("a\u200cb", "Character 2 "),  # zero width non-joiner
        ("a\u00adb", "Character 2 "),  # soft hyphen
        ("\u202ezoe", "Character 1 "),  # right-to-left override
        ("\u0663", "Character 1 "),  # a digit of Arabic
        ("Zoe\ufffd", "Character 4 "),  # what was no UTF-8
        ("\U000e0041", "Character 1 "),  # a tag
        ("Zoe\U0001f600", "Character 4 "),
        ("\u1100", "RFC 8265"),  # a jamo by itself
        ("\u3164", "RFC 8265"),  # a letter that nobody sees
        ("\ufb03", "RFC 8265"),  # a ligature
        ("\u0149", "RFC 8265"),
        ("น้ำ", "RFC 8265"),  # SARA AM, which has a compatibility mapping
        ("aאb", "RFC 8265"),  # both directions
        ("a\u034f", "RFC 8265"),  # a mark that nobody sees
    ],
)
def test_why_it_is_no_username(text: str, reason: str) -> None:
    """The message tells what is wrong, and where; it does not repeat the text."""
    with pytest.raises(InvalidUsernameError, match=reason) as caught:
        username_key(text)
    assert len(text) < 4 or text not in str(caught.value)


def test_64_characters_count_after_nfc() -> None:
    """A name may be spelled in more characters than it has."""
    assert username_key("e\u0301" * 64) == "é" * 64
    assert username_key("İ" * 64) == "i\u0307" * 64  # a key may be longer


# Time zones

ZONES = sorted((files("tzdata") / "zones").read_text().split())
INSTANTS = st.datetimes(datetime(1900, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001


def test_every_name_of_the_database_is_a_time_zone() -> None:
    """Each name that tzdata lists loads, and is the zone of that name."""
    assert len(ZONES) > 500
    assert [time_zone(name).key for name in ZONES] == ZONES


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        "/",
        "Mars/Olympus",
        "Europe",
        "Europe/",
        "Europe/Berlin/",
        "/Europe/Berlin",
        "Europe//Berlin",
        "./Europe/Berlin",
        "Europe/../Europe/Berlin",
        "../zoneinfo/Europe/Berlin",
        "../../../etc/passwd",
        "/etc/localtime",
        "/usr/share/zoneinfo/UTC",
        "europe/berlin",
        "utc",
        " UTC",
        "UTC ",
        "UTC\n",
        "UTC\0",
        "UTC\0.tab",
        "zone.tab",
        "tzdata.zi",
        "__init__.py",
        "Europe/__init__.py",
        "posixrules",
        "localtime",
        "posix/Europe/Berlin",
        "right/Europe/Berlin",
        "Europe/Berlin\\..",
        "Europe/Zürich",
        "\ud800",
        "+01:00",
        "UTC+1",
        "x" * 10_000,
    ],
)
def test_other_names_are_no_time_zones(name: str) -> None:
    """Names of files, parts of paths, other spellings: nothing but the list of names counts."""
    with pytest.raises(UnknownTimeZoneError) as caught:
        time_zone(name)
    assert "Europe/Berlin" in str(caught.value)


@given(st.text() | st.sampled_from(ZONES).flatmap(lambda name: st.text(name + "./\0", min_size=1)))
def test_whatever_is_not_listed_is_no_time_zone(name: str) -> None:
    """Any text is on the list or refused."""
    if name in ZONES:
        assert time_zone(name).key == name
    else:
        with pytest.raises(UnknownTimeZoneError):
            time_zone(name)


@given(INSTANTS, st.integers(-14, 12), st.sampled_from(ZONES))
def test_today_is_the_date_at_the_offset(now: datetime, hours: int, clock: str) -> None:
    """With a fixed offset today is plain arithmetic, whichever zone the clock itself shows."""
    zone = time_zone(f"Etc/GMT{hours:+}")  # POSIX's sign: west is positive
    expected = (now - timedelta(hours=hours)).date()
    assert today_in(zone, now) == today_in(zone, now.astimezone(ZoneInfo(clock))) == expected


@pytest.mark.parametrize(("name", "midnight", "before", "after"), MIDNIGHTS)
def test_when_today_begins(name: str, midnight: str, before: str, after: str) -> None:
    """The date changes at midnight where the zone is, also when the clocks are changed."""
    begins = datetime.fromisoformat(midnight).replace(tzinfo=UTC)
    zone = time_zone(name)
    assert today_in(zone, begins - timedelta(microseconds=1)) == date.fromisoformat(before)
    assert today_in(zone, begins) == date.fromisoformat(after)


@given(BORN, st.sampled_from(ZONES), INSTANTS, LEAP_DAYS)
def test_days_are_counted_from_the_date_of_the_zone(
    born: date, name: str, now: datetime, leap_day: LeapDay
) -> None:
    """In any zone, at any moment: the days are those on the calendar that hangs there."""
    local = now.replace(tzinfo=None) + (now.astimezone(ZoneInfo(name)).utcoffset() or timedelta())
    assert days_until(born, today_in(time_zone(name), now), leap_day) == count(born, local.date(), leap_day)


@pytest.mark.parametrize(
    ("now", "name", "today"),
    [
        (datetime.max.replace(tzinfo=UTC), "UTC", date.max),
        (datetime.max.replace(tzinfo=UTC), "Pacific/Kiritimati", date.max),
        (datetime.max.replace(tzinfo=UTC), "Pacific/Niue", date.max),
        (datetime.min.replace(tzinfo=UTC), "UTC", date.min),
        (datetime.min.replace(tzinfo=UTC), "Pacific/Kiritimati", date.min),
        (datetime.min.replace(tzinfo=UTC), "Pacific/Niue", date.min),
    ],
)
def test_a_clock_at_the_ends_of_time(now: datetime, name: str, today: date) -> None:
    """Where the date of a zone would be beyond the calendar, the calendar's last or first day stands."""
    assert today_in(time_zone(name), now) == today


def test_each_letter_makes_a_key_of_two_at_most() -> None:
    """So that a key is never longer than twice the longest name; what may be a key includes each."""
    for number in range(sys.maxunicode + 1):
        letter = chr(number)
        if unicodedata.category(letter)[0] != "L":
            continue
        try:
            key = username_key(letter)
        except InvalidUsernameError:
            continue
        assert len(key) <= 2 * len(unicodedata.normalize("NFC", letter)), "lengths count after NFC"
        assert may_be_key(key)
