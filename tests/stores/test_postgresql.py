"""PostgreSQL: its schema, how it is reached, what an operation costs. Failures have a file of their own."""

import asyncio
import os
import socket
import subprocess
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from datetime import date, timedelta
from pathlib import Path

import asyncpg
import pytest

from hello.birthday import Person
from hello.stores import Entry, Store, StoreError, StoreUnavailableError, migrate, open_store
from hello.stores import postgresql as module
from hello.stores.postgresql_connect import connect
from tests.support.commands import AS_A_PROCESS, hello, refused
from tests.support.environment import need
from tests.support.postgresql import PASSWORD, Cluster
from tests.support.service import letters

pytestmark = pytest.mark.anyio

BORN = date(1990, 4, 23)
NewDatabase = Callable[..., str]


@pytest.fixture(scope="module")
def anyio_backend() -> tuple[str, dict[str, bool]]:
    """Run these tests on the loop that the service runs on."""
    return "asyncio", {"use_uvloop": True}


@asynccontextmanager
async def opened(url: str, connections: int = 10) -> AsyncIterator[Store]:
    """Open a store, and close it at the end."""
    store = await open_store(url, timeout=30, connections=connections)
    try:
        yield store
    finally:
        await store.close()


def entry(name: str, born: date = BORN) -> Entry:
    return Entry(name, name, born)


# The schema


async def test_migrating_makes_the_schema_once(cluster: Cluster, new_database: NewDatabase) -> None:
    """The first says what it made, the next that there is nothing to do, and nobody is lost."""
    url = cluster.url(new_database())
    assert await migrate(url, timeout=30) == "created the schema, version 1"
    async with opened(url) as store:
        await store.put(entry("zoe"))
    assert await migrate(url, timeout=30) == "the schema is at version 1 already"
    async with opened(url) as store:
        assert await store.get("zoe") == Person("zoe", BORN)


async def test_several_may_migrate_at_once(cluster: Cluster, new_database: NewDatabase) -> None:
    """Of eight at once one makes it, and the others find it made."""
    url = cluster.url(new_database())
    said = await asyncio.gather(*(migrate(url, timeout=60) for _ in range(8)))
    assert sorted(said) == ["created the schema, version 1"] + ["the schema is at version 1 already"] * 7
    async with opened(url) as store:
        await store.ping()


async def test_a_newer_schema_is_left_alone(cluster: Cluster, postgresql_url: str) -> None:
    """Neither opened nor migrated, and not changed."""
    database = postgresql_url.rpartition("/")[2]
    cluster.sql("UPDATE hello_schema SET version = 2", database)
    for attempt in (
        migrate(postgresql_url, timeout=30),
        open_store(postgresql_url, timeout=30, patient=True),
    ):
        with pytest.raises(StoreError, match=r"newer version of hello.*Nothing was changed"):
            await attempt
    assert cluster.sql("SELECT version FROM hello_schema", database) == "2"


async def test_a_table_of_another_program_is_left_alone(cluster: Cluster, new_database: NewDatabase) -> None:
    """A table that is in the way is an error, and nothing is made."""
    database = new_database()
    cluster.sql("CREATE TABLE people (a int)", database)
    with pytest.raises(StoreError, match='"people" already exists'):
        await migrate(cluster.url(database), timeout=30)
    assert cluster.sql("SELECT to_regclass('hello_schema') IS NULL", database) == "t"


@pytest.mark.parametrize("command", ["export", "birthdays", "serve"])
def test_a_missing_schema_names_the_command(
    command: str, cluster: Cluster, new_database: NewDatabase, tmp_path: Path
) -> None:
    """Exit status 2 and what to run, which then helps."""
    environment = {"HELLO_STORE": cluster.url(new_database())}
    if command == "serve":
        said = refused(folder=tmp_path, environment=environment, prefix=AS_A_PROCESS)  # it has bound its port
    else:
        ended = hello(command, folder=tmp_path, environment=environment)
        assert ended.returncode == 2
        said = ended.stderr.decode()
    assert "run `hello migrate`" in said
    assert "Traceback" not in said
    assert hello("migrate", folder=tmp_path, environment=environment).returncode == 0
    assert hello("export", folder=tmp_path, environment=environment).returncode == 0


# What an operation costs


class Proxy:
    """Passes bytes on to a server, and counts how often the client asked and was answered."""

    def __init__(self, port: int) -> None:
        self.round_trips = 0
        self._port = port

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        server_reader, server_writer = await asyncio.open_connection("127.0.0.1", self._port)
        asked = False

        async def pump(source: asyncio.StreamReader, target: asyncio.StreamWriter, *, asks: bool) -> None:
            nonlocal asked
            while data := await source.read(65536):
                if asks and not asked:
                    self.round_trips += 1
                asked = asks
                target.write(data)
            target.close()

        await asyncio.gather(pump(reader, server_writer, asks=True), pump(server_reader, writer, asks=False))


async def test_each_operation_is_one_round_trip(cluster: Cluster, postgresql_url: str) -> None:
    """Once a connection has prepared its statements, each operation asks once; batches of any size too."""
    proxy = Proxy(cluster.port)
    async with await asyncio.start_server(proxy.accept, "127.0.0.1", 0) as listening:
        port = listening.sockets[0].getsockname()[1]
        url = postgresql_url.replace(f":{cluster.port}/", f":{port}/") + "?sslmode=disable"
        many = [entry(letters(number)) for number in range(1000)]
        async with opened(url, connections=1) as store:
            operations: list[Callable[[], object]] = [
                lambda: store.get("zoe"),
                lambda: store.get_many(["zoe", "adam"]),
                lambda: store.put(entry("zoe")),
                lambda: store.put(entry("adam"), create=True),
                lambda: store.put_many([entry("zoe"), entry("bea")]),
                lambda: store.put_many(many),
                lambda: store.delete("zoe"),
                lambda: store.people(10),
                lambda: store.birthdays([("01-01", "12-31")], 10),
                store.ping,
            ]
            counts = []
            for operation in [*operations, *operations]:
                before = proxy.round_trips
                await operation()  # type: ignore[misc]
                counts.append(proxy.round_trips - before)
        assert counts[len(operations) :] == [1] * len(operations)


async def test_lists_use_the_indexes(cluster: Cluster, postgresql_url: str) -> None:
    """Whatever the place in the list or the year, a page reads its rows from an index, in order."""
    database = postgresql_url.rpartition("/")[2]
    people = [entry(letters(n), BORN + timedelta(days=n % 366)) for n in range(20_000)]
    async with opened(postgresql_url) as store:
        for start in range(0, len(people), 5000):
            await store.put_many(people[start : start + 5000])
    cluster.sql("ANALYZE people", database)
    connection = await asyncpg.connect(postgresql_url)
    try:
        explained: list[tuple[str, list[object], str]] = [
            (module._GET, [b"zoe"], "people_pkey"),
            (module._GET_MANY, [[b"zoe", b"adam"]], "people_pkey"),
            (module._PEOPLE, [b"b", 100], "people_pkey"),
            (module._BIRTHDAYS, [423, b"b", 430, 100], "people_birthday"),
        ]
        for statement, arguments, index in explained:
            rows = await connection.fetch(f"EXPLAIN {statement}", *arguments)
            plan = "\n".join(row[0] for row in rows)
            assert index in plan
            assert "Seq Scan" not in plan
            assert "Sort" not in plan
    finally:
        await connection.close()


async def test_the_pool_never_has_more_connections_than_it_may(cluster: Cluster, postgresql_url: str) -> None:
    """Of 10,000 operations at once all are done, over no more than the connections that are allowed."""
    database = postgresql_url.rpartition("/")[2]
    count = f"SELECT count(*) FROM pg_stat_activity WHERE usename = 'hello' AND datname = '{database}'"
    seen: list[int] = []
    done = threading.Event()

    def watch() -> None:
        while not done.is_set():
            seen.append(int(cluster.sql(count)))

    async with opened(postgresql_url, connections=7) as store:
        watching = asyncio.create_task(asyncio.to_thread(watch))
        operations = [store.put(entry(letters(n % 3000))) for n in range(5000)]
        results = await asyncio.gather(*operations, *(store.get(letters(n % 3000)) for n in range(5000)))
        seen.append(int(cluster.sql(count)))
        done.set()
        await watching
    assert len(results) == 10_000
    assert max(seen) == 7
    assert len(seen) > 2


async def test_batches_that_overlap_do_not_stop_each_other(postgresql_url: str) -> None:
    """Batches of the same people in other orders run at once, also with a key twice, and none fails."""
    names = [letters(number) for number in range(300)]
    async with opened(postgresql_url) as store:
        await asyncio.gather(
            *(
                store.put_many([entry(name, BORN + timedelta(days=turn)) for name in order + order[:5]])
                for turn in range(20)
                for order in (names, names[::-1])
            )
        )
        assert len((await store.people(1000)).people) == 300


# Users, passwords, TLS


@pytest.fixture
def clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Leave no password or certificate of the machine's own."""
    for name in [name for name in os.environ if name.startswith("PG")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))


@pytest.mark.usefixtures("clean")
@pytest.mark.parametrize("source", ["url", "parameter", "variable", "passfile", "home"])
async def test_a_password_has_several_sources(
    source: str, cluster: Cluster, postgresql_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The URL, PGPASSWORD, a file that the URL names, or ~/.pgpass."""
    database = postgresql_url.rpartition("/")[2]
    bare = f"postgresql://hello@127.0.0.1:{cluster.port}/{database}"
    with pytest.raises(StoreError):
        await open_store(bare, timeout=5, patient=True)
    url = {"url": postgresql_url, "parameter": f"{bare}?password=s3cret%25/%40:word"}.get(source, bare)
    if source == "variable":
        monkeypatch.setenv("PGPASSWORD", PASSWORD)
    if source in {"passfile", "home"}:
        file = tmp_path / ("mine" if source == "passfile" else ".pgpass")
        file.write_text(f"*:*:*:other:wrong\n127.0.0.1:{cluster.port}:{database}:hello:{PASSWORD}\n")
        file.chmod(0o600)
        url += f"?passfile={file}" if source == "passfile" else ""
    async with opened(url) as store:
        await store.ping()


@pytest.mark.usefixtures("clean")
async def test_what_the_server_refuses_is_said_at_once(cluster: Cluster, postgresql_url: str) -> None:
    """A wrong password, user or database is no server that is away; no message has the password."""
    for change, says in [
        (("s3cret", "wr0ng"), "refuses the password"),
        (("/test_", "/no_"), "no such database"),
    ]:
        with pytest.raises(StoreError, match=says) as error:
            await open_store(postgresql_url.replace(*change), timeout=5, patient=True)
        assert not isinstance(error.value, StoreUnavailableError)
        assert "s3cret" not in str(error.value)
        assert "wr0ng" not in str(error.value)


@pytest.mark.usefixtures("clean")
@pytest.mark.parametrize(
    ("variable", "value"),
    [("PGPORT", "abc"), ("PGPORT", "5432,5433"), ("PGHOST", "h..x"), ("PGPASSFILE", "")],
)
async def test_what_can_not_be_read_is_said_at_once(
    variable: str,
    value: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Ports, hosts and files of passwords that make no sense: one line, which holds nothing of a password."""
    if variable == "PGPASSFILE":
        file = tmp_path / "passwords"
        file.write_bytes(b"*:*:*:hello:p\xe9ss\n")
        file.chmod(0o600)
        value = str(file)
    monkeypatch.setenv(variable, value)
    where = "" if variable == "PGHOST" else "127.0.0.1"
    with pytest.raises(StoreError, match=r"can't be read|is wrong"):
        await open_store(f"postgresql://hello@{where}/hello", timeout=5, patient=True)
    assert not caplog.records


async def test_a_host_that_hangs_does_not_hide_the_next(postgresql_url: str) -> None:
    """Each host of the URL gets its part of the time: one that takes connections and never answers, too."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        hanging = f"127.0.0.1:{silent.getsockname()[1]}"
        store = await open_store(postgresql_url.replace("@127", f"@{hanging},127"), timeout=3)
        await store.ping()
        await store.close()


@pytest.mark.parametrize(
    ("default", "ours"),
    [("off", "on"), ("local", "on"), ("remote_write", "on"), ("remote_apply", "remote_apply")],
)
async def test_what_is_acknowledged_is_on_disk(
    default: str, ours: str, cluster: Cluster, postgresql_url: str
) -> None:
    """Sessions wait for the disk whatever the server's default; one that promises more stays."""
    database = postgresql_url.rpartition("/")[2]
    cluster.sql(f"ALTER DATABASE {database} SET synchronous_commit = {default}")
    connection = await connect(postgresql_url, 5)
    assert await connection.fetchval("SHOW synchronous_commit") == ours
    connection.terminate()


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a certificate authority, a certificate for `localhost`, and another authority."""
    openssl, folder = need("openssl"), tmp_path_factory.mktemp("tls")
    new_key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]

    def run(*arguments: str) -> None:
        subprocess.run([openssl, *arguments], cwd=folder, check=True, capture_output=True)

    for name in ("ca", "other"):
        run("req", "-x509", *new_key, "-keyout", f"{name}.key", "-out", f"{name}.pem", "-days", "2",
            "-subj", f"/CN={name}", "-addext", "keyUsage=keyCertSign")  # fmt: skip
    run("req", *new_key, "-keyout", "server.key", "-out", "server.csr", "-subj", "/CN=localhost")
    (folder / "names").write_text("subjectAltName=DNS:localhost\n")
    run("x509", "-req", "-in", "server.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-days", "2",
        "-CAcreateserial", "-extfile", "names", "-out", "server.pem")  # fmt: skip
    return folder


@pytest.fixture(scope="module")
def encrypted(authority: Path) -> Iterator[Cluster]:
    """A server with TLS, and a database."""
    cluster = Cluster(ssl="on", ssl_cert_file="server.pem", ssl_key_file="server.key")
    try:
        for name in ("server.pem", "server.key"):
            copy = cluster.data / name
            copy.write_bytes((authority / name).read_bytes())
            os.chown(copy, cluster.data.stat().st_uid, cluster.data.stat().st_gid)
            copy.chmod(0o600)
        cluster.start()
        cluster.add_user()
        cluster.add_database("hello")
        asyncio.run(migrate(cluster.url("hello"), timeout=30))
        yield cluster
    finally:
        cluster.remove()


async def uses_tls(store: Store) -> bool:
    assert isinstance(store, module.PostgreSQLStore)
    connection = await store._connections.acquire()
    try:
        return bool(await connection.fetchval("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"))
    finally:
        store._connections.release(connection)


MODES: Mapping[tuple[str, str], bool | str] = {
    ("disable", "127.0.0.1"): False,
    ("allow", "127.0.0.1"): False,
    ("prefer", "127.0.0.1"): True,
    ("require", "127.0.0.1"): True,
    ("verify-ca&sslrootcert=ca.pem", "127.0.0.1"): True,
    ("verify-ca&sslrootcert=other.pem", "127.0.0.1"): "not trusted",
    ("require&sslrootcert=other.pem", "127.0.0.1"): "not trusted",
    ("verify-full&sslrootcert=ca.pem", "localhost"): True,
    ("verify-full&sslrootcert=ca.pem", "127.0.0.1"): "not trusted",
    ("verify-full", "localhost"): "root certificate",
}


@pytest.mark.usefixtures("clean")
@pytest.mark.parametrize(("mode", "host"), MODES)
async def test_sslmode_is_as_libpq_means_it(
    mode: str, host: str, authority: Path, encrypted: Cluster
) -> None:
    """What is to be verified is, and what is not to be encrypted is not."""
    parameters = f"?sslmode={mode}".replace("sslrootcert=", f"sslrootcert={authority}/")
    url = encrypted.url("hello", parameters, host)
    expected = MODES[mode, host]
    if isinstance(expected, str):
        with pytest.raises(StoreError, match=expected) as error:
            await open_store(url, timeout=5, patient=True)
        assert "s3cret" not in str(error.value)
        return
    async with opened(url) as store:
        assert await uses_tls(store) is expected


@pytest.mark.usefixtures("clean")
async def test_without_tls_on_the_server_only_prefer_goes_on(postgresql_url: str) -> None:
    """`prefer` falls back to no encryption; `require` does not."""
    async with opened(f"{postgresql_url}?sslmode=prefer") as store:
        assert await uses_tls(store) is False
    with pytest.raises(StoreError, match="rejected SSL upgrade"):
        await open_store(f"{postgresql_url}?sslmode=require", timeout=5)


# Backup


async def test_a_dump_restores(
    cluster: Cluster, postgresql_url: str, new_database: NewDatabase, tmp_path: Path
) -> None:
    """What pg_dump wrote, pg_restore brings back, schema and people, into an empty database."""
    everyone = [entry(letters(number), BORN + timedelta(days=number)) for number in range(1000)]
    async with opened(postgresql_url) as store:
        await store.put_many(everyone)
    dump, restored = tmp_path / "hello.dump", cluster.url(new_database())
    for tool, *arguments in [
        ("pg_dump", "--format=custom", f"--file={dump}", f"--dbname={postgresql_url}"),
        ("pg_restore", "--no-owner", "--exit-on-error", f"--dbname={restored}", str(dump)),
    ]:
        process = await asyncio.create_subprocess_exec(cluster.tool(tool), *arguments)
        assert await process.wait() == 0
    assert await migrate(restored, timeout=30) == "the schema is at version 1 already"
    async with opened(restored) as store:
        assert set((await store.people(1000)).people) == {Person(e.username, e.born) for e in everyone}
        assert (await store.birthdays([("04-23", "04-23")], 1)).people[0].born.month == 4
