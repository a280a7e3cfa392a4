"""Cursors: what the list gave comes back, and nothing else is taken."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hello import cursor
from hello.cursor import InvalidCursorError

LISTS = ("people", "birthdays")
# A day and a key as stores and lists make them, in one, two, three and four bytes a character.
POSITIONS = ["zoe", "2026-11-2404-23zoë", "02-29אברהם", "王小明", "𐐨𐐩"]
IN_URLS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"  # pragma: allowlist secret
OTHER = "+/=.~ \n\t\0%&é\N{GREEK CAPITAL LETTER ALPHA}\N{CYRILLIC CAPITAL LETTER A}0\ud800\U0001d7d8"

positions = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)


@given(st.sampled_from(LISTS), positions)
def test_a_position_comes_back(kind: str, position: str) -> None:
    """Any text makes a cursor that needs no encoding in a URL, and comes back from it."""
    text = cursor.encode(kind, position)
    assert re.fullmatch(r"[A-Za-z0-9_-]+", text)
    assert cursor.decode(kind, text) == position


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 100_000])
def test_positions_of_any_length_come_back(size: int) -> None:
    """The length of a position does not matter: base64 needs padding for some, and a cursor has none."""
    assert cursor.decode("people", cursor.encode("people", "ë" * size)) == "ë" * size


@pytest.mark.parametrize("position", POSITIONS)
@pytest.mark.parametrize("kind", LISTS)
def test_every_alteration_is_found(kind: str, position: str) -> None:
    """A cursor with any one character replaced, put in or left out is none, nor is any part of it."""
    text = cursor.encode(kind, position)
    altered = {
        text[:place] + new + text[end:]
        for place in range(len(text) + 1)
        for end in (place, place + 1)
        for new in (*IN_URLS, *OTHER)
    }
    altered |= {text[:place] + text[place + 1 :] for place in range(len(text))}
    altered |= {text[:end] for end in range(len(text))} | {text[start:] for start in range(1, len(text))}
    altered |= {text + text, text + "=" * (-len(text) % 4), text.swapcase()}
    taken = []
    for other in altered - {text}:
        try:
            cursor.decode(kind, other)
            taken.append(other)
        except InvalidCursorError:
            pass
    assert taken == []


def test_the_other_base64_is_none() -> None:
    """The characters that base64 has outside of URLs are not taken for those that it has in them."""
    text = next(c for n in range(1000) if {"-", "_"} <= set(c := cursor.encode("people", f"zoe{n}")))
    for other in (text.replace("-", "+"), text.replace("_", "/"), text.replace("-", "+").replace("_", "/")):
        with pytest.raises(InvalidCursorError):
            cursor.decode("people", other)


@given(positions)
def test_a_cursor_is_of_one_list(position: str) -> None:
    """The cursor of one list is none of the other."""
    for kind, other in (LISTS, LISTS[::-1]):
        with pytest.raises(InvalidCursorError):
            cursor.decode(other, cursor.encode(kind, position))


@given(st.sampled_from(LISTS), st.text() | st.text(IN_URLS) | st.binary().map(lambda b: b.decode("latin-1")))
def test_what_was_never_given_is_no_cursor(kind: str, text: str) -> None:
    """Any other text, also beyond ASCII and beyond Unicode's characters, is refused in the same way."""
    with pytest.raises(InvalidCursorError):
        cursor.decode(kind, text)


@pytest.mark.parametrize("character", ["A", "=", "é", "\0", "\ud800"])
def test_a_huge_text_is_no_cursor(character: str) -> None:
    """A megabyte is refused as anything else is."""
    with pytest.raises(InvalidCursorError):
        cursor.decode("people", character * 1_000_000)


def test_a_refusal_repeats_nothing() -> None:
    """The message says what to give, and not what was given."""
    with pytest.raises(InvalidCursorError) as caught:
        cursor.decode("people", "Zoe19900423")
    assert "next" in str(caught.value)
    assert "Zoe" not in str(caught.value)
