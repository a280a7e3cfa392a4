"""HAProxy for tests, with the configuration that the documentation shows, and steady load through it."""

import re
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from pathlib import Path

from tests.support.environment import HELLO, ROOT, free_port, need, until
from tests.support.service import JSON

THREADS = 64  # a request that waits holds up one of them
PERIOD = 0.32  # seconds from one request of a thread to its next: 200 a second in all
BODY = b'{"dateOfBirth":"1990-04-23"}'


class HAProxy:
    """A HAProxy of its own, with the backend `hello` and no server in it."""

    def __init__(self, folder: Path, *, patient: bool = False) -> None:
        """Write its configuration; a `patient` one waits long for an answer."""
        self.port = free_port()
        self.socket = folder / "haproxy.sock"
        self._config = folder / "haproxy.cfg"
        shown = re.findall(r"```haproxy\n(.*?)```", (ROOT / "docs" / "discovery.md").read_text(), re.DOTALL)
        text = shown[0].replace("/run/haproxy/hello.sock", str(self.socket))
        if patient:
            text = text.replace("timeout server 3s", "timeout server 60s")
        self._config.write_text(text.replace("bind :80", f"bind 127.0.0.1:{self.port}"))
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> "HAProxy":
        """Start it, and wait until its Runtime API answers."""
        command = [need("setpriv"), "--pdeathsig", "SIGKILL", need("haproxy"), "-db", "-f", str(self._config)]
        self.process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        until(lambda: self.ask("show info"), "HAProxy to start")
        return self

    def stop(self) -> None:
        """Kill it."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def ask(self, command: str) -> str:
        """Return the Runtime API's answer, "" where there is none."""
        with suppress(OSError), closing(socket.socket(socket.AF_UNIX)) as api:
            api.connect(str(self.socket))
            api.sendall(f"{command}\n".encode())
            return b"".join(iter(lambda: api.recv(65536), b"")).decode()
        return ""

    def servers(self) -> dict[int, str]:
        """Return by port of each server what it is: UP, DOWN, MAINT, DRAIN…"""
        head, *rows = self.ask("show stat hello 4 -1").lstrip("# ").strip().splitlines() or [""]
        columns = head.split(",")
        found = [dict(zip(columns, row.split(","), strict=False)) for row in rows]
        return {int(server["addr"].rpartition(":")[2]): server["status"] for server in found}

    def up(self) -> set[int]:
        """Return the ports of the servers that requests are sent to."""
        return {port for port, status in self.servers().items() if status.startswith("UP")}


@contextmanager
def kept_in_step(haproxy: HAProxy, urls: str, prefix: str, *options: str) -> Iterator[subprocess.Popen[str]]:
    """Run `hello discover --haproxy`."""
    command = [str(HELLO), "discover", "--etcd", urls, "--etcd-prefix", prefix]
    process = subprocess.Popen(
        [*command, "--haproxy", str(haproxy.socket), *options], stderr=subprocess.PIPE, text=True
    )
    try:
        yield process
    finally:
        process.terminate()
        process.communicate(timeout=30)


@dataclass
class Load:
    """Requests to a port, at a fixed rate, until `stop`; every other one is a PUT. `trust` makes it HTTPS."""

    port: int
    host: str = "127.0.0.1"
    trust: ssl.SSLContext | None = None
    key: str = ""
    timeout: float = 30
    failures: list[str] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(number,)) for number in range(THREADS)]

    def start(self) -> "Load":
        """Begin."""
        for thread in self._threads:
            thread.start()
        return self

    def stop(self) -> None:
        """End, and wait for the answers."""
        self._ended.set()
        for thread in self._threads:
            thread.join(60)

    def __str__(self) -> str:
        """How it went."""
        failed = len(self.failures)
        return f"{len(self.seconds)} requests, {failed} failed, the longest took {max(self.seconds):.2f} s"

    def _run(self, number: int) -> None:
        due = time.monotonic() + PERIOD * number / THREADS
        count = number
        connection = (
            HTTPSConnection(self.host, self.port, timeout=self.timeout, context=self.trust)
            if self.trust
            else HTTPConnection(self.host, self.port, timeout=self.timeout)
        )
        while not self._ended.is_set():
            time.sleep(max(0.0, due - time.monotonic()))
            due = max(due + PERIOD, time.monotonic())
            count += 1
            self._ask(connection, ("GET", "PUT")[count % 2])
        connection.close()

    def _ask(self, connection: HTTPConnection, method: str) -> None:
        body, headers = (BODY, dict(JSON)) if method == "PUT" else (None, {})
        if self.key:
            headers["Authorization"] = f"Bearer {self.key}"
        start = time.monotonic()
        try:
            connection.request(method, "/hello/Zoe", body, headers)
            response = connection.getresponse()
            response.read()
        except (OSError, HTTPException) as error:
            self.failures.append(f"{method}: {error!r}")
            connection.close()
            return
        finally:
            self.seconds.append(time.monotonic() - start)
        if response.status != (204 if method == "PUT" else 200):
            self.failures.append(f"{method}: {response.status}")
