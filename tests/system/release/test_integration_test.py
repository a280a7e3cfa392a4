"""infra/integration-test.sh against services that run, and infra/add-key.sh, which makes its key."""

import json
import re
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from hello.keys import encode, new_key
from tests.conftest import Serve
from tests.support.certificates import Authority
from tests.support.commands import hello
from tests.support.dynamodb_proxy import Call, Reply, forward
from tests.support.environment import need, until
from tests.support.release import TERRAFORM, Infra, commit, error
from tests.support.service import Service, everyone, request

SCRIPT = "integration-test.sh"


def value(infra: Infra, name: str) -> str:
    """Return what a secret holds: `keys` the entries, as in HELLO_KEYS; `integration-test` a key."""
    return str(current(infra, name)["SecretString"])


def current(infra: Infra, name: str) -> Any:
    """Return the version of a secret that counts."""
    secret = f"{infra.name}/{name}"
    return infra.aws("secretsmanager", "GetSecretValue", SecretId=secret, VersionStage="AWSCURRENT")


@pytest.fixture
def keyed(infra: Infra) -> Infra:
    """Choose version 1, and make the integration test's key."""
    give_key(infra, "read", "write")
    infra.choose(1)
    return infra


def give_key(infra: Infra, *scopes: str) -> None:
    """Make secrets, with a key for the integration test; add-key.sh does so, and takes longer."""
    secret, entry = new_key("integration-test", scopes)
    infra.secret("keys", f"[{encode(entry).decode()}]")
    infra.secret("integration-test", secret)


def variables(infra: Infra, number: int = 1) -> dict[str, str]:
    """Return the environment of a service that runs a version."""
    return {"HELLO_KEYS": value(infra, "keys"), "HELLO_COMMIT": commit(number), "HELLO_ACCESS_LOG": "all"}


def connect(infra: Infra, *lines: str, **ports: int) -> None:
    """Have curl find the load balancer's names on this machine: `lb_test_5000=…` is lb.test:5000."""
    for name, port in ports.items():
        host, _, outer = name.replace("_", ".").rpartition(".")
        lines = (*lines, f'connect-to = "{host}:{outer}:127.0.0.1:{port}"')
    Path(infra.environment["CURL_HOME"], ".curlrc").write_text("\n".join(('noproxy = "*"', *lines)))


def test_a_service_that_does_what_it_should(keyed: Infra, serve: Serve) -> None:
    """The version is the chosen one; a person is registered, greeted and forgotten; nobody is left."""
    service = serve(environment=variables(keyed))
    connect(keyed, lb_test_5000=service.port)
    curl = need("curl")
    keyed.play("curl", f'#!/bin/bash\nprintf "%s " "$@" >>"$0.arguments"\nexec {curl} "$@"\n')
    told = keyed.done(SCRIPT)
    assert told.splitlines() == [
        'ok  http://lb.test:5000/ is {"service":"hello","version":"0.1.0"}',
        f"ok  the version is {commit(1)}",
        "ok  who has no key learns nobody's date of birth",
        "ok  registered, greeted and forgot a person",
    ]
    assert "state show -no-color aws_lb.alb" in keyed.asked
    arguments = (keyed.stub / "curl.arguments").read_text()
    assert re.search(r"--request DELETE http://lb\.test:5000/hello/Integrationtest[a-p]{16} ", arguments)
    assert value(keyed, "integration-test") not in arguments + told
    methods = [entry["method"] for entry in service.log() if entry.get("route") == "/hello/{username}"]
    assert methods == ["PUT", "GET", "DELETE", "GET"]


def test_the_first_answer_is_waited_for(keyed: Infra, serve: Serve) -> None:
    """A load balancer is not reached at once after it was made; other requests are not sent again."""
    service = serve(environment=variables(keyed))
    with answering((503, None), (503, None), then=service.url) as front:
        connect(keyed, lb_test_5000=front.server_port)
        assert "ok  registered" in keyed.done(SCRIPT)


def test_another_version_is_a_failure(keyed: Infra, serve: Serve) -> None:
    """Nobody is registered then."""
    service = serve(environment=variables(keyed, 2))
    connect(keyed, lb_test_5000=service.port)
    told = keyed.refused(SCRIPT)
    assert "failed: the version is {" in told
    assert commit(2) in told
    assert f"and not {commit(1)}" in told
    assert everyone_of(service) == set()


def test_who_was_registered_is_removed_after_a_failure(keyed: Infra, serve: Serve) -> None:
    """With a key that may not read the greeting fails, and the person is forgotten all the same."""
    keyed.done("add-key.sh", "--remove", "integration-test")
    keyed.done("add-key.sh", "integration-test", "write", "--integration-test")
    service = serve(environment=variables(keyed))
    connect(keyed, lb_test_5000=service.port)
    assert re.search(
        r"failed: greeting Integrationtest[a-p]{16}: 403 instead of 200: ", keyed.refused(SCRIPT)
    )

    def methods() -> list[str]:
        return [entry["method"] for entry in service.log() if entry.get("route") == "/hello/{username}"]

    until(lambda: methods() == ["PUT", "GET", "DELETE"], "the person to be forgotten")
    assert everyone_of(service) == set()


def test_a_state_without_a_load_balancer_is_told(keyed: Infra) -> None:
    """It says what to do, and does not only end."""
    keyed.play("terraform", TERRAFORM.replace("dns_name = ", "arn      = "))
    assert "Terraform's state has no dns_name of aws_lb.alb: terraform apply." in keyed.refused(SCRIPT)


def test_an_open_service_is_a_failure(keyed: Infra, serve: Serve) -> None:
    """Whoever comes could read everyone's date of birth."""
    service = serve("--open", environment={"HELLO_COMMIT": commit(1)})
    connect(keyed, lb_test_5000=service.port)
    assert "failed: the list of everyone answers 200 without a key" in keyed.refused(SCRIPT)


def test_tls_where_it_is_on(keyed: Infra, serve: Serve, tmp_path: Path) -> None:
    """Port 5000 leads to the domain, whose certificate has to be good; leading elsewhere is a failure."""
    authority = Authority(tmp_path)
    service = serve(*authority.server(names=("hello.test",)).options, environment=variables(keyed))
    service.trust = ssl.create_default_context(cafile=authority.file)
    keyed.outputs(url="https://hello.test")
    trusted = f'cacert = "{authority.file}"'
    with answering((301, "https://hello.test:443/")) as front:
        connect(keyed, trusted, lb_test_5000=front.server_port, hello_test_443=service.port)
        told = keyed.done(SCRIPT)
        assert "ok  lb.test:5000 leads to https://hello.test" in told
        assert "ok  https://hello.test/ is " in told
        connect(keyed, lb_test_5000=front.server_port, hello_test_443=service.port)
        assert "SSL certificate problem" in keyed.refused(SCRIPT)
    with answering((301, "https://elsewhere.test/")) as front:
        connect(keyed, trusted, lb_test_5000=front.server_port, hello_test_443=service.port)
        told = keyed.refused(SCRIPT)
        assert (
            "port 5000 does not lead to https://hello.test, but answers 301 https://elsewhere.test/" in told
        )


def test_without_a_key_or_a_version_nothing_is_asked(infra: Infra) -> None:
    """It is said what is missing, and how it is made."""
    assert "no version is chosen yet: bump.sh chooses one." in infra.refused(SCRIPT)
    infra.choose(1)
    infra.aws("secretsmanager", "CreateSecret", Name=f"{infra.name}/integration-test")
    told = infra.refused(SCRIPT)
    assert (
        "there is no key to test with: infra/add-key.sh integration-test read,write --integration-test"
        in told
    )
    infra.refused(SCRIPT, "now", status=2)


def test_the_integration_test_gets_its_key(infra: Infra, tmp_path: Path) -> None:
    """It is the key of the entry, and printed nowhere."""
    infra.secret("keys", "[]")
    infra.aws("secretsmanager", "CreateSecret", Name=f"{infra.name}/integration-test")
    told = infra.done("add-key.sh", "integration-test", "read,write", "--integration-test")
    assert told == "Added: integration-test, who may read,write.\n"
    keys = {"HELLO_KEYS": value(infra, "keys")}
    secret = value(infra, "integration-test").encode()
    assert hello("key", "check", folder=tmp_path, stdin=secret, environment=keys).stdout.startswith(
        b"integration-test  read,write"
    )


def test_a_key_that_can_not_be_kept_takes_no_name(keyed: Infra) -> None:
    """Where the integration test's secret can't be written there is no entry either: it is just run again."""
    before = value(keyed, "keys"), value(keyed, "integration-test")

    def put(call: Call) -> Reply:
        refused = call.payload["SecretId"] == f"{keyed.name}/integration-test"
        return error("InternalServiceError", "played by a test")(call) if refused else forward(call)

    keyed.answer(PutSecretValue=put)
    assert "InternalServiceError" in keyed.refused("add-key.sh", "new", "read", "--integration-test")
    assert (value(keyed, "keys"), value(keyed, "integration-test")) == before
    keyed.answer()
    keyed.done("add-key.sh", "new", "read", "--integration-test")
    taken = value(keyed, "integration-test")
    assert taken != before[1]
    told = keyed.refused("add-key.sh", "new", "read", "--integration-test")
    assert "there is a key of this name" in told
    assert value(keyed, "integration-test") == taken


def test_a_key_is_added_and_removed(keyed: Infra) -> None:
    """It is printed, and nothing but it on standard output; its entry has the digest alone."""
    keyed.outputs(release=commit(1))
    done = keyed.run("add-key.sh", "phone", "read")
    assert re.fullmatch(r"hello_[A-Za-z0-9_-]{43}\n", done.stdout)
    assert "The key, shown this once:" in done.stderr
    assert f"--service {keyed.name} --force-new-deployment" in done.stderr
    names = [entry["name"] for entry in json.loads(value(keyed, "keys"))]
    assert names == ["integration-test", "phone"]
    assert done.stdout.strip() not in value(keyed, "keys") + done.stderr
    assert "there is a key of this name" in keyed.refused("add-key.sh", "phone", "write")
    keyed.done("add-key.sh", "--remove", "integration-test")
    assert [entry["name"] for entry in json.loads(value(keyed, "keys"))] == ["phone"]
    assert "there is no key of this name" in keyed.refused("add-key.sh", "--remove", "integration-test")


def test_of_two_changes_at_once_none_is_lost(keyed: Infra) -> None:
    """The second is refused, for it would undo the first, which it has not read."""

    def overtaken(call: Call) -> Reply:
        secret, version = f"{keyed.name}/keys", current(keyed, "keys")["VersionId"]
        other = {"SecretId": secret, "SecretString": '[{"name":"other"}]', "VersionStages": ["other"]}
        new = keyed.aws("secretsmanager", "PutSecretValue", **other)["VersionId"]
        moved = {"VersionStage": "AWSCURRENT", "RemoveFromVersionId": version, "MoveToVersionId": new}
        keyed.aws("secretsmanager", "UpdateSecretVersionStage", SecretId=secret, **moved)
        return forward(call)

    keyed.answer(PutSecretValue=overtaken)
    told = keyed.refused("add-key.sh", "phone", "read")
    assert "somebody else changed the entries meanwhile, and none was changed here: run this again." in told
    assert value(keyed, "keys") == '[{"name":"other"}]'


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["phone"],
        ["phone", "read", "more"],
        ["--remove"],
        ["phone", "read", "--now"],
        ["--remove", "a", "b"],
    ],
)
def test_what_add_key_does_not_know_is_refused(arguments: list[str], infra: Infra) -> None:
    """Before anything is done."""
    infra.refused("add-key.sh", *arguments, status=2)
    assert infra.proxy.actions == []


def test_a_scope_that_is_none_is_refused(keyed: Infra) -> None:
    """In hello's words."""
    assert "Give scopes among read, write, admin" in keyed.refused("add-key.sh", "phone", "delete")


def everyone_of(service: Service) -> set[str]:
    """Return whoever is in the service's store, read by another without keys."""
    with_store = Service(service.folder, environment={"HELLO_STORE": f"sqlite:///{service.database}"}).start()
    try:
        return set(everyone(with_store))
    finally:
        with_store.stop()


@contextmanager
def answering(*answers: tuple[int, str | None], then: str = "") -> Iterator[ThreadingHTTPServer]:
    """Run a server that gives these answers, status and Location; after them those of a URL, or the last."""
    left = list(answers)

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            body = b""
            if left:
                status, location = left.pop(0) if then or len(left) > 1 else left[0]
                fields = {"Location": location} if location else {}
            else:
                sent = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                answer = request(then, self.command, self.path, sent, dict(self.headers))
                status, body, fields = answer.status, answer.body, {}
            self.send_response(status)
            for name, value in fields.items():
                self.send_header(name, value)
            if status != 204:
                self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_PUT = do_DELETE = answer  # noqa: N815 - the names that http.server has

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - likewise
            """Log nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
