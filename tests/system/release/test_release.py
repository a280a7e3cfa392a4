"""infra/deploy.sh: what is applied, what counts as released, and what a failure tells."""

import json
import os
import pty
import re
import signal
import subprocess
from pathlib import Path

import pytest

from tests.support.dynamodb_proxy import Call, Reply
from tests.support.environment import need, until
from tests.support.release import AWS, REGION, Infra, changes, commit, digest, said

ARN = f"arn:aws:ecs:{REGION}:000000000000"
KEY = "hello_" + "s" * 43
# A deployment that CloudWatch's alarms ended.
ALARM = {
    "status": "ACTIVE",
    "taskDefinition": f"{ARN}:task-definition/hello:2",
    "desiredCount": 2,
    "runningCount": 1,
    "failedTasks": 0,
    "rolloutState": "FAILED",
    "rolloutStateReason": "ECS deployment failed: alarm(s) detected.",
}
PROMPT = b"Apply this plan? Only yes is taken for one: "
HEALTH = b"""<DescribeTargetHealthResponse><DescribeTargetHealthResult><TargetHealthDescriptions><member>
<Target><Id>10.0.0.1</Id><Port>5000</Port></Target><TargetHealth><State>unhealthy</State>
<Reason>Target.ResponseCodeMismatch</Reason><Description>Health checks failed: [503]</Description>
</TargetHealth></member></TargetHealthDescriptions></DescribeTargetHealthResult></DescribeTargetHealthResponse>"""


class Service:
    """What ECS tells of the service: the version that runs, and how the deployment goes."""

    def __init__(self, infra: Infra) -> None:
        self.infra = infra
        self.runs = 1
        self.rollout = "COMPLETED"
        self.tasks = [1, 1]
        self.others: list[dict[str, object]] = []  # deployments
        self.released = {1}
        self.events = [{"id": "1", "createdAt": 1_700_000_000, "message": "(service hello) is as it was."}]
        infra.answer(
            DescribeServices=self.describe,
            DescribeTaskDefinition=self.definition,
            ListTasks=lambda _: self.told(taskArns=[f"{ARN}:task/hello/{n}" for n in range(len(self.tasks))]),
            ListTaskDefinitions=lambda _: self.told(
                taskDefinitionArns=[f"{ARN}:task-definition/hello:{number}" for number in (2, 1)]
            ),
            DescribeTasks=self.describe_tasks,
            TagResource=lambda call: self.tag(call),
            DescribeTargetHealth=lambda _: (200, HEALTH),
        )

    def told(self, **answer: object) -> Reply:
        return 200, json.dumps(answer).encode()

    def describe(self, call: Call) -> Reply:
        assert call.payload["cluster"] == self.infra.name
        if (self.infra.stub / "applied").exists():
            self.applied()
        deployment = {
            "status": "PRIMARY",
            "taskDefinition": f"{ARN}:task-definition/hello:{self.runs}",
            "desiredCount": 2,
            "runningCount": len(self.tasks),
            "failedTasks": 3,
            "rolloutState": self.rollout,
        }
        return self.told(
            services=[{"deployments": [deployment, *self.others], "events": self.events, **deployment}]
        )

    def applied(self) -> None:
        """What `terraform apply` brings about; by default the version that was chosen."""
        self.runs = 2
        self.tasks = [2, 2]
        if len(self.events) == 1:
            message = "(service hello) has started 1 tasks."
            self.events.insert(0, {"id": "2", "createdAt": 1_700_000_100, "message": message})

    def definition(self, call: Call) -> Reply:
        name = call.payload.get("task-definition") or call.payload["taskDefinition"]
        number = int(name.rpartition(":")[2])
        return self.told(
            taskDefinition={"containerDefinitions": [{"image": f"ecr.test/hello@{digest(number)}"}]},
            tags=[{"key": "Released", "value": "2026-11-24T12:00:00Z"}] if number in self.released else [],
        )

    def tag(self, call: Call) -> Reply:
        name = call.payload.get("resource-arn") or call.payload["resourceArn"]
        assert "Released" in str(call.payload["tags"])
        self.released.add(int(name.rpartition(":")[2]))
        return self.told()

    def describe_tasks(self, call: Call) -> Reply:
        tasks = [
            {
                "taskArn": f"{ARN}:task/hello/{number}",
                "taskDefinitionArn": f"{ARN}:task-definition/hello:{revision}",
                "stopCode": "EssentialContainerExited",
                "stoppedReason": "Essential container in task exited",
                "stoppedAt": 1_700_000_200,
                "containers": [{"name": "hello", "exitCode": 2, "reason": "played"}],
            }
            for number, revision in enumerate(self.tasks)
        ]
        return self.told(tasks=tasks)


@pytest.fixture
def service(infra: Infra) -> Service:
    """Give a service that runs version 1, has version 2 in the registry, and for which apply works at once.

    Its bump.sh chooses version 2; its test and its report ask nothing, until a test makes them `real`.
    """
    infra.play("aws", AWS)
    infra.play("apply", "#!/bin/bash\ntouch applied\n")
    plan = changes("aws_ecs_task_definition.hello[0]", "delete", "create")
    (infra.stub / "plan.json").write_text(json.dumps(plan))
    infra.choose(2)
    infra.replace("bump.sh", "exit 0")
    infra.replace("integration-test.sh", "echo ok tested")
    infra.replace("report.sh", "echo the report")
    return Service(infra)


def test_a_release_is_one_action(service: Service) -> None:
    """Version, plan, apply and test; the service's events are shown meanwhile, those of before are not."""
    service.infra.push(2)
    service.infra.version.unlink()
    service.infra.real("bump.sh")
    (service.infra.stub / "aws").unlink()
    service.infra.play("apply", "#!/bin/bash\ntouch applied\nsleep 1\n")
    told = service.infra.done("deploy.sh")
    for line in (f"new: {commit(2)}", "has started 1 tasks.", "running: hello:2 2/2 COMPLETED", "ok tested"):
        assert line in told
    assert "is as it was" not in told
    assert f"The service runs {digest(2)}, 2 tasks of hello:2." in told
    assert f"Released {commit(2)} in " in told
    assert service.released == {1, 2}
    asked = [line.split()[0] for line in service.infra.asked]
    assert asked == ["plan", "show", "apply"]
    plan = service.infra.asked[0].partition("-out=")[2]
    assert service.infra.asked[2] == f"apply -input=false -lock-timeout=60s {plan}"
    assert not Path(plan).parent.exists()


def test_what_runs_already_is_only_tested(service: Service) -> None:
    """Without changes nothing is applied; that the version runs is seen nevertheless."""
    service.applied()
    service.infra.play("plan", "#!/bin/bash\nexit 0\n")
    told = service.infra.done("deploy.sh")
    assert [line.split()[0] for line in service.infra.asked] == ["plan"]
    assert "ok tested" in told


def failed(service: Service, *arguments: str) -> str:
    """Deploy, which has to fail; return what it says."""
    done = service.infra.run("deploy.sh", *arguments)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "Released" not in done.stderr
    assert service.released == {1}  # or make rollback might choose it
    return done.stderr


def test_a_release_that_was_rolled_back_has_failed(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """Although Terraform succeeds. The report has reasons, events, health and log, and no secret."""
    monkeypatch.setattr(service, "applied", lambda: None)
    infra = service.infra
    infra.real("report.sh")
    (infra.stub / "aws").unlink()
    infra.aws("logs", "CreateLogGroup", logGroupName=infra.name)
    for stream, line in {
        "hello/hello/1": f"can't start: {KEY} postgresql://hello:s3cret@db/hello \x1b[31m",
        "hello/hello/other": "another's line",
    }.items():
        infra.aws("logs", "CreateLogStream", logGroupName=infra.name, logStreamName=stream)
        event = {"timestamp": 1_795_000_000_000, "message": line}
        infra.aws("logs", "PutLogEvents", logGroupName=infra.name, logStreamName=stream, logEvents=[event])
    told = failed(service)
    assert f"it was rolled back: the service runs ecr.test/hello@{digest(1)}, and not {digest(2)}." in told
    for line in (
        "The release failed.",
        "  PRIMARY hello:1: 2 of 2 run, 3 failed, COMPLETED",
        "  1 of hello:1: EssentialContainerExited Essential container in task exited",
        "    hello: exit status 2 played",
        "  10.0.0.1:5000 unhealthy Target.ResponseCodeMismatch Health checks failed: [503]",
        "  can't start: hello_*** postgresql://hello:***@db/hello [31m",
        "What ran before comes back by: make rollback",
    ):
        assert line in told
    # The AWS command line tells times in the machine's zone, and UTC in one of two ways.
    assert re.search(r"^  2023-11-1\dT\S+ \(service hello\) is as it was\.$", told, re.MULTILINE)
    assert "another's line" not in told
    assert KEY not in told
    assert "s3cret" not in told


def test_a_release_that_an_alarm_takes_back_has_failed(service: Service) -> None:
    """Terraform has succeeded by then: the new tasks ran, and ECS still watched the alarms."""
    service.rollout = "IN_PROGRESS"  # of the release, then of the way back
    played = iter([2, 2])

    def go_on() -> None:
        service.runs = next(played, 1)
        service.tasks = [2, service.runs]
        service.others = [ALARM] if service.runs == 1 else []

    service.applied = go_on  # type: ignore[method-assign]
    service.infra.real("report.sh")
    told = failed(service)
    assert "running: hello:2 2/2 IN_PROGRESS" in told
    assert f"it was rolled back: the service runs ecr.test/hello@{digest(1)}, and not {digest(2)}." in told
    assert "terraform apply failed" not in told
    assert f"  ACTIVE hello:2: 1 of 2 run, 0 failed, FAILED {ALARM['rolloutStateReason']}\n" in told
    assert "ok tested" not in told


def test_a_mark_that_can_not_be_set_is_told(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """The release is one nevertheless."""
    monkeypatch.setattr(service, "tag", lambda _: None)
    told = service.infra.done("deploy.sh")
    assert "It could not be marked as released: make rollback will pass it over.\nReleased " in told


def test_a_first_deployment_that_fails_is_told(service: Service) -> None:
    """There is nothing that ECS could go back to. What can't be had keeps the report from nothing else."""
    service.rollout = "FAILED"
    service.infra.real("report.sh")
    told = failed(service)
    assert "the deployment failed, and there was nothing to roll back to." in told
    assert "Last events\n" in told
    assert "  10.0.0.1:5000 unhealthy" not in told
    assert "Last lines of the log\n" in told


def test_tasks_of_another_version_are_no_release(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """All that run have to be of the version; none at all is none."""
    service.applied()
    monkeypatch.setattr(service, "applied", lambda: None)
    service.tasks = [2, 1]
    assert f"tasks of another version still run:\n{ARN}:task/hello/1\n" in failed(service)
    service.tasks = []
    assert "no task runs." in failed(service)


def test_what_terraform_refuses_is_a_failure(service: Service) -> None:
    """Its words are shown; of a lock it is said how to be rid of it; a plan that fails needs no report."""
    service.infra.play("apply", "#!/bin/bash\necho 'Error: Resource postcondition failed' >&2\nexit 1\n")
    told = failed(service)
    assert (
        "Error: Resource postcondition failed\ndeploy.sh: terraform apply failed.\nThe release failed.\n"
        in told
    )
    lock = (
        "#!/bin/bash\necho 'Error: Error acquiring the state lock\n\nLock Info:\n  ID: 1-2-3' >&2\nexit 1\n"
    )
    service.infra.play("plan", lock)
    told = failed(service)
    assert "ID: 1-2-3" in told
    assert "the state is locked: somebody else applies, or a run was killed." in told
    assert "terraform force-unlock ID" in told
    assert "the report" not in told


def test_an_integration_test_that_fails_is_a_failure(service: Service) -> None:
    """Although all tasks run."""
    service.infra.replace("integration-test.sh", "exit 1")
    told = failed(service)
    assert f"The service runs {digest(2)}" in told
    assert "The release failed." in told


WAITS = """#!/bin/bash
trap 'echo interrupted >>signals' INT
: >began
while [ ! -s signals ]; do sleep 0.1; done
"""


def test_it_is_bounded_in_time(service: Service) -> None:
    """At the end of it Terraform is interrupted."""
    service.infra.play("plan", WAITS)
    assert "terraform plan was interrupted after 0 minutes." in failed(service, "--minutes", "0")


def test_minutes_are_decimal(service: Service) -> None:
    """Also with a zero before them, which the shell takes for octal."""
    assert "Released" in service.infra.done("deploy.sh", "--minutes", "08")


def test_an_interrupt_reaches_terraform_once(service: Service) -> None:
    """A second one would have it end at once, and lose its state. The report tells where things are."""
    infra = service.infra
    infra.play("apply", f"{WAITS}while [ ! -e done ]; do sleep 0.1; done\nexit 1\n")
    infra.play(
        "sleep", f'#!/bin/bash\n[ "$1" = 0.1 ] || echo >>{infra.stub}/turns\nexec {need("sleep")} "$@"\n'
    )

    def wait_for_turns() -> None:
        """A trap is run after the sleep in which the signal came: in the second turn from now it has been."""
        turns = infra.stub / "turns"
        seen = turns.stat().st_size
        until(lambda: turns.stat().st_size >= seen + 2, "deploy.sh to have seen the signal")

    command = [service.infra.folder / "deploy.sh"]
    with subprocess.Popen(
        command, env=service.infra.environment, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    ) as process:  # fmt: skip
        until((service.infra.stub / "began").exists, "terraform apply")
        for _ in range(3):
            os.killpg(process.pid, signal.SIGINT)  # as a terminal does
            wait_for_turns()
        (infra.stub / "done").touch()
        told = process.communicate(timeout=60)[1]
    assert process.returncode == 1
    assert "terraform apply was interrupted on request." in told
    assert "the report" in told
    assert (infra.stub / "signals").read_text() == "interrupted\n"


def test_a_plan_that_destroys_more_is_not_applied_unasked(service: Service) -> None:
    """Without a terminal it takes --yes or AUTO_APPROVE; a service that never came up is no loss."""
    plan = service.infra.stub / "plan.json"
    plan.write_text(json.dumps(changes("aws_dynamodb_table.people[0]", "delete")))
    told = failed(service)
    assert "not applied: the plan destroys more than the old version" in told
    assert "\n  aws_dynamodb_table.people[0]\n" in told
    assert "apply" not in " ".join(service.infra.asked)
    service.infra.play("apply", "#!/bin/bash\nexit 1\n")
    assert "terraform apply failed." in failed(service, "--yes")
    tainted = changes("aws_ecs_service.hello[0]", "delete", "create", reason="replace_because_tainted")
    plan.write_text(json.dumps(tainted))
    assert "terraform apply failed." in failed(service)
    table = changes("aws_dynamodb_table.people[0]", "delete", "create", reason="replace_because_tainted")
    plan.write_text(json.dumps(table))
    assert "the plan destroys more than the old version" in failed(service)


@pytest.mark.parametrize("answer", ["yes", "no"])
def test_a_person_is_asked(answer: str, service: Service) -> None:
    """On a terminal nothing is applied without a yes."""
    service.infra.play("apply", "#!/bin/bash\nexit 3\n")
    leader, follower = pty.openpty()
    try:
        os.write(leader, f"{answer}\n".encode())
        done = subprocess.run(
            [service.infra.folder / "deploy.sh"], env=service.infra.environment, stdin=follower,
            capture_output=True, timeout=60, check=False,
        )  # fmt: skip
    finally:
        os.close(leader)
        os.close(follower)
    assert PROMPT in done.stderr
    assert ("apply" in " ".join(service.infra.asked)) == (answer == "yes")
    assert done.returncode == 1


def test_a_rollback_is_a_release_of_what_ran_before(service: Service) -> None:
    """Of the version that runs, where ECS went back to it by itself."""
    service.infra.push(1)
    service.infra.real("bump.sh")
    (service.infra.stub / "aws").unlink()
    (service.infra.stub / "applied").touch()
    service.applied = lambda: None  # type: ignore[method-assign]
    told = service.infra.done("deploy.sh", "--previous")
    assert f"old: {commit(2)}\nnew: {commit(1)}" in told
    assert f"The service runs {digest(1)}" in told


@pytest.mark.parametrize("arguments", [["--minutes", "x"], ["--minutes"], ["--no"], ["1234567", "7654321"]])
def test_what_it_does_not_know_is_refused(arguments: list[str], infra: Infra) -> None:
    """Before anything is done."""
    infra.refused("deploy.sh", *arguments, status=2)
    assert infra.proxy.actions == []


def test_there_is_no_report_without_a_service(infra: Infra) -> None:
    """It says so."""
    infra.answer(DescribeServices=said({"services": []}))
    assert "there is no service yet." in infra.refused("report.sh")


@pytest.mark.parametrize(
    "script", ["add-key.sh", "bump.sh", "deploy.sh", "etcd-secrets.sh", "integration-test.sh", "report.sh"]
)
def test_each_script_helps(script: str, infra: Infra) -> None:
    """It says what it does and how it is called, from any folder, and does nothing."""
    for flag in ("-h", "--help"):
        told = infra.done(script, flag)
        assert f"  infra/{script}" in told
        assert "shellcheck" not in told
    assert infra.proxy.actions == []
