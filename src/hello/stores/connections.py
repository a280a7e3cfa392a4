"""A pool of connections to PostgreSQL that asks the server nothing of its own.

asyncpg's Pool resets each connection when it comes back, which is a round trip more for each operation,
and tries a server that is down anew for each of them. Here nobody changes a session, so there is nothing
to reset; connections are opened one after the other, by one task, while somebody waits for one.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import asyncpg

from hello.stores.base import StoreError, StoreUnavailableError
from hello.stores.reconnect import Gate

logger = logging.getLogger("hello.stores")

IDLE_SECONDS = 300  # below the 350 s after which load balancers forget a connection without a word
CLOSE_SECONDS = 1.0


if TYPE_CHECKING:
    Driver = asyncpg.Connection[asyncpg.Record]
else:
    Driver = asyncpg.Connection


class Connection(Driver):
    """A connection that is cut where what it does is given up.

    asyncpg would send the server a cancellation over a second connection, and wait for that: for ever,
    where the server hangs. What the server goes on with, `statement_timeout` ends.
    """

    def _cancel_current_command(
        self, waiter: asyncio.Future[Any], cancel_waiter: asyncio.Future[Any] | None = None
    ) -> None:
        for future in (waiter, cancel_waiter):
            if future is not None and not future.done():
                future.set_result(None)
        self.terminate()


class Connections:
    """At most `most` connections; whoever takes one gives it back by `release` or `discard`."""

    def __init__(
        self, connect: Callable[[], Awaitable[Connection]], most: int, gate: Gate | None = None
    ) -> None:
        """Open none yet; `connect` raises StoreError where it can't."""
        self._connect = connect
        self._most = most
        self._gate = gate or Gate()
        self._idle: deque[tuple[float, Connection]] = deque()  # who was used last is last
        self._open = 0  # idle and taken ones
        self._waiting: deque[asyncio.Future[Connection]] = deque()
        self._opener: asyncio.Task[None] | None = None
        self._reason = ""

    async def acquire(self) -> Connection:
        """Return a connection, once there is one.

        Raises:
            StoreError: none can be opened, and none is in use that could come back.
        """
        self._close_old()
        while self._idle:
            _, connection = self._idle.pop()
            if not connection.is_closed():
                return connection
            self._forget(connection)
        waiter: asyncio.Future[Connection] = asyncio.get_running_loop().create_future()
        self._waiting.append(waiter)
        self._provide()
        try:
            return await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled() and waiter.exception() is None:
                self.release(waiter.result())
            raise

    def release(self, connection: Connection) -> None:
        """Take a connection back that can be used again."""
        if connection.is_closed():
            self.discard(connection)
        elif (waiter := self._next()) is not None:
            waiter.set_result(connection)
        else:
            self._idle.append((time.monotonic(), connection))

    def discard(self, connection: Connection) -> None:
        """Cut a connection, whatever it is doing; another takes its place where somebody waits."""
        self._forget(connection)
        self._provide()

    def discard_idle(self) -> None:
        """Cut those that nobody uses: the server behind them was found gone."""
        while self._idle:
            self._forget(self._idle.pop()[1])

    async def close(self) -> None:
        """Close those that nobody uses; the caller sees to it that nobody uses or wants any."""
        if self._opener is not None:
            self._opener.cancel()
            with suppress(asyncio.CancelledError):
                await self._opener
        closing = [self._idle.pop()[1] for _ in range(len(self._idle))]
        await asyncio.gather(*map(self._close, closing))

    async def _close(self, connection: Connection) -> None:
        with suppress(asyncpg.PostgresError, asyncpg.InterfaceError, OSError):  # TimeoutError is of these
            await connection.close(timeout=CLOSE_SECONDS)
        self._forget(connection)

    def _forget(self, connection: Connection) -> None:
        self._open -= 1
        connection.terminate()

    def _close_old(self) -> None:
        while self._idle and self._idle[0][0] < time.monotonic() - IDLE_SECONDS:
            self._forget(self._idle.popleft()[1])

    def _next(self) -> asyncio.Future[Connection] | None:
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                return waiter
        return None

    def _provide(self) -> None:
        """See to those who wait: by another connection, or by an error where no hope is left."""
        while self._waiting and self._waiting[0].done():
            self._waiting.popleft()
        if not self._waiting or self._opener is not None or self._open >= self._most:
            return
        if not self._gate.shut:
            self._opener = asyncio.get_running_loop().create_task(self._open_more())
        elif not self._open:
            self._fail(StoreUnavailableError(self._reason))

    async def _open_more(self) -> None:
        try:
            while self._open < self._most and (waiter := self._next()) is not None:
                self._waiting.appendleft(waiter)
                connection = await self._connect()
                self._open += 1
                self.release(connection)
        except StoreError as error:
            self._failed(error)
        except Exception as error:
            logger.error("unexpected error while connecting", exc_info=error)
            self._failed(StoreUnavailableError("No connection can be made; the log says why."))
        finally:
            self._opener = None

    def _failed(self, error: StoreError) -> None:
        self._reason = str(error)
        self._gate.failed()
        if not self._open:  # or those that are in use come back to who waits
            self._fail(error)

    def _fail(self, error: StoreError) -> None:
        while (waiter := self._next()) is not None:
            waiter.set_exception(type(error)(str(error)))
