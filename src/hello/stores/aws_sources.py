"""Where AWS credentials come from, in the order of AWS's own tools."""

import configparser
import json
import os
import re
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp

from hello.stores.aws_credentials import Credentials, CredentialsError, Source

TIMEOUT = aiohttp.ClientTimeout(total=5, sock_connect=1)
CONTAINER_HOST = "http://169.254.170.2"
# Beyond loopback, the hosts that may be asked without TLS: of ECS, and of EKS over IPv4 and IPv6.
CONTAINER_HOSTS = {"169.254.170.2", "169.254.170.23", "fd00:ec2::23", "localhost", "127.0.0.1", "::1"}
INSTANCE_ENDPOINT = "http://169.254.169.254"
INSTANCE_PATH = "/latest/meta-data/iam/security-credentials/"
TOKEN_SECONDS = 21600
NONE_FOUND = (
    "No AWS credentials were found: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, "
    "or give the task, pod or instance a role."
)


def domain(region: str) -> str:
    """Return the domain under which the services of a region are."""
    return f"{region}.amazonaws.com{'.cn' if region.startswith('cn-') else ''}"


def source(region: str, environ: Mapping[str, str] = os.environ) -> Source:
    """Return what gives credentials: the first of these that is set up.

    The environment; web identity (EKS); a profile of the shared credentials file; the container's
    endpoint (ECS, EKS Pod Identity); the instance's metadata (EC2, IMDSv2). What is set up and fails is
    an error: the ones after it are not tried.
    """

    async def give() -> Credentials:
        try:
            return await _give(region, environ)
        except (OSError, aiohttp.ClientError, ValueError) as error:
            # The kind is all that is said: texts of errors may hold a URL or a file's content.
            raise CredentialsError(
                f"AWS credentials could not be had from their source ({type(error).__name__})."
            ) from None

    return give


async def _give(region: str, environ: Mapping[str, str]) -> Credentials:
    # Stripped: a secret that was mounted or piped often has a line break behind it.
    key_id = environ.get("AWS_ACCESS_KEY_ID", "").strip()
    secret = environ.get("AWS_SECRET_ACCESS_KEY", "").strip()
    if key_id and secret:
        return Credentials(key_id, secret, environ.get("AWS_SESSION_TOKEN", "").strip() or None)
    if environ.get("AWS_WEB_IDENTITY_TOKEN_FILE") and environ.get("AWS_ROLE_ARN"):
        return await _web_identity(region, environ)
    if credentials := _profile(environ):
        return credentials
    if relative := environ.get("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"):
        return await _container(CONTAINER_HOST + relative, environ)
    if url := environ.get("AWS_CONTAINER_CREDENTIALS_FULL_URI"):
        return await _container(url, environ)
    if environ.get("AWS_EC2_METADATA_DISABLED", "").lower() != "true":
        return await _instance(environ.get("AWS_EC2_METADATA_SERVICE_ENDPOINT") or INSTANCE_ENDPOINT)
    raise CredentialsError(NONE_FOUND)


def _profile(environ: Mapping[str, str]) -> Credentials | None:
    given, name = environ.get("AWS_SHARED_CREDENTIALS_FILE"), environ.get("AWS_PROFILE")
    parser = configparser.RawConfigParser()
    try:
        parser.read_string(Path(given or "~/.aws/credentials").expanduser().read_text())
        profile = parser[name or "default"]
        return Credentials(
            profile["aws_access_key_id"],
            profile["aws_secret_access_key"],
            profile.get("aws_session_token") or None,
        )
    except configparser.Error:
        raise CredentialsError("The shared AWS credentials file is not well-formed.") from None
    except (FileNotFoundError, KeyError):
        if name:
            raise CredentialsError(f"There is no AWS profile {name} with a key and a secret.") from None
        return None
    except (OSError, RuntimeError, ValueError) as error:  # not ours to read, no home, or not UTF-8
        if name or given:
            raise CredentialsError(
                f"The shared AWS credentials file can't be read ({type(error).__name__})."
            ) from None
        return None  # there may be a role


async def _web_identity(region: str, environ: Mapping[str, str]) -> Credentials:
    endpoint = (
        environ.get("AWS_ENDPOINT_URL_STS")
        or environ.get("AWS_ENDPOINT_URL")
        or f"https://sts.{domain(region)}"
    )
    form = {
        "Action": "AssumeRoleWithWebIdentity",
        "Version": "2011-06-15",
        "RoleArn": environ["AWS_ROLE_ARN"],
        "RoleSessionName": environ.get("AWS_ROLE_SESSION_NAME") or "hello",
        "WebIdentityToken": _secret_file(environ["AWS_WEB_IDENTITY_TOKEN_FILE"]),
    }
    async with (
        aiohttp.ClientSession(timeout=TIMEOUT) as session,
        session.post(f"{endpoint.rstrip('/')}/", data=form, allow_redirects=False) as response,
    ):
        text = await response.text()
    if response.status != 200:
        code = re.search(r"<Code>(\w+)</Code>", text)
        raise CredentialsError(
            "AWS gave no credentials for the web identity "
            f"({code[1] if code else f'status {response.status}'}): check AWS_ROLE_ARN and the role's trust."
        )
    fields = dict(re.findall(r"<(AccessKeyId|SecretAccessKey|SessionToken|Expiration)>([^<]+)<", text))
    return _credentials({**fields, "Token": fields.get("SessionToken")}, "AWS STS")


async def _container(url: str, environ: Mapping[str, str]) -> Credentials:
    parts = urlsplit(url)
    if parts.scheme != "https" and (parts.scheme != "http" or parts.hostname not in CONTAINER_HOSTS):
        raise CredentialsError(
            "AWS_CONTAINER_CREDENTIALS_FULL_URI must be https, or an address of this machine, ECS or EKS."
        )
    if path := environ.get("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"):
        token = _secret_file(path)
    else:
        token = environ.get("AWS_CONTAINER_AUTHORIZATION_TOKEN", "")
    if "\r" in token or "\n" in token:
        raise CredentialsError("The container's authorization token has a line break.")
    headers = {"Authorization": token} if token else {}
    async with aiohttp.ClientSession(timeout=TIMEOUT) as session:
        text = await _get(session, url, headers, "The container's credentials endpoint")
    return _credentials(_object(text), "The container's credentials endpoint")


async def _instance(endpoint: str) -> Credentials:
    endpoint = endpoint.rstrip("/")
    kind = "The instance's metadata service"
    async with aiohttp.ClientSession(timeout=TIMEOUT) as session:
        try:
            asked = {"X-aws-ec2-metadata-token-ttl-seconds": str(TOKEN_SECONDS)}
            async with session.put(f"{endpoint}/latest/api/token", headers=asked) as response:
                token = await response.text()
        except (OSError, aiohttp.ClientError):  # no EC2 instance, or its hop limit keeps a container out
            raise CredentialsError(NONE_FOUND) from None
        if response.status != 200:
            raise CredentialsError(f"{kind} gave no token (status {response.status}).")
        headers = {"X-aws-ec2-metadata-token": token}
        role = (await _get(session, endpoint + INSTANCE_PATH, headers, kind)).split("\n")[0].strip()
        text = await _get(session, endpoint + INSTANCE_PATH + role, headers, kind)
    return _credentials(_object(text), kind)


async def _get(session: aiohttp.ClientSession, url: str, headers: Mapping[str, str], kind: str) -> str:
    async with session.get(url, headers=headers, allow_redirects=False) as response:
        text = await response.text()
    if response.status != 200:
        raise CredentialsError(f"{kind} gave no credentials (status {response.status}).")
    return text


def _secret_file(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError as error:
        raise CredentialsError(f"The token file {path} can't be read ({type(error).__name__}).") from None


def _object(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None


def _credentials(fields: Any, kind: str) -> Credentials:
    try:
        expires = datetime.fromisoformat(fields["Expiration"]).timestamp()
        return Credentials(fields["AccessKeyId"], fields["SecretAccessKey"], fields["Token"], expires)
    except (KeyError, TypeError, ValueError):
        raise CredentialsError(f"{kind} gave no credentials that hello understands.") from None
