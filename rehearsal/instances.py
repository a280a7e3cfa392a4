"""What the fleet reads of the emulated EC2: moto's own groups, templates and images, in its process."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from moto.autoscaling.models import autoscaling_backends
from moto.cloudwatch.models import cloudwatch_backends
from moto.ec2.models import ec2_backends
from moto.elbv2.models import elbv2_backends

from rehearsal.cloud import COMMIT, target_group
from rehearsal.service import Group, Preferences, TaskDefinition

UNIT = Path(__file__).parent.parent / "image" / "hello.service"
TERMINATING = "autoscaling:EC2_INSTANCE_TERMINATING"
POLICIES = {"Default", "NewestInstance", "OldestInstance"}  # that are played


def groups() -> list[Any]:
    """Return all Auto Scaling Groups that there are."""
    return [
        group
        for backends in autoscaling_backends.values()
        for backend in backends.values()
        for group in list(backend.autoscaling_groups.values())
    ]


def moto_target_group(group: Any) -> Any:
    """Return the moto target group in which a group registers its instances."""
    return elbv2_backends[group.account_id][group.region].target_groups[group.target_group_arns[0]]


def group(moto_group: Any) -> Group:
    """Return what Terraform set for a group."""
    policy = moto_group.termination_policies[0]
    if policy not in POLICIES:
        raise ValueError(f"the termination policy {policy} is not played")
    return Group(
        desired=min(max(moto_group.desired_capacity, moto_group.min_size), moto_group.max_size),
        grace=moto_group.health_check_grace_period or 0,
        checked=moto_group.health_check_type == "ELB",
        hook=held(moto_group.autoscaling_backend.describe_lifecycle_hooks(moto_group.name)),
        policy=policy,
        target_group=target_group(moto_target_group(moto_group)),
    )


def held(hooks: list[Any]) -> float:
    """Return how long hooks that nobody completes hold an instance that is terminated.

    Those with the result CONTINUE are waited for side by side; one with ABANDON ends the others too.
    """
    times = [(float(one.heartbeat_timeout), one.default_result) for one in hooks if _terminating(one)]
    longest = max((time for time, _ in times), default=0.0)
    return min((time for time, result in times if result == "ABANDON"), default=longest)


def _terminating(hook: Any) -> bool:
    return bool(hook.lifecycle_transition == TERMINATING)


def preferences(refresh: Mapping[str, Any], warmup: float) -> Preferences:
    """Return how a refresh goes; `warmup` is the group's own."""
    given = refresh["Preferences"]
    return Preferences(
        minimum_percent=int(given.get("MinHealthyPercentage", 90)),
        maximum_percent=int(given.get("MaxHealthyPercentage", 100)),
        warmup=float(given.get("InstanceWarmup", warmup)),
        skip_matching=str(given.get("SkipMatching", False)).lower() == "true",
        alarms=tuple(given.get("AlarmSpecification", {}).get("Alarms", ())),
    )


def alarming(moto_group: Any, names: tuple[str, ...]) -> list[str]:
    """Return which of the alarms are in the state ALARM."""
    alarms = cloudwatch_backends[moto_group.account_id][moto_group.region].alarms
    return [name for name in names if name in alarms and alarms[name].state_value == "ALARM"]


def user_data(moto_group: Any) -> str:
    """Return what instances of a group are given: lines of NAME=VALUE."""
    return str(moto_group.user_data.decode() if moto_group.user_data else "")


def settings(text: str) -> dict[str, str]:
    """Return the settings in user data as Terraform writes it. Instances read it by image/settings.py."""
    return dict(line.split("=", 1) for line in text.splitlines() if line)


def definition(
    moto_group: Any, builds: Path, translate: Callable[[str], str], given: Mapping[str, str]
) -> TaskDefinition:
    """Return what instances of a group run: the commit of their AMI, with user data where addresses are
    translated to those that are played, and what is given above the unit's environment."""
    images = ec2_backends[moto_group.account_id][moto_group.region].describe_images([moto_group.image_id])
    tags = {tag["key"]: tag["value"] for image in images for tag in image.get_tags()}
    commit = tags.get("Commit", "")
    if not COMMIT.fullmatch(commit):
        raise ValueError(f"{moto_group.image_id} is not tagged with a commit: {tags}")
    unit, text = read_unit(), user_data(moto_group)
    log = settings(text).get("LOG_GROUP", "")
    return TaskDefinition(
        arn=moto_group.ec2_launch_template.id,
        commit=commit,
        folder=builds / commit,
        environment={**unit.environment, **given},
        stop_timeout=unit.stop_timeout,
        log=(log, "") if log else None,
        user_data=translate(text),
    )


class Unit:
    """What systemd does with hello, as image/hello.service says: its environment, and times in seconds."""

    def __init__(self, text: str) -> None:
        """Read the text of a unit."""
        lines = [line.split("=", 1) for line in text.splitlines() if "=" in line and line[0] not in "#;"]
        settings = dict(lines)
        environment = " ".join(value for name, value in lines if name == "Environment")
        self.environment = dict(pair.split("=", 1) for pair in environment.split())
        self.stop_timeout = float(settings["TimeoutStopSec"])
        self.restart = float(settings["RestartSec"])
        if settings["Restart"] != "always":
            raise ValueError("image/hello.service no longer has Restart=always, which is what is played")


def read_unit() -> Unit:
    """Return the unit of the AMI."""
    return Unit(UNIT.read_text())
