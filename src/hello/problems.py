"""Errors over HTTP: what handlers raise, and the one table that makes answers of it (RFC 9457)."""

import html
import re
from collections.abc import Mapping
from typing import NamedTuple

import msgspec

from hello.birthday import InvalidDateError, InvalidUsernameError, UnknownTimeZoneError
from hello.cursor import InvalidCursorError
from hello.rights import IssuerUnavailableError
from hello.schema import Problem
from hello.stores import StoreError

RETRY_AFTER = b"1"

Fields = list[tuple[bytes, bytes]]

_NEED_CREDENTIALS = "Send `Authorization: Bearer` with a key or a token of this service."


class NotFoundError(Exception):
    """There is nothing at this path."""


class UnknownNameError(Exception):
    """Nobody is registered under this username."""


class NameTakenError(Exception):
    """The username is taken, and the request was to create only."""


class InvalidParameterError(ValueError):
    """A query parameter can't be used."""


class InvalidBodyError(ValueError):
    """The body is not the JSON that is asked for."""


class UnsupportedMediaTypeError(Exception):
    """The body is not declared as JSON."""


class UnsupportedPreconditionError(Exception):
    """A conditional header that this resource does not understand."""


class AnswerWithHeadersError(Exception):
    """An error that the answer has header fields of its own for."""

    def __init__(self, detail: str, headers: Fields) -> None:
        super().__init__(detail)
        self.headers = headers


class MethodNotAllowedError(AnswerWithHeadersError):
    """The resource has no such method; `allow` lists those it has."""

    def __init__(self, allow: str) -> None:
        super().__init__(f"Use one of: {allow}.", [(b"allow", allow.encode())])


class UnauthorizedError(AnswerWithHeadersError):
    """There are no credentials, or with a reason they are wrong (RFC 6750, 3)."""

    def __init__(self, wrong: str = "") -> None:
        detail = f"{wrong} {_NEED_CREDENTIALS}" if wrong else _NEED_CREDENTIALS
        challenge = b'Bearer error="invalid_token"' if wrong else b"Bearer"
        super().__init__(detail, [(b"www-authenticate", challenge)])


class ForbiddenError(AnswerWithHeadersError):
    """The caller is known, and lacks the scope."""

    def __init__(self, scope: str, *, own_only: bool = False) -> None:
        detail = f"This takes the scope `{scope}`, which your key or token lacks."
        if own_only:
            detail += " With `self` it is open for your own username alone."
        challenge = f'Bearer error="insufficient_scope", scope="{scope}"'
        super().__init__(detail, [(b"www-authenticate", challenge.encode())])


class TooManyRequestsError(AnswerWithHeadersError):
    """A limit on the rate of requests is reached."""

    def __init__(self, limit: str, retry_after: int, headers: Fields) -> None:
        """`limit` is the name of what ran out; try again after so many seconds."""
        super().__init__(
            f"The limit `{limit}` is reached; try again in {retry_after} s.",
            [(b"retry-after", b"%d" % retry_after), *headers],
        )


class MisdirectedError(Exception):
    """The request is for a host that this service is not."""


class ClientGoneError(Exception):
    """The client left before its request was whole; nobody is there to be answered."""


class OverloadedError(Exception):
    """More requests are being worked on than the settings allow."""


class BodyTooLargeError(Exception):
    """The body is longer than any that is asked for."""


class SlowBodyError(Exception):
    """The body did not arrive in time."""


class StoppedError(Exception):
    """The process stops, and the request did not finish within the time that it had."""


class Kind(NamedTuple):
    """One kind of error: how it is answered, and how it is explained on /docs."""

    status: int
    slug: str
    title: str
    explanation: str


UNEXPECTED = Kind(
    500,
    "unexpected",
    "Something went wrong here",
    "A defect of this service; the log has it under the request id.",
)

KINDS: Mapping[type[BaseException], Kind] = {
    InvalidUsernameError: Kind(
        400, "username", "Not a username", "A username is 1 to 64 letters of any script, and nothing else."
    ),
    InvalidDateError: Kind(
        400,
        "date-of-birth",
        "Not a date of birth",
        "A day of the calendar before today, written `YYYY-MM-DD`.",
    ),
    UnknownTimeZoneError: Kind(
        400, "time-zone", "Unknown time zone", "`tz` takes an IANA name such as `Europe/Berlin`."
    ),
    InvalidCursorError: Kind(
        400, "cursor", "Not a cursor", "`after` takes the `next` of the page before, unchanged."
    ),
    InvalidParameterError: Kind(
        400, "parameter", "Not a parameter's value", "A query parameter is out of range, or given twice."
    ),
    InvalidBodyError: Kind(
        400, "body", "Not the body asked for", 'PUT takes `{"dateOfBirth": "YYYY-MM-DD"}` and nothing else.'
    ),
    UnsupportedPreconditionError: Kind(
        400,
        "precondition",
        "Unsupported precondition",
        "PUT understands `If-None-Match: *`, and no other condition; DELETE none.",
    ),
    UnauthorizedError: Kind(
        401,
        "unauthorized",
        "Not authenticated",
        "Send the header `Authorization: Bearer …` with an API key, or with a token of the issuer that this"
        " service trusts. Calendar programs give a key as `/birthdays.ics?key=…`.",
    ),
    ForbiddenError: Kind(
        403, "forbidden", "Scope missing", "The key or token is good, and lacks the scope that this takes."
    ),
    NotFoundError: Kind(404, "path", "No such path", "The document `/openapi.json` lists the paths."),
    UnknownNameError: Kind(
        404, "unknown-name", "Unknown username", "Nobody has registered under this username."
    ),
    MethodNotAllowedError: Kind(
        405, "method", "Method not allowed", "The header `Allow` lists what may be done with this path."
    ),
    SlowBodyError: Kind(408, "slow", "Request too slow", "The request did not arrive within the time limit."),
    NameTakenError: Kind(
        412,
        "name-taken",
        "Username taken",
        "`If-None-Match: *` only creates, and somebody has this username.",
    ),
    BodyTooLargeError: Kind(413, "body-too-large", "Body too large", "A body is at most 4096 bytes."),
    UnsupportedMediaTypeError: Kind(
        415, "media-type", "Not declared as JSON", "PUT needs the header `Content-Type: application/json`."
    ),
    MisdirectedError: Kind(
        421,
        "host",
        "Not this host",
        "Without keys this service answers on the machine itself alone, under its address or localhost:"
        " another name may be a web page's that wants to read what is here. `--open` lets any name in.",
    ),
    TooManyRequestsError: Kind(
        429,
        "rate",
        "Too many requests",
        "Try again after the seconds in `Retry-After`; `RateLimit-Policy` tells how many may come.",
    ),
    IssuerUnavailableError: Kind(
        503,
        "issuer-unavailable",
        "The issuer of tokens does not answer",
        "Your token can't be checked now. Try again after the seconds in `Retry-After`.",
    ),
    OverloadedError: Kind(
        503, "overloaded", "Too many requests at once", "Try again after the seconds in `Retry-After`."
    ),
    StoppedError: Kind(
        503,
        "stopped",
        "Stopped before the answer",
        "This process had to stop. Try again: a PUT or DELETE can be repeated safely.",
    ),
    StoreError: Kind(
        503,
        "store-unavailable",
        "The store does not answer",
        "What needs the store can't be answered now. Try again after the seconds in `Retry-After`;"
        " a PUT or DELETE may have been done nevertheless, and can be repeated safely.",
    ),
}
# Answered by the server, before there is a request that the application could see.
MALFORMED = Kind(400, "malformed", "Not an HTTP request", "The bytes received are no request of HTTP/1.1.")
URI_TOO_LONG = Kind(414, "uri-too-long", "Path too long", "Path and query are at most 8192 bytes.")
HEADERS_TOO_LARGE = Kind(
    431,
    "headers-too-large",
    "Header too large",
    "A request has at most 100 header fields, of 32768 bytes in all.",
)
ALL_KINDS = (*KINDS.values(), MALFORMED, URI_TOO_LONG, HEADERS_TOO_LARGE, UNEXPECTED)


def kind_of(error: BaseException) -> Kind:
    """Return the table's entry for an error, or for the nearest class that it is of."""
    return next((KINDS[known] for known in type(error).__mro__ if known in KINDS), UNEXPECTED)


def problem(kind: Kind, detail: str = "") -> Problem:
    """Return the problem document of an error; without a detail of its own, with the explanation."""
    return Problem(f"/docs#{kind.slug}", kind.title, kind.status, detail or kind.explanation)


def answer(kind: Kind, detail: str = "") -> tuple[list[tuple[bytes, bytes]], bytes]:
    """Return header fields and body of an error's answer (RFC 9457)."""
    body = msgspec.json.encode(problem(kind, detail))
    headers = [
        (b"content-type", b"application/problem+json"),
        (b"content-length", b"%d" % len(body)),
    ]
    if kind.status == 503:
        headers.append((b"retry-after", RETRY_AFTER))
    return headers, body


def descriptions() -> str:
    """Return the explanations as HTML, under the ids that an error's `type` leads to."""
    return "\n".join(
        f'<dt id="{kind.slug}">{kind.status} {html.escape(kind.title)}</dt>\n'
        f"<dd>{_in_html(kind.explanation)}</dd>"
        for kind in sorted(ALL_KINDS)
    )


def _in_html(text: str) -> str:
    return re.sub("`([^`]+)`", r"<code>\1</code>", html.escape(text))
