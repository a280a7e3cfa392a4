"""Rate limits of a running service: by key, by address, and after failed authentication."""

import pytest

from hello.keys import encode, new_key
from tests.conftest import Serve
from tests.support.environment import until
from tests.support.service import JSON, Service

BODY = b'{"dateOfBirth":"1990-04-23"}'


USUAL = {"X-Request-ID": "takes-the-usual-path"}


Limited = tuple[Service, dict[str, str], dict[str, str]]  # a service, and the headers of two keys


@pytest.fixture
def limited(serve: Serve) -> Limited:
    """A service with limits that take long to come back, and two keys."""
    (one, first), (two, second) = new_key("one", ["admin"]), new_key("two", ["admin"])
    service = serve(
        *("--key-rate", "5/h", "--address-rate", "12/h", "--failure-rate", "3/h", "--proxies", "127.0.0.1"),
        environment={"HELLO_KEYS": (encode(first) + b"\n" + encode(second)).decode()},
    )
    return service, {"Authorization": f"Bearer {one}"}, {"Authorization": f"Bearer {two}"}


@pytest.mark.parametrize("path", ["fast", "usual"])
@pytest.mark.parametrize("method", ["GET", "PUT"])
def test_requests_are_limited_by_key_and_by_address(limited: Limited, path: str, method: str) -> None:
    """Up to the rate they are answered and told what is left; then they are 429, until later."""
    service, one, two = limited
    extra = {**(USUAL if path == "usual" else {}), **(JSON if method == "PUT" else {})}
    body = BODY if method == "PUT" else None

    def ask(key: dict[str, str], address: str) -> tuple[int, str | None]:
        headers = {**key, **extra, "X-Forwarded-For": address}
        answer = service.request(method, "/hello/Zoe", body, headers)
        if answer.status == 429:
            assert answer.json()["type"] == "/docs#rate"
            assert int(answer.headers["Retry-After"]) > 60
        return answer.status, answer.headers["RateLimit"]

    good = 204 if method == "PUT" else 404
    for left in (4, 3, 2, 1, 0):
        status, told = ask(one, "198.51.100.1")
        assert status == good
        assert told is not None
        assert f'"key";r={left};t=' in told
        assert f'"address";r={left + 7};t=' in told
    for _ in range(3):
        assert ask(one, "198.51.100.1")[0] == 429
    assert ask(one, "198.51.100.2")[0] == 429, "from anywhere"
    assert ask(two, "198.51.100.3")[0] == good, "another key is not held to it"
    status, told = ask(two, "198.51.100.1")
    assert told is not None
    assert '"address";r=3;' in told, "each of the nine took one"
    for _ in range(20):
        status, told = ask(two, "198.51.100.1")
        if status == 429 and told is not None and told.startswith('"address"'):
            break
    else:
        pytest.fail("the address was never limited")
    assert service.get("/hc", {"X-Forwarded-For": "198.51.100.1"}).status == 200
    assert service.get("/ready", {"X-Forwarded-For": "198.51.100.1"}).status == 200
    assert service.get("/version", {"X-Forwarded-For": "198.51.100.1"}).status == 429


def test_wrong_credentials_are_limited_harder(
    limited: Limited,
) -> None:
    """After a few 401 comes 429, for that address; who has a good key is never locked out by it."""
    service, one, _ = limited
    wrong = {"Authorization": "Bearer hello_wrong"}
    statuses = [
        service.get("/hello/Zoe", {**wrong, "X-Forwarded-For": "198.51.100.1"}).status for _ in range(5)
    ]
    assert statuses == [401, 401, 401, 429, 429]
    assert service.get("/birthdays.ics?key=wrong", {"X-Forwarded-For": "198.51.100.1"}).status == 429
    assert service.get("/hello/Zoe", {**wrong, "X-Forwarded-For": "198.51.100.2"}).status == 401
    assert service.get("/hello/Zoe", {**one, "X-Forwarded-For": "198.51.100.1"}).status == 404
    assert service.get("/hello/Zoe", {"X-Forwarded-For": "198.51.100.1"}).status == 401, "none is no guess"
    until(lambda: [e for e in service.log() if e.get("status") == 429], "the refusal to be logged")
    assert {e["address"] for e in service.log() if e.get("status") == 429} == {"198.51.100.1"}


def test_what_an_untrusted_peer_forwards_changes_nothing(serve: Serve) -> None:
    """Without --proxies the address is the peer's, whatever the headers say."""
    service = serve("--address-rate", "3/h")
    statuses = [service.get("/version", {"X-Forwarded-For": f"198.51.100.{i}"}).status for i in range(5)]
    assert statuses == [200, 200, 200, 429, 429]
    assert "Strict-Transport-Security" not in service.get("/hc", {"X-Forwarded-Proto": "https"}).headers


def test_https_up_to_the_proxy_is_told_to_browsers(serve: Serve) -> None:
    """Behind a proxy that ended TLS, the page has Strict-Transport-Security."""
    service = serve("--proxies", "127.0.0.0/8")
    service.put("Zoe", "1990-04-23")
    for target in ("/", "/hello/Zoe", "/hello/Zoe?tz=UTC"):
        page = service.get(target, {"Accept": "text/html", "X-Forwarded-Proto": "https"})
        assert page.headers.get_all("Strict-Transport-Security") == ["max-age=31536000"]
    assert "Strict-Transport-Security" not in service.get("/", {"Accept": "text/html"}).headers
