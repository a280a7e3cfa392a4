"""Signatures of requests to AWS (Signature Version 4), as far as a JSON API by POST needs them."""

import hashlib
import hmac
import time
from typing import NamedTuple

from hello.stores.aws_credentials import Credentials

ALGORITHM = "AWS4-HMAC-SHA256"
CONTENT_TYPE = "application/x-amz-json-1.0"  # of DynamoDB; that of some services ends in 1.1


class Signer:
    """Signs for one region, service and host.

    The key that signs is derived anew only with the day and the credentials: four of a signature's five
    HMACs are of the day.
    """

    def __init__(self, region: str, service: str, host: str, content_type: str = CONTENT_TYPE) -> None:
        """Sign for `host` as the Host field has it: with the port, where that is not the scheme's own."""
        self._content_type = content_type
        self._host = host
        self._region = region
        self._service = service
        self._derived: tuple[Credentials, str, bytes] | None = None
        self._instant = _Instant(0, "", "")

    def headers(self, credentials: Credentials, target: str, body: bytes, now: float) -> dict[str, str]:
        """Return the header fields of a POST to `/`, Host aside; `now` is in seconds since 1970."""
        instant = self._instant
        if instant.second != int(now):
            self._instant = instant = _Instant.of(int(now))
        names = "content-type;host;x-amz-date;x-amz-target"
        token = ""
        if credentials.token:
            names = "content-type;host;x-amz-date;x-amz-security-token;x-amz-target"
            token = f"x-amz-security-token:{credentials.token}\n"
        request = (
            f"POST\n/\n\ncontent-type:{self._content_type}\nhost:{self._host}\nx-amz-date:{instant.timestamp}\n"
            f"{token}x-amz-target:{target}\n\n{names}\n{hashlib.sha256(body).hexdigest()}"
        )
        scope = f"{instant.day}/{self._region}/{self._service}/aws4_request"
        text = string_to_sign(instant.timestamp, scope, request)
        signature = hmac.digest(self._key(credentials, instant.day), text.encode(), "sha256").hex()
        headers = {
            "Content-Type": self._content_type,
            "X-Amz-Date": instant.timestamp,
            "X-Amz-Target": target,
            "Authorization": f"{ALGORITHM} Credential={credentials.key_id}/{scope}, "
            f"SignedHeaders={names}, Signature={signature}",
        }
        if credentials.token:
            headers["X-Amz-Security-Token"] = credentials.token
        return headers

    def _key(self, credentials: Credentials, day: str) -> bytes:
        if self._derived is None or self._derived[0] is not credentials or self._derived[1] != day:
            key = signing_key(credentials.secret, day, self._region, self._service)
            self._derived = credentials, day, key
        return self._derived[2]


class _Instant(NamedTuple):
    second: int
    day: str
    timestamp: str

    @classmethod
    def of(cls, second: int) -> "_Instant":
        parts = time.gmtime(second)
        return cls(second, time.strftime("%Y%m%d", parts), time.strftime("%Y%m%dT%H%M%SZ", parts))


def string_to_sign(timestamp: str, scope: str, request: str) -> str:
    """Return what is signed of a canonical request."""
    return f"{ALGORITHM}\n{timestamp}\n{scope}\n{hashlib.sha256(request.encode()).hexdigest()}"


def signing_key(secret: str, day: str, region: str, service: str) -> bytes:
    """Derive the key that signs on one day."""
    key = f"AWS4{secret}".encode()
    for part in (day, region, service, "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    return key
