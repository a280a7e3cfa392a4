"""Whether a file has changed since it was read."""

from pathlib import Path

FileState = tuple[int, ...]


def file_state(path: Path) -> FileState | None:
    """Return what changes whenever the file does; None where there is none.

    Links are followed, so that a swapped one is a change.
    """
    try:
        found = path.stat()
    except OSError:
        return None
    return (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
