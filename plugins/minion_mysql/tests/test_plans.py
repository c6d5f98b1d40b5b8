"""The plans of the statements that must stay flat: an index each, nothing sorted, nothing scanned."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import closing, contextmanager

import pytest

from minion_core.records import DequeueOptions, Finished, NewJob
from minion_core.sql import Work
from minion_mysql import MysqlBackend, claiming, writing
from minion_mysql.connections import Connection

TASKS = tuple(f"task {number}" for number in range(10))
ROWS = 2000


@pytest.fixture
def filled(backend: MysqlBackend) -> MysqlBackend:
    """Enough rows of every kind for the server to have a choice."""
    for start in range(0, ROWS, 500):
        jobs = [
            NewJob(
                random.choice(TASKS),
                priority=random.randrange(3),
                delay=random.choice((0, 0, 1000)),
                queue=random.choice(("default", "other")),
                coalesce=random.choice((None, "host")),
                uniqkey=f"key {start + number}" if number % 25 == 1 else None,
            )
            for number in range(500)
        ]
        backend.enqueue(jobs)
    worker = backend.register_worker(None, "host", 1, {})
    for limit in (300, 100):
        jobs = backend.dequeue(worker, DequeueOptions(TASKS, limit=limit))
        if limit == 300:
            backend.settle([Finished(job.id, job.retries) for job in jobs])
    with backend.engine.connect() as connection:
        connection.exec_driver_sql("ANALYZE TABLE minion_jobs").all()
    return backend


@contextmanager
def sent_by(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Collect what is really sent, with its values."""
    sent: list[str] = []
    query = Connection.query

    def collect(connection: Connection, sql: str | bytes, unbuffered: bool = False) -> int:
        sent.append(sql if isinstance(sql, str) else sql.decode())
        return query(connection, sql, unbuffered)

    with monkeypatch.context() as patched:
        patched.setattr(Connection, "query", collect)
        yield sent


def plan_of(backend: MysqlBackend, statement: str) -> list[dict[str, str]]:
    with closing(backend._connect()) as connection, connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN FORMAT=TRADITIONAL {statement}")
        names = [column[0] for column in cursor.description]
        return [dict(zip(names, map(str, row), strict=True)) for row in cursor.fetchall()]


def on_jobs(plan: list[dict[str, str]]) -> list[dict[str, str]]:
    return [step for step in plan if step["table"] == "minion_jobs"]


@pytest.mark.parametrize("tasks", [TASKS[:1], TASKS])
@pytest.mark.parametrize(
    ("extra", "index"),
    [
        ({}, "minion_jobs_ready"),
        ({"min_priority": 2}, "minion_jobs_ready"),
        ({"coalesce": "host"}, "minion_jobs_coalesce"),
    ],
)
def test_candidates_are_read_in_the_order_of_an_index(filled, monkeypatch, tasks, extra, index):
    with sent_by(monkeypatch) as sent:
        claimed = filled.dequeue(1, DequeueOptions(tasks, queues=("default", "other"), limit=5, **extra))
    assert claimed
    candidates = [text for text in sent if "(SELECT turn, id" in text]
    assert len(candidates) == 1
    steps = on_jobs(plan_of(filled, candidates[0]))
    due, ranges = steps[:2], steps[2:]
    assert {step["key"] for step in due} == {"minion_jobs_due"}
    assert len(ranges) == 2 * len(tasks)
    for step in ranges:
        assert step["key"] == index, step
        assert step["type"] in ("ref", "range"), step
        assert "filesort" not in step["Extra"], step
        if not extra:
            assert "Using index" in step["Extra"], step


def test_behind_a_candidate_the_index_goes_on(filled, monkeypatch):
    with sent_by(monkeypatch) as sent, filled.engine.connect() as connection:
        work = Work(connection, filled, filled.tables)
        claiming.candidates(work, DequeueOptions(TASKS), 20, (-1, 100))
    ranges = on_jobs(plan_of(filled, next(text for text in sent if "(SELECT turn" in text)))
    assert {(step["key"], step["type"]) for step in ranges} == {("minion_jobs_ready", "range")}
    assert not any("filesort" in step["Extra"] for step in ranges)


def test_claims_and_outcomes_lock_by_primary_key_and_sort_nothing(filled, monkeypatch):
    with sent_by(monkeypatch) as sent:
        jobs = filled.dequeue(1, DequeueOptions(TASKS, limit=50))
        filled.settle([Finished(job.id, job.retries) for job in jobs])
    assert len(jobs) == 50
    locking = [text for text in sent if "FOR UPDATE" in text or text.startswith("UPDATE")]
    assert len(locking) == 3
    for statement in locking:
        (step,) = plan_of(filled, statement)
        assert (step["key"], step["type"]) == ("PRIMARY", "range"), (statement, step)
        assert "filesort" not in step["Extra"], (statement, step)
        assert int(step["rows"]) <= 100, (statement, step)


def test_what_is_due_is_found_in_its_own_index(filled):
    for statement in (claiming.ANYTHING_DUE.format(now=1), claiming.NEXT_DUE):
        steps = on_jobs(plan_of(filled, statement))
        assert steps, statement
        for step in steps:
            assert step["key"] == "minion_jobs_due", step
            assert step["type"] in ("ref", "range"), step
            assert "filesort" not in step["Extra"], step


def test_a_key_is_found_in_its_own_index(filled, monkeypatch):
    with sent_by(monkeypatch) as sent:
        filled.enqueue([NewJob("task 1", uniqkey="key 1", delay=60)])
    look = next(text for text in sent if "live_key" in text and text.startswith("SELECT"))
    plan = plan_of(filled, look)
    assert all(step["key"] == "minion_jobs_key" or "no matching row" in step["Extra"] for step in plan), plan


def test_children_are_found_by_their_index(filled):
    parent = filled.enqueue([NewJob("parent")])[0].id
    filled.enqueue([NewJob("child", parents=(parent,))] * 200)
    (step,) = plan_of(filled, writing.WITH_CHILDREN % {"ids": f"({parent})"})
    assert step["key"] == "minion_job_edges_parent", step
