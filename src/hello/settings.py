"""Every setting, defined once: its flag, its HELLO_* variable, its key in a TOML file, default and help."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from difflib import get_close_matches
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import App, ArgumentCollection, CycloptsError, Parameter
from cyclopts.config import Dict
from cyclopts.validators import Number

from hello import birthday
from hello.stores import check_url

PREFIX = "HELLO_"


def _check_time_zone(_: type, value: str) -> None:
    birthday.time_zone(value)


def _check_store(_: type, value: str) -> None:
    check_url(value)


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class StoreSettings:
    """Where people are kept."""

    store: Annotated[
        str,
        Parameter(
            env_var="HELLO_STORE",
            validator=_check_store,
            help="Where people are kept: sqlite:///relative.db or sqlite:////absolute.db.",
        ),
    ] = "sqlite:///hello.db"
    store_timeout: Annotated[
        float,
        Parameter(
            env_var="HELLO_STORE_TIMEOUT",
            validator=Number(gt=0, lte=60),
            help="Seconds until a store that does not answer makes a 503.",
        ),
    ] = 2.0
    config: Annotated[
        Path | None,
        Parameter(env_var="HELLO_CONFIG", help="A TOML file with settings: keys are flags without dashes."),
    ] = None


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class CalendarSettings(StoreSettings):
    """Where people are kept, and what day it is."""

    timezone: Annotated[
        str,
        Parameter(
            env_var="HELLO_TIMEZONE",
            validator=_check_time_zone,
            help="IANA time zone that decides which day is today, where a request names none.",
        ),
    ] = "UTC"
    leap_day: Annotated[
        birthday.LeapDay,
        Parameter(
            env_var="HELLO_LEAP_DAY",
            help="When those born on 29 February have their birthday in common years.",
        ),
    ] = "feb28"


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Settings(CalendarSettings):
    """All that `hello serve` can be told."""

    host: Annotated[str, Parameter(env_var="HELLO_HOST", help="Address to listen on.")] = "127.0.0.1"
    port: Annotated[
        int,
        Parameter(
            env_var="HELLO_PORT",
            validator=Number(gte=0, lte=65535),
            help="Port to listen on; 0 takes a free one.",
        ),
    ] = 5000
    open: Annotated[
        bool,
        Parameter(
            env_var="HELLO_OPEN",
            negative="",
            help="Listen beyond loopback, although anyone who reaches the address may read and write.",
        ),
    ] = False
    workers: Annotated[
        int,
        Parameter(
            env_var="HELLO_WORKERS",
            validator=Number(gte=1, lte=256),
            help="Processes that serve the one port.",
        ),
    ] = 1
    drain_seconds: Annotated[
        float,
        Parameter(
            env_var="HELLO_DRAIN_SECONDS",
            validator=Number(gte=0, lte=3600),
            help="Seconds to go on serving after a stop began, so that load balancers notice.",
        ),
    ] = 0.0
    stop_seconds: Annotated[
        float,
        Parameter(
            env_var="HELLO_STOP_SECONDS",
            validator=Number(gte=0, lte=3600),
            help="Seconds that requests in flight have to finish, once no more are taken.",
        ),
    ] = 30.0
    max_in_flight: Annotated[
        int,
        Parameter(
            env_var="HELLO_MAX_IN_FLIGHT",
            validator=Number(gte=1),
            help="Requests worked on at once, a process; one more gets 503.",
        ),
    ] = 512
    request_timeout: Annotated[
        float,
        Parameter(
            env_var="HELLO_REQUEST_TIMEOUT",
            validator=Number(gt=0, lte=3600),
            help="Seconds that a client has to send its request.",
        ),
    ] = 10.0
    log: Annotated[
        Literal["text", "json"] | None,
        Parameter(env_var="HELLO_LOG", help="Form of the log. [default: text on a terminal, else json]"),
    ] = None
    access_log: Annotated[
        Literal["failed", "all"],
        Parameter(
            env_var="HELLO_ACCESS_LOG",
            help="Requests to log: those that failed or took over a second, or all.",
        ),
    ] = "failed"
    commit: Annotated[
        str,
        Parameter(env_var="HELLO_COMMIT", help="Commit that is running, for /version; image builds set it."),
    ] = "unknown"

    def refusal(self) -> str | None:
        """Return why these settings must not be served, None where they may."""
        if self.open or _is_loopback(self.host):
            return None
        return (
            f"{self.host} can be reached by others, and nothing here asks who they are: anyone could read"
            " and change every date of birth. Listen on 127.0.0.1, or say --open (HELLO_OPEN=true)"
            " if something in front of hello decides who may."
        )


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def effective(settings: StoreSettings) -> dict[str, Any]:
    """Return the settings as logged at the start. None of today's is a secret."""
    return {
        name: str(value) if isinstance(value, Path) else value
        for name in (field.name for field in fields(settings))
        if (value := getattr(settings, name)) is not None
    }


def read_toml(app: App, commands: tuple[str, ...], arguments: ArgumentCollection) -> None:
    """Fill what neither flag nor variable gave from the file of --config (a cyclopts source).

    Raises:
        CycloptsError: no such file, not TOML, a key that is no setting.
    """
    token = next((a.tokens[0] for a in arguments if a.name == "--config" and a.tokens), None)
    if token is None:
        return
    path = Path(token.value)
    try:
        with path.open("rb") as file:
            values = tomllib.load(file)
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise CycloptsError(msg=f"--config {path} can't be read: {error}.") from error
    names = [field.name for field in fields(Settings) if field.name != "config"]
    for key in values:
        if key.replace("-", "_") not in names:
            raise CycloptsError(msg=f"{path}: there is no setting {key!r}.{_did_you_mean(key, names)}")
    known = {a.name.removeprefix("--") for a in arguments}
    used = {key.replace("_", "-"): value for key, value in values.items()}
    source = Dict(
        {key: value for key, value in used.items() if key in known},
        source=str(path),
        use_commands_as_keys=False,
    )
    source(app, commands, arguments)


def unknown_variables(environ: Mapping[str, str]) -> list[str]:
    """Return a warning for each HELLO_* variable that is no setting, with what was meant perhaps."""
    names = [field.name.upper() for field in fields(Settings)]
    given = sorted(name.removeprefix(PREFIX) for name in environ if name.startswith(PREFIX))
    return [
        f"{PREFIX}{name} is no setting of this version and was ignored.{_did_you_mean(name, names, PREFIX)}"
        for name in given
        if name not in names
    ]


def _did_you_mean(word: str, words: list[str], prefix: str = "") -> str:
    matches = get_close_matches(word, words, 1)
    return f" Did you mean {prefix}{matches[0]}?" if matches else ""
