"""The OpenAPI 3.1 document: made from the routes and the types, with the words that neither holds.

A route without words here, or words without a route, is an error when the application is made.
"""

from collections.abc import Iterable, Sequence
from typing import Any, Protocol

import msgspec
from starlette.routing import Route

from hello import __version__, schema

Object = dict[str, Any]

_TYPES = (
    schema.DateOfBirth,
    schema.Greeting,
    schema.People,
    schema.Birthdays,
    schema.Service,
    schema.Version,
    schema.Health,
    schema.Problem,
)
_LIST_STATUSES = ("200", "400", "503")


class _Kind(Protocol):
    @property
    def status(self) -> int: ...
    @property
    def title(self) -> str: ...


def document(table: Iterable[Route], kinds: Sequence[_Kind]) -> bytes:
    """Return the document, as JSON, of the routes that are to be in it."""
    _, components = msgspec.json.schema_components(_TYPES, ref_template="#/components/schemas/{name}")
    titles: dict[int, list[str]] = {}
    for kind in kinds:
        titles.setdefault(kind.status, []).append(kind.title)
    paths: Object = {}
    words = dict(_OPERATIONS)
    for route in table:
        if not route.include_in_schema:
            continue
        item = paths.setdefault(route.path, {})
        if "{username}" in route.path:
            item["parameters"] = [_parameter("username", "path", {"$ref": "#/components/schemas/Username"})]
        for method in sorted((route.methods or set()) - {"HEAD"}):
            item[method.lower()] = _operation(words.pop((method, route.path)), titles)
    if words:
        raise LookupError(f"described, but no route: {sorted(words)}")
    components["Username"] = msgspec.json.schema(schema.Username)
    return msgspec.json.encode(
        {
            "openapi": "3.1.0",
            "info": {
                "title": "hello",
                "version": __version__,
                "summary": "Keeps dates of birth under usernames and greets by them.",
                "description": "HEAD works wherever GET does."
                " Every error is application/problem+json (RFC 9457).",
                "license": {"name": "MIT", "identifier": "MIT"},
            },
            "servers": [{"url": "/"}],
            "tags": [
                {"name": "people", "description": "Register people and greet them."},
                {"name": "birthdays", "description": "Who is next."},
                {"name": "operation", "description": "For those who run the service."},
            ],
            "paths": paths,
            "components": {"schemas": components},
        }
    )


def _operation(words: Object, titles: dict[int, list[str]]) -> Object:
    operation = {key: value for key, value in words.items() if key not in {"answers", "problems"}}
    operation["responses"] = {
        **words["answers"],
        **{
            str(status): {
                "description": "; ".join(titles[status]) + ".",
                "content": _content("Problem", "application/problem+json"),
            }
            for status in words.get("problems", ())
        },
        "default": {
            "description": "Any other error.",
            "content": _content("Problem", "application/problem+json"),
        },
    }
    return operation


def _parameter(name: str, where: str, schema_: Object, description: str = "") -> Object:
    parameter: Object = {"name": name, "in": where, "required": where == "path", "schema": schema_}
    return {**parameter, "description": description} if description else parameter


def _content(name: str, media_type: str = "application/json") -> Object:
    return {media_type: {"schema": {"$ref": f"#/components/schemas/{name}"}}}


def _json(name: str, description: str) -> Object:
    return {"description": description, "content": _content(name)}


def _text(media_type: str, description: str) -> Object:
    return {"description": description, "content": {media_type: {"schema": {"type": "string"}}}}


_TIME_ZONE = _parameter(
    "tz",
    "query",
    {"type": "string", "examples": ["Europe/Berlin"]},
    "IANA time zone that decides which day is today; the service's own setting where it is left out.",
)
_PAGING = (
    _parameter(
        "limit", "query", {"type": "integer", "minimum": 1, "maximum": 1000, "default": 100}, "People a page."
    ),
    _parameter("after", "query", {"type": "string"}, "`next` of the page before."),
)
_ETAG = {"ETag": {"schema": {"type": "string"}, "description": "Changes with the answer."}}
_SAME_NAME = {"parameters": {"username": "$request.path.username"}}
_LINKS = {
    "greet": {"operationId": "greet", **_SAME_NAME},
    "forget": {"operationId": "forget", **_SAME_NAME},
}

_OPERATIONS: dict[tuple[str, str], Object] = {
    ("GET", "/hello/{username}"): {
        "operationId": "greet",
        "tags": ["people"],
        "summary": "Say hello, with the days until the birthday",
        "parameters": [
            _TIME_ZONE,
            _parameter("If-None-Match", "header", {"type": "string"}, "An ETag; 304 while it is current."),
        ],
        "answers": {
            "200": {**_json("Greeting", "The greeting."), "headers": _ETAG},
            "304": {"description": "The greeting is still the one of the ETag.", "headers": _ETAG},
        },
        "problems": (400, 404, 503),
    },
    ("PUT", "/hello/{username}"): {
        "operationId": "register",
        "tags": ["people"],
        "summary": "Register a date of birth, or change it",
        "parameters": [
            _TIME_ZONE,
            _parameter(
                "If-None-Match",
                "header",
                {"type": "string", "enum": ["*"]},
                "`*` creates only: 412 if taken.",
            ),
        ],
        "requestBody": {"required": True, "content": _content("DateOfBirth")},
        "answers": {"204": {"description": "Stored, durably.", "links": _LINKS}},
        "problems": (400, 408, 412, 413, 415, 503),
    },
    ("DELETE", "/hello/{username}"): {
        "operationId": "forget",
        "tags": ["people"],
        "summary": "Erase a person",
        "answers": {"204": {"description": "Erased, durably."}},
        "problems": (400, 404, 503),
    },
    ("GET", "/hello"): {
        "operationId": "listPeople",
        "tags": ["people"],
        "summary": "List everyone, with dates of birth",
        "parameters": [*_PAGING],
        "answers": {"200": _json("People", "A page of people.")},
        "problems": (400, 503),
    },
    ("GET", "/birthdays"): {
        "operationId": "listBirthdays",
        "tags": ["birthdays"],
        "summary": "List whose birthday is next, soonest first",
        "parameters": [
            _parameter(
                "days",
                "query",
                {"type": "integer", "minimum": 0, "maximum": 366, "default": 30},
                "How far to look.",
            ),
            _TIME_ZONE,
            *_PAGING,
        ],
        "answers": {"200": _json("Birthdays", "A page of birthdays; the last holds `next: null`.")},
        "problems": (400, 503),
    },
    ("GET", "/birthdays.ics"): {
        "operationId": "calendar",
        "tags": ["birthdays"],
        "summary": "All birthdays as a calendar to subscribe to (RFC 5545)",
        "answers": {"200": _text("text/calendar", "One yearly event a person, without the year of birth.")},
        "problems": (503,),
    },
    ("GET", "/"): {
        "operationId": "index",
        "tags": ["operation"],
        "summary": "What runs here; the page, for browsers",
        "answers": {
            "200": {
                "description": "The overview, or the page where text/html is preferred.",
                "content": {**_content("Service"), "text/html": {"schema": {"type": "string"}}},
            }
        },
    },
    ("GET", "/hc"): {
        "operationId": "health",
        "tags": ["operation"],
        "summary": "Liveness; never touches the store",
        "answers": {"200": _json("Health", "Alive."), "503": _json("Health", "A stop has begun.")},
    },
    ("GET", "/ready"): {
        "operationId": "readiness",
        "tags": ["operation"],
        "summary": "Readiness: whether to send requests here",
        "answers": {
            "200": _json("Health", "The store answers."),
            "503": {
                "description": "The store does not answer, or a stop has begun.",
                "content": {**_content("Problem", "application/problem+json"), **_content("Health")},
            },
        },
    },
    ("GET", "/version"): {
        "operationId": "version",
        "tags": ["operation"],
        "summary": "Version and commit",
        "answers": {"200": _json("Version", "What runs here.")},
    },
    ("GET", "/metrics"): {
        "operationId": "metrics",
        "tags": ["operation"],
        "summary": "Metrics in Prometheus' text format",
        "answers": {"200": _text("text/plain", "The metrics.")},
    },
    ("GET", "/openapi.json"): {
        "operationId": "openapi",
        "tags": ["operation"],
        "summary": "This document",
        "answers": {
            "200": {
                "description": "OpenAPI 3.1.",
                "content": {"application/json": {"schema": {"type": "object"}}},
            }
        },
    },
    ("GET", "/docs"): {
        "operationId": "docs",
        "tags": ["operation"],
        "summary": "A page to try it",
        "answers": {"200": _text("text/html", "The page.")},
    },
}
