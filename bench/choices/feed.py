"""Decision 6: an event of the calendar, serialised by the library and filled in."""

from datetime import date

from bench.choices.timing import micro, per_call
from bench.markdown import table
from hello import feed
from hello.birthday import Person

PERSON, TODAY = Person("Rehearsal", date(1990, 4, 23)), date(2026, 11, 26)
LONG = Person("Rehearsal" * 7, date(1990, 4, 23))  # its line is folded, so that the library makes it


def measure() -> str:
    """Return a table: µs an event."""
    assert feed.event(PERSON, TODAY, "feb28").startswith(b"BEGIN:VEVENT\r\n")
    found = per_call(
        {
            "icalendar, each event (63 letters)": lambda: feed.event(LONG, TODAY, "feb28"),
            "icalendar, a day; names filled in (9)": lambda: feed.event(PERSON, TODAY, "feb28"),
        }
    )
    return table(("way", "µs an event"), [(name, micro(time)) for name, time in found.items()])
