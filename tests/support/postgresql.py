"""PostgreSQL for tests: clusters of the machine's own binaries, in temporary folders, on free ports."""

import asyncio
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import count
from pathlib import Path
from urllib.parse import quote

import pytest

from hello.stores import migrate
from tests.support.environment import free_port, missing, need, until

PASSWORD = "s3cret%/@:word"
SETTINGS = {
    # What survives a killed server does so in the system's cache; only a machine that fails needs the sync.
    "fsync": "off",
    "synchronous_commit": "off",  # the store must not rely on it
    "max_connections": "40",
    "shared_buffers": "32MB",
    "max_wal_size": "256MB",
    "listen_addresses": "127.0.0.1",
}


class Cluster:
    """A PostgreSQL server of its own. Its user `hello` has a password; `postgres`, on the socket, none."""

    def __init__(self, **settings: str) -> None:
        """Make it, with these settings beside those of `SETTINGS`; `start` starts it."""
        self._binaries = _binaries()
        self._prefix = [need("setpriv"), "--pdeathsig", "SIGQUIT"]
        self.folder = Path(tempfile.mkdtemp(prefix="hello-postgresql-"))
        if os.geteuid() == 0:  # which the server refuses to run as
            shutil.chown(self.folder, "postgres", "postgres")
            self._prefix += ["--reuid", "postgres", "--regid", "postgres", "--clear-groups"]
        self.data = self.folder / "data"
        self.port = free_port()
        self.settings = {**SETTINGS, "unix_socket_directories": str(self.folder), **settings}
        self.process: subprocess.Popen[bytes] | None = None
        self._tool("initdb", "-D", self.data, "-U", "postgres", "-E", "UTF8", "--no-sync", "--locale=C.UTF-8",
                   "--auth-local=trust", "--auth-host=scram-sha-256")  # fmt: skip

    def start(self) -> "Cluster":
        """Start it, and wait until it answers. It ends with the thread that calls this."""
        self.launch()
        until(self.answers, "PostgreSQL to start")
        return self

    def launch(self) -> None:
        """Start it, and wait for nothing."""
        options = [word for name, value in self.settings.items() for word in ("-c", f"{name}={value}")]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [*self._prefix, self._binaries / "postgres", "-D", self.data, "-p", str(self.port), *options],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.folder,
            )

    def answers(self) -> bool:
        """Return whether it takes connections."""
        command = [str(self._binaries / "pg_isready"), "-q", "-h", str(self.folder), "-p", str(self.port)]
        return subprocess.run(command, check=False).returncode == 0

    def stop(self, number: signal.Signals = signal.SIGINT) -> None:
        """Stop it: SIGINT in an orderly way, SIGKILL all its processes at once."""
        if self.process is not None:
            if number == signal.SIGKILL:
                self.send(number)
            else:
                self.process.send_signal(number)
            self.process.wait(60)
            self.process = None

    def send(self, number: signal.Signals) -> None:
        """Send a signal to each of its processes, the first one first."""
        assert self.process is not None
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        for pid in [self.process.pid, *map(int, children)]:
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    def remove(self) -> None:
        """Stop it, and remove its folder."""
        if self.process is not None:
            self.send(signal.SIGCONT)
            self.stop(signal.SIGQUIT)
        shutil.rmtree(self.folder)

    def sql(self, statement: str, database: str = "postgres") -> str:
        """Execute as the superuser; return the rows, a line each, fields separated by |."""
        return self._tool("psql", "-XAtq", "-v", "ON_ERROR_STOP=1", "-h", self.folder, "-p", str(self.port),
                          "-U", "postgres", "-d", database, "-c", statement).strip()  # fmt: skip

    def url(self, database: str, parameters: str = "", host: str = "127.0.0.1") -> str:
        """Return the URL of a database for the user `hello`."""
        return f"postgresql://hello:{quote(PASSWORD, safe='')}@{host}:{self.port}/{database}{parameters}"

    def socket_url(self, database: str) -> str:
        """Return the URL of a database for the superuser, who needs no password."""
        return f"postgresql://postgres@/{database}?host={self.folder}&port={self.port}"

    def tool(self, name: str) -> Path:
        """Return the path of one of PostgreSQL's programs."""
        return self._binaries / name

    def add_user(self) -> None:
        """Make the user `hello`."""
        self.sql(f"CREATE ROLE hello LOGIN PASSWORD '{PASSWORD}'")

    def add_database(self, name: str, template: str = "template0") -> None:
        """Make a database that belongs to `hello`."""
        self.sql(f"CREATE DATABASE {name} OWNER hello TEMPLATE {template}")

    def _tool(self, name: str, *arguments: str | Path) -> str:
        done = subprocess.run(
            [*self._prefix, self._binaries / name, *arguments],
            capture_output=True,
            cwd=self.folder,
            check=False,
        )
        assert done.returncode == 0, f"{name}: {done.stderr.decode()}"
        return done.stdout.decode()


def _binaries() -> Path:
    """Return the folder of the newest server that is installed."""
    found = [path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/postgres")]
    if (on_path := shutil.which("postgres")) and not found:
        found.append(Path(on_path).resolve().parent)
    if not found:
        missing("postgresql is not installed (see requirements/debian.txt)")
    return max(found, key=lambda path: (len(path.parent.name), path))


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """A server that tests share; none of them stops it."""
    cluster = Cluster().start()
    try:
        cluster.add_user()
        cluster.add_database("migrated")
        asyncio.run(migrate(cluster.url("migrated"), timeout=60))
        yield cluster
    finally:
        cluster.remove()


_numbers = count(1)


@pytest.fixture
def new_database(cluster: Cluster) -> Iterator[Callable[..., str]]:
    """Make databases, which are dropped with the test; each call returns the name of an empty one."""
    names: list[str] = []

    def new(template: str = "template0") -> str:
        names.append(f"test_{next(_numbers)}")
        cluster.add_database(names[-1], template)
        return names[-1]

    yield new
    for name in names:
        cluster.sql(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def postgresql_url(cluster: Cluster, new_database: Callable[..., str]) -> str:
    """Return the URL of a database with the schema, and nobody in it."""
    return cluster.url(new_database("migrated"))


@pytest.fixture(scope="module")
def servers() -> Iterator[Cluster]:
    """A server with room for few connections, that tests may do anything to."""
    cluster = Cluster(max_connections="12", superuser_reserved_connections="3").start()
    try:
        cluster.add_user()
        cluster.add_database("hello")
        asyncio.run(migrate(cluster.url("hello"), timeout=60))
        yield cluster
    finally:
        cluster.remove()


@pytest.fixture
def server(servers: Cluster) -> Iterator[Cluster]:
    """The server, which runs at the beginning of each test."""
    yield servers
    if servers.process is None:
        servers.start()
    servers.send(signal.SIGCONT)
    until(servers.answers, "the server to be back")
    servers.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'hello'")
    servers.sql("TRUNCATE people", "hello")
