"""Connecting to PostgreSQL: to one of several hosts, with the session that the store needs."""

import asyncpg

from hello.stores import postgresql_url
from hello.stores.base import StoreError, StoreUnavailableError
from hello.stores.connections import Connection

# What can be wrong with a connection to be: the last two are of ports, names and files that can't be read.
NO_CONNECTION = (
    OSError,
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    ValueError,
    OverflowError,
)
# What another host of the URL may not suffer from.
_PASSED_OVER = (
    OSError,
    asyncpg.PostgresConnectionError,
    asyncpg.CannotConnectNowError,
    asyncpg.TargetServerAttributeNotMatched,
)
# A server may promise more than this ("remote_apply"); that stays.
_DURABLE = """
    SELECT set_config('synchronous_commit', 'on', false)
    WHERE current_setting('synchronous_commit') IN ('off', 'local', 'remote_write')
"""


async def connect(url: str, timeout: float) -> Connection:  # noqa: ASYNC109 - of connecting, and of statements
    """Connect to the first host of the URL that can be used; each has its part of the time."""
    urls = postgresql_url.each_host(url)
    for place, one in enumerate(urls, 1):
        try:
            return await _connect_to(one, timeout, timeout / len(urls))
        except _PASSED_OVER:
            if place == len(urls):
                raise
    raise AssertionError("a URL has a host, if an empty one")


async def _connect_to(url: str, timeout: float, patience: float) -> Connection:  # noqa: ASYNC109 - of statements
    connection = await asyncpg.connect(
        url,
        timeout=patience,
        connection_class=Connection,
        max_cached_statement_lifetime=0,  # for ever: preparing is a round trip
        server_settings={
            # Who was told that a write failed may have written something else since.
            "statement_timeout": str(max(1, round(timeout * 1000))),
        },
    )
    try:
        await connection.execute(_DURABLE, timeout=patience)
    except BaseException:
        connection.terminate()
        raise
    return connection


def translated(server: str, error: BaseException, *, after_start: bool = False) -> StoreError:
    """Return a driver's error in the store's terms; `after_start`: the settings were right before."""
    kind = StoreError if postgresql_url.lasting(error) and not after_start else StoreUnavailableError
    return kind(f"{server}: {postgresql_url.explain(error)}.")
