"""The audit log, of real services: each change once, nothing else, and no date of birth."""

import asyncio
import json
import os
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from hello.audit import AuditLog, Change
from hello.observability import Metrics
from tests.conftest import Serve
from tests.support.commands import refused
from tests.support.environment import until
from tests.support.service import Service, letters, locked, raw_put

BORN = "1990-04-23"
OTHER = "1815-12-10"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the log is."""
    return tmp_path / "audit.jsonl"


@pytest.fixture
def service(serve: Serve, path: Path) -> Service:
    """A service that keeps it."""
    return serve("--audit-log", str(path))


def entries(path: Path) -> list[dict[str, Any]]:
    """Return the log, of which each line is whole."""
    text = path.read_text()
    assert text == "" or text.endswith("\n")
    return [json.loads(line) for line in text.split("\n")[:-1]]


def told(path: Path) -> list[tuple[str, str, str]]:
    """Return action, username and outcome of each line."""
    return [(entry["action"], entry["username"], entry["outcome"]) for entry in entries(path)]


def failures(service: Service) -> float:
    """Return how many changes the log could not take."""
    metrics = service.get("/metrics").body.decode().splitlines()
    return float(next(line.split()[1] for line in metrics if line.startswith("hello_audit_failures_total ")))


def errors(service: Service) -> list[str]:
    """Return what the service logged of the audit log as wrong."""
    found = [entry["message"] for entry in service.log() if entry.get("level") == "error"]
    return [message for message in found if "audit log" in message]


def test_who_changed_what_and_when_is_told(service: Service, path: Path) -> None:
    """On either path: with the time, the id that the answer had, the caller, and no date."""
    before = datetime.now(UTC)
    answers = [
        service.put("Zoe", BORN),
        service.put("ZOE", OTHER, {"X-Request-ID": "mine"}),
        service.put(quote("Zoë"), BORN),
        service.put("Ada", OTHER, {"If-None-Match": "*"}),
        service.request("DELETE", "/hello/zoe"),
    ]
    assert [answer.status for answer in answers] == [204] * 5
    found = entries(path)
    assert told(path) == [
        ("put", "zoe", "done"),
        ("put", "zoe", "done"),
        ("put", "zoë", "done"),
        ("create", "ada", "done"),
        ("delete", "zoe", "done"),
    ]
    assert [entry["request_id"] for entry in found] == [answer.headers["X-Request-ID"] for answer in answers]
    assert found[1]["request_id"] == "mine"
    for entry in found:
        assert list(entry) == ["time", "request_id", "caller", "address", "action", "username", "outcome"]
        assert (entry["caller"], entry["address"]) == ("anonymous", "127.0.0.1")
        assert entry["time"].endswith("+00:00")
        assert len(entry["time"]) == len("2026-11-24T19:00:00.000+00:00")
        assert before - timedelta(seconds=1) < datetime.fromisoformat(entry["time"]) < datetime.now(UTC)
    assert BORN not in path.read_text()
    assert OTHER not in path.read_text()
    assert path.stat().st_mode & 0o777 == 0o600


def test_what_is_refused_is_not_told(service: Service, path: Path) -> None:
    """Nor is what only reads: the log has changes alone."""
    assert service.put("Zoe", BORN).status == 204
    for answer, status in [
        (service.put("Zoe", "1990-02-30"), 400),
        (service.put("a1", BORN), 400),
        (service.put("Zoe", OTHER, {"If-None-Match": "*"}), 412),
        (service.put("Zoe", OTHER, {"If-Match": '"x"'}), 400),
        (service.put("Zoe", OTHER, {"Content-Type": "text/plain"}), 415),
        (service.request("DELETE", "/hello/Ada"), 404),
        (service.request("DELETE", "/hello/Zoe", headers={"If-Match": '"x"'}), 400),
        (service.request("POST", "/hello/Zoe"), 405),
        (service.get("/hello/Zoe"), 200),
        (service.get("/hello"), 200),
    ]:
        assert answer.status == status
    assert told(path) == [("put", "zoe", "done")]


def test_without_the_setting_there_is_no_log(served: Service) -> None:
    """Nothing is written, not even a file."""
    assert served.put("Zoe", BORN).status == 204
    assert not list(served.folder.glob("*audit*"))


def test_what_the_store_may_have_done_is_told_as_unknown(serve: Serve, path: Path) -> None:
    """A change that was answered with 503 may have happened, so it is in the log."""
    service = serve("--audit-log", str(path), "--store-timeout", "0.1")
    with locked(service.database):
        answers = [
            service.put("Zoe", BORN),
            service.put("Ada", BORN, {"If-None-Match": "*"}),
            service.request("DELETE", "/hello/Zoe"),
        ]
    assert [answer.status for answer in answers] == [503] * 3
    assert told(path) == [
        (a, n, "unknown") for a, n in [("put", "zoe"), ("create", "ada"), ("delete", "zoe")]
    ]
    assert [e["request_id"] for e in entries(path)] == [answer.headers["X-Request-ID"] for answer in answers]


async def put_all(service: Service, names: list[str]) -> None:
    """Register people, on connections that send at the same time."""
    streams = [await asyncio.open_connection("127.0.0.1", service.port) for _ in names]
    for (_, writer), name in zip(streams, names, strict=True):
        writer.write(raw_put(name, datetime(1990, 4, 23, tzinfo=UTC).date()))
    for reader, writer in streams:
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 204 ")
        writer.close()


def test_workers_share_the_file(serve: Serve, path: Path) -> None:
    """Each line is whole, and each change there once, whichever of two processes answered it."""
    service = serve("--workers", "2", "--audit-log", str(path))
    rounds = [[f"P{letters(r)}q{letters(n)}" for n in range(40)] for r in range(25)]
    threads = [
        threading.Thread(
            target=lambda part: [asyncio.run(put_all(service, names)) for names in part], args=(part,)
        )
        for part in (rounds[::2], rounds[1::2])
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = entries(path)
    assert sorted(e["username"] for e in found) == sorted(name.lower() for names in rounds for name in names)
    assert len({entry["request_id"] for entry in found}) == len(found)


@pytest.mark.parametrize(("workers", "created"), [("1", False), ("1", True), ("2", False), ("2", True)])
def test_a_log_that_was_moved_is_begun_anew(serve: Serve, path: Path, workers: str, created: bool) -> None:
    """As logrotate does it: with a second or so the lines go into a new file, and none is lost."""
    service = serve("--workers", workers, "--audit-log", str(path))
    sent = 0

    def put() -> None:
        nonlocal sent
        sent += 1
        assert service.put(f"P{letters(sent)}", BORN).status == 204

    put()
    moved = path.with_suffix(".1")
    path.rename(moved)
    if created:  # which logrotate can do
        path.touch(0o600)

    def begun_anew() -> bool:
        put()
        return path.exists() and bool(path.read_text())

    until(begun_anew, "a new file")
    assert path.stat().st_mode & 0o777 == 0o600
    names = [entry["username"] for entry in entries(moved) + entries(path)]
    assert sorted(names) == sorted(f"p{letters(number)}" for number in range(1, sent + 1))
    assert errors(service) == []


def test_a_folder_that_is_gone_stops_nothing(serve: Serve, tmp_path: Path) -> None:
    """The old file is written on, the error is logged once; a new file is begun where it can be."""
    folder = tmp_path / "logs"
    folder.mkdir()
    service = serve("--audit-log", str(folder / "audit"))
    folder.rename(tmp_path / "elsewhere")
    until(lambda: errors(service), "the error")
    assert service.put("Zoe", BORN).status == 204
    assert told(tmp_path / "elsewhere" / "audit") == [("put", "zoe", "done")]
    folder.mkdir()
    until((folder / "audit").exists, "a new file")
    assert service.put("Ada", BORN).status == 204
    assert told(folder / "audit") == [("put", "ada", "done")]
    assert len(errors(service)) == 1


def test_a_full_disk_stops_nothing(serve: Serve) -> None:
    """People are registered and erased; each line that is missing is counted, and the error logged once."""
    service = serve("--audit-log", "/dev/full")
    assert failures(service) == 0
    assert service.put("Zoe", BORN).status == 204
    assert service.put("Zoe", BORN, {"X-Request-ID": "mine"}).status == 204
    assert service.request("DELETE", "/hello/Zoe").status == 204
    assert failures(service) == 3
    (error,) = errors(service)
    assert "No space left on device" in error
    assert service.stop() == 0


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_file_that_cannot_be_written_is_said_at_the_start(tmp_path: Path, workers: str) -> None:
    """A missing folder or a folder in its place ends the start, with status 2 and the reason."""
    for path in (tmp_path / "none" / "audit", tmp_path):
        said = refused("--audit-log", str(path), "--workers", workers, folder=tmp_path)
        assert said.count(f"The audit log {path} can't be written: ") == 1


# The file itself


@pytest.fixture
def log(path: Path) -> AuditLog:
    """A log at a known time."""
    moment = datetime.fromisoformat("2026-11-24T20:15:00.1239+02:00")
    return AuditLog(path, Metrics("test"), lambda: moment)


def change(caller: str = "anonymous", key: str = "zoe") -> Change:
    """Return a change."""
    return Change(b"1", caller, "::1", "put", key)


def test_a_line_is_one_object(log: AuditLog, path: Path) -> None:
    """Its time is RFC 3339 in UTC with milliseconds."""
    log.record([change()], "done")
    assert path.read_text() == (
        '{"time":"2026-11-24T18:15:00.123+00:00","request_id":"1","caller":"anonymous","address":"::1",'
        '"action":"put","username":"zoe","outcome":"done"}\n'
    )


@pytest.mark.parametrize("code", [*range(0x20), *range(0x7F, 0xA0), 0x2028, 0x2029, 0x202E, 0x2066])
def test_no_character_breaks_a_line(log: AuditLog, path: Path, code: int) -> None:
    """A name of a caller has whatever characters its issuer allows; controls are escaped."""
    caller = f"a{chr(code)}b\\u"
    log.record([change(caller), change("Zoë")], "done")
    assert chr(code) not in path.read_text().replace("\n", "") or chr(code) == "\n"
    assert len(path.read_text().splitlines()) == 2
    assert [entry["caller"] for entry in entries(path)] == [caller, "Zoë"]
    assert "Zoë" in path.read_text()


def test_after_a_line_that_was_cut_the_next_is_whole(
    log: AuditLog, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a disk took half a line before it was full, the lines after it begin on their own."""
    write, room = os.write, [10]

    def write_what_fits(descriptor: int, data: bytes) -> int:
        if not room[0]:
            raise OSError(28, "No space left on device")
        written = write(descriptor, data[: room[0]])
        room[0] -= written
        return written

    monkeypatch.setattr("hello.audit.os.write", write_what_fits)
    log.record([change()], "done")
    log.record([change(key="lost")], "done")
    room[0] = 10_000
    log.record([change(key="ada"), change(key="bea")], "done")
    cut, *whole = path.read_text().splitlines()
    assert cut == '{"time":"2'
    assert [json.loads(line)["username"] for line in whole] == ["ada", "bea"]
