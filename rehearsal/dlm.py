"""Amazon Data Lifecycle Manager, which moto lacks: policies are kept and told; no snapshot is made."""

import json
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any
from urllib.parse import unquote
from uuid import uuid4

Respond = Callable[[str, list[tuple[str, str]]], Any]
Application = Callable[[dict[str, Any], Respond], Iterable[bytes]]


class Lifecycles:
    """A WSGI application that answers requests that are signed for DLM, and hands on all others."""

    def __init__(self, others: Application) -> None:
        self._others = others
        self._policies: dict[str, dict[str, Any]] = {}

    def __call__(self, environ: dict[str, Any], respond: Respond) -> Iterable[bytes]:
        if "/dlm/aws4_request" not in environ.get("HTTP_AUTHORIZATION", ""):
            return self._others(environ, respond)
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        path = unquote(environ["PATH_INFO"]).strip("/").split("/", 1)
        answer = self._answer(environ["REQUEST_METHOD"], path, json.loads(body or "{}"))
        status = "404 Not Found" if answer is None else "200 OK"
        kind = [("x-amzn-ErrorType", "ResourceNotFoundException")] if answer is None else []
        respond(status, [("Content-Type", "application/json"), *kind])
        return [json.dumps(answer or {}).encode()]

    def _answer(self, method: str, path: list[str], given: dict[str, Any]) -> dict[str, Any] | None:
        name = path[1] if len(path) > 1 else ""
        if path[0] == "tags":
            name = name.rpartition("/")[2]
        if (method, path) == ("POST", ["policies"]):
            name = f"policy-{uuid4().hex[:17]}"
            self._policies[name] = {
                **given, "PolicyId": name, "DateCreated": datetime.now(UTC).isoformat(),
                "PolicyArn": f"arn:aws:dlm:us-east-1:123456789012:policy/{name}",
            }  # fmt: skip
            return {"PolicyId": name}
        if name not in self._policies:
            return None
        if method == "DELETE":
            del self._policies[name]
            return {}
        if method == "PATCH":
            self._policies[name].update(given)
            return {}
        if path[0] == "tags":
            return {"Tags": self._policies[name].get("Tags", {})}
        return {"Policy": self._policies[name]}
