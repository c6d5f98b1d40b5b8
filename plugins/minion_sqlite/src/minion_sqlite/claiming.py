"""Claiming on SQLite: one statement takes a batch in the order of the index.

The text depends on how many pairs of queue and task are asked for. Each pair is one range of
``minion_jobs_ready``, and SQLite merges the ranges as it reads them: nothing is sorted, and rows of other
tasks and queues are never touched.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import product
from typing import TYPE_CHECKING, Any

from minion_core.records import ClaimedJob, DequeueOptions
from minion_core.sql.jobs import claimed_job
from minion_core.sql.readiness import judge
from minion_core.sql.tables import from_microseconds, to_microseconds
from minion_core.sql.transitions import sweep_all
from minion_core.sql.work import chunks

if TYPE_CHECKING:
    from minion_core.sql import Work

RANGES_MAX = 400
"""How many ranges one statement may merge; SQLite takes at most 500 terms in a compound select."""

# The conditions of DEP-01 and of time, on the row that is about to be claimed.
TRULY_CLAIMABLE = """delayed <= :now AND (expires IS NULL OR expires > :now)
  AND (parents = '[]' OR NOT EXISTS (
    SELECT 1 FROM minion_job_edges AS edge JOIN minion_jobs AS parent ON parent.id = edge.parent
    WHERE edge.child = minion_jobs.id AND (
      parent.state = 'active'
      OR (parent.state = 'inactive' AND (parent.expires IS NULL OR parent.expires > :now))
      OR (parent.state = 'failed' AND NOT minion_jobs.lax))))"""

TAKE = f"""UPDATE minion_jobs
  SET state = 'active', worker = :worker, started = :now, grabbed_until = :now + lease, due = :now + lease
  WHERE id IN (SELECT value FROM json_each(:ids)) AND {TRULY_CLAIMABLE}
  RETURNING id, task, args, kwargs, retries, attempts, failures, notes, queue, priority,
    "coalesce", uniqkey, lease"""


ANYTHING_DUE = """SELECT 1 FROM minion_jobs
  WHERE due <= ? AND due IS NOT NULL AND state IN ('inactive', 'active') LIMIT 1"""


def claim(work: Work, worker_id: int, options: DequeueOptions) -> list[ClaimedJob]:
    """Claim up to ``options.limit`` jobs, the best first."""
    now = work.now()
    values = {"worker": worker_id, "now": to_microseconds(now)}
    if work.driver.execute(ANYTHING_DUE, (values["now"],)).fetchone():
        sweep_all(work, now)
    claimed: list[ClaimedJob] = []
    while wanted := options.limit - len(claimed):
        ids = _candidates(work, options, wanted)
        if not ids:
            break
        rows = work.driver.execute(TAKE, values | {"ids": str(ids)}).fetchall()
        claimed += [_claimed_job(row, values["now"]) for row in rows]
        moved = 0
        if len(rows) < len(ids):
            # What the index shows and the conditions refuse goes where it belongs.
            moved = judge(work, sorted(set(ids).difference(row[0] for row in rows)), now)
        if len(ids) < wanted or not (rows or moved):
            break
    claimed.sort(key=lambda job: (-job.priority, job.id))
    return claimed


def _candidates(work: Work, options: DequeueOptions, limit: int) -> list[int]:
    """Read the best ids that the index offers."""
    filters, values = _filters(options)
    values["limit"] = limit
    pairs = list(product(options.queues, options.tasks))
    found: list[tuple[int, int]] = []
    for some in chunks(pairs, RANGES_MAX):
        for number, (queue, task) in enumerate(some):
            values[f"queue{number}"] = queue
            values[f"task{number}"] = task
        found += work.driver.execute(candidates_statement(len(some), filters), values)
    if len(pairs) > RANGES_MAX:
        found.sort(key=lambda row: (-row[0], row[1]))
    return [id for _, id in found[:limit]]


@lru_cache(maxsize=256)
def candidates_statement(ranges: int, filters: tuple[str, ...]) -> str:
    """Write the select that merges so many ranges of the index."""
    conditions = "".join(f" AND {condition}" for condition in filters)
    return (
        " UNION ALL ".join(
            "SELECT priority, id FROM minion_jobs WHERE state = 'inactive' AND hold = 0"
            f" AND queue = :queue{number} AND task = :task{number}{conditions}"
            for number in range(ranges)
        )
        + " ORDER BY priority DESC, id LIMIT :limit"
    )


def _filters(options: DequeueOptions) -> tuple[tuple[str, ...], dict[str, Any]]:
    filters: list[str] = []
    values: dict[str, Any] = {}
    if options.id is not None:
        filters.append("id = :id")
        values["id"] = options.id
    if options.min_priority is not None:
        filters.append("priority >= :min_priority")
        values["min_priority"] = options.min_priority
    if options.coalesce is not None:
        filters.append('"coalesce" = :coalesce')
        values["coalesce"] = options.coalesce
    if options.coalesce_prefix is not None:
        filters.append('"coalesce" IS NOT NULL AND substr("coalesce", 1, :length) = :prefix')
        values["prefix"] = options.coalesce_prefix
        values["length"] = len(options.coalesce_prefix)
    return tuple(filters), values


def _claimed_job(row: Any, now: int) -> ClaimedJob:
    *columns, lease = row
    if lease is None:
        return claimed_job(columns, None, None)
    return claimed_job(columns, lease / 1_000_000, from_microseconds(now + lease))


def may_be_claimable(work: Work, options: DequeueOptions) -> bool:
    """Look whether the index offers anything that matches."""
    return bool(_candidates(work, options, 1))
