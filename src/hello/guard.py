"""What stands before the routes: the host, the rate of an address, the caller's rights, the caller's rate."""

import re
from contextlib import suppress
from functools import lru_cache
from ipaddress import ip_address

from starlette.types import Scope

from hello.addresses import Addresses, networks
from hello.auth import Rights
from hello.birthday import InvalidUsernameError, username_key
from hello.headers import header
from hello.keys import Keys
from hello.limits import Limits, fields
from hello.problems import ForbiddenError, MisdirectedError, UnauthorizedError
from hello.query import parameters
from hello.rates import Rate
from hello.rights import KEY_IN_QUERY, PERSON, PERSON_PREFIX, Admission, Caller, needs
from hello.settings import Settings

UNLIMITED = frozenset({"/hc", "/ready"})  # a probe that is refused takes the process out of service
LOCAL_NAMES = (".localhost", ".local", ".internal", ".home.arpa", ".test")

_HOST_IN_BRACKETS = re.compile(r"\[[0-9a-f:.]+\](:[0-9]*)?")


class Guard:
    """Lets a request in, or raises what it is refused with."""

    def __init__(
        self, rights: Rights | None, limits: Limits, addresses: Addresses, *, local_only: bool
    ) -> None:
        """Admit by these; `local_only` says that whoever reaches the service may do everything."""
        self.rights = rights
        self.limits = limits
        self.addresses = addresses
        self.local_only = local_only

    async def admit(self, scope: Scope, route: str, admission: Admission) -> None:
        """Fill in what is found out, and return where the request may go on.

        Raises:
            MisdirectedError, UnauthorizedError, ForbiddenError, TooManyRequestsError,
            IssuerUnavailableError.
        """
        peer = scope["client"][0] if scope["client"] else ""
        admission.address = self.addresses.client(peer, scope["headers"])
        admission.over_tls = self.addresses.over_tls(peer, scope["headers"])
        if self.local_only and not is_local(header(scope, b"host")):
            raise MisdirectedError
        taken = [] if route in UNLIMITED else self.limits.take_of_address(admission.address)
        admission.fields = fields(taken)
        needed = self.rights.table.get((route, scope["method"])) if self.rights else None
        if self.rights is None or needed is None:
            return
        admission.caller = caller = await self._caller(self.rights, scope, route, admission.address)
        if needed not in caller.scopes and not (route == PERSON and _is_own(caller, scope)):
            raise ForbiddenError(needed, own_only=route == PERSON and "self" in caller.scopes)
        admission.fields = fields(taken + self.limits.take_of_caller(caller))

    async def start(self) -> None:
        """Begin to keep up with what is behind the rights."""
        if self.rights:
            await self.rights.start()

    def refresh(self) -> None:
        """Look whether the keys have changed; called each second."""
        if self.rights:
            self.rights.refresh()

    async def close(self) -> None:
        """Stop what `start` began."""
        if self.rights:
            await self.rights.close()

    async def _caller(self, rights: Rights, scope: Scope, route: str, address: str) -> Caller:
        authorization = header(scope, b"authorization")
        in_query = (
            route in KEY_IN_QUERY
            and not authorization
            and parameters(scope["query_string"], "key").get("key")
        )
        if in_query:
            caller = rights.with_key(in_query.encode())
        elif authorization:
            caller = rights.known(authorization)
        else:
            raise UnauthorizedError
        if caller is not None:
            return caller
        self.limits.refuse_who_fails(address)  # a good key still passes; to check a token is dear
        if in_query:
            wrong = UnauthorizedError("The key in the query is not known.")
        else:
            try:
                return await rights.caller(authorization)
            except UnauthorizedError as error:
                wrong = error
        self.limits.failed(address)
        raise wrong


def guard_of(settings: Settings) -> Guard:
    """Return the guard that the settings ask for; raise KeysError where their keys can't be read."""
    keys = Keys(settings.keys, settings.keys_file) if settings.keys or settings.keys_file else None
    issuer = None
    if settings.oidc_issuer and settings.oidc_audience:
        from hello.oidc import Issuer  # with libraries that take a third of a second to load

        issuer = Issuer(settings.oidc_issuer, settings.oidc_audience)
    rights = Rights(keys, issuer, needs(settings.metrics)) if keys or issuer else None
    limits = Limits(
        caller=_rate(settings.key_rate),
        address=_rate(settings.address_rate),
        failure=_rate(settings.failure_rate) if rights else None,
    )
    addresses = Addresses(networks(settings.proxies) if settings.proxies else [])
    return Guard(rights, limits, addresses, local_only=rights is None and not settings.open)


@lru_cache(1024)
def is_local(host: bytes) -> bool:
    """Return whether a Host field can only mean this machine or one near it.

    A web page elsewhere can have its own name lead to 127.0.0.1, and then read what answers there as
    its own (DNS rebinding). It needs a name of the public DNS for that: no address, and none without a dot.
    """
    text = host.decode("latin-1").lower()
    if text.startswith("["):
        return _HOST_IN_BRACKETS.fullmatch(text) is not None
    name = text.partition(":")[0].rstrip(".")
    return "." not in name or name.endswith(LOCAL_NAMES) or _is_address(name)


def _is_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True


def _rate(text: str | None) -> Rate | None:
    return Rate.parse(text) if text else None


def _is_own(caller: Caller, scope: Scope) -> bool:
    """Return whether the caller may do everything to the person in the path, for it is the caller."""
    if "self" not in caller.scopes or caller.own is None:
        return False
    with suppress(InvalidUsernameError):
        return username_key(scope["path"][len(PERSON_PREFIX) :]) == caller.own
    return False
