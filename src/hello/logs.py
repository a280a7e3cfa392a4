"""Logs: one line an entry on standard error, as JSON or for a person's eyes.

Entries bring their fields as `extra={"fields": {…}}`. Kept apart from the metrics, whose library
reads the environment when it is loaded.
"""

import json
import logging
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Literal

import msgspec


class JSONFormatter(logging.Formatter):
    """One JSON object a line: time (RFC 3339, UTC), level, message, and the record's own fields."""

    def format(self, record: logging.LogRecord) -> str:
        entry = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return _escaped(msgspec.json.encode(entry).decode(), _in_json)


class TextFormatter(logging.Formatter):
    """One line for a person's eyes, and a traceback indented below it; control characters are escaped."""

    def format(self, record: logging.LogRecord) -> str:
        fields = getattr(record, "fields", {})
        moment = time.strftime("%H:%M:%S", time.localtime(record.created))
        line = f"{moment} {record.levelname.lower():7} {record.getMessage()}"
        line += "".join(f" {name}={value}" for name, value in fields.items())
        lines = [line]
        if record.exc_info:
            lines += [f"    {line}" for line in self.formatException(record.exc_info).split("\n")]
        return "\n".join(_escaped(line, _in_python) for line in lines)


def _escaped(line: str, escape: Callable[[str], str]) -> str:
    """Return a line in which nothing moves a cursor, ends the line or turns the direction of writing."""
    if line.isprintable():
        return line
    return "".join(c if c.isprintable() else escape(c) for c in line)


def _in_json(character: str) -> str:
    return json.dumps(character)[1:-1]


def _in_python(character: str) -> str:
    return repr(character)[1:-1]


def set_up_logging(form: Literal["text", "json"] | None) -> Literal["text", "json"]:
    """Send all logs to standard error, in the form asked for or the one that fits; return which."""
    form = form or ("text" if sys.stderr.isatty() else "json")
    handler = logging.StreamHandler()
    handler.setFormatter(TextFormatter() if form == "text" else JSONFormatter())
    logging.basicConfig(handlers=[handler], level=logging.INFO, force=True)
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)  # starts and stops are logged by `server`
    return form
