"""Raw HTTP requests, and which of them the fast path served."""

import re
import socket
from contextlib import closing

from prometheus_client.parser import text_string_to_metric_families

from tests.support.service import Service, connect

BORN = b'{"dateOfBirth":"1990-04-23"}'


HEAD = b" HTTP/1.1\r\nHost: x\r\n"


PUT_FIELDS = b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n"


def get(path: bytes = b"/hello/Zoe", fields: bytes = b"") -> bytes:
    """Return a GET as bytes."""
    return b"GET " + path + HEAD + fields + b"\r\n"


def put(path: bytes = b"/hello/Zoe", body: bytes = BORN, fields: bytes = b"") -> bytes:
    """Return a PUT as bytes."""
    return b"PUT " + path + HEAD + fields + PUT_FIELDS % len(body) + body


def receive(connection: socket.socket, answers: int = 1, *, bodies: bool = True) -> list[tuple[bytes, bytes]]:
    """Return heads and bodies of so many answers."""
    received = []
    with connection.makefile("rb") as stream:
        for _ in range(answers):
            head = b"".join(iter(stream.readline, b"\r\n"))
            length = re.search(rb"(?i)content-length: (\d+)", head) if bodies else None
            received.append((head, stream.read(int(length[1])) if length else b""))
    return received


def exchange(service: Service, data: bytes, answers: int = 1) -> list[tuple[bytes, bytes]]:
    """Send bytes on a connection of their own, and return the answers."""
    with closing(connect(service)) as connection:
        connection.sendall(data)
        return receive(connection, answers, bodies=not data.startswith(b"HEAD"))


def operations(service: Service) -> dict[str, int]:
    """Return the store's operations so far: the fast path's are get_many and put_many."""
    text = service.get("/metrics").body.decode()
    return {
        sample.labels["operation"]: int(sample.value)
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == "hello_store_operations_total" and sample.labels["outcome"] == "ok"
    }
