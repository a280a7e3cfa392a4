"""The scenes with compute = "ec2": instances in an Auto Scaling Group, registered in a real etcd."""

import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial

from rehearsal import scenes
from rehearsal.found import PATIENCE_SECONDS, Discovery
from rehearsal.journal import Entry
from rehearsal.load import tally
from rehearsal.members import CLIENT_PORT
from rehearsal.scenes import Phase, Rehearsal
from rehearsal.versions import fail_to_start

BAD_RELEASE_MINUTES = "1"  # that deploy.sh is given: the refresh itself would go on
ETCD_GONE_SECONDS = 20.0  # longer than the lease
ALARM = "hello-latency"  # one of those that infra/ has a refresh look at
MORE = 4  # instances
SCALE_SECONDS = 30


def build(play: Rehearsal) -> None:
    """Apply infra/, and make etcd's secrets."""
    scenes.build(play)
    play.console.must("keys", "./etcd-secrets.sh")


def first_release(play: Rehearsal) -> None:
    """Release a first version; from then on all that serve have to be in etcd."""
    scenes.first_release(play)
    members = play.journal.members()
    authority = play.folder / "etcd-ca.pem"
    authority.write_text(play.console.secret("etcd_ca_secret"))
    play.discovery = Discovery(
        play.folder / "builds" / play.first / "src",
        {
            "HELLO_ETCD": ",".join(f"https://{one['address']}:{CLIENT_PORT}" for one in members),
            "HELLO_ETCD_CA": str(authority),
            "HELLO_ETCD_USER": "hello",
            "HELLO_ETCD_PASSWORD": play.console.secret("etcd_password_secret"),
        },
        play.journal,
    )
    phase = play.phases[-1]
    play.see(phase)
    phase.seen.append(f"{len(play.discovery.addresses())} instances in an etcd of {len(members)} members")


def bad_release(play: Rehearsal) -> None:
    """Release a version that never becomes healthy: the refresh gets nowhere, and the action gives up."""
    bad = play.versions.make("A version that does not start", fail_to_start)
    with play.phase(f"bad release: --minutes {BAD_RELEASE_MINUTES}") as phase:
        play.rest()
        play.console.publish(bad)
        minutes = ("--minutes", BAD_RELEASE_MINUTES)
        status, said = play.console.run("bad-release", "./deploy.sh", "--yes", *minutes)
        phase.seen.append(f"exit status {status}")
        phase.seen += re.findall(r"the instance refresh was not done.*", said)[:1]
        if status == 0:
            phase.problems.append("deploy.sh says that all is well")
        for reason in ("and is cancelled: InProgress", "ELB system health check failure"):
            if reason not in said:
                phase.problems.append(f"deploy.sh does not say {reason!r}: see bad-release.log")
        failed = [one for one in play.journal.tasks().values() if one["commit"] == bad]
        phase.seen.append(f"{len(failed)} instances of it were launched")
        if any(one["health"] == "healthy" for one in failed):
            phase.problems.append("an instance of it served")
        play.rest()
        play.see(phase)


def alarm(play: Rehearsal) -> None:
    """Have an alarm go off while new instances warm up: the refresh ends, and those that serve stay."""
    new = play.versions.make("A version that answers slowly, as an alarm says")
    with play.phase("an alarm goes off in a release") as phase:
        play.rest()
        play.console.publish(new)
        with _once_serving(play, new, lambda: _set_alarm(play, "ALARM")):
            status, said = play.console.run("alarm", "./deploy.sh", "--yes")
        _set_alarm(play, "OK")
        phase.seen.append(f"exit status {status}")
        ended = re.findall(r"the instance refresh has ended as Failed: .*", said)
        phase.seen += ended[:1]
        if status == 0 or not ended or ALARM not in ended[0]:
            phase.problems.append("deploy.sh does not say that an alarm ended the refresh: see alarm.log")
        play.rest()
        play.see(phase)


def rollback(play: Rehearsal) -> None:
    """Go back to the first version by its commit."""
    with play.phase("rollback: ./deploy.sh OLD_SHA") as phase:
        play.rest()
        said = play.console.must("rollback", "./deploy.sh", play.first, "--yes")
        phase.seen += re.findall(r"^Plan: .*", said, re.MULTILINE)
        play.runs = play.first
        play.rest()
        play.see(phase)


def killed(play: Rehearsal) -> None:
    """Kill the service on an instance with -9: systemd starts it again."""
    with play.phase("the service of one is killed with -9") as phase:
        play.rest()
        one, *_ = before = play.journal.healthy()
        moment = time.monotonic()
        os.kill(one["pid"], signal.SIGKILL)
        play.journal.wait(lambda: play.journal.tasks()[one["id"]]["pid"] != one["pid"], "its start")
        play.journal.wait(lambda: _answers(one), "its answer")
        back = time.monotonic()
        phase.seen.append(f"answers again after {back - moment:.1f} s")
        play.journal.wait(lambda: len(play.journal.healthy()) == len(before), "as many as before")
        play.rest()
        play.see(phase)
        if one["id"] not in {other["id"] for other in play.journal.healthy()}:
            phase.problems.append("the instance was replaced")
        _allow(play, phase, one["id"], moment, back)


def lost(play: Rehearsal) -> None:
    """Have a machine gone at once: the load balancer notices, and the group replaces it."""
    with play.phase("a machine is gone") as phase:
        play.rest()
        one, *_ = before = play.journal.healthy()
        moment = time.monotonic()
        play.console.aws("ec2", "terminate-instances", "--instance-ids", one["id"])
        play.journal.wait(lambda: play.journal.tasks()[one["id"]]["health"] != "healthy", "a failed check")
        noticed = time.monotonic()
        phase.seen.append(f"out of the load balancer after {noticed - moment:.1f} s")
        play.journal.wait(lambda: len(play.journal.healthy()) == len(before), "the one that replaces it")
        phase.seen.append(f"replaced after {time.monotonic() - moment:.1f} s")
        play.rest()
        play.see(phase)
        phase.seen.append(f"out of etcd after at most {time.monotonic() - moment:.1f} s")
        _allow(play, phase, one["id"], moment, noticed)


def etcd_gone(play: Rehearsal) -> None:
    """Freeze all members of etcd for longer than the lease: the service goes on, and registers again."""
    with play.phase("etcd is gone for a while") as phase:
        play.rest()
        before = play.journal.healthy()
        logs = [_Log(play, one) for one in before]
        members = [one["pid"] for one in play.journal.members()]
        for pid in members:
            os.kill(pid, signal.SIGSTOP)
        try:
            time.sleep(ETCD_GONE_SECONDS)
        finally:
            for pid in members:
                os.kill(pid, signal.SIGCONT)
        back = time.monotonic()
        noticed = sum(log.has("etcd does not take the registration") for log in logs)
        phase.seen.append(f"{noticed} instances said that it is gone")
        if noticed != len(before):
            phase.problems.append("an instance did not notice")
        registered = _within(PATIENCE_SECONDS, lambda: all(log.has('"registered"') for log in logs))
        phase.seen.append(f"all registered again {time.monotonic() - back:.1f} s after it was back")
        if not registered:
            phase.problems.append("an instance did not register again")
        play.rest()
        if {one["id"] for one in play.journal.healthy()} != {one["id"] for one in before}:
            phase.problems.append("instances were replaced")
        play.see(phase)


def scaled(play: Rehearsal) -> None:
    """Have more instances, and then as many as before."""
    with play.phase("more instances, and fewer") as phase:
        play.rest()
        before = len(play.journal.healthy())
        for count in (MORE, before):
            group = play.console.must("outputs", "terraform", "output", "-raw", "service")
            wanted = ("--auto-scaling-group-name", group, "--desired-capacity", str(count))
            begin = time.monotonic()
            play.console.aws("autoscaling", "set-desired-capacity", *wanted)
            if not _within(SCALE_SECONDS, partial(_serve, play, count)):
                phase.problems.append(f"{len(play.journal.healthy())} serve, and not {count}")
            play.see(phase)
            phase.seen.append(f"{count} serve and are in etcd after {time.monotonic() - begin:.1f} s")
        play.rest()


class _Log:
    """What an instance writes from now on."""

    def __init__(self, play: Rehearsal, instance: Entry) -> None:
        self._path = play.folder / instance["id"] / "log"
        self._begin = self._path.stat().st_size

    def has(self, text: str) -> bool:
        return text.encode() in self._path.read_bytes()[self._begin :]


def _within(seconds: float, condition: Callable[[], bool]) -> bool:
    """Wait until a condition holds; return whether it does within the time."""
    end = time.monotonic() + seconds
    while not (holds := condition()) and time.monotonic() < end:
        time.sleep(0.1)
    return holds


@contextmanager
def _once_serving(play: Rehearsal, commit: str, do: Callable[[], None]) -> Iterator[None]:
    """Do something once an instance of a commit is healthy, while a command of the console runs."""
    before, done = play.console.check, False

    def check() -> None:
        nonlocal done
        before()
        if not done and any(one["commit"] == commit for one in play.journal.healthy()):
            done = True
            do()

    play.console.check = check
    try:
        yield
    finally:
        play.console.check = before


def _serve(play: Rehearsal, count: int) -> bool:
    return len(play.journal.healthy()) == count


def _set_alarm(play: Rehearsal, state: str) -> None:
    told = ("--alarm-name", ALARM, "--state-value", state, "--state-reason", "The rehearsal says so")
    play.console.aws("cloudwatch", "set-alarm-state", *told)


def _answers(instance: Entry) -> bool:
    with suppress(OSError):
        return scenes.health_status(instance) == 200
    return False


def _allow(play: Rehearsal, phase: Phase, instance: str, moment: float, noticed: float) -> None:
    """Allow the requests to fail that were sent to an instance from a moment until it was noticed."""
    failures = tally(play.requests(phase), play.journal.commits()).failures
    early, late = moment - scenes.NOTICE_SECONDS, noticed + scenes.NOTICE_SECONDS
    others = [one for one in failures if one.task not in {instance, ""} or not early <= one.at <= late]
    phase.allowed = len(failures)
    if failures:
        phase.seen.append(f"{len(failures)} failed that were sent to it until then")
    if others:
        phase.problems.append(f"{len(others)} requests failed that had nothing to do with it")


SCENES: dict[str, Callable[[Rehearsal], None]] = {
    "good": scenes.good_release,
    "bad": bad_release,
    "alarm": alarm,
    "rollback": rollback,
    "kill": killed,
    "lost": lost,
    "etcd": etcd_gone,
    "store": scenes.store_gone,
    "scale": scaled,
}
SHORT = ("good", "lost", "etcd")
