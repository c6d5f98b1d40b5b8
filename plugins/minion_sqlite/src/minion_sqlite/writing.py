"""Storing and finishing on SQLite, with the driver itself: the statements that a busy queue is made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from minion_core.sql.readiness import release_children
from minion_core.sql.tables import to_microseconds

if TYPE_CHECKING:
    from datetime import datetime

    from minion_core.records import Finished
    from minion_core.sql import Work

INSERT = """INSERT INTO minion_jobs (id, args, attempts, "coalesce", created, delayed, due, expires, hold,
    keep_for, kwargs, lax, lease, notes, parents, priority, queue, task, uniqkey)
  VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"""

LAST_ID = "SELECT seq FROM sqlite_sequence WHERE name = 'minion_jobs'"

FINISH = """UPDATE minion_jobs
  SET state = 'finished', finished = ?1, result = ?2, exit_status = ?3, grabbed_until = NULL,
    due = ?1 + keep_for
  WHERE id = ?4 AND retries = ?5 AND state = 'active'"""

WITH_CHILDREN = (
    "SELECT DISTINCT parent FROM minion_job_edges WHERE parent IN (SELECT value FROM json_each(?))"
)


def last_id(work: Work) -> int:
    """Answer the highest id ever given to a job."""
    row = work.driver.execute(LAST_ID).fetchone()
    return row[0] if row else 0


def insert_jobs(work: Work, rows: Sequence[Mapping[str, Any]]) -> list[int]:
    """Insert rows; nobody else does before the end of this transaction, so ids are counted here."""
    if len(rows) == 1:
        return [work.driver.execute(INSERT, _values(None, rows[0])).lastrowid]
    first = last_id(work) + 1
    work.driver.executemany(INSERT, [_values(id, row) for id, row in enumerate(rows, first)])
    return list(range(first, first + len(rows)))


def _values(id: int | None, row: Mapping[str, Any]) -> tuple[Any, ...]:
    created, delayed = row["created"], row["delayed"]
    now = to_microseconds(created)
    return (
        id,
        row["args"],
        row["attempts"],
        row["coalesce"],
        now,
        now if delayed is created else to_microseconds(delayed),
        _instant(row["due"]),
        _instant(row["expires"]),
        row["hold"],
        _length(row["keep_for"]),
        row["kwargs"],
        row["lax"],
        _length(row["lease"]),
        row["notes"],
        str(row["parents"]),
        row["priority"],
        row["queue"],
        row["task"],
        row["uniqkey"],
    )


def _instant(value: datetime | None) -> int | None:
    return None if value is None else to_microseconds(value)


def _length(seconds: float | None) -> int | None:
    return None if seconds is None else round(seconds * 1_000_000)


def finish_jobs(work: Work, outcomes: Sequence[Finished]) -> list[bool]:
    """Finish jobs one by one, each behind its fence."""
    now = to_microseconds(work.now())
    execute = work.driver.execute
    applied = []
    for outcome in outcomes:
        values = (now, outcome.result_json, outcome.exit_status, outcome.id, outcome.retries)
        applied.append(execute(FINISH, values).rowcount > 0)
    ended = [outcome.id for outcome, done in zip(outcomes, applied, strict=True) if done]
    if parents := execute(WITH_CHILDREN, (str(ended),)).fetchall():
        release_children(work, [row[0] for row in parents])
    return applied
