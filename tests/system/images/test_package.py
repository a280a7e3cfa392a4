"""What flit builds: a wheel and a source distribution that hold hello, with its page, and nothing else."""

import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from hello import __version__
from tests.support.environment import ROOT, need

PIP = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", "--no-input"]
NAME = f"hello-{__version__}"


def run(*command: str | Path, folder: Path, path: Path | str = "") -> str:
    """Run a command that must succeed, with packages of `path` first, and return its output."""
    environment = {**os.environ, "PYTHONPATH": str(path)}
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def of_the_repository(folder: str) -> set[str]:
    """Return the files under a folder that are, or could be, committed."""
    listed = run(need("git"), "ls-files", "--cached", "--others", "--exclude-standard", folder, folder=ROOT)
    return {name for name in listed.splitlines() if (ROOT / name).is_file()}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built without a network."""
    folder = tmp_path_factory.mktemp("wheel")
    run(*PIP, "wheel", "--no-deps", "--no-build-isolation", "--no-index", "-w", ".", ROOT, folder=folder)
    (built,) = folder.iterdir()
    return built


def test_the_wheel_holds_the_package_alone(wheel: Path) -> None:
    """All of src/hello is in the wheel, with the metadata and the license; no test, no setting, no cache."""
    assert wheel.name == f"{NAME}-py3-none-any.whl"
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        metadata = archive.read(f"{NAME}.dist-info/METADATA").decode()
    about = {f"{NAME}.dist-info/{name}" for name in ("METADATA", "RECORD", "WHEEL", "entry_points.txt")}
    about |= {f"{NAME}.dist-info/licenses/LICENSE"}
    assert names == {name.removeprefix("src/") for name in of_the_repository("src/hello")} | about
    assert "\nLicense-Expression: MIT\n" in metadata
    assert "\nRequires-Python: >=3.11\n" in metadata


def test_the_source_distribution_holds_what_the_wheel_is_made_of(tmp_path: Path) -> None:
    """The source distribution is src/hello and what pyproject.toml names."""
    build = "import sys; from flit_core.buildapi import build_sdist; print(build_sdist(sys.argv[1]))"
    built = run(sys.executable, "-c", build, tmp_path, folder=ROOT).strip()
    with tarfile.open(tmp_path / built) as archive:
        names = {name.removeprefix(f"{NAME}/") for name in archive.getnames()}
    about = {"LICENSE", "PKG-INFO", "README.md", "pyproject.toml"}
    assert names == of_the_repository("src/hello") | about


def test_the_installed_wheel_runs(wheel: Path, tmp_path: Path) -> None:
    """Installed by itself, beside its dependencies, the command runs, and it is that of the wheel."""
    site = tmp_path / "site"
    run(*PIP, "install", "--no-deps", "--no-index", "--target", site, wheel, folder=tmp_path)
    assert run(site / "bin" / "hello", "--version", folder=tmp_path, path=site).strip() == __version__
    where = "import hello.pages; print(hello.pages.__file__)"
    assert run(sys.executable, "-c", where, folder=tmp_path, path=site).startswith(str(site))
