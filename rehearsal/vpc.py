"""A VPC: a router in a network namespace of its own, and instances' interfaces there.

As in AWS's, an address leads to the interface that it is assigned to, whoever else claims to have it.
"""

from pathlib import Path

from rehearsal.metadata import ADDRESS, Metadata
from rehearsal.network import Namespace

GATEWAY = "10.0.0.1"  # the router, and the endpoints of AWS there
REGION = "eu-central-1"


class Interface:
    """An interface of an instance, with the metadata that it reaches; `inside` is where the instance is."""

    def __init__(self, router: Namespace, number: int, address: str) -> None:
        self.id = f"eni-{number:017x}"
        self.instance = f"i-{number:017x}"
        self.address = address
        self.mac = f"02:00:00:00:00:{number:02x}"
        self.inside = Namespace()
        self._router = router
        self.device = f"eni{number}"
        router.join(self.device, self.inside, "host0")
        router.ip("link", "set", self.device, "up")
        with router.entered():
            # Each interface has the router for its only neighbour.
            Path(f"/proc/sys/net/ipv4/conf/{self.device}/proxy_arp").write_text("1")
            self.metadata = Metadata(address, device=self.device)
        self.metadata.found |= {
            "mac": self.mac,
            "instance-id": self.instance,
            "placement/region": REGION,
            f"network/interfaces/macs/{self.mac}/interface-id": self.id,
        }
        self.inside.ip("link", "set", "host0", "address", self.mac, "up")
        self.inside.ip("address", "add", f"{address}/24", "dev", "host0")
        self.inside.ip("route", "add", GATEWAY, "dev", "host0", "scope", "link")
        self.inside.ip("route", "add", "default", "via", GATEWAY)
        self.assign(address)

    def assign(self, address: str) -> None:
        """Have an address lead here, and nowhere else."""
        self._router.ip("route", "replace", f"{address}/32", "dev", self.device, "src", GATEWAY)

    def close(self) -> None:
        """Take it away, once the instance is gone."""
        self.metadata.close()
        self._router.ip("link", "del", self.device)
        self.inside.close()


class Vpc:
    """The network; `router` is where AWS's endpoints are, and those who look on."""

    def __init__(self) -> None:
        self.router = Namespace()
        self._plugged = 0
        self._cuts: list[tuple[str, ...]] = []
        with self.router.entered():
            Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
        for address in (GATEWAY, ADDRESS):
            self.router.ip("address", "add", f"{address}/32", "dev", "lo")

    def plug(self, address: str) -> Interface:
        """Return a new interface with this private address."""
        self._plugged += 1
        return Interface(self.router, self._plugged, address)

    def cut(self, interface: Interface, *addresses: str) -> None:
        """Drop what an interface sends to these addresses, and tell nobody."""
        for address in addresses:
            rule = ("iif", interface.device, "to", address, "blackhole")
            self.router.ip("rule", "add", *rule)
            self._cuts.append(rule)

    def mend(self) -> None:
        """Let all through again."""
        while self._cuts:
            self.router.ip("rule", "del", *self._cuts.pop())

    def close(self) -> None:
        """Give it up; it is gone once nothing is in it."""
        self.router.close()
