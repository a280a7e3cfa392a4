"""infra/: formatted, valid and audited, and the logic of its variables, with AWS mocked."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.environment import ROOT, listens, missing, need, until
from tests.support.terraform import (
    INFRA,
    PYTHON,
    begun,
    initialised,
)

pytestmark = pytest.mark.timeout(600)

CHECKOV = ROOT / ".venv-checkov" / "bin" / "checkov"


def test_the_service_may_do_what_its_store_asks() -> None:
    """The rights on the table are the actions that the store calls: one more fails on AWS alone."""
    store = (ROOT / "src" / "hello" / "stores" / "dynamodb.py").read_text()
    called = set(re.findall(r'"((?:Batch)?(?:Get|Put|Update|Delete|Write)Item|Scan|Query)"', store))
    granted = re.findall(r'"dynamodb:(\w+)"', (INFRA / "iam.tf").read_text())
    assert set(granted) == called


FULL = pytest.mark.full


@pytest.mark.parametrize(
    "name", ["variables", "service", pytest.param("options", marks=FULL), pytest.param("ec2", marks=FULL)]
)
def test_logic_of_the_variables(name: str, tmp_path: Path) -> None:
    """The tests in infra/tests pass: every option, every validation, with AWS mocked."""
    infra = initialised(tmp_path / "infra")
    done = infra.run("test", f"-filter=tests/{name}.tftest.hcl", check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"^Success! \d+ passed, 0 failed\.$", done.stdout, re.MULTILINE)


def test_each_file_of_logic_is_run() -> None:
    """The names above are all there are."""
    (parameters,) = test_logic_of_the_variables.pytestmark  # type: ignore[attr-defined]
    names = {getattr(value, "values", (value,))[0] for value in parameters.args[1]}
    assert names == {path.name.removesuffix(".tftest.hcl") for path in (INFRA / "tests").glob("*.tftest.hcl")}


def test_every_validation_is_tried() -> None:
    """Each variable with a validation is expected to fail in infra/tests; all are typed and described."""
    text = (INFRA / "var.tf").read_text()
    blocks = dict(re.findall(r'^variable "(\w+)" \{\n(.*?)^\}', text, re.MULTILINE | re.DOTALL))
    tried = set(
        re.findall(
            r"\bvar\.(\w+)", " ".join(re.findall(r"expect_failures = \[(.*?)\]", logic_tests(), re.DOTALL))
        )
    )
    assert {name for name, block in blocks.items() if "validation {" in block} == tried
    for name, block in blocks.items():
        assert re.search(r"^  description = ", block, re.MULTILINE), name
        assert re.search(r"^  type +=", block, re.MULTILINE), name
        nullable = "default     = null" in block or re.search(r"default += null", block)
        assert bool(nullable) != ("nullable    = false" in block), name


def logic_tests() -> str:
    """Return the text of all files of infra/tests."""
    return "".join(path.read_text() for path in sorted((INFRA / "tests").glob("*.tftest.hcl")))


def test_terraform_is_formatted_and_valid(tmp_path: Path) -> None:
    """`terraform fmt` changes nothing, `validate` accepts it, and also the examples of a backend."""
    infra = initialised(tmp_path / "infra")
    infra.run("fmt", "-check", "-recursive", "-diff")
    infra.run("validate")
    example = (infra.folder / "backend.tf.example").read_text()
    for kind in ("s3", "cloud"):
        chosen = (
            example
            if kind == "s3"
            else re.sub(r"^# ?", "", example.rpartition("}\n\n")[2], flags=re.MULTILINE)
        )
        assert kind in chosen
        folder = tmp_path / kind
        folder.mkdir()
        (folder / "backend.tf").write_text(chosen)
        subprocess.run([need("terraform"), "fmt", "-check", folder], check=True, timeout=60)


def test_the_diagram_is_drawn_from_its_text() -> None:
    """docs/aws.svg has the words of docs/aws.dot: it was rendered after the last change."""
    drawn = subprocess.run(
        [need("dot"), "-Tsvg", ROOT / "docs" / "aws.dot"],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    words, shown = (
        sorted(re.findall(r"<text [^>]*>(.*?)</text>|<title>(.*?)</title>", text))
        for text in (drawn.stdout, (ROOT / "docs" / "aws.svg").read_text())
    )
    assert words == shown
    assert len(words) > 20


def audited(folder: Path) -> dict[str, Any]:
    """Return what checkov reports of the Terraform in a folder, offline."""
    if not CHECKOV.exists():
        missing("checkov is not installed (make .venv/.stamps/checkov)")
    options = ["--framework", "terraform", "--skip-download", "--output", "json"]
    with begun([str(CHECKOV), "--directory", str(folder), *options], ROOT, {"LOG_LEVEL": "ERROR"}) as process:
        printed, _ = process.communicate(timeout=280)
    return dict(json.loads(printed))


def test_checkov_finds_nothing() -> None:
    """Checkov's rules hold, and each exception has its reason on its line."""
    summary = audited(INFRA)["summary"]
    assert summary["failed"] == 0
    assert summary["parsing_errors"] == 0
    assert summary["passed"] > 100
    lines = [line for path in INFRA.glob("*.tf") for line in path.read_text().splitlines()]
    skips = [line for line in lines if "checkov:" in line]
    assert skips
    assert all(re.fullmatch(r" +#checkov:skip=CKV2?_AWS_\d+: \w.{7,}", line) for line in skips)


@FULL
def test_checkov_finds_what_is_wrong(tmp_path: Path) -> None:
    """A table that can't be recovered is found: the audit reads what is there."""
    for name in ("storage.tf", "var.tf"):
        text = (INFRA / name).read_text()
        (tmp_path / name).write_text(text.replace("enabled = true", "enabled = false"))
    failed = [check["check_id"] for check in audited(tmp_path)["results"]["failed_checks"]]
    assert "CKV_AWS_28" in failed  # point-in-time recovery


def test_the_emulator_ends_with_who_started_it() -> None:
    """An emulator whose parent was killed answers no more: no run leaves one behind."""
    starter = (
        "import subprocess, sys\n"
        "with subprocess.Popen(sys.argv[1:], stdout=subprocess.PIPE, text=True) as emulator:\n"
        "    print(emulator.stdout.readline(), end='', flush=True)\n"
    )
    command = [sys.executable, "-c", starter, str(PYTHON), "-m", "rehearsal.emulator"]
    with begun(command, ROOT, {}) as parent:
        assert parent.stdout is not None
        port = int(parent.stdout.readline())
        assert listens(port)
        parent.kill()
        until(lambda: not listens(port), "the emulator to end")
