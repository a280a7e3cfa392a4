"""People moved between any two stores, and the schema that they need there."""

import os
import re
import sqlite3
import subprocess
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Serve
from tests.support.commands import hello
from tests.support.environment import HELLO, ROOT
from tests.support.stores import STORES

# Reading one store and writing another know nothing of each other: this way each is read and written.
PAIRS = [pair for other in STORES if other != "sqlite" for pair in [("sqlite", other), (other, "sqlite")]]
EXAMPLE = ROOT / "examples" / "people.csv"
FIGURES = "614 people, digest [0-9a-f]{64}"

Run = Callable[..., str]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Run a command that must succeed, and return its output and then what it says."""

    def run(*arguments: str | Path, stdin: str = "") -> str:
        done = hello(*map(str, arguments), folder=tmp_path, stdin=stdin.encode())
        assert done.returncode == 0, done.stderr.decode()
        return (done.stdout + done.stderr).decode()

    return run


@pytest.fixture
def urls(request: pytest.FixtureRequest) -> Sequence[str]:
    """Return the URLs of two empty stores of different kinds."""
    return [request.getfixturevalue(f"{name}_url") for name in request.param]


@pytest.fixture(params=STORES)
def bare_url(request: pytest.FixtureRequest) -> str:
    """Return the URL of a store that has no schema yet."""
    if request.param == "postgresql":
        cluster: Any = request.getfixturevalue("cluster")
        return str(cluster.url(request.getfixturevalue("new_database")()))
    url = str(request.getfixturevalue(f"{request.param}_url"))
    return url if request.param == "sqlite" else f"{url}-bare"


# Moving


@pytest.mark.parametrize("urls", PAIRS, ids=" to ".join, indirect=True)
def test_everyone_is_moved(urls: Sequence[str], run: Run, tmp_path: Path) -> None:
    """Count and digest are those of the other store: as told by export, by import, and by `hello digest`."""
    old, new = urls
    [figures] = re.findall(FIGURES, run("import", EXAMPLE, "--store", old))
    piped = subprocess.run(
        ["bash", "-c", '"$0" export --store "$1" | "$0" import --store "$2"', HELLO, old, new],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env={name: value for name, value in os.environ.items() if not name.startswith("HELLO_")},
        check=True,
    )
    assert piped.stderr.splitlines() == [f"wrote {figures}", f"loaded {figures}"]
    assert run("digest", "--store", old) == run("digest", "--store", new) == f"{figures}\n"

    run("import", "--store", new, stdin="username,dateOfBirth\nandréCarson,1974-10-16\n")
    changed = run("digest", "--store", new)
    assert re.fullmatch(f"{FIGURES}\n", changed)
    assert changed != f"{figures}\n", "one letter is spelled in another way"


def test_the_transcript_of_the_documentation_is_true(
    sqlite_url: str, cluster: Any, new_database: Callable[[], str], run: Run, tmp_path: Path
) -> None:
    """Each command of docs/stores.md, run in its order, says what is written below it."""
    new = cluster.url(new_database())
    run("import", EXAMPLE, "--store", sqlite_url)
    [console] = re.findall(
        r"^```console\n(.*?)^```", (ROOT / "docs" / "stores.md").read_text(), re.DOTALL | re.MULTILINE
    )
    for command, expected in (step.split("\n", 1) for step in console.split("$ ")[1:]):
        done = subprocess.run(
            ["bash", "-c", f"exec 2>&1; {command}"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            env={
                "HELLO_STORE": sqlite_url,
                "NEW_STORE": new,
                "PATH": f"{HELLO.parent}{os.pathsep}{os.environ['PATH']}",
            },
            check=True,
        )
        assert done.stdout == expected, command


# Migrate


def test_migrate_makes_what_a_service_needs(bare_url: str, run: Run, serve: Serve) -> None:
    """Done again it changes nothing, also with people there."""
    assert "version 1" in run("migrate", "--store", bare_url)
    service = serve(environment={"HELLO_STORE": bare_url})
    assert service.put("Zoe", "1990-04-23").status == 204
    before = run("digest", "--store", bare_url)
    assert "version 1" in run("migrate", "--store", bare_url)
    assert run("digest", "--store", bare_url) == before
    assert service.get("/hello/Zoe").status == 200


def test_several_may_migrate_at_once(bare_url: str, run: Run) -> None:
    """Eight that begin together all succeed, and the store is of use."""
    with ThreadPoolExecutor(8) as pool:
        said = list(pool.map(lambda _: run("migrate", "--store", bare_url), range(8)))
    assert all("version 1" in text for text in said), said
    run("import", "--store", bare_url, stdin="username,dateOfBirth\nZoe,1990-04-23\n")
    assert run("digest", "--store", bare_url).startswith("1 person, ")


def test_a_newer_file_is_refused(sqlite_url: str, run: Run, tmp_path: Path) -> None:
    """It is left as it is, and the message says what to do."""
    run("migrate", "--store", sqlite_url)
    path = tmp_path / "hello.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 2")
    before = path.read_bytes()
    ended = hello("migrate", "--store", sqlite_url, folder=tmp_path)
    assert (ended.returncode, ended.stdout) == (2, b"")
    said = ended.stderr.decode()
    assert said.startswith(f"hello: {path} was written by a newer version of hello")
    assert said.endswith("Nothing was changed.\n")
    assert path.read_bytes() == before
