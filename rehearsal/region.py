"""Instances of one provisioned root in a played region: members of etcd, and hello, as infra/ starts them."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from itertools import count
from pathlib import Path

from rehearsal.ec2_api import Ec2
from rehearsal.machine import Machine, copy_of, drop_in
from rehearsal.metadata import CREDENTIALS
from rehearsal.secrets_manager import SecretsManager
from rehearsal.volume import Volume
from rehearsal.vpc import GATEWAY, REGION, Vpc

ROOT = Path(__file__).parent.parent
MEMBERS = 3
SECRETS = ("etcd", "etcd-ca", "etcd-password")
CLIENTS = ",".join(f"https://10.0.{zone}.250:2379" for zone in range(MEMBERS))
PEERS = ",".join(f"m{zone}=https://10.0.{zone}.250:2380" for zone in range(MEMBERS))
ENDPOINTS = """[Service]
Environment=AWS_ENDPOINT_URL={ec2} AWS_ENDPOINT_URL_SECRETS_MANAGER={secrets}
"""


class Region:
    """What is there before an instance is: network, API, secrets by infra/etcd-secrets.sh, and volumes."""

    def __init__(self, root: Path, bundle: Path, folder: Path) -> None:
        """`root` stays as it is; `folder` has room for what the instances write."""
        self._root = root
        self._bundle = bundle
        self._folder = folder
        self._numbers = count(1)
        self._copies: dict[Machine, ExitStack] = {}
        self._volumes: dict[int, Volume] = {}
        self._all = ExitStack()
        try:
            self._begin()
        except BaseException:
            self._all.close()
            raise

    def member_settings(self, zone: int) -> dict[str, str]:
        """Return the user data of a zone's member, as infra/etcd.tf has them."""
        return {
            "LOG_GROUP": "/hello",
            "ETCD_NAME": f"m{zone}",
            "ETCD_ADDRESS": f"10.0.{zone}.250",
            "ETCD_VOLUME": self._volumes[zone].id,
            "ETCD_CLUSTER": PEERS,
            "ETCD_SECRET": self._arns["etcd"],
        }

    def member(self, zone: int) -> Machine:
        """Boot the instance of a zone's group."""
        return self.launch(zone, self.member_settings(zone))

    def client_settings(self) -> dict[str, str]:
        """Return what infra/ec2.tf tells hello of etcd."""
        return {
            "HELLO_ETCD": CLIENTS,
            "HELLO_ETCD_CA": self._arns["etcd-ca"],
            "HELLO_ETCD_USER": "hello",
            "HELLO_ETCD_PASSWORD": self._arns["etcd-password"],
        }

    def registered(self) -> set[str]:
        """Return the addresses that `hello discover` finds from outside; empty where etcd does not answer."""
        with self.vpc.router.entered():
            done = subprocess.run(
                [sys.executable, "-m", "hello", "discover", "--format", "json"], env=self.environment(),
                stdin=subprocess.DEVNULL, capture_output=True, timeout=60,
            )  # fmt: skip
        return {one["host"] for one in json.loads(done.stdout)} if done.returncode == 0 else set()

    def environment(self) -> dict[str, str]:
        """Return the settings of a hello command that is outside of the instances."""
        ca = self._folder / "ca.pem"
        ca.write_text(self.secret("etcd-ca"))
        password = self.secret("etcd-password")
        return {**self.client_settings(), "HELLO_ETCD_CA": str(ca), "HELLO_ETCD_PASSWORD": password}

    def create_secret(self, name: str, value: str) -> str:
        """Keep a secret; return its ARN."""
        with self.vpc.router.entered():
            return self._secrets.create(name, value)

    def secret(self, name: str) -> str:
        """Return what a secret holds: etcd, etcd-ca or etcd-password."""
        with self.vpc.router.entered():
            return self._secrets.read(self._arns[name])

    def launch(self, zone: int, settings: Mapping[str, str]) -> Machine:
        """Boot an instance in a zone's subnet, with these user data."""
        number = next(self._numbers)
        folder = self._folder / str(number)
        with ExitStack() as made:
            made.callback(shutil.rmtree, folder, ignore_errors=True)
            root = made.enter_context(copy_of(self._root, folder))
            endpoints = ENDPOINTS.format(ec2=self.ec2.url, secrets=self._secrets.url)
            for unit in ("hello-settings.service", "etcd-prepare.service", "etcd-member.service"):
                drop_in(root, unit, endpoints)
            machine = Machine(root, self._bundle, self.vpc.plug(f"10.0.{zone}.{10 + number}"))
            made.callback(machine.close)
            machine.metadata.user_data = "".join(f"{name}={value}\n" for name, value in settings.items())
            self.ec2.machines[machine.interface.instance] = machine
            made.callback(self.ec2.machines.pop, machine.interface.instance, None)
            machine.boot()
            self._copies[machine] = made.pop_all()
        return machine

    def terminate(self, machine: Machine) -> None:
        """Kill an instance, and give back what it had."""
        with self._copies.pop(machine):
            machine.kill()
            self.ec2.terminate(machine)

    def renew_volume(self, zone: int) -> None:
        """Give a zone an empty volume."""
        number = next(self._numbers)
        volume = Volume(f"vol-{number:017x}", self._folder / f"volume{number}")
        self._all.callback(volume.close)
        self.ec2.volumes[volume.id] = self._volumes[zone] = volume

    def close(self) -> None:
        """Kill all instances, and give up what there is."""
        with self._all, ExitStack() as instances:
            for machine in self._copies:
                instances.callback(self.terminate, machine)

    def _begin(self) -> None:
        self.vpc = Vpc()
        self._all.callback(self.vpc.close)
        with self.vpc.router.entered():
            self._secrets = SecretsManager(GATEWAY, 5001)
            self._all.callback(self._secrets.close)
            self.ec2 = Ec2()
            self._all.callback(self.ec2.close)
            self._arns = {name: self._secrets.create(f"hello/{name}") for name in SECRETS}
            self._make_secrets()
        for zone in range(MEMBERS):
            self.renew_volume(zone)

    def _make_secrets(self) -> None:
        """Run infra/etcd-secrets.sh, with these for Terraform's outputs."""
        folder = self._folder / "infra"
        folder.mkdir()
        for script in ("common.sh", "etcd-secrets.sh"):
            shutil.copy(ROOT / "infra" / script, folder)
        outputs = {f"{name.replace('-', '_')}_secret": arn for name, arn in self._arns.items()}
        outputs |= {"service": "hello", "repository_name": "hello", "region": REGION}
        (folder / "outputs").write_text(
            json.dumps({name: {"value": value} for name, value in outputs.items()})
        )
        (folder / "terraform").write_text(f"#!/bin/sh\nexec cat {folder}/outputs\n")
        (folder / "terraform").chmod(0o755)
        environment = {
            **os.environ,
            "PATH": f"{folder}:{os.environ['PATH']}",
            "AWS_ENDPOINT_URL": self._secrets.url,
            "AWS_ACCESS_KEY_ID": CREDENTIALS["AccessKeyId"],
            "AWS_SECRET_ACCESS_KEY": CREDENTIALS["SecretAccessKey"],
            "NO_PROXY": GATEWAY,
        }
        subprocess.run([folder / "etcd-secrets.sh"], env=environment, check=True, timeout=120)
