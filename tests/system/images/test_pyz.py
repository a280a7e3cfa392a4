"""`make pyz`: one file with all of hello, run by a Python that has nothing of it."""

import hashlib
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from hello import __version__
from tests.support.environment import ROOT, missing
from tests.support.service import Service

PACKER = ROOT / ".venv-pyz" / "bin" / "python"
COMMIT = "f" * 40
HERE = f"{sys.version_info.major}.{sys.version_info.minor}"
# Not the virtual environment's: the one that it was made of, which has no hello.
PLAIN = Path(sys.base_prefix, "bin", f"python{HERE}")
NO_HOME = "/dev/null"  # no folder can be made in it, by root neither


def packed(folder: Path, *options: str, root: Path = ROOT) -> Path:
    """Pack hello, as it is in `root`, into a file in the folder; return it."""
    if not PACKER.exists():
        missing("what packs hello is not installed: make .venv/.stamps/pyz")
    file = folder / "hello.pyz"
    command: list[str | Path] = [PACKER, root / "image" / "pyz.py", "--output", file, *options]
    environment = os.environ | {"HELLO_COMMIT": COMMIT}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stderr
    return file


def run(file: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the file by a Python without hello, with no variables but these."""
    command: list[str | Path] = [PLAIN, file, *arguments]
    variables = {"PATH": os.defpath, **environment}
    return subprocess.run(command, env=variables, capture_output=True, text=True, timeout=120, check=False)


@pytest.fixture(scope="module")
def pyz(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """hello for this machine's Python alone, which is sooner made than for all."""
    return packed(tmp_path_factory.mktemp("pyz"), "--python", HERE)


@pytest.fixture(scope="module")
def home(pyz: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the file has unpacked what it holds, by its first start."""
    home = tmp_path_factory.mktemp("home")
    done = run(pyz, "--version", HOME=str(home))
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, __version__, "")
    return home


@pytest.fixture
def service(pyz: Path, home: Path, tmp_path: Path) -> Iterator[Service]:
    """The service out of the file, in an empty folder."""
    environment = {"HOME": str(home), "XDG_CACHE_HOME": str(home / ".cache"), "PYTHONPATH": ""}
    service = Service(tmp_path, environment=environment, prefix=(str(PLAIN),), program=pyz)
    yield service.start()
    service.stop()


def test_the_python_of_these_tests_has_no_hello() -> None:
    """Else they would show nothing."""
    done = subprocess.run(
        [PLAIN, "-P", "-c", "import hello"], env={}, capture_output=True, cwd="/", check=False
    )
    assert b"No module named 'hello'" in done.stderr


def test_it_serves_and_stops(service: Service) -> None:
    """It keeps and greets people, tells the commit, ends with status 0, and leaves only its database."""
    assert service.put("Zoe", "1990-04-23").status == 204
    assert service.get("/hello/Zoe").status == 200
    assert service.get("/version").json() == {"version": __version__, "commit": COMMIT}
    assert service.get("/docs").status == 200
    assert service.stop() == 0
    assert {path.name for path in service.folder.iterdir()} == {"hello.db", "log"}


def test_it_has_all_commands(pyz: Path, home: Path) -> None:
    """What the command `hello` can do, the file can."""
    done = run(pyz, "--help", HOME=str(home))
    assert done.returncode == 0, done.stderr
    for command in ("serve", "import", "export", "key", "migrate"):
        assert f" {command} " in done.stdout


def test_a_home_that_is_read_only(pyz: Path, tmp_path: Path) -> None:
    """Without a cache it unpacks to a temporary folder, says so, and leaves nothing there."""
    done = run(pyz, "--version", HOME=NO_HOME, TMPDIR=str(tmp_path))
    assert (done.returncode, done.stdout.strip()) == (0, __version__), done.stderr
    assert "un-writeable" in done.stderr
    assert not list(tmp_path.iterdir())


def test_a_cache_of_ones_own(pyz: Path, tmp_path: Path) -> None:
    """PEX_ROOT says where it unpacks to, and then no home is needed."""
    done = run(pyz, "--version", HOME=NO_HOME, PEX_ROOT=str(tmp_path / "cache"))
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, __version__, "")
    assert (tmp_path / "cache").is_dir()


@pytest.mark.full
def test_the_same_source_gives_the_same_file(pyz: Path, tmp_path: Path) -> None:
    """To the byte, out of a checkout whose files are of another time."""
    for name in ("src", "requirements", "image"):
        shutil.copytree(ROOT / name, tmp_path / name, copy_function=shutil.copyfile)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copyfile(ROOT / name, tmp_path / name)
    (tmp_path / ".venv").symlink_to(ROOT / ".venv")
    again = packed(tmp_path, "--python", HERE, root=tmp_path)
    assert hashlib.sha256(again.read_bytes()).digest() == hashlib.sha256(pyz.read_bytes()).digest()


@pytest.mark.full
def test_a_python_that_it_is_not_for(tmp_path: Path) -> None:
    """It can be made for other machines than this one; here it says what it lacks, and does not start."""
    other = "linux-aarch64" if platform.machine() == "x86_64" else "linux-x86_64"
    file = packed(tmp_path, "--python", HERE, "--platform", other)
    done = run(file, "--version", HOME=str(tmp_path))
    assert (done.returncode, done.stdout) == (1, "")
    assert "this pex had no 'uvloop' distributions" in done.stderr
