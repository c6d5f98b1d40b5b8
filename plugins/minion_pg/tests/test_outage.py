"""The server goes away under load: nothing acknowledged is lost, and workers carry on by themselves."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from minion_conformance.servers.postgresql import PostgreSQL
from minion_core.errors import BackendUnavailable
from minion_core.records import DequeueOptions, Finished, JobFilter, NewJob, WorkerFilter
from minion_pg import PgBackend

HERE = Path(__file__).parent
PRODUCERS = 3

WORKER = "from minion_core.cli import main; main()"

CUT = """SELECT PG_TERMINATE_BACKEND(pid) FROM pg_stat_activity
    WHERE pid <> PG_BACKEND_PID() AND datname = CURRENT_DATABASE()"""


@contextmanager
def load(url: str) -> Iterator[tuple[list[int], list[str]]]:
    """Enqueue from several threads through one client each, and two workers that perform."""
    acknowledged: list[int] = []
    refused: list[str] = []
    stop = threading.Event()

    def produce() -> None:
        with PgBackend(url) as backend:
            while not stop.is_set():
                try:
                    made = backend.enqueue([NewJob("nap", [0.001], attempts=50)] * 2)
                    acknowledged.extend(one.id for one in made)
                except BackendUnavailable as error:
                    refused.append(str(error))
                    time.sleep(0.1)
                time.sleep(0.01)

    workers = [
        subprocess.Popen(
            [sys.executable, "-c", WORKER, "--app", "outage_app:minion", "worker", "-j", "2"],
            cwd=HERE,
            env=os.environ | {"MINION_URL": url},
        )
        for _ in range(2)
    ]
    threads = [threading.Thread(target=produce) for _ in range(PRODUCERS)]
    for thread in threads:
        thread.start()
    try:
        wait_until(lambda: registered(url) == len(workers), 60)
        yield acknowledged, refused
        stop.set()
        for thread in threads:
            thread.join()
        wait_until(lambda: all_done(url), 60)
        assert all(worker.poll() is None for worker in workers), "no worker has given up"
    finally:
        stop.set()
        for worker in workers:
            worker.terminate()
        for worker in workers:
            worker.wait(30)


def registered(url: str) -> int | None:
    with PgBackend(url) as backend:
        return backend.list_workers(0, 1, WorkerFilter()).total


def all_done(url: str) -> bool:
    with PgBackend(url) as backend:
        return backend.list_jobs(0, 1, JobFilter(states=["inactive", "active"])).total == 0


def wait_until(true: Callable[[], bool], patience: float) -> None:
    deadline = time.monotonic() + patience
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def finished(url: str) -> set[int]:
    with PgBackend(url) as backend:
        found = backend.list_jobs(0, 1_000_000, JobFilter(states=["finished"]))
        return {job.id for job in found.items}


def test_the_server_is_killed_and_away_for_ten_seconds() -> None:
    with PostgreSQL.start("-c", "log_min_messages=fatal") as server:
        url = server.new_database()
        with PgBackend(url) as backend:
            with load(url) as (acknowledged, refused):
                time.sleep(4)
                assert acknowledged
                server.kill()
                with pytest.raises(BackendUnavailable):
                    backend.enqueue([NewJob("nap", [0])])
                time.sleep(10)
                before = len(acknowledged)
                server.resume()
                wait_until(lambda: len(acknowledged) > before + 50, 30)
            assert refused
            assert set(acknowledged) <= finished(url)
            assert backend.enqueue([NewJob("other")])[0].created, "the same client goes on"


def test_every_connection_is_terminated_again_and_again(url: str, sql: Callable[..., list[Any]]) -> None:
    with PgBackend(url), load(url) as (acknowledged, _):
        for _ in range(8):
            time.sleep(1)
            sql(CUT)
        before = len(acknowledged)
        wait_until(lambda: len(acknowledged) > before + 50, 30)
    assert set(acknowledged) <= finished(url)


def test_an_idle_client_does_not_feel_that_its_connections_were_cut(
    url: str, sql: Callable[..., list[Any]]
) -> None:
    with PgBackend(url) as backend:
        for _ in range(5):
            id = backend.enqueue([NewJob("t")])[0].id
            (job,) = backend.dequeue(1, DequeueOptions(("t",)))
            sql(CUT)
            time.sleep(0.05)
            assert backend.settle([Finished(job.id, job.retries)])[0].applied
            assert job.id == id


def test_waiting_outlives_the_connection_that_listens(url: str, sql: Callable[..., list[Any]]) -> None:
    with PgBackend(url) as backend, PgBackend(url) as other:
        backend.poll_interval = 30
        backend.wait(0.1, DequeueOptions(("t",)))
        sql(CUT)
        time.sleep(1.5)
        timer = threading.Timer(0.3, lambda: other.enqueue([NewJob("t")]))
        timer.start()
        began = time.monotonic()
        backend.wait(20, DequeueOptions(("t",)))
        timer.join()
        assert time.monotonic() - began < 5
