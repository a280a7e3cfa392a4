"""Signed requests to DynamoDB's HTTP JSON API, with retries and errors in the store's terms."""

import asyncio
import json
import os
import random
from collections.abc import Mapping
from typing import Any

import aiohttp
from aiodynamo.credentials import (
    ChainCredentials,
    ContainerMetadataCredentials,
    EnvironmentCredentials,
    FileCredentials,
    InstanceMetadataCredentialsV2,
)
from aiodynamo.http.aiohttp import AIOHTTP
from aiodynamo.sign import make_default_endpoint, signed_dynamo_request
from yarl import URL

from hello.stores.base import StoreError, StoreUnavailableError
from hello.timeouts import SharedTimeout

THROTTLED = {"ProvisionedThroughputExceededException", "ThrottlingException", "RequestLimitExceeded"}
BAD_CREDENTIALS = {
    "AccessDeniedException",
    "ExpiredTokenException",
    "InvalidSignatureException",
    "MissingAuthenticationTokenException",
    "UnrecognizedClientException",
}
FIRST_PAUSE, LONGEST_PAUSE = 0.05, 1.0  # seconds


class RefusedError(StoreError):
    """DynamoDB refused a request; `code` is its name of the reason."""

    def __init__(self, code: str) -> None:
        super().__init__(f"DynamoDB refused the request: {code}.")
        self.code = code


class Client:
    """Calls one region's DynamoDB. Each `limit` that a caller enters bounds the retries made inside."""

    def __init__(self, region: str, timeout: float, connections: int) -> None:
        self.limit = SharedTimeout(timeout)
        self._region = region
        endpoint = os.environ.get("AWS_ENDPOINT_URL_DYNAMODB") or os.environ.get("AWS_ENDPOINT_URL")
        self._endpoint = URL(endpoint) if endpoint else make_default_endpoint(region)
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=connections), timeout=aiohttp.ClientTimeout(timeout)
        )
        self._credentials = ChainCredentials(
            [
                EnvironmentCredentials(),
                FileCredentials(),
                ContainerMetadataCredentials(),
                InstanceMetadataCredentialsV2(),
            ]
        )

    async def close(self) -> None:
        """Close the connections."""
        await self._session.close()

    async def call(self, action: str, payload: Mapping[str, Any], *, repeat: bool = True) -> Any:
        """Return the answer to one request.

        With `repeat` it is sent again after any passing failure, else only where nothing can have been done.

        Raises:
            RefusedError: a reason that sending again would not change.
            StoreUnavailableError: no answer, throttled or not let in.
        """
        pause = FIRST_PAUSE
        reason = "DynamoDB did not answer in time."
        try:
            with self.limit:
                while True:
                    again, reason, answer = await self._once(action, payload)
                    if not reason:
                        return answer
                    if not (again or repeat):
                        raise StoreUnavailableError(reason)
                    await asyncio.sleep(random.uniform(0, pause))  # noqa: S311 - full jitter
                    pause = min(pause * 2, LONGEST_PAUSE)
        except TimeoutError:
            raise StoreUnavailableError(reason or "DynamoDB did not answer in time.") from None

    async def _once(self, action: str, payload: Mapping[str, Any]) -> tuple[bool, str, Any]:
        """Return whether surely nothing was done, why it failed, and the answer where it did not."""
        # aiodynamo's chain swallows a cancellation: shielded, it can't hold up the time limit.
        key = await asyncio.shield(asyncio.ensure_future(self._credentials.get_key(AIOHTTP(self._session))))
        if key is None:
            raise StoreUnavailableError(
                "No AWS credentials were found: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, "
                "AWS_PROFILE, or give the task or instance a role."
            )
        signed = signed_dynamo_request(
            key=key, payload=payload, action=action, region=self._region, endpoint=self._endpoint
        )
        try:
            async with self._session.post(signed.url, headers=signed.headers, data=signed.body) as response:
                body = await response.read()
        except aiohttp.ClientConnectorError:
            return True, "DynamoDB can't be reached: the connection was refused or has no route.", None
        except (aiohttp.ClientError, TimeoutError):
            return False, "DynamoDB did not answer: the connection was lost.", None
        if response.status == 200:
            return True, "", json.loads(body)
        try:
            code = str(json.loads(body)["__type"]).rpartition("#")[2]
        except (ValueError, KeyError, TypeError):
            code = ""
        if code in THROTTLED:
            return True, "DynamoDB throttles the table's requests.", None
        if response.status >= 500:
            return False, f"DynamoDB answered with status {response.status}.", None
        if code in BAD_CREDENTIALS:
            self._credentials.invalidate()
            raise StoreUnavailableError(f"AWS does not accept the credentials ({code}): renew them.")
        raise RefusedError(code or f"status {response.status}")
