"""`minion worker` as a user runs it: started, watched, told to stop."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from minion_core import Minion, WorkerRecord

MINION = [sys.executable, "-m", "minion_core"]

APP = """
import os, time
from minion_core import Minion

minion = Minion("sqlite:///jobs.db")

@minion.task
def pid():
    return os.getpid()

@minion.task
def sleep(seconds):
    time.sleep(seconds)

@minion.task(attempts=1)
def vanish():
    os._exit(1)
"""

Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def queue(tmp_path: Path) -> Iterator[Minion]:
    (tmp_path / "app.py").write_text(APP)
    with Minion(f"sqlite:///{tmp_path}/jobs.db") as minion:
        yield minion


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    started: list[subprocess.Popen[str]] = []
    clean = {name: value for name, value in os.environ.items() if not name.startswith("MINION_")}

    def start(
        *arguments: str, front: tuple[str, ...] = ("--app", "app"), cwd: Path = tmp_path
    ) -> subprocess.Popen[str]:
        command = [*MINION, *front, "worker", *arguments]
        started.append(subprocess.Popen(command, cwd=cwd, env=clean, stderr=subprocess.PIPE, text=True))
        return started[-1]

    yield start
    for worker in started:
        if worker.poll() is None:
            worker.kill()
        worker.communicate()


def stop(worker: subprocess.Popen[str], number: int = signal.SIGTERM) -> str:
    worker.send_signal(number)
    _, log = worker.communicate(timeout=30)
    assert worker.returncode == 0, log
    return log


def only_worker(queue: Minion) -> WorkerRecord:
    limit = time.monotonic() + 30
    while time.monotonic() < limit:
        if found := [worker for worker in queue.workers() if "jobs" in worker.status]:
            [worker] = found
            return worker
        time.sleep(0.05)
    raise AssertionError("no worker came")


def test_it_performs_and_tells_in_its_log(queue, start):
    worker = start()
    assert queue.result(queue.enqueue("pid"), timeout=30) != worker.pid
    lost = queue.enqueue("vanish")
    with pytest.raises(Exception, match=r"Job terminated unexpectedly \(exit code: 1, signal: 0\)"):
        queue.result(lost, timeout=30)
    log = stop(worker, signal.SIGINT).splitlines()
    assert all(re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} (INFO|WARNING) ", line) for line in log)
    assert re.search(r"INFO Worker \d+ started", log[0])
    assert any(f"WARNING Job {lost} (vanish): attempt 0 failed" in line for line in log)
    assert re.search(r"INFO Worker \d+ stopped after", log[-1])
    assert list(queue.workers()) == []


def test_options_reach_the_worker(queue, start):
    elsewhere = queue.enqueue("pid")
    other = queue.enqueue("sleep", [0], queue="a")
    low = queue.enqueue("pid", queue="a", priority=1)
    done = [queue.enqueue("pid", queue=name, priority=2) for name in ("a", "b", "b")]
    worker = start(
        "-j", "3", "-q", "a", "-q", "b", "-t", "pid", "--min-priority", "2", "--recycle", "1", "-I", "1m",
        "-C", "2", "-D", "3", "-R", "1h", "--dispatch-interval", "4", "--log-level", "warning",
    )  # fmt: skip
    assert len({queue.result(id, timeout=30) for id in done}) == 3
    status = only_worker(queue).status
    assert (status["jobs"], status["queues"]) == (3, ["a", "b"])
    assert (status["heartbeat_interval"], status["command_interval"], status["dequeue_timeout"]) == (60, 2, 3)
    assert (status["repair_interval"], status["dispatch_interval"]) == (3600, 4)
    assert {job.id for job in queue.jobs(states=["inactive"])} == {elsewhere, other, low}
    assert stop(worker) == ""


def test_missing_after_is_heeded(queue, start):
    gone = queue.backend.register_worker(None, "gone", 1, {})
    time.sleep(1.1)
    worker = start("--missing-after", "1", "-R", "0.2")
    limit = time.monotonic() + 30
    while any(record.id == gone for record in queue.workers()):
        assert time.monotonic() < limit
        time.sleep(0.05)
    assert only_worker(queue).status["heartbeat_interval"] < 1
    stop(worker)


def test_url_reaches_the_processes_of_the_worker(tmp_path, queue, start):
    with Minion(f"sqlite:///{tmp_path}/other.db") as other:
        worker = start(front=("--app", "app", "--url", "sqlite:///other.db"))
        assert other.result(other.enqueue("pid"), timeout=30)
        stop(worker)
    assert list(queue.jobs()) == []


def test_a_script_may_be_named_by_its_path(tmp_path, queue, start):
    below = tmp_path / "below"
    below.mkdir()
    worker = start(front=("--app", "../app.py", "--url", f"sqlite:///{tmp_path}/jobs.db"), cwd=below)
    assert queue.result(queue.enqueue("pid"), timeout=30)
    stop(worker)


def test_the_second_signal_ends_running_jobs(queue, start):
    worker = start("-j", "1")
    long, waiting = queue.enqueue("sleep", [600], priority=1), queue.enqueue("sleep", [600])
    limit = time.monotonic() + 30
    while not any(queue.jobs(ids=[long], states=["active"])):
        assert time.monotonic() < limit
        time.sleep(0.05)
    worker.send_signal(signal.SIGTERM)
    with pytest.raises(subprocess.TimeoutExpired):
        worker.wait(1)
    log = stop(worker)
    assert "1 jobs are still running (once more to end them now)" in log
    states = {job.id: (job.state, job.retries) for job in queue.jobs()}
    assert states[long][0] == "failed"
    assert states[waiting][0] == "inactive"


def test_it_is_seen_by_the_other_commands(tmp_path, queue, start):
    worker = start()
    id = only_worker(queue).id
    command = [*MINION, "--app", "app", "job", "-w", "--json"]
    listed = json.loads(subprocess.run(command, cwd=tmp_path, capture_output=True, check=True).stdout)
    assert [(record["id"], record["pid"]) for record in listed["workers"]] == [(id, worker.pid)]
    stop(worker)
