"""The plans of the statements that must stay flat: an index each, nothing sorted, nothing scanned."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import sqlalchemy as sa

from minion_core.records import DequeueOptions, Finished, JobFilter, NewJob
from minion_sqlite import SqliteBackend, claiming

TASKS = tuple(f"task {number}" for number in range(10))


@pytest.fixture
def backend(tmp_path: Path) -> Iterator[SqliteBackend]:
    with SqliteBackend(f"sqlite:///{tmp_path}/jobs.db") as opened:
        yield opened


@contextmanager
def statements_of(backend: SqliteBackend) -> Iterator[list[str]]:
    """Collect what is really sent, with its values, by SQLite's own trace."""
    sent: list[str] = []
    backend.engine.dispose()

    def trace(connection: sqlite3.Connection, _record: object) -> None:
        connection.set_trace_callback(sent.append)

    sa.event.listen(backend.engine, "connect", trace)
    yield sent
    sa.event.remove(backend.engine, "connect", trace)
    backend.engine.dispose()


def plan_of(backend: SqliteBackend, statement: str) -> list[str]:
    with sqlite3.connect(backend.path) as connection:
        return [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {statement}")]


def is_flat(plan: list[str]) -> bool:
    scans = [step for step in plan if step.startswith("SCAN") and "VIRTUAL TABLE" not in step]
    sorts = [step for step in plan if "B-TREE" in step]
    return not scans and not sorts


@pytest.mark.parametrize("tasks", [TASKS[:1], TASKS])
@pytest.mark.parametrize("extra", [{}, {"min_priority": 3}, {"coalesce": "host"}, {"id": 7}])
def test_a_claim_reads_one_range_of_an_index_for_each_pair(backend, tasks, extra):
    backend.enqueue([NewJob(task) for task in tasks])
    with statements_of(backend) as sent:
        backend.dequeue(1, DequeueOptions(tasks, queues=("default", "other"), limit=5, **extra))
    candidates = [text for text in sent if text.startswith("SELECT priority, id")]
    assert candidates
    plan = plan_of(backend, candidates[0])
    ranges = [step for step in plan if "SEARCH minion_jobs" in step]
    assert len(ranges) == 2 * len(tasks)
    assert all("USING INDEX minion_jobs_" in step or "PRIMARY KEY" in step for step in ranges), plan
    assert is_flat(plan), plan


def test_a_claim_looks_for_what_is_due_in_its_own_index(backend):
    plan = plan_of(backend, claiming.ANYTHING_DUE.replace("?", "1"))
    assert len(plan) == 1
    assert "INDEX minion_jobs_due (due" in plan[0]


def test_what_claims_settles_and_waits_scans_and_sorts_nothing(backend):
    parent = backend.enqueue([NewJob("a")])[0].id
    backend.enqueue([NewJob("a", parents=[parent]), NewJob("a", uniqkey="key"), NewJob("a", lease=5)])
    with statements_of(backend) as sent:
        jobs = backend.dequeue(1, DequeueOptions(["a"], limit=10))
        backend.settle([Finished(job.id, job.retries) for job in jobs])
        backend.enqueue([NewJob("a", uniqkey="key", delay=60)])
        backend.wait(0, DequeueOptions(["a"]))
    explained = 0
    for statement in sent:
        if statement.startswith(("SELECT", "UPDATE")) and "sqlite_" not in statement:
            explained += 1
            plan = plan_of(backend, statement)
            assert is_flat([step for step in plan if "sqlite_sequence" not in step]), (statement, plan)
    assert explained >= 8


@pytest.mark.parametrize("state", ["inactive", "active", "finished", "failed"])
def test_statistics_and_repair_use_the_partial_indexes(backend, state):
    with statements_of(backend) as sent:
        backend.stats()
        backend.history()
        backend.repair(1, 1, 1)
    of_state = [
        text
        for text in sent
        if text.startswith("SELECT") and "FROM minion_jobs" in text and f"state = '{state}'" in text
    ]
    assert of_state
    for statement in of_state:
        plan = plan_of(backend, statement)
        assert any("USING" in step and "INDEX minion_jobs_" in step for step in plan), (statement, plan)


def test_a_listing_by_id_uses_the_primary_key(backend):
    with statements_of(backend) as sent:
        backend.list_jobs(0, 10, JobFilter(ids=[1, 2, 3]), total=False)
    listing = next(text for text in sent if text.startswith("SELECT minion_jobs.id"))
    assert any("USING INTEGER PRIMARY KEY" in step for step in plan_of(backend, listing))
