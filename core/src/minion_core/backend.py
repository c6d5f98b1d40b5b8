"""The contract between the queue and a store: one class to write, and what every method of it promises.

A third party writes a subclass of ``Backend``, names it in one entry point, and proves it with one line of
test::

    # pyproject.toml
    [project.entry-points."minion.backends"]
    redis = "minion_redis"              # the URL's scheme = the module with the hook

    # minion_redis/__init__.py
    from minion_core import hookimpl
    from minion_redis.backend import RedisBackend

    @hookimpl
    def minion_backend(scheme: str) -> type[Backend] | None:
        return RedisBackend if scheme == "redis" else None

Backends know no task functions and no policy: what to do after a failure, how long to wait before a retry,
what a cron expression means, is core's and arrives here as plain values. Clause ids (``CLAIM-02``) are those
of ``docs/contract.md``. Overrides need no docstring; these are the reference.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, ClassVar, Self, TypeAlias

from minion_core.records import (
    Capabilities,
    ClaimedJob,
    DequeueOptions,
    Enqueued,
    Failure,
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

Clock: TypeAlias = Callable[[], datetime]
"""Answers now as an aware ``datetime``."""


class Backend(ABC):
    """A store of jobs.

    Every method may be called from any thread, at any time between ``open`` and ``close``. Each one is
    atomic: it has happened whole, or not at all. *Now* is the store's clock at the moment of the statement,
    or that of ``clock`` if one was given; instants are inclusive (what was to happen at now has happened).

    Every method may raise ``BackendUnavailable`` when the store cannot be reached, and ``BackendError`` for
    what else the store refuses; nothing has changed then, save that a commit whose answer was lost may have
    taken effect (SET-10). No other error of a driver leaves a backend. An object of this class is not
    carried over a fork: the child makes a new one.
    """

    capabilities: ClassVar[Capabilities]
    """What this class declares beyond what is required of all."""

    poll_interval: float = 1.0
    """How often ``wait`` looks for itself, in seconds, behind whatever wakes it."""

    def __init__(self, url: str, *, clock: Clock | None = None) -> None:
        """Read the URL; connect to nothing yet.

        Args:
            url: Where the store is: the scheme that the plugin was found by, and the rest as it likes.
            clock: Answers "now" in place of the store's own clock, in all that this object does.

        Raises:
            ValueError: The URL cannot be read, or has an option that is not known.
        """
        self.url = url
        self.clock = clock

    # -- Life ---------------------------------------------------------------------------------------------

    @abstractmethod
    def open(self, *, migrate: bool = True) -> None:
        """Connect and make ready: missing tables are created once, however many open at once (SAFE-04).

        Args:
            migrate: Create and update tables; without it, those that are missing raise ``SchemaError``.

        Raises:
            BackendUnavailable: The store cannot be reached; the message says where it was looked for.
            SchemaError: What is stored there is newer than this code, or somebody else's.
        """

    @abstractmethod
    def close(self) -> None:
        """Let go of every connection. May be called twice, and on an object that was never opened."""

    @abstractmethod
    def migrate(self) -> list[int]:
        """Bring the tables up to date; answer the numbers of the migrations that were applied.

        May be called before ``open``, and leaves a backend that was not open closed.
        """

    @classmethod
    @abstractmethod
    def migration_script(cls) -> str:
        """Answer all migrations as text for people to read, without connecting; "" when there are none."""

    @abstractmethod
    def describe(self) -> str:
        """Say in one line what was found: the store, its version, what it lends; no password."""

    @abstractmethod
    def now(self) -> datetime:
        """Answer now, aware, in UTC."""

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    # -- Jobs ---------------------------------------------------------------------------------------------

    @abstractmethod
    def enqueue(self, jobs: Sequence[NewJob], *, connection: Any = None) -> list[Enqueued]:
        """Store new jobs, all or none, and answer for each its id and whether it was created (ENQ-03).

        A job whose ``uniqkey`` a live job of the same task holds is not stored; the holder's id is answered
        (ENQ-07). Parents need not exist (DEP-02).

        Args:
            jobs: The jobs, in the order in which their ids shall grow.
            connection: The caller's own connection, to take part in its transaction (ENQ-08).

        Raises:
            Unsupported: A connection was given, and ``transactional_enqueue`` is not declared.
            BackendUnavailable: Nothing was stored; or, if the message says so, the jobs may have been.
        """

    @abstractmethod
    def dequeue(self, worker_id: int, options: DequeueOptions) -> list[ClaimedJob]:
        """Claim up to ``options.limit`` jobs for a worker, and answer them at once, in the order of CLAIM-02.

        Claimable is a job that is inactive, not delayed, not expired, and has no parent in its way (DEP-01).
        Active jobs that match and whose lease has ended are returned to ``inactive`` first (LEASE-02).
        """

    @abstractmethod
    def wait(self, timeout: float, options: DequeueOptions) -> None:
        """Come back when a job that matches may have become claimable, or after ``timeout`` seconds.

        A job that is claimable already brings it back at once; a job that nobody can claim does not bring it
        back again and again (WAKE-01). What falls due by the clock wakes it too (WAKE-02).
        """

    @abstractmethod
    def settle(self, outcomes: Sequence[Outcome]) -> list[Settled]:
        """End attempts: apply each outcome whose fence holds, and answer for each whether it did.

        The one door for every way an attempt ends; see the records for what each does. Each outcome is
        judged alone (SET-06). After a commit whose answer was lost, it is found out and answered whether the
        row shows this very outcome (SET-10).
        """

    @abstractmethod
    def extend_lease(self, id: int, retries: int, seconds: float) -> bool:
        """Move the end of an attempt's lease to now + seconds; ``False`` when the fence does not hold."""

    @abstractmethod
    def retry_job(self, id: int, retries: int, options: RetryOptions) -> bool:
        """Return a job in any state to ``inactive`` if ``retries`` matches (RETRY-01, RETRY-02).

        Adds one to ``retries``, sets ``retried`` to now and ``delayed`` to now plus the delay.
        """

    @abstractmethod
    def remove_jobs(self, ids: Sequence[int]) -> list[int]:
        """Remove those of the jobs that are not active, and answer their ids (REMOVE-01)."""

    @abstractmethod
    def note(self, id: int, changes: Mapping[str, Any]) -> bool:
        """Merge top-level keys into a job's notes, remove those set to ``None`` (NOTE-01).

        Raises:
            TypeError: The changes hold what JSON does not know.
            ValueError: They hold NUL, a lone surrogate, NaN or infinity.
        """

    @abstractmethod
    def add_failure(self, id: int, message: str) -> bool:
        """Record a failure with the job's present worker and retries, without settling (SET-07)."""

    @abstractmethod
    def list_jobs(
        self, offset: int, limit: int, options: JobFilter, *, total: bool = True
    ) -> Page[JobRecord]:
        """List jobs, newest first (LIST-01); expired inactive ones are left out (ENQ-06).

        Args:
            offset: How many to pass over.
            limit: How many at most.
            options: Which ones.
            total: Whether to count all that match, which may be dear (LIST-04).
        """

    @abstractmethod
    def failure_log(self, id: int) -> list[Failure]:
        """Answer a job's failures, oldest first; empty for an unknown job."""

    # -- Workers ------------------------------------------------------------------------------------------

    @abstractmethod
    def register_worker(self, id: int | None, host: str, pid: int, status: Mapping[str, Any]) -> int:
        """Register a worker, or send its heartbeat if ``id`` is given; answer the id (WORK-01)."""

    @abstractmethod
    def unregister_worker(self, id: int) -> bool:
        """Remove a worker and its inbox; ``False`` when it is not registered (WORK-04)."""

    @abstractmethod
    def list_workers(
        self, offset: int, limit: int, options: WorkerFilter, *, total: bool = True
    ) -> Page[WorkerRecord]:
        """List workers, newest first, with the ids of their active jobs (WORK-02)."""

    @abstractmethod
    def broadcast(self, command: str, args: Sequence[Any] = (), ids: Sequence[int] | None = None) -> bool:
        """Put ``[command, *args]`` into the inboxes of these workers, or of all; ``True`` if any got it."""

    @abstractmethod
    def receive(self, id: int) -> list[list[Any]]:
        """Answer a worker's inbox in order and empty it (WORK-03)."""

    # -- Locks --------------------------------------------------------------------------------------------

    @abstractmethod
    def lock(self, name: str, duration: float, limit: int = 1) -> str | None:
        """Take one of ``limit`` shares of a lock for ``duration`` seconds (LOCK-01).

        Returns:
            A token to release it by; ``None`` when all shares are out. With a duration of 0 nothing is
            taken, and a token that releases nothing says that a share could be had (LOCK-02).
        """

    @abstractmethod
    def unlock(self, name: str, token: str | None = None) -> bool:
        """Release the share of that token, or the unexpired one that would expire first (LOCK-03)."""

    @abstractmethod
    def list_locks(
        self, offset: int, limit: int, names: Sequence[str] | None = None, *, total: bool = True
    ) -> Page[LockRecord]:
        """List unexpired shares, newest first (LOCK-04)."""

    # -- Schedules ----------------------------------------------------------------------------------------

    @abstractmethod
    def schedule(self, schedule: NewSchedule) -> int:
        """Create a schedule, or replace the one of that name, and answer its id (SCHED-01).

        One that is replaced keeps id, created, paused, last run and last job; and its next run, if neither
        ``cron`` nor ``time_zone`` changed.
        """

    @abstractmethod
    def unschedule(self, name: str) -> bool:
        """Remove a schedule; ``False`` when there is none of that name."""

    @abstractmethod
    def pause_schedule(self, name: str) -> bool:
        """Keep a schedule from firing; ``False`` when there is none of that name."""

    @abstractmethod
    def resume_schedule(self, name: str) -> bool:
        """Let a paused schedule fire again; a run that fell due meanwhile happens once, at once."""

    @abstractmethod
    def list_schedules(
        self, offset: int, limit: int, options: ScheduleFilter, *, total: bool = True
    ) -> Page[ScheduleRecord]:
        """List schedules, newest first (SCHED-04)."""

    @abstractmethod
    def fire_schedule(self, id: int, due: datetime, next_run: datetime, job: NewJob) -> Enqueued | None:
        """Enqueue the job of a run and move the schedule on, in one transaction (SCHED-03).

        Happens only if the schedule is not paused and its next run is ``due``, and ``due`` is not ahead;
        otherwise ``None``, and nothing changes. Sets last run to now, last job, and the next run.
        """

    # -- The whole ----------------------------------------------------------------------------------------

    @abstractmethod
    def repair(self, missing_after: float, remove_after: float, stuck_after: float) -> Repaired:
        """Find and change what needs no policy (REP-01 to REP-05, LEASE-02); all three in seconds."""

    @abstractmethod
    def stats(self, *, exact: bool = True) -> Stats:
        """Count (STAT-01); with ``exact=False`` terminal jobs may be estimated."""

    @abstractmethod
    def history(self) -> list[HistoryHour]:
        """Answer the 24 clock hours in UTC up to the current one, oldest first (STAT-02)."""

    @abstractmethod
    def reset(self, *, all: bool = False, locks: bool = False) -> None:
        """Empty everything, or only the locks; ids are not used again (RESET-01)."""
