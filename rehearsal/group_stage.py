"""The stage for Auto Scaling Groups: hello's is played by a fleet, etcd's by members."""

import argparse
import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from rehearsal import instances
from rehearsal.balancer import Balancer
from rehearsal.cloud import ports, read_secret
from rehearsal.fleet import Fleet, Machine
from rehearsal.group_publication import GroupPublication, launch, terminated
from rehearsal.machines import Machines
from rehearsal.members import Members
from rehearsal.service import Group, TaskDefinition


class GroupStage:
    """Plays the groups that there are, as they are at each `tick`. `endpoint` is where AWS is emulated."""

    def __init__(self, options: argparse.Namespace, tell: Callable[..., None]) -> None:
        self.endpoint = ""
        self._options = options
        self._tell = tell
        self._members = Members(options.folder, options.network, options.python, tell)
        self._played: Played | None = None

    def tick(self) -> None:
        """Take what is new of the groups, and go on."""
        known = instances.groups()
        for group in known:
            settings = instances.settings(instances.user_data(group))
            if "ETCD_NAME" in settings:
                secret = read_secret(group.account_id, group.region, settings["ETCD_SECRET"])
                self._members.start(settings, secret)
            elif self._played is None:
                self._played = self._play(group)
        if self._played is not None:
            self._played.tick(self._definition, self._options.speed, there=self._played.group in known)

    def stop(self) -> None:
        """End all processes."""
        if self._played is not None:
            self._played.stop()
        self._members.stop()

    def _play(self, group: Any) -> "Played":
        options, moto = self._options, instances.moto_target_group(group)
        target_group = instances.group(group).faster(options.speed).target_group
        balancer = Balancer(options.folder, f"{options.network}.1", ports(moto), target_group)
        machines = Machines(options.folder, options.network, options.python, self.endpoint)
        return Played(group, balancer, machines, self._tell)

    def _definition(self, group: Any) -> TaskDefinition:
        """Return what instances run, with etcd and the store where they are played."""
        options = self._options
        self._members.know(instances.settings(instances.user_data(group)).get("HELLO_ETCD", ""))
        store = {"AWS_ENDPOINT_URL": options.store}
        definition = instances.definition(group, options.folder / "builds", self._members.translate, store)
        return definition.faster(options.speed)


class Played:
    """One group that is played."""

    def __init__(
        self,
        group: Any,
        balancer: Balancer,
        start: Callable[[str, TaskDefinition], Machine],
        tell: Callable[..., None],
    ) -> None:
        self.group = group
        self._balancer = balancer
        self._tell = tell
        self._publication = GroupPublication(group)
        self._definitions: dict[str, TaskDefinition] = {}  # by launch template
        self._settings = Group(desired=0)
        self._refresh = ""  # the ID of the last one

        def launched(definition: TaskDefinition) -> tuple[str, Machine]:
            name = launch(group)
            return name, start(name, definition)

        restart = instances.read_unit().restart
        self._fleet = Fleet(balancer, launched, time.monotonic, tell, restart=restart)

    def tick(self, define: Callable[[Any], TaskDefinition], speed: float, *, there: bool) -> None:
        """Go on with the group, or end it where it is no longer there."""
        if there:
            template = self.group.ec2_launch_template.id
            if template not in self._definitions:
                self._definitions[template] = define(self.group)
            self._update(instances.group(self.group).faster(speed), self._definitions[template])
            self._follow(speed)
            for name in terminated(self.group):
                self._fleet.lose(name)
        else:
            self._fleet.update(Group(desired=0), None)
        self._fleet.tick()
        if there:
            self._publication.write(self._fleet)

    def stop(self) -> None:
        """End all processes."""
        self._fleet.kill()
        self._balancer.stop()

    def _update(self, settings: Group, definition: TaskDefinition) -> None:
        if settings != self._settings:
            self._settings = settings
            self._tell("group", **asdict(settings))
        self._fleet.update(settings, definition)

    def _follow(self, speed: float) -> None:
        """Begin a refresh that was asked for, end one that is to end, and tell how it goes."""
        refreshes = getattr(self.group, "refreshes", [])
        if not refreshes:
            return
        told = refreshes[0]
        if told["InstanceRefreshId"] != self._refresh:
            self._refresh = told["InstanceRefreshId"]
            warmup = float(getattr(self.group, "default_instance_warmup", None) or 0)
            preferences = instances.preferences(told, warmup).faster(speed)
            self._tell("preferences", **asdict(preferences))
            self._fleet.begin(preferences)
        if told["Status"] == "Cancelled":
            self._fleet.cancel()
        elif (refresh := self._fleet.refreshing) is not None and (
            alarms := instances.alarming(self.group, refresh.preferences.alarms)
        ):
            self._fleet.fail(f"Alarms are in the ALARM state: {', '.join(alarms)}")
        self._publication.refresh(self._fleet, told)
