"""Signatures: AWS's own example, and those of botocore for what hello sends."""

import hmac
import subprocess

from hello.stores.aws_credentials import Credentials
from hello.stores.aws_signing import CONTENT_TYPE, Signer, signing_key
from tests.support.environment import ROOT, missing

SECRET = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"  # pragma: allowlist secret
NOW = 1440938160.0  # 2015-08-30T12:36:00Z
BODY = '{"TableName":"hello","Key":{"key":{"S":"zoë"}}}'

BOTOCORE = """
import datetime, sys
from botocore import auth, awsrequest, credentials
host, token, secret, now, body, kind = sys.argv[1:]
auth.get_current_datetime = lambda: datetime.datetime.fromtimestamp(float(now), datetime.timezone.utc)
fields = {"Content-Type": kind, "X-Amz-Target": "DynamoDB_20120810.GetItem"}
request = awsrequest.AWSRequest("POST", f"https://{host}/", fields, body.encode())
keys = credentials.Credentials("AKIDEXAMPLE", secret, token or None)
auth.SigV4Auth(keys, "dynamodb", "eu-central-1").add_auth(request)
print(request.headers["Authorization"])
"""


def botocore_signs(host: str, token: str, kind: str = CONTENT_TYPE) -> str:
    """Return the Authorization field that botocore makes."""
    python = ROOT / ".venv-emulators" / "bin" / "python"
    if not python.exists():
        missing("botocore is not installed (make .venv/.stamps/emulators)")
    command = [str(python), "-c", BOTOCORE, host, token, SECRET, str(NOW), BODY, kind]
    return subprocess.run(command, capture_output=True, check=True, timeout=60, text=True).stdout.strip()


def test_the_key_that_signs_is_that_of_the_example_of_aws() -> None:
    """The derived key signs the string of AWS's documentation of Signature Version 4 as printed there."""
    scope = "20150830/us-east-1/iam/aws4_request"
    digest = "f536975d06c0309214f805bb90ccff089219ecd68b2577efef23edd43b7e1a59"  # pragma: allowlist secret
    printed = "5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7"  # pragma: allowlist secret
    text = f"AWS4-HMAC-SHA256\n20150830T123600Z\n{scope}\n{digest}"
    signature = hmac.digest(signing_key(SECRET, "20150830", "us-east-1", "iam"), text.encode(), "sha256")
    assert signature.hex() == printed


def test_requests_are_signed_as_botocore_signs_them() -> None:
    """With and without a session's token, and with the port where it is part of the Host field."""
    for host in ("dynamodb.eu-central-1.amazonaws.com", "127.0.0.1:8000"):
        for token in ("", "session/token+="):
            signer = Signer("eu-central-1", "dynamodb", host)
            credentials = Credentials("AKIDEXAMPLE", SECRET, token or None)
            headers = signer.headers(credentials, "DynamoDB_20120810.GetItem", BODY.encode(), NOW)
            assert headers["Authorization"] == botocore_signs(host, token)
            assert headers["X-Amz-Date"] == "20150830T123600Z"
            assert headers.get("X-Amz-Security-Token", "") == token


def test_the_content_type_of_another_service_is_signed() -> None:
    """That of Secrets Manager is sent, and is part of what is signed."""
    kind = "application/x-amz-json-1.1"
    host = "dynamodb.eu-central-1.amazonaws.com"
    signer = Signer("eu-central-1", "dynamodb", host, kind)
    credentials = Credentials("AKIDEXAMPLE", SECRET)
    headers = signer.headers(credentials, "DynamoDB_20120810.GetItem", BODY.encode(), NOW)
    assert headers["Content-Type"] == kind
    assert headers["Authorization"] == botocore_signs(host, "", kind)


def test_another_day_or_key_has_another_signature() -> None:
    """A derived key that is kept is used for its own day and credentials only."""
    signer = Signer("eu-central-1", "dynamodb", "localhost")
    old, new = Credentials("A", SECRET), Credentials("A", "other")

    def sign(credentials: Credentials, now: float) -> str:
        return signer.headers(credentials, "T", b"", now)["Authorization"]

    def fresh(credentials: Credentials, now: float) -> str:
        other = Signer("eu-central-1", "dynamodb", "localhost")
        return other.headers(credentials, "T", b"", now)["Authorization"]

    for credentials, now in [(old, NOW), (old, NOW + 1), (old, NOW + 86400), (new, NOW + 86400), (old, NOW)]:
        assert sign(credentials, now) == fresh(credentials, now)


def test_a_secret_is_in_no_text_of_credentials() -> None:
    """Neither the key's id, the secret nor the token is shown."""
    assert repr(Credentials("AKID", SECRET, "token")) == "Credentials(expires=None)"
