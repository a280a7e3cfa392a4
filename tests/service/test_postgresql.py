"""hello on PostgreSQL: startup without the server, and shutdown while the server hangs."""

import signal
import time

from tests.conftest import Serve
from tests.support.environment import until
from tests.support.postgresql import Cluster

RECOVERY_SECONDS = 2.0
LATE = 2.0  # seconds that a busy machine may add to a timeout


def test_a_service_starts_without_its_server_and_finds_it_later(server: Cluster, serve: Serve) -> None:
    """Liveness is 200 and readiness 503; requests for people get 503 with Retry-After until it is there."""
    server.stop()
    service = serve("--store-timeout", "1", environment={"HELLO_STORE": server.url("hello")})
    assert any("can't be reached yet" in entry.get("message", "") for entry in service.log())
    for _ in range(3):
        assert service.get("/hc").status == 200
        assert service.get("/ready").status == 503
        for answer in (
            service.get("/hello/zoe"),
            service.put("zoe", "1990-04-23"),
            service.get("/hello?limit=1"),
        ):
            assert (answer.status, answer.headers["Retry-After"]) == (503, "1")
            assert answer.headers["Content-Type"] == "application/problem+json"
    server.start()
    begin = time.monotonic()
    until(lambda: service.get("/ready").status == 200, "the service to be ready")
    assert time.monotonic() - begin < RECOVERY_SECONDS + LATE
    assert service.put("zoe", "1990-04-23").status == 204
    assert service.get("/hello/zoe").status == 200
    server.stop(signal.SIGKILL)
    assert (service.get("/hello/zoe").status, service.get("/hc").status) == (503, 200)
    assert service.stop() == 0
    log = (service.folder / "log").read_text()
    assert "Traceback" not in log
    assert "s3cret" not in log
    assert f"postgresql://hello:***@127.0.0.1:{server.port}/hello" in log
    assert "connection refused" in log


def test_a_stop_does_not_wait_for_a_server_that_hangs(server: Cluster, serve: Serve) -> None:
    """A service whose server hangs ends in an orderly way."""
    service = serve("--store-timeout", "1", environment={"HELLO_STORE": server.url("hello")})
    assert service.get("/ready").status == 200
    server.send(signal.SIGSTOP)
    try:
        assert service.get("/ready").status == 503
        begin = time.monotonic()
        assert service.stop() == 0
        assert time.monotonic() - begin < 1 + 4 * LATE
    finally:
        server.send(signal.SIGCONT)
