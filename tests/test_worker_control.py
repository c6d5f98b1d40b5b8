"""Telling workers what to do: signals and grace, remote commands."""

from __future__ import annotations

import signal
import time

import pytest

from minion_core import JobFailed, NewJob, State


def test_grace_bounds_how_long_running_jobs_have(minion, start_worker, tmp_path, eventually):
    worker = start_worker(jobs=2, grace=0.5)
    started = tmp_path / "started"
    short = minion.enqueue("sleep", [0.3])
    long = minion.enqueue("sleep", [60, str(started)])
    eventually(started.exists)
    before = time.monotonic()
    worker.send(signal.SIGTERM)
    assert worker.wait() == 0
    assert 0.4 < time.monotonic() - before < 10
    assert minion.result(short, timeout=0) == "rested"
    with pytest.raises(JobFailed, match="signal: 9"):
        minion.result(long, timeout=0)
    assert "outlived their grace" in worker.said()


def status(minion):
    return next(minion.workers()).status


def test_jobs_and_spare_are_changed_from_afar(minion, start_worker, tmp_path, eventually):
    marks = tmp_path / "marks"
    marks.mkdir()
    start_worker(jobs=1, spare=0, command_interval=0.05)
    minion.result(minion.enqueue("add", [1]), timeout=30)
    minion.broadcast("jobs", [3])
    eventually(lambda: status(minion)["jobs"] == 3)
    ids = [minion.enqueue("at_a_time", [str(marks), 0.5]) for _ in range(9)]
    assert max(minion.result(id, timeout=30) for id in ids) == 3
    minion.broadcast("spare", [2])
    eventually(lambda: status(minion)["spare"] == 2)
    minion.broadcast("jobs", [0])
    eventually(lambda: status(minion)["jobs"] == 0)
    low, high = minion.enqueue("add", [1]), minion.enqueue("add", [1], priority=1)
    assert minion.result(high, timeout=30) == 2
    assert next(minion.jobs(ids=[low])).state == State.INACTIVE
    minion.broadcast("jobs", [1])
    assert minion.result(low, timeout=30) == 2
    eventually(lambda: len(status(minion)["executors"]["process"]["performers"]) == 3)


def test_fewer_jobs_are_performed_under_load_too(minion, start_worker, eventually):
    minion.enqueue_many([NewJob("add", [number], attempts=2) for number in range(30_000)])
    start_worker(jobs=4, command_interval=0.05)
    eventually(lambda: minion.stats().finished_jobs > 500)
    minion.broadcast("jobs", [0])
    eventually(lambda: status(minion)["jobs"] == 0)
    eventually(lambda: minion.stats().active_jobs == 0)
    done = minion.stats().finished_jobs
    time.sleep(0.5)
    assert minion.stats().finished_jobs == done < 30_000
    minion.broadcast("jobs", [4])
    eventually(lambda: minion.stats().finished_jobs > done)


@pytest.mark.parametrize(
    ("command", "args", "why"),
    [
        ("jobs", [], "missing 1 required positional argument"),
        ("jobs", ["many"], "jobs must be a whole number"),
        ("jobs", [True], "jobs must be a whole number"),
        ("jobs", [-1], "jobs must be between 0 and 10000"),
        ("jobs", [1, 2], "positional arguments but"),
        ("spare", [10**6], "spare must be between 0 and 10000"),
        ("kill", ["STOP", 1], "the signal must be one of INT, TERM, KILL, USR1, USR2"),
        ("kill", [["INT"], 1], "the signal must be one of"),
        ("kill", ["INT", "1"], "a job's id must be a whole number"),
        ("stop", [0], "a job's id must be between 1"),
        ("format", ["c:"], "Unknown remote command: format"),
    ],
)
def test_bad_commands_are_refused_in_one_line(minion, caplog, command, args, why):
    @minion.task
    def work():
        pass

    worker = minion.worker(executor="inline")
    worker._obey(command, args)
    assert why in caplog.text
    assert len(caplog.text.splitlines()) == 1


def test_status_tells_what_minions_does_and_more(minion, start_worker, tmp_path, eventually):
    start_worker(jobs=2, limits={"add": 1}, queues=["default", "other"])
    started = tmp_path / "started"
    id = minion.enqueue("sleep", [60, str(started)])
    eventually(started.exists)
    told = eventually(lambda: (found := status(minion)).get("performed") is not None and found)
    assert told["queues"] == ["default", "other"]
    assert (told["jobs"], told["spare"], told["spare_min_priority"]) == (2, 1, 1)
    assert told["limits"] == {"add": 1}
    assert told["type"] == "Python"
    assert told["version"]
    assert {"heartbeat_interval", "command_interval", "dispatch_interval", "repair_interval"} <= told.keys()
    assert set(told["executors"]) == {"process", "thread", "asyncio"}
    assert next(minion.workers()).jobs == [id]


HERALD = """
from pathlib import Path
from minion_core import hookimpl

def write(*words):
    with Path({path!r}).open("a") as book:
        print(*words, file=book)

@hookimpl
def minion_performer_spawned(pid):
    write("spawned", pid)

@hookimpl
def minion_performer_reaped(pid, exit_code, signal):
    write("reaped", pid, exit_code, signal)
"""


def test_plugins_are_told_of_performers(minion, start_worker, tmp_path, monkeypatch, eventually):
    book = tmp_path / "book"
    (tmp_path / "herald.py").write_text(HERALD.format(path=str(book)))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    worker = start_worker(jobs=1, spare=0, plugins=["herald"])
    performer = minion.result(minion.enqueue("pid"), timeout=30)
    minion.enqueue("leave", [7])
    eventually(lambda: f"reaped {performer} 7 0" in book.read_text())
    assert worker.stop() == 0
    told = [line.split() for line in book.read_text().splitlines()]
    spawned = {line[1] for line in told if line[0] == "spawned"}
    assert {line[1] for line in told if line[0] == "reaped"} == spawned
