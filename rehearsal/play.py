"""One mode played from beginning to end: its infrastructure, its scenes, and its controls beside them."""

import argparse
import sys
import threading
import time
from contextlib import ExitStack
from pathlib import Path

from rehearsal import ec2_scenes, members, scenes
from rehearsal.aws import Console, Server
from rehearsal.balancer import BalancerError
from rehearsal.controls import CONTROLS, ControlError, Outcome, Player, short
from rehearsal.journal import Journal, StageError
from rehearsal.load import LoadError
from rehearsal.report import Part
from rehearsal.tasks import AddressTakenError, check_free
from rehearsal.versions import Versions

MODES = {"fargate": scenes, "ec2": ec2_scenes}
CHECKED = 40  # of the addresses, which are taken in turn
ERRORS = (StageError, ControlError, BalancerError, LoadError, AddressTakenError)


class Controls(threading.Thread):
    """Plays the controls, beside the making of the infrastructure: it waits more than it works."""

    def __init__(self, folder: Path, code: Path, compute: str, options: argparse.Namespace) -> None:
        super().__init__(name="controls", daemon=True)
        self.outcomes: list[Outcome] = []
        self._error: Exception | None = None
        self._stopping = threading.Event()
        self._player = Player(sys.executable, code, options.speed, self._stopping)
        self._folder, self._network = folder, options.network
        self._controls = short(compute) if options.short else CONTROLS[compute]

    def run(self) -> None:
        """Play them one after the other; the error of one is raised by `finish`."""
        first, second, third = self._network.split(".")
        for number, control in enumerate(self._controls, 1):
            folder = self._folder / f"control-{number}"
            folder.mkdir()
            try:
                outcome = self._player.play(control, folder, f"{first}.{second}.{int(third) + number}")
            except Exception as error:  # noqa: BLE001 - raised by `finish`, in the thread that tells of it
                self._error = error
                return
            self.outcomes.append(outcome)

    def stop(self) -> None:
        """End the one that is played, and with it all its processes."""
        self._stopping.set()
        self.join()

    def check(self) -> None:
        """Raise the error of one that could not be played."""
        if self._error is not None:
            raise self._error

    def finish(self) -> list[Outcome]:
        """Wait for all of them; return what they came to."""
        self.join()
        self.check()
        return self.outcomes


def say(text: str) -> None:
    """Tell how far it is."""
    print(f"{time.strftime('%H:%M:%S')}  {text}", file=sys.stderr, flush=True)


def check_addresses(network: str, compute: str) -> None:
    """Make sure that nobody listens where the load balancer, tasks, instances and members are to.

    Raises:
        AddressTakenError: somebody does.
    """
    for number in range(1, CHECKED):
        check_free(f"{network}.{number}")
    if compute == "ec2":
        for number in range(members.FIRST, members.FIRST + members.COUNT):
            for port in (members.CLIENT_PORT, members.PEER_PORT):
                check_free(f"{network}.{number}", port)


def play(compute: str, options: argparse.Namespace, folder: Path) -> Part:
    """Play what is chosen of a mode; return what came of it.

    Raises:
        StageError, ControlError, BalancerError, LoadError, AddressTakenError: it could not go on.
    """
    check_addresses(options.network, compute)
    folder.mkdir()
    versions = Versions(folder)
    code = folder / "builds" / versions.make("The code of the controls")
    with ExitStack() as stack:
        store = Server("rehearsal.emulator", log=folder / "store.log")
        stack.callback(store.stop)
        stage = Server(
            "rehearsal.stage",
            *("--folder", str(folder), "--python", sys.executable, "--network", options.network),
            *("--speed", str(options.speed), "--store", store.url),
            log=folder / "stage.log",
        )
        stack.callback(stage.stop)
        console = Console(folder, f"{options.network}.1", stage.url, store.url, compute)
        stack.callback(console.stop)
        rehearsal = scenes.Rehearsal(
            folder,
            console,
            store,
            Journal(folder / "journal"),
            versions,
            f"{options.network}.1",
            options.speed,
            say,
        )
        beside = Controls(folder, code, compute, options)
        stack.callback(beside.stop)

        def check() -> None:
            beside.check()
            rehearsal.journal.update()

        console.check = check
        beside.start()
        mode = MODES[compute]
        mode.build(rehearsal)
        outcomes = beside.finish()
        mode.first_release(rehearsal)
        for name in chosen(compute, options):
            mode.SCENES[name](rehearsal)
        if rehearsal.load is not None:
            rehearsal.load.stop()
        rehearsal.count()
    return Part(compute, rehearsal.phases, outcomes)


def chosen(compute: str, options: argparse.Namespace) -> list[str]:
    """Return the scenes of a mode that are to be played."""
    mode = MODES[compute]
    if options.scene:
        return [name for name in options.scene if name in mode.SCENES]
    return list(mode.SHORT if options.short else mode.SCENES)
