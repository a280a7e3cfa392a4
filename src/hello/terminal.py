"""What commands say on standard error, and Ctrl-C while they work."""

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

INTERRUPTED = 128 + signal.SIGINT

_progress = 0  # characters of the line that counts, while it is there


def say(text: str) -> None:
    """Tell the person at the terminal; standard output is for data."""
    hide_progress()
    print(text, file=sys.stderr, flush=True)


def complain(text: str, status: int) -> int:
    """Say what is wrong; return the exit status."""
    say(f"hello: {text}")
    return status


def show_progress(text: str) -> None:
    """Show a line on the terminal until something else is said; nothing where there is no terminal."""
    global _progress
    if sys.stderr.isatty():
        print("\r" + text.ljust(_progress), end="", file=sys.stderr, flush=True)
        _progress = len(text)


def hide_progress() -> None:
    """Take the line of `show_progress` away."""
    global _progress
    if _progress:
        print("\r" + " " * _progress, end="\r", file=sys.stderr, flush=True)
        _progress = 0


def in_words(count: int, what: str) -> str:
    """Return the count with the word in its number: 1 person, 614 people."""
    plural = {"person": "people"}.get(what, f"{what}s")
    return f"{count:,} {what if count == 1 else plural}"


@contextmanager
def interruptible() -> Iterator[None]:
    """Have Ctrl-C raise KeyboardInterrupt within, at once; where the shell had it ignored, it stays so."""

    def interrupt(_: int, __: FrameType | None) -> None:
        raise KeyboardInterrupt  # not Python's own handler: asyncio would only cancel, at its next step

    with _on_interrupt(interrupt):
        yield


@contextmanager
def interrupt_noted() -> Iterator[Callable[[], bool]]:
    """Yield what tells whether there was a Ctrl-C within; a second one ends the process."""
    noted = False

    def note(_: int, __: FrameType | None) -> None:
        nonlocal noted
        noted = True
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    with _on_interrupt(note):
        yield lambda: noted


@contextmanager
def _on_interrupt(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    before = signal.getsignal(signal.SIGINT)
    if before is signal.SIG_IGN:
        yield
        return
    signal.signal(signal.SIGINT, handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
