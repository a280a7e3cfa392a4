"""The stage: what is set for a service in the emulated AWS is played by processes, and told in return."""

import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from rehearsal.journal import StageError
from rehearsal.load import Load, tally
from rehearsal.versions import listen_elsewhere
from tests.support.environment import free_network, until
from tests.support.service import request
from tests.support.stage import GROUP, SPEED, TARGET_GROUP, Staged

pytestmark = pytest.mark.xdist_group("rehearsal")

NETWORK = free_network()
DEPLOYING = {
    "minimumHealthyPercent": 50,
    "maximumPercent": 150,
    "deploymentCircuitBreaker": {"enable": True, "rollback": False},
}


class Played(Staged):
    """A stage on which a service can be made."""

    def service(self, commit: str, **different: Any) -> None:
        """Make the service."""
        wanted = {
            "commit": commit,
            "delay": 20,
            "group": GROUP | different.pop("group", {}),
            "service": {
                "desiredCount": 2,
                "healthCheckGracePeriodSeconds": 70,
                "deploymentConfiguration": DEPLOYING,
            },
            "container": {
                "environment": [
                    {"name": "HELLO_STORE", "value": f"sqlite:///{self.folder}/hello.db"},
                    {"name": "HELLO_DRAIN_SECONDS", "value": "15"},
                ],
                "stopTimeout": 50,
            },
        }
        self.make("tests.support.make_service", wanted | different)

    def described(self) -> Any:
        """Return the service as ECS describes it."""
        return self.ask("ecs", "describe_services", cluster="hello", services=["hello"])["services"][0]


@pytest.fixture
def played(tmp_path: Path) -> Iterator[Played]:
    played = Played(tmp_path, NETWORK)
    yield played
    played.stop()


def test_plays_what_is_set(played: Played) -> None:
    """The settings are those of the service, the target group and the container; AWS tells what runs."""
    commit = played.versions.make("right")
    played.service(commit)
    played.journal.wait(lambda: len(played.journal.healthy()) == 2, "two healthy tasks")
    settings = next(entry for entry in played.journal.entries if entry["kind"] == "service")
    assert settings["desired"] == 2
    assert (settings["minimum_percent"], settings["maximum_percent"]) == (50, 150)
    assert (settings["breaker"], settings["rollback"], settings["grace"]) == (True, False, 70 / SPEED)
    assert settings["target_group"] == TARGET_GROUP
    for task in played.journal.healthy():
        environment = Path(f"/proc/{task['pid']}/environ").read_text().split("\0")
        assert f"HELLO_DRAIN_SECONDS={15 / SPEED:g}" in environment
        version = request(f"http://{task['address']}:5000", "GET", "/version").json()
        assert version["commit"] == commit == task["commit"]

    service = played.described()
    assert [one["rolloutState"] for one in service["deployments"]] == ["COMPLETED"]
    assert service["runningCount"] == 2
    health = played.ask("elbv2", "describe_target_health", TargetGroupArn=played.group)
    assert [one["TargetHealth"]["State"] for one in health["TargetHealthDescriptions"]] == ["healthy"] * 2
    streams = played.ask("logs", "describe_log_streams", logGroupName="hello")["logStreams"]
    tasks = set(played.journal.tasks())
    assert {stream["logStreamName"].removeprefix("hello/hello/") for stream in streams} == tasks


@pytest.mark.full
def test_each_update_counts(played: Played) -> None:
    """Each deployment that is asked for begins, with the definition that it is asked for."""
    played.service(played.versions.make("right"))
    for number in range(3):
        update = {"cluster": "hello", "service": "hello", "forceNewDeployment": number == 1}
        definition = played.ask("ecs", "describe_task_definition", taskDefinition="hello")["taskDefinition"]
        given = ("containerDefinitions", "family", "networkMode", "requiresCompatibilities")
        if number != 1:
            again = {name: definition[name] for name in given}
            definition = played.ask("ecs", "register_task_definition", **again)["taskDefinition"]
        arn = definition["taskDefinitionArn"]
        service = played.ask("ecs", "update_service", taskDefinition=arn, **update)["service"]
        assert service["taskDefinition"] == arn
        assert service["deployments"][0]["taskDefinition"] == arn
        begun = [one["id"] for one in played.journal.deployments(0) if one["state"] == "IN_PROGRESS"]
        assert len(begun) == number + 2
        assert service["deployments"][0]["id"] == begun[-1]


@pytest.mark.full
def test_health_check_path(played: Played) -> None:
    """Another path in the target group, one that is not there, and no task becomes healthy: AWS tells why."""
    played.service(played.versions.make("right"), group={"HealthCheckPath": "/nothing"})
    played.journal.wait(
        lambda: any(one["state"] == "FAILED" for one in played.journal.deployments(0)),
        "the circuit breaker",
        90,
    )
    assert not played.journal.healthy()
    assert [one["rolloutState"] for one in played.described()["deployments"]] == ["FAILED"]
    stopped = played.ask("ecs", "list_tasks", cluster="hello", desiredStatus="STOPPED")["taskArns"]
    tasks = played.ask("ecs", "describe_tasks", cluster="hello", tasks=stopped)["tasks"]
    assert {task["stoppedReason"] for task in tasks} == {"Task failed ELB health checks"}


def test_port(played: Played) -> None:
    """A version that listens elsewhere runs, is not healthy, and never gets a request."""
    played.service(played.versions.make("wrong", listen_elsewhere))

    def unhealthy() -> bool:
        answer = request(f"http://{NETWORK}.1:5000", "GET", "/")
        assert (answer.status, answer.headers["x-task"]) == (503, "<NOSRV>")
        return any(task["health"] == "unhealthy" for task in played.journal.tasks().values())

    played.journal.wait(unhealthy, "an unhealthy task")
    task = next(iter(played.journal.tasks().values()))
    assert not played.journal.healthy()
    with socket.socket() as probe:
        assert probe.connect_ex((task["address"], 5001)) == 0


def test_missing_image(played: Played) -> None:
    """A task whose image is not there says so."""
    played.service("not a commit")
    played.journal.wait(played.journal.tasks, "a task that is stopped")
    reasons = {task["reason"] for task in played.journal.tasks().values()}
    assert len(reasons) == 1
    assert reasons.pop().startswith("CannotPullContainerError")


def test_load_counts_what_fails(played: Played) -> None:
    """A task that is killed while requests are under way costs those, which are counted, by task."""
    played.service(played.versions.make("right"))
    played.journal.wait(lambda: len(played.journal.healthy()) == 2, "two healthy tasks")
    task = played.journal.healthy()[0]
    load = Load(f"{NETWORK}.1")
    load.start()
    until(lambda: len(load.requests) > 200, "requests")
    os.kill(task["pid"], signal.SIGKILL)
    until(lambda: len(load.requests) > 500, "requests after it")
    load.stop()
    counted = tally(load.requests, played.journal.commits())
    assert counted.requests == len(load.requests)
    assert 0 < len(counted.failures) < 50
    assert {one.task for one in counted.failures} <= {task["id"], ""}
    wrong = tally(load.requests, dict.fromkeys(played.journal.commits(), "another"))
    assert len(wrong.failures) > 300, "answers of another version than the task's are failures"


def test_address_taken(played: Played) -> None:
    """Another process on the address of a task is no task: the stage ends, and says what to do."""
    commit = played.versions.make("right")
    with socket.create_server((f"{NETWORK}.3", 5000)):
        with suppress(subprocess.CalledProcessError):  # the stage may end before it answers
            played.service(commit)
        with pytest.raises(StageError, match=rf"{NETWORK}\.[23]:5000 is taken.*--network"):
            played.journal.wait(lambda: False, "the error")
