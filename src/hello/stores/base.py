"""The Store interface, in domain terms, and its errors."""

import logging
from abc import ABC, abstractmethod
from collections.abc import Sequence
from datetime import date
from typing import NamedTuple, Self, TypeVar

from hello.birthday import Person

logger = logging.getLogger("hello.stores")


class StoreError(Exception):
    """The store can't be used as it is; the message tells the operator what to do."""


class StoreUnavailableError(StoreError):
    """The store did not answer in time, or can't take a write now. Trying again may help."""


class Entry(NamedTuple):
    """A person and the key that makes the username unique (`birthday.username_key`)."""

    key: str
    username: str
    born: date


class Page(NamedTuple):
    """Some people, and the position from which the following page goes on; None after the last."""

    people: Sequence[Person]
    next: str | None


class Store(ABC):
    """Keeps people under unique keys, none of which is empty.

    Every method may raise StoreUnavailableError. A write is durable when its method returns, and each
    later read sees it, from whichever process. Positions are the store's own text: opaque to callers,
    valid for as long as the store lives, also when the person they were made from is gone.
    """

    @abstractmethod
    async def get(self, key: str) -> Person | None:
        """Return the person, None if there is none."""

    @abstractmethod
    async def get_many(self, keys: Sequence[str]) -> Sequence[Person | None]:
        """Return for each key the person, None if there is none, all in one reading."""

    @abstractmethod
    async def put(self, entry: Entry, *, create: bool = False) -> bool:
        """Create or replace; with `create`, only create. Return False if the key was taken then."""

    @abstractmethod
    async def put_many(self, entries: Sequence[Entry]) -> None:
        """Create or replace many, durable when it returns; after an error any part may be stored.

        Of entries with the same key the last is stored.
        """

    @abstractmethod
    async def delete(self, key: str) -> bool:
        """Erase the person. Return False if there was none."""

    @abstractmethod
    async def people(self, limit: int, after: str | None = None) -> Page:
        """Return up to `limit` people in a stable order in which each comes once."""

    @abstractmethod
    async def birthdays(
        self, ranges: Sequence[tuple[str, str]], limit: int, after: str | None = None
    ) -> Page:
        """Return up to `limit` people born within the ranges of "MM-DD", in the ranges' order.

        Within a range they are ordered by month and day. `birthday.birthday_ranges` makes ranges.
        Pages that follow each other are asked for with the same ranges.
        """

    @abstractmethod
    async def ping(self) -> None:
        """Return if the store answers."""

    @abstractmethod
    async def close(self) -> None:
        """Finish the writes that were taken, then let go of the store."""


Opened = TypeVar("Opened", bound=Store)


async def reached(store: Opened, *, patient: bool) -> Opened:
    """Return a store on a server that was just made, once the server answered; else close it.

    Raises:
        StoreUnavailableError: the server can't be reached, and `patient` is not set.
        StoreError: it answers, and can't be used.
    """
    try:
        await store.ping()
    except StoreUnavailableError as error:
        if patient:
            logger.warning("the store can't be reached yet: %s", error)
            return store
        await store.close()
        raise
    except BaseException:
        await store.close()
        raise
    return store


class Engine(Store):
    """A store that a URL opens."""

    @classmethod
    @abstractmethod
    def check_url(cls, url: str) -> None:
        """Raise ValueError where the URL has the scheme of this engine and is still none of its own."""

    @classmethod
    @abstractmethod
    async def open(
        cls,
        url: str,
        *,
        timeout: float,  # noqa: ASYNC109 - of each operation to come
        create: bool,
        patient: bool,
        connections: int,
    ) -> Self:
        """Open it; see `hello.stores.open_store`."""

    @classmethod
    @abstractmethod
    async def migrate(cls, url: str, *, timeout: float) -> str:  # noqa: ASYNC109 - of each step
        """Make or upgrade the schema; see `hello.stores.migrate`."""

    @classmethod
    @abstractmethod
    async def compact(cls, url: str, *, timeout: float, pause: float) -> str:  # noqa: ASYNC109 - of each step
        """Leave nothing of who was erased in the store's files; see `hello.stores.compact`."""
