"""Claiming on PostgreSQL: one statement takes a batch in the order of the index.

Each pair of queue and task is one range of ``minion_jobs_ready``; the ranges are merged as they are read.
What comes first is locked row by row, passing over what others have in hand, until there are enough: no row
is locked that is not taken or found wanting.
"""

from __future__ import annotations

from datetime import UTC
from functools import lru_cache
from itertools import product
from typing import Any

from minion_core.records import ClaimedJob, DequeueOptions
from minion_core.sql import jobs
from minion_pg.migrations import READY

NOW = "COALESCE(%(now)s::TIMESTAMPTZ, STATEMENT_TIMESTAMP())"
"""The caller's clock, if there is one, or the time of the statement."""

LOOKAHEAD = 1000
"""Among how many of the rows next due one that matches is looked for, and how many are judged at a time."""

# The conditions of DEP-01 and of time.
TRULY_CLAIMABLE = f"""job.delayed <= {NOW} AND (job.expires IS NULL OR job.expires > {NOW})
    AND (job.parents = '{{}}' OR NOT EXISTS (
        SELECT 1 FROM minion_jobs AS parent WHERE parent.id = ANY (job.parents) AND (
            parent.state::TEXT = 'active'
            OR (parent.state::TEXT = 'inactive' AND (parent.expires IS NULL OR parent.expires > {NOW}))
            OR (parent.state::TEXT = 'failed' AND NOT job.lax))))"""

OVERDUE = f"""SELECT 1 FROM minion_jobs
    WHERE due <= {NOW} AND due IS NOT NULL AND state IN ('inactive', 'active')"""


def parameters(options: DequeueOptions, now: Any) -> dict[str, Any]:
    """Answer the values that the statements of this module take."""
    values: dict[str, Any] = {"now": now, "queues": list(options.queues), "tasks": list(options.tasks)}
    for name in ("id", "min_priority", "coalesce", "coalesce_prefix"):
        if getattr(options, name) is not None:
            values[name] = getattr(options, name)
    if options.id is None:
        for number, (queue, task) in enumerate(product(options.queues, options.tasks)):
            values[f"q{number}"] = queue
            values[f"t{number}"] = task
    return values


def _filters(options: DequeueOptions) -> tuple[str, ...]:
    filters = []
    if options.min_priority is not None:
        filters.append("job.priority >= %(min_priority)s")
    if options.coalesce is not None:
        filters.append('job."coalesce" = %(coalesce)s')
    if options.coalesce_prefix is not None:
        filters.append('job."coalesce" IS NOT NULL AND STARTS_WITH(job."coalesce", %(coalesce_prefix)s)')
    return tuple(filters)


@lru_cache(maxsize=256)
def _candidates(ranges: int, filters: tuple[str, ...], extra: str = "") -> str:
    """Write the select of what the index offers, best first; no range stands for one id."""
    conditions = "".join(f" AND {condition}" for condition in (*filters, extra) if condition)
    if not ranges:
        # Written so that only the primary key can serve it.
        return f"""SELECT job.priority, job.id FROM minion_jobs AS job
            WHERE job.id = %(id)s AND job.state::TEXT = 'inactive' AND job.hold + 0 = 0
                AND job.queue = ANY (%(queues)s) AND job.task = ANY (%(tasks)s){conditions}"""
    each = [
        f"SELECT job.priority, job.id FROM minion_jobs AS job WHERE {_ready()}"
        f" AND job.queue = %(q{number})s AND job.task = %(t{number})s{conditions}"
        " ORDER BY job.priority DESC, job.id"
        for number in range(ranges)
    ]
    if ranges == 1:
        return each[0]
    return " UNION ALL ".join(f"({one})" for one in each) + " ORDER BY priority DESC, id"


def _ready() -> str:
    return READY.replace("state", "job.state").replace("hold", "job.hold")


@lru_cache(maxsize=256)
def _claim(ranges: int, filters: tuple[str, ...]) -> str:
    conditions = "".join(f" AND {condition}" for condition in filters)
    return f"""WITH overdue AS MATERIALIZED (
        SELECT 1 WHERE %(look)s AND EXISTS ({OVERDUE})
    ), seen AS MATERIALIZED (
        SELECT locked.* FROM ({_candidates(ranges, filters)}) AS candidate
        CROSS JOIN LATERAL (
            SELECT job.id, {TRULY_CLAIMABLE} AS claimable
            FROM minion_jobs AS job
            WHERE job.id = candidate.id AND job.state::TEXT = 'inactive' AND job.hold + 0 = 0
                AND job.queue = ANY (%(queues)s) AND job.task = ANY (%(tasks)s){conditions}
            FOR UPDATE SKIP LOCKED
        ) AS locked
        WHERE NOT EXISTS (SELECT 1 FROM overdue)
        LIMIT %(limit)s
    ), claimed AS (
        UPDATE minion_jobs AS job SET
            state = 'active', worker = %(worker)s, started = {NOW}, touched = touched + 1,
            grabbed_until = {NOW} + lease * INTERVAL '1 second', due = {NOW} + lease * INTERVAL '1 second'
        FROM seen WHERE job.id = seen.id AND seen.claimable
        RETURNING job.id, job.task, job.args::TEXT, job.kwargs::TEXT, job.retries, job.attempts,
            job.failures, job.notes::TEXT, job.queue, job.priority, job."coalesce", job.uniqkey, job.lease,
            job.grabbed_until
    )
    SELECT EXISTS (SELECT 1 FROM overdue), (SELECT ARRAY_AGG(id) FROM seen WHERE NOT claimable), claimed.*
    FROM (VALUES (1)) AS one LEFT JOIN claimed ON TRUE"""


def claim_statement(options: DequeueOptions) -> str:
    """Answer the text that claims for these options.

    Its rows have whether something is overdue (then nothing was claimed), the ids of what was found wanting,
    and the columns of a claimed job or nulls; there is always one.
    """
    return _claim(_ranges(options), _filters(options))


@lru_cache(maxsize=256)
def _wanting(ranges: int, filters: tuple[str, ...]) -> str:
    return f"""SELECT ARRAY_AGG(id) FROM (
        SELECT id FROM ({_candidates(ranges, filters, f"NOT ({TRULY_CLAIMABLE})")}) AS candidate
        LIMIT {LOOKAHEAD}) AS wanting"""


def wanting_statement(options: DequeueOptions) -> str:
    """Answer the text that finds many at a time of those that the index shows and the conditions refuse."""
    return _wanting(_ranges(options), _filters(options))


@lru_cache(maxsize=256)
def _look(ranges: int, filters: tuple[str, ...]) -> str:
    overdue = f"{OVERDUE} AND queue = ANY (%(queues)s) AND task = ANY (%(tasks)s)"
    return f"""SELECT EXISTS ({overdue}) OR EXISTS (
        SELECT 1 FROM ({_candidates(ranges, filters, TRULY_CLAIMABLE)}) AS candidate LIMIT 1)"""


def look_statement(options: DequeueOptions) -> str:
    """Answer the text that says whether a claim for these options may find a job."""
    return _look(_ranges(options), _filters(options))


NEXT_DUE = f"""WITH soon AS MATERIALIZED (
        SELECT due, queue = ANY (%(queues)s) AND task = ANY (%(tasks)s) AS matches FROM minion_jobs
        WHERE due IS NOT NULL AND state IN ('inactive', 'active') ORDER BY due LIMIT {LOOKAHEAD})
    SELECT COALESCE(
        (SELECT MIN(due) FROM soon WHERE matches),
        (SELECT MAX(due) FROM soon HAVING COUNT(*) = {LOOKAHEAD})
    ) - {NOW}"""
"""In how long the clock may let a claim find a job, as an interval."""


def _ranges(options: DequeueOptions) -> int:
    return 0 if options.id is not None else len(options.queues) * len(options.tasks)


def claimed_job(row: tuple[Any, ...]) -> ClaimedJob:
    """Turn the last columns of a claim's row into a record."""
    *columns, lease, until = row
    return jobs.claimed_job(columns, lease, None if until is None else until.astimezone(UTC))
