"""The contract kept once for all SQL stores: a plugin fills in the seams, and nothing else."""

from __future__ import annotations

import contextlib
import random
import time
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, ClassVar, Concatenate, ParamSpec, TypeVar

import sqlalchemy as sa

from minion_core import values
from minion_core.backend import Backend, Clock
from minion_core.errors import BackendError, BackendUnavailable, SchemaError, Unsupported
from minion_core.records import (
    ClaimedJob,
    DequeueOptions,
    Enqueued,
    Failure,
    Finished,
    HistoryHour,
    JobFilter,
    JobRecord,
    LockRecord,
    NewJob,
    NewSchedule,
    Outcome,
    Page,
    Repaired,
    RetryOptions,
    ScheduleFilter,
    ScheduleRecord,
    Settled,
    Stats,
    WorkerFilter,
    WorkerRecord,
)
from minion_core.sql import (
    enqueueing,
    jobs,
    locks,
    schedules,
    settling,
    transitions,
    upkeep,
    workers,
)
from minion_core.sql.migrations import Migration, apply_migrations, pending_migrations, render_migrations
from minion_core.sql.tables import LIVE, ColumnTypes, Tables, in_state
from minion_core.sql.work import CHUNK, Work

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement

P = ParamSpec("P")
T = TypeVar("T")

TRIES = 8
"""How often a transaction is tried in all when the store says that trying again may help."""

PAUSE = 0.01
"""Seconds before the second try; doubled for each further one, with jitter."""


class CommitUnknown(BackendUnavailable):
    """The commit was sent, and its answer was lost."""


class SqlBackend(Backend):
    """A backend on SQLAlchemy. What differs between stores is a seam: an abstract method says what the
    plugin must answer for, and has no default where a wrong one would weaken a guarantee.
    """

    column_types: ClassVar[ColumnTypes] = ColumnTypes()
    driver_error: ClassVar[type[Exception]]
    """The root of the driver's own errors."""

    migrations: ClassVar[Sequence[Migration]]
    """Numbered from 1, forward only; each is applied once."""

    def __init__(self, url: str, *, clock: Clock | None = None) -> None:
        super().__init__(url, clock=clock)
        try:
            self.parsed_url = sa.make_url(url)
        except (sa.exc.ArgumentError, ValueError):
            raise ValueError(
                "The URL cannot be read: it should look like scheme://user:password@host:port/database"
            ) from None
        self.tables = Tables(self.column_types)
        self._engine: sa.Engine | None = None

    # -- Seams --------------------------------------------------------------------------------------------

    @abstractmethod
    def make_engine(self) -> sa.Engine:
        """Make the engine for the URL; connect to nothing yet."""

    @abstractmethod
    def check_store(self, connection: sa.Connection) -> None:
        """Look at what was found before any table is touched.

        Raises:
            SchemaError: The store is too old, or holds tables of these names that another program made.
        """

    @abstractmethod
    def hold_migrations(self, connection: sa.Connection) -> None:
        """Keep every other process from migrating until the end of the transaction."""

    @abstractmethod
    def begin_reading(self, connection: sa.Connection) -> contextlib.AbstractContextManager[Any]:
        """Begin a transaction that sees one state of the store and writes nothing."""

    @abstractmethod
    def begin_writing(self, connection: sa.Connection) -> contextlib.AbstractContextManager[Any]:
        """Begin a transaction that writes."""

    @abstractmethod
    def borrow(self, connection: Any) -> contextlib.AbstractContextManager[sa.Connection]:
        """Work on the caller's own connection, in its transaction, without ending it (ENQ-08)."""

    @abstractmethod
    def read_store_clock(self, work: Work) -> datetime:
        """Read the store's own clock at this moment."""

    @abstractmethod
    def lock_rows(
        self, select: sa.Select[Any], *, skip_locked: bool = False, share: bool = False
    ) -> sa.Select[Any]:
        """Make a select lock the rows that it answers, until the end of the transaction.

        A store whose writing transactions exclude each other has nothing to add.

        Args:
            select: What to lock, in the order in which to lock.
            skip_locked: Leave out rows that others have locked.
            share: Keep others from changing the rows, not from locking them alike.
        """

    @abstractmethod
    def guard_lock(self, work: Work, name: str) -> None:
        """Keep others from counting or taking shares of this lock until the end of the transaction."""

    @abstractmethod
    def insert_jobs(self, work: Work, rows: Sequence[Mapping[str, Any]]) -> list[int]:
        """Insert rows into the table of jobs, and answer their ids, which grow in the order given."""

    @abstractmethod
    def claim(self, work: Work, worker_id: int, options: DequeueOptions) -> list[ClaimedJob]:
        """Claim jobs whose true conditions hold at this moment, in the order of CLAIM-02.

        Live rows that are due are to be swept first (``transitions.sweep_all``). What the index shows and
        the conditions refuse is to be judged anew (``readiness.judge``), so that the next claim does not
        meet it again.
        """

    @abstractmethod
    def has_note(self, notes: ColumnElement[str], keys: Sequence[str]) -> ColumnElement[bool]:
        """Make the condition that a JSON object has at least one of these keys."""

    @abstractmethod
    def count_enqueued(self, work: Work) -> int:
        """Say how many jobs were ever enqueued; a rough estimate will do."""

    @abstractmethod
    def is_transient(self, error: BaseException) -> bool:
        """Say whether the transaction was undone for a reason that trying again may not meet.

        Args:
            error: The driver's own.
        """

    @abstractmethod
    def is_unavailable(self, error: BaseException) -> bool:
        """Say whether the store could not be reached, or went away."""

    def settle_once(self, outcomes: Sequence[Outcome]) -> list[Settled]:
        """Settle in one transaction; ``CommitUnknown`` has the rows looked at for what became of it."""
        return self.write(settling.settle, outcomes)

    def words_of(self, error: BaseException) -> str:
        """Say in one line what an error of the driver's says."""
        return " ".join(str(error).split())

    def finish_jobs(self, work: Work, outcomes: Sequence[Finished]) -> list[bool]:
        """Apply outcomes of different jobs behind their fences, and let their children go on.

        The most frequent outcome by far, hence a seam: a plugin may have a faster statement.
        """
        return settling.apply_finished(work, outcomes)

    def lock_due(self, work: Work, now: datetime) -> Sequence[sa.Row[Any]]:
        """Lock up to ``CHUNK`` live rows that are due, leaving out what others have locked.

        Returns:
            Their ids and states. Fewer than ``CHUNK`` says that nothing else is due.
        """
        return transitions.lock_due(work, now)

    def holds_key(self, task: str, uniqkey: str) -> ColumnElement[bool]:
        """Make the condition that a job is live and has this key, in the form that an index knows."""
        jobs = self.tables.jobs
        return sa.and_(jobs.c.task == task, jobs.c.uniqkey == uniqkey, in_state(jobs, *LIVE))

    def key_holder(self, work: Work, task: str, uniqkey: str) -> sa.Row[Any] | None:
        """Answer id, state and expiry of the live job that has this key, locked if it may be removed."""
        jobs = self.tables.jobs
        select = sa.select(jobs.c.id, jobs.c.state, jobs.c.expires).where(self.holds_key(task, uniqkey))
        return work.connection.execute(self.lock_rows(select)).first()

    def among(self, column: ColumnElement[Any], items: Sequence[Any]) -> ColumnElement[bool]:
        """Make the condition that a column has one of any number of values."""
        return column.in_(items)

    def estimate_terminal_jobs(self, work: Work) -> Mapping[str, int]:  # noqa: ARG002 - a seam
        """Estimate the numbers of finished and failed jobs by state; none means: count."""
        return {}

    def read_uptime(self, work: Work) -> float | None:  # noqa: ARG002 - a seam
        """Say for how many seconds the store has been up, if it knows (capability ``uptime``)."""
        return None

    # -- Transactions -------------------------------------------------------------------------------------

    @property
    def engine(self) -> sa.Engine:
        """The engine, once the backend is open."""
        if self._engine is None:
            raise BackendError(f"The backend for {self.safe_url} is not open: call open() first")
        return self._engine

    @property
    def safe_url(self) -> str:
        """The URL without its password, for people to read."""
        return self.parsed_url.render_as_string(hide_password=True)

    def read_clock(self, work: Work) -> datetime:
        """Read the caller's clock if there is one, else the store's."""
        return self.clock().astimezone(UTC) if self.clock is not None else self.read_store_clock(work)

    def read(self, function: Callable[Concatenate[Work, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a function in a transaction that only reads."""
        return self._transact(self.begin_reading, lambda work: function(work, *args, **kwargs))

    def write(self, function: Callable[Concatenate[Work, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a function in a transaction, again if the store asks for it; it must bear that."""
        return self._transact(self.begin_writing, lambda work: function(work, *args, **kwargs))

    def _transact(
        self,
        begin: Callable[[sa.Connection], contextlib.AbstractContextManager[Any]],
        function: Callable[[Work], T],
    ) -> T:
        for tried in range(1, TRIES + 1):
            committing = False
            try:
                with self.engine.connect() as connection, begin(connection):
                    answer = function(Work(connection, self, self.tables))
                    committing = True
            except (sa.exc.DBAPIError, self.driver_error) as error:
                if tried < TRIES and self.is_transient(_of_the_driver(error)):
                    time.sleep(PAUSE * 2**tried * random.uniform(0.5, 1.5))  # noqa: S311 - jitter
                    continue
                raise self.translate(error, committing=committing) from error
            else:
                return answer
        raise AssertionError  # the last try returns or raises

    def translate(self, error: Exception, *, committing: bool = False) -> BackendError:
        """Turn a driver's error into one of ours, with its words and without its statement."""
        cause = _of_the_driver(error)
        words = self.words_of(cause)
        if self.is_unavailable(cause) or self.is_transient(cause):
            kind = CommitUnknown if committing and self.is_unavailable(cause) else BackendUnavailable
            return kind(f"{self.safe_url} is not available: {words}")
        return BackendError(f"{self.safe_url} refused: {words}")

    # -- Life ---------------------------------------------------------------------------------------------

    def open(self, *, migrate: bool = True) -> None:
        if self._engine is not None:
            return
        self._engine = self.make_engine()
        try:
            if self._transact(self.begin_reading, self._pending):
                self._catch_up(migrate=migrate)
        except BaseException:
            self.close()
            raise

    def _pending(self, work: Work) -> list[int]:
        self.check_store(work.connection)
        return pending_migrations(work.connection, self.migrations, self.safe_url)

    def _catch_up(self, *, migrate: bool) -> None:
        if not migrate:
            raise SchemaError(f"The tables in {self.safe_url} are missing or old: run `minion migrate`")
        self.write(self._apply)

    def _apply(self, work: Work) -> list[int]:
        self.hold_migrations(work.connection)
        self.check_store(work.connection)
        return apply_migrations(work.connection, self.migrations, self.safe_url)

    def close(self) -> None:
        engine, self._engine = self._engine, None
        if engine is not None:
            engine.dispose()

    def migrate(self) -> list[int]:
        if self._engine is not None:
            return self.write(self._apply)
        self._engine = self.make_engine()
        try:
            return self.write(self._apply)
        finally:
            self.close()

    @classmethod
    def migration_script(cls) -> str:
        return render_migrations(cls.migrations)

    def now(self) -> datetime:
        return self.read(Work.now)

    # -- Jobs ---------------------------------------------------------------------------------------------

    def enqueue(self, jobs: Sequence[NewJob], *, connection: Any = None) -> list[Enqueued]:
        if connection is not None:
            return self._enqueue_on(connection, jobs)
        if not jobs:
            return []
        try:
            return self.write(enqueueing.enqueue, jobs)
        except CommitUnknown as error:
            raise BackendUnavailable(
                f"{error}; the jobs may have been stored, look before trying again"
            ) from error

    def _enqueue_on(self, connection: Any, jobs: Sequence[NewJob]) -> list[Enqueued]:
        if not self.capabilities.transactional_enqueue:
            raise Unsupported(f"{type(self).__name__} cannot enqueue on a connection of the caller's")
        try:
            with self.borrow(connection) as borrowed:
                return enqueueing.enqueue(Work(borrowed, self, self.tables), jobs) if jobs else []
        except (sa.exc.DBAPIError, self.driver_error) as error:
            raise self.translate(error) from error

    def dequeue(self, worker_id: int, options: DequeueOptions) -> list[ClaimedJob]:
        if not options.tasks or not options.queues or options.limit < 1:
            return []
        return self.write(self.claim, worker_id, options)

    def settle(self, outcomes: Sequence[Outcome]) -> list[Settled]:
        if not outcomes:
            return []
        try:
            return self.settle_once(outcomes)
        except CommitUnknown:
            shown = self.read(settling.applied_before, outcomes)
            again = [index for index, settled in enumerate(shown) if not settled.applied]
            for index, settled in zip(again, self.settle([outcomes[index] for index in again]), strict=True):
                shown[index] = settled
            return shown

    def extend_lease(self, id: int, retries: int, seconds: float) -> bool:
        return self.write(settling.extend_lease, id, retries, values.seconds(seconds, "seconds"))

    def retry_job(self, id: int, retries: int, options: RetryOptions) -> bool:
        return self.write(settling.retry_job, id, retries, options)

    def remove_jobs(self, ids: Sequence[int]) -> list[int]:
        return self.write(jobs.remove_jobs, ids) if ids else []

    def note(self, id: int, changes: Mapping[str, Any]) -> bool:
        values.encode_json(values.check_json_object(changes, "notes"), "notes")
        return self.write(jobs.note, id, changes)

    def add_failure(self, id: int, message: str) -> bool:
        values.check_text(message, "the message")
        return self.write(jobs.add_failure, id, message)

    def list_jobs(
        self, offset: int, limit: int, options: JobFilter, *, total: bool = True
    ) -> Page[JobRecord]:
        _check_page(offset, limit)
        return self.read(jobs.list_jobs, offset, limit, options, total=total)

    def failure_log(self, id: int) -> list[Failure]:
        return self.read(jobs.failure_log, id)

    # -- Workers ------------------------------------------------------------------------------------------

    def register_worker(self, id: int | None, host: str, pid: int, status: Mapping[str, Any]) -> int:
        status_json = values.encode_json(values.check_json_object(status, "the status"), "the status")
        return self.write(workers.register_worker, id, host, pid, status_json)

    def unregister_worker(self, id: int) -> bool:
        return self.write(workers.unregister_worker, id)

    def list_workers(
        self, offset: int, limit: int, options: WorkerFilter, *, total: bool = True
    ) -> Page[WorkerRecord]:
        _check_page(offset, limit)
        return self.read(workers.list_workers, offset, limit, options, total=total)

    def broadcast(self, command: str, args: Sequence[Any] = (), ids: Sequence[int] | None = None) -> bool:
        message = [values.check_name(command, "the command"), *values.check_json_array(args, "args")]
        values.encode_json(message, "args")
        return self.write(workers.broadcast, message, ids)

    def receive(self, id: int) -> list[list[Any]]:
        return self.write(workers.receive, id) if self.read(workers.has_mail, id) else []

    # -- Locks --------------------------------------------------------------------------------------------

    def lock(self, name: str, duration: float, limit: int = 1) -> str | None:
        values.check_name(name, "the lock's name")
        values.check_integer(limit, "limit", 1)
        length = values.seconds(duration, "duration")
        if length < 0:
            raise ValueError(f"duration must not be below 0 seconds, not {length:g}")
        return self.write(locks.lock, name, length, limit)

    def unlock(self, name: str, token: str | None = None) -> bool:
        return self.write(locks.unlock, name, token)

    def list_locks(
        self, offset: int, limit: int, names: Sequence[str] | None = None, *, total: bool = True
    ) -> Page[LockRecord]:
        _check_page(offset, limit)
        return self.read(locks.list_locks, offset, limit, names, total=total)

    # -- Schedules ----------------------------------------------------------------------------------------

    def schedule(self, schedule: NewSchedule) -> int:
        return self.write(schedules.schedule, schedule)

    def unschedule(self, name: str) -> bool:
        return self.write(schedules.unschedule, name)

    def pause_schedule(self, name: str) -> bool:
        return self.write(schedules.set_paused, name, paused=True)

    def resume_schedule(self, name: str) -> bool:
        return self.write(schedules.set_paused, name, paused=False)

    def list_schedules(
        self, offset: int, limit: int, options: ScheduleFilter, *, total: bool = True
    ) -> Page[ScheduleRecord]:
        _check_page(offset, limit)
        return self.read(schedules.list_schedules, offset, limit, options, total=total)

    def fire_schedule(self, id: int, due: datetime, next_run: datetime, job: NewJob) -> Enqueued | None:
        return self.write(schedules.fire_schedule, id, due, next_run, job)

    # -- The whole ----------------------------------------------------------------------------------------

    def repair(self, missing_after: float, remove_after: float, stuck_after: float) -> Repaired:
        leases = 0
        while True:
            swept, ended = self.write(lambda work: transitions.sweep(work, work.now()))
            leases += ended
            if swept < CHUNK:
                break
        return Repaired(
            leases=leases,
            workers=self.write(upkeep.remove_missing_workers, missing_after),
            expired=self._batches(upkeep.remove_expired_jobs),
            stuck=self._batches(upkeep.fail_stuck_jobs, stuck_after),
            removed=self._batches(upkeep.remove_finished_jobs, remove_after)
            + self._batches(upkeep.remove_kept_jobs),
            lost=self.read(upkeep.lost_attempts),
        )

    def _batches(
        self, step: Callable[Concatenate[Work, P], tuple[int, bool]], *args: P.args, **kwargs: P.kwargs
    ) -> int:
        """Do upkeep in short transactions, so that it never holds the queue up; answer the sum."""
        done, more = self.write(step, *args, **kwargs)
        while more:
            again, more = self.write(step, *args, **kwargs)
            done += again
        return done

    def stats(self, *, exact: bool = True) -> Stats:
        return self.read(upkeep.stats, exact=exact)

    def history(self) -> list[HistoryHour]:
        return self.read(upkeep.history)

    def reset(self, *, all: bool = False, locks: bool = False) -> None:
        if all or locks:
            self.write(upkeep.reset, all=all)


def _check_page(offset: int, limit: int) -> None:
    values.check_integer(offset, "offset", 0)
    values.check_integer(limit, "limit", 0)


def replace_dead(engine: sa.Engine, is_quiet: Callable[[Any], bool]) -> None:
    """Have the pool replace connections that the server ended while they lay idle, before they are used.

    Args:
        engine: Whose pool.
        is_quiet: Says whether a driver's connection is as it was left.
    """

    def look(connection: Any, _record: Any, _proxy: Any) -> None:
        if not is_quiet(connection):
            raise sa.exc.DisconnectionError

    sa.event.listen(engine, "checkout", look)


def _of_the_driver(error: BaseException) -> BaseException:
    """Answer the driver's own error within one of SQLAlchemy's."""
    return error.orig if isinstance(error, sa.exc.DBAPIError) and error.orig is not None else error
