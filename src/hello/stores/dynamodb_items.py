"""People as items of the DynamoDB table."""

from datetime import date
from typing import Any
from zlib import crc32

from hello.birthday import Person
from hello.stores.base import Entry

SHARDS = 16  # of the index of birthdays; see `hello.stores.dynamodb`


def key_of(key: str) -> dict[str, Any]:
    """Return the table's key of a person."""
    return {"key": {"S": key}}


def item_of(entry: Entry) -> dict[str, Any]:
    """Return what is stored of an entry, the attributes of the index included."""
    born = entry.born.isoformat()
    return {
        "key": {"S": entry.key},
        "username": {"S": entry.username},
        "born": {"S": born},
        "shard": {"N": str(crc32(entry.key.encode()) % SHARDS)},
        "birthday": {"S": born[5:] + entry.key},
    }


def person_of(item: Any) -> Person:
    """Return the person that an item is of."""
    return Person(item["username"]["S"], date.fromisoformat(item["born"]["S"]))
