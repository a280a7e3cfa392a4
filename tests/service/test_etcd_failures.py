"""What becomes of etcd's members, of who may ask them, and of old revisions: tried on real clusters."""

import asyncio
import json
import signal
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import aclosing
from pathlib import Path

import pytest
import uvloop

from hello.etcd import CompactedError, DeniedError, Etcd
from hello.instances import follow
from tests.conftest import Serve
from tests.support.certificates import Authority
from tests.support.commands import hello
from tests.support.environment import until
from tests.support.etcd import LEASE_SECONDS, Cluster, Watch, id_of, metric, put_record, warnings
from tests.support.service import Service

PASSWORD = "s3cret/word"
HELD = "hello_discovery_registered"


def seconds_until(condition: Callable[[], object], what: str) -> str:
    start = time.monotonic()
    until(condition, what, 60)
    return f"{what} after {time.monotonic() - start:.1f} s"


def test_nobody_is_lost_with_members(serve: Serve, etcd: Cluster, prefix: str, tmp_path: Path) -> None:
    """The leader frozen, then killed, the quorum lost and back, a member replaced: each instance stays.

    A watch shows none that goes, and one that comes after each of these.
    """
    told = []
    watch = Watch("--etcd", etcd.urls, "--etcd-prefix", prefix)
    try:
        first = _register(serve, etcd, prefix, tmp_path / "1")
        until(lambda: len(watch.out) == 1, "the first one")

        frozen = etcd.leader()  # as seen from the others, what a partition is
        frozen.signal(signal.SIGSTOP)
        second = _register(serve, etcd, prefix, tmp_path / "2")
        told.append(seconds_until(lambda: len(watch.out) == 2, "leader frozen: a new instance is seen"))
        frozen.signal(signal.SIGCONT)
        until(lambda: etcd.healthy(frozen), "the frozen one to be back", 60)

        killed = etcd.leader()
        killed.kill()
        third = _register(serve, etcd, prefix, tmp_path / "3")
        told.append(seconds_until(lambda: len(watch.out) == 3, "leader killed: a new instance is seen"))
        services = [first, second, third]
        assert [metric(service, HELD) for service in services] == [1, 1, 1]

        failures = watch.err.count("trying on")
        silent = next(member for member in etcd.members if member is not killed)
        silent.signal(signal.SIGSTOP)
        told.append(
            seconds_until(lambda: watch.err.count("trying on") > failures, "quorum lost: the watch notices")
        )
        until(lambda: all(metric(service, HELD) == 0 for service in services), "all to notice")
        assert first.put("Zoe", "1990-04-23").status == 204
        assert [service.get("/ready").status for service in services] == [200, 200, 200]
        silent.signal(signal.SIGCONT)
        told.append(
            seconds_until(lambda: all(metric(s, HELD) == 1 for s in services), "quorum back: all registered")
        )
        assert [len(warnings(service)) for service in services] == [1, 1, 1]

        etcd.replace(killed)
        fourth = _register(serve, etcd, prefix, tmp_path / "4")
        until(lambda: len(watch.out) == 4, "one that registers with the new member")
        assert etcd.get(prefix).keys() == {id_of(service) for service in [*services, fourth]}
        assert [line.split()[0] for line in watch.out] == ["up"] * 4
    finally:
        watch.process.kill()
        watch.process.communicate()
    print(*told, sep="\n")


def _register(serve: Serve, etcd: Cluster, prefix: str, folder: Path, *options: str) -> Service:
    folder.mkdir()
    return serve("--etcd", etcd.urls, "--etcd-prefix", prefix, *options, folder=folder)


def test_what_was_compacted_is_listed_anew(etcd: Cluster, prefix: str) -> None:
    """A watch from a revision that is not kept says so, and who follows lists again and goes on."""
    put_record(etcd, prefix, "a", port=1)
    put_record(etcd, prefix, "b", port=2)
    revision = json.loads(etcd.ctl("get", "x", "-w", "json"))["header"]["revision"]
    etcd.ctl("compact", str(revision))

    class Late(Etcd):
        """Lists as of a revision that is not kept, the first time."""

        late = revision - 2

        async def list(self, prefix: str) -> tuple[dict[str, bytes], int]:
            found, now = await super().list(prefix)
            late, self.late = self.late, 0
            return ({}, late) if late else (found, now)

    async def ask() -> list[int]:
        client = Late([member.url for member in etcd.members])
        try:
            with pytest.raises(CompactedError):
                await anext(client.watch(f"{prefix}/", 1))
            async with aclosing(follow(client, prefix, lambda error: None)) as snapshots:
                return [len((await anext(snapshots)).instances) for _ in range(2)]
        finally:
            await client.close()

    assert asyncio.run(ask()) == [0, 2]


# With TLS, client certificates, users and roles


class Secured:
    """A cluster with TLS and users, and what its clients need."""

    def __init__(self, folder: Path) -> None:
        self.authority = Authority(folder)
        self.cluster = Cluster(3, "--auth-token-ttl", "2", authority=self.authority)
        self.password = folder / "password"
        self.password.write_text(f"{PASSWORD}\n")
        client = self.authority.client(common_name=False)
        self.tls = ("--etcd-ca", str(self.authority.file), "--etcd-cert", str(client.cert),
                    "--etcd-key", str(client.key))  # fmt: skip
        self.prefix = "/skydns/local/hello"
        self.user = ("--etcd-user", "hello", "--etcd-password-file", str(self.password))
        self.urls = self.cluster.urls

    def start(self) -> None:
        """Start it, and have it ask who its clients are."""
        self.cluster.start()
        self.cluster.add_user("hello", PASSWORD, self.prefix)
        self.cluster.add_user("reader", PASSWORD, self.prefix, "read")
        self.cluster.enable_auth()

    def discover(self, *options: str, folder: Path) -> subprocess.CompletedProcess[bytes]:
        """Run `hello discover`."""
        return hello("discover", "--etcd", self.urls, *options, folder=folder)


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    """A cluster that lets in who it knows, and whose tokens last two seconds."""
    secured = Secured(tmp_path_factory.mktemp("secured"))
    try:
        secured.start()
        yield secured
    finally:
        secured.cluster.remove()


def test_it_registers_with_a_user_over_tls(serve: Serve, secured: Secured, tmp_path: Path) -> None:
    """Also when its token has expired, auth was off and on again, or the password was changed in its file."""
    cluster = secured.cluster
    service = _register(serve, cluster, secured.prefix, tmp_path / "1", *secured.tls, *secured.user)
    until(lambda: id_of(service) in cluster.get(secured.prefix), "the record")
    cluster.ctl("auth", "disable")
    unasked = _register(serve, cluster, secured.prefix, tmp_path / "2", *secured.tls, *secured.user)
    until(lambda: id_of(unasked) in cluster.get(secured.prefix), "the one that is not asked who it is")
    cluster.ctl("auth", "enable")
    time.sleep(LEASE_SECONDS / 3 + 1)  # one keepalive at least
    for one in (service, unasked):
        assert metric(one, HELD) == 1
        assert warnings(one) == []
    cluster.ctl("user", "passwd", "hello", stdin=f"{PASSWORD}2\n{PASSWORD}2\n")
    until(lambda: metric(service, HELD) == 0, "the login to fail")
    secured.password.write_text(f"{PASSWORD}2")
    until(lambda: metric(service, HELD) == 1, "the new password to be used")
    assert len(warnings(service)) == 1
    assert "authentication failed" in warnings(service)[0]
    assert PASSWORD not in (service.folder / "log").read_text()
    assert service.stop() == 0
    assert id_of(service) not in cluster.get(secured.prefix)
    cluster.ctl("user", "passwd", "hello", stdin=f"{PASSWORD}\n{PASSWORD}\n")
    secured.password.write_text(PASSWORD)


def test_members_that_say_no_goodbye_hold_nobody_up(serve: Serve, secured: Secured, tmp_path: Path) -> None:
    """With all members frozen, a connection's end under TLS is never answered: hello stops all the same."""
    cluster = secured.cluster
    service = _register(serve, cluster, secured.prefix, tmp_path / "1", *secured.tls, *secured.user)
    until(lambda: id_of(service) in cluster.get(secured.prefix), "the record")
    for member in cluster.members:
        member.signal(signal.SIGSTOP)
    try:
        until(lambda: metric(service, "hello_discovery_failures_total") > 0, "a member to be missed", 60)
        assert service.stop() == 0
        log = (service.folder / "log").read_text()
        assert "Traceback" not in log
        assert "busy" not in log
    finally:
        cluster.start()


def test_who_may_not_register_serves(serve: Serve, secured: Secured, tmp_path: Path) -> None:
    """A user without the right to write, or with a wrong password, is a warning and a metric."""
    wrong = tmp_path / "wrong"
    wrong.write_text("s3cret")
    reader = ("--etcd-user", "reader", "--etcd-password-file", str(secured.password))
    mistaken = ("--etcd-user", "hello", "--etcd-password-file", str(wrong))
    for number, (options, says) in enumerate(
        [(reader, "permission denied"), (mistaken, "authentication failed")]
    ):
        service = _register(
            serve, secured.cluster, secured.prefix, tmp_path / str(number), *secured.tls, *options
        )
        until(lambda: metric(service, "hello_discovery_failures_total") > 0, "the failure")  # noqa: B023
        assert says in warnings(service)[0]
        assert service.get("/ready").status == 200
        assert service.stop() == 0


def test_who_may_not_list_is_told(secured: Secured, tmp_path: Path) -> None:
    """Reading is enough; without it, without a user, a certificate or the right CA it is status 2."""
    reader = ("--etcd-user", "reader", "--etcd-password-file", str(secured.password))
    assert secured.discover(*secured.tls, *reader, folder=tmp_path).returncode == 0
    strange, tls = Authority(tmp_path, "strange"), secured.tls
    named = secured.authority.client("named")
    for options, says in [
        ((*tls, *reader, "--etcd-prefix", "/other"), "permission denied"),
        ((*tls, *reader, "--etcd-prefix", "/other", "--watch"), "permission denied"),
        (tls, "it wants a user: give --etcd-user and its password"),
        ((*tls[:2], *reader), "gave no answer that hello understands"),
        ((*tls[:2], "--etcd-cert", str(named.cert), "--etcd-key", str(named.key), *reader), "CommonName"),
        (("--etcd-ca", str(strange.file), *tls[2:], *reader), "is not accepted"),
    ]:
        done = secured.discover(*options, folder=tmp_path)
        assert done.returncode == 2
        assert says in done.stderr.decode()
        assert PASSWORD not in done.stderr.decode()


def test_a_denied_watch_is_an_error(secured: Secured) -> None:
    """etcd answers it with 200 and stays silent; here it ends."""

    async def ask() -> None:
        client = Etcd(
            secured.urls.split(","), user="reader", password=lambda: PASSWORD, tls=_context(secured.tls)
        )
        try:
            await client.list(f"{secured.prefix}/")
            with pytest.raises(DeniedError, match="does not let this user watch"):
                await anext(client.watch("/other/", 1))
        finally:
            await client.close()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:  # as the service has it
        runner.run(ask())


def _context(options: tuple[str, ...]) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=options[1])
    context.load_cert_chain(options[3], options[5])
    return context
