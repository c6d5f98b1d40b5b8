"""`minion worker` as a user runs it: started, watched, told to stop."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from minion_core import Minion, WorkerRecord

MINION = [sys.executable, "-m", "minion_core"]

APP = """
import logging, os, time
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

@minion.task
def version():
    return 1

@minion.task
def warn():
    logging.getLogger("shop").warning("from the job")
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

    def start(
        *arguments: str, front: tuple[str, ...] = ("--app", "app"), cwd: Path = tmp_path
    ) -> subprocess.Popen[str]:
        clean = {name: value for name, value in os.environ.items() if not name.startswith("MINION_")}
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


# -- Running it ------------------------------------------------------------------------------------------


def eventually(what: Callable[[], object]) -> object:
    limit = time.monotonic() + 30
    while not (found := what()):
        assert time.monotonic() < limit
        time.sleep(0.02)
    return found


def check(tmp_path: Path) -> tuple[int, str]:
    command = [*MINION, "worker", "--check", "--health-file", "alive"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.usefixtures("queue")
def test_health_is_told_to_whoever_asks(tmp_path, start):
    assert check(tmp_path) == (1, "there is no alive: no worker writes it\n")
    worker = start("--health-file", "alive")
    eventually((tmp_path / "alive").exists)
    assert check(tmp_path) == (0, f"worker 1 (pid {worker.pid}) is alive: 0 running, 0 performed\n")
    old = {"worker": 1, "pid": worker.pid, "time": time.time() - 100}
    worker.send_signal(signal.SIGSTOP)
    (tmp_path / "alive").write_text(json.dumps(old))
    code, told = check(tmp_path)
    assert (code, told.startswith(f"worker 1 (pid {worker.pid}) gave its last sign of life 1")) == (1, True)
    worker.send_signal(signal.SIGCONT)
    stop(worker)
    assert not (tmp_path / "alive").exists()


@pytest.mark.usefixtures("queue")
def test_systemd_is_told(tmp_path, start, monkeypatch):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        systemd.settimeout(30)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        monkeypatch.setenv("WATCHDOG_USEC", "300000")
        worker = start()
        assert systemd.recv(1000) == b"READY=1"
        told = systemd.recv(1000).decode()
        assert told == "WATCHDOG=1\nSTATUS=0 running, 0 performed"
        assert systemd.recv(1000).startswith(b"WATCHDOG=1")
        stop(worker)
        while not (message := systemd.recv(1000)).startswith(b"STOPPING=1"):
            assert message.startswith(b"WATCHDOG=1")


def test_the_log_may_be_json(queue, start):
    worker = start("--log-json")
    lost = queue.enqueue("vanish")
    with pytest.raises(Exception, match="unexpectedly"):
        queue.result(lost, timeout=30)
    noted = queue.enqueue("warn")
    queue.result(noted, timeout=30)
    lines = [json.loads(line) for line in stop(worker).splitlines()]
    assert {"time", "level", "logger", "pid", "message"} == lines[0].keys()
    assert any(line["message"].startswith(f"Job {lost} (vanish): attempt 0 failed") for line in lines)
    (own,) = [line for line in lines if line["message"] == "from the job"]
    assert own["pid"] != worker.pid


def test_the_code_is_loaded_anew(tmp_path, queue, start):
    worker = start("--reload")
    assert queue.result(queue.enqueue("version"), timeout=30) == 1
    running = queue.enqueue("sleep", [2])
    eventually(lambda: any(queue.jobs(ids=[running], states=["active"])))
    (tmp_path / "app.py").write_text(APP.replace("return 1", "return broken("))
    log = ""
    while "cannot be imported: SyntaxError" not in log:
        log += (line := worker.stderr.readline())
        assert line, log
    assert "The code has changed" in log
    (tmp_path / "app.py").write_text(APP.replace("return 1", "return 22"))
    eventually(lambda: queue.result(queue.enqueue("version"), timeout=30) == 22)
    assert queue.result(running, timeout=30) is None, "what ran could end"
    stop(worker)


def test_a_terminal_has_one_line_of_status(tmp_path, queue):
    ours, theirs = os.openpty()
    command = [*MINION, "--app", "app", "worker"]
    worker = subprocess.Popen(command, cwd=tmp_path, stderr=theirs)
    os.close(theirs)
    queue.result(queue.enqueue("pid"), timeout=30)
    time.sleep(2.5)
    worker.terminate()
    assert worker.wait(30) == 0
    shown = os.read(ours, 65536).decode()
    os.close(ours)
    assert "\r\x1b[Kworker 1: " in shown
    assert re.search(r"0 running, \d waiting, 1 performed, 0 failed", shown)
    lines = [line.rpartition("\x1b[K")[2] for line in shown.splitlines()]
    assert [line for line in lines if line][-1].endswith("stopped after 1 jobs")


PLUGIN = """
from pathlib import Path
from minion_core import hookimpl

@hookimpl(wrapper=True)
def minion_perform(job):
    return [(yield), "wrapped"]

@hookimpl
def minion_started(job):
    raise RuntimeError("this plugin is broken")

@hookimpl
def minion_finished(job, result):
    Path("finished").write_text(f"{job.id} {result}")
"""


def test_a_plugin_is_loaded_by_name(tmp_path, queue, start):
    (tmp_path / "watcher.py").write_text(PLUGIN)
    worker = start("--plugin", "watcher")
    id = queue.enqueue("version")
    assert queue.result(id, timeout=30) == [1, "wrapped"]
    eventually((tmp_path / "finished").exists)
    assert (tmp_path / "finished").read_text() == f"{id} [1, 'wrapped']"
    assert "failed in minion_started" in stop(worker)
    missing = start("--plugin", "nowhere")
    _, log = missing.communicate(timeout=30)
    assert missing.returncode == 2
    assert log.splitlines()[-1].startswith("minion: the plugin 'nowhere' cannot be imported")


def test_limits_and_executors_on_the_command_line(queue, start):
    worker = start("-L", "sleep=2", "--executor", "thread", "--threads", "3", "-s", "0", "--grace", "10")
    status = only_worker(queue).status
    assert (status["limits"], status["executor"], status["spare"]) == ({"sleep": 2}, "thread", 0)
    assert status["executors"]["thread"]["jobs"] == 3
    stop(worker)
    wrong = start("-L", "sleep")
    assert "'sleep' is no limit of a task; say for instance resize=2" in wrong.communicate(timeout=30)[1]


def test_it_is_seen_by_the_other_commands(tmp_path, queue, start):
    worker = start()
    id = only_worker(queue).id
    command = [*MINION, "--app", "app", "job", "-w", "--json"]
    listed = json.loads(subprocess.run(command, cwd=tmp_path, capture_output=True, check=True).stdout)
    assert [(record["id"], record["pid"]) for record in listed["workers"]] == [(id, worker.pid)]
    stop(worker)
