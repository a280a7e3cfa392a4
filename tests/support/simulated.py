"""Processes and targets that are played, in a world with a clock of its own."""

from itertools import count
from typing import Protocol

from rehearsal.service import TargetGroup

DRAIN = 15.0  # that a process takes from SIGTERM to its end
GROUP = TargetGroup(interval=10, timeout=5, healthy=2, unhealthy=2, deregistration_delay=20)


class World(Protocol):
    """What processes and targets act in. A deaf one takes no SIGTERM."""

    now: float
    deaf: bool

    def note(self, what: str) -> None:
        """Note what happens."""

    def sick(self, task: str) -> bool:
        """Return whether a task or an instance never becomes healthy."""


class PlayedProcess:
    """Ends a while after SIGTERM, unless it is deaf."""

    pids = count(1)

    def __init__(self, world: World, commit: str, *, crashes: bool = False) -> None:
        self._world = world
        self._crashes = crashes
        self.commit = commit
        self.start()
        self.address = f"127.0.1.{self.pid}"

    def start(self) -> None:
        self.pid = next(self.pids)
        self.ends = (self._world.now, 2) if self._crashes else None

    def status(self) -> int | None:
        return self.ends[1] if self.ends and self._world.now >= self.ends[0] else None

    def terminate(self) -> None:
        self._world.note("SIGTERM")
        if not self._world.deaf:
            self.ends = (self._world.now + DRAIN, 0)

    def kill(self) -> None:
        self._world.note("SIGKILL")
        self.ends = (self._world.now, -9)

    def close(self) -> None:
        self._world.note("close")


class PlayedTargets:
    """Takes everyone for healthy after a while, except the sick.

    `under_way` is how long the requests take that a target has when it is drained.
    """

    under_way = 0.0

    def __init__(self, world: World) -> None:
        self._world = world
        self._since: dict[str, float] = {}
        self._drained: dict[str, float] = {}

    def add(self, task: str, address: str, *, checked: bool = True) -> None:
        self._since[task] = self._world.now

    def drain(self, task: str) -> None:
        self._world.note("drain")
        self._drained[task] = self._world.now

    def remove(self, task: str) -> None:
        if self._since.pop(task, None) is not None:
            self._world.note("remove")

    def busy(self) -> set[str]:
        return {task for task, at in self._drained.items() if self._world.now < at + self.under_way}

    def healthy(self) -> set[str]:
        ready = self._world.now - GROUP.interval * GROUP.healthy
        return {task for task, at in self._since.items() if at <= ready and not self._world.sick(task)}
