"""Backup and restore, by the very commands of docs/operations.md."""

import os
import re
import subprocess
from pathlib import Path

from tests.conftest import Serve
from tests.support.commands import hello
from tests.support.environment import HELLO, ROOT, need, until
from tests.support.service import WRITERS, Service, everyone, writing

BORN = "1990-04-23"
SECTION = (
    (ROOT / "docs" / "operations.md")
    .read_text()
    .partition("## Backup and restore\n")[2]
    .partition("\n## ")[0]
)
BACKUP, RESTORE, EXPORT, IMPORT = re.findall(r"```sh\n(.*?)```", SECTION, re.DOTALL)


def run(commands: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run commands of the documentation in a folder, as one who has `hello` on the path."""
    path = f"{HELLO.parent}{os.pathsep}{os.environ['PATH']}"
    environment = {k: v for k, v in os.environ.items() if not k.startswith("HELLO_")} | {"PATH": path}
    return subprocess.run(
        ["sh", "-c", commands],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def succeed(commands: str, folder: Path) -> None:
    """Run commands that must succeed."""
    done = run(commands, folder)
    assert done.returncode == 0, done.stderr


def back_up_while_writing(service: Service, commands: str) -> tuple[set[str], set[str]]:
    """Run a backup in the midst of writes; return who was there before it, and who at the end."""
    with writing(service) as acknowledged:
        until(lambda: len(acknowledged) > 100, "people")
        before = set(acknowledged)
        succeed(commands, service.folder)
        until(lambda: len(acknowledged) > len(before) + WRITERS, "more people")
    return before, set(acknowledged)


def assert_holds(found: set[str], before: set[str], after: set[str]) -> None:
    """Check that a backup has all from before it, and nobody who was never there or has gone."""
    assert before <= found
    assert {name for name in found if name not in after} <= {f"{name}x" for name in after}


def test_a_backup_while_serving_is_restored(serve: Serve) -> None:
    """Each record acknowledged before the backup is there after the restore, and no later one is."""
    need("sqlite3")
    service = serve()
    before, after = back_up_while_writing(service, BACKUP)
    assert service.put("Later", BORN).status == 204
    service.process.kill()
    service.process.wait()
    assert (service.folder / "hello.db-wal").stat().st_size > 0, "what a careless restore would mix in"
    succeed(RESTORE, service.folder)
    service.start()
    found = set(everyone(service))
    assert_holds(found, before, after)
    assert "Later" not in found
    assert service.put("Later", BORN).status == 204
    assert service.stop() == 0
    assert subprocess.check_output(["sqlite3", service.database, "PRAGMA integrity_check"]) == b"ok\n"


def test_a_backup_is_for_its_owner_only(serve: Serve) -> None:
    """The files hold dates of birth: nobody else may read them, also after the restore."""
    need("sqlite3")
    service = serve()
    assert service.put("Zoe", BORN).status == 204
    succeed(BACKUP, service.folder)
    succeed(EXPORT, service.folder)
    assert service.stop() == 0
    succeed(RESTORE, service.folder)
    for name in ("backup.db", "backup.csv", "hello.db"):
        assert (service.folder / name).stat().st_mode & 0o077 == 0
    assert everyone(service.start()) == {"Zoe": BORN}


def test_a_backup_replaces_the_one_before(serve: Serve) -> None:
    """A backup takes the place of an older one, whatever an interrupted one left; a failed one does not."""
    need("sqlite3")
    service = serve()
    succeed(BACKUP, service.folder)
    assert service.put("Zoe", BORN).status == 204
    (service.folder / "backup.db.part").write_text("half of it")
    succeed(BACKUP, service.folder)
    assert service.stop() == 0
    backup = (service.folder / "backup.db").read_bytes()
    service.database.write_text("no database any more")
    assert run(BACKUP, service.folder).returncode != 0
    assert (service.folder / "backup.db").read_bytes() == backup
    succeed(RESTORE, service.folder)
    assert everyone(service.start()) == {"Zoe": BORN}


def test_a_backup_of_nothing_fails(tmp_path: Path) -> None:
    """In a folder without a database the commands fail, and make nothing."""
    need("sqlite3")
    assert run(BACKUP, tmp_path).returncode != 0
    assert run(RESTORE, tmp_path).returncode != 0
    assert not (tmp_path / "hello.db").exists()
    assert not (tmp_path / "backup.db").exists()


def test_an_export_while_serving_is_imported(serve: Serve, tmp_path: Path) -> None:
    """Without sqlite3: each record acknowledged before the export is there after the import elsewhere."""
    service = serve()
    before, after = back_up_while_writing(service, EXPORT)
    folder = tmp_path / "other"
    folder.mkdir()
    (folder / "backup.csv").write_bytes((service.folder / "backup.csv").read_bytes())
    succeed(IMPORT, folder)
    rows = hello("export", folder=folder).stdout.decode().splitlines()[1:]
    assert {row.partition(",")[2] for row in rows} == {BORN}
    assert_holds({row.partition(",")[0] for row in rows}, before, after)
