"""Controls: the same release as in the scenes with one thing done wrong, which has to show.

A rehearsal that shows no failed request in these either would show none whatever happens.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from rehearsal.agent import Agent, Stops
from rehearsal.balancer import Balancer
from rehearsal.load import Load, Request, Tally, tally
from rehearsal.service import Service, TargetGroup, TaskDefinition
from rehearsal.tasks import PORT, Launcher

SERVICE = Service(
    desired=2,
    grace=60,
    target_group=TargetGroup(interval=10, timeout=5, healthy=2, unhealthy=2, deregistration_delay=15),
)
DRAIN_SECONDS = 15
AROUND_SECONDS = 1.0  # of load before and after the release
PATIENCE_SECONDS = 90
TICK_SECONDS = 0.05


@dataclass(frozen=True)
class Control:
    """A way to release, and whether requests have to fail in it."""

    name: str
    fails: bool = True
    delay: float = SERVICE.target_group.deregistration_delay
    drain: float = DRAIN_SECONDS
    checked: bool = True
    orders: tuple[str, ...] = field(default=(Stops.DEREGISTER_FIRST, Stops.SIGTERM_FIRST))


CONTROLS = (
    Control("nothing done wrong", fails=False),
    Control("SIGTERM before the drain", drain=0, orders=(Stops.SIGTERM_FIRST,)),
    Control("no deregistration delay", delay=0, orders=(Stops.DEREGISTER_FIRST,)),
    Control("no health check before traffic", checked=False),
)
SHORT = CONTROLS[:3]


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
        group = replace(SERVICE.target_group, deregistration_delay=control.delay)
        service = replace(SERVICE, target_group=group).faster(self.speed)
        balancer = Balancer(folder, f"{network}.1", [PORT], service.target_group)
        agent = Agent(
            balancer,
            Launcher(folder, network, self.python),
            time.monotonic,
            speed=self.speed,
            stops=Stops(control.orders),
        )
        load = Load(f"{network}.1")
        try:
            agent.update(service, old)
            self._until(agent, lambda: agent.deployments[0].state == "COMPLETED")
            load.start()
            self._rest(agent)
            agent.checked = control.checked
            changed = time.monotonic()
            agent.update(service, new)
            self._until(agent, lambda: agent.deployments[0].state == "COMPLETED")
            self._rest(agent)
        finally:
            load.stop()
            agent.kill()
            balancer.stop()
        commits = {task.id: task.deployment.definition.commit for task in agent.tasks}
        return Outcome(control, tally(load.requests, commits), changed, time.monotonic() - began)

    def _until(self, agent: Agent, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not condition():
            agent.tick()
            if self.stopping.wait(TICK_SECONDS) or time.monotonic() > deadline:
                raise ControlError(f"The control is not done: {agent.deployments[0]}")

    def _rest(self, agent: Agent) -> None:
        end = time.monotonic() + AROUND_SECONDS
        self._until(agent, lambda: time.monotonic() >= end)
