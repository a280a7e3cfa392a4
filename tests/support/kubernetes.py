"""Kubernetes' manifests as kubectl renders them, and what tests ask of them."""

import json
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.environment import ROOT, missing

TOOLS = ROOT / ".venv-kubernetes" / "bin"
K8S = ROOT / "k8s"
OVERLAYS = sorted(path.name for path in (K8S / "overlays").iterdir())
TO_JSON = "import json, sys, yaml; json.dump(list(yaml.safe_load_all(sys.stdin)), sys.stdout)"

Object = dict[str, Any]


@dataclass(frozen=True)
class Manifests:
    """What one overlay makes, as `kubectl kustomize` prints it and decoded."""

    text: str
    objects: list[Object]

    def all(self, kind: str) -> list[Object]:
        """Return the objects of a kind."""
        return [entry for entry in self.objects if entry["kind"] == kind]

    def one(self, kind: str) -> Object:
        """Return the only object of a kind."""
        (found,) = self.all(kind)
        return found

    @property
    def template(self) -> Object:
        """The pods' labels and specification."""
        return dict(self.one("Deployment")["spec"]["template"])

    @property
    def pod(self) -> Object:
        """The pods' specification."""
        return dict(self.template["spec"])

    @property
    def containers(self) -> list[Object]:
        """All containers of a pod, those that run before the others included."""
        return [*self.pod.get("initContainers", ()), *self.pod["containers"]]

    @property
    def hello(self) -> Object:
        """The container that serves."""
        (found,) = self.pod["containers"]
        return dict(found)

    @property
    def settings(self) -> dict[str, str]:
        """The variables that hello is given."""
        return dict(self.one("ConfigMap")["data"])

    @property
    def serving_after_the_end(self) -> float:
        """Seconds that a pod goes on serving once its end has begun."""
        before: float = self.hello["lifecycle"]["preStop"]["sleep"]["seconds"]
        return before + float(self.settings["HELLO_DRAIN_SECONDS"])


def tool(name: str) -> Path:
    """Return a command of the virtual environment for Kubernetes."""
    path = TOOLS / name
    if not path.exists():
        missing(f"{name} is not installed (make .venv/.stamps/kubernetes)")
    return path


def render(folder: Path) -> Manifests:
    """Return what a folder with a kustomization makes."""
    done = subprocess.run(
        [tool("kubectl"), "kustomize", folder], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    decoded = subprocess.run(
        [tool("python"), "-c", TO_JSON],
        input=done.stdout,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return Manifests(done.stdout, json.loads(decoded.stdout))


def changed(folder: Path, file: str, was: str, becomes: str) -> Path:
    """Copy k8s/ into a folder, with one change; return the copy."""
    copy = folder / "k8s"
    shutil.copytree(K8S, copy)
    path = copy / file
    text = path.read_text()
    assert text.count(was) >= 1, f"{file} has no {was!r}"
    path.write_text(text.replace(was, becomes))
    return copy


def add_monitor(overlay: Path) -> None:
    """Add the metrics of Prometheus' operator to the folder of an overlay."""
    path = overlay / "kustomization.yaml"
    text = path.read_text()
    path.write_text(text.replace("components:\n", "components:\n  - ../../components/service-monitor\n"))
