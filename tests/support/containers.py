"""Images and containers for real: buildah builds, podman with runc runs, Debian's registry keeps.

No registry is asked for the base: one is made of Debian's packages. Images and containers are in a folder of
the test session's own, and gone after it.
"""

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.support.environment import ROOT, free_port, missing, need, until
from tests.support.service import request

# Unpacked, not installed: no script of a package runs, which takes 7 s in place of 50.
BASE_PACKAGES = "base-files,base-passwd,bash,coreutils,dash,findutils,grep,libc-bin,python3-venv,sed"
# Where there is room, images are kept in memory: on a busy disk a build takes four times as long.
MEMORY = Path("/dev/shm")
ROOM = 4 << 30  # bytes
MERGED_USR = Path("/usr/share/mmdebstrap/hooks/merged-usr")
CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"  # pip in the build trusts whom this machine trusts
# Some machines allow root no more than these, and podman asks for more by default.
CONTAINERS_CONF = """
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=1000:1000"]
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
"""
STORAGE_CONF = """
[storage]
driver = "overlay"
graphroot = "{folder}/images"
runroot = "{folder}/run"
"""
# Gives processes a root that is a mount, as runc and buildah want it, where / is none: in a chroot.
OWN_ROOT = """
mkdir "$0" && mount --rbind / "$0" &&
exec chroot "$0" sh -c 'mount --make-rslave / && echo ready && exec sleep infinity'
"""
HARDENED = ("--read-only", "--read-only-tmpfs=false", "--cap-drop=all", "--security-opt=no-new-privileges")


@dataclass
class Engine:
    """The tools, with images and containers of their own in `folder`."""

    folder: Path
    variables: dict[str, str] = field(init=False)
    prefix: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Write the configuration; nothing is run yet."""
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "containers.conf").write_text(CONTAINERS_CONF)
        (self.folder / "storage.conf").write_text(STORAGE_CONF.format(folder=self.folder))
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("HELLO_")}
        self.variables = {
            **inherited,
            "BUILDAH_ISOLATION": "chroot",
            "BUILDER": "buildah",
            "CONTAINERS_CONF": str(self.folder / "containers.conf"),
            "CONTAINERS_STORAGE_CONF": str(self.folder / "storage.conf"),
        }

    def run(
        self,
        *command: str | Path,
        folder: Path | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command to its end, whatever its exit status."""
        return subprocess.run(
            [*self.prefix, "sh", "-c", 'cd "$0" && exec "$@"', folder or self.folder, *command],
            env={**self.variables, **(environment or {})},
            capture_output=True,
            text=True,
            timeout=280,
            check=False,
        )

    def output(
        self, *command: str | Path, folder: Path | None = None, environment: Mapping[str, str] | None = None
    ) -> str:
        """Run a command that must succeed; return what it wrote, without the line's end."""
        done = self.run(*command, folder=folder, environment=environment)
        assert done.returncode == 0, f"{command} failed:\n{done.stdout}{done.stderr}"
        return done.stdout.strip()

    def base(self) -> str:
        """Make the image that stands for the official Python's; return its name."""
        tarball = self.folder / "base.tar"
        self.output(
            *("mmdebstrap", "--quiet", "--variant=extract", f"--include={BASE_PACKAGES}"),
            *(f"--hook-dir={MERGED_USR}", f"--extract-hook=cp {CERTIFICATES} $1{CERTIFICATES}"),
            *('--aptopt=Acquire::Languages "none"', "bookworm", tarball),
        )
        (self.folder / "Dockerfile").write_text("FROM scratch\nADD base.tar /\n")
        self.output("buildah", "build", "--quiet", "--tag", "localhost/base", self.folder)
        tarball.unlink()
        return "localhost/base:latest"

    def inspect(self, image: str) -> dict[str, Any]:
        """Return what podman tells of an image."""
        (told,) = json.loads(self.output("podman", "image", "inspect", image))
        return dict(told)

    @contextmanager
    def container(
        self, image: str, *arguments: str, options: tuple[str, ...] = HARDENED, **variables: str
    ) -> Iterator["Container"]:
        """Start a container of its own port on the loopback; it ends with the block.

        Args:
            image: its name.
            arguments: the command's, in place of those of the image.
            options: those of `podman run`.
            variables: HELLO_* variables, without the prefix, in small letters.
        """
        port = free_port()
        data = Path(tempfile.mkdtemp(dir=self.folder))
        os.chown(data, 65532, 65532)
        given = {"host": "127.0.0.1", "port": str(port), "drain_seconds": "0", **variables}
        environment = [f"--env=HELLO_{name.upper()}={value}" for name, value in given.items()]
        places = ("--network=host", f"--volume={data}:/data")
        id_ = self.output("podman", "run", "--detach", *options, *places, *environment, image, *arguments)
        try:
            yield Container(self, id_, f"http://127.0.0.1:{port}")
        finally:
            self.run("podman", "rm", "--force", "--time=0", id_)

    def remove_all(self) -> None:
        """Remove all containers and images."""
        self.run("podman", "rm", "--all", "--force", "--time=0")
        self.run("podman", "rmi", "--all", "--force")
        self.run("umount", "--recursive", self.folder / "images" / "overlay")


@dataclass(frozen=True)
class Container:
    """A container that was started."""

    engine: Engine
    id: str
    url: str

    def state(self) -> dict[str, Any]:
        """Return what podman tells of its state."""
        return dict(json.loads(self.engine.output("podman", "inspect", "--format={{json .State}}", self.id)))

    def status(self) -> dict[str, str]:
        """Return what the kernel tells of its first process."""
        lines = Path(f"/proc/{self.state()['Pid']}/status").read_text().splitlines()
        return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}

    def log(self) -> str:
        """Return what it wrote."""
        done = self.engine.run("podman", "logs", self.id)
        return done.stdout + done.stderr

    def wait_until_served(self) -> None:
        """Wait for the first 200."""

        def served() -> bool:
            try:
                return request(self.url, "GET", "/hc").status == 200
            except ConnectionError:
                return False

        until(served, f"the first 200 of {self.url}")

    def kill(self, signal: str) -> None:
        """Send a signal to its first process."""
        self.engine.output("podman", "kill", f"--signal={signal}", self.id)

    def wait(self) -> int:
        """Wait until it has ended; return its exit status."""
        return int(self.engine.output("podman", "wait", "--interval=50ms", self.id))


@contextmanager
def root_that_is_a_mount(folder: Path) -> Iterator[tuple[str, ...]]:
    """Yield what to put before commands, so that their root is a mount; nothing where it is one already."""
    mounts = (line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines())
    if "/" in mounts:
        yield ()
        return
    unshare = [need("unshare"), "--mount", "--propagation=unchanged", "sh", "-c", OWN_ROOT, str(folder)]
    with subprocess.Popen(unshare, stdout=subprocess.PIPE, text=True) as holder:
        try:
            assert holder.stdout
            if holder.stdout.readline() != "ready\n":
                missing("containers need a root that is a mount, and none can be made here")
            yield ("nsenter", f"--target={holder.pid}", "--mount", "--root", "--wdns=/")
        finally:
            holder.kill()
            subprocess.run(["umount", "--recursive", "--lazy", folder], capture_output=True, check=False)


@contextmanager
def registry(folder: Path) -> Iterator[str]:
    """Run Debian's registry, in clear, as one on this machine may be; yield its host and port."""
    command = need("docker-registry")
    address = f"127.0.0.1:{free_port()}"
    configuration = {
        "version": 0.1,
        "log": {"level": "error"},
        "storage": {"filesystem": {"rootdirectory": str(folder / "registry")}, "delete": {"enabled": True}},
        "http": {"addr": address},
    }
    (folder / "registry.yml").write_text(json.dumps(configuration))  # JSON is YAML
    with (folder / "registry.log").open("wb") as log:
        process = subprocess.Popen([command, "serve", folder / "registry.yml"], stdout=log, stderr=log)

    def answers() -> bool:
        assert process.poll() is None, (folder / "registry.log").read_text()
        try:
            return request(f"http://{address}", "GET", "/v2/").status == 200
        except ConnectionError:
            return False

    try:
        until(answers, "the registry")
        yield address
    finally:
        process.terminate()
        process.wait(30)


def copy_of_the_repository(folder: Path) -> Path:
    """Commit the files that are, or could be, committed here to a repository of their own; return it."""
    git = need("git")
    listed = subprocess.run(
        [git, "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    ).stdout
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    subprocess.run([git, "init", "--quiet", "--initial-branch=main"], cwd=folder, check=True)
    commit_all(folder)
    return folder


def commit_all(repository: Path) -> str:
    """Commit all that is there; return the commit."""
    git = need("git")
    who = ["-c", "user.name=test", "-c", "user.email=test@example.org", "-c", "commit.gpgsign=false"]
    subprocess.run([git, "add", "--all"], cwd=repository, check=True)
    subprocess.run([git, *who, "commit", "--quiet", "-m", "test"], cwd=repository, check=True)
    return subprocess.run(
        [git, "rev-parse", "HEAD"], cwd=repository, stdout=subprocess.PIPE, text=True, check=True
    ).stdout.strip()


@pytest.fixture(scope="session")
def engine() -> Iterator[Engine]:
    """The tools; the test is skipped where they can't be had."""
    for command in ("buildah", "mmdebstrap", "podman", "runc", "skopeo"):
        need(command)
    if os.geteuid() != 0:
        missing("containers of their own storage and network need root here")
    roomy = MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > ROOM
    engine = Engine(Path(tempfile.mkdtemp(prefix="hello-", dir=MEMORY if roomy else None)))
    with root_that_is_a_mount(engine.folder / "root") as engine.prefix:
        yield engine
        engine.remove_all()
    shutil.rmtree(engine.folder)


@pytest.fixture(scope="session")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clean repository of what is here: images are of commits."""
    return copy_of_the_repository(tmp_path_factory.mktemp("repository"))


@pytest.fixture(scope="session")
def image(engine: Engine, repository: Path) -> str:
    """The image, built once by `make image`."""
    engine.variables["BASE"] = engine.base()
    return engine.output("make", "image", folder=repository).splitlines()[-1]
