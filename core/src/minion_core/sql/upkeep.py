"""Repair, statistics, history and reset: the queue as a whole."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import sqlalchemy as sa

from minion_core.records import FOREGROUND_QUEUE, STUCK_IN_QUEUE, HistoryHour, LostAttempt, State, Stats
from minion_core.sql.enqueueing import delete_jobs
from minion_core.sql.readiness import in_the_way, release_children
from minion_core.sql.tables import ENDED, has_ended, in_state
from minion_core.sql.transitions import End, end_jobs, lock_jobs
from minion_core.sql.work import CHUNK, Work, at
from minion_core.values import encode_json

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement

STUCK_RESULT = encode_json(STUCK_IN_QUEUE, "the result")
HOURS = 24


def remove_missing_workers(work: Work, missing_after: float) -> int:
    """Unregister workers not heard of (REP-01)."""
    workers = work.tables.workers
    silent = workers.c.notified <= at(work.now(), -missing_after)
    return work.connection.execute(sa.delete(workers).where(silent)).rowcount


def remove_finished_jobs(work: Work, remove_after: float) -> tuple[int, bool]:
    """Remove finished jobs that were kept long enough, unless a job that is not finished needs them (REP-02).

    Returns:
        How many of a bounded number were removed, and whether there may be more.
    """
    jobs = work.tables.jobs
    old = jobs.c.finished <= at(work.now(), -remove_after)
    return _remove(
        work, sa.and_(has_ended(jobs, State.FINISHED), old, jobs.c.keep_for.is_(None)), unless=_needed(work)
    )


def remove_kept_jobs(work: Work) -> tuple[int, bool]:
    """Remove terminal jobs past their own ``keep_for``, likewise (REP-02, JOB-06)."""
    jobs = work.tables.jobs
    over = sa.and_(in_state(jobs, *ENDED), jobs.c.due.is_not(None), jobs.c.due <= work.now())
    return _remove(work, over, unless=_needed(work))


def _needed(work: Work) -> ColumnElement[bool]:
    jobs, edges = work.tables.jobs, work.tables.edges
    child = work.tables.child
    return (
        sa.select(sa.literal(1))
        .select_from(edges.join(child, child.c.id == edges.c.child))
        .where(edges.c.parent == jobs.c.id, sa.not_(in_state(child, State.FINISHED)))
        .exists()
    )


def remove_expired_jobs(work: Work) -> tuple[int, bool]:
    """Remove inactive jobs whose expiry has passed (REP-03)."""
    jobs = work.tables.jobs
    return _remove(work, sa.and_(in_state(jobs, State.INACTIVE), jobs.c.expires <= work.now()))


def _remove(
    work: Work, over: ColumnElement[bool], unless: ColumnElement[bool] | None = None
) -> tuple[int, bool]:
    jobs = work.tables.jobs
    condition = over if unless is None else sa.and_(over, sa.not_(unless))
    found = work.connection.execute(sa.select(jobs.c.id).where(condition).limit(CHUNK)).scalars().all()
    if not found:
        return 0, False
    # Judged again once the rows are locked: another repair, a retry or a new child may have come first.
    locked = sa.select(jobs.c.id).where(jobs.c.id.in_(found), over).order_by(jobs.c.id)
    removable = work.connection.execute(work.backend.lock_rows(locked)).scalars().all()
    if unless is not None:
        still = sa.select(jobs.c.id).where(jobs.c.id.in_(removable), condition)
        removable = work.connection.execute(still).scalars().all()
    delete_jobs(work, removable)
    return len(removable), len(found) == CHUNK and bool(removable)


def lost_attempts(work: Work) -> list[LostAttempt]:
    """Find active attempts without a lease whose worker is not registered (REP-04)."""
    jobs, workers = work.tables.jobs, work.tables.workers
    registered = sa.select(sa.literal(1)).where(workers.c.id == jobs.c.worker).exists()
    rows = work.connection.execute(
        sa.select(
            jobs.c.id, jobs.c.retries, jobs.c.task, jobs.c.attempts, jobs.c.failures, jobs.c.worker
        ).where(
            in_state(jobs, State.ACTIVE),
            jobs.c.queue != FOREGROUND_QUEUE,
            jobs.c.grabbed_until.is_(None),
            sa.not_(registered),
        )
    )
    return sorted((LostAttempt(*row) for row in rows), key=lambda attempt: attempt.id)


def fail_stuck_jobs(work: Work, stuck_after: float) -> tuple[int, bool]:
    """Fail inactive jobs that nobody took in all that time (REP-05).

    A job is overdue from the latest of its ``delayed`` and the ends of its parents; one behind a live
    parent is not overdue at all.

    Returns:
        How many of a bounded number were failed, and whether there may be more.
    """
    jobs, edges = work.tables.jobs, work.tables.edges
    parent = work.tables.parent
    now = work.now()
    limit = at(now, -stuck_after)
    too_fresh = (
        sa.select(sa.literal(1))
        .select_from(edges.join(parent, parent.c.id == edges.c.parent))
        .where(
            edges.c.child == jobs.c.id,
            sa.or_(
                # Failed parents are passed over, as for a lax child: a job behind one counts.
                in_the_way(parent, sa.true(), now),
                sa.and_(in_state(parent, *ENDED), parent.c.finished > limit),
                sa.and_(in_state(parent, State.INACTIVE), parent.c.expires > limit),
            ),
        )
        .exists()
    )
    overdue = sa.and_(
        in_state(jobs, State.INACTIVE),
        jobs.c.delayed <= limit,
        sa.or_(jobs.c.expires.is_(None), jobs.c.expires > now),
        sa.not_(too_fresh),
    )
    found = work.connection.execute(sa.select(jobs.c.id).where(overdue).limit(CHUNK)).scalars().all()
    if not found:
        return 0, False
    rows = lock_jobs(work, found)
    still = set(work.connection.execute(sa.select(jobs.c.id).where(jobs.c.id.in_(found), overdue)).scalars())
    ends = [End(row, State.FAILED, STUCK_RESULT, 1) for id, row in rows.items() if id in still]
    end_jobs(work, ends, now)
    release_children(work, [end.row.id for end in ends])
    return len(ends), len(found) == CHUNK and bool(ends)


def stats(work: Work, *, exact: bool) -> Stats:
    """Count everything (STAT-01)."""
    jobs, workers = work.tables.jobs, work.tables.workers
    locks, schedules = work.tables.locks, work.tables.schedules
    now = work.now()

    def count_ended(state: State) -> int:
        return work.count(jobs, has_ended(jobs, state))

    unexpired = sa.or_(jobs.c.expires.is_(None), jobs.c.expires > now)
    busy = sa.select(sa.literal(1)).where(in_state(jobs, State.ACTIVE), jobs.c.worker == workers.c.id)
    registered = work.count(workers)
    active_workers = work.count(workers, busy.exists())
    estimates = {} if exact else work.backend.estimate_terminal_jobs(work)
    return Stats(
        active_jobs=work.count(jobs, in_state(jobs, State.ACTIVE)),
        active_locks=work.count(locks, locks.c.expires > now),
        active_workers=active_workers,
        delayed_jobs=work.count(jobs, in_state(jobs, State.INACTIVE), unexpired, jobs.c.delayed > now),
        enqueued_jobs=work.backend.count_enqueued(work),
        failed_jobs=estimates.get(State.FAILED) or count_ended(State.FAILED),
        finished_jobs=estimates.get(State.FINISHED) or count_ended(State.FINISHED),
        inactive_jobs=work.count(jobs, in_state(jobs, State.INACTIVE), unexpired),
        inactive_schedules=work.count(schedules, schedules.c.paused),
        inactive_workers=registered - active_workers,
        schedules=work.count(schedules),
        workers=registered,
        uptime=work.backend.read_uptime(work),
    )


def history(work: Work) -> list[HistoryHour]:
    """Count what ended in each of the last 24 clock hours (STAT-02)."""
    jobs = work.tables.jobs
    current = work.now().replace(minute=0, second=0, microsecond=0)
    starts = [current - timedelta(hours=HOURS - 1 - hour) for hour in range(HOURS)]

    def ended(state: State, start: datetime) -> int:
        select = sa.select(sa.func.count()).where(
            has_ended(jobs, state), jobs.c.finished >= start, jobs.c.finished < start + timedelta(hours=1)
        )
        return work.connection.execute(select).scalar_one()

    return [HistoryHour(start, ended(State.FINISHED, start), ended(State.FAILED, start)) for start in starts]


def reset(work: Work, *, all: bool) -> None:
    """Empty every table, or only the locks; counters of ids go on (RESET-01)."""
    for table in work.tables.all if all else (work.tables.locks,):
        work.connection.execute(sa.delete(table))
