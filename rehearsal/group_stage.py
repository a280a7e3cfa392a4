"""The stage for Auto Scaling Groups: hello's is played by a fleet, etcd's by members."""

import argparse
import time
from collections.abc import Callable, Mapping
from typing import Any

from rehearsal import instances
from rehearsal.balancer import Balancer
from rehearsal.cloud import ports
from rehearsal.fleet import Fleet, Machine
from rehearsal.group_publication import GroupPublication, launch, terminated
from rehearsal.members import CERTIFICATE, Members
from rehearsal.service import Group, TaskDefinition
from rehearsal.tasks import Launcher


class GroupStage:
    """Plays the groups that there are, as they are at each `tick`."""

    def __init__(
        self, options: argparse.Namespace, aws: Mapping[str, str], tell: Callable[..., None]
    ) -> None:
        self._options = options
        self._aws = aws
        self._tell = tell
        self._launcher = Launcher(options.folder, options.network, options.python)
        self._members = Members(options.folder, options.network, options.python, tell)
        self._played: Played | None = None

    def tick(self) -> None:
        """Take what is new of the groups, and go on."""
        known = instances.groups()
        for group in known:
            settings = instances.user_data(group)
            if "ETCD_NAME" in settings:
                secret = instances.reveal(group.account_id, group.region, settings["ETCD_SECRET"])
                self._members.start(settings, secret)
            elif self._played is None:
                self._played = Played(group, self._balancer(group), self._launch, self._tell)
        if self._played is not None:
            self._played.tick(self._definition, self._options.speed, there=self._played.group in known)

    def stop(self) -> None:
        """End all processes."""
        if self._played is not None:
            self._played.stop()
        self._members.stop()

    def _balancer(self, group: Any) -> Balancer:
        moto = instances.moto_target_group(group)
        target_group = instances.group(group).faster(self._options.speed).target_group
        address = f"{self._options.network}.1"
        return Balancer(self._options.folder, address, ports(moto), target_group)

    def _launch(self, name: str, definition: TaskDefinition) -> Machine:
        return self._launcher(name, definition)

    def _definition(self, group: Any) -> TaskDefinition:
        """Return what instances run, with etcd where it is played."""
        settings = instances.user_data(group)
        given = dict(self._aws)
        if etcd := settings.get("HELLO_ETCD"):
            self._members.know(etcd)
            certificate = self._options.folder / CERTIFICATE
            authority = settings["HELLO_ETCD_CA"]
            certificate.write_text(instances.reveal(group.account_id, group.region, authority))
            given |= {"HELLO_ETCD": self._members.translate(etcd), "HELLO_ETCD_CA": str(certificate)}
        definition = instances.definition(group, self._options.folder / "builds", given)
        return definition.faster(self._options.speed)


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
        self._publication = GroupPublication(group)
        self._definitions: dict[str, TaskDefinition] = {}  # by launch template
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
            definition = self._definitions[template]
            self._fleet.update(instances.group(self.group).faster(speed), definition)
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

    def _follow(self, speed: float) -> None:
        """Begin a refresh that was asked for, end one that was cancelled, and tell how it goes."""
        refreshes = getattr(self.group, "refreshes", [])
        if not refreshes:
            return
        told = refreshes[0]
        if told["InstanceRefreshId"] != self._refresh:
            self._refresh = told["InstanceRefreshId"]
            warmup = float(getattr(self.group, "default_instance_warmup", None) or 0)
            self._fleet.begin(instances.preferences(told, warmup).faster(speed))
        if told["Status"] == "Cancelled":
            self._fleet.cancel()
        self._publication.refresh(self._fleet, told)
