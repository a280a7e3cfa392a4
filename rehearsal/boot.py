"""The boot of an instance: the image's own settings.py asks what it is given, then hello takes its place.

`python -m rehearsal.boot FOLDER SPEED`, with the unit's environment, where the metadata service answers, and
AWS's endpoint for secrets. In FOLDER is what would be in /run.
"""

import os
import re
import sys
from pathlib import Path

from rehearsal.service import lapsed

ROOT = Path(__file__).parent.parent
LINE = re.compile(r'^(\w+)="((?:[^"\\]|\\.)*)"$', re.MULTILINE | re.DOTALL)


def read(text: str) -> dict[str, str]:
    """Return what systemd reads of an EnvironmentFile= as settings.py writes it."""
    return {name: re.sub(r"\\(.)", r"\1", value, flags=re.DOTALL) for name, value in LINE.findall(text)}


def fetch(folder: Path) -> None:
    """Do what hello-settings.service does, once a boot."""
    sys.path.insert(0, str(ROOT / "image"))
    import settings

    for runtime in ("hello", "hello-public"):
        (folder / runtime).mkdir(mode=0o700, exist_ok=True)
    sys.argv = ["settings.py", str(folder / "hello")]
    settings.main()


def main() -> None:
    """Fetch the settings, unless the service alone is started again, and become hello."""
    folder, speed = Path(sys.argv[1]), float(sys.argv[2])
    written = folder / "hello" / "environment"
    if not written.exists():
        fetch(folder)
        sys.stdout.flush()
    # As hello.service has it, the file counts above the unit; where it listens and what it runs are played.
    played = {name: os.environ[name] for name in ("HELLO_HOST", "HELLO_COMMIT")}
    given = {**lapsed(read(written.read_text()), speed), **played}
    source = os.environ["PYTHONPATH"].partition(os.pathsep)[0]
    environment = {**os.environ, **given, "PYTHONPATH": source}
    os.execve(sys.executable, [sys.executable, "-m", "hello", "serve"], environment)


if __name__ == "__main__":
    main()
