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
# One process for all calls: loading boto3 takes longer than they do.
ASK = """
import boto3, botocore.exceptions, json, sys
for line in sys.stdin:
    service, operation, parameters = json.loads(line)
    client = boto3.client(service, "us-east-1", endpoint_url=sys.argv[1])
    try:
        answer = getattr(client, operation)(**parameters)
    except botocore.exceptions.ClientError as error:
        answer = {"Error": error.response["Error"]}
    print(json.dumps(answer, default=str), flush=True)
"""


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
        self._asking: subprocess.Popen[str] | None = None

    def stop(self) -> None:
        """End all processes."""
        if self._asking is not None:
            self._asking.communicate(timeout=30)
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
        if self._asking is None:
            command = [str(PYTHON_WITH_MOTO), "-c", ASK, self.server.url]
            self._asking = subprocess.Popen(
                command, env=self._environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
        assert self._asking.stdin
        assert self._asking.stdout
        print(json.dumps([service, operation, parameters]), file=self._asking.stdin, flush=True)
        return json.loads(self._asking.stdout.readline())
