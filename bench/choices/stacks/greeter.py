"""What all stacks do for a request: one read in SQLite."""

import os
import sqlite3

_connection = sqlite3.connect(os.environ["BENCH_DB"], check_same_thread=False)


def message(username: str) -> dict[str, str]:
    """Return the answer for a person who is there."""
    (born,) = _connection.execute("SELECT born FROM people WHERE username = ?", (username,)).fetchone()
    return {"message": f"Hello, {username}! You were born on {born}"}
