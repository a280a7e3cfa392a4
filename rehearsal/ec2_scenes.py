"""The scenes with compute = "ec2": instances in an Auto Scaling Group, registered in a real etcd."""

import os
import re
import signal
import time
from collections.abc import Callable

from rehearsal import scenes
from rehearsal.found import Discovery
from rehearsal.load import tally
from rehearsal.members import CERTIFICATE, CLIENT_PORT
from rehearsal.scenes import Phase, Rehearsal
from rehearsal.versions import fail_to_start

BAD_RELEASE_MINUTES = "1"  # that deploy.sh is given: the refresh itself would go on
ETCD_GONE_SECONDS = 20.0  # longer than the lease
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
    play.discovery = Discovery(
        play.folder / "builds" / play.first / "src",
        {
            "HELLO_ETCD": ",".join(f"https://{one['address']}:{CLIENT_PORT}" for one in members),
            "HELLO_ETCD_CA": str(play.folder / CERTIFICATE),
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
        one, *_ = play.journal.healthy()
        moment = time.monotonic()
        os.kill(one["pid"], signal.SIGKILL)
        play.journal.wait(lambda: play.journal.tasks()[one["id"]]["pid"] != one["pid"], "its start")
        phase.seen.append(f"started again after {time.monotonic() - moment:.1f} s")
        play.rest()
        play.see(phase)
        if one["id"] not in {other["id"] for other in play.journal.healthy()}:
            phase.problems.append("the instance was replaced")
        _allow(play, phase, one["id"], moment)


def lost(play: Rehearsal) -> None:
    """Have a machine gone at once: the load balancer notices, and the group replaces it."""
    with play.phase("a machine is gone") as phase:
        play.rest()
        one, *_ = before = play.journal.healthy()
        moment = time.monotonic()
        play.console.aws("ec2", "terminate-instances", "--instance-ids", one["id"])
        play.journal.wait(lambda: play.journal.tasks()[one["id"]]["health"] != "healthy", "a failed check")
        phase.seen.append(f"out of the load balancer after {time.monotonic() - moment:.1f} s")
        play.journal.wait(lambda: len(play.journal.healthy()) == len(before), "the one that replaces it")
        phase.seen.append(f"replaced after {time.monotonic() - moment:.1f} s")
        play.rest()
        play.see(phase)
        phase.seen.append(f"out of etcd after at most {time.monotonic() - moment:.1f} s")
        _allow(play, phase, one["id"], moment)


def etcd_gone(play: Rehearsal) -> None:
    """Freeze all members of etcd for longer than the lease: the service goes on, and registers again."""
    with play.phase("etcd is gone for a while") as phase:
        play.rest()
        before = {one["id"] for one in play.journal.healthy()}
        members = [one["pid"] for one in play.journal.members()]
        for pid in members:
            os.kill(pid, signal.SIGSTOP)
        try:
            time.sleep(ETCD_GONE_SECONDS)
        finally:
            for pid in members:
                os.kill(pid, signal.SIGCONT)
        assert play.discovery is not None
        seconds = play.discovery.see(phase.problems)
        phase.seen.append(f"all registered {seconds:.1f} s after it was back")
        play.rest()
        if {one["id"] for one in play.journal.healthy()} != before:
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
            while len(play.journal.healthy()) != count and time.monotonic() < begin + SCALE_SECONDS:
                time.sleep(0.1)
            play.see(phase)
            phase.seen.append(f"{count} serve and are in etcd after {time.monotonic() - begin:.1f} s")
        play.rest()


def _allow(play: Rehearsal, phase: Phase, instance: str, moment: float) -> None:
    """Allow the requests to fail that were on their way to an instance until the load balancer noticed."""
    failures = tally(play.requests(phase), play.journal.commits()).failures
    early = moment - scenes.NOTICE_SECONDS
    others = [one for one in failures if one.task not in {instance, ""} or one.at < early]
    phase.allowed = len(failures)
    if failures:
        phase.seen.append(f"{len(failures)} failed that were on their way to it")
    if others:
        phase.problems.append(f"{len(others)} requests failed that had nothing to do with it")


SCENES: dict[str, Callable[[Rehearsal], None]] = {
    "good": scenes.good_release,
    "bad": bad_release,
    "rollback": rollback,
    "kill": killed,
    "lost": lost,
    "etcd": etcd_gone,
    "store": scenes.store_gone,
    "scale": scaled,
}
SHORT = ("good", "lost", "etcd")
