"""Servers of one's own, each in a network namespace, with the very files of `deploy/`."""

import os
import re
import shutil
import signal
import ssl
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from hello import keys
from rehearsal import owned
from rehearsal.network import Namespace
from tests.support.environment import HELLO, ROOT, missing, need, until
from tests.support.haproxy import Load
from tests.support.postgresql import PASSWORD, Cluster
from tests.support.service import Answer, Service, request

DEPLOY = ROOT / "deploy"
ADDRESSES = ("10.0.0.11", "10.0.0.12", "10.0.0.13")
FLOATING = "10.0.0.10"


class Switch:
    """A network with callers in it, and cables to machines."""

    def __init__(self) -> None:
        if os.geteuid():
            missing("network namespaces take root")
        for command in ("ip", "unshare", "setpriv", "haproxy", "openssl"):
            need(command)
        self.callers = Namespace()
        self.callers.ip("link", "add", "bridge", "type", "bridge")
        self.callers.ip("link", "set", "bridge", "up")
        self.callers.ip("address", "add", "10.0.0.1/24", "dev", "bridge")

    def connect(self, name: str, address: str) -> Namespace:
        """Return a new machine's network, with an interface `eth0` of this address."""
        machine = Namespace()
        self.callers.join(name, machine, "eth0")
        self.callers.ip("link", "set", name, "master", "bridge", "up")
        machine.ip("address", "add", f"{address}/24", "dev", "eth0")
        machine.ip("link", "set", "eth0", "up")
        return machine

    def plug(self, name: str, *, inserted: bool) -> None:
        """Pull a machine's cable, or put it in: who talks to it gets no answer, and no reset either."""
        self.callers.ip("link", "set", name, "up" if inserted else "down")


class Machine:
    """A machine with hello and HAProxy, in `folder` what is in its /etc/hello and /etc/haproxy."""

    def __init__(self, network: Namespace, address: str, folder: Path, kind: str, certificate: bytes) -> None:
        """Give it the files of `deploy/<kind>/`, and HAProxy's certificate with its key."""
        self.network = network
        self.address = address
        self.folder = folder
        (folder / "hello.pem").write_bytes(certificate)
        text = (DEPLOY / kind / "haproxy.cfg").read_text()
        (folder / "haproxy.cfg").write_text(text.replace("/etc/haproxy/", f"{folder}/"))
        self._processes: list[subprocess.Popen[bytes]] = []

    def serve(self, environment: Mapping[str, str]) -> None:
        """Start hello, as its unit does with this `/etc/hello/environment`."""
        unit = (ROOT / "image" / "hello.service").read_text()
        settings = dict(
            word.split("=", 1)
            for line in re.findall(r"^Environment=(.*)", unit, re.MULTILINE)
            for word in line.split()
        )
        store = f"sqlite:///{self.folder}/hello.db"
        self.hello = Service(self.folder, environment={**settings, "HELLO_STORE": store, **environment})
        with self.network.entered():
            self.hello.start()

    def restart(self) -> None:
        """Restart hello, as systemd does."""
        self.hello.signal(signal.SIGTERM)
        assert self.hello.process.wait(60) == 0
        with self.network.entered():
            self.hello.start()

    def run(self, *command: str) -> subprocess.Popen[bytes]:
        """Run a program until the machine ends."""
        with self.network.entered(), (self.folder / "programs.log").open("ab") as log:
            process = subprocess.Popen(
                owned.command(*command), stdout=log, stderr=log, cwd=ROOT, preexec_fn=owned.die_with_parent
            )
        self._processes.append(process)
        return process

    def balance(self) -> None:
        """Start HAProxy."""
        self._haproxy = self.run("haproxy", "-db", "-f", str(self.folder / "haproxy.cfg"))

    def stop_balancing(self) -> None:
        """Kill HAProxy."""
        self._haproxy.terminate()
        self._haproxy.wait(30)

    def floats(self) -> bool:
        """Return whether it has the address that may be any machine's."""
        with self.network.entered():
            told = subprocess.run(["ip", "-4", "-o", "address"], capture_output=True, check=True, text=True)
        return f" {FLOATING}/" in told.stdout

    def close(self) -> None:
        """End all that runs there."""
        for process in self._processes:
            process.terminate()
            process.wait(30)
        if hasattr(self, "hello"):
            self.hello.process.kill()
            self.hello.process.wait()
        self.network.close()


class Site:
    """The machines, and callers who know one address and one key."""

    def __init__(self, folder: Path, kind: str, addresses: tuple[str, ...], public: str) -> None:
        """Connect them, with certificates as deploy/three/certificates.sh makes them."""
        self.folder = folder
        self.public = public
        self.url = f"https://{public}"
        self.key, entry = keys.new_key("caller", ["read", "write"])
        self.environment = environment(kind)
        self.environment["HELLO_KEYS"] = f"[{keys.encode(entry).decode()}]"
        self.switch = Switch()
        script = str(DEPLOY / "three" / "certificates.sh")
        subprocess.run([script, str(folder), public, *addresses], check=True, timeout=60)
        self.trust = ssl.create_default_context(cafile=folder / "ca" / "cert.pem")
        certificate = (folder / public / "cert.pem").read_bytes() + (folder / public / "key.pem").read_bytes()
        self.machines = []
        for number, address in enumerate(addresses):
            network = self.switch.connect(f"machine{number}", address)
            folder.joinpath(address).mkdir(exist_ok=True)
            self.machines.append(Machine(network, address, folder / address, kind, certificate))

    def plug(self, machine: Machine, *, inserted: bool) -> None:
        """Pull the machine's cable, or put it in."""
        self.switch.plug(f"machine{self.machines.index(machine)}", inserted=inserted)

    def ask(self, method: str, target: str, body: bytes | None = None) -> Answer:
        """Send one request from outside."""
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {self.key}"}
        with self.switch.callers.entered():
            return request(self.url, method, target, body, headers, self.trust)

    def answers(self, machine: Machine | None = None) -> bool:
        """Return whether somebody gets an answer, by the site's address or a machine's own HAProxy."""
        url, trust = self.url, self.trust
        if machine is not None:
            url, trust = (
                f"https://{machine.address}",
                ssl.create_default_context(cafile=self.folder / "ca/cert.pem"),
            )
            trust.check_hostname = False
        try:
            with self.switch.callers.entered():
                return request(url, "GET", "/ready", trust=trust).status == 200
        except OSError:
            return False

    @contextmanager
    def load(self, timeout: float = 30) -> Iterator[Load]:
        """Have steady load from outside meanwhile, by callers who wait so long for an answer."""
        load = Load(443, self.public, self.trust, self.key, timeout)
        with self.switch.callers.entered():
            load.start()
        try:
            until(lambda: load.seconds, "the load to begin")
            yield load
        finally:
            load.stop()

    def close(self) -> None:
        """End everything."""
        for machine in self.machines:
            machine.close()
        self.switch.callers.close()


def environment(kind: str) -> dict[str, str]:
    """Return the settings in `deploy/<kind>/environment`."""
    lines = (DEPLOY / kind / "environment").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if not line.startswith("#"))


@contextmanager
def one_machine(folder: Path) -> Iterator[Site]:
    """The site of one machine, serving."""
    site = Site(folder, "one", ADDRESSES[:1], ADDRESSES[0])
    try:
        site.machines[0].serve(site.environment)
        site.machines[0].balance()
        until(site.answers, "the machine to serve")
        yield site
    finally:
        site.close()


@contextmanager
def three_machines(folder: Path) -> Iterator[tuple[Site, Cluster]]:
    """The site of three machines, serving, with PostgreSQL on the first."""
    need("keepalived")
    site = Site(folder, "three", ADDRESSES, FLOATING)
    cluster = Cluster(
        listen_addresses=ADDRESSES[0], ssl="on", ssl_cert_file="cert.pem", ssl_key_file="key.pem"
    )
    try:
        _start_postgresql(cluster, site)
        for machine in site.machines:
            settings = {**site.environment, "HELLO_DRAIN_SECONDS": "2"}  # still above what HAProxy takes
            for name in ("HELLO_STORE", "HELLO_TLS_CERT", "HELLO_TLS_KEY"):
                settings[name] = (
                    settings[name]
                    .replace("/run/credentials/hello.service", str(machine.folder))
                    .replace("PASSWORD", quote(PASSWORD, safe=""))
                )
            if machine is site.machines[0]:
                with machine.network.entered():
                    subprocess.run(
                        [HELLO, "migrate"],
                        env={**os.environ, **settings},
                        check=True,
                        capture_output=True,
                        timeout=60,
                    )
            machine.serve(settings)
            machine.balance()
            shutil.copy(DEPLOY / "three" / "keepalived.conf", machine.folder)
            until(lambda one=machine: site.answers(one), "HAProxy to have an instance")  # type: ignore[misc]
            pids = [f"--{name}={machine.folder}/{name}" for name in ("pid", "vrrp_pid")]
            machine.run("keepalived", "--vrrp", "--dont-fork", "--log-console", *pids,
                        f"--use-file={machine.folder}/keepalived.conf")  # fmt: skip
        until(site.answers, "one machine to have the address")
        yield site, cluster
    finally:
        site.close()
        cluster.remove()


def _start_postgresql(cluster: Cluster, site: Site) -> None:
    for name in ("cert.pem", "key.pem"):
        file = Path(shutil.copy(site.folder / ADDRESSES[0] / name, cluster.data))
        shutil.chown(file, "postgres", "postgres")
        file.chmod(0o600)
    with (cluster.data / "pg_hba.conf").open("a") as access:
        access.write("hostssl hello hello 10.0.0.0/24 scram-sha-256\n")
    cluster.port = 5432
    with site.machines[0].network.entered():
        cluster.start()
    cluster.add_user()
    cluster.add_database("hello")
