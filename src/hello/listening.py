"""The socket to listen on, made before there is a server: an address that can't be had is said at once."""

import os
import socket

BACKLOG = 2048


class AddressError(Exception):
    """The address can't be listened on; the message tells what to do."""


def bind(host: str, port: int) -> socket.socket:
    """Return a socket bound to the address.

    Raises:
        AddressError: in use, not of this machine, not allowed.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        bound = socket.socket(family, kind, protocol)
    except (OSError, UnicodeError) as error:
        raise AddressError(
            f"{host} is no address of this machine; --host takes one such as 127.0.0.1."
        ) from error
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
        bound.listen(BACKLOG)
    except OSError as error:
        bound.close()
        raise AddressError(
            f"Can't listen on {host} port {port}: {os.strerror(error.errno or 0)}."
            " Stop what uses it, or choose another with --port (HELLO_PORT)."
        ) from error
    return bound


def url_of(bound: socket.socket, *, tls: bool = False) -> str:
    """Return the URL that the socket answers at."""
    host, port = bound.getsockname()[:2]
    scheme = "https" if tls else "http"
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"
