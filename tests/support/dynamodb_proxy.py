"""A server in front of an emulator of AWS that notes what is asked, and plays failures."""

import http.client
import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, urlsplit

import pytest

from tests.support.dynamodb import use
from tests.support.environment import free_port

HOLD_SECONDS = 60  # after which a request that is held ends in any case

Reply = tuple[int, bytes] | None  # status and body; None breaks the connection


class Call(NamedTuple):
    """A request: DynamoDB's action, what it came with, and how to have the emulator answer that."""

    action: str
    payload: Any
    ask: Callable[[bytes], tuple[int, bytes]]

    def forward(self) -> tuple[int, bytes]:
        """Return the emulator's answer to the payload, as a test may have changed it."""
        return self.ask(json.dumps(self.payload).encode())


def forward(call: Call) -> Reply:
    """Play no failure."""
    return call.forward()


def refusal(code: str, status: int = 400) -> Reply:
    """Return an error as DynamoDB words it."""
    body = {"__type": f"com.amazonaws.dynamodb.v20120810#{code}", "message": "played by a test"}
    return status, json.dumps(body).encode()


class Proxy:
    """Answers by `play`, which a test may change at any time; `answered` has each action and its answer."""

    def __init__(self, emulator: str) -> None:
        self.play: Callable[[Call], Reply] = forward
        self.answered: list[tuple[str, Any]] = []
        self.port = free_port()
        self.emulator = urlsplit(emulator).netloc
        self._released = threading.Event()
        self._server: _Server | None = None

    @property
    def address(self) -> str:
        """The URL of the endpoint."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def actions(self) -> list[str]:
        """The actions asked for since `answered` was cleared."""
        return [action for action, _ in self.answered]

    def start(self) -> "Proxy":
        """Listen."""
        self._released.clear()
        self._server = _Server(self)
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def stop(self) -> None:
        """Break all connections, and listen no more."""
        self._released.set()
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server.break_connections()
            self._server = None

    def hold(self, _: Call) -> Reply:
        """Play an endpoint that does not answer, until it is stopped."""
        self._released.wait(HOLD_SECONDS)
        return None

    def reply(self, headers: Message, body: bytes) -> Reply:
        """Answer a request."""

        names = ("Authorization", "Content-Type", "X-Amz-Date", "X-Amz-Target")
        kept = {name: headers[name] for name in names if name in headers}

        def ask(payload: bytes) -> tuple[int, bytes]:
            connection = http.client.HTTPConnection(self.emulator, timeout=HOLD_SECONDS)
            try:
                connection.request("POST", "/", payload, kept)
                response = connection.getresponse()
                return response.status, response.read()
            finally:
                connection.close()

        if "X-Amz-Target" in headers:
            call = Call(headers["X-Amz-Target"].rpartition(".")[2], json.loads(body), ask)
        else:  # the older services of AWS are asked by forms; what they are asked can't be changed here
            form = dict(parse_qsl(body.decode()))
            call = Call(form["Action"], form, lambda _: ask(body))
        action = call.action
        index = len(self.answered)
        self.answered.append((action, None))
        reply = self.play(call)
        if reply is not None and reply[0] == 200 and index < len(self.answered):
            with suppress(ValueError):
                self.answered[index] = action, json.loads(reply[1])
        return reply


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, proxy: Proxy) -> None:
        self.proxy = proxy
        self._connections: set[socket.socket] = set()
        super().__init__(("127.0.0.1", proxy.port), _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        self._connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._connections.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away is no error here."""

    def break_connections(self) -> None:
        for connection in list(self._connections):
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue  # it is closed already


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        reply = self.server.proxy.reply(self.headers, body)
        if reply is None:
            self.close_connection = True
            return
        self.send_response(reply[0])
        self.send_header("Content-Type", "application/x-amz-json-1.0")
        self.send_header("Content-Length", str(len(reply[1])))
        self.end_headers()
        self.wfile.write(reply[1])

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name that http.server has
        """Log nothing."""


@pytest.fixture
def proxy(dynamodb_url: str, dynamodb_server: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    """An endpoint that notes what is asked of the table."""
    assert dynamodb_url
    proxy = Proxy(dynamodb_server).start()
    use(proxy.address, monkeypatch)
    yield proxy
    proxy.stop()


def always(reply: Reply) -> Callable[[Call], Reply]:
    """Play the same answer to all."""
    return lambda _: reply
