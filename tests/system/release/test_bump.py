"""infra/bump.sh: which version is chosen, how that is written, and what is refused."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.support.dynamodb import CREDENTIALS
from tests.support.dynamodb_proxy import Call, Reply
from tests.support.environment import need
from tests.support.release import MANIFEST, REGION, Answering, Infra, commit, digest, error, said


def details(*numbers: int) -> list[dict[str, object]]:
    """Return what ECR tells of images; the number is the time of the push."""
    return [
        {
            "imageDigest": digest(number),
            "imageTags": [commit(number)],
            "imagePushedAt": 1_700_000_000 + number,
        }
        for number in numbers
    ]


def test_the_newest_image_is_chosen(infra: Infra) -> None:
    """It is written with its digest; the file is replaced whole, and left alone the second time."""
    infra.push(1)
    infra.push(2)
    infra.push(3, tag="latest")
    told = infra.done("bump.sh")
    assert f"old: none\nnew: {commit(2)} ({digest(2)}, pushed 20" in told
    assert infra.chosen() == (commit(2), digest(2))
    before = infra.version.stat()
    assert f"unchanged: {commit(2)}" in infra.done("bump.sh")
    assert infra.version.stat() == before
    infra.push(4)
    assert f"old: {commit(2)}\nnew: {commit(4)}" in infra.done("bump.sh")
    assert infra.version.stat().st_ino != before.st_ino
    assert infra.version.stat().st_mode & 0o777 == 0o644
    assert [path.name for path in infra.folder.iterdir() if not path.name.endswith(".sh")] == [
        infra.version.name
    ]


def test_time_of_push_counts_over_all_pages(infra: Infra) -> None:
    """The newest of more images than ECR tells at once is found, wherever it stands."""
    for number in (7, 8):
        infra.push(number)

    def page(call: Call) -> Reply:
        second = call.payload.get("nextToken") == "more"
        told = details(*range(200, 300)) if second else details(*range(100, 150), 8, *range(150, 200))
        if not second:
            told[50]["imagePushedAt"] = 1_700_001_000
        return 200, json.dumps({"imageDetails": told, **({} if second else {"nextToken": "more"})}).encode()

    infra.answer(DescribeImages=page)
    infra.done("bump.sh")
    assert infra.chosen() == (commit(8), digest(8))
    assert infra.proxy.actions.count("DescribeImages") == 2


def test_a_version_is_chosen_by_its_commit(infra: Infra) -> None:
    """The whole SHA or the beginning of one do, in any case of letters; one that is ambiguous does not."""
    infra.push(0xABCDEF01)
    infra.push(0xABCDEF02)
    infra.push(3)
    infra.done("bump.sh", commit(0xABCDEF01))
    assert infra.chosen() == (commit(0xABCDEF01), digest(0xABCDEF01))
    infra.done("bump.sh", "ABCDEF02")
    assert infra.chosen()[0] == commit(0xABCDEF02)
    told = infra.refused("bump.sh", "abcdef0")
    assert (
        f"begins more than one commit; give more of it:\n{commit(0xABCDEF02)}\n{commit(0xABCDEF01)}" in told
    )
    told = infra.refused("bump.sh", "1234567")
    assert "no image of 1234567: is its build done?" in told
    assert commit(3) in told


@pytest.mark.parametrize("name", ["main", "abc123", "g" * 40, "a" * 41, "--newest", "v1.0", "../x"])
def test_what_is_no_commit_is_refused(name: str, infra: Infra) -> None:
    """Branches, tags, options that are none and what is too short or long: told before anything is asked."""
    told = infra.refused("bump.sh", name, status=2)
    assert ("no such option" in told) if name.startswith("-") else ("not the SHA of a commit" in told)
    assert infra.proxy.actions == []


def test_images_of_another_architecture_are_passed_over(infra: Infra) -> None:
    """The newest that the service can run is taken, and those that it can't are named; none is refused."""
    infra.push(1)
    infra.push(2, "amd64", "unknown")
    told = infra.done("bump.sh")
    assert f"not for arm64: {commit(2)} is for amd64 unknown" in told
    assert infra.chosen()[0] == commit(1)
    assert "no image is for the service's architecture, arm64" in infra.refused("bump.sh", commit(2))
    infra.outputs(architecture="X86_64")
    infra.done("bump.sh")
    assert infra.chosen()[0] == commit(2)


def test_an_image_of_one_architecture_tells_it_in_its_configuration(infra: Infra, tmp_path: Path) -> None:
    """It is read by the address that ECR signs for it, which no process has as an argument."""
    config = tmp_path / "config.json"
    layers = [{"digest": digest(9)}]
    infra.put_image(
        1, {"schemaVersion": 2, "mediaType": MANIFEST, "config": {"digest": digest(8)}, "layers": layers}
    )

    def sign(call: Call) -> Reply:
        assert call.payload == {"repositoryName": infra.name, "layerDigest": digest(8)}
        return 200, json.dumps({"downloadUrl": config.as_uri(), "layerDigest": digest(8)}).encode()

    infra.answer(GetDownloadUrlForLayer=sign)
    config.write_text(json.dumps({"architecture": "amd64"}))
    assert "is for amd64" in infra.refused("bump.sh")
    config.write_text(json.dumps({"architecture": "arm64"}))
    infra.done("bump.sh")
    assert infra.chosen()[0] == commit(1)


def test_an_empty_registry_is_refused(infra: Infra) -> None:
    """So is one that has images of no commit."""
    assert "has no image of a commit yet: make publish" in infra.refused("bump.sh")
    infra.push(1, tag="latest")
    assert "has no image of a commit yet" in infra.refused("bump.sh")


@pytest.mark.parametrize(
    ("code", "advice"),
    [
        ("ExpiredTokenException", "The AWS credentials have expired: sign in again"),
        ("UnrecognizedClientException", "AWS does not take these credentials"),
        ("AccessDeniedException", "These credentials lack the right for it."),
        (
            "RepositoryNotFoundException",
            "aws ecr describe-images: An error occurred (RepositoryNotFoundException)",
        ),
    ],
)
def test_what_aws_refuses_is_told_with_what_to_do(code: str, advice: str, infra: Infra) -> None:
    """Expired, unknown and insufficient credentials are told apart; all else is told in AWS's words."""
    infra.choose(1)
    infra.answer(DescribeImages=error(code, "played by a test"))
    assert advice in infra.refused("bump.sh")


def test_missing_credentials_and_networks_are_told(infra: Infra) -> None:
    """Without credentials it is said where to put them; without a way to AWS, where to look."""
    for name in CREDENTIALS:
        del infra.environment[name]
    assert "put access_key and secret_key into infra/terraform.tfvars" in infra.refused("bump.sh")
    infra.environment |= CREDENTIALS
    infra.proxy.stop()
    assert "AWS can't be reached" in infra.refused("bump.sh")


def test_credentials_are_those_of_terraform(infra: Infra) -> None:
    """Keys of terraform.tfvars count before all others, are in no argument, and nobody is told them."""
    infra.push(1)
    infra.play("aws", '#!/bin/bash\necho "$AWS_ACCESS_KEY_ID $AWS_SECRET_ACCESS_KEY ${AWS_PROFILE-none} '
               '${AWS_SESSION_TOKEN-none} $AWS_REGION" >>"$0.seen"\n'
               f'printf "%s " "$@" >>"$0.arguments"\nexec {need("aws")} "$@"\n')  # fmt: skip
    tfvars = infra.folder / "terraform.tfvars"
    tfvars.write_text('access_key = "AKtest"\n  secret_key="s3cret/+" # mine\nregion = "us-east-1"\n')
    told = infra.done("bump.sh", AWS_PROFILE="other", AWS_SESSION_TOKEN="test")
    seen = set((infra.stub / "aws.seen").read_text().splitlines())
    assert seen == {f"AKtest s3cret/+ none none {REGION}"}
    assert "s3cret/+" not in told + (infra.stub / "aws.arguments").read_text()
    (infra.stub / "aws.seen").unlink()
    tfvars.write_text("access_key = null\nsecret_key = null\n")
    infra.done("bump.sh", TF_VAR_access_key="AKother", TF_VAR_secret_key="test")
    assert (infra.stub / "aws.seen").read_text().startswith("test s3cret")
    tfvars.write_text('access_key = var.other\nsecret_key = "s3cret"\n')
    assert 'not understood: write one line access_key = "…"' in infra.refused("bump.sh")
    tfvars.unlink()
    infra.done("bump.sh", TF_VAR_access_key="AKother", TF_VAR_secret_key="test")
    assert "AKother test" in (infra.stub / "aws.seen").read_text()


def test_missing_commands_are_told(infra: Infra, tmp_path: Path) -> None:
    """All that are missing are named at once."""
    (few := tmp_path / "few").mkdir()
    for name in ("bash", "basename", "dirname", "curl"):
        (few / name).symlink_to(need(name))
    assert "not installed: aws jq terraform." in infra.refused("bump.sh", PATH=str(few))


def test_a_version_that_ran_before_is_chosen(infra: Infra) -> None:
    """It is the one before that which runs, or, where ECS went back by itself, the one that runs."""
    for number in (1, 2):
        infra.push(number)
    register(infra, 1, 1, 2, 2)
    mark(infra, 1, 2, 4)
    infra.answer(DescribeServices=runs(infra, 4))
    infra.choose(2)
    infra.done("bump.sh", "--previous")
    assert infra.chosen()[0] == commit(1)
    infra.answer(DescribeServices=runs(infra, 2))
    assert "no other version is marked as released" in infra.refused("bump.sh", "--previous")
    infra.choose(2)
    infra.done("bump.sh", "--previous")
    assert infra.chosen()[0] == commit(1)


def test_a_version_that_was_bad_is_not_gone_back_to(infra: Infra) -> None:
    """One that ECS took back was never marked: the good one before it is chosen, or nothing."""
    for number in (1, 2, 3):
        infra.push(number)
    register(infra, 1, 2, 3)
    infra.answer(DescribeServices=runs(infra, 3))
    infra.choose(3)
    told = infra.refused("bump.sh", "--previous")
    assert "no other version is marked as released, and one that is not may be a bad one" in told
    mark(infra, 1, 3)
    infra.done("bump.sh", "--previous")
    assert infra.chosen()[0] == commit(1)
    infra.version.unlink()
    infra.done("bump.sh", "--previous")
    assert infra.chosen()[0] == commit(1)


def test_without_a_version_that_ran_before_it_is_refused(infra: Infra) -> None:
    """So is one whose image is gone."""
    infra.push(2)
    infra.answer(DescribeServices=said({"services": [], "failures": []}))
    assert "no service runs yet" in infra.refused("bump.sh", "--previous")
    register(infra, 1, 2)
    mark(infra, 1)
    infra.answer(DescribeServices=runs(infra, 2))
    infra.choose(2)
    told = infra.refused("bump.sh", "--previous")
    assert f"the version that ran before, {digest(1)}, is no longer in the registry" in told


def register(infra: Infra, *numbers: int) -> None:
    """Register task definitions with the images of commits."""
    for number in numbers:
        container = {"name": "hello", "image": f"registry.test/{infra.name}@{digest(number)}", "memory": 128}
        infra.aws("ecs", "RegisterTaskDefinition", family=infra.name, containerDefinitions=[container])


def arn(infra: Infra, revision: int) -> str:
    """Return the name that AWS has for a revision of the task definition."""
    return f"arn:aws:ecs:{REGION}:123456789012:task-definition/{infra.name}:{revision}"


def mark(infra: Infra, *revisions: int) -> None:
    """Mark task definitions as released, as deploy.sh does."""
    tags = [{"key": "Released", "value": "2026-11-24T12:00:00Z"}]
    for revision in revisions:
        infra.aws("ecs", "TagResource", resourceArn=arn(infra, revision), tags=tags)


def runs(infra: Infra, revision: int) -> Answering:
    """Return what answers that the service runs a revision of its task definition."""
    return said({"services": [{"taskDefinition": arn(infra, revision)}]})


CONFIGURATION = f"""
variable "release" {{
  type    = object({{ commit = string, digest = optional(string) }})
  default = null
}}
variable "repository_name" {{}}
output "region" {{
  value = "{REGION}"
}}
output "repository_name" {{
  value = var.repository_name
}}
output "architecture" {{
  value = "ARM64"
}}
output "release" {{
  value = try(var.release.commit, null)
}}
"""


def test_terraform_takes_what_is_written(infra: Infra) -> None:
    """The real one: no state is told; then outputs come from its state, and the file is read by itself."""
    terraform = need("terraform")
    (infra.stub / "terraform").unlink()
    assert "there is no infrastructure in Terraform's state yet: terraform apply" in infra.refused("bump.sh")
    infra.push(1)
    (infra.folder / "main.tf").write_text(CONFIGURATION)
    apply = [terraform, "apply", "-auto-approve", "-no-color"]
    environment = {**os.environ, "CHECKPOINT_DISABLE": "1", "TF_VAR_repository_name": infra.name}
    for wanted in ("null", commit(1)):
        done = subprocess.run(
            apply, cwd=infra.folder, env=environment, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stderr
        outputs = subprocess.check_output(
            [terraform, "output", "-json"], cwd=infra.folder, env=environment, timeout=60
        )
        assert json.loads(outputs).get("release", {}).get("value", "null") == wanted
        infra.done("bump.sh")
