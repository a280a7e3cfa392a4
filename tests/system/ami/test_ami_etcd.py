"""Members of etcd, each an instance of the AMI: booted, killed, replaced, cut off, with hello among them."""

import json
import os
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from rehearsal.machine import Machine
from rehearsal.region import MEMBERS, Region
from tests.support.environment import ROOT, need, until
from tests.support.etcd import Watch
from tests.support.service import JSON, Answer, request

pytestmark = [
    pytest.mark.timeout(900),  # the first one makes the machine, of a Debian that may have to be made
    pytest.mark.xdist_group("machines"),
    pytest.mark.full,
]
KEY = "/skydns/local/hello/other"
WAIT_SECONDS = 90
OURS = ("etcd*", "hello*", "amazon*", "prometheus*")


@dataclass
class Site:
    """Three members, an instance of hello that registers in them, and somebody who watches."""

    region: Region
    members: list[Machine]
    hello: Machine
    watch: Watch | None = None
    told: list[str] = field(default_factory=list)
    refused: str = ""

    def ctl(self, *arguments: str, zones: tuple[int, ...] = tuple(range(MEMBERS))) -> str:
        """Run etcdctl as root, asking the members of these zones; return what it prints, "" if it fails.

        `refused` has what it said then.
        """
        ca = self.region.environment()["HELLO_ETCD_CA"]
        password = json.loads(self.region.secret("etcd"))["root"]
        endpoints = ",".join(f"https://10.0.{zone}.250:2379" for zone in zones)
        command = ["timeout", "10", need("etcdctl"), "--endpoints", endpoints, "--cacert", ca]
        command += ["--dial-timeout", "2s", "--command-timeout", "3s"]
        user = {"ETCDCTL_API": "3", "ETCDCTL_USER": f"root:{password}"}
        with self.region.vpc.router.entered():
            done = subprocess.run(
                [*command, *arguments],
                env={**os.environ, **user}, capture_output=True, text=True, check=False,
            )  # fmt: skip
        self.refused = done.stderr
        return done.stdout if done.returncode == 0 else ""

    def must(self, *arguments: str, zones: tuple[int, ...] = tuple(range(MEMBERS))) -> str:
        """Run etcdctl until it succeeds, as after an election; return what it prints."""
        deadline = time.monotonic() + WAIT_SECONDS
        while not (told := self.ctl(*arguments, zones=zones)):
            assert time.monotonic() < deadline, self.refused
        return told

    def healthy(self) -> bool:
        """Return whether all members say that they are."""
        return self.ctl("endpoint", "health", "-w", "json").count('"health":true') == MEMBERS

    def identities(self) -> dict[str, int]:
        """Return the members' ids by name."""
        listed = json.loads(self.must("member", "list", "-w", "json"))["members"]
        return {one["name"]: one["ID"] for one in listed}

    def leader(self) -> int:
        """Return the zone of the leader, once there is one."""
        deadline = time.monotonic() + WAIT_SECONDS
        while time.monotonic() < deadline:
            for zone in range(MEMBERS):
                (status,) = json.loads(self.must("endpoint", "status", "-w", "json", zones=(zone,)))
                if status["Status"]["leader"] == status["Status"]["header"]["member_id"]:
                    return zone
        raise AssertionError("no member leads")

    def greets(self) -> bool:
        """Return whether hello answers."""
        return self.ask("GET", "/hello/Zoe").status == 200

    def ask(self, method: str, target: str, body: bytes | None = None) -> Answer:
        """Send hello one request."""
        with self.region.vpc.router.entered():
            return request(f"http://{self.hello.interface.address}:5000", method, target, body, JSON)

    def registered(self) -> float:
        """Return what hello tells of itself: 1 where it is registered, 0 where it knows that it is not."""
        found = re.search(
            rb"^hello_discovery_registered (\S+)$", self.ask("GET", "/metrics").body, re.MULTILINE
        )
        assert found
        return float(found[1])

    def serves(self, zone: int) -> bool:
        """Return whether a zone's member has joined and asks who its clients are."""
        return self.members[zone].run("systemctl", "is-active", "etcd-member", check=False) == "active\n"

    def journal(self, zone: int) -> str:
        """Return what a zone's member has said."""
        return self.members[zone].run(
            "journalctl", "--no-pager", "--output=cat", "--unit=etcd-*", check=False
        )

    def await_member(self, zone: int) -> None:
        """Wait until a zone's member serves."""
        deadline = time.monotonic() + WAIT_SECONDS
        while not self.serves(zone):
            assert time.monotonic() < deadline, self.journal(zone)[-4000:]
            time.sleep(0.05)

    def measure(self, since: float, what: str, condition: Callable[[], object]) -> None:
        """Wait for a condition, and keep how long after a moment it came for the report."""
        until(condition, what, WAIT_SECONDS)
        self.told.append(f"{what} after {time.monotonic() - since:.1f} s")


@pytest.fixture(scope="module")
def site(provisioned: Path, bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """All four booted, and Zoe in hello's store."""
    for command in ("aws", "etcdctl", "jq", "losetup", "openssl"):
        need(command)
    region = Region(provisioned, bundle, tmp_path_factory.mktemp("region"))
    site: Site | None = None
    try:
        members = [region.member(zone) for zone in range(MEMBERS)]
        hello = region.launch(
            0, {"HELLO_OPEN": "true", "HELLO_DRAIN_SECONDS": "1", **region.client_settings()}
        )
        site = Site(region, members, hello)
        for zone in range(MEMBERS):
            site.await_member(zone)
        until(lambda: region.registered() == {hello.interface.address}, "hello to register", WAIT_SECONDS)
        assert site.ask("PUT", "/hello/Zoe", b'{"dateOfBirth":"1990-04-23"}').status == 204
        yield site
    finally:
        region.close()


@pytest.fixture
def watch(site: Site) -> Iterator[Watch]:
    """`hello discover --watch`, which has seen hello."""
    with site.region.vpc.router.entered():
        watch = Watch(environment=site.region.environment())
    try:
        until(lambda: len(watch.out) == 1, "hello to be seen")
        yield watch
    finally:
        watch.process.kill()
        watch.process.communicate()
    print(*site.told, sep="\n")
    site.told.clear()


def test_the_user_data_are_terraforms(site: Site) -> None:
    """The members are told what infra/etcd.tf tells them."""
    text = (ROOT / "infra" / "etcd.tf").read_text()
    told = re.findall(r"^    ((?:ETCD|LOG)_\w+) +=", text, re.MULTILINE)
    assert told == list(site.region.member_settings(0))


def test_three_members_form_a_cluster(site: Site) -> None:
    """All are healthy under TLS, on their volumes, and listen at their addresses alone; none failed."""
    assert sorted(site.identities()) == ["m0", "m1", "m2"]
    until(site.healthy, "all members' health", WAIT_SECONDS)
    for zone, member in enumerate(site.members):
        assert member.listening() == [f"tcp 10.0.{zone}.250:{port}" for port in (2379, 2380)]
        failed = member.run("systemctl", "list-units", "--failed", "--plain", "--no-legend", *OURS)
        assert failed == "", member.run("journalctl", "--no-pager", "--priority=warning")
        assert member.run("findmnt", "--noheadings", "--output", "FSTYPE", "/var/lib/etcd") == "ext4\n"
        for unit in ("hello", "etcd"):
            assert member.run("systemctl", "is-active", unit, check=False) == "inactive\n"
    assert site.hello.run("systemctl", "is-active", "etcd-member", check=False) == "inactive\n"


def test_they_ask_who_their_clients_are(site: Site) -> None:
    """Without a password, and with a wrong one, nothing is told; hello's may write under its prefix alone."""
    environment = site.region.environment()
    url = "https://10.0.0.250:2379"
    known = ["etcdctl", "--endpoints", url, "--cacert", environment["HELLO_ETCD_CA"]]
    password = environment["HELLO_ETCD_PASSWORD"]
    with site.region.vpc.router.entered():
        for user, key, allowed in (
            ("", KEY, False),
            ("hello:wrong", KEY, False),
            (f"hello:{password}", "/skydns/local/else", False),
            (f"hello:{password}", f"{KEY}/", True),
        ):
            asked = {"ETCDCTL_API": "3", **({"ETCDCTL_USER": user} if user else {})}
            done = subprocess.run(
                ["timeout", "10", *known, "put", key, "x"],
                env={**os.environ, **asked}, capture_output=True, check=False,
            )  # fmt: skip
            assert (done.returncode == 0) == allowed, done.stderr
    site.ctl("del", f"{KEY}/")


def test_the_process_has_no_rights_and_secrets_are_told_to_nobody(site: Site) -> None:
    """etcd is no root, and holds no capability; keys and passwords are in no journal, state or argument."""
    secrets = json.loads(site.region.secret("etcd"))
    key = secrets["ca_key"].splitlines()[1]
    for member in site.members:
        pid = member.run("systemctl", "show", "etcd-member", "--property=MainPID", "--value").strip()
        status = member.run("cat", f"/proc/{pid}/status")
        fields = dict(line.split(":\t", 1) for line in status.splitlines())
        assert "0" not in fields["Uid"].split()
        assert int(fields["CapEff"], 16) == int(fields["CapBnd"], 16) == 0
        assert (fields["NoNewPrivs"], fields["Seccomp"]) == ("1", "2")
        told = member.run("journalctl", "--no-pager") + member.run("systemctl", "show", "etcd-member")
        told += member.run("cat", f"/proc/{pid}/cmdline", f"/proc/{pid}/environ")
        for one in (key, secrets["root"], secrets["hello"]):
            assert one not in told
        assert member.run("stat", "-c", "%U %a", "/run/etcd/member-key.pem") == "etcd 600\n"


def test_an_instance_that_takes_over_goes_on_with_the_volume(site: Site) -> None:
    """It waits until the one before has let go, takes address and volume, and is the same member."""
    before = site.identities()
    old = site.members[0]
    assert site.must("put", KEY, "kept")
    old.kill()
    site.members[0] = site.region.member(0)
    until(lambda: "AttachVolume: VolumeInUse" in site.journal(0), "the new one to wait", WAIT_SECONDS)
    site.region.terminate(old)
    site.await_member(0)
    assert site.identities() == before
    assert site.must("get", "--print-value-only", KEY, zones=(0,)) == "kept\n"
    assert site.ctl("del", KEY)
    assert site.greets()
    assert site.region.registered() == {site.hello.interface.address}


def test_a_member_whose_volume_is_lost_is_let_in_anew(site: Site) -> None:
    """The others take it as a new one, under its name and address, and it learns from them what they know."""
    before = site.identities()
    assert site.must("put", KEY, "known")
    site.region.terminate(site.members[1])
    site.region.renew_volume(1)
    site.members[1] = site.region.member(1)
    site.await_member(1)
    after = site.identities()
    assert after.keys() == before.keys()
    assert {name for name in after if after[name] != before[name]} == {"m1"}
    until(site.healthy, "all members' health", WAIT_SECONDS)
    assert site.must("get", "--print-value-only", "--consistency=s", KEY, zones=(1,)) == "known\n"
    assert site.ctl("del", KEY)
    assert site.region.registered() == {site.hello.interface.address}


def test_a_lost_quorum_comes_back(site: Site, watch: Watch) -> None:
    """Two of three are terminated: hello serves on, and is registered once their successors have joined."""
    gone = time.monotonic()
    for zone in (0, 1):
        site.region.terminate(site.members[zone])
    site.measure(gone, "quorum lost: the watch notices", lambda: "trying on" in watch.err)
    site.measure(gone, "quorum lost: hello notices", lambda: site.registered() == 0)
    assert site.greets()
    assert site.ask("GET", "/ready").status == 200
    for zone in (0, 1):
        site.members[zone] = site.region.member(zone)
    for zone in (0, 1):
        site.await_member(zone)
    back = time.monotonic()
    site.measure(back, "quorum back: hello is registered", lambda: site.registered() == 1)
    assert site.region.registered() == {site.hello.interface.address}
    assert [line.split()[0] for line in watch.out] == ["up"]


def test_a_leader_that_is_cut_off_from_the_others_loses_nobody(site: Site, watch: Watch) -> None:
    """Clients reach it, and it no longer leads: hello and who watches go on with the others."""
    leader = site.leader()
    moment = time.monotonic()
    others = [zone for zone in range(MEMBERS) if zone != leader]
    split(site, leader, others)
    try:
        record = json.dumps({"host": "10.9.9.9", "port": 5000, "ttl": 5, "scheme": "http", "version": "0"})
        site.measure(
            moment,
            "leader cut off: another one leads",
            lambda: site.ctl("put", KEY, record, zones=tuple(others)),
        )
        site.measure(moment, "leader cut off: the watch has a change", lambda: len(watch.out) == 2)
        site.measure(moment, "leader cut off: hello is registered", lambda: site.registered() == 1)
        assert site.greets()
        time.sleep(16)  # above the lease
        assert site.hello.interface.address in site.region.registered()
    finally:
        site.region.vpc.mend()
    site.measure(time.monotonic(), "mended: all are healthy", site.healthy)
    assert site.ctl("del", KEY)
    until(lambda: len(watch.out) == 3, "the record to go")
    assert [line.split()[0] for line in watch.out] == ["up", "up", "down"]


def split(site: Site, one: int, others: list[int]) -> None:
    """Let nothing through between a member and others."""
    for other in others:
        for source, target in ((one, other), (other, one)):
            addresses = (f"10.0.{target}.250", site.members[target].interface.address)
            site.region.vpc.cut(site.members[source].interface, *addresses)
