"""The client: tasks, enqueueing, results, locks, schedules, repair; on SQLite."""

from __future__ import annotations

import os
import threading
import time
import warnings
from datetime import UTC, datetime, timedelta

import pytest

from minion_core import (
    BackendUnavailable,
    DequeueOptions,
    Finished,
    JobFailed,
    Minion,
    MinionError,
    NewJob,
    RetryOptions,
    ScheduleFilter,
    State,
    UnknownBackend,
    UnknownJob,
    UnknownTask,
    Unsupported,
    backoff,
)


@pytest.fixture
def minion(url, clock):
    with Minion(url, clock=clock) as minion:
        yield minion


# -- Making one ------------------------------------------------------------------------------------------


def test_the_url_comes_from_the_environment(monkeypatch, url):
    minion = Minion()
    monkeypatch.delenv("MINION_URL", raising=False)
    with pytest.raises(MinionError, match="MINION_URL"):
        minion.enqueue("x")
    monkeypatch.setenv("MINION_URL", url)
    assert minion.enqueue("x") == 1
    assert url in repr(minion)
    minion.close()


def test_making_one_connects_to_nothing():
    minion = Minion("nonsense://user:secret@host/db")
    assert "secret" not in repr(minion)
    with pytest.raises(UnknownBackend):
        _ = minion.backend


@pytest.mark.parametrize("name", ["missing_after", "remove_after", "stuck_after", "decline_delay"])
def test_bad_options_are_refused(name):
    with pytest.raises(ValueError, match=name):
        Minion("sqlite://", **{name: -1})
    with pytest.raises(TypeError, match=name):
        Minion("sqlite://", **{name: "soon"})


def test_it_opens_once_and_anew_after_close(minion):
    found = []
    threads = [threading.Thread(target=lambda: found.append(minion.backend)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(map(id, found))) == 1
    minion.close()
    minion.close()
    assert minion.backend is not found[0]


def test_a_forked_process_connects_anew(minion):
    minion.enqueue("x")
    before = minion.backend
    reading, writing = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # pytest's helpers may have started threads
        child = os.fork()
    if child == 0:
        try:
            same = minion.backend is before
            minion.enqueue("y")
            os.write(writing, b"same" if same else b"anew")
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    assert os.read(reading, 10) == b"anew"
    os.close(reading)
    os.close(writing)
    assert minion.backend is before
    assert [record.task for record in minion.jobs()] == ["y", "x"]


# -- Tasks -----------------------------------------------------------------------------------------------


def test_a_task_is_still_a_function(minion):
    @minion.task
    def double(x: int) -> int:
        """Twice as much."""
        return 2 * x

    assert double(4) == 8
    assert double.__doc__ == "Twice as much."
    assert double.__name__ == double.name == "double"
    assert minion.tasks == {"double": double}
    assert minion.task_named("double") is double


def test_a_task_may_have_another_name_and_defaults(minion):
    @minion.task(
        "make smaller", attempts=5, queue="slow", priority=3, lease=60, keep_for=9, delay=7, expire=99
    )
    def resize(path, width=100):
        return [path, width]

    record = next(minion.jobs(ids=[resize.enqueue("a.png", width=300)]))
    assert record.task == "make smaller"
    assert (record.args, record.kwargs) == (["a.png"], {"width": 300})
    assert (record.attempts, record.queue, record.priority) == (5, "slow", 3)
    assert (record.lease, record.keep_for) == (60, 9)
    assert (record.delayed - record.created, record.expires - record.created) == (
        timedelta(seconds=7),
        timedelta(seconds=99),
    )
    record = next(minion.jobs(ids=[resize.options(priority=-1, delay=0).enqueue("b.png")]))
    assert (record.priority, record.queue, record.delayed) == (-1, "slow", record.created)
    record = next(minion.jobs(ids=[minion.enqueue("make smaller", ["c"], queue="fast")]))
    assert (record.attempts, record.queue) == (5, "fast")


def test_options_without_a_name(minion):
    @minion.task(attempts=2, timeout=5, limit=3, executor="thread")
    def work():
        pass

    task = minion.tasks["work"]
    assert (task.timeout, task.limit, task.executor) == (5, 3, "thread")


def test_a_task_may_take_the_job(minion):
    @minion.task
    def work(job, x):
        return [job.id, x]

    id = work.enqueue(5)
    minion.perform_jobs()
    assert minion.result(id) == [id, 5]


@pytest.mark.parametrize(
    ("error", "options"),
    [
        (TypeError, {"nonsense": 1}),
        (TypeError, {"attempts": "many"}),
        (TypeError, {"parents": [1]}),
        (ValueError, {"attempts": 0}),
        (ValueError, {"lease": 0}),
        (ValueError, {"queue": ""}),
        (ValueError, {"retry_delay": -1}),
        (TypeError, {"retry_delay": "soon"}),
        (ValueError, {"timeout": 0}),
        (ValueError, {"limit": 0}),
        (ValueError, {"executor": "magic"}),
    ],
)
def test_bad_tasks_are_refused(minion, error, options):
    with pytest.raises(error):
        minion.add_task("work", print, **options)
    assert minion.tasks == {}


@pytest.mark.parametrize(("error", "name", "code"), [(TypeError, "x", 5), (ValueError, "", print)])
def test_what_is_no_task_is_refused(minion, error, name, code):
    with pytest.raises(error):
        minion.add_task(name, code)


def test_an_unknown_task_says_which_are_known(minion):
    minion.add_task("b", print)
    minion.add_task("a", print)
    with pytest.raises(UnknownTask, match=r"no task 'c' is registered \(known: a, b\)"):
        minion.task_named("c")


# -- Enqueueing ------------------------------------------------------------------------------------------


def test_arguments_that_do_not_fit_are_refused_at_once(minion):
    @minion.task
    def work(a, *, b=1):
        return a, b

    for args, kwargs in [((), {}), ((1, 2), {}), ((1,), {"c": 1}), ((1,), {"a": 1})]:
        with pytest.raises(TypeError, match="arguments do not fit task work"):
            work.enqueue(*args, **kwargs)
    with pytest.raises(TypeError, match="args must be what JSON can hold"):
        work.enqueue(object())
    assert list(minion.jobs()) == []


def test_fields_are_checked(minion):
    minion.add_task("work", print)
    with pytest.raises(TypeError, match="no field prioriti"):
        minion.enqueue("work", prioriti=1)
    with pytest.raises(TypeError, match="no field prioriti"):
        minion.tasks["work"].options(prioriti=1)
    with pytest.raises(TypeError, match="args must be a list"):
        minion.enqueue("work", "text")
    with pytest.raises(TypeError, match="NewJob"):
        minion.enqueue_many(["work"])
    assert list(minion.jobs()) == []


def test_enqueue_many_and_insert(minion):
    minion.add_task("work", lambda x: x, priority=3)
    entries = minion.enqueue_many([minion.tasks["work"].new_job(1), NewJob("work", [2], uniqkey="k")])
    assert [minion.job(entry.id).priority for entry in entries] == [3, 0]
    again = minion.enqueue_many([NewJob("work", [3], uniqkey="k")])
    assert (again[0].id, again[0].created) == (entries[1].id, False)
    assert minion.insert(NewJob("work", [2], uniqkey="k")).id == entries[1].id
    assert minion.enqueue_many([]) == []


def test_a_connection_is_handed_on(minion):
    if not minion.backend.capabilities.transactional_enqueue:
        with pytest.raises(Unsupported):
            minion.enqueue("work", connection=object())
    else:
        with pytest.raises((TypeError, MinionError)):
            minion.enqueue("work", connection=object())
    assert list(minion.jobs()) == []


# -- Results ---------------------------------------------------------------------------------------------


def test_result(minion):
    minion.add_task("fine", lambda: {"a": 1})
    minion.add_task("broken", lambda: {}["key"])
    fine, broken, waiting = (minion.enqueue(task) for task in ("fine", "broken", "waiting"))
    minion.perform_jobs()
    assert minion.result(fine) == {"a": 1}
    assert minion.result(f"minion-{fine}", timeout=0) == {"a": 1}
    with pytest.raises(JobFailed, match=f"Job {broken} failed: 'key'") as failed:
        minion.result(broken)
    assert failed.value.result["type"] == "KeyError"
    with pytest.raises(TimeoutError, match="still inactive"):
        minion.result(waiting, timeout=0.05)
    with pytest.raises(UnknownJob):
        minion.result(999)
    with pytest.raises(ValueError, match="interval"):
        minion.result(fine, interval=0)


def test_result_waits(url):
    with Minion(url) as minion:
        minion.add_task("slow", lambda: time.sleep(0.2) or "done")
        id = minion.enqueue("slow")
        thread = threading.Thread(target=minion.perform_jobs)
        thread.start()
        assert minion.result(id, timeout=30) == "done"
        thread.join()


# -- Iterators (LIST-05) ---------------------------------------------------------------------------------


def test_an_iterator_sees_each_job_once_whatever_comes_and_goes(minion):
    ids = [entry.id for entry in minion.enqueue_many([NewJob("work")] * 250)]
    seen = []
    for record in minion.jobs(tasks=["work"]):
        seen.append(record.id)
        if len(seen) in {1, 100, 150}:
            minion.enqueue_many([NewJob("work")] * 120)
            minion.backend.remove_jobs([ids[len(seen) // 100], record.id])
    assert len(seen) == len(set(seen))
    assert seen == sorted(seen, reverse=True)
    assert set(seen) == set(ids) - {ids[0], ids[1]}


def test_iterators_take_filters(minion):
    a, b = minion.enqueue("a", notes={"x": 1}), minion.enqueue("b")
    assert [record.id for record in minion.jobs(notes=["x"])] == [a]
    assert [record.id for record in minion.jobs(before=b)] == [a]
    assert list(minion.jobs(states=[])) == []
    with pytest.raises(TypeError):
        list(minion.jobs(nonsense=1))
    for number in range(3):
        minion.backend.register_worker(None, "host", number + 1, {})
    assert [worker.pid for worker in minion.workers()] == [3, 2, 1]
    assert [worker.pid for worker in minion.workers(before=3)] == [2, 1]


# -- Locks -----------------------------------------------------------------------------------------------


def test_locks(minion, clock):
    token = minion.lock("x", timedelta(seconds=10))
    assert token
    assert minion.is_locked("x")
    assert not minion.is_locked("x", limit=2)
    assert minion.lock("x", 10) is None
    assert minion.unlock("x", token) is True
    assert minion.unlock("x") is False
    assert minion.lock("x", 10)
    clock.turn(10)
    assert not minion.is_locked("x")
    for bad in [{"duration": -1}, {"limit": 0}, {"name": ""}]:
        with pytest.raises(ValueError, match=r"must"):
            minion.lock(**{"name": "x", "duration": 1, **bad})


def test_guard(minion):
    with minion.guard("x", 60) as got:
        assert got
        assert minion.is_locked("x")
        with minion.guard("x", 60) as second:
            assert not second
        assert minion.is_locked("x"), "a guard releases only its own"
    assert not minion.is_locked("x")
    with pytest.raises(RuntimeError), minion.guard("x", 60):
        raise RuntimeError
    assert not minion.is_locked("x")
    guard = minion.guard("x", 60, limit=2)
    assert guard.release() is True
    assert guard.release() is False


# -- Schedules -------------------------------------------------------------------------------------------


def scheduled(minion, name):
    return minion.backend.list_schedules(0, 1, ScheduleFilter(names=[name])).items[0]


def test_schedule_and_dispatch(minion, clock):
    minion.add_task("work", lambda *_, **__: None, attempts=4, keep_for=5, lease=6)
    id = minion.schedule(
        "often", "*/5 * * * *", "work", [1], {"a": 2}, priority=7, queue="slow", notes={"n": 1}
    )
    record = scheduled(minion, "often")
    assert (record.id, record.next_run, record.attempts) == (id, clock() + timedelta(minutes=5), 4)
    assert minion.dispatch_schedules() == []
    clock.turn(299.999)
    assert minion.dispatch_schedules() == []
    clock.turn(0.001)
    (run,) = minion.dispatch_schedules()
    assert (run.id, run.name) == (id, "often")
    assert minion.dispatch_schedules() == []
    job = next(minion.jobs(ids=[run.job]))
    assert (job.task, job.args, job.kwargs, job.notes) == ("work", [1], {"a": 2}, {"n": 1})
    assert (job.attempts, job.priority, job.queue, job.keep_for, job.lease) == (4, 7, "slow", 5, 6)
    clock.turn(3600)  # missed runs are not made up for
    assert len(minion.dispatch_schedules()) == 1
    assert scheduled(minion, "often").next_run == clock() + timedelta(minutes=5)


def test_many_due_schedules(minion, clock):
    for number in range(230):
        minion.schedule(f"s{number}", "@hourly", "work")
    clock.turn(3600)
    assert len({run.name for run in minion.dispatch_schedules()}) == 230


def test_replacing_a_schedule(minion, clock):
    minion.schedule("x", "@hourly", "a")
    clock.turn(1800)
    minion.schedule("x", "@hourly", "b")
    assert (scheduled(minion, "x").task, scheduled(minion, "x").next_run) == (
        "b",
        clock() + timedelta(minutes=30),
    )
    minion.schedule("x", "@daily", "b")
    assert scheduled(minion, "x").next_run == datetime(2026, 1, 2, tzinfo=UTC)
    minion.schedule("x", "@daily", "b", time_zone="Europe/Berlin")
    assert scheduled(minion, "x").next_run == datetime(2026, 1, 1, 23, tzinfo=UTC)


def test_pausing_a_schedule(minion, clock):
    minion.schedule("x", "@hourly", "a")
    assert minion.pause_schedule("x") is True
    clock.turn(3600)
    assert minion.dispatch_schedules() == []
    assert minion.resume_schedule("x") is True
    assert len(minion.dispatch_schedules()) == 1
    assert minion.unschedule("x") is True
    assert [minion.unschedule("x"), minion.pause_schedule("x"), minion.resume_schedule("x")] == [False] * 3


@pytest.mark.parametrize(
    ("error", "call"),
    [
        (ValueError, {"cron": "nonsense"}),
        (ValueError, {"time_zone": "Europe/Atlantis"}),
        (ValueError, {"name": ""}),
        (ValueError, {"task": ""}),
        (ValueError, {"attempts": 0}),
        (ValueError, {"expire": 0}),
        (TypeError, {"args": "text"}),
        (TypeError, {"args": [object()]}),
        (TypeError, {"lease": 5}),
        (TypeError, {"cron": None}),
    ],
)
def test_bad_schedules_are_refused(minion, error, call):
    with pytest.raises(error):
        minion.schedule(**{"name": "x", "cron": "@hourly", "task": "a", **call})
    assert minion.backend.list_schedules(0, 10, ScheduleFilter()).total == 0


def test_a_schedule_that_is_broken_in_the_store_does_not_hold_up_others(minion, clock, caplog):
    minion.schedule("broken", "@hourly", "a")
    minion.schedule("fine", "@hourly", "a")
    record = scheduled(minion, "broken")
    from minion_core import NewSchedule  # noqa: PLC0415

    minion.backend.schedule(NewSchedule("broken", "nonsense", record.next_run, "a"))
    clock.turn(3600)
    assert [run.name for run in minion.dispatch_schedules()] == ["fine"]
    assert "Schedule broken cannot be dispatched: bad cron expression 'nonsense'" in caplog.text


# -- Repair (REP-04's policy) ----------------------------------------------------------------------------


def lose(minion, clock, **fields):
    id = minion.enqueue("work", **fields)
    worker = minion.backend.register_worker(None, "host", 1, {})
    assert minion.backend.dequeue(worker, DequeueOptions(("work",), id=id))
    clock.turn(minion.missing_after)
    return id


def test_jobs_of_lost_workers_fail(minion, clock):
    id = lose(minion, clock)
    repaired = minion.repair()
    assert ([lost.id for lost in repaired.lost], repaired.workers) == ([id], 1)
    record = next(minion.jobs(ids=[id]))
    assert (record.state, record.result, record.exit_status) == (State.FAILED, "Worker went away", 1)
    assert minion.repair().lost == []


def test_jobs_of_lost_workers_are_retried_after_the_tasks_delay(minion, clock):
    minion.add_task("work", print, retry_delay=lambda failures: failures * 7)
    id = lose(minion, clock, attempts=3)
    minion.repair()
    record = next(minion.jobs(ids=[id]))
    assert (record.state, record.attempts, record.delayed) == (
        State.INACTIVE,
        2,
        clock() + timedelta(seconds=7),
    )
    assert [failure.message for failure in minion.backend.failure_log(id)] == ["Worker went away"]


def test_repair_uses_the_options(url, clock):
    with Minion(url, clock=clock, remove_after=10, stuck_after=20, missing_after=5) as minion:
        minion.add_task("work", lambda: None)
        done, stuck = minion.enqueue("work"), minion.enqueue("other")
        minion.perform_jobs()
        clock.turn(10)
        assert minion.repair().removed == 1
        assert minion.job(done) is None
        clock.turn(10)
        assert minion.repair().stuck == 1
        assert minion.job(stuck).info().state == State.FAILED


# -- The rest --------------------------------------------------------------------------------------------


def test_broadcast(minion):
    assert minion.broadcast("jobs", [5]) is False
    worker = minion.backend.register_worker(None, "host", 1, {})
    assert minion.broadcast("jobs", [5]) is True
    assert minion.broadcast("stop", [], [worker + 1]) is False
    assert minion.backend.receive(worker) == [["jobs", 5]]
    with pytest.raises(TypeError):
        minion.broadcast("jobs", [object()])


def test_stats_history_and_reset(minion):
    minion.add_task("work", lambda: None)
    minion.enqueue("work")
    minion.perform_jobs()
    minion.enqueue("other")
    stats = minion.stats()
    assert (stats.finished_jobs, stats.inactive_jobs) == (1, 1)
    assert minion.history()[-1].finished_jobs == 1
    minion.lock("x", 10)
    minion.reset(locks=True)
    assert not minion.is_locked("x")
    assert minion.job(1) is not None
    minion.reset(all=True)
    assert list(minion.jobs()) == []


def test_backoff_is_minions():
    assert [backoff(n) for n in range(4)] == [15, 16, 31, 96]


def test_an_outcome_for_a_job_that_is_not_active_is_refused(minion):
    id = minion.enqueue("work")
    assert minion.backend.settle([Finished(id, 0)])[0].applied is False
    assert minion.backend.retry_job(id, 1, RetryOptions()) is False


def test_an_unreachable_store_is_one_clear_error(tmp_path):
    minion = Minion(f"sqlite:///{tmp_path}/nowhere/jobs.db")
    with pytest.raises(BackendUnavailable, match="nowhere"):
        minion.enqueue("x")
