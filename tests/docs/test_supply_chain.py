"""What hello is made of: pinned, explained, listed, and proposed by workflows that give nothing away."""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
import textwrap
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from hello import __version__
from tests.support.docs import DOCS, PINNED, section
from tests.support.environment import ROOT, need

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PAGE = DOCS / "dependencies.md"
RUN = (ROOT / "requirements" / "run.txt").read_text()
# Permissive, as hello's own is.
LICENSES = {"Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "MIT", "MIT-0", "PSF-2.0"}
NAMED = {"Apache 2.0", "MIT License"}
# zoneinfo of the standard library reads tzdata.
NOT_IMPORTED = {"tzdata"}


def names(requirements: list[str]) -> set[str]:
    return {re.split(r"[\[<>=!~;, ]", requirement)[0].lower() for requirement in requirements}


def pinned() -> dict[str, set[str]]:
    """Return who asks for each package of run.txt, as uv notes it below the hashes."""
    found = {}
    for block in re.split(r"^(?=\w)", RUN, flags=re.MULTILINE)[1:]:
        notes = re.sub(r"\(.*?\)|\bvia\b", "", "".join(re.findall(r"# (.*\n)", block)))
        found[block.partition("==")[0]] = set(notes.split())
    return found


def rows(title: str) -> list[list[str]]:
    """Return the cells of the table under a heading of the page, without its head."""
    lines = [line for line in section(PAGE, title).splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[1:]]


def told(title: str) -> list[str]:
    """Return the packages of that table."""
    return [row[0].strip("`") for row in rows(title)]


@pytest.mark.parametrize(
    ("title", "wanted"),
    [
        ("At run time", PROJECT["project"]["dependencies"]),
        ("With `hello[otel]`", PROJECT["project"]["optional-dependencies"]["otel"]),
        ("For the tests", PROJECT["dependency-groups"]["test"]),
    ],
    ids=["run", "otel", "test"],
)
def test_each_dependency_is_explained(title: str, wanted: list[str]) -> None:
    """What pyproject.toml asks for is in its table, in order, with no cell empty, and no other."""
    assert told(title) == sorted(names(wanted))
    assert all(all(row) for row in rows(title))


def test_each_package_that_comes_along_has_its_reason() -> None:
    """What is pinned for run time and not asked for by hello is in the table, with those who bring it."""
    brought = {name: by for name, by in pinned().items() if "hello" not in by}
    assert {row[0].strip("`"): set(re.findall("`(.+?)`", row[1])) for row in rows("By these")} == brought
    assert brought.keys() | names(PROJECT["project"]["dependencies"]) == pinned().keys()


def test_what_is_imported_is_what_is_asked_for() -> None:
    """Our code imports no package that only comes along; of those asked for, each is imported."""
    modules = set()
    for path in (ROOT / "src" / "hello").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                modules |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                modules.add((node.module or "").partition(".")[0])
    owners = packages_distributions()
    foreign = modules - sys.stdlib_module_names - {"hello", "opentelemetry"}
    imported = {owners[name][0].lower().replace("_", "-") for name in foreign}
    asked_for = names(PROJECT["project"]["dependencies"])
    assert imported - asked_for == set()
    assert asked_for - imported == NOT_IMPORTED


@pytest.mark.parametrize("path", PINNED, ids=lambda path: str(path.relative_to(ROOT)))
def test_requirements_are_pinned_by_hash_alone(path: Path) -> None:
    """Each requirement is one version with its hashes; no line names an index, an address or an option."""
    version = r"[a-z0-9-]+(\[[a-z0-9,-]+\])?==[A-Za-z0-9.+!]+( ; [^@]+?)?"
    hashes = r"( \\\n    --hash=sha256:[0-9a-f]{64})+"
    comments = r"(\n    # (via( [\w.:()\[\]/ -]+)?|  [\w.:()\[\]/ -]+))*"
    text = path.read_text()
    found = [match[0] for match in re.finditer(version + hashes + comments + r"\n", text)]
    assert found
    left = text
    for requirement in found:
        left = left.replace(requirement, "", 1)
    assert left == ""


def test_packages_of_npm_are_pinned_by_hash_alone() -> None:
    """Each package of the lock file has a hash, and no address; scripts of packages are not run."""
    packages = json.loads((ROOT / "tests" / "support" / "npm" / "package-lock.json").read_text())["packages"]
    assert packages.pop("")["name"] == "hello-emulators"
    assert len(packages) > 10
    for name, package in packages.items():
        assert package["integrity"].startswith("sha512-"), name
        assert not package.keys() & {"resolved", "link"}, name
    assert re.search(r"npm .* ci --ignore-scripts ", (ROOT / "Makefile").read_text())


# The bill of materials


def made(folder: Path) -> Path:
    """Make the file as `make sbom` does, in a folder."""
    script = ROOT / "requirements" / "sbom.py"
    subprocess.run([sys.executable, script, "hello.cdx.json"], cwd=folder, timeout=120, check=True)
    return folder / "hello.cdx.json"


@pytest.fixture(scope="module")
def sbom(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file that `make sbom` writes."""
    return made(tmp_path_factory.mktemp("sbom"))


@pytest.fixture(scope="module")
def bom(sbom: Path) -> Any:
    """What is in it."""
    return json.loads(sbom.read_text())


def test_the_sbom_is_valid_and_the_same_each_time(sbom: Path, tmp_path: Path) -> None:
    """The file follows the schema of CycloneDX 1.6, and made again, elsewhere, it has the same bytes."""
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(sbom.read_text()) is None
    assert made(tmp_path).read_bytes() == sbom.read_bytes()


def test_the_sbom_lists_what_runs(bom: Any) -> None:
    """Hello is the root, with version and license; each pinned package is there with version and hashes."""
    root = bom["metadata"]["component"]
    assert (root["name"], root["version"], root["type"]) == ("hello", __version__, "application")
    assert root["licenses"][0]["license"]["id"] == "MIT"
    listed = {}
    for component in bom["components"]:
        distribution = component["externalReferences"][0]
        listed[component["purl"]] = {entry["content"] for entry in distribution["hashes"]}
    pinned: dict[str, set[str]] = {}
    for line in RUN.splitlines():
        if match := re.match(r"([a-z0-9-]+)==(\S+)", line):
            digests = pinned[f"pkg:pypi/{match[1]}@{match[2]}"] = set[str]()
        elif match := re.match(r" +--hash=sha256:(\w+)", line):
            digests.add(match[1])
    assert listed == pinned


def test_the_sbom_tells_who_asks_for_which(bom: Any) -> None:
    """Hello depends on what pyproject.toml names, and on everything else by way of that."""
    graph = {entry["ref"]: set(entry.get("dependsOn", ())) for entry in bom["dependencies"]}
    root = bom["metadata"]["component"]["bom-ref"]
    direct = {re.split("[/@]", ref)[-2] for ref in graph[root]}
    assert direct == names(PROJECT["project"]["dependencies"])
    reached, ahead = set(), {root}
    while ahead:
        reached |= ahead
        ahead = {ref for known in ahead for ref in graph[known]} - reached
    assert reached == {root, *(component["bom-ref"] for component in bom["components"])}


def test_licenses_are_permissive(bom: Any) -> None:
    """Each package that runs declares a license that asks for no more than a notice."""
    for component in bom["components"]:
        (declared,) = component["licenses"]
        license_ = declared.get("license", declared)
        if "name" in license_:
            assert license_["name"] in NAMED, component["name"]
        else:
            told = license_.get("id") or license_["expression"]
            assert set(re.split(" AND | OR ", told)) <= LICENSES, component["name"]


# Workflows


def audit(folder: Path) -> str:
    """Run those lines of `make check` that look at workflows in `folder`; return what they find."""
    recipe = subprocess.run(
        [need("make"), "-n", "check"], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    ).stdout
    commands = re.findall(r"^\S+/(?:zizmor|check-jsonschema) .*\.github.*$", recipe, re.MULTILINE)
    assert len(commands) == 3
    (folder / ".venv").symlink_to(ROOT / ".venv")
    said = ""
    for command in commands:
        done = subprocess.run(
            command, shell=True, cwd=folder, capture_output=True, text=True, timeout=60, check=False
        )
        said += done.stdout + done.stderr if done.returncode else ""
    return said


def runs(text: str) -> list[str]:
    """Return the scripts in a workflow: what stands behind `run:`, or indented below it."""
    found = re.findall(r"^( +)(?:- )?run: (?:\|\n((?:\1 +.+\n)+)|(.+)\n)", text, re.MULTILINE)
    assert len(found) == text.count(" run:")
    return [textwrap.dedent(block) or line for _, block, line in found]


RISKS = [
    ("workflows/test.yml", r"@[0-9a-f]{40} # (v\d)", r"@\1 #", "unpinned-uses"),
    ("workflows/test.yml", r"(?m)^permissions: \{\}$", "permissions: write-all", "excessive-permissions"),
    ("workflows/test.yml", r"        with:\n *persist-credentials: false\n", "", "artipacked"),
    ("workflows/test.yml", ".ci/run", "echo ${{ github.head_ref }}", "template-injection"),
    ("dependabot.yml", "    cooldown:\n      default-days: 7\n", "", "dependabot-cooldown"),
]
MISTAKES = [
    ("workflows/test.yml", "timeout-minutes: 60", "timeout-minutes: long", "$.jobs.test"),
    ("dependabot.yml", "interval: weekly", "interval: sometimes", "$.updates[0].schedule.interval"),
]


@pytest.mark.parametrize("changes", [RISKS, MISTAKES], ids=["risks", "mistakes"])
def test_workflows_are_audited(changes: list[tuple[str, str, str, str]], tmp_path: Path) -> None:
    """`make check` finds actions that can move, rights too wide, a kept token, injection, and mistakes."""
    shutil.copytree(ROOT / ".github", tmp_path / ".github")
    for file, was, becomes, _ in changes:
        path = tmp_path / ".github" / file
        text, changed = re.subn(was, becomes, path.read_text())
        assert changed, was
        path.write_text(text)
    said = audit(tmp_path)
    for *_, finding in changes:
        assert finding in said


@pytest.mark.parametrize(("name", "command"), [("test.yml", ".ci/run"), ("test-all.yml", "make test-all")])
def test_workflows_run_the_test_commands(name: str, command: str) -> None:
    """They install the packages and run one command, which a developer can run too."""
    text = (ROOT / ".github" / "workflows" / name).read_text()
    commands = re.findall(r" run: sudo (?:env \"PATH=\$PATH\" CI=true )?(.+)", text)
    assert len(commands) == text.count(" run: ")
    assert commands == ["requirements/install-debian", command]
    assert os.access(ROOT / "requirements/install-debian", os.X_OK)
    assert os.access(ROOT / ".ci/run", os.X_OK)


def test_each_supported_python_is_tested() -> None:
    """`make test` runs on the oldest Python, `make test-all` on all that it names in PYTHONS."""
    versions = re.findall(
        r"python(3\.\d+)", re.findall(r"(?m)^PYTHONS \?= (.*)$", (ROOT / "Makefile").read_text())[0]
    )
    oldest = PROJECT["project"]["requires-python"].removeprefix(">=")
    workflows = {
        name: (ROOT / ".github" / "workflows" / name).read_text() for name in ("test.yml", "test-all.yml")
    }
    assert re.findall(r'python-version: "(.+?)"', workflows["test.yml"]) == [oldest]
    listed = re.findall(r"(?m)^ +(3\.\d+)$", workflows["test-all.yml"])
    assert listed[-1] == oldest == versions[0]
    assert sorted(listed) == sorted(versions)


def test_what_is_released_was_tested() -> None:
    """The image is published of tested commits alone, by make, with no script in the workflow."""
    text = (ROOT / ".github" / "workflows" / "release.yml").read_text()
    needs = dict(re.findall(r"^  (\w+):\n(?:    .*\n|\n)*?    needs: (\w+)$", text, re.MULTILINE))
    assert needs == {"part": "test", "image": "part"}
    assert re.search(r"^    uses: \$/\.github/workflows/test\.yml( #.*)?$", text, re.MULTILINE)
    lines = [line.strip() for run in runs(text) for line in run.splitlines()]
    others = [line for line in lines if not re.match(r"make (publish|sbom)\b|sudo apt-get ", line)]
    assert others == ["digest=$(make publish ARGS=--list)", 'echo "digest=$digest" >>"$GITHUB_OUTPUT"']


def test_a_step_fails_when_make_does(tmp_path: Path) -> None:
    """No step of the release goes on after a make that failed, as `echo "$(make …)"` would."""
    steps = [run for run in runs((ROOT / ".github/workflows/release.yml").read_text()) if "make " in run]
    assert len(steps) == 3
    (tmp_path / "make").write_text("#!/bin/sh\nexit 2\n")
    (tmp_path / "make").chmod(0o755)
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "GITHUB_OUTPUT": str(tmp_path / "output")}
    for step in steps:  # by the shell that GitHub runs them by
        done = subprocess.run([need("bash"), "-e", "-c", step], env=environment, timeout=60, check=False)
        assert done.returncode == 2, step
    assert not (tmp_path / "output").exists()


def test_each_exception_to_a_rule_has_its_reason() -> None:
    """Where src/hello does what a rule of ruff, also of security, warns of, it says why on that line."""
    lines = [
        f"{path.name}:{number}: {line.strip()}"
        for path in sorted((ROOT / "src" / "hello").rglob("*.py"))
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if "noqa" in line
    ]
    assert lines
    assert [line for line in lines if not re.search(r"# noqa: [A-Z]+\d+(, [A-Z]+\d+)* - \w.+$", line)] == []
    settings = PROJECT["tool"]["ruff"]["lint"]
    assert "S" in settings["select"]
    assert not [path for path in settings["per-file-ignores"] if path.startswith("src")]
