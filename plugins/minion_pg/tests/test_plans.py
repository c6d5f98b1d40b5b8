"""The plans of the hot statements: each row by one index, nothing sorted, whatever the statistics say."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import psycopg
import pytest

from minion_core.records import DequeueOptions, NewJob
from minion_pg import PgBackend, claiming, settling

TASKS = tuple(f"task {number}" for number in range(10))

FILL = """INSERT INTO minion_jobs
        (args, created, delayed, priority, task, queue, state, finished, hold, due, touched)
    SELECT '[]', NOW(), NOW() + MAKE_INTERVAL(days => CASE WHEN kind = 1 THEN 1 ELSE 0 END), 0,
        CASE WHEN kind = 5 THEN 'unknown' ELSE 'task ' || MOD(n, 10) END,
        CASE WHEN kind = 4 THEN 'another' ELSE 'default' END,
        (CASE WHEN kind = 0 THEN 'finished' ELSE 'inactive' END)::minion_state,
        CASE WHEN kind = 0 THEN NOW() END,
        CASE WHEN kind < 4 THEN kind ELSE 0 END,
        CASE WHEN kind = 1 THEN NOW() + INTERVAL '1 day' END, 1
    FROM GENERATE_SERIES(0, 5) AS kind, GENERATE_SERIES(1, %s) AS n"""


def plan(backend: PgBackend, statement: str, values: dict[str, Any]) -> str:
    """Explain the generic plan of the prepared statement, which is what the backend's sessions use."""
    with backend._connector.connect() as connection, connection.transaction(force_rollback=True):
        connection.execute(statement.encode(), values, prepare=True)
        ((name, count),) = connection.execute(
            "SELECT name, CARDINALITY(parameter_types) FROM pg_prepared_statements WHERE statement LIKE %s",
            (f"%{statement[:20]}%",),
        ).fetchall()
        rows = connection.execute(
            f"EXPLAIN (COSTS OFF) EXECUTE {name} ({', '.join(['NULL'] * count)})".encode()
        ).fetchall()
    return "\n".join(row[0] for row in rows)


def used(text: str) -> set[str]:
    return set(re.findall(r"using (\w+)", text))


def values(options: DequeueOptions) -> dict[str, Any]:
    return claiming.parameters(options, None) | {"worker": 1, "look": True, "limit": options.limit}


@pytest.fixture(params=["empty", "full, never analyzed", "full, analyzed", "analyzed when empty"])
def filled(request: pytest.FixtureRequest, backend: PgBackend, sql: Callable[..., list[Any]]) -> PgBackend:
    """A table in each of the states that mislead a planner."""
    sql("ALTER TABLE minion_jobs SET (autovacuum_enabled = off)")
    if request.param == "analyzed when empty":
        sql("ANALYZE minion_jobs")
    if request.param != "empty":
        sql(FILL, 2000)
    if request.param == "full, analyzed":
        sql("ANALYZE minion_jobs")
    return backend


@pytest.mark.parametrize("tasks", [TASKS[:1], TASKS])
@pytest.mark.parametrize("filters", [{}, {"min_priority": 1}])
def test_claiming(filled: PgBackend, tasks: Sequence[str], filters: dict[str, Any]) -> None:
    options = DequeueOptions(tasks, limit=10, **filters)
    text = plan(filled, claiming.claim_statement(options), values(options))
    assert used(text) == {"minion_jobs_ready", "minion_jobs_due", "minion_jobs_pkey"}
    assert "Seq Scan" not in text
    assert "Sort" not in text.replace("Sort Key", "")
    assert ("Merge Append" in text) == (len(tasks) > 1)


def test_claiming_by_coalesce(filled: PgBackend) -> None:
    options = DequeueOptions(TASKS[:1], coalesce="c")
    text = plan(filled, claiming.claim_statement(options), values(options))
    assert used(text) == {"minion_jobs_coalesce", "minion_jobs_due", "minion_jobs_pkey"}
    assert "Sort" not in text


def test_claiming_one(filled: PgBackend) -> None:
    options = DequeueOptions(TASKS, id=4711)
    text = plan(filled, claiming.claim_statement(options), values(options))
    assert used(text) == {"minion_jobs_pkey", "minion_jobs_due"}


def test_settling(filled: PgBackend) -> None:
    arrays = {
        "ids": [1, 2],
        "retries": [0, 0],
        "results": ["1", "2"],
        "exits": [0, 0],
        "messages": ["", ""],
        "retry_in": [None, 1.0],
        "run_in": [0.0, 0.0],
        "run_at": [None, None],
        "now": None,
        "release": True,
    }
    for statement in (settling.LOCK, settling.FINISH, settling.FAIL, settling.RETURN):
        text = plan(filled, statement, arrays)
        assert used(text) == {"minion_jobs_pkey"}
        assert "Seq Scan" not in text


def test_looking(filled: PgBackend) -> None:
    options = DequeueOptions(TASKS)
    text = plan(filled, claiming.look_statement(options), values(options))
    assert used(text) == {"minion_jobs_ready", "minion_jobs_due", "minion_jobs_pkey"}
    assert used(plan(filled, claiming.NEXT_DUE, values(options))) == {"minion_jobs_due"}


def test_a_claim_reads_no_more_rows_than_it_takes(backend: PgBackend, sql: Callable[..., list[Any]]) -> None:
    sql(FILL, 2000)
    backend.enqueue([NewJob(task) for task in TASKS for _ in range(100)])
    options = DequeueOptions(TASKS, limit=10)
    with backend._connector.connect() as connection, connection.transaction(force_rollback=True):
        rows = connection.execute(
            f"EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF) {claiming.claim_statement(options)}".encode(),
            values(options),
        ).fetchall()
    read = [
        int(rows) for (line,) in rows for rows in re.findall(r"minion_jobs_ready.*actual rows=(\d+)", line)
    ]
    assert len(read) == len(TASKS)
    assert sum(read) <= options.limit + len(TASKS)


def test_the_indexes_of_claims_hold_nothing_but_what_may_be_claimable(
    backend: PgBackend, url: str, sql: Callable[..., list[Any]]
) -> None:
    parent = backend.enqueue([NewJob("t")])[0].id
    backend.enqueue([NewJob("t", delay=100)] * 10 + [NewJob("t", parents=(parent,))] * 10)
    with psycopg.connect(url) as connection:
        rows = connection.execute(
            "SELECT hold, COUNT(*) FROM minion_jobs GROUP BY hold ORDER BY hold"
        ).fetchall()
    assert rows == [(0, 1), (1, 10), (2, 10)]
    assert backend.dequeue(1, DequeueOptions(("t",), limit=50)) != []
    assert sql("SELECT COUNT(*) FROM minion_jobs WHERE state = 'inactive' AND hold = 0") == [(0,)]


def test_many_that_perl_made_and_nobody_can_claim_are_judged_at_once(
    backend: PgBackend, sql: Callable[..., list[Any]]
) -> None:
    parent = backend.enqueue([NewJob("nobody")])[0].id
    sql(
        "INSERT INTO minion_jobs (args, delayed, priority, task, parents)"
        " SELECT '[]', NOW(), 5, 't', ARRAY[%s::BIGINT] FROM GENERATE_SERIES(1, 5000)",
        parent,
    )
    last = backend.enqueue([NewJob("t")])[0].id
    asked: list[str] = []
    once = backend._once
    backend._once = lambda function: (asked.append(""), once(function))[1]  # type: ignore[method-assign]
    assert [job.id for job in backend.dequeue(1, DequeueOptions(("t",)))] == [last]
    assert len(asked) < 30
    assert sql("SELECT hold, COUNT(*) FROM minion_jobs WHERE task = 't' GROUP BY hold ORDER BY hold") == [
        (0, 1),
        (2, 5000),
    ]
