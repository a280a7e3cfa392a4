"""PostgreSQL for hello and its peer alike: clusters in folders of the bench, with the settings it comes with.

Only the bench's own user may connect, over loopback: it has no password, and no rights on the machine.
"""

import os
import shutil
import subprocess
from pathlib import Path
from typing import Final

from bench.processes import BenchError, Command

PROGRAMS: Final = ("initdb", "pg_dump", "pg_isready", "postgres", "psql", "setpriv")
USER: Final = "bench"
DATABASE: Final = "people"
# The server refuses to run as root; Debian's package brings this user.
UNPRIVILEGED: Final = "postgres"


def create(folder: Path) -> None:
    """Make a cluster in `folder`, which is not there yet or empty, with an empty database `DATABASE`."""
    folder.mkdir(parents=True, exist_ok=True)
    _give_away(folder)
    _tool(folder, "initdb", "-D", folder, "-U", UNPRIVILEGED, "-E", "UTF8", "--locale=C.UTF-8")
    (folder / "pg_hba.conf").write_text(f"host all {USER} 127.0.0.1/32 trust\n")
    statements = f"CREATE ROLE {USER} LOGIN CREATEDB\nCREATE DATABASE {DATABASE} OWNER {USER}\n"
    _tool(folder, "postgres", "--single", "-D", folder, "postgres", text=statements)


def serving(folder: Path, port: int) -> Command:
    """Return the server of a cluster, of a copied one too."""
    _give_away(folder)
    # Immediate shutdown where the runner dies: what was committed is in the log.
    prefix = [*_as_unprivileged(), "--pdeathsig", "SIGQUIT"]
    sockets = ("-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories=")
    arguments: list[str | Path] = [*prefix, "postgres", "-D", folder, "-p", str(port), *sockets]
    return Command(arguments, ready=lambda: _answers(port))


def url(port: int, database: str = DATABASE, scheme: str = "postgresql") -> str:
    """Return the URL of a database."""
    return f"{scheme}://{USER}@127.0.0.1:{port}/{database}"


def sql(port: int, statement: str, database: str = DATABASE) -> str:
    """Execute a statement; return the rows, one a line, fields separated by |."""
    options = ("-XAtq", "-v", "ON_ERROR_STOP=1", "-h", "127.0.0.1", "-p", str(port), "-U", USER)
    return _output(["psql", *options, "-d", database, "-c", statement]).strip()


def schema(port: int, database: str) -> str:
    """Return the statements that would make the tables of a database."""
    dumped = _output(["pg_dump", "-s", "-h", "127.0.0.1", "-p", str(port), "-U", USER, database])
    # Comments name the version of pg_dump; newer ones add a \restrict with a word of chance.
    return "\n".join(line for line in dumped.splitlines() if line and not line.startswith(("--", "\\")))


def tidy(port: int, database: str = DATABASE) -> None:
    """Do now what autovacuum would do some time after the import of people, in the midst of a run perhaps."""
    sql(port, "VACUUM (ANALYZE) people", database)


def major_version() -> str:
    """Return the number that a cluster belongs to."""
    return _output(["postgres", "--version"]).split()[2].partition(".")[0]


def _answers(port: int) -> bool:
    command = ["pg_isready", "-q", "-h", "127.0.0.1", "-p", str(port)]
    return subprocess.run(command, check=False).returncode == 0


def _as_unprivileged() -> list[str]:
    if os.geteuid():
        return ["setpriv"]
    return ["setpriv", "--reuid", UNPRIVILEGED, "--regid", UNPRIVILEGED, "--clear-groups"]


def _give_away(folder: Path) -> None:
    if os.geteuid() == 0:
        for path in [folder, *folder.rglob("*")]:
            shutil.chown(path, UNPRIVILEGED, UNPRIVILEGED)
        folder.chmod(0o700)


def _tool(folder: Path, *arguments: str | Path, text: str = "") -> str:
    return _output([*_as_unprivileged(), *arguments], folder, text)


def _output(arguments: list[str | Path], folder: Path | None = None, text: str = "") -> str:
    done = subprocess.run(arguments, cwd=folder, input=text, capture_output=True, text=True, check=False)
    if done.returncode:
        raise BenchError(f"{' '.join(map(str, arguments))} failed:\n{done.stdout}{done.stderr}")
    return done.stdout
