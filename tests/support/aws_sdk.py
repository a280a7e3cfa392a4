"""The AWS SDK of the emulators' virtual environment, as one process for all calls: loading it takes long."""

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_ANSWER = """
import boto3, botocore.exceptions, json, sys
clients = {}
for line in sys.stdin:
    service, operation, parameters = json.loads(line)
    client = clients.setdefault(service, boto3.client(service, "us-east-1", endpoint_url=sys.argv[1]))
    try:
        answer = getattr(client, operation)(**parameters)
    except botocore.exceptions.ClientError as error:
        answer = {"Error": error.response["Error"]}
    print(json.dumps(answer, default=str), flush=True)
"""


class Sdk:
    """Calls operations of an emulated AWS; the process starts with the first call."""

    def __init__(self, python: Path, endpoint: str, environment: Mapping[str, str]) -> None:
        self._command = [str(python), "-c", _ANSWER, endpoint]
        self._environment = environment
        self._process: subprocess.Popen[str] | None = None

    def call(self, service: str, operation: str, /, **parameters: Any) -> Any:
        """Return the answer; that of an operation that failed has the key "Error"."""
        if self._process is None:
            self._process = subprocess.Popen(
                self._command, env=self._environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
        assert self._process.stdin
        assert self._process.stdout
        print(json.dumps([service, operation, parameters]), file=self._process.stdin, flush=True)
        return json.loads(self._process.stdout.readline())

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.communicate(timeout=30)
