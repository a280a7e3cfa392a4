"""infra/: formatted, audited, its variables' logic, and all of it applied to an emulated AWS."""

import json
import os
import re
import subprocess
import sys
from base64 import b64decode
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from secrets import token_urlsafe
from typing import Any

import pytest

from tests.support.environment import ROOT, listens, missing, need, until
from tests.support.service import Service, hello
from tests.support.terraform import INFRA, PYTHON, Infra, emulated_aws, initialised, variables

# Most of it is the provider's own waiting and starting; on a busy machine the first apply takes minutes.
pytestmark = pytest.mark.timeout(600)

Process = subprocess.Popen[str]

CHECKOV = ROOT / ".venv-checkov" / "bin" / "checkov"
OLD, NEW = "a" * 40, "b" * 40
AMI, NEWER_AMI = f"ami-{'0' * 17}", f"ami-{'1' * 17}"
DIGEST, NEWER_DIGEST = f"sha256:{'0' * 64}", f"sha256:{'1' * 64}"
SERVICE = {
    "aws_appautoscaling_policy.target",
    "aws_appautoscaling_target.service",
    "aws_ecs_service.hello",
    "aws_ecs_task_definition.hello",
}
TABLE = "aws_dynamodb_table.people[0]"


@pytest.fixture(scope="module")
def audit() -> Iterator[Process | None]:
    """Checkov over infra/, begun early: most of the time an apply only waits. None if it is not installed."""
    if not CHECKOV.exists():
        yield None
        return
    with begun(checkov(INFRA), ROOT, {"LOG_LEVEL": "ERROR"}) as process:
        yield process


def checkov(folder: Path) -> list[str]:
    """Return the command that audits the Terraform in a folder, offline."""
    options = ["--framework", "terraform", "--skip-download", "--output", "json"]
    return [str(CHECKOV), "--directory", str(folder), *options]


@contextmanager
def begun(command: list[str], folder: Path, environment: Mapping[str, str]) -> Iterator[Process]:
    """Run a command beside the tests, and end it with them."""
    with subprocess.Popen(
        command, cwd=folder, env={**os.environ, **environment}, stdout=subprocess.PIPE, text=True
    ) as process:
        yield process
        process.kill()


@pytest.fixture(scope="module")
def logic(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    """`terraform test` over infra/tests, begun early."""
    infra = initialised(tmp_path_factory.mktemp("logic") / "infra")
    with begun([need("terraform"), "test"], infra.folder, infra.environment) as process:
        yield process


class Applied:
    """infra/ applied to an AWS of its own: first without a release, then with one."""

    def __init__(self, infra: Infra, endpoint: str, release: dict[str, str]) -> None:
        self.infra = infra
        self.environment = variables(endpoint)
        self.first = infra.apply()
        self.at_first = infra.addresses()
        infra.release(**release)
        self.second = infra.apply()
        self.outputs = infra.outputs()

    def aws(self, service: str, action: str, **parameters: Any) -> Any:
        """Ask the emulated AWS, by the AWS SDK that moto brings."""
        code = (
            "import boto3, json, sys\n"
            "service, action, parameters = json.loads(sys.argv[1])\n"
            "print(json.dumps(getattr(boto3.client(service), action)(**parameters), default=str))"
        )
        answer = subprocess.run(
            [PYTHON, "-c", code, json.dumps([service, action, parameters])],
            env={**os.environ, **self.environment, "AWS_DEFAULT_REGION": self.environment["AWS_REGION"]},
            capture_output=True, text=True, timeout=60, check=True,
        )  # fmt: skip
        return json.loads(answer.stdout)


@pytest.fixture(scope="module")
def applied(
    tmp_path_factory: pytest.TempPathFactory,
    audit: Process | None,
    logic: Process,
    instances: Future[Applied],
) -> Iterator[Applied]:
    """The infrastructure with its service, as the tests of this module find it, one after the other."""
    with emulated_aws() as endpoint:
        infra = initialised(tmp_path_factory.mktemp("applied") / "infra", variables(endpoint))
        yield Applied(infra, endpoint, {"commit": OLD, "digest": DIGEST})


@pytest.fixture(scope="module")
def instances(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Future[Applied]]:
    """The same with compute = "ec2", in an AWS of its own, begun beside the other."""
    with emulated_aws() as endpoint, ThreadPoolExecutor(1) as pool:
        environment = {**variables(endpoint), "TF_VAR_compute": "ec2"}
        infra = initialised(tmp_path_factory.mktemp("instances") / "infra", environment)
        yield pool.submit(Applied, infra, endpoint, {"commit": OLD, "ami": AMI})


@pytest.fixture
def ec2(instances: Future[Applied]) -> Applied:
    """Give it once it is applied."""
    return instances.result(timeout=400)


def test_the_service_may_do_what_its_store_asks() -> None:
    """The rights on the table are the actions that the store calls: one more fails on AWS alone."""
    store = (ROOT / "src" / "hello" / "stores" / "dynamodb.py").read_text()
    called = set(re.findall(r'"((?:Batch)?(?:Get|Put|Update|Delete|Write)Item|Scan|Query)"', store))
    granted = re.findall(r'"dynamodb:(\w+)"', (INFRA / "iam.tf").read_text())
    assert set(granted) == called


def test_the_first_apply_makes_all_but_the_service(applied: Applied) -> None:
    """Without a release there is no service yet; the first release adds that alone, and changes nothing."""
    assert "Apply complete!" in applied.first
    kinds = {address.partition("[")[0] for address in applied.at_first}
    assert kinds & SERVICE == set()
    assert {
        "aws_lb.alb",
        "aws_lb_listener.http",
        "aws_dynamodb_table.people",
        "aws_ecr_repository.hello",
    } <= kinds
    assert "Plan: 5 to add, 0 to change, 0 to destroy." in applied.second
    added = {address.partition("[")[0] for address in applied.infra.addresses() - applied.at_first}
    assert added == SERVICE


def test_the_second_plan_is_clean(applied: Applied) -> None:
    """What was applied is what is there: the next plan has nothing to do."""
    planned = applied.infra.run("plan", "-detailed-exitcode", check=False)
    assert planned.returncode == 0, planned.stdout + planned.stderr


def test_a_mark_of_deploy_sh_is_left_alone(applied: Applied) -> None:
    """The tag on a task definition that was seen to run is no reason for a plan to differ."""
    tags = [{"key": "Released", "value": "2026-11-24T12:00:00Z"}]
    applied.aws("ecs", "tag_resource", resourceArn=definition(applied)["taskDefinitionArn"], tags=tags)
    planned = applied.infra.run("plan", "-detailed-exitcode", check=False)
    assert planned.returncode == 0, planned.stdout + planned.stderr
    assert "Released" in definition(applied)["tags"]


def definition(applied: Applied, name: str = "hello") -> dict[str, Any]:
    """Return a task definition, the newest of all unless its revision is named; `tags` has names only."""
    told = applied.aws("ecs", "describe_task_definition", taskDefinition=name, include=["TAGS"])
    return {**told["taskDefinition"], "tags": [tag["key"] for tag in told["tags"]]}


def test_the_outputs_are_those_that_tools_read(applied: Applied) -> None:
    """Outputs tell where the service is, and where the release tools find what they need."""
    outputs = applied.outputs
    assert outputs["url"] == f"http://{outputs['dns_name']}:5000"
    assert outputs["release"] == OLD
    assert outputs["repository_url"].endswith(f"/{outputs['repository_name']}")
    service = applied.aws(
        "ecs", "describe_services", cluster=outputs["cluster"], services=[outputs["service"]]
    )["services"][0]
    assert service["loadBalancers"][0]["targetGroupArn"] == outputs["target_group_arn"]
    assert service["runningCount"] == service["desiredCount"] == 2
    table = applied.aws("dynamodb", "describe_table", TableName=outputs["table"])["Table"]
    assert table["DeletionProtectionEnabled"]


def test_the_document_s_command_finds_the_name(applied: Applied) -> None:
    """The name of the load balancer can be read from the state, as the exercise does."""
    shown = applied.infra.run("state", "show", "aws_lb.alb").stdout
    assert re.search(r'^ *dns_name += "(.+)"$', shown, re.MULTILINE)[1] == applied.outputs["dns_name"]  # type: ignore[index]


def test_hello_takes_the_table_as_it_is(applied: Applied, tmp_path: Path) -> None:
    """`hello migrate` finds key and index right, and people can be kept and listed there."""
    environment = {**applied.environment, "HELLO_STORE": f"dynamodb://us-east-1/{applied.outputs['table']}"}
    migrated = hello("migrate", folder=tmp_path, environment=environment)
    assert migrated.returncode == 0, migrated.stderr
    assert b"the table is there" in migrated.stdout + migrated.stderr
    service = Service(tmp_path, environment=environment).start()
    try:
        assert service.put("Zoe", "1990-04-23").status == 204
        assert service.get("/hello/Zoe").status == 200
        assert service.get("/birthdays?days=366").json()["birthdays"][0]["username"] == "Zoe"
    finally:
        assert service.stop() == 0


def test_the_service_begins_closed(applied: Applied, tmp_path: Path) -> None:
    """With the environment and the secret that the task gets at first, nobody is let in, and probes are."""
    task = applied.aws("ecs", "describe_task_definition", taskDefinition="hello")["taskDefinition"]
    container = task["containerDefinitions"][0]
    environment = {entry["name"]: entry["value"] for entry in container["environment"]}
    for secret in container["secrets"]:
        value = applied.aws("secretsmanager", "get_secret_value", SecretId=secret["valueFrom"])
        environment[secret["name"]] = value["SecretString"]
    assert environment["HELLO_KEYS"] == "[]"
    short = {
        "HELLO_HOST": "0.0.0.0",
        "HELLO_DRAIN_SECONDS": "0",
    }  # the image's host, and no drain to wait for
    service = Service(tmp_path, environment={**environment, **applied.environment, **short}).start()
    service.url = f"http://127.0.0.1:{service.port}"
    try:
        assert service.get("/hc").status == 200
        assert service.get("/ready").status == 200
        assert service.get("/hello/Zoe").status == 401
        assert service.put("Zoe", "1990-04-23").status == 401
        assert service.get("/hello/Zoe", {"Authorization": "Bearer test"}).status == 401
    finally:
        assert service.stop() == 0


def test_a_new_version_is_one_one_and_one(applied: Applied) -> None:
    """A release adds a task definition, changes the service, and keeps the old definition."""
    service = applied.outputs["service"]
    before = applied.aws("ecs", "describe_services", cluster=applied.outputs["cluster"], services=[service])
    applied.infra.release(commit=NEW, digest=NEWER_DIGEST)
    said = applied.infra.apply()
    assert "Plan: 1 to add, 1 to change, 1 to destroy." in said
    after = applied.aws("ecs", "describe_services", cluster=applied.outputs["cluster"], services=[service])
    old, new = (answer["services"][0]["taskDefinition"] for answer in (before, after))
    assert old != new
    assert definition(applied, old)["status"] == "ACTIVE"
    assert "Released" in definition(applied, old)["tags"]
    assert "Released" not in definition(applied, new)["tags"]
    assert applied.infra.outputs()["release"] == NEW


def test_nothing_secret_is_in_state_or_plan(applied: Applied) -> None:
    """What others write into the secrets stays there: no key or entry is in state or plan."""
    secret, entry = f"hello_{token_urlsafe(32)}", token_urlsafe(32)
    for name, value in (("integration_test_secret", secret), ("keys_secret", f'[{{"name": "{entry}"}}]')):
        applied.aws("secretsmanager", "put_secret_value", SecretId=applied.outputs[name], SecretString=value)
    planned = applied.infra.run("plan", "-detailed-exitcode", "-out=plan", check=False)
    assert planned.returncode == 0, planned.stdout
    shown = applied.infra.run("show", "-json", "plan").stdout + applied.infra.run("state", "pull").stdout
    assert '"aws_secretsmanager_secret"' in shown
    assert secret not in shown + planned.stdout
    assert entry not in shown + planned.stdout


def test_a_restored_table_takes_the_place_of_the_old_one(applied: Applied) -> None:
    """The commands of docs/aws.md: a table restored from the backups is adopted, protected and served."""
    people = {"Key": {"key": {"S": "zoe"}}, "TableName": "hello"}
    assert applied.aws("dynamodb", "get_item", **people)["Item"]["username"] == {"S": "Zoe"}
    applied.aws(
        "dynamodb", "restore_table_to_point_in_time",
        SourceTableName="hello", TargetTableName="hello-restored", UseLatestRestorableTime=True,
    )  # fmt: skip
    with (applied.infra.folder / "terraform.tfvars").open("a") as file:
        file.write('table_name = "hello-restored"\n')
    applied.infra.run("state", "rm", TABLE)
    applied.infra.run("import", TABLE, "hello-restored")
    said = applied.infra.apply()
    assert re.search(r"Plan: 1 to add, \d to change, 1 to destroy\.", said)  # the task's environment changes
    assert applied.infra.outputs()["table"] == "hello-restored"
    table = applied.aws("dynamodb", "describe_table", TableName="hello-restored")["Table"]
    assert table["DeletionProtectionEnabled"]
    backups = applied.aws("dynamodb", "describe_continuous_backups", TableName="hello-restored")
    recovery = backups["ContinuousBackupsDescription"]["PointInTimeRecoveryDescription"]
    assert recovery["PointInTimeRecoveryStatus"] == "ENABLED"
    assert applied.aws("dynamodb", "get_item", **{**people, "TableName": "hello-restored"})["Item"]


def test_destroy_leaves_what_is_protected_and_then_nothing(applied: Applied) -> None:
    """With deletion_protection the people stay; without it nothing does."""
    destroy = ("destroy", "-auto-approve", "-refresh=false")
    said = applied.infra.run(*destroy, check=False)
    assert said.returncode == 1
    assert "DeletionProtectionEnabled" in said.stderr
    assert applied.infra.addresses() == {TABLE}  # and a real load balancer; moto destroys a protected one
    unprotected = "-var=deletion_protection=false"
    applied.infra.apply("-target=aws_dynamodb_table.people", unprotected)
    applied.infra.run(*destroy, unprotected)
    assert applied.infra.addresses() == set()
    filters = [{"Key": "Service", "Values": ["hello"]}]
    left = applied.aws("resourcegroupstaggingapi", "get_resources", TagFilters=filters)
    arns = {resource["ResourceARN"] for resource in left["ResourceTagMappingList"]}
    # ECS goes on telling of what is inactive; the secrets were protected, and can be had back for 30 days.
    assert {arn.split(":")[2] for arn in arns} <= {"dynamodb", "ecs", "secretsmanager"}
    assert applied.aws("dynamodb", "list_tables")["TableNames"] == ["hello"]  # which was restored from
    assert applied.aws("ecs", "describe_clusters", clusters=["hello"])["clusters"][0]["status"] == "INACTIVE"
    assert applied.aws("secretsmanager", "list_secrets")["SecretList"] == []
    assert applied.aws("elbv2", "describe_load_balancers")["LoadBalancers"] == []
    assert applied.aws("iam", "list_roles")["Roles"] == []


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


def test_the_emulator_ends_with_who_started_it() -> None:
    """An emulator whose parent was killed answers no more: no run leaves one behind."""
    starter = (
        "import subprocess, sys\n"
        "with subprocess.Popen(sys.argv[1:], stdout=subprocess.PIPE, text=True) as emulator:\n"
        "    print(emulator.stdout.readline(), end='', flush=True)\n"
    )
    command = [sys.executable, "-c", starter, str(PYTHON), "-m", "rehearsal.emulator"]
    with begun(command, ROOT, {}) as parent:
        assert parent.stdout is not None
        port = int(parent.stdout.readline())
        assert listens(port)
        parent.kill()
        until(lambda: not listens(port), "the emulator to end")


def test_logic_of_the_variables(logic: Process) -> None:
    """The tests in infra/tests pass: every option, every validation, with AWS mocked."""
    said, _ = logic.communicate(timeout=280)
    assert logic.returncode == 0, said
    assert re.search(r"^Success! \d+ passed, 0 failed\.$", said, re.MULTILINE)


def test_every_validation_is_tried() -> None:
    """Each variable with a validation is expected to fail in infra/tests; all are typed and described."""
    text = (INFRA / "var.tf").read_text()
    blocks = dict(re.findall(r'^variable "(\w+)" \{\n(.*?)^\}', text, re.MULTILINE | re.DOTALL))
    tried = set(
        re.findall(
            r"\bvar\.(\w+)", " ".join(re.findall(r"expect_failures = \[(.*?)\]", logic_tests(), re.DOTALL))
        )
    )
    assert {name for name, block in blocks.items() if "validation {" in block} == tried
    for name, block in blocks.items():
        assert re.search(r"^  description = ", block, re.MULTILINE), name
        assert re.search(r"^  type +=", block, re.MULTILINE), name
        nullable = "default     = null" in block or re.search(r"default += null", block)
        assert bool(nullable) != ("nullable    = false" in block), name


def logic_tests() -> str:
    """Return the text of all files of infra/tests."""
    return "".join(path.read_text() for path in sorted((INFRA / "tests").glob("*.tftest.hcl")))


def test_terraform_is_formatted_and_valid(tmp_path: Path) -> None:
    """`terraform fmt` changes nothing, `validate` accepts it, and also the examples of a backend."""
    infra = initialised(tmp_path / "infra")
    infra.run("fmt", "-check", "-recursive", "-diff")
    infra.run("validate")
    example = (infra.folder / "backend.tf.example").read_text()
    for kind in ("s3", "cloud"):
        chosen = (
            example
            if kind == "s3"
            else re.sub(r"^# ?", "", example.rpartition("}\n\n")[2], flags=re.MULTILINE)
        )
        assert kind in chosen
        folder = tmp_path / kind
        folder.mkdir()
        (folder / "backend.tf").write_text(chosen)
        subprocess.run([need("terraform"), "fmt", "-check", folder], check=True, timeout=60)


def test_the_diagram_is_drawn_from_its_text() -> None:
    """docs/aws.svg has the words of docs/aws.dot: it was rendered after the last change."""
    drawn = subprocess.run(
        [need("dot"), "-Tsvg", ROOT / "docs" / "aws.dot"],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    words, shown = (
        sorted(re.findall(r"<text [^>]*>(.*?)</text>|<title>(.*?)</title>", text))
        for text in (drawn.stdout, (ROOT / "docs" / "aws.svg").read_text())
    )
    assert words == shown
    assert len(words) > 20


def test_checkov_finds_nothing(audit: Process | None) -> None:
    """Checkov's rules hold, and each exception has its reason on its line."""
    if audit is None:
        missing("checkov is not installed (make .venv/.stamps/checkov)")
    said, _ = audit.communicate(timeout=280)
    assert audit.returncode == 0, said
    summary = json.loads(said)["summary"]
    assert summary["failed"] == 0
    assert summary["parsing_errors"] == 0
    assert summary["passed"] > 100
    lines = [line for path in INFRA.glob("*.tf") for line in path.read_text().splitlines()]
    skips = [line for line in lines if "checkov:" in line]
    assert skips
    assert all(re.fullmatch(r" +#checkov:skip=CKV2?_AWS_\d+: \w.{7,}", line) for line in skips)


def test_checkov_finds_what_is_wrong(tmp_path: Path) -> None:
    """A table that can't be recovered is found: the audit reads what is there."""
    if not CHECKOV.exists():
        missing("checkov is not installed (make .venv/.stamps/checkov)")
    for name in ("storage.tf", "var.tf"):
        text = (INFRA / name).read_text()
        (tmp_path / name).write_text(text.replace("enabled = true", "enabled = false"))
    with begun(checkov(tmp_path), ROOT, {"LOG_LEVEL": "ERROR"}) as process:
        said, _ = process.communicate(timeout=280)
    failed = [check["check_id"] for check in json.loads(said)["results"]["failed_checks"]]
    assert "CKV_AWS_28" in failed  # point-in-time recovery
