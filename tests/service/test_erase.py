"""Erased is gone: from the indexes at once, from the files after `hello compact`."""

import asyncio
import json
import random
import re
import sqlite3
import struct
import subprocess
import threading
from contextlib import closing
from datetime import date
from pathlib import Path

import asyncpg
import pytest

from tests.conftest import Serve
from tests.support.commands import hello
from tests.support.environment import until
from tests.support.postgresql import Cluster
from tests.support.service import Service, everyone, letters, writing
from tests.support.stores import STORES

RARE, KEY = "Quetzalcoatlix", "quetzalcoatlix"
BORN, REPLACED = "1703-11-19", "1704-07-07"
OTHER = "1990-04-23"


def compact(url: str, *options: str, folder: Path) -> str:
    """Run `hello compact`, which must succeed; return what it says."""
    done = hello("compact", "--store", url, *options, folder=folder)
    assert done.returncode == 0, done.stderr.decode()
    return done.stderr.decode()


def left(database: Path, *texts: str) -> dict[str, set[str]]:
    """Return which of the texts are in the database's files, by the file's suffix."""
    files = {suffix: Path(f"{database}{suffix}") for suffix in ("", "-wal", "-shm")}
    found = {}
    for suffix, file in files.items():
        data = file.read_bytes() if file.exists() else b""
        found[suffix] = {text for text in texts if text.encode() in data}
    return {suffix: texts for suffix, texts in found.items() if texts}


def erase_and_replace(service: Service) -> None:
    """Have a person erased, and another's date replaced."""
    for username, born in [(RARE, BORN), ("Bea", REPLACED), ("Bea", OTHER)]:
        assert service.put(username, born).status == 204
    assert service.request("DELETE", f"/hello/{RARE}").status == 204


def test_bytes_are_gone_from_the_file(serve: Serve) -> None:
    """Neither name nor date are left in the file, its log or the shared memory, while it is served."""
    service = serve()
    erase_and_replace(service)
    assert left(service.database, RARE, KEY, BORN, REPLACED) == {"-wal": {RARE, KEY, BORN, REPLACED}}
    said = compact(f"sqlite:///{service.database}", folder=service.folder)
    assert said == "rewrote the file; nothing is left in it of who was erased\n"
    assert left(service.database, RARE, KEY, BORN, REPLACED) == {}
    assert everyone(service) == {"Bea": OTHER}
    assert service.put("Zoe", OTHER).status == 204
    assert service.stop() == 0
    assert left(service.database, RARE, KEY, BORN, REPLACED) == {}


def test_what_was_erased_is_overwritten_at_once(serve: Serve) -> None:
    """Before any rewriting, the pages themselves have nothing of it: where SQLite would leave it, too."""
    service = serve()
    erase_and_replace(service)
    assert service.stop() == 0
    assert left(service.database, OTHER) == {"": {OTHER}}
    assert left(service.database, RARE, KEY, BORN, REPLACED) == {}


def test_nobody_is_disturbed_while_the_file_is_rewritten(serve: Serve) -> None:
    """Under writes on all sides none fails, no acknowledged one is lost, and the erased are gone."""
    service = serve()
    statuses: set[int] = set()
    done = threading.Event()

    def read() -> None:
        while not done.is_set():
            statuses.add(service.get("/hello/Bea").status)

    rows = "".join(f"Load{letters(n)},1990-04-23\n" for n in range(20_000))
    assert (
        hello("import", folder=service.folder, stdin=f"username,dateOfBirth\n{rows}".encode()).returncode == 0
    )
    erase_and_replace(service)
    reader = threading.Thread(target=read)
    with writing(service) as acknowledged:
        reader.start()
        try:
            until(lambda: len(acknowledged) > 50, "people")
            for _ in range(2):
                before = len(acknowledged)
                compact(f"sqlite:///{service.database}", folder=service.folder)
                assert left(service.database, RARE, KEY, BORN, REPLACED) == {}
                until(lambda: len(acknowledged) > before, "more people")  # noqa: B023 - called here
        finally:
            done.set()
            reader.join()
    assert statuses == {200}
    found = everyone(service)
    assert set(acknowledged) <= set(found)
    assert len(found) == len(set(acknowledged)) + 20_000 + 1
    assert service.stop() == 0
    with closing(sqlite3.connect(service.database)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_of_thousands_erased_nothing_is_left(tmp_path: Path) -> None:
    """Pages that were split and joined have copies of cells beside those in use; these go as well."""
    chance = random.Random(4)
    people = ["".join(chance.choices("abcdefghij", k=chance.randrange(10, 64))) for _ in range(6_000)]
    rows = "".join(f"{name},1990-04-23\n" for name in people)
    assert hello("import", folder=tmp_path, stdin=f"username,dateOfBirth\n{rows}".encode()).returncode == 0
    database = tmp_path / "hello.db"
    gone = set(chance.sample(people, 2_000))
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("PRAGMA secure_delete = OFF")  # as a build of SQLite without it, or older files
        connection.executemany("DELETE FROM people WHERE key = ?", [(name,) for name in gone])
        connection.commit()
    assert len(left(database, *gone)[""]) > 200
    compact(f"sqlite:///{database}", folder=tmp_path)
    assert left(database, *gone) == {}
    assert hello("export", folder=tmp_path).stdout.count(b"\n") == 4_001


def test_what_would_hold_up_writes_for_too_long_is_given_up(serve: Serve) -> None:
    """Then nothing is changed, and the message names --full, with which it is done."""
    service = serve()
    rows = "".join(f"Load{letters(n)},1990-04-23\n" for n in range(8_000))
    assert (
        hello("import", folder=service.folder, stdin=f"username,dateOfBirth\n{rows}".encode()).returncode == 0
    )
    erase_and_replace(service)
    before = hello("digest", folder=service.folder).stdout
    url = f"sqlite:///{service.database}"
    done = hello("compact", "--store", url, "--store-timeout", "0.002", folder=service.folder)
    assert (done.returncode, done.stdout) == (2, b"")
    assert b"longer than store-timeout (0.002 s)" in done.stderr
    assert b"--full" in done.stderr
    assert KEY in left(service.database, KEY)["-wal"]
    compact(url, "--full", "--store-timeout", "0.002", folder=service.folder)
    assert left(service.database, RARE, KEY, BORN, REPLACED) == {}
    assert hello("digest", folder=service.folder).stdout == before


def test_a_file_that_is_no_store_is_left_alone(tmp_path: Path) -> None:
    """A missing file is not made, and another program's is not rewritten."""
    done = hello("compact", folder=tmp_path)
    assert done.returncode == 2
    assert not (tmp_path / "hello.db").exists()
    with closing(sqlite3.connect(tmp_path / "hello.db")) as connection:
        connection.execute("CREATE TABLE theirs (it)")
    before = (tmp_path / "hello.db").read_bytes()
    done = hello("compact", folder=tmp_path)
    assert (done.returncode, b"another program" in done.stderr) == (2, True)
    assert (tmp_path / "hello.db").read_bytes() == before


# PostgreSQL


def files_of_people(cluster: Cluster, database: str) -> bytes:
    """Return the bytes of the files of the table and its indexes, as they are on disk."""
    cluster.sql("CHECKPOINT")
    names = cluster.sql(
        "SELECT pg_relation_filepath(oid) FROM pg_class WHERE oid = 'people'::regclass"
        " OR oid IN (SELECT indexrelid FROM pg_index WHERE indrelid = 'people'::regclass)",
        database,
    ).splitlines()
    assert len(names) == 3
    return b"".join((cluster.data / name).read_bytes() for name in names)


def test_bytes_are_gone_from_postgresql(
    cluster: Cluster, postgresql_url: str, serve: Serve, tmp_path: Path
) -> None:
    """Nor are they left in the files of the table and its indexes, nor in what the statistics sample."""
    service = serve(environment={"HELLO_STORE": postgresql_url})
    erase_and_replace(service)
    database = re.findall(r"/(test_\d+)", postgresql_url)[0]
    days = struct.pack("<i", (date.fromisoformat(BORN) - date(2000, 1, 1)).days)
    replaced = struct.pack("<i", (date.fromisoformat(REPLACED) - date(2000, 1, 1)).days)
    wanted = [RARE.encode(), KEY.encode(), days, replaced]
    cluster.sql("VACUUM people", database)
    assert any(text in files_of_people(cluster, database) for text in wanted), "what VACUUM alone leaves"
    said = compact(postgresql_url, folder=tmp_path)
    assert said == "rewrote the table and its indexes; nothing is left in their files of who was erased\n"
    data = files_of_people(cluster, database)
    assert [text for text in wanted if text in data] == []
    assert b"bea" in data
    assert everyone(service) == {"Bea": OTHER}


def test_statistics_of_postgresql_forget_who_was_erased(
    cluster: Cluster, postgresql_url: str, tmp_path: Path
) -> None:
    """ANALYZE keeps some people's values; after compact they are those of who is there."""
    rows = f"username,dateOfBirth\n{RARE},{BORN}\nBea,1990-04-23\nAda,1815-12-10\n"
    loaded = hello("import", "--store", postgresql_url, folder=tmp_path, stdin=rows.encode())
    assert loaded.returncode == 0
    database = re.findall(r"/(test_\d+)", postgresql_url)[0]
    cluster.sql("ANALYZE people", database)
    cluster.sql(f"DELETE FROM people WHERE username = '{RARE}'", database)
    statistics = "SELECT histogram_bounds, most_common_vals FROM pg_stats WHERE tablename = 'people'"
    assert RARE in cluster.sql(statistics, database)
    compact(postgresql_url, folder=tmp_path)
    assert RARE not in cluster.sql(statistics, database)


def test_postgresql_gives_up_in_time(cluster: Cluster, postgresql_url: str, tmp_path: Path) -> None:
    """While somebody reads the table for long, others are not made to queue behind the rewriting."""
    database = re.findall(r"/(test_\d+)", postgresql_url)[0]

    async def compact_beside_a_reader() -> subprocess.CompletedProcess[bytes]:
        connection = await asyncpg.connect(cluster.socket_url(database))
        try:
            async with connection.transaction():
                await connection.fetch("SELECT 1 FROM people")
                options = ("--store", postgresql_url, "--store-timeout", "0.1")
                return await asyncio.to_thread(hello, "compact", *options, folder=tmp_path)
        finally:
            await connection.close()

    done = asyncio.run(compact_beside_a_reader())
    assert done.returncode == 2
    assert b"longer than store-timeout (0.1 s)" in done.stderr


def test_dynamodb_has_no_files(dynamodb_url: str, tmp_path: Path) -> None:
    """There is nothing to do, which is said."""
    assert compact(dynamodb_url, folder=tmp_path).startswith("nothing to do: DynamoDB")


# One person


@pytest.mark.parametrize(("store", "form"), [*((store, "csv") for store in STORES), ("sqlite", "jsonl")])
def test_one_person_is_exported(
    store: str, form: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """Under any spelling of the username, and as it is spelled in the store."""
    environment = {"HELLO_STORE": str(request.getfixturevalue(f"{store}_url"))}
    rows = "username,dateOfBirth\nZoë,1990-04-23\nZoe,1991-05-24\n".encode()
    assert hello("import", folder=tmp_path, stdin=rows, environment=environment).returncode == 0
    done = hello("export", "--username", "ZOË", "--format", form, folder=tmp_path, environment=environment)
    assert done.returncode == 0
    if form == "csv":
        assert done.stdout.decode() == "username,dateOfBirth\nZoë,1990-04-23\n"
    else:
        assert json.loads(done.stdout) == {"username": "Zoë", "dateOfBirth": "1990-04-23"}


def test_nobody_is_exported(tmp_path: Path) -> None:
    """An unknown username is status 1, what is none is status 2; no file is made or replaced."""
    assert hello("import", folder=tmp_path, stdin=b"username,dateOfBirth\nZoe,1990-04-23\n").returncode == 0
    (tmp_path / "one.csv").write_text("as it was")
    for username, status, says in [("Ada", 1, b"nobody is registered"), ("a1", 2, b"not a letter")]:
        done = hello("export", "--username", username, "-o", "one.csv", folder=tmp_path)
        assert (done.returncode, done.stdout) == (status, b"")
        assert says in done.stderr
    assert (tmp_path / "one.csv").read_text() == "as it was"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["hello.db", "one.csv"]
