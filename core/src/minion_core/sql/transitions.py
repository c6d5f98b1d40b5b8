"""The changes of state that jobs go through, on rows that the caller has locked."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from attrs import frozen

from minion_core.records import LEASE_ENDED, LEASE_ENDS_ALLOWED, State
from minion_core.sql.readiness import hold_and_due, judge, release_children
from minion_core.sql.tables import LIVE, in_state
from minion_core.sql.work import CHUNK, Work, at
from minion_core.values import encode_json

ENDED_LEASE_RESULT = encode_json(LEASE_ENDED, "the result")


@frozen
class Return:
    """A job to be put back: its row, the moment from which it can be claimed, and the attempts left."""

    row: sa.Row[Any]
    delayed: datetime
    attempts: int


@frozen
class End:
    """A job to be ended: its row, and what it leaves."""

    row: sa.Row[Any]
    state: State
    result_json: str
    exit_status: int


@frozen
class FailureEntry:
    """A failure to be logged."""

    row: sa.Row[Any]
    message: str


def lock_jobs(work: Work, ids: Sequence[int]) -> dict[int, sa.Row[Any]]:
    """Lock jobs in the order of their ids, and answer their rows as they are then."""
    jobs = work.tables.jobs
    select = sa.select(
        jobs.c.id,
        jobs.c.state,
        jobs.c.retries,
        jobs.c.attempts,
        jobs.c.expires,
        jobs.c.keep_for,
        jobs.c.task,
        jobs.c.uniqkey,
        jobs.c.worker,
    )
    locked = work.backend.lock_rows(select.where(jobs.c.id.in_(sorted(set(ids)))).order_by(jobs.c.id))
    return {row.id: row for row in work.connection.execute(locked)}


def return_to_inactive(work: Work, returns: Sequence[Return], now: datetime) -> None:
    """Put jobs back (SET-09); whether parents are in the way is left to the claim."""
    if not returns:
        return
    jobs = work.tables.jobs
    rows = []
    for back in returns:
        hold, due = hold_and_due(now, back.delayed, back.row.expires)
        rows.append(
            {
                "b_id": back.row.id,
                "b_retries": back.row.retries + 1,
                "b_attempts": back.attempts,
                "b_delayed": back.delayed,
                "b_hold": hold,
                "b_due": due,
            }
        )
    work.connection.execute(
        sa.update(jobs)
        .where(jobs.c.id == sa.bindparam("b_id"))
        .values(
            state=State.INACTIVE.value,
            retries=sa.bindparam("b_retries"),
            attempts=sa.bindparam("b_attempts"),
            delayed=sa.bindparam("b_delayed"),
            hold=sa.bindparam("b_hold"),
            due=sa.bindparam("b_due"),
            retried=sa.bindparam("b_now", now, jobs.c.retried.type),
            worker=None,
            grabbed_until=None,
            exit_status=None,
        ),
        [row | {"b_now": now} for row in rows],
    )


def end_jobs(work: Work, ends: Sequence[End], now: datetime) -> None:
    """End jobs: ``finished`` or ``failed``, now."""
    if not ends:
        return
    jobs = work.tables.jobs
    work.connection.execute(
        sa.update(jobs)
        .where(jobs.c.id == sa.bindparam("b_id"))
        .values(
            state=sa.bindparam("b_state"),
            finished=sa.bindparam("b_now"),
            result=sa.bindparam("b_result"),
            exit_status=sa.bindparam("b_exit_status"),
            due=sa.bindparam("b_due"),
            grabbed_until=None,
        ),
        [
            {
                "b_id": end.row.id,
                "b_state": end.state.value,
                "b_now": now,
                "b_result": end.result_json,
                "b_exit_status": end.exit_status,
                "b_due": None if end.row.keep_for is None else at(now, end.row.keep_for),
            }
            for end in ends
        ],
    )


def log_failures(work: Work, failures: Sequence[FailureEntry], now: datetime) -> None:
    """Write into the failure log, and count it on the jobs (SET-07)."""
    if not failures:
        return
    jobs = work.tables.jobs
    work.connection.execute(
        sa.insert(work.tables.failures),
        [
            {
                "job": entry.row.id,
                "message": entry.message,
                "time": now,
                "worker": entry.row.worker,
                "retries": entry.row.retries,
            }
            for entry in failures
        ],
    )
    work.connection.execute(
        sa.update(jobs).where(jobs.c.id == sa.bindparam("b_id")).values(failures=jobs.c.failures + 1),
        [{"b_id": entry.row.id} for entry in failures],
    )


def end_leases(work: Work, ids: Sequence[int], now: datetime) -> None:
    """Put active jobs back whose lease has ended, or fail those that it happened to too often (LEASE-02)."""
    failures = work.tables.failures
    rows = lock_jobs(work, ids)
    ends = {
        row.job: row.ends
        for row in work.connection.execute(
            sa.select(failures.c.job, sa.func.count().label("ends"))
            .where(failures.c.job.in_(rows), failures.c.message == LEASE_ENDED)
            .group_by(failures.c.job)
        )
    }
    given_up = {id for id in rows if ends.get(id, 0) + 1 >= LEASE_ENDS_ALLOWED}
    log_failures(work, [FailureEntry(row, LEASE_ENDED) for row in rows.values()], now)
    return_to_inactive(
        work, [Return(row, now, row.attempts) for id, row in rows.items() if id not in given_up], now
    )
    end_jobs(work, [End(rows[id], State.FAILED, ENDED_LEASE_RESULT, 1) for id in given_up], now)
    release_children(work, rows)


def lock_due(work: Work, now: datetime) -> Sequence[sa.Row[Any]]:
    """Lock the first live rows that are due, as their index shows them; answer ids and states."""
    jobs = work.tables.jobs
    return work.connection.execute(
        work.backend.lock_rows(
            sa.select(jobs.c.id, jobs.c.state)
            .where(jobs.c.due.is_not(None), jobs.c.due <= now, in_state(jobs, *LIVE))
            .order_by(jobs.c.due)
            .limit(CHUNK),
            skip_locked=True,
        )
    ).all()


def sweep(work: Work, now: datetime) -> tuple[int, int]:
    """Do what the clock has made due, up to ``CHUNK`` rows of it.

    Returns:
        How many rows were taken up, and how many of them were leases that had ended. Fewer than ``CHUNK``
        of the first means that nothing is left, save what other transactions have in hand.
    """
    due = work.backend.lock_due(work, now)
    inactive = [row.id for row in due if row.state == State.INACTIVE]
    ended = [row.id for row in due if row.state == State.ACTIVE]
    if inactive:
        judge(work, inactive, now)
    if ended:
        end_leases(work, ended, now)
    return len(due), len(ended)


def sweep_all(work: Work, now: datetime) -> None:
    """Do all that the clock has made due, before a claim looks."""
    while sweep(work, now)[0] == CHUNK:
        pass
