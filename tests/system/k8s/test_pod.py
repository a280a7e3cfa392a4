"""The very pods of the overlays, run by podman, as far as one machine without Kubernetes goes.

podman 4.3 has no emptyDir, writes Secrets as base64 and can't sleep before a stop; its probes are no
evidence. So volumes are folders here, and the test stands for the kubelet, and for the webhook that brings
a service account's token; PostgreSQL itself stands for Cloud SQL's proxy.
"""

import json
import os
import signal
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.support.commands import hello
from tests.support.containers import Container, Engine
from tests.support.environment import free_port, until
from tests.support.kubernetes import K8S, Manifests, Object, render
from tests.support.service import JSON, request

pytestmark = pytest.mark.xdist_group("containers")

MOTO_ACCOUNT = "123456789012"
OVERRIDDEN = "/run/test"


@dataclass(frozen=True)
class Key:
    """A key of the scopes read and write: its entry, and the header field that sends it."""

    entry: str
    header: dict[str, str]


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> Key:
    """Return a key that `hello key new` made."""
    folder = tmp_path_factory.mktemp("key")
    done = hello(
        "key", "new", "test", "--scope", "read,write", "--save", "--keys-file", "keys", folder=folder
    )
    return Key((folder / "keys").read_text(), {"Authorization": f"Bearer {done.stdout.decode().strip()}"})


@contextmanager
def pod(engine: Engine, manifests: Manifests, image: str, key: Key, **settings: str) -> Iterator[Container]:
    """Run a pod of a Deployment, with these settings on top of its own; yield the container that serves."""
    folder = Path(tempfile.mkdtemp(dir=engine.folder))
    for name, content in {
        "keys/keys.json": key.entry,
        "token/token": "a token of the service account",
    }.items():
        (folder / name).parent.mkdir()
        (folder / name).write_text(content)
    (folder / "tmp").mkdir()
    os.chown(folder / "tmp", 65532, 65532)
    folder.chmod(0o755)
    port = str(free_port())
    specification = deepcopy(manifests.pod)
    specification["restartPolicy"] = "Never"
    specification["volumes"] = [
        {"name": name, "hostPath": {"path": str(folder / name)}} for name in ("keys", "tmp", "token")
    ]
    specification["initContainers"] = [
        container for container in specification.get("initContainers", ()) if container["name"] == "migrate"
    ]
    for container in [*specification["initContainers"], *specification["containers"]]:
        for name in [name for name in container if name.endswith("Probe") or name in {"lifecycle", "ports"}]:
            del container[name]
        container["image"] = f"localhost/{image}"
        container["volumeMounts"].append({"name": "token", "mountPath": OVERRIDDEN})
    settings = {**manifests.settings, "HELLO_HOST": "127.0.0.1", "HELLO_PORT": port, **settings}
    objects: list[Object] = [
        {**manifests.one("ConfigMap"), "data": settings},
        {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": f"pod-{port}"}, "spec": specification},
    ]
    (folder / "pod.yaml").write_text("\n---\n".join(json.dumps(entry) for entry in objects))  # JSON is YAML
    try:
        engine.output("podman", "play", "kube", "--network=host", folder / "pod.yaml")
        yield Container(engine, f"pod-{port}-hello", f"http://127.0.0.1:{port}")
    finally:
        engine.run("podman", "pod", "rm", "--force", "--time=0", f"pod-{port}")


def is_kept(container: Container, key: Key) -> None:
    """A person is registered and greeted, by who has a key and by nobody else."""
    body = json.dumps({"dateOfBirth": "1990-04-23"}).encode()
    container.wait_until_served()
    until(lambda: request(container.url, "GET", "/ready").status == 200, "the store")
    assert request(container.url, "PUT", "/hello/Zoe", body, JSON).status == 401
    assert request(container.url, "PUT", "/hello/Zoe", body, {**JSON, **key.header}).status == 204
    assert b"Zoe" in request(container.url, "GET", "/hello/Zoe", headers=key.header).body


def test_the_pod_of_eks(engine: Engine, image: str, key: Key, moto_url: str, moto_server: str) -> None:
    """It has no rights, keeps people by the role of its service account, and ends in the time that it has."""
    manifests = render(K8S / "overlays" / "eks")
    (role,) = manifests.one("ServiceAccount")["metadata"]["annotations"].values()
    webhook = {  # what EKS adds to pods whose service account has a role
        "AWS_ROLE_ARN": role.replace("111122223333", MOTO_ACCOUNT),
        "AWS_WEB_IDENTITY_TOKEN_FILE": f"{OVERRIDDEN}/token",
        "AWS_ENDPOINT_URL": moto_server,
    }
    with pod(engine, manifests, image, key, HELLO_STORE=moto_url, **webhook) as container:
        is_kept(container, key)
        told = container.status()
        assert told["Uid"].split() == ["65532"] * 4
        assert (told["CapEff"], told["CapBnd"], told["NoNewPrivs"]) == ("0" * 16, "0" * 16, "1")
        mounts = Path(f"/proc/{container.state()['Pid']}/mounts").read_text()
        assert " / overlay ro," in mounts
        assert int(told["VmHWM"].split()[0]) < 128 * 1024  # kB: half of the limit

        grace = manifests.pod["terminationGracePeriodSeconds"]
        serving = manifests.serving_after_the_end
        sleep = manifests.hello["lifecycle"]["preStop"]["sleep"]["seconds"]
        began = time.monotonic() - sleep  # kubelet sleeps, and nothing has changed for hello by then
        container.kill("TERM")
        until(lambda: request(container.url, "GET", "/hc").status == 503, "draining")
        answers = 0
        while time.monotonic() < began + serving - 1:
            answer = request(container.url, "GET", "/hello/Zoe", headers=key.header)
            assert (answer.status, answer.headers["Connection"]) == (200, "close")
            answers += 1
            time.sleep(0.1)
        assert answers > 10
        assert container.wait() == 0
        assert time.monotonic() - began < grace


def test_the_pod_of_gke(engine: Engine, image: str, key: Key, postgresql_url: str) -> None:
    """It makes its schema before it serves, and keeps people in PostgreSQL on the loopback."""
    manifests = render(K8S / "overlays" / "gke")
    assert urlsplit(manifests.settings["HELLO_STORE"]).hostname == urlsplit(postgresql_url).hostname
    with pod(engine, manifests, image, key, HELLO_STORE=postgresql_url) as container:
        is_kept(container, key)
        container.kill(signal.SIGKILL.name)
