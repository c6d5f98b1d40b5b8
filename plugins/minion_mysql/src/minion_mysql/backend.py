"""The MySQL and MariaDB backend: what the toolkit's seams are on a server that locks rows."""

from __future__ import annotations

import contextlib
import math
import re
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any
from zlib import crc32

import pymysql
import sqlalchemy as sa
from sqlalchemy.dialects.mysql import LONGTEXT
from sqlalchemy.types import TypeDecorator

from minion_core.backend import Clock
from minion_core.errors import BackendError, BackendUnavailable, SchemaError
from minion_core.records import (
    Capabilities,
    ClaimedJob,
    DequeueOptions,
    Enqueued,
    Finished,
    JobFilter,
    JobRecord,
    NewJob,
    Outcome,
    Page,
    RetryOptions,
    Settled,
)
from minion_core.sql import ColumnTypes, SqlBackend, Work, locks
from minion_core.sql.backend import replace_dead
from minion_core.sql.tables import LIVE, from_microseconds, in_state
from minion_core.values import encode_json
from minion_mysql import claiming, writing
from minion_mysql.connections import (
    ADVICE,
    NAMED_LOCK,
    TRANSIENT,
    UNAVAILABLE,
    Connection,
    Transaction,
    borrowed,
    code_of,
    connect,
    is_quiet,
)
from minion_mysql.migrations import GUARDS, MIGRATIONS
from minion_mysql.waking import Sleeper, Sleepers, Waker

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement
    from sqlalchemy.engine import Dialect

OLDEST_MYSQL = (8, 0, 1)
OLDEST_MARIADB = (10, 6, 0)
"""The first with SKIP LOCKED."""

MIGRATION_PATIENCE = 60
"""Seconds to wait for another process that is making the tables."""

JSON_TOO_DEEP = 3157

NUMBERS = ("connect_timeout", "read_timeout", "write_timeout")
TEXTS = ("unix_socket", "ssl_ca", "ssl_cert", "ssl_key")
SWITCHES = ("ssl_disabled", "ssl_verify_cert", "ssl_verify_identity")


class Name(TypeDecorator[str]):
    """Text that is equal only when its bytes are: no collation of both servers compares so."""

    impl = sa.String
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> Any:  # noqa: ARG002 - the base class's signature
        return value

    def process_result_value(self, value: Any, dialect: Dialect) -> str | None:  # noqa: ARG002
        return None if value is None else bytes(value).decode()


class MysqlBackend(SqlBackend):
    """Jobs in a MySQL or MariaDB database: ``mysql://user:password@host:3306/database``.

    Options in the URL's query, as pymysql knows them: ``unix_socket``, ``ssl_ca``, ``ssl_cert``, ``ssl_key``,
    ``ssl_disabled``, ``ssl_verify_cert``, ``ssl_verify_identity``, ``connect_timeout``, ``read_timeout``,
    ``write_timeout``.
    """

    capabilities = Capabilities(
        transactional_enqueue=True,
        wakeup=True,
        concurrent_claims=True,
        multi_process=True,
        durable=True,
        server_clock=True,
        uptime=True,
        time_resolution=0.000_001,
    )
    column_types = ColumnTypes(json=LONGTEXT(), text=LONGTEXT(), name=Name())
    driver_error = pymysql.err.Error
    migrations = MIGRATIONS

    def __init__(self, url: str, *, clock: Clock | None = None) -> None:
        super().__init__(url, clock=clock)
        self._url = sa.make_url(url)
        if not self._url.database:
            raise ValueError(
                f"{self.safe_url} names no database: write {self._url.drivername}://user:password@host/database"
            )
        self._options = _options(self._url.query)
        self._sleepers = Sleepers(self._connect, self._url)
        self._waker = Waker(self._url.database)
        self._told = threading.local()

    # -- Connections --------------------------------------------------------------------------------------

    def make_engine(self) -> sa.Engine:
        self._sleepers = Sleepers(self._connect, self._url)
        engine = sa.create_engine(
            "mysql+pymysql://",
            creator=self._connect,
            poolclass=sa.QueuePool,
            max_overflow=-1,
            pool_reset_on_return=None,  # our transactions end themselves
        )
        replace_dead(engine, is_quiet)
        return engine

    def _connect(self) -> Connection:
        return connect(self._url, self._options)

    def close(self) -> None:
        self._sleepers.close()
        super().close()

    def check_store(self, connection: sa.Connection) -> None:
        said = _driver(connection).server
        kind, found, oldest = _version(said)
        if found < oldest:
            raise SchemaError(
                f"{self.safe_url} is {kind} {said}, which is too old:"
                f" {'.'.join(map(str, oldest))} or newer is needed"
            )
        tables = set(sa.inspect(connection).get_table_names())
        ours = {table.name for table in self.tables.all}
        if "minion_migrations" not in tables and (foreign := tables & ours):
            raise SchemaError(
                f"{self.safe_url} holds tables of another program: {min(foreign)} is not ours."
                " They were left alone; choose another database"
            )

    def hold_migrations(self, connection: sa.Connection) -> None:
        name = f"minion-migrate-{crc32((self._url.database or '').encode()):08x}"
        got = connection.exec_driver_sql(f"SELECT GET_LOCK('{name}', {MIGRATION_PATIENCE})").scalar()
        if got != 1:
            raise BackendUnavailable(
                f"{self.safe_url}: another process has been making tables for {MIGRATION_PATIENCE} seconds"
            )
        connection.info[NAMED_LOCK] = True

    def describe(self) -> str:
        with self.engine.connect() as connection:
            said = _driver(connection).server
        place = f"{self._url.host or 'localhost'}:{self._url.port or 3306}/{self._url.database}"
        return f"{_version(said)[0]} {said}, {place}, wakes waiting workers by KILL QUERY"

    # -- Transactions -------------------------------------------------------------------------------------

    def begin_reading(self, connection: sa.Connection) -> Transaction:
        return Transaction(
            connection,
            "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ",
            "START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY",
        )

    def begin_writing(self, connection: sa.Connection) -> Transaction:
        return Transaction(connection, "START TRANSACTION")

    def borrow(self, connection: Any) -> contextlib.AbstractContextManager[sa.Connection]:
        return borrowed(connection)

    def is_transient(self, error: BaseException) -> bool:
        return isinstance(error, pymysql.err.Error) and code_of(error) in TRANSIENT

    def is_unavailable(self, error: BaseException) -> bool:
        return isinstance(error, pymysql.err.Error) and code_of(error) in UNAVAILABLE

    def translate(self, error: Exception, *, committing: bool = False) -> BackendError:
        translated = super().translate(error, committing=committing)
        advice = ADVICE.get(code_of(_cause(error)))
        return translated if advice is None else type(translated)(f"{translated}: {advice}")

    # -- Seams of statements ------------------------------------------------------------------------------

    def read_store_clock(self, work: Work) -> datetime:
        with work.driver.cursor() as cursor:
            cursor.execute(f"SELECT {claiming.STORE_CLOCK}")
            return from_microseconds(cursor.fetchone()[0])

    def lock_rows(
        self, select: sa.Select[Any], *, skip_locked: bool = False, share: bool = False
    ) -> sa.Select[Any]:
        jobs = self.tables.jobs
        if self.tables.locks in select.get_final_froms():
            # The guard is enough; a range of names would lock the first share of the next name as well.
            return select
        if jobs in select.get_final_froms():
            # A small table is read whole otherwise, and every row of it locked.
            select = select.with_hint(jobs, "FORCE INDEX (PRIMARY, minion_jobs_key)")
        return select.with_for_update(read=share, skip_locked=skip_locked)

    def guard_lock(self, work: Work, name: str) -> None:
        slot = crc32(name.encode()) % GUARDS
        work.connection.exec_driver_sql(
            f"SELECT slot FROM minion_lock_guards WHERE slot = {slot} FOR UPDATE"
        ).all()

    def insert_jobs(self, work: Work, rows: Sequence[Mapping[str, Any]]) -> list[int]:
        return writing.insert_jobs(work, rows)

    def claim(self, work: Work, worker_id: int, options: DequeueOptions) -> list[ClaimedJob]:
        return claiming.claim(work, worker_id, options)

    def finish_jobs(self, work: Work, outcomes: Sequence[Finished]) -> list[bool]:
        applied, self._told.released = writing.finish_jobs(work, outcomes)
        return applied

    def lock_due(self, work: Work, now: datetime) -> Sequence[sa.Row[Any]]:
        return claiming.lock_due(work, now)

    def holds_key(self, task: str, uniqkey: str) -> ColumnElement[bool]:
        live_key: ColumnElement[str] = sa.literal_column("live_key", Name())
        return sa.and_(self.tables.jobs.c.task == task, live_key == uniqkey)

    def key_holder(self, work: Work, task: str, uniqkey: str) -> sa.Row[Any] | None:
        if not isinstance(work.driver, Connection):
            # The caller's own transaction may see an old state, but for what it locks.
            return super().key_holder(work, task, uniqkey)
        jobs = self.tables.jobs
        select: sa.Select[Any] = sa.select(jobs.c.id, jobs.c.state, jobs.c.expires)
        while True:
            # Who ends a job locks it before its entry in the index of keys, hence the look without a lock.
            found = work.connection.execute(select.where(self.holds_key(task, uniqkey))).first()
            if found is None or found.expires is None:
                return found
            locked = self.lock_rows(select.where(jobs.c.id == found.id, in_state(jobs, *LIVE)))
            row = work.connection.execute(locked).first()
            if row is not None:
                return row

    def unlock(self, name: str, token: str | None = None) -> bool:
        def guarded(work: Work) -> bool:
            self.guard_lock(work, name)
            return locks.unlock(work, name, token)

        return self.write(guarded)

    def has_note(self, notes: ColumnElement[str], keys: Sequence[str]) -> ColumnElement[bool]:
        as_text = getattr(self._told, "too_deep", False)
        return sa.or_(sa.false(), *(_has_key(notes, key, as_text=as_text) for key in keys))

    def list_jobs(
        self, offset: int, limit: int, options: JobFilter, *, total: bool = True
    ) -> Page[JobRecord]:
        try:
            return super().list_jobs(offset, limit, options, total=total)
        except BackendError as error:
            if options.notes is None or code_of(_cause(error.__cause__)) != JSON_TOO_DEEP:
                raise
        # MySQL's JSON functions do not even look at what is nested more than 100 deep.
        self._told.too_deep = True
        try:
            return super().list_jobs(offset, limit, options, total=total)
        finally:
            self._told.too_deep = False

    def count_enqueued(self, work: Work) -> int:
        # The hint has MySQL look at the counter instead of at what it remembers of it from yesterday.
        following = work.connection.exec_driver_sql(
            "SELECT /*+ SET_VAR(information_schema_stats_expiry = 0) */ AUTO_INCREMENT"
            " FROM information_schema.TABLES"
            " WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = 'minion_jobs'"
        ).scalar()
        return max(0, (following or 1) - 1)

    def read_uptime(self, work: Work) -> float | None:
        row = work.connection.exec_driver_sql("SHOW GLOBAL STATUS LIKE 'Uptime'").first()
        return None if row is None else float(row[1])

    # -- Waking -------------------------------------------------------------------------------------------

    def enqueue(self, jobs: Sequence[NewJob], *, connection: Any = None) -> list[Enqueued]:
        answers = super().enqueue(jobs, connection=connection)
        if connection is None and any(answer.created for answer in answers):
            self._wake()
        return answers

    def settle(self, outcomes: Sequence[Outcome]) -> list[Settled]:
        self._told.released = False
        settled = super().settle(outcomes)
        if self._told.released or any(type(outcome) is not Finished for outcome in outcomes):
            self._wake()
        return settled

    def retry_job(self, id: int, retries: int, options: RetryOptions) -> bool:
        retried = super().retry_job(id, retries, options)
        if retried:
            self._wake()
        return retried

    def remove_jobs(self, ids: Sequence[int]) -> list[int]:
        removed = super().remove_jobs(ids)
        if removed:
            self._wake()
        return removed

    def fire_schedule(self, id: int, due: datetime, next_run: datetime, job: NewJob) -> Enqueued | None:
        fired = super().fire_schedule(id, due, next_run, job)
        if fired is not None:
            self._wake()
        return fired

    def _wake(self) -> None:
        """End the sleep of who waits. What was done is done: a failure here is made up for by polling."""
        with contextlib.suppress(sa.exc.DBAPIError, pymysql.err.Error), self.engine.connect() as connection:
            try:
                self._waker.wake(_driver(connection))
            except pymysql.err.Error:
                connection.invalidate()
                raise

    def wait(self, timeout: float, options: DequeueOptions) -> None:
        ends = time.monotonic() + timeout
        while (nap := self._nap(options, ends)) > 0:
            with self._sleeper() as sleeper:
                sleeper.sleep(nap)
                # Only then the second look, so that no job can come unseen in between.
                if self._nap(options, ends) <= 0:
                    with self.engine.connect() as connection, _driver(connection).cursor() as cursor:
                        self._waker.end_sleep(cursor, sleeper.id)
                sleeper.awake()

    def _nap(self, options: DequeueOptions, ends: float) -> float:
        """Answer for how many seconds there is nothing to do but to wait."""
        offered, until_due = self.read(_look, options)
        return 0.0 if offered else min(ends - time.monotonic(), self.poll_interval, until_due)

    @contextlib.contextmanager
    def _sleeper(self) -> Iterator[Sleeper]:
        try:
            sleeper = self._sleepers.take()
            try:
                yield sleeper
            except BaseException:
                sleeper.close()  # asleep still, or gone
                raise
            self._sleepers.give_back(sleeper)
        except (sa.exc.DBAPIError, pymysql.err.Error) as error:
            raise self.translate(error) from error


def _look(work: Work, options: DequeueOptions) -> tuple[bool, float]:
    """Answer whether anything is offered, and in how many seconds the clock may change that."""
    if options.tasks and options.queues and claiming.may_be_claimable(work, options):
        return True, 0.0
    due = claiming.next_due(work)
    return False, math.inf if due is None else (due - work.now()).total_seconds()


def _has_key(notes: ColumnElement[str], key: str, *, as_text: bool) -> ColumnElement[bool]:
    """Ask the server's JSON functions; where a text is beyond them, for its depth or the size of a number,
    its looks must do, and a key further within it counts too.
    """
    text = encode_json(key, "a note's key")
    looks_so = sa.func.locate(f"{text}:", notes) > 0
    if as_text:
        return looks_so
    has_it = sa.func.json_contains(sa.func.json_keys(notes), text) == 1
    return sa.case((sa.func.json_valid(notes) == 1, has_it), else_=looks_so)


def _cause(error: BaseException | None) -> BaseException:
    """Answer the driver's own error."""
    return getattr(error, "orig", None) or error or Exception()


def _driver(connection: sa.Connection) -> Any:
    return connection.connection.driver_connection


def _version(said: str) -> tuple[str, tuple[int, ...], tuple[int, ...]]:
    """Read what a server says of itself: which one it is, its version, and the oldest that will do."""
    numbers = re.findall(r"\d+", said)[:3]
    found = tuple(int(number) for number in numbers)
    return ("MariaDB", found, OLDEST_MARIADB) if "mariadb" in said.lower() else ("MySQL", found, OLDEST_MYSQL)


def _options(query: Mapping[str, Any]) -> dict[str, Any]:
    options: dict[str, Any] = {}
    for name, value in query.items():
        text = str(value)
        if name in TEXTS:
            options[name] = text
        elif name in SWITCHES:
            options[name] = text.lower() in ("1", "true", "yes", "on")
        elif name in NUMBERS:
            try:
                options[name] = float(text)
            except ValueError:
                raise ValueError(f"{name} must be a number of seconds, not {text}") from None
        else:
            known = ", ".join((*TEXTS, *SWITCHES, *NUMBERS))
            raise ValueError(f"Unknown option in the URL: {name}; known: {known}")
    return options
