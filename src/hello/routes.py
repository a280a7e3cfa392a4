"""The routes: parse the request, ask the domain and the store, answer.

Handlers raise; `app` makes answers of what they raise, by the table in `problems`.
"""

import re
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import suppress
from datetime import date
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from hello import __version__, birthday, cursor, openapi, pages, problems, schema
from hello.audit import AuditLog
from hello.headers import prefers_html
from hello.person import PersonResource
from hello.query import Today, parameters, whole_number
from hello.rights import PERSON
from hello.settings import Settings
from hello.stores import Page, Store

DEFAULT_LIMIT, MAX_LIMIT = 100, 1000
DEFAULT_DAYS, MAX_DAYS = 30, 366
ALL_YEAR = [("01-01", "12-31")]
FEED_PAGE = 500  # people read at once for the calendar feed
FEED_PART = 50  # events made at once: others want the loop as well
NOT_OURS = "This is not a cursor of this list; give the `next` of the page before, unchanged."
BIRTHDAYS_POSITION = re.compile(
    r"(?P<day>[0-9]{4}-[0-9]{2}-[0-9]{2})(?P<days>[0-3][0-9]{2})"
    r"(?P<month_day>(?:0[1-9]|1[0-2])-(?:0[1-9]|[12][0-9]|3[01]))(?P<key>.+)"
)
CURSOR_DAYS = 2  # a list of birthdays can be paged through for this long

LINKS = schema.Links(
    greeting="/hello/{username}",
    people="/hello",
    birthdays="/birthdays",
    calendar="/birthdays.ics",
    docs="/docs",
    openapi="/openapi.json",
    health="/hc",
    readiness="/ready",
    metrics="/metrics",
)


class JSONResponse(Response):
    """An answer encoded from a type of `schema`."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        return msgspec.json.encode(content)


class Routes:
    """The handlers, and what they share."""

    def __init__(
        self,
        settings: Settings,
        store: Store,
        today: Today,
        audit: AuditLog | None,
        needs: Mapping[tuple[str, str], str] | None,
        render_metrics: Callable[[], bytes],
    ) -> None:
        self.draining = False
        self.person = PersonResource(settings.leap_day, store, today, audit)
        self._leap_day = settings.leap_day
        self._version = schema.Version(__version__, settings.commit)
        self._store = store
        self._today = today
        self._render_metrics = render_metrics
        self._openapi = openapi.document(self.table(), problems.ALL_KINDS, needs)

    def table(self) -> list[Route]:
        """Return the routes, for Starlette's router and for the OpenAPI document."""
        return [
            Route(PERSON, self.person, methods=PersonResource.METHODS),
            Route("/hello", self.people, methods=["GET"]),
            Route("/birthdays", self.birthdays, methods=["GET"]),
            Route("/birthdays.ics", self.feed, methods=["GET"]),
            Route("/", self.index, methods=["GET"]),
            Route("/hc", self.health, methods=["GET"]),
            Route("/ready", self.ready, methods=["GET"]),
            Route("/version", self.version, methods=["GET"]),
            Route("/metrics", self.metrics, methods=["GET"]),
            Route("/openapi.json", self.openapi_document, methods=["GET"]),
            Route("/docs", self.docs, methods=["GET"]),
            Route("/web/{path:path}", self.asset, methods=["GET"], include_in_schema=False),
        ]

    async def people(self, request: Request) -> Response:
        """GET /hello."""
        values = parameters(request.scope["query_string"], "limit", "after")
        limit = whole_number(values, "limit", DEFAULT_LIMIT, 1, MAX_LIMIT)
        after = cursor.decode("people", values["after"]) if "after" in values else None
        if after is not None and not birthday.may_be_key(after):
            raise cursor.InvalidCursorError(NOT_OURS)
        page = await self._store.people(limit, after)
        return JSONResponse(
            schema.People(
                people=[schema.PersonRecord(name, born.isoformat()) for name, born in page.people],
                next=cursor.encode("people", page.next) if page.next else None,
            )
        )

    async def birthdays(self, request: Request) -> Response:
        """GET /birthdays."""
        query = request.scope["query_string"]
        values = parameters(query, "days", "limit", "after")
        days = whole_number(values, "days", DEFAULT_DAYS, 0, MAX_DAYS)
        limit = whole_number(values, "limit", DEFAULT_LIMIT, 1, MAX_LIMIT)
        today, after = self._today(query), None
        if "after" in values:
            # The cursor keeps the day of the first page, so that midnight does not tear a list apart,
            # and with it how far to look: pages of different lists would not fit together.
            first_day, days, after = _split_position(cursor.decode("birthdays", values["after"]))
            if abs((today - first_day).days) > CURSOR_DAYS:
                raise cursor.InvalidCursorError(
                    "This cursor is from another day; start again without `after`."
                )
            today = first_day
        page = await self._store.birthdays(
            birthday.birthday_ranges(today, days, self._leap_day), limit, after
        )
        dates = [(name, birthday.next_birthday(born, today, self._leap_day)) for name, born in page.people]
        return JSONResponse(
            schema.Birthdays(
                birthdays=[
                    schema.UpcomingBirthday(name, day.isoformat(), (day - today).days) for name, day in dates
                ],
                next=cursor.encode("birthdays", f"{today}{days:03}{page.next}") if page.next else None,
            )
        )

    async def feed(self, request: Request) -> Response:
        """GET /birthdays.ics: in the order of the year, and streamed, so that its length costs no memory.

        Whose birthday is changed while a long feed is read may be missing from it or be in it twice,
        under the one UID; the next reading has them once.
        """
        first_page = await self._store.birthdays(
            ALL_YEAR, FEED_PAGE
        )  # before the first byte, to fail as a 503
        headers = {
            "cache-control": "private, no-cache",
            "content-disposition": 'inline; filename="birthdays.ics"',
        }
        if request.method == "HEAD":
            response = Response(media_type="text/calendar", headers=headers)
            del response.headers["content-length"]  # unknown: a feed is as long as it turns out
            return response
        return StreamingResponse(self._events(first_page), media_type="text/calendar", headers=headers)

    async def _events(self, page: Page) -> AsyncIterator[bytes]:
        from hello import feed  # icalendar is slow to load, and most processes never need it

        today = self._today()
        yield feed.opening()
        while True:
            for start in range(0, len(page.people), FEED_PART):
                part = page.people[start : start + FEED_PART]
                yield b"".join(feed.event(person, today, self._leap_day) for person in part)
            if page.next is None:
                break
            page = await self._store.birthdays(ALL_YEAR, FEED_PAGE, page.next)
        yield feed.CLOSING

    async def index(self, request: Request) -> Response:
        """GET /: the page for browsers, an overview for programs."""
        if prefers_html(request.headers.get("accept", "")):
            return pages.page("index.html")
        service = schema.Service("hello", self._version.version, self._version.commit, LINKS)
        return JSONResponse(service, headers={"vary": "accept"})

    async def health(self, request: Request) -> Response:
        """GET /hc: of the process alone; never touches the store."""
        if self.draining:
            return JSONResponse(schema.Health("draining"), 503)
        return JSONResponse(schema.Health("ok"))

    async def ready(self, request: Request) -> Response:
        """GET /ready: whether requests should be sent here."""
        if self.draining:
            return JSONResponse(schema.Health("draining"), 503)
        await self._store.ping()
        return JSONResponse(schema.Health("ready"))

    async def version(self, request: Request) -> Response:
        """GET /version."""
        return JSONResponse(self._version)

    async def metrics(self, request: Request) -> Response:
        """GET /metrics."""
        return Response(self._render_metrics(), media_type="text/plain; version=0.0.4")

    async def openapi_document(self, request: Request) -> Response:
        """GET /openapi.json."""
        return Response(self._openapi, media_type="application/json")

    async def docs(self, request: Request) -> Response:
        """GET /docs."""
        return pages.page("docs.html", problems=problems.descriptions())

    async def asset(self, request: Request) -> Response:
        """GET /web/…: the files of the pages."""
        return pages.asset(request.path_params["path"], request.headers.get("if-none-match", ""))


def _split_position(position: str) -> tuple[date, int, str]:
    """Return the day of a list of birthdays, how many days it holds, and the store's position in it.

    A cursor is no secret, and anyone can make one: a store is asked only for what it may have named itself.
    """
    found = BIRTHDAYS_POSITION.fullmatch(position)
    if found and birthday.may_be_key(found["key"]):
        with suppress(ValueError):
            return date.fromisoformat(found["day"]), int(found["days"]), found["month_day"] + found["key"]
    raise cursor.InvalidCursorError(NOT_OURS)
