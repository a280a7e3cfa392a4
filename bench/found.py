"""All that a run of the bench found."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from bench.sizes import Size
from bench.throughput import Visit

Visits = dict[str, list[Visit]]


@dataclass(frozen=True)
class Found:
    """Of servers by their keys, of stores by the names of their engines, of clients by their keys."""

    visits: Visits = field(default_factory=dict)
    sizes: Mapping[str, Sequence[Size]] = field(default_factory=dict)
    clients: Mapping[str, Sequence[float]] = field(default_factory=dict)
