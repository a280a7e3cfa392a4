"""Granian's own interface, by hand."""

import msgspec
from greeter import message

encode = msgspec.json.Encoder().encode
HEADERS = [("content-type", "application/json")]


async def app(scope, protocol):
    username = scope.path.removeprefix("/hello/")
    protocol.response_bytes(200, HEADERS, encode(message(username)))
