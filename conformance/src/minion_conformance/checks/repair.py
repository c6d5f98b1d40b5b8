"""REP: what repair finds and changes, and JOB-06, for how long jobs are kept."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from minion_conformance.check import check
from minion_conformance.clock import START
from minion_core.records import (
    Failed,
    Finished,
    JobFilter,
    NewJob,
    Released,
    Repaired,
    RetryOptions,
    State,
    WorkerFilter,
)

if TYPE_CHECKING:
    from minion_conformance.rig import Rig

NEVER = 10.0**8
"""A length of time that nothing here reaches."""


def _repair(
    rig: Rig, missing_after: float = NEVER, remove_after: float = NEVER, stuck_after: float = NEVER
) -> Repaired:
    return rig.backend.repair(missing_after, remove_after, stuck_after)


def _exists(rig: Rig, *ids: int) -> list[bool]:
    listed = {job.id for job in rig.listed()}
    return [id in listed for id in ids]


@check("REP-01")
def missing_workers(rig: Rig) -> None:
    old = rig.backend.register_worker(None, "host", 1, {})
    rig.clock.advance(1)
    beating = rig.backend.register_worker(None, "host", 2, {})
    rig.clock.advance(1799 - rig.resolution)
    rig.equal("a worker heard of within missing_after stays", _repair(rig, 1800).workers, 0)
    rig.clock.advance(rig.resolution)
    rig.equal("a worker not heard of for missing_after is unregistered", _repair(rig, 1800).workers, 1)
    left = [worker.id for worker in rig.backend.list_workers(0, 9, WorkerFilter()).items]
    rig.equal("only that one is", left, [beating])
    rig.equal("its inbox is gone", rig.backend.receive(old), [])
    rig.backend.register_worker(beating, "host", 2, {})
    rig.clock.advance(1)
    rig.equal("a heartbeat is being heard of", _repair(rig, 1800).workers, 0)


@check("REP-02")
def finished_long_ago(rig: Rig) -> None:
    done, failed, waiting, active = rig.active(), rig.active(), rig.enqueue(delay=5), rig.active()
    rig.end(Finished(done.id, 0))
    rig.end(Failed(failed.id, 0, message="x"))
    rig.clock.advance(100 - rig.resolution)
    rig.equal("a finished job stays for remove_after", _repair(rig, remove_after=100).removed, 0)
    rig.clock.advance(rig.resolution)
    rig.equal("a finished job older than that is removed", _repair(rig, remove_after=100).removed, 1)
    left = _exists(rig, done.id, failed.id, waiting, active.id)
    rig.equal("failed, waiting and active jobs stay", left, [False, True, True, True])
    rig.equal("what is removed has no failure log", rig.backend.failure_log(done.id), [])


@check("REP-02")
def counted_from_its_end(rig: Rig) -> None:
    claim = rig.active()
    rig.clock.advance(1000)
    rig.end(Finished(claim.id, 0))
    rig.clock.advance(99)
    rig.equal("remove_after counts from the end of the job", _repair(rig, remove_after=100).removed, 0)


@check("REP-02")
def parents_stay(rig: Rig) -> None:
    made: dict[str, tuple[int, int]] = {}
    for told in ("inactive", "active", "failed", "finished"):
        parent = rig.active("parent")
        child = rig.enqueue(parents=(parent.id,))
        rig.end(Finished(parent.id, 0))
        made[told] = (parent.id, child)
        if told != "inactive":
            rig.claim_one(child)
        if told == "failed":
            rig.end(Failed(child, 0, message="x"))
        if told == "finished":
            rig.end(Finished(child, 0))
        else:
            rig.backend.note(child, {"n": 1})
    rig.clock.advance(50)
    for parent_id, _ in made.values():
        rig.equal("parents are there", _exists(rig, parent_id), [True])
    rig.clock.advance(50)
    _repair(rig, remove_after=100)
    for told, (parent_id, _) in made.items():
        rig.equal(f"a finished parent of a job that is {told}", _exists(rig, parent_id), [told != "finished"])


@check("REP-02")
def own_time(rig: Rig) -> None:
    short, long = rig.active(keep_for=10), rig.active(keep_for=1000)
    failed, zero = rig.active(keep_for=10), rig.active(keep_for=0)
    for claim in (short, long, zero):
        rig.end(Finished(claim.id, 0))
    rig.end(Failed(failed.id, 0, message="x"))
    ids = (short.id, long.id, failed.id, zero.id)
    rig.clock.advance(10 - rig.resolution)
    _repair(rig, remove_after=100)
    rig.equal("terminal jobs stay for their own keep_for", _exists(rig, *ids), [True, True, True, False])
    rig.clock.advance(rig.resolution)
    _repair(rig, remove_after=100)
    rig.equal("past their own keep_for they are removed", _exists(rig, *ids), [False, True, False, False])
    rig.equal("a failed job's log goes with it", rig.backend.failure_log(failed.id), [])
    rig.clock.advance(200)
    _repair(rig, remove_after=100)
    rig.equal("keep_for comes before remove_after", _exists(rig, long.id), [True])
    rig.clock.advance(1000)
    _repair(rig, remove_after=10**7)
    rig.equal("keep_for comes before remove_after", _exists(rig, long.id), [False])


@check("REP-02")
def own_time_of_parents(rig: Rig) -> None:
    parent = rig.active("parent", keep_for=10)
    child = rig.enqueue(parents=(parent.id,))
    rig.end(Failed(parent.id, 0, message="x"))
    rig.clock.advance(20)
    _repair(rig)
    rig.equal("a parent of what is not finished stays", _exists(rig, parent.id, child), [True, True])
    rig.backend.remove_jobs([child])
    _repair(rig)
    rig.equal("a parent of nobody is removed", _exists(rig, parent.id), [False])


@check("JOB-06")
def kept_for(rig: Rig) -> None:
    done, failed = rig.active(keep_for=60), rig.active(keep_for=60)
    plain, broken = rig.active(), rig.active()
    waiting = rig.enqueue(keep_for=60, delay=10**6)
    rig.end(Finished(done.id, 0))
    rig.end(Finished(plain.id, 0))
    for claim in (failed, broken):
        rig.end(Failed(claim.id, 0, message="x"))
    ids = (done.id, failed.id, plain.id, broken.id, waiting)
    rig.clock.advance(60)
    _repair(rig, remove_after=120)
    rig.equal(
        "keep_for is for finished and failed jobs", _exists(rig, *ids), [False, False, True, True, True]
    )
    rig.clock.advance(60)
    _repair(rig, remove_after=120)
    rig.equal("without it a finished job stays for remove_after", _exists(rig, plain.id), [False])
    rig.equal("without it a failed job stays until it is removed", _exists(rig, broken.id), [True])
    rig.equal("a waiting job is kept", _exists(rig, waiting), [True])


@check("JOB-06")
def counted_anew_after_a_retry(rig: Rig) -> None:
    claim = rig.active(keep_for=60)
    rig.end(Finished(claim.id, 0))
    rig.backend.retry_job(claim.id, 0, RetryOptions())
    rig.clock.advance(100)
    _repair(rig)
    rig.equal("a job that was retried is kept", _exists(rig, claim.id), [True])
    rig.end(Finished(rig.claim_one(claim.id).id, 1))
    rig.clock.advance(59)
    _repair(rig)
    rig.equal("keep_for counts from the last end", _exists(rig, claim.id), [True])


@check("REP-03")
def expired(rig: Rig) -> None:
    waiting, running, other = rig.enqueue(expire=10), rig.active("running", expire=10), rig.enqueue()
    rig.clock.advance(10 - rig.resolution)
    rig.equal("a job that has not expired stays", _repair(rig).expired, 0)
    rig.clock.advance(rig.resolution)
    rig.equal("an expired inactive job is removed", _repair(rig).expired, 1)
    rig.equal("others stay", [job.id for job in rig.listed()], [other, running.id])
    answer = rig.backend.retry_job(waiting, 0, RetryOptions(expire=10))
    rig.equal("what was removed is gone", answer, False)
    rig.equal("an active job does not expire", rig.settle(Finished(running.id, 0)), [True])


@check("REP-04")
def lost_attempts(rig: Rig) -> None:
    worker = rig.backend.register_worker(None, "host", 1, {})
    rig.enqueue(attempts=3)
    claim = rig.claim_one(worker=worker)
    rig.backend.add_failure(claim.id, "x")
    rig.clock.advance(100)
    here = rig.active("here")
    found = _repair(rig, 100)
    rig.equal("the missing worker is unregistered", found.workers, 1)
    rig.equal(
        "the attempts of workers that are gone are answered", [lost.id for lost in found.lost], [claim.id]
    )
    (lost,) = found.lost
    got: Any = (lost.retries, lost.task, lost.attempts, lost.failures, lost.worker)
    rig.equal("with all that core needs", got, (0, "t", 3, 1, worker))
    rig.equal("they are core's to settle", rig.job(claim.id).state, State.ACTIVE)
    rig.equal("they are answered until they are settled", [lost.id for lost in _repair(rig).lost], [claim.id])
    rig.end(Failed(claim.id, 0, message="Worker went away", retry_in=0))
    rig.equal("once settled they are not", _repair(rig).lost, [])
    rig.equal("a living worker's attempt is not lost", rig.job(here.id).state, State.ACTIVE)


@check("REP-04")
def which_attempts(rig: Rig) -> None:
    plain = rig.active()
    leased, foreground = rig.active(lease=NEVER), rig.active(queue="minion_foreground")
    done = rig.active()
    rig.end(Finished(done.id, 0))
    waiting = rig.enqueue(delay=5)
    rig.backend.unregister_worker(rig.worker)
    found = _repair(rig)
    rig.equal(
        "only active jobs, without a lease, not of the foreground", [x.id for x in found.lost], [plain.id]
    )
    states = [rig.job(id).state for id in (leased.id, foreground.id, waiting)]
    rig.equal("the others are as they were", states, ["active", "active", "inactive"])


@check("REP-04")
def a_worker_that_comes_back(rig: Rig) -> None:
    claim = rig.active()
    rig.backend.unregister_worker(rig.worker)
    rig.equal("a worker that is gone has lost its attempt", len(_repair(rig).lost), 1)
    rig.backend.register_worker(rig.worker, "host", 1, {})
    rig.equal("a worker that came back has not", _repair(rig).lost, [])
    rig.equal("it can settle", rig.settle(Finished(claim.id, 0)), [True])


@check("REP-04")
def claimed_by_nobody_known(rig: Rig) -> None:
    rig.enqueue()
    claim = rig.claim_one(worker=10**6)
    rig.equal("a worker that never registered is gone", [x.id for x in _repair(rig).lost], [claim.id])


@check("REP-05")
def overdue(rig: Rig) -> None:
    now, later = rig.enqueue(), rig.enqueue(delay=60)
    rig.clock.advance(100 - rig.resolution)
    rig.equal("a job is not stuck before stuck_after", _repair(rig, stuck_after=100).stuck, 0)
    rig.clock.advance(rig.resolution)
    rig.equal("a job overdue by stuck_after is stuck", _repair(rig, stuck_after=100).stuck, 1)
    job = rig.job(now)
    rig.equal("it is failed", (job.state, job.result), (State.FAILED, "Job appears stuck in queue"))
    rig.near("its end is now", job.finished, rig.clock())
    rig.true("it has an exit status that says so", job.exit_status, f"it is {job.exit_status}")
    rig.equal("it is not retried", (job.retries, job.worker), (0, None))
    rig.equal("no attempt was made, so none is recorded", rig.backend.failure_log(now), [])
    rig.equal("a delayed job is not overdue by then", rig.job(later).state, State.INACTIVE)
    rig.clock.advance(60)
    rig.equal("overdue counts from `delayed`", _repair(rig, stuck_after=100).stuck, 1)
    rig.equal("stuck is stuck once", _repair(rig, stuck_after=100).stuck, 0)


@check("REP-05")
def not_retried(rig: Rig) -> None:
    id = rig.enqueue(attempts=5)
    rig.clock.advance(100)
    _repair(rig, stuck_after=100)
    job = rig.job(id)
    rig.equal("a stuck job is failed, whatever its attempts", (job.state, job.attempts), (State.FAILED, 5))


@check("REP-05")
def behind_parents(rig: Rig) -> None:
    failed, live, done, delayed = (
        rig.active("p"),
        rig.active("p"),
        rig.active("p"),
        rig.enqueue("p", delay=10**6),
    )
    behind = [rig.enqueue(parents=(id,)) for id in (failed.id, live.id, done.id, delayed)]
    both = rig.enqueue(parents=(done.id, live.id))
    rig.clock.advance(50)
    rig.end(Failed(failed.id, 0, message="x"))
    rig.end(Finished(done.id, 0))
    rig.clock.advance(100 - rig.resolution)
    rig.equal("overdue counts from the ends of the parents", _repair(rig, stuck_after=100).stuck, 0)
    rig.clock.advance(rig.resolution)
    rig.equal("overdue counts from the ends of the parents", _repair(rig, stuck_after=100).stuck, 2)
    states = [rig.job(id).state for id in behind]
    want = ["failed", "inactive", "failed", "inactive"]
    rig.equal("a job behind a failed parent counts, one behind a live parent does not", states, want)
    rig.equal("one live parent among others is enough", rig.job(both).state, State.INACTIVE)


@check("REP-05")
def the_latest_counts(rig: Rig) -> None:
    first, last = rig.active("p"), rig.active("p")
    id = rig.enqueue(parents=(first.id, last.id), delay=70)
    rig.clock.advance(10)
    rig.end(Finished(first.id, 0))
    rig.clock.advance(30)
    rig.end(Finished(last.id, 0))
    rig.clock.advance(129)
    rig.equal("the latest of `delayed` and ends counts", _repair(rig, stuck_after=100).stuck, 0)
    rig.clock.advance(1)
    rig.equal("the latest of `delayed` and ends counts", _repair(rig, stuck_after=100).stuck, 1)
    rig.equal("it is failed", rig.job(id).state, State.FAILED)


@check("REP-05")
def given_back_is_not_overdue(rig: Rig) -> None:
    released, leased = rig.active(), rig.active(lease=1000)
    retried = rig.active()
    rig.clock.advance(1000)
    rig.end(Released(released.id, 0))
    rig.backend.retry_job(retried.id, 0, RetryOptions())
    found = _repair(rig, stuck_after=100)
    rig.equal("what has just returned to `inactive` is not overdue", (found.stuck, found.leases), (0, 1))
    states = [rig.job(claim.id).state for claim in (released, leased, retried)]
    rig.equal("what has just returned to `inactive` stays so", states, ["inactive"] * 3)


@check("REP-05")
def what_it_frees(rig: Rig) -> None:
    stuck = rig.enqueue("nobody")
    strict, lax = rig.enqueue(parents=(stuck,)), rig.enqueue(parents=(stuck,), lax=True)
    rig.equal("parents are in the way", rig.claimed(), [])
    rig.clock.advance(100)
    _repair(rig, stuck_after=100)
    rig.equal("a stuck parent is a failed one", rig.claimed(), [lax])
    rig.equal("what waits behind it was not overdue", rig.job(strict).state, State.INACTIVE)


@check("REP-03")
def what_it_frees_by_removing(rig: Rig) -> None:
    gone = rig.enqueue("nobody", expire=10)
    child = rig.enqueue(parents=(gone,))
    rig.equal("a parent is in the way", rig.claimed(), [])
    rig.clock.advance(10)
    _repair(rig)
    rig.equal("a parent that expired and was removed is not in the way", rig.claimed(), [child])


@check("REP-06")
def nothing_to_do(rig: Rig) -> None:
    rig.equal("an empty store needs no repair", _repair(rig), Repaired(lost=[]))
    rig.active()
    rig.enqueue(delay=5)
    rig.equal("what is in order needs no repair", _repair(rig), Repaired(lost=[]))
    rig.equal("repair changes nothing that is in order", len(rig.listed()), 2)


@check("REP-06")
def all_at_once(rig: Rig) -> None:
    total = rig.rounds(60)
    for number in range(4):
        rig.backend.register_worker(None, "gone", number, {})
    leased = [rig.active(lease=10) for _ in range(total)]
    done = [rig.active() for _ in range(total)]
    rig.settle(*[Finished(claim.id, 0) for claim in done])
    rig.backend.enqueue([NewJob("t", expire=50) for _ in range(total)])
    rig.clock.advance(100)
    rig.backend.register_worker(rig.worker, "here", 1, {})
    clients = [rig.backend, rig.client(), rig.client(), rig.client()]
    found = rig.together([lambda c=c: c.repair(100, 100, NEVER) for c in clients])  # type: ignore[misc]
    sums = [sum(getattr(one, name) for one in found) for name in ("workers", "removed", "expired", "leases")]
    rig.equal("several repairs do each thing once", sums, [4, total, total, total])
    for claim in leased:
        log = rig.backend.failure_log(claim.id)
        rig.equal(
            "several repairs record each end once", [failure.message for failure in log], ["Lease ended"]
        )
    rig.equal("all is in order then", rig.backend.list_jobs(0, 1, JobFilter()).total, total)


@check("REP-06")
def many_in_one_go(rig: Rig) -> None:
    rig.backend.enqueue([NewJob("t", expire=10) for _ in range(1500)])
    rig.backend.enqueue([NewJob("u") for _ in range(1500)])
    claims = rig.claim(2000, tasks=("u",))
    rig.equal("many are claimed", len(claims), 1500)
    rig.settle(*[Finished(claim.id, 0) for claim in claims])
    rig.clock.advance(100)
    found = _repair(rig, remove_after=100)
    rig.equal("many are repaired in one go", (found.expired, found.removed), (1500, 1500))
    rig.equal("none of them is left", rig.backend.list_jobs(0, 1, JobFilter()).total, 0)
    rig.near("the clock has not moved", rig.backend.now(), START + timedelta(seconds=100))
