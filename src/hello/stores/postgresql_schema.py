"""The schema in PostgreSQL, its version, and how it is made.

Plain SQL, without extensions or advisory locks, so that Aurora, CockroachDB and YugabyteDB take it too.
Keys are bytes (UTF-8) and birthdays numbers, month * 100 + day: both sort alike whatever the database's
collation, which can't be said of text. The index's ASC is the default, but for YugabyteDB, which would hash.
"""

import asyncio
import math

import asyncpg

from hello.stores.base import StoreError

VERSION = 1
MIGRATE = "run `hello migrate`"
RETRY_SECONDS = 0.05
ATTEMPTS = 40

_VERSIONS = """
    CREATE TABLE IF NOT EXISTS hello_schema (
        single boolean PRIMARY KEY DEFAULT true CHECK (single),
        version integer NOT NULL
    )
"""
# What brings a schema of the version before to the next one.
_UPGRADES = {
    1: """
        CREATE TABLE people (
            key bytea PRIMARY KEY,
            username text NOT NULL,
            born date NOT NULL,
            birthday integer NOT NULL GENERATED ALWAYS AS (
                (extract(month from born) * 100 + extract(day from born))::integer
            ) STORED
        );
        CREATE INDEX people_birthday ON people (birthday ASC, key ASC);
    """,
}
# Two that make the same table at once: the later one is told so, when the other has finished.
_MEANWHILE = (
    asyncpg.DuplicateTableError,
    asyncpg.DuplicateObjectError,
    asyncpg.UniqueViolationError,
    asyncpg.SerializationError,
    asyncpg.DeadlockDetectedError,
)


async def check(connection: "asyncpg.Connection[asyncpg.Record]") -> None:
    """Raise StoreError where the schema is not the one that this version works with."""
    try:
        version = await connection.fetchval("SELECT version FROM hello_schema")
    except asyncpg.UndefinedTableError:
        raise StoreError(f"The database has no schema of hello; {MIGRATE}. Nothing was changed.") from None
    if version is None or version < VERSION:
        raise StoreError(f"The schema is older than this version needs; {MIGRATE}. Nothing was changed.")
    _refuse_newer(version)


async def migrate(connection: "asyncpg.Connection[asyncpg.Record]") -> str:
    """Make or upgrade the schema in one transaction; return what was done.

    Raises:
        StoreError: the schema is newer, or a table of another program has our name.
    """
    for _ in range(ATTEMPTS):
        try:
            async with connection.transaction():
                return await _upgrade(connection)
        except _MEANWHILE as error:
            obstacle = str(error)
            await asyncio.sleep(RETRY_SECONDS)
    raise StoreError(f"The schema can't be made: {obstacle}. Nothing was changed.")


async def compact(connection: "asyncpg.Connection[asyncpg.Record]", pause: float) -> str:
    """Rewrite the table of people and its indexes into new files; return what was done.

    VACUUM alone makes room for others, and leaves the bytes until they come. The statistics, which have
    some people's values, are made anew.

    Raises:
        StoreError: it holds up others for longer than `pause` seconds; nothing was changed.
    """
    limit = 0 if math.isinf(pause) else max(1, round(pause * 1000))
    await connection.execute(f"SET statement_timeout = {limit}")
    try:
        await connection.execute("VACUUM FULL people")
    except asyncpg.QueryCanceledError:
        raise StoreError(
            f"Rewriting the table would hold up others for longer than store-timeout ({pause:g} s);"
            " nothing was changed. With --full it is done however long it takes, and requests get 503"
            " meanwhile."
        ) from None
    await connection.execute("SET statement_timeout = 0")
    await connection.execute("ANALYZE people")
    return "rewrote the table and its indexes; nothing is left in their files of who was erased"


async def _upgrade(connection: "asyncpg.Connection[asyncpg.Record]") -> str:
    if await connection.fetchval("SELECT to_regclass('hello_schema')") is None:
        await connection.execute(_VERSIONS)
    await connection.execute("INSERT INTO hello_schema (version) VALUES (0) ON CONFLICT DO NOTHING")
    # Whoever else migrates waits at this row.
    found: int = await connection.fetchval("SELECT version FROM hello_schema FOR UPDATE")
    _refuse_newer(found)
    if found == VERSION:
        return f"the schema is at version {VERSION} already"
    for version in range(found + 1, VERSION + 1):
        await connection.execute(_UPGRADES[version])
    await connection.execute("UPDATE hello_schema SET version = $1", VERSION)
    if not found:
        return f"created the schema, version {VERSION}"
    return f"upgraded the schema from version {found} to {VERSION}"


def _refuse_newer(version: int) -> None:
    if version > VERSION:
        raise StoreError(
            f"The schema was made by a newer version of hello (schema {version}, this one knows {VERSION});"
            " run that version or newer. Nothing was changed."
        )
