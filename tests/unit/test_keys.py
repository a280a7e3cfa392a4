"""API keys: what entries may be, how the file is followed, and what a guess learns from the time it takes."""

import hashlib
import json
import os
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from hello.keys import PREFIX, Keys, KeysError, add, encode, new_key, parse, read

DIGEST = "ab" * 32


def entry(**changed: object) -> str:
    """Return an entry as JSON, with changes."""
    return json.dumps({"name": "a", "scopes": ["read"], "sha256": DIGEST, **changed})


def test_a_new_key_is_random_and_kept_as_its_digest() -> None:
    """The secret has 256 random bits behind a prefix; the entry has its SHA-256 digest."""
    secret, kept = new_key("ci", ["read", "write"])
    other, _ = new_key("ci", ["read", "write"])
    assert secret.startswith(PREFIX)
    assert len(secret) == len(PREFIX) + 43  # 32 bytes in base64url
    assert secret != other
    assert kept.sha256 == hashlib.sha256(secret.encode()).hexdigest()
    assert secret[len(PREFIX) :] not in encode(kept).decode()
    caller = Keys(encode(kept).decode(), None).find(secret.encode())
    assert caller is not None
    assert (caller.name, sorted(caller.scopes), caller.own) == ("ci", ["read", "write"], None)


def test_entries_come_in_an_array_or_a_line_each() -> None:
    """What `hello key new` prints can be collected by >>, or put in brackets."""
    assert [e.name for e in parse(f"[{entry(name='x')},\n{entry(name='y')}]".encode(), "t")] == ["x", "y"]
    assert [e.name for e in parse(f"{entry(name='x')}\n\n{entry(name='y')}\n".encode(), "t")] == ["x", "y"]
    assert parse(b"[]", "t") == []


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("", "hello key new"),
        ("{", "HELLO_KEYS, line 1"),
        ("\n\n{}", "line 3"),
        ("[1]", "Expected `object`"),
        ("[", "HELLO_KEYS"),
        ("null", "line 1"),
        (entry(name="a b"), "name"),
        (entry(name="a\n"), "name"),
        (entry(name=""), "name"),
        (entry(name="token"), "token is no key's name"),
        (entry(scopes=[]), "scopes"),
        (entry(scopes="read"), "scopes"),
        (entry(scopes=["self"]), "read, write, admin"),
        (entry(scopes=["READ"]), "read, write, admin"),
        (entry(sha256="ab"), "sha256"),
        (entry(sha256=DIGEST.upper()), "sha256"),
        (entry(sha256=f"{DIGEST}\n"), "sha256"),
        (entry(expires="2026-01-01T00:00:00"), "zone"),
        (entry(expires="tomorrow"), "expires"),
        (entry(secret="s3cret"), "secret"),
    ],
)
def test_an_entry_that_is_none_is_said(text: str, word: str) -> None:
    """The message names where it is and what is wrong, and repeats nothing of it."""
    with pytest.raises(KeysError) as told:
        Keys(text or " ", None)
    assert word in str(told.value)
    assert DIGEST not in str(told.value)
    assert "s3cret" not in str(told.value)


def test_a_key_expires() -> None:
    """Up to its moment it is good, and no longer."""
    for seconds, good in ((60, True), (-1, False)):
        secret, kept = new_key("a", ["read"], datetime.now(UTC) + timedelta(seconds=seconds))
        assert (Keys(encode(kept).decode(), None).find(secret.encode()) is not None) is good


def test_a_file_is_followed(tmp_path: Path) -> None:
    """A key that comes counts at once; one that goes counts until the file has rested for a look."""
    path = tmp_path / "keys"
    old, old_entry = new_key("old", ["read"])
    new, new_entry = new_key("new", ["read"])
    path.write_bytes(encode(old_entry))
    keys = Keys(None, path)
    path.write_bytes(encode(new_entry))
    assert keys.find(new.encode())
    keys.refresh()
    assert keys.find(old.encode()), "the file may still be being written"
    keys.refresh()
    assert keys.find(new.encode())
    assert keys.find(old.encode()) is None


def test_a_file_that_is_put_back_counts_as_it_is(tmp_path: Path) -> None:
    """A key that was taken in at its first use goes when the file from before is moved back."""
    path, kept = tmp_path / "keys", tmp_path / "kept"
    path.write_bytes(encode(new_key("old", ["read"])[1]))
    keys = Keys(None, path)
    leaked, entry_ = new_key("leaked", ["admin"])
    path.rename(kept)
    path.write_bytes(encode(entry_))
    assert keys.find(leaked.encode())
    kept.replace(path)
    keys.refresh()
    keys.refresh()
    assert keys.find(leaked.encode()) is None


@pytest.mark.parametrize("how", ["replaced", "written over", "by a link"])
def test_no_key_is_refused_while_its_file_changes(tmp_path: Path, how: str) -> None:
    """Looked at after each byte that is written, keys that are in the old and the new file are good."""
    made = [new_key(f"key-{number}", ["read"]) for number in range(3)]
    path = tmp_path / "keys"
    contents = [b"\n".join(encode(e) for _, e in made), b"\n".join(encode(e) for _, e in reversed(made))]
    for number, content in enumerate(contents):
        (tmp_path / f"version-{number}").write_bytes(content)
    if how == "by a link":
        path.symlink_to("version-0")
    else:
        path.write_bytes(contents[0])
    keys = Keys(None, path)

    def all_good() -> None:
        keys.refresh()
        assert all(keys.find(secret.encode()) for secret, _ in made)

    for content in contents[1:]:
        if how == "by a link":
            (tmp_path / "new").symlink_to("version-1")
            (tmp_path / "new").replace(path)
            all_good()
        elif how == "replaced":
            (tmp_path / "new").write_bytes(content)
            (tmp_path / "new").replace(path)
            all_good()
        else:
            with path.open("wb", buffering=0) as file:
                for start in range(0, len(content), 7):
                    all_good()
                    file.write(content[start : start + 7])
        all_good()
        all_good()


def test_a_file_that_went_bad_changes_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The keys in force stay, which is said once for each state of the file; a good file counts again."""
    path = tmp_path / "keys"
    secret, kept = new_key("a", ["read"])
    path.write_bytes(encode(kept))
    keys = Keys(None, path)
    for change in (lambda: path.write_text("nonsense"), path.unlink):
        change()
        for _ in range(5):
            keys.refresh()
            assert keys.find(secret.encode())
    assert [r.levelname for r in caplog.records] == ["ERROR", "ERROR"]
    assert "nonsense" not in caplog.text
    path.write_text("[]")
    keys.refresh()
    keys.refresh()
    assert keys.find(secret.encode()) is None


def test_a_file_that_all_can_write_is_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Whoever can write it can be admin."""
    path = tmp_path / "keys"
    path.write_text("[]")
    path.chmod(0o666)
    Keys(None, path)
    assert "written by everyone" in caplog.text


def test_adding_to_a_file_keeps_what_is_there(tmp_path: Path) -> None:
    """Entries and mode of the file survive; a new file is its owner's alone; a bad one stays as it is."""
    path = tmp_path / "keys"
    path.write_text(f"[{entry(name='x')}]")
    path.chmod(0o640)
    add(path, new_key("y", ["read"])[1])
    assert [e.name for e in read(path)] == ["x", "y"]
    assert path.stat().st_mode & 0o777 == 0o640
    add(tmp_path / "other", new_key("z", ["read"])[1])
    assert (tmp_path / "other").stat().st_mode & 0o777 == 0o600
    path.write_text("nonsense")
    with pytest.raises(KeysError):
        add(path, new_key("y", ["read"])[1])
    assert path.read_text() == "nonsense"
    with pytest.raises(KeysError, match="can't be written"):
        add(Path("/proc/keys-of-hello"), new_key("y", ["read"])[1])
    assert {file.name for file in tmp_path.iterdir() if not file.name.endswith(".lock")} == {"keys", "other"}


def test_many_may_add_at_once_and_a_link_stays_one(tmp_path: Path) -> None:
    """No entry is lost, and what the link leads to is what changes."""
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "keys").touch()
    link = tmp_path / "keys"
    link.symlink_to("real/keys")
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: add(link, new_key(f"key-{number}", ["read"])[1]), range(40)))
    assert {e.name for e in read(tmp_path / "real" / "keys")} == {f"key-{number}" for number in range(40)}
    assert link.is_symlink()


def test_the_owner_of_the_file_stays(tmp_path: Path) -> None:
    """Root adds a key, and the service's user can still read the file."""
    if os.geteuid() != 0:
        pytest.skip("only root can give files away")
    path = tmp_path / "keys"
    path.touch()
    os.chown(path, 65534, 65534)
    add(path, new_key("a", ["read"])[1])
    assert (path.stat().st_uid, path.stat().st_gid) == (65534, 65534)


def test_the_time_of_a_wrong_key_tells_nothing() -> None:
    """However much of a guess is right, it is refused in the same time: by medians of many, in turns."""
    secret, kept = new_key("a", ["admin"])
    keys = Keys(encode(kept).decode(), None)
    right = secret.encode()
    guesses = {
        "nothing": b"x" * len(right),
        "half": right[: len(right) // 2] + b"x" * (len(right) - len(right) // 2),
        "all but the last": right[:-1] + (b"x" if right[-1:] != b"x" else b"y"),
    }
    times: dict[str, list[float]] = {kind: [] for kind in guesses}
    for _ in range(300):
        for kind, guess in guesses.items():
            start = time.perf_counter()
            for _ in range(20):
                keys.find(guess)
            times[kind].append(time.perf_counter() - start)
    medians = {kind: statistics.median(measured) for kind, measured in times.items()}
    assert max(medians.values()) / min(medians.values()) < 1.25, medians
