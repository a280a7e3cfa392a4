"""The machine of the AMI: provisioned and booted for real, with systemd, in a network of its own."""

import json
import re
import shutil
import subprocess
import threading
import time
from http.client import HTTPException
from pathlib import Path

import pytest

from rehearsal.machine import BUNDLE
from tests.support.environment import ROOT, until
from tests.support.machine import COMMIT, USER_DATA, Instance

pytestmark = [
    pytest.mark.timeout(900),  # the first one makes the machine, of a Debian that may have to be made
    pytest.mark.xdist_group("machines"),
]
UNITS = ("hello.service", "hello-settings.service", "etcd-member.service")


def put(instance: Instance, username: str) -> int:
    return instance.request("PUT", f"/hello/{username}", b'{"dateOfBirth":"1990-04-23"}').status


def test_it_boots_and_greets(instance: Instance) -> None:
    """Port 5000 answers from outside: what was put is greeted, and the version is the bundle's commit."""
    assert put(instance, "zoe") == 204
    assert instance.request("GET", "/hello/zoe").json()["message"].startswith("Hello, zoe!")
    assert instance.request("GET", "/version").json()["commit"] == COMMIT
    assert instance.run("systemctl", "--failed", "--plain", "--no-legend") == ""


def test_nothing_else_listens(instance: Instance) -> None:
    """Port 5000 is the only one, TCP or UDP; the SSH server that Debian's image has is masked."""
    assert instance.machine.listening() == ["tcp 0.0.0.0:5000"]
    assert instance.run("systemctl", "is-enabled", "ssh.service", check=False).strip() == "masked"


@pytest.mark.parametrize("unit", UNITS)
def test_the_units_are_hardened(provisioned: Path, unit: str) -> None:
    """The exposure by `systemd-analyze security` is below 2.0, of 10."""
    command = ["systemd-analyze", "security", "--offline=true", f"--root={provisioned}", unit]
    told = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
    exposure = re.search(r"Overall exposure level for \S+: ([\d.]+)", told)
    assert exposure, told
    assert float(exposure[1]) < 2.0


def test_the_process_has_no_rights(instance: Instance) -> None:
    """It is no root, holds no capability, can gain none, and its system calls are filtered."""
    status = instance.run("cat", f"/proc/{instance.show('hello', 'MainPID')}/status")
    fields = dict(line.split(":\t", 1) for line in status.splitlines())
    assert "0" not in fields["Uid"].split()
    for kind in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        assert int(fields[kind], 16) == 0
    assert (fields["NoNewPrivs"], fields["Seccomp"]) == ("1", "2")


def test_the_sandbox_holds(instance: Instance, root: Path) -> None:
    """What runs as the unit does writes to its own folder alone, and reads no secret of root's."""
    unit = (root / "etc/systemd/system/hello.service").read_text()
    for old, new in (
        ("/bin/hello serve", "/bin/python /etc/sandbox_probe.py"),
        ("Type=exec", "Type=oneshot"),
        ("Restart=always", "Restart=no"),
        ("StateDirectory=hello", "StateDirectory=probe"),
        ("WorkingDirectory=/var/lib/hello", "WorkingDirectory=/var/lib/probe"),
    ):
        assert old in unit
        unit = unit.replace(old, new)
    shutil.copy(ROOT / "tests" / "support" / "sandbox_probe.py", root / "etc")
    (root / "etc/systemd/system/probe.service").write_text(unit)
    instance.run("systemctl", "daemon-reload")
    instance.run("systemctl", "start", "probe")
    found = re.findall("^PROBE (.*)$", instance.journal(), re.MULTILINE)
    assert json.loads(found[-1]) == {
        "root": False,
        "written": ["/var/lib/probe", "/tmp"],
        "read": [],
        "netlink": False,
        "packet": False,
        "namespace": False,
        "executable": False,
    }
    assert instance.run("stat", "-c", "%a", "/var/lib/private/hello").strip() == "700"


def test_its_defaults(instance: Instance) -> None:
    """It drains for 15 s, has time for drain and stop together, and bounds to its memory and files."""
    assert "HELLO_DRAIN_SECONDS=15 HELLO_STOP_SECONDS=30" in instance.show("hello", "Environment")
    assert instance.show("hello", "TimeoutStopUSec") == "1min"
    assert instance.show("hello", "Restart") == "always"
    assert 0 < int(instance.show("hello", "MemoryMax")) < 2**63
    assert instance.show("hello", "LimitNOFILE") == "65536"


def test_it_is_back_after_a_kill(instance: Instance) -> None:
    """A process that is killed with -9 is replaced, and what was acknowledged is there."""
    assert put(instance, "ada") == 204
    before = instance.show("hello", "MainPID")
    instance.run("kill", "-9", before)
    until(
        lambda: instance.show("hello", "MainPID") not in (before, "0") and instance.answers(),
        "another process",
    )
    assert instance.request("GET", "/hello/ada").status == 200


def test_a_stop_loses_nothing(instance: Instance) -> None:
    """While it stops, each request is answered until /hc has long told the load balancer to send no more."""
    statuses: list[int] = []
    failed: list[Exception] = []
    gone = threading.Event()

    def ask() -> None:
        while not gone.is_set():
            try:
                statuses.append(put(instance, "bob"))
                if instance.request("GET", "/hc").status == 503:
                    gone.set()
            except (OSError, HTTPException) as error:
                failed.append(error)
                return

    clients = [threading.Thread(target=ask) for _ in range(4)]
    for client in clients:
        client.start()
    until(lambda: len(statuses) > 100, "requests")
    started = time.monotonic()
    instance.run("systemctl", "stop", "hello")
    stopped = time.monotonic() - started
    for client in clients:
        client.join(30)
    assert not failed
    assert set(statuses) == {204}
    assert gone.is_set()
    assert stopped >= 1  # the drain of the user data
    assert instance.show("hello", "Result") == "success"
    assert '"stopped"' in instance.journal()
    instance.restart(USER_DATA)


def test_security_updates_come_by_themselves(instance: Instance) -> None:
    """Debian's timers are on, and take what Debian's security archive has, and nothing else."""
    for timer in ("apt-daily.timer", "apt-daily-upgrade.timer"):
        assert instance.run("systemctl", "is-active", timer).strip() == "active"
    told = instance.run("unattended-upgrade", "--dry-run", "--debug", check=False)
    origins = re.search(r"Allowed origins are: (.*)", told)
    assert origins, told
    assert origins[1] == "origin=Debian,codename=bookworm-security,label=Debian-Security"
    assert 'APT::Periodic::Unattended-Upgrade "1";' in instance.run("apt-config", "dump")


def test_a_second_run_is_harmless(instance: Instance) -> None:
    """Provisioned once more while it serves, it goes on serving, by the same process, with the same files."""
    files = "find /opt/hello /etc/systemd /etc/apt -type f -exec sha256sum {} + | sort"
    before = instance.show("hello", "MainPID"), instance.run("sh", "-c", files)
    instance.run(f"{BUNDLE}/provision.sh")
    assert (instance.show("hello", "MainPID"), instance.run("sh", "-c", files)) == before


def test_nothing_of_this_machine_is_in_the_image(provisioned: Path) -> None:
    """No host keys and no lists of packages to copy; the machine's id is made at the first boot."""
    assert not list((provisioned / "etc/ssh").glob("ssh_host_*"))
    assert not list((provisioned / "var/cache/apt/archives").glob("*.deb"))
