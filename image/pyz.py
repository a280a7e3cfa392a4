"""`make pyz`: hello and all its dependencies in one file, for each Python that it holds wheels of.

pip fetches the wheels, checked by the hashes of requirements/run.txt; pex packs them. It runs in .venv-pyz.
"""

import argparse
import itertools
import json
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path

from packaging import tags

ROOT = Path(__file__).parent.parent
PYTHONS = ("3.11", "3.12", "3.13", "3.14", "3.15")
# What wheels call the platforms they are for; and what Python says there: sys.platform, system, machine.
PLATFORMS = {
    "linux-x86_64": (
        ("manylinux_2_28_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64"),
        ("linux", "Linux", "x86_64"),
    ),
    "linux-aarch64": (
        ("manylinux_2_28_aarch64", "manylinux_2_17_aarch64", "manylinux2014_aarch64"),
        ("linux", "Linux", "aarch64"),
    ),
    "macos-arm64": (tuple(tags.mac_platforms((11, 0), "arm64")), ("darwin", "Darwin", "arm64")),
}
HERE = f"{platform.system()}-{platform.machine()}".lower().replace("darwin", "macos")


def main() -> None:
    """Pack hello for what the command line asks for."""
    parser = argparse.ArgumentParser(prog="make pyz ARGS=…", description="Packs hello into one file.")
    parser.add_argument("--output", type=Path, default=ROOT / "hello.pyz", metavar="FILE")
    for option, choices, default, told in (
        ("--python", PYTHONS, PYTHONS, "all of them"),
        ("--platform", PLATFORMS, [HERE], "that of this machine"),
    ):
        parser.add_argument(option, nargs="+", choices=choices, default=default, help=f"by default {told}")
    options = parser.parse_args()
    if not set(options.platform) <= PLATFORMS.keys():
        parser.error(f"there are no wheels for {HERE}; choose by --platform: {', '.join(PLATFORMS)}")
    targets = list(itertools.product(options.python, options.platform))
    with tempfile.TemporaryDirectory() as folder:
        pip("wheel", "--no-deps", "--no-build-isolation", "--no-index", f"--wheel-dir={folder}", str(ROOT))
        for target in targets:
            fetch(folder, *target)
        pack(folder, targets, options.output)
    print(f"{options.output}: {options.output.stat().st_size / 1e6:.1f} MB")


def fetch(folder: str, python: str, platform: str) -> None:
    """Download the wheels of the dependencies that are not there yet."""
    pinned = ("--require-hashes", "--requirement", str(ROOT / "requirements" / "run.txt"))
    chosen = ("--only-binary=:all:", "--implementation=cp", f"--python-version={python}")
    named = (f"--platform={name}" for name in PLATFORMS[platform][0])
    pip("download", "--no-deps", f"--dest={folder}", *pinned, *chosen, *named)


def pip(*arguments: str) -> None:
    """Run pip of hello's own virtual environment, which has what builds the wheel."""
    command = (str(ROOT / ".venv" / "bin" / "python"), "-m", "pip", "--disable-pip-version-check", "--quiet")
    # The date of the files in hello's wheel is fixed, so that the same source gives the same bytes.
    subprocess.run([*command, *arguments], check=True, env=os.environ | {"SOURCE_DATE_EPOCH": "315532800"})


def pack(folder: str, targets: list[tuple[str, str]], output: Path) -> None:
    """Make the file; a wheel that serves several targets is in it once."""
    asked = ["git", "rev-parse", "HEAD"]
    commit = os.environ.get("HELLO_COMMIT") or subprocess.check_output(asked, cwd=ROOT, text=True).strip()
    options = [
        f"--pre-resolved-dists={folder}",
        *(f"--complete-platform={json.dumps(described(*target))}" for target in targets),
        "--console-script=hello",
        "--venv",  # a virtual environment is made at the first start, and later starts are as fast as its own
        "--python-shebang=/usr/bin/env python3",
        f"--inject-env=HELLO_COMMIT={commit}",
        f"--output-file={output}",
    ]
    subprocess.run([sys.executable, "-m", "pex", "--disable-cache", *options, "hello"], check=True)


def described(python: str, platform: str) -> dict[str, object]:
    """Return a Python as pex wants it described: which wheels it takes, and what markers say of it."""
    names, (sys_platform, system, machine) = PLATFORMS[platform]
    version = tuple(int(part) for part in python.split("."))
    taken = itertools.chain(
        tags.cpython_tags(version, platforms=names),
        tags.compatible_tags(version, f"cp{python.replace('.', '')}", names),
    )
    marked = {
        "implementation_name": "cpython",
        "implementation_version": f"{python}.0",
        "os_name": "posix",
        "platform_machine": machine,
        "platform_python_implementation": "CPython",
        "platform_release": "",
        "platform_system": system,
        "platform_version": "",
        "python_full_version": f"{python}.0",
        "python_version": python,
        "sys_platform": sys_platform,
    }
    return {"marker_environment": marked, "compatible_tags": [str(tag) for tag in taken]}


if __name__ == "__main__":
    main()
