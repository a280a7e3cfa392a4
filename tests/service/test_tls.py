"""TLS over real sockets: what is spoken, whose certificates count, files that change, files of no use."""

import os
import re
import signal
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from http.client import HTTPException, HTTPSConnection
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from hello.encrypted import Encrypted
from hello.settings import Settings
from hello.tls import Credentials, credentials
from hello.usage import UsageError
from tests.conftest import Serve
from tests.support.certificates import DAY, Authority, Pair
from tests.support.commands import hello, refused
from tests.support.environment import need, until
from tests.support.service import JSON, Service, connect, letters, locked, read_to_end, request

GET = b"GET /hello/Zoe HTTP/1.1\r\nHost: x\r\n\r\n"
CLOSING_GET = GET.replace(b"Host", b"Connection: close\r\nHost")
HALF_OPEN = 600
HSTS = "max-age=31536000"

Serving = Callable[..., Service]


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """The CA that clients trust."""
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def pair(tmp_path: Path, authority: Authority) -> Pair:
    """A certificate for the service, in files of the test's own."""
    return issue(authority, tmp_path)


def issue(authority: Authority, folder: Path, name: str = "server", **details: Any) -> Pair:
    """Return a certificate for a server whose files are in another folder than the CA's."""
    pair = authority.server(name, **details)
    return Pair(folder, name, pair.certificate, pair.key_pem)


def trusting(authority: Authority, client: Pair | None = None) -> ssl.SSLContext:
    """Return what a client has that trusts the CA, with a certificate of its own perhaps."""
    context = ssl.create_default_context(cadata=authority.pem.decode())
    if client is not None:
        context.load_cert_chain(client.cert, client.key)
    return context


@pytest.fixture
def serving(serve: Serve, authority: Authority, pair: Pair) -> Serving:
    """Start services with TLS, `serving("--flag", …)`, that are asked by clients who trust the CA."""

    def start(*options: str, prefix: tuple[str, ...] = ()) -> Service:
        service = serve(*pair.options, *options, prefix=prefix)
        service.trust = trusting(authority)
        return service

    return start


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Iterator[Service]:
    """A service with TLS that no test may change."""
    folder = tmp_path_factory.mktemp("tls")
    service = Service(folder, issue(authority, folder).options, trust=trusting(authority)).start()
    assert service.put("Zoe", "1990-04-23").status == 204
    yield service
    service.stop()
    assert not any("raw" in entry or "exception" in entry for entry in service.log())


@contextmanager
def secured(service: Service, context: ssl.SSLContext | None = None) -> Iterator[ssl.SSLSocket]:
    """Connect by TLS, with the service's trust or another context."""
    context = context or service.trust
    assert context is not None
    with (
        closing(connect(service)) as connection,
        context.wrap_socket(connection, server_hostname="localhost", suppress_ragged_eofs=False) as wrapped,
    ):
        yield wrapped


def serial_of(connection: ssl.SSLSocket) -> int:
    """Return the serial number of the certificate that the connection got."""
    certificate = connection.getpeercert()
    assert certificate
    return int(str(certificate["serialNumber"]), 16)


def serial(service: Service) -> int:
    """Return the serial number of the certificate that a new connection gets."""
    with secured(service) as connection:
        return serial_of(connection)


def failed_handshakes(service: Service) -> dict[str, float]:
    """Return how many handshakes failed, by reason."""
    text = service.get("/metrics").body.decode()
    found = re.findall(r'^hello_tls_handshake_failures_total\{reason="(\w+)"\} (\S+)$', text, re.MULTILINE)
    return {reason: float(count) for reason, count in found}


# What is spoken


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_tls_1_2_and_1_3_are_spoken(shared: Service, authority: Authority, version: ssl.TLSVersion) -> None:
    """Both serve HTTP/1.1, by ALPN and without compression, at an https URL."""
    context = trusting(authority)
    context.minimum_version = context.maximum_version = version
    context.set_alpn_protocols(["h2", "http/1.1"])
    with secured(shared, context) as connection:
        assert connection.version() == version.name.replace("_", ".").replace("TLSv1", "TLSv1")
        assert connection.selected_alpn_protocol() == "http/1.1"
        assert connection.compression() is None
        connection.sendall(GET)
        assert connection.recv(4096).startswith(b"HTTP/1.1 200 ")
    assert shared.url.startswith("https://127.0.0.1:")


@pytest.mark.filterwarnings("ignore:.*TLSv1.* is deprecated:DeprecationWarning")
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
def test_older_versions_are_refused(shared: Service, authority: Authority, version: ssl.TLSVersion) -> None:
    """TLS 1.0 and 1.1 end in the alert that says why."""
    context = trusting(authority)
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = context.maximum_version = version
    with pytest.raises(ssl.SSLError, match="ALERT_PROTOCOL_VERSION"), secured(shared, context):
        pass


@pytest.mark.parametrize(
    "ciphers",
    ["ECDHE-ECDSA-AES128-SHA256", "ECDHE-ECDSA-AES256-SHA", "ECDHE-ECDSA-AES256-CCM", "AES128-GCM-SHA256"],
)
def test_older_ciphers_are_refused(shared: Service, authority: Authority, ciphers: str) -> None:
    """No CBC, no CCM and no key exchange without forward secrecy."""
    context = trusting(authority)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(ciphers)
    with pytest.raises(ssl.SSLError, match="HANDSHAKE_FAILURE"), secured(shared, context):
        pass


@pytest.mark.parametrize("cipher", ["ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-ECDSA-CHACHA20-POLY1305"])
def test_modern_ciphers_are_taken(shared: Service, authority: Authority, cipher: str) -> None:
    """TLS 1.2 clients that have only one of them are served."""
    context = trusting(authority)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(cipher)
    with secured(shared, context) as connection:
        assert (connection.cipher() or [""])[0] == cipher


def test_the_servers_order_of_ciphers_counts(shared: Service, authority: Authority) -> None:
    """A client that likes the weaker cipher best gets the stronger one."""
    context = trusting(authority)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384")
    with secured(shared, context) as connection:
        assert (connection.cipher() or [""])[0] == "ECDHE-ECDSA-AES256-GCM-SHA384"


def test_renegotiation_is_refused(shared: Service, authority: Authority) -> None:
    """A TLS 1.2 client that asks for it is told no (OpenSSL's client takes that as an error)."""
    address = f"127.0.0.1:{shared.port}"
    with subprocess.Popen(
        [need("openssl"), "s_client", "-tls1_2", "-CAfile", str(authority.file), "-connect", address],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    ) as client:
        assert client.stdin
        assert client.stdout
        said = b""
        while b"Verify return code: 0" not in said:
            line = client.stdout.readline()
            assert line, said
            said += line
        client.stdin.write(b"R\n")
        client.stdin.flush()
        said += client.communicate(timeout=30)[0]
    assert b"RENEGOTIATING" in said
    assert b"no renegotiation" in said, said.decode()
    assert client.returncode != 0


def test_a_request_in_clear_is_told_of_https(shared: Service) -> None:
    """HTTP sent to the TLS port gets a plain 400 that says what to do; other bytes end the connection."""
    with closing(connect(shared)) as connection:
        connection.sendall(GET)
        answer = read_to_end(connection)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"https://" in answer
    assert b"strict-transport-security" not in answer.lower()
    for junk in (b"no TLS\r\n\r\n", bytes(300), b"\x16\x03\x01\x00\x05hello", os.urandom(4096)):
        with closing(connect(shared)) as connection:
            connection.sendall(junk)
            assert not read_to_end(connection).startswith(b"HTTP")
    assert shared.get("/hello/Zoe").status == 200
    assert failed_handshakes(shared)["HTTP_REQUEST"] >= 1


def test_tls_sent_to_a_port_in_clear_is_no_traceback(serve: Serve, authority: Authority) -> None:
    """The client is answered in clear, which it can't understand, and others are served on."""
    service = serve()
    with pytest.raises(ssl.SSLError), secured(service, trusting(authority)):
        pass
    assert service.get("/hc").status == 200
    assert not any("raw" in entry or "exception" in entry for entry in service.log())


@pytest.mark.parametrize("target", ["/", "/hello/Zoe", "/hello/1", "/docs", "/nothing", "/web/page.css"])
def test_answers_say_to_come_by_tls_only(shared: Service, served: Service, target: str) -> None:
    """Each has HSTS under TLS and none in clear, and nosniff once."""
    for service, expected in ((shared, [HSTS]), (served, None)):
        for headers in ({}, {"Accept": "text/html"}):
            answer = service.get(target, headers)
            assert answer.headers.get_all("Strict-Transport-Security") == expected
            assert answer.headers.get_all("X-Content-Type-Options") == ["nosniff"]


def test_a_connection_is_closed_with_close_notify(shared: Service) -> None:
    """The end of an answer can't be forged by cutting the connection: `Connection: close` is told in TLS."""
    with secured(shared) as connection:
        connection.sendall(CLOSING_GET)
        received = b""
        while data := connection.recv(4096):  # a cut would raise
            received += data
    assert received.startswith(b"HTTP/1.1 200 ")


def test_requests_come_in_any_pieces(shared: Service) -> None:
    """Many records in one packet, a record in many, and requests sent without waiting are all answered."""
    assert shared.trust
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = shared.trust.wrap_bio(incoming, outgoing, server_hostname="localhost")
    with closing(connect(shared)) as connection:
        while True:
            with suppress(ssl.SSLWantReadError):
                client.do_handshake()
                break
            connection.sendall(outgoing.read())
            incoming.write(connection.recv(65536))
        for _ in range(50):
            client.write(GET)
        client.write(CLOSING_GET)
        sealed = outgoing.read()
        for byte in range(200):
            connection.sendall(sealed[byte : byte + 1])
        connection.sendall(sealed[200:])
        incoming.write(read_to_end(connection))
    received = b""
    while data := client.read(65536):
        received += data
    assert received.count(b"HTTP/1.1 200 ") == 51


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database of 20,000 people."""
    folder = tmp_path_factory.mktemp("many")
    rows = "".join(f"p{letters(number)},1990-04-23\n" for number in range(20_000))
    assert hello("import", folder=folder, stdin=f"username,dateOfBirth\n{rows}".encode()).returncode == 0
    return folder / "hello.db"


def test_a_large_body_comes_whole(serving: Serving, many: Path) -> None:
    """Megabytes for a client that reads slowly arrive to the last byte, behind which the connection ends."""
    service = serving("--request-timeout", "1", "--store", f"sqlite:///{many}")
    assert service.trust
    with closing(socket.socket()) as plain:
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        plain.connect(("127.0.0.1", service.port))
        with service.trust.wrap_socket(plain, server_hostname="localhost") as connection:
            connection.sendall(b"GET /birthdays.ics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            received = bytearray()
            started = time.monotonic()
            while data := connection.recv(65536):
                received += data
                if time.monotonic() - started < 2.5:  # more than a standstill is given
                    time.sleep(0.05)
    assert received.count(b"BEGIN:VEVENT") == 20_000
    assert received.endswith(b"END:VCALENDAR\r\n\r\n0\r\n\r\n")


# Handshakes and clients that mean no good


@pytest.mark.parametrize("sent", [b"", b"\x16\x03\x01\x02\x00\x01\x00"], ids=["nothing", "half a hello"])
def test_handshakes_that_never_end_keep_nobody_out(serving: Serving, sent: bytes) -> None:
    """More of them than there are files take no other's place: the oldest makes room."""
    service = serving("--request-timeout", "600", prefix=(need("prlimit"), "--nofile=256:256"))
    with ExitStack() as stack:
        for number in range(HALF_OPEN):
            connection = stack.enter_context(connect(service))
            with suppress(ConnectionError):  # closed already, to make room
                connection.sendall(sent)
            if number % 50 == 0:
                assert service.get("/hello/Zoe").status == 404
        assert service.put("Zoe", "1990-04-23").status == 204
    assert not any("raw" in entry or "exception" in entry for entry in service.log())


@pytest.mark.parametrize("sent", [b"", b"\x16\x03\x01\x02\x00\x01\x00"], ids=["nothing", "half a hello"])
def test_a_handshake_has_its_time(serving: Serving, sent: bytes) -> None:
    """One that is not done within the request timeout ends, however slowly it goes on."""
    service = serving("--request-timeout", "1")
    with closing(connect(service)) as connection:
        connection.sendall(sent)
        assert read_to_end(connection) == b""


def test_a_client_that_reads_nothing_is_given_up(serving: Serving, many: Path) -> None:
    """Under TLS too the sweeper sees that nothing moves: the place of such requests is free again."""
    options = ("--max-in-flight", "2", "--request-timeout", "1", "--store", f"sqlite:///{many}")
    service = serving(*options)
    assert service.trust
    with ExitStack() as stack:
        for _ in range(4):
            plain = stack.enter_context(socket.socket())
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            plain.connect(("127.0.0.1", service.port))
            connection = stack.enter_context(service.trust.wrap_socket(plain, server_hostname="localhost"))
            connection.sendall(b"GET /birthdays.ics HTTP/1.1\r\nHost: x\r\n\r\n")
        until(lambda: service.get("/hello/pa").status == 503, "the slow readers to fill the place")
        until(lambda: service.get("/hello/pa").status == 200, "the slow readers to be given up")


# Stopping


@pytest.mark.parametrize("count", ["1", "2"])
def test_a_stop_under_load_loses_no_request(serving: Serving, count: str) -> None:
    """SIGTERM with a drain that outlasts the load: every request is answered, and the exit status is 0."""
    service = serving("--drain-seconds", "3", "--workers", count)
    assert service.put("Zoe", "1990-04-23").status == 204
    command = [need("wrk"), "-t1", "-c16", "-d1s", f"{service.url}/hello/Zoe"]
    load = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    time.sleep(0.2)
    service.signal(signal.SIGTERM)
    report, _ = load.communicate(timeout=60)
    assert service.process.poll() is None, "the load outlasted the drain"
    assert "Socket errors" not in report, report
    assert "Non-2xx" not in report, report
    # Each request needs a handshake of its own once the drain has begun.
    assert int(re.findall(r"(\d+) requests in", report)[0]) > 20, report
    assert service.process.wait(60) == 0


def test_a_stop_finishes_what_is_in_flight_and_waits_for_nobody(serving: Serving) -> None:
    """The last answers are sent and closed in TLS; clients that keep connections open hold nothing up."""
    service = serving("--store-timeout", "30", "--stop-seconds", "600")
    put = (
        b"PUT /hello/Adam HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 28\r\n\r\n"
    )
    with ExitStack() as stack:
        resting = [stack.enter_context(secured(service)) for _ in range(5)]
        for connection in resting:
            connection.sendall(GET)
            assert connection.recv(4096).startswith(b"HTTP/1.1 404 ")
        half_open = stack.enter_context(closing(connect(service)))
        half_open.sendall(b"\x16\x03\x01\x02\x00\x01\x00")
        busy = stack.enter_context(secured(service))
        with locked(service.database):
            busy.sendall(put + b'{"dateOfBirth":"1990-04-23"}')
            until(lambda: b"in_flight 2" in service.get("/metrics").body, "the PUT to be in flight")
            service.signal(signal.SIGTERM)
            for connection in resting:
                assert connection.recv(4096) == b""  # close_notify; a cut would raise
            assert read_to_end(half_open) == b""
            assert service.process.poll() is None
        assert busy.recv(4096).startswith(b"HTTP/1.1 204 ")
        assert busy.recv(4096) == b""
        assert service.process.wait(30) == 0


# Files that change


class Load:
    """Clients that ask without a pause: on kept connections, and on new ones; what fails is kept."""

    def __init__(self, service: Service) -> None:
        self.serials: set[int] = set()
        self.failures: list[str] = []
        self.answers = 0
        self._service = service
        self._done = threading.Event()
        self._threads = [threading.Thread(target=work) for work in (self._keep, self._keep, self._renew)]

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        for thread in self._threads:
            thread.join(60)

    def _keep(self) -> None:
        self._ask_until(lambda: self._done.is_set())

    def _renew(self) -> None:
        while not self._done.is_set():
            asked = iter((False, True))
            self._ask_until(lambda asked=asked: next(asked))  # type: ignore[misc]

    def _ask_until(self, done: Callable[[], bool]) -> None:
        connection = HTTPSConnection("localhost", self._service.port, context=self._service.trust, timeout=30)
        try:
            with closing(connection):
                connection.connect()
                opened = connection.sock
                self.serials.add(serial_of(opened))
                while not done():
                    connection.request("GET", "/hello/Zoe")
                    response = connection.getresponse()
                    response.read()
                    self.answers += 1
                    if response.status != 200 or connection.sock is not opened:
                        self.failures.append(f"{response.status}, or the connection was closed")
        except (OSError, HTTPException) as error:
            self.failures.append(repr(error))


@pytest.mark.parametrize(("count", "how"), [("1", "written over"), ("2", "links swapped")])
def test_new_files_are_used_and_no_connection_is_dropped(
    serve: Serve, tmp_path: Path, authority: Authority, count: str, how: str
) -> None:
    """However they come, new connections get the new certificate, and those from before go on."""
    old, new = (issue(authority, tmp_path, name) for name in ("old", "new"))
    (tmp_path / "cert").symlink_to(old.cert)
    (tmp_path / "key").symlink_to(old.key)
    service = serve("--tls-cert", "cert", "--tls-key", "key", "--workers", count)
    service.trust = trusting(authority)
    assert service.put("Zoe", "1990-04-23").status == 204
    with Load(service) as load:
        until(lambda: load.answers > 50, "some answers")
        assert load.serials == {old.serial}
        for link, from_, to in (("cert", old.cert, new.cert), ("key", old.key, new.key)):
            if how == "written over":
                from_.write_bytes(to.read_bytes())
            else:
                (tmp_path / "next").symlink_to(to)
                (tmp_path / "next").rename(tmp_path / link)
        until(lambda: {serial(service) for _ in range(10)} == {new.serial}, "the new certificate")
        before = load.answers
        until(lambda: load.answers > before + 50, "some more answers")
    assert load.serials == {old.serial, new.serial}
    assert load.failures == []
    messages = [entry.get("message") for entry in service.log()]
    assert messages.count("certificate read anew") == int(count)
    assert not any(entry.get("level") == "error" for entry in service.log())


def test_files_of_no_use_change_nothing(
    serving: Serving, pair: Pair, authority: Authority, tmp_path: Path
) -> None:
    """A pair that does not fit, or a file that is gone, is said once; once all is good again, it is taken."""
    service = serving()
    new = issue(authority, tmp_path, "new")
    pair.cert.write_bytes(new.pem)  # and the key is still the old one

    def errors() -> list[str]:
        return [entry["reason"] for entry in service.log() if entry.get("level") == "error"]

    until(errors, "the error")
    assert "don't belong together" in errors()[0]
    assert serial(service) == pair.serial
    pair.key.unlink()
    until(lambda: len(errors()) == 2, "the next error")
    assert "No such file" in errors()[1]
    time.sleep(2.5)  # two looks more, which say nothing new
    assert len(errors()) == 2
    assert serial(service) == pair.serial
    pair.key.touch(0o600)
    pair.key.write_bytes(new.key_pem)
    until(lambda: serial(service) == new.serial, "the new certificate")
    assert len(errors()) == 2


def test_a_mismatch_of_a_moment_is_not_said(tmp_path: Path, authority: Authority, caplog: Any) -> None:
    """A look may fall between the writing of two files: the old pair is kept, and nothing is said."""
    pair, new = (issue(authority, tmp_path, name) for name in ("server", "new"))
    used = Credentials(pair.cert, pair.key)
    before = used.context
    pair.cert.write_bytes(new.pem)
    used.refresh()
    assert used.context is before
    pair.key.write_bytes(new.key_pem)
    used.refresh()
    assert used.context is not before
    assert used.certificate == new.certificate
    assert [record.levelname for record in caplog.records if record.levelname == "ERROR"] == []
    after = used.context
    used.refresh()
    assert used.context is after


# Client certificates


@pytest.fixture
def clients(tmp_path: Path) -> Authority:
    """A CA for clients."""
    return Authority(tmp_path, "clients")


def status(service: Service, context: ssl.SSLContext) -> int:
    """Return the status that a client with this context gets; 0 where it is not let in."""
    try:
        return request(service.url, "GET", "/hc", trust=context).status
    except (ssl.SSLError, ConnectionError, HTTPException):
        return 0


def test_only_clients_with_a_certificate_of_the_ca_are_served(
    serving: Serving, authority: Authority, clients: Authority, tmp_path: Path
) -> None:
    """Without one, by another CA, or for another purpose: none is let in, and the metric tells why."""
    others = Authority(tmp_path, "others")
    service = serving("--tls-client-ca", str(clients.file))
    service.trust = trusting(authority, clients.client())
    assert status(service, service.trust) == 200
    assert status(service, trusting(authority)) == 0
    assert status(service, trusting(authority, others.client("stranger"))) == 0
    assert status(service, trusting(authority, clients.server("no-client"))) == 0
    assert failed_handshakes(service) == {
        "PEER_DID_NOT_RETURN_A_CERTIFICATE": 1,
        "CERTIFICATE_VERIFY_FAILED": 2,
    }
    assert not any("raw" in entry or "exception" in entry for entry in service.log())


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_ca_that_is_swapped_locks_the_old_clients_out(
    serving: Serving, authority: Authority, clients: Authority, tmp_path: Path, version: ssl.TLSVersion
) -> None:
    """New connections need the new CA, also where the client resumes a session from before."""
    new = Authority(tmp_path, "new")
    service = serving("--tls-client-ca", str(clients.file))
    old_context, new_context = (trusting(authority, ca.client(ca.file.stem + "-c")) for ca in (clients, new))
    for context in (old_context, new_context):
        context.maximum_version = version

    def resume(session: ssl.SSLSession | None) -> tuple[bool, ssl.SSLSession | None]:
        with closing(connect(service)) as plain:
            wrapped = old_context.wrap_socket(plain, server_hostname="localhost", session=session)
            with wrapped:
                wrapped.sendall(GET)
                assert wrapped.recv(4096).startswith(b"HTTP/1.1 404 ")
                return bool(wrapped.session_reused), wrapped.session

    _, session = resume(None)
    reused, session = resume(session)
    assert reused
    with secured(service, old_context) as kept:
        (tmp_path / "next").write_bytes(new.pem)
        (tmp_path / "next").rename(clients.file)
        until(lambda: status(service, new_context) == 200, "the new CA")
        assert status(service, old_context) == 0
        with pytest.raises((ssl.SSLError, ConnectionError, AssertionError)):
            resume(session)
        kept.sendall(GET)
        assert kept.recv(4096).startswith(b"HTTP/1.1 404 ")


# What is said at the start


def refusal(cert: Path | None = None, key: Path | None = None, client_ca: Path | None = None) -> str:
    """Return what is said of settings with which the service does not start."""
    with pytest.raises(UsageError) as error:
        credentials(Settings(tls_cert=cert, tls_key=key, tls_client_ca=client_ca))
    return str(error.value)


def test_settings_that_need_each_other(pair: Pair) -> None:
    """A certificate without its key, the reverse, and a CA without both name what is missing."""
    assert "--tls-key (HELLO_TLS_KEY)" in refusal(cert=pair.cert)
    assert "--tls-cert (HELLO_TLS_CERT)" in refusal(key=pair.key)
    assert "--tls-cert (HELLO_TLS_CERT)" in refusal(client_ca=pair.cert)


def _missing(pair: Pair) -> str:
    pair.cert.unlink()
    return f"{pair.cert} (--tls-cert, HELLO_TLS_CERT) can't be read: No such file or directory."


def _missing_key(pair: Pair) -> str:
    pair.key.unlink()
    return f"{pair.key} (--tls-key, HELLO_TLS_KEY) can't be read: No such file or directory."


def _folder(pair: Pair) -> str:
    pair.cert.unlink()
    pair.cert.mkdir()
    return "is no file that can be read more than once"


def _not_pem(pair: Pair) -> str:
    pair.cert.write_bytes(b"\x30\x82")
    return "holds no certificate in PEM form"


def _broken(pair: Pair) -> str:
    pair.cert.write_bytes(pair.pem.replace(b"M", b"N"))
    return "holds no certificate in PEM form"


def _key_not_pem(pair: Pair) -> str:
    pair.key.write_bytes(b"secret-of-no-form")
    return "holds no private key in PEM form"


def _cert_as_key(pair: Pair) -> str:
    pair.key.write_bytes(pair.pem)
    return "holds no private key in PEM form"


def _encrypted_key(pair: Pair) -> str:
    command = [need("openssl"), "pkey", "-aes256", "-passout", "pass:secret", "-in", str(pair.key)]
    encrypted = subprocess.run(command, capture_output=True, check=True).stdout
    pair.key.write_bytes(encrypted)
    return "is encrypted"


def _other_key(pair: Pair) -> str:
    pair.key.write_bytes(Authority(pair.key.parent, "other").server("other").key_pem)
    return f"{pair.cert} and {pair.key} don't belong together"


def _readable_by_all(pair: Pair) -> str:
    pair.key.chmod(0o644)
    allowed = "0640" if os.geteuid() == 0 else "0600"
    return f"can be read by others (its mode is 0644): chmod {allowed} {pair.key}."


@pytest.mark.parametrize(
    "spoil",
    [
        _missing,
        _missing_key,
        _folder,
        _not_pem,
        _broken,
        _key_not_pem,
        _cert_as_key,
        _encrypted_key,
        _other_key,
        _readable_by_all,
    ],
    ids=lambda spoil: spoil.__name__[1:],
)
def test_files_of_no_use_are_said(pair: Pair, spoil: Callable[[Pair], str]) -> None:
    """The message names the file, what is wrong and what to do; nothing of a key is in it."""
    says = spoil(pair)
    said = refusal(pair.cert, pair.key)
    assert says in said
    assert str(pair.cert) in said or str(pair.key) in said
    assert "secret" not in said
    assert "PRIVATE KEY-----\nM" not in said


@pytest.mark.parametrize("name", ["tls-cert", "tls-client-ca"])
def test_a_service_does_not_start_with_files_of_no_use(tmp_path: Path, pair: Pair, name: str) -> None:
    """It says so as of any other setting, and touches no store."""
    files = {"tls-cert": pair.cert, "tls-key": pair.key, name: pair.key}
    said = refused(*(f"--{flag}={file}" for flag, file in files.items()), folder=tmp_path)
    variable = f"HELLO_{name.upper().replace('-', '_')}"
    assert f"hello: {pair.key} (--{name}, {variable}) holds no certificate" in said
    assert not (tmp_path / "hello.db").exists()


def test_certificates_out_of_their_time_are_said(tmp_path: Path, authority: Authority) -> None:
    """One that has ended and one that has not begun name the day."""
    now = datetime.now(UTC)
    past = issue(authority, tmp_path, "past", starts=now - 10 * DAY, lasts=9 * DAY)
    future = issue(authority, tmp_path, "future", starts=now + 2 * DAY)
    assert f"has expired, on {now - DAY:%Y-%m-%d}" in refusal(past.cert, past.key)
    assert f"is not valid before {now + 2 * DAY:%Y-%m-%d}" in refusal(future.cert, future.key)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
@pytest.mark.parametrize(
    ("owner", "mode", "says"),
    [
        (0, 0o600, ""),
        (0, 0o640, ""),
        (0, 0o660, "chmod 0640"),
        (0, 0o644, "chmod 0640"),
        (12345, 0o600, "belongs to another user"),
    ],
)
def test_who_may_read_a_key(tmp_path: Path, authority: Authority, owner: int, mode: int, says: str) -> None:
    """The group may where root owns the file, as with secrets that are mounted; others never."""
    pair = issue(authority, tmp_path)
    pair.key.chmod(mode)
    os.chown(pair.key, owner, -1)
    if not says:
        Credentials(pair.cert, pair.key)
        return
    assert says in refusal(pair.cert, pair.key)


# The certificate's end


def test_the_end_is_measured_and_warned_of(serve: Serve, authority: Authority, tmp_path: Path) -> None:
    """Within 14 days of it there is a warning, and /metrics has the moment; with more time there is none."""
    measured = rb"^hello_tls_certificate_expiry_timestamp_seconds (\S+)$"
    for days, count in ((13, "1"), (15, "2")):
        (folder := tmp_path / str(days)).mkdir()
        pair = issue(authority, folder, lasts=days * DAY + timedelta(hours=2))
        service = serve(*pair.options, "--workers", count, folder=folder)
        service.trust = trusting(authority)
        end = pair.certificate.not_valid_after_utc.timestamp()
        found = re.findall(measured, service.get("/metrics").body, re.MULTILINE)
        assert [float(value) for value in found] == [end]
        warned = [entry for entry in service.log() if "the certificate ends soon" in entry.get("message", "")]
        assert bool(warned) == (days == 13)


def test_the_warning_comes_once_a_day(tmp_path: Path, authority: Authority, caplog: Any) -> None:
    """However often the files are looked at, also after the end; a new certificate ends it."""
    pair = issue(authority, tmp_path, lasts=20 * DAY)
    now = datetime.now(UTC)
    used = Credentials(pair.cert, pair.key, clock=lambda: now)

    def warnings() -> int:
        return len([record for record in caplog.records if record.levelname == "WARNING"])

    for day in range(30):
        now = datetime.now(UTC) + day * DAY
        for _ in range(3):
            used.refresh()
        assert warnings() == max(0, day - 5)
    new = issue(authority, tmp_path, "new", lasts=90 * DAY)
    pair.cert.write_bytes(new.pem)
    pair.key.write_bytes(new.key_pem)
    used.refresh()
    assert warnings() == 24


def test_the_invitation_tells_what_curl_needs(serve: Serve, pair: Pair) -> None:
    """At a terminal's log: the https URL, the names of the certificate, and --cacert."""
    service = serve(*pair.options, "--log", "text")
    until(lambda: "--cacert" in (service.folder / "log").read_text(), "the invitation")
    shown = (service.folder / "log").read_text()
    assert f"curl {service.url}/hello/Zoe" in shown
    assert "localhost, 127.0.0.1" in shown


def test_put_and_get_over_tls(shared: Service) -> None:
    """What is written under TLS is read under TLS, on the fast path and off it."""
    answer = shared.request("PUT", "/hello/Eve", b'{"dateOfBirth":"1990-04-23"}', JSON)
    assert answer.status == 204
    assert shared.get("/hello/Eve").json()["message"].startswith("Hello, Eve!")
    assert shared.get("/birthdays?days=366").status == 200


class _Socket:
    """What a connection asks of the socket's transport; tells whether it is read from."""

    def __init__(self) -> None:
        self.reading = True

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True


def test_nothing_is_read_while_answers_wait_to_be_sent() -> None:
    """A client that asks for key updates (RFC 8446, 4.6.3) and reads nothing fills no memory."""
    loop: Any = SimpleNamespace(call_soon=lambda *_: None)
    connection = Encrypted(cast("Any", None), cast("Any", None), {}, loop)
    socket_ = connection._socket = cast("Any", _Socket())
    connection.pause_writing()
    assert not socket_.reading
    connection.resume_reading()  # the HTTP protocol would read on
    assert not socket_.reading
    connection.resume_writing()
    assert socket_.reading
    connection.pause_reading()
    connection.pause_writing()
    connection.resume_writing()
    assert not socket_.reading, "the HTTP protocol has it paused"
