"""The PostgreSQL backend: what the toolkit's seams are there, and its hot statements, one round trip each."""

from __future__ import annotations

import contextlib
import logging
import random
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import psycopg
import sqlalchemy as sa
from attrs import evolve
from psycopg import pq
from psycopg.rows import tuple_row

from minion_core.backend import Clock
from minion_core.errors import BackendError, BackendUnavailable, SchemaError
from minion_core.records import (
    Capabilities,
    ClaimedJob,
    DequeueOptions,
    Enqueued,
    NewJob,
    Outcome,
    Repaired,
    Replaced,
    RetryOptions,
    Settled,
)
from minion_core.sql import SqlBackend, Tables, Work
from minion_core.sql.backend import PAUSE, TRIES, CommitUnknown, replace_dead
from minion_pg import claiming, settling, storing, waking
from minion_pg.columns import TYPES
from minion_pg.connecting import (
    HOT_PLANNING,
    NO_RIGHT,
    USUAL_PLANNING,
    Connector,
    is_quiet,
    is_transient,
    is_unavailable,
    read_url,
    show_url,
)
from minion_pg.migrations import MIGRATIONS, MOJO_NEWEST, MOJO_OLDEST, SWEEP
from minion_pg.waking import Listener

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement

T = TypeVar("T")

logger = logging.getLogger(__name__)

OLDEST_SERVER = 13

WORTH_ESTIMATING = 50_000
"""Of fewer rows than this, counting takes no time."""

WORTH_TRUNCATING = 1_000_000
"""Bytes of jobs. Fewer are deleted in no time; more would lie in the claims' way until they are vacuumed."""

RELATION_MISSING = "42P01"
MIGRATION_LOCK = 0x6D696E696F6E
"""The number of our advisory lock: "minion" in ASCII."""


class PgBackend(SqlBackend):
    """Jobs in a PostgreSQL database: ``postgresql://user:password@host:port/database``, as libpq reads it.

    It works behind a pooler such as PgBouncer too; waking is by polling then.
    """

    capabilities: ClassVar[Capabilities] = Capabilities(
        transactional_enqueue=True,
        wakeup=True,
        concurrent_claims=True,
        multi_process=True,
        durable=True,
        server_clock=True,
        uptime=True,
        time_resolution=0.000_001,
    )
    column_types = TYPES
    driver_error = psycopg.Error
    migrations = MIGRATIONS

    def __init__(self, url: str, *, clock: Clock | None = None) -> None:
        super().__init__(url, clock=clock)
        self._parameters = read_url(url)
        self._connector = Connector(self._parameters)
        self._listener: Listener | None = None
        self._beginning_to_listen = threading.Lock()
        self._said_polling = False
        self.tables = Tables(self.column_types, schedules="minion_timetable")
        # What marks a row as written by us; see the migrations.
        self.tables.jobs.append_column(
            sa.Column("touched", sa.Integer, default=1, onupdate=sa.literal_column("minion_jobs.touched + 1"))
        )
        self.tables.workers.append_column(sa.Column("ours", sa.Boolean, default=True))

    # -- Connections --------------------------------------------------------------------------------------

    @property
    def safe_url(self) -> str:
        return show_url(self._parameters)

    def make_engine(self) -> sa.Engine:
        engine = sa.create_engine(
            "postgresql+psycopg://",
            creator=self._connector.connect,
            poolclass=sa.QueuePool,
            pool_size=5,  # what a worker has at once: its main loop, and the threads that wait
            max_overflow=-1,
            pool_reset_on_return=None,  # our transactions end themselves
        )
        replace_dead(engine, is_quiet)
        return engine

    def check_store(self, connection: sa.Connection) -> None:
        driver: Any = connection.connection.driver_connection
        if driver.info.server_version < OLDEST_SERVER * 10_000:
            raise SchemaError(
                f"{self.safe_url} is PostgreSQL {driver.info.server_version // 10_000}:"
                f" {OLDEST_SERVER} or newer is needed"
            )
        level = driver.execute("SHOW default_transaction_isolation").fetchone()[0]
        if level != "read committed":
            raise SchemaError(
                f"{self.safe_url} begins transactions as {level!r}, and a pooler keeps us from changing that:"
                " ALTER ROLE ... SET default_transaction_isolation = 'read committed'"
            )
        jobs, mojo = driver.execute(
            "SELECT TO_REGCLASS('minion_jobs') IS NOT NULL, TO_REGCLASS('mojo_migrations') IS NOT NULL"
        ).fetchone()
        version = None
        if mojo:
            row = driver.execute("SELECT version FROM mojo_migrations WHERE name = 'minion'").fetchone()
            version = row[0] if row else None
        if jobs and not version:
            raise SchemaError(
                f"{self.safe_url} has a table minion_jobs that is neither ours nor Minion's."
                " It was left alone; choose another database or schema"
            )
        if version and not MOJO_OLDEST <= version <= MOJO_NEWEST:
            raise SchemaError(
                f"{self.safe_url} has Minion's schema {version}, known are {MOJO_OLDEST} to {MOJO_NEWEST}:"
                + (" install a newer version" if version > MOJO_NEWEST else " let Minion 10 update it first")
            )

    def hold_migrations(self, connection: sa.Connection) -> None:
        driver: Any = connection.connection.driver_connection
        driver.execute(f"SELECT PG_ADVISORY_XACT_LOCK({MIGRATION_LOCK})")
        if driver.execute("SELECT TO_REGCLASS('mojo_migrations')").fetchone()[0] is not None:
            driver.execute("LOCK TABLE mojo_migrations IN EXCLUSIVE MODE")

    def describe(self) -> str:
        with self.engine.connect() as connection:
            info = Work(connection, self, self.tables).driver.info
            version = info.server_version
        pooled = ", behind a pooler: waking by polling" if self._connector.pooled else ""
        return f"PostgreSQL {version // 10_000}.{version % 10_000}, {self.safe_url}{pooled}"

    def translate(self, error: Exception, *, committing: bool = False) -> BackendError:
        cause = error.orig if isinstance(error, sa.exc.DBAPIError) and error.orig else error
        state = getattr(cause, "sqlstate", None)
        words = " ".join(str(cause).split())
        if state == RELATION_MISSING:
            return SchemaError(f"{self.safe_url}: {words}: run `minion migrate`")
        if state == NO_RIGHT:
            user = self._parameters.get("user", "this user")
            return SchemaError(
                f"{self.safe_url}: {words}: GRANT {user} the right, or let another user run `minion migrate`"
            )
        return super().translate(error, committing=committing)

    # -- Transactions -------------------------------------------------------------------------------------

    def begin_reading(self, connection: sa.Connection) -> _Transaction:
        return self._begin(connection, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY", USUAL_PLANNING)

    def begin_writing(self, connection: sa.Connection) -> _Transaction:
        return self._begin(connection, "BEGIN ISOLATION LEVEL READ COMMITTED", USUAL_PLANNING)

    def _begin(self, connection: sa.Connection, begin: str, planning: str) -> _Transaction:
        pooled = self._connector.pooled
        return _Transaction(
            connection, begin if pooled and planning == USUAL_PLANNING else f"{begin}; {planning}"
        )

    def _once(self, function: Callable[[Any], T]) -> T:
        """Send one hot statement, which is a transaction of its own; again if the store asks for it."""
        for tried in range(1, TRIES + 1):
            sent = False
            try:
                with self.engine.connect() as connection:
                    driver: Any = connection.connection.driver_connection
                    sent = True
                    if self._connector.pooled:
                        with _Transaction(
                            connection, f"BEGIN ISOLATION LEVEL READ COMMITTED; {HOT_PLANNING}"
                        ):
                            return function(driver)
                    try:
                        return function(driver)
                    except psycopg.Error as error:
                        _let_go(connection, error)
                        raise
            except (sa.exc.DBAPIError, psycopg.Error) as error:
                cause = error.orig if isinstance(error, sa.exc.DBAPIError) and error.orig else error
                if tried < TRIES and is_transient(cause):
                    time.sleep(PAUSE * 2**tried * random.uniform(0.5, 1.5))  # noqa: S311 - jitter
                    continue
                raise self.translate(error, committing=sent) from error
        raise AssertionError  # the last try returns or raises

    def _instant(self) -> datetime | None:
        """Answer the caller's clock, for statements that otherwise read their own."""
        return None if self.clock is None else self.clock().astimezone(UTC)

    def is_transient(self, error: BaseException) -> bool:
        return is_transient(error)

    def is_unavailable(self, error: BaseException) -> bool:
        return is_unavailable(error)

    @contextlib.contextmanager
    def borrow(self, connection: Any) -> Iterator[sa.Connection]:
        from sqlalchemy.orm import Session  # noqa: PLC0415  # a third of SQLAlchemy's import, and seldom needed

        if isinstance(connection, Session):
            connection = connection.connection()
        if isinstance(connection, sa.Connection):
            # Something sent through SQLAlchemy, so that it knows of the transaction that the caller will end.
            connection.exec_driver_sql("SELECT 1")
            driver = connection.connection.driver_connection
        else:
            driver = connection
        if not isinstance(driver, psycopg.Connection):
            raise TypeError(
                "connection must be a psycopg connection, or an SQLAlchemy connection or session on psycopg,"
                f" not {type(connection).__name__}"
            )
        if not driver.autocommit and driver.info.transaction_status == pq.TransactionStatus.IDLE:
            driver.execute("SELECT 1")  # or the savepoint around what we do would be the transaction itself
        pool = sa.NullPool(lambda: _Borrowed(driver), dialect=self.engine.dialect)
        with sa.Engine(pool, self.engine.dialect, self.engine.url).connect() as borrowed:
            yield borrowed

    # -- Seams of statements ------------------------------------------------------------------------------

    def read_store_clock(self, work: Work) -> datetime:
        now: datetime = work.driver.execute("SELECT CLOCK_TIMESTAMP()").fetchone()[0]
        return now.astimezone(UTC)

    def lock_rows(
        self, select: sa.Select[Any], *, skip_locked: bool = False, share: bool = False
    ) -> sa.Select[Any]:
        return select.with_for_update(skip_locked=skip_locked, read=share)

    def guard_lock(self, work: Work, name: str) -> None:  # noqa: ARG002 - Minion locks them all
        work.driver.execute("LOCK TABLE minion_locks IN EXCLUSIVE MODE")

    def insert_jobs(self, work: Work, rows: Sequence[Mapping[str, Any]]) -> list[int]:
        return storing.insert_rows(work.driver, rows)

    def lock_due(self, work: Work, now: datetime) -> Sequence[sa.Row[Any]]:  # noqa: ARG002 - a seam
        return ()  # minion_sweep takes up what is due

    def holds_key(self, task: str, uniqkey: str) -> ColumnElement[bool]:
        jobs = self.tables.jobs
        return sa.and_(jobs.c.task == task, jobs.c.uniqkey == uniqkey, sa.literal_column(storing.HOLDS_KEY))

    def has_note(self, notes: ColumnElement[str], keys: Sequence[str]) -> ColumnElement[bool]:
        array = sa.cast(list(keys), sa.dialects.postgresql.ARRAY(sa.Text))
        return sa.func.jsonb_exists_any(sa.type_coerce(notes, sa.dialects.postgresql.JSONB), array)

    def among(self, column: ColumnElement[Any], items: Sequence[Any]) -> ColumnElement[bool]:
        array = sa.dialects.postgresql.ARRAY(
            sa.BigInteger if isinstance(column.type, sa.BigInteger) else sa.Text
        )
        return column == sa.any_(sa.cast(list(items), array))

    def count_enqueued(self, work: Work) -> int:
        row = work.driver.execute(
            "SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM minion_jobs_id_seq"
        ).fetchone()
        return int(row[0])

    def estimate_terminal_jobs(self, work: Work) -> Mapping[str, int]:
        rows, values, shares = work.driver.execute(
            """SELECT reltuples, most_common_vals::TEXT::TEXT[], most_common_freqs
            FROM pg_class LEFT JOIN pg_stats ON pg_stats.tablename = relname AND attname = 'state'
                AND schemaname = relnamespace::REGNAMESPACE::TEXT
            WHERE pg_class.oid = 'minion_jobs'::REGCLASS"""
        ).fetchone()
        if rows < WORTH_ESTIMATING or not values:
            return {}
        return {state: int(rows * share) for state, share in zip(values, shares, strict=True)}

    def read_uptime(self, work: Work) -> float | None:
        row = work.driver.execute("SELECT EXTRACT(EPOCH FROM CLOCK_TIMESTAMP() - PG_POSTMASTER_START_TIME())")
        return float(row.fetchone()[0])

    # -- Jobs ---------------------------------------------------------------------------------------------

    def enqueue(self, jobs: Sequence[NewJob], *, connection: Any = None) -> list[Enqueued]:
        if connection is not None:
            return self._enqueue_on(connection, jobs)
        if not jobs:
            return []
        try:
            if all(storing.is_plain(job) for job in jobs):
                ids = self._once(lambda driver: storing.insert_plain(driver, jobs, self._instant()))
                return [Enqueued(id) for id in ids]
            return self.write(self._enqueue_and_wake, jobs)
        except CommitUnknown as error:
            raise BackendUnavailable(
                f"{error}; the jobs may have been stored, look before trying again"
            ) from error

    def _enqueue_and_wake(self, work: Work, jobs: Sequence[NewJob]) -> list[Enqueued]:
        answers = storing.enqueue(work, jobs)
        storing.wake(work.driver, jobs)
        return answers

    def _enqueue_on(self, connection: Any, jobs: Sequence[NewJob]) -> list[Enqueued]:
        try:
            with self.borrow(connection) as borrowed:
                work = Work(borrowed, self, self.tables)
                with work.driver.transaction():
                    answers = storing.enqueue(work, jobs, lock=False) if jobs else []
                    # Who waits is told at the commit, and stays in the list until then for others to wake.
                    work.driver.execute(f"SELECT {_NOTIFY_IF_ANYBODY_WAITS}")
                    return answers
        except (sa.exc.DBAPIError, psycopg.Error) as error:
            raise self.translate(error) from error

    def dequeue(self, worker_id: int, options: DequeueOptions) -> list[ClaimedJob]:
        if not options.tasks or not options.queues or options.limit < 1:
            return []
        return self._claim(self._once, worker_id, options)

    def claim(self, work: Work, worker_id: int, options: DequeueOptions) -> list[ClaimedJob]:
        return self._claim(lambda function: function(work.driver), worker_id, options)

    def _claim(self, run: Callable[..., Any], worker_id: int, options: DequeueOptions) -> list[ClaimedJob]:
        claimed: list[ClaimedJob] = []
        text, more = claiming.claim_statement(options), claiming.wanting_statement(options)
        values = claiming.parameters(options, self._instant())
        values |= {"worker": worker_id, "look": True, "limit": options.limit}
        while True:
            try:
                rows = run(lambda driver: driver.execute(text, values).fetchall())
                overdue, wanting, *_ = rows[0]
                got = [claiming.claimed_job(row[2:]) for row in rows if row[2] is not None]
                claimed += got
                if overdue:
                    # What others have in hand is left to them.
                    values["look"] = run(self._sweep)[0] > 0
                    continue
                values["limit"] -= len(got)
                if not wanting:
                    break
                # Where there is one there are many, and they would be met one by one.
                found = run(lambda driver: driver.execute(more, values).fetchone()[0])
                judged = run(partial(self._judge, {*wanting, *(found or ())}))
                if not (judged or got) or not values["limit"]:
                    break
            except BackendError:
                if not claimed:
                    raise
                break
        claimed.sort(key=lambda job: (-job.priority, job.id))
        return claimed

    def _sweep(self, driver: Any) -> tuple[int, int]:
        swept: tuple[int, int] = driver.execute(
            "SELECT swept, ended FROM MINION_SWEEP(COALESCE(%s::TIMESTAMPTZ, STATEMENT_TIMESTAMP()))",
            (self._instant(),),
        ).fetchone()
        return swept

    def _judge(self, ids: Iterable[int], driver: Any) -> int:
        changed: int = driver.execute(
            "SELECT MINION_JUDGE(%s::BIGINT[], COALESCE(%s::TIMESTAMPTZ, STATEMENT_TIMESTAMP()))",
            (sorted(ids), self._instant()),
        ).fetchone()[0]
        return changed

    def settle(self, outcomes: Sequence[Outcome]) -> list[Settled]:
        settled = [Settled(applied=False)] * len(outcomes)
        first: dict[tuple[int, int], int] = {}
        for index, outcome in enumerate(outcomes):
            first.setdefault((outcome.id, outcome.retries), index)
        answers = super().settle([outcomes[index] for index in first.values()])
        for index, answer in zip(first.values(), answers, strict=True):
            settled[index] = answer
        return settled

    def settle_once(self, outcomes: Sequence[Outcome]) -> list[Settled]:
        if any(isinstance(outcome, Replaced) for outcome in outcomes):
            answers = self.write(settling.settle_with_replaced, outcomes, self._instant())
            with contextlib.suppress(BackendError):  # who waits looks by itself after a while
                self._once(lambda driver: driver.execute(f"SELECT {_NOTIFY_IF_ANYBODY_WAITS}"))
            return answers
        applied = self._once(partial(settling.settle, outcomes, self._instant()))
        return [Settled((outcome.id, outcome.retries) in applied) for outcome in outcomes]

    def retry_job(self, id: int, retries: int, options: RetryOptions) -> bool:
        return self.write(settling.retry_job, id, retries, options)

    # -- Waking -------------------------------------------------------------------------------------------

    def wait(self, timeout: float, options: DequeueOptions) -> None:
        waking.wait(
            self._once,
            self._instant,
            self._listen(),
            options,
            timeout=timeout,
            poll_interval=self.poll_interval,
        )

    def _listen(self) -> Listener | None:
        if self._connector.pooled:
            if not self._said_polling:
                self._said_polling = True
                logger.warning(
                    "%s is behind a pooler, where LISTEN hears nothing: new jobs are looked for every %g s",
                    self.safe_url,
                    self.poll_interval,
                )
            return None
        with self._beginning_to_listen:
            if self._listener is None:
                self._listener = Listener(self._connector.connect)
                self._listener.is_listening(patience=1.0)
            return self._listener

    def close(self) -> None:
        super().close()
        listener, self._listener = self._listener, None
        if listener is not None:
            listener.close()

    # -- The whole ----------------------------------------------------------------------------------------

    def repair(self, missing_after: float, remove_after: float, stuck_after: float) -> Repaired:
        leases = 0
        while True:
            swept, ended = self._once(self._sweep)
            leases += ended
            if swept < SWEEP:
                break
        repaired = evolve(super().repair(missing_after, remove_after, stuck_after), leases=leases)
        self._once(
            lambda driver: driver.execute("DELETE FROM minion_waiters WHERE until < STATEMENT_TIMESTAMP()")
        )
        self._once(lambda driver: driver.execute(f"SELECT {_NOTIFY_IF_ANYBODY_WAITS}"))
        return repaired

    def reset(self, *, all: bool = False, locks: bool = False) -> None:
        size = "SELECT PG_RELATION_SIZE('minion_jobs')"
        if all and self._once(lambda driver: driver.execute(size).fetchone()[0]) > WORTH_TRUNCATING:
            # What belongs to the jobs goes with them, by a trigger.
            tables = "minion_jobs, minion_locks, minion_workers, minion_waiters"
            self.write(lambda work: work.driver.execute(f"TRUNCATE {tables}"))
        else:
            super().reset(all=all, locks=locks)


_NOTIFY_IF_ANYBODY_WAITS = f"PG_NOTIFY('minion.job', '') WHERE {storing.ANYBODY_WAITS}"


class _Transaction:
    """A transaction on the driver itself, with its settings, begun in one round trip."""

    def __init__(self, connection: sa.Connection, begin: str) -> None:
        self._connection = connection
        self._driver: Any = connection.connection.driver_connection
        self._begin = begin

    def __enter__(self) -> None:
        try:
            self._driver.execute(self._begin, prepare=False)
        except psycopg.Error as error:
            _let_go(self._connection, error)
            raise

    def __exit__(
        self, _kind: type[BaseException] | None, error: BaseException | None, _trace: object
    ) -> None:
        if error is None:
            self._driver.commit()
            return
        with contextlib.suppress(psycopg.Error):  # what went wrong before is told
            self._driver.rollback()
        _let_go(self._connection, error)


def _let_go(connection: sa.Connection, error: BaseException) -> None:
    """Have the pool forget a connection after an error that another one may not meet."""
    cause = error.orig if isinstance(error, sa.exc.DBAPIError) and error.orig else error
    if is_unavailable(cause) and not connection.invalidated:
        connection.invalidate()


class _Borrowed:
    """The caller's connection, which we neither commit, nor roll back, nor close."""

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self._connection = connection

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    def cursor(self, *args: Any, **options: Any) -> Any:
        """Make a cursor whose rows are tuples, whatever the caller's are."""
        return self._connection.cursor(*args, **{**options, "row_factory": tuple_row})

    def execute(self, *args: Any, **options: Any) -> Any:
        """Execute on such a cursor."""
        return self.cursor().execute(*args, **options)

    def commit(self) -> None:
        """Leave it to the caller."""

    rollback = close = commit
