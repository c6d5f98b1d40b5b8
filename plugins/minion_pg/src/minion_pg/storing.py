"""Storing jobs on PostgreSQL: any number by one statement on arrays."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from minion_core.errors import BackendError
from minion_core.records import Enqueued, NewJob, State
from minion_core.sql.enqueueing import KEY_TRIES, add_edges, delete_jobs, job_row, lock_parents
from minion_pg.claiming import NOW
from minion_pg.columns import jsonb, numbers, texts

if TYPE_CHECKING:
    from minion_core.sql import Work

HOLDS_KEY = "uniqkey IS NOT NULL AND state IN ('inactive', 'active') AND fence = retries"
"""The condition of the unique index of live keys."""

# As what each column is handed over, and what it becomes.
_TYPES = {
    "args": ("TEXT", "JSONB"),
    "attempts": ("INT", "INT"),
    "coalesce": ("TEXT", "TEXT"),
    "created": ("TIMESTAMPTZ", "TIMESTAMPTZ"),
    "delayed": ("TIMESTAMPTZ", "TIMESTAMPTZ"),
    "due": ("TIMESTAMPTZ", "TIMESTAMPTZ"),
    "expires": ("TIMESTAMPTZ", "TIMESTAMPTZ"),
    "hold": ("SMALLINT", "SMALLINT"),
    "keep_for": ("FLOAT8", "FLOAT8"),
    "kwargs": ("TEXT", "JSONB"),
    "lax": ("BOOL", "BOOL"),
    "lease": ("FLOAT8", "FLOAT8"),
    "notes": ("TEXT", "JSONB"),
    "parents": ("TEXT", "BIGINT[]"),
    "priority": ("INT", "INT"),
    "queue": ("TEXT", "TEXT"),
    "task": ("TEXT", "TEXT"),
    "uniqkey": ("TEXT", "TEXT"),
}


def is_plain(job: NewJob) -> bool:
    """Say whether a job can be stored without looking at anything else first."""
    return not job.parents and job.uniqkey is None and job.delay == 0 and job.expire is None


@lru_cache(maxsize=512)
def _insert(same: tuple[str, ...], varying: tuple[str, ...], *, timed: bool, tail: str) -> str:
    """Write the insert; ``timed``: the rows bring their instants, otherwise all of them are now."""
    columns = [*same, *varying, *(() if timed else ("created", "delayed")), "touched"]
    # A select of its own is made once, not for each row.
    values = [f"(SELECT %({name})s::{_TYPES[name][0]}::{_TYPES[name][1]})" for name in same]
    values += [f'"new"."{name}"::{_TYPES[name][1]}' for name in varying]
    values += [*(() if timed else (f"(SELECT {NOW})",) * 2), "1"]
    source = ""
    if varying:
        arrays = ", ".join(f"%({name})s::{_TYPES[name][0]}[]" for name in varying)
        names = ", ".join(f'"{name}"' for name in varying)
        source = f' FROM UNNEST({arrays}) AS "new" ({names})'
    else:
        source = " FROM GENERATE_SERIES(1, %(count)s)"
    quoted = ", ".join(f'"{name}"' for name in columns)
    return f"WITH made AS (INSERT INTO minion_jobs ({quoted}) SELECT {', '.join(values)}{source} {tail})"


MADE = " SELECT ARRAY_AGG(id ORDER BY id) FROM made"
ANYBODY_WAITS = """EXISTS (SELECT 1 FROM minion_waiters)
    OR EXISTS (SELECT 1 FROM minion_workers WHERE NOT ours)"""
"""Looked at before ``minion_wake`` is called: most of the time nobody does."""

MADE_AND_WAKE = (
    f" SELECT ARRAY_AGG(id ORDER BY id), CASE WHEN {ANYBODY_WAITS}"
    " THEN MINION_WAKE(%(in_queues)s, %(of_tasks)s) END FROM made"
)


def insert_plain(driver: Any, jobs: Sequence[NewJob], now: Any) -> list[int]:
    """Insert plain jobs, wake who waits for them, and answer their ids in the order given."""
    columns = {name: [getter(job) for job in jobs] for name, getter in _PLAIN.items()}
    text, values = _statement(columns, timed=False, tail="RETURNING id")
    values |= {"now": now, "count": len(jobs)}
    values |= {"in_queues": sorted(set(columns["queue"])), "of_tasks": sorted(set(columns["task"]))}
    (ids, _) = driver.execute(text + MADE_AND_WAKE, values).fetchone()
    return list(ids)


def insert_rows(driver: Any, rows: Sequence[Mapping[str, Any]]) -> list[int]:
    """Insert rows that bring their instants, and answer their ids in the order given."""
    columns = {name: [row[name] for row in rows] for name in _TYPES}
    text, values = _statement(columns, timed=True, tail="RETURNING id")
    (ids,) = driver.execute(text + MADE, values | {"now": None, "count": len(rows)}).fetchone()
    return list(ids)


def _statement(columns: Mapping[str, list[Any]], *, timed: bool, tail: str) -> tuple[str, dict[str, Any]]:
    values: dict[str, Any] = {}
    same, varying = [], []
    for name, column in columns.items():
        first = column[0]
        if column.count(first) == len(column):
            # What a column has by default is left to it.
            if first is not None and _DEFAULTS.get(name) != first:
                same.append(name)
                values[name] = _written(name, first)
        else:
            varying.append(name)
            values[name] = _array(name, column)
    return _insert(tuple(same), tuple(varying), timed=timed, tail=tail), values


_WRITTEN: dict[str, Callable[[Any], str]] = {
    "args": jsonb,
    "kwargs": jsonb,
    "notes": jsonb,
    "parents": lambda ids: f"{{{','.join(map(str, ids))}}}",
}


def _array(name: str, column: list[Any]) -> Any:
    kind = _TYPES[name][0]
    if kind == "TEXT":
        return texts([_written(name, value) for value in column] if name in _WRITTEN else column)
    return column if kind == "TIMESTAMPTZ" else numbers(column)


def _written(name: str, value: Any) -> Any:
    return _WRITTEN[name](value) if name in _WRITTEN else value


_DEFAULTS = {
    "attempts": 1,
    "hold": 0,
    "kwargs": "{}",
    "lax": False,
    "notes": "{}",
    "parents": [],
    "queue": "default",
}

_PLAIN = {
    "args": attrgetter("args_json"),
    "attempts": attrgetter("attempts"),
    "coalesce": attrgetter("coalesce"),
    "keep_for": attrgetter("keep_for"),
    "kwargs": attrgetter("kwargs_json"),
    "lax": attrgetter("lax"),
    "lease": attrgetter("lease"),
    "notes": attrgetter("notes_json"),
    "priority": attrgetter("priority"),
    "queue": attrgetter("queue"),
    "task": attrgetter("task"),
}
"""The columns of a plain job, and what is in them."""


def enqueue(work: Work, jobs: Sequence[NewJob], *, lock: bool = True) -> list[Enqueued]:
    """Store jobs of any kind in the transaction at hand (ENQ-03).

    Args:
        work: The transaction.
        jobs: The jobs.
        lock: Judge now whether parents are in the way, which keeps them from changing until the end of the
            transaction. In one that the caller will end that is left to the first claim.
    """
    parents = lock_parents(work, {parent for job in jobs for parent in job.parents}) if lock else {}
    now = work.now()
    rows = [job_row(job, parents, now) for job in jobs]
    answers: list[Enqueued | None] = [None] * len(jobs)
    start = 0
    while start < len(rows):
        end = start + 1
        if rows[start]["uniqkey"] is None:
            while end < len(rows) and rows[end]["uniqkey"] is None:
                end += 1
            ids = insert_rows(work.driver, rows[start:end])
            answers[start:end] = [Enqueued(id) for id in ids]
        else:
            answers[start] = _insert_with_key(work, rows[start], now)
        start = end
    made = [answer for answer in answers if answer is not None]
    add_edges(
        work,
        {
            answer.id: job.parents
            for job, answer in zip(jobs, made, strict=True)
            if job.parents and answer.created
        },
    )
    return made


def wake(driver: Any, jobs: Sequence[NewJob]) -> None:
    """Wake who waits for what may be claimable as soon as these jobs are stored."""
    now = [job for job in jobs if job.delay == 0]
    if now:
        driver.execute(
            f"SELECT MINION_WAKE(%s, %s) WHERE {ANYBODY_WAITS}",
            (sorted({job.queue for job in now}), sorted({job.task for job in now})),
        )


def _insert_with_key(work: Work, row: Mapping[str, Any], now: Any) -> Enqueued:
    key = {"task": row["task"], "uniqkey": row["uniqkey"]}
    text, values = _statement(
        {name: [row[name]] for name in _TYPES},
        timed=True,
        tail=f"ON CONFLICT (task, uniqkey) WHERE {HOLDS_KEY} DO NOTHING RETURNING id",
    )
    for _ in range(KEY_TRIES):
        (ids,) = work.driver.execute(text + MADE, values | {"now": now, "count": 1}).fetchone()
        if ids:
            return Enqueued(ids[0])
        holder = work.driver.execute(
            "SELECT id, state::TEXT, expires FROM minion_jobs"
            f" WHERE task = %(task)s AND uniqkey = %(uniqkey)s AND {HOLDS_KEY}",
            key,
        ).fetchone()
        if holder is None:
            continue
        id, state, expires = holder
        if state != State.INACTIVE or expires is None or expires > now:
            return Enqueued(id, created=False)
        expired = work.driver.execute(
            "SELECT id FROM minion_jobs WHERE id = %s AND state = 'inactive' AND expires <= %s FOR UPDATE",
            (id, now),
        ).fetchall()
        delete_jobs(work, [row[0] for row in expired])
    raise BackendError(f"The key {row['uniqkey']!r} of {row['task']!r} was lost to others {KEY_TRIES} times")
