"""Two services on one store: unique means unique, and all readers agree."""

import json
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.conftest import Serve
from tests.support.service import Answer, Service, everyone, letters, request
from tests.support.stores import STORES

PARALLEL = 50


@pytest.fixture(params=STORES)
def services(request: pytest.FixtureRequest, serve: Serve, tmp_path: Path) -> Sequence[Service]:
    """Two services, processes of their own, on one empty store."""
    url = str(request.getfixturevalue(f"{request.param}_url"))
    folders = [tmp_path / name for name in ("one", "other")]
    for folder in folders:
        folder.mkdir()
    return [serve(folder=folder, environment={"HELLO_STORE": url}) for folder in folders]


def at_once(services: Sequence[Service], usernames: Sequence[str], **headers: str) -> list[tuple[str, int]]:
    """PUT all at once, by turns to each service; return each one's date and status."""
    fields = {"Content-Type": "application/json"} | {
        name.replace("_", "-"): value for name, value in headers.items()
    }

    def put(number: int) -> tuple[str, int]:
        born = f"19{number:02}-04-23"
        body = json.dumps({"dateOfBirth": born}).encode()
        service = services[number % len(services)]
        return born, request(service.url, "PUT", f"/hello/{usernames[number]}", body, fields).status

    with ThreadPoolExecutor(len(usernames)) as pool:
        return list(pool.map(put, range(len(usernames))))


def seen(services: Sequence[Service], username: str) -> tuple[str, str]:
    """Return date of birth and greeting, which must be the same from each service, however often asked."""
    dates = [everyone(service)[username] for service in services for _ in range(3)]
    greetings = [service.get(f"/hello/{username}") for _ in range(10) for service in services]
    assert {greeting.status for greeting in greetings} == {200}
    assert len(set(dates)) == 1, dates
    bodies = {greeting.body for greeting in greetings}
    assert len(bodies) == 1, bodies
    return dates[0], bodies.pop().decode()


def test_one_of_many_creates(services: Sequence[Service]) -> None:
    """Of 50 create-only PUTs of one name one gets 204, the others 412; the one that won is stored."""
    for attempt in range(3):
        username = f"zoe{letters(attempt)}"
        puts = at_once(services, [username] * PARALLEL, If_None_Match="*")
        assert Counter(status for _, status in puts) == {204: 1, 412: PARALLEL - 1}
        [won] = [born for born, status in puts if status == 204]
        assert seen(services, username)[0] == won


def test_spellings_of_one_name_are_one(services: Sequence[Service]) -> None:
    """Upper case, lower case and the decomposed letter compete for the same key."""
    spellings = ["Zo%C3%AB", "zo%C3%AB", "ZO%C3%8B", "Zoe%CC%88"] * 5
    puts = at_once(services, spellings, If_None_Match="*")
    assert Counter(status for _, status in puts) == {204: 1, 412: len(spellings) - 1}
    [people] = [everyone(service) for service in services[:1]]
    assert list(people.values()) == [born for born, status in puts if status == 204]


def test_the_last_write_wins(services: Sequence[Service]) -> None:
    """Plain PUTs at once all get 204, and all readers see the same one of them; later ones take its place."""
    puts = at_once(services, ["Zoe"] * PARALLEL)
    assert {status for _, status in puts} == {204}
    assert seen(services, "Zoe")[0] in {born for born, _ in puts}
    for number in range(6):  # one after the other, by turns: whoever asks next sees the last
        writer, reader = services[number % 2], services[1 - number % 2]
        born = f"20{number:02}-{number + 1:02}-15"
        before: Answer = reader.get("/hello/Zoe")
        assert writer.put("Zoe", born).status == 204
        assert everyone(reader) == {"Zoe": born}
        assert reader.get("/hello/Zoe").body != before.body
        assert seen(services, "Zoe")[0] == born
