"""Workers as real processes on every store: killed, stopped and continued, and their server killed."""

from __future__ import annotations

import os
import resource
import signal
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

import pytest

from minion_conformance.servers.mysql import MariaDB, MySQL
from minion_conformance.servers.postgresql import NewestPostgreSQL, PostgreSQL
from minion_conformance.servers.server import Missing, not_tested
from minion_core import BackendUnavailable, DequeueOptions, Finished, Minion, NewJob, State

SERVERS = (PostgreSQL, NewestPostgreSQL, MariaDB, MySQL)


def started(kind, start):
    try:
        return start()
    except Missing as error:
        not_tested(f"{kind.title}: {error}")


@pytest.fixture(params=["SQLite", *SERVERS], ids=lambda kind: kind if kind == "SQLite" else kind.title)
def url(request, tmp_path):
    if request.param == "SQLite":
        yield f"sqlite:///{tmp_path / 'jobs.db'}"
        return
    with started(request.param, request.param.shared).database() as made:
        yield made


def test_a_stopped_worker_cannot_settle_what_was_taken_from_it(minion, start_worker, tmp_path, eventually):
    """SAFE-02."""
    worker = start_worker(jobs=1, heartbeat_interval=60, command_interval=60)
    started = tmp_path / "started"
    id = minion.enqueue("sleep", [4, str(started)], attempts=2)
    eventually(started.exists)
    time.sleep(0.5)  # its first repair is over: stopped inside a transaction it would keep others out
    worker.send(signal.SIGSTOP)
    record = next(minion.jobs(ids=[id]))
    time.sleep(1)
    with Minion(minion.url, missing_after=0.5, backoff=lambda _failures: 0.0) as repairer:
        assert [lost.id for lost in repairer.repair().lost] == [id]
    (again,) = minion.backend.dequeue(
        minion.backend.register_worker(None, "here", 1, {}),
        DequeueOptions(("sleep",)),
    )
    worker.send(signal.SIGCONT)
    eventually(lambda: "was over before its outcome came" in worker.said())
    assert again.retries == record.retries + 1
    assert next(minion.jobs(ids=[id])).state == State.ACTIVE
    assert minion.backend.settle([Finished(id, again.retries, "mine")])[0].applied
    assert minion.result(id) == "mine"


def test_killed_ten_times_in_the_middle_of_a_thousand_jobs(minion, start_worker, tmp_path, drained):
    """SAFE-01: all end finished, none is settled twice, none is left behind."""
    journal = tmp_path / "journal"
    entries = minion.enqueue_many(
        [NewJob("journal", [str(journal), 0.002], attempts=15) for _ in range(1000)]
    )
    options = {"jobs": 4, "missing_after": 2, "heartbeat_interval": 0.3, "repair_interval": 0.5}
    for kill in range(10):
        worker = start_worker(**options)
        while minion.stats().finished_jobs < 80 * (kill + 1):
            time.sleep(0.005)
        worker.send(signal.SIGKILL)
        worker.wait()
        assert minion.stats().finished_jobs < 1000
    start_worker(**options)
    drained(60)

    records = {record.id: record for record in minion.jobs()}
    assert records.keys() == {entry.id for entry in entries}
    assert {record.state for record in records.values()} == {State.FINISHED}
    lost = 0
    for id, record in records.items():
        failures = [failure.retries for failure in minion.backend.failure_log(id)]
        assert Counter(failures).most_common(1)[0][1] == 1 if failures else True
        assert all(retries < record.retries for retries in failures)
        assert record.result == id
        lost += len(failures)
    assert lost >= 10
    attempts = Counter(journal.read_text().split("\n")[:-1])
    assert set(attempts.values()) == {1}, "an attempt was performed twice"
    assert minion.stats().active_jobs == 0


@pytest.mark.parametrize("kind", SERVERS, ids=lambda kind: kind.title)
def test_workers_outlive_their_server(kind, tmp_path, start_worker_on, eventually):
    journal = tmp_path / "journal"
    with started(kind, kind.start) as server, Minion(server.new_database()) as minion:
        entries = minion.enqueue_many([NewJob("journal", [str(journal), 0.01], attempts=15)] * 600)
        workers = [start_worker_on(minion.url) for _ in range(2)]
        eventually(lambda: minion.stats().finished_jobs > 100)
        server.kill()
        time.sleep(3)
        with pytest.raises(BackendUnavailable):
            minion.enqueue("add", [1])
        server.resume()
        later = eventually(lambda: enqueued(minion))
        eventually(lambda: minion.stats().finished_jobs == 601, 60)
        assert {record.id for record in minion.jobs()} == {later, *(entry.id for entry in entries)}
        attempts = Counter(journal.read_text().split("\n")[:-1])
        assert set(attempts.values()) == {1}, "an attempt was performed twice"
        for worker in workers:
            assert worker.stop() == 0
            assert "works again after" in worker.said()


def enqueued(minion):
    try:
        return minion.enqueue("add", [1])
    except BackendUnavailable:
        return None


def test_a_program_with_more_files_open_than_select_knows(url):
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(4096, before[1]), before[1]))
    with ExitStack() as stack:
        stack.callback(resource.setrlimit, resource.RLIMIT_NOFILE, before)
        for _ in range(1100):
            stack.enter_context(Path(os.devnull).open())
        queue = stack.enter_context(Minion(url))
        ids = [queue.enqueue("t") for _ in range(3)]
        began = time.monotonic()
        queue.backend.wait(0.3, DequeueOptions(("u",)))
        assert time.monotonic() - began > 0.2
        assert sorted(job.id for job in queue.jobs()) == ids
