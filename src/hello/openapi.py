"""The OpenAPI 3.1 document: made from the routes and the types, with the words that neither holds.

A route without words here, or words without a route, is an error when the application is made.
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any

import msgspec
from starlette.routing import Route

from hello import __version__, schema
from hello.problems import Kind, problem
from hello.rights import KEY_IN_QUERY

Object = dict[str, Any]

PROBLEM = "application/problem+json"

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


def document(
    table: Iterable[Route], kinds: Sequence[Kind], needs: Mapping[tuple[str, str], str] | None = None
) -> bytes:
    """Return the document, as JSON, of the routes that are to be in it.

    Args:
        table: the routes.
        kinds: all kinds of errors.
        needs: the scope that a route and method take, of a service that asks who calls.

    Raises:
        LookupError: a route without words, or words without a route.
    """
    _, components = msgspec.json.schema_components(_TYPES, ref_template="#/components/schemas/{name}")
    by_slug = {kind.slug: kind for kind in kinds}
    paths: Object = {}
    words = dict(_OPERATIONS)
    for route in table:
        if not route.include_in_schema:
            continue
        item = paths.setdefault(route.path, {})
        if "{username}" in route.path:
            item["parameters"] = [_parameter("username", "path", {"$ref": "#/components/schemas/Username"})]
        for method in sorted((route.methods or set()) - {"HEAD"}):
            if (method, route.path) not in words:
                raise LookupError(f"a route that is not described: {method} {route.path}")
            scope = (needs or {}).get((route.path, method))
            item[method.lower()] = _operation(
                words.pop((method, route.path)), by_slug, scope, route.path in KEY_IN_QUERY
            )
    if words:
        raise LookupError(f"described, but no route: {sorted(words)}")
    specific = {slug for operation in _OPERATIONS.values() for slug in operation.get("problems", ())}
    if needs is not None:
        specific |= set(_OF_RIGHTS)
    general = [kind for kind in kinds if kind.slug not in specific]
    components["Username"] = msgspec.json.schema(schema.Username)
    return msgspec.json.encode(
        {
            "openapi": "3.1.0",
            "info": {
                "title": "hello",
                "version": __version__,
                "summary": "Keeps dates of birth under usernames and greets by them.",
                "description": "HEAD works wherever GET does. Every error is application/problem+json"
                " (RFC 9457). Every answer has an `X-Request-ID`: the request's own where it has one of 1"
                " to 128 letters, digits or `._:/+=@-`.",
                "license": {"name": "MIT", "identifier": "MIT"},
            },
            "servers": [{"url": "/"}],
            "tags": [
                {"name": "people", "description": "Register people and greet them."},
                {"name": "birthdays", "description": "Who is next."},
                {"name": "operation", "description": "For those who run the service."},
            ],
            "paths": paths,
            "components": {
                **({} if needs is None else {"securitySchemes": _SCHEMES}),
                "schemas": components,
                "responses": {"Problem": {"description": "Any other error.", **_problems(general)}},
                "examples": {
                    kind.slug: {"summary": kind.title, "value": problem(kind)} for kind in sorted(kinds)
                },
            },
        }
    )


def _operation(words: Object, kinds: Mapping[str, Kind], scope: str | None, key_in_query: bool) -> Object:
    operation = {key: value for key, value in words.items() if key not in {"answers", "problems"}}
    operation["responses"] = dict(words["answers"])
    if scope is not None:
        also = [{"keyInQuery": [scope]}] if key_in_query else []
        operation["security"] = [{"bearer": [scope]}, *also]
    slugs = (*words.get("problems", ()), *(_OF_RIGHTS if scope is not None else ()))
    own = sorted({kinds[slug] for slug in slugs})
    for status, group in groupby(own, lambda kind: kind.status):
        answer = _problem_answer(list(group))
        also = operation["responses"].get(str(status), {})
        content = {**also.get("content", {}), **answer["content"]}
        operation["responses"][str(status)] = {**answer, **also, "content": content}
    operation["responses"]["default"] = {"$ref": "#/components/responses/Problem"}
    return operation


def _problem_answer(kinds: Sequence[Kind]) -> Object:
    answer: Object = {"description": "; ".join(kind.title for kind in kinds) + ".", **_problems(kinds)}
    return {**answer, "headers": _RETRY_AFTER} if kinds[0].status == 503 else answer


def _problems(kinds: Iterable[Kind]) -> Object:
    examples = {kind.slug: {"$ref": f"#/components/examples/{kind.slug}"} for kind in kinds}
    content = _content("Problem", PROBLEM)
    content[PROBLEM]["examples"] = examples
    return {"content": content}


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
    _parameter(
        "after", "query", {"type": "string", "pattern": "^[A-Za-z0-9_-]{10,}$"}, "`next` of the page before."
    ),
)
_ETAG = {"ETag": {"schema": {"type": "string"}, "description": "Changes with the answer."}}
_RETRY_AFTER = {"Retry-After": {"schema": {"type": "integer"}, "description": "Seconds to wait."}}
_SAME_NAME = {"parameters": {"username": "$request.path.username"}}
_GREET = {"greet": {"operationId": "greet", **_SAME_NAME}}
_FORGET = {"forget": {"operationId": "forget", **_SAME_NAME}}
_REGISTER = {"register": {"operationId": "register", **_SAME_NAME}}
_FIRST = {
    "first": {
        "operationId": "greet",
        "parameters": {"username": "$response.body#/people/0/username"},
        "description": "Where anyone is on the page.",
    }
}
_SCHEMES: Object = {
    "bearer": {
        "type": "http",
        "scheme": "bearer",
        "description": "An API key, or a token (JWT) of the issuer that the service trusts.",
    },
    "keyInQuery": {
        "type": "apiKey",
        "in": "query",
        "name": "key",
        "description": "An API key, for calendar programs, which can't send header fields.",
    },
}
_OF_RIGHTS = ("unauthorized", "forbidden", "issuer-unavailable")
_UNAVAILABLE = ("overloaded", "stopped", "store-unavailable")


def _next_page(operation: str) -> Object:
    link = {
        "operationId": operation,
        "parameters": {"after": "$response.body#/next"},
        "description": "Unless `next` is null; the other parameters as before.",
    }
    return {"next": link}


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
            "200": {
                **_json("Greeting", "The greeting."),
                "headers": _ETAG,
                "links": {**_REGISTER, **_FORGET},
            },
            "304": {"description": "The greeting is still the one of the ETag.", "headers": _ETAG},
        },
        "problems": ("username", "time-zone", "parameter", "unknown-name", *_UNAVAILABLE),
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
        "answers": {"204": {"description": "Stored, durably.", "links": {**_GREET, **_FORGET}}},
        "problems": (
            "username",
            "body",
            "date-of-birth",
            "time-zone",
            "parameter",
            "precondition",
            "slow",
            "name-taken",
            "body-too-large",
            "media-type",
            *_UNAVAILABLE,
        ),
    },
    ("DELETE", "/hello/{username}"): {
        "operationId": "forget",
        "tags": ["people"],
        "summary": "Erase a person",
        "answers": {"204": {"description": "Erased, durably.", "links": _REGISTER}},
        "problems": ("username", "precondition", "unknown-name", *_UNAVAILABLE),
    },
    ("GET", "/hello"): {
        "operationId": "listPeople",
        "tags": ["people"],
        "summary": "List everyone, with dates of birth",
        "parameters": [*_PAGING],
        "answers": {
            "200": {
                **_json("People", "A page of people; the last has `next: null`."),
                "links": {**_next_page("listPeople"), **_FIRST},
            }
        },
        "problems": ("parameter", "cursor", *_UNAVAILABLE),
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
        "answers": {
            "200": {
                **_json("Birthdays", "A page of birthdays; the last has `next: null`."),
                "links": _next_page("listBirthdays"),
            }
        },
        "problems": ("parameter", "cursor", "time-zone", *_UNAVAILABLE),
    },
    ("GET", "/birthdays.ics"): {
        "operationId": "calendar",
        "tags": ["birthdays"],
        "summary": "All birthdays as a calendar to subscribe to (RFC 5545)",
        "answers": {"200": _text("text/calendar", "One yearly event a person, without the year of birth.")},
        "problems": _UNAVAILABLE,
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
        "problems": ("overloaded",),
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
            "503": _json("Health", "The store does not answer, or a stop has begun."),
        },
        "problems": _UNAVAILABLE,
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
        "problems": ("overloaded",),
    },
    ("GET", "/docs"): {
        "operationId": "docs",
        "tags": ["operation"],
        "summary": "A page to try it",
        "answers": {"200": _text("text/html", "The page.")},
        "problems": ("overloaded",),
    },
}
