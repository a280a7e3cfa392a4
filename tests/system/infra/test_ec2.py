"""compute = "ec2": all of infra/ applied to an emulated AWS, released and destroyed."""

import re
from base64 import b64decode
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.terraform import (
    Applied,
    applied_infra,
)

# Most of it is the provider's own waiting and starting; on a busy machine the first apply takes minutes.
pytestmark = [pytest.mark.timeout(600), pytest.mark.full]

OLD, NEW = "a" * 40, "b" * 40
AMI, NEWER_AMI = f"ami-{'0' * 17}", f"ami-{'1' * 17}"


@pytest.fixture(scope="module")
def ec2(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Applied]:
    """The infrastructure with its instances, as the tests of this module leave it, one after the other."""
    folder = tmp_path_factory.mktemp("ec2") / "infra"
    with applied_infra(folder, {"commit": OLD, "ami": AMI}, compute="ec2") as applied:
        yield applied


def test_instances_are_applied(ec2: Applied) -> None:
    """All but instances is made first; the release adds them and etcd, and changes nothing."""
    assert "Apply complete!" in ec2.first
    assert {address for address in ec2.at_first if ".etcd[" in address} >= {
        f'aws_ebs_volume.etcd["{zone}"]' for zone in range(3)
    }
    assert not [address for address in ec2.at_first if "autoscaling" in address or "aws_ecs" in address]
    assert "Plan: 11 to add, 0 to change, 0 to destroy." in ec2.second
    added = {address.partition("[")[0] for address in ec2.infra.addresses() - ec2.at_first}
    assert added == {
        "aws_autoscaling_group.etcd",
        "aws_autoscaling_group.hello",
        "aws_autoscaling_lifecycle_hook.drain",
        "aws_autoscaling_policy.target",
        "aws_launch_template.etcd",
        "aws_launch_template.hello",
    }
    planned = ec2.infra.run("plan", "-detailed-exitcode", check=False)
    assert planned.returncode == 0, planned.stdout + planned.stderr


def test_instances_are_told_what_image_settings_reads(ec2: Applied) -> None:
    """User data are lines that image/settings.py takes; a secret is its ARN, and all of them can be had."""
    for name, template in templates(ec2).items():
        lines = b64decode(template["UserData"]).decode().splitlines()
        found = dict(line.split("=", 1) for line in lines)
        assert all(re.fullmatch(r"HELLO_[A-Z_]+|LOG_GROUP|ETCD_[A-Z_]+", key) for key in found), name
        for key, value in found.items():
            if "PASSWORD" in key or "KEYS" in key or "SECRET" in key:
                assert value.startswith("arn:aws:secretsmanager:"), name
    assert ec2.outputs["compute"] == "ec2"
    health = ec2.aws("elbv2", "describe_target_health", TargetGroupArn=ec2.outputs["target_group_arn"])
    ids = [target["Target"]["Id"] for target in health["TargetHealthDescriptions"]]
    assert len(ids) == 2
    assert all(name.startswith("i-") for name in ids)


def templates(ec2: Applied) -> dict[str, Any]:
    """Return the data of the launch templates by their names."""
    return {
        template["LaunchTemplateName"]: ec2.aws(
            "ec2", "describe_launch_template_versions", LaunchTemplateName=template["LaunchTemplateName"]
        )["LaunchTemplateVersions"][0]["LaunchTemplateData"]
        for template in ec2.aws("ec2", "describe_launch_templates")["LaunchTemplates"]
    }


def group(ec2: Applied, name: str = "hello") -> Any:
    """Return what AWS tells of an Auto Scaling Group."""
    return ec2.aws("autoscaling", "describe_auto_scaling_groups", AutoScalingGroupNames=[name])[
        "AutoScalingGroups"
    ][0]


def test_a_release_of_instances_is_one_one_and_one(ec2: Applied) -> None:
    """It adds a template, changes the group, whose instances are refreshed, and leaves etcd alone."""
    members = [group(ec2, f"hello-etcd-{zone}")["Instances"] for zone in range(3)]
    old = {instance["InstanceId"] for instance in group(ec2)["Instances"]}
    ec2.infra.release(commit=NEW, ami=NEWER_AMI)
    assert "Plan: 1 to add, 1 to change, 1 to destroy." in ec2.infra.apply()
    refreshes = ec2.aws("autoscaling", "describe_instance_refreshes", AutoScalingGroupName="hello")
    assert [one["Status"] for one in refreshes["InstanceRefreshes"]] == ["Successful"]
    preferences = refreshes["InstanceRefreshes"][0]["Preferences"]
    assert (preferences["MinHealthyPercentage"], preferences["MaxHealthyPercentage"]) == (100, 200)
    running = group(ec2)["Instances"]
    assert len(running) == 2
    assert not old & {instance["InstanceId"] for instance in running}
    assert {one["LaunchTemplate"]["LaunchTemplateName"] for one in running} == {f"hello-{NEW[:12]}"}
    assert templates(ec2)[f"hello-{NEW[:12]}"]["ImageId"] == NEWER_AMI
    assert f"hello-{OLD[:12]}" not in templates(ec2)
    assert [group(ec2, f"hello-etcd-{zone}")["Instances"] for zone in range(3)] == members
    assert "No changes." in ec2.infra.run("plan").stdout
    # docs/aws.md: how a member gets the AMI of the release.
    renewed = ec2.infra.run("plan", "-refresh=false", '-replace=aws_launch_template.etcd["0"]').stdout
    assert re.search(rf"image_id += +\"{AMI}\" -> \"{NEWER_AMI}\"", renewed)
    assert "Plan: 1 to add, 1 to change, 1 to destroy." in renewed


def test_instances_are_destroyed(ec2: Applied) -> None:
    """Told so, nothing is left."""
    unprotected = "-var=deletion_protection=false"
    ec2.infra.apply("-target=aws_dynamodb_table.people", unprotected)
    ec2.infra.run("destroy", "-auto-approve", "-refresh=false", unprotected)
    assert ec2.infra.addresses() == set()
    assert ec2.aws("autoscaling", "describe_auto_scaling_groups")["AutoScalingGroups"] == []
    assert ec2.aws("ec2", "describe_launch_templates")["LaunchTemplates"] == []
    assert (
        ec2.aws("ec2", "describe_volumes", Filters=[{"Name": "status", "Values": ["available"]}])["Volumes"]
        == []
    )
