"""The scenes: what is played on the stage once the infrastructure stands, and what has to be seen in each."""

import http.client
import os
import re
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from rehearsal.aws import Console, Server
from rehearsal.found import Discovery
from rehearsal.journal import Entry, Journal
from rehearsal.load import Load, Request, Tally, tally
from rehearsal.tasks import PORT
from rehearsal.versions import Versions, listen_elsewhere

AROUND_SECONDS = 2.0  # of load before and after what happens
GONE_SECONDS = 6.0
RECOVERY_SECONDS = 10.0
NOTICE_SECONDS = 2.0  # that requests may fail for on a task that was killed


@dataclass
class Phase:
    """A part of the rehearsal: when it was, what was seen, and what should not have been."""

    name: str
    begin: float
    end: float = 0
    seen: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    tally: Tally | None = None
    allowed: int = 0  # failures that are the point of it


@dataclass
class Rehearsal:
    """What the scenes act on."""

    folder: Path
    console: Console
    store: Server
    journal: Journal
    versions: Versions
    address: str
    speed: float
    say: Callable[[str], None]
    phases: list[Phase] = field(default_factory=list)
    load: Load | None = None
    first: str = ""  # commits
    runs: str = ""
    discovery: Discovery | None = None

    @contextmanager
    def phase(self, name: str) -> Iterator[Phase]:
        """Play a part of it."""
        self.say(name)
        phase = Phase(name, time.monotonic())
        self.phases.append(phase)
        yield phase
        phase.end = time.monotonic()

    def count(self) -> None:
        """Count the requests of each phase; those that failed and may not have are problems."""
        commits = self.journal.commits()
        for phase in self.phases:
            if self.load is None or not (requests := self.requests(phase)):
                continue
            phase.tally = tally(requests, commits)
            if len(phase.tally.failures) > phase.allowed:
                phase.problems.append(f"failed requests: {phase.tally.errors()}")

    def requests(self, phase: Phase) -> list[Request]:
        """Return the requests that were due in a phase."""
        requests = self.load.requests if self.load is not None else []
        return [request for request in requests if phase.begin <= request.at < (phase.end or request.at + 1)]

    def rest(self) -> None:
        """Let the load go on for a while."""
        time.sleep(AROUND_SECONDS)

    def see(self, phase: Phase) -> None:
        """See that what is to run answers all requests, and all of it is in etcd where there is one."""
        commits, desired = [task["commit"] for task in self.journal.healthy()], self.journal.desired()
        if commits != [self.runs] * desired:
            phase.problems.append(f"{commits} run, and not {desired} of {self.runs}")
        if self.discovery is not None:
            self.discovery.see(phase.problems)


def build(play: Rehearsal) -> None:
    """Apply infra/ as it is, with no version yet: all but the service."""
    with play.phase("terraform init") as phase:
        infra = Path(__file__).parent.parent / "infra"
        kept = shutil.ignore_patterns(".terraform", "*.tfstate*", "*.tfvars", "*.tfvars.json", "backend.tf")
        shutil.copytree(infra, play.console.infra, ignore=kept)
        play.console.initialise()
    with play.phase("terraform apply, nothing there yet") as phase:
        said = play.console.must("terraform", "terraform", "apply", "-input=false", "-auto-approve")
        phase.seen += re.findall(r"^Apply complete! .*", said, re.MULTILINE)
        play.console.must("keys", "./add-key.sh", "integration-test", "read,write", "--integration-test")


def first_release(play: Rehearsal) -> None:
    """Release a first version, and ask it by the commands that docs/rehearsal.md shows."""
    play.first = play.versions.make("The code as it is")
    with play.phase("first release: ./deploy.sh") as phase:
        play.console.publish(play.first)
        play.console.must("first-release", "./deploy.sh", "--yes")
        play.runs = play.first
        name = play.console.must("curl", "sh", "-c", "terraform state show aws_lb.alb | grep dns_name")
        dns_name = name.split('"')[1]
        asking = f"curl {dns_name}:5000/ | jq"
        answer = play.console.must("curl", "bash", "-o", "pipefail", "-c", asking)
        phase.seen.append(f"{asking}: {' '.join(answer[answer.index('{') :].split())[:40]}…")
        if play.first not in answer:
            phase.problems.append(f"`curl <dns_name>:5000/ | jq` answers {answer}")
    play.load = Load(play.address, play.console.secret("integration_test_secret"))
    play.load.start()


def good_release(play: Rehearsal) -> None:
    """Release a new version."""
    new = play.versions.make("A version that is right")
    with play.phase("good release: ./deploy.sh") as phase:
        play.rest()
        play.console.publish(new)
        said = play.console.must("good-release", "./deploy.sh", "--yes")
        phase.seen += re.findall(r"^Plan: .*", said, re.MULTILINE)
        play.runs = new
        play.rest()
        play.see(phase)


def bad_release(play: Rehearsal) -> None:
    """Release a version that never becomes healthy: it is rolled back, and the action fails and says why."""
    bad = play.versions.make("A version that listens elsewhere", listen_elsewhere)
    with play.phase("bad release: ./deploy.sh") as phase:
        play.rest()
        play.console.publish(bad)
        status, said = play.console.run("bad-release", "./deploy.sh", "--yes")
        phase.seen.append(f"exit status {status}")
        phase.seen += re.findall(r"ECS rolled back|it was rolled back|failed ELB health checks", said)[:1]
        if status == 0:
            phase.problems.append("deploy.sh says that all is well")
        for reason in ("rolled back", "Task failed ELB health checks"):
            if reason not in said:
                phase.problems.append(f"deploy.sh does not say {reason!r}: see bad-release.log")
        failed = [d for d in play.journal.deployments(phase.begin) if d["state"] == "FAILED"]
        phase.seen += [f"{one['failed']} tasks of it failed" for one in failed]
        if [one["commit"] for one in failed] != [bad]:
            phase.problems.append("the circuit breaker did not end the deployment")
        play.rest()
        play.see(phase)


def rollback(play: Rehearsal) -> None:
    """Go back to the first version by hand, with the three commands."""
    with play.phase("rollback: ./bump.sh OLD_SHA") as phase:
        play.rest()
        play.console.must("rollback", "./bump.sh", play.first)
        said = play.console.must("rollback", "terraform", "apply", "-input=false", "-auto-approve")
        phase.seen += re.findall(r"^Plan: .*", said, re.MULTILINE)
        play.console.must("rollback", "./integration-test.sh")
        play.runs = play.first
        play.rest()
        play.see(phase)


def killed(play: Rehearsal) -> None:
    """Kill a task with -9: it is replaced. What was on its way to it fails, and nothing else."""
    with play.phase("a task is killed with -9") as phase:
        play.rest()
        task, *_ = before = play.journal.healthy()
        moment = time.monotonic()
        os.kill(task["pid"], signal.SIGKILL)
        play.journal.wait(lambda: play.journal.tasks()[task["id"]]["status"] == "STOPPED", "its end")
        play.journal.wait(lambda: len(play.journal.healthy()) == len(before), "the task that replaces it")
        phase.seen.append(f"replaced after {time.monotonic() - moment:.1f} s")
        play.rest()
        play.see(phase)
        failures = tally(play.requests(phase), play.journal.commits()).failures
        others = [one for one in failures if one.task not in {task["id"], ""} or not _near(one, moment)]
        phase.allowed = len(failures)
        if failures:
            phase.seen.append(f"{len(failures)} failed that were on their way to it")
        if others:
            phase.problems.append(f"{len(others)} requests failed that had nothing to do with it")


def store_gone(play: Rehearsal) -> None:
    """Take the store away: requests that need it are told when to come back, and no task is touched."""
    with play.phase("the store is gone for a while") as phase:
        play.rest()
        before = {task["id"] for task in play.journal.healthy()}
        gone = time.monotonic()
        play.store.pause()
        try:
            while time.monotonic() < gone + GONE_SECONDS:
                phase.problems += [
                    f"/hc answers {s}" for t in play.journal.healthy() if (s := health_status(t)) != 200
                ]
                time.sleep(0.5)
        finally:
            play.store.resume()
        back = time.monotonic()
        play.journal.wait(lambda: _stored_since(play, back), "an answer by the store", RECOVERY_SECONDS)
        phase.seen.append(f"back after {time.monotonic() - back:.1f} s")
        play.rest()
        if {task["id"] for task in play.journal.healthy()} != before:
            phase.problems.append("tasks were replaced")
        failures = tally(play.requests(phase), play.journal.commits()).failures
        told = [one for one in failures if one.stores and one.error == "503" and one.retry_after]
        phase.allowed = len(told)
        phase.seen.append(f"{len(told)} requests that need it got 503 with Retry-After")
        if not told:
            phase.problems.append("no request noticed")
        play.see(phase)


def _near(request: Request, moment: float) -> bool:
    return moment - NOTICE_SECONDS <= request.at <= moment + NOTICE_SECONDS


def _stored_since(play: Rehearsal, moment: float) -> bool:
    requests = play.load.requests if play.load is not None else []
    return any(one.stores and not one.error and one.at >= moment for one in requests[-1000:])


def health_status(task: Entry) -> int:
    """Return the status of what a task answers to its health check."""
    connection = http.client.HTTPConnection(task["address"], PORT, timeout=5)
    try:
        connection.request("GET", "/hc")
        return connection.getresponse().status
    finally:
        connection.close()


SCENES: dict[str, Callable[[Rehearsal], None]] = {
    "good": good_release,
    "bad": bad_release,
    "rollback": rollback,
    "kill": killed,
    "store": store_gone,
}
SHORT = ("good", "kill", "store")
