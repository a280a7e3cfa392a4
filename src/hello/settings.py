"""Every setting, defined once: its flag, its HELLO_* variable, its key in a TOML file, default and help."""

import re
from dataclasses import dataclass, fields
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Group, Parameter

from hello import birthday
from hello.addresses import networks
from hello.checks import WholeNumber, Within, check_host, check_prefix, parsed_by
from hello.endpoints import advertised, endpoints, in_clear
from hello.issuer_url import check_issuer
from hello.rates import Rate
from hello.rights import MetricsScope
from hello.stores import check_url

PREFIX = "HELLO_"

STORE, CALENDAR, LISTENING, TLS, RIGHTS, LIMITS, DISCOVERY, LOGGING, AUDIT, OTHER = (
    Group(name, sort_key=number)
    for number, name in enumerate(
        (
            "Store",
            "Calendar",
            "Listening",
            "TLS",
            "Rights",
            "Limits",
            "Discovery",
            "Logging",
            "Audit",
            "Other",
        ),
        1,
    )
)


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class FileSettings:
    """Where other settings may be."""

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
class StoreSettings(FileSettings):
    """Where people are kept."""

    store: Annotated[
        str,
        Parameter(
            env_var="HELLO_STORE",
            group=STORE,
            validator=parsed_by(check_url),
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
            help="Most connections that a process opens to the store's server; SQLite has none, DynamoDB at"
            " least 32.",
        ),
    ] = 10


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class TodaySettings(StoreSettings):
    """Where people are kept, and what day it is."""

    timezone: Annotated[
        str,
        Parameter(
            env_var="HELLO_TIMEZONE",
            group=CALENDAR,
            validator=parsed_by(birthday.time_zone),
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
class KeySettings(FileSettings):
    """Whose keys are honoured."""

    keys: Annotated[
        str | None,
        Parameter(
            env_var="HELLO_KEYS",
            group=RIGHTS,
            help="Entries of API keys: a JSON array, or one a line, as `hello key new` prints them.",
        ),
    ] = None
    keys_file: Annotated[
        Path | None,
        Parameter(
            env_var="HELLO_KEYS_FILE",
            group=RIGHTS,
            help="A file with such entries; it is read again when it changes.",
        ),
    ] = None


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class EtcdSettings(FileSettings):
    """Where instances find each other."""

    etcd: Annotated[
        str | None,
        Parameter(
            env_var="HELLO_ETCD",
            group=DISCOVERY,
            validator=parsed_by(endpoints),
            help="Register in etcd: its members' client URLs, by commas, such as https://10.0.0.1:2379.",
        ),
    ] = None
    etcd_prefix: Annotated[
        str,
        Parameter(
            env_var="HELLO_ETCD_PREFIX",
            group=DISCOVERY,
            validator=parsed_by(check_prefix),
            help="The key that instances are registered under; CoreDNS serves this one as hello.local.",
        ),
    ] = "/skydns/local/hello"
    etcd_user: Annotated[
        str | None,
        Parameter(env_var="HELLO_ETCD_USER", group=DISCOVERY, help="The user to log in to etcd as."),
    ] = None
    etcd_password: Annotated[
        str | None,
        Parameter(
            env_var="HELLO_ETCD_PASSWORD",
            group=DISCOVERY,
            help="The user's password; not as a flag, which others on the machine can see.",
        ),
    ] = None
    etcd_password_file: Annotated[
        Path | None,
        Parameter(
            env_var="HELLO_ETCD_PASSWORD_FILE",
            group=DISCOVERY,
            help="A file with the password; it is read at each login.",
        ),
    ] = None
    etcd_ca: Annotated[
        Path | None,
        Parameter(
            env_var="HELLO_ETCD_CA",
            group=DISCOVERY,
            help="Believe members with a certificate by a CA in this PEM file; else by one of the system's.",
        ),
    ] = None
    etcd_cert: Annotated[
        Path | None,
        Parameter(
            env_var="HELLO_ETCD_CERT",
            group=DISCOVERY,
            help="The client certificate to show to etcd, PEM.",
        ),
    ] = None
    etcd_key: Annotated[
        Path | None,
        Parameter(env_var="HELLO_ETCD_KEY", group=DISCOVERY, help="The client certificate's key, PEM."),
    ] = None

    def etcd_refusal(self) -> str | None:
        """Return why etcd can't be asked with these settings, None where it can."""
        if self.etcd_password and self.etcd_password_file:
            return "Give the password either in HELLO_ETCD_PASSWORD or by --etcd-password-file."
        has_password = bool(self.etcd_password or self.etcd_password_file)
        if bool(self.etcd_user) != has_password:
            return (
                "A user of etcd and a password go together: give --etcd-user (HELLO_ETCD_USER) and"
                " --etcd-password-file (HELLO_ETCD_PASSWORD_FILE) or HELLO_ETCD_PASSWORD."
            )
        if (self.etcd_cert is None) != (self.etcd_key is None):
            return "A client certificate and its key go together: give both --etcd-cert and --etcd-key."
        if has_password and self.etcd and in_clear(self.etcd):
            return "The password would cross the network in clear: give https URLs to --etcd (HELLO_ETCD)."
        return None


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Settings(EtcdSettings, KeySettings, CalendarSettings):
    """All that `hello serve` can be told."""

    host: Annotated[
        str,
        Parameter(
            env_var="HELLO_HOST",
            group=LISTENING,
            validator=parsed_by(check_host),
            help="Address to listen on.",
        ),
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
    keep_alive_seconds: Annotated[
        float,
        Parameter(
            env_var="HELLO_KEEP_ALIVE_SECONDS",
            group=LISTENING,
            validator=Within(0.001, 3600),
            help="Seconds until a connection that asks nothing more is closed; above the load balancer's.",
        ),
    ] = 75.0
    oidc_issuer: Annotated[
        str | None,
        Parameter(
            env_var="HELLO_OIDC_ISSUER",
            group=RIGHTS,
            validator=parsed_by(check_issuer),
            help="Honour the tokens (JWT) of this OpenID Connect issuer, an https URL.",
        ),
    ] = None
    oidc_audience: Annotated[
        str | None,
        Parameter(
            env_var="HELLO_OIDC_AUDIENCE",
            group=RIGHTS,
            help="The audience that a token must be for; goes with the issuer.",
        ),
    ] = None
    metrics: Annotated[
        MetricsScope,
        Parameter(
            env_var="HELLO_METRICS",
            group=RIGHTS,
            help="What reading /metrics takes where there are keys or an issuer: nothing, or a scope.",
        ),
    ] = "read"
    proxies: Annotated[
        str | None,
        Parameter(
            env_var="HELLO_PROXIES",
            group=RIGHTS,
            validator=parsed_by(networks),
            help="Proxies whose X-Forwarded-For and -Proto are believed: addresses or networks, by commas.",
        ),
    ] = None
    key_rate: Annotated[
        str | None,
        Parameter(
            env_var="HELLO_KEY_RATE",
            group=LIMITS,
            validator=parsed_by(Rate.parse),
            help="Requests that each key or token may make, a process, such as 100/s, 600/min or 1000/h.",
        ),
    ] = None
    address_rate: Annotated[
        str | None,
        Parameter(
            env_var="HELLO_ADDRESS_RATE",
            group=LIMITS,
            validator=parsed_by(Rate.parse),
            help="Requests that may come from each address, a process; not the probes.",
        ),
    ] = None
    failure_rate: Annotated[
        str,
        Parameter(
            env_var="HELLO_FAILURE_RATE",
            group=LIMITS,
            validator=parsed_by(Rate.parse),
            help="Wrong credentials that may come from each address, a process; past it 401 becomes 429.",
        ),
    ] = "60/min"
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
    advertise: Annotated[
        str | None,
        Parameter(
            env_var="HELLO_ADVERTISE",
            group=DISCOVERY,
            validator=parsed_by(advertised),
            help="The address to register, host or host:port; by default the one listened on, or with 0.0.0.0"
            " the one from which this machine reaches etcd.",
        ),
    ] = None
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
    audit_log: Annotated[
        Path | None,
        Parameter(
            env_var="HELLO_AUDIT_LOG",
            group=AUDIT,
            help="Append who changed whom, and when, to this file; never a date of birth.",
        ),
    ] = None
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
        if (self.oidc_issuer is None) != (self.oidc_audience is None):
            return (
                "An issuer and an audience go together: give both --oidc-issuer (HELLO_OIDC_ISSUER) and"
                " --oidc-audience (HELLO_OIDC_AUDIENCE), or a token for another service would do here."
            )
        if unusable := self.etcd_refusal():
            return unusable
        if self.has_rights or self.open or _is_loopback(self.host):
            return None
        return (
            f"{self.host} is not loopback: others may reach it, and nothing here asks who they are, so that"
            " anyone could read and change every date of birth. Listen on 127.0.0.1, give --keys-file"
            " (`hello key new` makes a key) or --oidc-issuer, or say --open (HELLO_OPEN=true) if something"
            " in front of hello decides who may."
        )

    @property
    def in_clear(self) -> bool:
        """Whether credentials cross a network, and nothing is known of to encrypt them."""
        return self.has_rights and not _is_loopback(self.host) and not (self.tls_cert or self.proxies)

    @property
    def has_rights(self) -> bool:
        """Whether callers are asked who they are."""
        return bool(self.keys or self.keys_file or self.oidc_issuer)


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
    # The entries of keys hold digests, which are no secret; but they are long, and nobody's business.
    told |= dict.fromkeys(told.keys() & {"etcd_password", "keys"}, "***")
    return {**told, "store": without_passwords(settings.store)}


def without_passwords(url: str) -> str:
    """Return the URL with *** for each password: `user:password@`, and parameters that end in "password"."""
    url = re.sub(r"^([^:/?#]+://[^:/?#@]*):[^/?#]*@", r"\1:***@", url)
    return re.sub(r"(?i)([?&][^=&]*password)=[^&]*", r"\1=***", url)
