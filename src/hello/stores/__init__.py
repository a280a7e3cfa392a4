"""Where people are kept: one module an engine, loaded when its URL is opened."""

from hello.stores.base import Entry, Page, Store, StoreError, StoreUnavailableError

__all__ = ["Entry", "Page", "Store", "StoreError", "StoreUnavailableError", "check_url", "open_store"]

SCHEMES = ("sqlite",)


def check_url(url: str) -> None:
    """Raise ValueError where `open_store` would not know the URL; nothing is opened."""
    scheme, separator, rest = url.partition("://")
    if not separator or scheme not in SCHEMES:
        raise ValueError(
            f"This version keeps people in {' or '.join(SCHEMES)}: "
            "give sqlite:///hello.db for a file in this folder, or sqlite:////var/lib/hello.db."
        )
    if not rest.startswith("/") or rest in {"/", "/:memory:"} or "?" in rest:
        raise ValueError("A SQLite URL is sqlite:/// and the path of a file: sqlite:///hello.db.")


async def open_store(url: str, *, timeout: float, create: bool = True) -> Store:  # noqa: ASYNC109 - of each operation to come
    """Open the store that the URL names.

    Args:
        url: `sqlite:///relative/path` or `sqlite:////absolute/path`.
        timeout: seconds after which an operation gives up.
        create: make the database if it is missing.

    Raises:
        ValueError: no such kind of URL.
        StoreError: the database can't be used; the message says why.
    """
    check_url(url)
    from hello.stores.sqlite import SQLiteStore

    return await SQLiteStore.open(url.removeprefix("sqlite:///"), timeout=timeout, create=create)
