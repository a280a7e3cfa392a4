"""The keys of an issuer: how they are found, kept up to date, and what happens while it fails."""

import asyncio
import logging
import ssl
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import get_args

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from joserfc.jwk import ECKey

from hello import issuer_keys, oidc
from hello.issuer_url import check_jwks_uri
from hello.oidc import InvalidTokenError, IssuerUnavailableError, check_issuer
from tests.support.environment import until
from tests.support.issuer import Failure, Issuer

pytestmark = pytest.mark.anyio

DAY = 24 * 3600


@pytest.fixture(scope="module")
def anyio_backend() -> tuple[str, dict[str, bool]]:
    """Run these tests on the loop that the service runs on."""
    return "asyncio", {"use_uvloop": True}


@dataclass
class Time:
    """A clock that stands unless it is set, and sleeps that last until `wake`."""

    now: float = 1_800_000_000.0
    slept: list[float] = field(default_factory=list)
    woken: asyncio.Event = field(default_factory=asyncio.Event)

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        """Take down how long, and wait for `wake`."""
        self.slept.append(seconds)
        self.woken.clear()
        await self.woken.wait()

    async def wake(self) -> None:
        """End a sleep, and wait until what it began is done: the next one."""
        count = len(self.slept)
        self.woken.set()
        await eventually(lambda: len(self.slept) > count, "the next sleep")


async def eventually(condition: Callable[[], object], what: str) -> None:
    """Wait for a condition while the loop goes on."""
    await asyncio.to_thread(until, condition, what)


@pytest.fixture
def clock(issuer: Issuer) -> Time:
    """The time of the issuer and of the service."""
    time = Time()
    issuer.clock = time
    return time


@pytest.fixture
async def judge(issuer: Issuer, clock: Time) -> AsyncIterator[oidc.Issuer]:
    """What judges the issuer's tokens: not started."""
    judge = oidc.Issuer(
        issuer.url, issuer.audience, clock, steady_clock=clock, sleep=clock.sleep, part=lambda: 0.5
    )
    yield judge
    await judge.close()


async def accepted(judge: oidc.Issuer, token: str) -> bool:
    """Return whether a token is accepted; False if it is refused, and not if it can't be judged."""
    try:
        await judge.verify(token.encode())
    except InvalidTokenError:
        return False
    return True


async def settle() -> None:
    """Let the tasks that can run do so."""
    for _ in range(10):
        await asyncio.sleep(0)


# Where the keys are


@pytest.mark.parametrize(
    "url",
    [
        "https://issuer.example",
        "https://issuer.example/",
        "https://issuer.example:8443/realms/hello",
        "http://localhost:8080/realms/hello",
        "http://127.9.9.9",
        "http://[::1]:8080",
    ],
)
def test_issuers_that_may_be_named(url: str) -> None:
    """https, and http on this machine."""
    assert check_issuer(url) == url


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("http://issuer.example", "must be https"),
        ("http://10.0.0.1", "must be https"),
        ("http://localhost.example", "must be https"),
        ("http://127.0.0.1.example", "must be https"),
        ("ftp://localhost", "must be https"),
        ("https://name:secret@issuer.example", "leave it out"),
        ("https://issuer.example?tenant=1", "no query"),
        ("https://issuer.example/#", "no query"),
        ("https://issuer.example/.well-known/openid-configuration", "Leave /.well-known"),
        ("issuer.example", "not a URL"),
        ("https:///realms", "not a URL"),
        ("https://issuer.example:port", "not a URL"),
        ("https://[::1", "not a URL"),
        ("https://issuer .example", "not a URL"),
        ("https://issuer.example\n", "not a URL"),
        ("", "not a URL"),
    ],
)
def test_issuers_that_may_not_be_named(url: str, message: str) -> None:
    """The message tells what to write, and repeats no password."""
    with pytest.raises(ValueError, match=message) as error:
        check_issuer(url)
    assert "secret" not in str(error.value)


def test_keys_come_by_https_too() -> None:
    """And may have a query in their address."""
    assert check_jwks_uri("https://keys.example/jwks?v=1") == "https://keys.example/jwks?v=1"
    with pytest.raises(ValueError, match="jwks_uri must be https"):
        check_jwks_uri("http://keys.example/jwks")


async def test_a_certificate_that_nobody_vouches_for_is_not_accepted(tmp_path: Path) -> None:
    """Whoever can redirect the connection has no keys to offer; and the log says what is wrong."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    file = tmp_path / "pem"
    file.write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        + certificate.public_bytes(Encoding.PEM)
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    async with await asyncio.start_server(lambda *_: None, "127.0.0.1", 0, ssl=context) as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(issuer_keys.FetchError, match="TLS certificate is not accepted"):
            await issuer_keys.fetch_keys(f"https://localhost:{port}")


async def test_an_issuer_in_a_folder_is_asked_there(issuer: Issuer, clock: Time) -> None:
    """With one slash between its path and that of its metadata, whether or not its own ends with one."""
    for path in ("/realms/hello", "/realms/hello/"):
        with pytest.raises(issuer_keys.FetchError):
            await issuer_keys.fetch_keys(issuer.url + path)
        assert issuer.asked[-1] == "/realms/hello/.well-known/openid-configuration"


async def test_proxies_of_the_environment_are_not_used(
    issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who sets a variable does not say which keys are the issuer's."""
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
        monkeypatch.delenv("no_proxy", raising=False)
    assert len(await issuer_keys.fetch_keys(issuer.url)) == 1


REASONS = {
    "error": "status 500",
    "huge": "longer than 1048576 bytes",
    "mismatch": "names another issuer",
    "no JSON": "not that of an issuer",
    "plain jwks_uri": "jwks_uri must be https",
    "redirect": "status 302",
    "slow": "not answer in time",
}


@pytest.mark.parametrize("failure", [*(name for name in get_args(Failure) if name != "no keys"), "down"])
async def test_while_the_first_keys_are_not_had_no_token_can_be_judged(
    judge: oidc.Issuer,
    issuer: Issuer,
    failure: str,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whatever is wrong with the issuer, it is said once in the log, and no redirect is followed."""
    monkeypatch.setattr(issuer_keys, "FETCH_SECONDS", 0.2 if failure == "slow" else 10)
    token = issuer.token()
    if failure == "down":
        issuer.stop()
    else:
        issuer.fail(failure)  # type: ignore[arg-type]
    for _ in range(3):
        with pytest.raises(IssuerUnavailableError):
            await judge.verify(token.encode())
    [record] = caplog.records
    assert record.name == "hello.oidc"
    assert record.levelno == logging.WARNING
    assert REASONS.get(failure, "no connection") in record.message
    assert "no token is accepted" in record.message
    assert issuer.fetches == (0 if failure == "down" else 1)
    assert not [path for path in issuer.asked if "moved" in path]


async def test_the_keys_are_had_once_the_issuer_is_back(
    judge: oidc.Issuer, issuer: Issuer, clock: Time
) -> None:
    """Without the background: by the first token ten seconds later."""
    issuer.fail("error")
    token = issuer.token()
    for seconds in (0, 9.9):
        clock.now += seconds
        with pytest.raises(IssuerUnavailableError):
            await judge.verify(token.encode())
    issuer.fail(None)
    clock.now += 0.1
    assert await accepted(judge, token)
    assert issuer.fetches == 2


async def test_an_issuer_without_keys_has_every_token_refused(
    judge: oidc.Issuer, issuer: Issuer, clock: Time, caplog: pytest.LogCaptureFixture
) -> None:
    """That is what it says, and no failure: keys that it took back are used no more."""
    token = issuer.token()
    assert await accepted(judge, token)
    issuer.fail("no keys")
    clock.now += 10
    assert not await accepted(judge, issuer.token(header={"kid": "unknown"}))
    assert judge.known(token.encode()) is None
    assert not await accepted(judge, token)
    assert "no keys that hello can use" in caplog.text


# Rotation


async def test_a_token_of_a_new_key_has_the_keys_fetched(
    judge: oidc.Issuer, issuer: Issuer, clock: Time
) -> None:
    """At once; and what the old key signed is refused as soon as that left the set."""
    old = issuer.token()
    assert await accepted(judge, old)
    issuer.rotate(keep=True)
    clock.now += 10
    between = issuer.token()
    assert await accepted(judge, between)
    assert judge.known(old.encode()) is not None
    issuer.rotate()
    clock.now += 10
    new = issuer.token()
    assert await accepted(judge, new)
    assert judge.known(new.encode()) is not None
    for token in (old, between):
        assert judge.known(token.encode()) is None
        assert not await accepted(judge, token)
    assert issuer.fetches == 3


async def test_many_tokens_of_a_new_key_wait_for_one_fetch(
    judge: oidc.Issuer, issuer: Issuer, clock: Time
) -> None:
    """And those of known keys don't wait for it, though they were not seen before."""
    known, known_too = issuer.token(), issuer.token(sub="person-2")
    assert await accepted(judge, known)
    issuer.rotate(keep=True)
    issuer.fail("slow")
    clock.now += 10
    waiting = [asyncio.create_task(accepted(judge, issuer.token(sub=f"person-{n}"))) for n in range(50)]
    await eventually(lambda: issuer.fetches == 2, "the fetch")
    assert judge.known(known.encode()) is not None
    assert await accepted(judge, known_too)
    assert not any(task.done() for task in waiting)
    waiting[0].cancel()
    await settle()
    issuer.fail(None)
    assert all(await asyncio.gather(*waiting[1:]))
    assert issuer.fetches == 2


async def test_forged_key_ids_make_no_flood(judge: oidc.Issuer, issuer: Issuer, clock: Time) -> None:
    """One fetch each ten seconds, however many there are; in between they are refused at once."""
    assert await accepted(judge, issuer.token())
    assert issuer.fetches == 1
    for _ in range(3):
        clock.now += 10
        for number in range(30):
            assert not await accepted(judge, issuer.token(header={"kid": f"forged-{number}"}))
    assert issuer.fetches == 4


async def test_tokens_of_a_new_key_can_t_be_judged_while_the_issuer_is_down(
    judge: oidc.Issuer, issuer: Issuer, clock: Time
) -> None:
    """They may be genuine; those of the old keys are accepted."""
    old, old_too = issuer.token(), issuer.token(sub="person-2")
    assert await accepted(judge, old)
    issuer.rotate(keep=True)
    issuer.stop()
    clock.now += 10
    for _ in range(2):
        with pytest.raises(IssuerUnavailableError):
            await judge.verify(issuer.token().encode())
    assert judge.known(old.encode()) is not None
    assert await accepted(judge, old_too)


# The background


async def test_keys_are_refreshed_in_the_background(judge: oidc.Issuer, issuer: Issuer, clock: Time) -> None:
    """From the start, and every five minutes at the latest, whether or not tokens come."""
    await judge.start()
    await eventually(lambda: clock.slept, "the first fetch")
    old = issuer.token()
    assert await accepted(judge, old)
    issuer.rotate(ECKey.generate_key("P-256"))
    await clock.wake()
    assert judge.known(old.encode()) is None
    assert await accepted(judge, issuer.token())
    assert clock.slept == [285, 285]
    assert issuer.fetches == 2


async def test_an_outage_is_logged_once_and_the_old_keys_are_used(
    judge: oidc.Issuer, issuer: Issuer, clock: Time, caplog: pytest.LogCaptureFixture
) -> None:
    """Fetches are tried after growing pauses, with jitter; its end is logged, and nothing of a token."""
    caplog.set_level(logging.INFO)
    await judge.start()
    await eventually(lambda: clock.slept, "the first fetch")
    issuer.fail("error")
    for _ in range(11):
        await clock.wake()
    assert clock.slept == [285, 0.75, 1.5, 3, 6, 12, 24, 48, 96, 192, 225, 225]
    token = issuer.token(sub="person-of-the-log", preferred_username="Zoe")
    assert await accepted(judge, token)
    assert not await accepted(judge, issuer.token(aud="other"))
    issuer.fail(None)
    await clock.wake()
    assert clock.slept[-1] == 285
    issuer.fail("error")
    await clock.wake()
    assert clock.slept[-1] == 0.75
    messages = [record.message for record in caplog.records if record.name == "hello.oidc"]
    assert messages == [
        "the issuer's keys can't be had, the keys last fetched are used on: it answered with status 500",
        "the issuer's keys are had again",
        "the issuer's keys can't be had, the keys last fetched are used on: it answered with status 500",
    ]
    assert not [text for text in ("person-of", "Zoe", *token.split(".")) if text in caplog.text]


async def test_old_keys_are_used_for_a_day_and_no_longer(
    judge: oidc.Issuer, issuer: Issuer, clock: Time
) -> None:
    """Since they were last fetched; then tokens can't be judged, those that were verified neither."""
    await judge.start()
    await eventually(lambda: clock.slept, "the first fetch")
    token = issuer.token(exp=int(clock.now) + 2 * DAY)
    other = issuer.token(exp=int(clock.now) + 2 * DAY, sub="person-2")
    assert await accepted(judge, token)
    issuer.stop()
    clock.now += DAY - 1
    await clock.wake()
    assert judge.known(token.encode()) is not None
    assert await accepted(judge, other)
    clock.now += 1
    assert judge.known(token.encode()) is None
    for one in (token, other):
        with pytest.raises(IssuerUnavailableError):
            await judge.verify(one.encode())
    issuer.start()
    await clock.wake()
    assert judge.known(token.encode()) is not None


async def test_an_issuer_that_is_down_does_not_hinder_the_start(
    judge: oidc.Issuer, issuer: Issuer, clock: Time, caplog: pytest.LogCaptureFixture
) -> None:
    """It is warned of, and its keys are fetched once it is up."""
    issuer.stop()
    await judge.start()
    await eventually(lambda: clock.slept, "the first try")
    assert "no connection is made" in caplog.text
    issuer.start()
    await clock.wake()
    assert await accepted(judge, issuer.token())


async def test_closing_ends_a_fetch(judge: oidc.Issuer, issuer: Issuer) -> None:
    """Nothing goes on after it; a token that waited can't be judged."""
    before = asyncio.all_tasks()
    issuer.fail("slow")
    await judge.start()
    waiting = asyncio.create_task(judge.verify(issuer.token().encode()))
    await eventually(lambda: issuer.fetches, "the fetch")
    await judge.close()
    with pytest.raises(IssuerUnavailableError):
        await waiting
    assert asyncio.all_tasks() == before


# Verified tokens


async def test_a_known_token_is_valid_from_its_beginning_to_its_end(
    judge: oidc.Issuer, issuer: Issuer, clock: Time
) -> None:
    """By the clock, each time that it is asked for."""
    start = clock.now
    token = issuer.token(nbf=int(start), exp=int(start) + 60).encode()
    await judge.verify(token)
    for seconds, valid in ((-5.1, False), (-5, True), (59.9, True), (60, False)):
        clock.now = start + seconds
        assert (judge.known(token) is not None) == valid
    assert judge.known(token + b"A") is None


async def test_so_many_verified_tokens_are_kept_and_no_more(
    judge: oidc.Issuer, issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The oldest goes first, and can be verified again; nothing of a token is kept but a digest."""
    monkeypatch.setattr(oidc, "REMEMBERED", 3)
    tokens = [issuer.token(sub=f"person-{number}").encode() for number in range(5)]
    for token in tokens:
        await judge.verify(token)
    assert [judge.known(token) is not None for token in tokens] == [False, False, True, True, True]
    await judge.verify(tokens[0])
    assert [judge.known(token) is not None for token in tokens] == [True, False, False, True, True]
