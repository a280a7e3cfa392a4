"""A machine that is provisioned further: another commit, and Amazon's agents, if Amazon has signed them."""

import shutil
import subprocess
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from rehearsal.machine import BUNDLE
from rehearsal.vpc import GATEWAY
from tests.support.environment import need, until
from tests.support.machine import COMMIT, USER_DATA, Instance

pytestmark = [
    pytest.mark.timeout(900),  # the first one makes the machine, of a Debian that may have to be made
    pytest.mark.xdist_group("machines"),
]
OTHER = "0ddba11" * 5 + "abcde"
AGENTS = {"SSM": "amazon-ssm-agent", "CLOUDWATCH": "amazon-cloudwatch-agent"}
CONFIGURATION = "/opt/aws/amazon-cloudwatch-agent/etc/amazon-cloudwatch-agent.d/file_hello.json"


def test_another_commit_is_installed_beside(instance: Instance, root: Path, bundle: Path) -> None:
    """It runs after that; the first one is still there to go back to, and what was put is kept."""
    instance.restart(USER_DATA)
    assert instance.request("PUT", "/hello/kay", b'{"dateOfBirth":"1990-04-23"}').status == 204
    shutil.copytree(bundle, root / "opt/other")
    (root / "opt/other/commit").write_text(OTHER)
    for command, commit in (
        ("/opt/other/provision.sh", OTHER),
        (f"ln -sfn {COMMIT} /opt/hello/current && systemctl restart hello", COMMIT),
    ):
        instance.run("sh", "-c", command)
        until(instance.answers, "hello to serve")
        assert instance.request("GET", "/version").json()["commit"] == commit
    assert instance.request("GET", "/hello/kay").status == 200


# The agents: packages of the same names, with keys of our own


def gpg(home: Path, *arguments: str | Path) -> str:
    command = [need("gpg"), "--homedir", home, "--batch", "--quiet", "--passphrase", "", *arguments]
    return subprocess.run(command, capture_output=True, check=True, text=True, timeout=120).stdout


def new_key(home: Path) -> str:
    """Make a key, put its public part beside the packages, and return its fingerprint."""
    home.mkdir(mode=0o700)
    gpg(home, "--quick-generate-key", "test", "rsa2048", "sign", "1d")
    listed = gpg(home, "--with-colons", "--list-keys").splitlines()
    return next(line.split(":")[9] for line in listed if line.startswith("fpr"))


def package(folder: Path, name: str) -> Path:
    """Make a package with a unit that says it was started, once it has seen its configuration."""
    unit = folder / name / f"lib/systemd/system/{name}.service"
    unit.parent.mkdir(parents=True)
    unit.write_text(
        f"[Service]\nType=oneshot\nExecStart=/bin/echo {name} runs\n[Install]\nWantedBy=multi-user.target\n"
    )
    if name == AGENTS["CLOUDWATCH"]:
        (folder / name / CONFIGURATION[1:]).parent.mkdir(parents=True)
    (folder / name / "DEBIAN").mkdir()
    (folder / name / "DEBIAN/control").write_text(
        f"Package: {name}\nVersion: 1\nArchitecture: all\nMaintainer: t <t@example.org>\nDescription: t\n"
    )
    built = folder / f"{name}.deb"
    command = [need("dpkg-deb"), "--root-owner-group", "--build", str(folder / name), str(built)]
    subprocess.run(command, capture_output=True, check=True, timeout=60)
    return built


@pytest.fixture
def agents(instance: Instance, tmp_path: Path) -> Iterator[dict[str, str]]:
    """What provision.sh is told of the agents: packages, signatures and keys in a bucket of ours."""
    key, home = new_key(tmp_path / "gnupg"), tmp_path / "gnupg"
    bucket = tmp_path / "bucket"
    bucket.mkdir()
    gpg(home, "--output", bucket / "key", "--export")
    told = {}
    for agent, name in AGENTS.items():
        gpg(home, "--output", bucket / f"{name}.deb.sig", "--detach-sign", package(bucket, name))
        told[f"{agent}_AGENT_URL"] = f"http://{GATEWAY}:8000/{name}.deb"
        told[f"{agent}_AGENT_KEY_URL"] = f"http://{GATEWAY}:8000/key"
        told[f"{agent}_AGENT_KEY"] = key
    with instance.outside.entered():
        server = ThreadingHTTPServer((GATEWAY, 8000), partial(SimpleHTTPRequestHandler, directory=bucket))
    Thread(target=server.serve_forever, daemon=True).start()
    yield told
    server.shutdown()
    server.server_close()
    subprocess.run(["gpgconf", "--homedir", home, "--kill", "all"], check=True, timeout=60)


@pytest.mark.parametrize("wrong", ["a key that is not the pinned one", "a changed package", "no signature"])
def test_what_amazon_has_not_signed_is_not_installed(
    instance: Instance, agents: dict[str, str], tmp_path: Path, wrong: str
) -> None:
    """The script ends, names the agent, and nothing of the package is there."""
    if wrong == "no signature":
        (tmp_path / "bucket/amazon-ssm-agent.deb.sig").write_text("")
    elif wrong == "a changed package":
        with (tmp_path / "bucket/amazon-ssm-agent.deb").open("ab") as file:
            file.write(b"\n")
    else:
        agents["SSM_AGENT_KEY"] = "0" * 40
    said = instance.run(f"{BUNDLE}/provision.sh", "--agents", check=False, environment=agents)
    assert f"provision.sh: amazon-ssm-agent is not signed by {agents['SSM_AGENT_KEY']}" in said
    assert "is installed" not in said
    assert instance.run("dpkg-query", "-W", "amazon-ssm-agent", check=False).startswith(
        "dpkg-query: no packages"
    )


def test_signed_agents_are_installed_and_configured(instance: Instance, agents: dict[str, str]) -> None:
    """Both are enabled; the one for CloudWatch stays off until there is a log group to ship to."""
    instance.run(f"{BUNDLE}/provision.sh", "--agents", environment=agents)
    for name in AGENTS.values():
        assert instance.run("systemctl", "is-enabled", name) == "enabled\n"
    instance.restart(USER_DATA)
    instance.run("systemctl", "start", "amazon-cloudwatch-agent")
    assert instance.show("amazon-cloudwatch-agent", "ConditionResult") == "no"
    instance.restart(f"{USER_DATA}LOG_GROUP=/aws/hello\n")
    instance.run("systemctl", "start", "amazon-cloudwatch-agent")
    assert '"log_group_name": "/aws/hello"' in instance.run("cat", CONFIGURATION)
    instance.restart(USER_DATA)
