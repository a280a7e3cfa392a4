"""How often something may happen, as the settings say it."""

import re
from dataclasses import dataclass

PERIODS = {"s": 1, "min": 60, "h": 3600}  # in seconds

_RATE = re.compile(r"([1-9][0-9]{0,6})/(s|min|h)")


@dataclass(frozen=True)
class Rate:
    """So many requests a period; as many can come at once, and come back evenly over it."""

    count: int
    seconds: int

    @classmethod
    def parse(cls, text: str) -> "Rate":
        """Return the rate written as 100/s, 600/min or 1000/h; raise ValueError."""
        match = _RATE.fullmatch(text)
        if match is None:
            raise ValueError("Give a rate such as 100/s, 600/min or 1000/h.")
        return cls(int(match[1]), PERIODS[match[2]])
