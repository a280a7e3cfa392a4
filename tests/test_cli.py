"""The commands, run as a person runs them."""

from pathlib import Path

import pytest

from tests.support import ROOT, hello


def test_real_people_go_in_and_come_out(tmp_path: Path) -> None:
    """The example loads, and an export into another store is the same export again."""
    loaded = hello("import", str(ROOT / "examples" / "people.csv"), folder=tmp_path)
    assert (loaded.returncode, loaded.stderr) == (0, b"loaded 614 people\n")
    exported = hello("export", folder=tmp_path)
    assert "AndréCarson,1974-10-16\n".encode() in exported.stdout
    jsonl = hello("export", "--format", "jsonl", folder=tmp_path).stdout
    other = tmp_path / "other"
    other.mkdir()
    assert hello("import", "-", folder=other, stdin=jsonl).returncode == 0
    assert hello("export", folder=other).stdout == exported.stdout
    assert hello("birthdays", "--days", "366", folder=tmp_path).stdout.count(b"\n") == 614


def test_bad_rows_are_named_and_nothing_is_loaded(tmp_path: Path) -> None:
    """A bad row is named with its line; only --skip-bad loads the others, and the status stays 1."""
    rows = b"username,dateOfBirth\nZoe,1990-04-23\nJ0hn,1990-04-23\nzoe,1991-04-23\n"
    refused = hello("import", folder=tmp_path, stdin=rows)
    assert refused.returncode == 1
    assert b"line 3: Character 2" in refused.stderr
    assert b"line 4: this username has another date of birth in line 2" in refused.stderr
    assert not (tmp_path / "hello.db").exists()
    assert hello("import", "--skip-bad", folder=tmp_path, stdin=rows).returncode == 1
    assert hello("export", folder=tmp_path).stdout == b"username,dateOfBirth\nZoe,1990-04-23\n"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("serve", "--prot", "1"), b"--port"),
        (("serve", "--store", "postgresql://x"), b"sqlite:///hello.db"),
        (("serve", "--timezone", "Mars"), b"Europe/Berlin"),
        (("serve", "--host", "0.0.0.0"), b"--open"),
        (("export",), b"There is no database"),
        (("import", "missing.csv"), b"can't be read"),
    ],
)
def test_what_is_wrong_is_said(arguments: tuple[str, ...], says: bytes, tmp_path: Path) -> None:
    """A wrong option, setting or file says what to do, with status 2 and no traceback."""
    ended = hello(*arguments, folder=tmp_path)
    assert ended.returncode == 2
    assert says in ended.stderr.replace(b"\n", b" ")
    assert b"Traceback" not in ended.stderr
