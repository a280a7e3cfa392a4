"""Decision 5: what a library for settings and commands takes to load."""

import subprocess
import sys
import time
from statistics import median

from bench.markdown import table

LIBRARIES = {
    "click": "import click",
    "typer": "import typer",
    "cyclopts": "import cyclopts",
    "jsonargparse": "import jsonargparse; jsonargparse.ArgumentParser()",
    "typer + pydantic-settings": "import typer\nfrom pydantic_settings import BaseSettings as Base\n"
    "class S(Base): a: int = 1",
}
ROUNDS = 15


def measure() -> str:
    """Return a table: milliseconds from nothing to an interpreter that has it, less those of one without."""
    times: dict[str, list[float]] = {name: [] for name in ("", *LIBRARIES)}
    for _ in range(ROUNDS + 1):
        for name in times:
            started = time.perf_counter()
            subprocess.run([sys.executable, "-c", LIBRARIES.get(name, "")], check=True, timeout=60)
            times[name].append(time.perf_counter() - started)
    # The first one writes the byte code.
    found = {name: median(times[name][1:]) for name in times}
    rows = [(name, f"{(found[name] - found['']) * 1e3:.0f}") for name in LIBRARIES]
    return table(("library", "ms to load"), rows)
