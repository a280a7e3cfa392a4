"""An OpenID Connect issuer on loopback, that signs tokens and plays failures.

`issuer` is one that runs: `issuer.token(scope="read", preferred_username="Zoe")` signs a token for
`issuer.audience`, `issuer.rotate()` replaces its keys, `issuer.fail("slow")` has it fail from now on.
"""

import json
import threading
import time
from collections.abc import Callable, Iterator
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal

import pytest
from joserfc import jws
from joserfc.jwk import ECKey, Key, OKPKey, RSAKey

Failure = Literal["error", "huge", "mismatch", "no JSON", "no keys", "plain jwks_uri", "redirect", "slow"]

HOLD_SECONDS = 60  # after which an answer that is held ends in any case
METADATA = "/.well-known/openid-configuration"


class Issuer:
    """Serves its metadata and its keys on a port that it keeps over `stop` and `start`."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        """Have one RSA key; `clock` tells the time that tokens are issued at."""
        self.clock = clock
        self.audience = "hello"
        self.asked: list[str] = []  # the paths asked for
        self.jwks: list[Any] = []  # what it serves as its keys; tests may add others
        self.signing: Key  # what it signs with, and its id
        self.kid = ""
        self._failure: Failure | None = None
        self._go_on = threading.Event()
        self._rotations = 0
        self._port = 0
        self._server: ThreadingHTTPServer | None = None
        self.rotate(_first_key())

    @property
    def url(self) -> str:
        """What it calls itself."""
        return f"http://127.0.0.1:{self._port}"

    @property
    def fetches(self) -> int:
        """How often its metadata was asked for."""
        return self.asked.count(METADATA)

    def start(self) -> "Issuer":
        """Listen."""
        self._go_on.clear()
        self._server = _Server(("127.0.0.1", self._port), _Handler)
        self._server.issuer = self
        self._port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def stop(self) -> None:
        """Listen no more: it is down."""
        self._go_on.set()
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def rotate(self, key: Key | None = None, *, keep: bool = False) -> Key:
        """Sign with a new key from now on; `keep` the old ones in the set, for tokens that are in use."""
        self._rotations += 1
        self.signing = key or RSAKey.generate_key(2048)
        self.kid = f"key-{self._rotations}"
        published = self.signing.as_dict(private=False, use="sig", kid=self.kid)
        self.jwks = [*(self.jwks if keep else ()), published]
        return self.signing

    def fail(self, failure: Failure | None) -> None:
        """Answer wrongly, or (None) as it should; "slow" holds each answer until the next `fail`."""
        self._failure = failure
        self._go_on.set()
        if failure == "slow":
            self._go_on.clear()

    def claims(self, **changed: Any) -> dict[str, Any]:
        """Return the claims of a token that lasts an hour, with changes; None leaves one out."""
        now = int(self.clock())
        claims = {
            "iss": self.url,
            "aud": self.audience,
            "sub": "person-1",
            "iat": now,
            "exp": now + 3600,
            **changed,
        }
        return {name: value for name, value in claims.items() if value is not None}

    def token(self, *, key: Key | None = None, header: dict[str, Any] | None = None, **changed: Any) -> str:
        """Return a token signed by its key, or by `key`; `header` and claims may be changed, or left out."""
        return self.sign(json.dumps(self.claims(**changed)).encode(), key=key, header=header)

    def sign(self, payload: bytes, *, key: Key | None = None, header: dict[str, Any] | None = None) -> str:
        """Return a payload of any kind signed, as `token` is."""
        key = key or self.signing
        default = {"alg": _algorithm(key), "typ": "JWT", "kid": self.kid}
        whole = {name: value for name, value in {**default, **(header or {})}.items() if value is not None}
        return jws.serialize_compact(whole, payload, key, registry=_Registry(strict_check_header=False))

    def answer(self, path: str) -> tuple[int, bytes, dict[str, str]]:
        """Return the answer to a GET: status, body and headers."""
        self.asked.append(path)
        failure = self._failure
        if failure == "slow":
            self._go_on.wait(HOLD_SECONDS)
        if failure == "error":
            return 500, b"played by a test", {}
        if failure == "no JSON":
            return 200, b"<html>", {}
        if failure == "huge":
            return 200, b" " * 2**20 + self._document(path), {}
        if failure == "redirect" and not path.startswith("/moved"):
            return 302, b"", {"Location": f"/moved{path}"}
        return 200, self._document(path.removeprefix("/moved")), {}

    def _document(self, path: str) -> bytes:
        if path == METADATA:
            scheme = "http://issuer.example" if self._failure == "plain jwks_uri" else self.url
            issuer = f"{self.url}/" if self._failure == "mismatch" else self.url
            return json.dumps({"issuer": issuer, "jwks_uri": f"{scheme}/jwks"}).encode()
        return json.dumps({"keys": [] if self._failure == "no keys" else self.jwks}).encode()


class _Registry(jws.JWSRegistry):
    """Signs by any algorithm, good or bad."""

    def get_alg(self, name: str) -> Any:
        return self.algorithms[name]


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    issuer: Issuer

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away is no error here."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def do_GET(self) -> None:
        status, body, headers = self.server.issuer.answer(self.path)
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", **headers}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name that http.server has
        """Log nothing."""


@cache
def _first_key() -> Key:
    """Return the key that each issuer begins with: making one takes longer than most tests."""
    return RSAKey.generate_key(2048)


def _algorithm(key: Key) -> str:
    if isinstance(key, ECKey):
        return {"P-256": "ES256", "P-384": "ES384", "P-521": "ES512"}[key.curve_name]
    if isinstance(key, OKPKey):
        return "EdDSA"
    return "RS256" if isinstance(key, RSAKey) else "HS256"


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    """An issuer that runs; see the module."""
    running = Issuer().start()
    yield running
    running.stop()
