"""The AMI without AWS: `make ami-rehearse` provisions a Debian 12, boots it and has it greet.

Under systemd-nspawn, within the second, beside three members of etcd of the same root; and once from a disk
by qemu, from power-on.
"""

import http.client
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from rehearsal.disk import KERNEL_PACKAGES, boot_seconds, make_disk
from rehearsal.machine import Machine, make_base, make_root, provision
from rehearsal.region import MEMBERS, Region

NEEDED = (
    "mmdebstrap", "systemd-nspawn", "qemu-system-x86_64", "mke2fs", "setpriv", "ss", "aws", "jq", "openssl",
)  # fmt: skip
WAIT_SECONDS = 120
ROOT = Path(__file__).parent.parent


def greeting(address: str, key: str = "") -> str:
    """Return what a person who is put there is greeted with, "" where nobody answers yet."""
    fields = {"Content-Type": "application/json", **({"Authorization": f"Bearer {key}"} if key else {})}
    try:
        for method, body in (("PUT", '{"dateOfBirth":"1990-04-23"}'), ("GET", None)):
            connection = http.client.HTTPConnection(address, 5000, timeout=5)
            connection.request(method, "/hello/Zoe", body, fields)
            response = connection.getresponse()
            text = response.read().decode()
            connection.close()
            if response.status >= 300:
                return ""
    except (OSError, http.client.HTTPException):
        return ""
    return text


class Steps:
    """Prints each step with the seconds that it took."""

    def __init__(self) -> None:
        self._at = time.monotonic()

    def done(self, step: str, told: str = "") -> None:
        """Tell what is done, since the one before."""
        now = time.monotonic()
        print(f"{now - self._at:7.1f} s  {step}{f': {told}' if told else ''}", flush=True)
        self._at = now


def nspawn(region: Region, steps: Steps) -> None:
    """Boot it under systemd-nspawn, with a key from a secret, and ask it."""
    new = subprocess.run(
        [ROOT / ".venv/bin/hello", "key", "new", "rehearsal", "--scope", "read,write"],
        capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    key, entry = new.stdout.splitlines()
    arn = region.create_secret("hello/keys", f"[{entry}]")
    steps.done("emulated AWS is ready")
    machine = region.launch(0, {"HELLO_KEYS": arn, "HELLO_DRAIN_SECONDS": "1", **region.client_settings()})
    with region.vpc.router.entered():
        wait(lambda one: bool(greeting(one.interface.address, key)), machine)
        told = greeting(machine.interface.address, key)
    steps.done("systemd-nspawn, from power-on to greeting", told)
    print(f"{'':11}listening: {', '.join(machine.listening())}")
    etcd(region, machine, steps)


def etcd(region: Region, hello: Machine, steps: Steps) -> None:
    """Boot the three members in which hello registers, and lose two of them, one after the other."""
    members = [region.member(zone) for zone in range(MEMBERS)]
    for member in members:
        wait(serves, member)
    steps.done("etcd, from power-on of three members to their users")

    def registered(machine: Machine) -> bool:
        return region.registered() == {machine.interface.address}

    wait(registered, hello)
    steps.done("hello is registered")
    region.terminate(members[0])
    wait(serves, region.member(0))
    steps.done("a member is terminated, and replaced")
    region.terminate(members[1])
    region.renew_volume(1)
    wait(serves, region.member(1))
    steps.done("another one, and its volume is lost")
    if not registered(hello):
        sys.exit("hello is no longer registered")


def serves(member: Machine) -> bool:
    """Return whether a member of etcd has joined, and asks who its clients are."""
    return member.run("systemctl", "is-active", "etcd-member", check=False).strip() == "active"


def wait(condition: Callable[[Machine], bool], machine: Machine) -> None:
    """Wait for a condition of a machine; raise TimeoutError with its journal after two minutes."""
    deadline = time.monotonic() + WAIT_SECONDS
    while not condition(machine):
        if time.monotonic() > deadline:
            raise TimeoutError(machine.run("journalctl", "--no-pager", check=False)[-4000:])
        time.sleep(0.01)


def main() -> None:
    """Play it, on one page."""
    lacking = [command for command in NEEDED if not shutil.which(command)]
    if os.geteuid() or lacking:
        sys.exit(
            f"make ami-rehearse takes root, and: {', '.join(lacking or NEEDED)}"
            " (requirements/debian.txt, and qemu-system-x86)"
        )
    # As by Ctrl-C: mounts and devices are given back. After kill -9 they stay: umount, losetup -D.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    steps = Steps()
    with tempfile.TemporaryDirectory(prefix="hello-ami-", dir="/var/tmp") as name:
        folder = Path(name)
        bundle = folder / "bundle"
        subprocess.run([ROOT / "image" / "bundle.sh", bundle], check=True, timeout=600)
        steps.done("bundle packed")
        make_base(KERNEL_PACKAGES)
        steps.done("Debian 12, of this week")
        make_root(folder / "root", KERNEL_PACKAGES)
        provision(folder / "root", bundle)
        steps.done("provisioned")
        region = Region(folder / "root", bundle, folder)
        try:
            nspawn(region, steps)
        finally:
            region.close()
        steps.done("all terminated")
        make_disk(folder / "root", folder / "disk")  # whose network is its own affair: not before
        steps.done("disk made")
        took = boot_seconds(folder / "disk", "HELLO_OPEN=true\n", lambda: bool(greeting("127.0.0.1")))
        steps.done("qemu, from power-on to greeting and off", f"greeted after {took:.1f} s")


if __name__ == "__main__":
    main()
