"""What Terraform set for a service or a group of instances, as the agents obey it. All times are seconds."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path


@dataclass(frozen=True)
class TargetGroup:
    """How targets are checked, and how they leave."""

    path: str = "/hc"
    codes: str = "200"
    interval: float = 30
    timeout: float = 5
    healthy: int = 5  # checks in a row
    unhealthy: int = 2
    deregistration_delay: float = 300

    def judge(self, before: str, age: float, *, passes: bool) -> str:
        """Return the health of a target: what it was before, how old it is, and whether it passes checks."""
        if passes:
            return "healthy"
        checked = age >= self.interval * self.unhealthy + self.timeout
        return "unhealthy" if before != "initial" or checked else "initial"

    def faster(self, speed: float) -> "TargetGroup":
        """Return the same in time-lapse. The time for an answer stays, for the machine is no faster."""
        return replace(
            self,
            interval=self.interval / speed,
            deregistration_delay=self.deregistration_delay / speed,
        )


@dataclass(frozen=True)
class TaskDefinition:
    """What a task or an instance runs: `commit` of `folder`, or why there is none, in `missing`.

    `arn` is what it is known by: of an instance, the ID of the launch template. An instance finds its
    settings in `user_data`, and its own times there are made `speed` times as short.
    """

    arn: str
    commit: str = ""
    folder: Path = Path()
    missing: str = ""
    command: tuple[str, ...] = ("serve",)
    environment: Mapping[str, str] = field(default_factory=dict)
    stop_timeout: float = 30
    log: tuple[str, str] | None = None  # group, and prefix of the streams
    user_data: str = ""
    speed: float = 1

    def faster(self, speed: float) -> "TaskDefinition":
        """Return the same in time-lapse: hello's own times of stopping too."""
        return replace(
            self,
            environment=lapsed(self.environment, speed),
            stop_timeout=self.stop_timeout / speed,
            speed=self.speed * speed,
        )


def lapsed(environment: Mapping[str, str], speed: float) -> dict[str, str]:
    """Return hello's settings with its times of stopping in time-lapse."""
    return {
        name: f"{float(value) / speed:g}" if name in {"HELLO_DRAIN_SECONDS", "HELLO_STOP_SECONDS"} else value
        for name, value in environment.items()
    }


@dataclass(frozen=True)
class Service:
    """How many tasks run, and how they are replaced. The defaults are those of ECS."""

    desired: int = 1
    minimum_percent: int = 100
    maximum_percent: int = 200
    grace: float = 0
    breaker: bool = False
    rollback: bool = False
    target_group: TargetGroup = TargetGroup()

    @property
    def minimum(self) -> int:
        """Healthy tasks that there are at least during a deployment; ECS rounds up."""
        return -(-self.desired * self.minimum_percent // 100)

    @property
    def maximum(self) -> int:
        """Tasks that there are at most; ECS rounds down."""
        return self.desired * self.maximum_percent // 100

    @property
    def failures(self) -> int:
        """Failed tasks that end a deployment, where there is a circuit breaker: half, within 3 and 200."""
        return min(max(-(-self.desired // 2), 3), 200)

    def faster(self, speed: float) -> "Service":
        """Return the same in time-lapse."""
        return replace(self, grace=self.grace / speed, target_group=self.target_group.faster(speed))


@dataclass(frozen=True)
class Group:
    """How many instances run, and how they leave. `hook` is how long one is held before it is shut down."""

    desired: int = 1
    grace: float = 0
    checked: bool = False  # whether one that the load balancer takes for unhealthy is replaced
    hook: float = 0
    policy: str = "Default"  # which go where there are too many: NewestInstance, OldestInstance, Default
    target_group: TargetGroup = TargetGroup()

    def faster(self, speed: float) -> "Group":
        """Return the same in time-lapse."""
        return replace(
            self,
            grace=self.grace / speed,
            hook=self.hook / speed,
            target_group=self.target_group.faster(speed),
        )


@dataclass(frozen=True)
class Preferences:
    """How an instance refresh goes. The defaults are those of EC2 Auto Scaling."""

    minimum_percent: int = 90
    maximum_percent: int = 100
    warmup: float = 0
    skip_matching: bool = False
    alarms: tuple[str, ...] = ()  # that end it

    def minimum(self, desired: int) -> int:
        """Return how many healthy instances there are at least."""
        return -(-desired * self.minimum_percent // 100)

    def maximum(self, desired: int) -> int:
        """Return how many instances there are at most."""
        return desired * self.maximum_percent // 100

    def faster(self, speed: float) -> "Preferences":
        """Return the same in time-lapse."""
        return replace(self, warmup=self.warmup / speed)
