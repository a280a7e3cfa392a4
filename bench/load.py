"""One run of wrk, with what it and the server used of their cores."""

import json
import os
import resource
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from bench.processes import BenchError, Running, core_seconds, tied_to

Method = Literal["GET", "PUT"]
SCRIPT = Path(__file__).with_name("requests.lua")
TIMEOUT = 10  # seconds; wrk counts a slower answer as an error


@dataclass(frozen=True)
class Names:
    """The files that requests are made of: names, and dates of birth for PUT; one a line."""

    names: Path
    dates: Path


@dataclass(frozen=True)
class Sample:
    """What one run measured; times in seconds."""

    rate: float  # requests/s
    p50: float
    p99: float
    cpu: float  # of the server, per request
    load: float  # share of its core that wrk used: near 1, wrk is the limit and not the server
    others: float  # share of the server's core that went to anything else than the server


def measure(
    server: Running,
    port: int,
    method: Method,
    names: Names,
    *,
    headers: Mapping[str, str],
    connections: int,
    seconds: float,
    core: int,
    think: float = 0.0,
) -> Sample:
    """Put load on a server and return what it did with it.

    Each connection waits `think` seconds on average before a request.

    Raises:
        BenchError: an answer was an error, or none came.
    """
    used, load, core_used = server.cpu_seconds(), _children_cpu(), core_seconds(server.core)
    result = wrk(port, method, names, headers, connections, seconds, core, think)
    used, load = server.cpu_seconds() - used, _children_cpu() - load
    others = core_seconds(server.core) - core_used - used
    server.check_alive()
    errors = {kind: result[kind] for kind in ("status", "socket", "timeout") if result[kind]}
    if errors or not result["requests"]:
        raise BenchError(f"{method}: {result['requests']} requests, errors: {errors}.\n{server.last_lines()}")
    duration = result["microseconds"] / 1e6
    return Sample(
        rate=result["requests"] / duration,
        p50=result["p50"] / 1e6,
        p99=result["p99"] / 1e6,
        cpu=used / result["requests"],
        load=min(1.0, load / duration),
        others=max(0.0, others / duration),
    )


def wrk(
    port: int,
    method: Method,
    names: Names,
    headers: Mapping[str, str],
    connections: int,
    seconds: float,
    core: int,
    think: float = 0.0,
) -> dict[str, int]:
    """Run wrk; return its counts and, in microseconds, its times. See `measure`."""
    arguments = [
        *(
            "wrk",
            "--threads",
            "1",
            "--connections",
            str(connections),
            "--duration",
            f"{max(1, round(seconds))}s",
        ),
        *("--timeout", f"{TIMEOUT}s", "--script", str(SCRIPT), f"http://127.0.0.1:{port}", "--"),
        *(method, str(names.names), str(names.dates)),
        *(part for header in headers.items() for part in header),
    ]
    with subprocess.Popen(
        arguments,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | ({"THINK_MS": str(think * 1e3)} if think else {}),
        preexec_fn=tied_to(os.getpid(), core),
    ) as process:
        try:
            output = process.communicate(timeout=seconds + 60)[0]
        finally:
            process.kill()
    for line in output.splitlines():
        if line.startswith("RESULT "):
            result: dict[str, int] = json.loads(line.removeprefix("RESULT "))
            return result
    raise BenchError(f"wrk gave no result:\n{output}")


def _children_cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime
