"""The members of etcd that Terraform asks for, as processes: configured by image/etcd_member.py itself.

As a command it is what systemd runs around etcd on an instance, with the settings and secrets on standard
input: `python -m rehearsal.members prepare FOLDER`, and `users FOLDER` once etcd is started.
"""

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from rehearsal.owned import die_with_parent
from rehearsal.tasks import check_free

ROOT = Path(__file__).parent.parent
CLIENT_PORT, PEER_PORT = 2379, 2380
FIRST, COUNT = 250, 3  # of the addresses; tasks and instances have those below
RETRY_SECONDS = 0.5


class Members:
    """Starts members, each on an address of loopback in place of the one in its private subnet.

    A member that ends is not started again.
    """

    def __init__(self, folder: Path, network: str, python: str, tell: Callable[..., None]) -> None:
        self._folder = folder
        self._network = network
        self._python = python
        self._tell = tell
        self._processes: dict[str, list[subprocess.Popen[bytes]]] = {}
        self.addresses: dict[str, str] = {}  # by those of Terraform

    def translate(self, text: str) -> str:
        """Return a text with the addresses that are played, for those of Terraform."""
        for given, played in self.addresses.items():
            text = text.replace(f"//{given}:", f"//{played}:")
        return text

    def know(self, cluster: str) -> None:
        """Choose an address for each member of ETCD_CLUSTER, or of HELLO_ETCD; "" names none."""
        for url in filter(None, cluster.split(",")):
            given = url.partition("//")[2].partition(":")[0]
            self.addresses.setdefault(given, f"{self._network}.{FIRST + len(self.addresses)}")

    def start(self, settings: Mapping[str, str], secrets: str) -> None:
        """Start the member that user data describe, unless it was; `secrets` is what ETCD_SECRET holds.

        Raises:
            AddressTakenError: another process listens on its address.
        """
        name = settings["ETCD_NAME"]
        if name in self._processes:
            return
        self.know(settings["ETCD_CLUSTER"])
        address = self.addresses[settings["ETCD_ADDRESS"]]
        for port in (CLIENT_PORT, PEER_PORT):
            check_free(address, port)
        folder = self._folder / f"etcd-{name}"
        folder.mkdir()
        given = {
            "ETCD_NAME": name,
            "ETCD_ADDRESS": address,
            "ETCD_CLUSTER": self.translate(settings["ETCD_CLUSTER"]),
            "ETCD_DATA": str(folder),
        }
        told = json.dumps({"settings": given, "secrets": json.loads(secrets)}).encode()
        log = folder / "log"
        subprocess.run([*self._program("prepare", folder)], input=told, check=True, cwd=ROOT)
        etcd = self._begin(["etcd", "--config-file", str(folder / "etcd.json")], log)
        users = self._begin(self._program("users", folder), log, told)
        self._processes[name] = [etcd, users]
        self._tell("member", id=name, address=address, pid=etcd.pid)

    def stop(self) -> None:
        """End them."""
        for process in [one for processes in self._processes.values() for one in processes]:
            process.kill()
            process.wait()

    def _program(self, step: str, folder: Path) -> list[str]:
        return [self._python, "-m", "rehearsal.members", step, str(folder)]

    def _begin(self, command: list[str], log: Path, told: bytes = b"") -> subprocess.Popen[bytes]:
        with log.open("ab") as output:
            process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=output, stderr=output, cwd=ROOT,
                preexec_fn=die_with_parent,
            )  # fmt: skip
        assert process.stdin is not None
        process.stdin.write(told)
        process.stdin.close()
        return process


def main() -> None:
    """Do a step of image/etcd_member.py."""
    sys.path.insert(0, str(ROOT / "image"))
    import aiohttp
    import etcd_cluster
    import etcd_member
    from settings import NotYetError

    step, folder = sys.argv[1], Path(sys.argv[2])
    told = json.load(sys.stdin)
    settings, secrets = told["settings"], told["secrets"]
    if step == "prepare":
        etcd_member.certify(folder, secrets, {settings["ETCD_ADDRESS"]})
        etcd_member.configure(folder, settings, CLIENT_PORT)
        return
    while True:
        try:
            url = f"https://{settings['ETCD_ADDRESS']}:{CLIENT_PORT}"
            asyncio.run(etcd_cluster.set_up(url, secrets["ca"], secrets))
        except (OSError, NotYetError, aiohttp.ClientError):
            time.sleep(RETRY_SECONDS)
        else:
            return


if __name__ == "__main__":
    main()
