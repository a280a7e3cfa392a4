"""bench/choices: how calls are timed."""

import pytest

from bench.choices.timing import micro, per_call


class Clock:
    """A processor that only works when it is called."""

    def __init__(self) -> None:
        self.now = 0.0
        self.calls: list[str] = []

    def __call__(self) -> float:
        return self.now

    def spend(self, name: str, seconds: float) -> None:
        self.now += seconds
        self.calls.append(name)


def test_a_call_is_told_by_its_median() -> None:
    """Cases take turns, each as often as fits a round; a slow minute counts for nothing."""
    clock = Clock()

    def slow_once() -> None:
        clock.spend("b", 0.002 if len(clock.calls) % 1000 else 5.0)

    found = per_call({"a": lambda: clock.spend("a", 0.001), "b": slow_once}, clock)
    assert found == {"a": pytest.approx(0.001), "b": pytest.approx(0.002)}
    turns = [name for name, before in zip(clock.calls, ["", *clock.calls], strict=False) if name != before]
    assert turns == ["a", "b"] * 16  # once to count, and fifteen rounds
    assert clock.calls.count("a") == pytest.approx(15 * 50, abs=100)


@pytest.mark.parametrize(
    ("seconds", "told"), [(1.3e-7, "0.13"), (1.34e-6, "1.3"), (1.34e-5, "13"), (1.2e-3, "1,200")]
)
def test_times_are_told_in_microseconds(seconds: float, told: str) -> None:
    """With two digits at least."""
    assert micro(seconds) == told
