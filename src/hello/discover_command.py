"""The command `hello discover`; what it does is in `discover`, with libraries that take long to load."""

import asyncio
import os
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from hello.files import STANDARD, writing
from hello.settings import EtcdSettings
from hello.sources import unknown_variables
from hello.terminal import INTERRUPTED, complain, interruptible, say
from hello.usage import UsageError

Form = Literal["table", "json", "http-sd"]

SERVER_OPTIONS = "check inter 500ms fastinter 250ms fall 2 rise 1"


def _check_name(_: type, value: str) -> None:
    if not value or any(not (c.isascii() and c.isalnum()) and c not in "_.:-" for c in value):
        raise ValueError("Give a name as HAProxy's configuration has it: letters, digits, and _.:-")


def _check_server_options(_: type, value: str) -> None:
    if not value.isprintable() or set(value) & set(";<\\") or "check" not in value.split():
        raise ValueError("Give options as a server's line has them, `check` among them: `check inter 1s`.")


def discover(
    *,
    form: Annotated[
        Form, Parameter(name="--format", help="A table, JSON, or what Prometheus' http_sd and file_sd read.")
    ] = "table",
    watch: Annotated[
        bool, Parameter(negative="", show_default=False, help="Go on, and tell each change as it comes.")
    ] = False,
    haproxy: Annotated[
        Path | None,
        Parameter(help="Keep a backend of HAProxy in step, through this socket of its Runtime API."),
    ] = None,
    backend: Annotated[
        str, Parameter(validator=_check_name, help="The backend's name, with --haproxy.")
    ] = "hello",
    server_options: Annotated[
        str, Parameter(validator=_check_server_options, help="Options of the servers that are added to it.")
    ] = SERVER_OPTIONS,
    settings: EtcdSettings = EtcdSettings(),
) -> int:
    """List the instances that are registered in etcd.

    With --watch it goes on until Ctrl-C. An etcd that fails is said, and waited for. With --haproxy it goes
    on as well, and prints nothing but what it does.
    """
    for warning in unknown_variables(os.environ):
        say(f"hello: {warning}")
    if settings.etcd is None:
        raise UsageError("Say where etcd is: --etcd (HELLO_ETCD).")
    if refusal := settings.etcd_refusal():
        raise UsageError(refusal)
    from hello import discover as work
    from hello.etcd import EtcdError

    try:
        with interruptible():
            if haproxy is not None:
                asyncio.run(work.keep_in_step(settings, haproxy, backend, server_options))
            else:
                with writing(STANDARD) as file:
                    asyncio.run((work.watch if watch else work.list_all)(settings, form, file))
    except KeyboardInterrupt:
        return complain("interrupted.", INTERRUPTED)
    except EtcdError as error:
        return complain(f"etcd: {error}.", 2)
    return 0
