"""Every setting, defined once: its flag, its HELLO_* variable, its key in a TOML file, default and help."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, fields
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import CoercionError, Group, Parameter, Token

from hello import birthday
from hello.stores import check_url

PREFIX = "HELLO_"

STORE, CALENDAR, LISTENING, TLS, LIMITS, LOGGING, OTHER = (
    Group(name, sort_key=number)
    for number, name in enumerate(("Store", "Calendar", "Listening", "TLS", "Limits", "Logging", "Other"), 1)
)


@dataclass(frozen=True)
class Within:
    """A validator that wants a number from `low` to `high`."""

    low: float
    high: float

    def __call__(self, _: type, value: float) -> None:
        if not self.low <= value <= self.high:
            raise ValueError(f"Give a number from {self.low} to {self.high}.")


def _whole_number(kind: type, tokens: Sequence[Token]) -> int:
    # By itself cyclopts rounds 1.5 and reads 0x10.
    if not re.fullmatch("-?[0-9]{1,18}", tokens[0].value):
        raise CoercionError(token=tokens[0], target_type=kind)
    return int(tokens[0].value)


WholeNumber = Annotated[int, Parameter(converter=_whole_number)]


def _check_time_zone(_: type, value: str) -> None:
    birthday.time_zone(value)


def _check_store(_: type, value: str) -> None:
    check_url(value)


def _check_host(_: type, value: str) -> None:
    if not value:
        raise ValueError("Give an address such as 127.0.0.1.")


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class StoreSettings:
    """Where people are kept."""

    store: Annotated[
        str,
        Parameter(
            env_var="HELLO_STORE",
            group=STORE,
            validator=_check_store,
            help="Where people are kept: sqlite:///relative.db, sqlite:////absolute.db,"
            " postgresql://user@host/database or dynamodb://region/table.",
        ),
    ] = "sqlite:///hello.db"
    store_timeout: Annotated[
        float,
        Parameter(
            env_var="HELLO_STORE_TIMEOUT",
            group=STORE,
            validator=Within(0.001, 60),
            help="Seconds until a store that does not answer makes a 503.",
        ),
    ] = 2.0
    store_connections: Annotated[
        WholeNumber,
        Parameter(
            env_var="HELLO_STORE_CONNECTIONS",
            group=STORE,
            validator=Within(1, 1000),
            help="Most connections to the store's server, a process;"
            " a file needs none, DynamoDB gets 32 at least.",
        ),
    ] = 10
    config: Annotated[
        Path | None,
        Parameter(
            env_var="HELLO_CONFIG",
            group=OTHER,
            help="A TOML file with settings: keys are flags without dashes.",
        ),
    ] = None


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class TodaySettings(StoreSettings):
    """Where people are kept, and what day it is."""

    timezone: Annotated[
        str,
        Parameter(
            env_var="HELLO_TIMEZONE",
            group=CALENDAR,
            validator=_check_time_zone,
            completer=lambda _: birthday.time_zone_names(),
            help="IANA time zone that decides which day is today, where a request names none.",
        ),
    ] = "UTC"


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class CalendarSettings(TodaySettings):
    """Where people are kept, and when their birthdays are."""

    leap_day: Annotated[
        birthday.LeapDay,
        Parameter(
            env_var="HELLO_LEAP_DAY",
            group=CALENDAR,
            help="When those born on 29 February have their birthday in common years.",
        ),
    ] = "feb28"


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Settings(CalendarSettings):
    """All that `hello serve` can be told."""

    host: Annotated[
        str,
        Parameter(env_var="HELLO_HOST", group=LISTENING, validator=_check_host, help="Address to listen on."),
    ] = "127.0.0.1"
    port: Annotated[
        WholeNumber,
        Parameter(
            env_var="HELLO_PORT",
            group=LISTENING,
            validator=Within(0, 65535),
            help="Port to listen on; 0 takes a free one.",
        ),
    ] = 5000
    open: Annotated[
        bool,
        Parameter(
            env_var="HELLO_OPEN",
            group=LISTENING,
            negative="",
            show_default=False,
            help="Listen beyond loopback, although anyone who reaches the address may read and write.",
        ),
    ] = False
    workers: Annotated[
        WholeNumber,
        Parameter(
            env_var="HELLO_WORKERS",
            group=LISTENING,
            validator=Within(1, 256),
            help="Processes that serve the one port.",
        ),
    ] = 1
    drain_seconds: Annotated[
        float,
        Parameter(
            env_var="HELLO_DRAIN_SECONDS",
            group=LISTENING,
            validator=Within(0, 3600),
            help="Seconds to go on serving after a stop began, so that load balancers notice.",
        ),
    ] = 0.0
    stop_seconds: Annotated[
        float,
        Parameter(
            env_var="HELLO_STOP_SECONDS",
            group=LISTENING,
            validator=Within(0, 3600),
            help="Seconds that requests in flight have to finish, once no more are taken.",
        ),
    ] = 30.0
    tls_cert: Annotated[
        Path | None,
        Parameter(
            env_var="HELLO_TLS_CERT",
            group=TLS,
            help="Serve HTTPS with the certificate in this PEM file, then its chain; re-read when changed.",
        ),
    ] = None
    tls_key: Annotated[
        Path | None,
        Parameter(
            env_var="HELLO_TLS_KEY",
            group=TLS,
            help="The certificate's private key, PEM, a file that no others can read; re-read when changed.",
        ),
    ] = None
    tls_client_ca: Annotated[
        Path | None,
        Parameter(
            env_var="HELLO_TLS_CLIENT_CA",
            group=TLS,
            help="Serve only clients with a certificate by a CA in this PEM file; re-read when changed.",
        ),
    ] = None
    max_in_flight: Annotated[
        WholeNumber,
        Parameter(
            env_var="HELLO_MAX_IN_FLIGHT",
            group=LIMITS,
            validator=Within(1, 1_000_000),
            help="Requests worked on at once, a process; one more gets 503.",
        ),
    ] = 512
    request_timeout: Annotated[
        float,
        Parameter(
            env_var="HELLO_REQUEST_TIMEOUT",
            group=LIMITS,
            validator=Within(0.001, 3600),
            help="Seconds that a client has to send its request.",
        ),
    ] = 10.0
    log: Annotated[
        Literal["text", "json"] | None,
        Parameter(
            env_var="HELLO_LOG",
            group=LOGGING,
            help="Form of the log; where it is not set, text on a terminal, else JSON.",
        ),
    ] = None
    access_log: Annotated[
        Literal["failed", "all"],
        Parameter(
            env_var="HELLO_ACCESS_LOG",
            group=LOGGING,
            help="Requests to log: those that failed or took over a second, or all.",
        ),
    ] = "failed"
    commit: Annotated[
        str,
        Parameter(
            env_var="HELLO_COMMIT",
            group=OTHER,
            help="Commit that is running, for /version; image builds set it.",
        ),
    ] = "unknown"

    def refusal(self) -> str | None:
        """Return why these settings must not be served, None where they may."""
        if self.open or _is_loopback(self.host):
            return None
        return (
            f"{self.host} is not loopback: others may reach it, and nothing here asks who they are, so that"
            " anyone could read and change every date of birth. Listen on 127.0.0.1, or say --open"
            " (HELLO_OPEN=true) if something in front of hello decides who may."
        )


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def effective(settings: StoreSettings) -> dict[str, Any]:
    """Return the settings as logged at the start, without the passwords in the store's URL."""
    told = {
        name: str(value) if isinstance(value, Path) else value
        for name in (field.name for field in fields(settings))
        if (value := getattr(settings, name)) is not None
    }
    return {**told, "store": without_passwords(settings.store)}


def without_passwords(url: str) -> str:
    """Return the URL with *** for each password: `user:password@`, and parameters that end in "password"."""
    url = re.sub(r"^([^:/?#]+://[^:/?#@]*):[^/?#]*@", r"\1:***@", url)
    return re.sub(r"(?i)([?&][^=&]*password)=[^&]*", r"\1=***", url)
