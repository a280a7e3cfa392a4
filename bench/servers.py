"""hello and its peers: how each is filled with people and started, all on one core."""

import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench import postgresql, rights
from bench.people import people
from bench.processes import BenchError, Command, Running, free_port, run

ROOT = Path(__file__).resolve().parents[1]
CACHE = ROOT / "bench" / ".cache"
PEERS = ROOT / "bench" / "peers"
HELLO = ROOT / ".venv" / "bin"
PEERS_VENV = ROOT / ".venv-bench" / "bin"
UVICORN = ("--loop", "uvloop", "--http", "httptools", "--no-access-log")
KEEP_ALIVE = "75"


@dataclass(frozen=True)
class Server:
    """What the runner needs to know of a server. `folder` is its own; it keeps its store there."""

    key: str
    title: str
    store: str = "sqlite"  # servers are compared with hello on this one
    programs: Sequence[str] = ()
    puts: bool = True  # has a store: takes PUT, and greets people by their birthday
    ready: str | None = None  # the path of the first 200; a person's greeting where there is none

    def fill(self, folder: Path, csv: Path, count: int, core: int) -> None:
        """Put the `count` people of the file in the store."""

    def headers(self, folder: Path) -> dict[str, str]:
        """Return what each request has to bring."""
        return {}

    def commands(self, folder: Path, port: int) -> list[Command]:
        """Return what to start, in this order."""
        raise NotImplementedError


class Hello(Server):
    """hello as it comes: no option but where to listen and where to store."""

    def fill(self, folder: Path, csv: Path, count: int, core: int) -> None:
        run(importing(csv, _sqlite(folder)), folder, core)

    def commands(self, folder: Path, port: int) -> list[Command]:
        return [serving(_sqlite(folder), port)]


class HelloKey(Hello):
    """hello with API keys, of which each request brings one."""

    def headers(self, folder: Path) -> dict[str, str]:
        return {"Authorization": f"Bearer {rights.SECRET}"}

    def commands(self, folder: Path, port: int) -> list[Command]:
        serving_ = serving(_sqlite(folder), port)
        return [Command(serving_.arguments, {"HELLO_KEYS": json.dumps(rights.ENTRY)})]


class HelloToken(Hello):
    """hello with an issuer, whose token each request brings."""

    def fill(self, folder: Path, csv: Path, count: int, core: int) -> None:
        super().fill(folder, csv, count, core)
        (folder / "issuer-port").write_text(str(port := free_port()))
        rights.make_token(folder, f"http://127.0.0.1:{port}")

    def headers(self, folder: Path) -> dict[str, str]:
        return {"Authorization": f"Bearer {(folder / 'token').read_text()}"}

    def commands(self, folder: Path, port: int) -> list[Command]:
        at = (folder / "issuer-port").read_text()
        issuer = Command([HELLO / "python", ROOT / "bench" / "rights.py", folder, at])
        options = ("--oidc-issuer", f"http://127.0.0.1:{at}", "--oidc-audience", rights.AUDIENCE)
        return [issuer, Command([*serving(_sqlite(folder), port).arguments, *options])]


def importing(csv: Path, store: str) -> Command:
    """Return hello's import of a CSV file into the store of this URL."""
    return _hello("import", csv, "--store", store)


def exporting(store: str, csv: Path) -> Command:
    """Return hello's export to a CSV file."""
    return _hello("export", "--output", csv, "--store", store)


def migrating(store: str) -> Command:
    """Return the command that makes hello's schema."""
    return _hello("migrate", "--store", store)


def serving(store: str, port: int) -> Command:
    """Return hello's service on a store."""
    return _hello("serve", "--port", str(port), "--store", store)


def _hello(*arguments: str | Path) -> Command:
    return Command([HELLO / "hello", *arguments])


def _sqlite(folder: Path, scheme: str = "sqlite") -> str:
    return f"{scheme}:///{folder / 'people.db'}"


class Starlette(Server):
    """The framework and the server under hello, with nothing on top."""

    def commands(self, folder: Path, port: int) -> list[Command]:
        return [_uvicorn(HELLO, "bare_starlette:app", port)]


class Nginx(Server):
    """The limit."""

    def commands(self, folder: Path, port: int) -> list[Command]:
        configuration = folder / "nginx.conf"
        configuration.write_text((PEERS / "nginx.conf").read_text().replace("PORT", str(port)))
        return [Command(["nginx", "-e", "stderr", "-p", folder, "-c", configuration])]


class FastAPI(Server):
    """FastAPI, uvicorn, SQLAlchemy, SQLite."""

    def fill(self, folder: Path, csv: Path, count: int, core: int) -> None:
        _fill_sqlalchemy(folder, csv, core, _sqlite(folder, "sqlite+aiosqlite"))

    def commands(self, folder: Path, port: int) -> list[Command]:
        return [_fastapi(port, _sqlite(folder, "sqlite+aiosqlite"))]


class Flask(Server):
    """Flask, gunicorn, SQLAlchemy, SQLite."""

    def fill(self, folder: Path, csv: Path, count: int, core: int) -> None:
        _fill_sqlalchemy(folder, csv, core, _sqlite(folder, "sqlite+aiosqlite"))

    def commands(self, folder: Path, port: int) -> list[Command]:
        worker = ("--worker-class", "gthread", "--workers", "1", "--threads", "1", "--keep-alive", KEEP_ALIVE)
        arguments = ("--pythonpath", PEERS, "--bind", f"127.0.0.1:{port}", *worker, "flask_sqlalchemy:app")
        return [Command([PEERS_VENV / "gunicorn", *arguments], {"DATABASE_URL": _sqlite(folder)})]


class GinRedis(Server):
    """Go with gin, and Redis beside it on the same core."""

    def fill(self, folder: Path, csv: Path, count: int, core: int) -> None:
        """Pipe the people into Redis, and let it write its file anew, so that it starts fast."""
        with Running([_redis(folder)], folder, core) as server:
            _await_socket(server, folder / "redis.sock")
            _redis_cli(folder, "--pipe", text="".join(_set(*person) for person in people(count)))
            _redis_cli(folder, "bgrewriteaof")
            while "aof_rewrite_in_progress:1" in _redis_cli(folder, "info", "persistence"):
                time.sleep(0.05)
            if (stored := _redis_cli(folder, "dbsize").strip()) != str(count):
                raise BenchError(f"Redis holds {stored} people of {count}.")

    def commands(self, folder: Path, port: int) -> list[Command]:
        # The socket's path is relative: absolute ones may be longer than the kernel takes.
        environment = {"LISTEN": f"127.0.0.1:{port}", "REDIS_SOCKET": "redis.sock"}
        return [_redis(folder), Command([build_gin()], environment)]


class OnPostgreSQL(Server):
    """A server with PostgreSQL beside it on the same core."""

    scheme = "postgresql"

    def fill(self, folder: Path, csv: Path, count: int, core: int) -> None:
        cluster, port = folder / "postgresql", free_port()
        postgresql.create(cluster)
        with Running([postgresql.serving(cluster, port)], folder, core):
            self.fill_database(folder, csv, core, postgresql.url(port, scheme=self.scheme))
            postgresql.tidy(port)

    def fill_database(self, folder: Path, csv: Path, core: int, url: str) -> None:
        """Put the people of the file in an empty database."""
        raise NotImplementedError

    def commands(self, folder: Path, port: int) -> list[Command]:
        database = free_port()
        url = postgresql.url(database, scheme=self.scheme)
        return [postgresql.serving(folder / "postgresql", database), self.service(port, url)]

    def service(self, port: int, url: str) -> Command:
        """Return the server itself."""
        raise NotImplementedError


class HelloPostgreSQL(OnPostgreSQL):
    """hello, as it comes."""

    def fill_database(self, folder: Path, csv: Path, core: int, url: str) -> None:
        run(migrating(url), folder, core)
        run(importing(csv, url), folder, core)

    def service(self, port: int, url: str) -> Command:
        return serving(url, port)


class FastAPIPostgreSQL(OnPostgreSQL):
    """FastAPI, uvicorn, SQLAlchemy, asyncpg."""

    scheme = "postgresql+asyncpg"

    def fill_database(self, folder: Path, csv: Path, core: int, url: str) -> None:
        _fill_sqlalchemy(folder, csv, core, url)

    def service(self, port: int, url: str) -> Command:
        return _fastapi(port, url)


SERVERS: Sequence[Server] = (
    Hello("hello", "hello", ready="/hc"),
    HelloKey("hello-key", "hello with a key", ready="/hc"),
    HelloToken("hello-token", "hello with a token", ready="/hc"),
    Starlette("starlette", "bare Starlette + uvicorn", puts=False),
    Nginx("nginx", "nginx `return 200`", programs=("nginx",), puts=False),
    GinRedis("go", "Go + gin + Redis", programs=("go", "redis-server", "redis-cli")),
    FastAPI("fastapi", "FastAPI + SQLAlchemy + SQLite"),
    Flask("flask", "Flask + gunicorn + SQLAlchemy + SQLite"),
    HelloPostgreSQL(
        "hello-postgresql", "hello on PostgreSQL", "postgresql", programs=postgresql.PROGRAMS, ready="/ready"
    ),
    FastAPIPostgreSQL(
        "fastapi-postgresql", "FastAPI + SQLAlchemy + asyncpg", "postgresql", programs=postgresql.PROGRAMS
    ),
)


def build_gin() -> Path:
    """Compile the Go peer where it is not yet, with the libraries of Debian; return the program."""
    source, program = PEERS / "gin_redis", CACHE / "gin-redis"
    if program.exists() and program.stat().st_mtime > (source / "main.go").stat().st_mtime:
        return program
    # Debian's way: the packages' sources are a GOPATH, and there are no modules.
    environment = {"GO111MODULE": "off", "GOPATH": "/usr/share/gocode", "GOCACHE": str(CACHE / "go-build")}
    built = subprocess.run(
        ["go", "build", "-o", program, "."],
        cwd=source,
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if built.returncode:
        raise BenchError(f"go build failed:\n{built.stdout}")
    return program


def missing_programs(needed: Iterable[str]) -> list[str]:
    """Return those of the programs that the machine lacks, wrk among them."""
    return [name for name in dict.fromkeys(["wrk", *needed]) if not shutil.which(name)]


def _uvicorn(venv: Path, app: str, port: int, environment: dict[str, str] | None = None) -> Command:
    listen = ("--host", "127.0.0.1", "--port", str(port), "--timeout-keep-alive", KEEP_ALIVE)
    return Command([venv / "uvicorn", "--app-dir", PEERS, *listen, *UVICORN, app], environment or {})


def _fastapi(port: int, url: str) -> Command:
    return _uvicorn(PEERS_VENV, "fastapi_sqlalchemy:app", port, {"DATABASE_URL": url})


def _fill_sqlalchemy(folder: Path, csv: Path, core: int, url: str) -> None:
    run(Command([PEERS_VENV / "python", PEERS / "people.py", csv, url]), folder, core)


def _redis(folder: Path) -> Command:
    listen = ("--port", "0", "--unixsocket", "redis.sock")
    durable = ("--appendonly", "yes", "--appendfsync", "always", "--save", "")
    return Command(["redis-server", *listen, "--dir", folder, *durable])


def _redis_cli(folder: Path, *arguments: str, text: str = "") -> str:
    done = subprocess.run(
        ["redis-cli", "-s", "redis.sock", *arguments],
        cwd=folder,
        input=text,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise BenchError(f"redis-cli {' '.join(arguments)}: {done.stdout}{done.stderr}")
    return done.stdout


def _await_socket(server: Running, path: Path) -> None:
    while not path.exists():
        server.check_alive()
        time.sleep(0.01)


def _set(name: str, birth: str) -> str:
    key, value = f"hello:{name.lower()}", f"{birth} {name}"
    return f"*3\r\n$3\r\nSET\r\n${len(key)}\r\n{key}\r\n${len(value)}\r\n{value}\r\n"
