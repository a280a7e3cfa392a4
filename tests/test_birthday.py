"""The domain, against a naive walk over the calendar."""

from datetime import date, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hello.birthday import (
    InvalidDateError,
    LeapDay,
    birthday_ranges,
    days_until,
    parse_date_of_birth,
    username_key,
)

DAYS = st.dates(date(1600, 1, 1), date(2400, 12, 31))
BORN = DAYS | st.integers(400, 599).map(lambda n: date(n * 4, 2, 28) + timedelta(days=1))
LEAP_DAYS = st.sampled_from(["feb28", "mar1"])


def is_birthday(born: date, day: date, leap_day: LeapDay) -> bool:
    """Tell whether `day` is the birthday, as a person with a wall calendar would."""
    if (born.month, born.day) == (day.month, day.day):
        return True
    if (born.month, born.day) != (2, 29) or (date(day.year, 3, 1) - timedelta(days=1)).day == 29:
        return False
    return (day.month, day.day) == ((2, 28) if leap_day == "feb28" else (3, 1))


@given(BORN, DAYS, LEAP_DAYS)
def test_days_until_is_the_count_of_a_calendar_walk(born: date, today: date, leap_day: LeapDay) -> None:
    """The days to a birthday are those that one counts on the calendar."""
    walked = next(n for n in range(400) if is_birthday(born, today + timedelta(days=n), leap_day))
    assert days_until(born, today, leap_day) == walked


@given(DAYS | BORN, st.integers(0, 366), LEAP_DAYS)
def test_ranges_hold_whom_the_days_reach(today: date, days: int, leap_day: LeapDay) -> None:
    """Each day of birth within reach is in one range, nobody else is, and the order is that of the days."""
    every_day = [date(2000, 1, 1) + timedelta(days=n) for n in range(366)]
    found = [
        born
        for first, last in birthday_ranges(today, days, leap_day)
        for born in every_day
        if first <= f"{born:%m-%d}" <= last
    ]
    waits = [days_until(born, today, leap_day) for born in found]
    assert waits == sorted(waits)
    assert len(found) == len(set(found))
    assert set(found) == {born for born in every_day if days_until(born, today, leap_day) <= days}


@given(st.text(st.characters(codec="ascii", categories=["L"]), min_size=1, max_size=64))
def test_keys_do_not_depend_on_case(name: str) -> None:
    """Upper and lower case are one key, which is a key itself."""
    assert username_key(name.upper()) == username_key(name) == username_key(username_key(name))


@pytest.mark.parametrize(
    "text",
    ["2000-1-1", "20000101", "2000-W01-1", "1999-02-29", "2026-11-24", "\uff12\uff10\uff10\uff10-01-01"],
)
def test_what_is_no_date_of_birth_is_refused(text: str) -> None:
    """Other forms, days that are not, and today are no dates of birth."""
    with pytest.raises(InvalidDateError):
        parse_date_of_birth(text, date(2026, 11, 24))
