"""The SQLite backend: what the toolkit's seams are on a file that one process at a time may write."""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy.pool import NullPool

from minion_core.backend import Clock
from minion_core.errors import BackendUnavailable, SchemaError
from minion_core.records import Capabilities, ClaimedJob, DequeueOptions, Finished
from minion_core.sql import SqlBackend, Work
from minion_core.sql.backend import TRIES
from minion_core.sql.readiness import next_due
from minion_core.values import encode_json
from minion_sqlite import writing
from minion_sqlite.claiming import claim, may_be_claimable
from minion_sqlite.migrations import MIGRATIONS
from minion_sqlite.watching import Watch

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement

OLDEST_SQLITE = (3, 35, 0)
"""The first with RETURNING."""

SYNCHRONOUS = ("full", "normal", "extra")

BUSY_TIMEOUT = 30.0
"""Seconds that a writer waits for another one, all its tries together."""

LOOK_AT_CLOCK = 0.004
"""Seconds between two looks at a clock of the caller's, which may leap."""

QUIET = 0.05
"""After so many seconds without a commit, a waiter looks at once after the next one."""

LOOK_LATER = 0.001
LOOKS_IN_VAIN = 10
"""A waiter that found nothing waits a millisecond more before each look, up to ten."""

TRANSIENT = ("SQLITE_BUSY", "SQLITE_LOCKED")
UNAVAILABLE = (
    "SQLITE_CANTOPEN",
    "SQLITE_IOERR",
    "SQLITE_FULL",
    "SQLITE_READONLY",
    "SQLITE_NOTADB",
    "SQLITE_PERM",
)


class SqliteBackend(SqlBackend):
    """Jobs in an SQLite file: ``sqlite:///relative.db``, ``sqlite:////absolute.db``.

    Options in the URL's query: ``synchronous=full|normal|extra`` (full: an acknowledged job survives the
    loss of power; normal: it survives a crash of every process, and commits are faster), and
    ``busy_timeout=SECONDS`` (30), how long a writer waits for another one before it raises
    ``BackendUnavailable``.
    """

    capabilities = Capabilities(
        transactional_enqueue=True,
        wakeup=True,
        concurrent_claims=False,
        multi_process=True,
        durable=True,
        server_clock=False,
        uptime=False,
        time_resolution=0.000_001,
    )
    driver_error = sqlite3.Error
    migrations = MIGRATIONS

    def __init__(self, url: str, *, clock: Clock | None = None) -> None:
        super().__init__(url, clock=clock)
        self._watches: list[Watch] = []
        parsed = self.parsed_url
        if not parsed.database or parsed.database == ":memory:" or parsed.host:
            raise ValueError(
                f"{self.safe_url} names no file: write sqlite:///jobs.db for a file in the current folder,"
                " or sqlite:////path/to/jobs.db"
            )
        options = dict(parsed.query)
        self.path = Path(parsed.database)
        self.synchronous = str(options.pop("synchronous", "full")).lower()
        if self.synchronous not in SYNCHRONOUS:
            raise ValueError(f"synchronous must be one of {', '.join(SYNCHRONOUS)}, not {self.synchronous}")
        try:
            self.busy_timeout = float(str(options.pop("busy_timeout", BUSY_TIMEOUT)))
        except ValueError:
            raise ValueError("busy_timeout must be a number of seconds") from None
        if options:
            raise ValueError(
                f"Unknown options in the URL: {', '.join(options)}; known: synchronous, busy_timeout"
            )

    # -- Connections --------------------------------------------------------------------------------------

    def make_engine(self) -> sa.Engine:
        if sqlite3.sqlite_version_info < OLDEST_SQLITE:
            raise SchemaError(f"SQLite {sqlite3.sqlite_version} is too old: 3.35 or newer is needed")
        if not self.path.parent.is_dir():
            raise BackendUnavailable(f"{self.safe_url}: there is no folder {self.path.parent}, make it first")
        return sa.create_engine(
            "sqlite://",
            creator=self._connect,
            poolclass=sa.QueuePool,
            max_overflow=-1,
            pool_reset_on_return=None,  # our transactions end themselves
        )

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self.path, timeout=self.busy_timeout / TRIES, isolation_level=None, check_same_thread=False
        )
        try:
            connection.execute(f"PRAGMA synchronous = {self.synchronous}")
            connection.execute("PRAGMA cache_size = -16000")
        except BaseException:
            connection.close()
            raise
        return connection

    def check_store(self, connection: sa.Connection) -> None:
        tables = set(sa.inspect(connection).get_table_names())
        ours = {table.name for table in self.tables.all}
        if "minion_migrations" not in tables and (foreign := tables & ours):
            raise SchemaError(
                f"{self.safe_url} was made by another program: its table {min(foreign)} is not ours."
                " It was left alone; choose another file"
            )

    def hold_migrations(self, connection: sa.Connection) -> None:
        """Writers exclude each other as it is."""

    def open(self, *, migrate: bool = True) -> None:
        opened_before = self._engine is not None
        super().open(migrate=migrate)
        if not opened_before:
            self._write_ahead()

    def _write_ahead(self) -> None:
        """Let readers and a writer work at the same time, from now on and for whoever opens the file.

        Done when the file is known to be ours. Only one process can change the mode, hence the patience.
        """
        deadline = time.monotonic() + self.busy_timeout
        while True:
            with self.engine.connect() as connection:
                try:
                    Work(connection, self, self.tables).driver.execute("PRAGMA journal_mode = WAL").fetchall()
                except sqlite3.Error as error:
                    if not self.is_transient(error) or time.monotonic() > deadline:
                        raise self.translate(error) from error
                else:
                    return
            time.sleep(0.01)

    def describe(self) -> str:
        return f"SQLite {sqlite3.sqlite_version}, {self.path}, synchronous={self.synchronous}"

    # -- Transactions -------------------------------------------------------------------------------------

    def begin_reading(self, connection: sa.Connection) -> _Transaction:
        return _Transaction(connection, "BEGIN")

    def begin_writing(self, connection: sa.Connection) -> _Transaction:
        return _Transaction(connection, "BEGIN IMMEDIATE")

    @contextlib.contextmanager
    def borrow(self, connection: Any) -> Iterator[sa.Connection]:
        from sqlalchemy.orm import Session  # noqa: PLC0415  # a third of SQLAlchemy's import, and seldom needed

        if isinstance(connection, Session):
            connection = connection.connection()
        if isinstance(connection, sa.Connection):
            # Something sent through SQLAlchemy, so that it knows of the transaction that the caller will end.
            connection.exec_driver_sql("SELECT 1")
            _begin_unless_begun(connection.connection.driver_connection)
            yield connection
        elif isinstance(connection, sqlite3.Connection):
            _begin_unless_begun(connection)
            engine = sa.create_engine("sqlite://", creator=lambda: _Borrowed(connection), poolclass=NullPool)
            with engine.connect() as borrowed:
                yield borrowed
        else:
            raise TypeError(
                "connection must be a sqlite3 connection, or an SQLAlchemy connection or session,"
                f" not {type(connection).__name__}"
            )

    def is_transient(self, error: BaseException) -> bool:
        return _error_name(error).startswith(TRANSIENT)

    def is_unavailable(self, error: BaseException) -> bool:
        return _error_name(error).startswith(UNAVAILABLE)

    def words_of(self, error: BaseException) -> str:
        if self.is_transient(error):
            return (
                f"another process kept it locked for too long; to wait for more than {self.busy_timeout:g} s,"
                " say so in the URL: ?busy_timeout=SECONDS"
            )
        return super().words_of(error)

    # -- Seams of statements ------------------------------------------------------------------------------

    def read_store_clock(self, work: Work) -> datetime:  # noqa: ARG002 - the file has no clock but ours
        return datetime.now(UTC)

    def lock_rows(
        self,
        select: sa.Select[Any],
        *,
        skip_locked: bool = False,  # noqa: ARG002 - there is nobody to skip
        share: bool = False,  # noqa: ARG002
    ) -> sa.Select[Any]:
        """A transaction that writes holds the whole file from its beginning."""
        return select

    def guard_lock(self, work: Work, name: str) -> None:
        """Nobody else writes."""

    def insert_jobs(self, work: Work, rows: Sequence[Mapping[str, Any]]) -> list[int]:
        return writing.insert_jobs(work, rows)

    def finish_jobs(self, work: Work, outcomes: Sequence[Finished]) -> list[bool]:
        return writing.finish_jobs(work, outcomes)

    def claim(self, work: Work, worker_id: int, options: DequeueOptions) -> list[ClaimedJob]:
        return claim(work, worker_id, options)

    def has_note(self, notes: ColumnElement[str], keys: Sequence[str]) -> ColumnElement[bool]:
        entry = sa.func.json_each(notes).table_valued("key", name="entry")
        return sa.select(sa.literal(1)).select_from(entry).where(entry.c.key.in_(keys)).exists()

    def among(self, column: ColumnElement[Any], items: Sequence[Any]) -> ColumnElement[bool]:
        # As JSON, since a statement takes a limited number of values.
        item = sa.func.json_each(encode_json(list(items), "the filter")).table_valued("value", name="item")
        return column.in_(sa.select(item.c.value))

    def count_enqueued(self, work: Work) -> int:
        return writing.last_id(work)

    # -- Waking -------------------------------------------------------------------------------------------

    def now(self) -> datetime:
        return datetime.now(UTC) if self.clock is None else self.clock().astimezone(UTC)

    def wait(self, timeout: float, options: DequeueOptions) -> None:
        with self.engine.connect() as connection, self._watch() as watch:
            driver: Any = connection.connection.driver_connection
            ends = time.monotonic() + timeout
            seen, looked = self._data_version(driver), time.monotonic()
            watch.look_at(self.path.with_name(f"{self.path.name}-wal"))  # which the line above has made
            if self.read(may_be_claimable, options):
                return
            due = self.read(next_due)
            in_vain = 0
            while (due is None or due > self.now()) and (now := time.monotonic()) < ends:
                watch.sleep(min(ends - now, self._pause(due, now - looked)))
                version = self._data_version(driver)
                if version != seen or time.monotonic() - looked >= self.poll_interval:
                    # Where others write all the time, each look for nothing makes the next one later.
                    in_vain = min(in_vain + 1, LOOKS_IN_VAIN) if time.monotonic() - looked < QUIET else 0
                    time.sleep(in_vain * LOOK_LATER)
                    seen, looked = self._data_version(driver), time.monotonic()
                    if self.read(may_be_claimable, options):
                        return
                    due = self.read(next_due)

    @contextlib.contextmanager
    def _watch(self) -> Iterator[Watch]:
        try:
            watch = self._watches.pop()
        except IndexError:
            watch = Watch()
        try:
            yield watch
        finally:
            self._watches.append(watch)

    def close(self) -> None:
        super().close()
        while self._watches:
            self._watches.pop().close()

    def _pause(self, due: datetime | None, since_look: float) -> float:
        """Answer for how long nothing needs a look, unless somebody writes."""
        if self.clock is not None:
            return LOOK_AT_CLOCK  # a caller's clock may leap
        pause = max(0.0, self.poll_interval - since_look)
        return pause if due is None else min(pause, max(0.0, (due - self.now()).total_seconds()))

    def _data_version(self, connection: sqlite3.Connection) -> object:
        try:
            return connection.execute("PRAGMA data_version").fetchone()
        except sqlite3.Error as error:
            raise self.translate(error) from error


class _Transaction:
    """A transaction on the driver itself: what SQLAlchemy would do around it costs as much as the insert."""

    def __init__(self, connection: sa.Connection, begin: str) -> None:
        self._driver: Any = connection.connection.driver_connection
        self._begin = begin

    def __enter__(self) -> None:
        self._driver.execute(self._begin)

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self._driver.execute("COMMIT")
        elif self._driver.in_transaction:
            self._driver.execute("ROLLBACK")


class _Borrowed:
    """The caller's connection, which we neither commit, nor roll back, nor close."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    def commit(self) -> None:
        """Leave it to the caller."""

    rollback = close = commit


def _begin_unless_begun(driver: Any) -> None:
    """Begin what Python's driver would only begin at the first insert: before that, a savepoint commits."""
    if not driver.in_transaction:
        driver.execute("BEGIN IMMEDIATE")


def _error_name(error: BaseException) -> str:
    return str(getattr(error, "sqlite_errorname", ""))
