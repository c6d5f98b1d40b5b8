"""The reference's memory: what is stored, and the rules that more than one operation needs."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from attrs import Factory, define, field

from minion_core.records import (
    LEASE_ENDED,
    LEASE_ENDS_ALLOWED,
    Enqueued,
    Failure,
    JobRecord,
    LockRecord,
    NewJob,
    ScheduleRecord,
    State,
)
from minion_core.values import decode_json


def at(now: datetime, when: float | datetime) -> datetime:
    """Turn a moment, in seconds from now or as a ``datetime``, into a ``datetime``."""
    return when if isinstance(when, datetime) else now + timedelta(seconds=when)


@define
class StoredJob:
    """A job as it is kept; JSON stays text, so that nobody changes it from outside."""

    id: int
    task: str
    args: str
    kwargs: str
    notes: dict[str, Any]
    attempts: int
    created: datetime
    delayed: datetime
    expires: datetime | None
    lax: bool
    parents: list[int]
    priority: int
    queue: str
    uniqkey: str | None
    coalesce: str | None
    lease: float | None
    keep_for: float | None
    state: State = State.INACTIVE
    retries: int = 0
    worker: int | None = None
    started: datetime | None = None
    finished: datetime | None = None
    retried: datetime | None = None
    grabbed_until: datetime | None = None
    exit_status: int | None = None
    result: str = "null"
    failures: list[Failure] = field(factory=list)

    @property
    def terminal(self) -> bool:
        return self.state in (State.FAILED, State.FINISHED)


@define
class StoredWorker:
    """A worker and its inbox."""

    id: int
    host: str
    pid: int
    started: datetime
    notified: datetime
    status: str
    inbox: list[str] = field(factory=list)


@define
class Store:
    """Everything under one name. Whoever touches it holds ``mutex``."""

    mutex: threading.RLock = field(factory=threading.RLock)
    changed: threading.Condition = field(
        default=Factory(lambda self: threading.Condition(self.mutex), takes_self=True)
    )
    since: datetime = field(factory=lambda: datetime.now(UTC))
    jobs: dict[int, StoredJob] = field(factory=dict)
    workers: dict[int, StoredWorker] = field(factory=dict)
    locks: dict[int, LockRecord] = field(factory=dict)
    schedules: dict[int, ScheduleRecord] = field(factory=dict)
    last_job: int = 0
    last_other: int = 0

    def next_id(self) -> int:
        """Make an id for anything but a job; none is used again."""
        self.last_other += 1
        return self.last_other

    # -- Rules --------------------------------------------------------------------------------------------

    def expired(self, job: StoredJob, now: datetime) -> bool:
        """Tell whether an inactive job has expired (ENQ-06)."""
        return job.state == State.INACTIVE and job.expires is not None and job.expires <= now

    def live(self, job: StoredJob, now: datetime) -> bool:
        """Tell whether a job holds its key (ENQ-07)."""
        return not job.terminal and not self.expired(job, now)

    def in_the_way(self, parent: int, child: StoredJob, now: datetime) -> bool:
        """Tell whether a parent is in the way of a child (DEP-01, DEP-02)."""
        job = self.jobs.get(parent)
        if job is None or self.expired(job, now):
            return False
        if job.state == State.FAILED:
            return not child.lax
        return not job.terminal

    def claimable(self, job: StoredJob, now: datetime) -> bool:
        """Tell whether any worker that wants it could claim this job now."""
        return (
            job.state == State.INACTIVE
            and job.delayed <= now
            and not self.expired(job, now)
            and not any(self.in_the_way(parent, job, now) for parent in job.parents)
        )

    def holder(self, task: str, uniqkey: str | None, now: datetime, but: int = 0) -> StoredJob | None:
        """Find the live job, other than one, that holds a key."""
        if uniqkey is None:
            return None
        for job in self.jobs.values():
            if (job.task, job.uniqkey) == (task, uniqkey) and job.id != but and self.live(job, now):
                return job
        return None

    def children(self, id: int) -> list[StoredJob]:
        """Find the jobs that name this one as a parent."""
        return [job for job in self.jobs.values() if id in job.parents]

    def ancestors(self, id: int) -> set[int]:
        """Find a job and all that it waits for, by their ids."""
        found, look = set[int](), [id]
        while look:
            one = look.pop()
            if one not in found:
                found.add(one)
                look += self.jobs[one].parents if one in self.jobs else []
        return found

    # -- Changes ------------------------------------------------------------------------------------------

    def add(self, new: NewJob, now: datetime) -> Enqueued:
        """Store a job, unless its key is held."""
        holder = self.holder(new.task, new.uniqkey, now)
        if holder is not None:
            return Enqueued(holder.id, created=False)
        self.last_job += 1
        self.jobs[self.last_job] = StoredJob(
            id=self.last_job,
            task=new.task,
            args=new.args_json,
            kwargs=new.kwargs_json,
            notes=decode_json(new.notes_json),
            attempts=new.attempts,
            created=now,
            delayed=at(now, new.delay),
            expires=None if new.expire is None else at(now, new.expire),
            lax=new.lax,
            parents=list(new.parents),
            priority=new.priority,
            queue=new.queue,
            uniqkey=new.uniqkey,
            coalesce=new.coalesce,
            lease=new.lease,
            keep_for=new.keep_for,
        )
        return Enqueued(self.last_job)

    def end(self, job: StoredJob, state: State, now: datetime, result: str, exit_status: int) -> None:
        """Bring a job to a terminal state."""
        job.state = state
        job.finished = now
        job.result = result
        job.exit_status = exit_status
        job.grabbed_until = None

    def give_back(self, job: StoredJob, delayed: datetime) -> None:
        """Return a job to ``inactive`` (SET-09)."""
        job.state = State.INACTIVE
        job.retries += 1
        job.delayed = delayed
        job.worker = None
        job.grabbed_until = None
        job.exit_status = None

    def fail(self, job: StoredJob, message: str, now: datetime) -> None:
        """Add to a job's failure log (SET-07)."""
        job.failures.append(Failure(message=message, time=now, worker=job.worker, retries=job.retries))

    def leases_ended(self, now: datetime) -> Iterator[StoredJob]:
        """Find the active jobs whose lease has ended."""
        for job in list(self.jobs.values()):
            if job.state == State.ACTIVE and job.grabbed_until is not None and job.grabbed_until <= now:
                yield job

    def end_lease(self, job: StoredJob, now: datetime) -> None:
        """Take a job from whoever held it for too long (LEASE-02)."""
        self.fail(job, LEASE_ENDED, now)
        ends = sum(failure.message == LEASE_ENDED for failure in job.failures)
        if ends >= LEASE_ENDS_ALLOWED:
            self.end(job, State.FAILED, now, f'"{LEASE_ENDED}"', 1)
        else:
            self.give_back(job, now)

    # -- Answers ------------------------------------------------------------------------------------------

    def job_record(self, job: StoredJob, now: datetime) -> JobRecord:
        """Show a job as it is listed (LIST-03)."""
        return JobRecord(
            id=job.id,
            task=job.task,
            args=decode_json(job.args),
            kwargs=decode_json(job.kwargs),
            attempts=job.attempts,
            children=[child.id for child in self.children(job.id)],
            coalesce=job.coalesce,
            created=job.created,
            delayed=job.delayed,
            exit_status=job.exit_status,
            expires=job.expires,
            failures=len(job.failures),
            finished=job.finished,
            grabbed_until=job.grabbed_until,
            keep_for=job.keep_for,
            lax=job.lax,
            lease=job.lease,
            notes=dict(job.notes),
            parents=list(job.parents),
            priority=job.priority,
            queue=job.queue,
            result=decode_json(job.result),
            retried=job.retried,
            retries=job.retries,
            started=job.started,
            state=job.state,
            time=now,
            uniqkey=job.uniqkey,
            worker=job.worker,
        )

    def unexpired_locks(self, names: Sequence[str] | None, now: datetime) -> list[LockRecord]:
        """List the shares that are out, newest first (LOCK-04)."""
        return sorted(
            (
                share
                for share in self.locks.values()
                if share.expires > now and (names is None or share.name in names)
            ),
            key=lambda share: -share.id,
        )
