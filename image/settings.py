"""The settings of hello on an EC2 instance, from its user data and from Secrets Manager.

`settings.py FOLDER` writes there, for root alone: `environment`, which hello.service reads; `metrics-key` and
`agent`, for the CloudWatch agent. On a member of etcd it writes `etcd` instead, which
etcd-member.service reads. User data is lines of NAME=VALUE; a value that is the ARN of a secret stands for
what the secret holds. Values are never printed.
"""

import asyncio
import json
import os
import re
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp

from hello import keys
from hello.stores.aws_credentials import CredentialsError
from hello.stores.aws_signing import Signer
from hello.stores.aws_sources import INSTANCE_ENDPOINT, TIMEOUT, domain, source

SECRET = re.compile(r"arn:aws[a-z-]*:secretsmanager:([a-z0-9-]+):\d{12}:secret:.+")
NAME = re.compile(r"(HELLO|ETCD)_[A-Z_]+|LOG_GROUP")
CERTIFICATE = "-----BEGIN CERTIFICATE-----"
RETRY_SECONDS = 5.0


class UserDataError(Exception):
    """The user data can't be used; trying again would not help."""


class NotYetError(Exception):
    """What is asked for is not there yet, or no longer; the message holds no secret."""


class Instance:
    """The instance's metadata service, version 2: each request has the token of a session."""

    def __init__(self, session: aiohttp.ClientSession, token: str, endpoint: str) -> None:
        self._session = session
        self._headers = {"X-aws-ec2-metadata-token": token}
        self._endpoint = endpoint

    @classmethod
    async def of(cls, session: aiohttp.ClientSession, endpoint: str) -> "Instance":
        """Begin a session of a minute."""
        asked = {"X-aws-ec2-metadata-token-ttl-seconds": "60"}
        async with session.put(f"{endpoint}/latest/api/token", headers=asked) as response:
            if response.status != 200:
                raise NotYetError(f"the instance's metadata service gave no token (status {response.status})")
            return cls(session, await response.text(), endpoint)

    async def get(self, path: str) -> str:
        """Return what is under a path, "" for nothing."""
        async with self._session.get(f"{self._endpoint}/latest/{path}", headers=self._headers) as response:
            if response.status == 404:
                return ""
            if response.status != 200:
                raise NotYetError(f"the instance's metadata has no {path} (status {response.status})")
            return await response.text()


def parse(user_data: str) -> dict[str, str]:
    """Return the settings in user data: lines of NAME=VALUE, empty ones, and comments."""
    found: dict[str, str] = {}
    for number, line in enumerate(user_data.splitlines(), 1):
        name, separator, value = line.strip().partition("=")
        if not name or name.startswith("#"):
            continue
        if not separator or not NAME.fullmatch(name):
            raise UserDataError(f"line {number} of the user data is no HELLO_…, ETCD_… or LOG_GROUP=VALUE")
        found[name] = value
    return found


async def secret(session: aiohttp.ClientSession, arn: str, region: str, environ: Mapping[str, str]) -> str:
    """Return what a secret holds, by the instance's role."""
    url = (
        environ.get("AWS_ENDPOINT_URL_SECRETS_MANAGER")
        or environ.get("AWS_ENDPOINT_URL")
        or f"https://secretsmanager.{domain(region)}"
    )
    signer = Signer(region, "secretsmanager", urlsplit(url).netloc, "application/x-amz-json-1.1")
    body = json.dumps({"SecretId": arn}).encode()
    credentials = await source(region, environ)()
    headers = signer.headers(credentials, "secretsmanager.GetSecretValue", body, time.time())
    async with session.post(f"{url.rstrip('/')}/", data=body, headers=headers) as response:
        answer: Any = await response.json(content_type=None)
        if response.status != 200:
            kind = str(answer.get("__type", "")).rpartition("#")[2]
            raise NotYetError(f"{arn} was not given: status {response.status} {kind}")
    return str(answer["SecretString"])


def with_metrics_key(text: str) -> tuple[str, str]:
    """Return a new key for the agent on this instance, and the entries with its own among them."""
    new, entry = keys.new_key("metrics", ["read"])
    entries = [*keys.parse(text.encode(), "HELLO_KEYS"), entry] if text else [entry]
    return new, f"[{','.join(keys.encode(one).decode() for one in entries)}]"


async def gather(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the settings, secrets resolved."""
    endpoint = environ.get("AWS_EC2_METADATA_SERVICE_ENDPOINT") or INSTANCE_ENDPOINT
    async with aiohttp.ClientSession(timeout=TIMEOUT) as session:
        instance = await Instance.of(session, endpoint.rstrip("/"))
        settings = parse(await instance.get("user-data"))
        for name, value in settings.items():
            if (arn := SECRET.fullmatch(value)) and not name.startswith("ETCD_"):
                settings[name] = await secret(session, value, arn[1], environ)
        if "HELLO_ETCD" in settings:
            settings.setdefault("HELLO_ADVERTISE", await instance.get("meta-data/local-ipv4"))
    return settings


def quoted(value: str) -> str:
    """Return a value as systemd's EnvironmentFile= takes it, of whatever characters."""
    return '"' + re.sub(r'(["\\$`])', r"\\\1", value) + '"'


def lines(settings: Mapping[str, str]) -> str:
    """Return settings as EnvironmentFile= takes them."""
    return "".join(f"{name}={quoted(value)}\n" for name, value in settings.items())


def write(path: Path, text: str, mode: int = 0o600) -> None:
    """Write all or nothing, by default for root alone."""
    new = path.with_name(f".{path.name}")
    new.touch(0o600)
    new.write_text(text)
    new.chmod(mode)
    new.replace(path)


def store(settings: dict[str, str], folder: Path) -> None:
    """Write what the services read."""
    if group := settings.pop("LOG_GROUP", ""):
        write(folder / "agent", f"LOG_GROUP={quoted(group)}\n")
    if "ETCD_NAME" in settings:
        write(folder / "etcd", lines(settings))
        return
    if settings.get("HELLO_ETCD_CA", "").startswith(CERTIFICATE):
        # The service reads it itself, and is not root.
        public = folder.with_name(f"{folder.name}-public")
        public.chmod(0o755)
        write(public / "etcd-ca.pem", settings["HELLO_ETCD_CA"], 0o644)
        settings["HELLO_ETCD_CA"] = str(public / "etcd-ca.pem")
    key, entries = with_metrics_key(settings.get("HELLO_KEYS", ""))
    if "HELLO_KEYS" in settings or "HELLO_OIDC_ISSUER" in settings:  # an open service stays one
        settings["HELLO_KEYS"] = entries
    write(folder / "metrics-key", key)
    write(folder / "environment", lines(settings))


def main() -> None:
    """Try until it is done; end at once where trying again would be of no use."""
    folder = Path(sys.argv[1])
    while True:
        try:
            settings = asyncio.run(gather(os.environ))
            store(settings, folder)
        except (UserDataError, keys.KeysError) as error:
            sys.exit(f"hello-settings: {error}")
        except (NotYetError, CredentialsError) as error:
            reason = str(error)
        except (OSError, aiohttp.ClientError, ValueError, LookupError) as error:
            reason = type(error).__name__  # texts of errors may hold what was answered
        else:
            print("settings of this instance:", ", ".join(sorted(settings)) or "none")
            return
        print(f"hello-settings: {reason}; trying again in {RETRY_SECONDS:g} s", file=sys.stderr)
        time.sleep(RETRY_SECONDS)


if __name__ == "__main__":
    main()
