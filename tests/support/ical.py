"""Calendars, read by icalendar and expanded by dateutil."""

from collections.abc import Sequence
from datetime import date, datetime
from typing import Any

from dateutil.rrule import rrulestr
from icalendar import Calendar


def events(body: bytes) -> Sequence[Any]:
    """Return the events that icalendar reads in a feed; whatever it stumbles over is an error."""
    calendar = Calendar.from_ical(body)
    assert [c.errors for c in calendar.walk() if c.errors] == []
    return calendar.events


def dates(event: Any, first: date, last: date) -> list[date]:
    """Return the days of an event from `first` to `last`, as dateutil expands its rule."""
    start = event["DTSTART"].dt
    assert type(start) is date, "an all-day event"
    rule = rrulestr(event["RRULE"].to_ical().decode(), dtstart=datetime.combine(start, datetime.min.time()))
    expanded = rule.between(
        datetime.combine(first, datetime.min.time()), datetime.combine(last, datetime.min.time()), inc=True
    )
    return [moment.date() for moment in expanded]
