"""Certificates for tests: a CA, and those that it issues to servers and clients."""

import itertools
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

DAY = timedelta(days=1)
ADDRESSES = ("127.0.0.1", "127.0.0.2", "::1")

_serials = itertools.count(0x5EED_0001)


class Authority:
    """A CA; its files, and those of what it issues, are in `folder`."""

    def __init__(self, folder: Path, name: str = "ca") -> None:
        self.folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"hello test {name}")])
        usage = _usage(signs=True)
        certificate = (
            self._builder(self._name, self._key.public_key(), datetime.now(UTC) - DAY, timedelta(days=365))
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(usage, critical=True)
            .sign(self._key, hashes.SHA256())
        )
        self.pem = certificate.public_bytes(Encoding.PEM)
        self.file = folder / f"{name}.pem"
        self.file.write_bytes(self.pem)

    def server(
        self,
        name: str = "server",
        *,
        starts: datetime | None = None,
        lasts: timedelta = timedelta(days=90),
        names: Sequence[str] = ("localhost",),
        also_client: bool = False,
    ) -> "Pair":
        """Issue a certificate for servers on this machine; by default it began an hour ago."""
        purposes = [ExtendedKeyUsageOID.SERVER_AUTH]
        if also_client:
            purposes.append(ExtendedKeyUsageOID.CLIENT_AUTH)
        return self._issue(name, purposes, starts, lasts, names)

    def client(self, name: str = "client", *, common_name: bool = True) -> "Pair":
        """Issue a certificate for clients; etcd's JSON gateway takes none with a common name."""
        purposes = [ExtendedKeyUsageOID.CLIENT_AUTH]
        return self._issue(name, purposes, None, timedelta(days=90), (), common_name=common_name)

    def _issue(
        self,
        name: str,
        purposes: Sequence[x509.ObjectIdentifier],
        starts: datetime | None,
        lasts: timedelta,
        names: Sequence[str],
        *,
        common_name: bool = True,
    ) -> "Pair":
        key = ec.generate_private_key(ec.SECP256R1())
        kind = NameOID.COMMON_NAME if common_name else NameOID.ORGANIZATION_NAME
        subject = x509.Name([x509.NameAttribute(kind, next(iter(names), name))])
        starts = starts or datetime.now(UTC) - timedelta(hours=1)
        usage = _usage(signs=False)
        points = [x509.UniformResourceIdentifier("http://crl.invalid/hello.crl")]
        builder = (
            self._builder(subject, key.public_key(), starts, lasts)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(usage, critical=True)
            .add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
            .add_extension(
                x509.CRLDistributionPoints([x509.DistributionPoint(points, None, None, None)]),
                critical=False,
            )
        )
        if names:
            found: list[x509.GeneralName] = [x509.DNSName(name) for name in names]
            found += [x509.IPAddress(ip_address(address)) for address in ADDRESSES]
            builder = builder.add_extension(x509.SubjectAlternativeName(found), critical=False)
        certificate = builder.sign(self._key, hashes.SHA256())
        private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        return Pair(self.folder, name, certificate, private)

    def _builder(
        self, subject: x509.Name, key: ec.EllipticCurvePublicKey, starts: datetime, lasts: timedelta
    ) -> x509.CertificateBuilder:
        own = self._key.public_key()
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number((next(_serials) << 96) | x509.random_serial_number() >> 64)
            .not_valid_before(starts)
            .not_valid_after(starts + lasts)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(own), critical=False)
        )


class Pair:
    """A certificate and its key, in files that are there from the beginning."""

    def __init__(self, folder: Path, name: str, certificate: x509.Certificate, key: bytes) -> None:
        self.certificate = certificate
        self.pem = certificate.public_bytes(Encoding.PEM)
        self.key_pem = key
        self.cert = folder / f"{name}.pem"
        self.key = folder / f"{name}-key.pem"
        self.cert.write_bytes(self.pem)
        self.key.touch(0o600)
        self.key.write_bytes(key)

    @property
    def serial(self) -> int:
        """The certificate's serial number."""
        return self.certificate.serial_number

    @property
    def options(self) -> tuple[str, ...]:
        """The flags that have the service use them."""
        return ("--tls-cert", str(self.cert), "--tls-key", str(self.key))


def _usage(*, signs: bool) -> x509.KeyUsage:
    """Return what a key is for: handshakes, and with `signs` other certificates."""
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs,
        crl_sign=signs,
        encipher_only=False,
        decipher_only=False,
    )
