"""The digest of people: the same in any order, another for any other people."""

import random
from datetime import date, timedelta
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hello.digest import Digest
from tests.support.names import usernames

PEOPLE = st.lists(
    st.tuples(usernames(), st.dates(max_value=date(2026, 11, 23))), max_size=20, unique_by=lambda one: one[0]
)
ZOE, ANN = ("Zoë", date(1990, 4, 23)), ("Ann", date(2000, 2, 29))


def digest(*people: tuple[str, date]) -> str:
    """Return the digest of people that are taken in one by one."""
    made = Digest()
    for person in people:
        made.add([person])
    assert made.count == len(people)
    return str(made)


def test_nobody_and_one_person() -> None:
    """Nobody is zero, and one person is the SHA-256 of the line that an export has for them."""
    assert digest() == "0" * 64
    assert digest(ZOE) == sha256("Zoë,1990-04-23".encode()).hexdigest()
    assert digest(("Adam", date(1, 1, 1))) == sha256(b"Adam,0001-01-01").hexdigest()


def test_a_sum_that_is_too_long_is_cut() -> None:
    """It has 64 digits whatever the number of people."""
    many = Digest()
    many.add([ZOE] * 100)
    assert len(str(many)) == 64
    assert int(str(many), 16) == 100 * int(digest(ZOE), 16) % 2**256


@given(people=PEOPLE, cut=st.integers(0, 20), seed=st.integers())
def test_order_and_parts_do_not_matter(people: list[tuple[str, date]], cut: int, seed: int) -> None:
    """People shuffled, and taken in any parts, have the digest of the people one by one."""
    shuffled = random.Random(seed).sample(people, len(people))
    made = Digest()
    made.add(shuffled[:cut])
    made.add(shuffled[cut:])
    assert str(made) == digest(*people)
    assert made.count == len(people)


@given(people=PEOPLE.filter(bool), data=st.data())
def test_any_change_of_one_person_changes_it(people: list[tuple[str, date]], data: st.DataObject) -> None:
    """Another spelling, another date, one person more, one less, or one twice is another digest."""
    place = data.draw(st.integers(0, len(people) - 1))
    username, born = people[place]
    other = data.draw(usernames().filter(lambda name: name not in {person[0] for person in people}))
    later = born + timedelta(days=data.draw(st.integers(1, 10_000)))
    changed = [
        [*people[:place], (other, born), *people[place + 1 :]],
        [*people[:place], (username, later), *people[place + 1 :]],
        [*people, (other, born)],
        [*people[:place], *people[place + 1 :]],
        [*people, (username, born)],
        [*people, (username, born), (username, born)],
    ]
    digests = [digest(*people), *(digest(*others) for others in changed)]
    assert len(set(digests)) == len(digests)


@pytest.mark.parametrize("spelling", ["zoë", "ZOË", "Zoe", "Zoe\u0308", "Zoë\u200d"])
def test_the_spelling_counts(spelling: str) -> None:
    """Also where it is the same person: an export keeps the spelling."""
    assert digest((spelling, ZOE[1])) != digest(ZOE)


def test_dates_that_are_exchanged_are_another_digest() -> None:
    """Each date belongs to its username."""
    assert digest((ZOE[0], ANN[1]), (ANN[0], ZOE[1])) != digest(ZOE, ANN)
