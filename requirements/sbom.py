"""Write what runs as CycloneDX: python requirements/sbom.py FILE. The same input gives the same bytes.

cyclonedx-py reads run.txt, with the hashes. What it cannot know from there is added: which package asks for
which, from the comments of run.txt, and licenses, from the packages that are installed.
"""

import json
import os
import re
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component
from cyclonedx.model.license import License
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL

ROOT = Path(__file__).parent.parent
RUN = ROOT / "requirements" / "run.txt"
TOOL = Path(sys.executable).with_name("cyclonedx-py")


def main(target: Path) -> None:
    """Write the bill of materials to `target`."""
    bom = from_requirements()
    root = bom.metadata.component
    assert root is not None
    root.version = distribution(root.name).version
    root.purl = PackageURL("pypi", None, root.name, root.version)
    root.bom_ref.value = str(root.purl)
    asked_for_by = requesters(RUN.read_text())
    for component in bom.components:
        component.bom_ref.value = str(component.purl)
        describe(component)
    for component in (root, *bom.components):
        asked_for = [other for other in bom.components if component.name in asked_for_by[other.name]]
        bom.register_dependency(component, asked_for)
    bom.validate()
    # A random number and the time of day would make each file another.
    bom.serial_number = bom.metadata.timestamp = None  # type: ignore[assignment]
    target.write_text(JsonV1Dot6(bom).output_as_string(indent=2) + "\n")


def from_requirements() -> Bom:
    """Return the bill of the pinned packages, with hello as its root component."""
    done = subprocess.run(
        [TOOL, "requirements", RUN, "--output-reproducible", "--no-validate",
         "--pyproject", ROOT / "pyproject.toml", "--mc-type", "application", "--spec-version", "1.6"],
        capture_output=True, text=True, env={**os.environ, "PYTHONWARNINGS": "ignore"}, check=False,
    )  # fmt: skip
    if done.returncode:
        sys.exit(done.stderr)
    bom = Bom.from_json(json.loads(done.stdout))  # type: ignore[attr-defined]
    assert isinstance(bom, Bom)
    bom.dependencies.clear()
    return bom


def requesters(requirements: str) -> dict[str, set[str]]:
    """Return who asks for each package, from the `via` comments that uv leaves below it."""
    found: dict[str, set[str]] = {}
    name = ""
    for line in requirements.splitlines():
        if pinned := re.match(r"([a-z0-9-]+)==", line):
            name = pinned[1]
            found[name] = set()
        elif comment := re.match(r" +# +(?:via )?([a-z0-9-]+)", line):
            found[name] |= {comment[1]} - {"via"}
    return found


def describe(component: Component) -> None:
    """Add summary and license, where the package is installed; some are only for other platforms."""
    component.description = None
    try:
        installed = distribution(component.name)
    except PackageNotFoundError:
        return
    if installed.version != component.version:
        sys.exit(f"{component.name} {installed.version} is installed, not {component.version}: make install")
    component.description = installed.metadata["Summary"]
    component.licenses.add(license_of(installed.metadata.json))


def license_of(metadata: dict[str, str | list[str]]) -> License:
    """Return the license that a package declares: an SPDX expression, else in words."""
    classified = [
        c.rpartition(" :: ")[2] for c in metadata.get("classifier", []) if c.startswith("License ::")
    ]
    declared = metadata.get("license_expression") or metadata.get("license") or " AND ".join(classified)
    return LicenseFactory().make_from_string(str(declared))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
