"""Versions of hello: commits of a repository of their own, made of the code that is here, and built."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

SOURCE = Path(__file__).parent.parent / "src"
LISTENS = "    ] = 5000\n    open: Annotated["


class Versions:
    """Commits, and a folder `builds/<commit>` with the code of each."""

    def __init__(self, folder: Path) -> None:
        self._repository = folder / "repository"
        self._builds = folder / "builds"
        self._builds.mkdir()
        self._repository.mkdir()
        self._git("init", "--quiet")

    def make(self, message: str, edit: Callable[[Path], None] | None = None) -> str:
        """Commit the code that is here, after an edit of it, and build the commit; return its name."""
        ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
        shutil.copytree(SOURCE, self._repository / "src", ignore=ignored, dirs_exist_ok=True)
        if edit is not None:
            edit(self._repository)
        self._git("add", "--all")
        self._git("commit", "--quiet", "--allow-empty", "--message", message)
        commit = self._git("rev-parse", "HEAD").strip()
        archive, build = self._builds / f"{commit}.tar", self._builds / commit
        build.mkdir()
        self._git("archive", "--output", str(archive), commit)
        # Python's own unpacking warns without a filter from 3.12 on, and knows none before 3.11.4.
        subprocess.run(["tar", "-xf", archive, "-C", build], check=True)
        archive.unlink()
        compiling = [sys.executable, "-m", "compileall", "-q", str(self._builds / commit)]
        subprocess.run(compiling, check=True)
        return commit

    def _git(self, *arguments: str) -> str:
        identity = ["-c", "user.name=rehearsal", "-c", "user.email=rehearsal@localhost"]
        environment = {**os.environ, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
        for name in [name for name in environment if name.startswith("GIT_") and "CONFIG" not in name]:
            del environment[name]  # of a hook that this may run in
        command = ["git", *identity, *arguments]
        done = subprocess.run(
            command, cwd=self._repository, env=environment, check=True, stdout=subprocess.PIPE, text=True
        )
        return done.stdout


def listen_elsewhere(repository: Path) -> None:
    """Break the service as a typing error does: it starts, and listens on another port than is asked."""
    settings = repository / "src" / "hello" / "settings.py"
    code = settings.read_text()
    if code.count(LISTENS) != 1:
        raise ValueError(f"{settings} no longer has the default port where it was: {LISTENS!r}")
    settings.write_text(code.replace(LISTENS, LISTENS.replace("5000", "5001")))


def fail_to_start(repository: Path) -> None:
    """Break the service as a dependency does that was not packed: it ends before it listens."""
    main = repository / "src" / "hello" / "__main__.py"
    code = main.read_text()
    main.write_text(code.replace("\nimport os\n", "\nimport os\nimport what_was_not_packed\n", 1))
    if main.read_text() == code:
        raise ValueError(f"{main} no longer imports os, where it is to be broken")
