"""hello as the first process of a container, without one: in a PID namespace of its own."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.environment import missing, need

# Sends itself a signal as it begins to load a module: the arguments are the signal and the module.
LOADING = """
import builtins, os, sys
from hello.__main__ import main

number, module = sys.argv[1:]

def load(name, *arguments, **named):
    if name == module:
        os.kill(os.getpid(), int(number))
    return load_by_default(name, *arguments, **named)

assert os.getpid() == 1
load_by_default, builtins.__import__ = builtins.__import__, load
sys.argv = ["hello", "serve"]
main()
"""


def as_pid_1(*command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a command as the first process of a PID namespace, to its end."""
    unshare = [need("unshare"), "--pid", "--fork", "--kill-child"]
    if os.geteuid() != 0:
        unshare += ["--user", "--map-root-user"]
    if subprocess.run([*unshare, "true"], capture_output=True, check=False).returncode != 0:
        missing("no PID namespace can be made here")
    environment = {k: v for k, v in os.environ.items() if not k.startswith("HELLO_")}
    return subprocess.run(
        [*unshare, *command],
        cwd=folder,
        env={**environment, "HELLO_PORT": "0"},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


@pytest.mark.parametrize("module", ["cyclopts", "uvicorn"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_while_modules_load_ends_it(number: signal.Signals, module: str, tmp_path: Path) -> None:
    """The kernel drops signals to PID 1 that it has no handler for: it has one from its first line on."""
    done = as_pid_1(sys.executable, "-c", LOADING, str(int(number)), module, folder=tmp_path)
    assert done.returncode == 128 + number
    assert "listening" not in done.stderr
    assert "Traceback" not in done.stderr
