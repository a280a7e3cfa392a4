"""What the figures were measured on: the machine, its load, and the versions of everything."""

import os
import platform
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median

from bench.found import Found
from bench.servers import HELLO, PEERS_VENV, ROOT

_HELLO_PACKAGES = (
    "starlette",
    "uvicorn",
    "uvloop",
    "httptools",
    "msgspec",
    "prometheus-client",
    "asyncpg",
    "aiohttp",
)
_PEER_PACKAGES = (
    "fastapi",
    "pydantic",
    "uvicorn",
    "flask",
    "gunicorn",
    "SQLAlchemy",
    "aiosqlite",
    "asyncpg",
    "aiobotocore",
)
_DEBIAN_PACKAGES = ("golang-github-gin-gonic-gin-dev", "golang-github-gomodule-redigo-dev")
_PYTHON_VERSIONS = """
import importlib.metadata as m, platform, sqlite3, sys
print("Python", platform.python_version() + ", SQLite", sqlite3.sqlite_version, end="")
for name in sys.argv[1:]:
    print(",", name, m.version(name), end="")
"""


def describe(folder: Path) -> Mapping[str, str]:
    """Return what the machine is, and how long its disk takes to sync a write in `folder`."""
    return {
        "processor": f"{_cpu_model()}, {os.cpu_count()} logical cores, {_threads()}",
        "memory": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB",
        "system": f"{_os_name()}, Linux {platform.release()}, {platform.machine()}",
        "load before": f"{os.getloadavg()[0]:.2f} (mean of the last minute)",
        "disk": f"fdatasync of 4 KiB takes {_sync_seconds(folder) * 1e6:.0f} µs (median of 200)",
    }


def versions(found: Found) -> Mapping[str, str]:
    """Return the versions of what was compared."""
    keys = list(found.visits)
    versions = {
        "hello": f"{_output(HELLO / 'hello', '--version')}, {_commit()}; {_python(HELLO, _HELLO_PACKAGES)}",
        "wrk": _output("wrk", "--version").split("[")[0].removeprefix("wrk "),
    }
    if "nginx" in keys:
        versions["nginx"] = _output("nginx", "-v").rpartition("/")[2]
    if "go" in keys:
        redis = re.search(r"v=(\S+)", _output("redis-server", "--version"))
        versions["Go"] = _output("go", "version").removeprefix("go version ")
        versions["Go libraries"] = ", ".join(f"{name} {_debian(name)}" for name in _DEBIAN_PACKAGES)
        versions["Redis"] = redis[1] if redis else "?"
    if {"hello-postgresql", "fastapi-postgresql"} & set(keys) or "PostgreSQL" in found.sizes:
        versions["PostgreSQL"] = _output("postgres", "--version").removeprefix("postgres (PostgreSQL) ")
    if found.clients or {"fastapi", "flask", "fastapi-postgresql"} & set(keys):
        versions["peers"] = _python(PEERS_VENV, _PEER_PACKAGES)
    return versions


def _commit() -> str:
    """Return which commit is measured, and whether what is here is that."""
    changed = _output("git", "-C", str(ROOT), "status", "--porcelain", "--untracked-files=no", "--", "src")
    name = _output("git", "-C", str(ROOT), "rev-parse", "--short=12", "HEAD")
    return f"commit {name}{' with changes' if changed else ''}"


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith(("model name", "Model")):
            return line.partition(":")[2].strip()
    return platform.processor() or "unknown"


def _threads() -> str:
    path = Path("/sys/devices/system/cpu/cpu0/topology/thread_siblings_list")
    siblings = path.read_text().strip() if path.exists() else "0"
    shared = (
        f"cores {siblings} share a physical one"
        if siblings != "0"
        else "by its own account no two share a physical one"
    )
    virtual = " hypervisor " in Path("/proc/cpuinfo").read_text().replace("\n", " ")
    return f"{shared}; {'a virtual machine' if virtual else 'no virtual machine'}"


def _os_name() -> str:
    return platform.freedesktop_os_release().get("PRETTY_NAME", "unknown")


def _sync_seconds(folder: Path) -> float:
    times = []
    with tempfile.TemporaryFile(dir=folder) as file:
        for _ in range(200):
            file.write(bytes(4096))
            file.flush()
            started = time.perf_counter()
            os.fdatasync(file.fileno())
            times.append(time.perf_counter() - started)
    return median(times)


def _python(venv: Path, packages: Sequence[str]) -> str:
    return _output(venv / "python", "-c", _PYTHON_VERSIONS, *packages)


def _debian(package: str) -> str:
    return _output("dpkg-query", "-W", "-f", "${Version}", package) if shutil.which("dpkg-query") else "?"


def _output(*arguments: str | Path) -> str:
    done = subprocess.run(
        arguments, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, timeout=60
    )
    return done.stdout.strip().partition("\n")[0]
