"""AWS on one machine: moto's server, with what it lacks for infra/ mended here and never there.

It runs in the virtual environment that has moto, as a process of its own:

    .venv-emulators/bin/python -m rehearsal.emulator --port 0

It prints its port once it answers, and ends with the process that started it.
"""

import argparse
import ctypes
import json
import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from threading import Thread
from typing import Any
from uuid import uuid4

from moto.applicationautoscaling.responses import ApplicationAutoScalingResponse
from moto.ec2.models.security_groups import SecurityGroupRule
from moto.ec2.responses.amis import AmisResponse
from moto.ecs.models import Service
from moto.ecs.responses import EC2ContainerServiceResponse
from moto.elbv2.models import FakeLoadBalancer
from moto.secretsmanager.models import SecretsManagerBackend
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import BaseWSGIServer, WSGIRequestHandler, make_server

from rehearsal import groups
from rehearsal.dlm import Lifecycles

PR_SET_PDEATHSIG = 1
# Parameters of CreateService that moto drops, so that a second plan differs; UpdateService keeps them.
KEPT = {
    "availabilityZoneRebalancing": "availability_zone_rebalancing",
    "capacityProviderStrategy": "capacity_provider_strategy",
    "deploymentConfiguration": "deployment_configuration",
    "enableECSManagedTags": "enable_ecs_managed_tags",
    "enableExecuteCommand": "enable_execute_command",
    "healthCheckGracePeriodSeconds": "health_check_grace_period_seconds",
}

Changed = Callable[[Any], None]


def settle(service: Any) -> None:
    """Have a service run what it should: what ECS does in minutes, and moto never."""
    primary = service.deployments[0]
    primary.update(rolloutState="COMPLETED", runningCount=service.desired_count, pendingCount=0)
    service.deployments = [primary]
    service.running_count, service.pending_count = service.desired_count, 0


def mend(changed: Changed = settle, refreshed: groups.Refreshed = groups.settle) -> None:
    """Mend moto in this process; `changed` gets each moto Service that was made or updated, or is deleted.

    A new one, and one with a new task definition, has a deployment that is PRIMARY and IN_PROGRESS at the
    head of `deployments`, before those that it replaces (ACTIVE). Whoever takes the place of `settle` owns
    these, `running_count`, `pending_count` and `events` from then on. A deleted one has the status DRAINING
    or INACTIVE. `refreshed` gets each Auto Scaling Group with an instance refresh that begins. Both are
    called by the threads that answer requests.
    """
    _mend_load_balancers()
    _mend_images()
    _mend_rules()
    _mend_scaling()
    _mend_secrets()
    _mend_services(changed)
    groups.mend(refreshed)


def serve(port: int = 0) -> BaseWSGIServer:
    """Answer on a port of loopback, by a thread; return the server, whose `server_port` is the port."""
    server = make_server(
        "127.0.0.1",
        port,
        Lifecycles(DomainDispatcherApplication(create_backend_app)),
        threaded=True,
        request_handler=_Handler,
    )
    Thread(target=server.serve_forever, name="emulator", daemon=True).start()
    return server


def end_with_parent() -> None:
    """Have this process killed when its parent ends."""
    parent = os.getppid()
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it ended meanwhile
        sys.exit(1)


def _mend_load_balancers() -> None:
    # One stays "provisioning" until it was described once; Terraform waits for another look at it.
    FakeLoadBalancer.load_balancer_state = property(lambda _: {"Code": "active"})


def _mend_images() -> None:
    # The architecture of an image that is registered is dropped.
    register = AmisResponse.register_image

    def register_image(self: Any) -> Any:
        answer = register(self)
        for image in self.ec2_backend.describe_images([answer.result["ImageId"]]):
            image.architecture = self._get_param("Architecture")
        return answer

    AmisResponse.register_image = register_image


def _mend_scaling() -> None:
    # Tags of scalable targets are not implemented, and Terraform tries again until it gives up.
    tags: dict[str, dict[str, str]] = {}
    register = ApplicationAutoScalingResponse.register_scalable_target

    def register_scalable_target(self: Any) -> str:
        answer = str(register(self))
        if given := self._get_param("Tags"):
            tags[json.loads(answer)["ScalableTargetARN"]] = given
        return answer

    def list_tags_for_resource(self: Any) -> str:
        return json.dumps({"Tags": tags.get(self._get_param("ResourceARN"), {})})

    ApplicationAutoScalingResponse.register_scalable_target = register_scalable_target
    ApplicationAutoScalingResponse.list_tags_for_resource = list_tags_for_resource


def _mend_secrets() -> None:
    # Where no stage is named, a secret is given as it was before AWSCURRENT was moved to another version.
    get = SecretsManagerBackend.get_secret_value

    def get_secret_value(self: Any, secret_id: str, version_id: str | None, version_stage: str | None) -> Any:
        answer = get(self, secret_id, version_id, version_stage)
        if version_id or version_stage or "AWSCURRENT" in answer["VersionStages"]:
            return answer
        return get(self, secret_id, None, "AWSCURRENT")

    SecretsManagerBackend.get_secret_value = get_secret_value


def _mend_rules() -> None:
    # Descriptions are kept of rules with addresses alone, not of those with a group or a prefix list.
    make = SecurityGroupRule.__init__

    def __init__(self: Any, *arguments: Any, **named: Any) -> None:  # noqa: N807 - it takes its place
        make(self, *arguments, **named)
        sources = [source for source in (*arguments, *named.values()) if isinstance(source, dict)]
        self.given = next((source["Description"] for source in sources if "Description" in source), None)

    def description(self: Any) -> str | None:
        kept: str | None = self.ip_range.get("Description") or self.given
        return kept

    SecurityGroupRule.__init__ = __init__
    SecurityGroupRule.description = property(description)


def _mend_services(changed: Changed) -> None:
    create, update, delete = (
        EC2ContainerServiceResponse.create_service,
        EC2ContainerServiceResponse.update_service,
        EC2ContainerServiceResponse.delete_service,
    )

    def create_service(self: Any) -> Any:
        answer = create(self)
        service = _service(self, self._get_param("serviceName"))
        for parameter, attribute in KEPT.items():
            if (value := self._get_param(parameter)) is not None:
                setattr(service, attribute, value)
        service.deployments = [_deployment(service)]
        changed(service)
        return answer

    def update_service(self: Any) -> Any:
        service = _service(self, self._get_param("service"))
        before = service.task_definition, service.running_count, service.pending_count
        answer = update(self)
        # moto has all tasks running at once, and one deployment for ever.
        service.running_count, service.pending_count = before[1:]
        if service.task_definition != before[0] or self._get_param("forceNewDeployment"):
            for deployment in service.deployments:
                deployment["status"] = "ACTIVE"
            service.deployments = [_deployment(service), *service.deployments]
        changed(service)
        return answer

    def delete_service(self: Any) -> Any:
        service = _service(self, self._get_param("service"))
        answer = delete(self)
        changed(service)
        return answer

    EC2ContainerServiceResponse.create_service = create_service
    EC2ContainerServiceResponse.update_service = update_service
    EC2ContainerServiceResponse.delete_service = delete_service


def _service(response: Any, name: str) -> Service:
    services, _ = response.ecs_backend.describe_services(response._get_param("cluster", "default"), [name])
    return services[0]


def _deployment(service: Any) -> dict[str, Any]:
    now = datetime.now(UTC)
    return {
        "id": f"ecs-svc/{uuid4().int % 10**19}",
        "status": "PRIMARY",
        "taskDefinition": service.task_definition,
        "desiredCount": service.desired_count,
        "runningCount": 0,
        "pendingCount": service.desired_count,
        "failedTasks": 0,
        "createdAt": now,
        "updatedAt": now,
        "launchType": service.launch_type,
        "platformVersion": service.platform_version,
        "platformFamily": "Linux",
        "networkConfiguration": service.network_configuration,
        "rolloutState": "IN_PROGRESS",
        "rolloutStateReason": "ECS deployment in progress.",
    }


class _Handler(WSGIRequestHandler):
    """Answers without a line for each request."""

    def log(self, type: str, message: str, *args: Any) -> None:  # noqa: A002 - werkzeug's name
        if type == "error":
            super().log(type, message, *args)


def main() -> None:
    """Run until the parent ends, or the process is told to."""
    parser = argparse.ArgumentParser(description="AWS as an emulator")
    parser.add_argument("--port", type=int, default=0, help="port of loopback; 0 takes a free one")
    port = parser.parse_args().port
    end_with_parent()
    mend()
    server = serve(port)
    print(server.server_port, flush=True)
    with suppress(KeyboardInterrupt):
        signal.pause()


if __name__ == "__main__":
    main()
