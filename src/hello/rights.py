"""Who asks, and what that caller may do: the scopes, and the table of what each request takes."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

PERSON = "/hello/{username}"  # the route, as metrics and logs name it too
PERSON_PREFIX = PERSON.partition("{")[0]
KEY_IN_QUERY = frozenset({"/birthdays.ics"})  # for programs that can't send header fields

ANONYMOUS, TOKEN = "anonymous", "token"  # names that no key can have

Scope = Literal["read", "write", "self", "admin"]
MetricsScope = Literal["open", "read", "admin"]

KEY_SCOPES: tuple[Scope, ...] = ("read", "write", "admin")  # a key is nobody's own, hence no `self`
ALL_BUT_OWN = frozenset(KEY_SCOPES)


@dataclass(frozen=True, slots=True)
class Caller:
    """Whoever a request comes from.

    Attributes:
        name: of the key, or TOKEN: what metrics and the log of requests call the caller; none for ANYONE.
        scopes: what it may; `admin` includes `read` and `write`.
        own: the key of the caller's own username, which the scope `self` is about.
        subject: as the audit log calls it: the name of the key, or TOKEN, a colon and the token's `sub`.
    """

    name: str
    scopes: frozenset[str]
    own: str | None = None
    subject: str = ""

    @classmethod
    def of(cls, name: str, scopes: Iterable[str], own: str | None = None, subject: str = "") -> "Caller":
        """Return a caller with these scopes, and those that they include."""
        granted = frozenset(scopes)
        return cls(name, granted | ALL_BUT_OWN if "admin" in granted else granted, own, subject or name)


@dataclass(frozen=True, slots=True)
class Token:
    """What a verified token says (RFC 7519).

    Attributes:
        subject: its `sub`, empty where it has none.
        scopes: those of ours that are in its `scope` or `scp`.
        own: the username key of its `preferred_username`, where that is a username.
        not_before, expires: Unix time in seconds.
        caller: whoever brings it; made once, for to make one takes longer than all else at a known token.
    """

    subject: str
    scopes: frozenset[str]
    own: str | None
    not_before: float
    expires: float
    caller: Caller = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        # No key's name has a colon: a subject can't pass for one in the audit log, or empty its bucket.
        caller = Caller.of(TOKEN, self.scopes, self.own, f"{TOKEN}:{self.subject}")
        object.__setattr__(self, "caller", caller)


class InvalidTokenError(Exception):
    """This is no token that the issuer would stand by; the message says why, and never repeats it."""


class IssuerUnavailableError(Exception):
    """A token can't be judged, since its issuer's keys can't be had."""


ANYONE = Caller.of("", ["admin"], subject=ANONYMOUS)


class Admission:
    """Where a request comes from and who sent it, as far as that was found out."""

    __slots__ = ("address", "caller", "fields", "over_tls", "request_id")

    def __init__(self, request_id: bytes) -> None:
        self.request_id = request_id
        self.address = ""
        self.caller = ANYONE
        self.fields: list[tuple[bytes, bytes]] = []  # of the answer: what is left of the limits
        self.over_tls = False  # up to a trusted proxy


def needs(metrics: MetricsScope) -> dict[tuple[str, str], Scope]:
    """Return the scope that requests take, by route and method; what is not there is open to all."""
    table: dict[tuple[str, str], Scope] = {
        (PERSON, "GET"): "read",
        (PERSON, "PUT"): "write",
        (PERSON, "DELETE"): "write",
        ("/hello", "GET"): "admin",
        ("/birthdays", "GET"): "read",
        ("/birthdays.ics", "GET"): "read",
    }
    if metrics != "open":
        table["/metrics", "GET"] = metrics
    return table | {(route, "HEAD"): scope for (route, method), scope in table.items() if method == "GET"}
