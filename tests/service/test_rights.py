"""Who may do what, over a real socket: each scope with each request, on both paths."""

import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from hello.keys import encode, new_key
from tests.conftest import Serve
from tests.support.commands import hello, refused
from tests.support.environment import until
from tests.support.fast_path import exchange, get, operations, put
from tests.support.issuer import Issuer
from tests.support.service import Answer, Service, connect

BODY = b'{"dateOfBirth":"1990-04-23"}'
JSON = {"Content-Type": "application/json"}
USUAL = {"X-Request-ID": "takes-the-usual-path"}

OPEN = ["/", "/hc", "/ready", "/version", "/openapi.json", "/docs", "/web/page.css"]

# What each request needs, as the contract's table has it.
REQUESTS = {
    "greet Zoe": ("GET", "/hello/Zoe", "read"),
    "head Zoe": ("HEAD", "/hello/Zoe", "read"),
    "greet Bob": ("GET", "/hello/Bob", "read"),
    "register Zoe": ("PUT", "/hello/Zoe", "write"),
    "register Bob": ("PUT", "/hello/Bob", "write"),
    "forget Zoe": ("DELETE", "/hello/zOE", "write"),
    "forget Bob": ("DELETE", "/hello/Bob", "write"),
    "list": ("GET", "/hello", "admin"),
    "head of list": ("HEAD", "/hello?limit=1", "admin"),
    "birthdays": ("GET", "/birthdays", "read"),
    "calendar": ("GET", "/birthdays.ics", "read"),
    "metrics": ("GET", "/metrics", "read"),
}
OWN = {"greet Zoe", "head Zoe", "register Zoe", "forget Zoe"}  # what `self` is about


@dataclass(frozen=True)
class Callers:
    """A service that has keys and an issuer, and the credentials of each kind of caller."""

    service: Service
    issuer: Issuer
    credentials: Mapping[str, str]

    def request(
        self, caller: str, method: str, target: str, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """Send a request with the caller's credentials; a PUT has a body."""
        fields = {**(JSON if method == "PUT" else {}), **(headers or {})}
        if credentials := self.credentials[caller]:
            fields["Authorization"] = f"Bearer {credentials}"
        return self.service.request(method, target, BODY if method == "PUT" else None, fields)


SCOPES = {
    "read": {"read"},
    "write": {"write"},
    "both": {"read", "write"},
    "admin": {"read", "write", "admin"},
    "token read": {"read"},
    "token write": {"write"},
    "token admin": {"read", "write", "admin"},
    "token self": {"self"},
    "token self and read": {"self", "read"},
    "token of no scope": set(),
    "token of other scopes": set(),
}
WRONG = ["nobody", "wrong", "expired", "digest", "token expired", "token of another audience"]


@pytest.fixture(scope="module")
def callers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callers]:
    """One service for all cells of the table, with Zoe and Bob."""
    issuer = Issuer().start()
    keys = {name: new_key(name, sorted(SCOPES[name])) for name in ("read", "write", "both", "admin")}
    keys["expired"] = new_key("expired", ["admin"], datetime.now(UTC) - timedelta(seconds=1))
    credentials = {
        **{name: secret for name, (secret, _) in keys.items()},
        "token read": issuer.token(scope="read"),
        "token write": issuer.token(scope="openid write profile"),
        "token admin": issuer.token(scp=["admin"]),
        "token self": issuer.token(scope="self", preferred_username="ZOE"),
        "token self and read": issuer.token(scope="self read", preferred_username="Zoe"),
        "token of no scope": issuer.token(preferred_username="Zoe"),
        "token of other scopes": issuer.token(scope="openid email READ reading", preferred_username="Zoe"),
        "nobody": "",
        "wrong": f"hello_{'A' * 43}",
        "digest": keys["admin"][1].sha256,
        "token expired": issuer.token(scope="admin", exp=int(time.time()) - 1),
        "token of another audience": issuer.token(scope="admin", aud="goodbye"),
    }
    folder = tmp_path_factory.mktemp("rights")
    entries = [entry for _, entry in keys.values()]
    (folder / "keys.json").write_bytes(b"[" + b",".join(map(encode, entries[1:])) + b"]")
    environment = {
        "HELLO_KEYS": encode(entries[0]).decode(),
        "HELLO_KEYS_FILE": str(folder / "keys.json"),
        "HELLO_OIDC_ISSUER": issuer.url,
        "HELLO_OIDC_AUDIENCE": issuer.audience,
        "HELLO_FAILURE_RATE": "100000/s",
    }
    service = Service(folder, environment=environment).start()
    yield Callers(service, issuer, credentials)
    service.stop()
    issuer.stop()


@pytest.fixture
def people(callers: Callers) -> None:
    """Zoe and Bob are registered, whatever another test did."""
    for name in ("Zoe", "Bob"):
        assert callers.request("admin", "PUT", f"/hello/{name}").status == 204


@pytest.mark.parametrize("path", ["fast", "usual"])
@pytest.mark.parametrize("what", REQUESTS)
@pytest.mark.parametrize("caller", SCOPES)
def test_a_caller_may_what_the_scopes_hold(
    callers: Callers, people: None, caller: str, what: str, path: str
) -> None:
    """With the scope the request is done; without, it is refused with 403, which names what is missing."""
    method, target, needed = REQUESTS[what]
    answer = callers.request(caller, method, target, USUAL if path == "usual" else None)
    own = what in OWN and "self" in SCOPES[caller]
    if needed in SCOPES[caller] or own:
        assert answer.status == (204 if method in {"PUT", "DELETE"} else 200)
        return
    assert answer.status == 403
    assert answer.headers["WWW-Authenticate"] == f'Bearer error="insufficient_scope", scope="{needed}"'
    if method != "HEAD":
        assert answer.json()["type"] == "/docs#forbidden"
        assert f"`{needed}`" in answer.json()["detail"]
        assert ("`self`" in answer.json()["detail"]) == ("self" in SCOPES[caller] and "/hello/" in target)


@pytest.mark.parametrize("path", ["fast", "usual"])
@pytest.mark.parametrize("what", REQUESTS)
@pytest.mark.parametrize("caller", WRONG)
def test_without_good_credentials_it_is_401(
    callers: Callers, people: None, caller: str, what: str, path: str
) -> None:
    """Whoever is nobody is told how to be somebody, and nothing is done."""
    method, target, _ = REQUESTS[what]
    answer = callers.request(caller, method, target, USUAL if path == "usual" else None)
    assert answer.status == 401
    challenge = "Bearer" if caller == "nobody" else 'Bearer error="invalid_token"'
    assert answer.headers["WWW-Authenticate"] == challenge
    if method != "HEAD":
        assert answer.headers["Content-Type"] == "application/problem+json"
        assert answer.json()["type"] == "/docs#unauthorized"
        assert callers.credentials[caller] not in answer.body.decode() or caller == "nobody"
    for name in ("Zoe", "Bob"):
        assert callers.request("read", "GET", f"/hello/{name}").status == 200


@pytest.mark.parametrize("caller", ["nobody", "wrong", "read", "token of no scope"])
@pytest.mark.parametrize("target", OPEN)
def test_what_tells_nothing_of_people_is_open(callers: Callers, target: str, caller: str) -> None:
    """Health, version, documents and the page's own files need no token, and mind no wrong one."""
    assert callers.request(caller, "GET", target).status == 200


@pytest.mark.parametrize(
    "authorization",
    [
        "{}",
        "Basic {}",
        "Bearer",
        "Bearer ",
        "Bearer {} {}",
        "Bearer {},",
        "Bearer {}\t.",
        "Bearer\t{}",
        "Bearer{}",
        "Token {}",
        'Bearer "{}"',
    ],
)
def test_the_header_is_bearer_and_one_secret(callers: Callers, authorization: str) -> None:
    """A good secret in another form is no credential."""
    secret = callers.credentials["admin"]
    answer = callers.service.get("/hello", {"Authorization": authorization.format(secret, secret)})
    assert answer.status == 401


@pytest.mark.parametrize("scheme", ["Bearer ", "bearer ", "BEARER ", "Bearer   "])
def test_the_scheme_is_spelled_in_any_case(callers: Callers, scheme: str) -> None:
    """As RFC 9110, 11.1, has it of schemes; spaces may be more than one."""
    secret = callers.credentials["admin"]
    assert callers.service.get("/hello", {"Authorization": scheme + secret}).status == 200


def test_plain_requests_take_the_fast_path(serve: Serve, issuer: Issuer) -> None:
    """With a key, or a token that was seen before, they go in batches as on an open service."""
    secret, entry = new_key("a", ["read", "write"])
    service = serve(
        *("--metrics", "open", "--oidc-issuer", issuer.url, "--oidc-audience", issuer.audience),
        environment={"HELLO_KEYS": encode(entry).decode()},
    )
    for credentials in (secret, issuer.token(scope="read write")):
        line = f"Authorization: Bearer {credentials}\r\n".encode()
        assert service.get("/birthdays", {"Authorization": f"Bearer {credentials}"}).status == 200
        before = operations(service)
        answers = exchange(service, put(fields=line)) + exchange(service, get(fields=line))
        assert [head[9:12] for head, _ in answers] == [b"204", b"200"]
        after = operations(service)
        assert [after[one] - before.get(one, 0) for one in ("get_many", "put_many")] == [1, 1]


def test_two_headers_are_none(callers: Callers) -> None:
    """Two credentials in one request are refused on both paths, though both be good."""
    line = f"Authorization: Bearer {callers.credentials['admin']}\r\n".encode()
    for fields in (line + line, line + line + b"X-Request-ID: usual\r\n"):
        [(head, _)] = exchange(callers.service, get(fields=fields))
        assert head.startswith(b"HTTP/1.1 401 ")


def test_a_calendar_gives_its_key_in_the_query(callers: Callers, people: None) -> None:
    """/birthdays.ics takes ?key=, of a key that may read; no other path does, and no token does."""
    service, credentials = callers.service, callers.credentials
    assert service.get(f"/birthdays.ics?key={credentials['read']}").status == 200
    assert service.get(f"/birthdays.ics?key={credentials['admin']}").status == 200
    assert service.get(f"/birthdays.ics?key={credentials['write']}").status == 403
    for wrong in ("", "wrong", "%ff", "%00", "Zo%C3%AB", credentials["token read"], credentials["expired"]):
        assert service.get(f"/birthdays.ics?key={wrong}").status == 401
    for target in ("/hello", "/birthdays", "/hello/Zoe"):
        assert service.get(f"{target}?key={credentials['admin']}").status == 401
    twice = service.get(f"/birthdays.ics?key={credentials['read']}&key={credentials['read']}")
    assert (twice.status, twice.json()["type"]) == (400, "/docs#parameter")


def test_the_header_counts_before_the_query(callers: Callers) -> None:
    """A wrong header is not made good by a good key in the query."""
    target = f"/birthdays.ics?key={callers.credentials['read']}"
    assert callers.request("wrong", "GET", target).status == 401


def test_logs_and_metrics_tell_names_and_no_secret(serve: Serve) -> None:
    """Each request is logged and counted under the name of its key; no secret is anywhere."""
    secret, entry = new_key("ci-runner", ["read"])
    service = serve("--access-log", "all", environment={"HELLO_KEYS": encode(entry).decode()})
    authorization = {"Authorization": f"Bearer {secret}"}
    assert service.get("/hello/Nobody", authorization).status == 404
    assert service.get(f"/birthdays.ics?key={secret}").status == 200
    assert service.get("/hello/Nobody", {"Authorization": f"Bearer {secret}x"}).status == 401
    metrics = service.get("/metrics", authorization).body.decode()
    assert 'hello_caller_requests_total{caller="ci-runner"} 2.0' in metrics
    until(lambda: len([e for e in service.log() if e["message"] == "request"]) == 4, "all to be logged")
    first, second, third, _ = (e for e in service.log() if e["message"] == "request")
    assert (first["caller"], second["caller"], "caller" in third) == ("ci-runner", "ci-runner", False)
    assert (third["address"], "address" in first) == ("127.0.0.1", False)
    service.stop()
    said = (service.folder / "log").read_text() + metrics
    assert secret not in said
    assert secret[:12] not in said
    assert entry.sha256 not in said


def test_the_audit_log_tells_who_it_was(serve: Serve, issuer: Issuer, tmp_path: Path) -> None:
    """The name of the key, or the token's subject, and the address that a trusted proxy names."""
    secret, entry = new_key("ci", ["write"])
    service = serve(
        *("--oidc-issuer", issuer.url, "--oidc-audience", issuer.audience, "--proxies", "127.0.0.1"),
        *("--audit-log", str(tmp_path / "audit.jsonl")),
        environment={"HELLO_KEYS": encode(entry).decode()},
    )
    token = issuer.token(scope="self", preferred_username="Zoe", sub="subject-7")
    for credentials in (secret, token):
        line = f"Authorization: Bearer {credentials}\r\nX-Forwarded-For: 198.51.100.9\r\n".encode()
        for fields in (line, line + b"X-Request-ID: usual\r\n"):
            [(head, _)] = exchange(service, put(fields=fields))
            assert head.startswith(b"HTTP/1.1 204 ")
    assert service.put("Zoe", "1990-04-23").status == 401
    assert service.put("Bob", "1990-04-23", {"Authorization": f"Bearer {token}"}).status == 403
    lines = [json.loads(line) for line in (tmp_path / "audit.jsonl").read_text().splitlines()]
    assert [line["caller"] for line in lines] == ["ci", "ci", "token:subject-7", "token:subject-7"]
    assert {(line["address"], line["username"]) for line in lines} == {("198.51.100.9", "zoe")}


@pytest.mark.parametrize(
    ("setting", "reads", "nobody"), [("open", 200, 200), ("read", 200, 401), ("admin", 403, 401)]
)
def test_metrics_have_a_setting_of_their_own(serve: Serve, setting: str, reads: int, nobody: int) -> None:
    """They take nothing, `read` or `admin`."""
    secret, entry = new_key("prometheus", ["read"])
    service = serve("--metrics", setting, environment={"HELLO_KEYS": encode(entry).decode()})
    assert service.get("/metrics").status == nobody
    assert service.get("/metrics", {"Authorization": f"Bearer {secret}"}).status == reads


@pytest.fixture(scope="module")
def open_service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service without keys and issuer, and Zoe."""
    service = Service(tmp_path_factory.mktemp("open")).start()
    assert service.put("Zoe", "1990-04-23").status == 204
    yield service
    service.stop()


def test_an_open_service_asks_nobody(open_service: Service) -> None:
    """Without keys and issuer all is done for everyone, whatever they send along."""
    for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic eA=="}):
        assert open_service.get("/hello", headers).status == 200
        assert open_service.get("/hello/Zoe", headers).status == 200
        assert open_service.get("/metrics", headers).status == 200


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.org"])
def test_beyond_loopback_it_wants_rights(host: str, tmp_path: Path) -> None:
    """Without keys, issuer or --open it listens on loopback only, and names the ways out."""
    said = refused("--host", host, folder=tmp_path)
    for way in ("--open", "--keys-file", "--oidc-issuer", "HELLO_OPEN"):
        assert way in said


def test_with_rights_it_listens_anywhere(serve: Serve) -> None:
    """Keys are enough to listen beyond loopback; a file of none is too, and lets nobody in."""
    secret, entry = new_key("a", ["read"])
    service = serve("--host", "0.0.0.0", environment={"HELLO_KEYS": encode(entry).decode()})
    service.url = service.url.replace("0.0.0.0", "127.0.0.1")
    assert service.get("/birthdays").status == 401
    assert service.get("/birthdays", {"Authorization": f"Bearer {secret}"}).status == 200
    assert any("in clear" in entry["message"] for entry in service.log())


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost", 200),
        ("localhost:5000", 200),
        ("LOCALHOST", 200),
        ("hello.localhost:80", 200),
        ("127.0.0.1:5000", 200),
        ("[::1]:5000", 200),
        ("192.0.2.7", 200),
        ("printer", 200),
        ("box.local", 200),
        ("evil.example", 421),
        ("evil.example.", 421),
        ("evil.example:5000", 421),
        ("127.0.0.1.evil.example", 421),
        ("localhost.evil.example:5000", 421),
        ("[::1].evil.example", 421),
    ],
)
@pytest.mark.parametrize("path", ["fast", "usual"])
def test_an_open_service_is_for_this_machine(
    open_service: Service, host: str, status: int, path: str
) -> None:
    """A web page that has its name lead to 127.0.0.1 (DNS rebinding) reads nothing here."""
    headers = {"Host": host, **(USUAL if path == "usual" else {})}
    answer = open_service.get("/hello/Zoe", headers)
    assert answer.status == status
    if status == 421:
        assert answer.json()["type"] == "/docs#host"


def test_a_service_told_to_be_open_minds_no_host(serve: Serve) -> None:
    """With --open a load balancer's name is as good as any."""
    service = serve("--open")
    service.put("Zoe", "1990-04-23")
    assert service.get("/hello/Zoe", {"Host": "hello.example.org"}).status == 200


def test_issuer_and_audience_go_together(tmp_path: Path) -> None:
    """One without the other would honour tokens that are for another service."""
    assert "--oidc-audience" in refused("--oidc-issuer", "https://id.example", folder=tmp_path)
    assert "--oidc-issuer" in refused("--oidc-audience", "hello", folder=tmp_path)
    assert "https" in refused("--oidc-issuer", "http://id.example", "--oidc-audience", "a", folder=tmp_path)


def test_an_issuer_that_is_down_makes_503(serve: Serve) -> None:
    """A token that can't be judged is no wrong one; keys go on, and tokens do once the issuer is back."""
    issuer = Issuer().start()
    token = issuer.token(scope="read")
    issuer.stop()
    secret, entry = new_key("a", ["read"])
    environment = {
        "HELLO_KEYS": encode(entry).decode(),
        "HELLO_OIDC_ISSUER": issuer.url,
        "HELLO_OIDC_AUDIENCE": issuer.audience,
    }
    service = serve(environment=environment)
    answer = service.get("/birthdays", {"Authorization": f"Bearer {token}"})
    assert (answer.status, answer.json()["type"]) == (503, "/docs#issuer-unavailable")
    assert int(answer.headers["Retry-After"]) > 0
    assert service.get("/birthdays", {"Authorization": f"Bearer {secret}"}).status == 200
    assert service.get("/ready").status == 200
    issuer.start()
    until(
        lambda: service.get("/birthdays", {"Authorization": f"Bearer {token}"}).status == 200, "tokens again"
    )
    issuer.stop()


def test_tokens_that_wait_for_a_slow_issuer_lock_no_key_out(serve: Serve, issuer: Issuer) -> None:
    """However many made-up tokens have the issuer asked, who has a key is served at once."""
    secret, entry = new_key("a", ["read"])
    service = serve(
        *("--oidc-issuer", issuer.url, "--oidc-audience", issuer.audience, "--max-in-flight", "20"),
        *("--failure-rate", "100000/s"),
        environment={"HELLO_KEYS": encode(entry).decode()},
    )
    issuer.fail("slow")
    head = b"GET /birthdays HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %b\r\n\r\n"
    connections = [connect(service) for _ in range(100)]
    for number, connection in enumerate(connections):
        connection.sendall(head % issuer.token(header={"kid": f"made-up-{number}"}).encode())
    for _ in range(20):
        assert service.get("/birthdays", {"Authorization": f"Bearer {secret}"}).status == 200
    issuer.fail(None)
    for connection in connections:
        connection.close()


def test_keys_change_without_a_restart(serve: Serve, tmp_path: Path) -> None:
    """A new key counts at once, and an old one until it is taken away; no valid request is refused."""
    old, old_entry = new_key("old", ["read"])
    path = tmp_path / "keys.json"
    path.write_bytes(encode(old_entry))
    service = serve("--keys-file", str(path))
    new, new_entry = new_key("new", ["read"])

    def status(secret: str) -> int:
        return service.get("/birthdays", {"Authorization": f"Bearer {secret}"}).status

    assert (status(old), status(new)) == (200, 401)
    path.write_bytes(encode(old_entry) + b"\n" + encode(new_entry))
    assert (status(new), status(old)) == (200, 200)
    path.write_bytes(encode(new_entry))
    until(lambda: status(old) == 401, "the old key to be refused")
    assert status(new) == 200
    path.write_bytes(b'[{"name":')
    until(
        lambda: any("the keys in force stay" in e["message"] for e in service.log()), "a word on the bad file"
    )
    path.unlink()
    assert status(new) == 200


def test_keys_that_are_wrong_are_said_at_the_start(tmp_path: Path) -> None:
    """A service that would know nobody, or not all, does not start."""
    assert "HELLO_KEYS is no entry" in refused(folder=tmp_path, environment={"HELLO_KEYS": "[1]"})
    assert "No such file" in refused("--keys-file", "nowhere.json", folder=tmp_path)


def test_key_commands(tmp_path: Path) -> None:
    """`new` prints secret and entry, `list` tells them apart, `check` knows whose a secret is."""
    made = hello("key", "new", "ci", "--scope", "read,write", folder=tmp_path)
    secret, entry = made.stdout.decode().splitlines()
    assert json.loads(entry).keys() == {"name", "scopes", "sha256"}
    assert secret not in made.stderr.decode()
    environment = {"HELLO_KEYS": entry}
    listed = hello("key", "list", folder=tmp_path, environment=environment)
    assert listed.stdout.decode().split() == ["ci", "read,write", "-", json.loads(entry)["sha256"][:12]]
    checked = hello("key", "check", folder=tmp_path, stdin=f"{secret}\n".encode(), environment=environment)
    assert (checked.returncode, checked.stdout) == (0, b"ci  read,write\n")
    for guess in (b"hello_x\n", b"\xff\xfe\n", b""):
        wrong = hello("key", "check", folder=tmp_path, stdin=guess, environment=environment)
        assert (wrong.returncode, wrong.stdout) == (1, b"")


def test_keys_are_saved_to_a_file(tmp_path: Path) -> None:
    """`--save` adds to the file, which only its owner may read, and prints nothing but the secret."""
    for name, days in (("a", "1"), ("b", "2")):
        made = hello(
            "key",
            "new",
            name,
            "--scope",
            "admin",
            "--days",
            days,
            "--save",
            "--keys-file",
            "k",
            folder=tmp_path,
        )
        assert made.returncode == 0
        assert len(made.stdout.splitlines()) == 1
        assert "hello_" in made.stdout.decode()
    assert (tmp_path / "k").stat().st_mode & 0o777 == 0o600
    listed = hello("key", "list", "--keys-file", "k", folder=tmp_path).stdout.decode().splitlines()
    assert [line.split()[0] for line in listed] == ["a", "b"]
    assert all(line.split()[2].endswith("Z") for line in listed)
    said = hello("key", "new", "c", "--scope", "admin", "--save", folder=tmp_path)
    assert (said.returncode, b"--keys-file" in said.stderr) == (2, True)
    assert said.stdout == b""
    for bad in (
        ["key", "new", "c d", "--scope", "read"],
        ["key", "new", "c", "--scope", "self"],
        ["key", "list"],
    ):
        assert hello(*bad, folder=tmp_path).returncode == 2
