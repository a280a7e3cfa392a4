"""A volume of EBS: a file, as a block device of the instance that it is attached to."""

import os
import subprocess
from pathlib import Path

from rehearsal.machine import Machine

DEVICE = "/dev/nvme1n1"
BYTES = 4 << 30  # as infra/etcd.tf has it; the file takes what is written


class Volume:
    """Stays while instances come and go; one at a time has it."""

    def __init__(self, name: str, file: Path) -> None:
        """Make an empty one."""
        self.id = name
        self.instance = ""  # whose it is
        with file.open("wb") as made:
            made.truncate(BYTES)
        found = subprocess.run(
            ["losetup", "--find", "--show", file], capture_output=True, text=True, check=True, timeout=30
        )
        self._loop = Path(found.stdout.strip())

    def attach(self, machine: Machine) -> None:
        """Give it to a machine that runs, under the names that udev makes on EC2."""
        self.instance = machine.interface.instance
        number = self._loop.stat().st_rdev
        machine.run("mknod", DEVICE, "b", str(os.major(number)), str(os.minor(number)))
        machine.run("mkdir", "-p", "/dev/disk/by-id")
        name = f"nvme-Amazon_Elastic_Block_Store_{self.id.replace('-', '')}"
        machine.run("ln", "-s", DEVICE, f"/dev/disk/by-id/{name}")

    def detach(self) -> None:
        """Take it from an instance that has ended."""
        self.instance = ""

    def close(self) -> None:
        """Give it up; its file stays."""
        subprocess.run(["losetup", "--detach", self._loop], check=True, timeout=30)
