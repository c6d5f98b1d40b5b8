"""Backends that declare what the reference does not, right ones and wrong ones.

In memory where one process will do; on SQLite where several processes must see the same store. A module of
its own, so that processes can import it by name.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from attrs import define, evolve, field

from minion_conformance.reference import ReferenceBackend, ReferenceHooks
from minion_core.errors import BackendUnavailable
from minion_core.records import (
    ClaimedJob,
    DequeueOptions,
    Enqueued,
    JobFilter,
    NewJob,
    Outcome,
    ScheduleFilter,
    Settled,
)
from minion_sqlite.backend import SqliteBackend

# ruff: noqa: ARG002, wrong backends are given what they do not look at

# -- The caller's own transaction ------------------------------------------------------------------------


@define
class Transaction:
    """What a caller enqueues before it commits."""

    pending: list[Any] = field(factory=list)

    @property
    def connection(self) -> Transaction:
        return self

    def commit(self) -> None:
        for apply in self.pending:
            apply()
        self.pending.clear()

    def rollback(self) -> None:
        self.pending.clear()


class TransactionalHooks(ReferenceHooks):
    @contextmanager
    def transaction(self, url: str) -> Iterator[Transaction]:
        yield Transaction()


class Transactional(ReferenceBackend):
    capabilities = evolve(ReferenceBackend.capabilities, transactional_enqueue=True)

    def enqueue(self, jobs: Sequence[NewJob], *, connection: Any = None) -> list[Enqueued]:
        if connection is None:
            return super().enqueue(jobs)
        made = super().enqueue(jobs)
        with self._held() as (store, _now):
            stored = {one.id: store.jobs.pop(one.id) for one in made}
            connection.pending.append(lambda: store.jobs.update(stored))
        return made


class CommitsAtOnce(Transactional):
    def enqueue(self, jobs: Sequence[NewJob], *, connection: Any = None) -> list[Enqueued]:
        return super().enqueue(jobs)


class NeverAppears(Transactional):
    def enqueue(self, jobs: Sequence[NewJob], *, connection: Any = None) -> list[Enqueued]:
        made = super().enqueue(jobs, connection=connection)
        if connection is not None:
            connection.pending.clear()
        return made


# -- Claims beside an uncommitted one --------------------------------------------------------------------


class HoldsClaims(ReferenceHooks):
    @contextmanager
    def hold_claim(self, url: str, options: DequeueOptions, worker: int) -> Iterator[list[int]]:
        with Concurrent(url) as other:
            yield [job.id for job in other.dequeue(worker, options)]


class HoldsEverything(HoldsClaims):
    @contextmanager
    def hold_claim(self, url: str, options: DequeueOptions, worker: int) -> Iterator[list[int]]:
        held, free = threading.Event(), threading.Event()
        with super().hold_claim(url, options, worker) as ids, Concurrent(url) as other:

            def hold() -> None:
                with other._held():
                    held.set()
                    free.wait(0.7)

            thread = threading.Thread(target=hold, daemon=True)
            thread.start()
            held.wait()
            try:
                yield ids
            finally:
                free.set()
                thread.join()


class Concurrent(ReferenceBackend):
    capabilities = evolve(ReferenceBackend.capabilities, concurrent_claims=True)


# -- A server between the store and its clients ----------------------------------------------------------

_away: set[str] = set()
_losing: set[int] = set()


class ServerHooks(ReferenceHooks):
    server = True

    @contextmanager
    def outage(self, url: str) -> Iterator[None]:
        _away.add(url)
        try:
            yield
        finally:
            _away.discard(url)

    @contextmanager
    def lose_answer(self, backend: Any) -> Iterator[None]:
        _losing.add(id(getattr(backend, "unrecorded", backend)))
        try:
            yield
        finally:
            _losing.clear()  # the next test's backend may get the same id


class Served(ReferenceBackend):
    @contextmanager
    def _held(self) -> Iterator[Any]:
        if self.url in _away:
            raise BackendUnavailable(f"{self.url} went away")
        with super()._held() as held:
            yield held

    def enqueue(self, jobs: Sequence[NewJob], *, connection: Any = None) -> list[Enqueued]:
        made = super().enqueue(jobs, connection=connection)
        if id(self) in _losing:
            raise BackendUnavailable("the answer was lost: the jobs may have been stored")
        return made


class RaisesTheDriversError(Served):
    def enqueue(self, jobs: Sequence[NewJob], *, connection: Any = None) -> list[Enqueued]:
        if self.url in _away:
            raise ConnectionResetError("went away")
        return super().enqueue(jobs, connection=connection)


class StaysAway(Served):
    def settle(self, outcomes: Sequence[Outcome]) -> list[Settled]:
        try:
            return super().settle(outcomes)
        except BackendUnavailable:
            self.close()
            raise


class SendsAgain(Served):
    def enqueue(self, jobs: Sequence[NewJob], *, connection: Any = None) -> list[Enqueued]:
        try:
            return super().enqueue(jobs, connection=connection)
        except BackendUnavailable:
            if id(self) in _losing:
                ReferenceBackend.enqueue(self, jobs)
            raise


class SettlesBlindly(Served):
    def settle(self, outcomes: Sequence[Outcome]) -> list[Settled]:
        settled = super().settle(outcomes)
        return super().settle(outcomes) if id(self) in _losing else settled


# -- Several processes: on SQLite ------------------------------------------------------------------------


class OverDeclaresItsClock(SqliteBackend):
    capabilities = evolve(SqliteBackend.capabilities, server_clock=True)


class HalfBatches(SqliteBackend):
    def enqueue(self, jobs: Sequence[NewJob], *, connection: Any = None) -> list[Enqueued]:
        return [made for job in jobs for made in super(HalfBatches, self).enqueue([job])]


class ForgetsToStore(SqliteBackend):
    """Answers before it stores."""

    def enqueue(self, jobs: Sequence[NewJob], *, connection: Any = None) -> list[Enqueued]:
        made = super().enqueue(jobs, connection=connection)
        if len(jobs) == 1 and jobs[0].args == [19]:
            self.remove_jobs([made[0].id])
        return made


class NoFence(SqliteBackend):
    def settle(self, outcomes: Sequence[Outcome]) -> list[Settled]:
        now = {
            job.id: job.retries
            for job in self.list_jobs(0, 1000, JobFilter(ids=[one.id for one in outcomes])).items
        }
        return super().settle([evolve(one, retries=now.get(one.id, one.retries)) for one in outcomes])


class ClaimsTwice(SqliteBackend):
    calls = 0

    def dequeue(self, worker_id: int, options: DequeueOptions) -> list[ClaimedJob]:
        claimed = super().dequeue(worker_id, options)
        self.calls += 1
        return claimed * 2 if claimed and self.calls % 5 == 0 else claimed


class LocksByLookingFirst(SqliteBackend):
    def lock(self, name: str, duration: float, limit: int = 1) -> str | None:
        if self.list_locks(0, limit, [name]).total >= limit:  # type: ignore[operator]
            return None
        time.sleep(0.03)
        return super().lock(name, duration, 1000)


class FiresByLookingFirst(SqliteBackend):
    def fire_schedule(self, id: int, due: Any, next_run: Any, job: NewJob) -> Enqueued | None:
        (known,) = self.list_schedules(0, 1, ScheduleFilter(ids=[id])).items
        if known.next_run != due:
            return None
        time.sleep(0.002)
        super().fire_schedule(id, due, next_run, job)
        return self.enqueue([job])[0]


class KeysByLookingFirst(SqliteBackend):
    def enqueue(self, jobs: Sequence[NewJob], *, connection: Any = None) -> list[Enqueued]:
        (job, *others) = jobs
        if others or job.uniqkey is None or not re.fullmatch(r"k\d+", job.uniqkey):
            return super().enqueue(jobs, connection=connection)
        everything = self.list_jobs(0, 1000, JobFilter(tasks=[job.task])).items
        held = [one.id for one in everything if one.notes.get("key") == job.uniqkey]
        if held:
            return [Enqueued(held[0], created=False)]
        time.sleep(0.002)
        return super().enqueue([evolve(job, uniqkey=None, notes={"key": job.uniqkey})])
