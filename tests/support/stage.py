"""A stage for tests: the emulated AWS in which what is made is played, and the way to ask it."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from rehearsal.aws import PYTHON_WITH_MOTO, Server
from rehearsal.journal import Journal
from rehearsal.versions import Versions
from tests.support.aws_sdk import Sdk
from tests.support.environment import ROOT, missing, need

SPEED = 10
GROUP = {
    "HealthCheckPath": "/hc",
    "HealthCheckIntervalSeconds": 5,
    "HealthCheckTimeoutSeconds": 4,
    "HealthyThresholdCount": 2,
    "UnhealthyThresholdCount": 3,
    "Matcher": {"HttpCode": "200-204"},
}
TARGET_GROUP = {  # as it is played
    "path": "/hc",
    "codes": "200-204",
    "interval": 5 / SPEED,
    "timeout": 4,
    "healthy": 2,
    "unhealthy": 3,
    "deregistration_delay": 20 / SPEED,
}


class Staged:
    """A stage, and what is made in its AWS; `group` is the ARN of the target group."""

    def __init__(self, folder: Path, network: str) -> None:
        need("haproxy")
        if not PYTHON_WITH_MOTO.exists():
            missing("moto is not installed (make .venv/.stamps/emulators)")
        self.folder = folder
        self.versions = Versions(folder)
        self.journal = Journal(folder / "journal")
        options = ["--folder", str(folder), "--python", sys.executable]
        playing = ["--network", network, "--speed", str(SPEED), "--store", "http://127.0.0.1:9"]
        self.server = Server("rehearsal.stage", *options, *playing, log=folder / "stage.log")
        self.group = ""
        credentials = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "s3cret"}
        self._environment = {**os.environ, **credentials, "NO_PROXY": "127.0.0.1"}
        self._sdk = Sdk(PYTHON_WITH_MOTO, self.server.url, self._environment)

    def stop(self) -> None:
        """End all processes."""
        self._sdk.close()
        self.server.stop()

    def make(self, module: str, wanted: dict[str, Any]) -> None:
        """Run a module of tests that makes what is played."""
        self.group = subprocess.run(
            [PYTHON_WITH_MOTO, "-m", module, self.server.url, json.dumps(wanted)],
            cwd=ROOT,
            env=self._environment,
            stdout=subprocess.PIPE,
            text=True,
            check=True,
            timeout=120,
        ).stdout.strip()

    def ask(self, service: str, operation: str, /, **parameters: Any) -> Any:
        """Call an operation of AWS; where it is an error, that is under "Error"."""
        return self._sdk.call(service, operation, **parameters)
