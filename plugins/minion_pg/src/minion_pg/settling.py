"""Settling on PostgreSQL: each way an attempt ends is one statement on arrays, releasing children too."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeAlias

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
)
from minion_core.sql import settling as toolkit
from minion_core.sql.enqueueing import add_edges, free_key, lock_parents, remove_edges
from minion_core.sql.tables import LIVE
from minion_core.sql.transitions import lock_jobs
from minion_core.sql.work import at
from minion_pg.claiming import NOW
from minion_pg.columns import jsonb, numbers, texts
from minion_pg.connecting import is_duplicate

if TYPE_CHECKING:
    from minion_core.sql import Work

# A state in the text of a join would let the planner choose an index of that state in place of the key.
IS_ACTIVE = "job.state::TEXT = 'active'"

BACK = f"""worker = NULL, grabbed_until = NULL, exit_status = NULL, retried = {NOW}, touched = touched + 1,
    retries = job.retries + 1, fence = job.retries + 1"""

RELEASED = f"CASE WHEN %(release)s AND ids IS NOT NULL THEN MINION_RELEASE(ids, {NOW}) END"
"""Children go on in the same statement, unless those of all kinds do so together (``RELEASE``)."""

FINISH = f"""WITH given AS (
        SELECT * FROM UNNEST(%(ids)s::BIGINT[], %(retries)s::INT[], %(results)s::TEXT[], %(exits)s::INT[])
            AS given (id, retries, result, exit_status)
    ), done AS (
        UPDATE minion_jobs AS job SET
            state = 'finished', finished = {NOW}, result = given.result::JSONB,
            exit_status = given.exit_status, grabbed_until = NULL, touched = touched + 1,
            due = {NOW} + keep_for * INTERVAL '1 second'
        FROM given WHERE job.id = given.id AND job.retries = given.retries AND {IS_ACTIVE}
        RETURNING job.id, job.retries
    ), ended AS (SELECT ARRAY_AGG(id) AS ids, ARRAY_AGG(retries) AS retries FROM done)
    SELECT ids, retries, {RELEASED} FROM ended"""

FAIL = f"""WITH given AS (
        SELECT * FROM UNNEST(%(ids)s::BIGINT[], %(retries)s::INT[], %(messages)s::TEXT[],
            %(results)s::TEXT[], %(exits)s::INT[], %(retry_in)s::FLOAT8[])
            AS given (id, retries, message, result, exit_status, retry_in)
    ), failing AS MATERIALIZED (
        SELECT job.id, job.worker, job.retries, given.message, given.result, given.exit_status,
            {NOW} + given.retry_in * INTERVAL '1 second' AS again,
            given.retry_in IS NOT NULL AND job.attempts > 1
                AND (job.expires IS NULL OR job.expires > {NOW} + given.retry_in * INTERVAL '1 second')
                AS returns
        FROM given JOIN minion_jobs AS job ON job.id = given.id
        WHERE job.retries = given.retries AND {IS_ACTIVE}
        FOR UPDATE OF job
    ), log AS (
        INSERT INTO minion_failures (job, message, time, worker, retries)
        SELECT id, message, {NOW}, worker, retries FROM failing
    ), ended AS (
        UPDATE minion_jobs AS job SET
            state = 'failed', finished = {NOW}, result = failing.result::JSONB,
            exit_status = failing.exit_status, grabbed_until = NULL, failures = failures + 1,
            touched = touched + 1, due = {NOW} + keep_for * INTERVAL '1 second'
        FROM failing WHERE job.id = failing.id AND NOT failing.returns
        RETURNING job.id, failing.retries
    ), back AS (
        UPDATE minion_jobs AS job SET
            state = 'inactive', {BACK}, attempts = attempts - 1, failures = failures + 1,
            delayed = failing.again,
            hold = CASE WHEN failing.again > {NOW} THEN 1 ELSE 0 END,
            due = CASE WHEN failing.again > {NOW} THEN LEAST(failing.again, expires) ELSE expires END
        FROM failing WHERE job.id = failing.id AND failing.returns
        RETURNING job.id, failing.retries, job.queue, job.hold
    ), all_of AS (
        SELECT ARRAY_AGG(id) AS ids, ARRAY_AGG(retries) AS retries
        FROM (SELECT id, retries FROM ended UNION ALL SELECT id, retries FROM back) AS any_of)
    SELECT ids, retries, {RELEASED},
        (SELECT MINION_WAKE(ARRAY_AGG(DISTINCT queue)) FROM back WHERE hold = 0 HAVING COUNT(*) > 0)
    FROM all_of"""

RETURN = f"""WITH given AS (
        SELECT id, retries, COALESCE(run_at, {NOW} + run_in * INTERVAL '1 second') AS again
        FROM UNNEST(%(ids)s::BIGINT[], %(retries)s::INT[], %(run_in)s::FLOAT8[], %(run_at)s::TIMESTAMPTZ[])
            AS given (id, retries, run_in, run_at)
    ), back AS (
        UPDATE minion_jobs AS job SET
            state = 'inactive', {BACK}, delayed = given.again,
            hold = CASE WHEN expires <= {NOW} THEN 3 WHEN given.again > {NOW} THEN 1 ELSE 0 END,
            due = CASE WHEN expires <= {NOW} THEN NULL
                WHEN given.again > {NOW} THEN LEAST(given.again, expires) ELSE expires END
        FROM given WHERE job.id = given.id AND job.retries = given.retries AND {IS_ACTIVE}
        RETURNING job.id, given.retries, job.queue, job.hold
    ), all_of AS (SELECT ARRAY_AGG(id) AS ids, ARRAY_AGG(retries) AS retries FROM back)
    SELECT ids, retries, {RELEASED},
        (SELECT MINION_WAKE(ARRAY_AGG(DISTINCT queue)) FROM back WHERE hold = 0 HAVING COUNT(*) > 0)
    FROM all_of"""


LOCK = "SELECT FROM minion_jobs WHERE id = ANY (%(ids)s::BIGINT[]) ORDER BY id FOR NO KEY UPDATE"
"""In the order in which everybody locks, ahead of statements that lock one kind of outcomes each."""

RELEASE = f"SELECT MINION_RELEASE(%(ids)s::BIGINT[], {NOW})"
"""The children of all kinds at once, which are locked in that order, too."""

Attempt: TypeAlias = tuple[int, int]
"""The id of a job, and its ``retries`` at the time."""


def settle(outcomes: Sequence[Outcome], now: Any, driver: Any) -> set[Attempt]:
    """Apply outcomes of different attempts behind their fences, all of them or none, and answer which.

    Args:
        outcomes: Any but ``Replaced``.
        now: The caller's clock, if there is one.
        driver: A connection that commits each statement by itself.
    """
    kinds: dict[str, list[Outcome]] = {}
    for outcome in sorted(outcomes, key=lambda outcome: outcome.id):
        kinds.setdefault(_STATEMENTS[type(outcome)], []).append(outcome)
    if len(kinds) == 1:
        ((statement, some),) = kinds.items()
        return _apply(driver, statement, some, now, release=True)
    with driver.transaction():
        driver.execute(LOCK, {"ids": numbers([outcome.id for outcome in outcomes])})
        applied: set[Attempt] = set()
        for statement, some in kinds.items():
            applied |= _apply(driver, statement, some, now, release=False)
        driver.execute(RELEASE, {"ids": numbers([id for id, _ in applied]), "now": now})
        return applied


def settle_with_replaced(work: Work, outcomes: Sequence[Outcome], now: Any) -> list[Settled]:
    """Apply outcomes of different attempts behind their fences, ``Replaced`` ones among them."""
    plain = [outcome for outcome in outcomes if not isinstance(outcome, Replaced)]
    applied = settle(plain, now, work.driver) if plain else set()
    replaced = iter(toolkit.settle(work, [one for one in outcomes if isinstance(one, Replaced)]))
    return [
        next(replaced) if isinstance(outcome, Replaced) else Settled((outcome.id, outcome.retries) in applied)
        for outcome in outcomes
    ]


def _apply(driver: Any, statement: str, outcomes: Sequence[Any], now: Any, *, release: bool) -> set[Attempt]:
    values = {
        "now": now,
        "release": release,
        "ids": numbers([outcome.id for outcome in outcomes]),
        "retries": numbers([outcome.retries for outcome in outcomes]),
    }
    (ids, retries, *_) = driver.execute(statement, values | _ARRAYS[statement](outcomes)).fetchone()
    return set(zip(ids or (), retries or (), strict=True))


def _of_finished(outcomes: Sequence[Finished]) -> dict[str, Any]:
    return {
        "results": texts([jsonb(outcome.result_json) for outcome in outcomes]),
        "exits": numbers([outcome.exit_status for outcome in outcomes]),
    }


def _of_failed(outcomes: Sequence[Failed]) -> dict[str, Any]:
    return {
        "messages": texts([outcome.message for outcome in outcomes]),
        "results": texts([jsonb(outcome.result_json) for outcome in outcomes]),
        "exits": numbers([outcome.exit_status or 1 for outcome in outcomes]),
        "retry_in": numbers([outcome.retry_in for outcome in outcomes]),
    }


def _of_returned(outcomes: Sequence[Declined | Released]) -> dict[str, Any]:
    when = [outcome.run_after if isinstance(outcome, Declined) else 0.0 for outcome in outcomes]
    return {
        "run_in": numbers([0.0 if isinstance(moment, datetime) else moment for moment in when]),
        "run_at": [moment if isinstance(moment, datetime) else None for moment in when],
    }


_STATEMENTS: dict[type[Outcome], str] = {
    Finished: FINISH,
    Failed: FAIL,
    Declined: RETURN,
    Released: RETURN,
}

_ARRAYS: dict[str, Callable[[Any], dict[str, Any]]] = {
    FINISH: _of_finished,
    FAIL: _of_failed,
    RETURN: _of_returned,
}


RETRY = f"""UPDATE minion_jobs AS job SET
        state = 'inactive', {BACK}, delayed = %(delayed)s, hold = 0,
        attempts = COALESCE(%(attempts)s::INT, attempts), expires = COALESCE(%(expires)s, expires),
        lax = COALESCE(%(lax)s::BOOL, lax), parents = COALESCE(%(parents)s::BIGINT[], parents),
        priority = COALESCE(%(priority)s::INT, priority), queue = COALESCE(%(queue)s::TEXT, queue)
    WHERE id = %(id)s"""


def retry_job(work: Work, id: int, retries: int, options: RetryOptions) -> bool:
    """Return a job in any state to ``inactive`` (RETRY-01, RETRY-02)."""
    if options.parents:
        lock_parents(work, options.parents)
    row = lock_jobs(work, [id]).get(id)
    now = work.now()
    if row is None or row.retries != retries:
        return False
    if row.expires is not None and row.expires <= now and options.expire is None:
        return False
    if row.uniqkey is not None and row.state not in LIVE and free_key(work, row.task, row.uniqkey, now):
        return False
    values = {
        "id": id,
        "now": now,
        "delayed": at(now, options.delay),
        "attempts": options.attempts,
        "expires": None if options.expire is None else at(now, options.expire),
        "lax": options.lax,
        "parents": None if options.parents is None else list(options.parents),
        "priority": options.priority,
        "queue": options.queue,
    }
    try:
        with work.connection.begin_nested():
            work.connection.exec_driver_sql(RETRY, values)
    except sa.exc.IntegrityError as error:
        if error.orig is not None and is_duplicate(error.orig):
            return False  # somebody else's job took the key a moment ago
        raise
    if options.parents is not None:
        remove_edges(work, [id])
        add_edges(work, {id: options.parents})
    work.driver.execute(
        "SELECT MINION_JUDGE(ARRAY[%s::BIGINT], %s), MINION_RELEASE(ARRAY[%s::BIGINT], %s)",
        (id, now, id, now),
    )
    work.driver.execute("SELECT MINION_WAKE(ARRAY[queue]) FROM minion_jobs WHERE id = %s AND hold = 0", (id,))
    return True
