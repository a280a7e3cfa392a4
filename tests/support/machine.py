"""Fixtures: a machine provisioned and booted as the AMI is, and the AWS that it talks to."""

import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hello import keys
from rehearsal.machine import Machine, copy_of, drop_in, make_root, provision
from rehearsal.network import Namespace
from rehearsal.secrets_manager import MOTO, SecretsManager
from rehearsal.vpc import GATEWAY, Vpc
from tests.support.environment import ROOT, missing, need, until
from tests.support.service import JSON, Answer, request

ADDRESS = "10.0.0.2"
COMMIT = "c0ffee" * 6 + "abcd"
USER_DATA = "HELLO_OPEN=true\nHELLO_DRAIN_SECONDS=1\n"


class Instance:
    """A machine and its AWS, asked from outside."""

    def __init__(self, machine: Machine, outside: Namespace, secrets: SecretsManager) -> None:
        self.machine = machine
        self.outside = outside
        self._secrets = secrets
        self.run = machine.run
        self.metadata = machine.metadata
        self.console = machine.root.parent / "console"

    def request(self, method: str, target: str, body: bytes | None = None, key: str = "") -> Answer:
        """Send one request to port 5000."""
        headers = {**JSON, "Authorization": f"Bearer {key}"} if key else JSON
        with self.outside.entered():
            return request(f"http://{ADDRESS}:5000", method, target, body, headers)

    def answers(self) -> bool:
        """Return whether it serves."""
        try:
            return self.request("GET", "/ready").status == 200
        except OSError:
            return False

    def show(self, unit: str, name: str) -> str:
        """Return a property of a unit."""
        return self.run("systemctl", "show", unit, "--property", name, "--value").strip()

    def journal(self, since: str = "") -> str:
        """Return the whole journal, or what came after a cursor."""
        return self.run(
            "journalctl", "--no-pager", "--output=cat", *([f"--after-cursor={since}"] if since else [])
        )

    def cursor(self) -> str:
        """Return where the journal ends."""
        told = self.run("journalctl", "--no-pager", "--lines=0", "--show-cursor")
        return told.rpartition("-- cursor: ")[2].strip()

    def restart(self, user_data: str, wait: bool = True) -> None:
        """Start the service anew with other user data, as a new instance would."""
        self.metadata.user_data = user_data
        self.run("systemctl", "stop", "hello", "hello-settings")
        self.run("systemctl", "reset-failed", "hello", "hello-settings", check=False)
        self.run("systemctl", "start", "--no-block", "hello")
        if wait:
            until(self.answers, "hello to serve")

    def secret(self, name: str, value: str) -> str:
        """Keep a secret in the region's Secrets Manager; return its ARN."""
        with self.outside.entered():
            return self._secrets.create(name, value)


def entries(*names: str) -> tuple[list[str], str]:
    """Return secrets of new keys, and their entries as a person would keep them: over several lines."""
    made = [keys.new_key(name, ["read", "write"]) for name in names]
    listed = [json.loads(keys.encode(entry)) for _, entry in made]
    return [secret for secret, _ in made], json.dumps(listed, indent=2)


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What image/bundle.sh packs, as of a made-up commit."""
    folder = tmp_path_factory.mktemp("bundle") / "bundle"
    environment = {**os.environ, "HELLO_COMMIT": COMMIT}
    subprocess.run([ROOT / "image" / "bundle.sh", folder], env=environment, check=True, timeout=280)
    return folder


@pytest.fixture(scope="session")
def provisioned(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A Debian that image/provision.sh has made a machine for hello of; what is booted is a copy of it."""
    for command in ("mmdebstrap", "systemd-nspawn", "setpriv", "ss"):
        need(command)
    if os.geteuid():
        missing("booting a machine takes root")
    mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    if not any(line.split()[4] == "/" for line in mounts):
        missing("systemd-nspawn does not boot within a chroot: / is no mount there")
    if not MOTO.exists():
        missing("moto is not installed (make .venv/.stamps/emulators)")
    root = tmp_path_factory.mktemp("machine") / "root"
    make_root(root)
    provision(root, bundle)
    yield root
    shutil.rmtree(root)  # pytest keeps the folders of three runs, and this is a whole Debian


@pytest.fixture(scope="session")
def root(provisioned: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The root of `instance`."""
    with copy_of(provisioned, tmp_path_factory.mktemp("instance")) as copied:
        yield copied


@pytest.fixture(scope="session")
def instance(root: Path, bundle: Path) -> Iterator[Instance]:
    """The machine, booted, in a network with the metadata of an EC2 instance and with Secrets Manager."""
    vpc = Vpc()
    machine = Machine(root, bundle, vpc.plug(ADDRESS))
    machine.metadata.user_data = USER_DATA
    with vpc.router.entered():
        secrets = SecretsManager(GATEWAY, 5001)
    instance = Instance(machine, vpc.router, secrets)
    drop_in(root, "hello-settings.service", f"[Service]\nEnvironment=AWS_ENDPOINT_URL={secrets.url}\n")
    try:
        machine.boot()
        deadline = time.monotonic() + 60
        while not instance.answers():
            assert time.monotonic() < deadline, instance.console.read_text()
        yield instance
    finally:
        machine.close()
        secrets.close()
        vpc.close()
