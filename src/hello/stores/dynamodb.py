"""People in one DynamoDB table.

The partition key is `key`. The index `birthdays` orders people by `birthday`, "MM-DD" and the key,
within one of 16 shards, crc32(key) % 16. A partition takes 1,000 write units and 3,000 read units a
second (AWS, "Best practices for designing and using partition keys effectively"). An item is below
1 KB, so a write is one unit, and a changed birthday two of the index. Sixteen shards take 16,000 index
writes a second, also of one popular day or an import in date order. A page of birthdays is 16 queries
in parallel, each of half a unit or more.

All reads are consistent but those of the index, which DynamoDB offers eventually consistent only: a
list of birthdays may trail a write by a moment.
"""

import asyncio
import heapq
import re
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar

from hello.birthday import Person
from hello.stores import dynamodb_schema
from hello.stores.base import Engine, Entry, Page, StoreError, StoreUnavailableError, reached
from hello.stores.dynamodb_client import Client, RefusedError, together
from hello.stores.dynamodb_items import SHARDS, item_of, key_of, person_of

P = ParamSpec("P")
T = TypeVar("T")

URL = re.compile(r"dynamodb://([a-z]{2}(?:-[a-z]+)+-[0-9])/([a-zA-Z0-9_.-]{3,255})")
READ_CHUNK, WRITE_CHUNK = 100, 25  # the most that BatchGetItem and BatchWriteItem take
PARALLEL_WRITES = 8
SLACK = 4  # items asked of each shard beyond its share of a page


def _operation(
    method: Callable[Concatenate["DynamoDBStore", P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate["DynamoDBStore", P], Coroutine[Any, Any, T]]:
    """Have an operation end within the time limit, all its requests, retries and pauses together.

    The schema is checked by the first one that reaches the table.
    """

    @wraps(method)
    async def run(store: "DynamoDBStore", /, *args: P.args, **kwargs: P.kwargs) -> T:
        if store.closed:
            raise StoreUnavailableError("The store is closed.")
        store.under_way += 1
        try:
            with store.client.time_limit():
                if not store.checked:
                    await dynamodb_schema.check(store.client)
                    store.checked = True
                return await method(store, *args, **kwargs)
        finally:
            store.ended()

    return run


class DynamoDBStore(Engine):
    """See `Store`. Open it with `DynamoDBStore.open`."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.checked = False
        self.closed = False
        self.under_way = 0
        self.at_rest = asyncio.Event()

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
        """Check the schema, which `hello migrate` makes; `connections`: see `Client`.

        Raises:
            StoreUnavailableError: the table can't be reached, and `patient` is not set.
            StoreError: the table is missing, or its schema newer.
        """
        return await reached(cls(_client(url, timeout, connections)), patient=patient)

    @classmethod
    async def migrate(cls, url: str, *, timeout: float) -> str:  # noqa: ASYNC109 - of each step
        client = _client(url, timeout, 1)
        try:
            return await dynamodb_schema.migrate(client)
        finally:
            await client.close()

    @classmethod
    async def compact(cls, url: str, *, timeout: float, pause: float) -> str:  # noqa: ASYNC109 - of each step
        return (
            "nothing to do: DynamoDB has no files to rewrite; backups have who was erased until they expire"
        )

    @_operation
    async def get(self, key: str) -> Person | None:
        return await self._get(key)

    @_operation
    async def get_many(self, keys: Sequence[str]) -> Sequence[Person | None]:
        if len(keys) == 1:
            return [await self._get(keys[0])]
        unique = list(dict.fromkeys(keys))
        found: dict[str, Person] = {}
        for part in await together(map(self._get_chunk, _chunks(unique, READ_CHUNK))):
            found |= part
        return [found.get(key) for key in keys]

    @_operation
    async def put(self, entry: Entry, *, create: bool = False) -> bool:
        if not create:
            await self._put(entry)
            return True
        try:
            await self.client.call(
                "PutItem",
                repeat=False,  # it would see its own effect
                Item=item_of(entry),
                ConditionExpression="attribute_not_exists(#key)",
                ExpressionAttributeNames={"#key": "key"},
            )
        except RefusedError as error:
            if error.code == "ConditionalCheckFailedException":
                return False
            raise
        return True

    @_operation
    async def put_many(self, entries: Sequence[Entry]) -> None:
        last = list({entry.key: entry for entry in entries}.values())
        if len(last) == 1:
            await self._put(last[0])
            return
        room = asyncio.Semaphore(PARALLEL_WRITES)

        async def write(chunk: Sequence[Entry]) -> None:
            async with room:
                requests = [{"PutRequest": {"Item": item_of(entry)}} for entry in chunk]
                await self.client.send_all("BatchWriteItem", requests, "UnprocessedItems")

        await together(map(write, _chunks(last, WRITE_CHUNK)))

    @_operation
    async def delete(self, key: str) -> bool:
        # Not repeated: it would find that nobody is there.
        answer = await self.client.call("DeleteItem", repeat=False, Key=key_of(key), ReturnValues="ALL_OLD")
        return bool(answer.get("Attributes"))

    @_operation
    async def people(self, limit: int, after: str | None = None) -> Page:
        start: dict[str, Any] = {"ExclusiveStartKey": key_of(after)} if after else {}
        items: list[Any] = []
        while len(items) <= limit:
            # One more tells whether a page follows, and one may be the schema's.
            page = await self.client.call("Scan", Limit=limit + 2 - len(items), ConsistentRead=True, **start)
            items += [item for item in page["Items"] if key_of(item["key"]["S"]) != dynamodb_schema.ITEM_KEY]
            if "LastEvaluatedKey" not in page:
                break
            start = {"ExclusiveStartKey": page["LastEvaluatedKey"]}
        return _page(items, limit, "key")

    @_operation
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

    @_operation
    async def ping(self) -> None:
        await self.client.call("GetItem", Key=dynamodb_schema.ITEM_KEY, ConsistentRead=True)

    async def close(self) -> None:
        self.closed = True
        if self.under_way:
            await self.at_rest.wait()
        await self.client.close()

    def ended(self) -> None:
        """Take down that an operation has ended."""
        self.under_way -= 1
        if self.closed and not self.under_way:
            self.at_rest.set()

    async def _get(self, key: str) -> Person | None:
        item = (await self.client.call("GetItem", Key=key_of(key), ConsistentRead=True)).get("Item")
        return person_of(item) if item else None

    async def _put(self, entry: Entry) -> None:
        await self.client.call("PutItem", Item=item_of(entry))

    async def _get_chunk(self, keys: Sequence[str]) -> dict[str, Person]:
        requests = {"Keys": [key_of(key) for key in keys], "ConsistentRead": True}
        answers = await self.client.send_all("BatchGetItem", requests, "UnprocessedKeys")
        items = [item for answer in answers for item in answer["Responses"].get(self.client.table, [])]
        return {item["key"]["S"]: person_of(item) for item in items}

    async def _between(self, start: str, last: str, wanted: int) -> list[Any]:
        """Return the first `wanted` items after `start` up to the day `last`, of all shards in order."""
        size = wanted // SHARDS + SLACK
        shards = await together(self._query(shard, start, last, size) for shard in range(SHARDS))
        heap = [(items[0]["birthday"]["S"], shard) for shard, (items, _) in enumerate(shards) if items]
        heapq.heapify(heap)
        found: list[Any] = []
        while heap and len(found) < wanted:
            position, shard = heapq.heappop(heap)
            items, more = shards[shard]
            found.append(items.popleft())
            if not items and more and len(found) < wanted:
                items, _ = shards[shard] = await self._query(shard, position, last, size)
            if items:
                heapq.heappush(heap, (items[0]["birthday"]["S"], shard))
        return found

    async def _query(self, shard: int, start: str, last: str, size: int) -> tuple[deque[Any], bool]:
        """Return up to `size` items of a shard, and whether there are more; none only at the end."""
        # BETWEEN counts both ends. What sorts next after a position has "\0" behind it; no key begins
        # with the last code point, so it ends the day.
        try:
            answer = await self.client.call(
                "Query",
                IndexName=dynamodb_schema.INDEX,
                KeyConditionExpression="#shard = :shard AND birthday BETWEEN :start AND :end",
                ExpressionAttributeNames={"#shard": "shard"},  # DynamoDB reserves the word
                ExpressionAttributeValues={
                    ":shard": {"N": str(shard)},
                    ":start": {"S": start + "\0" if len(start) > 5 else start},
                    ":end": {"S": last + "\U0010ffff"},
                },
                Limit=size,
            )
        except RefusedError as error:
            if error.code == "ValidationException":
                raise StoreError(
                    f"The table {self.client.table} lacks the index {dynamodb_schema.INDEX}: "
                    "run `hello migrate`."
                ) from error
            raise
        return deque(answer["Items"]), "LastEvaluatedKey" in answer


def _client(url: str, timeout: float, connections: int) -> Client:
    match = URL.fullmatch(url)
    if match is None:
        raise ValueError("not a DynamoDB URL")
    return Client(match[1], match[2], timeout, connections)


def _chunks(items: Sequence[T], size: int) -> list[Sequence[T]]:
    return [items[start : start + size] for start in range(0, len(items), size)]


def _page(items: list[Any], limit: int, position: str) -> Page:
    after = items[limit - 1][position]["S"] if len(items) > limit else None
    return Page([person_of(item) for item in items[:limit]], after)
