"""Usernames of many scripts, for tests to choose from."""

from hypothesis import strategies as st

from hello.birthday import InvalidUsernameError, username_key

# Accents, final sigma, right to left, marks that combine, no case at all, beyond the first plane.
SCRIPTS = [
    "Zoë",
    "Νίκος",
    "Сергей",
    "Հայկ",
    "ნინო",
    "אברהם",
    "مُحَمَّد",
    "अनिल",
    "தமிழ்",
    "ศักดิ์",
    "ភាសា",
    "አበበ",
    "ᏣᎳᎩ",
    "王小明",
    "さくら",
    "김민수",
    "𐐔𐐯𐑅",
]


def is_username(text: str) -> bool:
    """Tell whether the domain takes it."""
    try:
        return bool(username_key(text))
    except InvalidUsernameError:
        return False


def usernames(max_size: int = 64) -> st.SearchStrategy[str]:
    """Make usernames: of one script, of ASCII, of any letters that go together."""
    of_a_script = st.sampled_from(SCRIPTS).flatmap(
        lambda name: st.text(name, min_size=1, max_size=max_size).filter(is_username)
    )
    ascii_letters = st.text(st.characters(codec="ascii", categories=["L"]), min_size=1, max_size=max_size)
    any_letters = st.text(
        st.characters(categories=["L"]) | st.characters(categories=["L", "M"]), min_size=1, max_size=8
    )
    return st.sampled_from(SCRIPTS) | of_a_script | ascii_letters | any_letters.filter(is_username)
