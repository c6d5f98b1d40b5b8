"""How records look to people, and the few shapes of JSON that are not simply a record."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from minion_core.cli.output import (
    STATE_STYLES,
    Column,
    Output,
    compact,
    distance,
    instant,
    length,
    plain,
    printable,
)
from minion_core.records import (
    Failure,
    HistoryHour,
    JobRecord,
    LockRecord,
    ScheduleRecord,
    Stats,
    WorkerRecord,
)
from minion_core.task import Task

ID = Column("id", right=True)


def call(args: Sequence[Any], kwargs: dict[str, Any]) -> str:
    """Show arguments as they would stand in a call."""
    named = [f"{printable(name)}={compact(value)}" for name, value in kwargs.items()]
    return ", ".join([*map(compact, args), *named])


# -- Jobs ------------------------------------------------------------------------------------------------


def jobs(out: Output, records: Sequence[JobRecord]) -> None:
    """Show a list of jobs."""
    columns = [
        ID,
        Column("state", styles=STATE_STYLES),
        Column("queue"),
        Column("task"),
        Column("priority", right=True),
        Column("left", right=True),
        Column("age", right=True),
        Column("arguments", shrinks=True),
    ]
    rows = [
        [
            str(record.id),
            record.state,
            record.queue,
            record.task,
            str(record.priority),
            str(record.attempts),
            length(max(0, (record.time - record.created).total_seconds())),
            call(record.args, record.kwargs),
        ]
        for record in records
    ]
    out.table(columns, rows, empty="no jobs")


def job(out: Output, record: JobRecord, log: Sequence[Failure], *, first: bool = True) -> None:
    """Show all that there is to know about a job, leaving out what it does not have."""
    if not first:
        out.line("")
    now = record.time
    pairs = [
        ("id", str(record.id)),
        ("task", printable(record.task)),
        ("state", str(record.state)),
        ("queue", printable(record.queue)),
        ("priority", str(record.priority)),
        ("arguments", call(record.args, record.kwargs)),
        ("attempts left", str(record.attempts)),
        ("retries", str(record.retries)),
        ("failures", str(record.failures)),
        ("exit status", "" if record.exit_status is None else str(record.exit_status)),
        ("worker", "" if record.worker is None else str(record.worker)),
        ("parents", " ".join(map(str, record.parents)) + (" (lax)" if record.lax and record.parents else "")),
        ("children", " ".join(map(str, record.children))),
        ("uniqkey", printable(record.uniqkey or "")),
        ("coalesce", printable(record.coalesce or "")),
        ("lease", "" if record.lease is None else length(record.lease)),
        ("lease ends", distance(record.grabbed_until, now)),
        ("kept for", "" if record.keep_for is None else length(record.keep_for)),
        ("created", distance(record.created, now)),
        ("delayed", distance(record.delayed, now) if record.delayed > record.created else ""),
        ("expires", distance(record.expires, now)),
        ("started", distance(record.started, now)),
        ("retried", distance(record.retried, now)),
        ("finished", distance(record.finished, now)),
        ("progress", _progress(record.notes.get("progress"))),
        ("notes", compact(record.notes) if record.notes else ""),
        ("result", _result(record.result)),
    ]
    pairs = [(name, value) for name, value in pairs if value]
    if log:
        pairs.append(("failure log", "\n".join(_logged(failure) for failure in log) + "\n"))
    out.fields(pairs)


def _progress(note: Any) -> str:
    """Show what ``job.progress`` noted; anything else of that name is shown among the notes alone."""
    match note:
        case {"done": int() | float() as done, **more}:
            total, message = more.get("total"), more.get("message")
            told = f"{done:g}"
            if isinstance(total, int | float):
                told += f" of {total:g}" + (f" ({100 * done / total:.0f} %)" if total else "")
            return f"{told}, {printable(message)}" if isinstance(message, str) else told
        case _:
            return ""


def _result(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, dict) and isinstance(value.get("traceback"), str) and value["traceback"]:
        return f"{value['traceback'].rstrip()}\n"
    short = compact(value)
    return short if len(short) <= 100 else json.dumps(value, ensure_ascii=False, indent=2)


def _logged(failure: Failure) -> str:
    worker = "" if failure.worker is None else f", worker {failure.worker}"
    return f"{instant(failure.time)} retry {failure.retries}{worker}: {failure.message}"


def job_fields(record: JobRecord, log: Sequence[Failure]) -> dict[str, Any]:
    """Answer a job's fields for JSON, with its failure log."""
    return {**plain(record), "failure_log": plain(list(log))}


# -- Workers, locks, tasks -------------------------------------------------------------------------------


def workers(out: Output, records: Sequence[WorkerRecord], now: datetime) -> None:
    """Show a list of workers."""
    columns = [
        ID,
        Column("host"),
        Column("pid", right=True),
        Column("jobs", right=True),
        Column("performed", right=True),
        Column("queues"),
        Column("started"),
        Column("heard of", right=True),
    ]
    rows = [
        [
            str(record.id),
            record.host,
            str(record.pid),
            f"{len(record.jobs)}/{record.status['jobs']}"
            if "jobs" in record.status
            else str(len(record.jobs)),
            str(record.status.get("performed", "")),
            ",".join(map(str, record.status.get("queues", []))),
            instant(record.started),
            f"{length(max(0, (now - record.notified).total_seconds()))} ago",
        ]
        for record in records
    ]
    out.table(columns, rows, empty="no workers")


def workers_in_full(out: Output, records: Sequence[WorkerRecord], now: datetime) -> None:
    """Show workers field by field."""
    for number, record in enumerate(records):
        if number:
            out.line("")
        status = [(name.replace("_", " "), compact(value)) for name, value in sorted(record.status.items())]
        out.fields(
            [
                ("id", str(record.id)),
                ("host", printable(record.host)),
                ("pid", str(record.pid)),
                ("started", distance(record.started, now)),
                ("heard of", distance(record.notified, now)),
                ("active jobs", " ".join(map(str, record.jobs))),
                *((f"status: {name}", value) for name, value in status),
            ]
        )


def locks(out: Output, records: Sequence[LockRecord], now: datetime) -> None:
    """Show a list of locks."""
    columns = [ID, Column("name"), Column("expires")]
    rows = [[str(record.id), record.name, distance(record.expires, now)] for record in records]
    out.table(columns, rows, empty="no locks")


def task_fields(task: Task[..., Any]) -> dict[str, Any]:
    """Answer what is known of a task, for JSON."""
    return {
        "name": task.name,
        "function": f"{task.__module__}.{task.__name__}",
        "summary": _summary(task),
        "defaults": plain(dict(task.defaults)),
    }


def tasks(out: Output, known: Sequence[Task[..., Any]]) -> None:
    """Show a list of tasks."""
    columns = [Column("task"), Column("function"), Column("defaults"), Column("summary", shrinks=True)]
    rows = [
        [
            task.name,
            f"{task.__module__}.{task.__name__}",
            " ".join(f"{name}={value}" for name, value in task.defaults.items()),
            _summary(task),
        ]
        for task in known
    ]
    out.table(columns, rows, empty="the application has no tasks; mark a function with @minion.task")


def _summary(task: Task[..., Any]) -> str:
    return (task.__doc__ or "").strip().partition("\n")[0]


# -- Schedules -------------------------------------------------------------------------------------------


def schedules(out: Output, records: Sequence[ScheduleRecord], now: datetime) -> None:
    """Show a list of schedules."""
    columns = [
        ID,
        Column("name"),
        Column("task"),
        Column("cron"),
        Column("zone"),
        Column("next run"),
        Column("last job", right=True),
    ]
    rows = [
        [
            str(record.id),
            record.name,
            record.task,
            record.cron,
            record.time_zone,
            "paused" if record.paused else distance(record.next_run, now),
            str(record.last_job or ""),
        ]
        for record in records
    ]
    out.table(columns, rows, empty="no schedules")


def schedules_in_full(out: Output, records: Sequence[ScheduleRecord], now: datetime) -> None:
    """Show schedules field by field."""
    for number, record in enumerate(records):
        if number:
            out.line("")
        pairs = [
            ("id", str(record.id)),
            ("name", printable(record.name)),
            ("cron", printable(record.cron)),
            ("time zone", printable(record.time_zone)),
            ("task", printable(record.task)),
            ("arguments", call(record.args, record.kwargs)),
            ("queue", printable(record.queue)),
            ("priority", str(record.priority)),
            ("attempts", str(record.attempts)),
            ("expire", "" if record.expire is None else length(record.expire)),
            ("lax", "yes" if record.lax else ""),
            ("notes", compact(record.notes) if record.notes else ""),
            ("paused", "yes" if record.paused else "no"),
            ("created", distance(record.created, now)),
            ("last run", distance(record.last_run, now)),
            ("last job", str(record.last_job or "")),
            ("next run", distance(record.next_run, now)),
        ]
        out.fields([(name, value) for name, value in pairs if value])


# -- The whole -------------------------------------------------------------------------------------------


def stats(out: Output, found: Stats) -> None:
    """Show statistics, what matters most first."""
    out.fields(
        [
            ("inactive jobs", f"{found.inactive_jobs:,}"),
            ("delayed jobs", f"{found.delayed_jobs:,} (of the inactive)"),
            ("active jobs", f"{found.active_jobs:,}"),
            ("failed jobs", f"{found.failed_jobs:,}"),
            ("finished jobs", f"{found.finished_jobs:,}"),
            ("enqueued jobs", f"{found.enqueued_jobs:,} (ever)"),
            ("workers", f"{found.workers:,}"),
            ("active workers", f"{found.active_workers:,}"),
            ("inactive workers", f"{found.inactive_workers:,}"),
            ("active locks", f"{found.active_locks:,}"),
            ("schedules", f"{found.schedules:,}"),
            ("paused schedules", f"{found.inactive_schedules:,}"),
            *([] if found.uptime is None else [("store is up", length(found.uptime))]),
        ]
    )


def history(out: Output, hours: Sequence[HistoryHour]) -> None:
    """Show the last 24 hours."""
    columns = [Column("hour from"), Column("finished", right=True), Column("failed", right=True)]
    rows = [[instant(hour.start), str(hour.finished_jobs), str(hour.failed_jobs)] for hour in hours]
    out.table(columns, rows, empty="no history")
