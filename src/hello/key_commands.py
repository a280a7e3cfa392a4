"""The commands on API keys: new, list, check."""

import getpass
import sys
from datetime import UTC, datetime, timedelta
from typing import Annotated

from cyclopts import App, Group, Parameter

from hello import keys
from hello.checks import WholeNumber, Within
from hello.rights import KEY_SCOPES
from hello.settings import KeySettings
from hello.terminal import complain, say
from hello.usage import UsageError

app = App(
    name="key",
    help="Make and look at API keys.",
    group_parameters=Group("Options", sort_key=0),
    help_format="markdown",
)


def _check_scopes(_: type, value: str) -> None:
    for scope in value.split(","):
        if scope not in KEY_SCOPES:
            raise ValueError(f"Give scopes among {', '.join(KEY_SCOPES)}, separated by commas.")


@app.command(usage="hello key new NAME --scope SCOPES [OPTIONS]")
def new(
    name: Annotated[str, Parameter(help="What logs and metrics call the key: letters, digits, and ._-")],
    /,
    *,
    scope: Annotated[
        str,
        Parameter(validator=_check_scopes, help="What it may, by commas: read, write, admin (which is all)."),
    ],
    days: Annotated[
        WholeNumber | None,
        Parameter(validator=Within(1, 36500), help="Days until it expires; without, it stays good."),
    ] = None,
    save: Annotated[
        bool,
        Parameter(negative="", show_default=False, help="Put the entry into the file of --keys-file."),
    ] = False,
    settings: KeySettings = KeySettings(),
) -> int:
    """Make a key: print its secret, once, and the entry to keep.

    The secret goes to the caller, who sends it as `Authorization: Bearer …`. The entry, which only holds
    its SHA-256 digest, goes into HELLO_KEYS or the file of HELLO_KEYS_FILE.
    """
    expires = datetime.now(UTC).replace(microsecond=0) + timedelta(days=days) if days else None
    secret, entry = keys.new_key(name, dict.fromkeys(scope.split(",")), expires)
    if save:
        if settings.keys_file is None:
            raise UsageError("--save needs --keys-file (HELLO_KEYS_FILE), the file to put the entry into.")
        keys.add(settings.keys_file, entry)
    say("The secret, shown this once:")
    print(secret, flush=True)
    if save:
        say(f"The entry is in {settings.keys_file}.")
    else:
        say("The entry, for HELLO_KEYS or the file of HELLO_KEYS_FILE:")
        print(keys.encode(entry).decode())
    return 0


@app.command(name="list", usage="hello key list [OPTIONS]")
def list_(*, settings: KeySettings = KeySettings()) -> int:
    """List the keys of HELLO_KEYS and HELLO_KEYS_FILE: name, scopes, expiry, start of the digest."""
    rows = [
        (
            entry.name,
            ",".join(entry.scopes),
            "-" if entry.expires is None else f"{entry.expires.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}",
            entry.sha256[:12],
        )
        for entry in _entries(settings)
    ]
    if not rows:
        say("No keys.")
        return 0
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    return 0


@app.command(usage="hello key check [OPTIONS]")
def check(*, settings: KeySettings = KeySettings()) -> int:
    """Read a secret from standard input, and say whose it is and what it may.

    On a terminal it is asked for and not shown. The exit status is 1 if it is nobody's, or has expired.
    """
    _entries(settings)
    secret = getpass.getpass("Secret: ").encode() if sys.stdin.isatty() else sys.stdin.buffer.readline()
    caller = keys.Keys(settings.keys, settings.keys_file).find(secret.strip())
    if caller is None:
        return complain("this is the secret of none of the keys, or of one that has expired.", 1)
    print(f"{caller.name}  {','.join(scope for scope in KEY_SCOPES if scope in caller.scopes)}")
    return 0


def _entries(settings: KeySettings) -> list[keys.Entry]:
    if settings.keys is None and settings.keys_file is None:
        raise UsageError("Say where the keys are: --keys-file (HELLO_KEYS_FILE), or HELLO_KEYS.")
    fixed = keys.parse(settings.keys.encode(), "HELLO_KEYS") if settings.keys else []
    return fixed + (keys.read(settings.keys_file) if settings.keys_file else [])
