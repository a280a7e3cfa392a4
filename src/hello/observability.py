"""Metrics: every one of them is declared here.

Label values are bounded: routes are the templates of the routes, never a path or a username.
"""

import time
from bisect import bisect_right
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal, ParamSpec, TypeVar

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)

from hello import __version__
from hello.birthday import Person
from hello.stores import Entry, Page, Store

P = ParamSpec("P")
T = TypeVar("T")

# Bounds in seconds: from a read of the embedded store (50 µs) to a time limit of a store.
BUCKETS = (
    0.00005,
    0.0001,
    0.00025,
    0.0005,
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1,
    2.5,
    5,
)
FOLD_AT = 512


class BulkHistogram(Histogram):
    """A histogram that takes many observations for the price of a few.

    It reaches for attributes that Histogram keeps for itself and its subclasses; a test compares the
    outcome with that of `observe`.
    """

    def observe_many(self, amounts: list[float]) -> None:
        """Observe all; the list is sorted on the way."""
        amounts.sort()
        self._sum.inc(sum(amounts))
        counted = 0
        for bound, bucket in zip(self._upper_bounds, self._buckets, strict=True):
            position = bisect_right(amounts, bound)
            if position > counted:
                bucket.inc(position - counted)
                counted = position


@dataclass(slots=True)
class Tally:
    """Observations of one kind that wait to be folded into a counter and a histogram.

    prometheus-client takes 2 µs for both, 10 µs where other work has emptied the caches; an append
    takes 0.05 µs, and folding hundreds at once hardly more. Whoever scrapes folds first, so nothing
    is late.
    """

    counter: Counter
    histogram: BulkHistogram
    caller: Counter | None = None  # counts as well, where there is one
    seconds: list[float] = field(default_factory=list)

    def observe(self, seconds: float) -> None:
        """Count one, which took `seconds`."""
        self.seconds.append(seconds)
        if len(self.seconds) >= FOLD_AT:
            self.fold()

    def fold(self) -> None:
        """Move what was observed into the metrics."""
        self.counter.inc(len(self.seconds))
        if self.caller is not None:
            self.caller.inc(len(self.seconds))
        self.histogram.observe_many(self.seconds)
        self.seconds.clear()


class TLSMetrics:
    """The metrics that there are where there is TLS. `ends`: of the certificate, in seconds since 1970."""

    def __init__(self, registry: CollectorRegistry, ends: float) -> None:
        self._certificate_end = Gauge(
            "hello_tls_certificate_expiry_timestamp_seconds",
            "When the certificate in use ends, in seconds since 1970.",
            multiprocess_mode="livemin",
            registry=registry,
        )
        self._handshake_failures = Counter(
            "hello_tls_handshake_failures",
            "Connections given up because their TLS handshake failed.",
            ("reason",),
            registry=registry,
        )
        self.certificate_ends(ends)  # at once, or whoever asks meanwhile takes 0 for the end

    def certificate_ends(self, timestamp: float) -> None:
        """Tell when the certificate in use ends, in seconds since 1970."""
        self._certificate_end.set(timestamp)

    def handshake_failed(self, reason: str) -> None:
        """Count a failed handshake, under the name that OpenSSL has for the reason."""
        self._handshake_failures.labels(reason).inc()


class DiscoveryMetrics:
    """What is measured of the registration in etcd."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registered = Gauge(
            "hello_discovery_registered",
            "Whether this instance is registered in etcd, as far as it knows: 1 or 0.",
            multiprocess_mode="livemax",
            registry=registry,
        )
        self._failures = Counter(
            "hello_discovery_failures",
            "Tries to register or to stay so that failed.",
            registry=registry,
        )

    def registered(self, there: bool) -> None:
        """Tell whether the last try was a success."""
        self._registered.set(there)

    def failed(self) -> None:
        """Count a failed try."""
        self._failures.inc()


class Metrics:
    """The metrics of one process. With several workers, `render` adds those of all of them up."""

    def __init__(
        self,
        commit: str,
        *,
        shared: bool = False,
        certificate_ends: float | None = None,
        discovery: bool = False,
    ) -> None:
        """Declare the metrics, those of TLS and `discovery` where there are these.

        `shared`: workers share PROMETHEUS_MULTIPROC_DIR. `certificate_ends` is in seconds since 1970.
        """
        disable_created_metrics()  # type: ignore[no-untyped-call] # second series that nobody reads
        self.in_flight = 0
        self.waiting = 0  # of those in flight: for their body, or for an issuer of tokens
        self._shared = shared
        self._registry = registry = CollectorRegistry()
        self._requests = Counter(
            "hello_http_requests", "Requests answered.", ("route", "method", "status"), registry=registry
        )
        self._durations = BulkHistogram(
            "hello_http_request_duration_seconds",
            "Time from a request's headers to the end of its answer.",
            ("route", "method"),
            buckets=BUCKETS,
            registry=registry,
        )
        self._in_flight = Gauge(
            "hello_http_requests_in_flight",
            "Requests being answered.",
            multiprocess_mode="livesum",
            registry=registry,
        )
        self._operations = Counter(
            "hello_store_operations", "Store operations.", ("operation", "outcome"), registry=registry
        )
        self._operation_durations = BulkHistogram(
            "hello_store_operation_duration_seconds",
            "Time that the store took.",
            ("operation",),
            buckets=BUCKETS,
            registry=registry,
        )
        self._callers = Counter(
            "hello_caller_requests",
            "Requests by the name of the key; token stands for all callers with one.",
            ("caller",),
            registry=registry,
        )
        self.audit_failures = Counter(
            "hello_audit_failures", "Changes that the audit log could not take.", registry=registry
        )
        build = Gauge(
            "hello_build_info",
            "The version that runs, always 1.",
            ("version", "commit"),
            multiprocess_mode="max",
            registry=registry,
        )
        build.labels(__version__, commit).set(1)
        self.tls = None if certificate_ends is None else TLSMetrics(registry, certificate_ends)
        self.discovery = DiscoveryMetrics(registry) if discovery else None
        if not shared:
            ProcessCollector(registry=registry)
            PlatformCollector(registry=registry)
            GCCollector(registry=registry)
        self._request_tallies: dict[tuple[str, str, int, str], Tally] = {}
        self._operation_tallies: dict[tuple[str, str], Tally] = {}

    @property
    def worked_on(self) -> int:
        """The requests that are being worked on, which are bounded."""
        return self.in_flight - self.waiting

    def request(self, route: str, method: str, status: int, seconds: float, caller: str = "") -> None:
        """Count a request that was answered, and whose key it came with."""
        tally = self._request_tallies.get((route, method, status, caller))
        if tally is None:
            tally = self._request_tallies[route, method, status, caller] = Tally(
                self._requests.labels(route, method, str(status)),
                self._durations.labels(route, method),
                self._callers.labels(caller) if caller else None,
            )
        tally.observe(seconds)

    def operation(self, name: str, outcome: Literal["ok", "error"], seconds: float) -> None:
        """Count an operation of the store."""
        tally = self._operation_tallies.get((name, outcome))
        if tally is None:
            tally = self._operation_tallies[name, outcome] = Tally(
                self._operations.labels(name, outcome), self._operation_durations.labels(name)
            )
        tally.observe(seconds)

    def fold(self) -> None:
        """Bring the metrics up to date; called before a scrape, and each second where others scrape."""
        for tally in (*self._request_tallies.values(), *self._operation_tallies.values()):
            tally.fold()
        self._in_flight.set(self.in_flight)

    def render(self) -> bytes:
        """Return all metrics in Prometheus' text format."""
        self.fold()
        if not self._shared:
            return generate_latest(self._registry)
        from prometheus_client.multiprocess import MultiProcessCollector

        registry = CollectorRegistry()
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        return generate_latest(registry)


class ObservedStore(Store):
    """A store whose every operation is counted and timed."""

    def __init__(self, store: Store, metrics: Metrics) -> None:
        self._store = store
        self._metrics = metrics

    async def get(self, key: str) -> Person | None:
        return await self._observe("get", self._store.get, key)

    async def get_many(self, keys: Sequence[str]) -> Sequence[Person | None]:
        return await self._observe("get_many", self._store.get_many, keys)

    async def put(self, entry: Entry, *, create: bool = False) -> bool:
        return await self._observe("create" if create else "put", self._store.put, entry, create=create)

    async def put_many(self, entries: Sequence[Entry]) -> None:
        await self._observe("put_many", self._store.put_many, entries)

    async def delete(self, key: str) -> bool:
        return await self._observe("delete", self._store.delete, key)

    async def people(self, limit: int, after: str | None = None) -> Page:
        return await self._observe("people", self._store.people, limit, after)

    async def birthdays(
        self, ranges: Sequence[tuple[str, str]], limit: int, after: str | None = None
    ) -> Page:
        return await self._observe("birthdays", self._store.birthdays, ranges, limit, after)

    async def ping(self) -> None:
        await self._observe("ping", self._store.ping)

    async def close(self) -> None:
        await self._store.close()

    async def _observe(
        self, name: str, operation: Callable[P, Awaitable[T]], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        start = time.perf_counter()
        try:
            result = await operation(*args, **kwargs)
        except BaseException:
            self._metrics.operation(name, "error", time.perf_counter() - start)
            raise
        self._metrics.operation(name, "ok", time.perf_counter() - start)
        return result
