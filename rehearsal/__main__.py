"""Plays releases of hello on one machine, with no AWS account. See docs/rehearsal.md."""

import argparse
import shutil
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from rehearsal.aws import PYTHON_WITH_MOTO
from rehearsal.play import ERRORS, MODES, chosen, play
from rehearsal.report import all_problems, page

NEEDED = ("terraform", "haproxy", "aws", "jq", "curl", "git")
NEEDED_BY_EC2 = ("etcd", "openssl")


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Return the options; `modes` are those that are to be played, in turn."""
    parser = argparse.ArgumentParser(prog="python -m rehearsal", description=(__doc__ or "").strip())
    add = parser.add_argument
    add(
        "--compute",
        choices=(*MODES, "both"),
        default="fargate",
        help="what serves: tasks, instances, or one after the other (default: fargate)",
    )
    add("--short", action="store_true", help="fewer scenes, and all controls but one")
    every = list(dict.fromkeys(name for mode in MODES.values() for name in mode.SCENES))
    add("--scene", action="append", choices=every, help="only this scene; may be repeated")
    add("--speed", type=float, default=5, help="time-lapse; 1 plays at real time (default: 5)")
    add("--network", default="127.0.1", help="first three parts of the addresses (default: 127.0.1)")
    add("--keep", action="store_true", help="keep the folder with all logs")
    options = parser.parse_args(arguments)
    options.modes = list(MODES) if options.compute == "both" else [options.compute]
    known = [name for mode in options.modes for name in chosen(mode, options)]
    if others := [name for name in options.scene or () if name not in known]:
        there = ", ".join(MODES[options.modes[0]].SCENES)
        parser.error(f"{options.compute} has no scene {', '.join(others)}; it has {there}")
    return options


def missing(modes: Sequence[str]) -> list[str]:
    """Return what the rehearsal needs and this machine lacks."""
    needed = NEEDED + (NEEDED_BY_EC2 if "ec2" in modes else ())
    lacking = [command for command in needed if not shutil.which(command)]
    if not PYTHON_WITH_MOTO.exists():
        lacking.append("moto (make .venv/.stamps/emulators)")
    if sys.platform != "linux":
        lacking.append("Linux, whose loopback network has an address for each task")
    return lacking


def rehearse(options: argparse.Namespace, folder: Path) -> bool:
    """Play all that is chosen, print the page, and return whether all was as it should be."""
    parts = [play(compute, options, folder / compute) for compute in options.modes]
    print(page(parts, options.speed))
    return not all_problems(parts)


def main() -> int:
    """Rehearse; return the exit status: 0 if all was as it should be, 1 if not, 2 if it can't be played."""
    options = parse()
    if lacking := missing(options.modes):
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
