"""The types of what the API takes and answers: what is encoded, and what the OpenAPI document says."""

from typing import Annotated, Literal

from msgspec import Meta, Struct

Username = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=64,
        description="Letters of any script; unique under UsernameCaseMapped (RFC 8265).",
        examples=["Zoë"],
        # ECMA-262's notation, which Python's own patterns lack.
        extra_json_schema={"pattern": r"^\p{L}[\p{L}\p{M}]*$"},
    ),
]
Date = Annotated[
    str,
    Meta(
        pattern="^[0-9]{4}-[0-9]{2}-[0-9]{2}$",
        examples=["1990-04-23"],
        extra_json_schema={"format": "date"},
    ),
]
Cursor = Annotated[
    str | None, Meta(description="Give it as `after` to get the following page; null on the last.")
]


class DateOfBirth(Struct, rename="camel", forbid_unknown_fields=True):
    """What PUT takes: nothing but the date of birth, a day before today."""

    date_of_birth: Date


class Greeting(Struct):
    """Hello, and the days to the birthday."""

    message: str


class PersonRecord(Struct, rename="camel"):
    """A person as the list shows them."""

    username: Username
    date_of_birth: Date


class People(Struct):
    """A page of people."""

    people: list[PersonRecord]
    next: Cursor


class UpcomingBirthday(Struct):
    """The next birthday of one person; never the year of birth."""

    username: Username
    date: Date
    days: Annotated[int, Meta(ge=0, le=366, description="Days from today.")]


class Birthdays(Struct):
    """A page of birthdays, soonest first."""

    birthdays: list[UpcomingBirthday]
    next: Cursor


class Links(Struct):
    """Where things are."""

    greeting: Annotated[str, Meta(extra_json_schema={"format": "uri-template"})]
    people: str
    birthdays: str
    calendar: str
    docs: str
    openapi: str
    health: str
    readiness: str
    metrics: str


class Service(Struct):
    """What runs here."""

    service: Literal["hello"]
    version: str
    commit: str
    links: Links


class Version(Struct):
    """Which version runs here."""

    version: str
    commit: str


class Health(Struct):
    """State of the process."""

    status: Literal["ok", "ready", "draining"]


class Problem(Struct):
    """An error (RFC 9457): `detail` tells what to change, `type` leads to an explanation."""

    type: str
    title: str
    status: int
    detail: str
