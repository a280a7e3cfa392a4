"""What keeps tasks or instances in a control: the agent or the fleet, with no AWS around it."""

import time
from collections.abc import Mapping
from itertools import count
from pathlib import Path
from typing import Protocol

from rehearsal.agent import Agent, Stops
from rehearsal.balancer import Balancer
from rehearsal.fleet import Fleet
from rehearsal.service import Group, Preferences, Service, TargetGroup, TaskDefinition
from rehearsal.tasks import PORT, Launcher, Process

DESIRED, GRACE_SECONDS, WARMUP_SECONDS = 2, 60, 60


class Keeper(Protocol):
    """Keeps two tasks or instances, and replaces them by those of another definition."""

    def release(self, definition: TaskDefinition) -> None:
        """Begin to replace those that there are."""

    def done(self) -> bool:
        """Return whether all are of the last definition, and healthy."""

    def tick(self) -> None:
        """Do what is due."""

    def trust(self) -> None:
        """From now on give requests to what is started, whether or not it is healthy."""

    def commits(self) -> Mapping[str, str]:
        """Return the commit of each task or instance that ever was, by its id."""

    def stop(self) -> None:
        """End all processes."""


class Tasks:
    """Keeps tasks by the agent."""

    def __init__(
        self, folder: Path, network: str, python: str, speed: float, targets: TargetGroup, stops: Stops
    ) -> None:
        self._service = Service(DESIRED, grace=GRACE_SECONDS, target_group=targets).faster(speed)
        self._balancer = Balancer(folder, f"{network}.1", [PORT], self._service.target_group)
        launcher = Launcher(folder, network, python)
        self._agent = Agent(self._balancer, launcher, time.monotonic, speed=speed, stops=stops)

    def release(self, definition: TaskDefinition) -> None:
        self._agent.update(self._service, definition)

    def done(self) -> bool:
        return self._agent.deployments[0].state == "COMPLETED"

    def tick(self) -> None:
        self._agent.tick()

    def trust(self) -> None:
        self._agent.checked = False

    def commits(self) -> Mapping[str, str]:
        return {task.id: task.deployment.definition.commit for task in self._agent.tasks}

    def stop(self) -> None:
        self._agent.kill()
        self._balancer.stop()


class Computer(Process):
    """An instance that is told its settings without a boot."""

    def close(self) -> None:
        """Have nothing left to close."""


class Instances:
    """Keeps instances by the fleet, with a refresh as infra/ has it. `hook` is in seconds."""

    def __init__(
        self, folder: Path, network: str, python: str, speed: float, targets: TargetGroup, hook: float
    ) -> None:
        group = Group(DESIRED, GRACE_SECONDS, checked=True, hook=hook, target_group=targets)
        self._group = group.faster(speed)
        self._preferences = Preferences(100, 200, WARMUP_SECONDS, skip_matching=True).faster(speed)
        self._balancer = Balancer(folder, f"{network}.1", [PORT], self._group.target_group)
        launcher, numbers = Launcher(folder, network, python), count(1)

        def launch(definition: TaskDefinition) -> tuple[str, Computer]:
            name = f"i-{next(numbers)}"
            command = [python, "-m", "hello", "serve"]
            return name, Computer(definition, launcher.address(), command, folder / name)

        self._fleet = Fleet(self._balancer, launch, time.monotonic)
        self._last: TaskDefinition | None = None

    def release(self, definition: TaskDefinition) -> None:
        first, self._last = self._last is None, definition
        self._fleet.update(self._group, definition)
        if not first:
            self._fleet.begin(self._preferences)

    def done(self) -> bool:
        there = [one for one in self._fleet.instances if one.status != "Terminated"]
        all_new = len(there) == DESIRED and all(one.definition is self._last for one in there)
        return all_new and all(one.health == "healthy" for one in there)

    def tick(self) -> None:
        self._fleet.tick()

    def trust(self) -> None:
        self._fleet.checked = False

    def commits(self) -> Mapping[str, str]:
        return {one.id: one.definition.commit for one in self._fleet.instances}

    def stop(self) -> None:
        self._fleet.kill()
        self._balancer.stop()
