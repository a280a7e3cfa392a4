"""Requests at a fixed rate, sent when they are due whether or not the ones before were answered."""

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from rehearsal.tasks import PORT

RATE = 100  # requests a second: far below what two tasks take
SLOW_SECONDS = 1.5  # that the body of a slow request takes to come
TIMEOUT_SECONDS = 10
PERSON = "/hello/Rehearsal"
BODY = b'{"dateOfBirth":"2000-02-29"}'
CUT_OFF = "cut off"
BALANCERS = {"502", "503"}  # what a load balancer answers that gets no answer, or has nobody to ask
FIXED = {"GET /version": 200, f"GET {PERSON}": 200, f"PUT {PERSON}": 204}


@dataclass(frozen=True)
class Request:
    """A request that was sent: when it was due (`time.monotonic`), how long from then on, and the answer."""

    at: float
    seconds: float
    what: str
    slow: bool
    task: str  # who answered, by the load balancer; "" if nobody did
    commit: str  # as an answer to GET /version says
    error: str  # "" if it is answered as it should
    retry_after: bool = False

    @property
    def stores(self) -> bool:
        """Whether it needs the store."""
        return self.what != "GET /version"

    @property
    def lost(self) -> bool:
        """Whether it was refused or cut off: what a wrong way to stop does, and a wrong answer is not."""
        refused = self.error in BALANCERS and not self.retry_after  # hello says when to come back
        return refused or self.error.startswith(CUT_OFF)


class Tally(NamedTuple):
    """What came of requests. `p99`: seconds, of those that are not slow by themselves."""

    requests: int
    failures: list[Request]
    p99: float

    def errors(self) -> str:
        """Say which errors there were."""
        counted = Counter(f"{one.what}: {one.error}" for one in self.failures)
        return ", ".join(f"{count}x {error}" for error, count in counted.most_common(5))


def tally(requests: Iterable[Request], commits: Mapping[str, str]) -> Tally:
    """Count; an answer with another commit than its task runs is a failure too."""
    known = list(requests)
    failures = [one for one in known if one.error or (one.commit and commits.get(one.task) != one.commit)]
    quick = sorted(one.seconds for one in known if not one.slow)
    return Tally(len(known), failures, quick[int(len(quick) * 0.99)] if quick else 0.0)


class LoadError(Exception):
    """The service does not answer before the load begins."""


class Load:
    """Sends requests to an address from `start` to `stop`; `requests` has those that came to an end.

    Of 25 requests 18 ask for the version, 5 for a person, and 2 register one, the one with a body that comes
    slowly, so that at each moment some requests are being answered.
    """

    def __init__(self, address: str, key: str = "") -> None:
        self.requests: list[Request] = []
        self._address = address
        self._headers = f"Host: {address}:{PORT}\r\nConnection: close\r\n" + (
            f"Authorization: Bearer {key}\r\n" if key else ""
        )
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), name="load", daemon=True)

    def start(self) -> None:
        """Register the person that is asked for, and begin.

        Raises:
            LoadError: that failed.
        """
        first = asyncio.run(self._send(time.monotonic(), f"PUT {PERSON}", slow=False))
        if first.error:
            raise LoadError(f"The load can't begin: {first.what} is answered by {first.error}.")
        self._thread.start()

    def stop(self) -> None:
        """Send no more, and wait for the answers that are due."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()

    async def _run(self) -> None:
        under_way: set[asyncio.Task[None]] = set()
        begin, count = time.monotonic(), 0
        while not self._stopping.is_set():
            due = begin + count / RATE
            await asyncio.sleep(due - time.monotonic())
            task = asyncio.create_task(self._note(due, count))
            under_way.add(task)
            task.add_done_callback(under_way.discard)
            count += 1
        await asyncio.gather(*under_way)

    async def _note(self, due: float, count: int) -> None:
        place = count % 25
        what = f"GET {PERSON}" if place % 5 == 1 else "GET /version"
        if place in {0, 12}:
            what = f"PUT {PERSON}"
        self.requests.append(await self._send(due, what, slow=place == 0))

    async def _send(self, due: float, what: str, *, slow: bool) -> Request:
        head, body = b"", b""
        error = ""
        try:
            async with asyncio.timeout(TIMEOUT_SECONDS):
                head, body = await self._exchange(what, slow=slow)
        except TimeoutError:
            error = f"no answer in {TIMEOUT_SECONDS} s"
        except OSError as raised:
            error = f"{CUT_OFF}: {raised}"
        lines = head.decode("latin-1").split("\r\n")
        fields = dict(line.lower().split(": ", 1) for line in lines[1:] if ": " in line)
        status = lines[0].split(" ")[1] if " " in lines[0] else f"{CUT_OFF} before the answer"
        if not error and status != str(FIXED[what]):
            error = status
        elif not error and len(body) < int(fields.get("content-length", 0)):
            error = f"{CUT_OFF} within the answer"
        commit = body.partition(b'"commit":"')[2].partition(b'"')[0].decode()
        task = fields.get("x-task", "").replace("<nosrv>", "")
        seconds = time.monotonic() - due
        return Request(due, seconds, what, slow, task, commit, error, "retry-after" in fields)

    async def _exchange(self, what: str, *, slow: bool) -> tuple[bytes, bytes]:
        reader, writer = await asyncio.open_connection(self._address, PORT)
        try:
            if what.startswith("GET"):
                writer.write(f"{what} HTTP/1.1\r\n{self._headers}\r\n".encode())
            else:
                fields = f"Content-Type: application/json\r\nContent-Length: {len(BODY)}\r\n"
                writer.write(f"{what} HTTP/1.1\r\n{self._headers}{fields}\r\n".encode() + BODY[:1])
                if slow:
                    await asyncio.sleep(SLOW_SECONDS)
                writer.write(BODY[1:])
            head, _, body = (await reader.read(-1)).partition(b"\r\n\r\n")
            return head, body
        finally:
            writer.close()
