"""Executors side by side, timeouts, limits, the fast lane, progress."""

from __future__ import annotations

import os
import signal
import time

import pytest

from minion_core import JobFailed, NewJob, State


def results(minion, ids):
    return [minion.result(id, timeout=30) for id in ids]


def end_of(minion, id):
    with pytest.raises(JobFailed) as failed:
        minion.result(id, timeout=30)
    return str(failed.value)


# -- Which executor performs -----------------------------------------------------------------------------


def test_one_worker_runs_all_executors(minion, start_worker):
    worker = start_worker(jobs=12)
    threads = [minion.enqueue("in_thread", [0.5]) for _ in range(4)]
    loops = [minion.enqueue("in_loop", [0.5]) for _ in range(4)]
    process = minion.enqueue("pid")
    in_threads, in_loops = results(minion, threads), results(minion, loops)
    assert len({pid for pid, _ in in_threads}) == 1
    assert not any(main for _, main in in_threads)
    assert len({pid for pid, _ in in_loops}) == 1
    assert max(tasks for _, tasks in in_loops) >= 3, "they ran at the same time"
    pids = {in_threads[0][0], in_loops[0][0], minion.result(process, timeout=30), worker.pid}
    assert len(pids) == 4
    assert minion.result(minion.enqueue("not_async"), timeout=30) is False
    assert minion.result(minion.enqueue("alone"), timeout=30) == 1
    assert worker.stop() == 0
    assert worker.children() == []


@pytest.mark.parametrize(("executor", "task"), [("thread", "pid"), ("asyncio", "pid")])
def test_a_worker_has_another_executor_for_tasks_that_name_none(minion, start_worker, executor, task):
    start_worker(executor=executor, jobs=4)
    assert len(set(results(minion, [minion.enqueue(task) for _ in range(8)]))) == 1


def test_jobs_counts_them_all(minion, start_worker):
    start_worker(jobs=3, spare=0)
    minion.result(minion.enqueue("in_loop"), timeout=30)
    minion.result(minion.enqueue("in_thread"), timeout=30)
    minion.enqueue_many([NewJob(task, [0.4]) for task in ["in_thread", "in_loop", "sleep"] * 3])
    most = 0
    while minion.stats().finished_jobs < 11:
        most = max(most, minion.stats().active_jobs)
        time.sleep(0.01)
    assert most == 3


def test_threads_and_async_have_limits_of_their_own(minion, start_worker):
    start_worker(jobs=8, threads=2, async_jobs=1)
    minion.enqueue_many([NewJob(task, [0.3]) for task in ["in_thread"] * 4 + ["in_loop"] * 3])
    most = {"in_thread": 0, "in_loop": 0}
    while minion.stats().finished_jobs < 7:
        active = [record.task for record in minion.jobs(states=[State.ACTIVE])]
        most = {task: max(count, active.count(task)) for task, count in most.items()}
        time.sleep(0.01)
    assert most == {"in_thread": 2, "in_loop": 1}


def test_the_end_of_a_process_fails_all_that_its_threads_performed(minion, start_worker, eventually):
    start_worker(jobs=3)
    others = [minion.enqueue("in_thread", [20]) for _ in range(2)]
    eventually(lambda: minion.stats().active_jobs == 2)
    last = minion.enqueue("leave_from_thread")
    for id in [last, *others]:
        assert "exit code: 5" in end_of(minion, id)
    assert minion.result(minion.enqueue("in_thread"), timeout=30)


# -- Timeouts --------------------------------------------------------------------------------------------


def test_a_job_that_takes_too_long_fails_and_its_process_is_killed(minion, start_worker):
    worker = start_worker(jobs=1)
    assert minion.result(minion.enqueue("too_long", [0.01]), timeout=30) == "in time"
    before = time.monotonic()
    id = minion.enqueue("too_long", [60])
    assert end_of(minion, id).endswith("Job timed out after 0.3 s")
    assert time.monotonic() - before < 10
    assert minion.result(minion.enqueue("add", [1]), timeout=30) == 2
    assert f"Job {id} (too_long): attempt 0 failed: Job timed out" in worker.said()
    retried = minion.enqueue("too_long", [60], attempts=2)
    assert "timed out" in end_of(minion, retried)
    assert next(minion.jobs(ids=[retried])).failures == 2


@pytest.mark.parametrize(
    ("task", "word"), [("too_long_in_thread", "interrupted"), ("too_long_in_loop", "cancelled")]
)
def test_what_can_be_done_about_threads_and_coroutines(minion, start_worker, tmp_path, task, word):
    start_worker(jobs=3)
    other = minion.enqueue("in_thread" if "thread" in task else "in_loop", [1])
    id = minion.enqueue(task, [str(tmp_path / "told")])
    assert end_of(minion, id).endswith("Job timed out after 0.3 s")
    assert minion.result(other, timeout=30), "those beside it go on"
    assert (tmp_path / "told").read_text() == word


# -- Limits, the fast lane -------------------------------------------------------------------------------


def test_limits_of_tasks_are_kept(minion, start_worker, tmp_path):
    start_worker(jobs=5, limits={"at_a_time": 1})
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    own = [minion.enqueue("two_at_most", [str(tmp_path / "a")]) for _ in range(6)]
    given = [minion.enqueue("at_a_time", [str(tmp_path / "b")]) for _ in range(3)]
    assert max(results(minion, own)) == 2
    assert max(results(minion, given)) == 1


def test_limits_are_kept_while_jobs_are_claimed_ahead(minion, start_worker, tmp_path, drained):
    fast = [NewJob("add", [number], attempts=2) for number in range(3000)]
    (tmp_path / "marks").mkdir()
    limited = [NewJob("two_at_most", [str(tmp_path / "marks")]) for _ in range(8)]
    ids = [made.id for made in minion.enqueue_many([*fast[:1000], *limited, *fast[1000:]])[1000:1008]]
    start_worker(jobs=4)
    drained(60)
    assert max(results(minion, ids)) == 2


def test_the_next_attempt_may_come_while_the_last_one_runs(minion, start_worker):
    worker = start_worker(jobs=3)
    id = minion.enqueue("slow_at_first", lease=0.5)
    assert minion.result(id, timeout=30) == 1
    time.sleep(1.5)  # until the first attempt has ended, too
    assert minion.result(minion.enqueue("in_thread"), timeout=30)
    assert "attempt 0 was over before its outcome came" in worker.said()
    assert worker.stop() == 0


def test_spare_places_are_for_high_priority(minion, start_worker, tmp_path, eventually):
    start_worker(jobs=1, spare=1, spare_min_priority=5)
    slow = minion.enqueue("sleep", [30, str(tmp_path / "started")])
    eventually((tmp_path / "started").exists)
    low = [minion.enqueue("add", [1], priority=priority) for priority in (0, 4)]
    assert minion.result(minion.enqueue("add", [1], priority=5), timeout=10) == 2
    assert [next(minion.jobs(ids=[id])).state for id in low] == [State.INACTIVE] * 2
    assert next(minion.jobs(ids=[slow])).state == State.ACTIVE


def test_progress_is_seen_while_a_job_runs(minion, start_worker, tmp_path, eventually, command):
    start_worker()
    gate = tmp_path / "gate"
    id = minion.enqueue("advance", [str(gate)])
    eventually(lambda: "progress" in next(minion.jobs(ids=[id])).notes)
    assert next(minion.jobs(ids=[id])).notes["progress"] == {"done": 3, "total": 10, "message": "resizing"}
    shown = command(tmp_path, "--url", minion.url, "job", str(id)).stdout
    assert "3 of 10 (30 %), resizing" in shown
    gate.touch()
    minion.result(id, timeout=30)
    assert next(minion.jobs(ids=[id])).notes["progress"] == {"done": 10, "total": 10}


@pytest.mark.parametrize("wrong", [{"done": "3"}, {"done": True}, {"done": 1, "message": 5}])
def test_progress_takes_numbers_and_text(minion, wrong):
    job = minion.job(minion.enqueue("add", [1]))
    with pytest.raises(TypeError):
        job.progress(**wrong)
    with pytest.raises(ValueError, match="finite"):
        job.progress(float("nan"))


# -- Claiming ahead --------------------------------------------------------------------------------------


def test_jobs_of_a_second_keep_every_place_busy_and_no_more(minion, start_worker, tmp_path):
    (tmp_path / "marks").mkdir()
    start_worker(jobs=8)
    minion.enqueue_many([NewJob("fast", attempts=2) for _ in range(500)])
    ids = [
        entry.id
        for entry in minion.enqueue_many([NewJob("at_a_time", [str(tmp_path / "marks"), 1], attempts=2)] * 24)
    ]
    found = results(minion, ids)
    assert max(found) == 8
    records = [next(minion.jobs(ids=[id])) for id in ids]
    assert max(record.retries for record in records) < 6, "not given back again and again"
    began = min(record.started for record in records)
    ended = max(record.finished for record in records)
    assert (ended - began).total_seconds() < 5, "three rounds of eight"


def test_what_waits_behind_a_slow_job_is_taken_back(minion, start_worker, drained):
    start_worker(jobs=2, spare=0)
    minion.enqueue_many([NewJob("sometimes_slow", attempts=2) for _ in range(400)])
    drained()
    jobs = [NewJob("sometimes_slow", [20 if n == 0 else 0], attempts=2) for n in range(200)]
    slow, *others = [entry.id for entry in minion.enqueue_many(jobs)]
    before = time.monotonic()
    results(minion, others)
    assert time.monotonic() - before < 15
    assert next(minion.jobs(ids=[slow])).state == State.ACTIVE
    assert {record.failures for record in minion.jobs()} == {0}


def test_what_waits_is_given_back_at_the_end(minion, start_worker, eventually, drained):
    worker = start_worker(jobs=1, spare=0)
    minion.enqueue_many([NewJob("sometimes_slow", attempts=2) for _ in range(300)])
    drained()
    minion.enqueue_many([NewJob("sometimes_slow", [0.002], attempts=2) for _ in range(3000)])
    eventually(lambda: minion.stats().active_jobs > 5)
    assert worker.stop() == 0
    records = list(minion.jobs())
    assert {record.state for record in records} == {State.FINISHED, State.INACTIVE}
    assert {(record.failures, record.attempts) for record in records} == {(0, 2)}


def test_jobs_behind_a_performer_that_dies_are_not_to_blame(minion, start_worker, drained):
    start_worker(jobs=2, spare=0)
    minion.enqueue_many([NewJob("fast", attempts=2) for _ in range(400)])
    drained()
    mix = [
        NewJob("leave" if n % 100 == 50 else "fast", [3] if n % 100 == 50 else [], attempts=2)
        for n in range(1000)
    ]
    ids = [entry.id for entry in minion.enqueue_many(mix)]
    drained(60)
    records = {record.id: record for record in minion.jobs()}
    for n, id in enumerate(ids):
        record = records[id]
        assert (record.state, record.failures) == (("failed", 2) if n % 100 == 50 else ("finished", 0))


def test_jobs_without_attempts_left_are_not_claimed_ahead(minion, start_worker, drained):
    worker = start_worker(jobs=2, spare=0)
    minion.enqueue_many([NewJob("fast", attempts=1) for _ in range(2000)])
    most = 0
    while next(minion.jobs(states=[State.INACTIVE]), None):
        most = max(most, minion.stats().active_jobs)
    assert most <= 2
    drained()
    assert worker.stop() == 0


def test_two_workers_share_a_backlog(minion, start_worker, drained, eventually):
    for _ in range(2):
        start_worker(jobs=2)
    eventually(lambda: len(list(minion.workers())) == 2)
    warm = [minion.enqueue("sleep", [0.3]) for _ in range(4)]
    results(minion, warm)
    first = minion.enqueue_many([NewJob("sometimes_slow", [0.001], attempts=2) for _ in range(3000)])[0].id
    drained(60)
    shares: dict[int, int] = {}
    for record in minion.jobs():
        if record.id >= first:
            shares[record.worker] = shares.get(record.worker, 0) + 1
    assert len(shares) == 2
    assert min(shares.values()) > 900


def test_a_place_that_is_free_again_waits_for_all_jobs(minion, start_worker):
    # While its only place is taken, the worker waits for jobs of high priority alone.
    start_worker(jobs=1, dequeue_timeout=600)
    for number in range(4):
        assert minion.result(minion.enqueue("add", [number], {"second": 1}), timeout=30) == number + 1


def test_a_signal_reaches_only_its_job(minion, start_worker, tmp_path, eventually):
    start_worker(jobs=2, command_interval=0.1)
    started = tmp_path / "started"
    id = minion.enqueue("on_signal", [str(started)])
    eventually(started.exists)
    assert minion.broadcast("kill", ["USR1", id])
    assert minion.result(id, timeout=30) == "heard SIGUSR1"
    slow = minion.enqueue("sleep", [60, str(tmp_path / "slow")])
    eventually((tmp_path / "slow").exists)
    assert os.getpgid(int((tmp_path / "slow").read_text())) == int((tmp_path / "slow").read_text())
    minion.broadcast("stop", [slow])
    assert f"signal: {int(signal.SIGKILL)}" in end_of(minion, slow)
