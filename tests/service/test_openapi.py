"""The OpenAPI document: the service does what it says, and it says what the service does."""

import asyncio
import http.client
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from datetime import date, timedelta
from io import BytesIO
from itertools import product
from pathlib import Path
from typing import Any

import jsonschema_rs
import msgspec
import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator
from starlette.routing import Route

from hello import openapi, problems, schema
from hello.app import create_app
from hello.keys import encode, new_key
from hello.routes import Routes
from hello.settings import Settings
from hello.stores import Store, open_store
from tests.conftest import Serve
from tests.support.commands import hello
from tests.support.environment import ROOT, until
from tests.support.service import JSON, Answer, Service, connect, locked, read_to_end

Object = dict[str, Any]
Saw = Callable[[str, int, Answer], Answer]

PEOPLE = ROOT / "examples" / "people.csv"
OF_RIGHTS = {"unauthorized", "forbidden", "issuer-unavailable"}
BODY = b'{"dateOfBirth":"1990-04-23"}'
PARAMETERS = {"tz": "Nowhere", "limit": "0", "after": "0123456789", "days": "-1"}  # each with a bad value


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service with people in it: more than a page of them, and a birthday on each day of the year."""
    service = Service(tmp_path_factory.mktemp("openapi"))
    days = [date(1992, 1, 1) + timedelta(days=n) for n in range(366)]
    rows = ["username,dateOfBirth", *(f"{day:%b}{'x' * day.day},{day}" for day in days)]
    assert hello("import", folder=service.folder, stdin="\n".join(rows).encode()).returncode == 0
    yield service.start()
    service.stop()


@pytest.fixture(scope="module")
def document(service: Service) -> Object:
    """The document as it is served."""
    served: Object = service.get("/openapi.json").json()
    return served


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A store to make applications of, whose routes alone are looked at: it is closed."""

    async def make() -> Store:
        store = await open_store(f"sqlite:///{tmp_path / 'routes.db'}", timeout=1)
        await store.close()
        return store

    return asyncio.run(make())


def operations(document: Object) -> Iterator[tuple[str, str, Object]]:
    """Yield method, path and description of each operation, the path's own parameters included."""
    for path, item in document["paths"].items():
        shared = item.get("parameters", [])
        for method in item.keys() - {"parameters"}:
            operation = item[method]
            yield method.upper(), path, {**operation, "parameters": shared + operation.get("parameters", [])}


def resolve(document: Object, value: Object) -> Object:
    """Follow a `$ref`, where the value is one."""
    while "$ref" in value:
        target: Any = document
        for part in value["$ref"].removeprefix("#/").split("/"):
            target = target[part]
        value = target
    return value


def objects(value: object) -> Iterator[Object]:
    """Yield each object in a JSON value."""
    if isinstance(value, dict):
        yield value
    for child in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from objects(child)


# The document as such


PHASES = ("examples", "coverage", "fuzzing", "stateful")


@pytest.mark.parametrize(
    ("phases", "examples"),
    [(PHASES, 20), pytest.param(PHASES, 100, marks=pytest.mark.full), (("examples", "coverage"), 20)],
    ids=["open", "open, many examples", "with keys"],
)
def test_schemathesis_finds_nothing(
    serve: Serve, document: Object, tmp_path: Path, phases: tuple[str, ...], examples: int
) -> None:
    """All its checks pass: in all phases on an open service; with keys, where it tries without them too."""
    assert hello("import", str(PEOPLE), folder=tmp_path).returncode == 0
    headers, environment = {}, {}
    if phases != PHASES:
        secret, entry = new_key("schemathesis", ["admin"])
        headers = {"Authorization": f"Bearer {secret}"}
        environment = {"HELLO_KEYS": encode(entry).decode(), "HELLO_FAILURE_RATE": "100000/s"}
    service = serve(environment=environment)
    report = tmp_path / "report.json"
    cursors = {
        path: service.get(f"{path}?limit=1&days=366", headers).json()["next"]
        for path in ("/hello", "/birthdays")
    }
    done = subprocess.run(
        [
            Path(sys.executable).with_name("schemathesis"),
            f"--config-file={ROOT / 'tests' / 'support' / 'schemathesis.toml'}",
            "run",
            f"{service.url}/openapi.json",
            "--checks=all",
            f"--phases={','.join(phases)}",
            f"--max-examples={examples}",
            "--no-color",
            f"--report-json-path={report}",
            *(f"--header={name}: {value}" for name, value in headers.items()),
        ],
        capture_output=True,
        cwd=tmp_path,
        env={**os.environ, "CURSORS": json.dumps(cursors), "PYTHONPATH": str(ROOT)},
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads(report.read_text())
    # The document's own path is the only one that it leaves out.
    labels = {f"{method} {path}" for method, path, _ in operations(document)} - {"GET /openapi.json"}
    assert result["operations"]["tested"] == len(labels)
    assert [result["phases"][phase]["status"] for phase in phases] == ["success"] * len(phases)
    accepted = "fuzzing" if "fuzzing" in phases else "coverage"
    assert {label for label, rates in result["valid_rates"].items() if rates[accepted]["accepted"]} == labels


def test_the_document_is_openapi_3_1(document: Object) -> None:
    """The document is what the specification's own schema and rules ask for."""
    assert document["openapi"] == "3.1.0"
    errors = [
        error
        for error in OpenAPIV31SpecValidator(document).iter_errors()
        # It compiles patterns with Python's re, which lacks the \p{…} of ECMA-262 that JSON Schema goes by.
        if (error.validator, error.validator_value) != ("format", "regex")
    ]
    assert errors == []


def test_examples_and_defaults_are_valid(document: Object) -> None:
    """Each example and each default in the document is one by the schema that it stands in."""
    checked = 0
    schemas = {"components": {"schemas": document["components"]["schemas"]}}
    for described in objects({**document, **schemas}):
        if isinstance(described.get("type"), str):
            validator = jsonschema_rs.validator_for({**described, **schemas}, validate_formats=True)
            for value in [*described.get("examples", ()), described.get("default")]:
                if value is not None:
                    validator.validate(value)
                    checked += 1
    assert checked


def test_each_route_is_described_and_nothing_else(store: Store, document: Object) -> None:
    """Paths and methods are those of the routes; only the files of the pages are left out."""
    table = create_app(Settings(), store).table
    described = {(method, path) for method, path, _ in operations(document)}
    routed = {
        (method, route.path)
        for route in table
        for method in (route.methods or set()) - {"HEAD"}
        if route.include_in_schema
    }
    assert described == routed
    hidden = [route.path for route in table if not route.include_in_schema]
    assert hidden == ["/web/{path:path}"]
    for route in table:
        assert ("HEAD" in (route.methods or set())) == ("GET" in (route.methods or set())), route.path


def test_a_route_without_a_description_is_an_error(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """No application is made while a route lacks its words, or words lack their route."""
    table = create_app(Settings(), store).table

    async def party(_: object) -> None: ...

    with monkeypatch.context() as patch:
        patch.setattr(Routes, "table", lambda _: [*table, Route("/party", party, methods=["POST"])])
        with pytest.raises(LookupError, match=r"not described: POST /party"):
            create_app(Settings(), store)
        patch.setattr(Routes, "table", lambda _: table[1:])
        with pytest.raises(LookupError, match=r"no route.*GET.*/hello/\{username\}"):
            create_app(Settings(), store)


def test_the_schemas_are_the_types(document: Object) -> None:
    """Each type of hello.schema is in the document, with its fields as they are encoded, and no other."""
    types = {
        name: value
        for name, value in vars(schema).items()
        if isinstance(value, type) and issubclass(value, msgspec.Struct) and value is not msgspec.Struct
    }
    schemas = document["components"]["schemas"]
    assert schemas.keys() == {*types, "Username"}
    for name, type_ in types.items():
        fields = {field.encode_name for field in msgspec.structs.fields(type_)}
        assert schemas[name]["properties"].keys() == fields, name
        assert set(schemas[name]["required"]) == fields, name
        closed = schemas[name].get("additionalProperties") is False
        assert closed == type_.__struct_config__.forbid_unknown_fields, name


def test_each_kind_of_problem_is_an_example(document: Object) -> None:
    """Each kind has its example, a valid one, which stands under an answer of its status."""
    components = document["components"]
    validator = jsonschema_rs.validator_for(
        {**components["schemas"]["Problem"], "additionalProperties": False}
    )
    assert components["examples"].keys() == {kind.slug for kind in problems.ALL_KINDS}
    for kind in problems.ALL_KINDS:
        value = components["examples"][kind.slug]["value"]
        validator.validate(value)
        assert value == msgspec.to_builtins(problems.problem(kind))
    used = set()
    for _, path, operation in operations(document):
        for status, response in operation["responses"].items():
            for slug in examples_of(resolve(document, response)):
                used.add(slug)
                assert status in {"default", str(components["examples"][slug]["value"]["status"])}, path
    assert used == components["examples"].keys()
    # What no operation is to blame for; each other kind stands with the operations that answer with it.
    assert examples_of(components["responses"]["Problem"]) == {
        "path",
        "method",
        "malformed",
        "uri-too-long",
        "headers-too-large",
        "unexpected",
        "host",
        "rate",
        *OF_RIGHTS,
    }


def test_a_service_with_rights_says_what_each_operation_takes(serve: Serve) -> None:
    """Each operation that takes a scope names it, and 401 and 403; the others name neither."""
    secret, entry = new_key("a", ["admin"])
    service = serve(environment={"HELLO_KEYS": encode(entry).decode()})
    document = service.get("/openapi.json").json()
    OpenAPIV31SpecValidator(document).validate()
    taken = {}
    for method, path, operation in operations(document):
        security = operation.get("security")
        assert OF_RIGHTS.isdisjoint(examples_of(document["components"]["responses"]["Problem"]))
        refusals = {slug for response in operation["responses"].values() for slug in examples_of(response)}
        assert (security is not None) == (refusals >= OF_RIGHTS), path
        if security is not None:
            taken[method, path] = security[0]["bearer"]
            assert ({"keyInQuery": security[0]["bearer"]} in security) == (path == "/birthdays.ics")
    assert taken == {
        ("GET", "/hello/{username}"): ["read"],
        ("PUT", "/hello/{username}"): ["write"],
        ("DELETE", "/hello/{username}"): ["write"],
        ("GET", "/hello"): ["admin"],
        ("GET", "/birthdays"): ["read"],
        ("GET", "/birthdays.ics"): ["read"],
        ("GET", "/metrics"): ["read"],
    }
    answer = service.get("/hello", {"Authorization": f"Bearer {secret}"})
    assert answer.status == 200


def examples_of(response: Object) -> set[str]:
    """Return the slugs of the problems that a described answer lists."""
    return set(response.get("content", {}).get(openapi.PROBLEM, {}).get("examples", ()))


# What is answered


class Witness:
    """Sends requests and holds each answer against the document; remembers what was seen."""

    def __init__(self, document: Object) -> None:
        self.statuses: set[tuple[str, str]] = set()  # operation and status
        self.slugs: set[str] = set()
        self._document = document
        self._by_id = {operation["operationId"]: operation for _, _, operation in operations(document)}

    def saw(self, operation: str, status: int, answer: Answer) -> Answer:
        """Check that the answer has this status, and is the one described for it."""
        assert answer.status == status, (operation, answer)
        responses = self._by_id[operation]["responses"]
        if str(status) in responses:
            self.statuses.add((operation, str(status)))
        self._check(resolve(self._document, responses.get(str(status), responses["default"])), answer)
        return answer

    def _check(self, described: Object, answer: Answer) -> None:
        for name in described.get("headers", {}).keys() - {"Retry-After"}:
            assert name in answer.headers, answer
        content = described.get("content", {})
        if not content:
            assert answer.body == b""
            assert answer.headers["Content-Type"] is None
            return
        media = content[answer.headers.get_content_type()]
        if "$ref" in media["schema"]:
            self._check_json(media["schema"]["$ref"].rpartition("/")[2], answer)
        else:
            assert answer.body.decode()
        if answer.headers.get_content_type() == openapi.PROBLEM:
            slug = answer.json()["type"].removeprefix("/docs#")
            assert slug in media["examples"]
            assert ("Retry-After" in answer.headers) == (answer.status == 503)
            self.slugs.add(slug)

    def _check_json(self, name: str, answer: Answer) -> None:
        schemas = json.loads(json.dumps(self._document["components"]["schemas"]))
        for described in objects(schemas):
            if described.get("type") == "object":
                described["additionalProperties"] = False
        strict = {"$ref": f"#/components/schemas/{name}", "components": {"schemas": schemas}}
        jsonschema_rs.validator_for(strict, validate_formats=True).validate(answer.json())
        # A field that the type does not know would be gone after a round trip.
        decoded = msgspec.json.decode(answer.body, type=getattr(schema, name))
        assert msgspec.json.encode(decoded) == answer.body


def test_each_described_answer_is_given_and_no_other(
    service: Service, serve: Serve, document: Object, tmp_path: Path
) -> None:
    """Each status of each operation is met, and status, type, body and header fields are as described."""
    witness = Witness(document)
    ask_for_everything(service, witness.saw)
    ask_for_what_is_not_there(service, witness.saw)
    ask_while_busy(
        serve("--max-in-flight=1", "--request-timeout=1", "--drain-seconds=60"), document, witness.saw
    )
    (other := tmp_path / "other").mkdir()
    impatient = serve("--store-timeout=0.1", folder=other)
    with locked(impatient.database):
        witness.saw("register", 503, impatient.put("Zoe", "1990-04-23"))

    assert witness.statuses == {
        (operation["operationId"], status)
        for _, _, operation in operations(document)
        for status in operation["responses"].keys() - {"default"}
    }
    # The first takes a defect; test_server.py, test_rights.py and test_limits.py meet the others.
    unmet = {"unexpected", "stopped", "host", "rate", *OF_RIGHTS}
    assert {kind.slug for kind in problems.ALL_KINDS} - witness.slugs == unmet


def ask_for_everything(service: Service, saw: Saw) -> None:
    """Meet what a service in good health answers."""
    get, put, request = service.get, service.put, service.request
    saw("register", 204, put("Zo%C3%AB", "1990-04-23"))
    saw("register", 400, put("R2D2", "1990-04-23"))
    saw("register", 400, put("Zo%C3%AB", "1990-04-31"))
    saw("register", 400, put("Zo%C3%AB?tz=Nowhere", "1990-04-23"))
    saw("register", 400, put("Zo%C3%AB?tz=UTC&tz=UTC", "1990-04-23"))
    saw("register", 400, put("Zo%C3%AB", "1990-04-23", {"If-Match": "*"}))
    saw("register", 400, request("PUT", "/hello/Zo%C3%AB", b"[]", JSON))
    saw("register", 412, put("Zo%C3%AB", "1990-04-23", {"If-None-Match": "*"}))
    saw("register", 413, request("PUT", "/hello/Zo%C3%AB", b" " * 5000, JSON))
    saw("register", 415, request("PUT", "/hello/Zo%C3%AB", BODY))
    greeting = saw("greet", 200, get("/hello/zo%C3%AB"))
    saw("greet", 304, get("/hello/zo%C3%AB", {"If-None-Match": greeting.headers["ETag"]}))
    for query in ("tz=Nowhere", "tz=UTC&tz=UTC"):
        saw("greet", 400, get(f"/hello/Zo%C3%AB?{query}"))
    saw("greet", 400, get("/hello/R2D2"))
    saw("greet", 404, get("/hello/Nobody"))
    saw("forget", 204, request("DELETE", "/hello/Zo%C3%AB"))
    saw("forget", 404, request("DELETE", "/hello/Zo%C3%AB"))
    saw("forget", 400, request("DELETE", "/hello/R2D2"))
    saw("forget", 400, request("DELETE", "/hello/Zo%C3%AB", headers={"If-Match": "*"}))
    for operation, path in (("listPeople", "/hello"), ("listBirthdays", "/birthdays")):
        first = saw(operation, 200, get(f"{path}?limit=2&days=366")).json()
        saw(operation, 200, get(f"{path}?limit=1000&days=366&after={first['next']}"))
        saw(operation, 400, get(f"{path}?limit=0"))
        saw(operation, 400, get(f"{path}?after=0123456789"))
    saw("listBirthdays", 400, get("/birthdays?tz=Nowhere"))
    saw("calendar", 200, get("/birthdays.ics"))
    saw("index", 200, get("/"))
    assert saw("index", 200, get("/", {"Accept": "text/html"})).headers.get_content_type() == "text/html"
    for operation, path in (
        ("health", "/hc"),
        ("readiness", "/ready"),
        ("version", "/version"),
        ("metrics", "/metrics"),
        ("openapi", "/openapi.json"),
        ("docs", "/docs"),
    ):
        saw(operation, 200, get(path))


def ask_for_what_is_not_there(service: Service, saw: Saw) -> None:
    """Meet the problems that any operation may answer with."""
    saw("index", 404, service.get("/nothing"))
    assert (
        saw("greet", 405, service.request("PATCH", "/hello/Zoe")).headers["Allow"] == "DELETE, GET, HEAD, PUT"
    )
    assert saw("listPeople", 405, service.request("PUT", "/hello")).headers["Allow"] == "GET, HEAD"
    saw("listPeople", 414, service.get(f"/hello?x={'x' * 9000}"))
    saw("index", 431, service.get("/", {"X": "x" * 40000}))
    with closing(connect(service)) as connection:
        connection.sendall(b"GET / HTTP/7\r\n\r\n")
        head, _, body = read_to_end(connection).partition(b"\r\n\r\n")
    status, _, fields = head.partition(b"\r\n")
    saw("index", 400, Answer(int(status.split()[1]), http.client.parse_headers(BytesIO(fields)), body))


def ask_while_busy(service: Service, document: Object, saw: Saw) -> None:
    """Meet what is said when a body does not come, when there is too much to do, and during a drain."""
    with closing(http.client.HTTPConnection("127.0.0.1", service.port, timeout=30)) as slow:
        slow.putrequest("PUT", "/hello/Zoe")
        slow.putheader("Content-Type", "application/json")
        slow.putheader("Content-Length", str(len(BODY)))
        slow.endheaders()
        response = slow.getresponse()
        saw("register", 408, Answer(response.status, response.headers, response.read()))
    held = threading.Thread(target=service.put, args=("Zoe", "1990-04-23"))
    with locked(service.database):
        held.start()
        until(lambda: b"\nhello_http_requests_in_flight 2.0" in service.get("/metrics").body, "the PUT")
        for method, path, operation in operations(document):
            if "503" in operation["responses"] and operation["operationId"] != "health":
                target = path.replace("{username}", "Zoe")
                body = BODY if method == "PUT" else None
                saw(operation["operationId"], 503, service.request(method, target, body, JSON))
    held.join()
    service.signal(signal.SIGTERM)
    until(lambda: service.get("/hc").status == 503, "the drain")
    assert saw("health", 503, service.get("/hc")).json() == {"status": "draining"}
    assert saw("readiness", 503, service.get("/ready")).json() == {"status": "draining"}


# Parameters


def targets(document: Object) -> Iterator[tuple[str, str, Mapping[str, Object]]]:
    """Yield method, a path to ask for, and the query parameters by name of each operation."""
    for method, path, operation in operations(document):
        query = {p["name"]: p["schema"] for p in operation["parameters"] if p["in"] == "query"}
        yield method, path.replace("{username}", "Zoe"), query


@pytest.fixture
def ask(service: Service) -> Callable[[str, str], int]:
    """Send a request that is good but for its query, and return the status."""

    def send(method: str, target: str) -> int:
        assert service.put("Zoe", "1990-04-23").status == 204
        return service.request(method, target, BODY if method == "PUT" else None, JSON).status

    return send


def test_described_parameters_are_read(document: Object, ask: Callable[[str, str], int]) -> None:
    """The bounds of each are accepted; what lies beyond them, another text, or a second value is a 400."""
    checked = set()
    for method, path, query in targets(document):
        for name, described in query.items():
            bad = [PARAMETERS[name], "", "x", "%FF"]
            if described["type"] == "integer":
                low, high = described["minimum"], described["maximum"]
                bad += [str(low - 1), str(high + 1), f"{low}.0", f"+{high}", "1e1", "%D9%A1"]
                for good in (low, high, described["default"]):
                    assert ask(method, f"{path}?{name}={good}") == 200, (path, name, good)
            for value in bad:
                assert ask(method, f"{path}?{name}={value}") == 400, (path, name, value)
            assert ask(method, f"{path}?{name}=1&{name}=1") == 400, (path, name)
            checked.add(name)
    assert checked == PARAMETERS.keys()


def test_no_parameter_is_read_that_is_not_described(document: Object, ask: Callable[[str, str], int]) -> None:
    """A bad value of a parameter that an operation does not have changes nothing."""
    for (method, path, query), (name, bad) in product(targets(document), PARAMETERS.items()):
        if name not in query:
            assert ask(method, f"{path}?{name}={bad}") in {200, 204}, (method, path, name)


def test_defaults_are_the_described_ones(document: Object, service: Service) -> None:
    """Without a parameter the answer is that of its default, and not that of another value."""
    for path, item in (("/hello", "people"), ("/birthdays", "birthdays")):
        query = next(query for _, target, query in targets(document) if target == path)
        for name in query.keys() & {"limit", "days"}:
            rest = "limit=1000" if name == "days" else "days=366"

            def answered(value: str, path: str = path, rest: str = rest, item: str = item) -> object:
                return service.get(f"{path}?{rest}{value}").json()[item]

            default = query[name]["default"]
            assert answered("") == answered(f"&{name}={default}"), (path, name)
            assert answered("") != answered(f"&{name}={default + 1}"), (path, name)
