"""The service under test: `hello serve` as a process, and requests over real sockets."""

import http.client
import json
import os
import re
import signal
import socket
import sqlite3
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.support.environment import HELLO

START_SECONDS = 30
JSON = {"Content-Type": "application/json"}


@dataclass(frozen=True)
class Answer:
    """A response, read to its end."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes

    def json(self) -> Any:
        """Return the body decoded."""
        return json.loads(self.body)


def request(
    url: str,
    method: str,
    target: str,
    body: bytes | None = None,
    headers: Mapping[str, str] | None = None,
    trust: ssl.SSLContext | None = None,
) -> Answer:
    """Send one request on a connection of its own; `target` goes out as it is (percent-encode it).

    `trust` is what an https URL is asked with.
    """
    parts = urlsplit(url)
    connection = (
        http.client.HTTPSConnection(parts.hostname or "", parts.port, timeout=30, context=trust)
        if parts.scheme == "https"
        else http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=30)
    )
    try:
        connection.request(method, target, body, dict(headers or {}))
        response = connection.getresponse()
        return Answer(response.status, response.headers, response.read())
    finally:
        connection.close()


@dataclass
class Service:
    """A `hello serve` of its own process, on a free port, with a database and a log in `folder`.

    One with TLS needs `trust`: the context that its clients have.
    """

    folder: Path
    options: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    prefix: tuple[str, ...] = ()
    url: str = ""
    program: Path = HELLO
    trust: ssl.SSLContext | None = None
    process: subprocess.Popen[bytes] = field(init=False)

    @property
    def database(self) -> Path:
        """The file that people are kept in."""
        return self.folder / "hello.db"

    @property
    def port(self) -> int:
        """The port that it listens on."""
        return urlsplit(self.url).port or 0

    def start(self) -> "Service":
        """Start the process and wait until it listens."""
        arguments = [*self.prefix, str(self.program), "serve", *self.options]
        with (self.folder / "log").open("ab") as log:
            offset = log.tell()
            self.process = subprocess.Popen(
                arguments,
                stdin=subprocess.DEVNULL,
                stderr=log,
                stdout=log,
                env=self.variables(),
                cwd=self.folder,
            )
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            for entry in self.log(offset):
                in_text = re.search(r" listening url=(\S+)", entry.get("raw", ""))
                if in_text or entry.get("message") == "listening":
                    self.url = in_text[1] if in_text else entry["url"]
                    return self
            if self.process.poll() is not None:
                break
            time.sleep(0.01)
        raise AssertionError(f"the service did not start:\n{(self.folder / 'log').read_text()}")

    def variables(self) -> dict[str, str]:
        """Return the environment of its process: no HELLO_* or OTEL_* but what the test gave."""
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(("HELLO_", "OTEL_"))}
        ours = {"HELLO_PORT": "0", "HELLO_LOG": "json", "HELLO_STORE": f"sqlite:///{self.database}"}
        return {**inherited, **ours, **self.environment}

    def log(self, offset: int = 0) -> list[dict[str, Any]]:
        """Return the entries logged so far, from a byte offset; what is no JSON comes as {"raw": …}."""
        with (self.folder / "log").open("rb") as file:
            file.seek(offset)
            lines = file.read().decode().split("\n")[:-1]
        return [json.loads(line) if line.startswith("{") else {"raw": line} for line in lines]

    def request(
        self, method: str, target: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """Send one request; see `request`."""
        return request(self.url, method, target, body, headers, self.trust)

    def get(self, target: str, headers: Mapping[str, str] | None = None) -> Answer:
        """GET."""
        return self.request("GET", target, headers=headers)

    def put(self, username: str, born: str, headers: Mapping[str, str] | None = None) -> Answer:
        """Register; the username is already percent-encoded."""
        body = json.dumps({"dateOfBirth": born}).encode()
        return self.request("PUT", f"/hello/{username}", body, {**JSON, **(headers or {})})

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to its process."""
        self.process.send_signal(number)

    def stop(self) -> int:
        """End the process if it still runs, and return its exit status."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.process.kill()
        return self.process.wait()


@contextmanager
def locked(database: Path) -> Iterator[None]:
    """Lock a database, as another process that writes for long would: reads go on, writes wait."""
    with closing(sqlite3.connect(database, isolation_level=None)) as connection:
        connection.execute("BEGIN EXCLUSIVE")
        yield
        connection.execute("ROLLBACK")


def connect(service: Service) -> socket.socket:
    """Return a connection to the service, for bytes that no client would send."""
    return socket.create_connection((urlsplit(service.url).hostname or "", service.port), timeout=30)


def read_to_end(connection: socket.socket) -> bytes:
    """Return what comes until the service closes the connection; a reset is an end too."""
    received = b""
    try:
        while data := connection.recv(65536):
            received += data
    except ConnectionError:
        pass
    return received


def letters(number: int) -> str:
    """Spell a number in letters: usernames have no digits."""
    return "".join(chr(ord("a") + int(digit)) for digit in str(number))


def everyone(service: Service) -> dict[str, str]:
    """Return the date of birth by username, from the pages of the list."""
    found: dict[str, str] = {}
    target = "/hello?limit=1000"
    while True:
        page = service.get(target).json()
        found |= {person["username"]: person["dateOfBirth"] for person in page["people"]}
        if page["next"] is None:
            return found
        target = f"/hello?limit=1000&after={page['next']}"


def raw_put(username: str, born: date, *extra: str) -> bytes:
    """Return a PUT as it goes over the wire."""
    body = json.dumps({"dateOfBirth": born.isoformat()})
    fields = ["Host: x", "Content-Type: application/json", f"Content-Length: {len(body)}", *extra]
    return "\r\n".join([f"PUT /hello/{username} HTTP/1.1", *fields, "", body]).encode()


@contextmanager
def writing(service: Service) -> Iterator[list[str]]:
    """Register and erase people all the while, and yield the names of those who are there, by 204."""
    done = threading.Event()
    acknowledged: list[str] = []
    statuses: set[int] = set()

    def write(own: str) -> None:
        number = 0
        while not done.is_set():
            name = f"{own}{letters(number)}"
            statuses.add(service.put(name, "1990-04-23").status)
            statuses.add(service.put(f"{name}x", "1990-04-23").status)
            statuses.add(service.request("DELETE", f"/hello/{name}x").status)
            acknowledged.append(name)
            number += 1

    threads = [threading.Thread(target=write, args=(f"{letters(n)}q",)) for n in range(WRITERS)]
    for thread in threads:
        thread.start()
    try:
        yield acknowledged
    finally:
        done.set()
        for thread in threads:
            thread.join()
    assert statuses == {204}, "nobody was disturbed"


def workers(service: Service) -> list[int]:
    """Return the process ids that have logged that they listen, the oldest first."""
    return [entry["pid"] for entry in service.log() if entry.get("message") == "listening"]


def messages(service: Service) -> list[str]:
    """Return what was logged, save the requests."""
    return [entry.get("message", "") for entry in service.log() if entry.get("message") != "request"]


WRITERS = 4


def fill(path: Path) -> None:
    """Write to a file until its disk is full."""
    with path.open("wb", buffering=0) as file, pytest.raises(OSError, match="No space left"):
        for _ in iter(lambda: file.write(b"x" * 4096), 0):
            pass
