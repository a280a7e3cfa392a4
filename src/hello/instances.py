"""The instances that are registered in etcd: the record of one, and who is there now."""

import asyncio
import random
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing

import msgspec

from hello.endpoints import PORTS, is_host, joined
from hello.etcd import CompactedError, DeniedError, Etcd, EtcdError

LEASE_SECONDS = 15
# For how long a resolver may keep an answer. CoreDNS takes the lower 32 bits of a lease's id for a time
# to live, and the lower one of the two: it must be given.
DNS_SECONDS = 5
RETRY_SECONDS = 1.0


class Instance(msgspec.Struct, frozen=True, omit_defaults=True):
    """A record, as CoreDNS's plugin etcd reads it (host, port, ttl), and what hello adds."""

    host: str
    port: int
    ttl: int = 0
    scheme: str = ""
    version: str = ""
    commit: str = ""
    since: str = ""

    @property
    def address(self) -> str:
        """Host and port."""
        return joined(self.host, self.port)


class Snapshot(msgspec.Struct, frozen=True):
    """All instances by id. `listed` says that they were listed anew, and not brought up to date."""

    instances: Mapping[str, Instance]
    listed: bool


async def list_instances(etcd: Etcd, prefix: str) -> dict[str, Instance]:
    """Return the instances by id; raise EtcdError."""
    found, _ = await _list(etcd, f"{prefix}/")
    return found


async def follow(
    etcd: Etcd, prefix: str, trouble: Callable[[EtcdError | None], None]
) -> AsyncGenerator[Snapshot, None]:
    """Yield who is there, first now, then after each change, without end.

    Where etcd fails, `trouble` is told of it, and of its return by None; nobody is gone for that.

    Raises:
        DeniedError: this user may not read the prefix.
    """
    folder = f"{prefix}/"
    while True:
        try:
            found, revision = await _list(etcd, folder)
            trouble(None)
            yield Snapshot(dict(found), listed=True)
            async with aclosing(etcd.watch(folder, revision + 1)) as changes:
                async for events in changes:
                    for event in events:
                        name = event.key.removeprefix(folder)
                        found.pop(name, None)
                        if event.value is not None and (instance := _parse(name, event.value)):
                            found[name] = instance
                    yield Snapshot(dict(found), listed=False)
        except DeniedError:
            raise
        except CompactedError:
            continue
        except EtcdError as error:
            trouble(error)
            await asyncio.sleep(RETRY_SECONDS * random.uniform(0.1, 1))  # noqa: S311 - jitter


async def _list(etcd: Etcd, folder: str) -> tuple[dict[str, Instance], int]:
    found, revision = await etcd.list(folder)
    parsed = {
        key.removeprefix(folder): _parse(key.removeprefix(folder), value) for key, value in found.items()
    }
    return {name: instance for name, instance in parsed.items() if instance is not None}, revision


def _parse(name: str, value: bytes) -> Instance | None:
    """Return the instance; None where the record is not one of ours, for others may share the zone."""
    try:
        instance = msgspec.json.decode(value, type=Instance)
    except (ValueError, RecursionError):
        return None
    label = name.isascii() and name.replace("-", "").isalnum()
    return instance if label and instance.port in PORTS and is_host(instance.host) else None
