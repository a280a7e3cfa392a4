"""The stage: what is set for an Auto Scaling Group in the emulated AWS is played, and told in return."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from rehearsal.found import Discovery
from rehearsal.journal import Entry, StageError
from rehearsal.members import CLIENT_PORT, FIRST
from tests.support.environment import ROOT, free_network, need, until
from tests.support.service import request
from tests.support.stage import GROUP, SPEED, TARGET_GROUP, Staged

pytestmark = pytest.mark.xdist_group("rehearsal")

NETWORK = free_network()
MEMBER = f"{NETWORK}.{FIRST}"
PREFERENCES = {
    "MinHealthyPercentage": 50,
    "MaxHealthyPercentage": 150,
    "InstanceWarmup": 20,
    "SkipMatching": False,
    "AlarmSpecification": {"Alarms": ["latency"]},
}


class Played(Staged):
    """A stage on which a group can be made."""

    def scaled(self, *commits: str, **different: Any) -> None:
        """Make the group of the first commit."""
        wanted = {
            "commits": commits * 2 if len(commits) == 1 else commits,
            "delay": 20,
            "group": GROUP,
            "keys": "[]",
            "scaling": {
                "MinSize": 1,
                "MaxSize": 4,
                "DesiredCapacity": 2,
                "HealthCheckType": "ELB",
                "HealthCheckGracePeriod": 70,
                "TerminationPolicies": ["OldestInstance"],
                **different.pop("scaling", {}),
            },
            "user_data": {
                "HELLO_STORE": f"sqlite:///{self.folder}/hello.db",
                "HELLO_DRAIN_SECONDS": "25",
                "HELLO_STOP_SECONDS": "30",
            },
        }
        self.make("tests.support.make_group", wanted | different)

    def two(self) -> None:
        """Wait for two healthy instances."""
        self.journal.wait(lambda: len(self.journal.healthy()) == 2, "two healthy instances")

    def last(self, kind: str) -> Entry:
        """Return the last entry of a kind, once there is one."""
        self.journal.wait(lambda: self.entries(kind), kind)
        return self.entries(kind)[-1]

    def entries(self, kind: str) -> list[Entry]:
        """Return the entries of a kind."""
        self.journal.update()
        return [entry for entry in self.journal.entries if entry["kind"] == kind]

    def holds(self, seconds: float) -> bool:
        """Return whether an instance is held for so long."""
        return bool(self.last("group")["hook"] == seconds)

    def scale(self, operation: str, **parameters: Any) -> Any:
        """Call an operation on the group."""
        return self.ask("autoscaling", operation, AutoScalingGroupName="hello", **parameters)

    def refresh(self, template: str) -> None:
        """Begin a refresh with another launch template."""
        self.scale(
            "update_auto_scaling_group",
            LaunchTemplate={"LaunchTemplateName": template, "Version": "$Latest"},
        )
        self.scale("start_instance_refresh", Preferences=PREFERENCES)

    def refreshed(self) -> Any:
        """Return what AWS tells of the last refresh."""
        return self.scale("describe_instance_refreshes")["InstanceRefreshes"][0]


@pytest.fixture
def played(tmp_path: Path) -> Iterator[Played]:
    played = Played(tmp_path, NETWORK)
    yield played
    played.stop()


def environment(instance: Entry) -> dict[str, str]:
    """Return the environment of an instance's process."""
    lines = Path(f"/proc/{instance['pid']}/environ").read_text().split("\0")
    return dict(line.split("=", 1) for line in lines if line)


def test_plays_what_is_set(played: Played) -> None:
    """The settings are those of the group, the target group and user data; AWS tells what runs."""
    commit = played.versions.make("right")
    played.scaled(commit)
    played.two()
    settings = played.last("group")
    assert (settings["desired"], settings["grace"], settings["checked"]) == (2, 70 / SPEED, True)
    assert (settings["hook"], settings["policy"]) == (0, "OldestInstance")
    assert settings["target_group"] == TARGET_GROUP
    for instance in played.journal.healthy():
        found = environment(instance)
        assert found["HELLO_DRAIN_SECONDS"] == f"{25 / SPEED:g}"
        assert [entry["name"] for entry in json.loads(found["HELLO_KEYS"])] == ["metrics"]  # by settings.py
        version = request(f"http://{instance['address']}:5000", "GET", "/version").json()
        assert version["commit"] == commit == instance["commit"]

    ids = sorted(one["id"] for one in played.journal.healthy())
    health = played.ask("elbv2", "describe_target_health", TargetGroupArn=played.group)
    told = {one["Target"]["Id"]: one["TargetHealth"]["State"] for one in health["TargetHealthDescriptions"]}
    assert told == dict.fromkeys(ids, "healthy")
    streams = played.ask("logs", "describe_log_streams", logGroupName="hello")["logStreams"]
    assert sorted(stream["logStreamName"] for stream in streams) == ids


@pytest.mark.full
def test_hooks_hold_an_instance(played: Played) -> None:
    """For as long as the longest of them does; one that abandons ends the others. Those at a launch don't."""
    played.scaled(played.versions.make("right"))
    for name, seconds, result, held in (
        ("short", 40, "CONTINUE", 40),
        ("long", 50, "CONTINUE", 50),
        ("abandons", 45, "ABANDON", 45),
    ):
        played.scale(
            "put_lifecycle_hook",
            LifecycleHookName=name,
            LifecycleTransition="autoscaling:EC2_INSTANCE_TERMINATING",
            HeartbeatTimeout=seconds,
            DefaultResult=result,
        )
        until(partial(played.holds, held / SPEED), f"{name} to hold")
    played.scale(
        "put_lifecycle_hook",
        LifecycleHookName="launching",
        LifecycleTransition="autoscaling:EC2_INSTANCE_LAUNCHING",
        HeartbeatTimeout=30,
    )
    time.sleep(0.3)
    assert played.holds(45 / SPEED)


@pytest.mark.full
def test_capacity(played: Played) -> None:
    """It is taken between the group's bounds, and refused elsewhere."""
    played.scaled(played.versions.make("right"))
    for refused in (0, 5):
        answer = played.scale("set_desired_capacity", DesiredCapacity=refused)
        assert answer["Error"]["Code"] == "ValidationError"
    played.scale("set_desired_capacity", DesiredCapacity=1)
    played.journal.wait(lambda: played.last("group")["desired"] == 1, "the other capacity")
    played.journal.wait(lambda: len(played.journal.healthy()) == 1, "one instance")


@pytest.mark.full
def test_refresh(played: Played) -> None:
    """It goes as its preferences say, and succeeds once all are of the new version; an alarm ends one."""
    first, second = played.versions.make("first"), played.versions.make("second")
    played.scaled(first, second)
    played.two()
    played.refresh("second")
    preferences = played.last("preferences")
    assert {name: preferences[name] for name in preferences if name not in {"at", "kind"}} == {
        "minimum_percent": 50,
        "maximum_percent": 150,
        "warmup": 20 / SPEED,
        "skip_matching": False,
        "alarms": ["latency"],
    }
    played.journal.wait(lambda: played.refreshed()["Status"] == "Successful", "the end of the refresh")
    assert {one["commit"] for one in played.journal.healthy()} == {second}
    assert played.refreshed()["PercentageComplete"] == 100

    state = {"AlarmName": "latency", "StateReason": "a test"}
    played.ask("cloudwatch", "set_alarm_state", StateValue="ALARM", **state)
    played.refresh("first")
    played.journal.wait(lambda: played.refreshed()["Status"] == "Failed", "the end of the refresh")
    assert "latency" in played.refreshed()["StatusReason"]
    played.two()
    assert {one["commit"] for one in played.journal.healthy()} == {second}


def test_policy_that_is_not_played(played: Played) -> None:
    """A termination policy that the fleet does not know ends the stage, rather than be passed over."""
    with suppress(subprocess.CalledProcessError):  # the stage may end before it answers
        played.scaled(played.versions.make("right"), scaling={"TerminationPolicies": ["AllocationStrategy"]})
    with pytest.raises(StageError, match="AllocationStrategy is not played"):
        played.journal.wait(lambda: False, "the error")


def secret(folder: Path) -> str:
    """Return what the members of etcd share, as etcd-secrets.sh makes it."""
    command = [need("openssl"), "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
    command += ["-noenc", "-subj", "/CN=etcd of a test", "-addext", "basicConstraints=critical,CA:TRUE"]
    command += ["-addext", "keyUsage=critical,keyCertSign", "-keyout", "ca-key.pem", "-out", "ca.pem"]
    subprocess.run(command, cwd=folder, check=True, stderr=subprocess.DEVNULL)
    pem = {name: (folder / f"{name.replace('_', '-')}.pem").read_text() for name in ("ca", "ca_key")}
    return json.dumps({**pem, "root": "s3cret-root", "hello": "s3cret"})


def test_instances_are_in_a_real_etcd(played: Played) -> None:
    """Whoever serves is in it; and killed by -9, the stage leaves neither instances nor etcd behind."""
    need("etcd")
    commit = played.versions.make("right")
    played.scaled(commit, etcd=secret(played.folder))
    played.two()
    discovery = Discovery(
        played.folder / "builds" / commit / "src",
        {
            "HELLO_ETCD": f"https://{MEMBER}:{CLIENT_PORT}",
            "HELLO_ETCD_CA": str(played.folder / "ca.pem"),
            "HELLO_ETCD_USER": "hello",
            "HELLO_ETCD_PASSWORD": "s3cret",
        },
        played.journal,
    )
    problems: list[str] = []
    discovery.see(problems)
    assert problems == []
    assert len(discovery.addresses()) == 2

    pids = [one["pid"] for one in (*played.journal.healthy(), *played.journal.members())]
    assert len(pids) == 3
    running = [Path(f"/proc/{pid}") for pid in pids]
    assert all(path.exists() for path in running)
    os.kill(played.server.pid, signal.SIGKILL)
    until(lambda: not any(path.exists() for path in running), "the end of all processes")


def test_address_of_a_member_is_taken(played: Played) -> None:
    """Another process where etcd is to be is no etcd: the stage ends, and says what to do."""
    commit = played.versions.make("right")
    with socket.create_server((MEMBER, CLIENT_PORT)):
        with suppress(subprocess.CalledProcessError):
            played.scaled(commit, etcd=secret(played.folder))
        with pytest.raises(StageError, match=rf"{MEMBER}:{CLIENT_PORT} is taken.*--network"):
            played.journal.wait(lambda: False, "the error")


def test_boot_reads_what_settings_writes(tmp_path: Path) -> None:
    """Whatever characters a setting has, hello gets them, and as much as the image's settings.py gives."""
    sys.path.insert(0, str(ROOT / "image"))
    try:
        from settings import lines
    finally:
        sys.path.pop(0)
    from rehearsal.boot import read

    given = {"HELLO_KEYS": '[{"name":"a\\\\b"}]', "HELLO_STORE": "a $b `c` \\d =e\nf", "LOG_GROUP": ""}
    assert read(lines(given)) == given
