"""Query parameters: numbers, cursors' place, and the day that `tz` makes today."""

import re
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, timedelta
from urllib.parse import parse_qsl

from hello import birthday
from hello.problems import InvalidParameterError

MINUTE = timedelta(minutes=1)

_DIGITS = re.compile(r"[0-9]{1,9}")  # ASCII's alone, which int() is not content with


def parameters(query: bytes, *names: str) -> dict[str, str]:
    """Return the query parameters of these names; others are none of our business.

    Raises:
        InvalidParameterError: one of them is given twice.
    """
    values: dict[str, str] = {}
    for name, value in parse_qsl(query.decode("latin-1"), keep_blank_values=True, errors="replace"):
        if name in values:
            raise InvalidParameterError(f"Give the parameter `{name}` once.")
        if name in names:
            values[name] = value
    return values


def whole_number(values: Mapping[str, str], name: str, default: int, low: int, high: int) -> int:
    """Return the parameter's value.

    Raises:
        InvalidParameterError: no whole number within the bounds, which are included.
    """
    text = values.get(name)
    if text is None:
        return default
    if not _DIGITS.fullmatch(text) or not low <= int(text) <= high:
        raise InvalidParameterError(f"Give `{name}` as a whole number from {low} to {high}.")
    return int(text)


class Today:
    """What day it is: in the time zone of a request's `tz`, else in the one of the settings."""

    def __init__(self, timezone: str, clock: Callable[[], datetime]) -> None:
        self._zone = birthday.time_zone(timezone)
        self._clock = clock
        self._minute = datetime.max.replace(tzinfo=UTC)
        self._date = date.max

    def __call__(self, query: bytes = b"") -> date:
        """Return the date; raise InvalidParameterError or UnknownTimeZoneError."""
        now = self._clock()
        if query and (name := parameters(query, "tz").get("tz")) is not None:
            return birthday.today_in(birthday.time_zone(name), now)
        # Worked out once a minute: no zone changes its date, or its offset, within one.
        if now < self._minute or now - self._minute >= MINUTE:
            self._date = birthday.today_in(self._zone, now)
            self._minute = now.replace(second=0, microsecond=0)
        return self._date
