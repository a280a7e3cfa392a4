"""Decision 9: verifying a token, by whole libraries and by hello's issuer."""

import asyncio
import base64
import json
import time
import warnings
from collections.abc import Callable, Coroutine, Sequence
from typing import Any
from unittest.mock import patch

import jwt as pyjwt
from cryptography.hazmat.primitives.asymmetric import ec, padding, utils
from cryptography.hazmat.primitives.hashes import SHA256
from joserfc import jwt
from joserfc.jwk import ECKey, RSAKey

from bench.choices.timing import micro, per_call
from bench.markdown import table
from hello.jwks import Key, read_keys
from hello.oidc import Issuer

with warnings.catch_warnings(action="ignore"):  # its JOSE part is deprecated
    from authlib.jose import JsonWebToken

ISSUER, AUDIENCE = "https://issuer.example", "hello"
ALGORITHMS = ("RS256", "ES256")


def measure() -> str:
    """Return a table: µs of processor time to verify a token, by algorithm."""
    times: dict[str, list[str]] = {}
    for alg in ALGORITHMS:
        for name, seconds in per_call(_cases(alg)).items():
            times.setdefault(name, []).append(micro(seconds))
    return table(("way", *ALGORITHMS), [(name, *found) for name, found in times.items()])


def _cases(alg: str) -> dict[str, Callable[[], object]]:
    options: dict[str, Any] = {"parameters": {"kid": "k", "alg": alg, "use": "sig"}}
    key = RSAKey.generate_key(2048, **options) if alg == "RS256" else ECKey.generate_key("P-256", **options)
    now = int(time.time())
    claims = {"iss": ISSUER, "aud": AUDIENCE, "sub": "me", "iat": now, "exp": now + 86400, "scope": "read"}
    token = jwt.encode({"alg": alg, "kid": "k"}, claims, key)
    authlib, pem = JsonWebToken([alg]), key.as_pem(private=False)
    public: Any = pyjwt.PyJWK(key.as_dict(private=False)).key
    values: dict[str, Any] = {name: {"essential": True, "value": claims[name]} for name in ("iss", "aud")}
    wanted = jwt.JWTClaimsRegistry(**values)
    issuer, raw = Issuer(ISSUER, AUDIENCE), token.encode()
    jwks = json.dumps({"keys": [key.as_dict(private=False)]}).encode()

    async def fetch(_: str) -> Sequence[Key]:
        return read_keys(jwks)

    with patch("hello.issuer_keys.fetch_keys", fetch):
        asyncio.run(issuer.verify(raw))  # has the keys from now on
    return {
        "the signature alone, by cryptography": _signature(alg, token, public),
        "PyJWT": lambda: pyjwt.decode(token, public, [alg], audience=AUDIENCE, issuer=ISSUER),
        "Authlib": lambda: authlib.decode(token, pem, claims_options=values).validate(),
        "joserfc, whole tokens": lambda: wanted.validate(jwt.decode(token, key, algorithms=[alg]).claims),
        "hello: joserfc for signatures, msgspec for claims": lambda: _at_once(issuer.verify(raw)),
        "hello, a token that was seen before": lambda: issuer.known(raw),
    }


def _at_once(coroutine: Coroutine[Any, Any, object]) -> object:
    """Return what a coroutine returns that waits for nothing."""
    try:
        coroutine.send(None)
    except StopIteration as done:
        return done.value
    raise RuntimeError("it waits")


def _signature(alg: str, token: str, public: Any) -> Callable[[], object]:
    signed, _, last = token.encode().rpartition(b".")
    signature = base64.urlsafe_b64decode(last + b"==")
    if alg == "RS256":
        return lambda: public.verify(signature, signed, padding.PKCS1v15(), SHA256())
    r, s = (int.from_bytes(half) for half in (signature[:32], signature[32:]))
    der = utils.encode_dss_signature(r, s)
    return lambda: public.verify(der, signed, ec.ECDSA(SHA256()))
