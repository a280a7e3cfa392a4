"""What `hello discover` does: list who is registered in etcd, tell changes, keep HAProxy in step."""

import asyncio
import json
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TextIO

from hello.discover_command import Form
from hello.etcd import EtcdError
from hello.etcd_access import open_etcd
from hello.haproxy import Backend, HAProxyError, Members
from hello.instances import Instance, follow, list_instances
from hello.settings import EtcdSettings
from hello.terminal import say

LOOK_SECONDS = 0.25  # between two looks at what HAProxy has


async def list_all(settings: EtcdSettings, form: Form, file: TextIO) -> None:
    """Print who is registered; raise EtcdError."""
    etcd = open_etcd(settings)
    try:
        found = await list_instances(etcd, settings.etcd_prefix)
    finally:
        await etcd.close()
    if form == "json":
        print(json.dumps([_object(name, found[name]) for name in sorted(found)], indent=2), file=file)
    elif form == "http-sd":
        print(json.dumps(_targets(found), indent=2), file=file)
    else:
        _print_table(found, file)
    if not found:
        say("no instances")


async def watch(settings: EtcdSettings, form: Form, file: TextIO) -> None:
    """Print who is registered, then each change; raise DeniedError."""
    etcd = open_etcd(settings)
    before: Mapping[str, Instance] = {}
    try:
        async for snapshot in follow(etcd, settings.etcd_prefix, _Trouble("etcd").tell):
            now = snapshot.instances
            if form == "http-sd":
                print(json.dumps(_targets(now)), file=file)
            else:
                for change, name, instance in _changes(before, now):
                    told = {"change": change, **_object(name, instance)}
                    print(json.dumps(told) if form == "json" else _line(change, instance), file=file)
            file.flush()
            before = now
    finally:
        await etcd.close()


async def keep_in_step(settings: EtcdSettings, socket: Path, name: str, options: str) -> None:
    """Keep HAProxy's backend in step with etcd, without end; raise DeniedError."""
    etcd = open_etcd(settings)
    members = Members(time.monotonic)
    changed = asyncio.Event()

    async def take() -> None:
        async for snapshot in follow(etcd, settings.etcd_prefix, _Trouble("etcd").tell):
            members.update(snapshot)
            changed.set()

    async def give() -> None:
        await changed.wait()  # nothing is taken out before it is known who is there
        await _reconcile(Backend(socket, name, options, say), members, changed)

    tasks = [asyncio.create_task(take()), asyncio.create_task(give())]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()  # both go on until one fails
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        await etcd.close()


async def _reconcile(backend: Backend, members: Members, changed: asyncio.Event) -> None:
    trouble = _Trouble("HAProxy")
    while True:
        changed.clear()
        try:
            await backend.reconcile(members.wanted())
        except HAProxyError as error:
            trouble.tell(error)
        else:
            trouble.tell(None)
        with suppress(TimeoutError):
            async with asyncio.timeout(LOOK_SECONDS):
                await changed.wait()


class _Trouble:
    """Says once that something fails, and that it is over."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._told = False

    def tell(self, error: EtcdError | HAProxyError | None) -> None:
        if error is not None and not self._told:
            say(f"{self._what}: {error}; what is known stays, trying on")
        if error is None and self._told:
            say(f"{self._what} is back")
        self._told = error is not None


def _changes(before: Mapping[str, Instance], now: Mapping[str, Instance]) -> list[tuple[str, str, Instance]]:
    gone = [("down", name, before[name]) for name in sorted(before.keys() - now.keys())]
    return gone + [("up", name, now[name]) for name in sorted(now) if before.get(name) != now[name]]


def _print_table(found: Mapping[str, Instance], file: TextIO) -> None:
    rows = [("ADDRESS", "SCHEME", "VERSION", "COMMIT", "SINCE")] if found else []
    rows += [(i.address, i.scheme, i.version, i.commit[:12], i.since) for _, i in sorted(found.items())]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (_printable(cell).ljust(width) for cell, width in zip(row, widths, strict=True))
        print("  ".join(cells).rstrip(), file=file)


def _line(change: str, instance: Instance) -> str:
    return _printable(f"{change:4}  {instance.address}  {instance.version}  {instance.commit[:12]}")


def _object(name: str, instance: Instance) -> dict[str, object]:
    return {
        "id": name,
        "host": instance.host,
        "port": instance.port,
        "scheme": instance.scheme,
        "version": instance.version,
        "commit": instance.commit,
        "since": instance.since,
    }


def _targets(found: Mapping[str, Instance]) -> list[dict[str, object]]:
    """Return what Prometheus discovers by: a group an instance, for each has labels of its own."""
    return [
        {
            "targets": [instance.address],
            "labels": {
                "__scheme__": instance.scheme or "http",
                "__meta_hello_id": name,
                "__meta_hello_version": instance.version,
                "__meta_hello_commit": instance.commit,
            },
        }
        for name, instance in sorted(found.items())
    ]


def _printable(text: str) -> str:
    """Return the text without what could steer a terminal: anybody may have written the record."""
    return "".join(c if c.isprintable() else "?" for c in text)
