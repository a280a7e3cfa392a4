"""What schemathesis has to know to make valid requests, where the document says it in words only.

Schemathesis loads this itself, as `schemathesis.toml` tells it to.
"""

import json
import os
import unicodedata
from datetime import date
from typing import Any

import schemathesis
from hypothesis import strategies as st

# UsernameCaseMapped (RFC 8265) has its rules on mixing directions, so a name is of one script.
SCRIPTS = {
    "Latin": (0x0041, 0x024F),
    "Greek": (0x0391, 0x03C9),
    "Cyrillic": (0x0410, 0x044F),
    "Hebrew": (0x05D0, 0x05EA),
    "Arabic": (0x0641, 0x064A),
    "Devanagari": (0x0905, 0x0939),
    "Han": (0x4E00, 0x9FFF),
    "Hangul": (0xAC00, 0xD7A3),
}
TIME_ZONES = ["UTC", "Europe/Berlin", "America/Argentina/Buenos_Aires", "Etc/GMT+12", "Pacific/Kiritimati"]


def names(first: int, last: int) -> st.SearchStrategy[str]:
    """Return usernames of these letters, save those that are there for compatibility only."""
    letters = st.characters(min_codepoint=first, max_codepoint=last, categories=["L"])
    return st.text(letters.filter(lambda c: unicodedata.is_normalized("NFKC", c)), min_size=1, max_size=64)


schemathesis.openapi.format("username", st.one_of([names(*script) for script in SCRIPTS.values()]))
schemathesis.openapi.format("date-of-birth", st.dates(max_value=date(2020, 1, 1)).map(date.isoformat))
for path, cursor in json.loads(os.environ["CURSORS"]).items():  # nobody can make one up
    schemathesis.openapi.format(f"cursor of {path}", st.just(cursor))


@schemathesis.hook
def before_load_schema(context: schemathesis.HookContext, raw_schema: dict[str, Any]) -> None:
    """Say more of some values than their schemas do."""
    schemas = raw_schema["components"]["schemas"]
    schemas["Username"]["format"] = "username"
    schemas["DateOfBirth"]["properties"]["dateOfBirth"]["format"] = "date-of-birth"
    for path, item in raw_schema["paths"].items():
        for parameter in item.get("get", {}).get("parameters", []) + item.get("put", {}).get(
            "parameters", []
        ):
            if parameter["name"] == "tz":
                parameter["schema"]["enum"] = TIME_ZONES
            elif parameter["name"] == "after":
                parameter["schema"] = {"type": "string", "format": f"cursor of {path}"}
