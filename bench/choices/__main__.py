"""`make choices`: measure what decisions chose among, and print a table for each."""

import argparse
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from bench import machine
from bench.choices import batches, clients, feed, imports, limits, names, tokens, web
from bench.processes import BenchError, interruptible

ROOT = Path(__file__).resolve().parents[2]
CHOICES = {
    "web": web, "names": names, "imports": imports, "feed": feed, "batches": batches, "tokens": tokens,
    "limits": limits, "clients": clients,
}  # fmt: skip


def measure(chosen: Sequence[str]) -> str:
    """Return the tables, each under what it is about."""
    parts = []
    for name in chosen:
        print(f"choices: {name}", file=sys.stderr, flush=True)
        module = CHOICES[name]
        about = (module.__doc__ or "").strip().rstrip(".")
        parts.append(f"## {about}\n\n{module.measure()}")
    return "\n".join(parts)


def main() -> None:
    """Measure what is named, or all, which is also written to bench/results/."""
    parser = argparse.ArgumentParser(
        prog="make choices", description="Measure what docs/decisions/ chose among, in turn.",
        epilog="All take five minutes, and are written to bench/results/choices-DATE.md.",
    )  # fmt: skip
    parser.add_argument("choice", nargs="*", metavar="CHOICE", help=f"of {', '.join(CHOICES)}")
    chosen = parser.parse_args().choice
    if unknown := set(chosen) - set(CHOICES):
        parser.error(f"there is no {', '.join(sorted(unknown))}; choose of {', '.join(CHOICES)}")
    today = datetime.now(UTC).date()
    versions = "[what was chosen](../../requirements/run.txt), [what was not](../choices/requirements.txt)"
    facts = {**machine.describe(Path("/tmp")), "versions": versions}
    told = "".join(f"- {what}: {fact}\n" for what, fact in facts.items())
    with interruptible():
        try:
            tables = measure(chosen or list(CHOICES))
        except (BenchError, FileNotFoundError) as error:
            sys.exit(f"choices: {error}")
        except KeyboardInterrupt:
            sys.exit(130)
    page = f"# Choices, measured {today}\n\n`make choices` ran this.\n\n{told}\n{tables}"
    print(page)
    if not chosen:
        (ROOT / "bench" / "results" / f"choices-{today}.md").write_text(page)


if __name__ == "__main__":
    main()
