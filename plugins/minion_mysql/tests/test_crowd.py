"""Sixteen processes at once, in peace and while connections and servers die: nothing lost, nothing twice.

``MINION_CROWD_SECONDS`` says for how long; six seconds of it run with every ``make test``.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pymysql
import pytest

from minion_conformance.servers.mysql import MysqlServer
from minion_core.records import DequeueOptions, Failed, Finished, JobFilter, State
from minion_mysql import MysqlBackend

CROWD = Path(__file__).with_name("crowd.py")
SECONDS = float(os.environ.get("MINION_CROWD_SECONDS", "6"))
PROCESSES = 16
TASKS = ("red", "green", "blue")
QUEUES = ("default", "mail")


class Crowd:
    """The processes, and once they have ended, what they were told."""

    def __init__(self, processes: list[subprocess.Popen[bytes]]) -> None:
        self.processes = processes
        self.told: list[dict[str, Any]] = []

    def busy(self) -> bool:
        return any(process.poll() is None for process in self.processes)


@contextmanager
def crowd(url: str, *options: str) -> Iterator[Crowd]:
    """Start all of them; once the block is over, wait for them."""
    with ExitStack() as closing:
        folder = Path(closing.enter_context(TemporaryDirectory()))
        processes = []
        for seed in range(PROCESSES):
            process = subprocess.Popen(
                [sys.executable, str(CROWD), url, str(SECONDS), str(seed), *options],
                stdout=closing.enter_context((folder / f"{seed}.json").open("w")),
                stderr=closing.enter_context((folder / f"{seed}.log").open("w")),
            )
            closing.callback(process.wait)
            closing.callback(process.kill)
            processes.append(process)
        started = Crowd(processes)
        yield started
        for seed, process in enumerate(processes):
            process.wait(timeout=SECONDS + 120)
            assert process.returncode == 0, (folder / f"{seed}.log").read_text()[-3000:]
            started.told.append(json.loads((folder / f"{seed}.json").read_text()))


def drain(backend: MysqlBackend) -> set[int]:
    """Perform what is left, also what processes held that are gone; answer failed jobs that were removed.

    What waits for a failed parent would wait for ever.
    """
    removed: set[int] = set()
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        for lost in backend.repair(0, 172_800, 172_800).lost:
            backend.settle([Failed(lost.id, lost.retries, "Worker went away", retry_in=0)])
        worker = backend.register_worker(None, "drain", 1, {})
        while jobs := backend.dequeue(worker, DequeueOptions(TASKS, queues=QUEUES, limit=100)):
            backend.settle([Finished(job.id, job.retries) for job in jobs])
        live = backend.list_jobs(0, 1000, JobFilter(states=[State.INACTIVE, State.ACTIVE])).items
        for job in live:
            if job.state is State.ACTIVE:
                backend.settle([Failed(job.id, job.retries, "left over", retry_in=0)])
            elif job.parents:
                removed.update(backend.remove_jobs([id for id in job.parents if is_failed(backend, id)]))
        if not live:
            return removed
        time.sleep(0.05)
    raise AssertionError(live)


def is_failed(backend: MysqlBackend, id: int) -> bool:
    return any(job.state is State.FAILED for job in backend.list_jobs(0, 1, JobFilter(ids=[id])).items)


def judge(backend: MysqlBackend, told: list[dict[str, Any]]) -> Counter[str]:
    done: Counter[str] = Counter()
    for one in told:
        done.update(one["done"])
    enqueued = [id for one in told for id in one["enqueued"] + one["replacements"]]
    assert len(enqueued) == len(set(enqueued)), "an id was given out twice"
    claims = Counter(tuple(attempt) for one in told for attempt in one["claimed"])
    assert not [attempt for attempt, times in claims.items() if times > 1], "an attempt was claimed twice"
    ended = Counter((id, retries) for one in told for id, retries, _ in one["settled"])
    assert not [attempt for attempt, times in ended.items() if times > 1], "an attempt was settled twice"
    removed = drain(backend)
    stored: dict[int, State] = {}
    before = None
    while page := backend.list_jobs(0, 1000, JobFilter(before=before), total=False).items:
        stored |= {job.id: job.state for job in page}
        before = page[-1].id
    lost = set(enqueued) - set(stored)
    assert lost <= removed, "an acknowledged job is gone"
    finished = {id for one in told for id, _, how in one["settled"] if how in ("Finished", "Replaced")}
    # A finished job that was retried may have failed after all, and was removed then.
    retried = {id for one in told for id in one["retried"]}
    assert not finished & lost - retried, "a finished job is gone"
    assert set(stored.values()) <= {State.FINISHED, State.FAILED}
    done["jobs"], done["claims"], done["outcomes"] = len(enqueued), len(claims), len(ended)
    return done


def report(record: Callable[[str, object], None], done: Counter[str], server: MysqlServer) -> None:
    figures = dict(sorted(done.items()))
    record("crowd", figures)
    sys.stdout.write(f"{server.scheme}: {figures}\n")


def test_in_peace_no_deadlock_reaches_a_caller(server, url, backend, record_property):
    with crowd(url) as started:
        pass
    done = judge(backend, started.told)
    report(record_property, done, server)
    assert done["claims"] > PROCESSES


def test_every_connection_killed_again_and_again(server, url, backend, record_property):
    killed = 0
    with crowd(url, "--faults") as started, closing(server.connect()) as killer:
        while started.busy():
            time.sleep(1.5)
            killed += kill_connections(killer, url.rpartition("/")[2])
    done = judge(backend, started.told)
    done["killed"] = killed
    report(record_property, done, server)
    assert killed > PROCESSES


def kill_connections(killer: Any, database: str) -> int:
    killed = 0
    with killer.cursor() as cursor:
        cursor.execute("SELECT ID FROM information_schema.PROCESSLIST WHERE DB = %s", (database,))
        for (id,) in cursor.fetchall():
            # Some are gone by themselves in the meantime.
            with suppress(pymysql.err.OperationalError):
                cursor.execute(f"KILL CONNECTION {id}")
                killed += 1
    return killed


def test_the_server_killed_and_back_again_and_again(server, url, backend, record_property):
    if not server.ours:
        pytest.skip("a server that is not ours is not killed")
    times = 0
    with crowd(url, "--faults") as started:
        while started.busy():
            time.sleep(4)
            server.kill()
            time.sleep(0.3)
            server.resume()
            times += 1
    done = judge(backend, started.told)
    done["restarts"] = times
    report(record_property, done, server)
    assert times > 1
