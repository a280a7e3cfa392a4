"""The page that a rehearsal prints."""

from collections.abc import Sequence
from dataclasses import dataclass

from rehearsal.controls import Outcome
from rehearsal.scenes import Phase

NAMES = {"fargate": "Fargate", "ec2": "EC2"}


@dataclass(frozen=True)
class Part:
    """What came of one mode."""

    compute: str
    phases: Sequence[Phase]
    outcomes: Sequence[Outcome]


def page(parts: Sequence[Part], speed: float) -> str:
    """Return what was played, requests, failures, p99, and time of each phase, and what was wrong."""
    pace = "at real time" if speed == 1 else f"in {speed:g}x time-lapse (hello's and Terraform's times alike)"
    lines = [f"Releases of hello rehearsed on this machine, {pace}."]
    for part in parts:
        lines += ["", *_part(part)]
    phases = [phase for part in parts for phase in part.phases]
    counted = [phase.tally for phase in phases if phase.tally is not None]
    total, failed = sum(one.requests for one in counted), sum(len(one.failures) for one in counted)
    expected = sum(phase.allowed for phase in phases)
    others = failed - expected
    lines += ["", f"{total:,} requests, {failed} failed: {expected} as they had to, {others} others."]
    lines += [f"WRONG: {problem}" for problem in all_problems(parts)] or ["All was as it should be."]
    return "\n".join(lines)


def all_problems(parts: Sequence[Part]) -> list[str]:
    """Return what was not as it should be."""
    problems = []
    for part in parts:
        name = NAMES[part.compute]
        problems += [f"{name}: {one.name}: {problem}" for one in part.phases for problem in one.problems]
        problems += [
            f"{name}: control: {one.control.name}: {one.problem}" for one in part.outcomes if one.problem
        ]
    return problems


def _part(part: Part) -> list[str]:
    lines = [f"{f'scene, on {NAMES[part.compute]}':<36}{'time':>8}{'requests':>10}{'failed':>8}{'p99':>9}"]
    for phase in part.phases:
        lines.append(_row(phase.name, phase.end - phase.begin, phase))
        lines += [f"    {seen}" for seen in phase.seen]
    heading = f"{'controls, with one thing done wrong':<36}{'time':>8}{'requests':>10}"
    lines += ["", f"{heading}{'failed':>8}{'cut off':>9}"]
    for one in part.outcomes:
        row = f"{one.control.name:<36}{one.seconds:>6.1f} s{one.tally.requests:>10,}"
        row += f"{len(one.tally.failures):>8}{len(one.lost):>9}"
        lines.append(f"{row}{'   NOT AS IT MUST BE' if one.problem else ''}")
    return lines


def _row(name: str, seconds: float, phase: Phase) -> str:
    row = f"{name:<36}{seconds:>6.1f} s"
    if phase.tally is None:
        return row
    p99 = f"{phase.tally.p99 * 1000:.0f} ms"
    return f"{row}{phase.tally.requests:>10,}{len(phase.tally.failures):>8}{p99:>9}"
