"""What the agent noted: the other end of the journal that `stage` writes."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

Entry = dict[str, Any]


class StageError(Exception):
    """The agent could not go on, or what was waited for did not come."""


class Journal:
    """Reads the journal of a stage that may still be writing it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read = 0
        self.entries: list[Entry] = []

    def update(self) -> None:
        """Read what is new.

        Raises:
            StageError: the agent could not go on.
        """
        if not self._path.exists():
            return
        with self._path.open("rb") as file:
            file.seek(self._read)
            whole = file.read().rpartition(b"\n")
        self._read += len(whole[0]) + len(whole[1])
        new = [json.loads(line) for line in whole[0].splitlines()]
        self.entries += new
        for entry in new:
            if entry["kind"] == "fatal":
                raise StageError(entry["message"])

    def tasks(self) -> dict[str, Entry]:
        """Return the last entry of each task, by its id."""
        self.update()
        return {entry["id"]: entry for entry in self.entries if entry["kind"] == "task"}

    def healthy(self) -> list[Entry]:
        """Return the tasks that run and passed their health checks."""
        return [task for task in self.tasks().values() if task["health"] == "healthy"]

    def commits(self) -> dict[str, str]:
        """Return the commit of each task that ever was, by its id."""
        return {task: entry["commit"] for task, entry in self.tasks().items()}

    def desired(self) -> int:
        """Return how many are to run, as the service or the group was set last."""
        self.update()
        return int(
            next(one["desired"] for one in reversed(self.entries) if one["kind"] in {"service", "group"})
        )

    def members(self) -> list[Entry]:
        """Return the members of etcd that were started."""
        self.update()
        return [entry for entry in self.entries if entry["kind"] == "member"]

    def deployments(self, since: float) -> list[Entry]:
        """Return what became of deployments since then."""
        self.update()
        return [entry for entry in self.entries if entry["kind"] == "deployment" and entry["at"] >= since]

    def wait(self, condition: Callable[[], object], what: str, seconds: float = 60) -> None:
        """Wait until the condition holds.

        Raises:
            StageError: it does not come about, or the agent could not go on.
        """
        deadline = time.monotonic() + seconds
        while not condition():
            self.update()
            if time.monotonic() > deadline:
                raise StageError(f"Waited {seconds:g} s for {what}, and it did not come.")
            time.sleep(0.05)
