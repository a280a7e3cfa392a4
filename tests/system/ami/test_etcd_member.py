"""image/etcd_member.py and infra/etcd-secrets.sh, on three real members of etcd and moto's EC2."""

import asyncio
import json
import os
import re
import shutil
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.support.certificates import Authority, Pair
from tests.support.dynamodb import CREDENTIALS
from tests.support.environment import HELLO, ROOT, free_port, need, until
from tests.support.release import REGION, Infra
from tests.support.service import Service

pytestmark = pytest.mark.timeout(300)  # three members on a busy machine
MEMBERS = 3


@pytest.fixture(scope="module")
def member() -> Iterator[ModuleType]:
    """The program as a module; it stands beside settings.py."""
    sys.path.insert(0, str(ROOT / "image"))
    try:
        import etcd_member

        yield etcd_member
    finally:
        sys.path.remove(str(ROOT / "image"))


def made(infra: Infra) -> dict[str, str]:
    """Run etcd-secrets.sh; return what is in the secret of the members."""
    names = {f"{name.replace('-', '_')}_secret": name for name in ("etcd", "etcd-ca", "etcd-password")}
    for name in names.values():
        infra.aws("secretsmanager", "CreateSecret", Name=f"{infra.name}/{name}")
    infra.outputs(**{output: f"{infra.name}/{name}" for output, name in names.items()})
    told = infra.done("etcd-secrets.sh")
    found: dict[str, str] = json.loads(value(infra, "etcd"))
    assert found["ca"].strip() == value(infra, "etcd-ca").strip()
    assert found["hello"] == value(infra, "etcd-password")
    assert len({found["root"], found["hello"]}) == 2
    assert not [secret for secret in (found["root"], found["hello"], found["ca_key"]) if secret in told]
    return found


def value(infra: Infra, name: str) -> str:
    """Return what a secret holds."""
    told: dict[str, str] = infra.aws("secretsmanager", "GetSecretValue", SecretId=f"{infra.name}/{name}")
    return told["SecretString"]


def test_members_of_the_secrets_form_a_cluster_that_hello_registers_in(
    infra: Infra, member: ModuleType, tmp_path: Path
) -> None:
    """They trust each other by the authority that etcd-secrets.sh made, and ask hello for its password."""
    secrets = made(infra)
    assert "they are there already" in infra.refused("etcd-secrets.sh")
    ports = [free_port() for _ in range(MEMBERS)]
    cluster = ",".join(f"m{n}=https://127.0.0.1:{free_port()}" for n in range(MEMBERS))
    with ExitStack() as stack:
        for number, port in enumerate(ports):
            folder = tmp_path / f"m{number}"
            folder.mkdir()
            environ = {
                "ETCD_NAME": f"m{number}", "ETCD_ADDRESS": "127.0.0.1", "ETCD_CLUSTER": cluster,
                "ETCD_DATA": str(folder),
            }  # fmt: skip
            member.certify(folder, secrets, {"127.0.0.1"})
            # As Python's clients look at it from 3.13 on.
            strictly = [need("openssl"), "verify", "-x509_strict", "-CAfile", "ca.pem", "member.pem"]
            subprocess.run(strictly, cwd=folder, stdout=subprocess.DEVNULL, check=True)
            member.configure(folder, environ, port)
            assert (folder / "member-key.pem").stat().st_mode & 0o77 == 0
            command = [need("setpriv"), "--pdeathsig", "SIGKILL", need("etcd"), "--config-file"]
            log = stack.enter_context((folder / "log").open("wb"))
            process = stack.enter_context(
                subprocess.Popen([*command, folder / "etcd.json"], stdout=log, stderr=log)
            )
            stack.callback(process.kill)
        ca = tmp_path / "ca.pem"
        ca.write_text(secrets["ca"])
        urls = [f"https://127.0.0.1:{port}" for port in ports]
        until(lambda: set_up(urls, secrets, member), "etcd to let its users be made", 60)
        # Once more, and by all, is harmless.
        assert set_up(urls, secrets, member)
        etcd = {
            "HELLO_ETCD": ",".join(urls), "HELLO_ETCD_CA": str(ca), "HELLO_ETCD_USER": "hello",
            "HELLO_ETCD_PASSWORD": secrets["hello"],
        }  # fmt: skip
        service = Service(tmp_path, environment={**etcd, "HELLO_STORE": "sqlite:///hello.db"}).start()
        try:
            until(lambda: str(service.port) in discovered(tmp_path, etcd), "hello in etcd", 30)
            wrong = discovered(tmp_path, {**etcd, "HELLO_ETCD_PASSWORD": "wrong"})
            assert str(service.port) not in wrong
        finally:
            assert service.stop() == 0


def set_up(urls: list[str], secrets: dict[str, str], member: ModuleType) -> bool:
    """Have all members set the users up at once, as they do when they boot; return whether all did."""
    code = (
        "import asyncio, json, sys\n"
        "sys.path.insert(0, sys.argv[1])\n"
        "import etcd_cluster\n"
        "urls, secrets = json.load(sys.stdin)\n"
        "async def all():\n"
        "    await asyncio.gather(*(etcd_cluster.set_up(url, secrets['ca'], secrets) for url in urls))\n"
        "asyncio.run(all())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, Path(str(member.__file__)).parent], input=json.dumps([urls, secrets]),
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    return done.returncode == 0


def discovered(folder: Path, environment: dict[str, str]) -> str:
    """Return what `hello discover` prints."""
    done = subprocess.run(
        [HELLO, "discover"],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.stdout


class Peer:
    """Another member: its port for clients, and that for peers, by which it tells of its cluster."""

    def __init__(self, tls: Pair, authority: Path) -> None:
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(tls.cert, tls.key)
        self._context.load_verify_locations(authority)
        self._context.verify_mode = ssl.CERT_REQUIRED
        self._open = ExitStack()
        self.client, self.peer = (f"https://127.0.0.1:{free_port()}" for _ in range(2))

    def close(self) -> None:
        """Leave."""
        self._open.close()

    def hang(self, url: str) -> None:
        """Take connections, and say nothing."""
        self._open.enter_context(socket.create_server(("127.0.0.1", urlsplit(url).port)))

    def answer(self, url: str, members: list[dict[str, list[str]]]) -> None:
        """Tell who asks for members of these."""
        body = json.dumps(members).encode()

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200 if self.path == "/members" else 404)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 - named there
                pass

        server = HTTPServer(("127.0.0.1", urlsplit(url).port or 0), Handler)
        server.socket = self._context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self._open.callback(server.server_close)
        self._open.callback(server.shutdown)


@pytest.fixture
def peer(tmp_path: Path) -> Iterator[Peer]:
    """Another member, of which nothing listens yet."""
    authority = Authority(tmp_path)
    peer = Peer(authority.server("member", also_client=True), authority.file)
    yield peer
    peer.close()


def let_in(member: ModuleType, folder: Path, peer: Peer) -> bool:
    """Ask the other member to be let in; return whether it has a cluster."""
    own = "https://127.0.0.1:1"
    certificate = folder / "member.pem", folder / "member-key.pem"
    ca = (folder / "ca.pem").read_text()
    return bool(asyncio.run(member.let_in({peer.client: peer.peer}, own, ca, "secret", certificate)))


def test_where_nobody_is_a_cluster_begins(member: ModuleType, tmp_path: Path, peer: Peer) -> None:
    """A machine is there, and no etcd."""
    assert not let_in(member, tmp_path, peer)


def test_where_all_begin_a_cluster_begins(member: ModuleType, tmp_path: Path, peer: Peer) -> None:
    """Without a quorum a member keeps clients waiting, and tells its peers of members that none reached."""
    peer.hang(peer.client)
    peer.answer(peer.peer, [{"clientURLs": []}, {}])
    assert not let_in(member, tmp_path, peer)


def test_where_a_quorum_was_lost_none_begins(member: ModuleType, tmp_path: Path, peer: Peer) -> None:
    """That member knows of one that clients reached: there is a cluster, and it is waited for."""
    peer.hang(peer.client)
    peer.answer(peer.peer, [{"clientURLs": ["https://127.0.0.1:2379"]}, {}])
    with pytest.raises(member.NotYetError, match="there may be a cluster"):
        let_in(member, tmp_path, peer)


def test_where_nobody_answers_none_begins(member: ModuleType, tmp_path: Path, peer: Peer) -> None:
    """What is silent may be cut off, and have a cluster."""
    peer.hang(peer.client)
    peer.hang(peer.peer)
    with pytest.raises(member.NotYetError, match=re.escape(peer.client)):
        let_in(member, tmp_path, peer)


def test_who_is_of_another_authority_is_not_believed(member: ModuleType, tmp_path: Path, peer: Peer) -> None:
    """It may be the cluster, with other secrets: nobody begins beside it."""
    peer.answer(peer.client, [])
    peer.answer(peer.peer, [{}])
    other = tmp_path / "other"
    other.mkdir()
    for name in ("member.pem", "member-key.pem"):
        shutil.copy(tmp_path / name, other)
    Authority(other)
    with pytest.raises(member.NotYetError, match="there may be a cluster"):
        let_in(member, other, peer)


@pytest.fixture
def ec2(moto_server: str) -> Callable[..., Any]:
    """Ask moto's EC2, by the AWS command line."""
    aws = [need("aws"), "--endpoint-url", moto_server, "--region", REGION, "--output", "json", "ec2"]

    def ask(*arguments: str) -> Any:
        done = subprocess.run(
            [*aws, *arguments], env={**os.environ, **CREDENTIALS}, capture_output=True, timeout=60, check=True
        )
        return json.loads(done.stdout)

    return ask


def test_a_member_takes_its_volume_and_its_address(
    ec2: Callable[..., Any],
    moto_server: str,
    member: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """Signed calls have EC2 attach the volume and assign the address, also away from an instance before."""
    told: list[tuple[str, ...]] = []
    monkeypatch.setattr(member, "run", lambda *command: told.append(command))
    monkeypatch.setattr(member, "DEVICES", tmp_path)
    environ = {**CREDENTIALS, "AWS_ENDPOINT_URL": moto_server}
    subnet = ec2("describe-subnets")["Subnets"][0]
    address = f"{subnet['CidrBlock'].rpartition('.')[0]}.250"
    volume = ec2("create-volume", "--availability-zone", subnet["AvailabilityZone"], "--size", "1")[
        "VolumeId"
    ]
    started = ec2("run-instances", "--image-id", "ami-12345678", "--subnet-id", subnet["SubnetId"])[
        "Instances"
    ][0]
    instance = member.Instance(
        id=started["InstanceId"],
        region=REGION,
        interface=started["NetworkInterfaces"][0]["NetworkInterfaceId"],
    )
    asyncio.run(member.take_address(instance, address, environ))
    assert told == [("ip", "address", "replace", f"{address}/32", "dev", "lo")]
    found = ec2("describe-network-interfaces", "--network-interface-ids", instance["interface"])
    assigned = [one["PrivateIpAddress"] for one in found["NetworkInterfaces"][0]["PrivateIpAddresses"]]
    assert address in assigned
    with pytest.raises(member.NotYetError, match="is being attached"):
        asyncio.run(member.take_volume(instance, volume, environ))
    attachment = ec2("describe-volumes", "--volume-ids", volume)["Volumes"][0]["Attachments"][0]
    assert attachment["InstanceId"] == instance["id"]
    with pytest.raises(member.NotYetError, match=r"AttachVolume: InvalidVolume\.NotFound"):
        asyncio.run(member.take_volume(instance, "vol-12345678", environ))


def test_a_volume_with_anything_on_it_is_not_formatted(
    member: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """An empty one is; both are mounted."""
    told: list[str] = []
    monkeypatch.setattr(member, "run", lambda *command: told.append(command[0]))
    monkeypatch.setattr(member, "DATA", tmp_path)
    disk = tmp_path / "disk"
    assert not member.mount(disk)
    with disk.open("wb") as file:
        file.truncate(4_000_000)
    assert member.mount(disk)
    assert told == ["mkfs.ext4", "mount"]
    subprocess.run([need("mkfs.ext4"), "-q", disk], check=True, timeout=60)
    assert member.mount(disk)
    assert told == ["mkfs.ext4", "mount", "mount"]
