"""SET: every way an attempt ends, and the fence around it."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from attrs import evolve

from minion_conformance.check import check
from minion_conformance.clock import START
from minion_core.records import (
    Declined,
    Failed,
    Finished,
    NewJob,
    Outcome,
    Released,
    Replaced,
    RetryOptions,
    State,
)

if TYPE_CHECKING:
    from minion_conformance.rig import Rig


def _all_outcomes(id: int, retries: int) -> list[Outcome]:
    return [
        Finished(id, retries, result="late"),
        Failed(id, retries, message="late"),
        Failed(id, retries, message="late", retry_in=0),
        Declined(id, retries),
        Released(id, retries),
        Replaced(id, retries, jobs=(NewJob("late"),)),
    ]


def _untouched(rig: Rig, told: str, id: int, retries: int) -> None:
    before = rig.find(id)
    failures = rig.backend.failure_log(id)
    for outcome in _all_outcomes(id, retries):
        kind = type(outcome).__name__
        settled = rig.backend.settle([outcome])
        rig.equal(f"{kind} for a job that is {told} is refused", [s.applied for s in settled], [False])
        rig.equal(f"{kind} that is refused makes no jobs", settled[0].jobs, ())
        rig.equal(f"{kind} that is refused changes nothing", rig.find(id), before)
        rig.equal(f"{kind} that is refused records nothing", rig.backend.failure_log(id), failures)
    rig.equal("an outcome that is refused enqueues nothing", rig.listed(tasks=["late"]), [])


@check("SET-01")
def refused_unless_active(rig: Rig) -> None:
    _untouched(rig, "inactive", rig.enqueue(attempts=5), 0)
    finished = rig.active(attempts=5)
    rig.end(Finished(finished.id, 0, result="r"))
    _untouched(rig, "finished", finished.id, 0)
    failed = rig.active(attempts=5)
    rig.end(Failed(failed.id, 0, message="m"))
    _untouched(rig, "failed", failed.id, 0)
    gone = rig.active()
    rig.end(Finished(gone.id, 0))
    rig.backend.remove_jobs([gone.id])
    _untouched(rig, "removed", gone.id, 0)
    _untouched(rig, "unknown", gone.id + 10_000, 0)


@check("SET-01")
def refused_for_another_attempt(rig: Rig) -> None:
    claim = rig.active(attempts=5)
    rig.true("a job is retried", rig.backend.retry_job(claim.id, 0, RetryOptions()))
    again = rig.claim_one(claim.id)
    rig.equal("an attempt is known by its retries", again.retries, 1)
    _untouched(rig, "active with more retries", claim.id, 0)
    _untouched(rig, "active with fewer retries", claim.id, 2)
    rig.equal("the attempt itself is settled", rig.settle(Finished(claim.id, 1)), [True])


@check("SET-01")
def two_attempts_of_one_job(rig: Rig) -> None:
    kinds: list[type] = [Finished, Failed, Released, Declined]
    for kind in kinds:
        claim = rig.active(attempts=5)
        rig.true("a job is retried", rig.backend.retry_job(claim.id, 0, RetryOptions()))
        again = rig.claim_one(claim.id)
        given = {"message": "x"} if kind is Failed else {}
        answer = rig.settle(kind(claim.id, 0, **given), kind(claim.id, again.retries, **given))
        rig.equal("of two attempts of one job only the one that goes on is settled", answer, [False, True])
        rig.backend.reset(all=True)


@check("SET-01")
def another_workers_claim(rig: Rig) -> None:
    claim = rig.active()
    rig.end(Released(claim.id, 0))
    other = rig.backend.register_worker(None, "host", 2, {})
    rig.claim_one(claim.id, worker=other)
    rig.equal("the old claimer's outcome is refused", rig.settle(Finished(claim.id, 0)), [False])
    rig.equal("the new claimer keeps the job", rig.job(claim.id).worker, other)


@check("SET-02")
def finished(rig: Rig) -> None:
    claim = rig.active()
    rig.clock.advance(3)
    rig.equal("an active attempt is finished", rig.settle(Finished(claim.id, 0, result={"a": [1]})), [True])
    job = rig.job(claim.id)
    rig.equal("it is finished", job.state, State.FINISHED)
    rig.near("its end is now", job.finished, START + timedelta(seconds=3))
    rig.equal("its result is stored", job.result, {"a": [1]})
    rig.equal("its exit status is 0", job.exit_status, 0)
    rig.equal("a finish costs no retry and no attempt", (job.retries, job.attempts), (0, 1))
    rig.equal("a finish records no failure", job.failures, 0)
    rig.equal("what is finished is not claimable", rig.claimed(), [])


@check("SET-02")
def with_an_exit_status(rig: Rig) -> None:
    claim = rig.active()
    rig.end(Finished(claim.id, 0, exit_status=7))
    rig.equal("its exit status is stored", rig.job(claim.id).exit_status, 7)


@check("SET-03")
def failed_for_good(rig: Rig) -> None:
    claim = rig.active(attempts=3)
    rig.clock.advance(3)
    rig.end(Failed(claim.id, 0, message="why", result={"trace": 1}, exit_status=9))
    job = rig.job(claim.id)
    rig.equal("without `retry_in` it is failed", job.state, State.FAILED)
    rig.near("its end is now", job.finished, START + timedelta(seconds=3))
    rig.equal("its result is stored", job.result, {"trace": 1})
    rig.equal("its exit status is stored", job.exit_status, 9)
    rig.equal("its attempts are as they were", job.attempts, 3)
    (failure,) = rig.backend.failure_log(claim.id)
    rig.equal("the failure's message is recorded", failure.message, "why")
    rig.near("the failure's time is recorded", failure.time, START + timedelta(seconds=3))
    rig.equal(
        "the failure's worker and retries are recorded", (failure.worker, failure.retries), (rig.worker, 0)
    )


@check("SET-03")
def exit_status_never_0(rig: Rig) -> None:
    for status in (0, None):
        claim = rig.active()
        rig.end(Failed(claim.id, 0, message="x", exit_status=status))
        rig.equal("an exit status of 0 or none becomes 1", rig.job(claim.id).exit_status, 1)


@check("SET-03")
def result_is_the_message(rig: Rig) -> None:
    claim = rig.active()
    rig.end(Failed(claim.id, 0, message="why"))
    rig.equal("a failure without a result leaves its message", rig.job(claim.id).result, "why")


@check("SET-03")
def retried_while_attempts_are_left(rig: Rig) -> None:
    id = rig.enqueue(attempts=3)
    for retries, left in ((0, 2), (1, 1)):
        rig.claim_one(id)
        rig.end(Failed(id, retries, message=f"no {retries}", retry_in=10))
        job = rig.job(id)
        rig.equal("with attempts left it is inactive again", job.state, State.INACTIVE)
        rig.equal("attempts go down by one, retries up", (job.attempts, job.retries), (left, retries + 1))
        rig.near("it is delayed by `retry_in`", job.delayed, rig.clock.after(10))
        rig.clock.advance(10 - rig.resolution)
        rig.equal("it is not claimable before", rig.claimed(), [])
        rig.clock.advance(rig.resolution)
    rig.claim_one(id)
    rig.end(Failed(id, 2, message="no 2", retry_in=10))
    job = rig.job(id)
    rig.equal("with no attempts left it is failed", (job.state, job.attempts), (State.FAILED, 1))
    log = [(failure.message, failure.retries) for failure in rig.backend.failure_log(id)]
    rig.equal("every failure is recorded", log, [("no 0", 0), ("no 1", 1), ("no 2", 2)])


@check("SET-03")
def not_beyond_its_expiry(rig: Rig) -> None:
    early, late = rig.active(attempts=9, expire=60), rig.active(attempts=9, expire=60)
    free = rig.active(attempts=9)
    rig.end(Failed(early.id, 0, message="x", retry_in=60 - rig.resolution))
    rig.end(Failed(late.id, 0, message="x", retry_in=60))
    rig.end(Failed(free.id, 0, message="x", retry_in=10**6))
    rig.equal("with an expiry after then it is retried", rig.job(early.id).state, State.INACTIVE)
    rig.equal("with an expiry no later it is failed", rig.job(late.id).state, State.FAILED)
    rig.equal("what failed for its expiry keeps its attempts", rig.job(late.id).attempts, 9)
    rig.equal("without an expiry it is retried", rig.job(free.id).state, State.INACTIVE)


@check("SET-04")
def declined(rig: Rig) -> None:
    claim = rig.active(attempts=2, lease=1000)
    rig.end(Declined(claim.id, 0, run_after=30))
    job = rig.job(claim.id)
    rig.equal("what is declined is inactive again", job.state, State.INACTIVE)
    rig.equal("attempts are unchanged, retries one more", (job.attempts, job.retries), (2, 1))
    rig.equal("no failure is recorded", rig.backend.failure_log(claim.id), [])
    rig.clock.advance(30 - rig.resolution)
    rig.equal("it is not claimable before `run_after`", rig.claimed(), [])
    rig.clock.advance(rig.resolution)
    rig.equal("it is claimable at `run_after`", rig.claimed(), [claim.id])


@check("SET-04")
def declined_until_an_instant(rig: Rig) -> None:
    claim, past = rig.active(), rig.active()
    rig.clock.advance(5)
    rig.end(Declined(claim.id, 0, run_after=START + timedelta(seconds=60)))
    rig.near("`run_after` may be an instant", rig.job(claim.id).delayed, START + timedelta(seconds=60))
    rig.end(Declined(past.id, 0, run_after=START))
    rig.equal("a `run_after` that has passed is at once", rig.claimed(), [past.id])


@check("SET-05")
def replaced(rig: Rig) -> None:
    claim = rig.active(uniqkey="k")
    rig.clock.advance(3)
    news = (NewJob("t", [1]), NewJob("t", [2], uniqkey="k", priority=5), NewJob("u", delay=60))
    (settled,) = rig.backend.settle([Replaced(claim.id, 0, jobs=news)])
    rig.equal("it applies", settled.applied, True)
    rig.equal("the new jobs are answered as created", [made.created for made in settled.jobs], [True] * 3)
    job = rig.job(claim.id)
    rig.equal("what is replaced is finished with 0", (job.state, job.exit_status), (State.FINISHED, 0))
    rig.near("its end is now", job.finished, START + timedelta(seconds=3))
    stored = [(new.task, new.args, new.uniqkey) for new in map(rig.job, (made.id for made in settled.jobs))]
    want = [("t", [1], None), ("t", [2], "k"), ("u", [], None)]
    rig.equal("the new jobs are enqueued, in the order given", stored, want)
    rig.equal("the new jobs are claimable", rig.claimed(), [settled.jobs[1].id, settled.jobs[0].id])


@check("SET-05")
def a_key_held_by_another(rig: Rig) -> None:
    holder = rig.enqueue(uniqkey="held", delay=60)
    claim = rig.active()
    (settled,) = rig.backend.settle([Replaced(claim.id, 0, jobs=(NewJob("t", uniqkey="held"), NewJob("t")))])
    rig.equal("a key that another job holds is no failure", settled.applied, True)
    rig.equal("the holder's id is answered", (settled.jobs[0].id, settled.jobs[0].created), (holder, False))
    rig.equal("the others are enqueued", settled.jobs[1].created, True)
    rig.equal("nothing is stored for a key that is held", len(rig.listed()), 3)


@check("SET-05")
def all_or_nothing(rig: Rig) -> None:
    claim = rig.active()
    child = rig.enqueue(parents=(claim.id,))
    broken: Any = "not a job"
    before = rig.job(claim.id)
    outcome = evolve(Replaced(claim.id, 0), jobs=(NewJob("t"), broken))
    rig.refused("replacing by what is no job raises", Exception, lambda: rig.backend.settle([outcome]))
    rig.equal("if anything fails, the job is as it was", rig.job(claim.id), before)
    rig.equal("if anything fails, nothing is enqueued", len(rig.listed()), 2)
    rig.equal("if anything fails, children are as they were", rig.job(child).parents, [claim.id])
    rig.equal("the job can still be settled", rig.settle(Finished(claim.id, 0)), [True])


@check("SET-05")
def children_follow(rig: Rig) -> None:
    claim, other = rig.active("parent"), rig.enqueue("other")
    child = rig.enqueue(parents=(claim.id,))
    both = rig.enqueue(parents=(other, claim.id), lax=True)
    apart = rig.enqueue(parents=(other,))
    (settled,) = rig.backend.settle([Replaced(claim.id, 0, jobs=(NewJob("new"), NewJob("new")))])
    news = [made.id for made in settled.jobs]
    rig.equal("children have the new jobs as parents too", rig.job(child).parents, [claim.id, *news])
    rig.equal("children have the new jobs as parents too", rig.job(both).parents, [other, claim.id, *news])
    rig.equal("others do not", rig.job(apart).parents, [other])
    rig.equal("the new jobs have the children", sorted(rig.job(news[0]).children), [child, both])
    rig.equal("the new jobs are in the children's way", rig.claimed(), [])
    for id in news:
        rig.equal("children wait for every new job", rig.claimed(), [])
        rig.end(Finished(rig.claim_one(id, tasks=("new",)).id, 0))
    rig.equal("when the new jobs have ended, the child is claimable", rig.claimed(), [child])


@check("SET-05")
def nobody_waits_for_itself(rig: Rig) -> None:
    claim = rig.active("parent")
    child = rig.enqueue(parents=(claim.id,))
    between = rig.enqueue(parents=(child,))
    jobs = (NewJob("new", parents=(between,)), NewJob("new"))
    (settled,) = rig.backend.settle([Replaced(claim.id, 0, jobs=jobs)])
    last, first = (made.id for made in settled.jobs)
    rig.equal(
        "a new job that waits for a child is none of its parents", rig.job(child).parents, [claim.id, first]
    )
    for id, task in ((first, "new"), (child, "t"), (between, "t"), (last, "new")):
        rig.end(Finished(rig.claim_one(id, tasks=(task,)).id, 0))


@check("SET-05")
def ended_children_stay(rig: Rig) -> None:
    claim = rig.active("parent")
    child = rig.enqueue(parents=(claim.id,), attempts=2)
    rig.end(Finished(claim.id, 0))
    rig.end(Finished(rig.claim_one(child).id, 0))
    rig.backend.retry_job(claim.id, 0, RetryOptions())
    rig.claim_one(claim.id, tasks=("parent",))
    rig.end(Replaced(claim.id, 1, jobs=(NewJob("new"),)))
    rig.equal("only live children get new parents", rig.job(child).parents, [claim.id])


@check("SET-06")
def each_alone(rig: Rig) -> None:
    one, two, three, four = (rig.active(attempts=2) for _ in range(4))
    answer = rig.settle(
        Finished(one.id, 0, result=1),
        Finished(two.id, 1, result="stale"),
        Failed(three.id, 0, message="x", retry_in=60),
        Finished(10**9, 0),
        Finished(four.id, 0, result=4),
    )
    rig.equal("each outcome is judged alone", answer, [True, False, True, False, True])
    states = [rig.job(claim.id).state for claim in (one, two, three, four)]
    rig.equal("a stale one does not spoil the others", states, ["finished", "active", "inactive", "finished"])
    rig.equal("no outcome at all is no outcome", rig.backend.settle([]), [])


@check("SET-06")
def one_of_each_kind(rig: Rig) -> None:
    claims = [rig.active(attempts=2, uniqkey=f"k{number}") for number in range(5)]
    finished, failed, released, declined, replaced = (claim.id for claim in claims)
    children = [rig.enqueue("child", parents=[id]) for id in (finished, failed)]
    outcomes = (
        Replaced(replaced, 0, jobs=(NewJob("new"),)),
        Failed(failed, 0, message="x", retry_in=0),
        Finished(finished, 0),
        Declined(declined, 0),
        Released(released, 0),
    )
    rig.equal("outcomes of all kinds are settled together", rig.settle(*outcomes), [True] * 5)
    states = [rig.job(claim.id).state for claim in claims]
    want = ["finished", "inactive", "inactive", "inactive", "finished"]
    rig.equal("outcomes of all kinds are stored together", states, want)
    free = [claim.id for claim in rig.claim(9, tasks=("child",))]
    rig.equal("the children of what is finished go on", free, children[:1])
    made = [rig.backend.enqueue([NewJob("t", uniqkey=f"k{number}")])[0].created for number in range(5)]
    rig.equal("what came back has its key still", made, [True, False, False, False, True])


@check("SET-06")
def the_first_of_two(rig: Rig) -> None:
    pairs: list[tuple[type, str]] = [(Finished, "finished"), (Failed, "failed"), (Released, "inactive")]
    for first, state in pairs:
        for second in (Finished, Failed, Released, Declined):
            claim = rig.active()
            made = [
                kind(claim.id, 0, **({"message": "x"} if kind is Failed else {})) for kind in (first, second)
            ]
            rig.equal("of two for one attempt the first counts", rig.settle(*made), [True, False])
            rig.equal("of two for one attempt the first is stored", rig.job(claim.id).state, state)
            failures = len(rig.backend.failure_log(claim.id))
            rig.equal("of two for one attempt the second records nothing", failures, int(first is Failed))
            rig.backend.reset(all=True)


@check("SET-06")
def a_large_batch(rig: Rig) -> None:
    total = 1200
    rig.backend.enqueue([NewJob("t", attempts=2) for _ in range(total)])
    claims = rig.claim(total)
    rig.equal("a large batch is claimed", len(claims), total)
    outcomes: list[Outcome] = []
    for number, claim in enumerate(claims):
        if number % 4 == 0:
            outcomes.append(Finished(claim.id, 0, result=number))
        elif number % 4 == 1:
            outcomes.append(Failed(claim.id, 0, message=f"m{number}"))
        elif number % 4 == 2:
            outcomes.append(Failed(claim.id, 0, message=f"m{number}", retry_in=5))
        else:
            outcomes.append(Finished(claim.id, 3))
    want = [number % 4 != 3 for number in range(total)]
    rig.equal("a large batch answers in its order", rig.settle(*outcomes), want)
    stored = {job.id: (job.state, job.result) for job in rig.backend.list_jobs(0, total, _everything()).items}
    for number, claim in enumerate(claims):
        state, result = [
            ("finished", number),
            ("failed", f"m{number}"),
            ("inactive", None),
            ("active", None),
        ][number % 4]
        rig.equal("a large batch is stored each as it ended", stored[claim.id], (state, result))


def _everything() -> Any:
    from minion_core.records import JobFilter  # noqa: PLC0415, a filter of nothing

    return JobFilter()


@check("SET-07")
def oldest_first(rig: Rig) -> None:
    id = rig.enqueue(attempts=9)
    want = []
    for retries in range(4):
        rig.clock.advance(1)
        claim = rig.claim_one(id)
        rig.true("a failure is added", rig.backend.add_failure(id, f"before {retries}"))
        rig.end(Failed(id, retries, message=f"end {retries}", retry_in=0))
        want += [(f"before {retries}", claim.retries, rig.worker), (f"end {retries}", retries, rig.worker)]
        rig.equal("`failures` is their number", rig.job(id).failures, 2 * (retries + 1))
    log = [(failure.message, failure.retries, failure.worker) for failure in rig.backend.failure_log(id)]
    rig.equal("the failure log is oldest first, and outlives retries", log, want)


@check("SET-07")
def without_settling(rig: Rig) -> None:
    claim = rig.active()
    rig.clock.advance(5)
    before = rig.job(claim.id)
    rig.equal("a failure is added", rig.backend.add_failure(claim.id, "text \u20ac \U0001f980\nmore"), True)
    after = rig.job(claim.id)
    rig.equal("adding a failure changes nothing else", evolve(after, failures=0), before)
    (failure,) = rig.backend.failure_log(claim.id)
    rig.equal("the message is recorded", failure.message, "text \u20ac \U0001f980\nmore")
    rig.near("the time is recorded", failure.time, rig.clock())
    rig.equal("worker and retries are recorded", (failure.worker, failure.retries), (rig.worker, 0))
    waiting = rig.enqueue()
    rig.backend.add_failure(waiting, "x")
    rig.equal("a waiting job has no worker", rig.backend.failure_log(waiting)[0].worker, None)


@check("SET-07")
def goes_with_the_job(rig: Rig) -> None:
    claim, other = rig.active(), rig.active()
    rig.backend.add_failure(claim.id, "mine")
    rig.backend.add_failure(other.id, "theirs")
    rig.end(Failed(claim.id, 0, message="end"))
    rig.backend.remove_jobs([claim.id])
    rig.equal("the log goes with the job", rig.backend.failure_log(claim.id), [])
    rig.equal("another job's log stays", len(rig.backend.failure_log(other.id)), 1)
    rig.equal("an unknown job has no log", rig.backend.failure_log(10**9), [])
    rig.equal("no failure is added to an unknown job", rig.backend.add_failure(claim.id, "x"), False)
    rig.equal("no failure was added to an unknown job", rig.backend.failure_log(claim.id), [])


@check("SET-08")
def released(rig: Rig) -> None:
    claim = rig.active(attempts=2, lease=100)
    rig.clock.advance(5)
    rig.end(Released(claim.id, 0))
    job = rig.job(claim.id)
    rig.equal("what is released is inactive again", job.state, State.INACTIVE)
    rig.equal("attempts are unchanged, retries one more", (job.attempts, job.retries), (2, 1))
    rig.equal("nothing is recorded", rig.backend.failure_log(claim.id), [])
    rig.equal("it is claimable at once", rig.claimed(), [claim.id])


@check("SET-08")
def released_with_a_delay_behind_it(rig: Rig) -> None:
    id = rig.enqueue(delay=10)
    rig.clock.advance(10)
    rig.claim_one(id)
    rig.end(Released(id, 0))
    rig.equal("a released job's old delay is over", rig.claimed(), [id])


@check("SET-09")
def what_is_cleared(rig: Rig) -> None:
    ways: dict[str, Any] = {
        "a failure": lambda id, retries: rig.end(Failed(id, retries, message="x", retry_in=0)),
        "declining": lambda id, retries: rig.end(Declined(id, retries)),
        "releasing": lambda id, retries: rig.end(Released(id, retries)),
        "a retry": lambda id, retries: rig.backend.retry_job(id, retries, RetryOptions()),
    }
    for told, way in ways.items():
        claim = rig.active(lease=100, attempts=5)
        way(claim.id, 0)
        job = rig.job(claim.id)
        cleared = (job.worker, job.grabbed_until, job.exit_status)
        rig.equal(f"{told} clears worker, grabbed_until and exit_status", cleared, (None, None, None))
        rig.equal(f"{told} adds one to retries", job.retries, 1)
        rig.near(f"{told} keeps `started`", job.started, START)
        rig.backend.remove_jobs([claim.id])


@check("SET-09")
def what_is_kept(rig: Rig) -> None:
    claim = rig.active()
    rig.clock.advance(1)
    rig.end(Finished(claim.id, 0, result="old", exit_status=3))
    rig.clock.advance(1)
    rig.backend.retry_job(claim.id, 0, RetryOptions())
    job = rig.job(claim.id)
    rig.equal("a retry clears the exit status", job.exit_status, None)
    rig.equal("a retry keeps the result", job.result, "old")
    rig.near("a retry keeps `started`", job.started, START)
    rig.near("a retry keeps `finished`", job.finished, START + timedelta(seconds=1))
    rig.clock.advance(1)
    rig.claim_one(claim.id)
    rig.near("the next claim sets `started`", rig.job(claim.id).started, START + timedelta(seconds=3))
    rig.end(Failed(claim.id, 1, message="new"))
    rig.equal("the next outcome sets the result", rig.job(claim.id).result, "new")
