"""AWS credentials that are renewed before they end."""

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from hello.stores.base import StoreUnavailableError

logger = logging.getLogger("hello.stores")

EARLY_SECONDS = 300.0  # before their end that credentials are renewed; AWS has new ones by then
EARLY_PART = 0.25  # of their life, where that is less
RENEWAL_SECONDS = 10.0  # that one renewal may take
PAUSE_SECONDS = 10.0  # between renewals while the old credentials are valid
FIRST_PAUSE_SECONDS = 1.0  # after a failed one while there are none
LATE = "AWS credentials were not given in time."


class CredentialsError(StoreUnavailableError):
    """There are no valid credentials; the message says what to do, and holds no secret."""


@dataclass(frozen=True, eq=False, slots=True)
class Credentials:
    """A key to sign with, and until when it is valid (seconds since 1970; None for no end known)."""

    key_id: str = field(repr=False)
    secret: str = field(repr=False)
    token: str | None = field(default=None, repr=False)
    expires: float | None = None


Source = Callable[[], Awaitable[Credentials]]


class RenewedCredentials:
    """Holds credentials, and takes new ones from `source` in the background before they end.

    One renewal runs at a time, in a task of its own, so that a caller who gives up neither stops it nor
    is held by it. While it fails, the old credentials are used for as long as they are valid.
    """

    def __init__(
        self,
        source: Source,
        clock: Callable[[], float] = time.time,
        part: Callable[[], float] = random.random,
    ) -> None:
        """Take from `source`, which raises CredentialsError; `part` gives a number from 0 to 1."""
        self._source = source
        self._clock = clock
        self._part = part
        self._held: Credentials | None = None
        self._renew_at = 0.0
        self._not_before = 0.0
        self._replaced_at = 0.0
        self._reason = LATE
        self._task: asyncio.Task[None] | None = None

    async def get(self) -> Credentials:
        """Return valid credentials, at once where there are any.

        Raises:
            CredentialsError: there are none; the next try is made a second later.
        """
        held = self._held
        now = self._clock()
        if held is not None and (held.expires is None or now < held.expires):
            if now >= self._renew_at and now >= self._not_before:
                self._renewal()
            return held
        if self._task is None and now < self._not_before:
            raise CredentialsError(self._reason)
        await asyncio.shield(self._renewal())
        if self._held is None or (self._held.expires is not None and self._clock() >= self._held.expires):
            raise CredentialsError(self._reason)
        return self._held

    async def replace(self, refused: Credentials) -> Credentials:
        """Return others than those that AWS has refused as expired, or the same if there are no others."""
        now = self._clock()
        if self._held is refused and now >= self._replaced_at + FIRST_PAUSE_SECONDS:
            self._replaced_at = now
            self._renewal()
        if self._task is not None:
            await asyncio.shield(self._task)
        return await self.get()

    async def close(self) -> None:
        """End a renewal that is under way."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    def _renewal(self) -> asyncio.Task[None]:
        if self._task is None:
            self._task = asyncio.create_task(self._renew())
            self._task.add_done_callback(self._ended)
        return self._task

    def _ended(self, _: asyncio.Task[None]) -> None:
        self._task = None

    async def _renew(self) -> None:
        try:
            async with asyncio.timeout(RENEWAL_SECONDS):
                new = await self._source()
        except TimeoutError:
            self._failed(LATE)
        except CredentialsError as error:
            self._failed(str(error))
        else:
            now = self._clock()
            self._held = new
            if new.expires is None:
                self._renew_at = float("inf")
            else:
                # Spread, so that instances that started together don't come together.
                early = min(EARLY_SECONDS, (new.expires - now) * EARLY_PART)
                self._renew_at = new.expires - early * (1 - self._part() / 4)
                if now >= new.expires:
                    self._reason = "The AWS credentials given have ended already."
            self._not_before = now + self._pause()

    def _failed(self, reason: str) -> None:
        self._reason = reason
        self._not_before = self._clock() + self._pause()
        if self._valid():
            logger.warning("AWS credentials were not renewed, and are used until they end: %s", reason)

    def _pause(self) -> float:
        return (PAUSE_SECONDS if self._valid() else FIRST_PAUSE_SECONDS) * (0.5 + self._part() / 2)

    def _valid(self) -> bool:
        held = self._held
        return held is not None and (held.expires is None or self._clock() < held.expires)
