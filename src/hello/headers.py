"""Header fields: conditions, entity tags, content negotiation (RFC 9110)."""

import re
from collections.abc import Iterable
from hashlib import blake2b

from starlette.types import Scope

from hello.problems import UnsupportedMediaTypeError

STRICT_TRANSPORT_SECURITY = (b"strict-transport-security", b"max-age=31536000")  # RFC 6797; a year


def header(scope: Scope, name: bytes) -> bytes:
    values = [value for key, value in scope["headers"] if key == name]
    return values[0] if len(values) == 1 else b", ".join(values)


def lines(fields: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Return header fields as HTTP/1.1 sends them."""
    return b"".join(b"%b: %b\r\n" % field for field in fields)


def entity_tag(body: bytes) -> bytes:
    return b'"%s"' % blake2b(body, digest_size=8).hexdigest().encode()


def matches(condition: bytes, etag: bytes) -> bool:
    """Compare If-None-Match weakly (RFC 9110, 13.1.2)."""
    if not condition:
        return False
    return condition.strip() == b"*" or etag in [
        tag.strip().removeprefix(b"W/") for tag in condition.split(b",")
    ]


def prefers_html(accept: str) -> bool:
    """Return whether an Accept header (RFC 9110, 12.5.1) ranks text/html above application/json."""
    return _quality(accept, "text/html") > _quality(accept, "application/json")


def check_content_type(scope: Scope) -> None:
    """Raise UnsupportedMediaTypeError unless the body is declared as JSON, in UTF-8, as it is."""
    kind, *options = header(scope, b"content-type").lower().split(b";")
    charsets = [o.strip()[8:].strip(b'"') for o in options if o.strip().startswith(b"charset=")]
    encoding = header(scope, b"content-encoding").lower()
    if (
        kind.strip() != b"application/json"
        or charsets not in ([], [b"utf-8"])
        or encoding not in {b"", b"identity"}
    ):
        raise UnsupportedMediaTypeError


def _quality(accept: str, media_type: str) -> float:
    best = (0, 0.0)  # of the most specific range that matches
    ranges = ("*/*", media_type.partition("/")[0] + "/*", media_type)
    for item in accept.lower().split(","):
        name, *options = (part.strip() for part in item.split(";"))
        if name in ranges:
            quality = next((o[2:] for o in options if o.startswith("q=")), "1")
            valid = re.fullmatch(r"[01](\.[0-9]{0,3})?", quality)
            best = max(best, (ranges.index(name) + 1, float(quality) if valid else 0.0))
    return best[1]
