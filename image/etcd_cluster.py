"""What a member asks of its cluster, by etcd's JSON gateway: users, and to be let in without its data."""

import json
import ssl
from base64 import b64encode
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import aiohttp
from settings import NotYetError

from hello.stores.aws_sources import TIMEOUT

PREFIX = "/skydns/local/hello/"  # what the service may write
AUTH_OFF = "authentication is not enabled"

Certificate = tuple[Path, Path]  # and its key


class Gateway:
    """The gateway of one member, asked by whoever knows the authority and root's password."""

    def __init__(self, url: str, ca: str) -> None:
        """`ca` is the authority's certificate, in PEM."""
        tls = ssl.create_default_context(cadata=ca)
        self._url = url
        self._session = aiohttp.ClientSession(timeout=TIMEOUT, connector=aiohttp.TCPConnector(ssl=tls))
        self._headers: dict[str, str] = {}

    async def __aenter__(self) -> "Gateway":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._session.close()

    async def ask(self, path: str, *known: str, **payload: Any) -> dict[str, Any] | str:
        """Return the answer, or which of the known errors it was.

        Raises:
            NotYetError: it was another error.
        """
        async with self._session.post(
            f"{self._url}/v3/{path}", json=payload, headers=self._headers
        ) as response:
            if response.status == 200:
                answer: dict[str, Any] = await response.json()
                return answer
            text = await response.text()
        for error in known:
            if error in text:
                return error
        raise NotYetError(f"etcd answered {response.status} to {path}")

    async def log_in(self, password: str) -> bool:
        """Be root from now on; return False where nobody is asked who he is."""
        answer = await self.ask("auth/authenticate", AUTH_OFF, name="root", password=password)
        if isinstance(answer, str):
            return False
        self._headers = {"Authorization": answer["token"]}
        return True


async def set_up(url: str, ca: str, passwords: Mapping[str, str]) -> None:
    """Make the users and turn auth on, unless that is done; the members may do it all at the same time."""
    async with Gateway(url, ca) as etcd:
        if await etcd.log_in(passwords["root"]):
            return
        there, authenticated = "already exists", "user name is empty"  # another member was faster
        key, end = (b64encode(text.encode()).decode() for text in (PREFIX, f"{PREFIX[:-1]}0"))
        permission = {"permType": "READWRITE", "key": key, "range_end": end}
        for path, payload in (
            ("auth/role/add", {"name": "root"}),
            ("auth/role/add", {"name": "hello"}),
            ("auth/role/grant", {"name": "hello", "perm": permission}),
            ("auth/user/add", {"name": "root", "password": passwords["root"]}),
            ("auth/user/add", {"name": "hello", "password": passwords["hello"]}),
            ("auth/user/grant", {"user": "hello", "role": "hello"}),
            ("auth/user/grant", {"user": "root", "role": "root"}),
            ("auth/enable", {}),
        ):
            if await etcd.ask(path, there, authenticated, **payload) == authenticated:
                return


async def let_in(
    others: Mapping[str, str], peer: str, ca: str, password: str, certificate: Certificate
) -> bool:
    """Have the cluster take a member without data; return False where there is no cluster yet.

    `others` are URLs for peers by those for clients, `peer` is the member's own for its peers. One that was
    started before has to be removed first: under its old identity it would be believed to have what it has
    lost. So it may begin only where nobody is, or all begin.

    Raises:
        NotYetError: another one can't be asked, or its cluster has no quorum.
    """
    doubtful = []
    for url, other in others.items():
        async with Gateway(url, ca) as etcd:
            try:
                await etcd.log_in(password)
            except (aiohttp.ClientError, TimeoutError) as error:
                # Refused: a machine is there, and no etcd. Without a quorum etcd listens, and answers nobody.
                refused = isinstance(error.__cause__, ConnectionRefusedError)
                if not refused and not await _begins(other, ca, certificate):
                    doubtful.append(url)
                continue
            listed: Any = await etcd.ask("cluster/member/list")
            known = next((one for one in listed["members"] if peer in one["peerURLs"]), None)
            if known and known.get("clientURLs"):
                await etcd.ask("cluster/member/remove", ID=known["ID"])
                known = None
            if not known:
                await etcd.ask("cluster/member/add", peerURLs=[peer])
            return True
    if doubtful:
        raise NotYetError(f"no answer from {', '.join(doubtful)}, where there may be a cluster")
    return False


async def _begins(peer: str, ca: str, certificate: Certificate) -> bool:
    """Return whether a member tells its peers of a cluster in which nobody has begun yet."""
    tls = ssl.create_default_context(cadata=ca)
    tls.load_cert_chain(*certificate)
    connector = aiohttp.TCPConnector(ssl=tls)
    try:
        async with (
            aiohttp.ClientSession(timeout=TIMEOUT, connector=connector, raise_for_status=True) as session,
            session.get(f"{peer}/members") as response,
        ):
            members: list[dict[str, Any]] = json.loads(await response.read())
    except (aiohttp.ClientError, TimeoutError, ValueError):
        return False
    return not any(one.get("clientURLs") for one in members)
