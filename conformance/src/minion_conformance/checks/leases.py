"""LEASE: claims that end by themselves."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from minion_conformance.check import check
from minion_conformance.clock import START
from minion_core.records import DequeueOptions, Failed, Finished, NewJob, Released, RetryOptions, State

if TYPE_CHECKING:
    from minion_conformance.rig import Rig

NEVER = 10.0**8
"""A length of time that nothing here reaches."""


def _repair(rig: Rig) -> int:
    return rig.backend.repair(NEVER, NEVER, NEVER).leases


@check("LEASE-01")
def from_the_claim_on(rig: Rig) -> None:
    id = rig.enqueue(lease=90.5)
    rig.equal("an inactive job is held by nobody", rig.job(id).grabbed_until, None)
    rig.clock.advance(10)
    claim = rig.claim_one(id)
    rig.near("the lease ends at claim time + lease", claim.grabbed_until, START + timedelta(seconds=100.5))
    rig.near(
        "a listing shows the end of the lease", rig.job(id).grabbed_until, START + timedelta(seconds=100.5)
    )


@check("LEASE-01")
def extended(rig: Rig) -> None:
    claim = rig.active(lease=10)
    rig.clock.advance(5)
    rig.equal("an attempt's lease is extended", rig.backend.extend_lease(claim.id, 0, 60), True)
    rig.near("it ends at now + seconds", rig.job(claim.id).grabbed_until, START + timedelta(seconds=65))
    rig.clock.advance(60 - rig.resolution)
    rig.equal("an extended lease holds", (rig.claimed(), _repair(rig)), ([], 0))
    rig.equal("a lease can be made shorter", rig.backend.extend_lease(claim.id, 0, rig.resolution), True)
    rig.clock.advance(rig.resolution)
    rig.equal("a lease that was made shorter ends", rig.claimed(), [claim.id])


@check("LEASE-01")
def extended_only_within_the_fence(rig: Rig) -> None:
    claim = rig.active(lease=10)
    waiting = rig.enqueue(lease=10, delay=60)
    rig.equal("not with other retries", rig.backend.extend_lease(claim.id, 1, 60), False)
    rig.equal("not for an inactive job", rig.backend.extend_lease(waiting, 0, 60), False)
    rig.equal("not for an unknown job", rig.backend.extend_lease(10**9, 0, 60), False)
    rig.near("a refused extension changes nothing", rig.job(claim.id).grabbed_until, rig.clock.after(10))
    rig.equal("a refused extension changes nothing", rig.job(waiting).grabbed_until, None)
    rig.end(Finished(claim.id, 0))
    rig.equal("a job that has ended is held by no lease", rig.job(claim.id).grabbed_until, None)
    rig.equal("not for a finished job", rig.backend.extend_lease(claim.id, 0, 60), False)


@check("LEASE-01")
def a_new_lease_for_each_claim(rig: Rig) -> None:
    claim = rig.active(lease=10)
    rig.backend.extend_lease(claim.id, 0, 500)
    rig.end(Released(claim.id, 0))
    rig.clock.advance(3)
    again = rig.claim_one(claim.id)
    rig.near("each claim has a lease of its own", again.grabbed_until, rig.clock.after(10))


@check("LEASE-02")
def ended_at_a_dequeue(rig: Rig) -> None:
    claim = rig.active(lease=10, attempts=1)
    rig.clock.advance(10 - rig.resolution)
    rig.equal("a lease holds until its end", rig.claimed(), [])
    rig.clock.advance(rig.resolution)
    other = rig.backend.register_worker(None, "host", 2, {})
    again = rig.claim_one(claim.id, worker=other)
    rig.equal("a job whose lease ended is claimed by another", rig.job(claim.id).worker, other)
    rig.equal("an end costs a retry and no attempt", (again.retries, again.attempts), (1, 1))
    (failure,) = rig.backend.failure_log(claim.id)
    rig.equal("an end is recorded", failure.message, "Lease ended")
    rig.equal(
        "an end is recorded with worker and retries", (failure.worker, failure.retries), (rig.worker, 0)
    )
    rig.equal("a claim after an end carries the failure", again.failures, 1)
    rig.equal("the old holder cannot settle", rig.settle(Finished(claim.id, 0)), [False])


@check("LEASE-02")
def ended_at_a_repair(rig: Rig) -> None:
    claim = rig.active(lease=10)
    rig.clock.advance(10 - rig.resolution)
    rig.equal("repair leaves a lease that holds", (_repair(rig), rig.job(claim.id).state), (0, "active"))
    rig.clock.advance(rig.resolution)
    rig.equal("repair ends a lease", _repair(rig), 1)
    job = rig.job(claim.id)
    rig.equal("what repair took back is inactive", (job.state, job.retries), (State.INACTIVE, 1))
    rig.equal("what repair took back is cleared", (job.worker, job.grabbed_until), (None, None))
    log = [failure.message for failure in rig.backend.failure_log(claim.id)]
    rig.equal("an end is recorded", log, ["Lease ended"])
    rig.equal("an end is an end once", _repair(rig), 0)
    rig.equal("what repair took back is claimable", rig.claimed(), [claim.id])


@check("LEASE-02")
def only_of_jobs_that_match(rig: Rig) -> None:
    claims = {
        "other task": rig.active("other", lease=10, priority=5, coalesce="c"),
        "other queue": rig.active(queue="other", lease=10, priority=5, coalesce="c"),
        "priority": rig.active(lease=10, priority=1, coalesce="c"),
        "coalesce": rig.active(lease=10, priority=5, coalesce="d"),
    }
    wanted = rig.active(lease=10, priority=5, coalesce="c")
    rig.clock.advance(10)
    rig.equal(
        "a dequeue claims the job it matches whose lease ended",
        rig.claimed(min_priority=5, coalesce="c"),
        [wanted.id],
    )
    for told, claim in claims.items():
        queue = "other" if told == "other queue" else "default"
        task = "other" if told == "other task" else "t"
        rig.equal(
            f"a job whose lease ended, filtered out by {told}, is not lost",
            rig.claimed(queues=(queue,), tasks=(task,), id=claim.id),
            [claim.id],
        )


@check("LEASE-02")
def failed_at_the_fifth(rig: Rig) -> None:
    for by_repair in (False, True):
        id = rig.enqueue(lease=10, attempts=1)
        for ends in range(5):
            rig.claim_one(id)
            rig.clock.advance(10)
            if by_repair or ends == 4:
                _repair(rig)
        job = rig.job(id)
        rig.equal("at the fifth end of a lease the job is failed", job.state, State.FAILED)
        log = [failure.message for failure in rig.backend.failure_log(id)]
        rig.equal("every end is recorded", log, ["Lease ended"] * 5)
        rig.near("a job that failed so ended now", job.finished, rig.clock())
        rig.true("a job that failed so has an exit status", job.exit_status, f"it is {job.exit_status}")


@check("LEASE-02")
def failed_at_the_fifth_by_a_dequeue(rig: Rig) -> None:
    child = None
    id = rig.enqueue(lease=10)
    child = rig.enqueue("child", parents=(id,), lax=True)
    for _ in range(5):
        rig.claim_one(id)
        rig.clock.advance(10)
    rig.equal("at the fifth end of a lease a dequeue does not claim the job", rig.claimed(), [])
    rig.equal("at the fifth end of a lease a dequeue fails the job", rig.job(id).state, State.FAILED)
    rig.equal("its lax child is claimable", rig.claimed(tasks=("child",)), [child])


@check("LEASE-02")
def other_failures_do_not_count(rig: Rig) -> None:
    id = rig.enqueue(lease=10, attempts=20)
    for retries in range(6):
        rig.claim_one(id)
        rig.end(Failed(id, retries, message="x", retry_in=0))
    rig.claim_one(id)
    rig.clock.advance(10)
    rig.equal("failures that are no ends of leases do not count as such", rig.claimed(), [id])


@check("LEASE-02")
def order_among_the_returned(rig: Rig) -> None:
    low = rig.active(lease=10, priority=1)
    high = rig.enqueue(priority=5, delay=10)
    middle = rig.enqueue(priority=3, delay=10)
    rig.clock.advance(10)
    rig.equal("a returned job takes its place by priority", rig.claimed(2), [high, middle])
    rig.equal("a returned job takes its place by priority", rig.claimed(2), [low.id])


@check("LEASE-02")
def ended_once_in_threads(rig: Rig) -> None:
    clients = [rig.backend, rig.client(), rig.client()]
    for _ in range(rig.rounds(8)):
        claim = rig.active(lease=10)
        rig.clock.advance(10)
        calls: list[Callable[[], Any]] = [lambda: clients[2].repair(NEVER, NEVER, NEVER)]
        calls += [lambda c=c: c.dequeue(1, DequeueOptions(tasks=("t",))) for c in clients[:2]]  # type: ignore[misc]
        got = [job.retries for share in rig.together(calls)[1:] for job in share]
        if not got:
            got = [rig.claim_one(claim.id).retries]
        rig.equal("a lease ends once, whoever sees it first", got, [1])
        log = rig.backend.failure_log(claim.id)
        rig.equal("an end is recorded once", [failure.message for failure in log], ["Lease ended"])
        rig.end(Finished(claim.id, 1))


@check("LEASE-03")
def without_a_lease(rig: Rig) -> None:
    claim = rig.active()
    rig.clock.advance(10.0**7)
    rig.backend.register_worker(rig.worker, "host", 1, {})
    found = rig.backend.repair(60, NEVER, NEVER)
    rig.equal("a job with no lease is held as long as its worker lives", (found.lost, found.leases), ([], 0))
    rig.equal("a job with no lease is not claimed again", rig.claimed(), [])
    rig.equal("a job with no lease can be settled late", rig.settle(Finished(claim.id, 0)), [True])


@check("LEASE-03")
def with_a_lease(rig: Rig) -> None:
    leased, plain = rig.active(lease=1000), rig.active()
    rig.backend.unregister_worker(rig.worker)
    found = rig.backend.repair(60, NEVER, NEVER)
    rig.equal("a job with a lease is not lost with its worker", [lost.id for lost in found.lost], [plain.id])
    rig.equal("a job with a lease is held by it alone", rig.job(leased.id).state, State.ACTIVE)
    rig.equal("it can be settled when its worker is gone", rig.settle(Finished(leased.id, 0)), [True])


@check("LEASE-01")
def given_to_an_attempt_without(rig: Rig) -> None:
    claim = rig.active()
    rig.equal("an attempt that had no lease gets one", rig.backend.extend_lease(claim.id, 0, 60), True)
    rig.near("an attempt that had no lease gets one", rig.job(claim.id).grabbed_until, rig.clock.after(60))
    rig.backend.unregister_worker(rig.worker)
    rig.equal("from then on it is held by its lease", rig.backend.repair(60, NEVER, NEVER).lost, [])
    rig.clock.advance(60)
    rig.equal("its lease ends", rig.claimed(), [claim.id])
    rig.equal("its next attempt has none", rig.job(claim.id).grabbed_until, None)


@check("LEASE-03")
def after_a_retry(rig: Rig) -> None:
    claim = rig.active(lease=10)
    rig.backend.retry_job(claim.id, 0, RetryOptions())
    rig.clock.advance(20)
    rig.equal("a lease is over when its job is retried", _repair(rig), 0)
    rig.equal("nothing is recorded for it", rig.backend.failure_log(claim.id), [])
    again = rig.claim_one(claim.id)
    rig.near("a retried job keeps its lease's length", again.grabbed_until, rig.clock.after(10))


@check("LEASE-02")
def many_at_once(rig: Rig) -> None:
    ids = [made.id for made in rig.backend.enqueue([NewJob("t", lease=10) for _ in range(150)])]
    rig.equal("all are claimed", len(rig.claimed(200)), 150)
    rig.clock.advance(10)
    got: list[int] = []
    while more := rig.claimed(200):
        got += more
    rig.equal("when many leases end, all their jobs are claimable", got, ids)
