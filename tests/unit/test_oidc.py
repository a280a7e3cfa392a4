"""Tokens: which are accepted and which refused, and why; against an issuer that runs."""

import base64
import hashlib
import hmac
import json
from asyncio import Runner
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from hypothesis import given
from hypothesis import strategies as st
from joserfc import jwe
from joserfc.jwk import ECKey, Key, OctKey, OKPKey, RSAKey

from hello import oidc
from hello.jwks import ALGORITHMS, read_keys
from hello.oidc import InvalidTokenError, Token
from tests.support.issuer import Issuer

pytestmark = pytest.mark.anyio

NOW = 1_800_000_000
EVERYTHING = frozenset({"read", "write", "self", "admin"})


@pytest.fixture(scope="module")
def anyio_backend() -> tuple[str, dict[str, bool]]:
    """Run these tests on the loop that the service runs on."""
    return "asyncio", {"use_uvloop": True}


@dataclass
class Clock:
    """Stands unless it is set."""

    now: float = NOW

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(issuer: Issuer) -> Clock:
    """The time of the issuer and of the service."""
    clock = Clock()
    issuer.clock = clock
    return clock


@pytest.fixture
async def judge(issuer: Issuer, clock: Clock) -> AsyncIterator[oidc.Issuer]:
    """What judges the issuer's tokens, by the clock."""
    judge = oidc.Issuer(issuer.url, issuer.audience, clock, steady_clock=clock)
    yield judge
    await judge.close()


async def refused(judge: oidc.Issuer, token: str | bytes) -> str:
    """Return why a token is not accepted; assert that it is not kept, and that nothing of it is told."""
    token = token.encode() if isinstance(token, str) else token
    with pytest.raises(InvalidTokenError) as error:
        await judge.verify(token)
    assert judge.known(token) is None
    for part in token.split(b"."):
        assert not part or part.decode("latin1") not in str(error.value)
    return str(error.value)


def part(value: object) -> str:
    """Return a part of a token: JSON or bytes in base64url (RFC 7515, 2)."""
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


# What a token says


async def test_a_token_gives_its_subject_scopes_and_username(judge: oidc.Issuer, issuer: Issuer) -> None:
    """The username by its key; valid from five seconds before it was issued."""
    token = issuer.token(scope="read openid self", preferred_username="Zoë").encode()
    assert judge.known(token) is None
    expected = Token("person-1", frozenset({"read", "self"}), "zoë", NOW - 5, NOW + 3600)
    assert await judge.verify(token) == expected
    assert judge.known(token) == expected


@pytest.mark.parametrize(
    ("claims", "scopes"),
    [
        ({}, set()),
        ({"scope": "read write self admin"}, EVERYTHING),
        ({"scope": "READ read:all  writes"}, set()),
        ({"scp": "read admin"}, {"read", "admin"}),
        ({"scp": ["write", "profile"]}, {"write"}),
        ({"scope": "read", "scp": ["write"]}, {"read", "write"}),
    ],
)
async def test_scopes_are_in_either_claim(
    judge: oidc.Issuer, issuer: Issuer, claims: dict[str, Any], scopes: set[str]
) -> None:
    """`scope` or `scp`, as text or list; those of others are passed over."""
    assert (await judge.verify(issuer.token(**claims).encode())).scopes == scopes


@pytest.mark.parametrize("username", [None, "", "zoe@example.com", "zoe1", "z" * 65])
async def test_what_is_no_username_owns_none(
    judge: oidc.Issuer, issuer: Issuer, username: str | None
) -> None:
    """The token is valid all the same; without a subject it has an empty one."""
    found = await judge.verify(issuer.token(preferred_username=username, sub=None).encode())
    assert (found.own, found.subject) == (None, "")


@pytest.mark.parametrize(
    "claims",
    [
        {"aud": ["other", "hello"]},
        {"exp": NOW + 0.5},
        {"nbf": NOW + 5, "iat": NOW + 5},
        {"iat": None},
        {"exp": 10**30},
    ],
)
async def test_claims_at_the_edge_are_accepted(
    judge: oidc.Issuer, issuer: Issuer, claims: dict[str, Any]
) -> None:
    """Until the last half second, and from five seconds before, for clocks that run behind."""
    assert (await judge.verify(issuer.token(**claims).encode())).subject == "person-1"


@pytest.mark.parametrize(
    ("claims", "reason"),
    [
        ({"iss": "https://other.example"}, "another issuer"),
        ({"iss": None}, "claims"),
        ({"iss": ["http://127.0.0.1"]}, "claims"),
        ({"aud": "other"}, "another audience"),
        ({"aud": "hello hello"}, "another audience"),
        ({"aud": "HELLO"}, "another audience"),
        ({"aud": []}, "another audience"),
        ({"aud": ["hell", "o"]}, "another audience"),
        ({"aud": ["hello", 1]}, "claims"),
        ({"aud": {"hello": True}}, "claims"),
        ({"aud": None}, "claims"),
        ({"exp": NOW}, "expired"),
        ({"exp": NOW - 1}, "expired"),
        ({"exp": -1}, "expired"),
        ({"exp": None}, "claims"),
        ({"exp": True}, "claims"),
        ({"exp": str(NOW + 60)}, "claims"),
        ({"exp": float("inf")}, "claims"),
        ({"exp": 10**400}, "claims"),
        ({"exp": float("nan")}, "claims"),
        ({"exp": [NOW + 60]}, "claims"),
        ({"nbf": NOW + 5.1}, "not valid yet"),
        ({"nbf": "0"}, "claims"),
        ({"nbf": False}, "claims"),
        ({"iat": NOW + 6}, "not valid yet"),
        ({"iat": float("-inf")}, "claims"),
        ({"sub": 1}, "claims"),
        ({"scope": ["read"]}, "claims"),
        ({"scp": [1]}, "claims"),
        ({"preferred_username": 1}, "claims"),
    ],
)
async def test_claims_that_are_refused(
    judge: oidc.Issuer, issuer: Issuer, claims: dict[str, Any], reason: str
) -> None:
    """Another issuer, audience or time; one that is missing, or of another type."""
    assert reason in await refused(judge, issuer.token(**claims))


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"[]",
        b"null",
        b"\xff",
        b'{"exp":',
        b"[" * 2500 + b"]" * 2500,
        b'{"x":' + b"[" * 5000,
        b'"exp"',
    ],
)
async def test_a_signed_payload_of_another_kind_is_refused(
    judge: oidc.Issuer, issuer: Issuer, payload: bytes
) -> None:
    """That the issuer signed it makes it no token."""
    assert "claims" in await refused(judge, issuer.sign(payload))


async def test_a_number_beyond_floats_is_refused(judge: oidc.Issuer, issuer: Issuer) -> None:
    """1e400 is JSON, and no time."""
    payload = json.dumps(issuer.claims()).replace(str(NOW + 3600), "1e400").encode()
    assert "claims" in await refused(judge, issuer.sign(payload))


# Signatures


def keys_of_every_kind() -> dict[str, Key]:
    """Return a key for each algorithm."""
    rsa_key, okp_key = RSAKey.generate_key(2048), OKPKey.generate_key("Ed25519")
    curves = {"ES256": "P-256", "ES384": "P-384", "ES512": "P-521"}
    return {
        name: rsa_key if kind == "RSA" else ECKey.generate_key(curves[name]) if kind == "EC" else okp_key
        for name, (kind, _) in ALGORITHMS.items()
    }


async def test_tokens_of_each_algorithm_are_accepted(
    judge: oidc.Issuer, issuer: Issuer, clock: Clock
) -> None:
    """Each by a key of its kind, and by that key alone."""
    keys = keys_of_every_kind()
    assert len(keys) == 11
    tokens = {}
    for name, key in keys.items():
        issuer.rotate(key, keep=True)
        tokens[name] = issuer.token(header={"alg": name})
    for token in tokens.values():
        assert (await judge.verify(token.encode())).subject == "person-1"
    for name, token in tokens.items():
        head, claims, signature = token.split(".")
        other = tokens["RS256" if not name.startswith(("RS", "PS")) else "ES256"].split(".")
        assert "signature" in await refused(judge, f"{head}.{claims}.{other[2]}")
        assert "signature" in await refused(judge, f"{head}.{claims}.{signature[4:]}")
        assert "signature" in await refused(judge, f"{head}.{part(issuer.claims(scope='admin'))}.{signature}")


async def test_a_token_that_is_not_signed_is_refused(judge: oidc.Issuer, issuer: Issuer) -> None:
    """`none` in any spelling, with and without a signature."""
    signature = issuer.token().split(".")[2]
    for name in ("none", "None", "NONE", "nOnE", ""):
        head = part({"alg": name, "kid": issuer.kid})
        for end in ("", signature):
            assert "algorithm" in await refused(judge, f"{head}.{part(issuer.claims())}.{end}")
    head, claims, _ = issuer.token().split(".")
    assert "signature" in await refused(judge, f"{head}.{claims}.")


@pytest.mark.parametrize("name", ["HS256", "HS384", "HS512"])
async def test_a_mac_made_with_the_public_key_is_refused(
    judge: oidc.Issuer, issuer: Issuer, name: str
) -> None:
    """Whatever form of the public key served as the secret."""
    assert isinstance(issuer.signing, RSAKey)
    public = issuer.signing.as_pem(private=False)
    forms = [
        public,
        public.strip(),
        issuer.signing.as_der(private=False),
        json.dumps(issuer.jwks[0]).encode(),
        issuer.jwks[0]["n"].encode(),
        base64.urlsafe_b64decode(issuer.jwks[0]["n"] + "=="),
    ]
    for secret in forms:
        for kid in (issuer.kid, None):
            head = {"alg": name} if kid is None else {"alg": name, "kid": kid}
            text = f"{part(head)}.{part(issuer.claims())}"
            mac = hmac.new(secret, text.encode(), getattr(hashlib, f"sha{name[2:]}")).digest()
            assert "algorithm" in await refused(judge, f"{text}.{part(mac)}")


async def test_a_mac_by_a_shared_key_of_the_set_is_refused(judge: oidc.Issuer, issuer: Issuer) -> None:
    """A symmetric key that an issuer publishes is known to everyone."""
    shared = OctKey.generate_key(256)
    issuer.jwks.append({**shared.as_dict(private=True), "kid": "shared"})
    token = issuer.token(key=shared, header={"alg": "HS256", "kid": "shared"})
    assert "algorithm" in await refused(judge, token)


async def test_keys_that_a_token_brings_along_are_not_used(judge: oidc.Issuer, issuer: Issuer) -> None:
    """An attacker's key in `jwk`, or where `jku` and `x5u` point, verifies nothing."""
    own = RSAKey.generate_key(2048)
    header = {
        "jwk": own.as_dict(private=False),
        "jku": f"{issuer.url}/attacker",
        "x5u": f"{issuer.url}/attacker",
    }
    assert "signature" in await refused(judge, issuer.token(key=own, header=header))
    assert not [path for path in issuer.asked if "attacker" in path]


async def test_the_key_is_the_one_that_the_token_names(judge: oidc.Issuer, issuer: Issuer) -> None:
    """Another key of the issuer does not verify it, nor another algorithm than the key's."""
    issuer.jwks[0]["alg"] = "RS256"
    token = issuer.token(header={"kid": "key-1"})
    issuer.rotate(ECKey.generate_key("P-256"), keep=True)
    assert (await judge.verify(token.encode())).subject == "person-1"
    first = RSAKey.generate_key(2048)
    assert "signature" in await refused(judge, issuer.token(key=first, header={"kid": "key-1"}))
    assert "not that of the key" in await refused(judge, issuer.token(header={"kid": "key-1"}))
    assert "not that of the key" in await refused(
        judge, issuer.token(key=first, header={"alg": "PS256", "kid": "key-1"})
    )
    assert "no key that the issuer has" in await refused(judge, issuer.token(header={"kid": "key-3"}))


async def test_without_an_id_the_only_key_that_fits_is_used(
    judge: oidc.Issuer, issuer: Issuer, clock: Clock
) -> None:
    """Where two fit, none is."""
    token = issuer.token(header={"kid": None})
    del issuer.jwks[0]["kid"]
    issuer.jwks.append(ECKey.generate_key("P-256").as_dict(private=False))
    assert (await judge.verify(token.encode())).subject == "person-1"
    issuer.jwks.append(RSAKey.generate_key(2048).as_dict(private=False))
    clock.now += 10
    assert "no key that the issuer has" in await refused(judge, issuer.token(header={"kid": "absent"}))
    assert "which key it is" in await refused(judge, issuer.token(sub="person-2", header={"kid": None}))


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        ({"crit": ["exp"], "exp": NOW}, "critical"),
        ({"crit": []}, "critical"),
        ({"crit": None, "b64": False}, "compact form"),
        ({"alg": ["RS256"]}, "compact form"),
        ({"alg": "RS1"}, "algorithm"),
        ({"kid": 1}, "compact form"),
        ({"typ": "logout+jwt"}, "another type"),
        ({"x5c": 1}, "claims"),
    ],
)
async def test_headers_that_are_refused(
    judge: oidc.Issuer, issuer: Issuer, header: dict[str, Any], reason: str
) -> None:
    """Extensions that are not understood (RFC 7515, 4.1.11), and values of another type."""
    whole = {"alg": "RS256", "kid": issuer.kid, **header}
    head = part({name: value for name, value in whole.items() if value is not None})
    text = f"{head}.{part(issuer.claims())}"
    assert isinstance(issuer.signing, RSAKey)
    assert issuer.signing.private_key is not None
    signature = issuer.signing.private_key.sign(text.encode(), padding.PKCS1v15(), hashes.SHA256())
    assert reason in await refused(judge, f"{text}.{part(signature)}")


@pytest.mark.parametrize("typ", ["at+jwt", "application/at+jwt", "jwt", None])
async def test_types_of_tokens_for_an_api(judge: oidc.Issuer, issuer: Issuer, typ: str | None) -> None:
    """Access tokens by RFC 9068, tokens as most issuers make them, and headers hello knows nothing of."""
    header = {"typ": typ, "x5t": "thumbprint", "nonce-of-somebody": 1, "padding": "x" * 1000}
    assert (await judge.verify(issuer.token(header=header).encode())).subject == "person-1"


async def test_other_forms_than_the_compact_one_are_refused(judge: oidc.Issuer, issuer: Issuer) -> None:
    """JSON serialisations, encrypted tokens, missing and additional parts, another base64."""
    head, claims, signature = issuer.token().split(".")
    flat = json.dumps({"protected": head, "payload": claims, "signature": signature})
    encrypted = jwe.encrypt_compact({"alg": "RSA-OAEP", "enc": "A128GCM"}, b"{}", issuer.signing)
    for token in (
        flat,
        encrypted,
        f"{head}.{claims}",
        f"{head}.{claims}.{signature}.",
        f"{head}=.{claims}.{signature}",
        f" {head}.{claims}.{signature}",
        f"{part([])}.{claims}.{signature}",
        f"{part(['alg'])}.{claims}.{signature}",
        f"{part(b'[' * 3000)}.{claims}.{signature}",
    ):
        assert "compact form" in await refused(judge, token)
    assert not issuer.asked, "none of them is worth asking the issuer"
    assert "signature" in await refused(judge, f"{head}.{claims}.{signature}\n")


async def test_a_token_over_8192_bytes_is_refused_unread(judge: oidc.Issuer, issuer: Issuer) -> None:
    """It may be as long as that, and no longer."""
    room = 8192 - len(issuer.token(filler=""))
    token = issuer.token(filler="x" * (room * 3 // 4 - 2))
    assert 8180 < len(token) <= 8192
    assert (await judge.verify(token.encode())).subject == "person-1"
    assert "longer than 8192" in await refused(judge, issuer.token(filler="x" * room))


# Tokens made by another hand


async def test_tokens_made_without_a_library_are_accepted(judge: oidc.Issuer, issuer: Issuer) -> None:
    """Signed with cryptography alone, as RFC 7515, RFC 7518 and RFC 8037 say."""
    rsa_key = rsa.generate_private_key(65537, 3072)
    ec_key = ec.generate_private_key(ec.SECP256R1())
    ed_key = ed25519.Ed25519PrivateKey.generate()
    n, e = rsa_key.public_key().public_numbers().n, b"\x01\x00\x01"
    point = ec_key.public_key().public_numbers()
    issuer.jwks = [
        {"kty": "RSA", "kid": "r", "n": part(n.to_bytes(384, "big")), "e": part(e)},
        {
            "kty": "EC",
            "kid": "e",
            "crv": "P-256",
            "x": part(point.x.to_bytes(32, "big")),
            "y": part(point.y.to_bytes(32, "big")),
        },
        {"kty": "OKP", "kid": "o", "crv": "Ed25519", "x": part(ed_key.public_key().public_bytes_raw())},
    ]

    def by_curve(data: bytes) -> bytes:
        r, s = decode_dss_signature(ec_key.sign(data, ec.ECDSA(hashes.SHA256())))
        return r.to_bytes(32, "big") + s.to_bytes(32, "big")

    pss = padding.PSS(padding.MGF1(hashes.SHA512()), 64)
    signers = {
        ("RS384", "r"): lambda data: rsa_key.sign(data, padding.PKCS1v15(), hashes.SHA384()),
        ("PS512", "r"): lambda data: rsa_key.sign(data, pss, hashes.SHA512()),
        ("ES256", "e"): by_curve,
        ("EdDSA", "o"): ed_key.sign,
    }
    for (name, kid), sign in signers.items():
        text = f"{part({'alg': name, 'kid': kid})}.{part(issuer.claims(scope='read'))}"
        token = f"{text}.{part(sign(text.encode()))}"
        assert (await judge.verify(token.encode())).scopes == {"read"}


# RFC 7515, appendices A.2 and A.3: printed there for everyone
RFC_CLAIMS = (
    "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNv"  # pragma: allowlist secret
    "bS9pc19yb290Ijp0cnVlfQ"  # pragma: allowlist secret
)
RFC_N = (
    "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qP"  # pragma: allowlist secret
    "CJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47s"  # pragma: allowlist secret
    "oMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2"  # pragma: allowlist secret
    "R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoud"  # pragma: allowlist secret
    "F8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ"  # pragma: allowlist secret
)
RFC_RS256 = (
    "cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4B"  # pragma: allowlist secret
    "h-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZ"  # pragma: allowlist secret
    "LgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_d"  # pragma: allowlist secret
    "O--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6"  # pragma: allowlist secret
    "LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw"  # pragma: allowlist secret
)
RFC_X = "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU"  # pragma: allowlist secret
RFC_Y = "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"  # pragma: allowlist secret
RFC_ES256 = (
    "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKT"  # pragma: allowlist secret
    "UJqPP3-Kg6NU1Q"  # pragma: allowlist secret
)


async def test_the_signatures_of_rfc_7515_are_genuine(judge: oidc.Issuer, issuer: Issuer) -> None:
    """Its examples come as far as the claims, which name no audience; with another signature they don't."""
    issuer.jwks = [
        {"kty": "RSA", "n": RFC_N, "e": "AQAB"},
        {"kty": "EC", "crv": "P-256", "x": RFC_X, "y": RFC_Y},
    ]
    for head, signature in (("eyJhbGciOiJSUzI1NiJ9", RFC_RS256), ("eyJhbGciOiJFUzI1NiJ9", RFC_ES256)):
        assert "claims" in await refused(judge, f"{head}.{RFC_CLAIMS}.{signature}")
        assert "signature" in await refused(judge, f"{head}.{RFC_CLAIMS}.A{signature[1:]}")


# Keys


def jwks(*keys: object) -> bytes:
    """Return a JWK Set."""
    return json.dumps({"keys": keys}).encode()


def test_unusable_keys_are_passed_over() -> None:
    """Those that are not well-formed, weak, secret, for another use or unknown; the others are used."""
    good = ECKey.generate_key("P-256").as_dict(private=False)
    strong = RSAKey.generate_key(2048).as_dict(private=False)
    n = rsa.generate_private_key(65537, 1024).public_key().public_numbers().n
    unusable: list[object] = [
        None, 1, "x", [], {}, {"kty": "RSA"}, {"kty": ["RSA"]}, {"kty": {}}, {"kty": "AKP", "pub": "AAAA"},
        {"kty": "oct", "k": "c2VjcmV0"},
        {"kty": "RSA", "n": part(n.to_bytes(128, "big")), "e": "AQAB"},
        {"kty": "RSA", "n": part(b"\0" * 200 + n.to_bytes(128, "big")), "e": "AQAB"},
        {"kty": "RSA", "n": part(b"\xff" * 2048), "e": "AQAB"},
        {**strong, "e": ""}, {**strong, "e": "AA"}, {**strong, "n": 5}, {**strong, "n": "?"},
        {**strong, "n": ""},
        {**good, "x": good["y"]}, {**good, "x": "é"}, {**good, "x": None}, {**good, "crv": "P-384"},
        {**good, "crv": "secp256k1"}, {**good, "crv": []}, {**good, "kid": 1},
        {**good, "use": "enc"}, {**good, "use": None}, {**good, "key_ops": ["sign"]}, {**good, "key_ops": 1},
        {**good, "alg": "ES384"}, {**good, "alg": "HS256"}, {**good, "alg": []}, {**strong, "alg": "none"},
        {"kty": "OKP", "crv": "X25519", "x": part(b"x" * 32)}, {"kty": "OKP", "crv": "Ed25519", "x": "AAAA"},
    ]  # fmt: skip
    for key in unusable:
        assert not read_keys(jwks(key)), key
    found = read_keys(jwks(*unusable, {**good, "kid": "good", "key_ops": ["verify"]}, *unusable, good, good))
    assert [key.kid for key in found] == ["good", None]


def test_a_private_key_that_was_published_is_not_taken_in() -> None:
    """Only its public part is."""
    [key] = read_keys(jwks(RSAKey.generate_key(2048).as_dict(private=True)))
    assert not key.jwk.is_private
    assert "d" not in key.jwk.as_dict()


@pytest.mark.parametrize("text", [b"", b"[]", b"{}", b'{"keys":{}}', b"\xff", b"[" * 100_000])
def test_what_is_no_key_set_is_an_error(text: bytes) -> None:
    """It is not an empty set, which would take all keys away."""
    with pytest.raises(ValueError, match="not a JWK Set"):
        read_keys(text)


# Any bytes


@dataclass
class Tried:
    """A judge that has its keys, and a token that it accepts, outside of a loop."""

    judge: oidc.Issuer
    issuer: Issuer
    token: bytes
    runner: Runner

    def verdict(self, token: bytes) -> Token | None:
        """Return what is verified, None for what is refused; nothing else may come."""
        try:
            return self.runner.run(self.judge.verify(token))
        except InvalidTokenError:
            return None


@pytest.fixture(scope="module")
def tried() -> Iterator[Tried]:
    """One for all examples."""
    issuer = Issuer(Clock()).start()
    with Runner() as runner:
        issuer.rotate(ECKey.generate_key("P-256"))
        judge = oidc.Issuer(issuer.url, "hello", Clock(), steady_clock=Clock())
        token = issuer.token(scope="read").encode()
        tried = Tried(judge, issuer, token, runner)
        assert tried.verdict(token) is not None
        yield tried
        runner.run(judge.close())
        issuer.stop()


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)
headers = st.dictionaries(
    st.sampled_from(["alg", "kid", "typ", "crit", "b64", "jku", "jwk", "x5c", "zip"]),
    st.sampled_from(["ES256", "key-1", "key-2", "none", "HS256", "JWT"]) | json_values,
    max_size=2,
).map(lambda changed: {"alg": "ES256", "kid": "key-1", **changed})
claims = st.dictionaries(
    st.sampled_from(["iss", "aud", "exp", "nbf", "iat", "sub", "scope", "scp", "preferred_username"]),
    json_values,
    max_size=3,
)


@given(token=st.binary() | st.text().map(str.encode))
def test_arbitrary_bytes_are_refused(tried: Tried, token: bytes) -> None:
    """As no token, and not by another error."""
    assert tried.verdict(token) is None


@given(header=headers | json_values, payload=json_values, signature=st.binary(min_size=60, max_size=66))
def test_arbitrary_parts_are_refused(tried: Tried, header: object, payload: object, signature: bytes) -> None:
    """Whatever JSON they hold."""
    assert tried.verdict(f"{part(header)}.{part(payload)}.{part(signature)}".encode()) is None


@given(changed=claims, payload=st.none() | json_values)
def test_whatever_the_issuer_signs_is_judged(
    tried: Tried, changed: dict[str, object], payload: object
) -> None:
    """A token or a refusal; its scopes are those that hello has, its times are numbers."""
    signed = tried.issuer.claims(**changed) if payload is None else payload
    found = tried.verdict(tried.issuer.sign(json.dumps(signed).encode()).encode())
    if found is not None:
        assert payload is None
        assert found.scopes <= EVERYTHING
        assert found.not_before <= NOW < found.expires
    elif payload is None:
        assert changed, "the claims as they were are accepted"


@given(data=st.data())
def test_a_changed_token_is_refused(tried: Tried, data: st.DataObject) -> None:
    """Whichever of its bytes is another, missing or additional: nobody can make a second of a first."""
    at = data.draw(st.integers(0, len(tried.token) - 1), "at")
    put = data.draw(st.binary(max_size=3), "put")
    changed = tried.token[:at] + put + tried.token[at + data.draw(st.integers(0, 3), "cut") :]
    assert (tried.verdict(changed) is not None) == (changed == tried.token)
