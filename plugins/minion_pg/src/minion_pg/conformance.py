"""What the conformance suite needs of PostgreSQL besides the backend itself."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import psycopg

from minion_core.records import DequeueOptions
from minion_pg import claiming
from minion_pg.backend import PgBackend


class Transaction:
    """A transaction of the caller's, on the driver's own connection."""

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self.connection = connection
        self.commit = connection.commit
        self.rollback = connection.rollback


class PgHooks:
    """Found through the entry point ``postgresql`` of the group ``minion.conformance``."""

    server = True

    @contextmanager
    def fresh(self, url: str) -> Iterator[str]:
        """Make an empty database beside the one of the URL, and drop it afterwards."""
        name = f"minion_fresh_{uuid4().hex[:12]}"
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}".encode())
            try:
                yield urlunsplit(urlsplit(url)._replace(path=f"/{name}"))
            finally:
                connection.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())

    def unreachable(self, url: str) -> str:  # noqa: ARG002, every backend's hooks get the URL
        """Answer the URL of a port that nobody serves."""
        return "postgresql://nobody:s3cret@127.0.0.1:1/nowhere"

    @contextmanager
    def transaction(self, url: str) -> Iterator[Transaction]:
        """Begin a transaction beside the backend's own connections."""
        connection = psycopg.connect(url)
        try:
            yield Transaction(connection)
        finally:
            connection.close()

    @contextmanager
    def hold_claim(self, url: str, options: DequeueOptions, worker: int) -> Iterator[list[int]]:
        """Claim one job and leave the claim uncommitted for as long as the context lasts."""
        values = claiming.parameters(options, None) | {"worker": worker, "look": True, "limit": 1}
        connection = psycopg.connect(url)
        try:
            rows = connection.execute(claiming.claim_statement(options).encode(), values).fetchall()
            yield [row[2] for row in rows if row[2] is not None]
        finally:
            connection.rollback()
            connection.close()

    @contextmanager
    def outage(self, url: str) -> Iterator[None]:
        """Let nobody in, and cut off who is in; what a client sees of it is a server that went away."""
        name = urlsplit(url).path.lstrip("/")
        with psycopg.connect(urlunsplit(urlsplit(url)._replace(path="/postgres")), autocommit=True) as admin:
            admin.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false'.encode())
            try:
                _cut_off(admin, name)
                yield
            finally:
                admin.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true'.encode())

    @contextmanager
    def lose_answer(self, backend: Any) -> Iterator[None]:
        """Have the next statement take effect, and the connection end before its answer is seen."""
        backend = getattr(backend, "unrecorded", backend)
        once_before = backend._once  # noqa: SLF001 - the door that all hot statements go through

        def once(function: Callable[[Any], Any]) -> Any:

            def lossy(driver: psycopg.Connection[Any]) -> None:
                function(driver)
                driver.close()
                raise psycopg.OperationalError("server closed the connection unexpectedly")

            del backend._once  # noqa: SLF001
            return once_before(lossy)

        backend._once = once  # noqa: SLF001
        try:
            yield
        finally:
            vars(backend).pop("_once", None)

    def make_newer(self, url: str) -> None:
        """Leave a schema of a later version behind."""
        with PgBackend(url), psycopg.connect(url) as connection:
            connection.execute("INSERT INTO minion_migrations VALUES (1000000)")

    def make_foreign(self, url: str) -> None:
        """Leave a table behind that has the name of ours, and nothing else in common with it."""
        with psycopg.connect(url) as connection:
            connection.execute("CREATE TABLE minion_jobs (id INTEGER PRIMARY KEY, what TEXT)")
            connection.execute("INSERT INTO minion_jobs VALUES (1, 'theirs')")

    def fingerprint(self, url: str) -> str:
        """Answer everything that is stored, as text."""
        with psycopg.connect(url) as connection:
            tables = connection.execute(
                """SELECT table_name,
                    STRING_AGG(column_name || ' ' || data_type, ', ' ORDER BY ordinal_position)
                FROM information_schema.columns WHERE table_schema = 'public' GROUP BY 1 ORDER BY 1"""
            ).fetchall()
            content = [
                connection.execute(f'SELECT t::TEXT FROM "{table}" AS t ORDER BY 1'.encode()).fetchall()
                for table, _ in tables
            ]
        return repr((tables, content))


def _cut_off(admin: psycopg.Connection[Any], name: str) -> None:
    for _ in range(100):
        left = admin.execute(
            "SELECT COUNT(PG_TERMINATE_BACKEND(pid)) FROM pg_stat_activity WHERE datname = %s", (name,)
        ).fetchone()
        if not left or not left[0]:
            return
        time.sleep(0.02)
