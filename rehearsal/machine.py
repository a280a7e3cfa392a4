"""A machine made of a Debian root: provisioned as the AMI is, and booted under systemd-nspawn.

It takes root, systemd-nspawn (systemd-container) and mmdebstrap, and leaves nothing behind.
"""

import hashlib
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from rehearsal.vpc import Interface

# What Debian's own image for EC2 has, too, of what matters here.
PACKAGES = (
    "ca-certificates", "curl", "dbus", "gnupg", "openssh-server", "python3", "systemd-sysv", "udev",
    "unattended-upgrades",
)  # fmt: skip
BUNDLE = "/opt/bundle"
BOOT_SECONDS = 120
BASE_SECONDS = 7 * 86400.0  # that a base is used for: security updates come in with the next one
CACHE = Path(__file__).parent.parent / ".rehearsal"


def make_base(packages: Sequence[str] = PACKAGES) -> Path:
    """Return a tar of a Debian 12 that boots; it is made when there is none of this week."""
    include = ",".join(sorted(packages))
    tar = CACHE / f"{hashlib.sha256(include.encode()).hexdigest()[:12]}.tar"
    if tar.exists() and time.time() - tar.stat().st_mtime < BASE_SECONDS:
        return tar
    CACHE.mkdir(exist_ok=True)
    part = CACHE / f".{os.getpid()}.tar"
    command = ["mmdebstrap", "--quiet", "--variant=minbase", f"--include={include}", "bookworm", str(part)]
    try:
        subprocess.run(command, check=True, timeout=600)
        part.replace(tar)
    finally:
        part.unlink(missing_ok=True)
    return tar


def make_root(folder: Path, packages: Sequence[str] = PACKAGES) -> None:
    """Make the root of a Debian 12 that boots, in a folder that is not there yet."""
    folder.mkdir()
    subprocess.run(["tar", "-xf", make_base(packages), "-C", folder], check=True, timeout=300)


def provision(root: Path, bundle: Path, options: Sequence[str] = ("--ec2",)) -> str:
    """Run provision.sh in a root that is not booted; return what it says."""
    command = ["systemd-nspawn", "--quiet", "--register=no", "--keep-unit", "--as-pid2", "--pipe"]
    command += ["--resolv-conf=copy-host", f"--directory={root}", f"--bind-ro={bundle}:{BUNDLE}"]
    done = subprocess.run(
        [*command, f"{BUNDLE}/provision.sh", *options],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=600,
    )  # fmt: skip
    if done.returncode:
        raise subprocess.SubprocessError(f"provision.sh failed ({done.returncode}):\n{done.stdout[-4000:]}")
    return done.stdout


def drop_in(root: Path, unit: str, lines: str) -> None:
    """Give a unit of the root what only a rehearsal needs."""
    folder = root / "etc/systemd/system" / f"{unit}.d"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "rehearsal.conf").write_text(lines)


@contextmanager
def copy_of(root: Path, folder: Path) -> Iterator[Path]:
    """Give a root that begins as another one is, which stays so; `folder` keeps what becomes different."""
    copied, changed, work = (folder / name for name in ("root", "changed", "work"))
    for one in (copied, changed, work):
        one.mkdir(parents=True)
    layers = f"lowerdir={root},upperdir={changed},workdir={work}"
    subprocess.run(["mount", "-t", "overlay", "overlay", "-o", layers, copied], check=True, timeout=60)
    try:
        yield copied
    finally:
        subprocess.run(["umount", copied], check=True, timeout=60)
        for one in (changed, work):
            shutil.rmtree(one)


class Machine:
    """A root that runs as an instance, behind an interface of a VPC."""

    def __init__(self, root: Path, bundle: Path, interface: Interface) -> None:
        """Take a root and an interface that are this machine's alone."""
        self.root = root
        self.interface = interface
        self.metadata = interface.metadata
        self._bundle = bundle
        self._process: subprocess.Popen[bytes] | None = None

    def boot(self) -> float:
        """Start it; return when, on the monotonic clock."""
        name = f"hello-{os.getpid()}-{self.interface.instance}"
        command = ["setpriv", "--pdeathsig", "TERM", "systemd-nspawn", "--quiet", "--register=no"]
        command += ["--keep-unit", f"--machine={name}", f"--directory={self.root}"]
        command += ["--capability=CAP_NET_ADMIN"]  # its network is its own
        command += [f"--network-namespace-path={self.interface.inside.path}"]
        command += [f"--bind-ro={self._bundle}:{BUNDLE}", "--resolv-conf=off", "--console=pipe", "--boot"]
        started = time.monotonic()
        with (self.root.parent / "console").open("wb") as console:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=console, stderr=subprocess.STDOUT
            )
        return started

    def listening(self) -> list[str]:
        """Return what it listens on: protocol, address and port."""
        with self.interface.inside.entered():
            found = subprocess.run(["ss", "-Htuln"], capture_output=True, text=True, check=True, timeout=30)
        return sorted(f"{line.split()[0]} {line.split()[4]}" for line in found.stdout.splitlines())

    def run(self, *command: str, check: bool = True, environment: Mapping[str, str] | None = None) -> str:
        """Run a command in it as root; return its output."""
        done = subprocess.run(
            ["nsenter", "--all", f"--target={self._leader()}", *command],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            env={"PATH": os.defpath, "LC_ALL": "C.UTF-8", **(environment or {})}, timeout=120,
        )  # fmt: skip
        if check and done.returncode:
            raise subprocess.SubprocessError(f"{command} failed ({done.returncode}):\n{done.stdout}")
        return done.stdout

    def kill(self) -> None:
        """End it at once, unless it has ended: nothing in it is told."""
        if self._process is not None and self._process.poll() is None:
            os.kill(self._leader(), signal.SIGKILL)
            self._gone()

    def close(self) -> None:
        """Power it off, and take its interface away."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            self._gone()
        self.interface.close()

    def _gone(self) -> None:
        assert self._process is not None
        try:
            self._process.wait(90)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _leader(self) -> int:
        """Return the process that is the first within."""
        assert self._process is not None
        pid = self._process.pid
        deadline = time.monotonic() + BOOT_SECONDS
        while time.monotonic() < deadline:
            for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
                if _first_within(child):  # another one prepares it, and is of this machine yet
                    return int(child)
            if self._process.poll() is not None:
                break
            time.sleep(0.01)
        raise subprocess.SubprocessError((self.root.parent / "console").read_text())


def _first_within(pid: str) -> bool:
    """Return whether a process is systemd, the first one of a namespace of processes."""
    with suppress(OSError):
        if Path(f"/proc/{pid}/comm").read_text() != "systemd\n":
            return False
        found = re.search(r"^NSpid:(.*)$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
        return found is not None and found[1].split()[1:][-1:] == ["1"]
    return False


if __name__ == "__main__" and os.geteuid() == 0 and shutil.which("mmdebstrap"):
    make_base()  # ahead of the tests, for it takes a minute
