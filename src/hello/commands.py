"""The commands that work on the store: import, export, digest, migrate, compact, birthdays."""

import asyncio
import math
import os
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, TextIO

from cyclopts import Parameter

from hello import birthday, stores
from hello.birthday import Person
from hello.checks import WholeNumber, Within
from hello.digest import Digest
from hello.files import STANDARD, reading, writing
from hello.rows import UnreadableError
from hello.settings import CalendarSettings, StoreSettings, TodaySettings
from hello.sources import unknown_variables
from hello.stores import Store, StoreError, open_store
from hello.terminal import (
    INTERRUPTED,
    complain,
    hide_progress,
    in_words,
    interrupt_noted,
    interruptible,
    say,
    show_progress,
)
from hello.transfer import BadRow, Format, Staged, TemporaryFileError, dump, load, stage, survey, write_people
from hello.usage import UsageError

BAD_ROWS_SHOWN = 20
BETWEEN_BATCHES = 0.005  # seconds in which a service on the same store gets its turn
LONG_TIMEOUT = 60.0  # seconds, at least, where thousands of people are moved and nobody waits for one
PAGE = 1000


def import_(
    file: Annotated[Path, Parameter(help="CSV or JSON lines; - is standard input.")] = STANDARD,
    /,
    *,
    skip_bad: Annotated[
        bool,
        Parameter(negative="", show_default=False, help="Load the good rows although there are bad ones."),
    ] = False,
    settings: TodaySettings = TodaySettings(),
) -> int:
    """Load people from CSV with the header username,dateOfBirth, or from JSON lines.

    Who is there already gets the date and the spelling of the file. A bad row (also a username that
    comes again with another date) is named with its line and reason; then nothing is loaded, and the
    exit status is 1. With --skip-bad the good rows are loaded, and the status is still 1.
    """
    _warn_of_variables()
    today = birthday.today_in(birthday.time_zone(settings.timezone), datetime.now(UTC))
    bad = _BadRows()
    try:
        with interruptible(), reading(file) as text:
            staged = stage(text, today, bad.add, lambda count: show_progress(f"checked {count:,}"))
    except KeyboardInterrupt:
        return complain("interrupted; nothing loaded.", INTERRUPTED)
    except UnreadableError as error:
        return complain(f"nothing loaded: {error}", 1)
    except OSError as error:
        name = "Standard input" if file == STANDARD else file
        raise UsageError(f"{name} can't be read to its end: {error.strerror}.") from error
    bad.sum_up()
    with closing(staged):
        if bad.count and not skip_bad:
            return complain(
                f"nothing loaded: {in_words(bad.count, 'bad row')}."
                " Mend what is bad, or load the rest with --skip-bad.",
                1,
            )
        loaded, total = _load(staged, settings), len(staged)
    if loaded.count < total:
        return complain(f"interrupted; {_so_far(loaded.count, total)}", INTERRUPTED)
    skipped = f"; skipped {in_words(bad.count, 'bad row')}" if bad.count else ""
    say(f"loaded {_figures(loaded)}{skipped}")
    return 1 if bad.count else 0


class _BadRows:
    """Names the first of them as they come, and counts."""

    def __init__(self) -> None:
        self.count = 0

    def add(self, row: BadRow) -> None:
        self.count += 1
        if self.count <= BAD_ROWS_SHOWN:
            say(str(row))

    def sum_up(self) -> None:
        if self.count > BAD_ROWS_SHOWN:
            say(f"… and {self.count - BAD_ROWS_SHOWN:,} more")


def _load(staged: Staged, settings: StoreSettings) -> Digest:
    """Load what was staged; return the digest of those who were, which are not all after Ctrl-C."""
    loaded, total = 0, len(staged)

    def count(so_far: int) -> None:
        nonlocal loaded
        loaded = so_far
        show_progress(f"loaded {loaded:,} of {total:,}")

    async def work(interrupted: Callable[[], bool]) -> Digest:
        async def go_on() -> bool:
            await asyncio.sleep(BETWEEN_BATCHES)
            return not interrupted()

        store = await _open(settings, long=True, create=True)
        try:
            return await load(staged, store, count, go_on)
        finally:
            await store.close()

    try:
        with interrupt_noted() as interrupted:
            return asyncio.run(work(interrupted))
    except (StoreError, TemporaryFileError) as error:
        raise type(error)(f"{error} {_so_far(loaded, total)}") from error


def _so_far(loaded: int, total: int) -> str:
    return f"{loaded:,} of {in_words(total, 'person')} loaded; the same import again loads the rest."


def export(
    *,
    form: Annotated[Format, Parameter(name="--format", help="Form of the lines.")] = "csv",
    output: Annotated[Path, Parameter(alias="-o", help="File to write; - is standard output.")] = STANDARD,
    username: Annotated[str | None, Parameter(help="Write this person alone.")] = None,
    settings: StoreSettings = StoreSettings(),
) -> int:
    """Write everyone, in what `hello import` reads.

    A file is written beside its name and renamed at the end, so that it is whole or not there. With
    --username it has one person, all that is kept of them; if there is none, the exit status is 1.
    """
    _warn_of_variables()
    if username is not None:
        return _export_one(username, form, output, settings)

    def progress(count: int) -> None:
        if output != STANDARD:
            show_progress(f"wrote {count:,}")

    async def work(file: TextIO) -> Digest:
        store = await _open(settings, long=True)
        try:
            return await dump(store, file, form, progress)
        finally:
            await store.close()

    try:
        with interruptible(), writing(output) as file:
            written = asyncio.run(work(file))
    except KeyboardInterrupt:
        kept = "the output is not whole" if output == STANDARD else "nothing written"
        return complain(f"interrupted; {kept}.", INTERRUPTED)
    say(f"wrote {_figures(written)}")
    return 0


def _export_one(username: str, form: Format, output: Path, settings: StoreSettings) -> int:
    async def find(key: str) -> Person | None:
        store = await _open(settings)
        try:
            return await store.get(key)
        finally:
            await store.close()

    try:
        person = asyncio.run(find(birthday.username_key(username)))
    except birthday.InvalidUsernameError as error:
        raise UsageError(str(error)) from error
    if person is None:
        return complain("nothing written: nobody is registered under this username.", 1)
    with writing(output) as file:
        written = write_people(file, form, [person])
    say(f"wrote {_figures(written)}")
    return 0


def digest(*, settings: StoreSettings = StoreSettings()) -> int:
    """Count everyone, and print a digest of them: the same for the same people in any store.

    Usernames count as they are spelled. `hello export` and `hello import` tell the same two of the
    people that they moved.
    """
    _warn_of_variables()

    async def work() -> Digest:
        store = await _open(settings, long=True)
        try:
            return await survey(store, lambda count: show_progress(f"read {count:,}"))
        finally:
            await store.close()

    try:
        with interruptible(), writing(STANDARD) as file:
            found = asyncio.run(work())
            hide_progress()
            print(_figures(found), file=file)
    except KeyboardInterrupt:
        return complain("interrupted.", INTERRUPTED)
    return 0


def migrate(*, settings: StoreSettings = StoreSettings()) -> int:
    """Make the store's schema, or bring it up to what this version needs.

    Doing it again changes nothing, and several may do it at once. A schema that is newer than this
    version is left alone, and the exit status is 2.
    """
    _warn_of_variables()
    say(asyncio.run(stores.migrate(settings.store, timeout=max(settings.store_timeout, LONG_TIMEOUT))))
    return 0


def compact(
    *,
    full: Annotated[
        bool,
        Parameter(
            negative="", show_default=False, help="Go on however long it holds up the service's writes."
        ),
    ] = False,
    settings: StoreSettings = StoreSettings(),
) -> int:
    """Rewrite the store's files, so that nothing is left in them of who was erased.

    A service on the store goes on meanwhile. What would hold it up for longer than store-timeout is
    given up with exit status 2, and nothing is changed; --full does it nevertheless.
    """
    _warn_of_variables()
    pause = math.inf if full else settings.store_timeout
    timeout = max(settings.store_timeout, LONG_TIMEOUT)
    say(asyncio.run(stores.compact(settings.store, timeout=timeout, pause=pause)))
    return 0


def birthdays(
    *,
    days: Annotated[
        WholeNumber, Parameter(validator=Within(0, 366), help="How many days to look ahead.")
    ] = 30,
    settings: CalendarSettings = CalendarSettings(),
) -> int:
    """List whose birthday is next, soonest first, today included."""
    _warn_of_variables()
    today = birthday.today_in(birthday.time_zone(settings.timezone), datetime.now(UTC))
    ranges = birthday.birthday_ranges(today, days, settings.leap_day)

    async def work(file: TextIO) -> int:
        store = await _open(settings)
        count, after = 0, None
        try:
            while True:
                page = await store.birthdays(ranges, PAGE, after)
                for person in page.people:
                    day = birthday.next_birthday(person.born, today, settings.leap_day)
                    print(f"{day}  {_when((day - today).days):>11}  {person.username}", file=file)
                count += len(page.people)
                if page.next is None:
                    return count
                after = page.next
        finally:
            await store.close()

    with writing(STANDARD) as file:
        count = asyncio.run(work(file))
    if not count:
        say(f"no birthday {_until(days)}")
    return 0


def _warn_of_variables() -> None:
    for warning in unknown_variables(os.environ):
        say(f"hello: {warning}")


async def _open(settings: StoreSettings, *, long: bool = False, create: bool = False) -> Store:
    return await open_store(
        settings.store,
        timeout=max(settings.store_timeout, LONG_TIMEOUT) if long else settings.store_timeout,
        create=create,
        connections=settings.store_connections,
    )


def _figures(people: Digest) -> str:
    return f"{in_words(people.count, 'person')}, digest {people}"


def _when(days: int) -> str:
    return {0: "today", 1: "tomorrow"}.get(days, f"in {days} days")


def _until(days: int) -> str:
    return {0: "today", 1: "today or tomorrow"}.get(days, f"within {days} days")
