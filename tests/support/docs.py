"""The documentation, and the files of pinned dependencies."""

from pathlib import Path

from tests.support.environment import ROOT

DOCS = ROOT / "docs"


def section(page: Path, title: str) -> str:
    """Return the text under a heading of the second level."""
    return page.read_text().partition(f"\n## {title}\n")[2].partition("\n## ")[0]


PINNED = [
    *(path for path in sorted((ROOT / "requirements").glob("*.txt")) if path.name != "debian.txt"),
    *sorted((ROOT / "bench").rglob("requirements.txt")),
]
