"""A client of etcd's v3 JSON gateway: requests that any member may answer, and a watch.

Keys and values are base64 there, and 64-bit numbers are text.
"""

import asyncio
import random
import ssl
from base64 import b64decode, b64encode
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing, contextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp
import msgspec

REQUEST_SECONDS = 2.0  # that one member may take
PULSE_SECONDS = 2.0  # of silence after which a watch asks whether its member is still part of a quorum
ERROR_BYTES = 200  # of an error's text that are told

# A watch through a member without a leader says so, where it would be silent.
HAS_LEADER = {"Grpc-Metadata-hasleader": "true"}
AUTHENTICATE, RANGE, TRANSACTION, WATCH = "auth/authenticate", "kv/range", "kv/txn", "watch"
GRANT, KEEP_ALIVE, REVOKE = "lease/grant", "lease/keepalive", "lease/revoke"

_decode = msgspec.json.decode
_encode = msgspec.json.encode


class EtcdError(Exception):
    """etcd can't be asked now; the message says why."""


class DeniedError(EtcdError):
    """etcd does not let this user in, or do this: asking again changes nothing."""


class CompactedError(EtcdError):
    """The changes since that revision are not kept any more: list anew."""


class _RefusedError(EtcdError):
    """A member answered, and the others would say the same."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"it answered {status}: {message}")
        self.status = status
        self.message = message


@dataclass(frozen=True)
class Event:
    """A key that was put, or with the value None, one that is gone."""

    key: str
    value: bytes | None


class Etcd:
    """Asks the members in turn; the one that answered last is asked first."""

    def __init__(
        self,
        members: Sequence[str],
        *,
        user: str | None = None,
        password: Callable[[], str] = str,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """Know the members by their URLs; `password` is called at each login."""
        self._members = deque(random.sample(members, len(members)))  # so that not all ask the same one
        self._user = user
        self._password = password
        self._token: str | None = None  # "" where etcd asks for none
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=True if tls is None else tls),
            timeout=aiohttp.ClientTimeout(total=None),
            headers={"Accept-Encoding": "identity"},
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
        )

    @property
    def member(self) -> str:
        """The URL of the member that is asked first."""
        return self._members[0]

    async def close(self) -> None:
        """Close the connections."""
        await self._session.close()

    async def grant(self, seconds: int) -> str:
        """Make a lease, and return its id."""
        with _understood():
            return str((await self._call(GRANT, {"TTL": seconds}))["ID"])

    async def keep_alive(self, lease: str) -> bool:
        """Begin the lease's time anew; return whether there still is such a lease."""
        with _understood():
            answer = await self._call(KEEP_ALIVE, {"ID": lease})
            return int(answer["result"].get("TTL", 0)) > 0  # a lost lease has no TTL, and status 200

    async def revoke(self, lease: str, seconds: float) -> None:
        """End the lease, and all that was put under it; give up after `seconds`."""
        try:
            async with asyncio.timeout(seconds):
                await self._call(REVOKE, {"ID": lease}, seconds / len(self._members))
        except TimeoutError:
            raise EtcdError("no member answered in time") from None
        except _RefusedError as error:
            if error.status != 404:  # there is no such lease any more
                raise

    async def hold(self, key: str, value: bytes, lease: str) -> None:
        """Put the key under this lease, unless it is."""
        encoded = _base64(key.encode())
        put = {"request_put": {"key": encoded, "value": _base64(value), "lease": lease}}
        ours = {"key": encoded, "target": "LEASE", "result": "EQUAL", "lease": lease}
        await self._call(TRANSACTION, {"compare": [ours], "failure": [put]})

    async def list(self, prefix: str) -> tuple[dict[str, bytes], int]:
        """Return the values by key of all keys with the prefix, and the revision that they were read at."""
        with _understood():
            answer = await self._call(RANGE, _range(prefix))
            found = {_text(pair["key"]): b64decode(pair.get("value", "")) for pair in answer.get("kvs", ())}
            return found, int(answer["header"]["revision"])

    async def watch(self, prefix: str, revision: int) -> AsyncGenerator[Sequence[Event], None]:
        """Yield what happens to keys with the prefix, from a revision on, until something fails.

        Raises:
            CompactedError: list anew, and watch from there.
            DeniedError: this user may not read the prefix.
            EtcdError: the member is gone, silent, or without a quorum; another one is asked next.
        """
        member = self.member
        create = {"create_request": {**_range(prefix), "start_revision": str(revision)}}
        try:
            async with (
                self._session.post(
                    f"{member}/v3/{WATCH}", data=_encode(create), headers=self._headers() | HAS_LEADER
                ) as response,
                aclosing(self._lines(member, prefix, response.content)) as lines,
            ):
                with _cut_off(response):
                    async for line in lines:
                        if events := _events(line):
                            yield events
        except (aiohttp.ClientError, OSError) as error:
            self._members.rotate(-1)
            raise EtcdError(f"the watch ended ({type(error).__name__})") from None
        except (CompactedError, DeniedError):
            raise
        except EtcdError:
            self._members.rotate(-1)
            raise

    async def _lines(
        self, member: str, prefix: str, content: aiohttp.StreamReader
    ) -> AsyncGenerator[bytes, None]:
        rest = b""
        while True:
            try:
                async with asyncio.timeout(PULSE_SECONDS):
                    chunk = await content.readany()
            except TimeoutError:
                # Nothing happened, or it is frozen or cut off: a reading needs the quorum.
                await self._ask(member, RANGE, {**_range(prefix), "count_only": True}, REQUEST_SECONDS)
                continue
            if not chunk:
                raise EtcdError("the watch ended")
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                if line:
                    yield line

    async def _call(
        self, path: str, payload: Mapping[str, Any], seconds: float = REQUEST_SECONDS
    ) -> dict[str, Any]:
        failure = EtcdError("there is no member")
        # Twice where there is one only: a connection that was kept may have been closed meanwhile.
        for _ in range(max(2, len(self._members))):
            try:
                return await self._ask(self.member, path, payload, seconds)
            except (DeniedError, _RefusedError):
                raise
            except EtcdError as error:
                failure = error
                self._members.rotate(-1)
        raise failure

    async def _ask(
        self, member: str, path: str, payload: Mapping[str, Any], seconds: float
    ) -> dict[str, Any]:
        if self._user is not None and self._token is None:
            await self._log_in(member, seconds)
        try:
            return await self._post(member, path, payload, seconds)
        except _RefusedError as error:
            # A token that has expired is 401; one from before the last change of users and roles, or none
            # where one is needed since just now, is 400.
            if self._user is None or error.status not in {400, 401}:
                raise _explained(error) from None
        await self._log_in(member, seconds)
        try:
            return await self._post(member, path, payload, seconds)
        except _RefusedError as error:
            raise _explained(error) from None

    async def _log_in(self, member: str, seconds: float) -> None:
        self._token = None
        try:
            answer = await self._post(
                member, AUTHENTICATE, {"name": self._user, "password": self._password()}, seconds
            )
        except _RefusedError as error:
            if "authentication is not enabled" not in error.message:
                raise _explained(error) from None
            self._token = ""
        else:
            with _understood():
                self._token = str(answer["token"])

    async def _post(
        self, member: str, path: str, payload: Mapping[str, Any], seconds: float
    ) -> dict[str, Any]:
        try:
            async with (
                asyncio.timeout(seconds),
                self._session.post(
                    f"{member}/v3/{path}",
                    data=_encode(payload),
                    headers=self._headers(),
                    allow_redirects=False,
                ) as response,
            ):
                status, answer = response.status, _read(response.status, await response.read())
        except TimeoutError:
            raise EtcdError(f"{member} did not answer in time") from None
        except aiohttp.ClientConnectorCertificateError:
            raise EtcdError(f"the certificate of {member} is not accepted") from None
        except aiohttp.ClientConnectorError:
            raise EtcdError(f"{member} can't be reached") from None
        except (aiohttp.ClientError, OSError, msgspec.DecodeError) as error:
            raise EtcdError(
                f"{member} gave no answer that hello understands ({type(error).__name__})"
            ) from None
        if status == 200 and "error" not in answer:
            return answer
        message = _message(answer)
        if status == 200 or status == 429 or status >= 500:
            raise EtcdError(f"{member} answered {status}: {message}")
        raise _RefusedError(status, message)

    def _headers(self) -> dict[str, str]:
        return {"Authorization": self._token} if self._token else {}


@contextmanager
def _cut_off(response: aiohttp.ClientResponse) -> Iterator[None]:
    """Close the connection of a stream at once: an end by TLS's rules may take longer than the loop lives."""
    try:
        yield
    finally:
        if response.connection is not None and response.connection.transport is not None:
            response.connection.transport.abort()


def _explained(error: _RefusedError) -> EtcdError:
    """Return the error as what it means."""
    if error.status in {401, 403} or "authentication failed" in error.message:
        return DeniedError(f"it does not let this user in, or do this ({error.message})")
    if "user name is empty" in error.message:
        return DeniedError("it wants a user: give --etcd-user and its password")
    return error


@contextmanager
def _understood() -> Iterator[None]:
    """Raise EtcdError where an answer is JSON, and not etcd's."""
    try:
        yield
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise EtcdError(f"a member gave no answer that hello understands ({type(error).__name__})") from None


def _events(line: bytes) -> Sequence[Event]:
    """Return what a line of a watch tells; raise what it ends with."""
    with _understood():
        return _read_events(_decode(line))


def _read_events(told: Mapping[str, Any]) -> Sequence[Event]:
    if "error" in told:
        raise EtcdError(_message(told["error"]))
    result = told["result"]
    if int(result.get("compact_revision", 0)):
        raise CompactedError("the changes are not kept any more")
    if result.get("canceled"):
        raise DeniedError(
            f"it does not let this user watch ({result.get('cancel_reason', 'no reason told')})"
        )
    return [
        Event(
            _text(event["kv"]["key"]),
            None if event.get("type") == "DELETE" else b64decode(event["kv"].get("value", "")),
        )
        for event in result.get("events", ())
    ]


def _range(prefix: str) -> dict[str, str]:
    end = prefix[:-1] + chr(ord(prefix[-1]) + 1)
    return {"key": _base64(prefix.encode()), "range_end": _base64(end.encode())}


def _base64(data: bytes) -> str:
    return b64encode(data).decode()


def _text(data: str) -> str:
    return b64decode(data).decode(errors="replace")


def _read(status: int, body: bytes) -> dict[str, Any]:
    """Return the first object of an answer: that of a stream has one a line. Some errors are plain text."""
    try:
        return _decode(body.partition(b"\n")[0] or b"{}", type=dict[str, Any])
    except msgspec.DecodeError:
        if status == 200:
            raise
        return {"message": body[:ERROR_BYTES].decode(errors="replace").strip()}


def _message(answer: Mapping[str, Any]) -> str:
    told = answer.get("message") or answer.get("error")
    return str(told.get("message") if isinstance(told, Mapping) else told).removeprefix("etcdserver: ")
