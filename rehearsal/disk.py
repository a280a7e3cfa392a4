"""A machine booted by qemu from a disk: from power-on, with a kernel of its own, and no acceleration."""

import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from rehearsal.machine import PACKAGES
from rehearsal.metadata import ADDRESS, Metadata
from rehearsal.network import Namespace

KERNEL_PACKAGES = (*PACKAGES, "linux-image-cloud-amd64", "initramfs-tools")
MACHINE = "169.254.169.15"
BOOT_SECONDS = 300
# qemu's own network, with the metadata's address as that of its host: port 80 there is port 80 of the
# loopback that qemu has, which is that of a namespace of ours.
USER_NETWORK = f"user,id=net,net=169.254.169.0/24,host={ADDRESS},dhcpstart={MACHINE},hostfwd=tcp::5000-:5000"


def make_disk(root: Path, disk: Path) -> None:
    """Make a disk of a root, which gets its address by DHCP as an instance does."""
    network = root / "etc/systemd/network/rehearsal.network"
    network.write_text("[Match]\nName=en*\n[Network]\nDHCP=ipv4\n")
    subprocess.run(
        ["systemctl", f"--root={root}", "enable", "--quiet", "systemd-networkd"], check=True, timeout=60
    )
    with disk.open("wb") as file:
        file.truncate(2 << 30)
    subprocess.run(["mke2fs", "-q", "-t", "ext4", "-d", root, disk], check=True, timeout=300)
    for name in ("vmlinuz", "initrd.img"):
        shutil.copy(root / name, disk.parent / name)


def boot_seconds(disk: Path, user_data: str, answers: Callable[[], bool]) -> float:
    """Boot a disk and power it off again; return the seconds until the service answers.

    Raises:
        TimeoutError: it did not; the message has the console's end.
    """
    namespace = Namespace()
    console = disk.parent / "console"
    command = [
        "setpriv",
        "--pdeathsig",
        "KILL",
        "qemu-system-x86_64",
        "-M",
        "q35",
        "-cpu",
        "max",
        "-smp",
        "2",
    ]
    command += ["-accel", "tcg,thread=multi", "-m", "1024", "-display", "none", "-serial", f"file:{console}"]
    command += ["-kernel", str(disk.parent / "vmlinuz"), "-initrd", str(disk.parent / "initrd.img")]
    command += ["-append", "root=/dev/vda rw console=ttyS0", "-netdev", USER_NETWORK]
    command += ["-device", "virtio-net-pci,netdev=net", "-drive", f"file={disk},if=virtio,format=raw"]
    try:
        with namespace.entered():
            metadata = Metadata(MACHINE, "127.0.0.1")
            metadata.user_data = user_data
            started = time.monotonic()
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
            try:
                while not answers():
                    if process.poll() is not None or time.monotonic() > started + BOOT_SECONDS:
                        raise TimeoutError(console.read_text(errors="replace")[-4000:])
                    time.sleep(0.1)
                return time.monotonic() - started
            finally:
                process.kill()
                process.wait()
                metadata.close()
    finally:
        namespace.close()
