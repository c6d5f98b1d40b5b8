"""The driver alone, as the yardstick: the least code that stores, claims and finishes jobs."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

if TYPE_CHECKING:
    import psycopg
    import pymysql


class RawDriver(ABC):
    """One table, one connection, no guarantees beyond the commit."""

    @abstractmethod
    def insert_one(self, count: int) -> None:
        """Insert jobs, a commit each."""

    @abstractmethod
    def insert_many(self, count: int) -> None:
        """Insert jobs in one transaction, the fastest way the driver has."""

    @abstractmethod
    def claim(self, limit: int) -> list[int]:
        """Take the best jobs in one transaction, and read what performing them needs."""

    @abstractmethod
    def finish(self, ids: Sequence[int]) -> None:
        """Finish jobs in one transaction."""

    @abstractmethod
    def empty(self) -> None:
        """Delete all rows."""


class RawSqlite(RawDriver):
    def __init__(self, connection: sqlite3.Connection, table: str, task: str, args: list[object]) -> None:
        self.connection = connection
        self.table = table
        now = int(time.time() * 1e6)
        self.row = (json.dumps(args), now, now, task)
        self.insert = f"INSERT INTO {table} (args, created, delayed, task) VALUES (?, ?, ?, ?)"
        self.task = task

    def insert_one(self, count: int) -> None:
        for _ in range(count):
            self.connection.execute("BEGIN IMMEDIATE")
            self.connection.execute(self.insert, self.row)
            self.connection.execute("COMMIT")

    def insert_many(self, count: int) -> None:
        self.connection.execute("BEGIN IMMEDIATE")
        self.connection.executemany(self.insert, [self.row] * count)
        self.connection.execute("COMMIT")

    def claim(self, limit: int) -> list[int]:
        self.connection.execute("BEGIN IMMEDIATE")
        rows = self.connection.execute(
            f"UPDATE {self.table} SET state = 'active', worker = 1, started = ? WHERE id IN ("
            f"SELECT id FROM {self.table} WHERE state = 'inactive' AND hold = 0 AND queue = 'default'"
            " AND task = ? ORDER BY priority DESC, id LIMIT ?) RETURNING id, task, args, retries",
            (int(time.time() * 1e6), self.task, limit),
        ).fetchall()
        self.connection.execute("COMMIT")
        return [row[0] for row in rows]

    def finish(self, ids: Sequence[int]) -> None:
        now = int(time.time() * 1e6)
        self.connection.execute("BEGIN IMMEDIATE")
        self.connection.executemany(
            f"UPDATE {self.table} SET state = 'finished', finished = ?, result = '\"ok\"'"
            " WHERE id = ? AND retries = 0 AND state = 'active'",
            [(now, id) for id in ids],
        )
        self.connection.execute("COMMIT")

    def empty(self) -> None:
        self.connection.execute(f"DELETE FROM {self.table}")


class RawPostgres(RawDriver):
    """psycopg, with prepared statements, arrays and COPY."""

    def __init__(
        self, connection: psycopg.Connection[Any], table: str, task: str, args: list[object]
    ) -> None:
        self.connection = connection
        self.task = task
        self.args = json.dumps(args)
        # On the backend's own tables, a row says that it is not Perl's.
        ours, self.marked = (", touched", "\t1") if table == "minion_jobs" else ("", "")
        one = ", 1" if ours else ""
        mark = ", touched = touched + 1" if ours else ""
        ready = "(CASE WHEN state = 'inactive' THEN hold END) = 0"
        columns = f"args, created, delayed, priority, task{ours}"
        self.insert = f"INSERT INTO {table} ({columns}) VALUES (%s, now(), now(), 0, %s{one})"
        self.copy = f"COPY {table} ({columns}) FROM STDIN"
        self.take = (
            f"UPDATE {table} SET state = 'active', worker = 1, started = now(){mark}"
            f" WHERE id IN (SELECT id FROM {table} WHERE {ready} AND queue = 'default' AND task = %s"
            " ORDER BY priority DESC, id LIMIT %s FOR UPDATE SKIP LOCKED) RETURNING id, task, args, retries"
        )
        self.end = (
            f"UPDATE {table} SET state = 'finished', finished = now(), result = '\"ok\"'{mark}"
            " WHERE id = ANY (%s) AND retries = 0 AND state::text = 'active'"
        )
        self.delete = f"DELETE FROM {table}"

    def insert_one(self, count: int) -> None:
        for _ in range(count):
            self.connection.execute(self.insert.encode(), (self.args, self.task), prepare=True)

    def insert_many(self, count: int) -> None:
        moment = datetime.now(UTC).isoformat()
        row = f"{self.args}\t{moment}\t{moment}\t0\t{self.task}{self.marked}\n"
        with self.connection.cursor() as cursor, cursor.copy(self.copy.encode()) as copy:
            copy.write(row * count)

    def claim(self, limit: int) -> list[int]:
        rows = self.connection.execute(self.take.encode(), (self.task, limit), prepare=True).fetchall()
        return [row[0] for row in rows]

    def finish(self, ids: Sequence[int]) -> None:
        self.connection.execute(self.end.encode(), (ids,), prepare=True)

    def empty(self) -> None:
        self.connection.execute(self.delete.encode())


class RawMysql(RawDriver):
    """pymysql, with statements of many rows."""

    def __init__(
        self, connection: pymysql.Connection[Any], table: str, task: str, args: list[object]
    ) -> None:
        self.connection = connection
        self.table = table
        self.task = task
        now = int(time.time() * 1e6)
        empty = ("[]", "{}", "{}") if table == "minion_jobs" else ()
        columns = ", parents, kwargs, notes" if empty else ""
        values = ", ".join(["%s"] * (5 + len(empty)))
        self.row = (json.dumps(args), now, now, "default", task, *empty)
        # pymysql makes one statement of many rows only of this form.
        self.insert = (
            f"INSERT INTO {table} (args, created, `delayed`, queue, task{columns}) VALUES ({values})"
        )
        self.ready = "ready = 1" if empty else "state = 'inactive' AND hold = 0"
        self.order = "turn" if empty else "priority DESC"

    def _run(self, statement: str, values: Sequence[object] = ()) -> Sequence[Any]:
        with self.connection.cursor() as cursor:
            cursor.execute(statement, values)
            rows: Sequence[Any] = cursor.fetchall()
            return rows

    def insert_one(self, count: int) -> None:
        for _ in range(count):
            self._run(self.insert, self.row)
            self.connection.commit()

    def insert_many(self, count: int) -> None:
        with self.connection.cursor() as cursor:
            cursor.executemany(self.insert, [self.row] * count)
        self.connection.commit()

    def claim(self, limit: int) -> list[int]:
        rows = self._run(
            f"SELECT id, task, args, retries FROM {self.table} WHERE {self.ready}"
            f" AND queue = 'default' AND task = %s ORDER BY {self.order}, id LIMIT %s FOR UPDATE SKIP LOCKED",
            (self.task, limit),
        )
        ids = [row[0] for row in rows]
        self._run(
            f"UPDATE {self.table} SET state = 'active', worker = 1, started = %s WHERE id IN %s",
            (int(time.time() * 1e6), ids),
        )
        self.connection.commit()
        return ids

    def finish(self, ids: Sequence[int]) -> None:
        self._run(
            f"UPDATE {self.table} SET state = 'finished', finished = %s, result = '\"ok\"'"
            " WHERE id IN %s AND retries = 0 AND state = 'active'",
            (int(time.time() * 1e6), list(ids)),
        )
        self.connection.commit()

    def empty(self) -> None:
        self._run(f"TRUNCATE {self.table}" if self.table == "raw_jobs" else f"DELETE FROM {self.table}")
        self.connection.commit()


PLAIN_MYSQL = """
CREATE TABLE IF NOT EXISTS raw_jobs (
  id BIGINT AUTO_INCREMENT PRIMARY KEY, args LONGTEXT, created BIGINT, `delayed` BIGINT, finished BIGINT,
  hold TINYINT DEFAULT 0, priority INT DEFAULT 0, queue VARCHAR(255), result LONGTEXT, retries INT DEFAULT 0,
  started BIGINT, state ENUM('inactive', 'active', 'failed', 'finished') DEFAULT 'inactive',
  task VARCHAR(255), worker BIGINT, KEY raw_jobs_claim (state, hold, queue, task, priority DESC, id))
"""

PLAIN_POSTGRES = """
CREATE TABLE IF NOT EXISTS raw_jobs (
  id BIGSERIAL PRIMARY KEY, args JSONB, created TIMESTAMPTZ, delayed TIMESTAMPTZ, finished TIMESTAMPTZ,
  hold SMALLINT DEFAULT 0, priority INT DEFAULT 0, queue TEXT DEFAULT 'default', result JSONB,
  retries INT DEFAULT 0, started TIMESTAMPTZ, state TEXT DEFAULT 'inactive', task TEXT, worker BIGINT);
CREATE INDEX IF NOT EXISTS raw_jobs_claim ON raw_jobs (queue, task, priority DESC, id)
  WHERE (CASE WHEN state = 'inactive' THEN hold END) = 0;
"""

PLAIN_SQLITE = """
CREATE TABLE IF NOT EXISTS raw_jobs (
  id INTEGER PRIMARY KEY, args TEXT, created INTEGER, delayed INTEGER, finished INTEGER,
  hold INTEGER DEFAULT 0, priority INTEGER DEFAULT 0, queue TEXT DEFAULT 'default', result TEXT,
  retries INTEGER DEFAULT 0, started INTEGER, state TEXT DEFAULT 'inactive', task TEXT, worker INTEGER);
CREATE INDEX IF NOT EXISTS raw_jobs_claim ON raw_jobs (queue, task, priority DESC, id)
  WHERE state = 'inactive' AND hold = 0;
"""


@contextlib.contextmanager
def raw_driver(url: str, task: str, args: list[object]) -> Iterator[tuple[RawDriver, RawDriver]]:
    """Answer the driver on the backend's own tables, and on the plainest one.

    Args:
        url: The store; the backend has made its tables there.
        task: The task of every job.
        args: The arguments of every job.
    """
    parsed = sa.make_url(url)
    drivers = {
        "sqlite": _raw_sqlite,
        "postgresql": _raw_postgres,
        "mysql": _raw_mysql,
        "mariadb": _raw_mysql,
    }
    if parsed.get_backend_name() not in drivers:
        raise SystemExit(f"No raw driver for {parsed.get_backend_name()}: add one to benchmarks/raw.py")
    with drivers[parsed.get_backend_name()](url, task, args) as both:
        yield both


@contextlib.contextmanager
def _raw_sqlite(url: str, task: str, args: list[object]) -> Iterator[tuple[RawDriver, RawDriver]]:
    parsed = sa.make_url(url)
    connection = sqlite3.connect(str(parsed.database), isolation_level=None)
    connection.execute(f"PRAGMA synchronous = {parsed.query.get('synchronous', 'full')}")
    connection.executescript(PLAIN_SQLITE)
    yield (
        RawSqlite(connection, "minion_jobs", task, args),
        RawSqlite(connection, "raw_jobs", task, args),
    )
    connection.execute("DROP TABLE raw_jobs")
    connection.close()


@contextlib.contextmanager
def _raw_postgres(url: str, task: str, args: list[object]) -> Iterator[tuple[RawDriver, RawDriver]]:
    import psycopg  # noqa: PLC0415 - only who measures PostgreSQL needs it

    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(PLAIN_POSTGRES)
        yield (
            RawPostgres(connection, "minion_jobs", task, args),
            RawPostgres(connection, "raw_jobs", task, args),
        )
        connection.execute("DROP TABLE raw_jobs")


@contextlib.contextmanager
def _raw_mysql(url: str, task: str, args: list[object]) -> Iterator[tuple[RawDriver, RawDriver]]:
    import pymysql  # noqa: PLC0415 - only who measures MySQL needs it

    parsed = sa.make_url(url)
    connection = pymysql.connect(
        host=parsed.host or "localhost",
        port=parsed.port or 3306,
        user=parsed.username,
        password=parsed.password or "",
        database=parsed.database,
        init_command="SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED",
    )
    with connection, connection.cursor() as cursor:
        cursor.execute("DROP TABLE IF EXISTS raw_jobs")
        cursor.execute(PLAIN_MYSQL)
        yield (
            RawMysql(connection, "minion_jobs", task, args),
            RawMysql(connection, "raw_jobs", task, args),
        )
        cursor.execute("DROP TABLE raw_jobs")
