"""The AMI without AWS: `make ami-rehearse` provisions a Debian 12, boots it twice and has it greet.

Once under systemd-nspawn, within the second, and once from a disk by qemu, from power-on.
"""

import http.client
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rehearsal.disk import KERNEL_PACKAGES, boot_seconds, make_disk
from rehearsal.machine import INSIDE, OUTSIDE, Machine, drop_in, make_base, make_root, provision
from rehearsal.secrets_manager import SecretsManager

NEEDED = ("mmdebstrap", "systemd-nspawn", "systemd-analyze", "qemu-system-x86_64", "mke2fs", "setpriv", "ss")
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


def nspawn(folder: Path, bundle: Path, steps: Steps) -> None:
    """Boot it under systemd-nspawn, with a key from a secret, and ask it."""
    root = folder / "root"
    machine = Machine(root, bundle)
    try:
        with machine.outside.entered():
            secrets = SecretsManager(OUTSIDE, 5001)
        try:
            drop_in(
                root, "hello-settings.service", f"[Service]\nEnvironment=AWS_ENDPOINT_URL={secrets.url}\n"
            )
            new = subprocess.run(
                [ROOT / ".venv/bin/hello", "key", "new", "rehearsal", "--scope", "read,write"],
                capture_output=True, text=True, check=True, timeout=60,
            )  # fmt: skip
            key, entry = new.stdout.splitlines()
            with machine.outside.entered():
                arn = secrets.create("hello/keys", f"[{entry}]")
                machine.metadata.user_data = f"HELLO_KEYS={arn}\nHELLO_DRAIN_SECONDS=1\n"
                steps.done("emulated AWS is ready")
                started = machine.boot()
                while not (told := greeting(INSIDE, key)):
                    if time.monotonic() > started + 60:
                        raise TimeoutError(machine.run("journalctl", "--no-pager", check=False)[-4000:])
                    time.sleep(0.01)
            steps.done("systemd-nspawn, from power-on to greeting", told)
            print(f"{'':11}listening: {', '.join(machine.listening())}")
        finally:
            secrets.close()
    finally:
        machine.close()


def main() -> None:
    """Play it, on one page."""
    lacking = [command for command in NEEDED if not shutil.which(command)]
    if os.geteuid() or lacking:
        sys.exit(
            f"make ami-rehearse takes root, and: {', '.join(lacking or NEEDED)}"
            " (requirements/debian.txt, and qemu-system-x86)"
        )
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
        make_disk(folder / "root", folder / "disk")
        steps.done("disk made")
        nspawn(folder, bundle, steps)
        steps.done("powered off")
        took = boot_seconds(folder / "disk", "HELLO_OPEN=true\n", lambda: bool(greeting("127.0.0.1")))
        steps.done("qemu, from power-on to greeting and off", f"greeted after {took:.1f} s")


if __name__ == "__main__":
    main()
