"""Prints as JSON what a process may do; tests/system/ami/test_ami.py runs it in the sandbox of hello."""

import ctypes
import json
import mmap
import os
import socket
from collections.abc import Callable
from pathlib import Path

CLONE_NEWUSER = 0x10000000
FOLDERS = (
    "/ /etc /etc/hello /home /opt/hello /root /run /usr /var /var/log /var/lib /var/lib/hello /var/lib/probe"
    " /tmp"
)
SECRETS = "/run/hello/environment /run/hello/metrics-key /etc/shadow"


def works(action: Callable[..., object], *arguments: object) -> bool:
    """Return whether the system lets it be done."""
    try:
        action(*arguments)
    except OSError:
        return False
    return True


def write(folder: str) -> None:
    """Make a file and remove it."""
    file = Path(folder, "probe")
    file.touch()
    file.unlink()


def unshare() -> None:
    """Be root in a namespace of one's own, as many exploits begin."""
    if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWUSER):
        raise OSError(ctypes.get_errno(), "unshare")


print(
    "PROBE",
    json.dumps(
        {
            "root": os.getuid() == 0,
            "written": [folder for folder in FOLDERS.split() if works(write, folder)],
            "read": [path for path in SECRETS.split() if works(Path.read_text, Path(path))],
            "netlink": works(socket.socket, socket.AF_NETLINK, socket.SOCK_RAW),
            "packet": works(socket.socket, socket.AF_PACKET, socket.SOCK_RAW),
            "namespace": works(unshare),
            "executable": works(lambda: mmap.mmap(-1, 4096, prot=mmap.PROT_WRITE | mmap.PROT_EXEC)),
        }
    ),
)
