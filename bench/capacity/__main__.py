"""Fit the model to what was measured, simulate, and write the tables and plots of docs/capacity.md."""

from pathlib import Path

from bench.capacity import curve, plots, tables

DOCS = Path(__file__).parents[2] / "docs"
PAGE = DOCS / "capacity.md"


def main() -> None:
    """Write `curve.json`, and from it the page's tables and plots."""
    curve.keep(curve.fit())
    PAGE.write_text(tables.filled(PAGE.read_text()))
    plots.draw(DOCS)


if __name__ == "__main__":
    main()
