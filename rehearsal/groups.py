"""Auto Scaling Groups of moto: what they lack for infra/, mended in this process."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from moto.autoscaling.exceptions import AutoscalingClientError
from moto.autoscaling.models import (
    AutoScalingBackend,
    FakeAutoScalingGroup,
    FakeScalingPolicy,
    InstanceState,
    LifecycleHook,
)
from moto.autoscaling.responses import AutoScalingResponse
from moto.core.responses import ActionResult
from moto.ec2.models.launch_templates import LaunchTemplate
from moto.ec2.utils import parse_user_data

# Statuses in which a refresh is under way; what AWS calls the others is final.
UNDER_WAY = {"Pending", "InProgress", "Cancelling", "RollbackInProgress", "Baking"}

Refreshed = Callable[[Any, dict[str, Any]], None]


def settle(group: Any, refresh: dict[str, Any]) -> None:
    """Replace all instances at once, and be done: what takes AWS minutes."""
    replace(group)
    refresh.update(
        Status="Successful", PercentageComplete=100, InstancesToUpdate=0, EndTime=datetime.now(UTC)
    )


def replace(group: Any) -> None:
    """Have a group run instances of its present launch template alone."""
    desired = group.desired_capacity
    group.set_desired_capacity(0)
    group.set_desired_capacity(desired)


def mend(refreshed: Refreshed = settle) -> None:
    """Mend moto in this process; `refreshed` gets each group with a refresh that begins, to carry it out."""
    _mend_capacity()
    _mend_templates()
    _mend_attributes()
    _mend_refreshes(refreshed)
    _mend_activities()


def leave_instances() -> None:
    """Have moto leave the instances of groups with a target group to whoever plays them: it neither launches
    nor ends nor replaces any, and registers none."""
    resize, notify = FakeAutoScalingGroup.set_desired_capacity, AutoScalingBackend.notify_terminate_instances

    def set_desired_capacity(self: Any, new_capacity: int | None) -> None:
        if not self.target_group_arns:
            resize(self, new_capacity)
            return
        self.desired_capacity = self.min_size if new_capacity is None else new_capacity

    def notify_terminate_instances(self: Any, instance_ids: list[str]) -> None:
        played = {
            state.instance.id
            for group in self.autoscaling_groups.values()
            if group.target_group_arns
            for state in group.instance_states
        }
        notify(self, [one for one in instance_ids if one not in played])

    FakeAutoScalingGroup.set_desired_capacity = set_desired_capacity
    AutoScalingBackend.notify_terminate_instances = notify_terminate_instances


def _mend_capacity() -> None:
    # Any desired capacity is taken.
    resize = AutoScalingResponse.set_desired_capacity

    def set_desired_capacity(self: Any) -> Any:
        group, wanted = _group(self), self._get_int_param("DesiredCapacity")
        for limit, bad in (
            (group.min_size, wanted < group.min_size),
            (group.max_size, wanted > group.max_size),
        ):
            if bad:
                raise AutoscalingClientError(
                    "ValidationError",
                    f"New SetDesiredCapacity value {wanted} is out of the group's range: {limit}.",
                )
        return resize(self)

    AutoScalingResponse.set_desired_capacity = set_desired_capacity


def _mend_templates() -> None:
    # User data of a template's later versions are kept in another type than moto itself takes, and the tags
    # of the template itself are told among those that instances get.
    create = LaunchTemplate.create_version

    def create_version(self: Any, data: dict[str, Any], *arguments: Any) -> Any:
        given = data.get("UserData")
        parsed = parse_user_data(given) if isinstance(given, str) else given
        given_tags = data.get("TagSpecifications", [])
        tags = [one for one in given_tags if one["ResourceType"] != "launch-template"]
        return create(self, {**data, "UserData": parsed, "TagSpecifications": tags}, *arguments)

    LaunchTemplate.create_version = create_version


def _mend_attributes() -> None:
    # The warm-up is dropped, and whether Spot is rebalanced is not updated, so that a second plan differs.
    create, update = (
        AutoScalingResponse.create_auto_scaling_group,
        AutoScalingResponse.update_auto_scaling_group,
    )

    def keep(self: Any) -> None:
        group = _group(self)
        if (seconds := self._get_int_param("DefaultInstanceWarmup")) is not None:
            group.default_instance_warmup = seconds
        if (rebalance := self._get_bool_param("CapacityRebalance", None)) is not None:
            group.capacity_rebalance = rebalance

    def create_auto_scaling_group(self: Any) -> Any:
        answer = create(self)
        keep(self)
        return answer

    def update_auto_scaling_group(self: Any) -> Any:
        answer = update(self)
        keep(self)
        return answer

    AutoScalingResponse.create_auto_scaling_group = create_auto_scaling_group
    AutoScalingResponse.update_auto_scaling_group = update_auto_scaling_group

    # The template of a mixed policy is told as the group's own besides.
    alone = FakeAutoScalingGroup.launch_template.fget

    def launch_template(self: Any) -> Any:
        return None if self.mixed_instances_policy else alone(self)

    FakeAutoScalingGroup.launch_template = property(launch_template)

    # An instance tells the group's template of now, and not the one that it was started from.
    told, make = InstanceState.launch_template.fget, InstanceState.__init__

    def __init__(self: Any, *arguments: Any, **named: Any) -> None:  # noqa: N807 - it takes its place
        make(self, *arguments, **named)
        self.started_from = told(self)

    InstanceState.__init__ = __init__

    # A hook tells a queue and a role that nobody gave; a policy is told as disabled, and with predictions.
    LifecycleHook.role_arn = LifecycleHook.notification_target_arn = property(
        lambda _: None, lambda _, value: None
    )
    FakeScalingPolicy.enabled = True
    FakeScalingPolicy.predictive_scaling_configuration = property(
        lambda self: self.__dict__.get("predictive") or None,
        lambda self, value: self.__dict__.update(predictive=value),
    )
    InstanceState.launch_template = property(lambda self: self.started_from)


def _mend_refreshes(refreshed: Refreshed) -> None:
    # Instance refreshes are missing. `refreshed` owns the status from the beginning on.
    def start_instance_refresh(self: Any) -> Any:
        group = _group(self)
        if any(one["Status"] in UNDER_WAY for one in _refreshes(group)):
            raise AutoscalingClientError("InstanceRefreshInProgress", "An Instance Refresh is in progress.")
        refresh = {
            "InstanceRefreshId": str(uuid4()),
            "AutoScalingGroupName": group.name,
            "Status": "InProgress",
            "StartTime": datetime.now(UTC),
            "PercentageComplete": 0,
            "InstancesToUpdate": len(group.instance_states),
            "Preferences": self._get_param("Preferences", {}),
        }
        _refreshes(group).insert(0, refresh)
        refreshed(group, refresh)
        return ActionResult({"InstanceRefreshId": refresh["InstanceRefreshId"]})

    def describe_instance_refreshes(self: Any) -> Any:
        wanted = self._get_param("InstanceRefreshIds", [])
        told = [one for one in _refreshes(_group(self)) if not wanted or one["InstanceRefreshId"] in wanted]
        return ActionResult({"InstanceRefreshes": told[: self._get_int_param("MaxRecords", 50)]})

    def cancel_instance_refresh(self: Any) -> Any:
        for one in _refreshes(_group(self)):
            if one["Status"] in UNDER_WAY:
                one.update(Status="Cancelled", EndTime=datetime.now(UTC))
                return ActionResult({"InstanceRefreshId": one["InstanceRefreshId"]})
        raise AutoscalingClientError("ActiveInstanceRefreshNotFound", "No Instance Refresh is in progress.")

    AutoScalingResponse.start_instance_refresh = start_instance_refresh
    AutoScalingResponse.describe_instance_refreshes = describe_instance_refreshes
    AutoScalingResponse.cancel_instance_refresh = cancel_instance_refresh


def _mend_activities() -> None:
    # There are none; `activities` of a group are told where somebody notes them.
    def describe_scaling_activities(self: Any) -> Any:
        noted = getattr(_group(self), "activities", [])
        return ActionResult({"Activities": noted[: self._get_int_param("MaxRecords", 100)]})

    AutoScalingResponse.describe_scaling_activities = describe_scaling_activities


def _group(response: Any) -> Any:
    backend: AutoScalingBackend = response.autoscaling_backend
    name = response._get_param("AutoScalingGroupName")
    if name not in backend.autoscaling_groups:
        raise AutoscalingClientError("ValidationError", f"AutoScalingGroup name not found - {name}")
    return backend.autoscaling_groups[name]


def _refreshes(group: Any) -> list[dict[str, Any]]:
    refreshes: list[dict[str, Any]] = group.__dict__.setdefault("refreshes", [])
    return refreshes
