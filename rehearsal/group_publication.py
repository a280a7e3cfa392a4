"""What the fleet does, as the emulated AWS tells of it: instances, activities, targets, logs, refreshes."""

from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from rehearsal.fleet import Fleet, Instance
from rehearsal.instances import moto_target_group
from rehearsal.output import Output
from rehearsal.tasks import PORT, Process


def launch(group: Any) -> str:
    """Have moto make an instance in a group; return its ID."""
    before = {state.instance.id for state in group.instance_states}
    group.replace_autoscaling_group_instances(1, group.get_propagated_tags())
    (made,) = {state.instance.id for state in group.instance_states} - before
    return str(made)


def terminated(group: Any) -> set[str]:
    """Return the IDs of the group's instances that somebody has terminated."""
    return {
        state.instance.id for state in group.instance_states if state.instance._state.name == "terminated"
    }


class GroupPublication:
    """Writes what a fleet does into one group of moto."""

    def __init__(self, group: Any) -> None:
        self._group = group
        self._output = Output(group.account_id, group.region)
        self._told: dict[str, str] = {}  # of each instance: what the last activity said

    def write(self, fleet: Fleet) -> None:
        """Publish the fleet's instances and targets, and how the refresh goes."""
        states = {state.instance.id: state for state in self._group.instance_states}
        for one in fleet.instances:
            if (state := states.get(one.id)) is not None:
                self._state(one, state)
            self._activity(one)
            if one.definition.log is not None and isinstance(one.process, Process):
                self._output.send(one.process, one.definition.log[0], one.id)
        moto_target_group(self._group).targets = {
            one.id: {"Id": one.id, "Port": PORT, "Health": one.health}
            for one in fleet.instances
            if one.status != "Terminated"
        }

    def refresh(self, fleet: Fleet, told: dict[str, Any]) -> None:
        """Publish how the refresh goes, unless somebody has cancelled it."""
        refresh = fleet.refresh
        if refresh is None or told["Status"] == "Cancelled":
            return
        left = sum(one in refresh.old for one in fleet.serving())
        told.update(Status=refresh.state, PercentageComplete=refresh.percent, InstancesToUpdate=left)
        if refresh.reason:
            told["StatusReason"] = refresh.reason
        if refresh.state != "InProgress":
            told.setdefault("EndTime", datetime.now(UTC))

    def _state(self, one: Instance, state: Any) -> None:
        if one.status == "Terminated":
            self._group.instance_states.remove(state)
            self._group.ec2_backend.terminate_instances([one.id])
            return
        state.lifecycle_state = one.status
        state.health_status = "Unhealthy" if one.health == "unhealthy" else "Healthy"

    def _activity(self, one: Instance) -> None:
        """Tell that an instance was launched, or is terminated and why."""
        doing = "Launching a new" if one.status == "InService" else "Terminating"
        if self._told.get(one.id) == doing:
            return
        self._told[one.id] = doing
        self._group.__dict__.setdefault("activities", []).insert(
            0,
            {
                "ActivityId": str(uuid4()),
                "AutoScalingGroupName": self._group.name,
                "Description": f"{doing} EC2 instance: {one.id}",
                "Cause": one.reason or "The group has fewer instances than are desired",
                "StartTime": datetime.now(UTC),
                "StatusCode": "Successful",
                "StatusMessage": one.reason,
            },
        )
