"""Every route and pipelined requests, on every store."""

import json
from datetime import date

import pytest

from tests.e2e.client import PAGES, Client, greeting, path_of
from tests.e2e.conftest import NewName, Problem


@pytest.mark.parametrize(("target", "kind"), PAGES)
def test_each_path_answers(client: Client, target: str, kind: str) -> None:
    """Each path of the contract answers 200, in its media type."""
    answer = client.get(target)
    assert (answer.status, answer.content_type) == (200, kind)
    if kind == "application/json":
        answer.json()


@pytest.mark.parametrize("target", [target for target, _ in PAGES])
def test_head_is_get_without_a_body(client: Client, target: str) -> None:
    """HEAD answers with GET's status and header fields, and no body; the connection can be used on."""
    head, get = client.send("HEAD", target), client.get(target)
    assert (head.status, head.body) == (200, b"")
    assert head.headers["Content-Type"] == get.headers["Content-Type"]
    if target not in {"/metrics", "/hello", "/birthdays"} and "Content-Length" in head.headers:
        assert head.headers["Content-Length"] == get.headers["Content-Length"]
    received = client.exchange(client.head("HEAD", target.encode()), ["HEAD"])
    assert received[0].status == 200


def test_head_of_a_person(client: Client, person: str, problem: Problem) -> None:
    """HEAD of a person has the ETag and the length of the greeting; its errors have no body either."""
    head, get = client.send("HEAD", person), client.get(person)
    assert (head.status, head.body) == (200, b"")
    for field in ("ETag", "Content-Type", "Content-Length"):
        assert head.headers[field] == get.headers[field]
    assert client.send("HEAD", person, headers={"If-None-Match": get.headers["ETag"]}).status == 304
    client.send("DELETE", person)
    gone = client.send("HEAD", person)
    assert (gone.status, gone.body) == (404, b"")
    assert gone.content_type == "application/problem+json"
    problem(client.get(person), 404)


def test_pipelined_requests_are_answered_in_order(
    client: Client, new_name: NewName, noon: str, today: date
) -> None:
    """Requests sent without waiting get their answers in order, each write seen by the next read."""
    name = new_name()
    body = json.dumps({"dateOfBirth": str(today.replace(year=1992))}).encode()
    path = path_of(name).encode()
    put = client.head(
        "PUT", path, b"Content-Type: application/json", b"Content-Length: %d" % len(body), close=False
    )
    get = client.head("GET", path + noon.encode(), close=False)
    data = get + put + body + get + client.head("HEAD", path, close=False)
    data += client.head("GET", b"/nothing", close=False) + client.head("DELETE", path, close=False) + get
    data += get * 20 + client.head("GET", b"/hc")
    methods = ["GET", "PUT", "GET", "HEAD", "GET", "DELETE", "GET", *["GET"] * 20, "GET"]
    answers = client.exchange(data, methods)
    assert [a.status for a in answers] == [404, 204, 200, 200, 404, 204, 404, *[404] * 20, 200]
    assert answers[2].message == greeting(name, 0)
    assert answers[-1].json() == {"status": "ok"}
