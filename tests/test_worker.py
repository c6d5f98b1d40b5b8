"""Workers as real processes: how jobs end, how workers stop, and what they do when something dies."""

from __future__ import annotations

import os
import signal
import sqlite3
import time
from pathlib import Path

import pytest

from minion_core import DequeueOptions, JobFailed, Minion, NewJob, State
from minion_core.waiting import Waiter


def end_of(minion: Minion, id: int) -> str:
    """Wait for a job that fails, and answer how it failed."""
    with pytest.raises(JobFailed) as failed:
        minion.result(id, timeout=30)
    return str(failed.value)


def performers(minion: Minion) -> list[int]:
    rows = list(minion.workers())
    return [row["pid"] for row in rows[0].status["executors"]["process"]["performers"]] if rows else []


# -- How jobs end ----------------------------------------------------------------------------------------


def test_a_job_is_performed_in_another_process(minion, start_worker):
    worker = start_worker()
    assert minion.result(minion.enqueue("add", [1], {"second": 2}), timeout=30) == 3
    performer = minion.result(minion.enqueue("pid"), timeout=30)
    assert performer not in (os.getpid(), worker.pid)
    assert worker.stop() == 0


def test_every_ending_has_its_outcome(minion, start_worker):
    jobs = {
        name: minion.enqueue(task, args, attempts=3 if task == "third_time" else 1)
        for name, task, args in [
            ("exit", "leave", [0]),
            ("exit 7", "leave", [7]),
            ("sys.exit", "system_exit", [3]),
            ("killed", "kill_self", []),
            ("terminated", "kill_self", [int(signal.SIGTERM)]),
            ("forks", "fork", []),
            ("closes", "close_everything", []),
            ("unkeepable", "unkeepable", []),
            ("shout", "shout", [1_000_000]),
            ("misfit", "add", [1, 2, 3]),
            ("chdir", "change_directory", []),
            ("async", "wait_a_little", [0.01]),
            ("third time", "third_time", []),
            ("explicit", "explicit", []),
        ]
    }
    worker = start_worker(jobs=2)
    unexpected = "Job {} failed: Job terminated unexpectedly (exit code: {}, signal: {})".format
    assert end_of(minion, jobs["exit"]) == unexpected(jobs["exit"], 0, 0)
    assert end_of(minion, jobs["exit 7"]) == unexpected(jobs["exit 7"], 7, 0)
    assert end_of(minion, jobs["killed"]) == unexpected(jobs["killed"], 0, 9)
    assert end_of(minion, jobs["terminated"]) == unexpected(jobs["terminated"], 0, 15)
    assert end_of(minion, jobs["closes"]) == unexpected(jobs["closes"], 0, 9)
    assert end_of(minion, jobs["sys.exit"]).endswith("failed: 3")
    assert "Result cannot be kept" in end_of(minion, jobs["unkeepable"])
    assert len(end_of(minion, jobs["shout"])) < 11_000
    assert "arguments do not fit task add: too many positional arguments" in end_of(minion, jobs["misfit"])
    assert minion.result(jobs["forks"], timeout=30) == "parent"
    assert minion.result(jobs["chdir"], timeout=30) == "/"
    assert minion.result(jobs["async"], timeout=30) == "awaited"
    assert minion.result(jobs["third time"], timeout=30) == "lucky"
    assert minion.result(jobs["explicit"], timeout=30) == "said so"
    records = {name: next(minion.jobs(ids=[id])) for name, id in jobs.items()}
    assert records["exit 7"].exit_status == 7
    assert records["sys.exit"].exit_status == 3
    assert records["sys.exit"].result["type"] == "SystemExit"
    assert records["third time"].failures == 2
    assert records["explicit"].notes == {"seen": True}
    assert minion.result(minion.enqueue("add", [1]), timeout=30) == 2
    assert worker.stop() == 0
    assert "Traceback" not in worker.said()


def test_a_large_job_goes_through(minion, start_worker):
    start_worker()
    text = "x" * 3_000_000
    assert minion.result(minion.enqueue("add", [text, text[:-1]]), timeout=30) == text + text[:-1]


def test_a_killed_performer_fails_exactly_its_own_job(minion, start_worker, tmp_path, eventually):
    start_worker(jobs=3)
    started = tmp_path / "started"
    unlucky = minion.enqueue("sleep", [60, str(started)])
    eventually(lambda: started.exists() and started.read_text())
    others = [minion.enqueue("sleep", [0.5]) for _ in range(2)]
    time.sleep(0.2)
    os.kill(int(started.read_text()), signal.SIGKILL)
    assert "signal: 9" in end_of(minion, unlucky)
    assert [minion.result(id, timeout=30) for id in others] == ["rested"] * 2


def test_coalesced_jobs_are_done_in_one_go(minion, start_worker):
    ids = [entry.id for entry in minion.enqueue_many([NewJob("together", coalesce="x")] * 4)]
    start_worker(jobs=1)
    assert minion.result(ids[0], timeout=30) == ids[1:]
    assert "explicitly" in end_of(minion, ids[1])
    assert [minion.result(id, timeout=30) for id in ids[2:]] == [f"by {ids[0]}"] * 2


def test_coalesced_jobs_all_fail_with_their_performer(minion, start_worker):
    jobs = [NewJob("together", kwargs={"crash": True}, coalesce="x"), *[NewJob("together", coalesce="x")] * 2]
    ids = [entry.id for entry in minion.enqueue_many(jobs)]
    start_worker(jobs=1)
    for id in ids:
        assert "exit code: 3" in end_of(minion, id)


def test_a_fresh_process_for_each_job(minion, start_worker):
    ids = [minion.enqueue("pid") for _ in range(6)]
    start_worker(recycle=1)
    assert len({minion.result(id, timeout=30) for id in ids}) == 6


# -- How workers stop ------------------------------------------------------------------------------------


def test_term_lets_running_jobs_end(minion, start_worker, tmp_path, eventually):
    worker = start_worker(jobs=1)
    started = tmp_path / "started"
    running = minion.enqueue("sleep", [1, str(started)])
    waiting = minion.enqueue("sleep", [1])
    eventually(started.exists)
    assert worker.stop() == 0
    assert minion.result(running, timeout=0) == "rested"
    record = next(minion.jobs(ids=[waiting]))
    assert (record.state, record.attempts, record.failures) == (State.INACTIVE, 1, 0)
    assert list(minion.workers()) == []
    assert worker.children() == []


@pytest.mark.parametrize("signals", [[signal.SIGQUIT], [signal.SIGTERM, signal.SIGTERM]])
def test_quit_or_a_second_term_ends_running_jobs(minion, start_worker, tmp_path, signals, eventually):
    worker = start_worker(jobs=2)
    started, again = tmp_path / "started", tmp_path / "again"
    running = minion.enqueue("sleep", [60, str(started)])
    retried = minion.enqueue("sleep", [60, str(again)], attempts=2)
    eventually(lambda: started.exists() and again.exists())
    for number in signals:
        worker.send(number)
        time.sleep(0.3)
    assert worker.wait(10) == 0
    assert "signal: 9" in end_of(minion, running)
    record = next(minion.jobs(ids=[retried]))
    assert (record.state, record.attempts, record.failures) == (State.INACTIVE, 1, 1)


def test_int_stops_an_idle_worker_at_once(minion, start_worker):
    worker = start_worker()
    assert minion.result(minion.enqueue("add", [1]), timeout=30) == 2
    before = time.monotonic()
    worker.send(signal.SIGINT)
    assert worker.wait() == 0
    assert time.monotonic() - before < 5
    assert list(minion.workers()) == []


# -- What workers do besides -----------------------------------------------------------------------------


def test_a_worker_dispatches_schedules(minion, start_worker, eventually):
    minion.schedule("soon", "* * * * *", "add", [1])
    with sqlite3.connect(minion.url.removeprefix("sqlite:///")) as database:
        # Nobody wants to wait for the next full minute: let the run be due since an hour.
        database.execute("UPDATE minion_schedules SET next_run = next_run - 3600000000")
    worker = start_worker(dispatch_interval=0.2)
    (job,) = eventually(lambda: list(minion.jobs(states=[State.FINISHED])))
    assert (job.task, job.result) == ("add", 2)
    assert worker.stop() == 0
    assert len(list(minion.jobs())) == 1


def test_a_worker_registers_again_under_its_id(minion, start_worker, eventually):
    start_worker(heartbeat_interval=0.2)
    minion.result(minion.enqueue("add", [1]), timeout=30)
    (row,) = minion.workers()
    assert minion.backend.unregister_worker(row.id)
    assert eventually(lambda: list(minion.workers()))[0].id == row.id
    assert minion.result(minion.enqueue("add", [1]), timeout=30) == 2


def test_its_status_names_the_pids_of_its_performers(minion, start_worker, eventually):
    worker = start_worker(jobs=2, spare=1, command_interval=0.1)
    pid = minion.result(minion.enqueue("pid"), timeout=30)
    eventually(lambda: pid in performers(minion))
    assert len(performers(minion)) == 3
    assert set(performers(minion)) <= set(worker.children())


def test_a_claim_held_by_nobody_is_released(minion, start_worker, eventually):
    start_worker(heartbeat_interval=0.3)
    minion.result(minion.enqueue("add", [1]), timeout=30)
    (row,) = minion.workers()
    stray = minion.enqueue("add", [1], delay=0, queue="elsewhere")
    options = DequeueOptions(("add",), ("elsewhere",))
    assert [job.id for job in minion.backend.dequeue(row.id, options)] == [stray]
    eventually(lambda: next(minion.jobs(ids=[stray])).state == State.INACTIVE)
    record = next(minion.jobs(ids=[stray]))
    assert (record.failures, record.attempts, record.retries) == (0, 1, 1)


# -- What they survive -----------------------------------------------------------------------------------


def test_the_zygote_may_die(minion, start_worker):
    worker = start_worker(jobs=1, spare=0)
    first = minion.result(minion.enqueue("pid"), timeout=30)
    running = minion.enqueue("sleep", [1])
    time.sleep(0.3)
    zygote = worker.children()[0]
    os.kill(zygote, signal.SIGKILL)
    assert minion.result(running, timeout=30) == "rested"
    assert minion.result(minion.enqueue("pid"), timeout=30) != first
    assert worker.stop() == 0
    assert worker.children() == []


def test_performers_end_with_their_worker(minion, start_worker, tmp_path, eventually):
    worker = start_worker(jobs=2)
    started = tmp_path / "started"
    minion.enqueue("sleep", [60, str(started)])
    eventually(started.exists)
    # A zygote, two performers, a spare one, and those of threads and event loop.
    eventually(lambda: len(worker.children()) == 6)
    below = worker.children()
    worker.send(signal.SIGKILL)
    worker.wait()
    eventually(lambda: not any(_lives(pid) for pid in below))


def _lives(pid: int) -> bool:
    try:
        return "zombie" not in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False


def test_a_million_vain_wake_ups_do_not_end_the_waiting(minion, eventually):
    woken = []
    waiter = Waiter(minion, lambda: woken.append(True), timeout=60)
    waiter._fruitless = 1_000_000
    waiter.look_for(DequeueOptions(("t",)))
    minion.enqueue("t")
    eventually(lambda: woken)
    waiter.stop()
    waiter.join(10)
