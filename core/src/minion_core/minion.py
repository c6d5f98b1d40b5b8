"""The client: tasks, enqueueing, results, locks, schedules, repair.

Policy lives here and in ``job.py``; what is stored and how is the backend's.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, Protocol, Self, TypeVar, overload

from minion_core import foreground, schedules, values
from minion_core.backend import Backend
from minion_core.errors import JobFailed, MinionError, UnknownJob, UnknownTask
from minion_core.guard import Guard
from minion_core.job import Job, read_handle
from minion_core.plugins import Plugins, backend_class, safe_url
from minion_core.records import (
    WORKER_WENT_AWAY,
    Enqueued,
    Failed,
    HistoryHour,
    JobFilter,
    JobRecord,
    LostAttempt,
    NewJob,
    Repaired,
    State,
    Stats,
    WorkerFilter,
    WorkerRecord,
)
from minion_core.task import Task, check_fields
from minion_core.worker import Worker

if TYPE_CHECKING:
    from minion_core.backend import Clock
    from minion_core.schedules import Dispatched
    from minion_core.values import Seconds, When

logger = logging.getLogger(__name__)

P = ParamSpec("P")
R = TypeVar("R")

PAGE = 100
"""How many records an iterator asks for at a time."""

FIRST_LOOK = 0.005
"""How soon ``result`` looks again at first, in seconds; then it waits longer each time, up to its
interval."""

_living: weakref.WeakSet[Minion] = weakref.WeakSet()


def backoff(failures: int) -> float:
    """Answer Minion's delay before a retry: ``n ** 4 + 15`` seconds after n earlier failures."""
    return float(failures**4 + 15)


class _Worker(Protocol):
    """A class as in TheSchwartz: its jobs take any arguments, whatever its ``__init__`` takes."""

    def work(self, job: Job, /) -> Any: ...


class Minion:
    """A queue in a database.

    Attributes:
        tasks: The registered tasks by name.
        plugins: Those that observe this queue.
        missing_after: Seconds without a heartbeat after which a worker is gone.
        remove_after: Seconds after which finished jobs are removed.
        stuck_after: Seconds that a job may be overdue.
        decline_delay: Seconds that a declined job without a lease waits.
        made_in: Name of the module that made this object.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        missing_after: Seconds = 1800,
        remove_after: Seconds = 172_800,
        stuck_after: Seconds = 172_800,
        backoff: Callable[[int], float] = backoff,
        decline_delay: Seconds = 60,
        plugins: Iterable[object] = (),
        clock: Clock | None = None,
    ) -> None:
        """Connect to nothing yet: that happens at the first use.

        Args:
            url: Where the queue is; by default the environment variable ``MINION_URL`` says.
            missing_after: A worker not heard of for so many seconds is gone (30 minutes).
            remove_after: Finished jobs are removed so many seconds after they ended (2 days).
            stuck_after: A job overdue by so many seconds has failed (2 days).
            backoff: Given the number of earlier failures, answers the seconds before the next attempt.
            decline_delay: A declined job without a lease can be claimed again after so many seconds.
            plugins: Plugins beside those that are installed; see ``minion_core.hookspecs``.
            clock: Answers now in place of the store's clock, for tests.

        Raises:
            TypeError: An option is of the wrong type.
            ValueError: An option is out of bounds.
        """
        self._url = url
        self.missing_after = _not_negative(missing_after, "missing_after")
        self.remove_after = _not_negative(remove_after, "remove_after")
        self.stuck_after = _not_negative(stuck_after, "stuck_after")
        self.decline_delay = _not_negative(decline_delay, "decline_delay")
        self._backoff = backoff
        self._clock = clock
        self.plugins = Plugins(plugins)
        self.tasks: dict[str, Task[..., Any]] = {}
        self.made_in: str = sys._getframe(1).f_globals.get("__name__", "__main__")  # noqa: SLF001
        self._backend: Backend | None = None
        self._inherited: list[Backend] = []
        self._opening = threading.Lock()
        _living.add(self)

    def __repr__(self) -> str:
        return f"<Minion {safe_url(self._url or os.environ.get('MINION_URL', 'without a URL'))}>"

    # -- The backend --------------------------------------------------------------------------------------

    @property
    def url(self) -> str:
        """Where the queue is.

        Raises:
            MinionError: Neither this object nor ``MINION_URL`` says.
        """
        url = self._url or os.environ.get("MINION_URL")
        if not url:
            raise MinionError('no database is named: say Minion("sqlite:///jobs.db"), or set MINION_URL')
        return url

    @url.setter
    def url(self, url: str) -> None:
        self.close()
        self._url = url

    @property
    def backend(self) -> Backend:
        """The open backend; opened at first use, and anew in a forked process.

        Raises:
            UnknownBackend: No plugin is installed for the URL's scheme.
            BackendError: The store could not be opened.
        """
        if self._backend is None:
            with self._opening:
                if self._backend is None:
                    backend = backend_class(self.url)(self.url, clock=self._clock)
                    backend.open()
                    self._backend = backend
        return self._backend

    def use(self, backend: Backend) -> Self:
        """Take a backend that was opened already, in place of that of the URL."""
        self.close()
        self._url = backend.url
        self._backend = backend
        return self

    def close(self) -> None:
        """Let go of every connection; the next use connects again."""
        with self._opening:
            backend, self._backend = self._backend, None
        if backend is not None:
            backend.close()

    def _forget_connections(self) -> None:
        # After a fork these belong to the parent: closing one here would say goodbye in its name.
        if self._backend is not None:
            self._inherited.append(self._backend)
            self._backend = None
        self._opening = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    # -- Tasks --------------------------------------------------------------------------------------------

    @overload
    def task(self, function: type[_Worker], /) -> Task[..., Any]: ...
    @overload
    def task(self, function: Callable[Concatenate[Job, P], R], /) -> Task[P, R]: ...
    @overload
    def task(self, function: Callable[P, R], /) -> Task[P, R]: ...
    @overload
    def task(self, name: str | None = None, /, **options: Any) -> _Registrar: ...
    def task(self, function: Any = None, /, **options: Any) -> Any:
        """Register a function or class as a task: ``@minion.task``, or ``@minion.task("name", attempts=5)``.

        Without a name, that of the function is taken. See ``add_task`` for the options.
        """
        if callable(function):
            return self.add_task(function.__name__, function, **options)
        return _Registrar(self, function, options)

    def add_task(self, name: str, function: Callable[..., R], **options: Any) -> Task[..., R]:
        """Register code under a name; what had that name before is replaced.

        Args:
            name: What jobs call it by.
            function: A function; one whose first parameter is called ``job`` gets the job; or a class with
                ``work(self, job)``.
            **options: ``attempts``, ``delay``, ``expire``, ``keep_for``, ``lax``, ``lease``, ``notes``,
                ``priority``, ``queue`` are defaults for its jobs. ``retry_delay`` is a number of seconds, or
                a callable that is given the number of failures. ``timeout``, ``limit`` and ``executor`` are
                for the worker.

        Raises:
            TypeError: It is no such code, or an option is not known or of the wrong type.
            ValueError: An option is out of bounds.
        """
        task: Task[..., R] = Task(self, name, function, **options)
        self.tasks[task.name] = task
        return task

    def task_named(self, name: str) -> Task[..., Any]:
        """Answer a registered task.

        Raises:
            UnknownTask: There is none of that name.
        """
        try:
            return self.tasks[name]
        except KeyError:
            known = ", ".join(sorted(self.tasks)) or "none"
            raise UnknownTask(f"no task {name!r} is registered (known: {known})") from None

    def retry_delay(self, task: str, failures: int) -> float:
        """Answer the seconds between a failure and the next attempt (JOB-02).

        Args:
            task: Name of the task, which need not be registered here.
            failures: How many failures came before this one.
        """
        known = self.tasks.get(task)
        return self._backoff(failures) if known is None else known.delay_before_retry(failures, self._backoff)

    # -- Enqueueing ---------------------------------------------------------------------------------------

    def enqueue(
        self,
        task: str,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        *,
        connection: Any = None,
        **fields: Any,
    ) -> int:
        """Enqueue a job, and answer its id.

        Args:
            task: Name of the task, which need not be registered here; if it is, its defaults apply.
            args: Positional arguments, a list or tuple of what JSON can hold.
            kwargs: Keyword arguments.
            connection: The caller's own database connection, to enqueue in its transaction (ENQ-08).
            **fields: Fields of ``NewJob``: ``attempts``, ``delay``, ``expire``, ``lax``, ``notes``,
                ``parents``, ``priority``, ``queue``, ``uniqkey``, ``coalesce``, ``lease``, ``keep_for``.

        Raises:
            TypeError: A value is of the wrong type, or JSON cannot hold it.
            ValueError: A value is out of bounds, or JSON cannot hold it.
            BackendError: The store refused it, or could not be reached.
        """
        check_fields(fields)
        known = self.tasks.get(task)
        if known is not None:
            fields = {**known.defaults, **fields}
        job = NewJob(task, args, {} if kwargs is None else kwargs, **fields)
        return self.enqueue_new([job], connection=connection)[0].id

    def enqueue_many(self, jobs: Iterable[NewJob], *, connection: Any = None) -> list[Enqueued]:
        """Enqueue jobs, all or none, and answer for each its id and whether it was created (ENQ-03).

        A ``NewJob`` says all about itself: no defaults of a task apply, unless ``Task.new_job`` made it.
        """
        return self.enqueue_new(list(jobs), connection=connection)

    def insert(self, job: NewJob) -> Job:
        """Enqueue a job, and answer it."""
        return self._job(self.enqueue_new([job])[0].id)

    def enqueue_new(self, jobs: Sequence[NewJob], *, connection: Any = None) -> list[Enqueued]:
        """Enqueue jobs and tell the plugins: the one way in."""
        for job in jobs:
            if not isinstance(job, NewJob):
                raise TypeError(f"jobs to enqueue must be NewJob values, not {type(job).__name__}")
        if not jobs:
            return []
        enqueued = self.backend.enqueue(jobs, connection=connection)
        self.plugins.notify("minion_enqueued", minion=self, jobs=jobs, enqueued=enqueued)
        return enqueued

    # -- Looking at jobs and workers ----------------------------------------------------------------------

    def job(self, handle: int | str) -> Job | None:
        """Answer a job by its id or handle; ``None`` when there is none (any more).

        Raises:
            TypeError: It is neither.
            ValueError: The text is no handle, the number no id.
        """
        found = self.jobs_by_id([read_handle(handle)])
        return found[0] if found else None

    def jobs_by_id(self, ids: Sequence[int]) -> list[Job]:
        """Answer those of the jobs that are there, in the order given."""
        if not ids:
            return []
        found = self.backend.list_jobs(0, len(ids), JobFilter(ids=list(ids)), total=False).items
        by_id = {record.id: record for record in found}
        return [Job(self, by_id[id]) for id in ids if id in by_id]

    def _job(self, id: int) -> Job:
        found = self.job(id)
        if found is None:
            raise UnknownJob(f"there is no job {id} (any more)")
        return found

    def result(self, handle: int | str, timeout: Seconds | None = None, interval: Seconds = 0.5) -> Any:
        """Wait for a job to end, and answer its result.

        Args:
            handle: Its id or handle.
            timeout: How long to wait; ``None`` is for ever.
            interval: How often to look, at the longest; at first it looks more often.

        Raises:
            JobFailed: The job has failed; ``result`` of the error is what it left.
            UnknownJob: There is no such job (any more).
            TimeoutError: It did not end in time.
        """
        id = read_handle(handle)
        longest = values.positive_seconds(interval, "interval") or FIRST_LOOK
        limit = None if timeout is None else time.monotonic() + _not_negative(timeout, "timeout")
        pause = min(FIRST_LOOK, longest)
        while True:
            record = self._job_record(id)
            if record.state == State.FINISHED:
                return record.result
            if record.state == State.FAILED:
                raise JobFailed(id, record.result)
            left = pause if limit is None else limit - time.monotonic()
            if left <= 0:
                raise TimeoutError(
                    f"job {id} is still {record.state} after {_not_negative(timeout or 0, ''):g} s"
                )
            time.sleep(min(pause, left))
            pause = min(pause * 1.5, longest)

    def _job_record(self, id: int) -> JobRecord:
        found = self.backend.list_jobs(0, 1, JobFilter(ids=[id]), total=False).items
        if not found:
            raise UnknownJob(f"there is no job {id} (any more)")
        return found[0]

    def jobs(self, **conditions: Any) -> Iterator[JobRecord]:
        """Iterate over all jobs that match, newest first, each at most once (LIST-05).

        Args:
            **conditions: Fields of ``JobFilter``: ``before``, ``ids``, ``notes``, ``queues``, ``states``,
                ``tasks``.
        """
        wanted = JobFilter(**conditions)
        while page := self.backend.list_jobs(0, PAGE, wanted, total=False).items:
            yield from page
            if len(page) < PAGE:
                return
            wanted = JobFilter(**{**conditions, "before": page[-1].id})

    def workers(self, **conditions: Any) -> Iterator[WorkerRecord]:
        """Iterate over all workers that match, newest first, each at most once (LIST-05).

        Args:
            **conditions: Fields of ``WorkerFilter``: ``before``, ``ids``.
        """
        wanted = WorkerFilter(**conditions)
        while page := self.backend.list_workers(0, PAGE, wanted, total=False).items:
            yield from page
            if len(page) < PAGE:
                return
            wanted = WorkerFilter(**{**conditions, "before": page[-1].id})

    def stats(self, *, exact: bool = True) -> Stats:
        """Answer statistics of the whole queue; with ``exact=False`` ended jobs may be estimated."""
        return self.backend.stats(exact=exact)

    def history(self) -> list[HistoryHour]:
        """Answer how many jobs finished and failed in each of the last 24 hours, oldest first."""
        return self.backend.history()

    # -- Locks --------------------------------------------------------------------------------------------

    def lock(self, name: str, duration: Seconds, limit: int = 1) -> str | None:
        """Take one of ``limit`` shares of a lock until it is released or the duration has passed (LOCK-01).

        Returns:
            A token for ``unlock``; ``None`` when all shares are out.
        """
        values.check_name(name, "the lock's name")
        values.check_integer(limit, "limit", 1)
        return self.backend.lock(name, _not_negative(duration, "duration"), limit)

    def unlock(self, name: str, token: str | None = None) -> bool:
        """Release the share of that token, or the one that would expire first; ``False`` if there is none."""
        return self.backend.unlock(values.check_name(name, "the lock's name"), token)

    def is_locked(self, name: str, limit: int = 1) -> bool:
        """Say whether all ``limit`` shares of a lock are out."""
        return self.lock(name, 0, limit) is None

    def guard(self, name: str, duration: Seconds, limit: int = 1) -> Guard:
        """Take a share of a lock for the length of a ``with`` block; the guard is false if it got none."""
        return Guard(self, name, self.lock(name, duration, limit))

    # -- Schedules ----------------------------------------------------------------------------------------

    def schedule(
        self,
        name: str,
        cron: str,
        task: str,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        *,
        time_zone: str = "UTC",
        first_run: When | None = None,
        **fields: Any,
    ) -> int:
        """Create a schedule, or replace the one of that name, and answer its id (SCHED-01).

        Args:
            name: Its unique name.
            cron: Five fields, or ``@hourly`` and its like.
            task: Name of the task of its jobs; if it is registered here, its defaults apply.
            args: Positional arguments of each job.
            kwargs: Keyword arguments of each job.
            time_zone: The IANA time zone that ``cron`` is read in.
            first_run: When a new schedule is first due, if not when ``cron`` says; 0 is at once.
            **fields: ``attempts``, ``expire``, ``lax``, ``notes``, ``priority``, ``queue`` of each job.

        Raises:
            TypeError: A value is of the wrong type.
            ValueError: The expression or time zone is not known or never due, or a value is out of bounds.
        """
        return self.backend.schedule(
            schedules.new_schedule(
                self,
                name,
                cron,
                task,
                args=args,
                kwargs=kwargs,
                time_zone=time_zone,
                first_run=first_run,
                **fields,
            )
        )

    def unschedule(self, name: str) -> bool:
        """Remove a schedule; ``False`` when there is none of that name."""
        return self.backend.unschedule(name)

    def pause_schedule(self, name: str) -> bool:
        """Keep a schedule from firing; ``False`` when there is none of that name."""
        return self.backend.pause_schedule(name)

    def resume_schedule(self, name: str) -> bool:
        """Let a paused schedule fire again; ``False`` when there is none of that name."""
        return self.backend.resume_schedule(name)

    def dispatch_schedules(self) -> list[Dispatched]:
        """Enqueue one job for each due schedule, and answer what was enqueued (SCHED-02).

        Workers do this by themselves. However many do it at the same moment, each run happens once.
        """
        return schedules.dispatch(self)

    # -- Administration -----------------------------------------------------------------------------------

    def broadcast(self, command: str, args: Sequence[Any] = (), ids: Sequence[int] | None = None) -> bool:
        """Send a remote command to these workers, or to all; ``True`` if any got it (WORK-03)."""
        values.check_name(command, "the command")
        values.encode_json(values.check_json_array(args, "args"), "args")
        return self.backend.broadcast(command, args, ids)

    def repair(self) -> Repaired:
        """Find and mend what broke: workers gone, leases ended, old jobs (REP-01 to REP-05).

        Workers do this by themselves. It may be done anywhere, at any time, by several at once.
        """
        repaired = self.backend.repair(self.missing_after, self.remove_after, self.stuck_after)
        if repaired.lost:
            self._fail_lost(repaired.lost)
        return repaired

    def _fail_lost(self, lost: Sequence[LostAttempt]) -> None:
        outcomes = [
            Failed(
                attempt.id,
                attempt.retries,
                WORKER_WENT_AWAY,
                retry_in=self.retry_delay(attempt.task, attempt.failures) if attempt.attempts > 1 else None,
            )
            for attempt in lost
        ]
        settled = self.backend.settle(outcomes)
        for attempt, outcome, answer in zip(lost, outcomes, settled, strict=True):
            if answer.applied:
                logger.warning("Job %d (%s): %s", attempt.id, attempt.task, WORKER_WENT_AWAY)
            if self.plugins.observed("minion_failed") or self.plugins.observed("minion_retried"):
                for job in self.jobs_by_id([attempt.id]):
                    job.attempts = attempt.attempts
                    job.announce(outcome, answer)

    def reset(self, *, all: bool = False, locks: bool = False) -> None:
        """Empty the whole queue, or only its locks."""
        self.backend.reset(all=all, locks=locks)

    # -- Performing ---------------------------------------------------------------------------------------

    def worker(self, **options: Any) -> Worker:
        """Make a worker for this queue; see ``Worker`` for the options, and call its ``run``."""
        return Worker(self, **options)

    def foreground(self, handle: int | str) -> Any:
        """Retry a job and perform it here and now, and answer what it left as its result (JOB-08).

        Raises:
            UnknownJob: There is no such job (any more).
            UnknownTask: Its task is not registered here.
            JobNotClaimable: It is active, or other jobs are in its way; it stays as it is.
            Exception: What the job raised.
        """
        return foreground.foreground(self, read_handle(handle))

    def perform_jobs(self, **options: Any) -> int:
        """Perform in this process what is claimable until nothing is, and answer how many jobs that were.

        Args:
            **options: ``queues``, ``tasks``, ``id``, ``min_priority`` choose among the jobs; by default those
                of all registered tasks in the queue ``default``.
        """
        return foreground.perform_jobs(self, **options)


class _Registrar:
    """What ``@minion.task(...)`` with options answers: it registers the function that it is given."""

    def __init__(self, minion: Minion, name: str | None, options: Mapping[str, Any]) -> None:
        self._minion = minion
        self._name = name
        self._options = options

    @overload
    def __call__(self, function: type[_Worker], /) -> Task[..., Any]: ...
    @overload
    def __call__(self, function: Callable[Concatenate[Job, P], R], /) -> Task[P, R]: ...
    @overload
    def __call__(self, function: Callable[P, R], /) -> Task[P, R]: ...
    def __call__(self, function: Any, /) -> Any:
        return self._minion.add_task(self._name or function.__name__, function, **self._options)


def _not_negative(value: Seconds, what: str) -> float:
    number = values.seconds(value, what)
    if number < 0:
        raise ValueError(f"{what} must not be below 0 seconds, not {number:g}")
    return number


def _forget_all_connections() -> None:
    for minion in _living:
        minion._forget_connections()  # noqa: SLF001


os.register_at_fork(after_in_child=_forget_all_connections)
