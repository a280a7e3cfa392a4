"""The load balancer: HAProxy, told by its Runtime API what an ALB is told by ECS."""

import os
import socket
import subprocess
import time
from pathlib import Path

from rehearsal.owned import die_with_parent
from rehearsal.service import TargetGroup
from rehearsal.tasks import PORT, check_free

START_SECONDS = 10
SOCKET = "haproxy.sock"
IDLE_SECONDS = 60  # an ALB's idle time

CONFIGURATION = """\
global
  nbthread 1
  stats socket unix@{socket} mode 600 level admin
defaults
  mode http
  timeout connect 5s
  timeout client {idle}s
  timeout server {idle}s
  retries 0
frontend callers
{binds}
  http-after-response set-header x-task %s
  default_backend hello
backend hello
  balance roundrobin
  http-reuse always
  timeout check {timeout}ms
  option httpchk
  http-check send meth GET uri {path} ver HTTP/1.1 hdr Host {address}
  http-check expect status {codes}
"""


class BalancerError(Exception):
    """HAProxy does not start, or does not take a command."""


class Balancer:
    """HAProxy on an address and the listeners' ports. Each answer says in `x-task` which task gave it.

    `retries 0`: a request that a task does not answer is a failed one, as with an ALB.
    """

    def __init__(self, folder: Path, address: str, ports: list[int], target_group: TargetGroup) -> None:
        for port in ports:
            check_free(address, port)
        self._target_group = target_group
        # The path of a socket has at most 107 bytes, and a folder may have more: both sides start from it.
        self._folder = os.open(folder, os.O_PATH)
        self._servers: set[str] = set()
        self._leaving: set[str] = set()
        configuration = folder / "haproxy.cfg"
        configuration.write_text(
            CONFIGURATION.format(
                socket=SOCKET,
                idle=IDLE_SECONDS,
                binds="\n".join(f"  bind {address}:{port}" for port in ports),
                timeout=_milliseconds(target_group.timeout),
                path=target_group.path,
                address=address,
                codes=target_group.codes,
            )
        )
        with (folder / "haproxy.log").open("wb") as log:
            self._process = subprocess.Popen(
                ["haproxy", "-db", "-f", str(configuration)],
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                preexec_fn=die_with_parent,
            )
        deadline = time.monotonic() + START_SECONDS
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise BalancerError(f"HAProxy does not start: {(folder / 'haproxy.log').read_text()}")
            time.sleep(0.02)

    def add(self, task: str, address: str, *, checked: bool = True) -> None:
        """Register a target; it gets requests once `healthy` checks passed, or at once if not checked."""
        group = self._target_group
        check = (
            f" check inter {_milliseconds(group.interval)}ms fall {group.unhealthy} rise {group.healthy}"
            if checked
            else ""
        )
        self._tell(f"add server hello/{task} {address}:{PORT}{check}", "New server registered.")
        self._servers.add(task)
        if not checked:
            self._tell(f"set server hello/{task} state ready")
            return
        # HAProxy takes a new server for healthy until a check fails. In this order it never gets a request.
        self._tell(f"set server hello/{task} state drain")
        self._tell(f"enable health hello/{task}")
        self._tell(f"set server hello/{task} health down")
        self._tell(f"set server hello/{task} state ready")

    def drain(self, task: str) -> None:
        """Begin to deregister a target: it gets no more requests, and finishes those that it has."""
        if task not in self._servers:
            return
        self._tell(f"set server hello/{task} state drain")

    def remove(self, task: str) -> None:
        """End the deregistration of a target, if it is still there: what it still does is cut off."""
        if task not in self._servers:
            return
        self._servers.remove(task)
        self._tell(f"set server hello/{task} state maint")
        self._tell(f"shutdown sessions server hello/{task}")
        self._leaving.add(task)
        self._forget()

    def healthy(self) -> set[str]:
        """Return the targets that passed their checks."""
        self._forget()
        lines = self._tell("show servers state hello", None).splitlines()
        rows = [line.split() for line in lines if line and not line.startswith(("1", "#"))]
        return {row[3] for row in rows if row[5] == "2"}  # srv_op_state: up

    def busy(self) -> set[str]:
        """Return the targets to which a request is under way."""
        lines = self._tell("show stat hello 4 -1", None).splitlines()  # 4: servers
        rows = [line.split(",") for line in lines if line and not line.startswith("#")]
        return {row[1] for row in rows if int(row[4])}  # scur: sessions

    def stop(self) -> None:
        """End HAProxy."""
        self._process.kill()
        self._process.wait()
        os.close(self._folder)

    def _forget(self) -> None:
        # A server can't be deleted before its last connection is closed.
        self._leaving = {
            task for task in self._leaving if "deleted" not in self._tell(f"del server hello/{task}", None)
        }

    def _answers(self) -> bool:
        try:
            return bool(self._tell("show info", None))
        except OSError:
            return False

    def _tell(self, command: str, expected: str | None = "") -> str:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(5)
            connection.connect(f"/proc/self/fd/{self._folder}/{SOCKET}")
            connection.sendall(command.encode() + b"\n")
            answer = b""
            while data := connection.recv(65536):
                answer += data
        said = answer.decode().strip()
        if expected is not None and said != expected:
            raise BalancerError(f"HAProxy answers to {command!r}: {said}")
        return said


def _milliseconds(seconds: float) -> int:
    return max(round(seconds * 1000), 1)
