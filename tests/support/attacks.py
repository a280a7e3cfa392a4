"""The attacks tried: what is sent, and what must be the answer. docs/attacks.md shows this table.

tests/service/test_attacks.py sends each row, to the service and through a proxy. An attack that takes
more than bytes on one connection is a test of its own, and a row of `BY_TEST`. A test compares the page
with the tables that `python -m tests.support.attacks` prints.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

BODY = b'{"dateOfBirth":"1990-04-23"}'
HOST = b"Host: x\r\n"
JSON = b"Content-Type: application/json\r\n"
LENGTH = b"Content-Length: 28\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n"
IN_CHUNKS = b"1c\r\n" + BODY + b"\r\n0\r\n\r\n"
# Hidden where two programs may see different ends of a message; never carried out.
HIDDEN = b"PUT /hello/Hidden HTTP/1.1\r\n" + HOST + JSON + LENGTH + b"\r\n" + BODY
NEXT = b"GET /hc HTTP/1.1\r\n" + HOST + b"\r\n"  # a request that follows and is to be answered
SENT_LENGTH = 120  # characters shown
EVIL = b"attacker.example"  # no answer repeats it


@dataclass(frozen=True)
class Attack:
    """Bytes on a connection of their own.

    Attributes:
        answers: the statuses of all answers, in order.
        closes: whether the service closes the connection then; else it takes the next request on it.
    """

    name: str
    sent: bytes
    answers: tuple[int, ...]
    closes: bool = False


def _shown(data: bytes) -> str:
    """Return bytes in printable ASCII, with long repetitions cut short."""
    text = re.sub(
        r"(.{1,8}?)\1{40,}",
        lambda match: f"{match[1]}…",
        data.decode("latin-1"),
        flags=re.DOTALL,
    )
    return "".join(
        {"\r": "\\r", "\n": "\\n", "\t": "\\t"}.get(c, c)
        if c in "\r\n\t…" or (c.isascii() and c.isprintable())
        else f"\\x{ord(c):02x}"
        for c in text
    )


def get(target: bytes, fields: bytes = b"", rest: bytes = b"") -> bytes:
    """Return a GET, and what follows its head."""
    return b"GET " + target + b" HTTP/1.1\r\n" + HOST + fields + b"\r\n" + rest


def put(fields: bytes, rest: bytes = BODY, target: bytes = b"/hello/Zoe") -> bytes:
    """Return a PUT with more header fields, and what follows its head."""
    return b"PUT " + target + b" HTTP/1.1\r\n" + HOST + JSON + fields + b"\r\n" + rest


def refused(shapes: Mapping[str, bytes], status: int = 400) -> list[Attack]:
    """Return rows that are answered once, whereupon the connection is closed."""
    return [Attack(name, sent, (status,), closes=True) for name, sent in shapes.items()]


def taken(shapes: Mapping[str, bytes], *answers: int) -> list[Attack]:
    """Return rows that are answered so, and leave the connection open."""
    return [Attack(name, sent, answers) for name, sent in shapes.items()]


def lengths(values: Iterable[bytes], rest: bytes = HIDDEN) -> dict[str, bytes]:
    """Return a PUT for each way of writing Content-Length."""
    return {_shown(value): put(value + b"\r\n", BODY + rest) for value in values}


def codings(values: Iterable[bytes], rest: bytes = HIDDEN) -> dict[str, bytes]:
    """Return a PUT for each way of writing Transfer-Encoding."""
    return {_shown(value): put(value + b"\r\n", IN_CHUNKS + rest) for value in values}


def sizes(values: Iterable[bytes], rest: bytes = HIDDEN) -> dict[str, bytes]:
    """Return a PUT in chunks for each way of writing the size of the first."""
    return {_shown(value): put(CHUNKED, value + b"\r\n" + BODY + b"\r\n0\r\n\r\n" + rest) for value in values}


def fields(values: Iterable[bytes]) -> dict[str, bytes]:
    """Return a GET for each header field or line."""
    return {_shown(value): get(b"/hello/Zoe", value + b"\r\n", HIDDEN) for value in values}


def targets(values: Iterable[bytes]) -> dict[str, bytes]:
    """Return a GET for each target."""
    return {_shown(value): get(value) for value in values}


def first_lines(values: Iterable[bytes]) -> dict[str, bytes]:
    """Return a request with each first line, and nothing but the host."""
    return {_shown(value): value + b"\r\n" + HOST + b"\r\n" for value in values}


def _hidden_in(first: bytes, more: bytes = b"", padding: int = 0) -> bytes:
    body = HIDDEN + b" " * padding
    return first + b" HTTP/1.1\r\n" + HOST + more + b"Content-Length: %d\r\n\r\n" % len(body) + body


H2C = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA\r\n"
WEBSOCKET = b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"

GROUPS: dict[str, list[Attack]] = {
    "The length of a body": [
        *refused(
            lengths(
                [
                    b"Content-Length: 28\r\nContent-Length: 28",
                    b"Content-Length: 28\r\nContent-Length: 5",
                    b"Content-Length: 28, 28",
                    b"Content-Length: +28",
                    b"Content-Length: -28",
                    b"Content-Length: 0x1c",
                    b"Content-Length: 1c",
                    b"Content-Length: 2 8",
                    b"Content-Length: 2_8",
                    b"Content-Length: 28.0",
                    b"Content-Length: 28;",
                    b"Content-Length: 28\0",
                    b"Content-Length:\x0b28",
                    b"Content-Length: \xd9\xa2\xd9\xa8",
                    b"Content-Length:",
                    b"Content-Length: 18446744073709551644",
                    b"Content-Length: 99999999999999999999999",
                    b"Content-Length : 28",
                    b" Content-Length: 28",
                    b"Content-Length:\r\n 28",
                    b"Content-Length: 2\r\n 8",
                    b"X: y\nContent-Length: 28",
                    b"X: y\rContent-Length: 28",
                ]
            )
        ),
        *taken(
            lengths([b"Content-Length: 0028", b"Content-Length:28 \t", b"cONTENT-lENGTH: 28"], NEXT), 204, 200
        ),
        Attack("no length, and a body", put(b"", BODY), (400, 400), closes=True),
        Attack("Content_Length: 28", put(b"Content_Length: 28\r\n"), (400, 400), closes=True),
    ],
    "Length and chunks": [
        *refused(
            {
                "length, then chunks": put(LENGTH + CHUNKED, IN_CHUNKS + HIDDEN),
                "chunks, then length": put(CHUNKED + LENGTH, IN_CHUNKS + HIDDEN),
                "length 0 and chunks": put(b"Content-Length: 0\r\n" + CHUNKED, IN_CHUNKS + HIDDEN),
                "HTTP/1.0 with chunks": put(CHUNKED, IN_CHUNKS + HIDDEN).replace(b"/1.1", b"/1.0", 1),
            }
        ),
        *refused(
            codings(
                [
                    b"Transfer-Encoding: xchunked",
                    b"Transfer-Encoding: gzip, chunked",
                    b"Transfer-Encoding: identity, chunked",
                    b"Transfer-Encoding: chunked, identity",
                    b"Transfer-Encoding: identity",
                    b"Transfer-Encoding: chunked, chunked",
                    b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
                    b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
                    b"Transfer-Encoding: identity\r\nTransfer-Encoding: chunked",
                    b"Transfer-Encoding: chunked,",
                    b"Transfer-Encoding: ,chunked",
                    b"Transfer-Encoding: chunked;x=y",
                    b'Transfer-Encoding: "chunked"',
                    b"Transfer-Encoding: \x0bchunked",
                    b"Transfer-Encoding: chunked\0",
                    b"Transfer-Encoding: chun\xe2\x84\xaaed",
                    b"Transfer-Encoding : chunked",
                    b" Transfer-Encoding: chunked",
                    b"Transfer-Encoding:\r\n chunked",
                    b"Transfer-Encoding:",
                    b"X: y\nTransfer-Encoding: chunked",
                    b"X: y\rTransfer-Encoding: chunked",
                ]
            )
        ),
        *taken(codings([b"Transfer-Encoding:\tchunked", b"tRANSFER-eNCODING: CHUNKED"], NEXT), 204, 200),
        Attack(
            "Transfer_Encoding: chunked",
            put(b"Transfer_Encoding: chunked\r\n", IN_CHUNKS),
            (400, 400),
            closes=True,
        ),
    ],
    "Chunks": [
        *refused(
            sizes(
                [
                    b"0x1c",
                    b"+1c",
                    b"-1c",
                    b"1_c",
                    b"",
                    b" 1c",
                    b"1c ",
                    b"1c\t",
                    b"1c\x0b",
                    b"1c;",
                    b"1c;a=\0",
                    b"1c;a=b\nX",
                    b'1c;a="\r\n"',
                    b"1c;\xff",
                    b"10000000000000001c",
                ]
            )
        ),
        *refused(
            {
                "LF behind the size": put(CHUNKED, b"1c\n" + BODY + b"\r\n0\r\n\r\n" + HIDDEN),
                "LF behind the chunk": put(CHUNKED, b"1c\r\n" + BODY + b"\n0\r\n\r\n" + HIDDEN),
                "LF at the end": put(CHUNKED, b"1c\r\n" + BODY + b"\r\n0\r\n\n" + HIDDEN),
                "LF everywhere": put(CHUNKED, b"1c\n" + BODY + b"\n0\n\n" + HIDDEN),
                "CR everywhere": put(CHUNKED, b"1c\r" + BODY + b"\r0\r\r" + HIDDEN),
                "CR CR LF": put(CHUNKED, b"1c\r\r\n" + BODY + b"\r\n0\r\n\r\n" + HIDDEN),
                "nothing behind the chunk": put(CHUNKED, b"1c\r\n" + BODY + b"0\r\n\r\n" + HIDDEN),
                "a size one too small": put(CHUNKED, b"1b\r\n" + BODY + b"\r\n0\r\n\r\n" + HIDDEN),
                "a size one too large": put(CHUNKED, b"1d\r\n" + BODY + b"\r\n0\r\n\r\n" + HIDDEN),
                "no blank line at the end": put(CHUNKED, b"1c\r\n" + BODY + b"\r\n0\r\n" + HIDDEN),
                "a length as a trailer": put(CHUNKED, IN_CHUNKS[:-2] + LENGTH + b"\r\n" + HIDDEN),
                "chunks as a trailer": put(CHUNKED, IN_CHUNKS[:-2] + CHUNKED + b"\r\n" + HIDDEN),
                "a folded trailer": put(CHUNKED, IN_CHUNKS[:-2] + b"X: y\r\n z\r\n\r\n" + HIDDEN),
                "a trailer with LF": put(CHUNKED, IN_CHUNKS[:-2] + b"X: y\nGET / HTTP/1.1\r\n\r\n"),
            }
        ),
        *refused(sizes([b"ffffffffffffffff", b"7fffffffffffffff"]), 408),
        *refused({"an end that never comes": put(CHUNKED, IN_CHUNKS[:-2])}, 408),
        *taken(sizes([b"1c;a=b", b"1C", b"0000000000000000000000000001c"], NEXT), 204, 200),
        *taken(
            {
                "Host as a trailer": put(CHUNKED, IN_CHUNKS[:-2] + b"Host: attacker.example\r\n\r\n" + NEXT),
                "an extension of 9,000 bytes": put(CHUNKED, b"1c;" + b"x" * 9000 + IN_CHUNKS[2:] + NEXT),
            },
            204,
            200,
        ),
    ],
    "Requests hidden in a body": [
        *taken({"a GET": _hidden_in(b"GET /hello/Zoe") + NEXT}, 200, 200),
        *taken({"a HEAD": _hidden_in(b"HEAD /hello/Zoe") + NEXT}, 200, 200),
        *taken({"a DELETE": _hidden_in(b"DELETE /hello/Nobody") + NEXT}, 404, 200),
        *taken({"a POST": _hidden_in(b"POST /hello/Zoe") + NEXT}, 405, 200),
        *taken({"a PUT that is no JSON": _hidden_in(b"PUT /hello/Zoe", JSON) + NEXT}, 400, 200),
        *taken({"a PUT of no media type": _hidden_in(b"PUT /hello/Zoe") + NEXT}, 415, 200),
        *taken({"a PUT of no username": _hidden_in(b"PUT /hello/1", JSON) + NEXT}, 400, 200),
        *taken({"a PUT that is too long": _hidden_in(b"PUT /hello/Zoe", JSON, 5000) + NEXT}, 413, 200),
        *taken(
            {
                "a GET in chunks": get(
                    b"/hello/Zoe", CHUNKED, b"%x\r\n%b\r\n0\r\n\r\n" % (len(HIDDEN), HIDDEN)
                )
                + NEXT
            },
            200,
            200,
        ),
        *taken(
            {
                "a GET that expects 100-continue": _hidden_in(b"GET /hello/Zoe", b"Expect: 100-continue\r\n")
                + NEXT
            },
            200,
            200,
        ),
        *taken(
            {"a PUT that expects 100-continue": put(LENGTH + b"Expect: 100-continue\r\n") + NEXT},
            100,
            204,
            200,
        ),
    ],
    "Lines and fields": [
        *refused(
            {
                "LF for CRLF": (get(b"/hello/Zoe") + HIDDEN).replace(b"\r\n", b"\n"),
                "CR for CRLF": (get(b"/hello/Zoe") + HIDDEN).replace(b"\r\n", b"\r"),
                "LF behind the first line": get(b"/hello/Zoe", b"", HIDDEN).replace(b"\r\n", b"\n", 1),
                "LF for the blank line": get(b"/hello/Zoe")[:-2] + b"\n" + HIDDEN,
                "CR CR LF for the blank line": get(b"/hello/Zoe")[:-2] + b"\r\r\n" + HIDDEN,
                "a space before the first field": b"GET /hello/Zoe HTTP/1.1\r\n " + HOST + b"\r\n" + HIDDEN,
            }
        ),
        *refused(
            fields(
                [
                    b"X : y",
                    b"X\t: y",
                    b": y",
                    b"X",
                    b"X: y\r\n z",
                    b"X: y\r z",
                    b"X: y\n z",
                    b"X\0: y",
                    b"X: \0",
                    b"X: \x01",
                    b"X: \x1b[31m",
                    b"X: \x7f",
                    b"X\xff: y",
                    b"X(: y",
                    b"X\x0bY: z",
                    b"Host: attacker.example",
                ]
            )
        ),
        *refused({"no host": b"GET /hello/Zoe HTTP/1.1\r\n\r\n" + HIDDEN}),
        *taken({"empty lines before": b"\r\n\r\n" + get(b"/hello/Zoe")}, 200),
        *taken({"X: \\x85\\xff": get(b"/hello/Zoe", b"X: \x85\xff\r\n")}, 200),
    ],
    "First lines": [
        *refused(
            first_lines(
                [
                    b"GET /hello/Zoe",
                    b"GET /hello/Zoe HTTP/0.9",
                    b"GET /hello/Zoe HTTP/1.2",
                    b"GET /hello/Zoe HTTP/1.10",
                    b"GET /hello/Zoe HTTP/01.1",
                    b"GET /hello/Zoe HTTP/2.0",
                    b"GET /hello/Zoe HTTP/9.9",
                    b"GET /hello/Zoe http/1.1",
                    b"GET /hello/Zoe HTTP/1.1 ",
                    b"GET /hello/Zoe HTTP/1.1 x",
                    b"GET\t/hello/Zoe\tHTTP/1.1",
                    b"GET /hello/Zoe\0 HTTP/1.1",
                    b"GET /hello/\x1b[31m HTTP/1.1",
                    b"GET /hello/Zoe\rX HTTP/1.1",
                    b"GET hello/Zoe HTTP/1.1",
                    b"GET \\hello\\Zoe HTTP/1.1",
                    b"GET  HTTP/1.1",
                    b"GET /hello/Zoe#x HTTP/1.1",
                    b"GET * HTTP/1.1",
                    b"get /hello/Zoe HTTP/1.1",
                    b"G\x1bT /hello/Zoe HTTP/1.1",
                    b"G\xffT /hello/Zoe HTTP/1.1",
                    b"CONNECT attacker.example:443 HTTP/1.1",
                    b"GET attacker.example:80 HTTP/1.1",
                    b"GET file:///etc/passwd HTTP/1.1",
                    b"GET gopher://attacker.example/ HTTP/1.1",
                    b"GET http:///hello/Zoe HTTP/1.1",
                    b"GET http:/hello/Zoe HTTP/1.1",
                    b"nonsense",
                ]
            )
        ),
        *refused(
            {
                "HTTP/2 in clear": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0",
                "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 200,
                "zeros": b"\0" * 500,
            }
        ),
        *taken(
            first_lines(
                [
                    b"GET http://attacker.example/hello/Zoe HTTP/1.1",
                    b"GET HTTPS://attacker.example:99999/hello/Zoe HTTP/1.1",
                    b"GET http://a:b@attacker.example HTTP/1.1",
                    b"GET http://attacker.example?attacker.example HTTP/1.1",
                ]
            ),
            200,
        ),
        *taken(
            first_lines([b"GET //attacker.example/hello/Zoe HTTP/1.1", b"OPTIONS * HTTP/1.1"]),
            404,
        ),
        *refused({"HTTP/1.0, and more behind it": b"GET /hc HTTP/1.0\r\n\r\n" + HIDDEN}, 200),
        *refused(
            {
                "HTTP/1.0 kept alive": b"GET /hc HTTP/1.0\r\nConnection: keep-alive\r\n\r\n" + HIDDEN,
                "an upgrade to HTTP/2": get(b"/hello/Zoe", H2C, HIDDEN),
                "an upgrade to WebSocket": get(b"/hello/Zoe", WEBSOCKET, HIDDEN),
            },
            200,
        ),
        *refused(
            {
                "an upgrade to HTTP/2 with a body": put(LENGTH + H2C, BODY + HIDDEN),
                "an upgrade to HTTP/2 with chunks": put(CHUNKED + H2C, IN_CHUNKS + HIDDEN),
            },
            204,
        ),
        *refused({"CONNECT of a path": b"CONNECT /hello/Zoe HTTP/1.1\r\n" + HOST + b"\r\n" + HIDDEN}, 405),
    ],
    "Sizes": [
        *refused(
            {
                "101 header fields": get(b"/hello/Zoe", b"Field: x\r\n" * 100),
                "10,000 header fields": get(b"/hello/Zoe", b"Field: x\r\n" * 10_000),
                "a field of 33,000 bytes": get(b"/hello/Zoe", b"Field: " + b"x" * 33_000 + b"\r\n"),
                "a name of 33,000 bytes": get(b"/hello/Zoe", b"x" * 33_000 + b": x\r\n"),
                "90 fields of 400 bytes": get(b"/hello/Zoe", (b"Field: " + b"x" * 400 + b"\r\n") * 90),
                "a head without an end": get(b"/hello/Zoe", b"Field: " + b"x" * 40_000)[:-2],
            },
            431,
        ),
        *refused(
            {
                "a path of 9,000 bytes": get(b"/hello/" + b"x" * 9000),
                "a query of 9,000 bytes": get(b"/hello/Zoe?" + b"x" * 9000),
            },
            414,
        ),
        *refused({"a length of 1 GB": put(b"Content-Length: 999999999\r\n")}, 413),
        *refused({"a chunk of 5,000 bytes": put(CHUNKED, b"1388\r\n" + b" " * 5000 + b"\r\n")}, 413),
        *taken({"a body of 5,000 bytes": put(b"Content-Length: 5000\r\n", BODY.ljust(5000))}, 413),
        *taken({"JSON 4,096 deep": put(b"Content-Length: 4096\r\n", b"[" * 4096)}, 400),
        *taken({"objects 680 deep": put(b"Content-Length: 4080\r\n", b'{"a": ' * 680)}, 400),
        *taken(
            {
                "a number of 4,000 digits": put(
                    b"Content-Length: 4016\r\n", b'{"dateOfBirth":' + b"9" * 4000 + b"}"
                )
            },
            400,
        ),
        *taken({"100 requests at once": NEXT * 100}, *[200] * 100),
    ],
    "Parameters": [
        *taken(
            targets(
                [
                    b"/hello/Zoe?tz=" + b"x" * 8000,
                    b"/hello/Zoe?tz=../../etc/passwd",
                    b"/hello/Zoe?tz=/etc/localtime",
                    b"/hello/Zoe?tz=Europe/Berlin%00",
                    b"/hello/Zoe?tz=%ff",
                    b"/hello/Zoe?tz=",
                    b"/hello/Zoe?tz=UTC&tz=Asia/Tokyo",
                    b"/hello/Zoe?tz=UTC;DROP%20TABLE",
                    b"/hello?limit=0",
                    b"/hello?limit=-1",
                    b"/hello?limit=1e3",
                    b"/hello?limit=1.0",
                    b"/hello?limit=%2b1",
                    b"/hello?limit=%201",
                    b"/hello?limit=1_0",
                    b"/hello?limit=0x1",
                    b"/hello?limit=%d9%a1",
                    b"/hello?limit=%ef%bc%91",
                    b"/hello?limit=" + b"9" * 5000,
                    b"/hello?limit=NaN",
                    b"/hello?limit=1&limit=1",
                    b"/hello?after=" + b"A" * 8000,
                    b"/hello?after=%00",
                    b"/hello?after=..%2f..",
                    b"/hello?after=' OR 1=1".replace(b" ", b"%20"),
                    b"/hello?after=",
                    b"/birthdays?days=367",
                    b"/birthdays?days=%e0%a5%a7",
                    b"/birthdays?after=%f0%9f%92%a9",
                ]
            ),
            400,
        ),
        *taken(targets([b"/hello/Zoe?x=%00%0d%0a&&==", b"/hello/Zoe?tz%00=x"]), 200),
    ],
    "Usernames and paths": [
        *taken(
            targets(
                [
                    b"/hello/..%2e",
                    b"/hello/Zoe%00",
                    b"/hello/Zoe%0d%0aSet-Cookie:%20a=attacker.example",
                    b"/hello/%3Cscript%3E",
                    b"/hello/'%20OR%201=1--",
                    b"/hello/%e2%80%aeeoZ",
                    b"/hello/Zo%e2%80%8be",
                    b"/hello/%ed%a0%80",
                    b"/hello/%c0%af",
                    b"/hello/%zz",
                    b"/hello/" + b"x" * 65,
                    b"/hello/" + b"%cc%81" * 100,
                ]
            ),
            400,
        ),
        *taken(
            targets(
                [
                    b"/web/../protocol.py",
                    b"/web/%2e%2e/protocol.py",
                    b"/web/%2e%2e%2fprotocol.py",
                    b"/web/..%5cprotocol.py",
                    b"/web/..\\protocol.py",
                    b"/web/%252e%252e/protocol.py",
                    b"/web/....//protocol.py",
                    b"/web/..;/protocol.py",
                    b"/web/%c0%ae%c0%ae/protocol.py",
                    b"/web/page.css%00",
                    b"/web/page.css%0a",
                    b"/web/page.css/",
                    b"/web//etc/passwd",
                    b"/web/%2fetc%2fpasswd",
                    b"/web/" + b"../" * 2000 + b"etc/passwd",
                    b"/hello/Zoe/../../hc",
                    b"/hc%00",
                    b"/hc%0a",
                    b"/%68c/",
                    b"/attacker.example",
                ]
            ),
            404,
        ),
    ],
    "Header fields that others obey": [
        *taken(
            {
                _shown(field): get(b"/hello/Zoe", field + b"\r\n") + NEXT
                for field in [
                    b"X-Forwarded-Host: attacker.example",
                    b"X-Forwarded-For: attacker.example",
                    b"X-Forwarded-Proto: attacker.example",
                    b"X-Forwarded-Prefix: /attacker.example",
                    b"Forwarded: host=attacker.example",
                    b"X-Original-URL: /metrics",
                    b"X-Rewrite-URL: /metrics",
                    b"X-HTTP-Method-Override: DELETE",
                    b"X-HTTP-Method: DELETE",
                    b"X-Method-Override: DELETE",
                    b"Referer: http://attacker.example/",
                    b"Origin: http://attacker.example",
                    b"Cookie: a=attacker.example",
                    b"X-Request-ID: attacker.example%0d%0aSet-Cookie: a=b",
                    b"Range: bytes=0-0",
                    b"Range: bytes=" + b"0-0," * 4000,
                    b'Range: bytes=0-0\r\nIf-Range: "x"',
                    b"Connection: content-length, host",
                    b"Upgrade: h2c",
                    b"Expect: 200-ok",
                    b"Accept-Encoding: " + b"gzip," * 4000,
                    b"If-None-Match: " + b'"x",' * 4000,
                    b"If-Match: " + b'"x",' * 4000,
                ]
            },
            200,
            200,
        ),
        *taken(
            {
                "Range on a file": get(b"/web/page.css", b"Range: bytes=0-0,1-1,2-2,-1\r\n"),
                "Accept of 8,000 ranges": get(b"/", b"Accept: " + b"a/b," * 8000 + b"\r\n"),
            },
            200,
        ),
        *taken(
            {
                "a host of the attacker's": get(b"/").replace(b"Host: x", b"Host: attacker.example"),
                "a host that is none": get(b"/").replace(b"Host: x", b"Host: <attacker.example>/@?#"),
            },
            421,
        ),
        *refused(
            {"Connection: close, keep-alive": get(b"/hc", b"Connection: close, keep-alive\r\n") + HIDDEN}, 200
        ),
        *taken(
            {
                "another media type": put(LENGTH).replace(b"application/json", b"text/plain"),
                "a media type that begins alike": put(LENGTH).replace(b"/json", b"/jsonp"),
                "two media types": put(LENGTH + JSON),
                "two media types in one": put(LENGTH).replace(b"/json", b"/json, text/html"),
                "another charset": put(LENGTH).replace(b"/json", b"/json; charset=utf-7"),
                "a compressed body": put(LENGTH + b"Content-Encoding: gzip\r\n"),
                "a form": put(LENGTH).replace(b"application/json", b"multipart/form-data; boundary=x"),
            },
            415,
        ),
    ],
}
ATTACKS = [attack for group in GROUPS.values() for attack in group]

# Attack, answer, and the test that makes it.
BY_TEST = [
    (
        "TLS renegotiation, begun by the client",
        "refused; the connection ends",
        "service/test_tls.py::test_renegotiation_is_refused",
    ),
    (
        "Key updates of TLS 1.3 without end, from a client that reads nothing of the answers",
        "nothing more is read; the connection ends with the request timeout",
        "service/test_tls.py::test_nothing_is_read_while_answers_wait_to_be_sent",
    ),
    (
        "Made-up tokens that have a slow issuer asked, by the hundred",
        "503 for those beyond 64 at once; who has a key is served",
        "service/test_rights.py::test_tokens_that_wait_for_a_slow_issuer_lock_no_key_out",
    ),
    (
        "Old versions of TLS, ciphers without forward secrecy",
        "an alert; no session",
        "service/test_tls.py::test_older_versions_are_refused",
    ),
    (
        "Handshakes that never end, up to the limit of files",
        "the oldest make room; everyone else is served",
        "service/test_tls.py::test_handshakes_that_never_end_keep_nobody_out",
    ),
    (
        "A request in clear to the port for TLS, and TLS to one in clear",
        "400, closed",
        "service/test_tls.py::test_a_request_in_clear_is_told_of_https",
    ),
    (
        "A web page whose own name leads to 127.0.0.1 (DNS rebinding)",
        "421 for each name of the public DNS, where anyone may do everything",
        "service/test_rights.py::test_an_open_service_is_for_this_machine",
    ),
    (
        "Wrong keys and tokens, time and again",
        "401, then 429 for the address; who has a good key goes on",
        "service/test_limits.py::test_wrong_credentials_are_limited_harder",
    ),
    (
        "A key guessed a letter at a time, by a stopwatch",
        "the time of a refusal is the same, whatever part is right",
        "unit/test_keys.py::test_the_time_of_a_wrong_key_tells_nothing",
    ),
    (
        "Requests from a million addresses",
        "the memory of limits is bounded",
        "unit/test_limits.py::test_many_addresses_take_bounded_memory",
    ),
    (
        "Tokens with an unsigned, symmetric or foreign signature, other claims, keys that they bring along",
        "401",
        "unit/test_oidc.py::test_a_mac_made_with_the_public_key_is_refused",
    ),
    (
        "A header, body, chunk extension, trailer or stream of empty lines that never ends",
        "refused or passed over; the process grows by no more than 24 MiB",
        "service/test_server.py::test_what_never_ends_takes_no_memory",
    ),
    (
        "Thousands of connections that send nothing, or half a head, up to the limit of files",
        "the oldest make room; everyone else is served",
        "service/test_server.py::test_half_open_connections_keep_nobody_out",
    ),
    (
        "More connections at once than there are files",
        "accepted and given up in turn; everyone else is served",
        "service/test_server.py::test_a_burst_of_connections_beyond_the_limit_of_files_keeps_nobody_out",
    ),
    (
        "A head that comes a byte at a time (slowloris), or not at all",
        "408 or closed after `--request-timeout`",
        "service/test_server.py::test_connections_without_a_request_are_closed_in_time",
    ),
    (
        "Hundreds of slow heads and bodies",
        "they don't count as requests in flight; everyone else is served",
        "service/test_server.py::test_slow_clients_keep_nobody_out",
    ),
    (
        "A body that stalls",
        "408 after `--request-timeout`, closed",
        "service/test_server.py::test_a_body_that_stalls_is_408",
    ),
    (
        "Large answers asked for and not read",
        "given up after `--request-timeout` without progress",
        "service/test_server.py::test_clients_that_do_not_read_keep_nobody_out",
    ),
    (
        "More requests at once than `--max-in-flight`",
        "503 with `Retry-After`",
        "service/test_server.py::test_more_than_max_in_flight_is_refused_at_once",
    ),
    (
        "1,500 requests in one piece",
        "answered one after the other, in order",
        "service/test_server.py::test_pipelined_requests_are_all_answered_in_order",
    ),
    (
        "The shapes of the first three tables through a proxy, other clients on the same connection to us",
        "each client gets its own answers",
        "service/test_attacks.py::test_a_proxy_and_the_service_agree_where_messages_end",
    ),
    (
        "Line breaks, escapes and other control characters where they might be logged",
        "each entry of the log is one line of printable characters",
        "service/test_log_injection.py::test_nobody_shapes_the_log",
    ),
]


def _sent(data: bytes) -> str:
    """Return what is sent, without what most requests have, cut to a line."""
    for known, name in ((HIDDEN, b"<hidden>"), (NEXT, b"<next>"), (BODY, b"<body>")):
        data = data.replace(known, name)
    text = _shown(data.replace(b"\r\n" + HOST, b"\r\n", 1).replace(JSON, b"", 1))
    return text if len(text) <= SENT_LENGTH else text[:SENT_LENGTH] + "…"


def _row(*cells: str) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _code(text: str) -> str:
    return f"``{text}``" if "`" in text else f"`{text}`"


def page() -> str:
    """Return the tables of docs/attacks.md."""
    lines: list[str] = []
    for title, attacks in GROUPS.items():
        lines += [f"## {title}", "", _row("attack", "what is sent", "answer"), "|---|---|---|"]
        for attack in attacks:
            answers = ", ".join(map(str, attack.answers[:3])) + (" …" if len(attack.answers) > 3 else "")
            name = _code(attack.name) if attack.name in _shown(attack.sent) else attack.name
            lines.append(
                _row(name, _code(_sent(attack.sent)), answers + (", closed" if attack.closes else ""))
            )
        lines.append("")
    lines += ["## Tests of their own", "", _row("attack", "answer", "test"), "|---|---|---|"]
    lines += [_row(attack, answer, _code(test)) for attack, answer, test in BY_TEST]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(page(), end="")
