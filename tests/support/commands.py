"""Commands of `hello`, run in the process of the test.

A Python that starts and imports hello costs 0.2 s of processor time, and most tests look only at what a
command prints. Tests of the process itself (signals, closed streams, a terminal) start it themselves.
"""

import asyncio
import io
import logging
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import BinaryIO
from unittest import mock

from hello.cli import run
from tests.support.environment import HELLO

STREAMS = ("stdin", "stdout", "stderr")
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

AS_A_PROCESS = ("env",)  # a prefix for what a process leaves to its end to be cleaned up

Completed = subprocess.CompletedProcess[bytes]


def hello(
    *arguments: str | Path,
    folder: Path,
    stdin: bytes = b"",
    environment: Mapping[str, str] | None = None,
    prefix: tuple[str, ...] = (),
) -> Completed:
    """Run a `hello` command to its end, in `folder`, where hello.db is its store.

    It is a process of its own with a `prefix`, such as `setpriv`, in a thread and within an event loop.
    """
    words = [str(argument) for argument in arguments]
    variables = _variables(environment)
    if prefix or not _alone():
        return subprocess.run(
            [*prefix, str(HELLO), *words],
            input=stdin, capture_output=True, cwd=folder, env=variables, timeout=280, check=False,
        )  # fmt: skip
    with ExitStack() as files:
        stdin_file, *outputs = [files.enter_context(tempfile.TemporaryFile()) for _ in STREAMS]
        stdin_file.write(stdin)
        stdin_file.seek(0)
        with (
            _standard_streams((stdin_file, *outputs)),
            _directory(folder),
            _own_logging(),
            _own_signal_handlers(),
            mock.patch.dict(os.environ, variables, clear=True),
            mock.patch.object(sys, "argv", [str(HELLO), *words]),
        ):
            status = run()
        return Completed(words, status, *(_content(file) for file in outputs))


def refused(
    *options: str,
    folder: Path,
    environment: Mapping[str, str] | None = None,
    prefix: tuple[str, ...] = (),
) -> str:
    """Run a `hello serve` that must not start; return what it prints."""
    variables = {"HELLO_PORT": "0", **(environment or {})}
    done = hello("serve", *options, folder=folder, environment=variables, prefix=prefix)
    printed = done.stderr.decode()
    assert done.returncode == 2, f"exit status {done.returncode}: {printed}"
    assert "Traceback" not in printed, printed
    return printed


def _variables(environment: Mapping[str, str] | None) -> dict[str, str]:
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("HELLO_", "OTEL_"))}
    return {**inherited, "COLUMNS": "100", **(environment or {})}


def _alone() -> bool:
    """Return whether a command can run here: in the main thread, and outside of an event loop."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return threading.current_thread() is threading.main_thread()
    return False


@contextmanager
def _standard_streams(files: Sequence[BinaryIO]) -> Iterator[None]:
    """Replace the standard streams, their file descriptors included, by files."""
    before = [(getattr(sys, name), os.dup(number)) for number, name in enumerate(STREAMS)]
    for stream, _ in before[1:]:
        stream.flush()
    for number, (name, file) in enumerate(zip(STREAMS, files, strict=True)):
        os.dup2(file.fileno(), number)
        raw = io.FileIO(number, "rb" if number == 0 else "wb", closefd=False)
        buffered = io.BufferedReader(raw) if number == 0 else io.BufferedWriter(raw)
        stream = io.TextIOWrapper(buffered, encoding="utf-8", line_buffering=name == "stderr")
        setattr(sys, name, stream)
    try:
        yield
    finally:
        for number, (name, (stream, descriptor)) in enumerate(zip(STREAMS, before, strict=True)):
            getattr(sys, name).close()
            setattr(sys, name, stream)
            os.dup2(descriptor, number)
            os.close(descriptor)


@contextmanager
def _directory(folder: Path) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


@contextmanager
def _own_logging() -> Iterator[None]:
    """Keep what `serve` sets up from the handlers of pytest, which it would close."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    root.handlers.clear()
    try:
        yield
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)


@contextmanager
def _own_signal_handlers() -> Iterator[None]:
    before = [(number, signal.getsignal(number)) for number in SIGNALS]
    try:
        yield
    finally:
        for number, handler in before:
            signal.signal(number, handler)


def _content(file: BinaryIO) -> bytes:
    file.seek(0)
    return file.read()
