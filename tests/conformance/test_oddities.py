"""What the contract leaves free is free: an odd backend passes."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
from attrs import evolve, frozen

from minion_conformance.check import all_checks
from minion_conformance.reference import ReferenceBackend, ReferenceHooks
from minion_conformance.report import PASS, describe_session, make_report, result_entry, verify
from minion_conformance.session import Session, Target
from minion_core.records import (
    ClaimedJob,
    DequeueOptions,
    Enqueued,
    JobFilter,
    JobRecord,
    NewJob,
    Page,
    Repaired,
)

MODEL = "MODEL-01"


@frozen
class OddRecord(JobRecord):
    """A listed job that tells more than it must."""

    colour: str = "blue"


@frozen
class OddClaim(ClaimedJob):
    colour: str = "blue"


class LeapingIds(ReferenceBackend):
    """Ids leap, records tell more, free orders are others, and any dequeue ends any lease."""

    def enqueue(self, jobs: Sequence[NewJob], *, connection: Any = None) -> list[Enqueued]:
        with self._held() as (store, _now):
            store.last_job += 7
            return super().enqueue(jobs, connection=connection)

    def dequeue(self, worker_id: int, options: DequeueOptions) -> list[ClaimedJob]:
        with self._held() as (store, now):
            for job in store.leases_ended(now):
                store.end_lease(job, now)
            claims = super().dequeue(worker_id, options)
        return [OddClaim(**{name: getattr(one, name) for name in _names(ClaimedJob)}) for one in claims]

    def list_jobs(
        self, offset: int, limit: int, options: JobFilter, *, total: bool = True
    ) -> Page[JobRecord]:
        page = super().list_jobs(offset, limit, options, total=total)
        odd = [OddRecord(**{name: getattr(one, name) for name in _names(JobRecord)}) for one in page.items]
        return Page([evolve(one, children=one.children[::-1]) for one in odd], page.total)

    def remove_jobs(self, ids: Sequence[int]) -> list[int]:
        return super().remove_jobs(ids)[::-1]

    def repair(self, missing_after: float, remove_after: float, stuck_after: float) -> Repaired:
        found = super().repair(missing_after, remove_after, stuck_after)
        return evolve(found, lost=found.lost[::-1])


def _names(record: type) -> list[str]:
    return [known.name for known in record.__attrs_attrs__]  # type: ignore[attr-defined]


class Slow(ReferenceBackend):
    """Every call takes its time."""

    @contextmanager
    def _held(self) -> Iterator[Any]:
        time.sleep(0.002)
        with super()._held() as held:
            yield held


@pytest.mark.parametrize("backend", [LeapingIds, Slow])
def test_an_odd_backend_passes(backend: type[ReferenceBackend]) -> None:
    target = Target(f"reference:{backend.__name__}", backend, ReferenceHooks())
    checks = all_checks().values()
    with Session(target, quick=True) as session:
        head = describe_session(session)
        results = {check.id: result_entry(session.run(check)) for check in checks if check.clause != MODEL}
    # At its full length: a short walk may miss a transition, which is a failure of its own.
    with Session(target) as session:
        results |= {check.id: result_entry(session.run(check)) for check in checks if check.clause == MODEL}
    report = make_report(head, results)
    assert (report["verdict"], report["reasons"]) == (PASS, [])
    assert verify(report) == []
