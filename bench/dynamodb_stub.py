"""What DynamoDB answers to GetItem and BatchGetItem, made up: `dynamodb_stub.py PORT [SECONDS]`.

Each answer takes that long, which is no work. It has everybody, born on the same day, and takes any
credentials. It looks at nothing but the keys.
"""

import asyncio
import json
import sys
from typing import Any
from zlib import crc32

END = b"\r\n\r\n"
SCHEMA_KEY = "#schema"  # where hello keeps the version of its schema: it is not there


class DynamoDB(asyncio.Protocol):
    """One connection: requests come one after the other, and are answered after `delay` seconds."""

    def __init__(self, delay: float) -> None:
        self._delay = delay

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._received = b""

    def data_received(self, data: bytes) -> None:
        self._received += data
        while END in self._received:
            head, _, rest = self._received.partition(END)
            headers = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:] if b": " in line)
            length = int(headers[b"content-length"])
            if len(rest) < length:
                return
            self._received = rest[length:]
            answer = _response(headers[b"x-amz-target"].decode(), json.loads(rest[:length]))
            if self._delay:
                asyncio.get_running_loop().call_later(self._delay, self._transport.write, answer)
            else:
                self._transport.write(answer)


def _response(target: str, request: Any) -> bytes:
    if target.endswith(".getitem"):
        name = request["Key"]["key"]["S"]
        answer = {} if name == SCHEMA_KEY else {"Item": _item(name)}
    else:
        [(table, asked)] = request["RequestItems"].items()
        items = [_item(key["key"]["S"]) for key in asked["Keys"]]
        answer = {"Responses": {table: items}, "UnprocessedKeys": {}}
    body = json.dumps(answer, separators=(",", ":")).encode()
    # The headers of the real one, which its clients look at.
    return (
        b"HTTP/1.1 200 OK\r\nServer: Server\r\nDate: Tue, 24 Nov 2026 12:00:00 GMT\r\n"
        b"Content-Type: application/x-amz-json-1.0\r\nConnection: keep-alive\r\n"
        b"x-amzn-RequestId: 8KCPRV7DDVO0K7S9RNTQ7CEKQVVV4KQNSO5AEMVJF66Q9ASUAAJG\r\n"
        + f"x-amz-crc32: {crc32(body)}\r\nContent-Length: {len(body)}\r\n\r\n".encode()
        + body
    )


def _item(name: str) -> dict[str, Any]:
    return {
        "key": {"S": name},
        "username": {"S": name.capitalize()},
        "born": {"S": "1990-04-23"},
        "birthday": {"S": f"04-23{name}"},
        "shard": {"N": "7"},
    }


async def serve(port: int, delay: float) -> None:
    """Answer on loopback until the process ends."""
    server = await asyncio.get_running_loop().create_server(lambda: DynamoDB(delay), "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1]), float(sys.argv[2]) if len(sys.argv) > 2 else 0.0))
