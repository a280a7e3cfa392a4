"""The agent: it keeps the tasks of one ECS service as the service asks, and replaces them as ECS does.

It is told of the service by `update`, and goes on by `tick`, which looks at processes and targets and
does what is due. It never waits, and its clock is an argument.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import cycle
from typing import Protocol
from uuid import uuid4

from rehearsal.service import Service, TaskDefinition

PROPAGATION_SECONDS = 5.0  # from SIGTERM until the load balancer knows, where SIGTERM comes first

Action = Callable[["Task"], None]


class Process(Protocol):
    """A task's process, as `tasks.Process` is one."""

    address: str
    pid: int

    def status(self) -> int | None:
        """Return the exit status, or None while it runs."""

    def terminate(self) -> None:
        """Send SIGTERM."""

    def kill(self) -> None:
        """Send SIGKILL."""


class Targets(Protocol):
    """The target group, as `balancer.Balancer` is one."""

    def add(self, task: str, address: str, *, checked: bool = True) -> None:
        """Register a target."""

    def drain(self, task: str) -> None:
        """Give it no new requests."""

    def remove(self, task: str) -> None:
        """Cut off what it still does."""

    def healthy(self) -> set[str]:
        """Return who passed the checks."""

    def busy(self) -> set[str]:
        """Return who answers a request."""


@dataclass(eq=False)
class Deployment:
    """One definition on its way to being what all tasks run."""

    definition: TaskDefinition
    desired: int
    id: str = field(default_factory=lambda: f"ecs-svc/{uuid4().int % 10**19}")
    state: str = "IN_PROGRESS"
    reason: str = "ECS deployment in progress."
    failed: int = 0


@dataclass(eq=False)
class Task:
    """A task, from its start until after its end. `plan`: what is due when, soonest first."""

    deployment: Deployment
    started: float
    process: Process | None
    id: str = field(default_factory=lambda: uuid4().hex)
    status: str = "RUNNING"  # then DEACTIVATING, STOPPED
    health: str = "initial"
    reason: str = ""
    exit_code: int | None = None
    plan: list[tuple[float, Action]] = field(default_factory=list)


class Stops:
    """In which order a task leaves. AWS documents that the target is deregistered first; reports show SIGTERM
    first. Both are played, in turn, unless told otherwise."""

    DEREGISTER_FIRST, SIGTERM_FIRST = "deregister", "SIGTERM"

    def __init__(self, orders: Iterable[str] = (DEREGISTER_FIRST, SIGTERM_FIRST)) -> None:
        self._orders = cycle(orders)

    def __next__(self) -> str:
        return next(self._orders)


class Agent:
    """Keeps the tasks of a service. `tell` gets what happens: a kind, and the details."""

    def __init__(
        self,
        targets: Targets,
        start: Callable[[str, TaskDefinition], Process],
        clock: Callable[[], float],
        tell: Callable[..., None] = lambda kind, **details: None,
        *,
        speed: float = 1,
        stops: Stops | None = None,
    ) -> None:
        self.tasks: list[Task] = []
        self.deployments: list[Deployment] = []  # the newest first
        self._service = Service(desired=0)
        self._completed: Deployment | None = None  # what to roll back to
        self._targets = targets
        self._start = start
        self._clock = clock
        self._tell = tell
        self._propagation = PROPAGATION_SECONDS / speed
        self._stops = stops or Stops()
        self.checked = True  # whether targets have to be healthy before they get requests

    def update(self, service: Service, definition: TaskDefinition, *, force: bool = False) -> None:
        """Take what the service is to be from now on; another definition begins a deployment."""
        self._service = service
        if force or not self.deployments or self.deployments[0].definition.arn != definition.arn:
            self._deploy(definition)
        self.deployments[0].desired = service.desired

    def tick(self) -> None:
        """Look at all tasks, and do what is due."""
        self._look()
        for task in self._all("RUNNING", "DEACTIVATING"):
            while task.plan and task.plan[0][0] <= self._clock():
                task.plan.pop(0)[1](task)
        self._judge()
        if self.deployments:
            self._reconcile(self.deployments[0])

    def running(self, deployment: Deployment | None = None) -> list[Task]:
        """Return the tasks that run and are not to stop, of one deployment or of all."""
        return [task for task in self._all("RUNNING") if deployment is None or task.deployment is deployment]

    def kill(self) -> None:
        """End all processes at once."""
        for task in self.tasks:
            if task.process is not None and task.process.status() is None:
                task.process.kill()

    def _all(self, *statuses: str) -> list[Task]:
        return [task for task in self.tasks if task.status in statuses]

    def _deploy(self, definition: TaskDefinition) -> None:
        deployment = Deployment(definition, self._service.desired)
        self.deployments.insert(0, deployment)
        self._announce(deployment)

    def _announce(self, deployment: Deployment) -> None:
        self._tell(
            "deployment",
            id=deployment.id,
            commit=deployment.definition.commit,
            state=deployment.state,
            reason=deployment.reason,
            failed=deployment.failed,
        )

    def _change(self, task: Task, **changed: object) -> None:
        for name, value in changed.items():
            setattr(task, name, value)
        self._tell(
            "task",
            id=task.id,
            commit=task.deployment.definition.commit,
            status=task.status,
            health=task.health,
            reason=task.reason,
            address=task.process.address if task.process else "",
            pid=task.process.pid if task.process else 0,
        )

    # What happened

    def _look(self) -> None:
        """Notice processes that ended, and targets that became healthy or unhealthy."""
        healthy = self._targets.healthy() if self.tasks else set()
        for task in self._all("RUNNING", "DEACTIVATING"):
            assert task.process is not None
            if (status := task.process.status()) is not None:
                self._ended(task, status)
            elif task.status == "RUNNING" and task.health != (health := self._health(task, healthy)):
                self._change(task, health=health)

    def _health(self, task: Task, healthy: set[str]) -> str:
        age = self._clock() - task.started
        return self._service.target_group.judge(task.health, age, passes=task.id in healthy)

    def _ended(self, task: Task, status: int) -> None:
        self._targets.remove(task.id)
        if task.status == "RUNNING":  # by itself
            self._failed(task)
            task.reason = "Essential container in task exited"
        self._change(task, status="STOPPED", health="unused", exit_code=status, plan=[])

    def _failed(self, task: Task) -> None:
        if task.health != "healthy":
            task.deployment.failed += 1

    # What is to be done

    def _judge(self) -> None:
        """Stop tasks that fail their health checks, and end a deployment with too many that failed."""
        for task in self.running():
            if task.health == "unhealthy" and self._clock() - task.started >= self._service.grace:
                self._failed(task)
                self._stop(task, "Task failed ELB health checks")
        if not self.deployments or not self._service.breaker:
            return
        primary = self.deployments[0]
        if primary.state == "IN_PROGRESS" and primary.failed >= self._service.failures:
            primary.state = "FAILED"
            primary.reason = "ECS deployment circuit breaker: tasks failed to start."
            self._announce(primary)
            if self._service.rollback and self._completed is not None:
                back = self._completed
                back.state, back.failed = "IN_PROGRESS", 0
                back.reason = f"ECS deployment circuit breaker: rolling back to deploymentId {back.id}."
                self.deployments = [back, *(other for other in self.deployments if other is not back)]
                self._announce(back)

    def _reconcile(self, primary: Deployment) -> None:
        """Start and stop tasks, as far as the service's bounds allow."""
        service = self._service
        mine, all_running = self.running(primary), self.running()
        wanted = min(service.desired - len(mine), service.maximum - len(all_running))
        if primary.state != "FAILED":
            for _ in range(wanted):
                self._launch(primary)
        for task in mine[service.desired :]:
            self._stop(task, "Scaling activity")
        healthy = sum(task.health == "healthy" for task in all_running)
        others = [task for task in all_running if task.deployment is not primary]
        for task in sorted(others, key=lambda task: task.health == "healthy"):
            if task.health == "healthy":
                if healthy <= service.minimum:
                    break
                healthy -= 1
            self._stop(task, "Scaling activity initiated by deployment")
        self._settle(primary)

    def _settle(self, primary: Deployment) -> None:
        """Forget deployments without tasks; one that has all its tasks healthy, alone, is completed."""
        left = {task.deployment.id for task in self._all("RUNNING", "DEACTIVATING")}
        self.deployments = [d for d in self.deployments if d is primary or d.id in left]
        mine = self.running(primary)
        done = len(mine) == self._service.desired and all(task.health == "healthy" for task in mine)
        if primary.state == "IN_PROGRESS" and done and len(self.deployments) == 1:
            primary.state, primary.reason = "COMPLETED", "ECS deployment completed."
            self._completed = primary
            self._announce(primary)

    def _launch(self, deployment: Deployment) -> None:
        task = Task(deployment, self._clock(), None)
        self.tasks.append(task)
        if deployment.definition.missing:
            self._failed(task)
            self._change(task, status="STOPPED", reason=deployment.definition.missing)
            return
        task.process = self._start(task.id, deployment.definition)
        self._targets.add(task.id, task.process.address, checked=self.checked)
        self._change(task)

    def _stop(self, task: Task, reason: str) -> None:
        """Plan how a task leaves, and begin."""
        assert task.process is not None
        now, process = self._clock(), task.process
        delay = self._service.target_group.deregistration_delay
        sigterm_first = next(self._stops) == Stops.SIGTERM_FIRST
        deregister = now + self._propagation if sigterm_first else now
        terminate = now if sigterm_first else now + delay
        stop_timeout = task.deployment.definition.stop_timeout
        plan: list[tuple[float, Action]] = [
            (deregister, lambda task: self._targets.drain(task.id)),
            (deregister + delay, lambda task: self._targets.remove(task.id)),
            (terminate, lambda _: process.terminate()),
            (terminate + stop_timeout, lambda _: process.kill()),
        ]
        plan.sort(key=lambda step: step[0])
        self._change(task, status="DEACTIVATING", health="draining", reason=reason, plan=plan)
