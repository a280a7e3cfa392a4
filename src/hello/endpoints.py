"""Addresses of etcd's members, and the address that an instance is registered with."""

import hashlib
import re
from ipaddress import IPv6Address, ip_address
from urllib.parse import urlsplit

HOST_NAME = re.compile(r"(?=.{1,253}$)[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?(\.[A-Za-z0-9-]{1,63})*")
PORTS = range(1, 65536)
LABEL_CHARACTERS = 63  # of a part of a domain name (RFC 1035)


def endpoints(text: str) -> list[str]:
    """Return the URLs in a list such as `https://10.0.0.1:2379,https://10.0.0.2:2379`.

    Raises:
        ValueError: one is no such URL; the message says what to write.
    """
    return [_endpoint(part.strip()) for part in text.split(",")]


def in_clear(text: str) -> bool:
    """Return whether one of the URLs leads over a network, by http."""
    parts = [urlsplit(url) for url in endpoints(text)]
    return any(part.scheme == "http" and not _is_loopback(part.hostname or "") for part in parts)


def advertised(text: str) -> tuple[str, int | None]:
    """Return host and port of `host`, `host:port`, `IPv6` or `[IPv6]:port`.

    Raises:
        ValueError: it is none of them.
    """
    bracketed = re.fullmatch(r"\[([^]]*)\](?::([0-9]{1,5}))?", text)
    plain = re.fullmatch(r"([^:]*)(?::([0-9]{1,5}))?", text)
    host, port = (bracketed or plain).groups() if (bracketed or plain) else (text, None)  # type: ignore[union-attr]
    if not is_host(host) or (bracketed and not is_ipv6(host)) or (port and int(port) not in PORTS):
        raise ValueError("Give an address such as 10.0.0.5, 10.0.0.5:5000 or [2001:db8::5]:5000.")
    return host, int(port) if port else None


def joined(host: str, port: int) -> str:
    """Return `host:port`, an IPv6 address in brackets."""
    return f"[{host}]:{port}" if is_ipv6(host) else f"{host}:{port}"


def instance_id(host: str, port: int) -> str:
    """Return the name that an address is registered under: one label of a domain name.

    It is the same whenever the address is: a process that takes the place of one that was killed takes
    its record too. A name that is no address gets a part of its hash, for dots become hyphens.
    """
    try:
        label = ip_address(host).exploded.replace(":", "-").replace(".", "-")
    except ValueError:
        digest = hashlib.sha256(host.lower().encode()).hexdigest()[:8]
        label = f"{host.lower().replace('.', '-')[: LABEL_CHARACTERS - 15]}-{digest}"
    return f"{label}-{port}"


def is_host(text: str) -> bool:
    """Return whether it is an address or could be a name of a host."""
    return is_address(text) or (HOST_NAME.fullmatch(text) is not None and not re.fullmatch("[0-9.]+", text))


def is_address(text: str) -> bool:
    """Return whether it is an IP address, without a zone."""
    try:
        ip_address(text)
    except ValueError:
        return False
    return "%" not in text


def is_ipv6(text: str) -> bool:
    """Return whether it is an IPv6 address."""
    return is_address(text) and isinstance(ip_address(text), IPv6Address)


def _endpoint(url: str) -> str:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        port = None
        parts = urlsplit("")
    if parts.scheme not in {"http", "https"} or not is_host(parts.hostname or "") or port is None:
        raise ValueError("Give URLs with a port, by commas, such as https://10.0.0.1:2379.")
    if parts.username is not None or parts.password is not None:
        raise ValueError("Give the user by --etcd-user, not in the URL.")
    if parts.path not in {"", "/"} or parts.query or parts.fragment:
        raise ValueError("Give URLs without a path, such as https://10.0.0.1:2379.")
    return f"{parts.scheme}://{joined(parts.hostname or '', port)}"


def _is_loopback(host: str) -> bool:
    return host == "localhost" or (is_address(host) and ip_address(host).is_loopback)
