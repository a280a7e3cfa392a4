"""Instances that boot: each with a metadata service of its own, and its settings from there."""

import os
from pathlib import Path

from rehearsal.metadata import Metadata
from rehearsal.service import TaskDefinition
from rehearsal.tasks import Launcher, Process

ROOT = Path(__file__).parent.parent


class Machine(Process):
    """An instance, from its boot until it is gone. `endpoint` is where it finds Secrets Manager."""

    def __init__(
        self, definition: TaskDefinition, address: str, python: str, folder: Path, endpoint: str
    ) -> None:
        self._metadata = Metadata(address, address, 0)
        self._metadata.user_data = definition.user_data
        super().__init__(
            definition,
            address,
            [python, "-m", "rehearsal.boot", str(folder), str(definition.speed)],
            folder,
            AWS_EC2_METADATA_SERVICE_ENDPOINT=f"http://{address}:{self._metadata.port}",
            AWS_ENDPOINT_URL_SECRETS_MANAGER=endpoint,
            PYTHONPATH=os.pathsep.join((str(definition.folder / "src"), str(ROOT))),
        )

    def close(self) -> None:
        """Have it gone for good, after its process has ended."""
        self._metadata.close()


class Machines:
    """Starts instances on the addresses that tasks would have."""

    def __init__(self, folder: Path, network: str, python: str, endpoint: str) -> None:
        self._folder = folder
        self._python = python
        self._endpoint = endpoint
        self._launcher = Launcher(folder, network, python)

    def __call__(self, name: str, definition: TaskDefinition) -> Machine:
        """Start an instance.

        Raises:
            AddressTakenError: another process listens on its address.
        """
        address = self._launcher.address()
        return Machine(definition, address, self._python, self._folder / name, self._endpoint)
