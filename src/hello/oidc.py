"""Bearer tokens: JSON Web Tokens (RFC 7519) that an OpenID Connect issuer signed for this service."""

import asyncio
import random
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from hashlib import sha256
from typing import Any, get_args

import msgspec
from joserfc import jws
from joserfc.errors import JoseError

from hello.birthday import InvalidUsernameError, username_key
from hello.issuer_keys import IssuerKeys
from hello.issuer_url import check_issuer
from hello.jwks import ALGORITHMS, Identity, Key
from hello.rights import InvalidTokenError, IssuerUnavailableError, Scope, Token

__all__ = ["InvalidTokenError", "Issuer", "IssuerUnavailableError", "Token", "check_issuer"]

SCOPES = frozenset(get_args(Scope))
MAX_BYTES = 8192  # of a token
EARLY_SECONDS = 5.0  # that this machine's clock may be behind the issuer's; there is no such for `exp`
REMEMBERED = 10_000  # verified tokens
TYPES = {"jwt", "at+jwt"}  # not those that an issuer signs for other ends (RFC 8725, 3.11)


class _Header(msgspec.Struct):
    alg: str
    kid: str | None = None
    typ: str | None = None
    crit: Any = msgspec.UNSET


class _Claims(msgspec.Struct):
    iss: str
    aud: str | list[str]
    exp: float
    nbf: float = 0.0
    iat: float = 0.0
    sub: str = ""
    scope: str = ""
    scp: str | list[str] = ""
    preferred_username: str | None = None


class _Registry(jws.JWSRegistry):
    """The algorithms of `ALGORITHMS`, for any header that RFC 7515 permits within a token's length."""

    max_header_length = max_payload_length = max_signature_length = MAX_BYTES

    def __init__(self) -> None:
        super().__init__(algorithms=ALGORITHMS, strict_check_header=False)

    def get_alg(self, name: str) -> Any:
        """Return one of `ALGORITHMS` without the library's warning, which comes for each EdDSA token."""
        return self.algorithms[name]  # `_check` lets no others come here


_REGISTRY = _Registry()
_MALFORMED = (JoseError, RecursionError, TypeError, ValueError)


class Issuer:
    """Judges the tokens of one issuer; those that it has verified it knows again."""

    def __init__(
        self,
        issuer: str,
        audience: str,
        clock: Callable[[], float] = time.time,
        *,
        steady_clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
        part: Callable[[], float] = random.random,
    ) -> None:
        """Accept tokens whose `iss` is `issuer` (see `check_issuer`) and whose `aud` has `audience`.

        `clock` gives the time of day, `steady_clock` the seconds by which keys are refreshed, `part` a
        number from 0 to 1.
        """
        self._issuer = check_issuer(issuer)
        self._audience = audience
        self._clock = clock
        self._steady_clock = steady_clock
        self._keys = IssuerKeys(issuer, self._forget, clock=steady_clock, sleep=sleep, part=part)
        self._current: set[Identity] = set()
        self._verified: OrderedDict[bytes, tuple[Token, Identity]] = OrderedDict()

    async def start(self) -> None:
        """Fetch the keys in the background, from now on; an issuer that is down is logged, and no error."""
        self._keys.start()

    async def close(self) -> None:
        """End what is under way in the background."""
        await self._keys.close()

    def known(self, token: bytes) -> Token | None:
        """Return a token that was verified before, if it and the key that signed it are still valid."""
        found = self._verified.get(sha256(token).digest())
        if found is None:
            return None
        verified = found[0]
        if (
            verified.not_before <= self._clock() < verified.expires
            and self._steady_clock() < self._keys.until
        ):
            return verified
        return None

    async def verify(self, token: bytes) -> Token:
        """Return what a token says; wait for the issuer only if the key that it names is not at hand.

        Raises:
            InvalidTokenError: it is not well-formed, not signed by a key of the issuer's, not for this
                service, or not valid now.
            IssuerUnavailableError: it names a key that is not at hand, and the issuer gives none.
        """
        if len(token) > MAX_BYTES:
            raise InvalidTokenError(f"It is longer than {MAX_BYTES} bytes.")
        try:
            signed = jws.extract_compact(token, registry=_REGISTRY)
            header = msgspec.convert(signed.protected, _Header)
        except _MALFORMED:
            raise InvalidTokenError("It is no JSON Web Token in compact form.") from None
        _check(header)
        key = await self._key(header)
        try:
            genuine = jws.validate_compact(signed, key.jwk, registry=_REGISTRY)
            claims = msgspec.json.decode(signed.payload, type=_Claims) if genuine else None
        except _MALFORMED:
            raise InvalidTokenError("Its claims are not those of a token, or of another type.") from None
        if claims is None:
            raise InvalidTokenError("Its signature is not that of the issuer's key.")
        verified = self._judge(claims)
        self._verified[sha256(token).digest()] = verified, key.identity
        if len(self._verified) > REMEMBERED:
            self._verified.popitem(last=False)
        return verified

    async def _key(self, header: _Header) -> Key:
        key = _choose(self._keys.current, header)
        if key is None:
            await self._keys.renew()
            key = _choose(self._keys.current, header)
        if key is not None:
            return key
        if self._keys.failing:
            raise IssuerUnavailableError("The issuer's keys can't be had.")
        raise InvalidTokenError("It is signed by no key that the issuer has.")

    def _judge(self, claims: _Claims) -> Token:
        now = self._clock()
        not_before = max(claims.nbf, claims.iat) - EARLY_SECONDS
        if claims.iss != self._issuer:
            raise InvalidTokenError("It is of another issuer.")
        if self._audience not in ([claims.aud] if isinstance(claims.aud, str) else claims.aud):
            raise InvalidTokenError("It is for another audience.")
        if now >= claims.exp:
            raise InvalidTokenError("It has expired.")
        if now < not_before:
            raise InvalidTokenError("It is not valid yet.")
        scopes = {*claims.scope.split(), *(claims.scp.split() if isinstance(claims.scp, str) else claims.scp)}
        own = _own(claims.preferred_username)
        return Token(claims.sub, SCOPES & scopes, own, not_before, claims.exp)

    def _forget(self, keys: Sequence[Key]) -> None:
        """Forget the tokens that were signed by other keys than these."""
        current = {key.identity for key in keys}
        if current == self._current:
            return
        self._current = current
        gone = [digest for digest, (_, identity) in self._verified.items() if identity not in current]
        for digest in gone:
            del self._verified[digest]


def _check(header: _Header) -> None:
    if header.alg not in ALGORITHMS:
        raise InvalidTokenError("Its algorithm is not accepted.")
    if header.crit is not msgspec.UNSET:
        raise InvalidTokenError("It has critical header parameters, none of which is understood.")
    if header.typ is not None and header.typ.lower().removeprefix("application/") not in TYPES:
        raise InvalidTokenError("It is a token of another type.")


def _choose(keys: Sequence[Key], header: _Header) -> Key | None:
    """Return the one key that a token was made with; None if the key that it names is not there."""
    named = keys if header.kid is None else [key for key in keys if key.kid == header.kid]
    if not named:
        return None
    fitting = [key for key in named if key.fits(header.alg)]
    if len(fitting) != 1:
        raise InvalidTokenError("Its algorithm is not that of the key, or does not tell which key it is.")
    return fitting[0]


def _own(username: str | None) -> str | None:
    try:
        return None if username is None else username_key(username)
    except InvalidUsernameError:
        return None
