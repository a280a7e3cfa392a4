"""Who is in etcd, as `hello discover` tells, beside who serves."""

import json
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from rehearsal.journal import Journal
from rehearsal.owned import die_with_parent

PATIENCE_SECONDS = 25  # above the lease of 15 s, which is not in time-lapse


class Discovery:
    """Asks etcd by the command itself, with what `settings` say: HELLO_ETCD and the like."""

    def __init__(self, source: Path, settings: Mapping[str, str], journal: Journal) -> None:
        self._environment = {**settings, "PYTHONPATH": str(source)}
        self._journal = journal

    def addresses(self) -> set[str]:
        """Return the addresses that are in etcd; empty where it does not answer."""
        done = subprocess.run(
            [sys.executable, "-m", "hello", "discover", "--format", "json"],
            env=self._environment, stdin=subprocess.DEVNULL, capture_output=True, timeout=60, check=False,
            preexec_fn=die_with_parent,
        )  # fmt: skip
        return {one["host"] for one in json.loads(done.stdout)} if done.returncode == 0 else set()

    def serving(self) -> set[str]:
        """Return the addresses of those that pass their health checks."""
        return {one["address"] for one in self._journal.healthy()}

    def see(self, problems: list[str]) -> float:
        """Wait until those that serve are in etcd and nobody else; return how many seconds that took."""
        begin = time.monotonic()
        while (found := self.addresses()) != self.serving():
            if time.monotonic() - begin > PATIENCE_SECONDS:
                problems.append(f"in etcd are {sorted(found)}, and {sorted(self.serving())} serve")
                break
            time.sleep(0.2)
        return time.monotonic() - begin
