"""Decision 1: web stacks that answer the same request, one read in SQLite, on one core."""

import os
import sqlite3
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from bench.load import Names
from bench.load import measure as load
from bench.markdown import table
from bench.people import people, username, write_csv, write_dates, write_sample
from bench.processes import Command, Running, free_port, run

APPS = Path(__file__).with_name("stacks")
HELLO = {"HELLO_STORE": "sqlite:///hello.db", "PYTHONPATH": str(Path(__file__).parents[2] / "src")}
PEOPLE, ROUNDS, SECONDS, CONNECTIONS = 100_000, 3, 5.0, 32
UVICORN = ("-m", "uvicorn", "--loop", "uvloop", "--http", "httptools", "--no-access-log")
GRANIAN = ("-m", "granian", "--loop", "uvloop", "--no-ws", "--interface")
STACKS: dict[str, Sequence[str]] = {
    "uvicorn, Starlette, msgspec": (*UVICORN, "on_starlette:app"),
    "uvicorn, Falcon": (*UVICORN, "on_falcon:app"),
    "granian, RSGI by hand": (*GRANIAN, "rsgi", "on_rsgi:app"),
    "granian, Starlette": (*GRANIAN, "asgi", "on_starlette:app"),
    "uvicorn, Litestar": (*UVICORN, "on_litestar:app"),
    "uvicorn, FastAPI": (*UVICORN, "on_fastapi:app"),
    "hello, as it is now, with all it does": ("-m", "hello", "serve"),
}


def measure() -> str:
    """Return a table: requests a second, and µs of processor time for each; medians of rounds in turn."""
    cores = sorted(os.sched_getaffinity(0))
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in STACKS}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        names = Names(folder / "names", folder / "dates")
        write_sample(names.names, PEOPLE)
        write_dates(names.dates)
        with sqlite3.connect(folder / "people.db") as connection:
            connection.execute("CREATE TABLE people (username TEXT PRIMARY KEY, born TEXT) WITHOUT ROWID")
            connection.executemany("INSERT INTO people VALUES (?, ?)", people(PEOPLE))
        write_csv(folder / "people.csv", PEOPLE)
        run(
            Command([sys.executable, "-m", "hello", "import", folder / "people.csv"], HELLO), folder, cores[0]
        )
        for _ in range(ROUNDS):
            for stack in STACKS:
                found[stack].append(_visit(stack, folder, names, cores))
    middle = {stack: tuple(map(median, zip(*times, strict=True))) for stack, times in found.items()}
    rows = [(stack, f"{rate:,.0f}", f"{cpu * 1e6:.0f}") for stack, (rate, cpu) in middle.items()]
    return table(("stack", "requests/s", "µs a request"), rows)


def _visit(stack: str, folder: Path, names: Names, cores: Sequence[int]) -> tuple[float, float]:
    port = free_port()
    app = {"BENCH_DB": str(folder / "people.db"), "PYTHONPATH": str(APPS)}
    environment = HELLO if stack.startswith("hello") else app
    command = Command([sys.executable, *STACKS[stack], "--port", str(port)], environment)
    with Running([command], folder, cores[-1]) as running:
        running.first_200(port, f"/hello/{username(0)}")
        sample = None
        for seconds in (1.0, SECONDS):  # the first one warms up
            sample = load(
                running, port, "GET", names,
                headers={}, connections=CONNECTIONS, seconds=seconds, core=cores[0],
            )  # fmt: skip
        assert sample is not None
        return sample.rate, sample.cpu
