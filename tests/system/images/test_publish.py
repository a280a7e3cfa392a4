"""`make image` and `make publish`: what they refuse, and what is in a registry after them."""

import hashlib
import json
import os
import platform
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from hello import __version__
from tests.support.containers import Engine, commit_all, registry
from tests.support.environment import ROOT, need
from tests.support.service import request

pytestmark = pytest.mark.xdist_group("containers")

INDEX = "application/vnd.oci.image.index.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
ACCEPT = {"Accept": f"{INDEX}, {MANIFEST}, application/vnd.docker.distribution.manifest.list.v2+json"}
ECR = "123456789012.dkr.ecr.eu-west-1.amazonaws.com"
PASSWORD = "password-of-ecr"  # pragma: allowlist secret


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Host and port of a registry."""
    with registry(tmp_path_factory.mktemp("registry")) as address:
        yield address


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A clean repository with nothing but what publishes, for what is refused before anything is built."""
    shutil.copytree(ROOT / "image", tmp_path / "small" / "image")
    (tmp_path / "small" / "infra").mkdir()
    for name in ("Makefile", ".gitignore", "infra/common.sh"):
        shutil.copy(ROOT / name, tmp_path / "small" / name)
    Engine(tmp_path / "engine").output(need("git"), "init", "--quiet", folder=tmp_path / "small")
    commit_all(tmp_path / "small")
    return tmp_path / "small"


def stand_in(tool: Path, script: str) -> None:
    """Write a shell script that stands for a tool."""
    tool.parent.mkdir(exist_ok=True)
    tool.write_text(f"#!/bin/sh\n{script}\n")
    tool.chmod(0o755)


def only(folder: Path, *tools: str) -> Path:
    """Make a folder with these tools alone, to be the PATH."""
    folder.mkdir()
    for tool in ("bash", "dirname", "sh", *tools):
        (folder / tool).symlink_to(need(tool))
    return folder


def refused(target: str, folder: Path, **environment: str) -> str:
    """Run a make target that must fail, and say why; return what it says."""
    done = Engine(folder.parent / "engine").run("make", target, folder=folder, environment=environment)
    assert done.returncode == 2, done.stdout
    assert done.stdout == ""
    return done.stderr


def head(destination: str, tag: str) -> tuple[int, str]:
    """Return status and digest that the registry answers for a tag."""
    address, _, name = destination.partition("/")
    answer = request(f"http://{address}", "HEAD", f"/v2/{name}/manifests/{tag}", headers=ACCEPT)
    return answer.status, answer.headers.get("Docker-Content-Digest", "")


def test_dependabot_sees_the_base() -> None:
    """The base is pinned by digest, and Dependabot, which reads no ARG, finds the same one in a FROM."""
    text = (ROOT / "image" / "Dockerfile").read_text()
    base, proposed = re.findall(r"^(?:ARG BASE=|FROM )(docker\.io/\S+)", text, re.MULTILINE)
    assert base == proposed
    assert re.fullmatch(r"docker\.io/library/python:3\.\d+\.\d+-slim-\w+@sha256:[0-9a-f]{64}", base)


# What is refused


@pytest.mark.parametrize("target", ["image", "publish"])
def test_a_tree_with_changes_is_refused(small: Path, target: str) -> None:
    """Changed and untracked files are listed, in folders too: no commit has them."""
    (small / "new").mkdir()
    (small / "new" / "file.py").touch()
    with (small / "image" / "Dockerfile").open("a") as file:
        file.write("# changed\n")
    said = refused(target, small)
    assert "The tree is not what commit " in said
    assert " M image/Dockerfile\n?? new/file.py\n" in said
    assert "Commit these" in said


def test_a_missing_builder_is_said(small: Path, tmp_path: Path) -> None:
    """Without docker and buildah it says what to install; one that is asked for by name has to be there."""
    tools = only(tmp_path / "bin", "git", "make", "uname")
    said = refused("image", small, PATH=str(tools), BUILDER="")
    assert "apt-get install buildah skopeo" in said
    assert "there is no such command" in refused("image", small, PATH=str(tools), BUILDER="docker")
    assert "it can be docker or buildah" in refused("image", small, BUILDER="kaniko")


def test_what_publishing_takes_is_said(small: Path, tmp_path: Path) -> None:
    """Before anything is built: skopeo beside buildah, and docker's plugin buildx."""
    tools = only(tmp_path / "bin", "git", "make", "uname")
    for builder, says in (("buildah", "apt-get install skopeo"), ("docker", "its plugin buildx")):
        stand_in(tools / builder, "exit 1")
        assert says in refused("publish", small, PATH=str(tools), BUILDER=builder)


@pytest.mark.parametrize("script", ["build.sh", "publish.sh"])
@pytest.mark.parametrize(
    ("arguments", "says"),
    [(["--arch", "mips"], "it can be amd64 or arm64"), (["--arch"], "--arch needs"), (["-x"], "usage: ")],
)
def test_wrong_arguments_are_said(small: Path, script: str, arguments: list[str], says: str) -> None:
    """Both scripts say what they take."""
    done = Engine(small.parent / "engine").run(small / "image" / script, *arguments)
    assert done.returncode == 1
    assert says in done.stderr


@pytest.mark.parametrize(
    ("repository", "says"),
    [
        ("", "set REPOSITORY=registry/name"),
        ("hello", "it has to be registry/name"),
        ("registry/hello:latest", "without a tag"),
    ],
)
def test_a_repository_has_to_be_named(small: Path, repository: str, says: str) -> None:
    """Where Terraform has no output either, it says so; a name without a registry, or with a tag, is none."""
    need("buildah")
    assert says in refused("publish", small, REPOSITORY=repository)


# What is published


def test_an_image_is_published_once(engine: Engine, repository: Path, image: str, address: str) -> None:
    """The tag is the commit, what is printed its digest; a second time nothing is pushed, and it succeeds."""
    commit = image.removeprefix("hello:")
    destination = f"{address}/team/hello"
    first = engine.run("make", "publish", folder=repository, environment={"REPOSITORY": destination})
    assert first.returncode == 0, first.stderr
    assert "nothing to push" not in first.stderr
    assert f"{image} starts, as version {__version__}, answers and stops" in first.stderr
    assert head(destination, commit) == (200, first.stdout.strip())
    again = engine.run("make", "publish", folder=repository, environment={"REPOSITORY": destination})
    assert (again.returncode, again.stdout) == (0, first.stdout)
    assert "is there already, and is the same: nothing to push" in again.stderr
    assert "starts" not in again.stderr
    told = engine.output("skopeo", "inspect", "--tls-verify=false", f"docker://{destination}:{commit}")
    assert json.loads(told)["Labels"]["org.opencontainers.image.revision"] == commit


def test_an_image_that_does_not_start_is_not_published(
    engine: Engine, repository: Path, image: str, address: str, tmp_path: Path
) -> None:
    """Nothing is pushed, its log is shown, and no container is left; --untried pushes it."""
    assert image
    broken = tmp_path / "broken"
    engine.output("git", "clone", "--quiet", repository, broken)
    with (broken / "image" / "Dockerfile").open("a") as file:
        file.write("ENV HELLO_PORT=none\n")
    commit = commit_all(broken)
    environment = {"REPOSITORY": f"{address}/team/hello"}  # which has most layers already
    done = engine.run("make", "publish", folder=broken, environment=environment)
    assert (done.returncode, done.stdout) == (2, "")
    assert "HELLO_PORT" in done.stderr
    assert f"hello:{commit} ended before it answered" in done.stderr
    assert f"hello:{commit} is not pushed" in done.stderr
    assert head(environment["REPOSITORY"], commit)[0] == 404
    assert engine.output("podman", "ps", "--all", "--quiet", "--filter", f"ancestor=hello:{commit}") == ""
    digest = engine.output("make", "publish", "ARGS=--untried", folder=broken, environment=environment)
    assert head(environment["REPOSITORY"], commit) == (200, digest)


@pytest.mark.parametrize(
    ("fails", "says"),
    [
        ("version", "hello:1 does not tell its version"),
        ("run", "hello:1 can't be started"),
        ("exec", "hello:1 runs and does not answer"),
        ("wait", "hello:1 was stopped, and ended with status 137"),
    ],
)
def test_what_an_image_does_not_do_is_told(small: Path, tmp_path: Path, fails: str, says: str) -> None:
    """A stand-in for podman plays a container that fails at one thing; that container is removed."""
    stand_in(tmp_path / "bin" / "buildah", "exit 1")
    stand_in(
        tmp_path / "bin" / "podman",
        f"""
        echo "$*" >>{tmp_path}/calls
        case "$*" in
          *--version) echo 1.2.3; [ {fails} != version ] ;;
          run*) [ {fails} != run ] && echo the-id ;;
          exec*) [ {fails} != exec ] ;;
          inspect*) echo true ;;
          wait*) if [ {fails} = wait ]; then echo 137; else echo 0; fi ;;
          logs*) echo its log ;;
        esac""",
    )
    environment = {"PATH": f"{tmp_path}/bin:{os.environ['PATH']}", "PATIENCE": "1"}
    done = Engine(tmp_path / "engine").run(small / "image" / "try.sh", "hello:1", environment=environment)
    assert (done.returncode, done.stdout) == (1, "")
    assert says in done.stderr
    calls = (tmp_path / "calls").read_text()
    started = fails in {"exec", "wait"}
    assert ("its log" in done.stderr) == started
    assert ("rm --force --volumes the-id" in calls) == started


def test_podman_is_asked_for(small: Path, tmp_path: Path) -> None:
    """Where nothing can run what buildah has built, it says what to install."""
    environment = {"PATH": str(only(tmp_path / "bin"))}
    stand_in(tmp_path / "bin" / "buildah", "exit 1")
    done = Engine(tmp_path / "engine").run(small / "image" / "try.sh", "hello:1", environment=environment)
    assert done.returncode == 1
    assert "apt-get install podman" in done.stderr


def test_a_tag_is_not_moved(engine: Engine, repository: Path, image: str, address: str) -> None:
    """Where the commit's tag has other content, nothing is pushed, and it says what that may come from."""
    commit = image.removeprefix("hello:")
    destination = f"{address}/team/taken"
    engine.output("buildah", "push", "--tls-verify=false", "base", f"docker://{destination}:{commit}")
    before = head(destination, commit)
    done = engine.run("make", "publish", folder=repository, environment={"REPOSITORY": destination})
    assert (done.returncode, done.stdout) == (2, "")
    assert f"is there already, as {before[1]}, and is not what was made here of this commit" in done.stderr
    assert head(destination, commit) == before


@pytest.mark.full
def test_the_list_has_both_architectures(
    engine: Engine, repository: Path, image: str, address: str, tmp_path: Path
) -> None:
    """Each architecture publishes its part, and then the commit's tag is the list of them; also again."""
    commit = image.removeprefix("hello:")
    destination = f"{address}/team/parts"
    environment = {"REPOSITORY": destination}

    def publish(option: str) -> str:
        return engine.output("make", "publish", f"ARGS={option}", folder=repository, environment=environment)

    early = engine.run("make", "publish", "ARGS=--list", folder=repository, environment=environment)
    assert early.returncode == 2
    assert f"{commit}-amd64 is not there: publish it first" in early.stderr
    this, other = ("arm64", "amd64") if os.uname().machine == "aarch64" else ("amd64", "arm64")
    parts = {this: publish("--part")}
    # The other architecture's programs don't run here: an image without any stands for its part.
    (tmp_path / "Dockerfile").write_text("FROM scratch\nCOPY Dockerfile /\n")
    engine.output("buildah", "build", "--platform", f"linux/{other}", "--tag", "other", tmp_path)
    engine.output(
        "buildah", "push", "--tls-verify=false", "other", f"docker://{destination}:{commit}-{other}"
    )
    parts[other] = head(destination, f"{commit}-{other}")[1]
    digest = publish("--list")
    assert head(destination, commit) == (200, digest)
    raw = engine.output(
        "skopeo", "inspect", "--raw", "--tls-verify=false", f"docker://{destination}:{commit}"
    )
    listed = {entry["platform"]["architecture"]: entry["digest"] for entry in json.loads(raw)["manifests"]}
    assert listed == parts
    assert publish("--list") == digest


def test_docker_prints_the_digest_of_the_list(small: Path, tmp_path: Path) -> None:
    """Not that of a part, the first time and again. A stand-in for docker has a folder for a registry."""
    registry = tmp_path / "registry"
    registry.mkdir()
    commit = Engine(tmp_path / "engine").output("git", "rev-parse", "HEAD", folder=small)
    for architecture in ("amd64", "arm64"):
        (registry / f"{commit}-{architecture}").write_text(
            f'{{"config": "sha256:{"0" * 64}"}}\n{architecture}'
        )
    stand_in(
        tmp_path / "bin" / "docker",
        f"""
        cd {registry}
        case "$*" in
          "buildx version") ;;
          "buildx imagetools inspect --raw "*)
            cat "${{5##*:}}" 2>/dev/null || {{ echo "ERROR: $5: not found" >&2; exit 1; }} ;;
          "buildx imagetools create --tag "*)
            tag=${{5##*:}}; shift 5; printf '%s\\n' "$@" >"$tag"; echo pushed ;;
          *) echo "$*" >&2; exit 2 ;;
        esac""",
    )
    environment = {
        "PATH": f"{tmp_path}/bin:{os.environ['PATH']}",
        "BUILDER": "docker",
        "REPOSITORY": "registry.example.org/hello",
    }
    once, again = (
        Engine(tmp_path / "engine").run(
            "make", "publish", "ARGS=--list", folder=small, environment=environment
        )
        for _ in range(2)
    )
    assert (once.returncode, again.returncode) == (0, 0), once.stderr + again.stderr
    digests = {
        path.name: "sha256:" + hashlib.sha256(path.read_bytes()).hexdigest() for path in registry.iterdir()
    }
    assert once.stdout == again.stdout == f"{digests[commit]}\n"
    parts = [f"registry.example.org/hello@{digests[f'{commit}-{name}']}" for name in ("amd64", "arm64")]
    assert (registry / commit).read_text().split() == parts
    assert "pushed" in once.stderr
    assert "nothing to push" in again.stderr


def test_a_registry_that_does_not_answer_is_said(engine: Engine, repository: Path, image: str) -> None:
    """It is not taken for a free tag."""
    assert image
    environment = {"REPOSITORY": "127.0.0.1:9/hello"}
    done = engine.run("make", "publish", folder=repository, environment=environment)
    assert done.returncode == 2
    assert "127.0.0.1:9 does not tell what it has under" in done.stderr
    assert "connection refused" in done.stderr


@pytest.mark.parametrize("fails", ["aws", "login"])
def test_ecr_is_logged_in_to_without_the_password_in_an_argument(
    small: Path, tmp_path: Path, fails: str
) -> None:
    """The AWS CLI's password goes to the builder's standard input; what fails is said with what to do."""
    tools = tmp_path / "bin"
    status = {name: int(name == fails) for name in ("aws", "login")}
    stand_in(tools / "aws", f'echo "$*" >>{tmp_path}/aws; echo {PASSWORD}; exit {status["aws"]}')
    stand_in(
        tools / "buildah",
        f'echo "$*" >>{tmp_path}/buildah; [ "$1" = login ] || exit 0; cat >>{tmp_path}/stdin; '
        f"exit {status['login']}",
    )
    stand_in(tools / "skopeo", "echo denied >&2; exit 1")
    path = f"{tools}:{os.environ['PATH']}"
    said = refused("publish", small, REPOSITORY=f"{ECR}/hello", PATH=path)
    assert f"Logging in to {ECR} failed" in said
    assert "aws sso login" in said
    assert (tmp_path / "aws").read_text() == "ecr get-login-password --region eu-west-1\n"
    called = (tmp_path / "buildah").read_text()
    assert f"login --username AWS --password-stdin {ECR}\n" in called
    assert PASSWORD not in called + said
    assert (tmp_path / "stdin").read_text() == f"{PASSWORD}\n"


@pytest.mark.parametrize("repository", ["", f"{ECR}/hello"])
def test_the_registry_of_terraform_is_logged_in_to_by_its_keys(
    small: Path, tmp_path: Path, repository: str
) -> None:
    """Keys in terraform.tfvars alone serve, and the image is for what the service runs on. A registry that
    REPOSITORY names gets neither."""
    tools = tmp_path / "bin"
    tools.mkdir()
    seen = '"${AWS_ACCESS_KEY_ID-none} ${AWS_SECRET_ACCESS_KEY-none} $*"'
    there = platform.machine()
    other, docker_name = ("X86_64", "amd64") if there == "aarch64" else ("ARM64", "arm64")
    outputs = {"repository_url": {"value": f"{ECR}/hello"}, "architecture": {"value": other}}
    (tools / "terraform").write_text(f"#!/bin/sh\necho '{json.dumps(outputs)}'\n")
    (tools / "aws").write_text(f"#!/bin/sh\necho {seen} >>{tmp_path}/aws\nexit 1\n")
    (tools / "buildah").write_text("#!/bin/sh\n")
    for tool in tools.iterdir():
        tool.chmod(0o755)
    (small / "infra" / "terraform.tfvars").write_text('access_key = "AKtest"\nsecret_key = "s3cret"\n')
    path = f"{tools}:{os.environ['PATH']}"
    environment = {"REPOSITORY": repository, "PATH": path}
    unset = ["env", *(f"--unset={name}" for name in os.environ if name.startswith(("AWS_", "TF_VAR_")))]
    done = Engine(tmp_path / "engine").run(*unset, "make", "publish", folder=small, environment=environment)
    assert done.returncode == 2, done.stdout
    keys, arguments = (tmp_path / "aws").read_text().split(" ecr ")
    assert keys.split()[:2] == (["none", "none"] if repository else ["AKtest", "s3cret"])
    assert arguments == "get-login-password --region eu-west-1\n"
    assert "s3cret" not in done.stderr + arguments
    assert (f"for {docker_name} with buildah" in done.stderr) == (not repository)
