"""One queue, two languages: Perl's Minion and this one on the same tables, seeing what the other did."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from minion_core.records import (
    ClaimedJob,
    DequeueOptions,
    Failed,
    Finished,
    JobFilter,
    JobRecord,
    NewJob,
    RetryOptions,
    ScheduleFilter,
    State,
    WorkerFilter,
)
from minion_pg import PgBackend

MIGRATED = "SELECT version FROM mojo_migrations WHERE name = 'minion'"

Perl = Callable[..., Any]
"""Perl's Minion: a call names an object, a method of it, and its arguments."""


def claim(backend: PgBackend, *tasks: str, **options: Any) -> ClaimedJob | None:
    claimed = backend.dequeue(1, DequeueOptions(tasks or ("add",), **options))
    return claimed[0] if claimed else None


def job(backend: PgBackend, id: int) -> JobRecord:
    return backend.list_jobs(0, 1, JobFilter(ids=[id])).items[0]


@pytest.fixture(params=["made by Python", "made by Perl"])
def both(request: pytest.FixtureRequest, url: str, speak_perl: Callable[[str], Perl]) -> Iterator[Any]:
    """Both sides on one database, made by either first."""
    backend = PgBackend(url)
    if request.param == "made by Python":
        backend.open()
    perl = speak_perl(url)
    assert perl("backend", "stats")["workers"] == 0
    backend.open()
    yield backend, perl
    backend.close()


def test_perl_enqueues_and_python_performs(both: tuple[PgBackend, Perl]) -> None:
    backend, perl = both
    first = perl(
        "minion", "enqueue", "add", [1, {"two": [None, "drei ü"]}], {"notes": {"a": 1}, "priority": 5}
    )
    later = perl("minion", "enqueue", "add", [], {"delay": 100, "queue": "other"})
    child = perl("minion", "enqueue", "add", [], {"parents": [first], "attempts": 3})
    lax = perl("minion", "enqueue", "add", [], {"parents": [first], "lax": True})
    short = perl("minion", "enqueue", "add", [], {"expire": 100})
    gone = perl("minion", "enqueue", "add", [], {"expire": 1})
    time.sleep(1.1)
    taken = claim(backend)
    assert taken is not None
    assert (taken.id, taken.args, taken.notes, taken.priority) == (
        first,
        [1, {"two": [None, "drei ü"]}],
        {"a": 1},
        5,
    )
    assert claim(backend, id=child) is None
    assert claim(backend, id=gone) is None
    assert claim(backend, id=later, queues=("other",)) is None
    assert job(backend, child).parents == [first]
    assert job(backend, first).children == [child, lax]
    assert backend.settle([Failed(first, 0, "no", result={"no": 1})])[0].applied
    assert claim(backend, id=child) is None
    assert claim(backend, id=lax) is not None
    assert claim(backend, id=short) is not None
    info = perl(f"job {first}", "info")
    assert (info["state"], info["result"], info["notes"]) == ("failed", {"no": 1}, {"a": 1})
    assert backend.retry_job(first, 0, RetryOptions())
    taken = claim(backend, id=first)
    assert taken is not None
    assert taken.retries == 1
    assert backend.settle([Finished(first, 1, result=[1.5, None])])[0].applied
    assert perl(f"job {first}", "info")["result"] == [1.5, None]
    taken = claim(backend, id=child)
    assert taken is not None
    assert taken.attempts == 3


def test_python_enqueues_and_perl_performs(both: tuple[PgBackend, Perl]) -> None:
    backend, perl = both
    [added, failing, noting] = (
        made.id
        for made in backend.enqueue(
            [NewJob("add", [2, 3.5]), NewJob("fail", attempts=2), NewJob("note", ["k", "v"])]
        )
    )
    [child, delayed, keyed, leased] = (
        made.id
        for made in backend.enqueue(
            [
                NewJob("add", [1], parents=(added,)),
                NewJob("add", delay=100),
                NewJob("add", [7], uniqkey="k", priority=-1),
                NewJob("add", [8], lease=100, priority=-2),
            ]
        )
    )
    perl("minion", "perform_jobs")
    assert [job(backend, id).state for id in (added, noting, child, keyed, leased)] == ["finished"] * 5
    assert job(backend, added).result == 5.5
    assert job(backend, added).exit_status == 0
    assert job(backend, noting).notes["k"] == "v"
    assert job(backend, delayed).state == State.INACTIVE
    failed = job(backend, failing)
    assert (failed.state, failed.retries, failed.attempts, failed.failures) == ("inactive", 1, 1, 1)
    assert [failure.message for failure in backend.failure_log(failing)] == ['{"why": "so"}']
    assert not backend.enqueue([NewJob("add", uniqkey="other"), NewJob("add", uniqkey="other")])[1].created
    assert backend.enqueue([NewJob("add", uniqkey="k")])[0].created


def test_a_parent_of_one_side_releases_a_child_of_the_other(both: tuple[PgBackend, Perl]) -> None:
    backend, perl = both
    perl("worker", "register")
    for _ in range(3):
        parent = backend.enqueue([NewJob("add", [1])])[0].id
        child = backend.enqueue([NewJob("add", [2], parents=(parent,))])[0].id
        assert perl("worker", "dequeue", 0)["id"] == parent
        assert claim(backend) is None, "and it is held from now on"
        assert perl(f"job {parent}", "finish", "done")
        taken = claim(backend)
        assert taken is not None
        assert taken.id == child
        other_way = perl("minion", "enqueue", "add", [1], {"parents": [child]})
        assert perl("worker", "dequeue", 0) is None
        assert claim(backend) is None
        backend.settle([Finished(child, 0)])
        assert perl("worker", "dequeue", 0)["id"] == other_way
        perl(f"job {other_way}", "finish")


def test_a_child_that_python_holds_is_released_when_perl_removes_or_retries(
    both: tuple[PgBackend, Perl],
) -> None:
    backend, perl = both
    parent = perl("minion", "enqueue", "fail")
    child = perl("minion", "enqueue", "add", [], {"parents": [parent]})
    lax = perl("minion", "enqueue", "add", [], {"parents": [parent], "lax": True})
    assert claim(backend) is None
    perl("minion", "perform_jobs")
    assert job(backend, parent).state == State.FAILED
    assert job(backend, lax).state == State.FINISHED
    assert claim(backend) is None
    assert perl(f"job {parent}", "remove")
    taken = claim(backend)
    assert taken is not None
    assert taken.id == child
    second = perl("minion", "enqueue", "add", [], {"parents": [taken.id]})
    assert claim(backend) is None
    assert perl(f"job {second}", "retry", {"parents": []})
    released = claim(backend)
    assert released is not None
    assert released.id == second
    assert job(backend, child).children == []


def test_each_side_retries_removes_and_notes_what_the_other_made(both: tuple[PgBackend, Perl]) -> None:
    backend, perl = both
    ours = backend.enqueue([NewJob("add", notes={"a": 1, "b": 2})])[0].id
    theirs = perl("minion", "enqueue", "add", [], {"notes": {"a": 1, "b": 2}})
    assert perl(f"job {ours}", "note", "b", None, "c", 3)
    assert backend.note(theirs, {"b": None, "c": 3})
    assert job(backend, ours).notes == {"a": 1, "c": 3}
    assert perl(f"job {theirs}", "info")["notes"] == {"a": 1, "c": 3}
    assert perl("minion", "jobs", {"notes": ["c"]}) == "object"
    assert [found.id for found in backend.list_jobs(0, 9, JobFilter(notes=["c"])).items] == [theirs, ours]
    assert perl(f"job {ours}", "retry", {"delay": 50, "priority": 9, "queue": "q", "attempts": 4})
    retried = job(backend, ours)
    assert (retried.retries, retried.priority, retried.queue, retried.attempts) == (1, 9, "q", 4)
    assert retried.retried is not None
    assert claim(backend, queues=("q",)) is None
    assert not backend.retry_job(ours, 0, RetryOptions())
    assert backend.retry_job(ours, 1, RetryOptions())
    assert claim(backend, queues=("q",)) is not None
    assert backend.retry_job(theirs, 0, RetryOptions(delay=100))
    assert perl(f"job {theirs}", "info")["retries"] == 1
    assert not perl(f"job {ours}", "remove")
    assert perl(f"job {theirs}", "remove")
    assert backend.list_jobs(0, 9, JobFilter(ids=[theirs])).items == []


def test_locks_are_common(both: tuple[PgBackend, Perl]) -> None:
    backend, perl = both
    token = backend.lock("one", 100)
    assert token is not None
    assert not perl("minion", "lock", "one", 100)
    assert perl("minion", "lock", "one", 100, {"limit": 2})
    assert backend.lock("one", 100, 2) is None
    assert perl("minion", "is_locked", "one")
    assert backend.unlock("one", token)
    assert perl("minion", "unlock", "one")
    assert backend.list_locks(0, 9).total == 0
    assert perl("minion", "lock", "one", 100)
    assert backend.lock("one", 0) is None
    assert [lock.name for lock in backend.list_locks(0, 9).items] == ["one"]


def test_workers_and_commands_are_common(both: tuple[PgBackend, Perl], sql: Callable[..., list[Any]]) -> None:
    backend, perl = both
    perl("worker", "register")
    ours = backend.register_worker(None, "host", 4711, {"jobs": 3})
    theirs = perl("worker", "id")
    assert [worker.id for worker in backend.list_workers(0, 9, WorkerFilter()).items] == [ours, theirs]
    listed = perl("backend", "list_workers", 0, 10)["workers"]
    assert [(worker["id"], worker["host"], worker["status"]) for worker in listed[:1]] == [
        (ours, "host", {"jobs": 3})
    ]
    assert perl("minion", "broadcast", "jobs", [4], [ours])
    assert backend.broadcast("stop", [1, {"two": 2}])
    assert backend.receive(ours) == [["jobs", 4], ["stop", 1, {"two": 2}]]
    assert perl("backend", "receive", theirs) == [["stop", 1, {"two": 2}]]
    assert sql("SELECT id FROM minion_workers WHERE NOT ours") == [(theirs,)]
    perl("worker", "unregister")
    assert backend.list_workers(0, 9, WorkerFilter()).total == 1


def test_statistics_and_history_agree(both: tuple[PgBackend, Perl]) -> None:
    backend, perl = both
    backend.enqueue([NewJob("add", [1])] * 4 + [NewJob("fail")] * 2 + [NewJob("nobody", delay=50)])
    perl("minion", "enqueue", "nobody")
    perl("minion", "perform_jobs")
    taken = perl("worker", "register")
    assert taken == "object"
    claim(backend, "nobody")
    theirs, ours = perl("backend", "stats"), backend.stats()
    # Not active_workers: Perl counts those that are not registered too.
    for name in (
        "active_jobs",
        "active_locks",
        "delayed_jobs",
        "enqueued_jobs",
        "failed_jobs",
        "finished_jobs",
    ):
        assert int(theirs[name]) == getattr(ours, name), name
    assert (int(theirs["inactive_jobs"]), int(theirs["workers"])) == (ours.inactive_jobs, ours.workers)
    hours = perl("backend", "history")["daily"]
    assert (hours[-1]["finished_jobs"], hours[-1]["failed_jobs"]) == (4, 2)
    assert (backend.history()[-1].finished_jobs, backend.history()[-1].failed_jobs) == (4, 2)


def test_each_side_repairs_the_others(both: tuple[PgBackend, Perl], sql: Callable[..., list[Any]]) -> None:
    backend, perl = both
    theirs = perl("minion", "enqueue", "add", [], {"attempts": 2})
    ours = backend.enqueue([NewJob("add", attempts=2, uniqkey="k")])[0].id
    assert [claim(backend), claim(backend)] != [None, None]
    stuck = backend.enqueue([NewJob("nobody", parents=(ours,))])[0].id
    behind = backend.enqueue([NewJob("nobody", parents=(stuck,))])[0].id
    sql(
        "UPDATE minion_jobs SET delayed = NOW() - INTERVAL '1 year', touched = touched + 1 WHERE id = %s",
        stuck,
    )
    perl("minion", "repair")
    for id in (theirs, ours):
        assert (job(backend, id).state, job(backend, id).retries) == ("inactive", 1), "Worker went away"
        assert [failure.message for failure in backend.failure_log(id)] == ["Worker went away"]
    assert not backend.enqueue([NewJob("add", uniqkey="k")])[0].created
    assert job(backend, stuck).result == "Job appears stuck in queue"
    assert job(backend, behind).state == State.INACTIVE
    done = backend.enqueue([NewJob("add", keep_for=0)])[0].id
    perl("minion", "perform_jobs", {"id": done})
    finished = perl("minion", "enqueue", "add")
    perl("minion", "perform_jobs")
    repaired = backend.repair(1800, 0, 172800)
    assert repaired.removed >= 2
    assert backend.list_jobs(0, 9, JobFilter(ids=[done, finished])).items == []


def test_what_perl_deletes_leaves_nothing_behind(
    both: tuple[PgBackend, Perl], sql: Callable[..., list[Any]]
) -> None:
    backend, perl = both

    def fill() -> list[int]:
        parent = backend.enqueue([NewJob("fail", uniqkey="k", attempts=3), NewJob("add")])
        child = backend.enqueue([NewJob("add", parents=(parent[0].id,))])[0]
        taken = claim(backend, "fail")
        assert taken is not None
        backend.settle([Failed(taken.id, 0, "once", retry_in=0)])
        assert claim(backend, id=child.id) is None
        return [parent[0].id, child.id]

    fill()
    perl("minion", "reset", {"all": True})
    assert sql("SELECT * FROM minion_job_edges") == []
    assert sql("SELECT * FROM minion_failures") == []
    again = fill()
    assert min(again) < 4, "Perl's reset counts ids from the start again"
    assert backend.failure_log(again[1]) == []
    for id in again:
        assert perl(f"job {id}", "remove")
    assert sql("SELECT * FROM minion_job_edges") == []
    assert sql("SELECT * FROM minion_failures") == []


def test_nothing_that_we_added_makes_perl_fail(
    both: tuple[PgBackend, Perl], sql: Callable[..., list[Any]]
) -> None:
    backend, perl = both
    first = backend.enqueue([NewJob("add", uniqkey="k")])[0].id
    perl("minion", "perform_jobs")
    assert perl(f"job {first}", "retry")
    assert job(backend, first).uniqkey == "k", "nobody else had it"
    assert not backend.enqueue([NewJob("add", uniqkey="k")])[0].created
    perl("minion", "perform_jobs")
    second = backend.enqueue([NewJob("add", uniqkey="k")])[0]
    assert second.created
    assert perl(f"job {first}", "retry")
    assert job(backend, first).uniqkey is None, "the second has it"
    assert job(backend, first).state == State.INACTIVE
    perl("minion", "perform_jobs")
    # While a transaction that is not committed yet is storing the key.
    third = backend.enqueue([NewJob("add", uniqkey="open")])[0].id
    perl("minion", "perform_jobs")
    with backend.engine.connect() as caller, caller.begin():
        assert backend.enqueue([NewJob("add", uniqkey="open")], connection=caller)[0].created
        began = time.monotonic()
        assert perl(f"job {third}", "retry")
        assert time.monotonic() - began < 1
    assert job(backend, third).uniqkey is None
    # Perl claims a job with a lease, and returns it.
    leased = backend.enqueue([NewJob("add", lease=50, queue="l")])[0].id
    perl("worker", "register")
    assert perl("worker", "dequeue", 0, {"queues": ["l"]})["id"] == leased
    until = job(backend, leased).grabbed_until
    assert until is not None
    assert timedelta(seconds=45) < until - datetime.now(UTC) < timedelta(seconds=51)
    assert perl(f"job {leased}", "retry")
    assert (job(backend, leased).grabbed_until, job(backend, leased).worker) == (None, None)
    assert sql("SELECT due FROM minion_jobs WHERE id = %s", leased) == [(None,)]


def test_an_end_of_a_lease_that_perl_holds_is_fenced(both: tuple[PgBackend, Perl]) -> None:
    backend, perl = both
    leased = backend.enqueue([NewJob("add", lease=0.2)])[0].id
    perl("worker", "register")
    assert perl("worker", "dequeue", 0)["id"] == leased
    time.sleep(0.3)
    taken = claim(backend)
    assert taken is not None
    assert (taken.id, taken.retries) == (leased, 1)
    assert not perl(f"job {leased}", "finish", "late")
    assert backend.settle([Finished(leased, 1)])[0].applied


def test_perls_own_commands(perls_minion: Any, url: str) -> None:
    with PgBackend(url) as backend:
        id = backend.enqueue([NewJob("add", [20, 22], {"unknown": "to Perl"}, notes={"n": 1})])[0].id
        assert f"{id}" in perl_command(perls_minion, url, "job")
        worker = subprocess.Popen(
            perls_minion.command("perl_app.pl", "minion", "worker", "-j", "1"),
            env=os.environ | {"PERL_QUEUE_URL": url},
        )
        try:
            wait_until(lambda: job(backend, id).state == "finished")
            began = time.monotonic()
            second = backend.enqueue([NewJob("add", [1])])[0].id
            wait_until(lambda: job(backend, second).state == "finished")
            assert time.monotonic() - began < 1.5, (
                "it is told of a new job, and does not wait for its next look"
            )
            parent, child = hand_over(backend)
            backend.settle([Finished(parent, 0)])
            began = time.monotonic()
            wait_until(lambda: job(backend, child).state == "finished")
            assert time.monotonic() - began < 1.5
        finally:
            worker.send_signal(signal.SIGINT)
            worker.wait(20)
        assert job(backend, id).result == 42
        assert "finished" in perl_command(perls_minion, url, "job", str(id))
        assert "finished_jobs" in perl_command(perls_minion, url, "job", "-s")
        enqueued = int(perl_command(perls_minion, url, "job", "-e", "add", "-a", "[1,2]"))
        assert job(backend, enqueued).args == [1, 2]
        perl_command(perls_minion, url, "job", "--remove", str(enqueued))
        assert backend.list_jobs(0, 1, JobFilter(ids=[enqueued])).items == []


def hand_over(backend: PgBackend) -> tuple[int, int]:
    parent = backend.enqueue([NewJob("ours")])[0].id
    child = backend.enqueue([NewJob("add", [1], parents=(parent,))])[0].id
    taken = claim(backend, "ours")
    assert taken is not None
    time.sleep(0.5)
    return parent, child


def perl_command(perls_minion: Any, url: str, *arguments: str) -> str:
    done = subprocess.run(
        perls_minion.command("perl_app.pl", "minion", *arguments),
        env=os.environ | {"PERL_QUEUE_URL": url},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


def wait_until(true: Callable[[], bool], patience: float = 20.0) -> None:
    deadline = time.monotonic() + patience
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_both_drain_one_queue_together(perls_minion: Any, url: str, tmp_path: Path) -> None:
    with PgBackend(url) as backend:
        backend.enqueue([NewJob("who")] * 2000)
        environment = os.environ | {"PERL_QUEUE_URL": url}
        worker = subprocess.Popen(
            perls_minion.command("perl_app.pl", "minion", "worker", "-j", "4"), env=environment, cwd=tmp_path
        )
        by_python = []
        try:
            wait_until(lambda: backend.list_jobs(0, 1, JobFilter(states=["finished"])).total != 0)
            id = backend.register_worker(None, "here", 1, {})
            while claimed := backend.dequeue(id, DequeueOptions(("who",), limit=3)):
                time.sleep(0.01)
                settled = backend.settle([Finished(one.id, one.retries, result="python") for one in claimed])
                assert all(one.applied for one in settled)
                by_python += [one.id for one in claimed]
            wait_until(lambda: backend.list_jobs(0, 1, JobFilter(states=["finished"])).total == 2000)
        finally:
            worker.send_signal(signal.SIGINT)
            worker.wait(20)
        jobs = backend.list_jobs(0, 3000, JobFilter()).items
        assert sorted(found.id for found in jobs if found.result == "python") == sorted(by_python)
        assert {found.retries for found in jobs} == {0}
        assert 0 < len(by_python) < 2000, "both had a share"


def test_a_database_that_perl_has_used_is_taken_over(
    url: str, perl: Perl, sql: Callable[..., list[Any]]
) -> None:
    done, parent = perl("minion", "enqueue", "add", [1]), perl("minion", "enqueue", "fail")
    perl("minion", "perform_jobs")
    active = perl("minion", "enqueue", "add", [2], {"priority": 9})
    perl("worker", "register")
    assert perl("worker", "dequeue", 0)["id"] == active
    blocked = perl("minion", "enqueue", "add", [3], {"parents": [active, parent], "notes": {"n": 1}})
    delayed = perl("minion", "enqueue", "add", [4], {"delay": 1})
    ready = perl("minion", "enqueue", "add", [5], {"expire": 1000, "queue": "other"})
    perl("minion", "lock", "mine", 100)
    columns = "id, args, attempts, delayed, state, parents, notes, result, worker, queue, expires, lax"
    before, migrated = sql(f"SELECT {columns} FROM minion_jobs ORDER BY id"), sql(MIGRATED)
    with PgBackend(url) as backend:
        assert sql(f"SELECT {columns} FROM minion_jobs ORDER BY id") == before
        assert [found.id for found in backend.list_jobs(0, 9, JobFilter()).items] == [
            ready, delayed, blocked, active, parent, done
        ]  # fmt: skip
        assert sql(MIGRATED) == migrated
        unlogged = sql("SELECT relname FROM pg_class WHERE relpersistence = 'u' AND relname LIKE 'minion%'")
        assert all(name.startswith("minion_waiters") for (name,) in unlogged)
        assert backend.lock("mine", 1) is None
        assert perl(f"job {active}", "finish")
        assert claim(backend) is None
        assert backend.remove_jobs([parent]) == [parent]
        taken = claim(backend)
        assert taken is not None
        assert taken.id == blocked
        assert claim(backend, queues=("other",)) is not None
        time.sleep(1)
        assert claim(backend, id=delayed) is not None


@pytest.mark.parametrize("perls_minion", ["newest"], indirect=True)
def test_what_perl_schedules_is_performed_by_python(
    both: tuple[PgBackend, Perl], sql: Callable[..., list[Any]]
) -> None:
    backend, perl = both
    perl("minion", "schedule", "hourly", "0 * * * *", "add", [1, 2], {"queue": "cron"})
    sql("UPDATE minion_schedules SET next_run = NOW()")
    (run,) = perl("minion", "dispatch_schedules")
    taken = claim(backend, queues=("cron",))
    assert taken is not None
    assert (taken.id, taken.task, taken.args) == (run["job"], "add", [1, 2])
    assert backend.list_schedules(0, 9, ScheduleFilter()).items == [], "ours are our own"


def test_perl_accepts_a_new_database_of_ours(
    perls_minion: Any, url: str, speak_perl: Callable[[str], Perl], sql: Callable[..., list[Any]]
) -> None:
    with PgBackend(url):
        assert sql(MIGRATED) == [(23,)]
        assert speak_perl(url)("backend", "stats")["enqueued_jobs"] in (0, "0")
    assert sql(MIGRATED) == [(23 if perls_minion.version.startswith("10.") else 25,)]
    with PgBackend(url) as backend:
        assert backend.migrate() == []
        assert sql(MIGRATED) == [(23 if perls_minion.version.startswith("10.") else 25,)]
