"""Decision 4: the key of a username, by the profile and by its shortcut for letters of ASCII."""

from precis_i18n import get_profile

from bench.choices.timing import micro, per_call
from bench.markdown import table
from hello.birthday import username_key

ASCII, OTHER = "Rehearsal", "Żółćiński"


def measure() -> str:
    """Return a table: µs a name."""
    profile = get_profile("UsernameCaseMapped")
    found = per_call(
        {
            "precis-i18n, ASCII": lambda: profile.enforce(ASCII),
            "precis-i18n, other letters": lambda: profile.enforce(OTHER),
            "hello's key, ASCII": lambda: username_key(ASCII),
            "hello's key, other letters": lambda: username_key(OTHER),
            "lower() alone, ASCII": lambda: ASCII.lower(),
        }
    )
    return table(("way", "µs a name"), [(name, micro(time)) for name, time in found.items()])
