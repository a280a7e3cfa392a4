"""What the agent reads of the emulated AWS: moto's own objects, in its process."""

import re
from pathlib import Path
from typing import Any

from moto.ecr.models import ecr_backends
from moto.ecs.models import ecs_backends
from moto.elbv2.models import elbv2_backends
from moto.secretsmanager.models import secretsmanager_backends

from rehearsal.service import Service, TargetGroup, TaskDefinition

COMMIT = re.compile(r"[0-9a-f]{40}")


class Cloud:
    """Reads services. `builds` has a folder for each commit; tasks are told of AWS by `aws`."""

    def __init__(self, builds: Path, aws: dict[str, str]) -> None:
        self._builds = builds
        self._aws = aws

    def service(self, service: Any) -> Service:
        """Return what Terraform set for a moto Service."""
        deploying = getattr(service, "deployment_configuration", None) or {}
        breaker = deploying.get("deploymentCircuitBreaker") or {}
        active = service.status == "ACTIVE"
        return Service(
            desired=service.desired_count if active else 0,
            minimum_percent=deploying.get("minimumHealthyPercent", 100),
            maximum_percent=deploying.get("maximumPercent", 200),
            grace=getattr(service, "health_check_grace_period_seconds", None) or 0,
            breaker=bool(breaker.get("enable")),
            rollback=bool(breaker.get("rollback")),
            target_group=target_group(moto_target_group(service)),
        )

    def definition(self, service: Any) -> TaskDefinition:
        """Return what the tasks of a moto Service are to run."""
        account, region = service._account_id, service.region_name
        definition = ecs_backends[account][region].describe_task_definition(service.task_definition)
        container = next(one for one in definition.container_definitions if one.get("portMappings"))
        environment = self._aws | {pair["name"]: pair["value"] for pair in container.get("environment", ())}
        missing = ""
        for secret in container.get("secrets", ()):
            try:
                environment[secret["name"]] = read_secret(account, region, secret["valueFrom"])
            except Exception as error:  # noqa: BLE001 - whatever moto raises, the task does not start
                missing = f"ResourceInitializationError: unable to pull secrets: {error}"
        commit = _commit(account, region, container["image"])
        if not commit:
            missing = f"CannotPullContainerError: {container['image']}: not found"
        options = (container.get("logConfiguration") or {}).get("options", {})
        return TaskDefinition(
            arn=service.task_definition,
            commit=commit,
            folder=self._builds / commit,
            missing=missing,
            command=tuple(container.get("command") or ("serve",)),
            environment=environment,
            stop_timeout=container.get("stopTimeout") or 30,
            log=(options["awslogs-group"], f"{options['awslogs-stream-prefix']}/{container['name']}")
            if "awslogs-group" in options
            else None,
        )


def moto_target_group(service: Any) -> Any:
    """Return the moto target group that a moto Service registers its tasks in."""
    arn = service.load_balancers[0]["targetGroupArn"]
    return elbv2_backends[service._account_id][service.region_name].target_groups[arn]


def ports(group: Any) -> list[int]:
    """Return the ports of plain HTTP on which the load balancers of a moto target group listen."""
    balancers = elbv2_backends[group.account_id][group.region_name].load_balancers
    return [
        int(listener.port)
        for arn in group.load_balancer_arns
        for listener in balancers[arn].listeners.values()
        if listener.protocol == "HTTP"
    ]


def target_group(group: Any) -> TargetGroup:
    """Return what Terraform set for a moto target group."""
    return TargetGroup(
        path=group.health_check_path,
        codes=group.matcher["HttpCode"],
        interval=float(group.health_check_interval_seconds),
        timeout=float(group.health_check_timeout_seconds),
        healthy=int(group.healthy_threshold_count),
        unhealthy=int(group.unhealthy_threshold_count),
        deregistration_delay=float(group.attributes["deregistration_delay.timeout_seconds"]),
    )


def read_secret(account: str, region: str, reference: str) -> str:
    """Return the value of a secret by its ARN: the whole of it."""
    value = secretsmanager_backends[account][region].get_secret_value(
        secret_id=reference, version_id=None, version_stage="AWSCURRENT"
    )
    return str(value["SecretString"])


def _commit(account: str, region: str, image: str) -> str:
    """Return the commit that an image is tagged with; "" if the registry has no such image."""
    name, _, digest = image.partition("@")
    repository = ecr_backends[account][region].repositories.get(name.partition("/")[2])
    for one in repository.images if repository else ():
        if one.get_image_digest() == digest:
            return next(filter(COMMIT.fullmatch, one.image_tags), "")
    return ""
