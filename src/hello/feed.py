"""The calendar feed (RFC 5545): one yearly all-day event a person."""

from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from hashlib import blake2b

from icalendar import Calendar, Event, Timezone, TimezoneStandard, vDuration, vRecur, vText

from hello.birthday import LeapDay, Person, username_key

# Events begin in a leap year that is the same for everyone: the year of birth is nobody's business.
FIRST_YEAR = 2000

# A yearly rule on 29 February skips common years. The last day of February, and day 60 of the year
# (29 February, else 1 March), are the two meanings of `leap-day` in the rules' own terms.
_LEAP_RULES: dict[LeapDay, vRecur] = {
    "feb28": vRecur(freq="yearly", bymonth=2, bymonthday=-1),
    "mar1": vRecur(freq="yearly", byyearday=60),
}
_RULE = vRecur(freq="yearly")


def opening() -> bytes:
    """Return the feed's first lines, up to the first event."""
    calendar = Calendar()
    calendar.add("prodid", "-//hello//birthdays//EN")
    calendar.add("version", "2.0")
    calendar.add("calscale", "GREGORIAN")
    calendar.add("method", "PUBLISH")
    for name in ("NAME", "X-WR-CALNAME"):  # RFC 7986, and what came before it
        calendar.add(name, vText("Birthdays"))
    calendar.add("REFRESH-INTERVAL", vDuration(timedelta(days=1)), parameters={"VALUE": "DURATION"})
    calendar.add("X-PUBLISHED-TTL", "P1D")
    calendar.add_component(_utc())  # without people too there must be a component (RFC 5545, 3.6)
    return bytes(calendar.to_ical()).removesuffix(CLOSING)


def event(person: Person, today: date, leap_day: LeapDay) -> bytes:
    """Return the person's event, stamped with the day it was made."""
    summary = f"{person.username}'s birthday"
    digest = blake2b(username_key(person.username).encode(), digest_size=16).hexdigest()
    if len(summary.encode()) > UNFOLDED:
        return _event(person.born, today, leap_day, digest, summary)
    # Serialising takes 150 µs an event, filling in a serialised one 2 µs. Letters need no escapes.
    prepared = _prepared(person.born.month, person.born.day, today, leap_day)
    return prepared.replace(_DIGEST, digest.encode()).replace(_SUMMARY, summary.encode())


CLOSING = b"END:VCALENDAR\r\n"
UNFOLDED = 74 - len("SUMMARY:")  # octets; icalendar folds longer lines (75 may remain: RFC 5545, 3.1)
_DIGEST, _SUMMARY = b"{digest}", b"{summary}"


def _utc() -> Timezone:
    standard = TimezoneStandard()
    standard.add("dtstart", datetime(1970, 1, 1))  # noqa: DTZ001 - local time, as RFC 5545 wants it here
    standard.add("tzoffsetfrom", timedelta())
    standard.add("tzoffsetto", timedelta())
    zone = Timezone()
    zone.add("tzid", "UTC")
    zone.add_component(standard)
    return zone


@lru_cache(maxsize=800)  # each day of the year, today and around midnight
def _prepared(month: int, day: int, today: date, leap_day: LeapDay) -> bytes:
    born = date(FIRST_YEAR, month, day)
    return _event(born, today, leap_day, _DIGEST.decode(), _SUMMARY.decode())


def _event(born: date, today: date, leap_day: LeapDay, digest: str, summary: str) -> bytes:
    entry = Event()
    entry.add("uid", f"{digest}@hello")
    entry.add("dtstamp", datetime.combine(today, time(), UTC))
    entry.add("dtstart", born.replace(year=FIRST_YEAR))
    entry.add("rrule", _LEAP_RULES[leap_day] if (born.month, born.day) == (2, 29) else _RULE)
    entry.add("summary", summary)
    entry.add("transp", "TRANSPARENT")  # a birthday does not make anyone busy
    entry.add("categories", ["Birthday"])
    return bytes(entry.to_ical())
