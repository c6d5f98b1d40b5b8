"""What the conformance suite needs of SQLite besides the backend itself."""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from sqlalchemy import make_url


class Transaction:
    """A transaction of the caller's, on the driver's own connection."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection
        self.commit = connection.commit
        self.rollback = connection.rollback


class SqliteHooks:
    """Found through the entry point ``sqlite`` of the group ``minion.conformance``."""

    server = False

    @contextmanager
    def fresh(self, url: str) -> Iterator[str]:  # noqa: ARG002, every backend's hooks get the URL
        """Answer the URL of a file that does not exist yet."""
        with tempfile.TemporaryDirectory(prefix="minion-") as folder:
            yield f"sqlite:///{folder}/jobs.db"

    def unreachable(self, url: str) -> str:  # noqa: ARG002
        """Answer the URL of a file in a folder that does not exist."""
        return "sqlite:////nonexistent/folder/jobs.db"

    @contextmanager
    def transaction(self, url: str) -> Iterator[Transaction]:
        """Begin a transaction beside the backend's own connections."""
        with closing(self._connect(url)) as connection:
            yield Transaction(connection)

    def make_newer(self, url: str) -> None:
        """Leave a schema of a later version behind."""
        with closing(self._connect(url)) as connection, connection:
            connection.execute("CREATE TABLE minion_migrations (number INTEGER PRIMARY KEY)")
            connection.execute("INSERT INTO minion_migrations VALUES (1000000)")

    def make_foreign(self, url: str) -> None:
        """Leave the tables of Perl's Minion::Backend::SQLite behind, with a job in them."""
        with closing(self._connect(url)) as connection, connection:
            connection.execute(
                "CREATE TABLE mojo_migrations (name TEXT UNIQUE NOT NULL, version INTEGER NOT NULL)"
            )
            connection.execute("INSERT INTO mojo_migrations VALUES ('minion', 10)")
            connection.execute(
                "CREATE TABLE minion_jobs (id INTEGER PRIMARY KEY, args TEXT, task TEXT NOT NULL)"
            )
            connection.execute("INSERT INTO minion_jobs (args, task) VALUES ('[]', 'theirs')")

    def fingerprint(self, url: str) -> str:
        """Answer everything that is stored, as text."""
        with closing(self._connect(url)) as connection:
            return "\n".join(connection.iterdump())

    def _connect(self, url: str) -> sqlite3.Connection:
        return sqlite3.connect(Path(make_url(url).database or ""))
