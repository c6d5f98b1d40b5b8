"""Repair, statistics, history and reset: the queue as a whole."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import sqlalchemy as sa

from minion_core.records import FOREGROUND_QUEUE, STUCK_IN_QUEUE, HistoryHour, LostAttempt, State, Stats
from minion_core.sql.enqueueing import delete_jobs
from minion_core.sql.readiness import in_the_way, release_children
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


def remove_ended_jobs(work: Work, remove_after: float, before: int | None) -> tuple[int, int | None]:
    """Remove terminal jobs whose time is over, unless a job that is not finished needs them (REP-02).

    Returns:
        How many of a bounded number of candidates were removed, and the id below which to go on.
    """
    jobs = work.tables.jobs
    now = work.now()
    over = sa.or_(
        sa.and_(
            jobs.c.state == State.FINISHED,
            jobs.c.keep_for.is_(None),
            jobs.c.finished <= at(now, -remove_after),
        ),
        sa.and_(jobs.c.state.in_((State.FINISHED, State.FAILED)), jobs.c.due <= now),
    )
    return _remove(work, over, before, unless=_needed(work))


def _needed(work: Work) -> ColumnElement[bool]:
    jobs, edges = work.tables.jobs, work.tables.edges
    child = jobs.alias("child")
    return (
        sa.select(sa.literal(1))
        .select_from(edges.join(child, child.c.id == edges.c.child))
        .where(edges.c.parent == jobs.c.id, child.c.state != State.FINISHED)
        .exists()
    )


def remove_expired_jobs(work: Work, before: int | None) -> tuple[int, int | None]:
    """Remove inactive jobs whose expiry has passed (REP-03)."""
    jobs = work.tables.jobs
    return _remove(work, sa.and_(jobs.c.state == State.INACTIVE, jobs.c.expires <= work.now()), before)


def _remove(
    work: Work, over: ColumnElement[bool], before: int | None, unless: ColumnElement[bool] | None = None
) -> tuple[int, int | None]:
    jobs = work.tables.jobs
    select = sa.select(jobs.c.id).where(over).order_by(jobs.c.id.desc()).limit(CHUNK)
    if before is not None:
        select = select.where(jobs.c.id < before)
    if unless is not None:
        select = select.where(sa.not_(unless))
    found = work.connection.execute(select).scalars().all()
    if not found:
        return 0, None
    # Judged again under the rows' locks: another repair, a retry or a new child may have come first.
    again = sa.select(jobs.c.id).where(jobs.c.id.in_(found), over).order_by(jobs.c.id)
    locked = work.connection.execute(work.backend.lock_rows(again)).scalars().all()
    if unless is not None and locked:
        still = sa.select(jobs.c.id).where(jobs.c.id.in_(locked), sa.not_(unless))
        locked = work.connection.execute(still).scalars().all()
    delete_jobs(work, locked)
    return len(locked), found[-1] if len(found) == CHUNK else None


def lost_attempts(work: Work) -> list[LostAttempt]:
    """Find active attempts without a lease whose worker is not registered (REP-04)."""
    jobs, workers = work.tables.jobs, work.tables.workers
    registered = sa.select(sa.literal(1)).where(workers.c.id == jobs.c.worker).exists()
    rows = work.connection.execute(
        sa.select(jobs.c.id, jobs.c.retries, jobs.c.task, jobs.c.attempts, jobs.c.failures, jobs.c.worker)
        .where(
            jobs.c.state == State.ACTIVE,
            jobs.c.queue != FOREGROUND_QUEUE,
            jobs.c.grabbed_until.is_(None),
            sa.not_(registered),
        )
        .order_by(jobs.c.id)
    )
    return [LostAttempt(*row) for row in rows]


def fail_stuck_jobs(work: Work, stuck_after: float, after: int) -> tuple[int, int | None]:
    """Fail inactive jobs that nobody took in all that time (REP-05).

    A job is overdue from the latest of its ``delayed`` and the ends of its parents; one behind a live
    parent is not overdue at all.

    Returns:
        How many of a bounded number of candidates were failed, and the id after which to go on.
    """
    jobs, edges = work.tables.jobs, work.tables.edges
    parent = jobs.alias("parent")
    now = work.now()
    limit = at(now, -stuck_after)
    too_fresh = (
        sa.select(sa.literal(1))
        .select_from(edges.join(parent, parent.c.id == edges.c.parent))
        .where(
            edges.c.child == jobs.c.id,
            sa.or_(
                sa.and_(
                    in_the_way(parent, sa.true(), now), parent.c.state.in_((State.INACTIVE, State.ACTIVE))
                ),
                sa.and_(parent.c.state.in_((State.FINISHED, State.FAILED)), parent.c.finished > limit),
                sa.and_(parent.c.state == State.INACTIVE, parent.c.expires > limit),
            ),
        )
        .exists()
    )
    overdue = sa.and_(
        jobs.c.state == State.INACTIVE,
        jobs.c.delayed <= limit,
        sa.or_(jobs.c.expires.is_(None), jobs.c.expires > now),
        sa.not_(too_fresh),
    )
    found = (
        work.connection.execute(
            sa.select(jobs.c.id).where(overdue, jobs.c.id > after).order_by(jobs.c.id).limit(CHUNK)
        )
        .scalars()
        .all()
    )
    if not found:
        return 0, None
    rows = lock_jobs(work, found)
    still = set(work.connection.execute(sa.select(jobs.c.id).where(jobs.c.id.in_(found), overdue)).scalars())
    ends = [End(row, State.FAILED, STUCK_RESULT, 1) for id, row in rows.items() if id in still]
    end_jobs(work, ends, now)
    release_children(work, [end.row.id for end in ends])
    return len(ends), found[-1] if len(found) == CHUNK else None


def stats(work: Work, *, exact: bool) -> Stats:
    """Count everything (STAT-01)."""
    jobs, workers = work.tables.jobs, work.tables.workers
    locks, schedules = work.tables.locks, work.tables.schedules
    now = work.now()

    def count(table: sa.FromClause, *conditions: ColumnElement[bool]) -> int:
        select = sa.select(sa.func.count()).select_from(table).where(*conditions)
        return work.connection.execute(select).scalar_one()

    unexpired = sa.or_(jobs.c.expires.is_(None), jobs.c.expires > now)
    busy = sa.select(sa.literal(1)).where(jobs.c.state == State.ACTIVE, jobs.c.worker == workers.c.id)
    registered = count(workers)
    active_workers = count(workers, busy.exists())
    estimates = {} if exact else work.backend.estimate_terminal_jobs(work)
    return Stats(
        active_jobs=count(jobs, jobs.c.state == State.ACTIVE),
        active_locks=count(locks, locks.c.expires > now),
        active_workers=active_workers,
        delayed_jobs=count(jobs, jobs.c.state == State.INACTIVE, unexpired, jobs.c.delayed > now),
        enqueued_jobs=work.backend.count_enqueued(work),
        failed_jobs=estimates.get(State.FAILED) or count(jobs, jobs.c.state == State.FAILED),
        finished_jobs=estimates.get(State.FINISHED) or count(jobs, jobs.c.state == State.FINISHED),
        inactive_jobs=count(jobs, jobs.c.state == State.INACTIVE, unexpired),
        inactive_schedules=count(schedules, schedules.c.paused),
        inactive_workers=registered - active_workers,
        schedules=count(schedules),
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
            jobs.c.state == state, jobs.c.finished >= start, jobs.c.finished < start + timedelta(hours=1)
        )
        return work.connection.execute(select).scalar_one()

    return [HistoryHour(start, ended(State.FINISHED, start), ended(State.FAILED, start)) for start in starts]


def reset(work: Work, *, all: bool) -> None:
    """Empty every table, or only the locks; counters of ids go on (RESET-01)."""
    for table in work.tables.all if all else (work.tables.locks,):
        work.connection.execute(sa.delete(table))
