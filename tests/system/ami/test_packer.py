"""How the AMI is made: what Packer is told, the bundle that it uploads, and the agents that it installs."""

import os
import re
import shutil
import subprocess
import zipfile
from pathlib import Path

import pytest

from hello import __version__
from tests.support.environment import ROOT, missing, need
from tests.support.machine import COMMIT

TEMPLATE = (ROOT / "image" / "hello.pkr.hcl").read_text()
# What Debian's Packer, 1.6, does not know: it checks the rest. These are as the reference of the plugin for
# Amazon has them, and test_what_the_ami_must_have looks at their values.
NEWER = (
    r"(?ms)^packer \{.*?^\}\n|^  metadata_options \{.*?^  \}\n"
    r"|^  (imds_support|temporary_key_pair_type|temporary_security_group_source_public_ip) .*?$"
)
ARGUMENTS = [f"-var=commit={COMMIT}", "-var=region=eu-central-1"]


def packer(*arguments: str | Path, template: Path) -> subprocess.CompletedProcess[str]:
    command = [need("packer"), "validate", *ARGUMENTS, *arguments, template]
    environment = {**os.environ, "CHECKPOINT_DISABLE": "1", "AWS_EC2_METADATA_DISABLED": "true"}
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120)


@pytest.fixture
def known(tmp_path: Path) -> Path:
    """The template, without what Packer 1.6 does not know where that is the one here."""
    template = tmp_path / "hello.pkr.hcl"
    template.write_text(TEMPLATE)
    version = subprocess.run([need("packer"), "version"], capture_output=True, text=True, check=True).stdout
    if "Packer v1.6" in version:
        template.write_text(re.sub(NEWER, "", TEMPLATE))
    elif subprocess.run(["packer", "init", template], capture_output=True, timeout=120).returncode:
        missing("Packer's plugin for Amazon could not be had (packer init)")
    return template


@pytest.mark.parametrize("architecture", ["arm64", "x86_64"])
def test_packer_accepts_it(known: Path, tmp_path: Path, architecture: str) -> None:
    """The template is valid for both architectures."""
    (tmp_path / "bundle").mkdir()
    done = packer(f"-var=architecture={architecture}", f"-var=bundle={tmp_path / 'bundle'}", template=known)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("argument", "said"),
    [("-var=architecture=riscv", "arm64 or x86_64"), ("-var=commit=main", "40 hexadecimal digits")],
)
def test_packer_refuses_wrong_values(known: Path, tmp_path: Path, argument: str, said: str) -> None:
    """An architecture that there is no base for, and a commit that is none."""
    done = packer(f"-var=bundle={tmp_path}", argument, template=known)
    assert done.returncode == 1
    assert said in done.stdout + done.stderr


@pytest.mark.parametrize(
    "line",
    [
        'imds_support = "v2.0"',
        'http_tokens = "required"',
        "encrypted = true",
        'owners = ["136693071363"]',
        "temporary_security_group_source_public_ip = true",
        "ssh_clear_authorized_keys = true",
        "Commit = var.commit",
    ],
)
def test_what_the_ami_must_have(line: str) -> None:
    """Version 2 of the metadata service, encryption, Debian's image, no SSH from the world, the commit."""
    assert re.search("^ *" + re.escape(line).replace(r"\ =\ ", " += ") + "$", TEMPLATE, re.MULTILINE)


# The bundle


def test_the_bundle_has_all_that_is_installed(bundle: Path) -> None:
    """One wheel of each pinned package, hello's own, and the commit."""
    pinned = re.findall(r"^([a-z0-9-]+)==", (bundle / "requirements.txt").read_text(), re.MULTILINE)
    wheels = {path.name.split("-")[0].lower().replace("_", "-") for path in (bundle / "wheels").iterdir()}
    assert wheels == set(pinned)
    assert (bundle / "commit").read_text().strip() == COMMIT
    with zipfile.ZipFile(bundle / f"hello-{__version__}-py3-none-any.whl") as wheel:
        assert "hello/server.py" in wheel.namelist()


# make ami


@pytest.fixture
def clone(tmp_path: Path) -> tuple[Path, dict[str, str]]:
    """A repository with image/ami.sh in it, and a Packer that only says what it was asked."""
    folder = tmp_path / "clone"
    (folder / "image").mkdir(parents=True)
    shutil.copy(ROOT / "image" / "ami.sh", folder / "image")
    for path, text in (
        (folder / "image" / "bundle.sh", 'mkdir -p "$1" && echo bundle "$2"'),
        (tmp_path / "bin" / "packer", 'echo packer "$@"'),
    ):
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)
    git(folder, "init", "--quiet")
    git(folder, "add", ".")
    git(folder, "-c", "user.name=t", "-c", "user.email=t@example.org", "commit", "--quiet", "-m", "t")
    return folder, {
        "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}",
        "HOME": str(tmp_path),
        "AWS_REGION": "eu-central-1",
    }


def git(folder: Path, *arguments: str) -> str:
    command = [need("git"), "-C", str(folder), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    return done.stdout.strip()


def ami(clone: tuple[Path, dict[str, str]]) -> subprocess.CompletedProcess[str]:
    folder, environment = clone
    command = [folder / "image" / "ami.sh"]
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60)


def test_an_ami_is_of_a_commit(clone: tuple[Path, dict[str, str]]) -> None:
    """Packer gets the commit that is checked out, the region and the architecture, by default ARM."""
    done = ami(clone)
    assert done.returncode == 0, done.stderr
    asked = done.stdout.splitlines()
    assert asked[0] == "bundle arm64"
    assert asked[1] == "packer init image/hello.pkr.hcl"
    assert f"-var commit={git(clone[0], 'rev-parse', 'HEAD')} " in asked[2]
    assert "-var architecture=arm64 -var region=eu-central-1" in asked[2]


def test_a_dirty_tree_makes_no_ami(clone: tuple[Path, dict[str, str]]) -> None:
    """What is not committed would be in an AMI that says it is of the commit."""
    (clone[0] / "new").touch()
    done = ami(clone)
    assert done.returncode == 1
    assert done.stdout == ""
    assert "not committed" in done.stderr


def test_a_region_has_to_be_named(clone: tuple[Path, dict[str, str]]) -> None:
    """An AMI is of one region."""
    del clone[1]["AWS_REGION"]
    done = ami(clone)
    assert done.returncode == 1
    assert "AWS_REGION" in done.stderr
