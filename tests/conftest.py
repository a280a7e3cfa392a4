"""Fixtures for every layer, the time limits of the layers, and how tests are spread over processes."""

import os
import signal
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import hypothesis
import pytest

from tests.support.service import Service

pytest_plugins = [
    "tests.support.containers",
    "tests.support.dynamodb",
    "tests.support.dynamodb_proxy",
    "tests.support.etcd",
    "tests.support.issuer",
    "tests.support.machine",
    "tests.support.postgresql",
    "tests.support.release",
    "tests.support.sqlite",
    "tests.support.terraform",
]
pytest.register_assert_rewrite("tests.support.kubernetes_rules")

Serve = Callable[..., Service]

TESTS = Path(__file__).parent
TIME_LIMITS = {"unit": 30, "stores": 30}  # seconds a test of the layer may take
SECOND_EMULATOR = "moto"  # of DynamoDB: a test with this parameter runs in `make test-all` only
LISTED_SECONDS = 5  # a test of those layers that takes longer is listed at the end
# The longest groups of tests start first, so that no process is left alone with one of them at the end.
LONGEST_FIRST = ("system/infra", "system/rehearsal", "system/ami", "system/images", "system", "service")

# Started in the background of a shell, tests inherit an ignored SIGINT, and so would the processes that they
# interrupt. A handler is back to the default in them.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

hypothesis.settings.register_profile("hello", deadline=None)  # a busy machine is no failure
hypothesis.settings.load_profile("hello")


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """Start services: `serve("--flag", "value", environment={…}, folder=…)`; all end with the test."""
    services: list[Service] = []

    def start(
        *options: str,
        environment: Mapping[str, str] | None = None,
        folder: Path | None = None,
        prefix: tuple[str, ...] = (),
    ) -> Service:
        service = Service(folder or tmp_path, options, environment or {}, prefix)
        services.append(service)
        return service.start()

    yield start
    for service in services:
        if hasattr(service, "process"):
            service.stop()


@pytest.fixture
def served(serve: Serve) -> Service:
    """A service as it is by default, with an empty store."""
    return serve()


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    """Return the URL of a SQLite file that is not there yet."""
    return f"sqlite:///{tmp_path / 'hello.db'}"


def layer_of(item: pytest.Item) -> str:
    """Return the directory of `tests/` that the test is in."""
    return item.path.relative_to(TESTS).parts[0]


def pytest_xdist_auto_num_workers() -> int:
    """Return two processes for each processor: at any moment some tests wait for a server."""
    return 2 * (os.cpu_count() or 1)


@pytest.hookimpl(tryfirst=True)  # pytest-xdist reads the groups in the same hook
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Set time limits and groups, and put the longest groups first."""
    for item in items:
        limit = TIME_LIMITS.get(layer_of(item))
        if limit is not None:
            item.add_marker(pytest.mark.timeout(limit))
        if _has_parameter(item, SECOND_EMULATOR):
            item.add_marker(pytest.mark.full)
        if item.get_closest_marker("xdist_group") is None:
            item.add_marker(pytest.mark.xdist_group(_group(item)))
    items.sort(key=_rank)  # stable


def _group(item: pytest.Item) -> str:
    """Return the group of a test without one: its module, or the store that its layer runs on.

    Tests of a group run in one process, one after the other, and share the fixtures of their module.
    """
    callspec = getattr(item, "callspec", None)
    store = callspec.params.get("url") if callspec is not None else None
    return f"{layer_of(item)}-{store}" if store else item.path.relative_to(TESTS).with_suffix("").as_posix()


def _has_parameter(item: pytest.Item, value: str) -> bool:
    callspec = getattr(item, "callspec", None)
    values = callspec.params.values() if callspec is not None else ()
    return any(given == value or (isinstance(given, tuple) and value in given) for given in values)


def _rank(item: pytest.Item) -> int:
    path = item.path.relative_to(TESTS).as_posix()
    return next(
        (rank for rank, start in enumerate(LONGEST_FIRST) if path.startswith(start)), len(LONGEST_FIRST)
    )


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print why tests were skipped, a line for each reason, and which tests of the fast layers were slow."""
    reasons = Counter(_reason(report) for report in _reports(terminalreporter, "skipped"))
    if reasons:
        terminalreporter.section("skipped")
        for reason, count in sorted(reasons.items()):
            terminalreporter.write_line(f"{count} skipped: {reason}")
    slow = [
        (report.duration, report.nodeid)
        for report in _reports(terminalreporter, "passed", "failed")
        if report.when == "call"
        and report.duration > LISTED_SECONDS
        and report.nodeid.split("/")[1] in TIME_LIMITS
    ]
    if slow:
        terminalreporter.section(f"tests of {' and '.join(TIME_LIMITS)} over {LISTED_SECONDS} s")
        for duration, name in sorted(slow, reverse=True):
            terminalreporter.write_line(f"{duration:.2f}s {name}")


def _reports(reporter: pytest.TerminalReporter, *outcomes: str) -> Iterator[pytest.TestReport]:
    for outcome in outcomes:
        yield from (one for one in reporter.stats.get(outcome, []) if isinstance(one, pytest.TestReport))


def _reason(report: pytest.TestReport) -> str:
    """Return why a test was skipped; pytest has it with the place."""
    return report.longrepr[2].removeprefix("Skipped: ") if isinstance(report.longrepr, tuple) else ""
