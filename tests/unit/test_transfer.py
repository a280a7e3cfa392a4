"""Import and export: rows that are read, refused and written, and what of them is stored."""

import asyncio
import csv
import io
import json
import unicodedata
from contextlib import closing
from datetime import date, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.people import write_csv
from hello.birthday import InvalidUsernameError, Person, parse_username
from hello.files import reading, writing
from hello.rows import LINE_CHARACTERS, UnreadableError
from hello.stores import Entry, open_store
from hello.transfer import CHECK, Format, dump, load, stage
from tests.support.commands import hello

TODAY = date(2026, 11, 24)
HEADER = "username,dateOfBirth\n"
ANN = '{"username":"Ann","dateOfBirth":"2000-02-29"}\n'
SCRIPTS = [
    (0x41, 0x24F),  # Latin
    (0x370, 0x3FF),  # Greek
    (0x400, 0x4FF),  # Cyrillic
    (0x531, 0x587),  # Armenian
    (0x5D0, 0x5EA),  # Hebrew
    (0x620, 0x64A),  # Arabic
    (0x900, 0x97F),  # Devanagari, with marks
    (0xE01, 0xE4E),  # Thai, with marks
    (0x10D0, 0x10FF),  # Georgian
    (0x1E00, 0x1EFF),  # Latin with dots, hooks and horns: Vietnamese
    (0x3041, 0x30FE),  # kana
    (0x4E00, 0x9FFF),  # Han
    (0xAC00, 0xD7A3),  # Hangul
    (0x10330, 0x1034A),  # Gothic, beyond the basic plane
]


def bad_rows(text: str | bytes, folder: Path) -> list[str]:
    """Return what is said of the rows of a file that can't be imported."""
    return staged(text, folder)[1]


def staged(text: str | bytes, folder: Path) -> tuple[list[Person], list[str]]:
    """Return the people of a file, in the order of their keys, and what is said of its bad rows."""
    path = folder / "rows"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    said: list[str] = []
    with (
        reading(path) as file,
        closing(stage(file, TODAY, lambda row: said.append(str(row)), lambda _: None)) as people,
    ):
        return [Person(entry.username, entry.born) for batch in people.batches() for entry in batch], said


def is_username(text: str) -> bool:
    """Tell whether a person can have the name."""
    try:
        parse_username(text)
    except InvalidUsernameError:
        return False
    return True


USERNAMES = (
    st.sampled_from(SCRIPTS)
    .flatmap(
        lambda script: st.text(st.characters(min_codepoint=script[0], max_codepoint=script[1]), max_size=10)
    )
    .map(lambda text: unicodedata.normalize("NFC", text))
    .filter(is_username)
)
PEOPLE = st.lists(
    st.builds(Person, USERNAMES, st.dates(date(1, 1, 1), date(2026, 11, 23))),
    unique_by=lambda person: parse_username(person.username)[1],
    max_size=20,
)


# Rows


@pytest.mark.parametrize("form", ["csv", "jsonl"])
@settings(max_examples=25, deadline=None)
@given(people=PEOPLE)
def test_import_reads_what_export_writes(
    form: Format, people: list[Person], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """People of any script come back as they were, spelled as they were, from either form."""
    folder = tmp_path_factory.mktemp("transfer")
    file = folder / "people"

    async def there_and_back() -> list[Person]:
        first = await open_store(f"sqlite:///{folder}/first.db", timeout=10)
        await first.put_many([Entry(parse_username(name)[1], name, born) for name, born in people])
        with writing(file) as output:
            written = await dump(first, output, form, lambda _: None)
            assert written.count == len(people)
        await first.close()

        second = await open_store(f"sqlite:///{folder}/second.db", timeout=10)
        with reading(file) as text:
            rows = stage(text, TODAY, lambda row: pytest.fail(str(row)), lambda _: None)
        with closing(rows):
            loaded = await load(rows, second, lambda _: None, lambda: asyncio.sleep(0, True))
        assert (loaded.count, str(loaded)) == (written.count, str(written))
        page = await second.people(1000)
        await second.close()
        return list(page.people)

    assert sorted(asyncio.run(there_and_back())) == sorted(people)


@pytest.mark.parametrize(
    "text",
    [
        "username,dateOfBirth\nZoë,1990-04-23\nAnn,2000-02-29\n",
        "username,dateOfBirth\nZoë,1990-04-23\nAnn,2000-02-29",
        "\ufeffusername,dateOfBirth\r\nZoë,1990-04-23\r\nAnn,2000-02-29\r\n",
        "username,dateOfBirth\rZoë,1990-04-23\rAnn,2000-02-29\r",
        "\n\n dateOfBirth , username\n\n1990-04-23,Zoë\n   \n2000-02-29,Ann\n\n",
        '"username","dateOfBirth"\n"Zoë","1990-04-23"\n"Ann",2000-02-29\n',
        "username,dateOfBirth\nZoe\u0308,1990-04-23\nAnn,2000-02-29\n",
        '{"username":"Zoë","dateOfBirth":"1990-04-23"}\n' + ANN,
        '\ufeff\n {"dateOfBirth" : "1990-04-23", "username" : "Zo\\u00eb"}\r\n' + ANN,
        '\t{ "username" :"Zoë" ,"dateOfBirth": "1990-04-23" } \n\n' + ANN.replace("n", "\\u006e", 2),
    ],
)
def test_files_as_programs_write_them_are_read(text: str, tmp_path: Path) -> None:
    """Marks, line ends, empty lines, quotes, spaces, escapes and the order of the two don't matter."""
    people, said = staged(text, tmp_path)
    assert said == []
    assert people == [Person("Ann", date(2000, 2, 29)), Person("Zoë", date(1990, 4, 23))]


@pytest.mark.parametrize("text", ["", "\n", HEADER, HEADER.strip(), "\ufeff" + HEADER])
def test_a_file_of_nobody_is_fine(text: str, tmp_path: Path) -> None:
    """An empty store exports as such a file."""
    assert staged(text, tmp_path) == ([], [])


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("name,born\n", 1),
        ("\n\nusername;dateOfBirth\n", 3),
        ("username,dateOfBirth,email\n", 1),
        ("username,username\n", 1),
        ("Zoe,1990-04-23\n", 1),
        ('[{"username":"Zoe","dateOfBirth":"1990-04-23"}]', 1),
        ("username,dateOfBirth\n".encode("utf-16"), 1),
        ("username,dateOfBirth\n".encode("utf-16-le"), 1),
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", 1),
        (b"\x1f\x8b\x08\0\0\0\0\0", 1),
        (b"\0" * 3 * LINE_CHARACTERS, 1),
        (bytes(range(256)), 1),
    ],
)
def test_a_file_of_another_kind_is_unreadable(text: str | bytes, line: int, tmp_path: Path) -> None:
    """The message says which line should be what."""
    with pytest.raises(UnreadableError, match=f"^Line {line} should be the header {HEADER.strip()}"):
        staged(text, tmp_path)


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("J0hn,1990-04-23", "Character 2 of the username is not a letter"),
        (",1990-04-23", "username is empty"),
        (f"{'a' * 65},1990-04-23", "too long"),
        ("Zoe ,1990-04-23", "Character 4"),
        ("Z\0e,1990-04-23", "Character 2"),
        ("Zoe,23.04.1990", "YYYY-MM-DD"),
        ("Zoe, 1990-04-23", "YYYY-MM-DD"),
        ("Zoe,1999-02-29", "no such date"),
        ("Zoe,2026-11-24", "before today"),
        ("Zoe,", "YYYY-MM-DD"),
        ("Zoe", "2 fields, username,dateOfBirth; this one has 1"),
        ("Zoe,1990-04-23,", "this one has 3"),
        ('"Z"oe,1990-04-23', "quotes of line 3"),
        ("a" * LINE_CHARACTERS + ",1990-04-23", "longer than 100,000 characters"),
        ('"' + "a" * 3 * LINE_CHARACTERS, "longer than 100,000 characters"),
    ],
)
def test_a_bad_row_of_csv_is_named(row: str, reason: str, tmp_path: Path) -> None:
    """Its line and the reason are said; the rows around it are read."""
    people, [said] = staged(f"{HEADER}Ann,2000-01-01\n{row}\nBob,2000-01-01\n", tmp_path)
    assert said.startswith("line 3: ")
    assert reason in said
    assert [person.username for person in people] == ["Ann", "Bob"]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ('{"username":"J0hn","dateOfBirth":"1990-04-23"}', "Character 2 of the username is not a letter"),
        ('{"username":"Zo\\ud800","dateOfBirth":"1990-04-23"}', "Character 3"),
        ('{"username":"Zoe","dateOfBirth":"1990-4-23"}', "YYYY-MM-DD"),
        ('{"username":"Zoe","dateOfBirth":"1990-04-23"', "not JSON"),
        ('{"username":"Zoe","dateOfBirth":"1990-04-23"} {}', "not JSON"),
        ('{"username":"Z\x01oe","dateOfBirth":"1990-04-23"}', "not JSON"),
        ('{"username":' + "[" * 50_000, "not JSON"),
        ('{"username":' + "9" * 5000 + ',"dateOfBirth":"1990-04-23"}', "not JSON"),
        ('{"username":"Zoe","username":"Zoe","dateOfBirth":"1990-04-23"}', "each once"),
        ('{"username":"Zoe","dateOfBirth":"1990-04-23","dateOfBirth":"1990-04-23"}', "each once"),
        ('{"username":"Zoe"}', "each once"),
        ('{"username":"Zoe","dateOfBirth":"1990-04-23","email":""}', "each once"),
        ('[["username","Zoe"],["dateOfBirth","1990-04-23"]]', "not an object"),
        ("null", "not an object"),
        ('{"username":"Zoe","dateOfBirth":19900423}', "not both text"),
        ('{"username":null,"dateOfBirth":"1990-04-23"}', "not both text"),
        ("{" + " " * LINE_CHARACTERS + "}", "longer than 100,000 characters"),
        ("username,dateOfBirth", "not JSON"),
    ],
)
def test_a_bad_row_of_json_is_named(row: str, reason: str, tmp_path: Path) -> None:
    """Its line and the reason are said; the rows around it are read."""
    ann, bob = (json.dumps({"username": name, "dateOfBirth": "2000-01-01"}) for name in ("Ann", "Bob"))
    people, [said] = staged(f"{ann}\n\n{row}\n{bob}\n", tmp_path)
    assert said.startswith("line 3: ")
    assert reason in said
    assert [person.username for person in people] == ["Ann", "Bob"]


def test_a_row_of_several_lines_is_named_by_its_first(tmp_path: Path) -> None:
    """The lines of quoted fields count, so that the rows after them are named right."""
    said = bad_rows(f'{HEADER}"Zo\ne",1990-04-23\nJ0hn,1990-04-23\n"a\n\nb","c\nd"\nP4ul,x\n', tmp_path)
    assert [line.partition(":")[0] for line in said] == ["line 2", "line 4", "line 5", "line 9"]


def test_an_open_quote_says_how_far_it_reaches(tmp_path: Path) -> None:
    """All that it holds is one bad row, and nobody is to think it was a single line."""
    people, said = staged(f'{HEADER}Ann,2000-01-01\n"Zoe,1990-04-23\nBob,2000-01-01\n', tmp_path)
    assert [person.username for person in people] == ["Ann"]
    assert said == ["line 3: not CSV: unexpected end of data; check the quotes of lines 3 to 4"]


def test_bytes_that_are_no_utf_8_are_a_bad_row(tmp_path: Path) -> None:
    """The rows in another encoding are named, the others are read."""
    for text in (
        f"{HEADER}Ann,2000-01-01\nZoë,1990-04-23\n",
        '{"username":"Zoë","dateOfBirth":"1990-04-23"}\n',
    ):
        [said] = bad_rows(text.encode("latin-1"), tmp_path)
        assert "not UTF-8" in said
        assert "iconv" in said


# The same username again


@pytest.mark.parametrize("form", ["csv", "jsonl"])
@pytest.mark.parametrize("again", ["Zoë", "zoë", "ZOË", "Zoe\u0308"])
def test_a_username_with_another_date_is_a_bad_row(form: str, again: str, tmp_path: Path) -> None:
    """However it is spelled, it is one person, who has the date of the first row."""
    rows = [("Zoë", "1990-04-23"), ("Ann", "2000-01-01"), (again, "1991-04-23"), ("ann", "2000-01-01")]
    people, said = staged(_in_form(form, rows), tmp_path)
    first = 2 if form == "csv" else 1
    assert said == [f"line {first + 2}: this username has another date of birth in line {first}"]
    assert people == [Person("ann", date(2000, 1, 1)), Person("Zoë", date(1990, 4, 23))]


@pytest.mark.parametrize("form", ["csv", "jsonl"])
def test_a_username_with_the_same_date_is_spelled_as_in_its_last_row(form: str, tmp_path: Path) -> None:
    """As if each row were a PUT."""
    rows = [("Zoë", "1990-04-23"), ("zoë", "1990-04-23"), ("ZOË", "1990-04-23")]
    assert staged(_in_form(form, rows), tmp_path) == ([Person("ZOË", date(1990, 4, 23))], [])


def test_contradictions_are_found_over_any_distance(tmp_path: Path) -> None:
    """They are named in the order of their lines, also over more rows than are checked at a time."""
    count = 2 * CHECK + 500
    write_csv(tmp_path / "people.csv", count)
    text = (tmp_path / "people.csv").read_text()
    first, *_, last = text.splitlines()[1:]
    more = [f"{row.partition(',')[0].upper()},1900-01-01" for row in (last, first)]
    people, said = staged(text + "\n".join(more), tmp_path)
    assert len(people) == count
    assert said == [
        f"line {count + 2}: this username has another date of birth in line {count + 1}",
        f"line {count + 3}: this username has another date of birth in line 2",
    ]


def _in_form(form: str, rows: list[tuple[str, str]]) -> str:
    if form == "csv":
        text = io.StringIO()
        csv.writer(text).writerows([("username", "dateOfBirth"), *rows])
        return text.getvalue()
    return "".join(json.dumps({"username": name, "dateOfBirth": born}) + "\n" for name, born in rows)


# What is stored


def test_bad_rows_leave_a_store_as_it_was(tmp_path: Path) -> None:
    """Nothing is loaded because of them, until they are to be skipped; the status is 1 either way."""
    before = f"{HEADER}Ann,2000-01-01\nZoe,1990-04-23\n".encode()
    assert hello("import", folder=tmp_path, stdin=before).returncode == 0
    rows = f"{HEADER}zoe,1991-04-23\nJ0hn,1990-04-23\nBob,1960-06-06\n".encode()

    refused = hello("import", folder=tmp_path, stdin=rows)
    assert refused.returncode == 1
    assert refused.stderr.startswith(b"line 3: Character 2")
    assert b"nothing loaded: 1 bad row." in refused.stderr
    assert b"--skip-bad" in refused.stderr
    assert hello("export", folder=tmp_path).stdout == before

    skipped = hello("import", "--skip-bad", folder=tmp_path, stdin=rows)
    assert skipped.returncode == 1
    assert skipped.stderr.splitlines()[-1].startswith(b"loaded 2 people, digest ")
    assert skipped.stderr.endswith(b"; skipped 1 bad row\n")
    after = f"{HEADER}Ann,2000-01-01\nBob,1960-06-06\nzoe,1991-04-23\n".encode()
    assert hello("export", folder=tmp_path).stdout == after


def test_only_the_first_bad_rows_are_named(tmp_path: Path) -> None:
    """All are counted."""
    rows = HEADER + "".join(f"{number},x\n" for number in range(1500))
    said = hello("import", folder=tmp_path, stdin=rows.encode()).stderr.decode().splitlines()
    assert [line.partition(":")[0] for line in said[:20]] == [f"line {number}" for number in range(2, 22)]
    assert said[20] == "… and 1,480 more"
    assert "1,500 bad rows" in said[21]
    assert len(said) == 22


def test_an_import_can_be_repeated(tmp_path: Path) -> None:
    """The second time nothing is changed, and it is no error."""
    rows = f"{HEADER}Ann,2000-01-01\nZoe,1990-04-23\n".encode()
    for _ in range(2):
        assert hello("import", folder=tmp_path, stdin=rows).stderr.startswith(b"loaded 2 people, ")
    assert hello("export", folder=tmp_path).stdout == rows


def test_today_is_that_of_the_time_zone(tmp_path: Path) -> None:
    """Who is born on a day that is over somewhere can be loaded there."""
    east, west = "Etc/GMT-14", "Etc/GMT+12"  # always a day apart, or two
    yesterday = datetime.now(ZoneInfo(east)).date() - timedelta(days=1)
    rows = f"{HEADER}Zoe,{yesterday}\n".encode()
    assert hello("import", "--timezone", east, folder=tmp_path, stdin=rows).returncode == 0
    assert b"before today" in hello("import", "--timezone", west, folder=tmp_path, stdin=rows).stderr


# Memory
