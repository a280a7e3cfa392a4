"""Rights: whose key or token a request brings."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from hello.keys import Keys
from hello.problems import UnauthorizedError
from hello.rights import Caller, InvalidTokenError, IssuerUnavailableError, Scope

if TYPE_CHECKING:
    from hello.oidc import Issuer  # with libraries that only a service with an issuer loads

BEARER = b"bearer "
USUAL = b"Bearer "
WAITING = 64  # tokens that may wait for the issuer at once: anyone can make up what has to be asked for


class Rights:
    """Tells callers by their credentials; `table` says what their requests take."""

    def __init__(
        self, keys: Keys | None, issuer: "Issuer | None", table: Mapping[tuple[str, str], Scope]
    ) -> None:
        self._keys = keys
        self._issuer = issuer
        self._waiting = 0  # tokens that are being checked, which takes waiting where the issuer is asked
        self.table = table

    def with_key(self, secret: bytes) -> Caller | None:
        """Return the caller whose API key this is."""
        return self._keys.find(secret) if self._keys else None

    def known(self, authorization: bytes) -> Caller | None:
        """Return the caller where that takes no waiting: one with a key, or with a token seen before."""
        if not authorization.startswith(USUAL) and authorization[:7].lower() != BEARER:
            return None
        credentials = authorization[7:].strip()
        if self._keys and (caller := self._keys.find(credentials)):
            return caller
        if self._issuer and (token := self._issuer.known(credentials)):
            return token.caller
        return None

    async def caller(self, authorization: bytes) -> Caller:
        """Return the caller who is not known yet, having checked the token.

        Raises:
            UnauthorizedError: nobody's key, and no token of the issuer.
            IssuerUnavailableError: the token can't be judged now.
        """
        if authorization[:7].lower() != BEARER:
            raise UnauthorizedError("The header Authorization is not of the form `Bearer …`.")
        if self._issuer is None:
            raise UnauthorizedError("This key is not known.")
        if self._waiting >= WAITING:
            raise IssuerUnavailableError("Too many tokens wait for the issuer's keys.")
        self._waiting += 1
        try:
            return (await self._issuer.verify(authorization[7:].strip())).caller
        except InvalidTokenError:
            raise UnauthorizedError("This is no key, and no valid token.") from None
        finally:
            self._waiting -= 1

    async def start(self) -> None:
        """Begin to fetch the issuer's keys."""
        if self._issuer:
            await self._issuer.start()

    def refresh(self) -> None:
        """Look whether the file of keys has changed; called each second."""
        if self._keys:
            self._keys.refresh()

    async def close(self) -> None:
        """Stop fetching."""
        if self._issuer:
            await self._issuer.close()
