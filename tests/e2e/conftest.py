"""The service under test: the one at `--url`, else one on each kind of store, started for the run."""

import os
import re
import secrets
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from datetime import date, datetime
from pathlib import Path
from typing import IO, Any
from zoneinfo import ZoneInfo

import pytest

from tests.e2e.client import Answer, Client, noon_zone, path_of
from tests.support.certificates import Authority

LATIN = "abcdefghijklmnopqrstuvwxyz"
HELLO = Path(sys.executable).with_name("hello")
STORES = ["sqlite", "postgresql", "dynalite", "moto"]
UNDER_TLS = {"test_http", "test_routes"}  # modules that also run under TLS
START_SECONDS = 30
EXAMPLE = "1990-04-23"  # the date that errors explain the form with, and that no test sends

NewName = Callable[..., str]
Problem = Callable[[Answer, int], str]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--url",
        help="the service that tests/e2e asks; left out, some are started. Where an https URL needs a CA"
        " of its own, the variable SSL_CERT_FILE names it",
    )
    parser.addoption("--leap-day", default="feb28", help="the setting of that service: feb28 or mar1")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Ask the service at `--url`, or else one on each kind of store and one with TLS, one after the other."""
    if "url" in metafunc.fixturenames:
        kinds = STORES
        if metafunc.definition.get_closest_marker("storeless") is not None:
            kinds = STORES[:1]
        if metafunc.module.__name__.rpartition(".")[2] in UNDER_TLS:
            kinds = [*kinds, "tls"]
        given = metafunc.config.getoption("--url", None)
        metafunc.parametrize("url", [given] if given else kinds, indirect=True, scope="package")


@pytest.fixture(scope="package")  # what it does to the environment ends with these tests
def url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where the service answers."""
    if "://" in request.param:
        yield str(request.param).rstrip("/")
        return
    folder = tmp_path_factory.mktemp("e2e")
    variables = {name: value for name, value in os.environ.items() if not name.startswith("HELLO_")}
    variables |= _store(request, folder)
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "tls":
            authority = Authority(folder)
            pair = authority.server()
            variables |= {"HELLO_TLS_CERT": str(pair.cert), "HELLO_TLS_KEY": str(pair.key)}
            patch.setenv("SSL_CERT_FILE", str(authority.file))  # for the clients; OpenSSL reads it
        subprocess.run([HELLO, "migrate"], env=variables, cwd=folder, check=True)
        yield from _served(folder, variables)


def _served(folder: Path, variables: Mapping[str, str]) -> Iterator[str]:
    with subprocess.Popen(
        [HELLO, "serve", "--port", "0", "--log", "json"],
        env=variables,
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr
        log: list[str] = []
        found: list[str] = []
        listening = threading.Event()
        reader = threading.Thread(target=_follow, args=(process.stderr, log, found, listening))
        reader.start()
        try:
            listening.wait(START_SECONDS)
            assert found, f"the service did not start:\n{''.join(log)}"
            yield found[0]
        finally:
            process.terminate()
            reader.join()
            status = process.wait()
    assert status == 0
    assert "Traceback" not in "".join(log)


def _store(request: pytest.FixtureRequest, folder: Path) -> dict[str, str]:
    """Return the variables by which a service finds the store, which is empty and has no schema."""
    if request.param in {"sqlite", "tls"}:
        return {"HELLO_STORE": f"sqlite:///{folder / 'hello.db'}"}
    if request.param == "postgresql":
        cluster: Any = request.getfixturevalue("cluster")
        cluster.add_database("e2e")
        return {"HELLO_STORE": cluster.url("e2e")}
    return {
        "HELLO_STORE": "dynamodb://us-east-1/e2e",
        "AWS_ENDPOINT_URL": request.getfixturevalue(f"{request.param}_server"),
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
    }


def _follow(stream: IO[str], log: list[str], found: list[str], listening: threading.Event) -> None:
    for line in stream:
        log.append(line)
        if '"listening"' in line and (match := re.search(r"https?://[^\"]+", line)):
            found.append(match[0])
            listening.set()
    listening.set()


@pytest.fixture(scope="session")
def leap_day(pytestconfig: pytest.Config) -> str:
    """Return the service's setting `leap-day`."""
    return str(pytestconfig.getoption("--leap-day", "feb28"))


@pytest.fixture(scope="session")
def noon() -> str:
    """Return the query that says it is noon, in the time zone of `today`."""
    return f"?tz={noon_zone()}".replace("+", "%2B")


@pytest.fixture(scope="session")
def today(noon: str) -> date:
    """Return the day in the time zone of `noon`."""
    return datetime.now(ZoneInfo(noon.removeprefix("?tz=").replace("%2B", "+"))).date()


@pytest.fixture
def client(url: str) -> Iterator[Client]:
    """Return a client."""
    client = Client(url)
    yield client
    client.close()


@pytest.fixture
def new_name(client: Client) -> Iterator[NewName]:
    """Make usernames that nobody has; who is registered under one is erased after the test."""
    made: list[str] = []

    def make(prefix: str = "", letters: str = LATIN) -> str:
        made.append(prefix + "".join(secrets.choice(letters) for _ in range(20)))
        return made[-1]

    yield make
    for name in made:
        assert client.send("DELETE", path_of(name)).status in {204, 404}


@pytest.fixture
def name(new_name: NewName) -> str:
    """Return a username that nobody has."""
    return new_name()


@pytest.fixture
def person(client: Client, name: str) -> str:
    """Return the path of someone who is registered."""
    assert client.put(name, "1815-12-10").status == 204
    return path_of(name)


@pytest.fixture(scope="package")
def explained(url: str) -> set[str]:
    """Return the ids on /docs: what the `type` of an error can lead to."""
    client = Client(url)
    answer = client.get("/docs")
    client.close()
    assert answer.status == 200
    return set(re.findall(r'\bid="([^"]+)"', answer.body.decode()))


@pytest.fixture
def problem(explained: set[str]) -> Problem:
    """Check that an answer is an error as RFC 9457 and the contract want it; return its detail."""

    def check(answer: Answer, status: int) -> str:
        assert answer.status == status, answer
        assert answer.content_type == "application/problem+json"
        document = answer.json()
        assert set(document) >= {"type", "title", "status", "detail"}
        assert document["status"] == status
        page, _, fragment = document["type"].partition("#")
        assert page == "/docs"
        assert fragment in explained
        assert document["title"]
        assert document["title"].strip() == document["title"]
        assert len(document["detail"].split()) > 2
        assert set(re.findall(r"\d{4}-\d{2}-\d{2}", document["detail"])) <= {EXAMPLE}, "echoes a date"
        return str(document["detail"])

    return check
