"""The image: built by `make image`, run as docs/image.md says to, and stopped under load."""

import asyncio
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.containers import HARDENED, Container, Engine, commit_all
from tests.support.environment import ROOT, until
from tests.support.service import request

pytestmark = pytest.mark.xdist_group("containers")

FIRST_ANSWER_SECONDS = 2.0
EARLY_STOPS = 5
TRIES = 3  # the best counts: other things go on on a machine that runs tests
SIGTERM_BIT = 1 << 14
STEPS = ["draining", "no longer listening", "stopped"]
CALLERS = 16
BODY = b'{"dateOfBirth":"2000-02-29"}'
BODY_SECONDS = 0.3  # until it comes, so that at any time nearly all callers have a request under way
SLOW = (
    b"PUT /hello/Load HTTP/1.1\r\nHost: hello\r\nConnection: close\r\nExpect: 100-continue\r\n"
    b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(BODY)
)
FINE = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 "
# Nothing of these is of use to a service, and each is to somebody who has broken in.
BUILD_TOOLS = (
    r"/(gcc|cc|g\+\+|ld|as|make|git|uv|pip[0-9.]*|flit_core|ensurepip|setuptools|wheel|pytest|mypy|tests)$"
)


@pytest.fixture(scope="module")
def running(engine: Engine, image: str) -> Iterator[Container]:
    """A container as docs/image.md says to run it."""
    with engine.container(image, open="true") as container:
        container.wait_until_served()
        yield container


@pytest.fixture(scope="module")
def files(engine: Engine, image: str) -> list[str]:
    """The paths of all that is in the image."""
    find = (
        "find",
        "/",
        "-xdev",
        "-not",
        "-path",
        "/proc/*",
        "-not",
        "-path",
        "/sys/*",
        "-not",
        "-path",
        "/dev/*",
    )
    run = ("podman", "run", "--rm", "--network=none", "--user=0", f"--entrypoint={find[0]}")
    return engine.output(*run, image, *find[1:]).splitlines()


def test_the_image_tells_its_commit(engine: Engine, repository: Path, image: str) -> None:
    """Tag, label and variable are the full commit; the user is not root, the entry no shell."""
    commit, created = engine.output("git", "log", "-1", "--format=%H %cI", folder=repository).split()
    assert image == f"hello:{commit}"
    told = engine.inspect(image)
    labels = told["Labels"]
    assert labels["org.opencontainers.image.revision"] == commit
    assert labels["org.opencontainers.image.created"] == created
    assert labels["org.opencontainers.image.title"] == "hello"
    config = told["Config"]
    assert config["User"] == "65532:65532"
    assert config["StopSignal"] in {"SIGTERM", "15"}
    assert config["Entrypoint"] == ["/opt/app/bin/hello"]
    assert config["Cmd"] == ["serve"]
    assert set(config["ExposedPorts"]) == {"5000/tcp"}
    assert {"HELLO_HOST=0.0.0.0", "HELLO_DRAIN_SECONDS=15", f"HELLO_COMMIT={commit}"} <= set(config["Env"])


def test_the_service_of_the_image_fulfils_the_contract(running: Container) -> None:
    """The suite that knows nothing of the code passes against the container."""
    suite = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/e2e", "--url", running.url],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert suite.returncode == 0, suite.stdout[-5000:]
    assert re.search(r"^\d{2,} passed", suite.stdout, re.MULTILINE), suite.stdout[-200:]


def test_the_container_has_no_rights(running: Container, repository: Path) -> None:
    """Its user is not root, its root can't be written, and there is no capability to win back."""
    status = running.status()
    assert set(status["Uid"].split() + status["Gid"].split()) == {"65532"}
    assert {int(status[f"Cap{kind}"], 16) for kind in ("Inh", "Prm", "Eff", "Bnd", "Amb")} == {0}
    assert status["NoNewPrivs"] == "1"
    root = Path(f"/proc/{running.state()['Pid']}/root")
    for folder in ("", "opt/app", "var"):
        with pytest.raises(OSError, match="Read-only file system"):
            (root / folder / "new").touch()
    commit = running.engine.output("git", "rev-parse", "HEAD", folder=repository)
    assert request(running.url, "GET", "/version").json()["commit"] == commit


def test_nothing_to_build_with_is_left(files: list[str]) -> None:
    """No compiler, no pip, no tests, no source that was copied for the build."""
    assert len(files) > 1000
    assert [path for path in files if re.search(BUILD_TOOLS, path)] == []
    assert not [path for path in files if path.startswith("/build") or path.endswith((".c", ".txt.in"))]


def test_the_code_is_compiled_beforehand(files: list[str]) -> None:
    """Each module in /opt has its bytecode: what can't write would compile it at each start."""
    sources = [path for path in files if path.startswith("/opt/") and path.endswith(".py")]
    compiled = {path for path in files if path.endswith(".pyc")}
    cached = re.compile(r"([^/]+)\.py$")
    tag = "cpython-311"  # the base of the tests is Debian 12's
    assert len(sources) > 500
    assert [path for path in sources if cached.sub(rf"__pycache__/\1.{tag}.pyc", path) not in compiled] == []


def test_the_first_answer_comes_within_two_seconds(engine: Engine, image: str) -> None:
    """From the start of the process to its first 200, less its waits for a busy processor."""
    took = []
    for _ in range(TRIES):
        with engine.container(image, open="true") as container:
            container.wait_until_served()
            process = Path(f"/proc/{container.state()['Pid']}")
            began = int((process / "stat").read_text().rpartition(")")[2].split()[19])
            age = time.clock_gettime(time.CLOCK_BOOTTIME) - began / os.sysconf("SC_CLK_TCK")
            waited = int((process / "schedstat").read_text().split()[1]) / 1e9
        took.append(age - waited)
    assert min(took) < FIRST_ANSWER_SECONDS, took


async def load(port: int, answers: list[bytes]) -> list[str]:
    """Register persons, with bodies that take a while, until nobody listens; return what failed.

    A request that is told to continue is under way, and has to be answered. One that is told nothing may be
    its caller's last: then it came just when the listening ended.
    """
    failures: list[str] = []

    async def call() -> bytes:
        """Return what is answered, or nothing; nobody who listens is an error."""
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        answer = b""
        try:
            writer.write(SLOW)
            answer = await reader.readuntil(b"\r\n\r\n")
            await asyncio.sleep(BODY_SECONDS)
            writer.write(BODY)
            answer += await reader.read()
        except (ConnectionError, asyncio.IncompleteReadError) as error:
            return answer and answer + repr(error).encode()
        finally:
            writer.close()
        return answer

    async def caller(number: int) -> None:
        await asyncio.sleep(number * BODY_SECONDS / CALLERS)
        answer = FINE
        while True:
            try:
                following = await call()
            except ConnectionRefusedError:
                return
            if not answer:
                failures.append("closed without an answer, and yet it listened")
            answer = following
            if answer.startswith(FINE):
                answers.append(answer)
            elif answer:
                failures.append(answer.decode())

    async with asyncio.timeout(60):
        await asyncio.gather(*(caller(number) for number in range(CALLERS)))
    return failures


def test_a_stop_under_load_loses_no_request(engine: Engine, image: str) -> None:
    """With a load that outlasts the drain each request under way is answered; the exit status is 0."""
    answers: list[bytes] = []
    with (
        ThreadPoolExecutor(1) as pool,
        engine.container(image, open="true", drain_seconds="2") as container,
    ):
        container.wait_until_served()
        port = int(container.url.rpartition(":")[2])
        loading = pool.submit(lambda: asyncio.run(load(port, answers)))
        until(lambda: len(answers) > CALLERS, "answers")
        engine.output("podman", "stop", "--time=60", container.id)
        assert loading.result(60) == []
        assert container.wait() == 0
        log = container.log()
    messages = [json.loads(line) for line in log.splitlines()]
    assert [one["message"] for one in messages if one["message"] in STEPS] == STEPS
    ended = next(one for one in messages if one["message"] == "no longer listening")
    assert ended["in_flight"] > 0, "the load did not outlast the drain"
    assert len(answers) > 3 * CALLERS


def test_a_stop_during_the_start_ends_it_at_once(engine: Engine, image: str) -> None:
    """PID 1 handles SIGTERM before it loads its modules: else the kernel would drop it."""
    for _ in range(EARLY_STOPS):
        with engine.container(image, open="true") as container:
            until(lambda: int(container.status()["SigCgt"], 16) & SIGTERM_BIT, "a handler of SIGTERM")
            container.kill("TERM")
            status, log = container.wait(), container.log()
        if not log:  # else a busy machine was late with the signal, and it had started
            assert status == 128 + 15
            return
    pytest.fail("the signal never came while modules load")


def test_several_workers_need_a_folder_to_write_to(engine: Engine, image: str) -> None:
    """They have it in the image's volume at /tmp; where that is left out, hello says what to do."""
    elsewhere = (*HARDENED, "--workdir=/")
    variables = {"open": "true", "workers": "2", "store": "sqlite:////data/hello.db"}
    with engine.container(image, options=(*elsewhere, "--image-volume=ignore"), **variables) as container:
        assert container.wait() == 2
        assert "Traceback" not in container.log()
        assert "--workers above 1 needs a folder" in container.log()
    with engine.container(image, options=elsewhere, **variables) as container:
        container.wait_until_served()
        container.kill("TERM")
        assert container.wait() == 0


def test_other_commands_run_in_the_image(engine: Engine, image: str) -> None:
    """What stands after the image's name is the command, in place of `serve`."""
    run = ("podman", "run", "--rm", "--network=none", *HARDENED, image)
    assert re.fullmatch(r"\d+\.\d+\.\d+", engine.output(*run, "--version"))


@pytest.mark.full
def test_a_new_commit_keeps_the_layers_of_the_dependencies(
    engine: Engine, repository: Path, image: str, tmp_path: Path
) -> None:
    """Only the layer with hello's own code is built, and has to be pushed, anew."""
    later = tmp_path / "later"
    engine.output("git", "clone", "--quiet", repository, later)
    (later / "src" / "hello" / "new.py").write_text("NEW = True\n")
    commit_all(later)
    done = engine.run("make", "image", folder=later)
    assert done.returncode == 0, done.stderr
    assert "Successfully installed hello-" in done.stderr
    assert "Downloading" not in done.stderr
    names = (image, done.stdout.splitlines()[-1])
    before, after = (engine.inspect(name)["RootFS"]["Layers"] for name in names)
    assert len(before) == len(after)
    assert sum(one != other for one, other in zip(before, after, strict=True)) == 1
