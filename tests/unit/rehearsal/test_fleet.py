"""The rehearsal's fleet does what a group says: with a clock, processes and targets that are played."""

from collections import Counter
from dataclasses import replace
from itertools import count

import pytest

from rehearsal.fleet import Fleet
from rehearsal.service import Group, Preferences, TaskDefinition
from tests.support.simulated import DRAIN, GROUP, PlayedProcess, PlayedTargets

STEP = 0.5
RESTART = 1.0
GROUP_OF_TWO = Group(desired=2, grace=60, checked=True, hook=30, policy="NewestInstance", target_group=GROUP)
ROLLING = Preferences(minimum_percent=100, maximum_percent=200, warmup=60, skip_matching=True)
OLD = TaskDefinition("lt-1", commit="old", stop_timeout=60)
NEW = TaskDefinition("lt-2", commit="new", stop_timeout=60)
SICK = TaskDefinition("lt-3", commit="sick", stop_timeout=60)  # never healthy


class World:
    """The fleet, and what it acts on; `noted` has what happened since a release, and when."""

    def __init__(self) -> None:
        self.now = self.released = 0.0
        self.deaf = False
        self.noted: list[tuple[float, str]] = []
        self.healthy_at_least, self.serving_at_most = 99, 0
        self._ids = count(1)
        self.targets = PlayedTargets(self)
        self.statuses: list[str] = []  # that instances had
        self.fleet = Fleet(self.targets, self.launch, lambda: self.now, self.tell, restart=RESTART)

    def tell(self, kind: str, **details: object) -> None:
        if kind == "task" and (status := str(details["status"])) not in self.statuses:
            self.statuses.append(status)

    def launch(self, definition: TaskDefinition) -> tuple[str, PlayedProcess]:
        self.note(f"launch {definition.commit}")
        return f"i-{next(self._ids)}", PlayedProcess(self, definition.commit)

    def sick(self, task: str) -> bool:
        """Whether it never answers, or not any more."""
        return any(one.id == task and (one.definition is SICK or one.lost) for one in self.fleet.instances)

    def note(self, what: str) -> None:
        self.noted.append((self.now - self.released, what))

    def when(self, what: str) -> float:
        """Return how long after a release something happened first."""
        return next(at for at, noted in self.noted if noted == what)

    def run(self, seconds: float) -> None:
        """Let time pass."""
        for _ in range(round(seconds / STEP)):
            self.fleet.tick()
            serving = self.fleet.serving()
            healthy = sum(one.health == "healthy" for one in serving)
            self.healthy_at_least = min(self.healthy_at_least, healthy)
            self.serving_at_most = max(self.serving_at_most, len(serving))
            self.now += STEP

    def settled(self, group: Group = GROUP_OF_TWO) -> "World":
        """Have a first version run, and begin to take notes."""
        self.fleet.update(group, OLD)
        self.run(180)
        assert self.commits() == {"old": group.desired}
        self.released, self.noted = self.now, []
        self.healthy_at_least, self.serving_at_most = 99, 0
        return self

    def release(
        self, definition: TaskDefinition, preferences: Preferences = ROLLING, group: Group = GROUP_OF_TWO
    ) -> None:
        """Begin a refresh with another version."""
        self.fleet.update(group, definition)
        self.fleet.begin(preferences)

    def commits(self) -> dict[str, int]:
        return dict(Counter(one.definition.commit for one in self.fleet.serving()))

    @property
    def state(self) -> tuple[str, int]:
        assert self.fleet.refresh is not None
        return self.fleet.refresh.state, self.fleet.refresh.percent


def about(seconds: float) -> object:
    """Return what equals a time within two steps of the clock."""
    return pytest.approx(seconds, abs=2 * STEP)


@pytest.fixture
def world() -> World:
    return World().settled()


@pytest.mark.parametrize(
    ("minimum", "maximum", "healthy_at_least", "serving_at_most"),
    [(100, 200, 2, 4), (100, 150, 2, 3), (50, 100, 1, 2), (50, 200, 1, 3)],
)
def test_percentages(
    world: World, minimum: int, maximum: int, healthy_at_least: int, serving_at_most: int
) -> None:
    """There are never fewer healthy instances than the minimum, nor more instances than the maximum."""
    world.release(NEW, replace(ROLLING, minimum_percent=minimum, maximum_percent=maximum))
    world.run(600)
    assert world.state == ("Successful", 100)
    assert world.commits() == {"new": 2}
    assert (world.healthy_at_least, world.serving_at_most) == (healthy_at_least, serving_at_most)


@pytest.mark.parametrize("warmup", [0, 60, 180])
def test_warmup(world: World, warmup: float) -> None:
    """An old instance goes once a new one has been healthy for so long."""
    world.release(NEW, replace(ROLLING, warmup=warmup))
    world.run(600)
    assert world.when("drain") == about(GROUP.interval * GROUP.healthy + warmup)


@pytest.mark.parametrize("under_way", [0, 10, 300])
@pytest.mark.parametrize("delay", [0, 20, 90])
@pytest.mark.parametrize("hook", [0, 30, 120])
def test_how_an_instance_leaves(hook: float, delay: float, under_way: float) -> None:
    """Out of the load balancer, which waits for what is under way at most for the delay.

    Then the hook holds it, then SIGTERM comes, and in the end it is gone.
    """
    group = replace(GROUP_OF_TWO, hook=hook, target_group=replace(GROUP, deregistration_delay=delay))
    world = World().settled(group)
    world.targets.under_way = under_way
    world.release(NEW, group=group)
    world.run(600)
    removed = world.when("remove")
    assert removed - world.when("drain") == about(min(delay, under_way))
    assert world.when("SIGTERM") - removed == about(hook)
    assert world.when("close") - world.when("SIGTERM") == about(DRAIN)
    assert world.statuses == [
        "InService", "Terminating", "Terminating:Wait", "Terminating:Proceed", "Terminated"
    ]  # fmt: skip
    assert "SIGKILL" not in [noted for _, noted in world.noted]


def test_stop_timeout(world: World) -> None:
    """What does not end after SIGTERM is killed after the unit's time."""
    world.deaf = True
    world.release(NEW)
    world.run(600)
    assert world.when("SIGKILL") - world.when("SIGTERM") == about(OLD.stop_timeout)


def test_a_version_that_is_never_healthy(world: World) -> None:
    """The refresh gets nowhere: its instances are replaced after the grace, and the old ones serve."""
    world.release(SICK)
    world.run(600)
    assert world.state == ("InProgress", 0)
    assert world.healthy_at_least == 2
    launches = [at for at, noted in world.noted if noted == "launch sick"]
    assert launches[:2] == [0, 0]
    assert launches[2] == about(GROUP_OF_TWO.grace)
    assert {one.reason for one in world.fleet.instances if one.definition is SICK and one.reason} == {
        "ELB system health check failure"
    }


@pytest.mark.parametrize(
    ("policy", "stay"), [("NewestInstance", "old"), ("OldestInstance", "sick"), ("Default", "sick")]
)
def test_a_refresh_that_is_cancelled(policy: str, stay: str) -> None:
    """Instances that are too many go by the termination policy, whether or not they serve: only the newest
    is the right one to begin with."""
    group = replace(GROUP_OF_TWO, policy=policy)
    world = World().settled(group)
    world.release(SICK, group=group)
    world.run(10)
    assert world.commits() == {"old": 2, "sick": 2}
    world.fleet.cancel()
    world.run(40)
    assert world.state[0] == "Cancelled"
    assert world.commits() == {stay: 2}
    assert world.healthy_at_least == (2 if stay == "old" else 0)


@pytest.mark.parametrize(
    ("policy", "stay"), [("NewestInstance", "old"), ("OldestInstance", "new"), ("Default", "old")]
)
def test_which_go_of_two_versions(policy: str, stay: str) -> None:
    """The default takes those of another launch template than the group has now, though they are newer."""
    group = replace(GROUP_OF_TWO, policy=policy)
    world = World().settled(group)
    world.release(NEW, group=group)
    world.run(50)
    assert world.commits() == {"old": 2, "new": 2}
    world.fleet.update(group, OLD)
    world.fleet.cancel()
    world.run(40)
    assert world.commits() == {stay: 2}


@pytest.mark.parametrize(("policy", "stay"), [("NewestInstance", 0), ("OldestInstance", 2), ("Default", 2)])
def test_which_go_of_one_version(policy: str, stay: int) -> None:
    """Of the same template the newest go, or the oldest."""
    group = replace(GROUP_OF_TWO, policy=policy)
    world = World().settled(group)
    first = [one.id for one in world.fleet.serving()]
    world.fleet.update(replace(group, desired=4), OLD)
    world.run(60)
    ids = [one.id for one in world.fleet.serving()]
    assert ids[:2] == first
    world.fleet.update(group, OLD)
    world.run(60)
    assert [one.id for one in world.fleet.serving()] == ids[stay : stay + 2]


def test_a_refresh_that_an_alarm_ends(world: World) -> None:
    """Those that serve stay, and the new ones go; no later one is launched."""
    world.release(NEW)
    world.run(50)
    assert world.commits() == {"old": 2, "new": 2}
    world.fleet.fail("an alarm")
    world.run(300)
    assert world.fleet.refresh is not None
    assert (world.state[0], world.fleet.refresh.reason) == ("Failed", "an alarm")
    assert world.commits() == {"old": 2}
    assert world.healthy_at_least == 2
    world.fleet.cancel()  # what has ended stays as it is
    assert world.state[0] == "Failed"


@pytest.mark.parametrize(("skip", "launches"), [(True, 0), (False, 2)])
def test_skip_matching(world: World, skip: bool, launches: int) -> None:
    """Instances of the same template stay, or are replaced all the same."""
    world.release(OLD, replace(ROLLING, skip_matching=skip))
    world.run(600)
    assert world.state == ("Successful", 100)
    assert [noted for _, noted in world.noted].count("launch old") == launches


def test_without_health_checks_of_the_load_balancer() -> None:
    """A group that looks at machines alone keeps what answers nobody."""
    group = replace(GROUP_OF_TWO, checked=False)
    world = World().settled(group)
    world.release(SICK, group=group)
    world.run(600)
    assert [noted for _, noted in world.noted].count("launch sick") == 2


def test_a_service_that_ends_is_started_again(world: World) -> None:
    """By systemd, on the same instance."""
    one = world.fleet.serving()[0]
    pid = one.process.pid
    one.process.kill()
    world.run(60)
    assert one in world.fleet.serving()
    assert one.process.pid != pid
    assert "launch old" not in [noted for _, noted in world.noted]


def test_a_machine_that_is_lost_is_replaced(world: World) -> None:
    """Nothing is started on it again; the load balancer notices, and the group launches another."""
    one = world.fleet.serving()[0]
    pid = one.process.pid
    world.fleet.lose(one.id)
    world.fleet.lose(one.id)  # told twice
    world.run(120)
    assert (one.status, one.process.pid) == ("Terminated", pid)
    assert world.commits() == {"old": 2}
    assert [noted for _, noted in world.noted].count("SIGKILL") == 1


def test_desired_capacity(world: World) -> None:
    """More instances are launched, and those too many leave, without a refresh."""
    for desired in (4, 1, 0):
        world.fleet.update(replace(GROUP_OF_TWO, desired=desired), OLD)
        world.run(120)
        assert world.commits() == ({"old": desired} if desired else {})


def test_time_lapse() -> None:
    """What is waited for is shorter; percentages stay."""
    assert GROUP_OF_TWO.faster(5) == replace(GROUP_OF_TWO, grace=12, hook=6, target_group=GROUP.faster(5))
    assert ROLLING.faster(5) == replace(ROLLING, warmup=12)
