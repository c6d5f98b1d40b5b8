"""What is PostgreSQL's own: jsonb, large ids, callers' transactions, notifications, races about parents."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa
from psycopg.rows import dict_row
from sqlalchemy.orm import Session

from minion_core.records import (
    DequeueOptions,
    Failed,
    Finished,
    JobFilter,
    NewJob,
    Released,
    Settled,
    State,
)
from minion_core.sql import Work
from minion_pg import PgBackend, connecting
from minion_pg.columns import jsonb

T = DequeueOptions(("t",), limit=10)


@pytest.mark.parametrize("value", [1e100, -1e22, 5e-324, 1.7976931348623157e308, 1e16, 1.0, -0.5, 0.1])
def test_floats_come_back_as_floats(backend: PgBackend, value: float) -> None:
    text = f"{value!r} and 1e5 in \\ text"
    id = backend.enqueue([NewJob("t", [value, {text: value}], {"k": value}, notes={"n": value})])[0].id
    (claimed,) = backend.dequeue(1, T)
    backend.settle([Finished(id, 0, result=value)])
    job = backend.list_jobs(0, 1, JobFilter(ids=[id])).items[0]
    found = [*claimed.args, claimed.kwargs["k"], claimed.notes["n"], job.result, *job.args]
    assert found == [value, {text: value}, value, value, value, value, {text: value}]
    assert all(isinstance(one, float) for one in found if not isinstance(one, dict))


def test_text_that_looks_like_a_float_stays() -> None:
    for text in ('["1e5"]', '{"a\\\\":"\\"1e5"}', "[1.5]", '"\\\\"'):
        assert jsonb(text) == text
    assert jsonb('["1e5",1e5,-2.5E-3]') == '["1e5",100000.0,-0.0025]'


def test_ids_past_32_bits(backend: PgBackend, sql: Callable[..., list[Any]]) -> None:
    sql("SELECT SETVAL('minion_jobs_id_seq', %s)", 2**40)
    parent, child = (backend.enqueue([NewJob("t", parents=parents)])[0].id for parents in ((), (2**40 + 1,)))
    assert (parent, child) == (2**40 + 1, 2**40 + 2)
    assert [job.id for job in backend.dequeue(2**40, T)] == [parent]
    assert backend.settle([Finished(parent, 0)])[0].applied
    assert [job.id for job in backend.dequeue(2**40, T)] == [child]
    assert backend.stats().enqueued_jobs == 2**40 + 2


def test_outcomes_of_several_kinds_are_stored_together(backend: PgBackend, url: str) -> None:
    """Or a worker that sends them again hears of the first kind that its attempt was over (SET-10)."""
    one, two, three = (made.id for made in backend.enqueue([NewJob("t", attempts=2)] * 3))
    assert len(backend.dequeue(1, T)) == 3
    settled: list[Settled] = []
    with psycopg.connect(url) as other:
        other.execute("SELECT FROM minion_jobs WHERE id = %s FOR UPDATE", (two,))
        outcomes = [Finished(one, 0), Failed(two, 0, message="x", retry_in=60), Released(three, 0)]
        thread = threading.Thread(target=lambda: settled.extend(backend.settle(outcomes)))
        thread.start()
        time.sleep(0.5)
        states = {job.id: job.state for job in backend.list_jobs(0, 9, JobFilter()).items}
        assert states == dict.fromkeys((one, two, three), State.ACTIVE)
        other.rollback()
    thread.join(30)
    assert [answer.applied for answer in settled] == [True, True, True]
    states = {job.id: job.state for job in backend.list_jobs(0, 9, JobFilter()).items}
    assert states == {one: State.FINISHED, two: State.INACTIVE, three: State.INACTIVE}


def test_who_falls_silent_in_a_transaction_does_not_hold_its_locks_for_long(
    backend: PgBackend, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connecting, "SILENCE", 2)
    id = backend.enqueue([NewJob("t")])[0].id
    seconds: list[float] = []

    def fall_silent_once(work: Work) -> bool:
        work.driver.execute("SELECT id FROM minion_jobs WHERE id = %s FOR UPDATE", (id,))
        if not seconds:
            began = time.monotonic()
            assert backend.note(id, {"a": 1})
            seconds.append(time.monotonic() - began)
        return True

    with PgBackend(url) as silent:
        assert silent.write(fall_silent_once), "and what it did is done again"
    assert 1 < seconds[0] < 30


# -- Callers' transactions -------------------------------------------------------------------------------


def test_callers_connections_of_every_kind(backend: PgBackend, url: str) -> None:
    engine = sa.create_engine(url.replace("postgresql:", "postgresql+psycopg:"))
    with (
        psycopg.connect(url, row_factory=dict_row) as plain,
        engine.connect() as core,
        Session(engine) as orm,
    ):  # type: ignore[call-overload]
        for kind, caller in enumerate((plain, core, orm)):
            for end in ("rollback", "commit"):
                made = backend.enqueue(
                    [NewJob("t", [kind, end], uniqkey=f"{kind}"), NewJob("t", [kind, end, 2])],
                    connection=caller,
                )
                assert [one.created for one in made] == [True, True]
                assert backend.list_jobs(0, 9, JobFilter(ids=[one.id for one in made])).items == []
                getattr(caller, end)()
    engine.dispose()
    assert [job.args[1] for job in backend.list_jobs(0, 9, JobFilter()).items] == ["commit"] * 6


def test_an_error_of_ours_leaves_the_callers_transaction_usable(backend: PgBackend, url: str) -> None:
    with psycopg.connect(url) as caller:
        caller.execute("CREATE TABLE own (id INT)")
        caller.execute("INSERT INTO own VALUES (1)")
        with pytest.raises(TypeError, match="psycopg connection"):
            backend.enqueue([NewJob("t")], connection=object())
        backend.enqueue([NewJob("t")], connection=caller)
        assert caller.execute("SELECT COUNT(*) FROM own").fetchone() == (1,)
    assert backend.list_jobs(0, 9, JobFilter()).total == 1


def test_a_connection_that_commits_each_statement(backend: PgBackend, url: str) -> None:
    with psycopg.connect(url, autocommit=True) as caller:
        backend.enqueue([NewJob("t"), NewJob("t", uniqkey="k")], connection=caller)
        assert backend.list_jobs(0, 9, JobFilter()).total == 2


def test_a_long_transaction_holds_up_nobody(backend: PgBackend, url: str) -> None:
    parent = backend.enqueue([NewJob("t", uniqkey="k")])[0].id
    (claimed,) = backend.dequeue(1, T)
    with psycopg.connect(url) as caller:
        made = backend.enqueue([NewJob("t", parents=(parent,)), NewJob("t", uniqkey="k")], connection=caller)
        assert [one.created for one in made] == [True, False]
        began = time.monotonic()
        assert backend.note(parent, {"n": 1})
        assert backend.settle([Finished(parent, 0)])[0].applied
        assert time.monotonic() - began < 1
        assert backend.dequeue(1, T) == []
    assert claimed.id == parent
    assert [job.id for job in backend.dequeue(1, T)] == [made[0].id]


# -- Parents and children at the same moment -------------------------------------------------------------


def test_no_child_is_forgotten_however_its_end_and_its_parents_meet(url: str) -> None:
    """A transaction that enqueues a child, a claim that judges it, the ends of its parents, all at once."""
    with (
        PgBackend(url) as one,
        PgBackend(url) as two,
        PgBackend(url) as three,
        psycopg.connect(url) as caller,
    ):
        for _ in range(60):
            parents = [made.id for made in one.enqueue([NewJob("p")] * 2)]
            attempts = one.dequeue(1, DequeueOptions(("p",), limit=2))
            assert len(attempts) == 2
            child = three.enqueue([NewJob("c", parents=tuple(parents))], connection=caller)[0].id
            go = threading.Barrier(4)

            def settle(id: int, backend: PgBackend, go: threading.Barrier = go) -> None:
                go.wait()
                assert backend.settle([Finished(id, 0)])[0].applied

            def commit(go: threading.Barrier = go) -> None:
                go.wait()
                caller.commit()

            taken: list[int] = []

            def judge(go: threading.Barrier = go, taken: list[int] = taken) -> None:
                go.wait()
                for _ in range(4):
                    taken.extend(job.id for job in three.dequeue(1, DequeueOptions(("c",))))

            threads = [
                threading.Thread(target=settle, args=(parents[0], one)),
                threading.Thread(target=settle, args=(parents[1], two)),
                threading.Thread(target=commit),
                threading.Thread(target=judge),
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            taken += [job.id for job in three.dequeue(1, DequeueOptions(("c",)))]
            assert taken == [child]
            three.settle([Finished(child, 0)])


# -- Notifications ---------------------------------------------------------------------------------------


class Ear:
    """Counts the notifications that the server sends."""

    def __init__(self, url: str) -> None:
        self._connection = psycopg.connect(url, autocommit=True)
        self._connection.execute('LISTEN "minion.job"')

    def count(self) -> int:
        return len(list(self._connection.notifies(timeout=0.3)))

    def close(self) -> None:
        self._connection.close()


def test_nobody_is_told_while_nobody_waits_and_one_is_told_once(backend: PgBackend, url: str) -> None:
    ear = Ear(url)
    backend.enqueue([NewJob("t")] * 50)
    for _ in range(20):
        backend.enqueue([NewJob("t")])
    assert ear.count() == 0
    with PgBackend(url) as waiting:
        waiting.poll_interval = 20
        started = threading.Event()

        def wait() -> None:
            started.set()
            waiting.wait(20, DequeueOptions(("u",)))

        thread = threading.Thread(target=wait)
        thread.start()
        started.wait()
        time.sleep(0.5)
        for _ in range(20):
            backend.enqueue([NewJob("u", queue="another")])
            backend.enqueue([NewJob("t")])
        backend.enqueue([NewJob("u", delay=100)])
        assert ear.count() == 0, "not for what does not concern it"
        began = time.monotonic()
        backend.enqueue([NewJob("u")])
        thread.join()
        assert time.monotonic() - began < 1
        for _ in range(20):
            backend.enqueue([NewJob("u")])
        assert ear.count() == 1
    ear.close()


def test_who_begins_to_wait_in_many_threads_listens_once(url: str, sql: Callable[..., list[Any]]) -> None:
    with PgBackend(url) as waiting:
        threads = [threading.Thread(target=waiting.wait, args=(0.3, T)) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        listening = (
            "SELECT pid FROM pg_stat_activity WHERE query LIKE 'LISTEN%' AND datname = CURRENT_DATABASE()"
        )
        assert len(sql(listening)) == 1


def test_a_released_child_wakes(backend: PgBackend, url: str) -> None:
    parent = backend.enqueue([NewJob("p")])[0].id
    backend.enqueue([NewJob("t", parents=(parent,))])
    assert backend.dequeue(1, DequeueOptions(("p",)))
    with PgBackend(url) as waiting:
        waiting.poll_interval = 20
        timer = threading.Timer(0.5, lambda: backend.settle([Finished(parent, 0)]))
        timer.start()
        began = time.monotonic()
        waiting.wait(20, T)
        assert time.monotonic() - began < 2
        timer.join()


def test_a_waiter_that_was_killed_is_forgotten(backend: PgBackend, sql: Callable[..., list[Any]]) -> None:
    sql(
        "INSERT INTO minion_waiters (queues, tasks, until) VALUES ('{q}', '{t}', NOW() - INTERVAL '1 minute')"
    )
    backend.repair(1800, 100, 100)
    assert sql("SELECT * FROM minion_waiters") == []


def test_no_other_clock_is_read_than_the_callers(url: str, sql: Callable[..., list[Any]]) -> None:
    then = datetime(2001, 2, 3, 4, 5, 6, 789, tzinfo=UTC)
    with PgBackend(url, clock=lambda: then) as backend:
        parent = backend.enqueue([NewJob("t", lease=10, keep_for=5, attempts=2)])[0].id
        backend.enqueue([NewJob("t", parents=(parent,), delay=-5)])
        (job,) = backend.dequeue(1, T)
        backend.settle([Finished(job.id, 0)])
        assert [job.id for job in backend.dequeue(1, T)] == [parent + 1]
    stamps = sql("SELECT created, started, finished, due FROM minion_jobs ORDER BY id")
    assert all(stamp is None or stamp.year == 2001 for row in stamps for stamp in row)


def test_another_schema_and_another_time_zone(url: str, sql: Callable[..., list[Any]]) -> None:
    sql("CREATE SCHEMA queue")
    with PgBackend(f"{url}?options=-csearch_path%3Dqueue%20-ctimezone%3DAsia/Tokyo") as backend:
        backend.enqueue([NewJob("t", delay=datetime(2001, 1, 1, tzinfo=UTC))])
        parent = backend.enqueue([NewJob("p", lease=100)])[0].id
        backend.enqueue([NewJob("c", parents=(parent,))])
        (job,) = backend.dequeue(1, DequeueOptions(("p",)))
        assert job.grabbed_until is not None
        assert job.grabbed_until.utcoffset() == timedelta(0)
        assert backend.settle([Finished(parent, 0)])[0].applied
        assert backend.dequeue(1, DequeueOptions(("c",))) != []
        listed = backend.list_jobs(0, 9, JobFilter()).items
        assert listed[-1].delayed == datetime(2001, 1, 1, tzinfo=UTC)
        assert {job.created.tzname() for job in listed} == {"UTC"}
        assert abs(backend.now() - datetime.now(UTC)) < timedelta(minutes=1)
    assert sql("SELECT TO_REGCLASS('public.minion_jobs'), TO_REGCLASS('queue.minion_jobs')::TEXT") == [
        (None, "queue.minion_jobs")
    ]
