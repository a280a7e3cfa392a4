"""Where people are kept: one module an engine, loaded when its URL is opened."""

from importlib import import_module

from hello.stores.base import Engine, Entry, Page, Store, StoreError, StoreUnavailableError

__all__ = [
    "Entry",
    "Page",
    "Store",
    "StoreError",
    "StoreUnavailableError",
    "check_url",
    "compact",
    "migrate",
    "open_store",
]

ENGINES = {  # the scheme of a URL, and the class that opens it
    "sqlite": ("hello.stores.sqlite", "SQLiteStore"),
    "postgresql": ("hello.stores.postgresql", "PostgreSQLStore"),
    "dynamodb": ("hello.stores.dynamodb", "DynamoDBStore"),
}


def check_url(url: str) -> None:
    """Raise ValueError where `open_store` would not know the URL; nothing is opened.

    The message holds nothing of the URL: there may be a password in it.
    """
    _engine(url).check_url(url)


async def open_store(
    url: str,
    *,
    timeout: float,  # noqa: ASYNC109 - of each operation to come
    create: bool = True,
    patient: bool = False,
    connections: int = 10,
) -> Store:
    """Open the store that the URL names.

    Args:
        url: see `ENGINES`.
        timeout: seconds after which an operation gives up.
        create: make the database if it is missing, where that is no more than a file.
        patient: open the store also while its server can't be reached; operations fail until it can.
        connections: most that are open at once, where the engine has such; DynamoDB takes at least 32.

    Raises:
        ValueError: no such kind of URL.
        StoreError: the database can't be used; the message says why.
    """
    engine = _engine(url)
    engine.check_url(url)
    return await engine.open(url, timeout=timeout, create=create, patient=patient, connections=connections)


async def migrate(url: str, *, timeout: float) -> str:  # noqa: ASYNC109 - of each step
    """Make the schema, or bring it up to what this version needs; return what was done, in words.

    Doing it again changes nothing, and several may do it at once.

    Raises:
        ValueError: no such kind of URL.
        StoreError: the schema is newer than this version, or the database can't be used.
    """
    engine = _engine(url)
    engine.check_url(url)
    return await engine.migrate(url, timeout=timeout)


async def compact(url: str, *, timeout: float, pause: float) -> str:  # noqa: ASYNC109 - of each step
    """Rewrite the store's files, so that nothing is left in them of who was erased before.

    Others may use the store meanwhile.

    Args:
        url: see `ENGINES`.
        timeout: seconds to wait for others that use the store.
        pause: seconds for which they may be held up, about; `math.inf` for as long as it takes.

    Returns:
        what was done, in words.

    Raises:
        ValueError: no such kind of URL.
        StoreError: it would take longer than `pause`, or the database can't be used.
    """
    engine = _engine(url)
    engine.check_url(url)
    return await engine.compact(url, timeout=timeout, pause=pause)


def _engine(url: str) -> type[Engine]:
    scheme, separator, _ = url.partition("://")
    if not separator or scheme not in ENGINES:
        raise ValueError(
            "Give sqlite:///hello.db for a file in this folder, sqlite:////var/lib/hello.db for another,"
            " postgresql://user@db.example:5432/hello for a server, or dynamodb://eu-central-1/hello"
            " for a table."
        )
    module, name = ENGINES[scheme]
    engine: type[Engine] = getattr(import_module(module), name)
    return engine
