"""What hello needs to ask who calls: a key, or an issuer with one token, made up for the bench."""

import hashlib
import json
import sys
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

from joserfc import jwt
from joserfc.jwk import ECKey

AUDIENCE = "bench"
SECRET = f"hello_{'x' * 43}"
ENTRY = {
    "name": "bench",
    "scopes": ["read", "write"],
    "sha256": hashlib.sha256(SECRET.encode()).hexdigest(),
}


def make_token(folder: Path, issuer: str) -> None:
    """Make the issuer's key and a token for a day, and leave both in the folder."""
    key = ECKey.generate_key("P-256", parameters={"kid": "bench", "use": "sig"})
    now = int(time.time())
    claims = {"iss": issuer, "aud": AUDIENCE, "sub": "bench", "iat": now, "exp": now + 86400}
    token = jwt.encode({"alg": "ES256", "kid": "bench"}, {**claims, "scope": "read write"}, key)
    (folder / "token").write_text(token)
    (folder / "jwks.json").write_text(json.dumps({"keys": [key.as_dict(private=False)]}))


def serve(folder: Path, port: int) -> None:
    """Be the issuer, until the end."""
    issuer = f"http://127.0.0.1:{port}"
    documents = {
        "/.well-known/openid-configuration": json.dumps(
            {"issuer": issuer, "jwks_uri": f"{issuer}/jwks.json"}
        ).encode(),
        "/jwks.json": (folder / "jwks.json").read_bytes(),
    }

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = documents.get(self.path, b"")
            self.send_response(200 if body else 404)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - http.server's name
            pass

    HTTPServer(("127.0.0.1", port), Handler).serve_forever()


if __name__ == "__main__":
    serve(Path(sys.argv[1]), int(sys.argv[2]))
