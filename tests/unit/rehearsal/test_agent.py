"""The rehearsal's agent does what a service says: with a clock, processes and targets that are played."""

from collections.abc import Iterator
from dataclasses import replace

import pytest

from rehearsal.agent import PROPAGATION_SECONDS, Agent, Stops
from rehearsal.service import Service, TaskDefinition
from tests.support.simulated import DRAIN, GROUP, PlayedProcess, PlayedTargets

STEP = 0.5
SERVICE = Service(desired=2, grace=60, breaker=True, rollback=True, target_group=GROUP)
OLD = TaskDefinition("hello:1", commit="old", stop_timeout=60)
NEW = TaskDefinition("hello:2", commit="new", stop_timeout=60)
SICK = TaskDefinition("hello:3", commit="sick", stop_timeout=60)  # never healthy
CRASHES = TaskDefinition("hello:4", commit="crashes")
GONE = TaskDefinition("hello:5", commit="gone", missing="CannotPullContainerError: not found")


class World:
    """The agent, and what it acts on; `noted` has what happened, and when."""

    def __init__(self, *orders: str) -> None:
        self.now = self.released = 0.0
        self.deaf = False
        self.noted: list[tuple[float, str]] = []
        self.told: list[dict[str, object]] = []  # of deployments
        self.healthy_at_least, self.running_at_most = 99, 0
        stops = Stops(orders or (Stops.DEREGISTER_FIRST,))
        self.agent = Agent(PlayedTargets(self), self.start, lambda: self.now, self.tell, stops=stops)

    def start(self, task: str, definition: TaskDefinition) -> PlayedProcess:
        self.note(f"start {definition.commit}")
        return PlayedProcess(self, definition.commit, crashes=definition is CRASHES)

    def tell(self, kind: str, **details: object) -> None:
        """See that a deployment is completed with all its tasks."""
        if kind == "deployment":
            self.told.append(details)
        if details.get("state") == "COMPLETED":
            assert len(self.agent.running()) == self.agent.deployments[0].desired

    def sick(self, task: str) -> bool:
        return any(one.id == task and one.deployment.definition is SICK for one in self.agent.tasks)

    def note(self, what: str) -> None:
        self.noted.append((self.now - self.released, what))

    def when(self, what: str) -> float:
        """Return how long after a release something happened first."""
        return next(at for at, noted in self.noted if noted == what)

    def run(self, seconds: float) -> None:
        """Let time pass."""
        for _ in range(round(seconds / STEP)):
            self.agent.tick()
            running = self.agent.running()
            healthy = sum(task.health == "healthy" for task in running)
            self.healthy_at_least = min(self.healthy_at_least, healthy)
            self.running_at_most = max(self.running_at_most, len(running))
            self.now += STEP

    def release(
        self,
        definition: TaskDefinition,
        service: Service = SERVICE,
        *,
        old: TaskDefinition = OLD,
        seconds: float = 300,
    ) -> None:
        """Have a first version run, and then another one for so long."""
        self.agent.update(service, old)
        self.run(60)
        assert self.states() == ["COMPLETED"]
        self.released, self.noted = self.now, []
        self.healthy_at_least, self.running_at_most = 99, 0
        self.agent.update(service, definition)
        self.run(seconds)

    def states(self) -> list[str]:
        return [deployment.state for deployment in self.agent.deployments]

    def commits(self) -> list[str]:
        return [task.deployment.definition.commit for task in self.agent.running()]

    def processes(self) -> Iterator[PlayedProcess]:
        """Yield those that were not asked to stop."""
        for task in self.agent.running():
            assert isinstance(task.process, PlayedProcess)
            yield task.process


def about(seconds: float) -> object:
    """Return what equals a time within a step of the clock."""
    return pytest.approx(seconds, abs=STEP)


@pytest.fixture
def world() -> World:
    return World()


@pytest.mark.parametrize(
    ("minimum", "maximum", "healthy_at_least", "running_at_most"),
    [(100, 200, 2, 4), (100, 150, 2, 3), (50, 100, 1, 2), (50, 200, 1, 3), (0, 100, 0, 2)],
)
def test_percentages(
    world: World, minimum: int, maximum: int, healthy_at_least: int, running_at_most: int
) -> None:
    """There are never fewer healthy tasks than the minimum, nor more tasks than the maximum."""
    world.release(NEW, replace(SERVICE, minimum_percent=minimum, maximum_percent=maximum))
    assert world.commits() == ["new", "new"]
    assert world.states() == ["COMPLETED"]
    assert (world.healthy_at_least, world.running_at_most) == (healthy_at_least, running_at_most)


@pytest.mark.parametrize("delay", [0, 15, 90])
@pytest.mark.parametrize("order", [Stops.DEREGISTER_FIRST, Stops.SIGTERM_FIRST])
def test_deregistration_delay(order: str, delay: float) -> None:
    """A target that leaves is cut off after the delay; SIGTERM comes then, or before all else."""
    world = World(order)
    world.release(NEW, replace(SERVICE, target_group=replace(GROUP, deregistration_delay=delay)))
    drained = world.when("drain")
    if order == Stops.DEREGISTER_FIRST:
        assert world.when("remove") - drained == about(delay)
        assert world.when("SIGTERM") - drained == about(delay)
    else:
        assert drained - world.when("SIGTERM") == about(PROPAGATION_SECONDS)
        assert world.when("remove") - drained == about(min(delay, DRAIN - PROPAGATION_SECONDS))


def test_both_orders() -> None:
    """Unless told otherwise, tasks leave in one order and the other in turn."""
    stops = Stops()
    assert [next(stops) for _ in range(3)] == [
        Stops.DEREGISTER_FIRST,
        Stops.SIGTERM_FIRST,
        Stops.DEREGISTER_FIRST,
    ]


@pytest.mark.parametrize("timeout", [30, 60])
def test_stop_timeout(world: World, timeout: float) -> None:
    """A process that does not end after SIGTERM is killed after the stop timeout, and no other is."""
    world.deaf = True
    world.release(NEW, old=replace(OLD, stop_timeout=timeout))
    assert world.when("SIGKILL") - world.when("SIGTERM") == about(timeout)


def test_no_kill(world: World) -> None:
    """A process that ends within the stop timeout is not killed."""
    world.release(NEW)
    assert "SIGKILL" not in [noted for _, noted in world.noted]


@pytest.mark.parametrize("grace", [30, 60, 120])
def test_grace_period(world: World, grace: float) -> None:
    """A task that is not healthy is stopped once the grace period is over, and replaced."""
    world.release(SICK, replace(SERVICE, grace=grace, breaker=False))
    starts = [at for at, noted in world.noted if noted == "start sick"]
    assert starts[:2] == [0, 0]
    assert grace <= starts[2] <= grace + 2 * STEP
    assert world.healthy_at_least == 2


def test_without_grace(world: World) -> None:
    """Without a grace period a task that starts has the time of the checks that make it unhealthy."""
    world.release(SICK, replace(SERVICE, grace=0, breaker=False))
    starts = [at for at, noted in world.noted if noted == "start sick"]
    assert starts[2] >= GROUP.interval * GROUP.unhealthy


@pytest.mark.parametrize("bad", [SICK, CRASHES, GONE])
def test_circuit_breaker(world: World, bad: TaskDefinition) -> None:
    """A release whose tasks never become healthy, end, or can't start, is rolled back after three of them."""
    world.release(NEW)
    world.healthy_at_least = 99
    world.agent.update(SERVICE, bad)
    world.run(400)
    assert world.commits() == ["new", "new"]
    assert world.agent.deployments[0].definition is NEW
    assert world.states() == ["COMPLETED"]
    assert world.healthy_at_least == 2
    failed = next(details for details in world.told if details["state"] == "FAILED")
    assert failed["commit"] == bad.commit
    assert 3 <= int(str(failed["failed"])) <= 4
    assert any("rolling back" in str(details["reason"]) for details in world.told)


def test_circuit_breaker_without_rollback(world: World) -> None:
    """It ends the deployment alone: what runs goes on, and nothing more is started."""
    world.release(CRASHES, replace(SERVICE, rollback=False))
    assert world.agent.deployments[0].state == "FAILED"
    assert world.commits() == ["old", "old"]
    starts = len(world.noted)
    world.run(60)
    assert len(world.noted) == starts


def test_no_circuit_breaker(world: World) -> None:
    """Without one it is tried for ever, and the old version serves."""
    world.release(CRASHES, replace(SERVICE, breaker=False))
    assert world.agent.deployments[0].failed > 100
    assert world.states()[0] == "IN_PROGRESS"
    assert world.commits()[:2] == ["old", "old"]


@pytest.mark.parametrize("bad", [SICK, CRASHES, GONE])
def test_first_deployment_that_fails(world: World, bad: TaskDefinition) -> None:
    """There is nothing to roll back to, and nothing is completed."""
    world.agent.update(SERVICE, bad)
    world.run(400)
    assert world.states() == ["FAILED"]
    assert world.commits() == []


def test_killed_task(world: World) -> None:
    """A task that ends by itself is replaced at once, and is no failure of a deployment that is completed."""
    world.release(NEW)
    next(world.processes()).ends = (world.now, -9)
    world.run(2 * STEP)
    assert world.commits() == ["new", "new"]
    assert [task.reason for task in world.agent.tasks if task.exit_code == -9] == [
        "Essential container in task exited"
    ]
    assert world.agent.deployments[0].failed == 0


def test_desired_count(world: World) -> None:
    """More tasks are started, and those too many stopped, without a deployment."""
    world.release(NEW)
    for desired in (4, 1, 0):
        world.agent.update(replace(SERVICE, desired=desired), NEW)
        world.run(120)
        assert world.commits() == ["new"] * desired
        assert len(world.agent.deployments) == 1


def test_release_during_a_release(world: World) -> None:
    """The newer one replaces both."""
    world.release(NEW, seconds=10)
    assert world.states() == ["IN_PROGRESS", "COMPLETED"]
    world.agent.update(SERVICE, replace(NEW, arn="hello:9", commit="newest"))
    world.run(300)
    assert world.commits() == ["newest", "newest"]
    assert world.states() == ["COMPLETED"]
    assert world.healthy_at_least == 2


def test_time_lapse() -> None:
    """What is waited for is shorter; the time for an answer, the thresholds and the percentages stay."""
    fast = SERVICE.faster(5)
    assert (fast.grace, fast.target_group.interval, fast.target_group.deregistration_delay) == (12, 2, 4)
    assert fast == replace(SERVICE, grace=12, target_group=replace(GROUP, interval=2, deregistration_delay=4))
    times = {"HELLO_DRAIN_SECONDS": "15", "HELLO_STOP_SECONDS": "30", "HELLO_WORKERS": "2"}
    definition = replace(NEW, environment=times).faster(5)
    assert definition.environment == {
        "HELLO_DRAIN_SECONDS": "3",
        "HELLO_STOP_SECONDS": "6",
        "HELLO_WORKERS": "2",
    }
    assert definition.stop_timeout == 12
