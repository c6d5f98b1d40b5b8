"""One of many clients at once, as a process: ``crowd.py URL SECONDS SEED [--faults]``.

Does everything that clients do, in random order, and prints what it was told, as JSON, for the test to
judge: the jobs that were acknowledged, the attempts that it claimed, how each was settled, and what was
retried.
"""

from __future__ import annotations

import json
import random
import sys
import time
from collections import Counter
from typing import Any

from minion_core.errors import BackendUnavailable
from minion_core.records import (
    Declined,
    DequeueOptions,
    Failed,
    Finished,
    NewJob,
    Outcome,
    Released,
    Replaced,
    RetryOptions,
)
from minion_mysql import MysqlBackend

TASKS = ("red", "green", "blue")
QUEUES = ("default", "mail")


class Client:
    def __init__(self, url: str, seed: int, *, faults: bool) -> None:
        self.backend = MysqlBackend(url)
        self.random = random.Random(seed)
        self.faults = faults
        self.worker = 0
        self.enqueued: list[int] = []
        self.claimed: list[tuple[int, int]] = []
        self.settled: list[tuple[int, int, str]] = []
        self.replacements: list[int] = []
        self.retried: list[int] = []
        self.done: Counter[str] = Counter()

    def run(self, seconds: float) -> None:
        ends = time.monotonic() + seconds
        steps = (
            self.enqueue,
            self.enqueue,
            self.work,
            self.work,
            self.work,
            self.note,
            self.retry,
            self.lock,
        )
        while time.monotonic() < ends:
            step = self.random.choice(steps)
            try:
                if not self.worker:
                    self.backend.open()
                    self.worker = self.backend.register_worker(None, "crowd", 1, {})
                step()
                self.done[step.__name__] += 1
            except BackendUnavailable:
                if not self.faults:
                    raise
                self.done["unavailable"] += 1
                time.sleep(self.random.uniform(0, 0.1))

    def job(self) -> NewJob:
        chosen = self.random
        mine = self.enqueued[-20:]
        return NewJob(
            chosen.choice(TASKS),
            [chosen.random()],
            queue=chosen.choice(QUEUES),
            priority=chosen.choice((0, 0, 0, 1, 5)),
            attempts=chosen.choice((1, 2, 5)),
            delay=chosen.choice((0, 0, 0, 0.05)),
            lease=chosen.choice((None, None, None, 30)),
            uniqkey=chosen.choice((None, None, None, f"key {chosen.randrange(50)}")),
            parents=tuple(chosen.sample(mine, min(len(mine), 2))) if chosen.random() < 0.3 else (),
            lax=chosen.random() < 0.5,
        )

    def enqueue(self) -> None:
        jobs = [self.job() for _ in range(self.random.choice((1, 1, 3, 20)))]
        self.enqueued += [answer.id for answer in self.backend.enqueue(jobs) if answer.created]

    def work(self) -> None:
        options = DequeueOptions(TASKS, queues=QUEUES, limit=self.random.choice((1, 1, 5, 20)))
        jobs = self.backend.dequeue(self.worker, options)
        self.claimed += [(job.id, job.retries) for job in jobs]
        for job in jobs:
            if job.lease and self.random.random() < 0.2:
                self.backend.extend_lease(job.id, job.retries, 30)
        self.settle([self.outcome(job.id, job.retries) for job in jobs])

    def settle(self, outcomes: list[Outcome]) -> None:
        """A worker goes on trying until it is told."""
        while outcomes:
            try:
                for outcome, settled in zip(outcomes, self.backend.settle(outcomes), strict=True):
                    if settled.applied:
                        self.settled.append((outcome.id, outcome.retries, type(outcome).__name__))
                        self.replacements += [job.id for job in settled.jobs if job.created]
            except BackendUnavailable:
                if not self.faults:
                    raise
                self.done["unavailable"] += 1
                time.sleep(0.05)
            else:
                return

    def outcome(self, id: int, retries: int) -> Outcome:
        match self.random.randrange(12):
            case 0:
                return Failed(id, retries, "failed", retry_in=self.random.choice((None, 0, 0.05)))
            case 1:
                return Declined(id, retries, 0.02)
            case 2:
                return Released(id, retries)
            case 3 if retries < 3:
                return Replaced(id, retries, jobs=(self.job(),))
            case _:
                return Finished(id, retries, {"by": self.worker, "n": self.random.randrange(3)})

    def note(self) -> None:
        if self.enqueued:
            self.backend.note(self.random.choice(self.enqueued[-50:]), {f"k{self.worker}": self.done["note"]})

    def retry(self) -> None:
        if self.enqueued and self.random.random() < 0.2:
            id = self.random.choice(self.enqueued[-50:])
            self.retried.append(id)  # perhaps: what became of it may be unknown
            self.backend.retry_job(id, 0, RetryOptions(priority=self.random.randrange(3)))

    def lock(self) -> None:
        name = f"lock {self.random.randrange(3)}"
        token = self.backend.lock(name, 30, 2)
        if token is not None:
            self.backend.unlock(name, token)
        if self.random.random() < 0.02:
            self.backend.repair(1800, 172_800, 172_800)


def main() -> None:
    url, seconds, seed = sys.argv[1], float(sys.argv[2]), int(sys.argv[3])
    client = Client(url, seed, faults="--faults" in sys.argv)
    client.run(seconds)
    told: dict[str, Any] = {
        "enqueued": client.enqueued,
        "replacements": client.replacements,
        "claimed": client.claimed,
        "settled": client.settled,
        "retried": client.retried,
        "done": client.done,
    }
    json.dump(told, sys.stdout)


if __name__ == "__main__":
    main()
