"""The connection's protocol, in process: bytes in, and whether what comes out is HTTP, and the same.

The same bytes must have the same answers however they are cut, and with and without the fast path.
"""

import asyncio
import json
import logging
import re
from collections.abc import Sequence
from datetime import UTC, date, datetime
from functools import cache

import msgspec
import uvicorn

from hello import problems
from hello.app import Application, create_app
from hello.birthday import Person
from hello.fast_path import FastPath
from hello.logs import JSONFormatter
from hello.problems import problem
from hello.protocol import Protocol, State
from hello.settings import Settings
from hello.stores import Entry, Page, Store

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
ZOE = Entry("zoe", "Zoe", date(1990, 4, 23))
STATUS = re.compile(rb"HTTP/1\.1 ([1-5][0-9]{2}) [A-Za-z -]+")
FIELD = re.compile(rb"([a-z-]+): ([\x20-\x7e\x80-\xff]*)")
CHUNK = re.compile(rb"([0-9a-f]+)\r\n")
CHANGING = re.compile(rb"(?m)^(x-request-id|date): .*\r\n")
LIVE = re.compile(rb"GET /+(hc|ready|metrics)|/metrics")  # counters differ from one time to the next
MALFORMED = msgspec.json.encode(problem(problems.MALFORMED))


class People(Store):
    """People in memory, of whom there is Zoe."""

    def __init__(self) -> None:
        self.entries: dict[str, Entry] = {}
        self.reset()

    def reset(self) -> None:
        """Forget everyone but Zoe."""
        self.entries = {ZOE.key: ZOE}

    async def get(self, key: str) -> Person | None:
        entry = self.entries.get(key)
        return entry and Person(entry.username, entry.born)

    async def get_many(self, keys: Sequence[str]) -> Sequence[Person | None]:
        return [await self.get(key) for key in keys]

    async def put(self, entry: Entry, *, create: bool = False) -> bool:
        if create and entry.key in self.entries:
            return False
        self.entries[entry.key] = entry
        return True

    async def put_many(self, entries: Sequence[Entry]) -> None:
        for entry in entries:
            await self.put(entry)

    async def delete(self, key: str) -> bool:
        return self.entries.pop(key, None) is not None

    async def people(self, limit: int, after: str | None = None) -> Page:
        keys = sorted(key for key in self.entries if key > (after or ""))
        chosen = [Person(*self.entries[key][1:]) for key in keys[:limit]]
        return Page(chosen, keys[limit - 1] if len(keys) > limit else None)

    async def birthdays(
        self, ranges: Sequence[tuple[str, str]], limit: int, after: str | None = None
    ) -> Page:
        return Page([], None)

    async def ping(self) -> None:
        pass

    async def close(self) -> None:
        pass


class Transport(asyncio.Transport):
    """Takes what the protocol sends; nothing waits to be sent."""

    def __init__(self) -> None:
        super().__init__({"peername": ("127.0.0.1", 50000), "sockname": ("127.0.0.1", 5000)})
        self.sent = bytearray()
        self.closing = False
        self.reading = True

    def write(self, data: bytes | bytearray | memoryview) -> None:
        assert not self.closing, "sent behind the end"
        self.sent += data

    def close(self) -> None:
        self.closing = True

    abort = close

    def is_closing(self) -> bool:
        return self.closing

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def get_write_buffer_size(self) -> int:
        return 0

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass


class Log(logging.Handler):
    """Keeps what is logged and should not be: an exception, or what is more than one printable line."""

    def __init__(self) -> None:
        super().__init__()
        self.wrong: list[str] = []
        self._form = JSONFormatter().format

    def emit(self, record: logging.LogRecord) -> None:
        line = self._form(record)
        if record.exc_info or not line.isprintable():
            self.wrong.append(line)


class Bench:
    """An application, and connections to it without a socket."""

    def __init__(self) -> None:
        self.store = People()
        self.app: Application = create_app(Settings(), self.store, clock=lambda: NOW)
        self.config = uvicorn.Config(self.app, ws="none", lifespan="off", log_config=None, access_log=False)
        self.config.load()
        self.runner = asyncio.Runner()
        self.log = Log()
        logging.getLogger().addHandler(self.log)

    def exchange(self, pieces: Sequence[bytes], fast_path: FastPath | None) -> bytes:
        """Return all that is sent for the pieces of one connection, whose client then leaves."""
        self.store.reset()
        return self.runner.run(self._exchange(pieces, fast_path))

    async def _exchange(self, pieces: Sequence[bytes], fast_path: FastPath | None) -> bytes:
        state = State(100, self.app.refused, fast_path)
        protocol = Protocol(self.config, state, {})
        transport = Transport()
        protocol.connection_made(transport)
        for piece in pieces:
            if transport.closing:
                break
            protocol.data_received(piece)
            await self._settle(state)
        await self._settle(state)
        protocol.connection_lost(None)
        await self._settle(state)
        assert not state.tasks, "a request that never ends"
        assert not self.log.wrong, self.log.wrong
        return bytes(transport.sent)

    async def _settle(self, state: State) -> None:
        for turn in range(50):  # of the loop: more than any request takes that doesn't wait for its body
            if turn > 2 and not state.tasks:
                return
            await asyncio.sleep(0)


@cache
def _bench() -> Bench:
    return Bench()


def _cut(data: bytes) -> tuple[bytes, list[bytes]]:
    """Return what is sent, and its pieces: the first bytes tell where to cut."""
    count = data[0] % 8 if data else 0
    places, sent = data[1 : 1 + count], data[1 + count :]
    position, pieces = 0, []
    for place in places:
        pieces.append(sent[position : position + place])
        position += place
    return sent, [piece for piece in [*pieces, sent[position:]] if piece]


def protocol(data: bytes) -> None:
    """Whatever comes, what is sent is HTTP, never a 500, and the same however it came and was worked on."""
    bench = _bench()
    sent, pieces = _cut(data)
    whole = bench.exchange([sent], bench.app.fast_path)
    check_http(whole, head=b"HEAD" in sent)
    if LIVE.search(sent):
        return
    assert _same(bench.exchange([sent], None)) == _same(whole), whole
    # A path beyond ASCII is taken where a request comes on its own, and refused behind others in one piece.
    if sent.partition(b"\r\n\r\n")[2].isascii():
        in_pieces = bench.exchange(pieces, bench.app.fast_path)
        if whole.endswith(MALFORMED):
            # What is wrong in a body may come when its request has been answered already.
            assert _same(in_pieces).startswith(_same(whole[: whole.rindex(b"HTTP/1.1 ")])), (whole, in_pieces)
        else:
            assert _same(in_pieces) == _same(whole), (whole, in_pieces)


def _same(answers: bytes) -> bytes:
    return CHANGING.sub(b"", answers)


def check_http(received: bytes, *, head: bool) -> None:
    """Check that these are whole answers; with `head`, some may be to HEAD, and have no body."""
    position = 0
    while position < len(received):
        end = received.index(b"\r\n\r\n", position)
        line, *lines = received[position:end].split(b"\r\n")
        position = end + 4
        status = STATUS.fullmatch(line)
        assert status, line
        assert status[1] != b"500", received
        fields: dict[bytes, bytes] = {}
        for field in lines:
            parts = FIELD.fullmatch(field)
            assert parts, field
            assert parts[1] not in fields, field
            fields[parts[1]] = parts[2]
        if status[1] in {b"100", b"204", b"304"}:
            continue
        if head and (position == len(received) or received.startswith(b"HTTP/1.1 ", position)):
            continue
        if b"content-length" in fields:
            body = received[position : position + int(fields[b"content-length"])]
            assert len(body) == int(fields[b"content-length"])
            position += len(body)
        else:
            assert fields.get(b"transfer-encoding") == b"chunked" or fields[b"connection"] == b"close", fields
            body, position = _chunks(received, position)
        if fields[b"content-type"] == b"application/problem+json":
            assert json.loads(body)["status"] == int(status[1])


def _chunks(received: bytes, position: int) -> tuple[bytes, int]:
    body = b""
    while True:
        size = CHUNK.match(received, position)
        assert size, received[position : position + 20]
        length = int(size[1], 16)
        body += received[size.end() : size.end() + length]
        position = size.end() + length + 2
        assert received[position - 2 : position] == b"\r\n"
        if not length:
            return body, position
