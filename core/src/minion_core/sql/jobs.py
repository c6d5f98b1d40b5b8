"""Jobs looked at and changed from outside: listings, notes, the failure log, removal."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from minion_core.errors import BackendError
from minion_core.records import ClaimedJob, Failure, JobFilter, JobRecord, Page, State
from minion_core.sql.enqueueing import delete_jobs
from minion_core.sql.tables import in_state
from minion_core.sql.transitions import FailureEntry, lock_jobs, log_failures
from minion_core.sql.work import Work, chunks
from minion_core.values import decode_json, encode_json

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement

UNREADABLE = "unreadable"
"""The one key of what is listed in place of an object that Python cannot read."""


def list_jobs(work: Work, offset: int, limit: int, options: JobFilter, *, total: bool) -> Page[JobRecord]:
    """List jobs, newest first (LIST-01 to LIST-04)."""
    jobs, edges = work.tables.jobs, work.tables.edges
    now = work.now()
    among = work.backend.among
    conditions: list[ColumnElement[bool]] = [
        sa.or_(sa.not_(in_state(jobs, State.INACTIVE)), jobs.c.expires.is_(None), jobs.c.expires > now)
    ]
    if options.before is not None:
        conditions.append(jobs.c.id < options.before)
    if options.ids is not None:
        conditions.append(among(jobs.c.id, options.ids))
    if options.notes is not None:
        conditions.append(work.backend.has_note(jobs.c.notes, options.notes))
    if options.queues is not None:
        conditions.append(among(jobs.c.queue, options.queues))
    if options.states is not None:
        states = [State(state) for state in options.states]
        conditions.append(in_state(jobs, *states) if states else sa.false())
    if options.tasks is not None:
        conditions.append(among(jobs.c.task, options.tasks))
    rows = work.connection.execute(
        sa.select(jobs).where(*conditions).order_by(jobs.c.id.desc()).limit(limit).offset(offset)
    ).all()
    children: dict[int, list[int]] = {}
    for some in chunks([row.id for row in rows]):
        for edge in work.connection.execute(
            sa.select(edges).where(edges.c.parent.in_(some)).order_by(edges.c.child)
        ):
            children.setdefault(edge.parent, []).append(edge.child)
    count = work.count(jobs, *conditions) if total else None
    return Page([_job_record(row, children.get(row.id, []), now) for row in rows], count)


def _job_record(row: sa.Row[Any], children: list[int], now: Any) -> JobRecord:
    return JobRecord(
        id=row.id,
        task=row.task,
        args=_read(row.args, lambda text: [text]),
        kwargs=_read(row.kwargs, lambda text: {UNREADABLE: text}),
        attempts=row.attempts,
        children=children,
        coalesce=row.coalesce,
        created=row.created,
        delayed=row.delayed,
        exit_status=row.exit_status,
        expires=row.expires,
        failures=row.failures,
        finished=row.finished,
        grabbed_until=row.grabbed_until,
        keep_for=row.keep_for,
        lax=row.lax,
        lease=row.lease,
        notes=_read(row.notes, lambda text: {UNREADABLE: text}),
        parents=list(row.parents),
        priority=row.priority,
        queue=row.queue,
        result=None if row.result is None else _read(row.result, str),
        retried=row.retried,
        retries=row.retries,
        started=row.started,
        state=State(row.state),
        time=now,
        uniqkey=row.uniqkey,
        worker=row.worker,
    )


def _read(text: str, stand_in: Callable[[str], Any]) -> Any:
    """Read JSON that another program may have written: nested a thousand deep, a number of 5,000 digits."""
    try:
        return decode_json(text)
    except (ValueError, RecursionError):
        return stand_in(text)


def claimed_job(columns: Sequence[Any], lease: float | None, grabbed_until: datetime | None) -> ClaimedJob:
    """Turn what a claim has read into a record; JSON that Python cannot read stays text, for `Task.begin`.

    Args:
        columns: Its fields from ``id`` to ``uniqkey``, in their order, JSON as text.
        lease: Seconds.
        grabbed_until: When that ends.
    """
    id, task, args, kwargs, retries, attempts, failures, notes, queue, priority, coalesce, uniqkey = columns
    return ClaimedJob(
        id,
        task,
        [] if args == "[]" else _read(args, str),
        {} if kwargs == "{}" else _read(kwargs, str),
        retries,
        attempts,
        failures,
        {} if notes == "{}" else _read(notes, str),
        queue,
        priority,
        coalesce,
        uniqkey,
        lease,
        grabbed_until,
    )


def note(work: Work, id: int, changes: Mapping[str, Any]) -> bool:
    """Merge notes under the row's lock, so that no change is lost (NOTE-01)."""
    jobs = work.tables.jobs
    row = work.connection.execute(
        work.backend.lock_rows(sa.select(jobs.c.notes).where(jobs.c.id == id))
    ).first()
    if row is None:
        return False
    before = _read(row.notes, str)
    if isinstance(before, str):
        raise BackendError(f"The notes of job {id} are more than Python reads, and cannot be changed")
    merged = before | changes
    notes = {key: value for key, value in merged.items() if value is not None or key not in changes}
    work.connection.execute(sa.update(jobs).where(jobs.c.id == id).values(notes=encode_json(notes, "notes")))
    return True


def add_failure(work: Work, id: int, message: str) -> bool:
    """Log a failure of a job as it stands (SET-07)."""
    row = lock_jobs(work, [id]).get(id)
    if row is None:
        return False
    log_failures(work, [FailureEntry(row, message)], work.now())
    return True


def failure_log(work: Work, id: int) -> list[Failure]:
    """Read a job's failures, oldest first."""
    failures = work.tables.failures
    rows = work.connection.execute(sa.select(failures).where(failures.c.job == id).order_by(failures.c.id))
    return [Failure(row.message, row.time, row.worker, row.retries) for row in rows]


def remove_jobs(work: Work, ids: Sequence[int]) -> list[int]:
    """Remove those that are not active, and answer which, in the order given (REMOVE-01)."""
    removable = {
        id
        for some in chunks(sorted(set(ids)))
        for id, row in lock_jobs(work, some).items()
        if row.state != State.ACTIVE
    }
    delete_jobs(work, sorted(removable))
    return [id for id in dict.fromkeys(ids) if id in removable]
