"""Plays releases of hello on one machine, with no AWS account. See docs/rehearsal.md."""

import argparse
import shutil
import signal
import sys
import tempfile
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from types import FrameType

from rehearsal import ec2_scenes, scenes
from rehearsal.aws import PYTHON_WITH_MOTO, Console, Server
from rehearsal.balancer import BalancerError
from rehearsal.controls import CONTROLS, SHORT, ControlError, Outcome, Player
from rehearsal.journal import Journal, StageError
from rehearsal.load import LoadError
from rehearsal.report import all_problems, page
from rehearsal.tasks import AddressTakenError, check_free
from rehearsal.versions import Versions

NEEDED = ("terraform", "haproxy", "aws", "jq", "curl", "git")
NEEDED_BY_EC2 = ("etcd", "openssl")
MODES = {"fargate": scenes, "ec2": ec2_scenes}
CHECKED = 40  # of the addresses, which are taken in turn
ERRORS = (StageError, ControlError, BalancerError, LoadError, AddressTakenError)


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Return the options."""
    parser = argparse.ArgumentParser(prog="python -m rehearsal", description=(__doc__ or "").strip())
    add = parser.add_argument
    add(
        "--compute",
        choices=MODES,
        default="fargate",
        help="what serves: tasks, or instances (default: fargate)",
    )
    add("--short", action="store_true", help="fewer scenes, and all controls but one")
    every = list(dict.fromkeys(name for mode in MODES.values() for name in mode.SCENES))
    add("--scene", action="append", choices=every, help="only this scene; may be repeated")
    add("--speed", type=float, default=5, help="time-lapse; 1 plays at real time (default: 5)")
    add("--network", default="127.0.1", help="first three parts of the addresses (default: 127.0.1)")
    add("--keep", action="store_true", help="keep the folder with all logs")
    options = parser.parse_args(arguments)
    known = MODES[options.compute].SCENES
    if others := [name for name in options.scene or () if name not in known]:
        parser.error(f"{options.compute} has no scene {', '.join(others)}; it has {', '.join(known)}")
    return options


def say(text: str) -> None:
    """Tell how far it is."""
    print(f"{time.strftime('%H:%M:%S')}  {text}", file=sys.stderr, flush=True)


def missing(compute: str) -> list[str]:
    """Return what the rehearsal needs and this machine lacks."""
    needed = NEEDED + (NEEDED_BY_EC2 if compute == "ec2" else ())
    lacking = [command for command in needed if not shutil.which(command)]
    if not PYTHON_WITH_MOTO.exists():
        lacking.append("moto (make .venv/.stamps/emulators)")
    if sys.platform != "linux":
        lacking.append("Linux, whose loopback network has an address for each task")
    return lacking


class Controls(threading.Thread):
    """Plays the controls, beside the making of the infrastructure: it waits more than it works."""

    def __init__(self, folder: Path, code: Path, options: argparse.Namespace) -> None:
        super().__init__(name="controls", daemon=True)
        self.outcomes: list[Outcome] = []
        self._error: Exception | None = None
        self._stopping = threading.Event()
        self._player = Player(sys.executable, code, options.speed, self._stopping)
        self._folder, self._options = folder, options

    def run(self) -> None:
        """Play them one after the other; the error of one is raised by `finish`."""
        first, second, third = self._options.network.split(".")
        for number, control in enumerate(SHORT if self._options.short else CONTROLS, 1):
            folder = self._folder / f"control-{number}"
            folder.mkdir()
            try:
                outcome = self._player.play(control, folder, f"{first}.{second}.{int(third) + number}")
            except ERRORS as error:
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


def rehearse(options: argparse.Namespace, folder: Path) -> bool:
    """Play all that is chosen, print the page, and return whether all was as it should be."""
    for number in range(1, CHECKED):
        check_free(f"{options.network}.{number}")
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
        console = Console(folder, f"{options.network}.1", stage.url, store.url, options.compute)
        stack.callback(console.stop)
        play = scenes.Rehearsal(
            folder,
            console,
            store,
            Journal(folder / "journal"),
            versions,
            f"{options.network}.1",
            options.speed,
            say,
        )
        beside = Controls(folder, code, options)
        stack.callback(beside.stop)

        def check() -> None:
            beside.check()
            play.journal.update()

        console.check = check
        beside.start()
        mode = MODES[options.compute]
        mode.build(play)
        outcomes = beside.finish()
        mode.first_release(play)
        for name in options.scene or (mode.SHORT if options.short else mode.SCENES):
            mode.SCENES[name](play)
        if play.load is not None:
            play.load.stop()
        play.count()
    print(page(play.phases, outcomes, options.speed))
    return not all_problems(play.phases, outcomes)


def main() -> int:
    """Rehearse; return the exit status: 0 if all was as it should be, 1 if not, 2 if it can't be played."""
    options = parse()
    if lacking := missing(options.compute):
        print(f"The rehearsal needs what is not here: {', '.join(lacking)}.", file=sys.stderr)
        return 2

    def stop(number: int, _: FrameType | None) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, stop)
    folder = Path(tempfile.mkdtemp(prefix="hello-rehearsal-"))
    kept = True
    try:
        passed = rehearse(options, folder)
        kept = options.keep or not passed
    except KeyboardInterrupt:
        kept = options.keep
        print("Stopped; nothing is left running.", file=sys.stderr)
        return 130
    except ERRORS as error:
        print(f"The rehearsal could not go on: {error}", file=sys.stderr)
        return 2
    finally:
        if kept:
            print(f"Logs are in {folder}", file=sys.stderr)
        else:
            shutil.rmtree(folder, ignore_errors=True)
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
