"""The registry of workers, and their inboxes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from minion_core.records import Page, State, WorkerFilter, WorkerRecord
from minion_core.sql.tables import in_state
from minion_core.values import decode_json, encode_json

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement

    from minion_core.sql.work import Work

EMPTY_INBOX = "[]"


def register_worker(work: Work, id: int | None, host: str, pid: int, status_json: str) -> int:
    """Register, or renew a registration; one that is gone is made again under its id (WORK-01)."""
    workers = work.tables.workers
    now = work.now()
    if id is not None:
        renewed = work.connection.execute(
            sa.update(workers).where(workers.c.id == id).values(notified=now, status=status_json)
        )
        if renewed.rowcount:
            return id
    row = {
        "host": host,
        "pid": pid,
        "started": now,
        "notified": now,
        "status": status_json,
        "inbox": EMPTY_INBOX,
    }
    if id is not None:
        row["id"] = id
    made = work.connection.execute(sa.insert(workers).values(row)).inserted_primary_key
    return int(made[0]) if made is not None else 0


def unregister_worker(work: Work, id: int) -> bool:
    """Remove a worker; its inbox goes with the row (WORK-04)."""
    workers = work.tables.workers
    return work.connection.execute(sa.delete(workers).where(workers.c.id == id)).rowcount > 0


def list_workers(
    work: Work, offset: int, limit: int, options: WorkerFilter, *, total: bool
) -> Page[WorkerRecord]:
    """List workers, newest first, with the ids of their active jobs (WORK-02)."""
    workers, jobs = work.tables.workers, work.tables.jobs
    conditions: list[ColumnElement[bool]] = []
    if options.before is not None:
        conditions.append(workers.c.id < options.before)
    if options.ids is not None:
        conditions.append(work.backend.among(workers.c.id, options.ids))
    rows = work.connection.execute(
        sa.select(workers).where(*conditions).order_by(workers.c.id.desc()).limit(limit).offset(offset)
    ).all()
    active: dict[int, list[int]] = {row.id: [] for row in rows}
    for job in work.connection.execute(
        sa.select(jobs.c.worker, jobs.c.id)
        .where(in_state(jobs, State.ACTIVE), work.backend.among(jobs.c.worker, list(active)))
        .order_by(jobs.c.id)
    ):
        active[job.worker].append(job.id)
    count = work.count(workers, *conditions) if total else None
    return Page(
        [
            WorkerRecord(
                id=row.id,
                host=row.host,
                pid=row.pid,
                started=row.started,
                notified=row.notified,
                status=decode_json(row.status),
                jobs=active[row.id],
            )
            for row in rows
        ],
        count,
    )


def broadcast(work: Work, command: list[Any], ids: Sequence[int] | None) -> bool:
    """Append a command to inboxes, under the rows' locks (WORK-03)."""
    workers = work.tables.workers
    select = sa.select(workers.c.id, workers.c.inbox).order_by(workers.c.id)
    if ids is not None:
        select = select.where(work.backend.among(workers.c.id, ids))
    changes = [
        {"b_id": row.id, "b_inbox": encode_json([*decode_json(row.inbox), command], "the command")}
        for row in work.connection.execute(work.backend.lock_rows(select))
    ]
    if changes:
        work.connection.execute(
            sa.update(workers)
            .where(workers.c.id == sa.bindparam("b_id"))
            .values(inbox=sa.bindparam("b_inbox")),
            changes,
        )
    return bool(changes)


def has_mail(work: Work, id: int) -> bool:
    """Look into an inbox without locking: most of the time it is empty."""
    workers = work.tables.workers
    inbox = work.connection.execute(sa.select(workers.c.inbox).where(workers.c.id == id)).scalar()
    return inbox is not None and inbox != EMPTY_INBOX


def receive(work: Work, id: int) -> list[list[Any]]:
    """Empty an inbox under the row's lock (WORK-03)."""
    workers = work.tables.workers
    inbox = work.connection.execute(
        work.backend.lock_rows(sa.select(workers.c.inbox).where(workers.c.id == id))
    ).scalar()
    if inbox is None:
        return []
    work.connection.execute(sa.update(workers).where(workers.c.id == id).values(inbox=EMPTY_INBOX))
    commands: list[list[Any]] = decode_json(inbox)
    return commands
