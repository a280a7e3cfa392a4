"""The application in process: what only a clock can show, a store that fails, and whatever bytes may come."""

import asyncio
import json
import logging
import re
from collections.abc import Callable, Iterator, Sequence
from datetime import date, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import pytest
import uvloop
from hypothesis import example, given
from hypothesis import strategies as st

from hello import cursor
from hello.app import Application, create_app
from hello.birthday import LeapDay, Person, username_key
from hello.settings import Settings
from hello.stores import Page, Store, StoreError, StoreUnavailableError, open_store
from tests.support.ical import dates, events
from tests.support.inprocess import MIDNIGHTS, Caller, Clock, FailingStore, Loop, Reply, Served
from tests.support.names import SCRIPTS
from tests.support.service import JSON

NOON = "2026-11-24T12:00"
Host = Callable[[Application], Caller]
Start = Callable[..., Caller]
Failing = Callable[[Store], Caller]


@pytest.fixture
def runner() -> Iterator[asyncio.Runner]:
    """Run what is asynchronous, on the loop that the service runs on."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        yield runner


@pytest.fixture(params=["called", "served"])
def host(request: pytest.FixtureRequest, runner: asyncio.Runner) -> Iterator[Host]:
    """Make applications ready for requests: called directly, or on a socket, with the fast path."""
    served: list[Served] = []

    def make(application: Application) -> Caller:
        if request.param == "called":
            return Caller(application, runner)
        served.append(Served(application, runner))
        return served[-1]

    yield make
    for app in served:
        app.close()


@pytest.fixture
def clock() -> Clock:
    """Return the clock of the applications."""
    return Clock(NOON)


@pytest.fixture
def start(tmp_path: Path, clock: Clock, runner: asyncio.Runner, host: Host) -> Iterator[Start]:
    """Make applications on empty stores: `start(timezone="Europe/Berlin")`."""
    stores: list[Store] = []

    def make(**options: Any) -> Caller:
        url = f"sqlite:///{tmp_path / f'{len(stores)}.db'}"
        store = runner.run(open_store(url, timeout=10))
        stores.append(store)
        return host(create_app(Settings(store=url, **options), store, clock=clock))

    yield make
    for store in stores:
        runner.run(store.close())


@pytest.fixture
def failing(host: Host) -> Failing:
    """Make applications on stores that fail."""
    return lambda store: host(create_app(Settings(), store, clock=Clock(NOON)))


def message(reply: Reply) -> str:
    """Return the greeting."""
    assert reply.status == 200
    return str(reply.json()["message"])


def assert_problem(reply: Reply, status: int, slug: str) -> None:
    """Check an error's answer (RFC 9457)."""
    assert (reply.status, reply.headers["Content-Type"]) == (status, "application/problem+json")
    problem = reply.json()
    assert (problem["status"], problem["type"]) == (status, f"/docs#{slug}")
    assert set(problem) == {"type", "title", "status", "detail"}


def shift(moment: str, **delta: int) -> str:
    """Return a moment some time later."""
    clock = Clock(moment)
    return (clock.now + timedelta(**delta)).isoformat()


def test_plain_requests_over_a_socket_take_the_fast_path(start: Start) -> None:
    """So that what the tests here say of GET and PUT, they say of both paths."""
    app = start()
    assert app.put("Zoe", "1990-04-23").status == 204
    assert app.get("/hello/Zoe").status == 200
    counted = set(re.findall(rb'hello_store_operations_total{operation="(\w+)"', app.get("/metrics").body))
    assert counted == ({b"get_many", b"put_many"} if isinstance(app, Served) else {b"get", b"put"})


# Midnight


@pytest.mark.parametrize("by", ["setting", "tz", "tz over another setting"])
@pytest.mark.parametrize(("zone", "midnight", "before", "after"), MIDNIGHTS)
def test_the_greeting_and_its_etag_change_at_midnight(
    start: Start, clock: Clock, by: str, zone: str, midnight: str, before: str, after: str
) -> None:
    """A microsecond before midnight in the zone is the day before, in the setting's zone and in `tz`."""
    setting = {"setting": zone, "tz": "UTC"}.get(by, "Pacific/Marquesas")
    app = start(timezone=setting)
    target = "/hello/Zoe" if by == "setting" else f"/hello/Zoe?tz={zone}"
    born = date.fromisoformat(after).replace(year=1990) + timedelta(days=1)
    assert app.put("Zoe", born.isoformat()).status == 204
    skipped = (date.fromisoformat(after) - date.fromisoformat(before)).days

    clock.set(shift(midnight, microseconds=-1))
    eve = app.get(target)
    assert message(eve) == f"Hello, Zoe! Your birthday is in {1 + skipped} day(s)"
    clock.set(shift(midnight, hours=-2))
    assert app.get(target, {"If-None-Match": eve.headers["ETag"]}).status == 304

    clock.set(midnight)
    changed = app.get(target, {"If-None-Match": eve.headers["ETag"]})
    assert message(changed) == "Hello, Zoe! Your birthday is in 1 day(s)"
    assert changed.headers["ETag"] != eve.headers["ETag"]
    clock.set(shift(midnight, hours=22))
    assert app.get(target, {"If-None-Match": changed.headers["ETag"]}).status == 304

    clock.set(shift(midnight, hours=25))  # no day is longer
    assert (
        message(app.get(target, {"If-None-Match": changed.headers["ETag"]})) == "Hello, Zoe! Happy birthday!"
    )


@pytest.mark.parametrize("by", ["setting", "tz"])
@pytest.mark.parametrize(("zone", "midnight", "before", "after"), MIDNIGHTS)
def test_yesterday_is_a_date_of_birth_from_midnight_on(
    start: Start, clock: Clock, by: str, zone: str, midnight: str, before: str, after: str
) -> None:
    """PUT refuses today, and takes it once it is yesterday where the zone is."""
    app = start(timezone=zone if by == "setting" else "UTC")
    query = "" if by == "setting" else f"?tz={zone}"
    clock.set(shift(midnight, microseconds=-1))
    assert_problem(app.put("Zoe", before, query), 400, "date-of-birth")
    assert_problem(app.put("Zoe", after, query), 400, "date-of-birth")
    assert app.get("/hello/Zoe").status == 404
    clock.set(midnight)
    assert_problem(app.put("Zoe", after, query), 400, "date-of-birth")
    assert app.put("Zoe", before, query).status == 204


def test_the_zones_of_one_moment(start: Start, clock: Clock) -> None:
    """At one moment it is three days on earth, each of them somebody's birthday."""
    app = start()
    clock.set("2026-11-24T10:30")
    zones = {"Pacific/Niue": "1990-11-23", "UTC": "1990-11-24", "Pacific/Kiritimati": "1990-11-25"}
    for name, born in zip("abc", zones.values(), strict=True):
        assert app.put(name, born).status == 204
    for day, zone in enumerate(zones):
        for place, name in enumerate("abc"):
            happy = message(app.get(f"/hello/{name}?tz={zone}")).endswith("Happy birthday!")
            assert happy == (day == place)
        listed = app.get(f"/birthdays?days=0&tz={zone}").json()["birthdays"]
        assert listed == [{"username": "abc"[day], "date": f"2026-{zones[zone][5:]}", "days": 0}]


# Lists across midnight


def everyone_born(app: Caller, first: date, count: int) -> list[str]:
    """Register one person a day, from `first` on, in a mixed order; return them in the days' order."""
    names = [f"p{chr(97 + n // 26)}{chr(97 + n % 26)}" for n in range(count)]
    for n in sorted(range(count), key=lambda n: n * 37 % count):
        assert app.put(names[n], (first + timedelta(days=n)).replace(year=1980).isoformat()).status == 204
    return names


@pytest.mark.parametrize("zone", ["UTC", "Pacific/Kiritimati", "Pacific/Niue"])
def test_a_list_paged_across_midnight_keeps_its_day(start: Start, clock: Clock, zone: str) -> None:
    """Pages after midnight go on from the first page's day: no one comes twice, and none is missing."""
    app = start()
    midnight = {name: moment for name, moment, _, _ in MIDNIGHTS[:3]}[zone]
    clock.set(shift(midnight, microseconds=-1))
    today = date(2026, 11, 23)
    names = everyone_born(app, today, 40)
    target = f"/birthdays?days=30&limit=7&tz={quote(zone)}"
    pages = [app.get(target)]
    clock.set(shift(midnight, seconds=1))
    while (after := pages[-1].json()["next"]) is not None:
        pages.append(app.get(f"{target}&after={after}"))
        clock.set(shift(clock.now.isoformat(), hours=9))
    listed = [person for page in pages for person in page.json()["birthdays"]]
    assert len(pages) == 5
    assert listed == [
        {"username": name, "date": (today + timedelta(days=n)).isoformat(), "days": n}
        for n, name in enumerate(names[:31])
    ]
    assert app.get(target).json()["birthdays"][0]["username"] != names[0]


def test_a_cursor_is_good_for_two_days(start: Start, clock: Clock) -> None:
    """Two days later a list of birthdays can be gone on with, three days later it can't; the other always."""
    app = start()
    everyone_born(app, date(2026, 11, 24), 5)
    birthdays, people = app.get("/birthdays?limit=2"), app.get("/hello?limit=2")
    following = f"/birthdays?limit=2&after={birthdays.json()['next']}"
    second = app.get(following)
    clock.set(shift(NOON, days=2))
    assert app.get(following).body == second.body
    assert_problem(app.get(following + "&tz=Pacific/Kiritimati"), 400, "cursor")  # the third day has begun
    for days in (3, 30, 366, -3):
        clock.set(shift(NOON, days=days))
        assert_problem(app.get(following), 400, "cursor")
        assert app.get("/birthdays?limit=2").status == 200
        assert app.get(f"/hello?limit=3&after={people.json()['next']}").json()["next"] is None
    clock.set(shift(NOON, days=-2))  # clocks of instances differ, and zones more so
    assert app.get(following).body == second.body


@pytest.mark.parametrize("key", ["zoe", "x" * 64, "i\u0307" * 64, *map(username_key, SCRIPTS)])
def test_a_cursor_that_someone_made_up(start: Start, key: str) -> None:
    """A cursor is no secret: one that could be the list's own gets a page, whoever is there."""
    app = start()
    everyone_born(app, date(2026, 11, 24), 5)
    assert app.get(f"/hello?after={cursor.encode('people', key)}").status == 200
    for position in (f"2026-11-24030{day}{key}" for day in ("11-24", "02-30", "01-01")):
        assert app.get(f"/birthdays?after={cursor.encode('birthdays', position)}").status == 200


@pytest.mark.parametrize("key", ["", "\0", "zoe\0", "zo e", "#schema", "x" * 129, "1", "\n"])
def test_a_cursor_that_no_list_has_made(start: Start, key: str) -> None:
    """No store is asked for what it can't have: empty, over-long or strange keys, days of no calendar."""
    app = start()
    positions = [
        f"2026-11-24030{day}zoe" for day in ("00-10", "13-01", "04-32", "04-2x", "0\uff14-23", "4-23", "")
    ]
    days = ["2026-11-2", "2026-13-01", "2026-02-29", "20261124  ", "\uff12026-11-24"]
    positions += [f"{day}03011-24zoe" for day in days] + ["2026-11-24-3011-24zoe", "2026-11-2499911-24zoe"]
    positions += ["", "x", "2026-11-24", "2026-11-24030", f"2026-11-2403011-24{key}"]
    for position in positions:
        assert_problem(app.get(f"/birthdays?after={cursor.encode('birthdays', position)}"), 400, "cursor")
    assert_problem(app.get(f"/hello?after={cursor.encode('people', key)}"), 400, "cursor")


# 29 February, and the ends of years


@pytest.mark.parametrize("leap_day", ["feb28", "mar1"])
@pytest.mark.parametrize("year", [2000, 2023, 2024, 2099, 2100])
def test_everything_agrees_about_leap_days(start: Start, clock: Clock, year: int, leap_day: LeapDay) -> None:
    """Around the end of February greeting, list and calendar give each person the same next birthday."""
    app = start(leap_day=leap_day)
    assert app.put("Eve", "1896-02-28").status == 204
    assert app.put("Leap", "1896-02-29").status == 204
    assert app.put("March", "1896-03-01").status == 204

    def birthdays(year: int) -> dict[str, date]:
        leap = year % 4 == 0 and year != 2100
        common = date(year, 2, 28) if leap_day == "feb28" else date(year, 3, 1)
        return {
            "Eve": date(year, 2, 28),
            "Leap": date(year, 2, 29) if leap else common,
            "March": date(year, 3, 1),
        }

    for today in (date(year, 2, 26) + timedelta(days=n) for n in range(6)):
        clock.set(f"{today}T12:00")
        listed = {p["username"]: p for p in app.get("/birthdays?days=366").json()["birthdays"]}
        feed = {str(e["SUMMARY"]).split("'")[0]: e for e in events(app.get("/birthdays.ics").body)}
        assert set(listed) == set(feed) == {"Eve", "Leap", "March"}
        for name in listed:
            due = min(day for y in (year, year + 1) if (day := birthdays(y)[name]) >= today)
            days = (due - today).days
            assert listed[name] == {"username": name, "date": due.isoformat(), "days": days}
            assert dates(feed[name], today, today + timedelta(days=400))[0] == due
            expected = "Happy birthday!" if days == 0 else f"Your birthday is in {days} day(s)"
            assert message(app.get(f"/hello/{name}")) == f"Hello, {name}! {expected}"
            reach = {p["username"] for p in app.get(f"/birthdays?days={days}").json()["birthdays"]}
            assert name in reach
            if days:
                less = app.get(f"/birthdays?days={days - 1}").json()["birthdays"]
                assert name not in {p["username"] for p in less}


def test_over_the_year_s_end(start: Start, clock: Clock) -> None:
    """On 31 December the soonest come first, those of the new year after those of the old, with its dates."""
    app = start()
    for name, born in {"New": "1990-01-01", "Old": "1990-12-31", "Eve": "1990-12-30"}.items():
        assert app.put(name, born).status == 204
    clock.set("2026-12-31T23:59:59")
    assert app.get("/birthdays?days=365").json()["birthdays"] == [
        {"username": "Old", "date": "2026-12-31", "days": 0},
        {"username": "New", "date": "2027-01-01", "days": 1},
        {"username": "Eve", "date": "2027-12-30", "days": 364},
    ]
    assert message(app.get("/hello/New")) == "Hello, New! Your birthday is in 1 day(s)"
    clock.set("2027-01-01T00:00:00")
    assert message(app.get("/hello/New")) == "Hello, New! Happy birthday!"
    assert message(app.get("/hello/Old")) == "Hello, Old! Your birthday is in 364 day(s)"


@pytest.mark.parametrize("zone", ["UTC", "Pacific/Kiritimati", "Pacific/Niue"])
def test_the_first_days_of_the_calendar(start: Start, clock: Clock, zone: str) -> None:
    """On the first day nobody can have been born before; from the second on there is a date of birth."""
    app = start(timezone=zone)
    clock.set("0001-01-01T00:30")
    assert_problem(app.put("Adam", "0001-01-01"), 400, "date-of-birth")
    assert app.get("/birthdays").json() == {"birthdays": [], "next": None}
    clock.set("0001-01-02T12:00")
    if zone != "Pacific/Kiritimati":
        assert_problem(app.put("Adam", "0001-01-03"), 400, "date-of-birth")
    assert app.put("Adam", "0001-01-01").status == 204
    assert re.search(r" in 36[34] day\(s\)", message(app.get("/hello/Adam")))
    assert app.get("/birthdays?days=366").json()["birthdays"][0]["date"] == "0002-01-01"
    assert app.get("/hello").json()["people"] == [{"username": "Adam", "dateOfBirth": "0001-01-01"}]


@pytest.mark.parametrize("zone", ["UTC", "Pacific/Kiritimati", "Pacific/Niue"])
@pytest.mark.parametrize("leap_day", ["feb28", "mar1"])
def test_the_last_days_of_the_calendar(start: Start, clock: Clock, zone: str, leap_day: LeapDay) -> None:
    """In the year 9999 people are greeted as ever, and lists end with what can be written as YYYY-MM-DD."""
    app = start(timezone=zone, leap_day=leap_day)
    for name, born in {"First": "1990-01-01", "Leap": "1988-02-29", "Last": "1990-12-31"}.items():
        assert app.put(name, born).status == 204
    clock.set("9999-12-31T23:59:59.999999")
    last = "Happy birthday!"
    assert message(app.get("/hello/Last")) == f"Hello, Last! {last}"
    assert message(app.get("/hello/First")) == "Hello, First! Your birthday is in 1 day(s)"
    assert (
        message(app.get("/hello/Leap")) == "Hello, Leap! Your birthday is in 60 day(s)"
    )  # a leap year begins
    listed = app.get("/birthdays?days=366").json()
    assert listed == {"birthdays": [{"username": "Last", "date": "9999-12-31", "days": 0}], "next": None}
    assert len(events(app.get("/birthdays.ics").body)) == 3
    assert app.put("Eve", "9999-12-30").status == 204

    clock.set("9999-02-20T12:00")
    listed = app.get("/birthdays?days=366&limit=1").json()
    assert [p["username"] for p in listed["birthdays"]] == ["Leap"]
    rest = app.get(f"/birthdays?days=366&after={listed['next']}").json()
    assert [p["username"] for p in rest["birthdays"]] == ["Eve", "Last"]
    assert rest["next"] is None


# A store that fails

SECRET = "/var/lib/hello/hello.db of Wilhelmina, 1983-07-19"
BODY = b'{"dateOfBirth":"1990-04-23"}'
NEEDS_STORE = [
    ("GET", "/hello/Zoe"),
    ("PUT", "/hello/Zoe"),
    ("DELETE", "/hello/Zoe"),
    ("GET", "/hello"),
    ("GET", "/birthdays"),
    ("GET", "/birthdays.ics"),
    ("GET", "/ready"),
]
NEEDS_NONE = ["/", "/hc", "/version", "/metrics", "/openapi.json", "/docs"]


class TornStore(FailingStore):
    """A store that fails after the first page of people."""

    async def birthdays(
        self, ranges: Sequence[tuple[str, str]], limit: int, after: str | None = None
    ) -> Page:
        if after is not None:
            raise self.error
        return Page([Person("Zoe", date(1990, 4, 23))] * limit, "z")


def fields(record: logging.LogRecord) -> dict[str, Any]:
    """Return what a log entry has besides its message."""
    return dict(getattr(record, "fields", {}))


def test_each_operation_needs_the_store_or_does_not(failing: Failing) -> None:
    """The two lists here are complete: a new route belongs to one of them."""
    app = failing(FailingStore(StoreError(SECRET)))
    paths = app.get("/openapi.json").json()["paths"]
    described = {
        (method.upper(), path.replace("{username}", "Zoe"))
        for path, item in paths.items()
        for method in item
        if method != "parameters"
    }
    assert described == {*NEEDS_STORE, *(("GET", path) for path in NEEDS_NONE)}


@pytest.mark.parametrize("kind", [StoreUnavailableError, StoreError])
@pytest.mark.parametrize(
    ("method", "target"), [*NEEDS_STORE, ("HEAD", "/hello/Zoe"), ("HEAD", "/birthdays.ics")]
)
def test_what_needs_the_store_is_503(
    failing: Failing,
    caplog: pytest.LogCaptureFixture,
    kind: type[StoreError],
    method: str,
    target: str,
) -> None:
    """The answer says when to try again; the reason is for the log, with the request's id, and no caller."""
    app = failing(FailingStore(kind(SECRET)))
    body, needed = (BODY, JSON) if method == "PUT" else (None, {})
    for extra in ({}, {"X-Request-ID": "its-id"}, {"If-None-Match": "*"}):
        if extra.get("If-None-Match") and method == "DELETE":
            continue  # is not understood
        caplog.clear()
        reply = app.request(method, target, body, {**needed, **extra})
        if method == "HEAD":
            assert (reply.status, reply.headers["Content-Type"]) == (503, "application/problem+json")
        else:
            assert_problem(reply, 503, "store-unavailable")
        assert reply.headers["X-Request-ID"] == extra.get("X-Request-ID", reply.headers["X-Request-ID"])
        assert int(reply.headers["Retry-After"]) > 0
        assert reply.whole
        for word in ("hello.db", "Wilhelmina", "1983-07-19", "/var"):
            assert word not in reply.body.decode() + str(reply.headers)
        (record,) = (r for r in caplog.records if SECRET in r.getMessage())
        assert record.levelno == logging.ERROR
        assert record.exc_info is None, "no traceback: the store is at fault, not the code"
        assert fields(record)["request_id"] == reply.headers["X-Request-ID"]


@pytest.mark.parametrize("target", [*NEEDS_NONE, "/web/page.css"])
def test_what_needs_no_store_goes_on(failing: Failing, target: str) -> None:
    """Health, version, metrics and the pages don't depend on the store."""
    app = failing(FailingStore(StoreUnavailableError(SECRET)))
    assert app.get(target).status == 200


@pytest.mark.parametrize(
    ("method", "target", "body", "status"),
    [
        ("GET", "/hello/J0hn", None, 400),
        ("GET", "/hello/Zoe?tz=Mars", None, 400),
        ("PUT", "/hello/Zoe", b'{"dateOfBirth":"2026-11-24"}', 400),
        ("PUT", "/hello/Zoe", b"{}", 400),
        ("DELETE", "/hello/J0hn", None, 400),
        ("GET", "/hello?limit=0", None, 400),
        ("GET", "/birthdays?days=367", None, 400),
        ("GET", "/nothing", None, 404),
        ("POST", "/hello/Zoe", None, 405),
    ],
)
def test_what_is_wrong_is_said_without_the_store(
    failing: Failing, method: str, target: str, body: bytes | None, status: int
) -> None:
    """A request that could not be answered anyway is told so, whatever state the store is in."""
    app = failing(FailingStore(StoreUnavailableError(SECRET)))
    assert app.request(method, target, body, JSON).status == status


@pytest.mark.parametrize(
    "error", [RuntimeError(SECRET), ValueError(SECRET), KeyError(SECRET), OSError(5, SECRET)]
)
@pytest.mark.parametrize(("method", "target"), NEEDS_STORE)
def test_a_defect_is_500_and_tells_nothing(
    failing: Failing, caplog: pytest.LogCaptureFixture, error: Exception, method: str, target: str
) -> None:
    """What nobody expected is logged with its traceback and the request's id, all that the caller gets."""
    app = failing(FailingStore(error))
    reply = app.request(method, target, BODY, JSON) if method == "PUT" else app.request(method, target)
    assert_problem(reply, 500, "unexpected")
    for word in ("hello.db", "Wilhelmina", "1983-07-19", "Error", "Traceback"):
        assert word not in reply.body.decode() + str(reply.headers)
    (record,) = (r for r in caplog.records if r.exc_info)
    assert record.exc_info is not None
    assert record.exc_info[1] is error
    assert fields(record)["request_id"] == reply.headers["X-Request-ID"]
    (request,) = (r for r in caplog.records if r.getMessage() == "request")
    assert (fields(request)["status"], request.levelno) == (500, logging.ERROR)
    assert app.get("/hc").status == 200


@pytest.mark.parametrize("error", [StoreUnavailableError(SECRET), RuntimeError(SECRET)])
def test_a_feed_that_breaks_off_is_seen_to(
    failing: Failing, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    """Where the store fails after the first events, the answer is not ended as if whole, and it is logged."""
    reply = failing(TornStore(error)).get("/birthdays.ics")
    assert reply.status == 200
    assert b"BEGIN:VEVENT" in reply.body
    assert b"END:VCALENDAR" not in reply.body
    assert not reply.whole
    (record,) = (r for r in caplog.records if r.levelno == logging.ERROR and r.name.startswith("hello"))
    assert fields(record)["request_id"] == reply.headers["X-Request-ID"]


def test_a_body_that_does_not_come_is_408() -> None:
    """A client that sends a head and no body is waited for as long as the setting says, and no longer."""
    with asyncio.Runner(loop_factory=Loop) as runner:
        settings = Settings(request_timeout=10.0)
        app = Caller(create_app(settings, FailingStore(StoreError(SECRET)), clock=Clock(NOON)), runner)
        reply = app.request("PUT", "/hello/Zoe", BODY, JSON, arrives=False)
        assert_problem(reply, 408, "slow")
        assert reply.headers["Connection"] == "close"
        assert runner.get_loop().time() == 10.0


# Whatever bytes may come


@pytest.fixture(scope="module")
def fuzzed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Caller]:
    """One application, with people in its store, for a great many requests."""
    url = f"sqlite:///{tmp_path_factory.mktemp('fuzzed') / 'hello.db'}"
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        store = runner.run(open_store(url, timeout=10))
        app = Caller(create_app(Settings(store=url), store, clock=Clock(NOON)), runner)
        for n, name in enumerate(SCRIPTS):
            assert app.put(name, f"19{n + 10}-02-28").status == 204
        yield app
        runner.run(store.close())


PIECES = st.binary(max_size=12).map(quote) | st.sampled_from(
    [
        "hello",
        "birthdays",
        "Zoe",
        quote("Zoë"),
        quote("王小明"),
        "hc",
        "web",
        "%2F",
        "%0A",
        "%00",
        "..",
        "%FF",
        "",
    ]
)
KNOWN = [
    "/",
    "/hello",
    "/birthdays",
    "/birthdays.ics",
    "/hc",
    "/ready",
    "/version",
    "/metrics",
    "/docs",
    "/web/",
]
PATHS = (
    st.lists(PIECES, max_size=4).map(lambda pieces: "/" + "/".join(pieces))
    | PIECES.map(lambda piece: f"/hello/{piece}")
    | st.sampled_from(KNOWN)
    | st.builds(lambda known, piece: known + piece, st.sampled_from(KNOWN), PIECES)
)
VALUES = (
    st.binary(max_size=20).map(quote)
    | st.integers(-2, 2000).map(str)
    | st.sampled_from(["UTC", "Europe/Berlin", "Pacific%2FApia", "../UTC", "%00", "1e3", "٣"]).map(quote)
    | st.builds(
        lambda kind, position: cursor.encode(kind, position),
        st.sampled_from(["people", "birthdays"]),
        st.text(st.characters(exclude_categories=["Cs"]))
        | st.text(st.characters(exclude_categories=["Cs"])).map(lambda text: f"2026-11-24{text}"),
    )
)
QUERIES = st.binary(max_size=30).map(quote) | st.lists(
    st.tuples(st.sampled_from(["tz", "days", "limit", "after", "x", ""]), VALUES).map("=".join), max_size=4
).map("&".join)
BODIES = (
    st.binary(max_size=5000)
    | st.sampled_from([BODY, b"", b"{}", b'{"dateOfBirth":1e999}', b"[" * 4096, b'{"dateOfBirth":"\\ud800"}'])
    | st.builds(
        lambda value: json.dumps({"dateOfBirth": value}).encode(),
        st.dates().map(str) | st.text() | st.none() | st.integers() | st.lists(st.text(), max_size=2),
    )
)
METHODS = st.sampled_from(
    ["GET", "HEAD", "PUT", "DELETE", "POST", "PATCH", "OPTIONS", "TRACE", "PROPFIND", "QUERY"]
)
HEADERS = st.fixed_dictionaries(
    {
        "Content-Type": st.sampled_from(
            ["application/json"] * 3 + ["text/plain", "application/json;charset=x", ""]
        )
    },
    optional={
        "If-None-Match": st.sampled_from(["*", '"x"', "", "W/*", ",,"]),
        "If-Match": st.sampled_from(["*", ""]),
        "Accept": st.sampled_from(["text/html", "*/*;q=x", ";;", ",,", "text/html;q=9"]),
        "X-Request-ID": st.binary(max_size=200).map(lambda value: value.decode("latin-1")),
    },
)


def template(target: str, known: dict[str, Any]) -> str | None:
    """Return the path of the OpenAPI document that a request's path is of, None for no such path."""
    path = unquote(target)
    if path in known:
        return path
    if path.startswith("/hello/") and 2 in {path.count("/"), target.count("/")}:
        return "/hello/{username}"
    return None


@given(METHODS, PATHS, QUERIES, BODIES, HEADERS)
@example("GET", "/hello%0A", "", b"", {})
@example("GET", "/hc%0A", "", b"", {})
@example("GET", "/web/page.css%0A", "", b"", {})
@example("GET", "/hello/%ED%A0%80", "", b"", {})
@example("PUT", "/hello/Zoe", "tz=%ED%A0%80", BODY, JSON)
@example("GET", "/birthdays", "after=" + cursor.encode("birthdays", "9999-12-31"), b"", {})
@example("GET", "/birthdays", "after=" + cursor.encode("birthdays", "2026-11-24\0"), b"", {})
def test_any_bytes_get_an_answer_that_is_documented(
    fuzzed: Caller, method: str, path: str, query: str, body: bytes, headers: dict[str, str]
) -> None:
    """Whatever path, query and body: a status that /openapi.json lists; each error is a problem."""
    described = fuzzed.get("/openapi.json").json()["paths"]
    reply = fuzzed.request(method, f"{path}?{query}", body, headers)
    known = template(path, described)
    operation = described.get(known, {}).get("get" if method == "HEAD" else method.lower())
    if operation is not None:
        documented = {int(status) for status in operation["responses"] if status != "default"} - {503}
    elif unquote(path).startswith("/web/"):
        documented = {200, 304, 404, 405}
    else:
        documented = {405} if known else {404}
    assert reply.status in documented
    assert reply.whole
    if reply.status >= 400 and method != "HEAD":
        problem = reply.json()
        assert (problem["status"], reply.headers["Content-Type"]) == (
            reply.status,
            "application/problem+json",
        )
        assert problem["detail"]
