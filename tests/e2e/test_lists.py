"""The lists and the calendar: GET /hello, /birthdays, /birthdays.ics."""

import re
from collections.abc import Callable
from datetime import date, timedelta
from typing import Any
from urllib.parse import quote

import pytest

from tests.e2e.client import Client, days_until, path_of
from tests.e2e.conftest import NewName, Problem

LISTS = ["/hello", "/birthdays"]
CALENDAR_LINE = 75  # octets, without the line's end

Group = dict[str, date]


@pytest.fixture
def group(client: Client, new_name: NewName, today: date) -> Group:
    """Register people all over the year, around today and on 29 February; return their dates of birth."""
    offsets = [-2, -1, 0, 0, 1, 2, 7, 29, 30, 31, 59, 60, 100, 200, 300, 363]
    people = {new_name(): (today + timedelta(days=days)).replace(year=1992) for days in offsets}
    for text in ("1996-02-28", "1996-02-29", "1904-02-29", "1999-03-01", "1950-12-31", "1951-01-01"):
        people[new_name()] = date.fromisoformat(text)
    for name, born in people.items():
        assert client.put(name, born).status == 204
    return people


def flat(pages: Any) -> list[dict[str, Any]]:
    return [entry for page in pages for entry in page]


def page_size(client: Client, target: str, key: str) -> int:
    """Return a limit that makes at most some twenty pages of the list, and more than one."""
    return 1 + sum(map(len, client.pages(target, key))) // 20


# Everyone


def test_the_list_has_each_person_once(client: Client, group: Group) -> None:
    """Over all pages each person comes once, with the date of birth; no page is over the limit."""
    limit = page_size(client, "/hello?limit=1000", "people")
    pages = list(client.pages(f"/hello?limit={limit}", "people"))
    assert len(pages) > 1
    assert all(len(page) == limit for page in pages[:-1])
    people = flat(pages)
    names = [person["username"] for person in people]
    assert len(names) == len(set(names))
    assert all(set(person) == {"username", "dateOfBirth"} for person in people)
    listed = {person["username"]: person["dateOfBirth"] for person in people}
    assert {name: listed.get(name) for name in group} == {name: str(born) for name, born in group.items()}


def test_the_order_of_the_list_is_stable(client: Client, group: Group) -> None:
    """The order does not depend on the size of the pages, nor on dates or spelling."""

    def order(limit: int) -> list[str]:
        people = flat(client.pages(f"/hello?limit={limit}", "people"))
        return [p["username"].lower() for p in people if p["username"].lower() in group]

    limit = page_size(client, "/hello?limit=1000", "people")
    before = order(limit)
    assert before == order(1000)
    client.put(before[3].upper(), "1880-06-27")
    assert order(limit + 1) == before


def test_a_cursor_outlives_its_person(client: Client, group: Group) -> None:
    """When the last person of a page is erased, the next page goes on as before."""
    limit = page_size(client, "/hello?limit=1000", "people")
    first = client.get(f"/hello?limit={limit}").json()
    second = client.get(f"/hello?limit={limit}&after={quote(first['next'])}").json()
    own = [p["username"] for p in first["people"] if p["username"] in group]
    for name in own:
        assert client.send("DELETE", path_of(name)).status == 204
    assert client.get(f"/hello?limit={limit}&after={quote(first['next'])}").json() == second


@pytest.mark.usefixtures("group")
def test_a_page_that_is_just_full_is_the_last(client: Client) -> None:
    """A page that holds all has `next: null`; one that lacks a person has a cursor."""
    count = len(flat(client.pages("/hello?limit=1000", "people")))
    if count > 1000:
        pytest.skip("this store holds more people than a page")
    assert client.get(f"/hello?limit={count}").json()["next"] is None
    assert client.get(f"/hello?limit={count - 1}").json()["next"] is not None


@pytest.mark.storeless
@pytest.mark.parametrize("target", LISTS)
@pytest.mark.parametrize(
    "limit",
    [
        "0",
        "-1",
        "1001",
        "99999999999999999999",
        "1.0",
        "1e2",
        "x",
        "%31%30%00",
        "+5",
        "%205",
        "0x10",
        "1_0",
        "%D9%A1",
        "5&limit=5",
        "",
    ],
)
def test_a_bad_limit_is_400(client: Client, problem: Problem, target: str, limit: str) -> None:
    """`limit` is a whole number from 1 to 1000, given once."""
    assert "limit" in problem(client.get(f"{target}?limit={limit}"), 400)


@pytest.mark.parametrize("target", LISTS)
@pytest.mark.parametrize("limit", ["1", "1000", "0100"])
def test_the_bounds_of_limit_are_taken(client: Client, target: str, limit: str) -> None:
    """1 and 1000 are limits."""
    assert client.get(f"{target}?limit={limit}").status == 200


@pytest.mark.storeless
@pytest.mark.parametrize(
    "cursor",
    [
        "",
        "x",
        "0",
        "null",
        "AAAA",
        "A" * 500,
        "%00",
        "%FF",
        "..%2F..",
        "Zo%C3%AB",
        "'%20OR%201=1",
        "=",
        "%0A",
    ],
)
@pytest.mark.parametrize("target", LISTS)
def test_what_was_no_next_is_400(client: Client, problem: Problem, target: str, cursor: str) -> None:
    """`after` takes the `next` of a page, and nothing else."""
    problem(client.get(f"{target}?after={cursor}"), 400)


@pytest.mark.usefixtures("group")
@pytest.mark.parametrize("target", ["/hello?limit=1", "/birthdays?days=366&limit=1"])
def test_an_altered_cursor_is_400(client: Client, problem: Problem, target: str) -> None:
    """A cursor altered in any one character, cut, or made longer is a 400."""
    cursor = client.get(target).json()["next"]
    assert client.get(f"{target}&after={quote(cursor)}").status == 200

    def altered() -> set[str]:
        made = {cursor[:-1], cursor[1:], cursor + "A", cursor + "=", "A" + cursor, cursor + "%20", cursor * 2}
        for position, character in enumerate(cursor):
            others = {chr(ord(character) ^ 1), character.swapcase(), "A", "_", "~", "%00", "%C3%A9", ""}
            made |= {cursor[:position] + quote(o, safe="%") + cursor[position + 1 :] for o in others}
        return made - {cursor}

    for text in altered():
        problem(client.get(f"{target}&after={text}"), 400)


@pytest.mark.usefixtures("group")
def test_a_cursor_is_of_one_list(client: Client, problem: Problem) -> None:
    """The cursor of one list is none of the other."""
    people = client.get("/hello?limit=1").json()["next"]
    birthdays = client.get("/birthdays?days=366&limit=1").json()["next"]
    problem(client.get(f"/birthdays?after={quote(people)}"), 400)
    problem(client.get(f"/hello?after={quote(birthdays)}"), 400)


# Birthdays


def test_a_list_keeps_the_days_of_its_first_page(client: Client, group: Group) -> None:
    """The cursor tells how far the list goes, so that following pages fit whatever `days` they give."""
    after = client.get("/birthdays?days=366&limit=1").json()["next"]
    assert after
    pages = [
        client.get(f"/birthdays?{days}limit=1&after={after}").json() for days in ("days=366&", "", "days=0&")
    ]
    assert pages[0]["birthdays"]
    assert pages[0] == pages[1] == pages[2]


@pytest.mark.parametrize("days", [None, 0, 1, 2, 29, 30, 31, 59, 60, 100, 199, 200, 300, 363, 364, 365, 366])
def test_birthdays_are_those_within_the_days(
    client: Client, group: Group, noon: str, today: date, leap_day: str, days: int | None
) -> None:
    """Those whose birthday is in up to `days` days (30 where left out), each with its date and days."""
    query = f"{noon}&limit=1000" + (f"&days={days}" if days is not None else "")
    listed = flat(client.pages(f"/birthdays{query}", "birthdays"))
    expected = {}
    for name, born in group.items():
        count = days_until(born, today, leap_day)
        if count <= (30 if days is None else days):
            expected[name] = (str(today + timedelta(days=count)), count)
    got = [(entry["username"], (entry["date"], entry["days"])) for entry in listed]
    own = [entry for entry in got if entry[0] in group]
    assert len(own) == len(expected)
    assert dict(own) == expected


@pytest.mark.usefixtures("group")
def test_the_soonest_comes_first(client: Client, noon: str) -> None:
    """Birthdays are sorted by their days, today's included, over all pages; each person comes once."""
    target = f"/birthdays{noon}&days=366"
    limit = page_size(client, f"{target}&limit=1000", "birthdays")
    pages = list(client.pages(f"{target}&limit={limit}", "birthdays"))
    assert len(pages) > 1
    assert all(len(page) == limit for page in pages[:-1])
    listed = flat(pages)
    days = [entry["days"] for entry in listed]
    assert days == sorted(days)
    assert days[0] == 0
    assert len({entry["username"] for entry in listed}) == len(listed)
    assert listed == flat(client.pages(f"{target}&limit=1000", "birthdays"))


def test_birthdays_keep_the_year_of_birth(client: Client, group: Group, noon: str, today: date) -> None:
    """No year of birth is told: the dates are those of birthdays to come."""
    listed = flat(client.pages(f"/birthdays{noon}&days=366&limit=1000", "birthdays"))
    assert {entry["username"] for entry in listed} >= set(group)
    for entry in listed:
        assert set(entry) == {"username", "date", "days"}
        assert date.fromisoformat(entry["date"]) == today + timedelta(days=entry["days"])


@pytest.mark.storeless
@pytest.mark.parametrize("days", ["-1", "367", "x", "", "1.5", "30&days=30", "%EF%BC%91", "999999999999"])
def test_bad_days_are_400(client: Client, problem: Problem, days: str) -> None:
    """`days` is a whole number from 0 to 366, given once."""
    assert "days" in problem(client.get(f"/birthdays?days={days}"), 400)


# The calendar


def unfolded(body: bytes) -> list[str]:
    """Return the content lines of an iCalendar stream (RFC 5545, 3.1)."""
    assert body.endswith(b"\r\n")
    assert b"\n" not in body.replace(b"\r\n", b"")
    return re.sub(rb"\r\n[ \t]", b"", body).decode().removesuffix("\r\n").split("\r\n")


def events(lines: list[str]) -> list[dict[str, str]]:
    """Return the events: values by property, parameters included in its name."""
    found: list[dict[str, str]] = []
    inside = False
    for line in lines:
        name, _, value = line.partition(":")
        if (name, value) == ("BEGIN", "VEVENT"):
            found.append({})
            inside = True
        elif (name, value) == ("END", "VEVENT"):
            inside = False
        elif inside:
            assert name not in found[-1], f"{name} comes twice"
            found[-1][name] = value
    return found


@pytest.fixture
def calendar(client: Client) -> Callable[[], list[dict[str, str]]]:
    """Fetch the calendar and return its events."""

    def fetch() -> list[dict[str, str]]:
        answer = client.get("/birthdays.ics")
        assert answer.status == 200
        lines = unfolded(answer.body)
        assert lines[0] == "BEGIN:VCALENDAR"
        assert lines[-1] == "END:VCALENDAR"
        assert lines.count("BEGIN:VCALENDAR") == 1
        assert lines.count("VERSION:2.0") == 1
        assert sum(line.startswith("PRODID:") for line in lines) == 1
        return events(lines)

    return fetch


def test_the_calendar_is_icalendar(client: Client) -> None:
    """The feed is declared as text/calendar in UTF-8, to be shown and not downloaded."""
    answer = client.get("/birthdays.ics")
    assert answer.content_type == "text/calendar"
    assert answer.headers.get_content_charset() == "utf-8"
    assert not answer.headers.get("Content-Disposition", "").startswith("attachment")


def test_the_calendar_has_one_yearly_event_a_person(
    client: Client, group: Group, calendar: Callable[[], list[dict[str, str]]]
) -> None:
    """Each person has one all-day event, on the birthday, that comes each year."""
    found: dict[str, list[dict[str, str]]] = {}
    for event in calendar():
        found.setdefault(event["SUMMARY"], []).append(event)
    uids = [event["UID"] for own in found.values() for event in own]
    assert len(uids) == len(set(uids))
    for name, born in group.items():
        (event,) = next(own for summary, own in found.items() if name in summary)
        assert event["DTSTART;VALUE=DATE"][4:] == f"{born:%m%d}"
        assert "FREQ=YEARLY" in event["RRULE"]
        assert "COUNT" not in event["RRULE"]
        assert "UNTIL" not in event["RRULE"]
        assert re.fullmatch(r"\d{8}T\d{6}Z", event["DTSTAMP"])
    assert len({event["DTSTART;VALUE=DATE"][:4] for own in found.values() for event in own}) == 1


@pytest.mark.parametrize("year", ["1815", "1931"])
def test_the_calendar_keeps_the_year_of_birth(client: Client, name: str, year: str) -> None:
    """Two people born on one day of different years have events that differ in name and id alone."""
    client.put(name, f"{year}-12-10")
    lines = unfolded(client.get("/birthdays.ics").body)
    (event,) = (event for event in events(lines) if name in event["SUMMARY"])
    without_ids = {key: value for key, value in event.items() if key not in {"UID", "SUMMARY"}}
    assert year not in " ".join(without_ids.values())
    assert event["DTSTART;VALUE=DATE"][4:] == "1210"


def test_an_event_keeps_its_uid(
    client: Client, name: str, calendar: Callable[[], list[dict[str, str]]]
) -> None:
    """An event keeps its UID when the date is changed or the name respelled: it is moved, not doubled."""

    def uid() -> str:
        (event,) = (event for event in calendar() if name in event["SUMMARY"].lower())
        return event["UID"]

    client.put(name, "1815-12-10")
    before = uid()
    client.put(name.upper(), "1906-12-09")
    assert uid() == before


@pytest.mark.parametrize("letter", ["x", "é", "王", "𐐨"])
def test_long_lines_are_folded(client: Client, new_name: NewName, letter: str) -> None:
    """No line is over 75 octets, and unfolded the name is whole."""
    name = new_name() + letter * 44
    client.put(name, "1815-12-10")
    body = client.get("/birthdays.ics").body
    assert max(len(line) for line in body.split(b"\r\n")) <= CALENDAR_LINE
    assert sum(name in event["SUMMARY"] for event in events(unfolded(body))) == 1


def test_who_is_erased_leaves_the_lists(client: Client, name: str, noon: str, today: date) -> None:
    """An erased person is in no list."""

    def listed() -> list[bool]:
        birthdays = flat(client.pages(f"/birthdays{noon}&days=366&limit=1000", "birthdays"))
        people = flat(client.pages("/hello?limit=1000", "people"))
        calendar = client.get("/birthdays.ics").body.decode().replace("\r\n ", "")
        return [
            name in {entry["username"] for entry in birthdays},
            name in {entry["username"] for entry in people},
            name in calendar,
        ]

    client.put(name, today.replace(year=1992))
    assert listed() == [True, True, True]
    client.send("DELETE", path_of(name))
    assert listed() == [False, False, False]
