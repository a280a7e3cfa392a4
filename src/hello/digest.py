"""A digest of people in any order, by which two stores are compared without sorting either.

It is the sum, modulo 2^256, of the SHA-256 of each person as `username,YYYY-MM-DD` in UTF-8. A
username has no comma and a date is ten characters, so no two people give the same text; the key is
made from the username, and adds nothing. A sum does not depend on the order, and, unlike XOR, two
of the same person do not cancel out. That two stores differ and digests agree by accident has odds
of 1 in 2^256; someone who chooses the people could bring it about, and nobody gains by it.
"""

from collections.abc import Iterable
from datetime import date
from hashlib import sha256

_MODULUS = 1 << 256


class Digest:
    """The count and the digest of the people added so far; the same memory for any number."""

    def __init__(self) -> None:
        self.count = 0
        self._sum = 0

    def add(self, people: Iterable[tuple[str, date]]) -> None:
        """Take in people: username and date of birth."""
        hashes = [sha256(f"{username},{born.isoformat()}".encode()).digest() for username, born in people]
        self.count += len(hashes)
        self._sum = (self._sum + sum(int.from_bytes(one, "big") for one in hashes)) % _MODULUS

    def __str__(self) -> str:
        """Return 64 hexadecimal digits."""
        return f"{self._sum:064x}"
