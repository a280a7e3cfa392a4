"""A stand-in of the instance metadata service, version 2, as far as an instance of ours asks it."""

import json
import secrets
import socket
import threading
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

ADDRESS = "169.254.169.254"
ROLE = "hello-instance"
CREDENTIALS = {"AccessKeyId": "test", "SecretAccessKey": "test", "Token": "test"}


class _Server(ThreadingHTTPServer):
    """A server that only hears what comes in by a device, where one is named."""

    device = ""

    def server_bind(self) -> None:
        if self.device:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, self.device.encode())
        super().server_bind()


class Metadata:
    """Serves what an instance is told of itself; `user_data` and `found`, by path, may change at any time."""

    def __init__(
        self, private_address: str, address: str = ADDRESS, port: int = 80, device: str = ""
    ) -> None:
        """Listen where this thread's network is, to those alone who come by `device`, where one is named."""
        self.user_data = ""
        self.found = {"local-ipv4": private_address}
        self.without_token = 0  # requests of version 1, all refused
        self._tokens: set[str] = set()
        self._server = _Server((address, port), self._handler(), bind_and_activate=False)
        self._server.device = device
        self._server.server_bind()
        self._server.server_activate()
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    @property
    def port(self) -> int:
        """The port that it listens on."""
        return self._server.server_port

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()

    def _find(self, path: str) -> str | None:
        found = {
            "user-data": self.user_data or None,
            **{f"meta-data/{name}": value for name, value in self.found.items()},
            "meta-data/iam/security-credentials/": ROLE,
            f"meta-data/iam/security-credentials/{ROLE}": json.dumps(
                {**CREDENTIALS, "Expiration": (datetime.now(UTC) + timedelta(hours=6)).isoformat()}
            ),
        }
        return found.get(path.removeprefix("/latest/"))

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        metadata = self

        class Handler(BaseHTTPRequestHandler):
            def do_PUT(self) -> None:
                lasting = self.headers["X-aws-ec2-metadata-token-ttl-seconds"]
                if self.path != "/latest/api/token" or not lasting:
                    return self._answer(400, "")
                token = secrets.token_urlsafe()
                metadata._tokens.add(token)
                return self._answer(200, token)

            def do_GET(self) -> None:
                if self.headers["X-aws-ec2-metadata-token"] not in metadata._tokens:
                    metadata.without_token += 1
                    return self._answer(401, "")
                found = metadata._find(self.path)
                return self._answer(200, found) if found is not None else self._answer(404, "")

            def _answer(self, status: int, text: str) -> None:
                body = text.encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 - named there
                """Say nothing."""

        return Handler
