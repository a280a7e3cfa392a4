"""The contract of `Store`, over every store. A new one is one line in STORES."""

import asyncio
import os
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import date, timedelta
from functools import partial
from pathlib import Path
from typing import cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hello import cursor
from hello.birthday import LeapDay, Person, birthday_ranges, days_until, username_key
from hello.stores import Entry, Page, Store, StoreError, StoreUnavailableError, check_url, open_store
from tests.support.names import SCRIPTS
from tests.support.stores import STORES

pytestmark = pytest.mark.anyio

BORN = date(1990, 4, 23)
EVERYONE = [("01-01", "12-31")]
LIMITS = [1, 2, 3, 7, 10, 11, 1000]
# An emulator goes over all items in each of the 16 queries that a page of birthdays takes: 0.3 s for a
# person on each day. There, a year has someone on the days around its turns and on every twelfth other one.
EMULATED_PAGES = 6
EMULATED_DAYS = {"01-01", "01-02", "02-28", "02-29", "03-01", "09-09", "12-30", "12-31"}

ReadPage = Callable[[int, str | None], Awaitable[Page]]


@pytest.fixture(scope="module")
def anyio_backend() -> tuple[str, dict[str, bool]]:
    """Run these tests on the loop that the service runs on."""
    return "asyncio", {"use_uvloop": True}


@pytest.fixture(params=STORES)
def url(request: pytest.FixtureRequest) -> str:
    """Return the URL of a store that is empty."""
    return str(request.getfixturevalue(f"{request.param}_url"))


@pytest.fixture
async def store(url: str) -> AsyncIterator[Store]:
    """Open the store."""
    async with opened(url) as store:
        yield store


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[Store]:
    """Open a store, and close it at the end."""
    store = await open_store(url, timeout=30)
    try:
        yield store
    finally:
        await store.close()


def entry(username: str, born: date = BORN) -> Entry:
    """Return the entry of a username."""
    return Entry(username_key(username), username, born)


def names(count: int) -> list[str]:
    """Return names, in no order; none is another in other case."""
    spelled = ["".join(chr(ord("a") + int(digit)) for digit in f"{number:04}") for number in range(count)]
    random.Random(count).shuffle(spelled)
    return spelled


def feasible(url: str, limit: int, count: int) -> int:
    """Return the limit, or for an emulator one that takes no more than EMULATED_PAGES for `count` people."""
    return max(limit, -(-count // EMULATED_PAGES)) if emulated(url) else limit


def emulated(url: str) -> bool:
    """Return whether the store is an emulator, too slow for as much as the others do."""
    return url.startswith("dynamodb:")


def many(url: str) -> int:
    """Return how many entries are many: more than a store writes in one go."""
    return 400 if emulated(url) else 3000


async def read_all(read: ReadPage, limit: int) -> list[Person]:
    """Return the people of all pages."""
    found: list[Person] = []
    passed: set[str] = set()
    page = await read(limit, None)
    while True:
        assert len(page.people) <= limit
        found += page.people
        if page.next is None:
            return found
        assert page.next not in passed, "no position comes twice"
        passed.add(page.next)
        page = await read(limit, page.next)


async def everyone(store: Store, limit: int = 1000) -> list[Person]:
    """Return all people, over all pages."""
    return await read_all(store.people, limit)


async def celebrate(store: Store, ranges: Sequence[tuple[str, str]], limit: int = 1000) -> list[Person]:
    """Return those born within the ranges, over all pages."""
    return await read_all(partial(store.birthdays, ranges), limit)


# One person


async def test_nobody_is_none(store: Store) -> None:
    """Who was never stored is None, and can't be erased."""
    assert await store.get("zoe") is None
    assert await store.delete("zoe") is False
    await store.put(entry("Zoe"))
    assert await store.get("zo") is None
    assert await store.get("zoee") is None
    assert await store.get("Zoe") is None, "keys are what they are: the domain makes them"


@pytest.mark.parametrize("username", [*SCRIPTS, "a", "x" * 64, "漢" * 64, "𐐨" * 64, "İ" * 64])
@pytest.mark.parametrize("born", [date.min, date(1600, 2, 29), date(1999, 12, 31), date.max])
async def test_who_was_put_is_there(store: Store, username: str, born: date) -> None:
    """Name and date come back as they were given, whatever the script and the year."""
    assert await store.put(entry(username, born)) is True
    assert await store.get(username_key(username)) == Person(username, born)
    assert await everyone(store) == [Person(username, born)]


async def test_a_put_replaces(store: Store) -> None:
    """The last spelling and the last date are kept, under the one key."""
    for username, born in [
        ("Zoë", BORN),
        ("ZOË", BORN),
        ("ZOË", BORN + timedelta(days=1)),
        ("zoë", date(1896, 2, 29)),
        ("zoë", date(1896, 2, 29)),
    ]:
        assert await store.put(entry(username, born)) is True
        assert await store.get("zoë") == Person(username, born)
        assert await everyone(store) == [Person(username, born)]
        assert await celebrate(store, EVERYONE) == [Person(username, born)]


async def test_create_does_not_replace(store: Store) -> None:
    """With `create` a new key is taken, one that is there is left as it is, and one erased is new again."""
    assert await store.put(entry("Zoe"), create=True) is True
    assert await store.put(entry("ZOE", date(2000, 1, 1)), create=True) is False
    assert await store.put(entry("Zoe"), create=True) is False
    assert await store.get("zoe") == Person("Zoe", BORN)
    assert await store.delete("zoe") is True
    assert await store.put(entry("ZOE", date(2000, 1, 1)), create=True) is True
    assert await store.get("zoe") == Person("ZOE", date(2000, 1, 1))


async def test_who_is_erased_is_gone(store: Store) -> None:
    """An erased person is nowhere; the others stay."""
    await store.put_many([entry("Zoe"), entry("Zoë"), entry("Zo")])
    assert await store.delete("zoe") is True
    assert await store.delete("zoe") is False
    assert await store.get("zoe") is None
    assert {person.username for person in await everyone(store)} == {"Zoë", "Zo"}
    assert {person.username for person in await celebrate(store, EVERYONE)} == {"Zoë", "Zo"}


async def test_many_are_put_at_once(url: str, store: Store) -> None:
    """Thousands, or none, are created and replaced together."""
    count = many(url)
    await store.put_many([])
    assert await everyone(store) == []
    await store.put(entry("AAAA", date(2000, 1, 1)))
    entries = [entry(name) for name in names(count)]
    await store.put_many(entries)
    assert sorted(await everyone(store)) == sorted(Person(e.username, e.born) for e in entries)
    await store.put_many([entry(name.upper(), date(1999, 9, 9)) for name in names(count)])
    assert set(await everyone(store)) == {Person(e.username.upper(), date(1999, 9, 9)) for e in entries}


async def test_of_many_with_one_key_the_last_is_stored(store: Store) -> None:
    """Entries that are put together are as if put one after the other, however many and wherever."""
    spelled = [
        name.upper() if number % 2 else name for number in range(100) for name in ("zoe", "adam", "bea")
    ]
    entries = [entry(name, BORN + timedelta(days=number)) for number, name in enumerate(spelled)]
    await store.put_many(entries)
    assert set(await everyone(store)) == {Person(e.username, e.born) for e in entries[-3:]}
    await store.put_many([entry("Zoe"), entry("ZOE"), entry("zoe")])
    assert await store.get("zoe") == Person("zoe", BORN)


async def test_many_are_got_at_once(store: Store) -> None:
    """For each key its person or None, in the order of the keys, also where a key comes again."""
    assert list(await store.get_many([])) == []
    assert list(await store.get_many(["zoe"])) == [None]
    people = {username_key(name): Person(name, BORN) for name in [*SCRIPTS, *names(600), "x" * 64]}
    await store.put_many([entry(*person) for person in people.values()])
    keys = [key for known in people for key in (known, f"{known}q")] + list(people)[:20] + ["a'b", '"', "\\"]
    random.Random(1).shuffle(keys)
    assert list(await store.get_many(keys)) == [people.get(key) for key in keys]
    for key in list(people)[:30]:
        assert list(await store.get_many([key])) == [people[key]]
        assert list(await store.get_many([key, key])) == [people[key]] * 2


async def test_it_answers(store: Store) -> None:
    """An open store answers, empty or not."""
    await store.ping()
    await store.put(entry("Zoe"))
    await store.ping()


# The list


async def test_an_empty_store_has_one_empty_page(store: Store) -> None:
    """Where nobody is, there is nobody, and nothing that follows."""
    assert await store.people(10) == ([], None)
    assert await store.birthdays(EVERYONE, 10) == ([], None)
    assert await store.birthdays([], 10) == ([], None)


@pytest.mark.parametrize("limit", LIMITS)
async def test_pages_hold_each_person_once(store: Store, limit: int) -> None:
    """Over all pages each person comes once, in the order that one large page has."""
    people = {
        Person(name, BORN + timedelta(days=n)) for n, name in enumerate([*names(10), *SCRIPTS, "a", "aa"])
    }
    await store.put_many([entry(*person) for person in people])
    order = list((await store.people(1000)).people)
    assert len(order) == len(people)
    assert set(order) == people
    assert await everyone(store, limit) == order


async def test_a_page_that_is_just_full_is_the_last(store: Store) -> None:
    """Nothing follows the page that holds the last person."""
    await store.put_many([entry(name) for name in names(10)])
    reads: list[ReadPage] = [store.people, partial(store.birthdays, EVERYONE)]
    for read in reads:
        assert (await read(10, None)).next is None
        assert (await read(11, None)).next is None
        first = await read(9, None)
        assert first.next is not None
        assert len(first.people) == 9
        last = await read(1, first.next)
        assert (len(last.people), last.next) == (1, None)


async def test_the_order_does_not_depend_on_what_is_replaced(store: Store) -> None:
    """Another date or spelling leaves a person at their place in the list."""
    await store.put_many([entry(name) for name in names(50)])
    order = [person.username for person in await everyone(store)]
    for name in names(50)[:25]:
        await store.put(entry(name.upper(), BORN + timedelta(days=len(name))))
    assert [person.username.lower() for person in await everyone(store, 7)] == order


async def test_a_position_outlives_its_person(store: Store) -> None:
    """Whoever is erased between two pages, who is left comes once, and in the same order."""
    await store.put_many([entry(name) for name in names(30)])
    order = [person.username for person in await everyone(store)]
    page = await store.people(10)
    for name in order[5:10]:  # the last of the page, too
        await store.delete(name)
    await store.delete(order[10])  # the first of the next
    following = await store.people(10, page.next)
    assert [person.username for person in following.people] == order[11:21]
    for name in order[11:]:
        await store.delete(name)
    assert await store.people(10, following.next) == ([], None)
    assert await store.people(10, page.next) == ([], None)


async def test_who_comes_between_pages_disturbs_nobody(store: Store) -> None:
    """New people between two pages may come or not; the others come once."""
    old = names(40)[::2]
    await store.put_many([entry(name) for name in old])
    page = await store.people(7)
    found = [person.username for person in page.people]
    new = iter(set(names(40)) - set(old))
    while page.next is not None:
        await store.put_many([entry(next(new)), entry(next(new)), entry(next(new))])
        page = await store.people(7, page.next)
        found += [person.username for person in page.people]
    assert len(found) == len(set(found))
    assert set(old) <= set(found)


async def test_positions_make_cursors(store: Store) -> None:
    """A position is text that a cursor can carry."""
    people = [*SCRIPTS, "x" * 64, "漢" * 64]
    await store.put_many([entry(name, BORN + timedelta(days=n)) for n, name in enumerate(people)])
    for page in [await store.people(n) for n in range(1, len(people))]:
        assert page.next is not None
        assert cursor.decode("people", cursor.encode("people", page.next)) == page.next
    for page in [await store.birthdays(EVERYONE, n) for n in range(1, len(people))]:
        assert page.next is not None
        assert cursor.decode("birthdays", cursor.encode("birthdays", page.next)) == page.next


async def test_positions_are_valid_in_other_processes(url: str, store: Store) -> None:
    """A page may follow from another store on the same URL, and after the store was opened again."""
    await store.put_many([entry(name) for name in names(20)])
    order = await everyone(store)
    page, celebrated = await store.people(8), await store.birthdays(EVERYONE, 8)
    async with opened(url) as other:
        assert list((await other.people(100, page.next)).people) == order[8:]
        rest = await other.birthdays(EVERYONE, 100, celebrated.next)
        assert sorted([*celebrated.people, *rest.people]) == sorted(order)
    await store.close()
    async with opened(url) as again:
        assert list((await again.people(100, page.next)).people) == order[8:]


# Birthdays


async def fill_the_year(store: Store, url: str) -> list[Entry]:
    """Put someone on each day of the year, in years of all kinds, and return them."""
    days = [date(2000, 1, 1) + timedelta(days=n) for n in range(366)]
    if emulated(url):
        days = [day for n, day in enumerate(days) if n % 12 == 0 or f"{day:%m-%d}" in EMULATED_DAYS]
    entries = [
        entry(name, day if (day.month, day.day) == (2, 29) else day.replace(year=1900 + n % 100))
        for n, (name, day) in enumerate(zip(names(len(days)), days, strict=True))
    ]
    await store.put_many(entries)
    return entries


def within(people: Sequence[Entry], ranges: Sequence[tuple[str, str]]) -> list[Person]:
    """Return who is to come, in their order: everyone here has a day of their own."""
    return [
        Person(e.username, e.born)
        for first, last in ranges
        for e in sorted(people, key=lambda e: f"{e.born:%m-%d}")
        if first <= f"{e.born:%m-%d}" <= last
    ]


@pytest.mark.parametrize(
    "ranges",
    [
        [("02-29", "02-29")],
        [("02-28", "03-01")],
        [("12-31", "12-31"), ("01-01", "01-01")],
        [("12-30", "12-31"), ("01-01", "03-05")],
        [("11-24", "12-31"), ("01-01", "11-23")],
        [("02-29", "12-31"), ("01-01", "02-28")],
        [("03-01", "12-31"), ("01-01", "02-29")],
        [("01-01", "12-31")],
        [("06-01", "06-30"), ("02-01", "02-29"), ("09-09", "09-09")],
    ],
)
async def test_birthdays_come_in_the_order_of_the_ranges(
    url: str, store: Store, ranges: list[tuple[str, str]]
) -> None:
    """Those born within the ranges and nobody else, by month and day in each, also over the year's end."""
    entries = await fill_the_year(store, url)
    expected = within(entries, ranges)
    assert expected
    for limit in dict.fromkeys(feasible(url, limit, len(expected)) for limit in LIMITS):
        assert await celebrate(store, ranges, limit) == expected


async def test_each_page_may_end_anywhere(url: str, store: Store) -> None:
    """Wherever the first page ends, within a range or at its end, the second goes on from there."""
    entries = await fill_the_year(store, url)
    ranges = [("12-25", "12-31"), ("01-01", "01-06")]
    expected = within(entries, ranges)
    for limit in range(1, len(expected)):
        first = await store.birthdays(ranges, limit)
        second = await store.birthdays(ranges, 1000, first.next)
        assert [*first.people, *second.people] == expected
        assert (len(first.people), second.next) == (limit, None)


@pytest.mark.parametrize("limit", LIMITS)
async def test_who_shares_a_birthday_comes_once(store: Store, limit: int) -> None:
    """Many of one day, on its eve and the day after: pages may end between any of them."""
    people = {
        Person(name, date(1950 + n, 12, 31) + timedelta(days=n % 3 - 1)) for n, name in enumerate(names(60))
    }
    await store.put_many([entry(*person) for person in people])
    ranges = [("12-30", "12-31"), ("01-01", "01-01")]
    found = await celebrate(store, ranges, limit)
    assert len(found) == len(people)
    assert set(found) == people
    assert [f"{p.born:%m-%d}" for p in found] == ["12-30"] * 20 + ["12-31"] * 20 + ["01-01"] * 20


async def test_a_birthday_moves_with_its_date(store: Store) -> None:
    """Who gets another date of birth is found on the new day, and no more on the old one."""
    await store.put(entry("Zoe", date(1990, 4, 23)))
    await store.put(entry("Zoe", date(1988, 2, 29)))
    assert await celebrate(store, [("04-23", "04-23")]) == []
    assert await celebrate(store, [("02-29", "02-29")]) == [Person("Zoe", date(1988, 2, 29))]


async def test_a_position_among_birthdays_outlives_its_person(url: str, store: Store) -> None:
    """Whoever is erased between two pages of birthdays, who is left comes once."""
    entries = await fill_the_year(store, url)
    ranges = [("12-01", "12-31"), ("01-01", "01-31")]
    expected = within(entries, ranges)
    for limit in (5, len(expected) // 2, len(expected) * 2 // 3):
        page = await store.birthdays(ranges, limit)
        gone = expected[limit - 1 : limit + 1]
        for person in gone:
            await store.delete(person.username)
        rest = await store.birthdays(ranges, 1000, page.next)
        assert [*page.people[:-1], *rest.people] == [p for p in expected if p not in gone]
        await store.put_many([entry(*person) for person in gone])


@given(
    st.dates(date(1999, 1, 1), date(2030, 12, 31)),
    st.integers(0, 366),
    st.sampled_from(cast("list[LeapDay]", ["feb28", "mar1"])),
    st.integers(1, 60),
)
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_birthdays_are_whom_the_days_reach(
    url: str, store: Store, today: date, days: int, leap_day: LeapDay, limit: int
) -> None:
    """With the domain's ranges, the soonest come first, and each whom the days reach comes once."""
    if not (await store.people(1)).people:
        await fill_the_year(store, url)
    people = await everyone(store)
    expected = {person for person in people if days_until(person.born, today, leap_day) <= days}
    ranges = birthday_ranges(today, days, leap_day)
    found = await celebrate(store, ranges, feasible(url, limit, len(expected)))
    waits = [days_until(person.born, today, leap_day) for person in found]
    assert waits == sorted(waits)
    assert len(found) == len(set(found))
    assert set(found) == expected


# Any operations, beside a dictionary that does the same

KEYS = ["a", "aa", "ab", "b", "zoë", "王", "𐐨"]
DATES = [date(1896, 2, 29), date(1990, 2, 28), date(1990, 3, 1), date(1999, 12, 31), date(2000, 1, 1)]
OPERATIONS = st.tuples(
    st.sampled_from(["put", "create", "delete", "many"]), st.sampled_from(KEYS), st.sampled_from(DATES)
)


@given(st.lists(OPERATIONS, max_size=20), st.integers(1, 8))
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_it_is_a_dictionary(store: Store, operations: list[tuple[str, str, date]], limit: int) -> None:
    """Whatever is done in whatever order, outcomes and what is there are those of a dictionary."""
    for person in await everyone(store):
        await store.delete(username_key(person.username))
    model: dict[str, Person] = {}
    for number, (kind, key, born) in enumerate(operations):
        person = Person(key.upper() if number % 2 else key, born)
        if kind == "delete":
            assert await store.delete(key) == (model.pop(key, None) is not None)
            continue
        if kind == "many":
            await store.put_many([Entry(key, *person), entry("C", born)])
            model["c"] = Person("C", born)
        else:
            done = await store.put(Entry(key, *person), create=kind == "create")
            assert done == (kind == "put" or key not in model)
        if kind != "create" or key not in model:
            model[key] = person
        assert await store.get(key) == model[key]
    assert sorted(await everyone(store, limit)) == sorted(model.values())
    assert sorted(await celebrate(store, EVERYONE, limit)) == sorted(model.values())
    assert list(await store.get_many(KEYS)) == [model.get(key) for key in KEYS]


# At once, and for good


async def test_of_many_who_create_one_key_one_succeeds(url: str, store: Store) -> None:
    """However many create it at once, from two processes' stores: one True, and what it gave is there."""
    async with opened(url) as other:
        for name in names(20):
            entries = [entry(name, BORN + timedelta(days=number)) for number in range(30)]
            created = await asyncio.gather(
                *((store, other)[n % 2].put(e, create=True) for n, e in enumerate(entries))
            )
            assert sorted(created) == [False] * 29 + [True]
            winner = entries[created.index(True)]
            assert await store.get(name) == await other.get(name) == Person(name, winner.born)


async def test_writes_at_once_are_all_done(store: Store) -> None:
    """Writes of different keys that run together don't get lost or mixed up."""
    entries = [entry(name, BORN + timedelta(days=n)) for n, name in enumerate(names(500))]
    assert await asyncio.gather(*(store.put(e) for e in entries)) == [True] * 500
    erased = await asyncio.gather(*(store.delete(e.key) for e in entries[:250] + entries[:250]))
    assert sum(erased) == 250
    assert set(await everyone(store)) == {Person(e.username, e.born) for e in entries[250:]}


async def test_of_many_who_erase_one_person_one_succeeds(store: Store) -> None:
    """However many erase a person at once, one of them did it."""
    await store.put(entry("Zoe"))
    assert sorted(await asyncio.gather(*(store.delete("zoe") for _ in range(30)))) == [False] * 29 + [True]


async def test_a_write_is_seen_from_elsewhere_at_once(url: str, store: Store) -> None:
    """What one store has written, another on the same URL reads, as soon as the write is done."""
    async with opened(url) as other:
        for number, name in enumerate(names(30)):
            writer, reader = (store, other) if number % 2 else (other, store)
            assert await reader.get(name) is None
            await writer.put(entry(name))
            assert await reader.get(name) == Person(name, BORN)
            assert list(await reader.get_many(["x", name])) == [None, Person(name, BORN)]
            await writer.put_many([entry(name, date(2000, 1, 1))])
            assert Person(name, date(2000, 1, 1)) in (await reader.people(100)).people
            await writer.delete(name)
            assert await reader.get(name) is None


async def test_what_was_written_stays(url: str) -> None:
    """A store that is opened again has what was written before."""
    async with opened(url) as store:
        await store.put_many([entry(name) for name in names(10)])
        await store.delete(names(10)[0])
    async with opened(url) as store:
        assert {person.username for person in await everyone(store)} == set(names(10)[1:])


async def test_closing_finishes_the_writes_that_were_taken(url: str) -> None:
    """Writes that were under way when the store was closed are there after it."""
    count = many(url)
    store = await open_store(url, timeout=30)
    tasks = [asyncio.create_task(store.put(entry(name))) for name in names(count)]
    await asyncio.sleep(0)
    await store.close()
    async with opened(url) as store:
        assert len(await everyone(store)) == count
    assert all(await asyncio.gather(*tasks))


# URLs


SHOWN = r"sqlite:///hello\.db|postgresql://user@|dynamodb://eu-central-1/hello"


@pytest.mark.parametrize(
    "url",
    [
        "",
        "hello.db",
        "/var/lib/hello.db",
        "sqlite",
        "sqlite:hello.db",
        "sqlite://",
        "sqlite:///",
        "sqlite://hello.db",
        "sqlite:///:memory:",
        "sqlite:///hello.db?mode=ro",
        "SQLITE:///hello.db",
        "mysql://localhost/hello",
        "postgresql:///hello?sslmode=sometimes",
        "postgresql://u:secret@localhost:port/hello",
        "dynamodb://",
        "dynamodb://eu-central-1",
        "dynamodb://eu-central-1/",
        "dynamodb://eu-central-1/a/b",
        "dynamodb://key:secret@eu-central-1/hello",
    ],
)
async def test_a_url_of_no_store_is_refused(url: str) -> None:
    """A URL that names no store is an error that shows one that does; nothing is opened or repeated."""
    with pytest.raises(ValueError, match=SHOWN) as refused:
        check_url(url)
    assert "secret" not in str(refused.value)
    with pytest.raises(ValueError, match=SHOWN):
        await open_store(url, timeout=1)


@pytest.mark.parametrize(
    "url",
    [
        "sqlite:///hello.db",
        "sqlite:////var/lib/hello/hello.db",
        "postgresql://",
        "postgresql:///hello",
        "postgresql://zoe@/hello?host=/run/postgresql&port=5433",
        "postgresql://zo%C3%AB:s%40crt%2F@[::1]:5432/hello",
        "postgresql://zoe@one.example:5432,two.example/hello?target_session_attrs=read-write",
        "postgresql://db.example/hello?sslmode=verify-full&sslrootcert=/etc/ca.pem&options=-csearch_path%3Dx",
        "dynamodb://eu-central-1/hello",
        "dynamodb://us-gov-west-1/hello_2.people-X",
    ],
)
async def test_a_url_of_a_store_is_taken(url: str) -> None:
    """Paths may be relative or absolute; a server's parts may be left out."""
    check_url(url)


async def test_a_missing_table_is_not_made_for_serving(dynamodb_url: str) -> None:
    """A table that is not there is an error that names the command which makes it, and is not made."""
    for patient in (False, True):
        with pytest.raises(StoreError, match="run `hello migrate`") as refused:
            await open_store(f"{dynamodb_url}-not", timeout=30, patient=patient)
        assert not isinstance(refused.value, StoreUnavailableError)


async def test_a_missing_file_is_not_made_for_reading(sqlite_url: str, tmp_path: Path) -> None:
    """With create=False a file that is not there is an error, and is not there afterwards."""
    with pytest.raises(StoreError):
        await open_store(sqlite_url, timeout=1, create=False)
    assert os.listdir(tmp_path) == []  # noqa: PTH208 - pathlib's would not do in a coroutine
