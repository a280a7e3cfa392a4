"""etcd for tests: clusters of the machine's own binary on loopback, and links to it that can be cut."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
from base64 import b64decode, b64encode
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from http.client import HTTPConnection, HTTPException
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from tests.support.certificates import Authority
from tests.support.environment import HELLO, free_port, need, until
from tests.support.service import Service

ROOT_PASSWORD = "s3cret/root"


class Member:
    """One etcd. It ends with the thread that started it."""

    def __init__(self, cluster: "Cluster", name: str) -> None:
        self.name = name
        self.port = free_port()
        self.peer = f"http://127.0.0.1:{free_port()}"
        self.data = cluster.folder / name
        self._cluster = cluster
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """The URL for clients."""
        return f"{self._cluster.scheme}://127.0.0.1:{self.port}"

    def start(self, state: str = "new") -> None:
        """Start it, and wait for nothing."""
        members = ",".join(f"{member.name}={member.peer}" for member in self._cluster.members)
        with (self._cluster.folder / f"{self.name}.log").open("ab") as log:
            self.process = subprocess.Popen(
                [
                    need("setpriv"), "--pdeathsig", "SIGKILL", need("etcd"),
                    "--name", self.name, "--data-dir", str(self.data),
                    "--listen-client-urls", self.url, "--advertise-client-urls", self.url,
                    "--listen-peer-urls", self.peer, "--initial-advertise-peer-urls", self.peer,
                    "--initial-cluster", members, "--initial-cluster-state", state,
                    "--bcrypt-cost", "4", "--logger", "zap", *self._cluster.options,
                ],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        assert self.process is not None
        self.process.send_signal(number)

    def kill(self) -> None:
        """End it with SIGKILL, if it runs."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None


def _ask(member: Member, path: str, body: str | None = None) -> dict[str, Any]:
    """Return the answer of a member without TLS, {} if it gives none or an error."""
    with closing(HTTPConnection("127.0.0.1", member.port, timeout=3)) as connection:
        try:
            connection.request("POST" if body else "GET", path, body)
            response = connection.getresponse()
            answer: dict[str, Any] = json.loads(response.read())
        except (OSError, HTTPException, ValueError):
            return {}
    return answer if response.status == 200 else {}


class Cluster:
    """Members that elect a leader; `options` are flags for each of them."""

    def __init__(self, size: int = 3, *options: str, authority: Authority | None = None) -> None:
        """Make it; `start` starts it. With an authority it speaks TLS, and its clients need certificates."""
        self.folder = Path(tempfile.mkdtemp(prefix="hello-etcd-"))
        self.options = options
        self.scheme = "http"
        self.user = ""
        self._tls: tuple[str, ...] = ()
        if authority is not None:
            self.scheme = "https"
            server, client = authority.server("etcd", also_client=True), authority.client("etcdctl")
            self.options += ("--cert-file", str(server.cert), "--key-file", str(server.key),
                             "--client-cert-auth", "--trusted-ca-file", str(authority.file))  # fmt: skip
            self._tls = (
                "--cacert",
                str(authority.file),
                "--cert",
                str(client.cert),
                "--key",
                str(client.key),
            )
        self._names = count(1)
        self.members: list[Member] = []
        self.members = [Member(self, f"m{next(self._names)}") for _ in range(size)]

    @property
    def urls(self) -> str:
        """The value of HELLO_ETCD."""
        return ",".join(member.url for member in self.members)

    def start(self) -> "Cluster":
        """Start all members that don't run, wake those that are frozen, and wait until they agree."""
        for member in self.members:
            if member.process is None:
                member.start("existing" if member.data.exists() else "new")
            else:
                member.signal(signal.SIGCONT)
        until(lambda: all(self.healthy(member) for member in self.members), "etcd to agree", 60)
        return self

    def healthy(self, member: Member) -> bool:
        """Return whether the member answers, with a quorum behind it."""
        if self.scheme == "https":
            return self.ctl("endpoint", "health", member=member, check=False) != ""
        return bool(_ask(member, "/health"))

    def leader(self) -> Member:
        """Return the leader."""
        for member in self.members:
            if status := self.ctl("endpoint", "status", "-w", "json", member=member, check=False):
                told = json.loads(status)[0]["Status"]
                if told["leader"] == told["header"]["member_id"]:
                    return member
        raise AssertionError("there is no leader")

    def replace(self, member: Member) -> None:
        """Take a member out for good, its data too, and have a new one in its place."""
        listed = json.loads(self.ctl("member", "list", "-w", "json"))["members"]
        number = next(m["ID"] for m in listed if m["name"] == member.name)
        member.kill()
        shutil.rmtree(member.data)
        self.members.remove(member)
        self.ctl("member", "remove", f"{number:x}")
        new = Member(self, f"m{next(self._names)}")
        # Refused until those that are left have been in touch for a while.
        until(
            lambda: self.ctl("member", "add", new.name, "--peer-urls", new.peer, check=False),
            "the new member to be let in",
        )
        self.members.append(new)
        new.start("existing")
        until(lambda: self.healthy(new), "the new member", 60)

    def get(self, prefix: str) -> dict[str, Any]:
        """Return the records under a prefix: the value decoded, with the lease beside it."""
        listed = self._range(f"{prefix}/")
        return {
            b64decode(pair["key"]).decode().removeprefix(f"{prefix}/"): {
                "lease": int(pair.get("lease", 0)), **json.loads(b64decode(pair["value"])),
            }
            for pair in listed.get("kvs", ())
        }  # fmt: skip

    def _range(self, prefix: str) -> dict[str, Any]:
        """Return etcd's answer for a prefix; tests poll it, and a process for each look would cost more."""
        if self.scheme == "https":
            found: dict[str, Any] = json.loads(self.ctl("get", "--prefix", prefix, "-w", "json"))
            return found
        end = prefix[:-1] + chr(ord(prefix[-1]) + 1)
        keys = {"key": prefix, "range_end": end}
        body = json.dumps({name: b64encode(key.encode()).decode() for name, key in keys.items()})
        for member in self.members:
            if found := _ask(member, "/v3/kv/range", body):
                return found
        raise AssertionError("no member of etcd answers")

    def ctl(self, *arguments: str, member: Member | None = None, check: bool = True, stdin: str = "") -> str:
        """Run etcdctl, on one member or on any; return what it prints, "" where it failed."""
        urls = member.url if member else self.urls
        command = ["timeout", "10", need("etcdctl"), "--endpoints", urls, *self._tls]
        if self.user:
            command += ["--user", self.user]
        done = subprocess.run(
            [*command, "--dial-timeout", "2s", "--command-timeout", "3s", *arguments],
            env={**os.environ, "ETCDCTL_API": "3"}, capture_output=True, text=True, input=stdin, check=False,
        )  # fmt: skip
        assert done.returncode == 0 or not check, done.stderr
        return (done.stdout or done.stderr) if done.returncode == 0 else ""

    def enable_auth(self) -> None:
        """Have etcd ask who its clients are: from now on `ctl` is root."""
        self.ctl("user", "add", f"root:{ROOT_PASSWORD}")
        self.ctl("user", "grant-role", "root", "root")
        self.ctl("auth", "enable")
        self.user = f"root:{ROOT_PASSWORD}"

    def add_user(self, name: str, password: str, prefix: str, kind: str = "readwrite") -> None:
        """Add a user that may do so much with the keys under a prefix."""
        self.ctl("role", "add", name)
        self.ctl("role", "grant-permission", name, "--prefix=true", kind, f"{prefix}/")
        self.ctl("user", "add", f"{name}:{password}")
        self.ctl("user", "grant-role", name, name)

    def remove(self) -> None:
        """Stop all members, and remove what they wrote."""
        for member in self.members:
            member.kill()
        shutil.rmtree(self.folder)


class Link:
    """A way to a port that can be cut: then nothing comes through, as where packets are dropped."""

    def __init__(self, port: int, cut_at: bytes | None = None) -> None:
        """Lead to a port of loopback; a request with `cut_at` is the last thing to come through."""
        self._target = port
        self._cut_at = cut_at
        self._open = threading.Event()
        self._open.set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._sockets: list[socket.socket] = [self._listener]
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        """The URL of what is behind it."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def is_cut(self) -> bool:
        """Whether nothing comes through."""
        return not self._open.is_set()

    def cut(self) -> None:
        """Let nothing through from now on."""
        self._open.clear()

    def mend(self) -> None:
        """Let through what waits, and what comes."""
        self._cut_at = None
        self._open.set()

    def close(self) -> None:
        """Break all connections."""
        self._open.set()
        for connection in self._sockets:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                far = socket.create_connection(("127.0.0.1", self._target))
                self._sockets += [near, far]
                for source, sink in ((near, far), (far, near)):
                    threading.Thread(target=self._pump, args=(source, sink), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                self._open.wait()
                if self._cut_at and self._cut_at in data:
                    self.cut()
                sink.sendall(data)
        with suppress(OSError):
            sink.shutdown(socket.SHUT_WR)


@pytest.fixture(scope="session")
def shared_etcd() -> Iterator[Cluster]:
    """Three members that tests share."""
    need("etcdctl")
    cluster = Cluster()
    try:
        yield cluster.start()
    finally:
        cluster.remove()


@pytest.fixture
def etcd(shared_etcd: Cluster) -> Iterator[Cluster]:
    """The three members; what a test does to them is mended after it."""
    yield shared_etcd
    shared_etcd.start()


_prefixes = count(1)


@pytest.fixture
def prefix() -> str:
    """A prefix of the test's own."""
    return f"/skydns/local/test{next(_prefixes)}"


def put_record(etcd: Cluster, prefix: str, name: str, **fields: Any) -> None:
    """Put a record as an instance would, without a lease."""
    record = {"host": "127.0.0.1", "port": 1, "ttl": 5, "scheme": "http", "version": "1.2.3"} | fields
    etcd.ctl("put", f"{prefix}/{name}", json.dumps(record))


@contextmanager
def answering(answer: bytes) -> Iterator[str]:
    """Run a server that answers each request with 200 and these bytes; give its URL."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - http.server's name
            """Log nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


class Watch:
    """A `hello discover --watch`, and what it prints."""

    def __init__(self, *options: str, environment: Mapping[str, str] | None = None) -> None:
        self.process = subprocess.Popen(
            [HELLO, "discover", "--watch", *options],
            env={**os.environ, **(environment or {})},
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        for stream in (self.process.stdout, self.process.stderr):
            assert stream is not None
            os.set_blocking(stream.fileno(), False)
        self._out = self._err = b""

    @property
    def out(self) -> list[str]:
        """The lines so far."""
        assert self.process.stdout is not None
        self._out += self.process.stdout.read() or b""
        return self._out.decode().splitlines()

    @property
    def err(self) -> str:
        """What was said so far."""
        assert self.process.stderr is not None
        self._err += self.process.stderr.read() or b""
        return self._err.decode()

    def end(self, number: signal.Signals = signal.SIGINT) -> int:
        """Send a signal, and return the exit status."""
        self.process.send_signal(number)
        return self.process.wait(30)


LEASE_SECONDS = 15


def metric(service: Service, name: str) -> float:
    """Return the value of a metric without labels."""
    text = service.get("/metrics").body.decode()
    return float(re.findall(rf"^{name} (\S+)$", text, re.MULTILINE)[0])


def warnings(service: Service) -> list[str]:
    return [entry["message"] for entry in service.log() if entry["level"] != "info"]


def id_of(service: Service) -> str:
    return f"127-0-0-1-{service.port}"
