"""What is DynamoDB's own: the table and its schema, what an operation asks for, the shards."""

import asyncio
from collections import Counter
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path

import pytest

from hello.stores import Entry, StoreError, check_url, migrate, open_store
from tests.conftest import Serve
from tests.support.commands import AS_A_PROCESS, hello, refused
from tests.support.dynamodb import call, new_url, use
from tests.support.dynamodb_proxy import Call, Proxy, Reply, forward
from tests.support.service import letters

BORN = date(1990, 4, 23)
EVERYONE = [("01-01", "12-31")]
SHARDS = 16


@pytest.fixture
def emulator(dynamodb_server: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Use an emulator, and return its address."""
    use(dynamodb_server, monkeypatch)
    return dynamodb_server


def entry(name: str, born: date = BORN) -> Entry:
    return Entry(name, name.upper(), born)


async def checked(url: str) -> None:
    """Open a store as a command does, and close it again."""
    store = await open_store(url, timeout=30)
    await store.close()


# The schema


def test_migrating_many_times_and_at_once_makes_one_table(emulator: str) -> None:
    """Of eight at once all succeed, and one says that it made the table; a ninth keeps what is in it."""
    assert emulator
    url = new_url()

    async def eight() -> list[str]:
        return await asyncio.gather(*(migrate(url, timeout=30) for _ in range(8)))

    async def put_and_migrate() -> tuple[str, object]:
        store = await open_store(url, timeout=30)
        await store.put(entry("zoe"))
        said = await migrate(url, timeout=30)
        found = await store.get("zoe")
        await store.close()
        return said, found

    said = asyncio.run(eight())
    assert sorted(line.startswith("created") for line in said) == [False] * 7 + [True]
    again, found = asyncio.run(put_and_migrate())
    assert again.startswith("the table is there")
    assert found is not None
    table = call(url, "DescribeTable")["Table"]
    assert table["BillingModeSummary"]["BillingMode"] == "PAY_PER_REQUEST"
    assert [index["IndexName"] for index in table["GlobalSecondaryIndexes"]] == ["birthdays"]


def test_point_in_time_recovery_is_switched_on(moto_url: str) -> None:
    """A table that `hello migrate` made can be brought back to any moment of the last weeks."""
    backups = call(moto_url, "DescribeContinuousBackups")["ContinuousBackupsDescription"]
    assert backups["PointInTimeRecoveryDescription"]["PointInTimeRecoveryStatus"] == "ENABLED"


def test_a_newer_schema_is_refused_and_left_alone(emulator: str) -> None:
    """Serving, reading and migrating refuse it alike, and the version stays."""
    assert emulator
    url = new_url()
    asyncio.run(migrate(url, timeout=30))
    key = {"key": {"S": "#schema"}}
    call(url, "PutItem", Item={**key, "version": {"N": "99"}})
    for attempt in (checked(url), migrate(url, timeout=30)):
        with pytest.raises(StoreError, match=r"99.*Nothing was changed"):
            asyncio.run(attempt)
    assert call(url, "GetItem", Key=key, ConsistentRead=True)["Item"]["version"] == {"N": "99"}


def schema(*names: str) -> list[dict[str, str]]:
    """Return the key schema of a partition key and perhaps a sort key."""
    return [{"AttributeName": n, "KeyType": kind} for n, kind in zip(names, ("HASH", "RANGE"), strict=False)]


@pytest.mark.parametrize(
    ("key", "index_key", "projection"),
    [
        (["key"], [], ""),
        (["id"], ["shard", "birthday"], "ALL"),
        (["key", "born"], ["shard", "birthday"], "ALL"),
        (["key"], ["birthday", "shard"], "ALL"),
        (["key"], ["shard", "birthday"], "KEYS_ONLY"),
    ],
)
def test_a_table_of_another_kind_is_refused_and_left_alone(
    emulator: str, key: list[str], index_key: list[str], projection: str
) -> None:
    """With another key, without the index or with one that differs, it is not ours: nothing is added."""
    assert emulator
    url = new_url()
    index = {
        "IndexName": "birthdays",
        "KeySchema": schema(*index_key),
        "Projection": {"ProjectionType": projection},
    }
    call(
        url,
        "CreateTable",
        KeySchema=schema(*key),
        AttributeDefinitions=[
            {"AttributeName": name, "AttributeType": "N" if name == "shard" else "S"}
            for name in [*key, *index_key]
        ],
        BillingMode="PAY_PER_REQUEST",
        **({"GlobalSecondaryIndexes": [index]} if index_key else {}),
    )
    with pytest.raises(StoreError, match="Nothing was changed"):
        asyncio.run(migrate(url, timeout=30))
    assert call(url, "Scan")["Count"] == 0
    table = call(url, "DescribeTable")["Table"]
    assert len(table.get("GlobalSecondaryIndexes", [])) == bool(index_key)


def test_where_there_is_no_table_commands_say_how_to_make_it(
    dynamodb_server: str, tmp_path: Path, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Status 2, a line that names `hello migrate`, no traceback; and that command is all it takes."""
    use(dynamodb_server, monkeypatch)
    url = new_url()
    environment = {"HELLO_STORE": url}
    assert "hello migrate" in refused(folder=tmp_path, environment=environment, prefix=AS_A_PROCESS)
    for command in (["export"], ["birthdays"], ["import", "-"]):
        done = hello(*command, folder=tmp_path, environment=environment, stdin=b"")
        said = done.stderr.decode()
        assert (done.returncode, "hello migrate" in said, "Traceback" in said) == (2, True, False), said
    assert hello("migrate", folder=tmp_path, environment=environment).returncode == 0
    service = serve(environment=environment)
    assert service.put("Zoe", "1990-04-23").status == 204


@pytest.mark.parametrize(
    "url",
    [
        "dynamodb://",
        "dynamodb://s3cret",
        "dynamodb://eu-central-1/",
        "dynamodb://eu-central-1/no",
        "dynamodb://eu-central-1/s3cret/table",
        "dynamodb://eu-central-1/s3cret?endpoint=http://localhost",
        "dynamodb://key:s3cret@eu-central-1/hello",
        "dynamodb://EU-CENTRAL-1/s3cret",
        "dynamodb://eu-central-1/s3cret\n",
        f"dynamodb://eu-central-1/s3cret{'x' * 250}",
    ],
)
def test_a_url_of_no_table_is_refused_without_showing_it(url: str) -> None:
    """A URL of more or less than a region and a table's name is an error that shows a good one."""
    with pytest.raises(ValueError, match="dynamodb://eu-central-1/hello") as refusal:
        check_url(url)
    assert "s3cret" not in str(refusal.value)


# What is asked


def test_an_operation_is_one_request(dynamodb_url: str, proxy: Proxy) -> None:
    """Whatever concerns one person takes one request: reads are consistent, nothing is looked up before."""
    inconsistent: list[str] = []

    def watch(call: Call) -> Reply:
        asked = [call.payload, *call.payload.get("RequestItems", {}).values()]
        if call.action in {"GetItem", "BatchGetItem", "Scan"} and not any(
            isinstance(one, dict) and one.get("ConsistentRead") for one in asked
        ):
            inconsistent.append(call.action)
        return forward(call)

    async def operate() -> None:
        store = await open_store(dynamodb_url, timeout=30)
        proxy.answered.clear()
        await store.put(entry("zoe"))
        await store.put(entry("zoe"), create=True)
        await store.get("zoe")
        await store.get_many(["zoe"])
        await store.get_many(["zoe", "adam"])
        await store.put_many([entry("zoe")])
        await store.delete("zoe")
        await store.delete("zoe")
        await store.ping()
        await store.people(1000)
        await store.close()

    proxy.play = watch
    asyncio.run(operate())
    put, get, delete = "PutItem", "GetItem", "DeleteItem"
    assert proxy.actions == [put, put, get, get, "BatchGetItem", put, delete, delete, get, "Scan"]
    assert inconsistent == []


@pytest.mark.parametrize("same_day", [False, True])
@pytest.mark.parametrize("limit", [1, 100, 500])
def test_a_page_of_birthdays_reads_little_more_than_it_shows(
    dynamodb_url: str, proxy: Proxy, limit: int, same_day: bool
) -> None:
    """Queries of the index alone; of each shard its share of the page and a few, however many there are."""

    async def read() -> int:
        store = await open_store(dynamodb_url, timeout=30)
        days = (0 if same_day else number % 365 for number in range(1500))
        await store.put_many([entry(letters(n), BORN + timedelta(days=day)) for n, day in enumerate(days)])
        proxy.answered.clear()
        page = await store.birthdays(EVERYONE, limit)
        await store.close()
        return len(page.people)

    assert asyncio.run(read()) == limit
    assert set(proxy.actions) == {"Query"}
    assert SHARDS <= len(proxy.actions) <= 2.5 * SHARDS
    assert limit <= sum(answer["Count"] for _, answer in proxy.answered) <= 1.75 * limit + 5 * SHARDS


# Shards


@pytest.mark.parametrize("named", [letters, lambda n: f"user{letters(n)}", lambda n: chr(0x4E00 + n)])
def test_shards_share_the_people_of_one_day(
    dynamodb_url: str, proxy: Proxy, named: Callable[[int], str]
) -> None:
    """Of 10,000 people born on one day no shard has more than 1.5 times its share."""
    sent: Counter[str] = Counter()

    def take(call: Call) -> Reply:
        for requests in call.payload["RequestItems"].values():
            sent.update(request["PutRequest"]["Item"]["shard"]["N"] for request in requests)
        return 200, b'{"UnprocessedItems":{}}'

    async def put() -> None:
        store = await open_store(dynamodb_url, timeout=60)
        proxy.play = take
        await store.put_many([entry(named(number)) for number in range(10_000)])
        await store.close()

    asyncio.run(put())
    assert sum(sent.values()) == 10_000
    assert len(sent) == SHARDS
    assert max(sent.values()) <= 1.5 * 10_000 / SHARDS


# Restoring


def test_a_restored_table_is_a_store(moto_url: str) -> None:
    """A table restored as docs/dynamodb.md says opens under its new name, with all people and the index."""
    people = [entry(letters(number)) for number in range(50)]
    restored = f"{moto_url}-restored"

    async def fill() -> None:
        store = await open_store(moto_url, timeout=30)
        await store.put_many(people)
        await store.close()

    async def found() -> list[int]:
        store = await open_store(restored, timeout=30)
        lists = await store.people(100), await store.birthdays(EVERYONE, 100)
        await store.close()
        return [len(page.people) for page in lists]

    asyncio.run(fill())
    source, target = (url.rpartition("/")[2] for url in (moto_url, restored))
    payload = {"SourceTableName": source, "TargetTableName": target, "UseLatestRestorableTime": True}
    call(moto_url, "RestoreTableToPointInTime", **payload)
    assert asyncio.run(found()) == [50, 50]
    assert asyncio.run(migrate(restored, timeout=30)).startswith("the table is there")
