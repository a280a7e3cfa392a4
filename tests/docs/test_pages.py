"""The documentation: all that there is, nothing that there is not, and examples that do what they say."""

import os
import re
import shlex
import ssl
import subprocess
from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Literal, get_args, get_origin
from urllib.parse import quote, urlsplit

import pytest
from cyclopts import App, Argument
from markdown_it import MarkdownIt
from markdown_it.token import Token
from prometheus_client.parser import text_string_to_metric_families

from hello import problems, protocol
from hello.app import BODY_BYTES
from hello.checks import Within
from hello.cli import app
from hello.settings import Settings
from tests.conftest import Serve
from tests.support.certificates import Authority
from tests.support.commands import hello
from tests.support.docs import DOCS, section
from tests.support.environment import HELLO, ROOT, need
from tests.support.service import Service, request

FLAGS = [name for name in app if name.startswith("--")]
GROUPS = {"key": ["key new", "key list", "key check"]}  # commands that have commands
COMMANDS = [one for name in app if not name.startswith("-") for one in GROUPS.get(name, [name])]
METHODS = ("GET", "HEAD", "PUT", "DELETE")


def pages() -> Iterator[Path]:
    """Yield all Markdown of the repository; what is installed or cached lies in hidden folders."""
    for folder, folders, names in os.walk(ROOT):
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield from (Path(folder, name) for name in sorted(names) if name.endswith(".md"))


PAGES = list(pages())
# Pages that tell people of hello, and not of programs of their own or of others, nor of what attackers send,
# nor of files of machines.
OTHERS = {"ami.md", "attacks.md", "dependencies.md", "image.md", "make-it-your-own.md", "servers.md"}
TELLING = [page for page in PAGES if page.parent in {ROOT, DOCS} and page.name not in OTHERS]


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service with TLS and etcd, whose metrics are all there are, that has been asked for something."""
    folder = tmp_path_factory.mktemp("docs")
    authority = Authority(folder)
    trust = ssl.create_default_context(cafile=authority.file)
    options = (*authority.server().options, "--etcd", "http://127.0.0.1:1")  # where nobody listens
    service = Service(folder, options, trust=trust).start()
    assert request(service.url.replace("https", "http"), "GET", "/").status == 400  # a failed handshake
    assert service.put("Zoe", "1990-04-23").status == 204
    yield service
    service.stop()


@pytest.fixture(scope="module")
def routes(service: Service) -> dict[str, set[str]]:
    """The methods of each path; test_openapi.py compares the document with the routes."""
    paths = service.get("/openapi.json").json()["paths"]
    routes = {path: {m.upper() for m in item if m.upper() in METHODS} for path, item in paths.items()}
    return {path: methods | ({"HEAD"} if "GET" in methods else set()) for path, methods in routes.items()}


# What is in a page


def tokens(page: Path) -> Iterator[Token]:
    """Yield all tokens of the page, those within lines too."""
    for token in MarkdownIt("commonmark").enable("table").parse(page.read_text()):
        yield token
        yield from token.children or ()


def blocks(page: Path) -> Iterator[tuple[str, str]]:
    """Yield language and text of the blocks of code."""
    return ((t.info, t.content) for t in tokens(page) if t.type in {"fence", "code_block"})


def code(page: Path) -> Iterator[str]:
    """Yield what is marked as code: words within lines, and each line of the blocks."""
    yield from (t.content for t in tokens(page) if t.type == "code_inline")
    for _, text in blocks(page):
        yield from (line.removeprefix("$ ") for line in text.splitlines())


def anchors(page: Path) -> set[str]:
    """Return what a link can lead to: headings, as GitHub names them, and ids."""
    found = set(re.findall(r'<a id="([^"]+)">', page.read_text()))
    for opening, heading in pairwise(tokens(page)):
        if opening.type == "heading_open":
            words = re.sub(r"[^\w\- ]", "", heading.content.lower())
            assert words not in found, f"{name_of(page)} has two headings {heading.content!r}"
            found.add(words.replace(" ", "-"))
    return found


# Tables that the code knows better


def table(*rows: Iterable[str]) -> str:
    """Return a table; the first row is its head."""
    head, *rest = [[cell.replace("|", r"\|") for cell in row] for row in rows]
    lines = [head, ["---"] * len(head), *rest]
    return "\n".join(
        f"|{'|'.join(cells)}|" if cells[0] == "---" else f"| {' | '.join(cells)} |" for cells in lines
    )


def as_code(value: object) -> str:
    if value is None:
        return ""
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def arguments(command: str) -> list[Argument]:
    """Return the arguments of a command, without the groups that settings come in."""
    if command in FLAGS:
        return []
    collection = find(command).assemble_argument_collection()
    return [argument for argument in collection if argument.name != "*"]


def find(command: str) -> App:
    """Return the application behind a command's name, which may be two words."""
    found = app
    for word in command.split():
        found = found[word]
    return found


def variable(argument: Argument) -> str:
    """Return the variable of a setting; "" for an option that is none."""
    return next(iter(argument.parameter.env_var or ()), "")


def default_and_meaning(argument: Argument) -> tuple[str, str]:
    """Return the default, and the help with the values that are taken."""
    meaning, _, told = (argument.parameter.help or "").partition(" [default: ")
    default = told.removesuffix("]") or (
        "required" if argument.required else as_code(argument.field_info.default)
    )
    if taken := values(argument):
        meaning += f" ({taken})"
    return default, meaning


def values(argument: Argument) -> str:
    """Return which values are taken, where that is not for the help to say."""
    for hint in (argument.hint, *get_args(argument.hint)):
        if get_origin(hint) is Literal:
            return " or ".join(as_code(choice) for choice in get_args(hint))
    for bounds in argument.parameter.validator or ():  # type: ignore[union-attr]
        if isinstance(bounds, Within):
            return f"{bounds.low} to {bounds.high}"
    return ""


def settings_table(_: Service) -> str:
    rows = []
    for argument in arguments("serve"):
        key = "" if argument.name == "--config" else as_code(argument.name.removeprefix("--"))
        rows.append(
            (as_code(argument.name), as_code(variable(argument)), key, *default_and_meaning(argument))
        )
    return table(("flag", "variable", "key", "default", "meaning"), *rows)


def commands_table(_: Service) -> str:
    rows = []
    for name in [*COMMANDS, *FLAGS]:
        settings = [argument.name for argument in arguments(name) if variable(argument)]
        told = "all" if name == "serve" else ", ".join(as_code(option) for option in settings)
        rows.append((as_code(f"hello {name}"), find(name).help.splitlines()[0], told))
    return table(("command", "what it does", "settings"), *rows)


def options_table(_: Service) -> str:
    rows = []
    for name in COMMANDS:
        for argument in arguments(name):
            if not variable(argument):
                spelled = ", ".join(as_code(option) for option in argument.names)
                rows.append((as_code(f"hello {name}"), spelled, *default_and_meaning(argument)))
    return table(("command", "option", "default", "meaning"), *rows)


def metrics_table(service: Service) -> str:
    rows = []
    for family in text_string_to_metric_families(service.get("/metrics").body.decode()):
        if family.name.startswith("hello_"):
            name = f"{family.name}_total" if family.type == "counter" else family.name
            labels = dict.fromkeys(label for s in family.samples for label in s.labels if label != "le")
            rows.append((as_code(name), family.type, ", ".join(sorted(labels)), family.documentation))
    return table(("metric", "type", "labels", "meaning"), *rows)


def problems_table(_: Service) -> str:
    rows = [
        (f'<a id="{kind.slug}"></a>`{kind.slug}`', str(kind.status), kind.explanation)
        for kind in sorted(problems.ALL_KINDS)
    ]
    return table(("slug", "status", "meaning"), *rows)


@pytest.mark.parametrize(
    ("page", "right"),
    [
        ("configuration.md", settings_table),
        ("commands.md", commands_table),
        ("commands.md", options_table),
        ("operations.md", metrics_table),
        ("api.md", problems_table),
    ],
)
def test_the_tables_are_what_the_code_says(
    page: str, right: Callable[[Service], str], service: Service
) -> None:
    """Settings, commands, options, metrics and problems are in their tables: all, as they are, no other."""
    wanted = right(service)
    text = (DOCS / page).read_text()
    assert f"\n\n{wanted}\n\n" in f"{text}\n", f"This is the table for docs/{page}:\n\n{wanted}\n"
    assert text.count(wanted.partition("\n")[0]) == 1


def test_each_operation_has_its_section(routes: dict[str, set[str]]) -> None:
    """The page on the API has a section for each method of each path, and for nothing else."""
    headings = re.findall(r"^## ([A-Z]+) (/.*)$", (DOCS / "api.md").read_text(), re.MULTILINE)
    told = {(method, path) for method, path in headings}
    assert len(headings) == len(told)
    assert told == {(method, path) for path, methods in routes.items() for method in methods - {"HEAD"}}


def test_each_group_of_commands_is_known() -> None:
    """The table above has all commands of each command that has some."""
    groups = {name: [f"{name} {one}" for one in app[name] if not one.startswith("-")] for name in app}
    assert {name: set(ones) for name, ones in groups.items() if ones} == {
        name: set(ones) for name, ones in GROUPS.items()
    }


def test_the_readme_has_each_route(routes: dict[str, set[str]]) -> None:
    """The contract in the README names each path with its methods, and no other."""
    told: dict[str, set[str]] = {}
    for row in re.findall(r"^\| (`.*?) \|", section(ROOT / "README.md", "The contract"), re.MULTILINE):
        methods = set(re.findall(r"[A-Z]{3,}(?= /)", row))
        for path in re.findall(r"(/[^`?]*)[`?]", row):
            told.setdefault(path.replace("<username>", "{username}"), set()).update(methods)
    assert told == {path: methods - {"HEAD"} for path, methods in routes.items()}


def test_the_limits_are_those_of_the_code() -> None:
    """Sizes and numbers are what the service goes by, on the page and in the explanations of problems."""
    wanted = (
        f"a body of {BODY_BYTES >> 10} KiB (413), a path and query of {protocol.URL_BYTES >> 10} KiB (414),"
        f" {protocol.HEADER_FIELDS} header fields of {protocol.HEADER_BYTES >> 10} KiB in all (431),"
        f" {Settings().request_timeout:g} s to send a request (408),"
        f" {Settings().max_in_flight} requests at once (503)"
    )
    assert wanted in " ".join((DOCS / "api.md").read_text().split()), wanted
    explained = " ".join(kind.explanation for kind in problems.ALL_KINDS)
    for limit in (BODY_BYTES, protocol.URL_BYTES, protocol.HEADER_FIELDS, protocol.HEADER_BYTES):
        assert f" {limit} " in explained


def test_problems_are_explained_under_the_same_names(service: Service) -> None:
    """What an error's `type` leads to is on /docs and, under the same anchor, on the page on the API."""
    explained = set(re.findall(r'<dt id="([^"]+)">', service.get("/docs").body.decode()))
    assert explained == {kind.slug for kind in problems.ALL_KINDS}
    assert explained <= anchors(DOCS / "api.md")


# Names of what does not exist


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_variables_and_metrics_exist(page: Path, service: Service) -> None:
    """Each HELLO_* variable that a page names is a setting, each hello_* metric is measured."""
    text = page.read_text()
    variables = {variable(argument) for argument in arguments("serve")}
    assert set(re.findall(r"\bHELLO_[A-Z_]*[A-Z]\b", text)) <= variables
    measured = set(
        re.findall(r"^(?:# TYPE )?(hello_\w+?)(?:\{| )", service.get("/metrics").body.decode(), re.MULTILINE)
    )
    histograms = {name.removesuffix("_count") for name in measured if name.endswith("_count")}
    assert set(re.findall(r"\bhello_[a-z_]+", text)) <= measured | histograms


@pytest.mark.parametrize("page", TELLING, ids=name_of)
def test_commands_and_options_exist(page: Path) -> None:
    """Each command that a page shows is one, with options of its own."""
    own = {name: {spelled for a in arguments(name) for spelled in a.names} for name in [*COMMANDS, *FLAGS]}
    everything = set(FLAGS).union(*own.values())
    for text in code(page):
        if shown := re.match(r"(?:\S*/)?hello ((?:key )?-*[a-z-]+)(?: |$)", text):
            assert shown[1] in own, text
            assert options_in(text) <= own[shown[1]] | set(FLAGS), text
        elif text.startswith("--"):
            assert options_in(text) <= everything, text


def options_in(text: str) -> set[str]:
    return set(re.findall(r"(?<!\S)\[?(--?[a-z][a-z-]*)", text))


@pytest.mark.parametrize("page", TELLING, ids=name_of)
def test_paths_exist(page: Path, routes: dict[str, set[str]]) -> None:
    """Each path that a page names is a route, with the method before it; fragments lead somewhere."""
    slugs = {kind.slug for kind in problems.ALL_KINDS}
    for text in code(page):
        if found := re.fullmatch(r"(?:([A-Z]+) )?(/[^ ]*)", text):
            path, _, fragment = found[2].partition("#")
            if path.startswith(Settings().etcd_prefix):
                continue  # a key of etcd's
            path = path.partition("?")[0].replace("<username>", "{username}")
            assert path in routes, text
            assert (found[1] or "GET") in routes[path], text
            assert not fragment or fragment in slugs, text


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_make_targets_exist(page: Path) -> None:
    """Each `make` target that a page names is one."""
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for text in code(page):
        if named := re.match(r"make ([a-z-]+)", text):
            assert named[1] in targets, text


def test_the_architecture_names_each_module() -> None:
    """Who looks for the place of something finds it, and no module that is no longer there."""
    source = ROOT / "src" / "hello"
    modules = {str(path.relative_to(source)) for path in source.rglob("*.py")} - {"__init__.py"}
    tables = re.findall(r"^\|.*\|$", (DOCS / "architecture.md").read_text(), re.MULTILINE)
    assert set(re.findall(r"`([\w/]+\.py)`", "\n".join(tables))) == modules


def test_the_tests_that_are_told_of_exist() -> None:
    """Each threat names tests that hold it off, and they are there."""
    there = {
        name
        for file in (ROOT / "tests").rglob("test_*.py")
        for name in re.findall(r"^(?:async )?def (test_\w+)", file.read_text(), re.MULTILINE)
    }
    rows = re.findall(
        r"^\| [STRIDE](?:, [STRIDE])* \|.*\|$", section(DOCS / "security.md", "Threats"), re.MULTILINE
    )
    assert len(rows) > 30
    for row in rows:
        named = re.findall(r"`(test_\w+)`", row.rpartition(" | ")[2])
        assert named, row
        assert set(named) <= there, row


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_a_table_ends_with_an_empty_line(page: Path) -> None:
    """A line of text right after a table is a row of it, as GitHub shows it."""
    prose = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    assert re.findall(r"^\|.*\n(?!\||\n|\Z).*", prose, re.MULTILINE) == []


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    """Each link within the repository is a file that is there, and its fragment an anchor of that page."""
    attributes = ("href", "src")
    links = [str(t.attrs[name]) for t in tokens(page) for name in attributes if name in t.attrs]
    links += re.findall(r'(?:href|src|srcset)="([^"]+)"', page.read_text())
    for link in links:
        parts = urlsplit(link)
        if not parts.scheme:
            target = page.parent / parts.path if parts.path else page
            assert target.exists(), link
            assert not parts.fragment or parts.fragment in anchors(target), link


@pytest.mark.parametrize("page", TELLING, ids=name_of)
def test_settings_exist(page: Path) -> None:
    """What a page names as settings are written, words and hyphens, is a setting or a kind of problem."""
    known = {argument.name.removeprefix("--") for argument in arguments("serve")}
    known |= {kind.slug for kind in problems.ALL_KINDS} | {"x-request-id"}
    taken = " ".join(values(argument) for name in COMMANDS for argument in arguments(name))
    known |= set(re.findall(r"`([a-z-]+)`", taken))
    words = [re.match(r"[a-z]+(?:-[a-z]+)+(?= = |$)", text) for text in code(page)]
    assert {word[0] for word in words if word} <= known


def test_keys_of_the_file_are_settings(tmp_path: Path) -> None:
    """The file that the page on configuration shows is taken, so is each key of its table, and no other."""
    page = DOCS / "configuration.md"
    (example,) = (text for language, text in blocks(page) if language == "toml")
    rows = re.findall(r"^\| `--[a-z-]+` \| `HELLO_[A-Z_]+` \| `?([a-z-]*)`? ", page.read_text(), re.MULTILINE)
    assert rows.count("") == 1
    keys = "".join(f"{key} = 1\n" for key in rows if key)
    for text, says in [(example, False), (keys, False), (f"{keys}config = 1\n", True)]:
        (file := tmp_path / "hello.toml").write_text(text)
        done = hello("birthdays", "--config", str(file), folder=tmp_path)
        assert ("no setting" in " ".join(done.stderr.decode().split())) == says, text


# Examples

# What depends on the day, on the request or on the version: both sides are compared without it.
VARYING = [
    (r"^(date|content-length): .*", r"\1: …"),
    (r'^etag: "[0-9a-f]{16}"$', "etag: …"),
    (r"^x-request-id: [0-9a-f]{32}$", "x-request-id: …"),
    (r"Your birthday is in \d+ day\(s\)|Happy birthday!", "…"),
    (r'"date":"\d{4}-\d\d-\d\d","days":\d+', '"date":"…","days":…'),
    (r'"next":"[A-Za-z0-9_-]+"', '"next":"…"'),
    (r"^(phone  \S+  -)  [0-9a-f]{12}$", r"\1  …"),
    (r"^DTSTAMP:\d{8}T000000Z$", "DTSTAMP:…"),
    (r'"?version"?[:=]"[0-9.]+"', "version…"),
]


def examples(page: Path) -> Iterator[tuple[str, str]]:
    """Yield each command that a page shows, and what comes of it."""
    for language, text in blocks(page):
        if language == "console":
            for shown in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
                lines = shown.splitlines()
                more = next(
                    (n for n, line in enumerate(lines[1:], 1) if not line.startswith("> ")), len(lines)
                )
                yield "\n".join(line.removeprefix("> ") for line in lines[:more]), "\n".join(lines[more:])


def constant(text: str) -> str:
    for pattern, replacement in VARYING:
        text = re.sub(pattern, replacement, text.replace("\r\n", "\n"), flags=re.MULTILINE)
    return text.rstrip("\n")


@pytest.mark.parametrize(
    "page",
    [DOCS / "api.md", DOCS / "rights.md", DOCS / "personal-data.md", ROOT / "README.md"],
    ids=name_of,
)
def test_examples_do_what_the_page_says(page: Path, serve: Serve, tmp_path: Path) -> None:
    """Each example, in its order, gives the answer below it; one without an answer below it succeeds."""
    need("curl")
    shell = need("bash")
    shown = list(examples(page))
    assert shown
    assert not [text for language, text in blocks(page) if "curl" in text and language != "console"]
    (tmp_path / "keys.json").write_text("[]")
    service = serve(*(["--keys-file", "keys.json"] if page.stem == "rights" else []))
    path = f"{HELLO.parent}{os.pathsep}{os.environ['PATH']}"
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    for command, answer in shown:
        (tmp_path / ".curlrc").write_text("silent\nshow-error\n" + ("" if answer else "fail-with-body\n"))
        here = re.sub(r"(localhost|127\.0\.0\.1):5000", rf"\1:{service.port}", command)
        done = subprocess.run(
            [shell, "-c", here.replace(".venv/bin/hello", shlex.quote(str(HELLO)))],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=tmp_path,
            env={**service.variables(), "CURL_HOME": str(tmp_path), "PATH": path},
            timeout=60,
            check=False,
        )
        said = done.stdout.decode()
        assert done.returncode == 0, (command, said)
        assert not answer or constant(said) == constant(answer), command


def test_usernames_are_taken_or_not_as_the_page_says(service: Service) -> None:
    """Each example of what is a username, and what is not, gets the answer beside it."""
    rows = re.findall(r"^\| (`.*`) \| (\d{3}) \|", section(DOCS / "api.md", "Usernames"), re.MULTILINE)
    answers = {name: int(status) for names, status in rows for name in re.findall("`([^`]+)`", names)}
    assert set(answers.values()) == {204, 400}
    for name, status in answers.items():
        assert service.put(quote(name), "1990-04-23").status == status, name
