"""Fixtures: DynamoDB as an emulator's process, and a fresh table for each test."""

import asyncio
import ctypes
import signal
import socket
import subprocess
import uuid
from collections.abc import Iterator

import pytest

from tests.support import ROOT, missing, until

MOTO = ROOT / ".venv-emulators" / "bin" / "moto_server"
PR_SET_PDEATHSIG = 1


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture(scope="session")
def moto_server() -> Iterator[str]:
    """Run moto's server, and return its address."""
    if not MOTO.exists():
        missing("moto is not installed (make .venv/.stamps/emulators)")
    port = free_port()
    process = subprocess.Popen(
        [MOTO, "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        preexec_fn=_die_with_parent,
    )
    try:
        until(lambda: _listens(port), "moto to listen", 60)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def moto_url(moto_server: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return the URL of an empty table in moto."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", moto_server)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    url = f"dynamodb://us-east-1/test-{uuid.uuid4().hex}"
    from hello.stores import migrate  # later: tests/e2e needs nothing of hello

    asyncio.run(migrate(url, timeout=30))
    return url
