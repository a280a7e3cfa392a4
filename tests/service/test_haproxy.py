"""HAProxy kept in step with etcd: no request fails while instances come, go, crash and freeze."""

import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.environment import until
from tests.support.etcd import Cluster
from tests.support.haproxy import HAProxy, Load, kept_in_step
from tests.support.service import Service

# By its configuration HAProxy notices that one is killed within inter + fastinter = 0.75 s, and that one is
# frozen within these and twice `timeout check`, 1.55 s. These are the bounds that are promised, and what a
# busy machine may add.
KILLED_SECONDS, FROZEN_SECONDS = 1.0, 2.0
LATE_SECONDS = 1.0
PREFIX = "/skydns/local/fleet"


class Fleet:
    """Instances behind HAProxy, on one store."""

    def __init__(self, etcd: Cluster, haproxy: HAProxy, folder: Path) -> None:
        self.haproxy = haproxy
        self.services: list[Service] = []
        self._etcd = etcd
        self._folder = folder
        self._started: list[Service] = []

    def grow(self, count: int) -> None:
        """Start so many, and wait until requests are sent to all."""
        for _ in range(count):
            folder = self._folder / str(len(self._started))
            folder.mkdir()
            options = ("--etcd", self._etcd.urls, "--etcd-prefix", PREFIX, "--drain-seconds", "1",
                       "--store", f"sqlite:///{self._folder / 'hello.db'}")  # fmt: skip
            service = Service(folder, options)
            self._started.append(service)
            self.services.append(service.start())
        until(lambda: self.haproxy.up() == self.ports(), "all to be up")

    def shrink(self, count: int) -> None:
        """Stop the oldest so many in an orderly way, all at once, and wait until they have ended."""
        leaving, self.services = self.services[:count], self.services[count:]
        for service in leaving:
            service.signal(signal.SIGTERM)
        assert [service.process.wait(30) for service in leaving] == [0] * count

    def lose(self, number: signal.Signals) -> float:
        """Send the oldest a signal; return the seconds until no request is sent there."""
        victim = self.services.pop(0)
        start = time.monotonic()
        victim.signal(number)
        while victim.port in self.haproxy.up():
            assert time.monotonic() - start < 30, "it is still in rotation"
            time.sleep(0.01)
        return time.monotonic() - start

    def ports(self) -> set[int]:
        """Return the ports of the instances that should be there."""
        return {service.port for service in self.services}

    def remove(self) -> None:
        """Kill all that were started."""
        for service in self._started:
            if hasattr(service, "process"):
                service.process.kill()
                service.process.wait()


@pytest.fixture(scope="module")
def fleet(shared_etcd: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """Three instances behind HAProxy, with Zoe in their store."""
    folder = tmp_path_factory.mktemp("fleet")
    haproxy = HAProxy(folder).start()
    fleet = Fleet(shared_etcd, haproxy, folder)
    try:
        with kept_in_step(haproxy, shared_etcd.urls, PREFIX):
            fleet.grow(3)
            assert fleet.services[0].put("Zoe", "1990-04-23").status == 204
            yield fleet
    finally:
        fleet.remove()
        haproxy.stop()


@pytest.fixture
def requests(fleet: Fleet, request: pytest.FixtureRequest) -> Iterator[Load]:
    """Have steady load while the test runs; what it was is in the report of the tests."""
    load = Load(fleet.haproxy.port).start()
    until(lambda: load.seconds, "the load to begin")
    yield load
    load.stop()


def test_one_that_is_killed_costs_no_request(fleet: Fleet, requests: Load) -> None:
    """What it had not answered is sent again, to another one, and it is out of rotation within a second."""
    seconds = fleet.lose(signal.SIGKILL)
    fleet.grow(1)
    requests.stop()
    print(f"killed: out after {seconds:.2f} s, {requests}")
    assert requests.failures == []
    assert seconds < KILLED_SECONDS + LATE_SECONDS


def test_one_that_is_frozen_costs_no_request(fleet: Fleet, requests: Load) -> None:
    """It is out of rotation within two seconds; what it had taken is sent again after `timeout server`."""
    frozen = fleet.services[0]
    seconds = fleet.lose(signal.SIGSTOP)
    fleet.grow(1)
    requests.stop()
    frozen.process.kill()
    print(f"frozen: out after {seconds:.2f} s, {requests}")
    assert requests.failures == []
    assert seconds < FROZEN_SECONDS + LATE_SECONDS


def test_a_stop_and_a_rolling_restart_cost_no_request(fleet: Fleet, requests: Load) -> None:
    """One that is stopped, then each replaced by a new one: all requests are answered."""
    for _ in range(3):
        fleet.shrink(1)
        fleet.grow(1)
    requests.stop()
    print(f"rolling restart: {requests}")
    assert requests.failures == []


def test_scaling_costs_no_request(fleet: Fleet, requests: Load) -> None:
    """From one to ten and back: all requests are answered."""
    fleet.shrink(2)
    fleet.grow(9)
    fleet.shrink(9)
    until(lambda: fleet.haproxy.servers().keys() == fleet.ports(), "all to be removed that have gone")
    requests.stop()
    print(f"scaling: {requests}")
    assert requests.failures == []
