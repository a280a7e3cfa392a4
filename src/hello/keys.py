"""API keys: made at random, kept as digests, and read anew while the service runs."""

import fcntl
import hashlib
import logging
import os
import re
import secrets
import stat
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Annotated, TypeVar

import msgspec

from hello.file_state import FileState, file_state
from hello.rights import ANONYMOUS, KEY_SCOPES, TOKEN, Caller

logger = logging.getLogger("hello.keys")

PREFIX = "hello_"  # so that scanners for secrets find one that got away
SECRET_BYTES = 32
RESERVED = (ANONYMOUS, TOKEN)
NAME = "[A-Za-z0-9][A-Za-z0-9._-]{0,63}"

T = TypeVar("T")


class KeysError(Exception):
    """The entries can't be used; the message tells what is wrong where, and never holds one."""


class Entry(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """One key, as it is kept: whoever reads this can't call the service with it.

    A secret has 256 random bits, so that its plain SHA-256 digest can't be turned back (a slow hash is
    for what people think up).
    """

    name: Annotated[str, msgspec.Meta(pattern=rf"\A{NAME}\Z")]
    scopes: Annotated[tuple[str, ...], msgspec.Meta(min_length=1)]
    sha256: Annotated[str, msgspec.Meta(pattern=r"\A[0-9a-f]{64}\Z")]
    expires: datetime | None = None

    def __post_init__(self) -> None:
        if self.name in RESERVED:
            raise ValueError(f"{self.name} is no key's name: it stands for callers without one")
        for scope in self.scopes:
            if scope not in KEY_SCOPES:
                raise ValueError(f"a key's scopes are among {', '.join(KEY_SCOPES)}")
        if self.expires and self.expires.tzinfo is None:
            raise ValueError("`expires` needs its zone, as in 2027-01-31T00:00:00Z")


def new_key(name: str, scopes: Iterable[str], expires: datetime | None = None) -> tuple[str, Entry]:
    """Return a new secret, and the entry to keep of it.

    Raises:
        KeysError: a name that can't be.
    """
    if not re.fullmatch(NAME, name) or name in RESERVED:
        raise KeysError(
            "A key's name is 1 to 64 letters, digits or ._- and begins with a letter or digit;"
            f" {' and '.join(RESERVED)} stand for callers without one."
        )
    secret = PREFIX + secrets.token_urlsafe(SECRET_BYTES)
    entry = Entry(name, tuple(scopes), hashlib.sha256(secret.encode()).hexdigest(), expires)
    return secret, entry


def encode(entry: Entry) -> bytes:
    """Return the entry as JSON, on one line."""
    return msgspec.json.encode(entry)


def parse(text: bytes, source: str) -> list[Entry]:
    """Return the entries in a JSON array, or in JSON lines.

    Raises:
        KeysError: naming the source, where in it, and why.
    """
    stripped = text.strip()
    if stripped.startswith(b"["):
        return _decode(stripped, list[Entry], source)
    lines = [(number, line) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
    if not lines:
        raise KeysError(f"{source} holds no entries: `hello key new` makes one; [] stands for none.")
    return [_decode(line, Entry, f"{source}, line {number}") for number, line in lines]


def read(path: Path) -> list[Entry]:
    """Return the entries in a file; raise KeysError where they can't be had."""
    try:
        text = path.read_bytes()
    except OSError as error:
        raise KeysError(
            f"{path} can't be read: {error.strerror}. `hello key new` says what it holds."
        ) from None
    return parse(text, str(path))


def add(path: Path, entry: Entry) -> None:
    """Put an entry into a file, which is made where there is none, and is one of JSON lines then.

    The file is replaced by a whole new one of the same owner and mode, so that whoever reads it finds all
    entries or all and this; others that add to it meanwhile wait. A link stays one.

    Raises:
        KeysError: what is there can't be read, or it can't be written.
    """
    try:
        target = path.resolve()
        with _locked(target.with_name(f".{target.name}.lock")):
            entries = [*(read(target) if target.exists() and target.stat().st_size else ()), entry]
            _replace(target, b"".join(encode(each) + b"\n" for each in entries))
    except OSError as error:
        raise KeysError(f"{path} can't be written: {error.strerror}.") from None


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)  # the file stays: who waits for it holds it open


def _replace(path: Path, content: bytes) -> None:
    descriptor, new = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            with suppress(FileNotFoundError):
                old = path.stat()
                os.fchown(descriptor, old.st_uid, old.st_gid)
                os.fchmod(descriptor, stat.S_IMODE(old.st_mode))
            os.fsync(descriptor)
        Path(new).replace(path)
    except BaseException:
        Path(new).unlink(missing_ok=True)
        raise


class Keys:
    """The keys that are honoured: those of a variable, and those of a file that is read anew.

    An entry that is added to the file counts from its first use on. One that is taken away is refused
    once the file has rested for a second: a file that is being written lacks some for a moment.
    """

    def __init__(self, text: str | None, path: Path | None) -> None:
        """Read the entries; raise KeysError where they can't be had."""
        self._path = path
        self._fixed = _callers(parse(text.encode(), "HELLO_KEYS")) if text else {}
        self._callers = dict(self._fixed)
        self._taken = self._seen = file_state(path) if path else None
        self._added: FileState | None = None
        self._refused: FileState | None = None
        if path is not None:
            self._callers |= _callers(read(path))
            if path.stat().st_mode & stat.S_IWOTH:
                logger.warning("%s can be written by everyone, who can so give themselves a key", path)

    def find(self, secret: bytes) -> Caller | None:
        """Return whose secret this is, None if nobody's.

        Digests are compared, which nobody can steer a wrong secret towards: how much of it is right
        makes no difference to the time that this takes.
        """
        digest = hashlib.sha256(secret).digest()
        known = self._callers.get(digest)
        if known is None and self._add():
            known = self._callers.get(digest)
        if known is None:
            return None
        expires, caller = known
        return caller if expires is None or time.time() < expires else None

    def refresh(self) -> None:
        """Take over what the file holds, once it has rested; called each second."""
        if self._path is None:
            return
        signature, rested = file_state(self._path), self._seen
        self._seen = signature
        if signature != rested or signature in (self._taken, self._refused):
            return
        try:
            entries = read(self._path)
        except KeysError as error:
            self._refused = signature  # and said once
            logger.error("the keys in force stay: %s", error)
            return
        self._callers = self._fixed | _callers(entries)
        self._taken, self._refused = signature, None
        logger.info("keys read anew", extra={"fields": {"keys": len(self._callers)}})

    def _add(self) -> bool:
        """Take over what the file holds now, and keep what it held; return whether there is news."""
        signature = None if self._path is None else file_state(self._path)
        if self._path is None or signature in (self._taken, self._added):
            return False
        self._added = signature
        try:
            self._callers |= _callers(read(self._path))
        except KeysError:
            return False  # `refresh` says so, unless it is only half written
        self._taken = None  # what is in force is no file's: were the old one put back, that would be news
        return True


def _decode(text: bytes, kind: type[T], source: str) -> T:
    try:
        return msgspec.json.decode(text, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise KeysError(
            f'{source} is no entry such as {{"name": "ci", "scopes": ["read"], "sha256": "…"}},'
            f" which `hello key new` prints: {error}."
        ) from None


def _callers(entries: Iterable[Entry]) -> dict[bytes, tuple[float | None, Caller]]:
    return {
        bytes.fromhex(entry.sha256): (
            entry.expires.timestamp() if entry.expires else None,
            Caller.of(entry.name, entry.scopes),
        )
        for entry in entries
    }
