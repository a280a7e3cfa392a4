"""The rehearsal: a short one is played as a whole, and none leaves a process behind, however it ends."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from rehearsal.__main__ import parse
from rehearsal.controls import CONTROLS, Outcome
from rehearsal.load import Request, tally
from rehearsal.report import Part, all_problems, page
from rehearsal.scenes import Phase
from rehearsal.versions import Versions, fail_to_start, listen_elsewhere
from tests.support.environment import ROOT, free_network, missing, need, until
from tests.support.terraform import PYTHON, initialised

pytestmark = pytest.mark.xdist_group("rehearsal")

NETWORK = free_network()


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment to rehearse in, where all is there that it takes."""
    for command in ("haproxy", "aws", "jq", "curl", "git", "etcd", "openssl"):
        need(command)
    if not PYTHON.exists():
        missing("moto is not installed (make .venv/.stamps/emulators)")
    infra = initialised(tmp_path_factory.mktemp("infra") / "infra")
    return {**os.environ, **infra.environment}


@contextmanager
def rehearsing(
    folder: Path, environment: Mapping[str, str], *options: str
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a rehearsal, whose folder and whose output are in `folder`."""
    command = [sys.executable, "-m", "rehearsal", "--network", NETWORK, *options]  # the last one counts
    with (folder / "out").open("wb") as out, (folder / "err").open("wb") as err:
        process = subprocess.Popen(
            command, cwd=ROOT, env={**environment, "TMPDIR": str(folder)}, stdout=out, stderr=err
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def said(folder: Path) -> str:
    return (folder / "err").read_text()


def running(folder: Path) -> list[str]:
    """Return the commands of all processes that have the folder in their environment, as ours do."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            environment = (process / "environ").read_bytes()
            if any(f"TMPDIR={folder}{end}".encode() in environment for end in "\0/"):
                found.append((process / "cmdline").read_text().replace("\0", " "))
        except OSError:
            continue  # it ended meanwhile, or is another user's
    return found


def all_kinds_run(folder: Path) -> bool:
    """Whether Terraform, the emulators, HAProxy and tasks run."""
    commands = "\n" + "\n".join(running(folder))
    kinds = ("\nterraform apply", "rehearsal.emulator", "rehearsal.stage", "haproxy", "-m hello serve")
    return all(kind in commands for kind in kinds)


def assert_shown(page: str, compute: str) -> None:
    """Check that a release lost no request, and that each control did."""
    assert "All was as it should be." in page
    assert re.search(r"^good release: ./deploy.sh +[\d.]+ s +[\d,]+ +0 +\d+ ms$", page, re.MULTILINE)
    assert "Plan: 1 to add, 1 to change, 1 to destroy." in page
    assert re.search(r"curl hello-1\.\S+\.elb\.amazonaws\.com:5000/ \| jq: \{ \"service\": \"hello\"", page)
    assert re.search(r"^nothing done wrong +[\d.]+ s +[\d,]+ +0 +0$", page, re.MULTILINE)
    for wrong in CONTROLS_THAT_FAIL[compute]:
        assert re.search(rf"^{wrong} +[\d.]+ s +[\d,]+ +[1-9]\d* +[1-9]\d*$", page, re.MULTILINE)


CONTROLS_THAT_FAIL = {
    "fargate": ("SIGTERM before the drain", "no deregistration delay"),
    "ec2": ("no delay, no hook",),
}


@pytest.mark.timeout(600)
def test_a_release_is_rehearsed(tmp_path: Path, environment: Mapping[str, str]) -> None:
    """A release on Fargate without a failed request; its controls fail, and no process is left."""
    with rehearsing(tmp_path, environment, "--short", "--scene", "good") as process:
        assert process.wait(580) == 0, (tmp_path / "out").read_text() + said(tmp_path)
    assert running(tmp_path) == []
    assert list(tmp_path.glob("hello-rehearsal-*")) == []
    assert_shown((tmp_path / "out").read_text(), "fargate")


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory, environment: Mapping[str, str]) -> dict[str, str]:
    """The page of a short rehearsal of each mode; both at once, for they wait more than they work."""
    networks = {compute: free_network() for compute in CONTROLS_THAT_FAIL}
    folders = {compute: tmp_path_factory.mktemp(compute) for compute in networks}
    with ExitStack() as stack:
        playing = {
            compute: stack.enter_context(
                rehearsing(
                    folder, environment, "--short", "--speed", "3",
                    "--compute", compute, "--network", networks[compute],
                )
            )
            for compute, folder in folders.items()
        }  # fmt: skip
        for compute, process in playing.items():
            assert process.wait(880) == 0, (folders[compute] / "out").read_text() + said(folders[compute])
    for folder in folders.values():
        assert running(folder) == []
        assert list(folder.glob("hello-rehearsal-*")) == []
    return {compute: (folder / "out").read_text() for compute, folder in folders.items()}


@pytest.mark.full
@pytest.mark.timeout(900)
@pytest.mark.parametrize("compute", CONTROLS_THAT_FAIL)
def test_short_rehearsal(shown: Mapping[str, str], compute: str) -> None:
    """A release without a failed request; controls fail."""
    assert_shown(shown[compute], compute)


@pytest.mark.full
def test_tasks_are_killed_and_their_store_goes(shown: Mapping[str, str]) -> None:
    """A task is replaced, and a store that is gone costs the requests that need it."""
    assert re.search(r"^    replaced after [\d.]+ s$", shown["fargate"], re.MULTILINE)
    told = r"^    \d+ requests that need it got 503 with Retry-After$"
    assert re.search(told, shown["fargate"], re.MULTILINE)


@pytest.mark.full
def test_instances_are_lost_and_their_etcd_goes(shown: Mapping[str, str]) -> None:
    """They are in a real etcd; a machine that is gone is replaced, and an etcd that is gone costs nothing."""
    page = shown["ec2"]
    assert "2 instances in an etcd of 3 members" in page
    assert re.search(r"^a machine is gone .*\n    out of the load balancer after", page, re.MULTILINE)
    assert re.search(r"^    out of etcd after at most [\d.]+ s$", page, re.MULTILINE)
    assert re.search(r"^etcd is gone for a while +[\d.]+ s +[\d,]+ +0 +\d+ ms$", page, re.MULTILINE)


@pytest.mark.parametrize(
    "number", [signal.SIGKILL, signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.full)]
)
def test_owns_its_processes(tmp_path: Path, environment: Mapping[str, str], number: signal.Signals) -> None:
    """In the middle of it killed, stopped by Ctrl-C or told to end, it leaves no process behind."""
    with rehearsing(tmp_path, environment) as process:
        until(lambda: all_kinds_run(tmp_path) or process.poll() is not None, "all processes", 120)
        assert process.poll() is None, said(tmp_path)
        process.send_signal(number)
        status = process.wait(60)
    until(lambda: not running(tmp_path), f"the end of {running(tmp_path)}")
    if number == signal.SIGKILL:
        assert status == -signal.SIGKILL
        return
    assert status == 130
    assert "nothing is left running" in said(tmp_path)
    assert list(tmp_path.glob("hello-rehearsal-*")) == []


@pytest.mark.parametrize(
    ("compute", "number", "port"), [("fargate", 1, 5000), ("ec2", 7, 5000), ("ec2", 252, 2380)]
)
def test_address_taken(
    tmp_path: Path, environment: Mapping[str, str], compute: str, number: int, port: int
) -> None:
    """An address that is taken is an error, that says what to do."""
    address = f"{NETWORK}.{number}"
    with (
        socket.create_server((address, port)),
        rehearsing(tmp_path, environment, "--compute", compute) as process,
    ):
        assert process.wait(60) == 2
    assert f"{address}:{port} is taken" in said(tmp_path)
    assert "--network" in said(tmp_path)


def test_missing_tools(tmp_path: Path) -> None:
    """What is not installed is named before anything begins."""
    for command in ("git", "curl", "jq"):
        (tmp_path / command).symlink_to(need(command))
    with rehearsing(tmp_path, {"PATH": str(tmp_path)}) as process:
        assert process.wait(60) == 2
    assert said(tmp_path) == "The rehearsal needs what is not here: terraform, haproxy, aws.\n"


def test_bad_version(tmp_path: Path) -> None:
    """The version that is never healthy listens on another port, and is otherwise the same."""
    versions = Versions(tmp_path)
    right, wrong = versions.make("right"), versions.make("wrong", listen_elsewhere)
    name = Path("src", "hello", "settings.py")
    code = (ROOT / name).read_text()
    assert (tmp_path / "builds" / right / name).read_text() == code
    changed = (tmp_path / "builds" / wrong / name).read_text()
    assert changed != code
    assert changed.replace("] = 5001", "] = 5000") == code
    after = versions.make("right again")
    assert (tmp_path / "builds" / after / name).read_text() == code


def test_version_that_does_not_start(tmp_path: Path) -> None:
    """It ends with an error before it listens."""
    broken = Versions(tmp_path).make("broken", fail_to_start)
    code = {"PYTHONPATH": str(tmp_path / "builds" / broken / "src")}
    command = [sys.executable, "-m", "hello", "serve"]
    done = subprocess.run(command, env=code, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "what_was_not_packed" in done.stderr


def answered(error: str = "", commit: str = "abc", seconds: float = 0.01, *, slow: bool = False) -> Request:
    return Request(time.monotonic(), seconds, "GET /version", slow, "task", commit, error)


CUT = answered("cut off before the answer")
REFUSED = answered("503")
LATER = replace(answered("503"), retry_after=True)  # hello's own


@pytest.mark.parametrize(
    ("failures", "shows"),
    [
        ([], False),
        ([CUT], True),
        ([REFUSED], True),
        ([REFUSED, answered("no answer in 10 s")], True),
        ([answered("no answer in 10 s")], False),
        ([answered("500")], False),
        ([LATER], False),
        ([answered(commit="another")], False),
        ([replace(CUT, at=0)], False),
        ([CUT, replace(CUT, at=0)], False),
    ],
)
def test_control_that_shows_nothing(failures: list[Request], shows: bool) -> None:
    """A control in which the release cuts off no request fails the rehearsal, whatever else failed in it; the
    sound one fails it by any failure."""
    result = tally([answered(), *failures], {"task": "abc"})
    for control in [one for compute in CONTROLS.values() for one in compute]:
        parts = [Part(control.compute, [], [Outcome(control, result, 1, 1)])]
        problems, shown = all_problems(parts), page(parts, 5)
        if (shows and control.fails) or not (failures or control.fails):
            assert problems == []
            assert "NOT AS IT MUST BE" not in shown
        else:
            assert control.name in problems[0]
            assert "NOT AS IT MUST BE" in shown


def test_failures_are_told() -> None:
    """What failed is on the page, and what should not have been there."""
    phase = Phase("a scene", 0, 10, ["something"], ["failed requests: GET /version: 503"])
    phase.tally = tally([answered(), answered("503"), answered(commit="other")], {"task": "abc"})
    shown = page([Part("fargate", [phase], []), Part("ec2", [phase], [])], 1)
    assert "at real time" in shown
    assert "6 requests, 4 failed: 0 as they had to, 4 others." in shown
    for name in ("Fargate", "EC2"):
        assert re.search(rf"^scene, on {name} ", shown, re.MULTILINE)
        assert f"WRONG: {name}: a scene: failed requests: GET /version: 503" in shown


def test_what_is_chosen(capsys: pytest.CaptureFixture[str]) -> None:
    """Fargate, EC2, or both in turn; a scene that nobody of them has is an error."""
    assert parse([]).modes == ["fargate"]
    assert parse(["--compute", "ec2"]).modes == ["ec2"]
    assert parse(["--compute", "both", "--scene", "etcd"]).modes == ["fargate", "ec2"]
    with pytest.raises(SystemExit):
        parse(["--scene", "etcd"])
    assert "fargate has no scene etcd; it has good, bad" in capsys.readouterr().err


def test_p99_is_of_quick_requests() -> None:
    """Requests that are slow by themselves are no part of it."""
    requests = [answered(seconds=n / 1000) for n in range(1, 101)] + [answered(seconds=1.5, slow=True)] * 10
    assert tally(requests, {"task": "abc"}).p99 == pytest.approx(0.1)
