"""The promises, and what became of each; and the medians that they are measured by."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from statistics import median

from bench.found import Found
from bench.load import Sample
from bench.sizes import Size
from bench.throughput import Visit

MIB = 2**20

# Of hello on a store against servers, by their keys.
GET_TARGETS = {
    "hello": {"starlette": 0.85, "go": 1.25, "fastapi": 15.0},
    "hello-key": {"hello": 0.9},
    "hello-token": {"hello": 0.85},
    "hello-postgresql": {"fastapi-postgresql": 2.5},
}
PUT_TARGETS = {"hello": {"go": 1.0}, "hello-postgresql": {"fastapi-postgresql": 2.5}}
_WITH = {"hello-key": ", with a key", "hello-token": ", with a token"}
MEMORY_TARGET = 64 * MIB
FIRST_200_TARGET = 0.5
P99_TARGET = 1.5
BIRTHDAYS_TARGETS = {"SQLite": 0.020, "PostgreSQL": 0.030}
IMPORT_OF, IMPORT_TARGETS = 1_000_000, {"SQLite": 20.0}
CLIENT_TARGET = 0.5


@dataclass(frozen=True)
class Target:
    """One promise, what became of it, and what puts that into perspective."""

    promise: str
    measured: str
    met: bool
    beside: str = ""


@dataclass(frozen=True)
class Middle:
    """The medians of one server's rounds."""

    get: Sample
    put: Sample | None
    first_200: float
    resident: float
    peak: float


def middle(visits: Sequence[Visit]) -> Middle:
    """Return the medians of the rounds, each figure by itself."""
    puts = [visit.put for visit in visits if visit.put]
    return Middle(
        get=_middle_sample([visit.get for visit in visits]),
        put=_middle_sample(puts) if puts else None,
        first_200=median(visit.first_200 for visit in visits),
        resident=median(visit.resident for visit in visits),
        peak=median(visit.peak for visit in visits),
    )


def targets(found: Found) -> list[Target]:
    """Return the promises that the run could check, and whether it found them kept."""
    middles = {key: middle(rounds) for key, rounds in found.visits.items()}
    return [
        *_throughput_targets(middles),
        *_process_targets(middles),
        *(target for store, sizes in found.sizes.items() for target in _size_targets(store, sizes)),
        *(target for store, sizes in found.sizes.items() for target in _transfer_targets(store, sizes)),
        *_client_targets(found.clients),
    ]


def cpu_ratio(hello: Sample, peer: Sample) -> str:
    """Return how many requests hello answers in the processor time in which the peer answers one."""
    return f"{peer.cpu / hello.cpu:.2f}" if hello.cpu and peer.cpu else "?"


def _middle_sample(samples: Sequence[Sample]) -> Sample:
    return Sample(
        **{field.name: median(getattr(sample, field.name) for sample in samples) for field in fields(Sample)}
    )


def _throughput_targets(middles: Mapping[str, Middle]) -> Iterator[Target]:
    for name, method in (("GET", "get"), ("PUT, durable", "put")):
        for key, peers in (GET_TARGETS if method == "get" else PUT_TARGETS).items():
            for peer, least in peers.items():
                if key in middles and peer in middles:
                    yield _at_least(
                        f"{name}{_WITH.get(key, '')}: at least {least} of {peer}",
                        getattr(middles[key], method),
                        getattr(middles[peer], method),
                        least,
                    )


def _at_least(promise: str, hello: Sample, peer: Sample, least: float) -> Target:
    ratio = hello.rate / peer.rate
    return Target(promise, f"{ratio:.2f}", ratio >= least, f"{cpu_ratio(hello, peer)} by processor time")


def _process_targets(middles: Mapping[str, Middle]) -> Iterator[Target]:
    hello = middles.get("hello")
    if hello is None:
        return
    yield Target(
        f"Resident memory after the run: at most {MEMORY_TARGET // MIB} MiB",
        f"{hello.resident / MIB:.1f} MiB",
        hello.resident <= MEMORY_TARGET,
        f"highest {hello.peak / MIB:.1f} MiB",
    )
    yield Target(
        f"First 200 within {FIRST_200_TARGET} s of the start",
        f"{hello.first_200:.2f} s",
        hello.first_200 <= FIRST_200_TARGET,
    )


def _size_targets(store: str, sizes: Sequence[Size]) -> Iterator[Target]:
    if len(sizes) > 1:
        slowest, fastest = max(sizes, key=lambda size: size.p99), min(sizes, key=lambda size: size.p99)
        ratio = slowest.p99 / fastest.p99
        yield Target(
            f"{store}: GET p99 of {_counts(sizes)} people: within {P99_TARGET} of each other",
            f"{ratio:.2f}",
            ratio <= P99_TARGET,
            f"p50 within {max(s.p50 for s in sizes) / min(s.p50 for s in sizes):.2f}",
        )
    if sizes:
        slow, most = max(sizes, key=lambda size: size.birthdays), BIRTHDAYS_TARGETS[store]
        yield Target(
            f"{store}: first page of /birthdays?days=30 in {most * 1000:.0f} ms",
            f"{slow.birthdays * 1000:.2f} ms",
            slow.birthdays <= most,
            f"{slow.people:,} people; slowest of all {max(s.birthdays_worst for s in sizes) * 1000:.2f} ms",
        )


def _transfer_targets(store: str, sizes: Sequence[Size]) -> Iterator[Target]:
    for size in sizes:
        if size.people == IMPORT_OF and store in IMPORT_TARGETS:
            yield Target(
                f"{store}: import of {IMPORT_OF:,} people within {IMPORT_TARGETS[store]:.0f} s",
                f"{size.imported.seconds:.1f} s",
                size.imported.seconds <= IMPORT_TARGETS[store],
            )


def _client_targets(clients: Mapping[str, Sequence[float]]) -> Iterator[Target]:
    if clients:
        hello, peer = median(clients["hello"]), median(clients["aiobotocore"])
        yield Target(
            f"DynamoDB: processor time of a GET at most {CLIENT_TARGET} of aiobotocore's",
            f"{hello / peer:.2f}",
            hello / peer <= CLIENT_TARGET,
            f"{hello * 1e6:.0f} µs of {peer * 1e6:.0f} µs",
        )


def _counts(sizes: Sequence[Size]) -> str:
    return " and ".join(f"{size.people:,}" for size in sizes)
