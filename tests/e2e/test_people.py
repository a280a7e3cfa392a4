"""PUT, GET and DELETE of /hello/<username>."""

import json
import threading
import unicodedata
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import Any
from urllib.parse import quote
from zoneinfo import ZoneInfo

import pytest

from tests.e2e.client import JSON, Client, days_until, greeting, path_of, within_an_hour
from tests.e2e.conftest import NewName, Problem

BORN = "1815-12-10"
OTHER = "1906-12-09"
HOURS_AHEAD, HOURS_BEHIND = "Pacific/Kiritimati", "Etc/GMT+12"  # 26 hours apart: never on one day


def birthday_in(days: int, today: date) -> date:
    """Return a date of birth, in a leap year, whose birthday is in so many days."""
    return (today + timedelta(days=days)).replace(year=1996)


def dob(value: object) -> bytes:
    """Return a body whose date is any JSON value."""
    return json.dumps({"dateOfBirth": value}).encode()


# Register, and the message


def test_a_registration_has_an_empty_answer(client: Client, name: str) -> None:
    """PUT answers 204 with no body, whether it creates or replaces."""
    for born in (BORN, OTHER):
        answer = client.put(name, born)
        assert (answer.status, answer.body) == (204, b"")
        assert "Content-Type" not in answer.headers


@pytest.mark.parametrize("days", [1, 2, 30, 59, 60, 61, 180, 300, 364])
def test_the_message_counts_the_days(
    client: Client, name: str, noon: str, today: date, leap_day: str, days: int
) -> None:
    """The greeting is `Hello, <username>! Your birthday is in N day(s)`, to the letter, also for 1."""
    born = birthday_in(days, today)
    client.put(name, born)
    answer = client.greet(name, noon)
    assert answer.status == 200
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.json() == {"message": greeting(name, days_until(born, today, leap_day))}


def test_one_day_is_day_s_too(client: Client, name: str, noon: str, today: date) -> None:
    """The day before, the text is `1 day(s)`."""
    client.put(name, birthday_in(1, today))
    assert client.greet(name, noon).message == f"Hello, {name}! Your birthday is in 1 day(s)"


def test_on_the_day_there_are_congratulations(client: Client, name: str, noon: str, today: date) -> None:
    """On the day the greeting is `Hello, <username>! Happy birthday!`."""
    client.put(name, birthday_in(0, today))
    assert client.greet(name, noon).message == f"Hello, {name}! Happy birthday!"


def test_a_birthday_just_over_is_a_year_away(
    client: Client, name: str, noon: str, today: date, leap_day: str
) -> None:
    """The day after, the days are counted on the calendar: 364 or 365."""
    born = birthday_in(-1, today)
    client.put(name, born)
    expected = days_until(born, today, leap_day)
    assert expected in {364, 365}
    assert client.greet(name, noon).message == greeting(name, expected)


def test_someone_born_yesterday_is_greeted(
    client: Client, name: str, noon: str, today: date, leap_day: str
) -> None:
    """A date of birth may be yesterday: before today is all that is asked."""
    yesterday = today - timedelta(days=1)
    assert client.put(name, yesterday, noon).status == 204
    assert client.greet(name, noon).message == greeting(name, days_until(yesterday, today, leap_day))


@pytest.mark.parametrize("born", ["2000-02-29", "1904-02-29"])
def test_a_leap_day_has_a_birthday_each_year(
    client: Client, name: str, noon: str, today: date, leap_day: str, born: str
) -> None:
    """29 February is a date of birth; in common years its birthday is what the setting says."""
    assert client.put(name, born).status == 204
    expected = days_until(date.fromisoformat(born), today, leap_day)
    assert client.greet(name, noon).message == greeting(name, expected)


@pytest.mark.parametrize("born", ["0001-01-01", "0999-12-31", "1582-10-10", "1900-02-28", "1999-12-31"])
def test_any_year_of_the_calendar_will_do(
    client: Client, name: str, noon: str, today: date, leap_day: str, born: str
) -> None:
    """Dates of birth go back to the year 1."""
    assert client.put(name, born).status == 204
    expected = days_until(date.fromisoformat(born), today, leap_day)
    assert client.greet(name, noon).message == greeting(name, expected)


def test_a_write_replaces_and_is_seen(client: Client, name: str, noon: str, today: date, url: str) -> None:
    """A GET after a 204 sees it, on another connection too."""
    other = Client(url)
    for days in (5, 6, 7, 8, 9):
        assert client.put(name, birthday_in(days, today)).status == 204
        assert other.greet(name, noon).message == greeting(name, days)
    other.close()


def test_nobody_is_404(client: Client, name: str, problem: Problem) -> None:
    """An unknown name is a 404."""
    problem(client.greet(name), 404)


# Usernames


@pytest.mark.parametrize(
    "letters",
    [
        pytest.param("abcdefghijklmnopqrstuvwxyz", id="Latin"),
        pytest.param("àéîõüçñøåæþ", id="Latin-1"),
        pytest.param("абвгдежзийклмн", id="Cyrillic"),
        pytest.param("αβγδεζηθικλμ", id="Greek"),
        pytest.param("ابتثجحخدذرز", id="Arabic"),
        pytest.param("אבגדהוזחטיכל", id="Hebrew"),
        pytest.param("王李张刘陈杨黄赵周吴", id="Han"),
        pytest.param("가나다라마바사아자차", id="Hangul"),
        pytest.param("ひらがなのなまえ", id="Hiragana"),
        pytest.param("अकखगघचछजझटठ", id="Devanagari"),
        pytest.param("กขคงจฉชซ", id="Thai"),
        pytest.param("𐐨𐐩𐐪𐐫𐐬𐐭", id="Deseret, beyond the basic plane"),
    ],
)
def test_letters_of_any_script_are_a_name(
    client: Client, new_name: NewName, noon: str, today: date, letters: str
) -> None:
    """A username is of letters of any script."""
    name = new_name(letters=letters)
    assert client.put(name, birthday_in(3, today)).status == 204
    assert client.greet(name, noon).message == greeting(name, 3)


@pytest.mark.parametrize("prefix", ["मीना", "José", "Zoë", "ที่", "Ë̱"])
def test_combining_marks_are_part_of_a_name(
    client: Client, new_name: NewName, noon: str, today: date, prefix: str
) -> None:
    """Combining marks are taken after the first letter; the name comes back in NFC."""
    decomposed = unicodedata.normalize("NFD", new_name(prefix))
    assert client.put(decomposed, birthday_in(3, today)).status == 204
    composed = unicodedata.normalize("NFC", decomposed)
    assert client.greet(decomposed, noon).message == greeting(composed, 3)


@pytest.mark.parametrize("usual", ["hc", "version", "metrics", "birthdays"])
def test_names_of_paths_are_names(client: Client, noon: str, today: date, usual: str) -> None:
    """`hc`, `version`, `metrics` and `birthdays` are ordinary users."""
    if client.greet(usual).status == 200:
        pytest.skip(f"this store has a person called {usual}")
    try:
        assert client.put(usual, birthday_in(4, today)).status == 204
        assert client.greet(usual, noon).message == greeting(usual, 4)
        assert client.get("/hc").json() == {"status": "ok"}
    finally:
        assert client.send("DELETE", path_of(usual)).status == 204


def test_a_name_is_spelled_as_in_the_last_put(client: Client, name: str, noon: str, today: date) -> None:
    """The greeting spells the name as the last PUT did, whatever the request's own spelling."""
    client.put(name.capitalize(), birthday_in(3, today))
    assert client.greet(name, noon).message == greeting(name.capitalize(), 3)
    client.put(name.upper(), birthday_in(2, today))
    assert client.greet(name.capitalize(), noon).message == greeting(name.upper(), 2)
    client.put(name, birthday_in(1, today))
    assert client.greet(name.upper(), noon).message == greeting(name, 1)


SPELLINGS: list[Any] = [
    pytest.param("Zoë", str.lower, id="lower case"),
    pytest.param("zoë", str.upper, id="upper case"),
    pytest.param("Zoë", lambda name: unicodedata.normalize("NFD", name), id="decomposed"),
    pytest.param("Zoë", lambda name: unicodedata.normalize("NFD", name.swapcase()), id="both"),
    pytest.param("Ольга", str.swapcase, id="Cyrillic case"),
    pytest.param("Ada", lambda name: "".join(chr(ord(c) + 0xFEE0) for c in name), id="full width"),
    pytest.param("각", lambda name: unicodedata.normalize("NFD", name), id="Hangul jamo"),
]


@pytest.mark.parametrize(("prefix", "respell"), SPELLINGS)
def test_spellings_of_a_name_are_one_person(
    client: Client,
    new_name: NewName,
    noon: str,
    today: date,
    problem: Problem,
    prefix: str,
    respell: Callable[[str], str],
) -> None:
    """Usernames are unique under UsernameCaseMapped (RFC 8265): case, width, composition."""
    name = new_name(prefix)
    spelled = respell(name)
    assert spelled != name
    assert client.put(name, birthday_in(3, today)).status == 204
    assert client.greet(spelled, noon).message == greeting(name, 3)
    problem(client.put(spelled, BORN, If_None_Match="*"), 412)
    assert client.send("DELETE", path_of(spelled)).status == 204
    problem(client.greet(name), 404)


def test_different_letters_are_different_people(client: Client, new_name: NewName) -> None:
    """An accent makes another name, and so does ß."""
    plain = new_name()
    for other in (plain + "e", plain + "é", plain + "ss", plain + "ß"):
        assert client.put(other, BORN, If_None_Match="*").status == 204
        assert client.send("DELETE", path_of(other)).status == 204


BAD_NAMES = [
    pytest.param("ada1", id="digit"),
    pytest.param("ada%20lovelace", id="space"),
    pytest.param("%20ada", id="leading space"),
    pytest.param("ada+b", id="plus"),
    pytest.param("ada%00", id="NUL"),
    pytest.param("%00", id="NUL alone"),
    pytest.param("ada%0A", id="newline"),
    pytest.param("ada%0D%0AX-Injected:%201", id="header injection"),
    pytest.param("ada%7F", id="DEL"),
    pytest.param("ada-b", id="hyphen"),
    pytest.param("ada_b", id="underscore"),
    pytest.param("ada.b", id="full stop"),
    pytest.param("o'hara", id="apostrophe"),
    pytest.param("%3Cscript%3E", id="markup"),
    pytest.param("ada%25", id="percent"),
    pytest.param("ada%zz", id="bad escape"),
    pytest.param("ada%2Fb", id="encoded slash"),
    pytest.param("%2F", id="encoded slash alone"),
    pytest.param("..%2Fversion", id="encoded path"),
    pytest.param("ada%3Fb", id="encoded question mark"),
    pytest.param("%FF", id="not UTF-8"),
    pytest.param("ada%C3", id="cut UTF-8"),
    pytest.param("%ED%A0%80", id="surrogate"),
    pytest.param("%C0%AE", id="overlong"),
    pytest.param(quote("😀"), id="emoji"),
    pytest.param(quote("ada😀"), id="letters and emoji"),
    pytest.param(quote("\u0308ada"), id="leading combining mark"),
    pytest.param(quote("\u0308"), id="combining mark alone"),
    pytest.param(quote("a\u200db"), id="zero-width joiner"),
    pytest.param(quote("a\u200bb"), id="zero-width space"),
    pytest.param(quote("\ufeffada"), id="byte order mark"),
    pytest.param(quote("ada\u202e"), id="direction override"),
    pytest.param(quote("adaא"), id="both directions"),
    pytest.param(quote("אada"), id="both directions, from the right"),
    pytest.param(quote("ada\u00a0b"), id="no-break space"),
    pytest.param(quote("adaⅣ"), id="number letter"),
    pytest.param(quote("ada٣"), id="Arabic digit"),
    pytest.param(quote("\ue000"), id="private use"),
    pytest.param(quote("\uffff"), id="no character"),
    pytest.param("x" * 65, id="65 letters"),
    pytest.param(quote("é" * 65), id="65 letters beyond ASCII"),
    pytest.param("x" * 4000, id="4000 letters"),
    pytest.param("", id="empty"),
]


@pytest.mark.storeless
@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
@pytest.mark.parametrize("encoded", BAD_NAMES)
def test_a_bad_name_is_400(client: Client, problem: Problem, encoded: str, method: str) -> None:
    """What is not 1 to 64 letters is a 400, whatever is asked of it, and no header or page comes of it."""
    body = dob(BORN) if method == "PUT" else None
    answer = client.send(method, f"/hello/{encoded}", body, JSON if body else {})
    problem(answer, 400)
    assert "X-Injected" not in answer.headers


@pytest.mark.parametrize("letter", ["x", "é", "e\u0301", "𐐨", "王"])
def test_64_letters_are_a_name(client: Client, new_name: NewName, letter: str) -> None:
    """A username is up to 64 characters, counted after NFC."""
    start = new_name()
    name = start + letter * 44
    assert len(unicodedata.normalize("NFC", name)) == 64
    assert client.put(name, BORN).status == 204
    assert client.send("DELETE", path_of(name)).status == 204
    assert client.put(name + letter, BORN).status == 400


def test_one_letter_is_a_name(client: Client) -> None:
    """A username of one letter is looked up as any other."""
    assert client.greet("ꙮ").status in {200, 404}
    assert client.greet("z").status in {200, 404}


def test_raw_utf_8_in_the_path_is_the_name(client: Client, new_name: NewName, noon: str, today: date) -> None:
    """Bytes of UTF-8 in the request line, as curl sends them, are the same name as percent-encoded ones."""
    name = new_name("Zoë")
    target = f"/hello/{name}".encode()
    body = dob(str(birthday_in(3, today)))
    head = client.head("PUT", target, b"Content-Type: application/json", b"Content-Length: %d" % len(body))
    (answer,) = client.exchange(head + body, ["PUT"])
    assert answer.status == 204
    assert client.greet(name, noon).message == greeting(name, 3)
    (answer,) = client.exchange(client.head("GET", target + noon.encode()))
    assert answer.message == greeting(name, 3)


@pytest.mark.storeless
@pytest.mark.parametrize("target", [b"/hello/ad\xff", b"/hello/ad\xc3", b"/hello/ad\x80a"])
def test_raw_bytes_that_are_no_utf_8_are_400(client: Client, problem: Problem, target: bytes) -> None:
    """Bytes of another encoding in the request line are a 400."""
    (answer,) = client.exchange(client.head("GET", target))
    problem(answer, 400)


# Dates


BAD_DATES = [
    "",
    " ",
    "2000",
    "2000-01",
    "2000-1-1",
    "2000-1-01",
    "2000-01-1",
    "20000101",
    "2000-W01-1",
    "2000W011",
    "2000-001",
    "2000-01-01T00:00:00Z",
    "2000-01-01T00",
    "2000-01-01Z",
    "2000-01-01+00:00",
    " 2000-01-01",
    "2000-01-01 ",
    "2000-01-01\n",
    "\ufeff2000-01-01",
    "2000-01-01\u0000",
    "2000/01/01",
    "2000.01.01",
    "01-01-2000",
    "01/01/2000",
    "1 January 2000",
    "\uff12\uff10\uff10\uff10-\uff10\uff11-\uff10\uff11",
    "\u0662\u0660\u0660\u0660-\u0660\u0661-\u0660\u0661",
    "2000\u201001\u201001",
    "2000\u221201\u221201",
    "2000-00-01",
    "2000-13-01",
    "2000-01-00",
    "2000-01-32",
    "2000-04-31",
    "2001-02-29",
    "1900-02-29",
    "0000-01-01",
    "-200-01-01",
    "+200-01-01",
    "-2000-01-01",
    "+2000-01-01",
    "12000-01-01",
    "9999-12-31",
    "2000-01-01-01",
    "today",
    "yesterday",
    "null",
    "2000-0\uff11-01",
    "\u00b2000-01-01",
]


@pytest.mark.storeless
@pytest.mark.parametrize("born", BAD_DATES, ids=ascii)
def test_a_bad_date_is_400(client: Client, name: str, problem: Problem, born: str) -> None:
    """A date of birth is ten ASCII characters YYYY-MM-DD, a day of the calendar, before today."""
    for escaped in (True, False):
        body = json.dumps({"dateOfBirth": born}, ensure_ascii=escaped).encode()
        detail = problem(client.put_body(name, body), 400)
        assert len(born) < 8 or born not in detail
    problem(client.greet(name), 404)


@pytest.mark.storeless
@pytest.mark.parametrize("ahead", [0, 1, 365])
def test_today_and_later_is_400(
    client: Client, name: str, noon: str, today: date, problem: Problem, ahead: int
) -> None:
    """Today is no date of birth, nor is any later day."""
    problem(client.put(name, today + timedelta(days=ahead), noon), 400)


@pytest.mark.storeless
@pytest.mark.parametrize(
    "value",
    [None, 20000101, 2000.0101, True, False, [], ["2000-01-01"], {}, {"dateOfBirth": "2000-01-01"}],
    ids=str,
)
def test_a_date_that_is_no_text_is_400(client: Client, name: str, problem: Problem, value: object) -> None:
    """The date of birth is a JSON string: not null, a number, a list, an object."""
    problem(client.put_body(name, dob(value)), 400)


def test_a_bad_put_changes_nothing(client: Client, name: str, noon: str, today: date) -> None:
    """After a PUT that is refused, the record is as before."""
    client.put(name, birthday_in(3, today))
    for body in (dob("2001-02-29"), b"{}", b"", dob(None)):
        assert client.put_body(name, body).status == 400
    assert client.put(name.upper(), today + timedelta(days=1), noon).status == 400
    assert client.greet(name, noon).message == greeting(name, 3)


# Bodies


GOOD = b'{"dateOfBirth": "2000-01-01"}'
BAD_BODIES = [
    pytest.param(b"", id="empty"),
    pytest.param(b" ", id="white space"),
    pytest.param(b"null", id="null"),
    pytest.param(b"1", id="number"),
    pytest.param(b'"2000-01-01"', id="text"),
    pytest.param(b"[]", id="array"),
    pytest.param(b'[{"dateOfBirth": "2000-01-01"}]', id="array of it"),
    pytest.param(b'["dateOfBirth", "2000-01-01"]', id="array of two"),
    pytest.param(b"{}", id="empty object"),
    pytest.param(b'{"dateofbirth": "2000-01-01"}', id="other case"),
    pytest.param(b'{"date_of_birth": "2000-01-01"}', id="other key"),
    pytest.param(b'{"dateOfBirth": "2000-01-01", "name": "x"}', id="unknown key"),
    pytest.param(b'{"x": null, "dateOfBirth": "2000-01-01"}', id="unknown key first"),
    pytest.param(b'{"dateOfBirth": "2000-01-01", "dateOfBirth": "2000-01-01"}', id="repeated key"),
    pytest.param(b'{"dateOfBirth": "2000-01-01", "dateOfBirth": "2000-01-02"}', id="repeated, differs"),
    pytest.param(b'{"dateOfBirth": "2000-01-01", "dateOfBirt\\u0068": "2000-01-01"}', id="repeated, escaped"),
    pytest.param(b'{"dateOfBirth": null, "dateOfBirth": "2000-01-01"}', id="repeated, the first bad"),
    pytest.param(b'{"dateOfBirth": "2000-01-01"', id="cut"),
    pytest.param(b'{"dateOfBirth": "2000-01-01"}}', id="brace too many"),
    pytest.param(GOOD + GOOD, id="two documents"),
    pytest.param(GOOD + b"x", id="text behind"),
    pytest.param(b'{"dateOfBirth": "2000-01-01",}', id="trailing comma"),
    pytest.param(b"{'dateOfBirth': '2000-01-01'}", id="single quotes"),
    pytest.param(b'{dateOfBirth: "2000-01-01"}', id="bare key"),
    pytest.param(b'{"dateOfBirth": 2000-01-01}', id="bare date"),
    pytest.param(b'{"dateOfBirth": NaN}', id="NaN"),
    pytest.param(b'{"dateOfBirth": Infinity}', id="Infinity"),
    pytest.param(b"dateOfBirth=2000-01-01", id="form"),
    pytest.param(b'// it\n{"dateOfBirth": "2000-01-01"}', id="comment"),
    pytest.param(b"\xef\xbb\xbf" + GOOD, id="byte order mark"),
    pytest.param(GOOD.decode().encode("utf-16"), id="UTF-16"),
    pytest.param(GOOD + b"\x00", id="NUL behind"),
    pytest.param(GOOD + b"\x0b", id="vertical tab"),
    pytest.param(GOOD + "\u00a0".encode(), id="no-break space behind"),
    pytest.param(b'{"dateOfBirth": "2000-01-0\xff"}', id="not UTF-8"),
    pytest.param(b'{"dateOfBirth\xff": "2000-01-01"}', id="not UTF-8 in the key"),
    pytest.param(b'{"dateOfBirth": "\\ud800"}', id="surrogate"),
    pytest.param(b'{"\\ud800": "2000-01-01"}', id="surrogate in the key"),
    pytest.param(b'{"dateOfBirth": "2000-01-\x001"}', id="control character"),
    pytest.param(b"[" * 4096, id="nested deeply, open"),
    pytest.param(b"[" * 2048 + b"]" * 2048, id="nested deeply"),
    pytest.param(b'{"a":' * 819, id="objects nested deeply, open"),
    pytest.param(b'{"a":' * 682 + b"1" + b"}" * 682, id="objects nested deeply"),
    pytest.param(b'{"dateOfBirth":' + b"[" * 2000 + b"]" * 2000 + b"}", id="nested deeply within"),
    pytest.param(b'{"dateOfBirth":' + b"9" * 4000 + b"}", id="number of 4000 digits"),
    pytest.param(b'{"dateOfBirth":1e' + b"9" * 4000 + b"}", id="exponent of 4000 digits"),
]


@pytest.mark.storeless
@pytest.mark.parametrize("body", BAD_BODIES)
def test_a_bad_body_is_400(client: Client, name: str, problem: Problem, body: bytes) -> None:
    """A body that is not an object with the one key is a 400."""
    problem(client.put_body(name, body), 400)
    problem(client.greet(name), 404)


@pytest.mark.parametrize(
    "body",
    [
        b'{"dateOfBirth":"1815-12-10"}',
        b' \t\r\n{ "dateOfBirth"\n:\t"1815-12-10" }\r\n ',
        b'{"dateOfBirt\\u0068":"1815\\u002d12-10"}',
        b'{"dateOfBirth":"1815-12-10"}'.ljust(4096),
    ],
    ids=["short", "white space", "escapes", "4096 bytes"],
)
def test_any_spelling_of_the_json_will_do(client: Client, name: str, body: bytes) -> None:
    """White space and escapes are as JSON has them, up to 4096 bytes."""
    assert client.put_body(name, body).status == 204
    assert client.greet(name).status == 200


@pytest.mark.storeless
@pytest.mark.parametrize("size", [4097, 5000, 1_000_000])
def test_a_body_over_4_kib_is_413(client: Client, name: str, problem: Problem, size: int) -> None:
    """A body of more than 4096 bytes is a 413."""
    assert "4096" in problem(client.put_body(name, GOOD.ljust(size)), 413)
    problem(client.greet(name), 404)


def test_a_chunked_body_is_a_body(client: Client, name: str, problem: Problem) -> None:
    """A body of unknown length is taken up to the same bound."""
    head = client.head(
        "PUT", path_of(name).encode(), b"Content-Type: application/json", b"Transfer-Encoding: chunked"
    )
    half = GOOD[:9]
    chunks = b"9\r\n%s\r\n%x\r\n%s\r\n" % (half, len(GOOD) - 9, GOOD[9:])
    assert client.exchange(head + chunks + b"0\r\n\r\n", ["PUT"])[0].status == 204
    big = b"".join(b"400\r\n%s\r\n" % (b" " * 1024) for _ in range(5))
    (answer,) = client.exchange(head + chunks + big + b"0\r\n\r\n", ["PUT"])
    problem(answer, 413)


@pytest.mark.storeless
def test_a_declared_length_is_enough_to_refuse(client: Client, name: str, problem: Problem) -> None:
    """A body that would be too large is refused before it is sent."""
    head = client.head(
        "PUT", path_of(name).encode(), b"Content-Type: application/json", b"Content-Length: 99999999999"
    )
    (answer,) = client.exchange(head, ["PUT"])
    problem(answer, 413)


@pytest.mark.storeless
@pytest.mark.parametrize(
    "kind",
    [
        None,
        "",
        "text/plain",
        "text/json",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "application/xml",
        "application/octet-stream",
        "application/jsonp",
        "application/json-seq",
        "application/json; charset=latin-1",
        "application/json; charset=utf-16",
    ],
)
def test_another_media_type_is_415(client: Client, name: str, problem: Problem, kind: str | None) -> None:
    """A body that is not declared as JSON is a 415, and the detail says which header to send."""
    answer = client.put_body(name, GOOD, {} if kind is None else {"Content-Type": kind})
    assert "Content-Type: application/json" in problem(answer, 415)
    problem(client.greet(name), 404)


@pytest.mark.parametrize(
    "kind",
    [
        "application/json",
        "Application/JSON",
        "application/json; charset=utf-8",
        "application/json;charset=UTF-8",
        'application/json; charset="utf-8"',
    ],
)
def test_json_is_declared_in_many_ways(client: Client, name: str, kind: str) -> None:
    """The media type is compared without regard to case, and UTF-8 may be named."""
    assert client.put_body(name, GOOD, {"Content-Type": kind}).status == 204


@pytest.mark.storeless
def test_a_compressed_body_is_415(client: Client, name: str, problem: Problem) -> None:
    """A content coding is not understood, and said so."""
    problem(client.put_body(name, GOOD, {**JSON, "Content-Encoding": "gzip"}), 415)


# Time zones


def test_the_greeting_is_for_the_day_in_tz(client: Client, name: str, leap_day: str) -> None:
    """GET counts from the date that it is in the time zone of `tz`: here, two that never share one."""

    def ask() -> tuple[list[str], list[str]]:
        days = [datetime.now(ZoneInfo(zone)).date() for zone in (HOURS_BEHIND, HOURS_AHEAD)]
        born = birthday_in(0, days[1])
        client.put(name, born)
        answers = [client.greet(name, f"?tz={quote(zone)}") for zone in (HOURS_BEHIND, HOURS_AHEAD)]
        expected = [greeting(name, days_until(born, day, leap_day)) for day in days]
        return [answer.message for answer in answers], expected

    got, expected = within_an_hour(ask)
    assert got == expected
    assert got[0] != got[1]


def test_a_date_is_before_the_day_in_tz(client: Client, name: str, problem: Problem) -> None:
    """PUT takes the date that is yesterday where `tz` says, and refuses it where it is still today."""

    def ask() -> tuple[int, int]:
        born = datetime.now(ZoneInfo(HOURS_BEHIND)).date()
        behind = client.put(name, born, f"?tz={quote(HOURS_BEHIND)}")
        ahead = client.put(name, born, f"?tz={quote(HOURS_AHEAD)}")
        return behind.status, ahead.status

    assert within_an_hour(ask) == (400, 204)


def test_without_tz_the_settings_decide(client: Client, name: str, today: date, leap_day: str) -> None:
    """Without `tz` the greeting is that of a day on which it is somewhere now."""
    born = birthday_in(100, today)
    client.put(name, born)
    now = datetime.now(UTC)
    possible = {
        greeting(name, days_until(born, (now + timedelta(hours=hours)).date(), leap_day))
        for hours in (-13, 0, 15)
    }
    assert client.greet(name).message in possible


@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin", "America/Argentina/Buenos_Aires", "Asia/Kathmandu"])
def test_iana_names_are_time_zones(client: Client, name: str, zone: str) -> None:
    """`tz` takes any IANA name, with its slashes as they are or encoded."""
    client.put(name, BORN)
    for spelled in (zone, quote(zone, safe="")):
        assert client.greet(name, f"?tz={spelled}").status == 200


@pytest.mark.storeless
@pytest.mark.parametrize(
    "zone",
    [
        "",
        "Nowhere/City",
        "America",
        "Europe/",
        "/Europe/Berlin",
        "/etc/localtime",
        "../../etc/passwd",
        "..%2F..%2Fetc%2Fpasswd",
        "Europe/../Europe/Berlin",
        "Europe/Berlin%00",
        "europe/berlin",
        "zone.tab",
        "tzdata.zi",
        "posixrules",
        "localtime",
        "%2B02:00",
        "UTC%2B1",
        "%FF",
        "Europe%5CBerlin",
        "x" * 300,
        "a/" * 300,
        "😀",
    ],
)
def test_an_unknown_time_zone_is_400(client: Client, name: str, problem: Problem, zone: str) -> None:
    """What is no IANA name is a 400, on GET, PUT and where birthdays are listed; no file is looked for."""
    query = f"?tz={quote(zone, safe='%/')}"
    problem(client.greet(name, query), 400)
    problem(client.put(name, BORN, query), 400)
    problem(client.get(f"/birthdays{query}"), 400)
    problem(client.greet(name), 404)


@pytest.mark.storeless
def test_a_parameter_that_comes_twice_is_400(client: Client, name: str, problem: Problem) -> None:
    """Two time zones are no time zone."""
    problem(client.greet(name, "?tz=UTC&tz=Asia/Tokyo"), 400)


# Conditions


def test_an_etag_saves_the_body(client: Client, name: str, noon: str, today: date) -> None:
    """`If-None-Match` with the ETag gives a 304 without a body: as it is, weak, in a list, as `*`."""
    client.put(name, birthday_in(3, today))
    etag = client.greet(name, noon).headers["ETag"]
    assert etag.startswith('"')
    for condition in (etag, f"W/{etag}", f'"other", {etag}', f'W/"other" ,W/{etag},"x"', "*"):
        answer = client.greet(name, noon, If_None_Match=condition)
        assert (answer.status, answer.body) == (304, b""), condition
        assert answer.headers["ETag"] == etag
    for condition in ('"other"', etag.strip('"'), 'W/"other", "x"', ""):
        answer = client.greet(name, noon, If_None_Match=condition)
        assert answer.message == greeting(name, 3), condition


def test_an_etag_changes_with_the_answer(client: Client, name: str, noon: str, today: date) -> None:
    """Another date or spelling makes another ETag; the same record has the same one again."""
    client.put(name, birthday_in(3, today))
    etag = client.greet(name, noon).headers["ETag"]
    client.put(name.upper(), birthday_in(3, today))
    respelled = client.greet(name, noon).headers["ETag"]
    client.put(name, birthday_in(4, today))
    changed = client.greet(name, noon, If_None_Match=etag)
    assert changed.message == greeting(name, 4)
    assert len({etag, respelled, changed.headers["ETag"]}) == 3
    client.put(name, birthday_in(3, today))
    assert client.greet(name, noon, If_None_Match=etag).status == 304


def test_a_condition_makes_nobody(client: Client, name: str, problem: Problem) -> None:
    """An unknown name is a 404 under any condition."""
    problem(client.greet(name, If_None_Match="*"), 404)


def test_put_may_only_create(client: Client, name: str, noon: str, today: date, problem: Problem) -> None:
    """With `If-None-Match: *` PUT creates, and is a 412 that changes nothing where the name is taken."""
    assert client.put(name, birthday_in(3, today), If_None_Match="*").status == 204
    problem(client.put(name, birthday_in(9, today), If_None_Match="*"), 412)
    problem(client.put(name.upper(), birthday_in(9, today), If_None_Match="*"), 412)
    assert client.greet(name, noon).message == greeting(name, 3)
    assert client.send("DELETE", path_of(name)).status == 204
    assert client.put(name, birthday_in(9, today), If_None_Match="*").status == 204


def test_other_conditions_are_not_passed_over(client: Client, name: str, problem: Problem) -> None:
    """A condition that PUT or DELETE does not understand is an error, and nothing is done."""
    for condition in ('"etag"', ""):
        problem(client.put(name, BORN, If_None_Match=condition), 400)
        problem(client.put(name, BORN, If_Match=condition), 400)
    problem(client.put(name, BORN, If_Match="*"), 400)
    problem(client.put(name, BORN, If_None_Match="*", If_Match="*"), 400)
    problem(client.greet(name), 404)
    client.put(name, BORN)
    for condition in ('"etag"', ""):
        for header in ("If-Match", "If-None-Match"):
            problem(client.send("DELETE", path_of(name), headers={header: condition}), 400)
    assert client.greet(name).status == 200


def test_of_50_creations_at_once_one_succeeds(url: str, client: Client, name: str, problem: Problem) -> None:
    """50 parallel PUTs with `If-None-Match: *` of one new name: exactly one 204, the others 412."""
    clients = [Client(url) for _ in range(50)]
    barrier = threading.Barrier(len(clients))
    answers: list[Any] = []

    def create(one: Client) -> None:
        one.connection.connect()
        barrier.wait(30)
        answers.append(one.put(name, BORN, If_None_Match="*"))

    threads = [threading.Thread(target=create, args=(one,)) for one in clients]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for one in clients:
        one.close()
    assert sorted(answer.status for answer in answers) == [204, *[412] * 49]
    for answer in answers:
        if answer.status == 412:
            problem(answer, 412)
    assert client.greet(name).status == 200


# Erase


def test_a_person_is_erased(client: Client, name: str, problem: Problem) -> None:
    """DELETE answers 204 with no body, and 404 once there is nobody; the name is free again."""
    client.put(name, BORN)
    answer = client.send("DELETE", path_of(name))
    assert (answer.status, answer.body) == (204, b"")
    problem(client.greet(name), 404)
    problem(client.send("DELETE", path_of(name)), 404)
    assert client.put(name, BORN, If_None_Match="*").status == 204
