"""Network namespaces: a machine in one, what it talks to in another, and nothing on this machine's own."""

import ctypes
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


class Namespace:
    """A network namespace, held by a process that ends with this one."""

    def __init__(self) -> None:
        self._holder = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", "unshare", "--net", "sleep", "infinity"]
        )
        deadline = time.monotonic() + 10
        while self.path.readlink() == Path("/proc/self/ns/net").readlink():
            if self._holder.poll() is not None or time.monotonic() > deadline:
                raise OSError("no network namespace could be made: this takes root")
            time.sleep(0.01)
        self.ip("link", "set", "lo", "up")

    @property
    def path(self) -> Path:
        """The file that stands for it."""
        return Path(f"/proc/{self._holder.pid}/ns/net")

    def ip(self, *arguments: str) -> None:
        """Run `ip` within it."""
        with self.entered():
            subprocess.run(["ip", *arguments], check=True, timeout=30)

    def join(self, name: str, other: "Namespace", other_name: str) -> None:
        """Lay a cable to another one, with an interface at each end."""
        peer = ["peer", "name", other_name, "netns", str(other._holder.pid)]
        self.ip("link", "add", name, "type", "veth", *peer)

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Be in it, with this thread: sockets made meanwhile stay in it, and so do processes."""
        with Path("/proc/thread-self/ns/net").open("rb") as before:
            with self.path.open("rb") as namespace:
                _enter(namespace.fileno())
            try:
                yield
            finally:
                _enter(before.fileno())

    def close(self) -> None:
        """Give it up; it is gone once nothing is in it."""
        self._holder.kill()
        self._holder.wait()


def _enter(descriptor: int) -> None:
    if _libc.setns(descriptor, CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "setns")
