"""What this machine offers to a test: paths, commands, ports, and waiting for a condition."""

import os
import secrets
import shutil
import socket
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import NoReturn

import pytest

ROOT = Path(__file__).parent.parent.parent
HELLO = Path(sys.executable).with_name("hello")
# Below the ports that Linux gives to connections: a server that a test restarts finds its port free.
PORTS = range(10_000, 32_000)


def need(command: str) -> str:
    """Return the path of a command; skip the test if it is not installed, or fail it with CI=true."""
    path = shutil.which(command)
    source = (
        "developer.hashicorp.com/terraform/install" if command == "terraform" else "requirements/debian.txt"
    )
    return path or missing(f"{command} is not installed (see {source})")


def missing(reason: str) -> NoReturn:
    """Skip the test because a real component is missing; fail it with CI=true."""
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


def free_port() -> int:
    """Return a port of 127.0.0.1 that is not in use, and that no connection will be given."""
    while True:
        port = secrets.choice(PORTS)  # hypothesis seeds `random`, alike in each process
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


def free_network() -> str:
    """Return the first three parts of loopback addresses, of this and the next four networks, that are free.

    Processes that run at the same time get different ones. What a rehearsal uses there it checks again.
    """
    while True:
        second, third = 1 + secrets.randbelow(250), secrets.randbelow(250)
        networks = [f"127.{second}.{third + number}" for number in range(5)]
        with suppress(OSError), ExitStack() as stack:
            for network in networks:
                stack.enter_context(socket.create_server((f"{network}.1", 5000)))
            return networks[0]


def listens(port: int) -> bool:
    """Return whether a port of 127.0.0.1 accepts connections."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def until(condition: Callable[[], object], what: str, seconds: float = 30) -> None:
    """Wait for a condition; `seconds` only ends a wait for something that never happens."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"still waiting for: {what}"
        time.sleep(0.02)
