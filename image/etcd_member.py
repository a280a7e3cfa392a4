"""A member of etcd on an EC2 instance, before it starts (`prepare`, as root) and once it answers (`users`).

The instance comes and goes; its volume, its address and its name stay. They are in the environment, from
user data: ETCD_NAME, ETCD_ADDRESS, ETCD_VOLUME, ETCD_CLUSTER (the peer URLs by name) and ETCD_SECRET,
which is JSON with the certificate authority (ca, ca_key) and the passwords (root, hello).
"""

import asyncio
import ipaddress
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlencode, urlsplit

import aiohttp
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)  # fmt: skip
from cryptography.x509.oid import ExtendedKeyUsageOID
from etcd_cluster import let_in, set_up
from settings import NotYetError, secret

from hello.stores.aws_credentials import CredentialsError
from hello.stores.aws_signing import Signer
from hello.stores.aws_sources import INSTANCE_ENDPOINT, TIMEOUT, domain, source

DATA = Path("/var/lib/etcd")
RUN = Path("/run/etcd")  # in memory: keys and configuration
DEVICES = Path("/dev/disk/by-id")
FORM = "application/x-www-form-urlencoded"
CLIENT_PORT = 2379
RETRY_SECONDS = 5.0


async def call_ec2(region: str, environ: Mapping[str, str], action: str, **parameters: str) -> None:
    """Have EC2 do something, by the role of the instance."""
    url = environ.get("AWS_ENDPOINT_URL") or f"https://ec2.{domain(region)}"
    body = urlencode({"Action": action, "Version": "2016-11-15", **parameters}).encode()
    signer = Signer(region, "ec2", urlsplit(url).netloc, FORM)
    headers = signer.headers(await source(region, environ)(), f"ec2.{action}", body, time.time())
    async with (
        aiohttp.ClientSession(timeout=TIMEOUT) as session,
        session.post(f"{url.rstrip('/')}/", data=body, headers=headers) as response,
    ):
        if response.status != 200:
            code = re.search(r"<Code>([\w.]+)</Code>", await response.text())
            raise NotYetError(f"{action}: {code[1] if code else response.status}")


class Instance(dict[str, str]):
    """What the metadata service tells of this instance: id, region, interface, address."""

    @classmethod
    async def of(cls, environ: Mapping[str, str]) -> "Instance":
        endpoint = (environ.get("AWS_EC2_METADATA_SERVICE_ENDPOINT") or INSTANCE_ENDPOINT).rstrip("/")
        async with aiohttp.ClientSession(timeout=TIMEOUT, raise_for_status=True) as session:
            asked = {"X-aws-ec2-metadata-token-ttl-seconds": "60"}
            async with session.put(f"{endpoint}/latest/api/token", headers=asked) as response:
                headers = {"X-aws-ec2-metadata-token": await response.text()}

            async def get(path: str) -> str:
                async with session.get(f"{endpoint}/latest/meta-data/{path}", headers=headers) as response:
                    return (await response.text()).strip()

            mac = await get("mac")
            return cls(
                id=await get("instance-id"),
                region=await get("placement/region"),
                interface=await get(f"network/interfaces/macs/{mac}/interface-id"),
                address=await get("local-ipv4"),
            )


async def take_address(instance: Instance, address: str, environ: Mapping[str, str]) -> None:
    """Have the member's address lead here, away from an instance that was before."""
    await call_ec2(
        instance["region"], environ, "AssignPrivateIpAddresses", AllowReassignment="true",
        NetworkInterfaceId=instance["interface"], **{"PrivateIpAddress.1": address},
    )  # fmt: skip
    # Whoever configures the interface removes what is not his from it, and leaves this one alone.
    run("ip", "address", "replace", f"{address}/32", "dev", "lo")


async def take_volume(instance: Instance, volume: str, environ: Mapping[str, str]) -> None:
    """Attach the member's volume and mount it; a new one is formatted, one with anything on it never."""
    device = DEVICES / f"nvme-Amazon_Elastic_Block_Store_{volume.replace('-', '')}"
    if mount(device):
        return
    await call_ec2(
        instance["region"], environ, "AttachVolume", VolumeId=volume, InstanceId=instance["id"],
        Device="/dev/sdf",
    )  # fmt: skip
    raise NotYetError(f"{volume} is being attached")


def mount(device: Path) -> bool:
    """Mount a device unless it is; return whether there is such a device."""
    if not device.exists():
        return False
    if os.path.ismount(DATA):
        return True
    found = subprocess.run(["blkid", "--probe", str(device)], capture_output=True, check=False, timeout=60)
    if found.returncode == 2:  # nothing known is on it
        run("mkfs.ext4", "-q", str(device))
    elif found.returncode:
        raise NotYetError(f"blkid can't tell what is on {device}")
    run("mount", "-o", "noatime,nodev,nosuid,noexec", str(device), str(DATA))
    return True


def run(*command: str) -> None:
    """Run a command that has to succeed."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    if done.returncode:
        raise NotYetError(f"{command[0]}: {done.stderr.strip()}")


def certify(folder: Path, authority: Mapping[str, str], addresses: set[str]) -> None:
    """Make the member a certificate: for servers and clients, as members are both to each other.

    It has no common name: the JSON gateway is a client of its own member, and etcd refuses names there. Both
    addresses are in it, for etcd compares them with where a connection comes from.
    """
    ca = x509.load_pem_x509_certificate(authority["ca"].encode())
    ca_key = load_pem_private_key(authority["ca_key"].encode(), None)
    assert isinstance(ca_key, ec.EllipticCurvePrivateKey)
    key = ec.generate_private_key(ec.SECP256R1())
    names = [x509.IPAddress(ipaddress.ip_address(one)) for one in sorted({*addresses, "127.0.0.1"})]
    usages = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([]))
        .issuer_name(ca.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(datetime.now(UTC) - timedelta(hours=1))
        .not_valid_after(ca.not_valid_after_utc)  # each boot makes a new one
        .add_extension(x509.SubjectAlternativeName(names), critical=True)
        .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False
        )
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .sign(ca_key, hashes.SHA256())
    )
    (folder / "ca.pem").write_text(authority["ca"])
    (folder / "member.pem").write_bytes(certificate.public_bytes(Encoding.PEM))
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    path = folder / "member-key.pem"
    path.touch(0o600)
    path.write_bytes(private)


def peers(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the members' URLs for peers, by name."""
    return dict(one.split("=", 1) for one in environ["ETCD_CLUSTER"].split(","))


async def state(environ: Mapping[str, str], secrets: Mapping[str, str]) -> str:
    """Return what etcd has to know of the cluster; a member that has data goes on with them."""
    if any((DATA / "data/member/wal").glob("*.wal")):
        return "existing"
    cluster = peers(environ)
    own = cluster.pop(environ["ETCD_NAME"])
    others = {f"https://{urlsplit(url).hostname}:{CLIENT_PORT}": url for url in cluster.values()}
    certificate = RUN / "member.pem", RUN / "member-key.pem"
    known = await let_in(others, own, secrets["ca"], secrets["root"], certificate)
    return "existing" if known else "new"


def configure(
    folder: Path, environ: Mapping[str, str], client_port: int = CLIENT_PORT, state: str = "new"
) -> None:
    """Write etcd's configuration."""
    peer = peers(environ)[environ["ETCD_NAME"]]
    client = f"https://{environ['ETCD_ADDRESS']}:{client_port}"
    pair = {"cert-file": str(folder / "member.pem"), "key-file": str(folder / "member-key.pem")}
    (folder / "etcd.json").write_text(  # JSON is YAML, which it reads
        json.dumps(
            {
                "name": environ["ETCD_NAME"],
                "data-dir": str(Path(environ.get("ETCD_DATA") or DATA) / "data"),
                "listen-client-urls": client,
                "advertise-client-urls": client,
                "listen-peer-urls": peer,
                "initial-advertise-peer-urls": peer,
                "initial-cluster": environ["ETCD_CLUSTER"],
                "initial-cluster-state": state,
                "client-transport-security": pair,
                "peer-transport-security": {
                    **pair,
                    "client-cert-auth": True,
                    "trusted-ca-file": str(folder / "ca.pem"),
                },
                "enable-grpc-gateway": True,  # a file leaves it off where flags have it on
                "auto-compaction-mode": "periodic",
                "auto-compaction-retention": "1h",
                "logger": "zap",
                "log-outputs": ["stderr"],
            }
        )
    )


async def fetch(region: str, environ: Mapping[str, str]) -> dict[str, str]:
    """Return what is in the secret, by the role of the instance."""
    async with aiohttp.ClientSession(timeout=TIMEOUT) as session:
        found: dict[str, str] = json.loads(await secret(session, environ["ETCD_SECRET"], region, environ))
    return found


async def prepare(environ: Mapping[str, str]) -> None:
    """Take volume and address, and write what etcd reads, as its user."""
    instance = await Instance.of(environ)
    await take_address(instance, environ["ETCD_ADDRESS"], environ)
    await take_volume(instance, environ["ETCD_VOLUME"], environ)
    authority = await fetch(instance["region"], environ)
    certify(RUN, authority, {environ["ETCD_ADDRESS"], instance["address"]})
    configure(RUN, environ, state=await state(environ, authority))
    hand_over()


def hand_over() -> None:
    """Give data and configuration to etcd's user."""
    for path in (DATA, *RUN.iterdir()):
        shutil.chown(path, "etcd", "etcd")
    DATA.chmod(0o700)


async def users(environ: Mapping[str, str]) -> None:
    """See that etcd asks who its clients are."""
    secrets = await fetch((await Instance.of(environ))["region"], environ)
    await set_up(f"https://{environ['ETCD_ADDRESS']}:{CLIENT_PORT}", secrets["ca"], secrets)


STEPS: dict[str, Callable[[Mapping[str, str]], Awaitable[None]]] = {"prepare": prepare, "users": users}


def main() -> None:
    """Try until it is done, and say what it waits for."""
    while True:
        try:
            asyncio.run(STEPS[sys.argv[1]](os.environ))  # type: ignore[arg-type]
        except (NotYetError, CredentialsError) as error:
            reason = str(error)
        except (OSError, aiohttp.ClientError, subprocess.SubprocessError, ValueError, LookupError) as error:
            reason = type(error).__name__  # texts of errors may hold what was answered
        else:
            return
        print(f"etcd-member: {reason}; trying again in {RETRY_SECONDS:g} s", file=sys.stderr)
        time.sleep(RETRY_SECONDS)


if __name__ == "__main__":
    main()
