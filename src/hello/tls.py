"""TLS: certificate, key and the CA of client certificates, read from files, and anew when they change."""

import logging
import os
import ssl
import stat
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from hello.file_state import FileState, file_state
from hello.settings import Settings
from hello.usage import UsageError

logger = logging.getLogger("hello.tls")

CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"  # of TLS 1.2; TLS 1.3 has no others
WARNING = timedelta(days=14)

Signature = tuple[FileState | None, ...]


class Credentials:
    """What connections are secured with: `context` is for those to come, and changes when files change."""

    context: ssl.SSLContext
    certificate: x509.Certificate

    def __init__(
        self,
        certificate: Path,
        key: Path,
        client_ca: Path | None = None,
        *,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """Read the files: a PEM certificate and its chain, its key, and CAs of clients.

        Raises:
            UsageError: a file is of no use; the message tells what to do.
        """
        self.file = certificate
        self._key = key
        self._client_ca = client_ca
        self._clock = clock
        self._taken: Signature = ()
        self._failure = ""
        self._failures = 0  # looks in a row that ended in that failure
        self._warned: date | None = None
        self._take(self._signature())
        self._warn()

    @property
    def expiry(self) -> float:
        """When the certificate ends, in seconds since 1970."""
        return self.certificate.not_valid_after_utc.timestamp()

    @property
    def self_signed(self) -> bool:
        """Whether the certificate is its own issuer, so that clients can be told to trust it itself."""
        return self.certificate.issuer == self.certificate.subject

    @property
    def names(self) -> list[str]:
        """The names and addresses that the certificate is for."""
        extensions = self.certificate.extensions
        try:
            found = extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        except x509.ExtensionNotFound:
            return []
        return [str(name.value) for name in found if isinstance(name, x509.DNSName | x509.IPAddress)]

    @property
    def wants_clients(self) -> bool:
        """Whether clients need certificates."""
        return self._client_ca is not None

    def refresh(self) -> None:
        """Take the files if they changed; if they are of no use, say so once, and keep what there is.

        Certificate and key are written one after the other: what is wrong at one look only is not said.
        """
        signature = self._signature()
        if signature != self._taken:
            try:
                self._take(signature)
            except UsageError as error:
                self._fail(str(error))
            else:
                self._failure, self._failures, self._warned = "", 0, None
                logger.info("certificate read anew", extra={"fields": self._described()})
        self._warn()

    def _take(self, signature: Signature) -> None:
        self.context, self.certificate = _load(self.file, self._key, self._client_ca, self._clock())
        self._taken = signature

    def _fail(self, failure: str) -> None:
        self._failures = self._failures + 1 if failure == self._failure else 1
        self._failure = failure
        if self._failures == 2:
            logger.error(
                "changed TLS files are of no use, those from before stay in use",
                extra={"fields": {"reason": failure, **self._described()}},
            )

    def _warn(self) -> None:
        """Warn once a day of a certificate that ends soon, or has ended."""
        now = self._clock()
        if self.certificate.not_valid_after_utc - now < WARNING and self._warned != now.date():
            self._warned = now.date()
            logger.warning("the certificate ends soon: renew it", extra={"fields": self._described()})

    def _described(self) -> dict[str, str]:
        end = self.certificate.not_valid_after_utc
        return {"serial": f"{self.certificate.serial_number:x}", "ends": end.isoformat()}

    def _signature(self) -> Signature:
        files = (self.file, self._key, self._client_ca)
        return tuple(file_state(file) for file in files if file is not None)


def credentials(settings: Settings) -> Credentials | None:
    """Return what the settings name; None where they name nothing, and HTTP is in clear.

    Raises:
        UsageError: one setting needs another, or a file is of no use.
    """
    certificate, key, client_ca = settings.tls_cert, settings.tls_key, settings.tls_client_ca
    if certificate is not None and key is not None:
        return Credentials(certificate, key, client_ca)
    if certificate is not None:
        raise UsageError(
            "--tls-cert needs the certificate's key: name its file with --tls-key (HELLO_TLS_KEY)."
        )
    if key is not None:
        raise UsageError("--tls-key needs a certificate: name its file with --tls-cert (HELLO_TLS_CERT).")
    if client_ca is not None:
        raise UsageError(
            "--tls-client-ca needs TLS: name files with --tls-cert (HELLO_TLS_CERT)"
            " and --tls-key (HELLO_TLS_KEY)."
        )
    return None


def _load(
    certificate_file: Path, key_file: Path, client_ca: Path | None, now: datetime
) -> tuple[ssl.SSLContext, x509.Certificate]:
    certificate = _certificates(certificate_file, "--tls-cert")[0]
    key = _private_key(key_file)
    if _public(certificate) != _public(key):
        raise UsageError(
            f"{certificate_file} and {key_file} don't belong together: the key is not that of the first"
            " certificate. A chain begins with the server's own certificate."
        )
    _check_dates(certificate_file, certificate, now)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.maximum_version = ssl.TLSVersion.TLSv1_3
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION | ssl.OP_CIPHER_SERVER_PREFERENCE
    context.set_ciphers(CIPHERS)
    context.set_alpn_protocols(["http/1.1"])
    if client_ca is not None:
        authorities = _certificates(client_ca, "--tls-client-ca")
        context.load_verify_locations(
            cadata="".join(authority.public_bytes(Encoding.PEM).decode() for authority in authorities)
        )
        context.verify_mode = ssl.CERT_REQUIRED
    try:
        # The password is never asked for: without one, OpenSSL would ask at the terminal.
        context.load_cert_chain(certificate_file, key_file, password=lambda: "")
    except OSError as error:  # weak, or changed since it was checked; an SSLError is an OSError
        reason = getattr(error, "reason", None) or error.strerror
        raise UsageError(f"{certificate_file} and {key_file} can't be used: {reason}.") from error
    return context, certificate


def _certificates(file: Path, option: str) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(_read(file, option))
    except (ValueError, x509.InvalidVersion) as error:
        raise UsageError(
            f"{_named(file, option)} holds no certificate in PEM form (-----BEGIN CERTIFICATE-----)."
        ) from error


def _private_key(file: Path) -> PrivateKeyTypes:
    content = _read(file, "--tls-key")
    _check_owner_and_mode(file)
    try:
        return load_pem_private_key(content, None)
    except TypeError as error:
        raise UsageError(
            f"{_named(file, '--tls-key')} is encrypted, and nobody is there to give the passphrase."
            f" Decrypt it: (umask 077; openssl pkey -in {file} -out FILE)."
        ) from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise UsageError(f"{_named(file, '--tls-key')} holds no private key in PEM form.") from error


def _check_owner_and_mode(file: Path) -> None:
    """Refuse a key that others can read: as PostgreSQL does, the group may where root owns the file."""
    status = file.stat()
    mode = stat.S_IMODE(status.st_mode)
    if status.st_uid not in {0, os.geteuid()}:
        raise UsageError(
            f"{_named(file, '--tls-key')} belongs to another user: chown it to this one, or to root."
        )
    allowed = 0o640 if status.st_uid == 0 else 0o600
    if mode & (stat.S_IRWXG | stat.S_IRWXO) & ~allowed:
        raise UsageError(
            f"{_named(file, '--tls-key')} can be read by others (its mode is {mode:04o}):"
            f" chmod {allowed:04o} {file}."
        )


def _check_dates(file: Path, certificate: x509.Certificate, now: datetime) -> None:
    begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if now < begin:
        raise UsageError(f"The certificate in {file} is not valid before {begin:%Y-%m-%d %H:%M:%S} UTC.")
    if now > end:
        raise UsageError(f"The certificate in {file} has expired, on {end:%Y-%m-%d %H:%M:%S} UTC: renew it.")


def _public(holder: x509.Certificate | PrivateKeyTypes) -> bytes:
    return holder.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _read(file: Path, option: str) -> bytes:
    try:
        if not stat.S_ISREG(file.stat().st_mode):
            raise UsageError(f"{_named(file, option)} is no file that can be read more than once.")
        return file.read_bytes()
    except OSError as error:
        raise UsageError(f"{_named(file, option)} can't be read: {error.strerror}.") from error


def _named(file: Path, option: str) -> str:
    return f"{file} ({option}, HELLO_{option[2:].replace('-', '_').upper()})"
