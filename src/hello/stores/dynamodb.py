"""People in one DynamoDB table.

The partition key is `key`. The index `birthdays` orders people by `birthday`, "MM-DD" and the key,
within one of 16 shards, crc32(key) % 16. A partition takes 1,000 write units and 3,000 read units a
second (AWS, "Burst and adaptive capacity"); an item is below 1 KB, so a write is one unit, and a changed
birthday two of the index. Sixteen shards take 16,000 index writes a second, also of one popular day or
an import in date order. A page of birthdays is 16 queries in parallel, each of half a unit or more.

All reads are consistent but those of the index, which DynamoDB offers eventually consistent only: a
list of birthdays may trail a write by a moment.
"""

import asyncio
import heapq
import logging
import random
import re
from collections.abc import Awaitable, Sequence
from datetime import date
from typing import Any
from zlib import crc32

from hello.birthday import Person
from hello.stores.base import Engine, Entry, Page, StoreError, StoreUnavailableError
from hello.stores.dynamodb_client import FIRST_PAUSE, Client, RefusedError

logger = logging.getLogger("hello.stores")

URL = re.compile(r"dynamodb://([a-z]{2}(?:-[a-z]+)+-[0-9])/([a-zA-Z0-9_.-]{3,255})")
SHARDS = 16
SCHEMA_VERSION = 1
SCHEMA_KEY = "#schema"  # no username has "#"
INDEX = "birthdays"
KEY_SCHEMA = [{"AttributeName": "key", "KeyType": "HASH"}]
INDEX_SCHEMA = [
    {"AttributeName": "shard", "KeyType": "HASH"},
    {"AttributeName": "birthday", "KeyType": "RANGE"},
]
READ_CHUNK, WRITE_CHUNK = 100, 25  # the most that BatchGetItem and BatchWriteItem take
PARALLEL_WRITES = 8
SLACK = 4  # items asked of each shard beyond its share of a page
TABLE_SECONDS = 120  # for a table to become active


class DynamoDBStore(Engine):
    """See `Store`. Open it with `DynamoDBStore.open`."""

    def __init__(self, client: Client, table: str) -> None:
        self._client = client
        self._table = table

    @classmethod
    def check_url(cls, url: str) -> None:
        if not URL.fullmatch(url):
            raise ValueError("A DynamoDB URL is dynamodb://REGION/TABLE: dynamodb://eu-central-1/hello.")

    @classmethod
    async def open(
        cls,
        url: str,
        *,
        timeout: float,  # noqa: ASYNC109 - of each operation to come
        create: bool = True,
        patient: bool = False,
        connections: int = 10,
    ) -> "DynamoDBStore":
        store = cls._of(url, timeout, connections)
        try:
            await store._check_version()
        except StoreUnavailableError as error:
            if patient:
                logger.warning("store: %s Trying on.", error)
                return store
            await store.close()
            raise
        except BaseException:
            await store.close()
            raise
        return store

    @classmethod
    async def migrate(cls, url: str, *, timeout: float) -> str:  # noqa: ASYNC109 - of each step
        store = cls._of(url, timeout, 10)
        try:
            return await store._migrate()
        finally:
            await store.close()

    @classmethod
    def _of(cls, url: str, timeout: float, connections: int) -> "DynamoDBStore":
        match = URL.fullmatch(url)
        if match is None:
            raise ValueError("not a DynamoDB URL")
        return cls(Client(match[1], timeout, connections), match[2])

    async def get(self, key: str) -> Person | None:
        item = (await self._call("GetItem", Key=_key(key), ConsistentRead=True)).get("Item")
        return _person(item) if item else None

    async def get_many(self, keys: Sequence[str]) -> Sequence[Person | None]:
        if len(keys) == 1:
            return [await self.get(keys[0])]
        unique = list(dict.fromkeys(keys))
        chunks = [unique[start : start + READ_CHUNK] for start in range(0, len(unique), READ_CHUNK)]
        found: dict[str, Person] = {}
        for part in await asyncio.gather(*map(self._get_chunk, chunks)):
            found |= part
        return [found.get(key) for key in keys]

    async def people(self, limit: int, after: str | None = None) -> Page:
        start: dict[str, Any] = {"ExclusiveStartKey": _key(after)} if after else {}
        items: list[Any] = []
        while len(items) <= limit:
            page = await self._call("Scan", Limit=limit + 2 - len(items), ConsistentRead=True, **start)
            items += [item for item in page["Items"] if item["key"]["S"] != SCHEMA_KEY]
            if "LastEvaluatedKey" not in page:
                break
            start = {"ExclusiveStartKey": page["LastEvaluatedKey"]}
        return _page(items, limit, "key")

    async def birthdays(
        self, ranges: Sequence[tuple[str, str]], limit: int, after: str | None = None
    ) -> Page:
        items: list[Any] = []
        for first, last in ranges:
            if after is None:
                start = first
            elif first <= after[:5] <= last:
                start, after = after, None
            else:
                continue  # a range that the earlier pages have given
            items += await self._between(start, last, limit + 1 - len(items))
            if len(items) > limit:
                break
        return _page(items, limit, "birthday")

    async def put(self, entry: Entry, *, create: bool = False) -> bool:
        if not create:
            await self._call("PutItem", Item=_item(entry))
            return True
        try:
            await self._call(
                "PutItem",
                repeat=False,  # it would see its own effect
                Item=_item(entry),
                ConditionExpression="attribute_not_exists(#key)",
                ExpressionAttributeNames={"#key": "key"},
            )
        except RefusedError as error:
            if error.code == "ConditionalCheckFailedException":
                return False
            raise
        return True

    async def put_many(self, entries: Sequence[Entry]) -> None:
        last = list({entry.key: entry for entry in entries}.values())
        if len(last) == 1:
            await self.put(last[0])
            return
        room = asyncio.Semaphore(PARALLEL_WRITES)
        chunks = [last[start : start + WRITE_CHUNK] for start in range(0, len(last), WRITE_CHUNK)]

        async def write(chunk: Sequence[Entry]) -> None:
            async with room:
                requests = [{"PutRequest": {"Item": _item(entry)}} for entry in chunk]
                await self._batch("BatchWriteItem", {self._table: requests}, "UnprocessedItems")

        await asyncio.gather(*map(write, chunks))

    async def delete(self, key: str) -> bool:
        answer = await self._call("DeleteItem", repeat=False, Key=_key(key), ReturnValues="ALL_OLD")
        return bool(answer.get("Attributes"))

    async def ping(self) -> None:
        await self._call("GetItem", Key=_key(SCHEMA_KEY), ConsistentRead=True)

    async def close(self) -> None:
        await self._client.close()

    async def _call(self, action: str, *, repeat: bool = True, **payload: Any) -> Any:
        try:
            return await self._client.call(action, {"TableName": self._table, **payload}, repeat=repeat)
        except RefusedError as error:
            if error.code == "ResourceNotFoundException":
                raise StoreError(
                    f"There is no table {self._table}, or it lacks the index; run `hello migrate`."
                ) from error
            raise

    async def _batch(self, action: str, requests: Any, left: str) -> list[Any]:
        answers = []
        pause = FIRST_PAUSE
        while requests:
            answers.append(await self._client.call(action, {"RequestItems": requests}))
            requests = answers[-1].get(left)
            if requests:
                await asyncio.sleep(random.uniform(0, pause))  # noqa: S311 - full jitter
                pause = min(pause * 2, 1)
        return answers

    async def _get_chunk(self, keys: Sequence[str]) -> dict[str, Person]:
        requests = {self._table: {"Keys": [_key(key) for key in keys], "ConsistentRead": True}}
        answers = await self._batch("BatchGetItem", requests, "UnprocessedKeys")
        items = [item for answer in answers for item in answer["Responses"].get(self._table, [])]
        return {item["key"]["S"]: _person(item) for item in items}

    async def _between(self, start: str, last: str, wanted: int) -> list[Any]:
        """Return the first `wanted` items after `start` up to the day `last`, of all shards in order."""
        size = wanted // SHARDS + SLACK
        shards = [_Shard(self._query(shard, start, last, size)) for shard in range(SHARDS)]
        await asyncio.gather(*(shard.fill() for shard in shards))
        heap = [
            (shard.items[0]["birthday"]["S"], number) for number, shard in enumerate(shards) if shard.items
        ]
        heapq.heapify(heap)
        found: list[Any] = []
        while heap and len(found) < wanted:
            position, number = heapq.heappop(heap)
            shard = shards[number]
            found.append(shard.items.pop(0))
            if not shard.items and shard.more:
                shard.query = self._query(number, position, last, size)
                await shard.fill()
            if shard.items:
                heapq.heappush(heap, (shard.items[0]["birthday"]["S"], number))
        return found

    def _query(self, shard: int, start: str, last: str, size: int) -> Awaitable[Any]:
        # BETWEEN counts both ends. What sorts next after a position has "\0" behind it; no key begins
        # with the last code point, so it ends the day.
        return self._call(
            "Query",
            IndexName=INDEX,
            KeyConditionExpression="shard = :shard AND birthday BETWEEN :start AND :end",
            ExpressionAttributeValues={
                ":shard": {"N": str(shard)},
                ":start": {"S": start + "\0" if len(start) > 5 else start},
                ":end": {"S": last + "\U0010ffff"},
            },
            Limit=size,
        )

    async def _check_version(self) -> None:
        item = (await self._call("GetItem", Key=_key(SCHEMA_KEY), ConsistentRead=True)).get("Item")
        version = int(item["version"]["N"]) if item else SCHEMA_VERSION
        if version > SCHEMA_VERSION:
            raise StoreError(
                f"The table has schema version {version}, and this hello knows {SCHEMA_VERSION}. "
                "Nothing was changed."
            )

    async def _migrate(self) -> str:
        created = await self._create()
        await self._wait_until_active()
        await self._check_version()
        item = {**_key(SCHEMA_KEY), "version": {"N": str(SCHEMA_VERSION)}}
        await self._call("PutItem", Item=item)
        return f"{'created the table' if created else 'the table is there'}, schema version {SCHEMA_VERSION}"

    async def _create(self) -> bool:
        kinds = {"key": "S", "shard": "N", "birthday": "S"}
        index = {"IndexName": INDEX, "KeySchema": INDEX_SCHEMA, "Projection": {"ProjectionType": "ALL"}}
        try:
            await self._call("DescribeTable")
        except StoreError as error:
            if isinstance(error, StoreUnavailableError) or not isinstance(error.__cause__, RefusedError):
                raise
        else:
            return False
        try:
            await self._call(
                "CreateTable",
                KeySchema=KEY_SCHEMA,
                AttributeDefinitions=[
                    {"AttributeName": name, "AttributeType": kind} for name, kind in kinds.items()
                ],
                BillingMode="PAY_PER_REQUEST",
                GlobalSecondaryIndexes=[index],
            )
        except RefusedError as error:
            if error.code != "ResourceInUseException":  # another is making it
                raise
            return False
        return True

    async def _wait_until_active(self) -> None:
        deadline = asyncio.get_running_loop().time() + TABLE_SECONDS
        while True:
            table = (await self._call("DescribeTable"))["Table"]
            indexes = {index["IndexName"]: index for index in table.get("GlobalSecondaryIndexes", [])}
            index = indexes.get(INDEX)
            if table["KeySchema"] != KEY_SCHEMA or index is None or index["KeySchema"] != INDEX_SCHEMA:
                raise StoreError(
                    f"The table {self._table} has another key or index than hello needs. Nothing was changed."
                )
            if table["TableStatus"] == index.get("IndexStatus") == "ACTIVE":
                return
            if asyncio.get_running_loop().time() > deadline:
                raise StoreUnavailableError("The table is still being made; run `hello migrate` again later.")
            await asyncio.sleep(0.2)


class _Shard:
    def __init__(self, query: Awaitable[Any]) -> None:
        self.query = query
        self.items: list[Any] = []
        self.more = False

    async def fill(self) -> None:
        answer = await self.query
        self.items = answer["Items"]
        self.more = "LastEvaluatedKey" in answer


def _key(key: str) -> dict[str, Any]:
    return {"key": {"S": key}}


def _item(entry: Entry) -> dict[str, Any]:
    born = entry.born.isoformat()
    return {
        "key": {"S": entry.key},
        "username": {"S": entry.username},
        "born": {"S": born},
        "shard": {"N": str(crc32(entry.key.encode()) % SHARDS)},
        "birthday": {"S": born[5:] + entry.key},
    }


def _person(item: Any) -> Person:
    return Person(item["username"]["S"], date.fromisoformat(item["born"]["S"]))


def _page(items: list[Any], limit: int, position: str) -> Page:
    after = items[limit - 1][position]["S"] if len(items) > limit else None
    return Page([_person(item) for item in items[:limit]], after)
