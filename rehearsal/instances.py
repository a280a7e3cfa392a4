"""What the fleet reads of the emulated EC2: moto's own groups, templates and images, in its process."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from moto.autoscaling.models import autoscaling_backends
from moto.ec2.models import ec2_backends
from moto.elbv2.models import elbv2_backends

from rehearsal.cloud import COMMIT, read_secret, target_group
from rehearsal.service import Group, Preferences, TaskDefinition

SECRET = re.compile(r"arn:aws:secretsmanager:[^:]+:\d{12}:secret:.+")
UNIT = Path(__file__).parent.parent / "image" / "hello.service"


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
    hooks = moto_group.autoscaling_backend.describe_lifecycle_hooks(moto_group.name)
    return Group(
        desired=moto_group.desired_capacity,
        grace=moto_group.health_check_grace_period or 0,
        checked=moto_group.health_check_type == "ELB",
        hook=max(
            (
                float(hook.heartbeat_timeout)
                for hook in hooks
                if hook.lifecycle_transition == "autoscaling:EC2_INSTANCE_TERMINATING"
            ),
            default=0,
        ),
        target_group=target_group(moto_target_group(moto_group)),
    )


def preferences(refresh: Mapping[str, Any], warmup: float) -> Preferences:
    """Return how a refresh goes; `warmup` is the group's own."""
    given = refresh["Preferences"]
    return Preferences(
        minimum_percent=int(given.get("MinHealthyPercentage", 90)),
        maximum_percent=int(given.get("MaxHealthyPercentage", 100)),
        warmup=float(given.get("InstanceWarmup", warmup)),
        skip_matching=str(given.get("SkipMatching", False)).lower() == "true",
    )


def user_data(moto_group: Any) -> dict[str, str]:
    """Return the lines of NAME=VALUE that instances of a group are given."""
    text = str(moto_group.user_data.decode() if moto_group.user_data else "")
    return dict(line.split("=", 1) for line in text.splitlines() if line)


def definition(moto_group: Any, builds: Path, given: Mapping[str, str]) -> TaskDefinition:
    """Return what instances of a group run: the commit of their AMI. `given` goes above its user data."""
    account, region = moto_group.account_id, moto_group.region
    told = {name: reveal(account, region, value) for name, value in user_data(moto_group).items()}
    log = told.pop("LOG_GROUP", "")
    images = ec2_backends[account][region].describe_images([moto_group.image_id])
    tags = {tag["key"]: tag["value"] for image in images for tag in image.get_tags()}
    commit = tags.get("Commit", "")
    if not COMMIT.fullmatch(commit):
        raise ValueError(f"{moto_group.image_id} is not tagged with a commit: {tags}")
    unit = read_unit()
    return TaskDefinition(
        arn=moto_group.ec2_launch_template.id,
        commit=commit,
        folder=builds / commit,
        environment={**unit.environment, **told, **given},
        stop_timeout=unit.stop_timeout,
        log=(log, "") if log else None,
    )


def reveal(account: str, region: str, value: str) -> str:
    """Return what a value stands for: the content of a secret, where it is the ARN of one."""
    return read_secret(account, region, value) if SECRET.fullmatch(value) else value


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
