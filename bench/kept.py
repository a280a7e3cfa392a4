"""hello's stores of different sizes, kept in the cache, so that they are imported once."""

import hashlib
import shutil
import sqlite3
from collections.abc import Sequence
from contextlib import ExitStack, closing
from pathlib import Path

from bench import postgresql
from bench.people import write_csv
from bench.processes import Running, free_port, run
from bench.servers import CACHE, importing, migrating


class Kept:
    """The stores of one engine. `folder` keeps them; what belongs to one has its name before a dot."""

    key: str
    title: str
    programs: Sequence[str] = ()
    folder: Path

    def open(self, stack: ExitStack, work: Path, core: int) -> None:
        """Start what the stores need, until the stack ends; stores of an older schema are not used again."""
        raise NotImplementedError

    def name(self, people: int) -> str:
        """Return the name of the store of a size."""
        return str(people)

    def make(self, people: int, core: int) -> str:
        """Make an empty store, in the place of one that may be there; return its URL."""
        raise NotImplementedError

    def url(self, people: int) -> str:
        """Return the URL of a store."""
        raise NotImplementedError

    def settle(self, people: int) -> None:
        """Do what an operator does after an import."""

    def files(self, people: int) -> Sequence[Path]:
        """Return the files of a store, which hold nothing else."""
        raise NotImplementedError


class KeptSQLite(Kept):
    """A file for each size."""

    key, title = "sqlite", "SQLite"

    def open(self, stack: ExitStack, work: Path, core: int) -> None:
        csv, database = work / "one.csv", work / "one.db"
        write_csv(csv, 1)
        run(importing(csv, f"sqlite:///{database}"), work, core)
        with closing(sqlite3.connect(database)) as connection:
            rows = connection.execute("SELECT sql FROM sqlite_schema ORDER BY name").fetchall()
            rows += connection.execute("PRAGMA user_version").fetchall()
        self.folder = CACHE / "sizes" / _digest(repr(rows))
        self.folder.mkdir(parents=True, exist_ok=True)

    def make(self, people: int, core: int) -> str:
        for old in self.folder.glob(f"{people}.*"):
            old.unlink()
        return self.url(people)

    def url(self, people: int) -> str:
        return f"sqlite:///{self.folder / self.name(people)}.db"

    def files(self, people: int) -> Sequence[Path]:
        return [self.folder / f"{self.name(people)}.db"]


class KeptPostgreSQL(Kept):
    """A database for each size and schema in one cluster, on the core of the services."""

    key, title, programs = "postgresql", "PostgreSQL", postgresql.PROGRAMS

    def open(self, stack: ExitStack, work: Path, core: int) -> None:
        self.folder = CACHE / "sizes" / f"postgresql-{postgresql.major_version()}"
        self._cluster = self.folder / "cluster"
        whole = self.folder / "whole"
        if not whole.exists():
            shutil.rmtree(self._cluster, ignore_errors=True)
            postgresql.create(self._cluster)
            whole.touch()
        self._port = free_port()
        stack.enter_context(Running([postgresql.serving(self._cluster, self._port)], work, core))
        run(migrating(postgresql.url(self._port)), work, core)
        self._schema = _digest(postgresql.schema(self._port, postgresql.DATABASE))

    def name(self, people: int) -> str:
        return f"people_{people}_{self._schema}"

    def make(self, people: int, core: int) -> str:
        name = self.name(people)
        (self.folder / f"{name}.json").unlink(missing_ok=True)
        postgresql.sql(self._port, f"DROP DATABASE IF EXISTS {name}")
        postgresql.sql(self._port, f"CREATE DATABASE {name}")
        run(migrating(self.url(people)), self.folder, core)
        return self.url(people)

    def url(self, people: int) -> str:
        return postgresql.url(self._port, self.name(people))

    def settle(self, people: int) -> None:
        postgresql.tidy(self._port, self.name(people))

    def files(self, people: int) -> Sequence[Path]:
        number = postgresql.sql(
            self._port, f"SELECT oid FROM pg_database WHERE datname = '{self.name(people)}'"
        )
        return sorted((self._cluster / "base" / number).iterdir())


KEPT: Sequence[Kept] = (KeptSQLite(), KeptPostgreSQL())


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]
