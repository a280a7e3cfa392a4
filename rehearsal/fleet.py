"""The fleet: it keeps the instances of one Auto Scaling Group as the group asks, and replaces them.

It is told of the group by `update` and of an instance refresh by `begin`, and goes on by `tick`. It never
waits, and its clock is an argument.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from rehearsal.agent import Process, Targets
from rehearsal.service import Group, Preferences, TaskDefinition

Action = Callable[["Instance"], None]


class Machine(Process, Protocol):
    """An instance's process, which systemd starts again, as `machines.Machine` is one."""

    def start(self) -> None:
        """Start it again."""

    def close(self) -> None:
        """Have the machine gone for good."""


Launch = Callable[[TaskDefinition], tuple[str, Machine]]  # returns the ID of the instance too


@dataclass(eq=False)
class Instance:
    """An instance, from its launch until after its end. `plan`: what is due when, soonest first."""

    id: str
    definition: TaskDefinition
    process: Machine
    started: float
    status: str = "InService"  # then Terminating, Terminating:Wait, Terminating:Proceed, Terminated
    health: str = "initial"
    healthy_since: float = 0
    reason: str = ""
    lost: bool = False  # without power: systemd starts nothing
    plan: list[tuple[float, Action]] = field(default_factory=list)


@dataclass(eq=False)
class Refresh:
    """An instance refresh: `definition` takes the place of all others. `percent` of it is done."""

    definition: TaskDefinition
    preferences: Preferences
    old: list[Instance]
    state: str = "InProgress"  # then Successful, Failed, Cancelled
    percent: int = 0
    reason: str = ""


class Fleet:
    """Keeps the instances of a group. `tell` gets what happens: a kind, and the details.

    `restart` is how long systemd waits before it starts a service again.
    """

    def __init__(
        self,
        targets: Targets,
        launch: Launch,
        clock: Callable[[], float],
        tell: Callable[..., None] = lambda kind, **details: None,
        *,
        restart: float = 1.0,
    ) -> None:
        self.instances: list[Instance] = []
        self.refresh: Refresh | None = None  # the last one
        self._group = Group(desired=0)
        self._definition: TaskDefinition | None = None
        self._targets = targets
        self._launch = launch
        self._clock = clock
        self._tell = tell
        self._restart = restart
        self.checked = True  # whether targets have to be healthy before they get requests

    def update(self, group: Group, definition: TaskDefinition | None) -> None:
        """Take what the group is from now on. Another definition is for instances to come."""
        self._group, self._definition = group, definition

    def begin(self, preferences: Preferences) -> Refresh:
        """Begin an instance refresh with the present definition."""
        assert self._definition is not None
        arn, skip = self._definition.arn, preferences.skip_matching
        old = [one for one in self.serving() if not skip or one.definition.arn != arn]
        self.refresh = Refresh(self._definition, preferences, old)
        self._announce(self.refresh)
        return self.refresh

    def cancel(self) -> None:
        """End the refresh where it is."""
        self._end("Cancelled")

    def fail(self, reason: str) -> None:
        """End the refresh where it is, as an alarm does."""
        self._end("Failed", reason)

    def lose(self, name: str) -> None:
        """Have an instance gone at once, as one whose machine fails."""
        for one in self.instances:
            if one.id == name and not one.lost and one.status != "Terminated":
                one.lost = True
                one.process.kill()
                self._change(one, reason="The machine is gone")

    def tick(self) -> None:
        """Look at all instances, and do what is due."""
        self._look()
        for one in self.instances:
            while one.plan and one.plan[0][0] <= self._clock():
                one.plan.pop(0)[1](one)
        self._release()
        self._replace_unhealthy()
        if self.refreshing is not None:
            self._go_on(self.refreshing)
        else:
            self._reconcile()

    @property
    def refreshing(self) -> Refresh | None:
        """The refresh that is under way, if one is."""
        under_way = self.refresh is not None and self.refresh.state == "InProgress"
        return self.refresh if under_way else None

    def serving(self) -> list[Instance]:
        """Return the instances that are not on their way out."""
        return [one for one in self.instances if one.status == "InService"]

    def kill(self) -> None:
        """End all processes at once."""
        for one in self.instances:
            if one.process.status() is None:
                one.process.kill()

    def _end(self, state: str, reason: str = "") -> None:
        if (refresh := self.refreshing) is not None:
            refresh.state, refresh.reason = state, reason
            self._announce(refresh)

    def _announce(self, refresh: Refresh) -> None:
        self._tell(
            "refresh",
            commit=refresh.definition.commit,
            state=refresh.state,
            percent=refresh.percent,
            reason=refresh.reason,
        )

    def _change(self, one: Instance, **changed: object) -> None:
        for name, value in changed.items():
            setattr(one, name, value)
        self._tell(
            "task",  # what the journal calls whatever serves
            id=one.id,
            commit=one.definition.commit,
            status=one.status,
            health=one.health,
            reason=one.reason,
            address=one.process.address,
            pid=one.process.pid,
        )

    # What happened

    def _look(self) -> None:
        """Notice services that ended, and targets that became healthy or unhealthy."""
        healthy = self._targets.healthy() if self.instances else set()
        for one in self.instances:
            if one.process.status() is not None and one.status != "Terminated":
                self._ended(one)
            if one.status != "InService":
                continue
            age = self._clock() - one.started
            passes = one.id in healthy
            health = self._group.target_group.judge(one.health, age, passes=passes)
            if health != one.health:
                self._change(one, health=health, healthy_since=self._clock())

    def _ended(self, one: Instance) -> None:
        if one.status != "InService":
            self._targets.remove(one.id)
            one.process.close()
            self._change(one, status="Terminated", health="unused", plan=[])
        elif not one.lost and not one.plan:
            one.process.kill()  # its workers, as by KillMode=mixed
            one.plan = [(self._clock() + self._restart, self._start_again)]

    def _start_again(self, one: Instance) -> None:
        one.process.start()
        self._change(one, reason="systemd started the service again")

    # What is to be done

    def _replace_unhealthy(self) -> None:
        for one in self.serving():
            out_of_grace = self._clock() - one.started >= self._group.grace
            if self._group.checked and one.health == "unhealthy" and out_of_grace:
                self._terminate(one, "ELB system health check failure")

    def _go_on(self, refresh: Refresh) -> None:
        """Go on with a refresh, as far as its bounds allow."""
        desired, preferences, now = self._group.desired, refresh.preferences, self._clock()
        old = [one for one in self.serving() if one in refresh.old]
        new = [one for one in self.serving() if one not in refresh.old]
        for _ in range(min(desired - len(new), preferences.maximum(desired) - len(old) - len(new))):
            self._add(refresh.definition)
        ready = [
            one for one in new if one.health == "healthy" and now - one.healthy_since >= preferences.warmup
        ]
        serve = len(ready) + sum(one.health == "healthy" for one in old)
        for one in sorted(old, key=lambda one: one.health == "healthy"):
            if one.health == "healthy":
                if serve <= preferences.minimum(desired):
                    break
                serve -= 1
            self._terminate(one, "Instance refresh")
        percent = 100 * len(ready) // desired if desired else 100
        if percent != refresh.percent:
            refresh.percent = percent
            self._announce(refresh)
        if len(ready) >= desired and not any(one in refresh.old for one in self.serving()):
            refresh.percent = 100
            self._end("Successful")

    def _reconcile(self) -> None:
        """Launch what is wanted; what is too many goes by the group's policy."""
        serving = self.serving()
        if self._definition is not None:
            for _ in range(self._group.desired - len(serving)):
                self._add(self._definition)
        surplus = len(serving) - self._group.desired
        for one in sorted(serving, key=self._turn)[: max(surplus, 0)]:
            self._terminate(one, "More instances than desired")

    def _turn(self, one: Instance) -> tuple[bool, float]:
        """Return the place of an instance among those that may go, by the termination policy.

        Health has no part in it: AWS replaces those that it holds for unhealthy, and chooses among all
        others. The default takes those of another launch template first, then the oldest.
        """
        if self._group.policy == "NewestInstance":
            return False, -one.started
        present = self._definition is not None and one.definition.arn == self._definition.arn
        return self._group.policy == "Default" and present, one.started

    def _add(self, definition: TaskDefinition) -> None:
        name, process = self._launch(definition)
        one = Instance(name, definition, process, self._clock())
        self.instances.append(one)
        self._targets.add(one.id, process.address, checked=self.checked)
        self._change(one)

    # How an instance leaves: out of the load balancer, held by the hook, shut down.

    def _terminate(self, one: Instance, reason: str) -> None:
        delay = self._group.target_group.deregistration_delay
        self._targets.drain(one.id)
        plan: list[tuple[float, Action]] = [(self._clock() + delay, self._hold)]
        self._change(one, status="Terminating", health="draining", reason=reason, plan=plan)

    def _release(self) -> None:
        """End the deregistration of those to which nothing is under way any more."""
        draining = [one for one in self.instances if one.status == "Terminating"]
        busy = self._targets.busy() if draining else set()
        for one in draining:
            if one.id not in busy:
                self._hold(one)

    def _hold(self, one: Instance) -> None:
        """Have the hook hold it; what the load balancer still had under way there is cut off."""
        self._targets.remove(one.id)
        plan: list[tuple[float, Action]] = [(self._clock() + self._group.hook, self._shut_down)]
        self._change(one, status="Terminating:Wait", plan=plan)

    def _shut_down(self, one: Instance) -> None:
        one.process.terminate()
        limit = self._clock() + one.definition.stop_timeout
        plan: list[tuple[float, Action]] = [(limit, lambda one: one.process.kill())]
        self._change(one, status="Terminating:Proceed", plan=plan)
