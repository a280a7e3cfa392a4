"""What is fuzzed: each target takes bytes, and raises where something is not as it must be."""

from collections.abc import Callable
from typing import NamedTuple

from fuzz import checks, wire
from hello import cursor
from tests.support import attacks

BODY = attacks.BODY


class Target(NamedTuple):
    """A check of any bytes, inputs to begin with, and words that libFuzzer is to put in."""

    check: Callable[[bytes], None]
    seeds: list[bytes]
    words: list[bytes]


_REQUESTS = [
    attacks.get(b"/hello/Zoe"),
    attacks.put(attacks.LENGTH),
    attacks.put(attacks.LENGTH).replace(b"Zoe", "Zoë".encode()),
    attacks.get(b"/hello/Zoe") * 3 + attacks.put(attacks.LENGTH) * 2 + attacks.NEXT,
    *(attack.sent for attack in attacks.ATTACKS if len(attack.sent) < 1000),
]
_WORDS = (
    b"""GET |HEAD |PUT |DELETE |POST |OPTIONS | HTTP/1.1~| HTTP/1.0~|~|~~|Host: x~|/hello/Zoe|/hello
/birthdays|/hc|Content-Length: |Content-Length: 28~
Content-Type: application/json~|Transfer-Encoding: |chunked~|0~~|1c~
Connection: close~|Connection: keep-alive~|Connection: Upgrade~|Upgrade: |Expect: 100-continue~
If-None-Match: *~|X-Request-ID: x~|%00|%ff|http://x|#|?tz=UTC""".replace(b"\n", b"|")
    .replace(b"~", b"\r\n")
    .split(b"|")
)

TARGETS = {
    "protocol": Target(wire.protocol, [b"\3\x0a\x14\x1e" + sent for sent in _REQUESTS], [*_WORDS, BODY]),
    "username": Target(
        checks.username, [name.encode() for name in ("Zoe", "Zoë", "Zoe\u0308", "İ", "שלום", "가힣", "ﬁ")], []
    ),
    "date of birth": Target(
        checks.date_of_birth,
        [b"1990-04-23", b"2000-02-29", b"2026-11-24", b"2000-W01-1", b"0001-01-01", b"\xef\xbc\x91990-04-23"],
        [b"-02-29", b"-W", b"T00"],
    ),
    "body": Target(
        checks.body,
        [
            BODY,
            b'{"dateOfBirth":"\\ud800"}',
            b'{"dateOfBirth":1e999}',
            b'{"dateOfBirth":"","dateOfBirth":""}',
        ],
        [
            b'"dateOfBirth"',
            b"\\ud83d\\ude00",
            b"\\u",
            b"NaN",
            b"null",
            b"true",
            b'{"',
            b'":',
            b"\xef\xbb\xbf",
        ],
    ),
    "query": Target(
        checks.query,
        [b"tz=Europe/Berlin&limit=10", b"limit=1e3", b"after=%ed%a0%80", b"tz=UTC&tz=UTC", b"limit=%d9%a1"],
        [b"tz=", b"limit=", b"after=", b"days=", b"%", b"&", b"=", b";", b"+"],
    ),
    "cursor": Target(checks.cursors, [cursor.encode("people", "zoe").encode(), b"zoe"], [b"=", b"_", b"-"]),
    "header fields": Target(
        checks.fields,
        [
            b"*",
            b'W/"0123456789abcdef", "x"',
            b"text/html;q=0.5, */*",
            b"*/*,application/json;q=x",
            b"application/json; charset=utf-8",
        ],
        [b"text/html", b"application/json", b";q=", b"charset=", b"*/*", b"W/"],
    ),
    "store URL": Target(
        checks.store_url,
        [
            b"sqlite:///hello.db",
            b"postgresql://user:password@host:5432/hello?sslmode=require",
            b"postgresql://[::1]/hello?host=/tmp",
            b"dynamodb://eu-central-1/hello",
        ],
        [
            b"sqlite://",
            b"postgresql://",
            b"dynamodb://",
            b"password",
            b"@",
            b"sslmode=",
            b"sslrootcert=",
            b"%",
        ],
    ),
    "settings": Target(
        checks.toml,
        [
            b'timezone = "Europe/Berlin"\nport = 5000\nopen = true\n',
            b'"leap-day" = "mar1"\n',
            b"drain-seconds = 1.5",
        ],
        [b"store-timeout = ", b"workers = ", b"'''", b'"""', b"[[x]]", b"inf", b"nan", b"1979-05-27", b"0x1"],
    ),
    "people": Target(
        checks.people,
        [
            b'username,dateOfBirth\nZoe,1990-04-23\n"a\nb",c\n',
            b'{"username":"Zoe","dateOfBirth":"1990-04-23"}\n{"dateOfBirth":"","username":"\\u0000"}\n',
        ],
        [b"username,dateOfBirth\n", b'{"username":"', b'","dateOfBirth":"', b'"}\n', b'""', b"\r\n", b"\0"],
    ),
    "days": Target(
        checks.days, [b"\x0b\x19\x19\x0b\x49\x49", b"\0\0\0\x37\xb9\xda", b"\x37\xb9\xda\0\0\0"], []
    ),
}


def _any(data: bytes) -> None:
    names = list(TARGETS)
    if data:
        TARGETS[names[data[0] % len(names)]].check(data[1:])


# All in one process, for a run that is too short to start each.
TOGETHER = Target(
    _any,
    [bytes([number]) + seed for number, target in enumerate(TARGETS.values()) for seed in target.seeds[-9:]],
    [word for target in TARGETS.values() for word in target.words],
)
