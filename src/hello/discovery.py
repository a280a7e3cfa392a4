"""Registration in etcd: a record under a lease, for as long as the service is there.

Nothing here stops the service from serving: whatever etcd does is logged once, measured, and tried again.
"""

import asyncio
import fcntl
import logging
import random
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import UTC, datetime
from ipaddress import ip_address

import msgspec

from hello import __version__
from hello.endpoints import advertised, endpoints, instance_id, is_address
from hello.etcd import Etcd, EtcdError
from hello.etcd_access import open_etcd
from hello.instances import DNS_SECONDS, LEASE_SECONDS, Instance
from hello.observability import DiscoveryMetrics
from hello.settings import Settings

logger = logging.getLogger("hello.discovery")

KEEP_ALIVE_SECONDS = LEASE_SECONDS / 3
RETRY_SECONDS = 1.0
READY_SECONDS = 0.25  # between two looks whether it is our turn, and the store answers
TURN_SECONDS = 0.01
REVOKE_SECONDS = 2.0  # that a stop waits for etcd


class Registration:
    """Keeps the record of this instance in etcd, in a task of its own.

    Of several workers one does it: the one that holds the lock on `turn`, a file that they share. When it
    ends, the system releases the lock, and the record passes to another one's lease.
    """

    def __init__(
        self,
        settings: Settings,
        etcd: Etcd,
        port: int,
        ready: Callable[[], Awaitable[bool]],
        metrics: DiscoveryMetrics,
        turn: int | None = None,
    ) -> None:
        """Register `port` unless the settings name another one; `ready` tells when."""
        self._settings = settings
        self._etcd = etcd
        self._port = port
        self._ready = ready
        self._metrics = metrics
        self._turn = turn
        self._key = ""
        self._record = b""
        self._lease: str | None = None
        self._told = ""  # what was logged last: that it is registered, or that it can't be
        self._task: asyncio.Task[None] | None = None

    @classmethod
    def open(
        cls,
        settings: Settings,
        port: int,
        ready: Callable[[], Awaitable[bool]],
        metrics: DiscoveryMetrics,
        turn: int | None = None,
    ) -> "Registration":
        """Return the registration with the client of etcd that the settings ask for; raise UsageError."""
        return cls(settings, open_etcd(settings), port, ready, metrics, turn)

    def start(self) -> None:
        """Register as soon as the service is ready, and stay so."""
        self._task = asyncio.create_task(self._run())

    async def close(self) -> None:
        """Revoke the lease, and with it the record; wait for etcd no longer than two seconds."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
            self._task = None
            await self._wait_for_our_turn()
        if self._lease is not None:
            lease, self._lease = self._lease, None
            try:
                await self._etcd.revoke(lease, REVOKE_SECONDS)
            except EtcdError as error:
                logger.warning("the lease can't be revoked, the record stays until it ends: %s", error)
            else:
                logger.info("no longer registered", extra={"fields": {"key": self._key}})
            self._metrics.registered(False)
        if self._turn is not None:
            fcntl.lockf(self._turn, fcntl.LOCK_UN)
        await self._etcd.close()

    async def _run(self) -> None:
        while not (self._is_our_turn() and await self._ready()):  # noqa: ASYNC110 - a lock tells nobody
            await asyncio.sleep(READY_SECONDS)
        while True:
            try:
                await self._step()
            except (EtcdError, OSError) as error:
                self._failed(error)
                await asyncio.sleep(RETRY_SECONDS * random.uniform(0.5, 1.5))  # noqa: S311 - jitter
            else:
                self._succeeded()
                # Never later than a third of the lease, and not all instances at the same moment.
                await asyncio.sleep(KEEP_ALIVE_SECONDS * random.uniform(0.8, 1))  # noqa: S311 - jitter

    async def _step(self) -> None:
        """Have a lease that lives on, and the record under it."""
        if self._lease is not None and not await self._etcd.keep_alive(self._lease):
            logger.warning("the lease was lost: registering anew")
            self._lease = None
        if not self._record:
            await self._describe()
        if self._lease is None:
            self._lease = await self._etcd.grant(LEASE_SECONDS)
        await self._etcd.hold(self._key, self._record, self._lease)

    async def _describe(self) -> None:
        settings = self._settings
        host, port = advertised(settings.advertise) if settings.advertise else (settings.host, None)
        if is_address(host) and ip_address(host).is_unspecified:
            host = await _address_towards(endpoints(settings.etcd or "")[0])
        instance = Instance(
            host,
            port or self._port,
            DNS_SECONDS,
            "https" if settings.tls_cert else "http",
            __version__,
            settings.commit,
            datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
        )
        self._record = msgspec.json.encode(instance)
        self._key = f"{settings.etcd_prefix}/{instance_id(instance.host, instance.port)}"

    async def _wait_for_our_turn(self) -> None:
        """Wait until the worker that holds the record has revoked it, for all stop at the same time."""
        with suppress(TimeoutError):
            async with asyncio.timeout(REVOKE_SECONDS):
                while not self._is_our_turn():  # noqa: ASYNC110 - a lock tells nobody
                    await asyncio.sleep(TURN_SECONDS)

    def _is_our_turn(self) -> bool:
        if self._turn is None:
            return True
        try:
            fcntl.lockf(self._turn, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        return True

    def _failed(self, error: Exception) -> None:
        self._metrics.failed()
        self._metrics.registered(False)
        if self._told != "failure":
            self._told = "failure"
            logger.warning("etcd does not take the registration, serving goes on: %s", error)

    def _succeeded(self) -> None:
        self._metrics.registered(True)
        if self._told != "success":
            self._told = "success"
            logger.info("registered", extra={"fields": {"key": self._key}})


async def _address_towards(url: str) -> str:
    """Return the address of this machine that the way to a URL begins at; nothing is sent."""
    host, port = advertised(url.partition("://")[2])
    transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
        asyncio.DatagramProtocol, remote_addr=(host, port or 0)
    )
    try:
        address: str = transport.get_extra_info("sockname")[0]
    finally:
        transport.close()
    return address
