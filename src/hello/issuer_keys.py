"""The current keys of an issuer of tokens: found by OpenID Connect Discovery 1.0, and kept up to date."""

import asyncio
import logging
import math
import random
import time
from collections.abc import Awaitable, Callable, Sequence

import aiohttp
import msgspec

from hello.issuer_url import check_jwks_uri
from hello.jwks import Key, read_keys

logger = logging.getLogger("hello.oidc")

FETCH_SECONDS = 2.0  # that a fetch may take in all
MAX_BYTES = 2**20  # of a document of the issuer
REFRESH_SECONDS = 300.0
RETRY_SECONDS = 1.0  # after the first failed fetch; doubled after each further one, up to REFRESH_SECONDS
DEMAND_SECONDS = 10.0  # between two fetches that tokens cause
LAST_SECONDS = 24 * 3600.0  # that keys are used since they were last fetched


class FetchError(Exception):
    """The keys could not be fetched; the message says why."""


class IssuerKeys:
    """Holds the keys of an issuer; fetches them in the background, and when a token needs one it lacks.

    One fetch runs at a time, in a task of its own, which all who need it wait for. While fetches fail, the
    keys of the last one are used, for up to a day.
    """

    def __init__(
        self,
        issuer: str,
        changed: Callable[[Sequence[Key]], None],
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
        part: Callable[[], float] = random.random,
    ) -> None:
        """Have none yet; `changed` is told each set that is fetched, `part` gives a number from 0 to 1."""
        self.failing = True  # the last fetch failed, or there was none yet
        self.until = -math.inf  # by `clock`, when the keys are too old
        self._issuer = issuer
        self._changed = changed
        self._clock = clock
        self._sleep = sleep
        self._part = part
        self._keys: Sequence[Key] = ()
        self._opens_at = -math.inf
        self._told = False
        self._fetch_task: asyncio.Task[None] | None = None
        self._refresh_task: asyncio.Task[None] | None = None

    @property
    def current(self) -> Sequence[Key]:
        """The keys to verify with: none before the first fetch, and a day after the last."""
        return self._keys if self._clock() < self.until else ()

    def start(self) -> None:
        """Fetch now, and from now on, in the background."""
        self._refresh_task = asyncio.create_task(self._refresh())

    async def close(self) -> None:
        """End what is under way."""
        tasks = [task for task in (self._refresh_task, self._fetch_task) if task is not None]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    async def renew(self) -> None:
        """Fetch for the sake of a token, unless that was done in the last seconds; see `failing` after it."""
        if self._fetch_task is None:
            now = self._clock()
            if now < self._opens_at:
                return
            self._opens_at = now + DEMAND_SECONDS
        # Not awaited itself: a caller that gives up would end it for all.
        await asyncio.wait([self._fetching()])

    def _fetching(self) -> asyncio.Task[None]:
        if self._fetch_task is None:
            self._fetch_task = asyncio.create_task(self._fetch())
            self._fetch_task.add_done_callback(self._fetched)
        return self._fetch_task

    def _fetched(self, _: asyncio.Task[None]) -> None:
        self._fetch_task = None

    async def _refresh(self) -> None:
        pause = RETRY_SECONDS
        while True:
            await asyncio.wait([self._fetching()])
            if self.failing:
                await self._sleep(pause * (0.5 + self._part() / 2))
                pause = min(2 * pause, REFRESH_SECONDS)
            else:
                # Spread, so that instances that started together don't come together.
                await self._sleep(REFRESH_SECONDS * (0.9 + self._part() / 10))
                pause = RETRY_SECONDS

    async def _fetch(self) -> None:
        try:
            keys = await fetch_keys(self._issuer)
        except FetchError as error:
            self.failing = True
            if not self._told:
                self._told = True
                used = "the keys last fetched are used on" if self.current else "no token is accepted"
                logger.warning("the issuer's keys can't be had, %s: %s", used, error)
            return
        if self._told:
            logger.info("the issuer's keys are had again")
        if not keys:
            logger.warning("the issuer has no keys that hello can use: no token is accepted")
        self.failing = self._told = False
        self.until = self._clock() + LAST_SECONDS
        self._keys = keys
        self._changed(keys)


class _Metadata(msgspec.Struct):
    issuer: str
    jwks_uri: str


async def fetch_keys(issuer: str) -> Sequence[Key]:
    """Return the keys that an issuer has now; raise FetchError."""
    try:
        async with (
            asyncio.timeout(FETCH_SECONDS),
            aiohttp.ClientSession(
                headers={"Accept": "application/json", "Accept-Encoding": "identity"},
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,  # of a small answer it might make one without end
                trust_env=False,
            ) as session,
        ):
            metadata = _decoded(await _get(session, f"{issuer.rstrip('/')}/.well-known/openid-configuration"))
            if metadata.issuer != issuer:
                raise FetchError("its metadata names another issuer; write the issuer as it does")
            return read_keys(await _get(session, check_jwks_uri(metadata.jwks_uri)))
    except TimeoutError:
        raise FetchError("it did not answer in time") from None
    except aiohttp.ClientConnectorCertificateError:
        raise FetchError("its TLS certificate is not accepted") from None
    except aiohttp.ClientConnectorError:
        raise FetchError("no connection is made") from None
    except (aiohttp.ClientError, OSError) as error:
        raise FetchError(f"it gave no answer that hello understands ({type(error).__name__})") from None
    except ValueError as error:
        raise FetchError(str(error)) from None


async def _get(session: aiohttp.ClientSession, url: str) -> bytes:
    async with session.get(url, allow_redirects=False) as response:
        if response.status != 200:
            raise FetchError(f"it answered with status {response.status}")
        try:
            await response.content.readexactly(MAX_BYTES + 1)
        except asyncio.IncompleteReadError as end:
            return end.partial
    raise FetchError(f"its answer is longer than {MAX_BYTES} bytes")


def _decoded(text: bytes) -> _Metadata:
    try:
        return msgspec.json.decode(text, type=_Metadata)
    except (ValueError, RecursionError):
        raise FetchError("its metadata is not that of an issuer") from None
