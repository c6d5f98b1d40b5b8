"""Schedules as text and a next run; what the text means is core's."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from minion_core.records import Enqueued, NewJob, NewSchedule, Page, ScheduleFilter, ScheduleRecord
from minion_core.sql import enqueueing
from minion_core.values import decode_json

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement

    from minion_core.sql.work import Work


def schedule(work: Work, new: NewSchedule) -> int:
    """Create or replace by name; an unchanged cron expression keeps the next run (SCHED-01)."""
    schedules = work.tables.schedules
    row: dict[str, Any] = {
        "args": new.args_json,
        "attempts": new.attempts,
        "cron": new.cron,
        "expire": new.expire,
        "kwargs": new.kwargs_json,
        "lax": new.lax,
        "notes": new.notes_json,
        "priority": new.priority,
        "queue": new.queue,
        "task": new.task,
        "time_zone": new.time_zone,
    }
    old = _lock(work, new.name)
    if old is None:
        made = work.connection.execute(
            sa.insert(schedules).values(
                **row, name=new.name, created=work.now(), next_run=new.next_run, paused=False
            )
        ).inserted_primary_key
        return int(made[0]) if made is not None else 0
    if (old.cron, old.time_zone) != (new.cron, new.time_zone):
        row["next_run"] = new.next_run
    work.connection.execute(sa.update(schedules).where(schedules.c.id == old.id).values(row))
    return int(old.id)


def _lock(work: Work, name: str) -> sa.Row[Any] | None:
    schedules = work.tables.schedules
    return work.connection.execute(
        work.backend.lock_rows(
            sa.select(schedules.c.id, schedules.c.cron, schedules.c.time_zone).where(schedules.c.name == name)
        )
    ).first()


def unschedule(work: Work, name: str) -> bool:
    """Remove by name (SCHED-04)."""
    schedules = work.tables.schedules
    return work.connection.execute(sa.delete(schedules).where(schedules.c.name == name)).rowcount > 0


def set_paused(work: Work, name: str, *, paused: bool) -> bool:
    """Pause or resume by name (SCHED-04)."""
    schedules = work.tables.schedules
    row = _lock(work, name)
    if row is None:
        return False
    work.connection.execute(sa.update(schedules).where(schedules.c.id == row.id).values(paused=paused))
    return True


def list_schedules(
    work: Work, offset: int, limit: int, options: ScheduleFilter, *, total: bool
) -> Page[ScheduleRecord]:
    """List schedules, newest first (SCHED-04)."""
    schedules = work.tables.schedules
    among = work.backend.among
    conditions: list[ColumnElement[bool]] = []
    if options.before is not None:
        conditions.append(schedules.c.id < options.before)
    if options.ids is not None:
        conditions.append(among(schedules.c.id, options.ids))
    if options.names is not None:
        conditions.append(among(schedules.c.name, options.names))
    if options.due:
        conditions += [sa.not_(schedules.c.paused), schedules.c.next_run <= work.now()]
    rows = work.connection.execute(
        sa.select(schedules).where(*conditions).order_by(schedules.c.id.desc()).limit(limit).offset(offset)
    )
    items = [_schedule_record(row) for row in rows]
    count = work.count(schedules, *conditions) if total else None
    return Page(items, count)


def _schedule_record(row: sa.Row[Any]) -> ScheduleRecord:
    return ScheduleRecord(
        id=row.id,
        name=row.name,
        cron=row.cron,
        time_zone=row.time_zone,
        task=row.task,
        args=decode_json(row.args),
        kwargs=decode_json(row.kwargs),
        attempts=row.attempts,
        expire=row.expire,
        lax=row.lax,
        notes=decode_json(row.notes),
        priority=row.priority,
        queue=row.queue,
        paused=row.paused,
        created=row.created,
        next_run=row.next_run,
        last_run=row.last_run,
        last_job=row.last_job,
    )


def fire_schedule(work: Work, id: int, due: datetime, next_run: datetime, job: NewJob) -> Enqueued | None:
    """Compare and set the next run, with the job in the same transaction (SCHED-03)."""
    schedules = work.tables.schedules
    row = work.connection.execute(
        work.backend.lock_rows(
            sa.select(schedules.c.paused, schedules.c.next_run).where(schedules.c.id == id)
        )
    ).first()
    now = work.now()
    if row is None or row.paused or row.next_run != due or due > now:
        return None
    enqueued = enqueueing.enqueue(work, [job])[0]
    work.connection.execute(
        sa.update(schedules)
        .where(schedules.c.id == id)
        .values(last_run=now, last_job=enqueued.id, next_run=next_run)
    )
    return enqueued
