"""The fuzz targets: each takes its seeds, a short run finds nothing, and a planted defect is found."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from fuzz.targets import TARGETS, TOGETHER
from tests.support.environment import ROOT, missing

PYTHON = ROOT / ".venv-fuzz" / "bin" / "python"
SECONDS = 3


@pytest.fixture
def atheris() -> None:
    """Skip where there is no atheris for this machine, or it is not installed."""
    if not PYTHON.exists() or subprocess.run([PYTHON, "-c", "import atheris"], check=False).returncode:
        missing("atheris is not installed (see fuzz/README.md)")


@pytest.mark.parametrize("name", TARGETS)
def test_each_target_takes_its_seeds(name: str) -> None:
    """What was found before, and what the attacks send, holds what the target checks."""
    for seed in (b"", *TARGETS[name].seeds, *TARGETS[name].words):
        TARGETS[name].check(seed)


@pytest.mark.usefixtures("atheris")
def test_a_short_run_finds_nothing() -> None:
    """The targets run, beyond their seeds, and the API is called."""
    done = subprocess.run(
        [sys.executable, "-m", "fuzz.run", "--together", "--time", str(SECONDS)],
        capture_output=True,
        cwd=ROOT,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    runs = {name.strip(): int(count) for name, count in re.findall(r"(?m)^(.{16}?) *(\d+) ", done.stdout)}
    assert set(runs) == {"together", "API"}
    assert runs["together"] > len(TOGETHER.seeds)
    assert runs["API"] > 0


@pytest.mark.usefixtures("atheris")
def test_a_planted_defect_is_found(tmp_path: Path) -> None:
    """A letter more than a username may have is found, and reported as a failure."""
    shutil.copytree(ROOT / "src" / "hello", tmp_path / "hello", ignore=shutil.ignore_patterns("web"))
    planted = tmp_path / "hello" / "birthday.py"
    code = planted.read_text()
    assert code.count("if len(name) > USERNAME_LENGTH") == 1
    planted.write_text(code.replace("if len(name) > USERNAME_LENGTH", "if len(name) > 2 * USERNAME_LENGTH"))
    done = subprocess.run(
        [PYTHON, "-m", "fuzz.one", "username", "-max_total_time=60", f"-artifact_prefix={tmp_path}/"],
        capture_output=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": f"{tmp_path}:{ROOT}"},
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode != 0
    assert "AssertionError" in done.stdout + done.stderr
    assert list(tmp_path.glob("crash-*"))
