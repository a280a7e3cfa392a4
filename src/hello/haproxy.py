"""A backend of HAProxy that is kept in step with who is registered, through its Runtime API.

What is there is compared with what should be, again and again: whichever side was restarted, or missed
something, is right after the next look.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from hello.endpoints import is_address, joined
from hello.instances import LEASE_SECONDS, Instance, Snapshot

PREFIX = "etcd-"  # of the names of our servers; others in the backend are left alone
COMMAND_SECONDS = 5.0
MAINTENANCE, DRAIN = 0x01, 0x08  # of a server's srv_admin_state: as it was told to be


class HAProxyError(Exception):
    """HAProxy can't be told now; the message says why."""


@dataclass(frozen=True)
class Server:
    """A server of the backend, as HAProxy has it."""

    address: str
    admin: int


class Members:
    """Who should be in the backend.

    Those whose record ended while etcd was watched are out at once. Those that are missing when etcd is
    listed anew, after it was away, stay for the time of a lease: their own registration may be on its way
    back, and health checks watch over them. When nobody is left, all stay: then it is etcd that was lost.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._instances: Mapping[str, Instance] = {}
        self._missing: dict[str, tuple[Instance, float]] = {}

    def update(self, snapshot: Snapshot) -> None:
        """Take who is registered now."""
        until = self._clock() + LEASE_SECONDS
        if snapshot.listed:
            gone = {n: (i, until) for n, i in self._instances.items() if n not in snapshot.instances}
            self._missing = {**gone, **self._missing}
        self._missing = {n: m for n, m in self._missing.items() if n not in snapshot.instances}
        self._instances = snapshot.instances

    def wanted(self) -> dict[str, Instance]:
        """Return the members by id; nobody where nobody is registered, and all are to stay."""
        if not self._instances:
            return {}
        now = self._clock()
        self._missing = {n: (i, until) for n, (i, until) in self._missing.items() if until > now}
        return {**{n: i for n, (i, _) in self._missing.items()}, **self._instances}


class Backend:
    """One backend. Its servers that are named after ids of instances are ours."""

    def __init__(self, socket: Path, name: str, options: str, say: Callable[[str], None]) -> None:
        """Talk to HAProxy at `socket`; new servers get `options`, what is done is told to `say`."""
        self._socket = socket
        self._name = name
        self._options = options
        self._say = say
        self._skipped: set[str] = set()

    async def reconcile(self, wanted: Mapping[str, Instance]) -> None:
        """Bring the backend a step closer to these instances by id; a server that leaves takes several.

        Where there are none, nothing is removed.

        Raises:
            HAProxyError: it can't be reached, or refused something.
        """
        servers = await self._servers()
        addresses = self._addresses(wanted)
        for name, address in addresses.items():
            if name not in servers:
                await self._add(name, address)
            elif servers[name].address == address and servers[name].admin & (MAINTENANCE | DRAIN):
                await self._enable(name)
        if addresses:
            for name, server in servers.items():
                if addresses.get(name) != server.address:
                    await self._remove(name, server)

    def _addresses(self, wanted: Mapping[str, Instance]) -> dict[str, str]:
        """Return address and port by name of the server: the Runtime API takes no names of hosts."""
        for skipped in {i.host for i in wanted.values() if not is_address(i.host)} - self._skipped:
            self._skipped.add(skipped)
            self._say(f"left out {skipped}: HAProxy takes addresses; register one by HELLO_ADVERTISE")
        return {f"{PREFIX}{n}": i.address for n, i in wanted.items() if is_address(i.host)}

    async def _servers(self) -> dict[str, Server]:
        answer = await self._command(f"show servers state {self._name}")
        head, _, rows = answer.partition("\n# ")[2].partition("\n")
        if not head:
            raise HAProxyError(answer.strip() or "it gave no answer")
        columns = head.split()
        servers = [dict(zip(columns, row.split(), strict=False)) for row in rows.strip().splitlines()]
        return {
            server["srv_name"]: Server(
                joined(server["srv_addr"], int(server["srv_port"])),
                int(server["srv_admin_state"]),
            )
            for server in servers
            if server["srv_name"].startswith(PREFIX)
        }

    async def _add(self, name: str, address: str) -> None:
        answer = await self._command(f"add server {self._name}/{name} {address} {self._options}")
        if "New server registered" not in answer:
            raise HAProxyError(f"it does not add {address}: {answer.strip()}")
        await self._enable(name)
        self._say(f"added {address}")

    async def _enable(self, name: str) -> None:
        """Have the server checked, and requests sent to it."""
        for command in (f"enable health {self._name}/{name}", f"set server {self._name}/{name} state ready"):
            if answer := (await self._command(command)).strip():
                raise HAProxyError(answer)

    async def _remove(self, name: str, server: Server) -> None:
        """Send no new requests there; once those under way are answered, delete the server."""
        if not server.admin & (MAINTENANCE | DRAIN):
            await self._command(f"set server {self._name}/{name} state drain")
            self._say(f"draining {server.address}")
        elif not server.admin & MAINTENANCE:
            await self._command(f"set server {self._name}/{name} state maint")
        elif "Server deleted" in await self._command(f"del server {self._name}/{name}"):
            self._say(f"removed {server.address}")  # else it still has connections: again at the next look

    async def _command(self, command: str) -> str:
        try:
            async with asyncio.timeout(COMMAND_SECONDS):
                reader, writer = await asyncio.open_unix_connection(self._socket)
                try:
                    writer.write(f"{command}\n".encode())
                    return (await reader.read()).decode()
                finally:
                    writer.close()
        except TimeoutError:
            raise HAProxyError("it did not answer in time") from None
        except OSError as error:
            raise HAProxyError(f"{self._socket}: {error.strerror}") from None
