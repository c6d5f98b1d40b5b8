"""How attempts end: outcomes applied behind their fence, retries, and leases moved on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, assert_never

import sqlalchemy as sa

from minion_core.records import (
    Declined,
    Failed,
    Finished,
    Outcome,
    Released,
    Replaced,
    RetryOptions,
    Settled,
    State,
)
from minion_core.sql import enqueueing
from minion_core.sql.readiness import judge, release_children
from minion_core.sql.tables import LIVE, in_state
from minion_core.sql.transitions import (
    End,
    FailureEntry,
    Return,
    end_jobs,
    lock_jobs,
    log_failures,
    return_to_inactive,
)
from minion_core.sql.work import Work, at, chunks
from minion_core.values import decode_json

if TYPE_CHECKING:
    from collections.abc import Mapping


def settle(work: Work, outcomes: Sequence[Outcome]) -> list[Settled]:
    """Apply each outcome whose fence holds; of two for one attempt the first counts (SET-01, SET-06)."""
    finished = [outcome for outcome in outcomes if type(outcome) is Finished]
    if len(finished) == len(outcomes) == len({outcome.id for outcome in outcomes}):
        return [Settled(applied) for applied in work.backend.finish_jobs(work, finished)]
    return _apply(work, outcomes)


def apply_finished(work: Work, outcomes: Sequence[Finished]) -> list[bool]:
    """Apply outcomes that are all alike as any others; what a plugin without a faster way does."""
    return [settled.applied for settled in _apply(work, outcomes)]


def _apply(work: Work, outcomes: Sequence[Outcome]) -> list[Settled]:
    settled = [Settled(applied=False)] * len(outcomes)
    rows: dict[int, sa.Row[Any]] = {}
    for some in chunks(sorted({outcome.id for outcome in outcomes})):
        rows |= lock_jobs(work, some)
    now = work.now()
    ends: list[End] = []
    returns: list[Return] = []
    failures: list[FailureEntry] = []
    replaced: list[tuple[int, Replaced]] = []
    for index, outcome in enumerate(outcomes):
        row = rows.get(outcome.id)
        if row is None or row.state != State.ACTIVE or row.retries != outcome.retries:
            continue
        del rows[outcome.id]
        settled[index] = Settled(applied=True)
        match outcome:
            case Finished():
                ends.append(End(row, State.FINISHED, outcome.result_json, outcome.exit_status))
            case Failed():
                failures.append(FailureEntry(row, outcome.message))
                again = None if outcome.retry_in is None else at(now, outcome.retry_in)
                if again is not None and row.attempts > 1 and (row.expires is None or row.expires > again):
                    returns.append(Return(row, again, row.attempts - 1))
                else:
                    ends.append(End(row, State.FAILED, outcome.result_json, outcome.exit_status or 1))
            case Declined():
                returns.append(Return(row, at(now, outcome.run_after), row.attempts))
            case Released():
                returns.append(Return(row, now, row.attempts))
            case Replaced():
                ends.append(End(row, State.FINISHED, "null", 0))
                replaced.append((index, outcome))
            case _:
                assert_never(outcome)
    end_jobs(work, ends, now)
    return_to_inactive(work, returns, now)
    log_failures(work, failures, now)
    for index, outcome in replaced:
        new = enqueueing.enqueue(work, outcome.jobs)
        _hand_down(work, outcome.id, [job.id for job in new])
        settled[index] = Settled(applied=True, jobs=tuple(new))
    release_children(work, [end.row.id for end in ends] + [back.row.id for back in returns])
    return settled


def _hand_down(work: Work, replaced: int, parents: list[int]) -> None:
    """Give the live children of a replaced job the new jobs as parents too, but for a circle (SET-05)."""
    jobs, edges = work.tables.jobs, work.tables.edges
    children = work.connection.execute(
        work.backend.lock_rows(
            sa.select(jobs.c.id, jobs.c.parents)
            .where(
                jobs.c.id.in_(sa.select(edges.c.child).where(edges.c.parent == replaced)),
                in_state(jobs, *LIVE),
            )
            .order_by(jobs.c.id)
        )
    ).all()
    ancestors = {id: _ancestors(work, id) for id in parents} if children else {}
    for child in children:
        added = [id for id in parents if id not in child.parents and child.id not in ancestors[id]]
        work.connection.execute(
            sa.update(jobs).where(jobs.c.id == child.id).values(parents=[*child.parents, *added])
        )
        enqueueing.add_edges(work, {child.id: added})


def _ancestors(work: Work, id: int) -> set[int]:
    """Answer a job, and all that it waits for."""
    edges = work.tables.edges
    found, look = {id}, {id}
    while look:
        look = {
            parent
            for some in chunks(sorted(look))
            for parent in work.connection.execute(
                sa.select(edges.c.parent).where(edges.c.child.in_(some)).distinct()
            ).scalars()
        } - found
        found |= look
    return found


def applied_before(work: Work, outcomes: Sequence[Outcome]) -> list[Settled]:
    """Find out which outcomes the rows show, after a commit whose answer was lost (SET-10)."""
    jobs, failures = work.tables.jobs, work.tables.failures
    rows = {
        row.id: row
        for some in chunks([outcome.id for outcome in outcomes])
        for row in work.connection.execute(
            sa.select(
                jobs.c.id, jobs.c.state, jobs.c.retries, jobs.c.result, jobs.c.exit_status, jobs.c.delayed
            ).where(jobs.c.id.in_(some))
        )
    }
    logged = {
        (row.job, row.retries, row.message)
        for some in chunks([outcome.id for outcome in outcomes if isinstance(outcome, Failed)])
        for row in work.connection.execute(
            sa.select(failures.c.job, failures.c.retries, failures.c.message).where(failures.c.job.in_(some))
        )
    }

    def shows(outcome: Outcome) -> Any:
        row = rows.get(outcome.id)
        if row is None:
            return False
        ended: bool = row.retries == outcome.retries
        returned: bool = row.retries == outcome.retries + 1 and row.state == State.INACTIVE
        match outcome:
            case Finished():
                return (
                    ended
                    and row.state == State.FINISHED
                    and row.exit_status == outcome.exit_status
                    and decode_json(row.result) == decode_json(outcome.result_json)
                )
            case Failed():
                over = ended and row.state == State.FAILED
                return (over or returned) and (outcome.id, outcome.retries, outcome.message) in logged
            case Replaced():
                return ended and row.state == State.FINISHED and decode_json(row.result) is None
            case Declined() | Released():
                return returned
            case _:
                assert_never(outcome)

    return [Settled(applied=bool(shows(outcome))) for outcome in outcomes]


def extend_lease(work: Work, id: int, retries: int, seconds: float) -> bool:
    """Move the end of an attempt's lease, while the fence holds (LEASE-01)."""
    jobs = work.tables.jobs
    row = lock_jobs(work, [id]).get(id)
    if row is None or row.state != State.ACTIVE or row.retries != retries:
        return False
    until = at(work.now(), seconds)
    work.connection.execute(sa.update(jobs).where(jobs.c.id == id).values(grabbed_until=until, due=until))
    return True


def retry_job(work: Work, id: int, retries: int, options: RetryOptions) -> bool:
    """Return a job in any state to ``inactive``, with new values for what is given (RETRY-01, RETRY-02)."""
    jobs = work.tables.jobs
    if options.parents:
        enqueueing.lock_parents(work, options.parents)
    row = lock_jobs(work, [id]).get(id)
    now = work.now()
    if row is None or row.retries != retries:
        return False
    if row.expires is not None and row.expires <= now and options.expire is None:
        return False
    if (
        row.uniqkey is not None
        and row.state not in LIVE
        and enqueueing.free_key(work, row.task, row.uniqkey, now) is not None
    ):
        return False
    changes: Mapping[str, Any] = {
        "attempts": options.attempts,
        "expires": None if options.expire is None else at(now, options.expire),
        "lax": options.lax,
        "parents": None if options.parents is None else list(options.parents),
        "priority": options.priority,
        "queue": options.queue,
    }
    if given := {name: value for name, value in changes.items() if value is not None}:
        work.connection.execute(sa.update(jobs).where(jobs.c.id == id).values(given))
    if options.parents is not None:
        enqueueing.remove_edges(work, [id])
        enqueueing.add_edges(work, {id: options.parents})
    row = lock_jobs(work, [id])[id]
    return_to_inactive(work, [Return(row, at(now, options.delay), row.attempts)], now)
    judge(work, [id], now)
    release_children(work, [id])
    return True
