"""Cursors: a store's position in a list, as text for URLs that tells when it was altered."""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from hashlib import blake2b

_DIGEST = 6  # bytes; against slips and curiosity: a cursor gives no right that the list doesn't


class InvalidCursorError(ValueError):
    """The text is no cursor of this list."""


def encode(kind: str, position: str) -> str:
    """Return the cursor for a position in the list `kind`."""
    payload = position.encode()
    return urlsafe_b64encode(_digest(kind, payload) + payload).rstrip(b"=").decode()


def decode(kind: str, cursor: str) -> str:
    """Return the position.

    Raises:
        InvalidCursorError: altered, cut, or a cursor of another list.
    """
    try:
        raw = urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
        position = raw[_DIGEST:].decode()
    except ValueError:  # not base64, or not UTF-8
        position = ""
    # Encoded again, so that no second spelling of a cursor is taken.
    if not position or encode(kind, position) != cursor:
        raise InvalidCursorError(
            "This is not a cursor of this list; give the `next` of the page before, unchanged."
        )
    return position


def _digest(kind: str, payload: bytes) -> bytes:
    return blake2b(payload, digest_size=_DIGEST, person=kind.encode()).digest()
