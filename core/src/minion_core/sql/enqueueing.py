"""How jobs come in: validated jobs become rows, with keys, parents and the hint for the claim."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from minion_core.records import Enqueued, NewJob, State
from minion_core.sql.readiness import hold_and_due, release_children
from minion_core.sql.work import Work, at, chunks, earliest

KEY_TRIES = 10
"""How often a key may be lost to others, who each ended their job at once, before that is an error."""


def enqueue(work: Work, jobs: Sequence[NewJob]) -> list[Enqueued]:
    """Store jobs in the order given, and answer their ids (ENQ-03).

    Runs of jobs without a key go in together; a job with a key goes in alone, after a look at who holds it.
    """
    parents = lock_parents(work, {parent for job in jobs for parent in job.parents})
    now = work.now()
    rows = [job_row(job, parents, now) for job in jobs]
    answers: list[Enqueued] = []
    for run in _runs(rows):
        if run[0]["uniqkey"] is None:
            answers += [Enqueued(id) for id in work.backend.insert_jobs(work, run)]
        else:
            answers.append(_insert_with_key(work, run[0], now))
    add_edges(
        work,
        {
            answer.id: job.parents
            for job, answer in zip(jobs, answers, strict=True)
            if job.parents and answer.created
        },
    )
    return answers


def _runs(rows: Sequence[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    runs: list[list[dict[str, Any]]] = []
    for row in rows:
        if runs and row["uniqkey"] is None and runs[-1][0]["uniqkey"] is None:
            runs[-1].append(row)
        else:
            runs.append([row])
    return runs


def job_row(job: NewJob, parents: Mapping[int, sa.Row[Any]], now: datetime) -> dict[str, Any]:
    """Make a job's row, judged by how its parents stand; those that are not given are not in the way."""
    delayed = at(now, job.delay)
    expires = None if job.expire is None else at(now, job.expire)
    blocked, unblocked_by_clock = False, None
    for parent in (parents[id] for id in job.parents if id in parents):
        if parent.state == State.INACTIVE and (parent.expires is None or parent.expires > now):
            blocked, unblocked_by_clock = True, earliest(unblocked_by_clock, parent.expires)
        elif parent.state == State.ACTIVE or (parent.state == State.FAILED and not job.lax):
            blocked = True
    hold, due = hold_and_due(now, delayed, expires, blocked=blocked, unblocked_by_clock=unblocked_by_clock)
    return {
        "args": job.args_json,
        "attempts": job.attempts,
        "coalesce": job.coalesce,
        "created": now,
        "delayed": delayed,
        "due": due,
        "expires": expires,
        "failures": 0,
        "hold": hold,
        "keep_for": job.keep_for,
        "kwargs": job.kwargs_json,
        "lax": job.lax,
        "lease": job.lease,
        "notes": job.notes_json,
        "parents": list(job.parents),
        "priority": job.priority,
        "queue": job.queue,
        "retries": 0,
        "state": State.INACTIVE.value,
        "task": job.task,
        "uniqkey": job.uniqkey,
    }


def _insert_with_key(work: Work, row: dict[str, Any], now: datetime) -> Enqueued:
    tries = 0
    while True:
        holder = free_key(work, row["task"], row["uniqkey"], now)
        if holder is not None:
            return Enqueued(holder, created=False)
        try:
            with work.connection.begin_nested():
                return Enqueued(work.backend.insert_jobs(work, [row])[0])
        except sa.exc.IntegrityError:
            # Somebody else's job took the key between the look and the insert, and is committed by now.
            tries += 1
            if tries == KEY_TRIES:
                raise


def free_key(work: Work, task: str, uniqkey: str, now: datetime) -> int | None:
    """Answer the id of the live job that holds a key; one that has expired is removed instead (ENQ-07)."""
    holder = work.backend.key_holder(work, task, uniqkey)
    if holder is None:
        return None
    if holder.state == State.INACTIVE and holder.expires is not None and holder.expires <= now:
        delete_jobs(work, [holder.id])
        return None
    return int(holder.id)


def lock_parents(work: Work, ids: set[int] | Sequence[int]) -> dict[int, sa.Row[Any]]:
    """Keep parents from changing until the end of the transaction, and answer how they stand."""
    jobs = work.tables.jobs
    return {
        row.id: row
        for some in chunks(sorted(set(ids)))
        for row in work.connection.execute(
            work.backend.lock_rows(
                sa.select(jobs.c.id, jobs.c.state, jobs.c.expires)
                .where(jobs.c.id.in_(some))
                .order_by(jobs.c.id),
                share=True,
            )
        )
    }


def add_edges(work: Work, parents_of: Mapping[int, Sequence[int]]) -> None:
    """Write down who is whose parent; a parent named twice stands once."""
    edges = [
        {"child": child, "parent": parent}
        for child, parents in parents_of.items()
        for parent in dict.fromkeys(parents)
    ]
    if edges:
        work.connection.execute(sa.insert(work.tables.edges), edges)


def remove_edges(work: Work, children: Sequence[int]) -> None:
    """Forget the parents of some jobs."""
    edges = work.tables.edges
    work.connection.execute(sa.delete(edges).where(edges.c.child.in_(children)))


def delete_jobs(work: Work, ids: Sequence[int]) -> None:
    """Remove locked jobs with all that belongs to them, and let their children go on (DEP-02)."""
    jobs, failures = work.tables.jobs, work.tables.failures
    edges = work.tables.edges
    for some in chunks(ids):
        work.connection.execute(sa.delete(failures).where(failures.c.job.in_(some)))
        work.connection.execute(sa.delete(jobs).where(jobs.c.id.in_(some)))
        remove_edges(work, some)
        release_children(work, some)
        work.connection.execute(sa.delete(edges).where(edges.c.parent.in_(some)))
