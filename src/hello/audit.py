"""The audit log: who changed whom, and when, without dates of birth. One JSON object a line.

A line is written after the store's answer and before the request's, by one write to a file opened for
appending, so that processes may share the file. It is not synced: a machine that fails may lose the last
lines.
"""

import logging
import os
import re
import stat
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple, Self

import msgspec

from hello.usage import UsageError

if TYPE_CHECKING:  # its library must not be loaded before `workers` has set the environment up
    from hello.observability import Metrics

logger = logging.getLogger("hello.audit")

Action = Literal["create", "put", "delete"]
Outcome = Literal["done", "unknown"]  # unknown: the store answered with an error, and may have done it

# Legal within JSON, and still able to break a line or to deceive at a terminal.
_DECEPTIVE = re.compile("[\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069]")
_encode = msgspec.json.Encoder().encode_lines


class Change(NamedTuple):
    """A change of a person that the store was asked for."""

    request_id: bytes
    caller: str
    address: str  # that the request came from
    action: Action
    key: str


class _Line(msgspec.Struct):
    time: str
    request_id: str
    caller: str
    address: str
    action: Action
    username: str
    outcome: Outcome


class AuditLog:
    """Appends to a file. What can't be written is counted and logged, and stops nothing."""

    def __init__(
        self, path: Path, metrics: "Metrics", clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        """Open the file.

        Raises:
            UsageError: it can't be written.
        """
        self._path = path
        self._metrics = metrics
        self._clock = clock
        self._descriptor = open_file(path)
        self._troubles: set[str] = set()  # those that were logged, and are not over
        self._cut = False  # the last line that was written is not whole

    @classmethod
    def open(cls, path: Path | None, metrics: "Metrics") -> Self | None:
        """Open the log where one is asked for; see `__init__`."""
        return cls(path, metrics) if path is not None else None

    def record(self, changes: Sequence[Change], outcome: Outcome) -> None:
        """Write a line for each change, all at once."""
        time = self._clock().astimezone(UTC).isoformat(timespec="milliseconds")
        data = _encode(
            [
                _Line(
                    time,
                    request_id.decode(),
                    caller,
                    address,
                    action,
                    key,
                    outcome,
                )
                for request_id, caller, address, action, key in changes
            ]
        )
        if not data.isascii() or b"\x7f" in data:  # mostly nothing has to be looked for
            data = _DECEPTIVE.sub(lambda match: f"\\u{ord(match[0]):04x}", data.decode()).encode()
        try:
            self._write(b"\n" + data if self._cut else data)
        except OSError as error:
            self._metrics.audit_failures.inc(len(changes))
            self._trouble("write", f"can't be written: {error.strerror}; changes are missing in it")
        else:
            self._over("write")

    async def follow(self, changing: Awaitable[bool], change: Change) -> bool:
        """Await a change, and record how it ended; False says that it was refused, and so none."""
        try:
            done = await changing
        except BaseException:  # also where the stop's time limit ends the wait
            self.record([change], "unknown")
            raise
        if done:
            self.record([change], "done")
        return done

    def refresh(self) -> None:
        """Open the file anew if it was renamed or removed, as logrotate does; called each second."""
        try:
            there, ours = self._path.stat(), os.fstat(self._descriptor)
            if (there.st_dev, there.st_ino) == (ours.st_dev, ours.st_ino):
                return
        except OSError:
            pass  # not there, mostly; opening it tells what else
        try:
            descriptor = open_file(self._path)
        except UsageError as error:
            self._trouble("open", f"was moved, and goes on where it is now. {error}")
            return
        self._over("open")
        os.close(self._descriptor)
        self._descriptor = descriptor
        self._cut = False

    def close(self) -> None:
        """Let go of the file."""
        os.close(self._descriptor)

    def _write(self, data: bytes) -> None:
        rest = data
        try:
            while rest:  # mostly once: a disk that gets full takes a part
                rest = rest[os.write(self._descriptor, rest) :]
        finally:
            if len(rest) < len(data):
                self._cut = bool(rest)

    def _trouble(self, what: str, reason: str) -> None:
        if what not in self._troubles:  # else each request would say so
            self._troubles.add(what)
            logger.error("the audit log %s %s", self._path, reason)

    def _over(self, what: str) -> None:
        if what in self._troubles:
            self._troubles.discard(what)
            logger.warning("the audit log %s is written again", self._path)


def open_file(path: Path) -> int:
    """Open the file for appending, or make it, for its owner alone; return the descriptor.

    Raises:
        UsageError: it can't be written.
    """
    try:
        # Not waiting for a reader, where it is a pipe.
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
        descriptor = os.open(path, flags, 0o600)
    except OSError as error:
        raise UsageError(f"The audit log {path} can't be written: {error.strerror}.") from error
    if stat.S_ISFIFO(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise UsageError(f"The audit log {path} is a pipe; name a file.")
    return descriptor
