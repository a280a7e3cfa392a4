"""The command line of the bench: `bench/run --help`."""

import argparse
import os
import shutil
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from bench import machine
from bench.dynamodb import compare_clients
from bench.found import Found, Visits
from bench.kept import KEPT
from bench.processes import BenchError, interruptible
from bench.report import report
from bench.servers import CACHE, HELLO, ROOT, SERVERS, Server, build_gin, missing_programs
from bench.sizes import SIZES, compare_sizes
from bench.targets import targets
from bench.throughput import Plan, compare, say

RESULTS = ROOT / "bench" / "results"
KEYS = [server.key for server in SERVERS]
STORES = ["sqlite", "postgresql", "dynamodb"]


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the options."""
    parser = argparse.ArgumentParser(
        prog="bench/run",
        description="Measure hello beside its peers: the server on one core, the load on another.",
        epilog="A complete run takes about 15 minutes, the stores of 10 million people aside, which are made"
        " once, and writes bench/results/DATE.md. A shortened one writes bench/.cache/last.md.",
    )
    add = parser.add_argument
    add(
        "--stores",
        type=_of(STORES),
        metavar="STORE,…",
        default=STORES,
        help=f"where hello keeps people, of {','.join(STORES)}",
    )
    add(
        "--only",
        type=_of(KEYS),
        metavar="KEY,…",
        default=KEYS,
        help=f"servers to measure, of {','.join(KEYS)}",
    )
    add(
        "--rounds",
        type=int,
        metavar="N",
        default=3,
        help="rounds of each server, in turn (default: %(default)s)",
    )
    add("--seconds", type=float, metavar="S", default=10, help="of each run (default: %(default)s)")
    add("--connections", type=int, metavar="N", default=32, help="of the load (default: %(default)s)")
    add(
        "--sizes",
        type=_sizes,
        metavar="N,…",
        default=SIZES,
        help="people in hello's stores (1000,1000000,10000000)",
    )
    add("--skip-sizes", action="store_true", help="leave out the stores of different sizes")
    add("--skip-peers", action="store_true", help="only the stores of different sizes")
    add("--fresh", action="store_true", help="import the stores of the sizes anew")
    add("--quick", action="store_true", help="one round of 2 s, sizes up to 1 million: does it work?")
    add("--cores", type=_cores, metavar="SERVER,LOAD", help="cores to use (default: the last and the first)")
    add("--output", type=Path, metavar="FILE", help="where to write the report")
    add("--strict", action="store_true", help="exit with 1 where a target is missed")
    options = parser.parse_args(arguments)
    if options.rounds < 1 or options.seconds < 1:
        parser.error("--rounds and --seconds are at least 1")
    if options.quick:
        options.rounds, options.seconds = 1, 2.0
        options.sizes = [size for size in options.sizes if size <= 1_000_000]
    return options


def main() -> int:
    """Run the bench; return the exit status."""
    options = parse()
    try:
        with interruptible():
            return _bench(options)
    except BenchError as error:
        say(f"bench: {error}")
        return 1
    except KeyboardInterrupt:
        say("bench: interrupted")
        return 130


def _bench(options: argparse.Namespace) -> int:
    servers = [
        server
        for server in ([] if options.skip_peers else SERVERS)
        if server.key in options.only and server.store in options.stores
    ]
    kept = [] if options.skip_sizes else [stores for stores in KEPT if stores.key in options.stores]
    dynamodb = "dynamodb" in options.stores and options.only == KEYS and not options.skip_peers
    _check_programs(servers, [program for stores in kept for program in stores.programs])
    server_core, load_core = options.cores or _default_cores()
    # The runner keeps off the server's core; what it starts there is moved there.
    os.sched_setaffinity(0, {load_core})
    plan = Plan(
        rounds=options.rounds,
        seconds=options.seconds,
        warm=1.0,
        connections=options.connections,
        server_core=server_core,
        load_core=load_core,
    )
    work = CACHE / "work"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    try:
        about = machine.describe(work)
        visits: Visits = {}
        for store in dict.fromkeys(server.store for server in servers):
            visits |= compare([server for server in servers if server.store == store], plan, work)
        clients = compare_clients(plan, work) if dynamodb else {}
        sizes = {
            stores.title: compare_sizes(stores, options.sizes, plan, work, options.fresh) for stores in kept
        }
    finally:
        shutil.rmtree(work, ignore_errors=True)
    day = f"{datetime.now(UTC):%Y-%m-%d}"
    found = Found(visits, sizes, clients)
    text = report(day, found, plan, about, machine.versions(found))
    print(text)
    _write(text, options.output or (RESULTS / f"{day}.md" if _complete(options) else CACHE / "last.md"))
    missed = [target for target in targets(found) if not target.met]
    return 1 if missed and options.strict else 0


def _check_programs(servers: Sequence[Server], others: Sequence[str]) -> None:
    if not (HELLO / "hello").exists():
        raise BenchError("hello is not installed; run `make install` first.")
    if missing := missing_programs([*(p for server in servers for p in server.programs), *others]):
        raise BenchError(f"Missing programs: {', '.join(missing)}; bench/debian.txt has Debian's packages.")
    if any(server.key == "go" for server in servers):
        build_gin()


def _complete(options: argparse.Namespace) -> bool:
    """Whether the run is what the results are made of, and not a shortened one."""
    usual = parse([])
    names = ("stores", "only", "rounds", "seconds", "connections", "sizes", "skip_sizes", "skip_peers")
    return all(getattr(options, name) == getattr(usual, name) for name in names)


def _write(text: str, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    say(f"written to {path}")


def _default_cores() -> tuple[int, int]:
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        raise BenchError("Two cores are needed: one for the server, one for the load.")
    return cores[-1], cores[0]  # the first one often serves the interrupts too


def _of(known: Sequence[str]) -> Callable[[str], list[str]]:
    """Return what reads a list of these words."""

    def words(text: str) -> list[str]:
        chosen = text.split(",")
        if unknown := set(chosen) - set(known):
            raise argparse.ArgumentTypeError(
                f"unknown: {', '.join(sorted(unknown))}; choose of {','.join(known)}"
            )
        return [word for word in known if word in chosen]

    return words


def _sizes(text: str) -> tuple[int, ...]:
    return tuple(sorted({int(size) for size in text.split(",")}))


def _cores(text: str) -> tuple[int, int]:
    server, load = (int(core) for core in text.split(","))
    if server == load or not {server, load} <= os.sched_getaffinity(0):
        raise argparse.ArgumentTypeError("give two different cores that this process may use")
    return server, load


if __name__ == "__main__":
    sys.exit(main())
