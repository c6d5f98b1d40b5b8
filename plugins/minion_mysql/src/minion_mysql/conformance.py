"""What the conformance suite needs of MySQL and MariaDB besides the backend itself."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from typing import Any
from unittest.mock import patch
from uuid import uuid4

import pymysql
from attrs import frozen
from pymysql.constants import CR
from sqlalchemy import make_url

from minion_core.records import DequeueOptions
from minion_core.sql import Work
from minion_mysql.backend import MysqlBackend
from minion_mysql.claiming import claim
from minion_mysql.connections import Connection, connect


@frozen
class Transaction:
    """A transaction of the caller's, on the driver's own connection."""

    connection: Any

    def commit(self) -> None:
        """Commit it."""
        self.connection.commit()

    def rollback(self) -> None:
        """Roll it back."""
        self.connection.rollback()


class MysqlHooks:
    """Found through the entry points ``mysql`` and ``mariadb`` of the group ``minion.conformance``."""

    server = True

    @contextmanager
    def fresh(self, url: str) -> Iterator[str]:
        """Make an empty database beside the one of the URL; its account must have the right."""
        name = f"minion_fresh_{uuid4().hex[:12]}"
        self.run(url, f"CREATE DATABASE {name}")
        try:
            yield make_url(url).set(database=name).render_as_string(hide_password=False)
        finally:
            self.run(url, f"DROP DATABASE {name}")

    def unreachable(self, url: str) -> str:
        """Answer a URL at which nobody listens."""
        return make_url(url).set(host="127.0.0.1", port=9).render_as_string(hide_password=False)

    @contextmanager
    def transaction(self, url: str) -> Iterator[Transaction]:
        """Begin a transaction on a connection with pymysql's own defaults."""
        parsed = make_url(url)
        options: dict[str, Any] = {
            "host": parsed.host or "localhost",
            "port": parsed.port or 3306,
            "user": parsed.username,
            "password": str(parsed.password or ""),
            "database": parsed.database,
        }
        with closing(pymysql.connect(**options)) as connection:
            yield Transaction(connection)

    @contextmanager
    def hold_claim(self, url: str, options: DequeueOptions, worker: int) -> Iterator[list[int]]:
        """Claim, and give it up again, without a commit in between."""
        with MysqlBackend(url) as backend, backend.engine.connect() as connection:
            transaction = backend.begin_writing(connection)
            transaction.__enter__()
            try:
                yield [job.id for job in claim(Work(connection, backend, backend.tables), worker, options)]
            finally:
                transaction.__exit__(RuntimeError)

    @contextmanager
    def lose_answer(self, backend: object) -> Iterator[None]:  # noqa: ARG002 - of whichever commits next
        """Have the connection break after the next commit was done and before its answer arrives."""
        query = Connection.query
        lost: list[Connection] = []

        def lose_one(connection: Connection, sql: str | bytes, unbuffered: bool = False) -> int:
            answer = query(connection, sql, unbuffered)
            if sql == "COMMIT" and not lost:
                lost.append(connection)
                connection.close()
                raise pymysql.err.OperationalError(CR.CR_SERVER_LOST, "Lost connection during query")
            return answer

        with patch.object(Connection, "query", lose_one):
            yield

    def make_newer(self, url: str) -> None:
        """Leave a schema of a later version behind."""
        self.run(
            url,
            "CREATE TABLE minion_migrations (number INT NOT NULL PRIMARY KEY)",
            "INSERT INTO minion_migrations VALUES (1000000)",
        )

    def make_foreign(self, url: str) -> None:
        """Leave the tables of Perl's Minion::Backend::mysql behind, with a job in them."""
        self.run(url, *PERLS_TABLES)

    def fingerprint(self, url: str) -> str:
        """Answer everything that is stored, as text."""
        tables = [row[0] for row in self.run(url, "SHOW TABLES")]
        return "\n".join(
            f"{self.run(url, f'SHOW CREATE TABLE {table}')} {self.run(url, f'SELECT * FROM {table}')}"
            for table in sorted(tables)
        )

    def run(self, url: str, *statements: str) -> Sequence[Any]:
        """Run statements one by one and answer the rows of the last."""
        rows: Sequence[Any] = ()
        with closing(connect(make_url(url), {})) as connection, connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)
                rows = cursor.fetchall()
        return rows


PERLS_TABLES = (
    "CREATE TABLE mojo_migrations (name VARCHAR(191) UNIQUE NOT NULL, version BIGINT NOT NULL)",
    "INSERT INTO mojo_migrations VALUES ('minion', 16)",
    """CREATE TABLE minion_jobs (
        id       SERIAL NOT NULL PRIMARY KEY,
        args     MEDIUMBLOB NOT NULL,
        created  TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP,
        `delayed` TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP,
        priority INT NOT NULL DEFAULT 0,
        queue    VARCHAR(128) NOT NULL DEFAULT 'default',
        retries  INT NOT NULL DEFAULT 0,
        state    ENUM('inactive', 'active', 'finished', 'failed') NOT NULL DEFAULT 'inactive',
        task     VARCHAR(191) NOT NULL
    )""",
    "CREATE TABLE minion_workers (id SERIAL NOT NULL PRIMARY KEY, host TEXT NOT NULL, pid INT NOT NULL)",
    "CREATE TABLE minion_jobs_depends (parent_id BIGINT UNSIGNED, child_id BIGINT UNSIGNED)",
    "INSERT INTO minion_jobs (args, task) VALUES ('[]', 'theirs')",
)
