"""The keys of an issuer of tokens, read from its JSON Web Key Set (RFC 7517)."""

from base64 import urlsafe_b64decode
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, JWKRegistry, OKPKey, RSAKey

# What an algorithm of a token needs of a key: its type and, of an elliptic curve, which one. All of them
# are asymmetric: whoever can verify a token must not be able to make one. Ed25519 is what RFC 9864 calls
# the EdDSA that is meant here.
ALGORITHMS: dict[str, tuple[str, str | None]] = {
    **{f"{kind}{size}": ("RSA", None) for kind in ("RS", "PS") for size in (256, 384, 512)},
    "ES256": ("EC", "P-256"),
    "ES384": ("EC", "P-384"),
    "ES512": ("EC", "P-521"),
    "EdDSA": ("OKP", "Ed25519"),
    "Ed25519": ("OKP", "Ed25519"),
}
RSA_BITS = range(2048, 8192 + 1)

# Of a JWK only these are taken: the private part of a key that was published by mistake is not, and
# neither are certificates, which are not looked at.
_MEMBERS = {"RSA": ("n", "e"), "EC": ("crv", "x", "y"), "OKP": ("crv", "x")}

Identity = tuple[str | None, str | None, str]  # of a key: id, algorithm, and thumbprint (RFC 7638)


@dataclass(frozen=True, slots=True)
class Key:
    """A public key that verifies tokens."""

    jwk: RSAKey | ECKey | OKPKey
    kid: str | None
    alg: str | None
    kind: tuple[str, str | None]
    identity: Identity

    def fits(self, alg: str) -> bool:
        """Return whether it may verify tokens of this algorithm, one of `ALGORITHMS`."""
        return self.kind == ALGORITHMS[alg] and self.alg in (None, alg)


class _KeySet(msgspec.Struct):
    keys: list[Any]


def read_keys(text: bytes) -> Sequence[Key]:
    """Return the keys of a JWK Set that verify signatures of `ALGORITHMS`; others in it are passed over.

    Raises:
        ValueError: it is no JWK Set.
    """
    try:
        jwks = msgspec.json.decode(text, type=_KeySet).keys
    except (ValueError, RecursionError):
        raise ValueError("its keys are not a JWK Set") from None
    return tuple({key.identity: key for key in _usable(jwks)}.values())


def _usable(jwks: list[Any]) -> Iterator[Key]:
    for jwk in jwks:
        try:
            key = _key(jwk)
        except (AttributeError, JoseError, KeyError, TypeError, ValueError):
            continue  # it is not well-formed, and says nothing about the others
        if key is not None:
            yield key


def _key(jwk: Any) -> Key | None:
    kid, alg, kty = jwk.get("kid"), jwk.get("alg"), jwk["kty"]
    kind = (kty, None if kty == "RSA" else jwk.get("crv"))
    if (
        kind not in ALGORITHMS.values()
        or jwk.get("use", "sig") != "sig"
        or "verify" not in jwk.get("key_ops", ["verify"])
        or not isinstance(kid, str | None)
        or not (alg is None or ALGORITHMS.get(alg) == kind)
    ):
        return None
    public = {"kty": kty, **{name: jwk[name] for name in _MEMBERS[kty]}}
    if kty == "RSA" and _bits(public["n"]) not in RSA_BITS:
        return None
    read = JWKRegistry.import_key(public)
    if not isinstance(read, RSAKey | ECKey | OKPKey):
        return None
    return Key(read, kid, alg, kind, (kid, alg, read.thumbprint()))


def _bits(number: str) -> int:
    return int.from_bytes(urlsafe_b64decode(f"{number}==")).bit_length()
