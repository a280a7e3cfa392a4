"""Which addresses an issuer of tokens, and its keys, may have."""

import ipaddress
from urllib.parse import SplitResult, urlsplit


def check_issuer(url: str) -> str:
    """Return the URL of an issuer as it is, which is how tokens and its metadata have to name it.

    Raises:
        ValueError: it is no https URL, or has parts that an issuer's can't have; the message says what
            to write. http is for this machine only (localhost, 127.0.0.0/8, ::1).
    """
    parts = _checked(url, "The issuer")
    if "?" in url or "#" in url:
        raise ValueError("An issuer's URL has no query and no fragment; write what the tokens' `iss` has.")
    if parts.path.endswith("/.well-known/openid-configuration"):
        raise ValueError("Leave /.well-known/openid-configuration out; write what the tokens' `iss` has.")
    return url


def check_jwks_uri(url: str) -> str:
    """Return the address of an issuer's keys as it is; raise ValueError as `check_issuer` does."""
    _checked(url, "The issuer's jwks_uri")
    return url


def _checked(url: str, what: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        host = parts.hostname
        _ = parts.port
    except ValueError:
        raise ValueError(f"{what} is not a URL; write https://….") from None
    if not url.isprintable() or " " in url or not host:
        raise ValueError(f"{what} is not a URL; write https://….")
    if parts.username is not None or parts.password is not None:
        raise ValueError(f"{what} has a user in its URL; leave it out.")
    if parts.scheme != "https" and (parts.scheme != "http" or not _on_this_machine(host)):
        raise ValueError(f"{what} must be https; http is for localhost only.")
    return parts


def _on_this_machine(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
