"""The emulated AWS with the agent in one process: what `terraform apply` describes is played by processes.

It runs in the virtual environment that has moto:

    .venv-emulators/bin/python -m rehearsal.stage --folder FOLDER --python .venv/bin/python

It prints its port once it answers, appends what happens to FOLDER/journal, a JSON object a line, and ends
with the process that started it. What it started ends with it.
"""

import argparse
import json
import os
import signal
import sys
import time
import traceback
from dataclasses import asdict
from pathlib import Path
from queue import Empty, Queue
from threading import Event, Lock
from types import FrameType
from typing import Any

from moto.ecs.responses import EC2ContainerServiceResponse

from rehearsal.agent import Agent, Stops
from rehearsal.balancer import Balancer
from rehearsal.cloud import Cloud, moto_target_group, ports
from rehearsal.emulator import end_with_parent, mend, serve
from rehearsal.group_stage import GroupStage
from rehearsal.groups import leave_instances
from rehearsal.publication import Publication, mend_tasks_and_targets
from rehearsal.tasks import Launcher

TICK_SECONDS = 0.05
PATIENCE_SECONDS = 30


class Stage:
    """Plays the service that is created, or the groups of instances. Its thread is the main one: processes
    end with the thread that started them."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._options = options
        self._cloud = Cloud(options.folder / "builds", _aws(options))
        self._groups = GroupStage(options, self.tell)
        self._changes: Queue[tuple[Any, Event]] = Queue()
        self._journal = (options.folder / "journal").open("a", buffering=1)
        self._agent: Agent | None = None
        self._balancer: Balancer | None = None
        self._publication: Publication | None = None
        self._lock = Lock()
        self._changing = 0  # requests that change the service

    def guard(self) -> None:
        """Publish nothing while moto changes the service, which it does in several steps."""
        update = EC2ContainerServiceResponse.update_service

        def update_service(response: Any) -> Any:
            with self._lock:
                self._changing += 1
            try:
                return update(response)
            finally:
                with self._lock:
                    self._changing -= 1

        EC2ContainerServiceResponse.update_service = update_service

    def changed(self, service: Any) -> None:
        """Take a moto Service that was made or updated, or is deleted; return once the agent knows."""
        known = Event()
        self._changes.put((service, known))
        known.wait(PATIENCE_SECONDS)

    def play(self, endpoint: str) -> None:
        """Play until the process is told to end. `endpoint` is where AWS is emulated, here."""
        self._groups.endpoint = endpoint
        while True:
            try:
                service, known = self._changes.get(timeout=TICK_SECONDS)
                self._update(service)
                known.set()
            except Empty:
                pass
            if self._agent is not None and self._publication is not None:
                self._agent.tick()
                with self._lock:
                    if not self._changing:
                        self._publication.write(self._agent)
            self._groups.tick()

    def stop(self) -> None:
        """End all processes."""
        if self._agent is not None:
            self._agent.kill()
        if self._balancer is not None:
            self._balancer.stop()
        self._groups.stop()

    def tell(self, kind: str, **details: object) -> None:
        """Note what happens, in the journal and as an event of the service."""
        self._journal.write(json.dumps({"at": time.monotonic(), "kind": kind, **details}) + "\n")
        if self._publication is None:
            return
        reason = f": {details['reason']}" if details.get("reason") else ""
        if kind == "deployment":
            self._publication.event(f"(deployment {details['id']}) {details['state']}{reason}")
        elif kind == "task":
            state = f"{details['status']}, {details['health']}"
            self._publication.event(f"(task {details['id']}) {state}{reason}")

    def _update(self, service: Any) -> None:
        speed = self._options.speed
        settings = self._cloud.service(service).faster(speed)
        if self._agent is None:
            self._balancer = Balancer(
                self._options.folder,
                f"{self._options.network}.1",
                ports(moto_target_group(service)),
                settings.target_group,
            )
            launcher = Launcher(self._options.folder, self._options.network, self._options.python)
            self._publication = Publication(service)
            self._agent = Agent(
                self._balancer, launcher, time.monotonic, self.tell, speed=speed, stops=Stops()
            )
        self.tell("service", **asdict(settings))
        known = {deployment.id for deployment in self._agent.deployments}
        force = service.deployments[0]["id"] not in known
        self._agent.update(settings, self._cloud.definition(service).faster(speed), force=force)
        assert self._publication is not None
        self._publication.write(self._agent)


def _aws(options: argparse.Namespace) -> dict[str, str]:
    """Return what tasks are told of AWS, in place of a task role."""
    return {
        "AWS_ACCESS_KEY_ID": "rehearsal",
        "AWS_SECRET_ACCESS_KEY": "rehearsal",  # pragma: allowlist secret
        "AWS_ENDPOINT_URL": options.store,
    }


def main() -> None:
    """Play until told to stop, or until something is wrong, which the journal tells."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--folder", type=Path, required=True, help="has builds/, gets journal and logs")
    parser.add_argument("--python", required=True, help="Python that has what hello depends on")
    parser.add_argument("--network", default="127.0.1", help="first three parts of the addresses")
    parser.add_argument("--speed", type=float, default=1, help="how many times faster than Terraform says")
    parser.add_argument("--store", default="", help="where the tasks find DynamoDB")
    options = parser.parse_args()
    end_with_parent()
    stage = Stage(options)

    def stop(number: int, _: FrameType | None) -> None:
        stage.stop()
        os._exit(0)

    signal.signal(signal.SIGTERM, stop)
    mend_tasks_and_targets()
    mend(stage.changed, lambda group, refresh: None)  # a refresh is carried out by the group's stage
    leave_instances()
    stage.guard()
    port = serve().server_port
    print(port, flush=True)
    try:
        stage.play(f"http://127.0.0.1:{port}")
    except Exception as error:  # noqa: BLE001 - whatever it is, the rehearsal is over, and is to say why
        traceback.print_exc()
        stage.tell("fatal", message=str(error))
        stage.stop()
        sys.stderr.flush()
        os._exit(1)


if __name__ == "__main__":
    main()
