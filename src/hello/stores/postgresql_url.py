"""postgresql:// URLs, as libpq means them, and what went wrong with a server, in words without secrets."""

import re
import ssl
from collections.abc import Callable, Sequence
from urllib.parse import parse_qsl, unquote, urlsplit, urlunsplit

import asyncpg

SCHEME = "postgresql"
SESSION_ATTRIBUTES = ("any", "read-write", "primary")  # people are written, too
SSL_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
PARAMETERS = frozenset(
    {
        "application_name",
        "dbname",
        "host",
        "options",
        "passfile",
        "password",
        "port",
        "sslcert",
        "sslcrl",
        "sslkey",
        "sslmode",
        "sslpassword",
        "sslrootcert",
        "ssl_max_protocol_version",
        "ssl_min_protocol_version",
        "target_session_attrs",
        "user",
    }
)
_EXAMPLE = "such as postgresql://user@db.example:5432/hello?sslmode=verify-full"


def check_url(url: str) -> None:
    """Raise ValueError where this is no URL of a PostgreSQL server; the message has nothing of it."""
    try:
        _check(url)
    except ValueError as error:
        raise ValueError(f"{error} Give a URL {_EXAMPLE}.") from None


def _check(url: str) -> None:
    try:
        parts = urlsplit(url)
        parameters = parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
    except ValueError:
        raise ValueError("The URL can't be read: it is not percent-encoded as it should be.") from None
    if parts.scheme != SCHEME or not url.startswith(f"{SCHEME}://"):
        raise ValueError("The URL is none of PostgreSQL.")
    if parts.fragment or "#" in url or re.search(r"[\s\x00-\x1f]|%(?![0-9A-Fa-f]{2})|%00", url):
        raise ValueError("The URL has a character that must be percent-encoded (# as %23, % as %25).")
    if parts.netloc.count("@") > 1 or "/" in parts.path[1:]:
        raise ValueError("Percent-encode @ as %40 and / as %2F in user, password and database.")
    ports = [host.rpartition(":")[2] for host in _hosts(parts.netloc) if re.search(r":[^\]]*$", host)]
    names = [name for name, _ in parameters]
    values = dict(parameters)
    ports += values.get("port", "").split(",") if "port" in values else []
    if any(not re.fullmatch("[0-9]{1,5}", port) or not 0 < int(port) < 65536 for port in ports):
        raise ValueError("The port is no number from 1 to 65535.")
    if len(names) > len(set(names)):
        raise ValueError("A parameter of the URL comes twice.")
    if not PARAMETERS.issuperset(names):
        raise ValueError(f"The URL has an unknown parameter; known are {', '.join(sorted(PARAMETERS))}.")
    if values.get("sslmode", "prefer") not in SSL_MODES:
        raise ValueError(f"sslmode is one of {', '.join(SSL_MODES)}.")
    if values.get("target_session_attrs", "any") not in SESSION_ATTRIBUTES:
        raise ValueError(f"target_session_attrs is one of {', '.join(SESSION_ATTRIBUTES)}.")
    if len(_hosts(parts.netloc)) > 1 and "port" in values:
        raise ValueError("With several hosts, give each its port: host1:5432,host2:5432.")


def _hosts(netloc: str) -> Sequence[str]:
    return netloc.rpartition("@")[2].split(",")


def each_host(url: str) -> Sequence[str]:
    """Return the URL with one of its hosts each, in their order: one that hangs leaves the next its time."""
    parts = urlsplit(url)
    login, at, _ = parts.netloc.rpartition("@")
    return [urlunsplit(parts._replace(netloc=f"{login}{at}{host}")) for host in _hosts(parts.netloc)]


def server(url: str) -> str:
    """Return which server the URL names, in words: no user, no password."""
    parts = urlsplit(url)
    values = dict(parse_qsl(parts.query))
    host = parts.netloc.rpartition("@")[2] or values.get("host", "")
    port = values.get("port", "")
    where = unquote(host) + (f":{port}" if host and port else "")
    return f"PostgreSQL at {where}" if where else "PostgreSQL"


# Errors that waiting won't mend: an operator has to change something.
_SETTINGS: dict[type[Exception], Callable[[Exception], str]] = {
    asyncpg.InvalidPasswordError: lambda _: "it refuses the password",
    asyncpg.InvalidAuthorizationSpecificationError: lambda error: f"it refuses the user ({error})",
    asyncpg.InvalidCatalogNameError: lambda _: "it has no such database; create it first",
    asyncpg.InsufficientPrivilegeError: lambda error: f"the user lacks a right ({error})",
    asyncpg.ClientConfigurationError: lambda error: f"the URL or a PG* variable is wrong ({error})",
    ssl.SSLCertVerificationError: lambda error: (
        f"its certificate is not trusted ({getattr(error, 'verify_message', '') or 'verification failed'});"
        " see sslmode and sslrootcert"
    ),
    FileNotFoundError: lambda error: f"no such file or socket ({getattr(error, 'filename', None) or error})",
    # Not in their own words, which may be those of a password.
    ValueError: lambda _: "the URL, a PG* variable or the password file can't be read",
    OverflowError: lambda _: "a PG* variable can't be read",
}


def lasting(error: BaseException) -> bool:
    """Return whether trying again won't help: a wrong password, say, and no server that is down."""
    return isinstance(error, tuple(_SETTINGS)) and not isinstance(error, FileNotFoundError)


def explain(error: BaseException) -> str:
    """Return what is wrong, in words that fit after "PostgreSQL at …:"."""
    for kind, reason in _SETTINGS.items():
        if isinstance(error, kind):
            return reason(error)
    match error:
        case TimeoutError():
            return "no answer in time; it hangs, is overloaded, or waits for a lock"
        case asyncpg.TooManyConnectionsError():
            return "it takes no more connections (max_connections)"
        case asyncpg.ReadOnlySQLTransactionError():
            return "it is read-only, a standby perhaps"
        case asyncpg.PostgresConnectionError() | ConnectionResetError() | asyncpg.AdminShutdownError():
            return "the connection broke; it was stopped, perhaps"
        case asyncpg.UndefinedTableError():
            return "the schema is missing; run `hello migrate`"
        case asyncpg.QueryCanceledError():
            return "a statement took too long; it is overloaded, or waits for a lock"
        case ConnectionRefusedError():
            return "connection refused; check that it runs, and its address"
        case OSError():
            return f"it can't be reached ({error.strerror or error or type(error).__name__})"
        case asyncpg.PostgresError() | asyncpg.InterfaceError():
            return str(error) or type(error).__name__
    return type(error).__name__
