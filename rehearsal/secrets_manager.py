"""AWS's Secrets Manager, played by moto's server."""

import http.client
import json
import subprocess
import time
from pathlib import Path
from typing import Any

from rehearsal.vpc import REGION

MOTO = Path(__file__).parent.parent / ".venv-emulators" / "bin" / "moto_server"
START_SECONDS = 60


class SecretsManager:
    """Serves secrets on an address of this thread's network, and ends with this process."""

    def __init__(self, address: str, port: int) -> None:
        """Start it and wait until it listens."""
        self._address = (address, port)
        self._process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", str(MOTO), "-H", address, "-p", str(port)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + START_SECONDS
        while not self._listens():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.close()
                raise OSError("moto's server did not start (make .venv/.stamps/emulators)")
            time.sleep(0.1)

    @property
    def url(self) -> str:
        """What AWS_ENDPOINT_URL has to be."""
        return f"http://{self._address[0]}:{self._address[1]}"

    def create(self, name: str, value: str = "") -> str:
        """Keep a secret, from a thread that is in its network; return its ARN. It may have no value yet."""
        told = {"Name": name, **({"SecretString": value} if value else {})}
        return str(self._ask("CreateSecret", told)["ARN"])

    def read(self, arn: str) -> str:
        """Return what a secret holds, from a thread that is in its network."""
        return str(self._ask("GetSecretValue", {"SecretId": arn})["SecretString"])

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()

    def _ask(self, action: str, told: dict[str, str]) -> Any:
        fields = {
            "Content-Type": "application/x-amz-json-1.1",
            "X-Amz-Target": f"secretsmanager.{action}",
            "Authorization": f"AWS4-HMAC-SHA256 Credential=test/20260101/{REGION}/secretsmanager/-",
        }
        connection = http.client.HTTPConnection(*self._address, timeout=30)
        connection.request("POST", "/", json.dumps(told), fields)
        response = connection.getresponse()
        answer: Any = json.loads(response.read())
        connection.close()
        if response.status != 200:
            raise ValueError(f"{action}: {answer}")
        return answer

    def _listens(self) -> bool:
        connection = http.client.HTTPConnection(*self._address, timeout=1)
        try:
            connection.connect()
        except OSError:
            return False
        connection.close()
        return True
