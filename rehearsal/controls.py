"""Controls: the same release as in the scenes with one thing done wrong, which has to show.

A rehearsal that shows no failed request in these either would show none whatever happens.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from rehearsal.agent import Stops
from rehearsal.keepers import Instances, Keeper, Tasks
from rehearsal.load import Load, Request, Tally, tally
from rehearsal.service import TargetGroup, TaskDefinition

TARGETS = TargetGroup(interval=10, timeout=5, healthy=2, unhealthy=2, deregistration_delay=15)
DRAIN_SECONDS, HOOK_SECONDS = 15, 30
AROUND_SECONDS = 1.0  # of load before and after the release
PATIENCE_SECONDS = 90
TICK_SECONDS = 0.05


@dataclass(frozen=True)
class Control:
    """A way to release, and whether requests have to fail in it. All times are seconds."""

    name: str
    fails: bool = True
    compute: str = "fargate"
    delay: float = TARGETS.deregistration_delay
    drain: float = DRAIN_SECONDS
    hook: float = HOOK_SECONDS  # of instances
    checked: bool = True
    orders: tuple[str, ...] = field(default=(Stops.DEREGISTER_FIRST, Stops.SIGTERM_FIRST))  # of tasks


CONTROLS = {
    "fargate": (
        Control("nothing done wrong", fails=False),
        Control("SIGTERM before the drain", drain=0, orders=(Stops.SIGTERM_FIRST,)),
        Control("no deregistration delay", delay=0, orders=(Stops.DEREGISTER_FIRST,)),
        Control("no health check before traffic", checked=False),
    ),
    "ec2": (
        Control("nothing done wrong", compute="ec2", fails=False),
        Control("no delay, no hook", compute="ec2", delay=0, hook=0),
        Control("no health check before traffic", compute="ec2", checked=False),
    ),
}


def short(compute: str) -> tuple[Control, ...]:
    """Return the controls of a mode without the last one."""
    return CONTROLS[compute][:-1]


@dataclass(frozen=True)
class Outcome:
    """What a control came to. `changed`: when the release began, as `time.monotonic` says."""

    control: Control
    tally: Tally
    changed: float
    seconds: float

    @property
    def lost(self) -> list[Request]:
        """Those that the release refused or cut off."""
        return [one for one in self.tally.failures if one.lost and one.at >= self.changed]

    @property
    def problem(self) -> str:
        """Say what was not as it must be: requests that failed for another reason show nothing."""
        early = [one for one in self.tally.failures if one.at < self.changed]
        if early or not self.control.fails:
            return self.tally.errors()
        if not self.lost:
            said = "no request was refused or cut off, so that this rehearsal shows nothing"
            return f"{said}; {self.tally.errors()}" if self.tally.failures else said
        return ""


class ControlError(Exception):
    """A control could not be played."""


@dataclass(frozen=True)
class Player:
    """Plays controls, with the code in `code/src`; `stopping` ends the one that is played."""

    python: str
    code: Path
    speed: float
    stopping: threading.Event

    def play(self, control: Control, folder: Path, network: str) -> Outcome:
        """Play a release the way of the control.

        Raises:
            ControlError: it is not done after a time that is more than enough, or told to stop.
        """
        began = time.monotonic()
        environment = {
            "HELLO_STORE": f"sqlite:///{folder / 'hello.db'}",
            "HELLO_DRAIN_SECONDS": str(control.drain),
        }
        old, new = (
            TaskDefinition(name, name, self.code, environment=environment, stop_timeout=60).faster(self.speed)
            for name in ("old", "new")
        )
        keeper = self._keeper(control, folder, network)
        load = Load(f"{network}.1")
        try:
            keeper.release(old)
            self._until(keeper, control, keeper.done)
            load.start()
            self._rest(keeper, control)
            if not control.checked:
                keeper.trust()
            changed = time.monotonic()
            keeper.release(new)
            self._until(keeper, control, keeper.done)
            self._rest(keeper, control)
        finally:
            load.stop()
            keeper.stop()
        result = tally(load.requests, keeper.commits())
        return Outcome(control, result, changed, time.monotonic() - began)

    def _keeper(self, control: Control, folder: Path, network: str) -> Keeper:
        targets = replace(TARGETS, deregistration_delay=control.delay)
        if control.compute == "ec2":
            return Instances(folder, network, self.python, self.speed, targets, control.hook)
        return Tasks(folder, network, self.python, self.speed, targets, Stops(control.orders))

    def _until(self, keeper: Keeper, control: Control, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not condition():
            keeper.tick()
            if self.stopping.wait(TICK_SECONDS) or time.monotonic() > deadline:
                raise ControlError(f"The control is not done: {control.name}: {keeper.commits()}")

    def _rest(self, keeper: Keeper, control: Control) -> None:
        end = time.monotonic() + AROUND_SECONDS
        self._until(keeper, control, lambda: time.monotonic() >= end)
