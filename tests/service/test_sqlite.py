"""hello on SQLite: durability, files shared by processes, and files that cannot be used."""

import asyncio
import os
import random
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import date, timedelta
from pathlib import Path

import pytest

from tests.conftest import Serve
from tests.support.commands import AS_A_PROCESS, refused
from tests.support.environment import HELLO, missing, need, until
from tests.support.service import Answer, Service, everyone, fill, letters, locked, raw_put

BORN = date(1990, 4, 23)


WRITERS = 24


def assert_unavailable(answer: Answer) -> None:
    """Check the 503 of a store that can't do it now."""
    assert answer.status == 503
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert int(answer.headers["Retry-After"]) > 0
    assert answer.json()["status"] == 503


class Ledger:
    """What clients may expect to find: for each username its acknowledged value, and one under way."""

    def __init__(self) -> None:
        self.allowed: dict[str, set[str | None]] = {}
        self.acknowledged = 0

    async def write(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, username: str, born: date | None
    ) -> None:
        """Put or delete (None), and note what that makes of the expectation."""
        value = born.isoformat() if born else None
        expected = self.allowed.setdefault(username, {None})
        expected.add(value)
        writer.write(
            raw_put(username, born)
            if born
            else f"DELETE /hello/{username} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
        )
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 204 "), head
        self.allowed[username] = {value}
        self.acknowledged += 1

    def check(self, found: dict[str, str]) -> None:
        """Compare with what is there, which is then what to expect."""
        assert set(found) <= set(self.allowed)
        for username, values in self.allowed.items():
            assert found.get(username) in values
            self.allowed[username] = {found.get(username)}


async def write_until_killed(service: Service, ledger: Ledger, prefix: str, seconds: float) -> None:
    """Write on many connections, and kill the process in the midst of it."""

    async def work(number: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", service.port)
        own, step = f"{prefix}{letters(number)}x", 0
        try:
            while True:
                step += 1
                await ledger.write(reader, writer, own + letters(step), BORN)
                await ledger.write(reader, writer, own, BORN + timedelta(days=step))
                if step % 3 == 0:
                    await ledger.write(reader, writer, own + letters(step - 1), None)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    writers = [asyncio.create_task(work(number)) for number in range(WRITERS)]
    await asyncio.sleep(seconds)
    service.process.kill()
    await asyncio.gather(*writers)


@pytest.mark.parametrize("rounds", [5, pytest.param(20, marks=pytest.mark.full)])
def test_every_acknowledged_write_survives_kill_9(serve: Serve, rounds: int) -> None:
    """What was answered with 204 is there after the process was killed, whenever that was."""
    service = serve()
    ledger = Ledger()
    for number in range(rounds):
        asyncio.run(
            write_until_killed(
                service, ledger, f"r{letters(number)}q", random.uniform(0.02, 0.3)
            )  # any moment
        )
        service.process.wait()
        service.start()
        ledger.check(everyone(service))
    assert ledger.acknowledged > rounds * WRITERS


async def compete(ports: list[int], username: str, count: int) -> list[tuple[bytes, str]]:
    """PUT one name with If-None-Match: * at once from many connections; return status and date of each."""
    streams = [await asyncio.open_connection("127.0.0.1", ports[n % len(ports)]) for n in range(count)]
    births = [BORN + timedelta(days=number) for number in range(count)]
    for (_, writer), born in zip(streams, births, strict=True):
        writer.write(raw_put(username, born, "If-None-Match: *", "Connection: close"))
    answers = [await reader.read() for reader, _ in streams]
    for _, writer in streams:
        writer.close()
    return [(answer[9:12], born.isoformat()) for answer, born in zip(answers, births, strict=True)]


@pytest.mark.parametrize("services", ["one service of two workers", "two services on one file"])
def test_one_of_many_who_create_the_same_name_wins(serve: Serve, tmp_path: Path, services: str) -> None:
    """If-None-Match: * gives one 204 and else 412, and the winner's date is what is stored."""
    if services.startswith("one"):
        running = [serve("--workers", "2")]
    else:
        environment = {"HELLO_STORE": f"sqlite:///{tmp_path}/shared.db"}
        folders = [tmp_path / "a", tmp_path / "b"]
        for folder in folders:
            folder.mkdir()
        running = [serve(folder=folder, environment=environment) for folder in folders]
    for number in range(20):
        username = f"name{letters(number)}"
        outcomes = asyncio.run(compete([service.port for service in running], username, 30))
        winners = [born for status, born in outcomes if status == b"204"]
        assert sorted(status for status, _ in outcomes) == [b"204"] + [b"412"] * 29
        for service in running:
            assert everyone(service)[username] == winners[0]


def test_each_service_sees_what_the_other_acknowledged(serve: Serve, tmp_path: Path) -> None:
    """A GET after a 204 sees it, from whichever process on the file."""
    environment = {"HELLO_STORE": f"sqlite:///{tmp_path}/shared.db"}
    (tmp_path / "b").mkdir()
    first = serve(environment=environment)
    second = serve(folder=tmp_path / "b", environment=environment)
    for number in range(100):
        writer, reader = (first, second) if number % 2 else (second, first)
        assert writer.put("Zoe", (BORN + timedelta(days=number)).isoformat()).status == 204
        assert everyone(reader) == {"Zoe": (BORN + timedelta(days=number)).isoformat()}
        assert writer.request("DELETE", "/hello/Zoe").status == 204
        assert reader.get("/hello/Zoe").status == 404


def test_an_import_beside_the_service_disturbs_nobody(served: Service) -> None:
    """While `hello import` writes 20,000 rows into its file, the service answers reads and writes."""
    rows = served.folder / "people.csv"
    rows.write_text("username,dateOfBirth\n" + "".join(f"i{letters(n)},1990-04-23\n" for n in range(20_000)))
    assert served.put("Zoe", "1990-04-23").status == 204
    done = threading.Event()
    statuses: dict[str, list[int]] = {"GET": [], "PUT": []}

    def read() -> None:
        while not done.is_set():
            statuses["GET"].append(served.get("/hello/Zoe").status)

    def write() -> None:
        while not done.is_set():
            statuses["PUT"].append(served.put(f"p{letters(len(statuses['PUT']))}", "1991-05-24").status)

    clients = [threading.Thread(target=client) for client in (read, write)]
    for client in clients:
        client.start()
    try:
        command = [str(HELLO), "import", str(rows), "--store", f"sqlite:///{served.database}"]
        result = subprocess.run(command, capture_output=True, timeout=120, check=False)
    finally:
        done.set()
        for client in clients:
            client.join()
    assert result.returncode == 0, result.stderr.decode()
    assert set(statuses["GET"]) == {200}
    assert set(statuses["PUT"]) == {204}
    found = everyone(served)
    assert sum(username.startswith("i") for username in found) == 20_000
    assert sum(username.startswith("p") for username in found) == len(statuses["PUT"])


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode:
        missing("mounting a small file system needs root and the right to mount")
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_a_full_disk_refuses_writes_and_destroys_nothing(serve: Serve, small_disk: Path) -> None:
    """PUT and DELETE are 503 while the disk is full, reads go on, and writes once there is room."""
    database = small_disk / "hello.db"
    service = serve(environment={"HELLO_STORE": f"sqlite:///{database}"})
    stored = {f"before{letters(number)}": "1990-04-23" for number in range(20)}
    for username, born in stored.items():
        assert service.put(username, born).status == 204
    filler = small_disk / "filler"
    fill(filler)
    refusal = None
    for number in range(2000):  # the log of writes may have some room left
        answer = service.put(f"while{letters(number)}", "1991-05-24")
        if answer.status != 204:
            refusal = answer
            break
        stored[f"while{letters(number)}"] = "1991-05-24"
    assert refusal is not None
    assert_unavailable(refusal)
    assert_unavailable(service.request("DELETE", "/hello/beforea"))
    assert service.get("/hello/beforea").status == 200
    assert everyone(service) == stored
    assert service.get("/hc").status == 200
    assert any("is full" in entry.get("message", "") for entry in service.log())

    filler.unlink()
    assert service.put("after", "1992-06-25").status == 204
    stored["after"] = "1992-06-25"
    assert everyone(service) == stored
    assert service.stop() == 0
    with closing(sqlite3.connect(database)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_a_full_disk_at_the_start_is_said(tmp_path: Path, small_disk: Path) -> None:
    """Where no database fits, the service says that the disk is full and does not start."""
    fill(small_disk / "filler")
    assert "full" in refused(
        folder=tmp_path, environment={"HELLO_STORE": f"sqlite:///{small_disk}/hello.db"}, prefix=AS_A_PROCESS
    )


def without_privilege() -> tuple[str, ...]:
    """Return the prefix under which permissions count, also for root."""
    if os.geteuid() != 0:
        return ()
    powers = "-dac_override,-dac_read_search"
    return (need("setpriv"), f"--bounding-set={powers}", f"--inh-caps={powers}")


@pytest.mark.parametrize("what", ["file", "folder"])
def test_a_read_only_database_is_refused(database: Path, what: str) -> None:
    """A file or folder that can't be written is said at the start, and not by the first PUT."""
    content = database.read_bytes()
    folder = database.parent
    (database if what == "file" else folder).chmod(0o444 if what == "file" else 0o555)
    try:
        said = refused(folder=folder, prefix=without_privilege())
    finally:
        folder.chmod(0o755)
    assert "hello.db" in said
    assert "read-only" in said or "permission" in said
    assert database.read_bytes() == content


def test_an_unreadable_database_is_refused(database: Path) -> None:
    """A file that may not even be read is said, with its permissions as the reason."""
    content = database.read_bytes()
    database.chmod(0)
    said = refused(folder=database.parent, prefix=without_privilege())
    database.chmod(0o644)
    assert "permission" in said
    assert database.read_bytes() == content


def truncate(path: Path) -> None:
    """Cut a database in the middle."""
    os.truncate(path, path.stat().st_size // 2 // 4096 * 4096)


def spoil_schema(path: Path) -> None:
    """Overwrite the first page behind its header of 100 bytes."""
    content = path.read_bytes()
    path.write_bytes(content[:100] + b"\xff" * (4096 - 100) + content[4096:])


def write_letter(path: Path) -> None:
    """Put something there that is no database."""
    path.write_text("Dear Zoe,\n" * 1000)


def make_other(path: Path) -> None:
    """Put the database of another program there."""
    path.unlink()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE people (name TEXT)")


def make_other_with_id(path: Path) -> None:
    """Put an empty database there that another program has marked as its own."""
    path.unlink()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA application_id = 7")


def make_newer(path: Path) -> None:
    """Mark the database as one of a newer version."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 99")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        (truncate, "damaged"),
        (spoil_schema, "damaged"),
        (write_letter, "not a database"),
        (make_other, "another program"),
        (make_other_with_id, "another program"),
        (make_newer, "newer version"),
    ],
)
def test_a_file_that_it_must_not_use_is_refused(
    database: Path, spoil: Callable[[Path], None], expected: str
) -> None:
    """A damaged or foreign file, or one of a newer version, is named with the reason and left as it is."""
    spoil(database)
    content = database.read_bytes()
    said = refused(folder=database.parent, prefix=AS_A_PROCESS)
    assert expected in said
    assert "hello.db" in said
    assert database.read_bytes() == content
    assert expected in refused("--workers", "2", folder=database.parent, prefix=AS_A_PROCESS)
    assert database.read_bytes() == content


def test_damage_inside_is_unavailable_and_logged(serve: Serve, database: Path) -> None:
    """Where a page is found damaged, what needs it is 503 and logged with the reason; the rest goes on."""
    with closing(sqlite3.connect(database)) as connection:
        keys = [key for (key,) in connection.execute("SELECT key FROM people ORDER BY key")]
    content = bytearray(database.read_bytes())
    size = int.from_bytes(content[16:18], "big")  # of a page: https://www.sqlite.org/fileformat.html, 1.3.2
    leaf = content.index(f"{keys[0]}P{keys[0][1:]}".encode()) // size * size
    damaged = [key for key in keys if f"{key}P{key[1:]}".encode() in content[leaf : leaf + size]]
    assert leaf
    assert damaged
    content[leaf : leaf + size] = b"\xff" * size
    database.write_bytes(content)

    service = serve()
    assert {service.get(f"/hello/{key}").status for key in damaged[:20]} == {503}
    assert_unavailable(service.get("/hello"))
    assert service.get(f"/hello/{keys[-1]}").status == 200
    assert service.get("/hc").status == 200
    assert any("damaged" in entry.get("message", "") for entry in service.log())
    assert not any("exception" in entry or "raw" in entry for entry in service.log())


def test_a_missing_folder_is_named_and_not_made(tmp_path: Path) -> None:
    """The service makes a file, never a folder for it."""
    said = refused(
        folder=tmp_path, environment={"HELLO_STORE": f"sqlite:///{tmp_path}/no/hello.db"}, prefix=AS_A_PROCESS
    )
    assert f"{tmp_path}/no" in said
    assert list(tmp_path.iterdir()) == []


def test_a_folder_in_place_of_the_file_is_refused(tmp_path: Path) -> None:
    """The name of a folder is refused as a database."""
    (tmp_path / "hello.db").mkdir()
    assert "can't be opened" in refused(folder=tmp_path, prefix=AS_A_PROCESS)


def test_a_locked_store_refuses_writes_in_time_and_recovers_at_once(serve: Serve) -> None:
    """Another's lock past the time limit makes PUT 503, while reads go on; the next PUT after it is fine."""
    service = serve("--store-timeout", "0.3")
    assert service.put("Zoe", "1990-04-23").status == 204
    with locked(service.database):
        assert_unavailable(service.put("Adam", "1991-05-24"))
        assert_unavailable(service.request("DELETE", "/hello/Zoe"))
        assert service.get("/hello/Zoe").status == 200
        assert service.get("/hello/Adam").status == 404
        assert service.get("/ready").status == 200
        assert service.get("/hc").status == 200
    assert service.put("Adam", "1991-05-24").status == 204
    assert everyone(service) == {"Zoe": "1990-04-23", "Adam": "1991-05-24"}


def test_a_write_waits_for_a_lock_within_the_time_limit(serve: Serve) -> None:
    """A lock that is let go in time costs a PUT nothing but the wait."""
    service = serve("--store-timeout", "30")
    answers: list[Answer] = []
    client = threading.Thread(target=lambda: answers.append(service.put("Zoe", "1990-04-23")))
    with locked(service.database):
        client.start()
        client.join(0.5)
        assert client.is_alive()
    client.join(25)
    assert [answer.status for answer in answers] == [204]


def test_a_write_that_was_refused_is_not_done_later(serve: Serve, tmp_path: Path) -> None:
    """What came too late is dropped, or it would undo what another service has acknowledged since."""
    one = serve("--store-timeout", "1.5")
    folder = tmp_path / "other"
    folder.mkdir()
    other = serve("--store", f"sqlite:///{one.database}", "--store-timeout", "30", folder=folder)
    with ThreadPoolExecutor() as pool:
        with locked(one.database):
            refused = [pool.submit(one.put, name, "1990-01-01") for name in ("Adam", "Zoe", "Bea", "Zoe")]
            assert {answer.result().status for answer in refused} == {503}
            later = pool.submit(other.put, "Zoe", "1991-02-02")
            until(lambda: b"in_flight 2.0" in other.get("/metrics").body, "the PUT to be in flight")
        assert later.result().status == 204
    assert one.put("Carl", "1990-01-01").status == 204  # behind whatever was left
    people = {person["username"]: person["dateOfBirth"] for person in one.get("/hello").json()["people"]}
    assert people == {"Carl": "1990-01-01", "Zoe": "1991-02-02"}


def test_a_store_locked_at_the_start_is_said(database: Path) -> None:
    """Where another process keeps the file locked, the service says so and does not start."""
    with locked(database):
        said = refused("--store-timeout", "0.3", folder=database.parent, prefix=AS_A_PROCESS)
    assert "locked" in said


OPENER = """
import asyncio, sys
from hello.stores import Entry, open_store
from datetime import date

async def use(url, key):
    store = await open_store(url, timeout=20)
    await store.put(Entry(key, key, date(1990, 4, 23)))
    await store.close()

print("ready", flush=True)
for line in sys.stdin:
    try:
        asyncio.run(use(line.strip(), sys.argv[1]))
        print("ok", flush=True)
    except Exception as error:
        print(repr(error), flush=True)
"""


def test_processes_that_make_the_same_new_file_at_once_share_it(tmp_path: Path) -> None:
    """Whoever is first makes the schema; the others use it, and nobody fails."""
    openers = [
        subprocess.Popen(
            [sys.executable, "-c", OPENER, letters(number)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
        )
        for number in range(6)
    ]
    try:
        for opener in openers:
            assert opener.stdout is not None
            assert opener.stdout.readline() == "ready\n"
        for number in range(30):
            path = tmp_path / f"{number}.db"
            for opener in openers:
                assert opener.stdin is not None
                opener.stdin.write(f"sqlite:///{path}\n")
            assert [opener.stdout.readline() for opener in openers if opener.stdout] == ["ok\n"] * 6
            with closing(sqlite3.connect(path)) as connection:
                assert connection.execute("SELECT count(*) FROM people").fetchone() == (6,)
    finally:
        for opener in openers:
            opener.communicate()


def test_the_files_are_for_their_owner_alone(serve: Serve, tmp_path: Path) -> None:
    """Dates of birth are personal: other users of the machine read none of the three files."""
    service = serve(prefix=("sh", "-c", 'umask 022; exec "$@"', "sh"))
    assert service.put("Zoe", "1990-04-23").status == 204
    modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.glob("hello.db*")}
    assert modes == {"hello.db": 0o600, "hello.db-wal": 0o600, "hello.db-shm": 0o600}
