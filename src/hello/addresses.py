"""Where a request comes from: the peer, or whom a trusted proxy names."""

from collections.abc import Iterable, Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network
Fields = Iterable[tuple[bytes, bytes]]

SITE_BITS = 64  # of an IPv6 address belong to one customer, who can use any of the rest


def networks(text: str) -> list[Network]:
    """Return the networks in a list such as `10.0.0.0/8, ::1`; raise ValueError where one is none."""
    try:
        return [ip_network(part.strip()) for part in text.split(",")]
    except ValueError as error:
        raise ValueError(f"Give addresses or networks, such as 10.0.0.0/8,192.0.2.1: {error}.") from None


class Addresses:
    """Finds the client's address; what proxies say is believed of those that are trusted."""

    def __init__(self, trusted: Sequence[Network]) -> None:
        self._trusted = trusted
        self.any = bool(trusted)
        self.trusts = lru_cache(1024)(self._trusts)

    def client(self, peer: str, headers: Fields) -> str:
        """Return who sent a request over this peer.

        Each proxy adds its peer to the right of X-Forwarded-For, and whatever stands left of the first
        that is not trusted may be made up.
        """
        if not self.trusts(peer):
            return peer
        named = b",".join(value for name, value in headers if name == b"x-forwarded-for")
        client = peer
        for hop in reversed(named.decode("latin-1").split(",")):
            address = _parse(hop.strip())
            if address is None:
                break
            client = str(address)
            if not self.trusts(client):
                break
        return client

    def over_tls(self, peer: str, headers: Fields) -> bool:
        """Return whether a trusted proxy took the request by https."""
        return self.trusts(peer) and any(
            name == b"x-forwarded-proto" and value.lower() == b"https" for name, value in headers
        )

    def _trusts(self, address: str) -> bool:
        parsed = _parse(address)
        return parsed is not None and any(parsed in network for network in self._trusted)


def limited_as(address: str) -> str:
    """Return what a limit counts an address as: an IPv4 address itself, an IPv6 one by its network."""
    parsed = _parse(address) if ":" in address else None
    if isinstance(parsed, IPv6Address):
        return str(ip_network((parsed, SITE_BITS), strict=False))
    return address


def _parse(text: str) -> Address | None:
    """Return the address; some proxies add the port, and IPv4 can come in IPv6's clothes."""
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        parsed = ip_address(text)
    except ValueError:
        return None
    return parsed.ipv4_mapped or parsed if isinstance(parsed, IPv6Address) else parsed
