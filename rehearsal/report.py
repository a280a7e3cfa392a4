"""The page that a rehearsal prints."""

from collections.abc import Sequence

from rehearsal.controls import Outcome
from rehearsal.scenes import Phase


def page(phases: Sequence[Phase], outcomes: Sequence[Outcome], speed: float) -> str:
    """Return what was played, requests, failures, p99, and time of each phase, and what was wrong."""
    pace = "at real time" if speed == 1 else f"in {speed:g}x time-lapse (hello's and Terraform's times alike)"
    lines = [
        f"Releases of hello rehearsed on this machine, {pace}.",
        "",
        f"{'scene':<36}{'time':>8}{'requests':>10}{'failed':>8}{'p99':>9}",
    ]
    for phase in phases:
        lines.append(_row(phase.name, phase.end - phase.begin, phase))
        lines += [f"    {seen}" for seen in phase.seen]
    counted = [phase.tally for phase in phases if phase.tally is not None]
    total, failed = sum(one.requests for one in counted), sum(len(one.failures) for one in counted)
    heading = f"{'controls, with one thing done wrong':<36}{'time':>8}{'requests':>10}"
    lines += ["", f"{heading}{'failed':>8}{'cut off':>9}"]
    for one in outcomes:
        row = f"{one.control.name:<36}{one.seconds:>6.1f} s{one.tally.requests:>10,}"
        row += f"{len(one.tally.failures):>8}{len(one.lost):>9}"
        lines.append(f"{row}{'   NOT AS IT MUST BE' if one.problem else ''}")
    problems = all_problems(phases, outcomes)
    expected = sum(phase.allowed for phase in phases)
    others = failed - expected
    lines += ["", f"{total:,} requests, {failed} failed: {expected} as they had to, {others} others."]
    lines += [f"WRONG: {problem}" for problem in problems] or ["All was as it should be."]
    return "\n".join(lines)


def all_problems(phases: Sequence[Phase], outcomes: Sequence[Outcome]) -> list[str]:
    """Return what was not as it should be."""
    problems = [f"{phase.name}: {problem}" for phase in phases for problem in phase.problems]
    problems += [f"control: {one.control.name}: {one.problem}" for one in outcomes if one.problem]
    return problems


def _row(name: str, seconds: float, phase: Phase) -> str:
    row = f"{name:<36}{seconds:>6.1f} s"
    if phase.tally is None:
        return row
    p99 = f"{phase.tally.p99 * 1000:.0f} ms"
    return f"{row}{phase.tally.requests:>10,}{len(phase.tally.failures):>8}{p99:>9}"
