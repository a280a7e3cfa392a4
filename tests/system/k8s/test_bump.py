"""k8s/bump.sh against a real registry: which image it chooses, what it writes, and what it says."""

import hashlib
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.support.containers import commit_all, registry
from tests.support.environment import need
from tests.support.kubernetes import K8S, render
from tests.support.service import request

pytestmark = pytest.mark.xdist_group("containers")

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"


@dataclass(frozen=True)
class Repository:
    """A git repository with k8s/, whose overlay eks takes its images from `address`/hello."""

    folder: Path
    address: str
    name: str = "hello"

    @property
    def release(self) -> Path:
        """The file that bump.sh writes."""
        return self.folder / "k8s" / "overlays" / "eks" / "release" / "kustomization.yaml"

    def commit(self, text: str) -> str:
        """Commit a change; return the SHA."""
        (self.folder / "change").write_text(text)
        return commit_all(self.folder)

    def push(self, tag: str) -> str:
        """Push an image of that tag and no other's content; return its digest."""
        config = json.dumps({"architecture": "amd64", "os": "linux", "author": tag}).encode()
        digest = f"sha256:{hashlib.sha256(config).hexdigest()}"
        begun = request(self.url, "POST", f"/v2/{self.name}/blobs/uploads/")
        place = urlsplit(begun.headers["Location"])
        sent = request(self.url, "PUT", f"{place.path}?{place.query}&digest={digest}", config)
        assert sent.status == 201, sent.body
        layer = {"mediaType": CONFIG, "digest": digest, "size": len(config)}
        manifest = {"schemaVersion": 2, "mediaType": MANIFEST, "config": layer, "layers": []}
        put = request(
            self.url,
            "PUT",
            f"/v2/{self.name}/manifests/{tag}",
            json.dumps(manifest).encode(),
            {"Content-Type": MANIFEST},
        )
        assert put.status == 201, put.body
        return put.headers["Docker-Content-Digest"]

    @property
    def url(self) -> str:
        """The address of the registry's API."""
        return f"http://{self.address}"

    def bump(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run bump.sh."""
        script = self.folder / "k8s" / "bump.sh"
        return subprocess.run([script, *arguments], capture_output=True, text=True, timeout=60, check=False)

    def says(self, status: int, *arguments: str) -> str:
        """Run bump.sh, which is to end with this status; return what it says."""
        done = self.bump(*arguments)
        assert done.returncode == status, done.stderr
        return done.stderr

    def image(self) -> tuple[str, str]:
        """Return the image that the overlay runs, and the version that its pods bear."""
        manifests = render(self.folder / "k8s" / "overlays" / "eks")
        labels = manifests.template["metadata"]["labels"]
        return manifests.hello["image"], labels["app.kubernetes.io/version"]


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Host and port of a registry."""
    with registry(tmp_path_factory.mktemp("registry")) as address:
        yield address


@pytest.fixture
def repository(address: str, tmp_path: Path) -> Repository:
    """A repository of one commit, without an image of it."""
    for command in ("jq", "skopeo"):
        need(command)
    name = f"hello-{hashlib.sha256(str(tmp_path).encode()).hexdigest()[:12]}"
    made = Repository(tmp_path / "repository", address, name)
    shutil.copytree(K8S, made.folder / "k8s")
    text = made.release.read_text()
    made.release.write_text(re.sub(r"newName: .*", f"newName: {address}/{name}", text))
    subprocess.run([need("git"), "init", "--quiet"], cwd=made.folder, check=True)
    made.commit("0")
    return made


def test_the_newest_commit_that_has_an_image_is_taken(repository: Repository) -> None:
    """Without a version it is that; the overlay then runs its digest, and its pods bear the commit."""
    older, built = repository.commit("1"), repository.commit("2")
    repository.commit("3")
    repository.push(older)
    digest = repository.push(built)
    repository.push("latest")
    assert f"new: {built} ({digest})" in repository.says(0, "eks")
    assert repository.image() == (f"{repository.address}/{repository.name}@{digest}", built)
    before = repository.release.stat()
    assert "unchanged" in repository.says(0, "eks")
    assert repository.release.stat() == before


def test_a_commit_is_rolled_back_to(repository: Repository) -> None:
    """A SHA is taken, or its first characters; nothing else changes, and no other file is left."""
    older, newer = repository.commit("1"), repository.commit("2")
    first, second = repository.push(older), repository.push(newer)
    repository.says(0, "eks", newer)
    text = repository.release.read_text()
    said = repository.says(0, "eks", older[:7].upper())
    assert f"old: {newer}" in said
    assert repository.release.read_text() == text.replace(newer, older).replace(second, first)
    assert len(list(repository.release.parent.iterdir())) == 1


def test_what_is_not_there_is_refused(repository: Repository) -> None:
    """What has no image changes nothing, and the message says what to do."""
    before = repository.release.read_text()
    assert "can't be read" in repository.says(1, "eks")
    repository.push("latest")
    assert "no image of a commit yet" in repository.says(1, "eks")
    repository.push("a" * 40)
    repository.push("a" * 39 + "b")
    assert "git pull" in repository.says(1, "eks")
    assert "no image of bbbbbbb" in repository.says(1, "eks", "bbbbbbb")
    assert "more than one" in repository.says(1, "eks", "aaaaaaa")
    assert repository.release.read_text() == before


@pytest.mark.parametrize(
    "arguments", [(), ("-x",), ("aks",), ("../base",), ("eks", "main"), ("eks", "a", "b")]
)
def test_what_is_no_version_or_overlay_is_an_error_of_usage(
    arguments: tuple[str, ...], repository: Repository
) -> None:
    """The status is 2, and the message leads to the help."""
    assert "--help" in repository.says(2, *arguments) or "There is eks gke" in repository.says(2, *arguments)


def test_the_help_tells_how_to_use_it(repository: Repository) -> None:
    """It is the comment at the top."""
    assert "k8s/bump.sh gke SHA" in repository.bump("--help").stdout
