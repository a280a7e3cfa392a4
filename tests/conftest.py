"""Fixtures: services as real processes, each on a free port and in a folder of its own."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import hypothesis
import pytest

from tests.support import Service

pytest_plugins = [
    "tests.containers",
    "tests.dynamodb",
    "tests.etcd",
    "tests.issuer",
    "tests.machine",
    "tests.postgresql",
    "tests.release",
    "tests.terraform",
]
pytest.register_assert_rewrite("tests.kubernetes_rules")

Serve = Callable[..., Service]

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
