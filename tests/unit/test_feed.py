"""The calendar feed, read and expanded by libraries that calendar programs are made of."""

import unicodedata
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from icalendar import Calendar

from hello import feed
from hello.birthday import LeapDay, Person, next_birthday
from tests.support.ical import dates, events
from tests.support.names import SCRIPTS, usernames

TODAY = date(2026, 11, 24)
YEARS = range(2024, 2033)
LEAP_DAYS: list[LeapDay] = ["feb28", "mar1"]
LINE = 75  # octets (RFC 5545, 3.1)
BORN = st.dates(date(1, 1, 1), TODAY) | st.sampled_from(
    [date(year, 2, 29) for year in range(4, 2026, 4) if year % 100]
)


def feed_of(*people: Person, today: date = TODAY, leap_day: LeapDay = "feb28") -> bytes:
    """Return the feed of these people, put together as the route does."""
    return feed.opening() + b"".join(feed.event(p, today, leap_day) for p in people) + feed.CLOSING


def birthdays(born: date, first: date, last: date, leap_day: LeapDay) -> list[date]:
    """Return the birthdays from `first` to `last`, as the domain has them."""
    days = [first + timedelta(days=n) for n in range((last - first).days + 1)]
    return sorted({day for today in days if (day := next_birthday(born, today, leap_day)) <= last})


@pytest.mark.parametrize("leap_day", LEAP_DAYS)
@pytest.mark.parametrize("born", [date(1896, 2, 29), date(1996, 2, 29), date(2024, 2, 29)])
def test_leap_days_come_when_the_setting_says(born: date, leap_day: LeapDay) -> None:
    """Who was born on 29 February has an event on that day, in common years on the setting's."""
    (event,) = events(feed_of(Person("Zoe", born), leap_day=leap_day))
    common = (2, 28) if leap_day == "feb28" else (3, 1)
    expected = [date(year, 2, 29) if year % 4 == 0 else date(year, *common) for year in YEARS]
    assert dates(event, date(YEARS[0], 1, 1), date(YEARS[-1], 12, 31)) == expected
    assert birthdays(born, date(YEARS[0], 1, 1), date(YEARS[-1], 12, 31), leap_day) == expected


@given(BORN, st.sampled_from(LEAP_DAYS), st.integers(2000, 2200))
@example(date(1999, 12, 31), "feb28", 2096)
@example(date(1904, 2, 29), "feb28", 2098)  # over 2100, which is no leap year
@example(date(1904, 2, 29), "mar1", 2098)
@example(date(1903, 3, 1), "mar1", 2098)
def test_events_come_on_birthdays(born: date, leap_day: LeapDay, year: int) -> None:
    """Whoever it is: the days of the event are the birthdays, in any years from 2000 on."""
    (event,) = events(feed_of(Person("Zoe", born), leap_day=leap_day))
    span = date(year, 1, 1), date(year + 4, 12, 31)
    assert dates(event, *span) == birthdays(born, *span, leap_day)


@given(usernames(), BORN, st.integers(1, TODAY.year - 1))
def test_the_year_of_birth_is_nowhere(name: str, born: date, year: int) -> None:
    """Two people of one day of the year have the same feed, whichever years they were born in."""
    born = born.replace(day=min(born.day, 28))
    assert feed_of(Person(name, born)) == feed_of(Person(name, born.replace(year=year)))


@pytest.mark.parametrize("born", [date(1987, 6, 5), date(1988, 2, 29)])
def test_no_text_holds_the_year_of_birth(born: date) -> None:
    """Neither the dates, nor the identifier, nor anything else spells the year."""
    assert str(born.year) not in feed_of(Person("Zoe", born)).decode()


@given(usernames(), BORN, BORN)
def test_an_event_keeps_its_identifier(name: str, born: date, later: date) -> None:
    """Spelled in other case or other normal form, born or fetched on another day: the UID stays."""
    uids = {
        str(event["UID"])
        for spelled in (name, unicodedata.normalize("NFC", name), name.lower())
        for day, today in ((born, TODAY), (later, TODAY + timedelta(days=40)))
        for event in events(feed_of(Person(spelled, day), today=today))
    }
    assert len(uids) == 1


def test_people_have_events_of_their_own() -> None:
    """No two names share an identifier, however alike; and none tells the name."""
    names = ["Zoe", "Zo", "Zoee", "Sofia", "София", "Ση", "Σα", "straße", "strasse", *SCRIPTS]
    found = events(feed_of(*(Person(name, date(1990, 4, 23)) for name in names)))
    uids = [str(event["UID"]) for event in found]
    assert [str(event["SUMMARY"]) for event in found] == [f"{name}'s birthday" for name in names]
    assert len(set(uids)) == len(names)
    assert not any(name.lower() in uid for name, uid in zip(names, uids, strict=True) if len(name) > 2)


@given(usernames(), BORN, st.sampled_from(LEAP_DAYS))
@example("x" * (feed.UNFOLDED - len("'s birthday")), date(1990, 4, 23), "feb28")
@example("x" * (feed.UNFOLDED - len("'s birthday") + 1), date(1990, 4, 23), "feb28")
@example("é" * 28, date(1990, 4, 23), "feb28")
@example("é" * 29, date(1990, 4, 23), "feb28")
@example("漢" * 64, date(1990, 2, 28), "mar1")
@example("𐐨" * 64, date(1990, 2, 28), "mar1")
def test_a_feed_is_what_the_library_would_write(name: str, born: date, leap_day: LeapDay) -> None:
    """Events put together from prepared bytes, and folded ones, are what icalendar reads and writes."""
    body = feed_of(Person(name, born), Person("Adam", born), leap_day=leap_day)
    assert Calendar.from_ical(body).to_ical() == body
    assert [str(event["SUMMARY"]) for event in events(body)] == [f"{name}'s birthday", "Adam's birthday"]


@pytest.mark.parametrize("letter", ["x", "é", "漢", "𐐨", "कि", "e\N{COMBINING DIAERESIS BELOW}"])
def test_lines_are_folded_between_characters(letter: str) -> None:
    """No line is over 75 octets, none ends within a character, and unfolded the name is whole."""
    for count in range(1, 64 // len(letter) + 1):
        name = letter * count
        body = feed_of(Person(name, date(1990, 4, 23)))
        assert body.endswith(b"\r\n")
        lines = body.removesuffix(b"\r\n").split(b"\r\n")
        assert max(len(line) for line in lines) <= LINE
        text = "\r\n".join(line.decode() for line in lines)  # fails within a character
        assert "\n" not in text.replace("\r\n", "")
        assert f"\r\nSUMMARY:{name}'s birthday\r\n" in text.replace("\r\n ", "")


@pytest.mark.parametrize("people", [(), (Person("Zoe", date(1990, 4, 23)),)], ids=["nobody", "one"])
def test_the_calendar_says_what_programs_ask(people: Sequence[Person]) -> None:
    """The required properties, a name, and how often to look again; valid also when nobody is in it."""
    calendar: Any = Calendar.from_ical(feed_of(*people))
    assert calendar["VERSION"] == "2.0"
    assert calendar["PRODID"] == "-//hello//birthdays//EN"
    assert calendar["CALSCALE"] == "GREGORIAN"
    assert calendar["NAME"] == calendar["X-WR-CALNAME"] == "Birthdays"
    refresh = calendar["REFRESH-INTERVAL"]  # RFC 7986, 5.7: the parameter is required
    assert refresh.params == {"VALUE": "DURATION"}
    assert refresh.dt == timedelta(days=1)
    assert calendar["X-PUBLISHED-TTL"] == "P1D"
    assert len(calendar.subcomponents) > 0, "at least one component (RFC 5545, 3.6)"
    assert len(calendar.events) == len(people)
    for zone in calendar.timezones:
        assert zone.to_tz().utcoffset(datetime(2026, 7, 1)) == timedelta()  # noqa: DTZ001 - local


def test_an_event_has_what_it_needs() -> None:
    """UID, DTSTAMP in UTC, the day, and a free day: a birthday makes nobody busy."""
    (event,) = events(feed_of(Person("Zoe", date(1990, 4, 23))))
    assert sorted(event) == ["CATEGORIES", "DTSTAMP", "DTSTART", "RRULE", "SUMMARY", "TRANSP", "UID"]
    assert event["DTSTAMP"].dt == datetime(2026, 11, 24, tzinfo=UTC)
    assert event["DTSTART"].dt == date(2000, 4, 23)
    assert event["DTSTART"].params == {"VALUE": "DATE"}
    assert event["TRANSP"] == "TRANSPARENT"
    assert str(event["UID"]).endswith("@hello")


@pytest.mark.parametrize("leap_day", LEAP_DAYS)
def test_events_start_with_an_occurrence(leap_day: LeapDay) -> None:
    """DTSTART is the rule's own first day, on which RFC 5545 insists (3.8.5.3)."""
    for number in range(366):
        born = date(1996, 1, 1) + timedelta(days=number)
        (event,) = events(feed_of(Person("Zoe", born), leap_day=leap_day))
        assert dates(event, date(2000, 1, 1), date(2000, 12, 31)) == [born.replace(year=2000)]
