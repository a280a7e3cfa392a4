"""compute = "fargate": all of infra/ applied to an emulated AWS, released, restored and destroyed."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from secrets import token_urlsafe
from typing import Any, NamedTuple

import pytest

from tests.support.commands import hello
from tests.support.service import Service
from tests.support.terraform import Applied, applied_infra

# Most of it is the provider's own waiting and starting; on a busy machine the first apply takes minutes.
pytestmark = pytest.mark.timeout(600)

OLD, NEW = "a" * 40, "b" * 40
DIGEST, NEWER_DIGEST = f"sha256:{'0' * 64}", f"sha256:{'1' * 64}"
SERVICE = {
    "aws_appautoscaling_policy.target",
    "aws_appautoscaling_target.service",
    "aws_ecs_service.hello",
    "aws_ecs_task_definition.hello",
}
TABLE = "aws_dynamodb_table.people[0]"


@pytest.fixture(scope="module")
def applied(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Applied]:
    """The infrastructure with its service, as the tests of this module leave it, one after the other."""
    folder = tmp_path_factory.mktemp("fargate") / "infra"
    with applied_infra(folder, {"commit": OLD, "digest": DIGEST}) as applied:
        yield applied


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


class Planned(NamedTuple):
    """A plan after all is applied, marked and given its secrets."""

    exit_code: int
    printed: str
    shown: str
    secrets: tuple[str, ...]


@pytest.fixture(scope="module")
def planned(applied: Applied) -> Planned:
    """Mark what runs as deploy.sh does, write secrets as people do, and plan again.

    The tests above find the secrets as Terraform made them.
    """
    tags = [{"key": "Released", "value": "2026-11-24T12:00:00Z"}]
    applied.aws("ecs", "tag_resource", resourceArn=definition(applied)["taskDefinitionArn"], tags=tags)
    secret, entry = f"hello_{token_urlsafe(32)}", token_urlsafe(32)
    for name, value in (("integration_test_secret", secret), ("keys_secret", f'[{{"name": "{entry}"}}]')):
        applied.aws("secretsmanager", "put_secret_value", SecretId=applied.outputs[name], SecretString=value)
    done = applied.infra.run("plan", "-detailed-exitcode", "-out=plan", check=False)
    shown = applied.infra.run("show", "-json", "plan").stdout
    return Planned(done.returncode, done.stdout + done.stderr, shown, (secret, entry))


def test_the_second_plan_is_clean(applied: Applied, planned: Planned) -> None:
    """The next plan has nothing to do, also with the tag that deploy.sh gives a task definition."""
    assert planned.exit_code == 0, planned.printed
    assert "Released" in definition(applied)["tags"]


def test_nothing_secret_is_in_state_or_plan(applied: Applied, planned: Planned) -> None:
    """What others write into the secrets stays there: no key or entry is in state or plan."""
    found = planned.printed + planned.shown + json.dumps(applied.infra.state())
    assert '"aws_secretsmanager_secret"' in planned.shown
    assert '"aws_secretsmanager_secret"' in json.dumps(applied.infra.state())
    assert not [secret for secret in planned.secrets if secret in found]


@pytest.mark.usefixtures("planned")
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


@pytest.mark.full
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


@pytest.mark.full
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
