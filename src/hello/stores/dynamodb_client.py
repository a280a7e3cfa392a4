"""Signed requests to DynamoDB's HTTP JSON API, with retries and errors in the store's terms."""

import asyncio
import os
import random
import time
from collections.abc import Coroutine, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import aiohttp
import msgspec
from yarl import URL

from hello.stores.aws_credentials import LATE, Credentials, RenewedCredentials
from hello.stores.aws_signing import Signer
from hello.stores.aws_sources import domain, source
from hello.stores.base import StoreError, StoreUnavailableError
from hello.timeouts import SharedTimeout

T = TypeVar("T")

API = "DynamoDB_20120810"
LEAST_CONNECTIONS = 32
THROTTLED = {"ProvisionedThroughputExceededException", "ThrottlingException", "RequestLimitExceeded"}
EXPIRED = "ExpiredTokenException"
BAD_CREDENTIALS = {
    EXPIRED,
    "InvalidSignatureException",
    "MissingAuthenticationTokenException",
    "UnrecognizedClientException",
}
THROTTLES = "DynamoDB throttles the table's requests."
FIRST_PAUSE, LONGEST_PAUSE = 0.05, 1.0  # seconds

_decode = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder().encode


class RefusedError(StoreError):
    """DynamoDB refused a request; `code` is its name of the reason."""

    def __init__(self, code: str) -> None:
        super().__init__(f"DynamoDB refused the request: {code}.")
        self.code = code


class MissingTableError(StoreError):
    """There is no such table, or not yet."""


class Client:
    """Calls DynamoDB for one table, in one region.

    An operation of the store enters `time_limit` around all of its calls: it bounds their retries too.

    An HTTP/1.1 connection carries one request at a time, and a page of birthdays is 16 of them: a client
    opens up to `connections`, and never less than 32 where load needs them, so that one page holds up no
    other request. They are opened as needed, and closed when 15 seconds idle.
    """

    def __init__(self, region: str, table: str, timeout: float, connections: int) -> None:
        self.table = table
        self._limit = SharedTimeout(timeout)
        self._trouble = ""  # why the last request failed, until one succeeds
        self._url = _endpoint(region)
        self._signer = Signer(region, "dynamodb", str(self._url.host_port_subcomponent))
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=max(connections, LEAST_CONNECTIONS)),
            # One address of several that does not answer leaves time to try the next.
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=timeout / 3),
            headers={"Accept-Encoding": "identity"},
            cookie_jar=aiohttp.DummyCookieJar(),
        )
        self._credentials = RenewedCredentials(source(region))

    async def close(self) -> None:
        """Close the connections."""
        await self._credentials.close()
        await self._session.close()

    @contextmanager
    def time_limit(self) -> Iterator[None]:
        """Raise StoreUnavailableError inside after `timeout` seconds; a task enters it once at a time."""
        try:
            with self._limit:
                yield
        except TimeoutError:
            raise StoreUnavailableError(self._trouble or "DynamoDB did not answer in time.") from None

    async def call(self, action: str, *, repeat: bool = True, **payload: Any) -> Any:
        """Send a request about the table; see `send`."""
        return await self.send(action, {"TableName": self.table, **payload}, repeat=repeat)

    async def send(self, action: str, payload: Mapping[str, Any], *, repeat: bool = True) -> Any:
        """Return the answer to one request, once there is one: the caller's time limit ends the retries.

        With `repeat` it is sent again after any passing failure, else only where nothing can have been done.

        Raises:
            RefusedError: a reason that sending again would not change.
            MissingTableError: that reason is that there is no table.
            StoreUnavailableError: the credentials are missing or not let in, or not to be repeated.
        """
        body = _encode(payload)
        pause = FIRST_PAUSE
        while True:
            undone, reason, answer = await self._try(action, body)
            self._trouble = reason
            if not reason:
                return answer
            if not (undone or repeat):
                raise StoreUnavailableError(reason)
            await asyncio.sleep(random.uniform(0, pause))  # noqa: S311 - full jitter
            pause = min(pause * 2, LONGEST_PAUSE)

    async def send_all(
        self, action: str, requests: Sequence[Any] | Mapping[str, Any], left: str
    ) -> list[Any]:
        """Send a batch about the table, and again what is `left` over; return all answers."""
        answers = []
        items: Any = {self.table: requests}
        pause = FIRST_PAUSE
        while True:
            answers.append(await self.send(action, {"RequestItems": items}))
            items = answers[-1].get(left)
            if not items:
                return answers
            self._trouble = THROTTLES  # why DynamoDB leaves anything over
            await asyncio.sleep(random.uniform(0, pause))  # noqa: S311 - full jitter
            pause = min(pause * 2, LONGEST_PAUSE)

    async def _try(self, action: str, body: bytes) -> tuple[bool, str, Any]:
        """Return whether surely nothing was done, why it failed ("" for success), and the answer."""
        try:
            credentials = await self._credentials.get()
        except asyncio.CancelledError:
            self._trouble = LATE  # in case it was the time limit
            raise
        tried = await self._once(action, body, credentials)
        if tried[1] == EXPIRED:
            credentials = await self._credentials.replace(credentials)
            tried = await self._once(action, body, credentials)
        if tried[1] in BAD_CREDENTIALS:
            raise StoreUnavailableError(
                f"AWS does not accept the credentials ({tried[1]}): renew them,"
                " and see that this machine's clock is right."
            )
        return tried

    async def _once(self, action: str, body: bytes, credentials: Credentials) -> tuple[bool, str, Any]:
        headers = self._signer.headers(credentials, f"{API}.{action}", body, time.time())
        try:
            async with self._session.post(
                self._url, headers=headers, data=body, allow_redirects=False
            ) as response:
                answer = await response.read()
        except aiohttp.ClientConnectorCertificateError:
            return True, "DynamoDB can't be reached: its TLS certificate is not accepted.", None
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError):
            return True, "DynamoDB can't be reached: no connection is made.", None
        except (aiohttp.ClientError, OSError):
            return False, "DynamoDB did not answer: the connection was lost.", None
        if response.status == 200:
            try:
                return True, "", _decode(answer)
            except msgspec.DecodeError:
                return False, "DynamoDB's answer is not JSON: is the endpoint DynamoDB?", None
        code = _code(answer)
        if code in THROTTLED:
            return True, THROTTLES, None
        if code in BAD_CREDENTIALS:
            return True, code, None
        if response.status >= 500:
            return False, f"DynamoDB answered with status {response.status}.", None
        if code == "AccessDeniedException":
            raise StoreUnavailableError(
                f"AWS does not let these credentials do dynamodb:{action} on the table {self.table}."
            )
        if code == "ResourceNotFoundException":
            raise MissingTableError(
                f"There is no table {self.table} in this region, or it lacks its index: run `hello migrate`."
            )
        raise RefusedError(code or f"status {response.status}")


async def together(calls: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """Return what all of them return; with the first that fails, or a cancellation, the rest end too."""
    tasks = [asyncio.ensure_future(call) for call in calls]
    try:
        return await asyncio.gather(*tasks)
    except BaseException:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        raise


def _endpoint(region: str) -> URL:
    given = os.environ.get("AWS_ENDPOINT_URL_DYNAMODB") or os.environ.get("AWS_ENDPOINT_URL")
    try:
        origin = URL(given or f"https://dynamodb.{domain(region)}").origin()
    except ValueError:
        origin = URL()
    if origin.scheme not in {"http", "https"}:
        raise StoreError("AWS_ENDPOINT_URL is no address such as http://localhost:8000.")
    return origin / ""


def _code(answer: bytes) -> str:
    try:
        return str(_decode(answer)["__type"]).rpartition("#")[2]
    except (msgspec.DecodeError, KeyError, TypeError):
        return ""
