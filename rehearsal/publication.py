"""What the agent does, as the emulated AWS tells of it: deployments, events, tasks, target health, logs."""

import copy
import sys
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from moto.ecs.models import Task as MotoTask
from moto.ecs.models import ecs_backends
from moto.elbv2.models import FakeHealthStatus, FakeTargetGroup
from moto.moto_api import state_manager

from rehearsal.agent import Agent, Deployment, Task
from rehearsal.cloud import moto_target_group
from rehearsal.output import Output
from rehearsal.tasks import PORT, Process

REASONS = {
    "initial": ("Elb.RegistrationInProgress", "Target registration is in progress"),
    "unhealthy": ("Target.FailedHealthChecks", "Health checks failed"),
    "draining": ("Target.DeregistrationInProgress", "Target deregistration is in progress"),
    "unused": ("Target.NotRegistered", "Target is not registered to the target group"),
}


def mend_tasks_and_targets() -> None:
    """Have moto leave tasks and targets as they are published: it would stop tasks that are looked at, and
    calls all targets healthy."""
    state_manager.set_transition("ecs::task", {"progression": "manual", "times": sys.maxsize})

    def health_for(group: Any, target: dict[str, Any], _: Any) -> FakeHealthStatus:
        state = group.targets.get(target["Id"], {}).get("Health", "unused")
        return FakeHealthStatus(target["Id"], str(PORT), str(PORT), state, *REASONS.get(state, (None, None)))

    FakeTargetGroup.health_for = health_for


class Publication:
    """Writes what one agent does into one moto Service."""

    def __init__(self, service: Any) -> None:
        self._service = service
        self._backend = ecs_backends[service._account_id][service.region_name]
        self._made: dict[str, datetime] = {}
        self._tasks: dict[str, MotoTask] = {}
        self._output = Output(service._account_id, service.region_name)

    def event(self, message: str) -> None:
        """Add an event of the service, the newest first."""
        text = f"(service {self._service.name}) {message}"
        self._service.events.insert(0, {"id": str(uuid4()), "createdAt": datetime.now(UTC), "message": text})
        del self._service.events[100:]

    def write(self, agent: Agent) -> None:
        """Publish the agent's deployments, tasks and targets."""
        service, running = self._service, agent.running()
        service.deployments = [self._deployment(agent, one) for one in agent.deployments]
        service.task_definition = agent.deployments[0].definition.arn
        service.running_count = len(running)
        service.pending_count = max(service.desired_count - len(running), 0)
        moto_target_group(service).targets = {
            task.process.address: {"Id": task.process.address, "Port": PORT, "Health": task.health}
            for task in agent.tasks
            if task.process is not None and task.status != "STOPPED"
        }
        for task in agent.tasks:
            self._task(task)
            self._log(task)

    def _deployment(self, agent: Agent, deployment: Deployment) -> dict[str, Any]:
        now, running = datetime.now(UTC), len(agent.running(deployment))
        primary = deployment is agent.deployments[0]
        return {
            "id": deployment.id,
            "status": "PRIMARY" if primary else "ACTIVE",
            "taskDefinition": deployment.definition.arn,
            "desiredCount": deployment.desired if primary else 0,
            "runningCount": running,
            "pendingCount": max(deployment.desired - running, 0) if primary else 0,
            "failedTasks": deployment.failed,
            "createdAt": self._made.setdefault(deployment.id, now),
            "updatedAt": now,
            "launchType": self._service.launch_type,
            "platformVersion": self._service.platform_version,
            "platformFamily": "Linux",
            "networkConfiguration": self._service.network_configuration,
            "rolloutState": deployment.state,
            "rolloutStateReason": deployment.reason,
        }

    def _task(self, task: Task) -> None:
        moto = self._tasks.get(task.id) or self._register(task)
        moto.last_status = task.status
        moto.desired_status = "RUNNING" if task.status == "RUNNING" else "STOPPED"
        moto.stopped_reason = task.reason
        moto.health_status = "UNKNOWN"  # of the container's own check, and there is none
        container = moto.containers[0]
        container.last_status = moto.last_status
        container.exitCode = task.exit_code
        if task.status == "STOPPED" and not getattr(moto, "stopped_at", None):
            moto.stopped_at = datetime.now(UTC)

    def _register(self, task: Task) -> MotoTask:
        service, arn = self._service, task.deployment.definition.arn
        definition = copy.copy(self._backend.describe_task_definition(arn))
        definition.network_mode = "none"  # no network interface is made, which nothing would delete
        moto = MotoTask(
            self._backend.clusters[service.cluster_name],
            definition,
            None,
            None,
            self._backend,
            f"service:{service.name}",
            launch_type=service.launch_type,
            started_by=task.deployment.id,
        )
        moto.id = task.id
        moto.created_at = moto.started_at = datetime.now(UTC)
        self._tasks[task.id] = moto
        self._backend.tasks.setdefault(service.cluster_name, {})[moto.task_arn] = moto
        return moto

    def _log(self, task: Task) -> None:
        log = task.deployment.definition.log
        if log is not None and isinstance(task.process, Process):
            self._output.send(task.process, log[0], f"{log[1]}/{task.id}")
