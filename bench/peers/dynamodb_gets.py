"""The processor time of a GET from DynamoDB, in this process: `dynamodb_gets.py CLIENT URL NAMES SECONDS`.

It runs in the virtual environment of its client, on uvloop, with ten connections and as many tasks that ask
for people by chance. All clients read consistently, and give a date of birth as a date. Tuned: aiobotocore
does not validate its parameters. Prints the GETs and the seconds of processor time.
"""

import asyncio
import json
import random
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import date
from pathlib import Path

import uvloop

CONNECTIONS = 10
BATCH = 32  # as many as the bench's load lets come together
WARM_SECONDS = 0.5

Get = Callable[[Sequence[str]], Awaitable[Sequence[date]]]


@asynccontextmanager
async def hello(url: str) -> AsyncIterator[Get]:
    """Read by the store's `get`."""
    from hello.stores import open_store

    store = await open_store(url, timeout=10, connections=CONNECTIONS)

    async def get(names: Sequence[str]) -> Sequence[date]:
        person = await store.get(names[0])
        return [person.born]

    yield get
    await store.close()


@asynccontextmanager
async def hello_batches(url: str) -> AsyncIterator[Get]:
    """Read by the store's `get_many`."""
    from hello.stores import open_store

    store = await open_store(url, timeout=10, connections=CONNECTIONS)

    async def get(names: Sequence[str]) -> Sequence[date]:
        return [person.born for person in await store.get_many(names)]

    yield get
    await store.close()


@asynccontextmanager
async def aiobotocore(url: str) -> AsyncIterator[Get]:
    """Read by aiobotocore's `get_item`; it finds the endpoint and the credentials as hello does."""
    from aiobotocore.config import AioConfig
    from aiobotocore.session import get_session

    region, table = url.removeprefix("dynamodb://").split("/")
    config = AioConfig(max_pool_connections=CONNECTIONS, parameter_validation=False)
    async with get_session().create_client("dynamodb", region_name=region, config=config) as client:

        async def get(names: Sequence[str]) -> Sequence[date]:
            answer = await client.get_item(TableName=table, Key={"key": {"S": names[0]}}, ConsistentRead=True)
            return [date.fromisoformat(answer["Item"]["born"]["S"])]

        yield get


CLIENTS = {"hello": (hello, 1), "hello-batches": (hello_batches, BATCH), "aiobotocore": (aiobotocore, 1)}


async def measure(key: str, url: str, names: Sequence[str], seconds: float) -> dict[str, float]:
    """Return how many people were read, and in what processor time."""
    client, size = CLIENTS[key]
    async with client(url) as get:
        await _read(get, names, size, WARM_SECONDS)
        used = time.process_time()
        gets = await _read(get, names, size, seconds)
        return {"gets": gets, "cpu": time.process_time() - used}


async def _read(get: Get, names: Sequence[str], size: int, seconds: float) -> int:
    end = time.monotonic() + seconds

    async def read() -> int:
        gets = 0
        while time.monotonic() < end:
            found = await get(random.sample(names, size))
            if len(found) != size or not all(isinstance(born, date) for born in found):
                raise ValueError(f"{size} people were asked for: {found}")
            gets += size
        return gets

    return sum(await asyncio.gather(*(read() for _ in range(CONNECTIONS))))


if __name__ == "__main__":
    _, chosen, store, file, duration = sys.argv
    everyone = [line.lower() for line in Path(file).read_text().splitlines()]
    print(json.dumps(uvloop.run(measure(chosen, store, everyone, float(duration)))))
