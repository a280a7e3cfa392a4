"""The DynamoDB table: made, checked and versioned."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from hello.stores.base import StoreError, StoreUnavailableError
from hello.stores.dynamodb_client import Client, MissingTableError, RefusedError

logger = logging.getLogger("hello.stores")

VERSION = 1
ITEM_KEY = {"key": {"S": "#schema"}}  # no username has "#"
INDEX = "birthdays"
KEY_SCHEMA = [{"AttributeName": "key", "KeyType": "HASH"}]
INDEX_SCHEMA = [
    {"AttributeName": "shard", "KeyType": "HASH"},
    {"AttributeName": "birthday", "KeyType": "RANGE"},
]
ATTRIBUTES = [
    {"AttributeName": name, "AttributeType": kind}
    for name, kind in (("key", "S"), ("shard", "N"), ("birthday", "S"))
]
ACTIVE_SECONDS = 120.0  # for a table to become active
POLL_SECONDS = 0.2


async def check(client: Client) -> int:
    """Return the version of the table's schema, 0 where nothing tells: it may be made by other tools.

    Raises:
        StoreError: there is no table, or it is newer than this version.
    """
    item = (await client.call("GetItem", Key=ITEM_KEY, ConsistentRead=True)).get("Item")
    version = int(item["version"]["N"]) if item else 0
    if version > VERSION:
        raise StoreError(
            f"The table {client.table} has schema version {version}, and this hello knows {VERSION}: "
            "use a newer hello. Nothing was changed."
        )
    return version


async def migrate(client: Client) -> str:
    """Make the table, or bring it up to this version; return what was done."""
    created = await _create(client)
    await _wait_until_active(client)
    with client.time_limit():
        version = await check(client)
    if version < VERSION:
        await _recover_to_any_point(client)
        with client.time_limit():
            await _set_version(client)
    return f"{'created the table' if created else 'the table is there'}, schema version {VERSION}"


async def _create(client: Client) -> bool:
    try:
        await _limited(client, "DescribeTable")
    except MissingTableError:
        pass
    else:
        return False
    index = {"IndexName": INDEX, "KeySchema": INDEX_SCHEMA, "Projection": {"ProjectionType": "ALL"}}
    try:
        await _limited(
            client,
            "CreateTable",
            KeySchema=KEY_SCHEMA,
            AttributeDefinitions=ATTRIBUTES,
            BillingMode="PAY_PER_REQUEST",
            GlobalSecondaryIndexes=[index],
        )
    except RefusedError as error:
        if error.code != "ResourceInUseException":  # another is making it, or the first try had done it
            raise
        return False
    return True


async def _wait_until_active(client: Client) -> None:
    async def active() -> bool:
        try:
            table = (await _limited(client, "DescribeTable"))["Table"]
        except MissingTableError:  # just made: descriptions are eventually consistent
            return False
        return _matches(client, table)

    await _until(active, "The table is still being made; run `hello migrate` again later.")


def _matches(client: Client, table: Any) -> bool:
    """Return whether the table and its index are active; raise StoreError where they are others."""
    indexes = {index["IndexName"]: index for index in table.get("GlobalSecondaryIndexes", [])}
    index = indexes.get(INDEX)
    if (
        index is None
        or _sorted(table["KeySchema"]) != _sorted(KEY_SCHEMA)
        or _sorted(index["KeySchema"]) != _sorted(INDEX_SCHEMA)
        or index["Projection"]["ProjectionType"] != "ALL"
        or any(attribute not in table["AttributeDefinitions"] for attribute in ATTRIBUTES)
    ):
        raise StoreError(
            f"The table {client.table} has another key or index than hello needs. Nothing was changed."
        )
    return bool(table["TableStatus"] == index.get("IndexStatus") == "ACTIVE")


def _sorted(schema: list[dict[str, str]]) -> list[tuple[str, str]]:
    return sorted((part["AttributeName"], part["KeyType"]) for part in schema)


async def _recover_to_any_point(client: Client) -> None:
    """Have AWS keep the last 35 days for recovery; where that can't be, say so and go on."""

    async def on() -> bool:
        try:
            await _limited(
                client,
                "UpdateContinuousBackups",
                PointInTimeRecoverySpecification={"PointInTimeRecoveryEnabled": True},
            )
        except RefusedError as error:
            if error.code == "ContinuousBackupsUnavailableException":  # the table is too new
                return False
            raise
        return True

    try:
        await _until(on, "Backups are not available yet.")
    except StoreError as error:
        logger.warning("point-in-time recovery of the table %s is not switched on: %s", client.table, error)


async def _set_version(client: Client) -> None:
    try:
        await client.call(
            "PutItem",
            Item={**ITEM_KEY, "version": {"N": str(VERSION)}},
            ConditionExpression="attribute_not_exists(#version) OR #version < :version",
            ExpressionAttributeNames={"#version": "version"},
            ExpressionAttributeValues={":version": {"N": str(VERSION)}},
        )
    except RefusedError as error:
        if error.code != "ConditionalCheckFailedException":
            raise
        await check(client)  # another has set it meanwhile


async def _limited(client: Client, action: str, **payload: Any) -> Any:
    with client.time_limit():
        return await client.call(action, **payload)


async def _until(condition: Callable[[], Awaitable[bool]], late: str) -> None:
    deadline = asyncio.get_running_loop().time() + ACTIVE_SECONDS
    while not await condition():
        if asyncio.get_running_loop().time() > deadline:
            raise StoreUnavailableError(late)
        await asyncio.sleep(POLL_SECONDS)
