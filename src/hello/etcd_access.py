"""The client of etcd that the settings ask for: its members, TLS, user and password."""

import ssl
from collections.abc import Callable

from hello.endpoints import endpoints
from hello.etcd import DeniedError, Etcd
from hello.settings import EtcdSettings
from hello.usage import UsageError


def check(settings: EtcdSettings) -> None:
    """Raise UsageError where a file that the settings name is of no use."""
    _tls(settings)
    try:
        _password(settings)()
    except DeniedError as error:
        raise UsageError(f"{error}.") from error


def open_etcd(settings: EtcdSettings) -> Etcd:
    """Return the client that the settings ask for; the event loop has to run.

    Raises:
        UsageError: a file that they name is of no use.
    """
    members = endpoints(settings.etcd or "")
    return Etcd(members, user=settings.etcd_user, password=_password(settings), tls=_tls(settings))


def _password(settings: EtcdSettings) -> Callable[[], str]:
    def read() -> str:
        if settings.etcd_password_file is None:
            return settings.etcd_password or ""
        try:
            return settings.etcd_password_file.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
            raise DeniedError(f"{settings.etcd_password_file} can't be read: {reason}") from None

    return read


def _tls(settings: EtcdSettings) -> ssl.SSLContext | None:
    try:
        context = ssl.create_default_context(cafile=settings.etcd_ca)
        if settings.etcd_cert is not None:
            # Without a password OpenSSL would ask for one at the terminal.
            context.load_cert_chain(settings.etcd_cert, settings.etcd_key, password=lambda: "")
    except OSError as error:  # an SSLError is one
        files = [str(file) for file in (settings.etcd_ca, settings.etcd_cert, settings.etcd_key) if file]
        reason = getattr(error, "reason", None) or error.strerror
        raise UsageError(f"etcd's TLS files can't be used ({', '.join(files)}): {reason}.") from error
    return context
