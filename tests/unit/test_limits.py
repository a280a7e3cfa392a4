"""Limits: token buckets by key and by address, failed authentication, and whose address it is."""

import subprocess
import sys
from pathlib import Path

import pytest

from hello.addresses import Addresses, limited_as, networks
from hello.limits import BUCKETS, Bucket, Limits
from hello.problems import TooManyRequestsError
from hello.rates import Rate
from hello.rights import Caller
from tests.support.commands import refused


class Time:
    """The time that throttled-py sees, where a test sets it; a microsecond passes with each look."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr("throttled.utils.now_mono_f", self._look)

    def _look(self) -> float:
        self.now += 1e-6
        return self.now


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Time:
    """A clock that stands still."""
    return Time(monkeypatch)


def taken(bucket: Bucket, whose: str, times: int) -> int:
    """Return how many of so many requests got a token."""
    got = 0
    for _ in range(times):
        try:
            bucket.take(whose)
        except TooManyRequestsError:
            continue
        got += 1
    return got


@pytest.mark.parametrize(
    ("rate", "seconds", "back"),
    [
        ("10/s", 0.1, 1),
        ("10/s", 0.5, 5),
        ("10/s", 60, 10),
        ("30/min", 2, 1),
        ("30/min", 1.5, 0),
        ("6/h", 601, 1),
    ],
)
def test_tokens_come_back_evenly(time: Time, rate: str, seconds: float, back: int) -> None:
    """A bucket holds as many as the rate's count, and gets them back over its period."""
    bucket = Bucket("key", Rate.parse(rate))
    assert taken(bucket, "a", 100) == Rate.parse(rate).count
    time.now += seconds + 0.001
    assert taken(bucket, "a", 100) == back


def test_who_asks_evenly_is_never_refused(time: Time) -> None:
    """At just the rate nothing is lost to rounding, also below one a second."""
    bucket = Bucket("key", Rate.parse("30/min"))
    taken(bucket, "a", 30)
    for _ in range(50):
        time.now += 2.001
        assert taken(bucket, "a", 1) == 1


def test_each_has_a_bucket_of_its_own(time: Time) -> None:
    """Nobody is held to what another took."""
    bucket = Bucket("address", Rate.parse("3/min"))
    assert [taken(bucket, whose, 5) for whose in ("a", "b")] == [3, 3]


def test_header_fields_tell_what_is_left(time: Time) -> None:
    """Policy and what is left, as draft-ietf-httpapi-ratelimit-headers has them; when to try again."""
    bucket = Bucket("key", Rate.parse("3/min"))
    assert bucket.take("a") == (b'"key";q=3;w=60', b'"key";r=2;t=20')
    taken(bucket, "a", 2)
    time.now += 5
    with pytest.raises(TooManyRequestsError) as refused:
        bucket.take("a")
    assert dict(refused.value.headers) == {
        b"retry-after": b"15",
        b"ratelimit-policy": b'"key";q=3;w=60',
        b"ratelimit": b'"key";r=0;t=55',
    }


@pytest.mark.parametrize(
    "text", ["", "0/s", "1", "1/d", "1.5/s", "-1/s", "01/s", " 1/s", "1/s\n", chr(0x661) + "/s", "12345678/s"]
)
def test_a_rate_that_is_none_is_said(text: str, tmp_path: Path) -> None:
    """The message shows how rates are written."""
    with pytest.raises(ValueError, match="100/s, 600/min or 1000/h"):
        Rate.parse(text)


def test_a_bad_limit_or_proxy_is_said_at_the_start(tmp_path: Path) -> None:
    """Before anything is served."""
    assert "--key-rate. Give a rate such as" in refused("--key-rate", "fast", folder=tmp_path)
    assert "--proxies. Give addresses or networks" in refused("--proxies", "10.0.0.1/8", folder=tmp_path)


@pytest.mark.parametrize("count", [200_000, pytest.param(1_000_000, marks=pytest.mark.full)])
def test_many_addresses_take_bounded_memory(count: int) -> None:
    """The buckets of those not seen lately make room; whoever asks on keeps theirs."""
    script = f"""
import resource
from hello.limits import Bucket, Limits
from hello.rates import Rate
limits = Limits(caller=None, address=Rate.parse("10/min"), failure=Rate.parse("10/min"))
def memory():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()
for number in range({BUCKETS}):
    limits.take_of_address(f"10.{{number >> 16}}.{{number >> 8 & 255}}.{{number & 255}}")
    limits.failed(f"10.{{number >> 16}}.{{number >> 8 & 255}}.{{number & 255}}")
full = memory()
for number in range({count}):
    limits.take_of_address(f"11.{{number >> 16}}.{{number >> 8 & 255}}.{{number & 255}}")
print(memory() - full)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 5_000_000


@pytest.mark.parametrize(
    ("address", "counted"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::", "2001:db8:1:2::/64"),
        ("", ""),
        ("nonsense", "nonsense"),
    ],
)
def test_ipv6_is_counted_by_network(address: str, counted: str) -> None:
    """Whoever has one address of a /64 has all of them."""
    assert limited_as(address) == counted


@pytest.mark.parametrize(
    ("peer", "forwarded", "client"),
    [
        ("192.0.2.9", ["198.51.100.1"], "192.0.2.9"),  # not a proxy of ours: whatever it says
        ("10.0.0.1", [], "10.0.0.1"),
        ("10.0.0.1", ["198.51.100.1"], "198.51.100.1"),
        ("10.0.0.1", ["1.1.1.1, 198.51.100.1"], "198.51.100.1"),  # the client made up the first
        ("10.0.0.1", ["1.1.1.1, 198.51.100.1, 10.0.0.2"], "198.51.100.1"),  # through two of ours
        ("10.0.0.1", ["1.1.1.1", "198.51.100.1"], "198.51.100.1"),  # two header fields are one list
        ("10.0.0.1", ["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
        ("10.0.0.1", ["198.51.100.1:4711"], "198.51.100.1"),
        ("10.0.0.1", ["[2001:db8::1]:4711"], "2001:db8::1"),
        ("10.0.0.1", ["2001:db8::1"], "2001:db8::1"),
        ("10.0.0.1", ["::ffff:198.51.100.1"], "198.51.100.1"),
        ("::ffff:10.0.0.1", ["198.51.100.1"], "198.51.100.1"),
        ("10.0.0.1", ["nonsense"], "10.0.0.1"),
        ("10.0.0.1", ["198.51.100.1, nonsense"], "10.0.0.1"),
        ("10.0.0.1", ["198.51.100.1, , 10.0.0.2"], "10.0.0.2"),
        ("10.0.0.1", ["\x00\r\n"], "10.0.0.1"),
        ("", ["198.51.100.1"], ""),
    ],
)
def test_forwarded_addresses_are_believed_of_trusted_proxies(
    peer: str, forwarded: list[str], client: str
) -> None:
    """The client is the first from the right that is no proxy of ours."""
    addresses = Addresses(networks("10.0.0.0/8, ::1"))
    headers = [(b"x-forwarded-for", value.encode("latin-1")) for value in forwarded]
    assert addresses.client(peer, headers) == client


@pytest.mark.parametrize(
    ("peer", "proto", "https"),
    [("10.0.0.1", b"https", True), ("10.0.0.1", b"http", False), ("192.0.2.9", b"https", False)],
)
def test_forwarded_https_is_believed_of_trusted_proxies(peer: str, proto: bytes, https: bool) -> None:
    """Others could have a browser refuse plain http for a year."""
    assert Addresses(networks("10.0.0.0/8")).over_tls(peer, [(b"x-forwarded-proto", proto)]) is https


def test_the_caller_bucket_is_of_the_key_or_the_subject(time: Time) -> None:
    """Two tokens of one subject share a bucket; two subjects do not."""
    limits = Limits(caller=Rate.parse("1/min"), address=None, failure=None)
    limits.take_of_caller(Caller.of("token", ["read"], subject="a"))
    limits.take_of_caller(Caller.of("token", ["read"], subject="b"))
    with pytest.raises(TooManyRequestsError):
        limits.take_of_caller(Caller.of("token", ["write"], subject="a"))


# Over a real socket
