"""People to fill the stores with: any number, the same ones in every run, no two alike.

Person i has a name of eight letters, scrambled from i, so that neighbours in the file lie far apart in a
store's index, as people who come by chance do.
"""

from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path

LETTERS = "abcdefghijklmnopqrstuvwxyz"
LENGTH = 8
NAMES: int = len(LETTERS) ** LENGTH
SCRAMBLE = 129_140_163_067  # no factor in common with 26, so that each i gives another name
FIRST_BIRTH = date(1930, 1, 1)
DAYS_OF_BIRTH = 31_000  # to November 2014
_BIRTHS = [str(FIRST_BIRTH + timedelta(days=day)) for day in range(DAYS_OF_BIRTH)]
_PAIRS = [a + b for a in LETTERS for b in LETTERS]


def username(index: int) -> str:
    """Return the name of person `index`, capitalised as people write it."""
    rest = index * SCRAMBLE % NAMES
    rest, d = divmod(rest, 676)
    rest, c = divmod(rest, 676)
    a, b = divmod(rest, 676)
    return (_PAIRS[a] + _PAIRS[b] + _PAIRS[c] + _PAIRS[d]).capitalize()


def born(index: int) -> str:
    """Return the date of birth of person `index` as YYYY-MM-DD."""
    return _BIRTHS[index * 7919 % DAYS_OF_BIRTH]


def people(count: int) -> Iterator[tuple[str, str]]:
    """Yield the names and dates of birth of the first `count` people."""
    return ((username(index), born(index)) for index in range(count))


def write_csv(path: Path, count: int) -> None:
    """Write the first `count` people in the form that `hello import` takes."""
    with path.open("w", encoding="ascii") as file:
        file.write("username,dateOfBirth\n")
        file.writelines(f"{name},{birth}\n" for name, birth in people(count))


def write_sample(path: Path, count: int, size: int = 100_000) -> None:
    """Write at most `size` names, one a line, spread evenly over the first `count` people."""
    step = max(1, count // size)
    path.write_text("".join(f"{username(index)}\n" for index in range(0, count, step)), encoding="ascii")


def greeting(name: str, birth: str, today: date) -> str:
    """Return the message that a peer has to answer, to check that all do the same work."""
    month, day = int(birth[5:7]), int(birth[8:])
    following = (_birthday(year, month, day) for year in (today.year, today.year + 1))
    days = next((birthday - today).days for birthday in following if birthday >= today)
    return f"Hello, {name}! Your birthday is in {days} day(s)" if days else f"Hello, {name}! Happy birthday!"


def _birthday(year: int, month: int, day: int) -> date:
    return date(year, month, day) if (month, day) != (2, 29) else date(year, 3, 1) - timedelta(days=1)


def write_dates(path: Path) -> None:
    """Write dates of birth for the requests that replace people, one a line."""
    path.write_text("".join(f"{birth}\n" for birth in _BIRTHS[::7]), encoding="ascii")
