"""The files of commands: what import reads and export writes, standard streams included."""

import io
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO, cast

from hello.terminal import say
from hello.usage import UsageError

STANDARD = Path("-")


@contextmanager
def reading(path: Path) -> Iterator[TextIO]:
    """Yield the text of a file, `-` being standard input; bytes that are not UTF-8 come as surrogates.

    Raises:
        UsageError: it can't be opened.
    """
    if path == STANDARD:
        if sys.stdin is None:
            raise UsageError("Standard input is closed; name a file.")
        if sys.stdin.isatty():
            say("reading from the terminal; end with Ctrl-D")
        _reconfigure(sys.stdin, "surrogateescape")
        yield sys.stdin
        return
    try:
        file = path.open(encoding="utf-8", errors="surrogateescape", newline="")
    except OSError as error:
        raise UsageError(f"{path} can't be read: {error.strerror}.") from error
    with file:
        yield file


@contextmanager
def writing(path: Path) -> Iterator[TextIO]:
    """Yield a file to write text to, `-` being standard output.

    A regular file is made beside its name and takes the name at the end, so that there is the whole
    of it or what was there before. It is then on disk, and keeps the permissions of the one it replaces.

    Raises:
        UsageError: it can't be written.
        BrokenPipeError: nobody reads standard output any more.
    """
    if path == STANDARD:
        with _standard_output() as file:
            yield file
        return
    try:
        if path.exists() and not path.is_file():  # a device, a pipe; a folder fails here
            with path.open("w", encoding="utf-8", newline="") as file:
                yield file
        else:
            with _replacing(path.resolve()) as file:
                yield file
    except OSError as error:
        raise UsageError(f"{path} can't be written: {error.strerror}.") from error


@contextmanager
def _standard_output() -> Iterator[TextIO]:
    if sys.stdout is None:
        raise UsageError("Standard output is closed.")
    _reconfigure(sys.stdout, "strict")
    try:
        yield sys.stdout
    except BrokenPipeError:
        raise
    except OSError as error:
        raise _unwritable(error) from error
    flush_output()


@contextmanager
def _replacing(path: Path) -> Iterator[TextIO]:
    part = path.with_name(f"{path.name}.{os.getpid()}.part")  # another export of the same name has its own
    try:
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)  # personal data
        with os.fdopen(descriptor, "w", encoding="utf-8", newline="") as file:
            if path.exists():
                shutil.copymode(path, part)
            yield file
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def flush_output() -> None:
    """Write out what is buffered for standard output.

    Raises:
        UsageError: it can't be written.
        BrokenPipeError: nobody reads it any more.
    """
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise _unwritable(error) from error


def discard_output() -> None:
    """Send what is buffered for standard output nowhere, or Python would complain of it at the end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _unwritable(error: OSError) -> UsageError:
    discard_output()
    return UsageError(f"Standard output can't be written: {error.strerror}.")


def _reconfigure(stream: TextIO, errors: str) -> None:
    # What the types call a TextIO is a TextIOWrapper.
    cast("io.TextIOWrapper", stream).reconfigure(encoding="utf-8", errors=errors, newline="")
