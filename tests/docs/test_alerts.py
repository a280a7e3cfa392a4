"""deploy/alerts.yaml: rules that Prometheus takes, that go off when they should, and that are explained."""

import re
import subprocess
from pathlib import Path

import pytest

from tests.support.environment import ROOT, need

RULES = ROOT / "deploy" / "alerts.yaml"
PAGE = ROOT / "docs" / "operations.md"


def alerts() -> list[str]:
    """Return the names of the rules."""
    return re.findall(r"^ +- alert: (\w+)$", RULES.read_text(), re.MULTILINE)


@pytest.mark.parametrize(
    "arguments", [("check", "rules", RULES), ("test", "rules", ROOT / "tests" / "docs" / "alerts.yaml")]
)
def test_promtool_takes_the_rules(arguments: tuple[str | Path, ...]) -> None:
    """Their syntax is right, and each goes off where all is wrong, and at no other time."""
    done = subprocess.run(
        [need("promtool"), *arguments], cwd=ROOT / "tests", capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_each_rule_is_tried_both_ways() -> None:
    tried = re.findall(r"alertname: (\w+)", (ROOT / "tests" / "docs" / "alerts.yaml").read_text())
    assert sorted(tried) == sorted(alerts() * 2)


def test_each_rule_is_explained() -> None:
    """docs/operations.md says what to do about each, and about none that is not there."""
    section = PAGE.read_text().partition("\n## Alerts\n")[2].partition("\n## ")[0]
    assert re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE) == alerts()


def test_the_rules_ask_for_metrics_that_there_are() -> None:
    """They are in the table of metrics, which is held to the code."""
    table = set(re.findall(r"^\| `(hello_\w+)` \|", PAGE.read_text(), re.MULTILINE))
    asked = {name.removesuffix("_bucket") for name in re.findall(r"\bhello_\w+", RULES.read_text())}
    assert asked
    assert asked <= table
