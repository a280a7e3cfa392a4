"""The commands, run as a person runs them."""

import os
import re
import select
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pytest
from cyclopts import CycloptsError

from bench.people import username, write_csv
from hello import __version__
from hello.cli import app
from hello.usage import explain
from tests.support.commands import AS_A_PROCESS, hello
from tests.support.environment import HELLO, ROOT, need, until
from tests.support.service import locked
from tests.support.terminal import CTRL_C, CTRL_D, CTRL_S, Terminal

MANY = 100_500


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with people.csv of 100,500 people, and with hello.db of the same."""
    folder = tmp_path_factory.mktemp("many")
    write_csv(folder / "people.csv", MANY)
    assert hello("import", "people.csv", folder=folder).returncode == 0
    return folder


def in_shell(script: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a bash script in which `hello` is the command."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("HELLO_")}
    return subprocess.run(
        ["bash", "-c", script],
        capture_output=True,
        text=True,
        cwd=folder,
        env={**inherited, "PATH": f"{HELLO.parent}:{os.environ['PATH']}"},
        check=False,
    )


def test_real_people_go_in_and_come_out(tmp_path: Path) -> None:
    """The example loads, and an export into another store is the same export again."""
    loaded = hello("import", str(ROOT / "examples" / "people.csv"), folder=tmp_path)
    assert loaded.returncode == 0
    assert re.fullmatch(b"loaded 614 people, digest [0-9a-f]{64}\n", loaded.stderr)
    exported = hello("export", folder=tmp_path)
    assert "AndréCarson,1974-10-16\n".encode() in exported.stdout
    jsonl = hello("export", "--format", "jsonl", folder=tmp_path).stdout
    other = tmp_path / "other"
    other.mkdir()
    assert hello("import", "-", folder=other, stdin=jsonl).returncode == 0
    assert hello("export", folder=other).stdout == exported.stdout
    assert hello("birthdays", "--days", "366", folder=tmp_path).stdout.count(b"\n") == 614


def test_the_transcripts_of_the_documentation_are_true(tmp_path: Path) -> None:
    """Each command of a console in docs/commands.md, run in its order, says what is written below it."""
    text = (ROOT / "docs" / "commands.md").read_text()
    consoles = "".join(re.findall(r"^```console\n(.*?)^```", text, re.DOTALL | re.MULTILINE))
    steps = [step.split("\n", 1) for step in consoles.split("$ ")[1:]]
    assert steps[0][0] == "cat people.csv"
    (tmp_path / "people.csv").write_text(steps[0][1])
    script = "".join(f"{command}\nstatus=$?; echo '$'; (exit $status)\n" for command, _ in steps)
    said = in_shell(f"exec 2>&1\n{script}", tmp_path).stdout.split("$\n")
    for (command, expected), output in zip(steps, said, strict=False):
        assert output == expected, command
    assert len(said) == len(steps) + 1


# Help


def test_hello_alone_shows_its_commands(tmp_path: Path) -> None:
    """It is the help, and no error."""
    alone, asked = hello(folder=tmp_path), hello("--help", folder=tmp_path)
    assert (alone.returncode, alone.stdout) == (0, asked.stdout)
    for command in (
        "serve",
        "import",
        "export",
        "digest",
        "migrate",
        "compact",
        "birthdays",
        "--install-completion",
    ):
        assert f" {command} " in asked.stdout.decode()


@pytest.mark.parametrize(
    ("command", "names"),
    [
        ("import", ["[FILE]", "--skip-bad", "--store", "HELLO_STORE", "--timezone", "--config"]),
        ("export", ["--format", "csv, jsonl", "--output -o", "--username", "--store"]),
        ("digest", ["--store", "HELLO_STORE", "--store-connections"]),
        ("migrate", ["--store", "HELLO_STORE", "--store-timeout"]),
        ("compact", ["--full", "--store", "HELLO_STORE", "--store-timeout"]),
        ("birthdays", ["--days", "[default: 30]", "--timezone", "--leap-day", "HELLO_LEAP_DAY"]),
        ("--install-completion", ["--shell", "bash, zsh, fish", "--output -o"]),
    ],
)
def test_help_of_a_command_names_its_options(command: str, names: list[str], tmp_path: Path) -> None:
    """What it takes is told, and nothing of what only the service takes."""
    shown = hello(command, "--help", folder=tmp_path).stdout.decode()
    assert shown.startswith(f"Usage: hello {command} [OPTIONS]")
    for name in names:
        assert name in shown
    assert "--port" not in shown


@pytest.mark.parametrize(
    "command", ["import", "export", "digest", "migrate", "compact", "discover", "key new"]
)
def test_help_fills_its_lines(command: str, tmp_path: Path) -> None:
    """A paragraph is wrapped once: no line of it ends early, save the last."""
    shown = hello(*command.split(), "--help", folder=tmp_path).stdout.decode()
    about = shown.partition("\n\n")[2].partition("\n╭")[0]
    for paragraph in about.strip().split("\n\n"):
        for line, after in pairwise(paragraph.splitlines()):
            assert len(line.rstrip()) + 1 + len(after.split()[0]) > 80, paragraph


def test_the_version_is_told(tmp_path: Path) -> None:
    """It is that of the package, alone on its line."""
    assert hello("--version", folder=tmp_path).stdout.decode() == f"{__version__}\n"


# What is wrong


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("serv",), 'Did you mean "serve"?'),
        (("serve", "--prot", "1"), "Did you mean --port?"),
        (("serve", "--store", "redis://x"), "sqlite:///hello.db"),
        (("serve", "--timezone", "Mars"), "Europe/Berlin"),
        (("serve", "--host", "0.0.0.0"), "--open"),
        (("export",), "There is no database at hello.db; `hello import`"),
        (("birthdays",), "There is no database"),
        (("digest",), "There is no database"),
        (("import", "missing.csv"), "missing.csv can't be read: No such file"),
        (("import", "."), "can't be read: Is a directory"),
    ],
)
def test_what_is_wrong_is_said(arguments: tuple[str, ...], says: str, tmp_path: Path) -> None:
    """A wrong command, option, setting or file says what to do, with status 2 and no traceback."""
    ended = hello(*arguments, folder=tmp_path)
    said = ended.stderr.decode()
    assert ended.returncode == 2
    assert said.startswith("hello: ")
    assert says in said
    assert "Traceback" not in said
    assert ended.stdout == b""
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "says", "reads_on"),
    [
        (
            "help",
            "Available commands: serve, import, export, digest, migrate, compact, birthdays, discover",
            "hello --help",
        ),
        ("--port 1", "Name a command first", "hello --help"),
        ("serve --port", "--port needs a value", "hello serve --help"),
        (
            "serve --port http",
            'Invalid value "http" for --port: it takes a whole number',
            "hello serve --help",
        ),
        ("serve --port 1 --port 2", "--port specified multiple times", "hello serve --help"),
        ("serve 8000", 'Unexpected argument: "8000"', "hello serve --help"),
        ("serve --open=perhaps", "true or false", "hello serve --help"),
        ("export --format xml", '"csv", "jsonl"', "hello export --help"),
        ("birthdays --days 367", "from 0 to 366", "hello birthdays --help"),
        ("birthdays --days -1", "from 0 to 366", "hello birthdays --help"),
        ("birthdays --days 30.5", "whole number", "hello birthdays --help"),
        ("birthdays --port 1", "Unknown option: --port", "hello birthdays --help"),
        ("import --skipbad", "Did you mean --skip-bad?", "hello import --help"),
        ("import a.csv b.csv", 'Unexpected argument: "b.csv"', "hello import --help"),
        ("--install-completion --shell tcsh", '"bash", "zsh", "fish"', "hello --install-completion --help"),
    ],
)
def test_a_wrong_command_line_is_explained(arguments: str, says: str, reads_on: str) -> None:
    """What is wrong is named as it was written, and where to read on."""
    with pytest.raises(CycloptsError) as refused:
        app.parse_args(arguments.split(), exit_on_error=False, print_error=False)
    said = explain(refused.value)
    assert says in said
    assert said.endswith(f"\nTry `{reads_on}`.")


@pytest.mark.parametrize(
    ("script", "says"),
    [
        ("hello import <&-", "Standard input is closed"),
        ("hello export >&-", "Standard output is closed"),
        ("hello birthdays >&-", "Standard output is closed"),
        ("hello import /proc/self/mem", "can't be read to its end"),
        ("hello export >/dev/full", "Standard output can't be written: No space left"),
        ("hello birthdays --days 366 >/dev/full", "Standard output can't be written: No space left"),
        ("hello digest >/dev/full", "Standard output can't be written: No space left"),
        ("hello export -o /dev/full", "/dev/full can't be written: No space left"),
        ("hello export -o no/people.csv", "no/people.csv can't be written: No such file"),
        ("hello export -o .", "can't be written: Is a directory"),
        ("ulimit -f 64; hello export -o people.csv", "people.csv can't be written: File too large"),
    ],
)
def test_streams_that_are_of_no_use_are_said(script: str, says: str, many: Path, tmp_path: Path) -> None:
    """A closed or full one ends the command with status 2, no traceback and no half file."""
    if "/dev/full" in script or "/proc/" in script:
        _linux()
    ended = in_shell(f"export HELLO_STORE=sqlite:///{many}/hello.db; {script}", tmp_path)
    assert ended.returncode == 2
    assert says in ended.stderr
    assert "Traceback" not in ended.stderr
    assert "Exception" not in ended.stderr
    assert list(tmp_path.iterdir()) == []


def _linux() -> None:
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")


def test_nothing_is_said_where_standard_error_is_closed(many: Path, tmp_path: Path) -> None:
    """What would be said does not go into the data."""
    ended = in_shell(f"hello export --store sqlite:///{many}/hello.db 2>&- | tail -1", tmp_path)
    assert re.fullmatch("[A-Z][a-z]+,[0-9]{4}-[0-9]{2}-[0-9]{2}\n", ended.stdout)


@pytest.mark.parametrize("command", ["export", "birthdays --days 366"])
def test_a_reader_that_has_enough_ends_it(command: str, many: Path) -> None:
    """`| head -1` is no error to speak of; the status is that of SIGPIPE."""
    ended = in_shell(f"hello {command} | head -1; echo ${{PIPESTATUS[0]}}", many)
    assert ended.stdout.splitlines()[1:] == ["141"]
    assert ended.stderr == ""


# Files


@pytest.fixture
def people(tmp_path: Path) -> Path:
    """A folder whose hello.db holds Zoe alone."""
    assert hello("import", folder=tmp_path, stdin=b"username,dateOfBirth\nZoe,1990-04-23\n").returncode == 0
    return tmp_path


ZOE = "username,dateOfBirth\nZoe,1990-04-23\n"


def test_an_export_takes_the_place_of_a_file(people: Path) -> None:
    """It keeps the permissions; a link stays one, and its target is replaced."""
    private, link = people / "private.csv", people / "link.csv"
    private.write_text("what was there before")
    private.chmod(0o600)
    link.symlink_to(private)
    assert hello("export", "-o", "link.csv", folder=people).stderr.startswith(b"wrote 1 person, ")
    assert link.is_symlink()
    assert private.read_text() == ZOE
    assert private.stat().st_mode & 0o777 == 0o600
    assert not list(people.glob("*.part"))


def test_an_export_goes_to_devices_and_pipes(people: Path) -> None:
    """They are written to and never replaced; - is standard output."""
    assert hello("export", "-o", "-", folder=people).stdout.decode() == ZOE
    pipe = hello("export", "-o", "/dev/stdout", folder=people, prefix=AS_A_PROCESS)
    assert pipe.stdout.decode() == ZOE
    os.mkfifo(people / "pipe")
    copied = in_shell("hello export -o pipe & hello import --store sqlite:///copy.db pipe; wait", people)
    assert sorted(line.split(",")[0] for line in copied.stderr.splitlines()) == [
        "loaded 1 person",
        "wrote 1 person",
    ]
    assert hello("export", "--store", "sqlite:///copy.db", folder=people).stdout.decode() == ZOE


def test_stores_are_copied_through_a_pipe(people: Path) -> None:
    """What one exports the other imports."""
    copied = in_shell("hello export | hello import --store sqlite:///copy.db", people)
    assert (copied.returncode, copied.stdout) == (0, "")
    assert hello("export", "--store", "sqlite:///copy.db", folder=people).stdout.decode() == ZOE


# Birthdays


@pytest.mark.parametrize(
    ("days", "says"),
    [("0", "today"), ("1", "today or tomorrow"), ("2", "within 2 days"), ("366", "within 366 days")],
)
def test_no_birthday_is_said(days: str, says: str, tmp_path: Path) -> None:
    """An empty list is no error."""
    assert hello("import", folder=tmp_path, stdin=b"").returncode == 0
    ended = hello("birthdays", "--days", days, folder=tmp_path)
    assert (ended.returncode, ended.stdout) == (0, b"")
    assert ended.stderr.decode() == f"no birthday {says}\n"


def test_birthdays_come_soonest_first_with_the_days_in_words(tmp_path: Path) -> None:
    """Today, tomorrow, and then the number of days."""
    days = [date(2000, 1, 1) + timedelta(days=number) for number in range(366)]
    rows = "".join(f"{username(number)},{day}\n" for number, day in enumerate(days))
    assert hello("import", folder=tmp_path, stdin=f"username,dateOfBirth\n{rows}".encode()).returncode == 0
    before = datetime.now(UTC).date()
    lines = hello("birthdays", "--days", "3", folder=tmp_path).stdout.decode().splitlines()
    today = date.fromisoformat(lines[0].split()[0])
    assert today in {before, datetime.now(UTC).date()}
    common = [line for line in lines if f"{username(days.index(date(2000, 2, 29)))}" not in line]
    for number, (line, words) in enumerate(
        zip(common, ("today", "tomorrow", "in 2 days", "in 3 days"), strict=True)
    ):
        day = today + timedelta(days=number)
        assert line == f"{day}  {words:>11}  {username(days.index(day.replace(year=2000)))}"


# On a terminal


def test_progress_is_shown_on_a_terminal_alone(many: Path, tmp_path: Path) -> None:
    """It counts while there is something to wait for, and is gone from the line in the end."""
    with Terminal(HELLO, "import", many / "people.csv", folder=tmp_path) as terminal:
        assert terminal.end() == 0
    for text in f"\rchecked {MANY:,}", "\rloaded 5,000 of 100,500", "\rloaded 100,000 of 100,500":
        assert text in terminal.shown
    last = terminal.shown.rstrip().rpartition("\r")
    assert last[2].startswith("loaded 100,500 people, digest ")
    assert last[0].endswith(" ")
    with Terminal(HELLO, "export", "-o", "people.csv", folder=tmp_path) as terminal:
        assert terminal.end() == 0
    assert f"\rwrote {MANY:,}" in terminal.shown
    quiet = hello("export", "-o", "people.csv", folder=tmp_path)
    assert quiet.stdout == b""
    assert re.fullmatch(b"wrote 100,500 people, digest [0-9a-f]{64}\n", quiet.stderr)
    with Terminal(HELLO, "digest", folder=tmp_path) as terminal:
        assert terminal.end() == 0
    assert f"\rread {MANY:,}" in terminal.shown
    assert terminal.shown.rpartition("\r\n")[0].rpartition("\r")[2] == quiet.stderr.decode()[6:].rstrip()


def test_a_bad_row_has_a_line_of_its_own(tmp_path: Path) -> None:
    """The progress makes room for it."""
    write_csv(tmp_path / "people.csv", 10_000)
    with (tmp_path / "people.csv").open("a") as file:
        file.write("J0hn,1990-04-23\n")
    with Terminal(HELLO, "import", "people.csv", folder=tmp_path) as terminal:
        assert terminal.end() == 1
    assert "\rchecked 10,000" in terminal.shown
    assert any(line.rpartition("\r")[2].startswith("line 10002: ") for line in terminal.shown.split("\r\n"))


def test_people_are_typed_at_a_terminal(tmp_path: Path) -> None:
    """Ctrl-D ends them, and this is said first."""
    with Terminal(HELLO, "import", folder=tmp_path) as terminal:
        terminal.wait_for("end with Ctrl-D")
        terminal.type(ZOE + CTRL_D)
        assert terminal.end() == 0
    assert hello("export", folder=tmp_path).stdout.decode() == ZOE


# Ctrl-C


def test_ctrl_c_while_rows_are_typed_loads_nothing(tmp_path: Path) -> None:
    """It is said so."""
    with Terminal(HELLO, "import", folder=tmp_path) as terminal:
        terminal.wait_for("end with Ctrl-D")
        terminal.type(ZOE)
        terminal.type(CTRL_C)
        assert terminal.end() == 130
    assert "hello: interrupted; nothing loaded." in terminal.shown
    assert "Traceback" not in terminal.shown
    assert list(tmp_path.iterdir()) == []


def test_ctrl_c_while_a_pipe_is_read_loads_nothing(tmp_path: Path) -> None:
    """Also while nothing comes from it."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writers = []

    def opened() -> bool:
        try:
            writers.append(os.open(pipe, os.O_WRONLY | os.O_NONBLOCK))
        except OSError:  # no reader yet
            return False
        return True

    with Terminal(HELLO, "import", "pipe", folder=tmp_path) as terminal:
        until(opened, "the pipe to be read")
        terminal.type(CTRL_C)
        assert terminal.end() == 130
    os.close(writers[0])
    assert "hello: interrupted; nothing loaded." in terminal.shown
    assert not (tmp_path / "hello.db").exists()


def test_ctrl_c_while_people_are_loaded_says_how_many_were(many: Path, tmp_path: Path) -> None:
    """That many are stored, and the same import again stores the rest."""
    with Terminal(HELLO, "import", many / "people.csv", folder=tmp_path) as terminal:
        terminal.wait_for(f"checked {MANY:,}")
        terminal.type(CTRL_S)
        until(lambda: people_in(tmp_path) > 0, "the first people to be loaded")
        terminal.type(CTRL_C)
        assert terminal.end() == 130
    said = re.search(r"hello: interrupted; ([0-9,]+) of 100,500 people loaded", terminal.shown)
    assert said
    assert "Traceback" not in terminal.shown
    stored = people_in(tmp_path)
    assert stored == int(said[1].replace(",", ""))
    assert stored < MANY
    assert hello("import", str(many / "people.csv"), folder=tmp_path).returncode == 0
    assert people_in(tmp_path) == MANY


def people_in(folder: Path) -> int:
    """Return how many people are stored in a folder's hello.db, as far as there is one yet."""
    try:
        with closing(sqlite3.connect(f"file:{folder}/hello.db?mode=ro", uri=True)) as connection:
            return int(connection.execute("SELECT count(*) FROM people").fetchone()[0])
    except sqlite3.OperationalError:
        return 0


def test_a_store_that_is_locked_does_not_hold_ctrl_c(people: Path) -> None:
    """Pressed again, it ends the command, which would wait for the store."""
    (people / "more.csv").write_text(ZOE)
    with locked(people / "hello.db"), Terminal(HELLO, "import", "more.csv", folder=people) as terminal:
        terminal.wait_for("checked 1")

        def ended() -> bool:
            terminal.type(CTRL_C)
            return terminal.process.poll() is not None

        until(ended, "the command to end")
        assert terminal.end() in {-signal.SIGINT, 130}
    assert "Traceback" not in terminal.shown


@pytest.mark.parametrize("stop", ["Ctrl-C", "kill -9"])
def test_an_export_that_is_stopped_leaves_the_file_as_it_was(stop: str, many: Path, tmp_path: Path) -> None:
    """Half of one never has the name; after Ctrl-C nothing else is left behind either."""
    output = tmp_path / "people.csv"
    output.write_text("before")
    environment = {"HELLO_STORE": f"sqlite:///{many}/hello.db"}
    with Terminal(HELLO, "export", "-o", output, folder=tmp_path, environment=environment) as terminal:
        terminal.type(CTRL_S)
        until(lambda: list(tmp_path.glob("*.part")), "the export to begin")
        if stop == "Ctrl-C":
            terminal.type(CTRL_C)
            assert terminal.end() == 130
            assert terminal.shown.endswith("hello: interrupted; nothing written.\r\n")
            assert list(tmp_path.iterdir()) == [output]
        else:
            terminal.process.kill()
            assert terminal.end() == -signal.SIGKILL
    assert output.read_text() == "before"


def test_ctrl_c_while_nobody_reads_the_output_ends_the_export(many: Path, tmp_path: Path) -> None:
    """As with a pager that is kept open; that the output is not whole is said."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDWR)
    with Terminal(HELLO, "export", folder=many, output=pipe) as terminal:
        until(lambda: select.select([reader], [], [], 0)[0], "the export to begin")
        terminal.type(CTRL_C)
        assert terminal.end() == 130
    os.close(reader)
    assert terminal.shown == "^Chello: interrupted; the output is not whole.\r\n"


def test_ctrl_c_while_modules_load_ends_it_quietly(tmp_path: Path) -> None:
    """A traceback out of somebody else's module tells nobody anything."""
    script = """
import builtins, signal
from hello.__main__ import main

def load(name, *arguments):
    if name == "cyclopts":
        signal.raise_signal(signal.SIGINT)
    return load_by_default(name, *arguments)

load_by_default, builtins.__import__ = builtins.__import__, load
signal.signal(signal.SIGINT, signal.default_int_handler)
main()
"""
    ended = subprocess.run([sys.executable, "-c", script, "--version"], capture_output=True, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (-signal.SIGINT, b"", b"")


# Completion


def test_bash_completes(tmp_path: Path) -> None:
    """Commands, options, choices, time zones, files and folders, in a real shell."""
    need("bash")
    folder = tmp_path / "in here"
    folder.mkdir()
    (folder / "some people.csv").write_text(ZOE)
    environment = {
        "HOME": str(tmp_path),
        "PATH": f"{HELLO.parent}:{os.environ['PATH']}",
        "INPUTRC": os.devnull,
    }
    installed = hello("--install-completion", "--shell", "bash", folder=tmp_path, environment=environment)
    assert installed.returncode == 0
    with Terminal("bash", "-i", folder=tmp_path, environment=environment) as terminal:
        for keys, completed in [
            ("hello ser\t--leap\tf\t", "hello serve --leap-day feb28 "),
            ("hello mig\t--store-conn\t5 ", "hello migrate --store-connections 5 "),
            ("hello birth\t--timezone Europe/Berl\t", "hello birthdays --timezone Europe/Berlin "),
            ("hello export --format=js\t", "hello export --format=jsonl "),
            (f"{HELLO} imp\tin\tso\t", rf"{HELLO} import in\ here/some\ people.csv "),
        ]:
            terminal.type(keys)
            terminal.wait_for(completed)
            terminal.type("\x15")  # Ctrl-U: an empty line again
        terminal.type("exit\n")
        assert terminal.end() == 0


def test_completion_is_installed_once(tmp_path: Path) -> None:
    """Installed again, the script is renewed, and the shell's own file stays as it is."""
    environment = {"HOME": str(tmp_path), "SHELL": "/bin/bash"}
    for _ in range(2):
        ended = hello("--install-completion", "--shell", "bash", folder=tmp_path, environment=environment)
        assert (ended.returncode, ended.stdout) == (0, b"")
    script = tmp_path / ".local/share/bash-completion/completions/hello"
    assert str(script) in ended.stderr.decode()
    assert (tmp_path / ".bashrc").read_text().count(f'. "{script}"') == 1


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_completion_script_may_be_written_only(shell: str, tmp_path: Path) -> None:
    """With --output no file of the shell's is touched."""
    environment = {"HOME": str(tmp_path / "home")}
    ended = hello(
        "--install-completion", "--shell", shell, "-o", "script", folder=tmp_path, environment=environment
    )
    assert ended.returncode == 0
    assert "leap-day" in (tmp_path / "script").read_text()
    assert list(tmp_path.iterdir()) == [tmp_path / "script"]


def test_completion_that_cannot_be_installed_is_said(tmp_path: Path) -> None:
    """Where the script can't be written, it is named."""
    (tmp_path / ".local").write_text("in the way")
    ended = hello(
        "--install-completion", "--shell", "bash", folder=tmp_path, environment={"HOME": str(tmp_path)}
    )
    assert ended.returncode == 2
    assert b"can't be written" in ended.stderr
