"""The commands. `serve` puts the parts together: settings, store, application, server."""

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Callable, Coroutine
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, TextIO, TypeVar

from cyclopts import App, Parameter
from cyclopts.validators import Number

from hello import __version__, birthday
from hello.settings import CalendarSettings, Settings, StoreSettings, effective, read_toml, unknown_variables
from hello.stores import StoreError, open_store
from hello.transfer import BadRow, Format, UnreadableError, dump, load, stage

T = TypeVar("T")

BAD_ROWS_SHOWN = 20
BETWEEN_BATCHES = 0.005  # seconds in which a service on the same store gets its turn
PAGE = 1000

app = App(
    name="hello",
    help="Keep dates of birth under usernames, and greet people by them.",
    version=__version__,
    config=read_toml,
    help_format="plaintext",
    error_formatter=lambda error: f"hello: {error}\nTry `hello --help`.",
    help_epilogue="Settings are flags, HELLO_* variables, or keys of the TOML file that --config names.",
)
app.register_install_completion_command(help="Install completion for the shell that you use.")


class UsageError(Exception):
    """What was asked for can't be done as it was asked; the message tells what to do."""


def main() -> None:
    """Run the command line; the exit status is 2 where the command or a setting is wrong."""
    try:
        app()
    except (UsageError, StoreError) as error:
        sys.exit(_complain(str(error), 2))
    except BrokenPipeError:  # `hello export | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)


@app.command
def serve(*, settings: Settings = Settings()) -> None:
    """Serve people over HTTP.

    Stops on Ctrl-C or SIGTERM once what is in flight is answered; on the second signal at once.
    """
    from hello import listening, workers
    from hello.logs import set_up_logging

    # Until there is something to stop in order, a signal just ends the process.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    if refusal := settings.refusal():
        raise UsageError(refusal)
    form = set_up_logging(settings.log)
    logger = logging.getLogger("hello")
    for warning in unknown_variables(os.environ):
        logger.warning("%s", warning)
    try:
        bound = listening.bind(settings.host, settings.port)
    except listening.AddressError as error:
        raise UsageError(str(error)) from error
    logger.info("starting", extra={"fields": {"version": __version__, "settings": effective(settings)}})
    if form == "text":
        print(_invitation(listening.url_of(bound)), file=sys.stderr, flush=True)
    if settings.workers == 1:
        from hello import server  # later than `workers` would have set the environment up for its own

        server.run(settings, bound)
        return
    _run(_check_store(settings))  # a store that can't be opened is said once, and not by each worker
    sys.exit(workers.Supervisor(settings, bound).run())


@app.command(name="import")
def import_(
    file: Annotated[
        str, Parameter(help="CSV or JSON lines; - is standard input.", allow_leading_hyphen=True)
    ] = "-",
    /,
    *,
    skip_bad: Annotated[
        bool, Parameter(negative="", help="Load the good rows although there are bad ones.")
    ] = False,
    settings: CalendarSettings = CalendarSettings(),
) -> int:
    """Load people from CSV with the header username,dateOfBirth, or from JSON lines.

    Who is there already gets the date of the file. A bad row (also a username that comes twice with
    different dates) is named with its line and reason; then nothing is loaded, and the exit status
    is 1. With --skip-bad the good rows are loaded, and the status is still 1.
    """
    bad = 0

    def name_bad(row: BadRow) -> None:
        nonlocal bad
        bad += 1
        if bad <= BAD_ROWS_SHOWN:
            _say(str(row))

    today = birthday.today_in(birthday.time_zone(settings.timezone), datetime.now(UTC))
    with ExitStack() as stack:
        stream = stack.enter_context(_open_input(file))
        progress = stack.enter_context(_Progress())
        try:
            staged = stage(stream, today, name_bad, progress.counter("checked"))
        except UnreadableError as error:
            return _complain(str(error), 1)
        if bad > BAD_ROWS_SHOWN:
            _say(f"… and {bad - BAD_ROWS_SHOWN} more bad rows")
        if bad and not skip_bad:
            staged.close()
            return _complain(
                f"nothing loaded: {bad} bad rows. Mend them, or load the others with --skip-bad.", 1
            )

        async def work() -> int:
            store = await open_store(settings.store, timeout=max(settings.store_timeout, 60))
            try:
                return await load(
                    staged, store, progress.counter("loaded"), lambda: asyncio.sleep(BETWEEN_BATCHES)
                )
            finally:
                await store.close()

        count = _run(work())
    _say(f"loaded {count} people" + (f", skipped {bad} bad rows" if bad else ""))
    return 1 if bad else 0


@app.command
def export(
    *,
    form: Annotated[Format, Parameter(name="--format", help="Form of the lines.")] = "csv",
    output: Annotated[
        Path | None, Parameter(alias="-o", help="File to write; standard output where it is left out.")
    ] = None,
    settings: StoreSettings = StoreSettings(),
) -> int:
    """Write everyone, in what `hello import` reads.

    A file is written beside its name and renamed at the end, so that it is whole or not there.
    """

    async def work(file: TextIO) -> int:
        store = await open_store(settings.store, timeout=settings.store_timeout, create=False)
        try:
            with _Progress() as progress:
                return await dump(store, file, form, progress.counter("written"))
        finally:
            await store.close()

    if output is None:
        sys.stdout.reconfigure(encoding="utf-8", newline="")  # type: ignore[union-attr]
        count = _run(work(sys.stdout))
        sys.stdout.flush()
    else:
        part = output.with_name(output.name + ".part")
        try:
            with part.open("w", encoding="utf-8", newline="") as file:
                count = _run(work(file))
            part.replace(output)
        except OSError as error:
            return _complain(f"{output} can't be written: {error.strerror}.", 2)
        finally:
            part.unlink(missing_ok=True)
    _say(f"wrote {count} people")
    return 0


@app.command
def birthdays(
    *,
    days: Annotated[
        int, Parameter(validator=Number(gte=0, lte=366), help="How many days to look ahead.")
    ] = 30,
    settings: CalendarSettings = CalendarSettings(),
) -> int:
    """List whose birthday is next, soonest first, today included."""
    today = birthday.today_in(birthday.time_zone(settings.timezone), datetime.now(UTC))
    ranges = birthday.birthday_ranges(today, days, settings.leap_day)

    async def work() -> int:
        store = await open_store(settings.store, timeout=settings.store_timeout, create=False)
        count, after = 0, None
        try:
            while True:
                page = await store.birthdays(ranges, PAGE, after)
                for person in page.people:
                    day = birthday.next_birthday(person.born, today, settings.leap_day)
                    print(f"{day}  {_in_words((day - today).days):>11}  {person.username}")
                count += len(page.people)
                if page.next is None:
                    return count
                after = page.next
        finally:
            await store.close()

    if not _run(work()):
        _say(f"no birthdays within {days} days")
    return 0


def _run(work: Coroutine[Any, Any, T]) -> T:
    with asyncio.Runner() as runner:
        return runner.run(work)


async def _check_store(settings: Settings) -> None:
    store = await open_store(settings.store, timeout=settings.store_timeout)
    await store.close()


def _open_input(path: str) -> TextIO:
    if path == "-":
        if sys.stdin.isatty():
            _say("reading from the terminal; end with Ctrl-D")
        sys.stdin.reconfigure(encoding="utf-8", errors="strict", newline="")  # type: ignore[union-attr]
        return sys.stdin
    try:
        return Path(path).open(encoding="utf-8", newline="")
    except OSError as error:
        raise UsageError(f"{path} can't be read: {error.strerror}.") from error


class _Progress:
    """A line on the terminal that counts; nothing where standard error is no terminal."""

    def __enter__(self) -> "_Progress":
        self._shown = sys.stderr.isatty()
        return self

    def counter(self, verb: str) -> Callable[[int], None]:
        def show(count: int) -> None:
            if self._shown:
                print(f"\r{verb} {count:,}", end="", file=sys.stderr, flush=True)

        return show

    def __exit__(self, *_: object) -> None:
        if self._shown:
            print("\r\033[K", end="", file=sys.stderr, flush=True)


def _in_words(days: int) -> str:
    return {0: "today", 1: "tomorrow"}.get(days, f"in {days} days")


def _invitation(url: str) -> str:
    body = '{"dateOfBirth":"1990-04-23"}'
    return (
        f"\n  hello is at {url}, and so is a page for your browser. Try:\n\n"
        f"    curl -X PUT -H 'Content-Type: application/json' -d '{body}' {url}/hello/Zoe\n"
        f"    curl {url}/hello/Zoe\n"
    )


def _say(text: str) -> None:
    print(text, file=sys.stderr)


def _complain(text: str, status: int) -> int:
    _say(f"hello: {text}")
    return status
