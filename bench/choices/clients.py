"""Decision 13: asking etcd's JSON gateway for a range, by two HTTP clients, each with a kept connection."""

import asyncio
import subprocess
import sys
import tempfile
import time
from base64 import b64encode
from collections.abc import Awaitable, Callable
from pathlib import Path
from statistics import median

import aiohttp
import httpx

from bench.choices.timing import micro
from bench.markdown import table
from bench.processes import Command, Running, free_port

RANGES, ROUNDS = 1000, 5
BODY = {
    "key": b64encode(b"/skydns/local/hello/").decode(),
    "range_end": b64encode(b"/skydns/local/hello0").decode(),
}


def measure() -> str:
    """Return a table: µs of processor time a request, and ms to load the library."""
    port, peer = free_port(), free_port()
    with tempfile.TemporaryDirectory() as name:
        etcd = ["etcd", "--data-dir", f"{name}/data", "--listen-client-urls", f"http://127.0.0.1:{port}"]
        etcd += ["--advertise-client-urls", f"http://127.0.0.1:{port}"]
        etcd += ["--listen-peer-urls", f"http://127.0.0.1:{peer}"]
        etcd += ["--initial-advertise-peer-urls", f"http://127.0.0.1:{peer}"]
        etcd += ["--initial-cluster", f"default=http://127.0.0.1:{peer}"]
        with Running([Command(etcd)], Path(name), 0) as running:
            running.first_200(port, "/health")
            found = asyncio.run(_compare(f"http://127.0.0.1:{port}/v3/kv/range"))
    rows = [(library, micro(seconds), f"{_load(library) * 1e3:.0f}") for library, seconds in found.items()]
    return table(("library", "µs a request", "ms to load"), rows)


async def _compare(url: str) -> dict[str, float]:
    async with aiohttp.ClientSession() as session, httpx.AsyncClient() as client:

        async def by_aiohttp() -> None:
            async with session.post(url, json=BODY) as response:
                assert response.status == 200
                await response.read()

        async def by_httpx() -> None:
            assert (await client.post(url, json=BODY)).status_code == 200

        ways: dict[str, Callable[[], Awaitable[None]]] = {"aiohttp": by_aiohttp, "httpx": by_httpx}
        times: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(ROUNDS):
            for name, ask in ways.items():
                started = time.process_time()
                for _ in range(RANGES):
                    await ask()
                times[name].append((time.process_time() - started) / RANGES)
    return {name: median(found) for name, found in times.items()}


def _load(library: str) -> float:
    code = f"import time; t = time.perf_counter(); import {library}; print(time.perf_counter() - t)"
    times = [float(subprocess.check_output([sys.executable, "-c", code], timeout=60)) for _ in range(ROUNDS)]
    return median(times)
