"""What crosses the contract: the values that a backend is given and the values that it answers.

All of them are plain attrs records. Those that a caller makes check themselves when they are made
(ENQ-04), so a backend can trust every field. JSON fields are encoded once, there and then: a backend that
stores text takes ``args_json`` and the like, one that stores values takes ``decode_json(args_json)``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from typing import Any, Generic, TypeAlias, TypeVar

from attrs import field, frozen

from minion_core import values
from minion_core.values import Seconds, When, encode_json

T = TypeVar("T")

FOREGROUND_QUEUE = "minion_foreground"
"""The queue of jobs performed by ``foreground``; repair never looks for their workers (REP-04)."""

LEASE_ENDS_ALLOWED = 5
"""At the fifth end of a lease the job is failed instead of performed again (LEASE-02)."""

WORKER_WENT_AWAY = "Worker went away"
LEASE_ENDED = "Lease ended"
STUCK_IN_QUEUE = "Job appears stuck in queue"


class State(StrEnum):
    """The states of a job. The first two are *live*, the last two *terminal*."""

    INACTIVE = "inactive"
    ACTIVE = "active"
    FAILED = "failed"
    FINISHED = "finished"


# -- Jobs on their way in --------------------------------------------------------------------------------


def _parent_ids(value: Iterable[int]) -> tuple[int, ...]:
    if value == ():
        return ()
    if isinstance(value, (str, bytes)) or not isinstance(value, Iterable):
        raise TypeError(f"parents must be job ids, not {type(value).__name__}")
    return tuple(values.check_id(parent, "a parent") for parent in value)


def _optional_parent_ids(value: Iterable[int] | None) -> tuple[int, ...] | None:
    return None if value is None else _parent_ids(value)


def _delay(value: When) -> float | datetime:
    return 0.0 if value == 0 and value is not False else values.moment(value, "delay")


def _run_after(value: When) -> float | datetime:
    return values.moment(value, "run_after")


def _expiry(value: When | None) -> float | datetime | None:
    if value is None or isinstance(value, datetime):
        return None if value is None else values.moment(value, "expire")
    return values.positive_seconds(value, "expire")


def _expiry_length(value: Seconds | None) -> float | None:
    return values.positive_seconds(value, "expire")


def _lease(value: Seconds | None) -> float | None:
    return None if value is None else values.positive_seconds(value, "lease")


def _kept_for(value: Seconds | None) -> float | None:
    if value is None:
        return None
    number = values.seconds(value, "keep_for")
    if number < 0:
        raise ValueError(f"keep_for must not be below 0 seconds, not {number:g}")
    return number


def _retry_in(value: Seconds | None) -> float | None:
    return None if value is None else max(0.0, values.seconds(value, "retry_in"))


def _flag(value: object, what: str) -> bool:
    if value is True or value is False:
        return value
    raise TypeError(f"{what} must be True or False, not {type(value).__name__}")


@frozen(eq=True)
class NewJob:
    """A job to be enqueued.

    Args:
        task: Name of the task that will perform it (TheSchwartz: ``funcname``).
        args: Positional arguments, a JSON array.
        kwargs: Keyword arguments, a JSON object.
        attempts: How often it may be attempted, 1 or more.
        delay: When it can first be claimed (TheSchwartz: ``run_after``).
        expire: When it is given up unless it was claimed before; above 0 seconds.
        lax: Failed parents are not in its way either.
        notes: Anything to be kept with it, a JSON object.
        parents: Ids of the jobs that must be finished before it.
        priority: The higher, the earlier.
        queue: Name of its queue.
        uniqkey: At most one live job of the task holds a given key (ENQ-07).
        coalesce: Jobs with the same value can be claimed together (JOB-07).
        lease: For how long a claim of it is held (TheSchwartz: ``grab_for``); above 0 seconds.
        keep_for: For how long it is kept once it ended (TheSchwartz: ``keep_exit_status_for``).

    Attributes:
        args_json: The arguments as JSON text; likewise ``kwargs_json`` and ``notes_json``.

    Raises:
        TypeError: A field is of the wrong type, or holds what JSON does not know.
        ValueError: A field is out of bounds, or holds NUL, a lone surrogate, NaN or infinity.
    """

    task: str
    args: Sequence[Any] = ()
    kwargs: Mapping[str, Any] = field(factory=dict)
    attempts: int = 1
    delay: float | datetime = field(default=0.0, converter=_delay)
    expire: float | datetime | None = field(default=None, converter=_expiry)
    lax: bool = False
    notes: Mapping[str, Any] = field(factory=dict)
    parents: tuple[int, ...] = field(default=(), converter=_parent_ids)
    priority: int = 0
    queue: str = "default"
    uniqkey: str | None = None
    coalesce: str | None = None
    lease: float | None = field(default=None, converter=_lease)
    keep_for: float | None = field(default=None, converter=_kept_for)
    args_json: str = field(init=False, default="[]", repr=False, eq=False)
    kwargs_json: str = field(init=False, default="{}", repr=False, eq=False)
    notes_json: str = field(init=False, default="{}", repr=False, eq=False)

    def __attrs_post_init__(self) -> None:
        keep = object.__setattr__
        values.check_name(self.task, "the task's name")
        if self.args:
            keep(self, "args_json", encode_json(values.check_json_array(self.args, "args"), "args"))
        elif self.args != ():
            values.check_json_array(self.args, "args")
        if self.kwargs:
            keep(self, "kwargs_json", encode_json(values.check_json_object(self.kwargs, "kwargs"), "kwargs"))
        elif self.kwargs != {}:
            values.check_json_object(self.kwargs, "kwargs")
        if self.notes:
            keep(self, "notes_json", encode_json(values.check_json_object(self.notes, "notes"), "notes"))
        elif self.notes != {}:
            values.check_json_object(self.notes, "notes")
        if self.attempts != 1 or self.attempts is True:
            values.check_integer(self.attempts, "attempts", 1)
        if self.lax is not False:
            _flag(self.lax, "lax")
        if self.priority != 0 or self.priority is False:
            values.check_integer(self.priority, "priority")
        if self.queue != "default":
            values.check_name(self.queue, "the queue's name")
        if self.uniqkey is not None:
            values.check_name(self.uniqkey, "uniqkey")
        if self.coalesce is not None:
            values.check_name(self.coalesce, "coalesce")


@frozen
class Enqueued:
    """What became of a job that was enqueued.

    Attributes:
        id: The id of the new job, or of the live job that holds its ``uniqkey``.
        created: Whether a job was stored.
    """

    id: int
    created: bool = True


@frozen
class RetryOptions:
    """New values for a job that is retried; ``None`` keeps the old one (RETRY-01).

    Args:
        attempts: How often it may be attempted from now on, 1 or more.
        delay: When it can be claimed again.
        expire: When it is given up unless it was claimed before; above 0 seconds.
        lax: Failed parents are not in its way either.
        parents: Replace the parents it had, also by none.
        priority: The higher, the earlier.
        queue: Name of the queue to put it in.

    Raises:
        TypeError: A field is of the wrong type.
        ValueError: A field is out of bounds.
    """

    attempts: int | None = None
    delay: float | datetime = field(default=0.0, converter=_delay)
    expire: float | datetime | None = field(default=None, converter=_expiry)
    lax: bool | None = None
    parents: tuple[int, ...] | None = field(default=None, converter=_optional_parent_ids)
    priority: int | None = None
    queue: str | None = None

    def __attrs_post_init__(self) -> None:
        if self.attempts is not None:
            values.check_integer(self.attempts, "attempts", 1)
        if self.lax is not None:
            _flag(self.lax, "lax")
        if self.priority is not None:
            values.check_integer(self.priority, "priority")
        if self.queue is not None:
            values.check_name(self.queue, "the queue's name")


# -- Claiming --------------------------------------------------------------------------------------------


def _names(value: Iterable[str]) -> tuple[str, ...]:
    if isinstance(value, str):
        raise TypeError(f"names must be a list of text, not the text {value!r}")
    return tuple(dict.fromkeys(value))


@frozen
class DequeueOptions:
    """Which jobs a worker wants; all conditions hold at once (CLAIM-05).

    Args:
        tasks: Names of the tasks that it can perform. None of them: no job.
        queues: Names of the queues that it looks in. None of them: no job.
        id: Only this job.
        min_priority: Only jobs of at least this priority.
        limit: How many jobs at most.
        coalesce: Only jobs with this value.
        coalesce_prefix: Only jobs whose ``coalesce`` begins with these characters, taken literally.
    """

    tasks: tuple[str, ...] = field(converter=_names)
    queues: tuple[str, ...] = field(default=("default",), converter=_names)
    id: int | None = None
    min_priority: int | None = None
    limit: int = 1
    coalesce: str | None = None
    coalesce_prefix: str | None = None


@frozen
class ClaimedJob:
    """A job just claimed: all that its performer needs (CLAIM-08).

    The pair of ``id`` and ``retries`` is the attempt that an outcome names. ``grabbed_until`` is the end
    of its lease, ``None`` when it has no ``lease`` (in seconds).
    """

    id: int
    task: str
    args: list[Any]
    kwargs: dict[str, Any]
    retries: int
    attempts: int
    failures: int
    notes: dict[str, Any]
    queue: str
    priority: int
    coalesce: str | None = None
    uniqkey: str | None = None
    lease: float | None = None
    grabbed_until: datetime | None = None


# -- Settling: every way an attempt ends -----------------------------------------------------------------


@frozen
class Attempt:
    """One attempt at a job, the fence of every outcome: it applies only while the job is ``active`` with
    the same ``retries`` (SET-01).
    """

    id: int
    retries: int


@frozen
class Finished(Attempt):
    """The job was done (SET-02).

    Args:
        result: What it leaves, what JSON can hold.
        exit_status: TheSchwartz's exit status.
    """

    result: Any = None
    exit_status: int = 0
    result_json: str = field(init=False, default="null", repr=False, eq=False)

    def __attrs_post_init__(self) -> None:
        if self.result is not None:
            object.__setattr__(self, "result_json", encode_json(self.result, "the result"))
        values.check_integer(self.exit_status, "the exit status")


@frozen
class Failed(Attempt):
    """The attempt failed (SET-03).

    Args:
        message: What to record in the failure log.
        result: What the job leaves if it ends with this, what JSON can hold; ``None`` leaves the message.
        exit_status: 0 and ``None`` become 1.
        retry_in: Attempt it again in so many seconds, if attempts are left and it has not expired by then;
            ``None`` ends it.
    """

    message: str
    result: Any = None
    exit_status: int | None = 1
    retry_in: float | None = field(default=None, converter=_retry_in)
    result_json: str = field(init=False, default="null", repr=False, eq=False)

    def __attrs_post_init__(self) -> None:
        keep = object.__setattr__
        values.check_text(self.message, "the message")
        if self.result is None:
            keep(self, "result", self.message)
        keep(self, "result_json", encode_json(self.result, "the result"))
        keep(self, "exit_status", values.check_integer(self.exit_status or 1, "the exit status"))


@frozen
class Declined(Attempt):
    """The worker would rather not: back to ``inactive``, nothing recorded (SET-04).

    Args:
        run_after: When it can be claimed again.
    """

    run_after: float | datetime = field(default=0.0, converter=_run_after)


@frozen
class Released(Attempt):
    """A claim whose performance never began: claimable at once, nothing recorded (SET-08)."""


@frozen
class Replaced(Attempt):
    """The job is finished, and the new jobs are enqueued, in one transaction (SET-05)."""

    jobs: tuple[NewJob, ...] = field(default=(), converter=tuple[NewJob, ...])


Outcome: TypeAlias = Finished | Failed | Declined | Released | Replaced


@frozen
class Settled:
    """What became of an outcome.

    Attributes:
        applied: Whether it took effect; ``False`` when the attempt was over before.
        jobs: The jobs that replaced it, in the order given.
    """

    applied: bool
    jobs: tuple[Enqueued, ...] = ()


# -- Listing ---------------------------------------------------------------------------------------------


@frozen
class Page(Generic[T]):
    """A part of a listing, newest first.

    Attributes:
        items: The records asked for.
        total: How many match the filter in all, ``None`` when it was not asked for.
    """

    items: list[T]
    total: int | None = None


@frozen
class JobFilter:
    """Which jobs to list; conditions combine, ``None`` is none, an empty list matches nothing (LIST-02).

    Args:
        before: Only ids below this one.
        ids: Only these jobs.
        notes: Only jobs with at least one of these notes.
        queues: Only jobs in these queues.
        states: Only jobs in these states.
        tasks: Only jobs of these tasks.
    """

    before: int | None = None
    ids: Sequence[int] | None = None
    notes: Sequence[str] | None = None
    queues: Sequence[str] | None = None
    states: Sequence[str] | None = None
    tasks: Sequence[str] | None = None


@frozen
class JobRecord:
    """A job as it stands in the store (LIST-03). ``time`` is the store's now; lengths are in seconds."""

    id: int
    task: str
    args: list[Any]
    kwargs: dict[str, Any]
    attempts: int
    children: list[int]
    coalesce: str | None
    created: datetime
    delayed: datetime
    exit_status: int | None
    expires: datetime | None
    failures: int
    finished: datetime | None
    grabbed_until: datetime | None
    keep_for: float | None
    lax: bool
    lease: float | None
    notes: dict[str, Any]
    parents: list[int]
    priority: int
    queue: str
    result: Any
    retried: datetime | None
    retries: int
    started: datetime | None
    state: State
    time: datetime
    uniqkey: str | None
    worker: int | None


@frozen
class Failure:
    """One entry of a job's failure log (SET-07)."""

    message: str
    time: datetime
    worker: int | None
    retries: int


# -- Workers and locks -----------------------------------------------------------------------------------


@frozen
class WorkerFilter:
    """Which workers to list: ids below ``before``, only ``ids``; ``None`` is no condition (WORK-02)."""

    before: int | None = None
    ids: Sequence[int] | None = None


@frozen
class WorkerRecord:
    """A registered worker (WORK-02). ``jobs`` are the ids of the jobs active under its name."""

    id: int
    host: str
    pid: int
    started: datetime
    notified: datetime
    status: dict[str, Any]
    jobs: list[int]


@frozen
class LockRecord:
    """One unexpired share of a lock (LOCK-04). ``unlock`` takes its ``id`` as text for a token."""

    id: int
    name: str
    expires: datetime


# -- Schedules -------------------------------------------------------------------------------------------


@frozen
class NewSchedule:
    """A schedule to create or replace by name (SCHED-01). Cron is core's: ``next_run`` comes computed.

    Args:
        name: Its unique name.
        cron: The cron expression, five fields or ``@hourly`` and its like; stored as it is.
        next_run: The first run after now, used if the schedule is new, or its ``cron`` or ``time_zone`` is.
        task: Name of the task of each job; the rest as for ``NewJob``.
        time_zone: Name of the IANA time zone that the expression is read in.
        expire: Seconds that each job has from its enqueueing.
    """

    name: str
    cron: str
    next_run: datetime
    task: str
    args: Sequence[Any] = ()
    kwargs: Mapping[str, Any] = field(factory=dict)
    attempts: int = 1
    expire: float | None = field(default=None, converter=_expiry_length)
    lax: bool = False
    notes: Mapping[str, Any] = field(factory=dict)
    priority: int = 0
    queue: str = "default"
    time_zone: str = "UTC"
    args_json: str = field(init=False, default="[]", repr=False, eq=False)
    kwargs_json: str = field(init=False, default="{}", repr=False, eq=False)
    notes_json: str = field(init=False, default="{}", repr=False, eq=False)

    def __attrs_post_init__(self) -> None:
        values.check_name(self.name, "the schedule's name")
        values.check_name(self.cron, "the cron expression")
        values.check_name(self.time_zone, "the time zone")
        keep = object.__setattr__
        keep(self, "next_run", values.moment(self.next_run, "next_run"))
        job = self.new_job()
        keep(self, "args_json", job.args_json)
        keep(self, "kwargs_json", job.kwargs_json)
        keep(self, "notes_json", job.notes_json)

    def new_job(self) -> NewJob:
        """Make the job that a run of this schedule enqueues, which also checks all its fields."""
        return NewJob(
            task=self.task,
            args=self.args,
            kwargs=self.kwargs,
            attempts=self.attempts,
            expire=self.expire,
            lax=self.lax,
            notes=self.notes,
            priority=self.priority,
            queue=self.queue,
        )


@frozen
class ScheduleFilter:
    """Which schedules to list; ``None`` is no condition, an empty list matches nothing (SCHED-04).

    Args:
        before: Only ids below this one.
        ids: Only these schedules.
        names: Only schedules of these names.
        due: Only those that are not paused and whose next run is now or has passed.
    """

    before: int | None = None
    ids: Sequence[int] | None = None
    names: Sequence[str] | None = None
    due: bool = False


@frozen
class ScheduleRecord:
    """A schedule as it is stored (SCHED-04)."""

    id: int
    name: str
    cron: str
    time_zone: str
    task: str
    args: list[Any]
    kwargs: dict[str, Any]
    attempts: int
    expire: float | None
    lax: bool
    notes: dict[str, Any]
    priority: int
    queue: str
    paused: bool
    created: datetime
    next_run: datetime
    last_run: datetime | None
    last_job: int | None


# -- Repair, statistics ----------------------------------------------------------------------------------


@frozen
class LostAttempt:
    """An active attempt without a lease whose worker is not registered (REP-04); core settles it."""

    id: int
    retries: int
    task: str
    attempts: int
    failures: int
    worker: int | None


@frozen
class Repaired:
    """What a repair found and changed.

    Attributes:
        lost: Attempts whose worker is gone, for core to settle.
        workers: How many workers were unregistered (REP-01).
        removed: How many terminal jobs were removed (REP-02).
        expired: How many expired jobs were removed (REP-03).
        leases: How many leases had ended (LEASE-02).
        stuck: How many jobs were stuck and failed (REP-05).
    """

    lost: list[LostAttempt]
    workers: int = 0
    removed: int = 0
    expired: int = 0
    leases: int = 0
    stuck: int = 0


@frozen
class Stats:
    """Statistics of the whole queue (STAT-01). ``uptime`` is the store's, in seconds."""

    active_jobs: int
    active_locks: int
    active_workers: int
    delayed_jobs: int
    enqueued_jobs: int
    failed_jobs: int
    finished_jobs: int
    inactive_jobs: int
    inactive_schedules: int
    inactive_workers: int
    schedules: int
    workers: int
    uptime: float | None


@frozen
class HistoryHour:
    """One clock hour in UTC: jobs by the time they ended and the state they are in now (STAT-02)."""

    start: datetime
    finished_jobs: int
    failed_jobs: int


@frozen
class Capabilities:
    """What a backend can do beyond what is required of every one; each is declared, true or false.

    Args:
        transactional_enqueue: ``enqueue`` takes the caller's own database connection (ENQ-08).
        wakeup: Enqueueing in another process wakes ``wait`` (WAKE-01).
        concurrent_claims: A claim is served while another one is uncommitted (CLAIM-04).
        multi_process: Several processes can use one store at the same time.
        durable: What was acknowledged survives the loss of power.
        server_clock: "Now" is the store's clock, not the client's.
        uptime: ``stats`` knows since when the store has been up.
        time_resolution: The smallest difference between two stored instants, in seconds, 0.001 or finer.
    """

    transactional_enqueue: bool = field(kw_only=True)
    wakeup: bool = field(kw_only=True)
    concurrent_claims: bool = field(kw_only=True)
    multi_process: bool = field(kw_only=True)
    durable: bool = field(kw_only=True)
    server_clock: bool = field(kw_only=True)
    uptime: bool = field(kw_only=True)
    time_resolution: float = field(kw_only=True)
