"""Import and export of many people: memory use, and no space for the temporary file."""

import subprocess
import sys
from pathlib import Path

from bench.people import write_csv
from tests.support.environment import HELLO


def test_no_room_for_the_temporary_file_is_said(tmp_path: Path) -> None:
    """Nothing is loaded, and the message names the way out."""
    write_csv(tmp_path / "people.csv", 100_000)
    limited = ["bash", "-c", 'ulimit -f 100; exec "$@"', "bash", str(HELLO), "import", "people.csv"]
    ended = subprocess.run(limited, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert "temporary file" in ended.stderr
    assert "TMPDIR" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert not (tmp_path / "hello.db").exists()


_PEAK = """
import resource, subprocess, sys
status = subprocess.run(sys.argv[1:]).returncode
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(status)
"""


def peak(*arguments: str, folder: Path) -> int:
    """Run a command of hello; return its highest resident memory in bytes."""
    command = [sys.executable, "-c", _PEAK, str(HELLO), *arguments]
    ended = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    return int(ended.stdout) * (1 if sys.platform == "darwin" else 1024)


def test_memory_does_not_grow_with_the_people(tmp_path: Path) -> None:
    """200,000 people take no more of it than 1,000, but for the caches of the store, of 8 MiB each."""
    few, many = 1_000, 200_000
    peaks = {}
    for count in few, many:
        folder = tmp_path / str(count)
        folder.mkdir()
        write_csv(folder / "people.csv", count)
        peaks["import", count] = peak("import", "people.csv", folder=folder)
        for form in "csv", "jsonl":
            peaks[form, count] = peak("export", "--format", form, "-o", form, folder=folder)
            assert (folder / form).read_bytes().count(b"\n") == count + (form == "csv")
    grown = {what: peaks[what, many] - peaks[what, few] for what in ("import", "csv", "jsonl")}
    assert max(grown.values()) < 24 << 20, grown  # held in memory, the 200,000 would be 33 MiB and more
