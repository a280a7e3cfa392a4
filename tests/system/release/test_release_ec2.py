"""bump.sh, deploy.sh and report.sh with compute = "ec2": AMIs, and the instance refresh."""

import json
import subprocess
from typing import Any

import pytest

from tests.support.dynamodb_proxy import Call, Reply
from tests.support.release import AWS, Infra, changes, commit


def ami(number: int) -> str:
    """Return the ID of the AMI of a made-up commit."""
    return f"ami-{number:017x}"


def template(number: int) -> dict[str, str]:
    """Return the launch template of a made-up commit, as the group and its instances tell it."""
    return {"LaunchTemplateId": f"lt-{number}", "LaunchTemplateName": f"hello-{commit(number)[:12]}"}


class Group:
    """What AWS tells: the AMIs, the Auto Scaling Group, and how its refresh goes."""

    def __init__(self, infra: Infra) -> None:
        self.infra = infra
        self.images = [self.image(1, released="2026-11-01T00:00:00Z"), self.image(2)]
        self.chosen = 2
        self.instances = [2, 2]
        self.refreshes: list[dict[str, Any]] = []
        self.progress = [("InProgress", 50, ""), ("Successful", 100, "")]
        self.cancelled = 0
        self.tags: list[object] = []
        infra.play("aws", AWS)
        infra.answer(
            DescribeImages=lambda _: told(Images=self.images),
            DescribeInstanceRefreshes=self.describe_refreshes,
            DescribeAutoScalingGroups=self.describe,
            DescribeLaunchTemplateVersions=self.describe_template,
            DescribeScalingActivities=lambda _: told(
                Activities=[
                    {
                        "StartTime": "2026-11-26T00:00:00Z",
                        "StatusCode": "Failed",
                        "Description": "Launching a new EC2 instance.",
                        "StatusMessage": "There is no capacity.",
                    }
                ]
            ),
            DescribeTargetHealth=lambda _: told(
                TargetHealthDescriptions=[
                    {"Target": {"Id": "i-0", "Port": 5000}, "TargetHealth": {"State": "unhealthy"}}
                ]
            ),
            DescribeLogStreams=lambda _: told(logStreams=[{"logStreamName": "i-0"}]),
            GetLogEvents=lambda _: told(events=[{"message": "can't start"}]),
            CancelInstanceRefresh=self.cancel,
            CreateTags=self.tag,
        )

    def image(
        self, number: int, architecture: str = "arm64", released: str = "", by: str = ""
    ) -> dict[str, Any]:
        """Return an AMI as EC2 tells it; the number is the time that it was made.

        It was released at a time, by a service.
        """
        named = {"Name": "hello", "Commit": commit(number)} | (
            {f"Released-{by or self.infra.name}": released} if released else {}
        )
        return {
            "ImageId": ami(number),
            "CreationDate": f"2026-11-25T00:00:{number:02}.000Z",
            "Architecture": architecture,
            "Tags": [{"Key": key, "Value": value} for key, value in named.items()],
        }

    def describe_refreshes(self, _: Call) -> Reply:
        if not self.progress:
            return told(InstanceRefreshes=[])
        status, percent, reason = self.progress.pop(0) if len(self.progress) > 1 else self.progress[0]
        newest = {
            "StartTime": "2026-11-26T00:00:00Z",
            "Status": status,
            "PercentageComplete": percent,
            "StatusReason": reason,
        }
        older = {**newest, "StartTime": "2026-11-01T00:00:00Z", "Status": "Cancelled"}
        return told(InstanceRefreshes=[older, newest])  # the order is not to be relied on

    def describe(self, _: Call) -> Reply:
        instances = [
            {
                "InstanceId": f"i-{place}",
                "InstanceType": "c7g.large",
                "LifecycleState": "InService",
                "HealthStatus": "Healthy",
                "LaunchTemplate": template(number),
            }
            for place, number in enumerate(self.instances)
        ]
        going = (
            {**instances[0], "InstanceId": "i-9", "LifecycleState": "Terminating:Wait"} if instances else {}
        )
        going["LaunchTemplate"] = template(1)
        policy = {"LaunchTemplate": {"LaunchTemplateSpecification": template(self.chosen)}}
        return told(
            AutoScalingGroups=[
                {"Instances": [*instances, *([going] if instances else [])], "MixedInstancesPolicy": policy}
            ]
        )

    def describe_template(self, call: Call) -> Reply:
        number = int(str(call.payload["launch-template-id"]).removeprefix("lt-"))
        return told(LaunchTemplateVersions=[{"LaunchTemplateData": {"ImageId": ami(number)}}])

    def cancel(self, _: Call) -> Reply:
        self.cancelled += 1
        return told()

    def tag(self, call: Call) -> Reply:
        self.tags.append((call.payload["resources"], str(call.payload["tags"]).partition(",")[0]))
        return told()


def told(**answer: object) -> Reply:
    """Return what AWS answers."""
    return 200, json.dumps(answer).encode()


@pytest.fixture
def group(infra: Infra) -> Group:
    """Give a group for which AMI 1 was released, and 2 is there; apply works at once."""
    infra.outputs(compute="ec2", cluster=None)
    infra.play("apply", "#!/bin/bash\nexit 0\n")
    plan = changes("aws_launch_template.hello[0]", "create", "delete")
    (infra.stub / "plan.json").write_text(json.dumps(plan))
    infra.replace("integration-test.sh", "echo ok tested")
    return Group(infra)


def chosen(infra: Infra) -> dict[str, str]:
    """Return the release that is chosen."""
    release: dict[str, str] = json.loads(infra.version.read_text())["release"]
    return release


def failed(infra: Infra, *arguments: str) -> str:
    """Deploy, which has to fail; return what it says."""
    done = infra.run("deploy.sh", *arguments)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "Released" not in done.stderr
    return done.stderr


def test_the_newest_ami_of_a_commit_is_chosen(infra: Infra, group: Group) -> None:
    """By time, by commit, and of the architecture alone; the digest of an image is no part of it."""
    group.images += [
        group.image(3, "x86_64"),
        {**group.image(4), "Tags": [{"Key": "Commit", "Value": "main"}]},
    ]
    said = infra.done("bump.sh")
    assert f"not for arm64: {commit(3)} is for x86_64" in said
    assert f"new: {commit(2)} ({ami(2)}, pushed 2026-11-25T00:00:02" in said
    assert chosen(infra) == {"commit": commit(2), "ami": ami(2)}
    infra.done("bump.sh", commit(1)[:9])
    assert chosen(infra) == {"commit": commit(1), "ami": ami(1)}
    again = {**group.image(1), "ImageId": ami(9), "CreationDate": "2026-11-26T00:00:00.000Z"}
    group.images.append(again)
    infra.done("bump.sh", commit(1))
    assert chosen(infra)["ami"] == ami(9)
    infra.outputs(architecture="X86_64")
    infra.done("bump.sh")
    assert chosen(infra)["ami"] == ami(3)


def test_without_an_ami_it_is_said_how_to_make_one(infra: Infra, group: Group) -> None:
    """Of none at all, and of a commit."""
    assert "has no image of 1234567: is its build done?" in infra.refused("bump.sh", "1234567")
    group.images = []
    assert "the account, in eu-west-1, has no image of a commit yet: make ami." in infra.refused("bump.sh")


def test_what_was_released_before_is_gone_back_to(infra: Infra, group: Group) -> None:
    """By the time of this service's release, not of the AMI; a second time undoes the first."""
    group.images = [
        group.image(1, released="2026-11-03T00:00:00Z"),
        group.image(2, released="2026-11-02T00:00:00Z"),
        group.image(3),
        group.image(4, released="2026-11-04T00:00:00Z", by="another"),
    ]
    infra.done("bump.sh", commit(3))
    infra.done("bump.sh", "--previous")
    assert chosen(infra)["ami"] == ami(1)
    infra.done("bump.sh", "--previous")
    assert chosen(infra)["ami"] == ami(2)
    group.images = [group.image(2, released="2026-11-02T00:00:00Z")]
    assert "no other version ran before" in infra.refused("bump.sh", "--previous")


def test_a_release_waits_for_the_refresh(infra: Infra, group: Group) -> None:
    """Terraform has only begun it; all instances are of it then; and the AMI is marked for a rollback."""
    group.progress = [("InProgress", 0, ""), ("InProgress", 50, "waiting"), ("Successful", 100, "")]
    said = infra.done("deploy.sh")
    assert "  refresh: InProgress, 50 % waiting" in said
    assert f"The group runs {ami(2)}, 2 instances." in said
    assert "ok tested" in said
    assert f"Released {commit(2)} in " in said
    assert [line.split()[0] for line in infra.asked] == ["plan", "show", "apply"]
    assert group.tags == [(ami(2), f"Key=Released-{infra.name}")]


def test_a_first_release_has_no_refresh(infra: Infra, group: Group) -> None:
    """There is nothing to replace."""
    group.progress = []
    assert f"The group runs {ami(2)}, 2 instances." in infra.done("deploy.sh")


@pytest.mark.parametrize("status", ["Failed", "Cancelled", "RollbackSuccessful", "RollbackFailed"])
def test_a_refresh_that_does_not_succeed_is_a_failure(status: str, infra: Infra, group: Group) -> None:
    """It is told why, with refreshes, activities, instances, health and log."""
    group.progress = [("InProgress", 0, ""), (status, 25, "Alarm hello-latency went off.")]
    said = failed(infra)
    assert f"the instance refresh has ended as {status}: Alarm hello-latency went off." in said
    for line in (
        "Instance refreshes, the last three\n  2026-11-26T00:00:00Z " + status,
        "Failed Launching a new EC2 instance. There is no capacity.",
        f"  i-0 c7g.large of hello-{commit(2)[:12]}: InService, Healthy",
        "  i-0:5000 unhealthy",
        "  can't start",
        "What ran before comes back by: make rollback",
    ):
        assert line in said
    assert group.tags == []


def test_a_refresh_that_never_ends_is_cancelled(infra: Infra, group: Group) -> None:
    """The time is bounded, and instances that never become healthy are started no more."""
    group.progress = [("InProgress", 10, "Waiting for instances to be healthy.")]
    infra.version.write_text(json.dumps({"release": {"commit": commit(2), "ami": ami(2)}}))
    (infra.folder / "wait.sh").write_text(
        "#!/bin/bash\nsource ./common.sh\nsource ./ec2.sh\nread_outputs\n"
        "deadline=0 minutes=30 progress=\ncheck_instances\n"
    )
    (infra.folder / "wait.sh").chmod(0o755)
    said = subprocess.run(
        ["./wait.sh"],
        cwd=infra.folder,
        env=infra.environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert said.returncode == 1
    assert "was not done after 30 minutes, and is cancelled: InProgress, 10 %. Waiting for" in said.stderr
    assert group.cancelled == 1


def test_what_runs_has_to_be_the_release(infra: Infra, group: Group) -> None:
    """The group's template, and every instance that is not about to end; none at all is none."""
    infra.replace("report.sh", "exit 0")
    group.instances = [2, 1]
    assert "instances of another version still run:\ni-1\n" in failed(infra)
    group.instances = []
    assert "no instance is in service." in failed(infra)
    group.chosen = 1
    assert f"the group starts {ami(1)}, and not {ami(2)}." in failed(infra)
