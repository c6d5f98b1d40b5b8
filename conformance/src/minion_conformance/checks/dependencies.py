"""DEP: parents that are in the way, and children that follow at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from minion_conformance.check import check
from minion_core.records import (
    ClaimedJob,
    Declined,
    DequeueOptions,
    Failed,
    Finished,
    NewJob,
    Released,
    Replaced,
    RetryOptions,
)

if TYPE_CHECKING:
    from minion_conformance.rig import Rig


def _parent(rig: Rig, **fields: object) -> ClaimedJob:
    return rig.active("parent", **fields)


@check("DEP-01")
def in_the_way_until_finished(rig: Rig) -> None:
    parent = rig.enqueue("parent")
    child = rig.enqueue(parents=(parent,))
    rig.equal("an inactive parent is in the way", rig.claimed(), [])
    rig.claim_one(parent, tasks=("parent",))
    rig.equal("an active parent is in the way", rig.claimed(), [])
    rig.end(Finished(parent, 0))
    rig.equal("a finished parent is not in the way", rig.claimed(), [child])


@check("DEP-01")
def failed_parents(rig: Rig) -> None:
    parent = _parent(rig)
    strict, lax = rig.enqueue(parents=(parent.id,)), rig.enqueue(parents=(parent.id,), lax=True)
    rig.equal("an active parent is in the way of lax jobs, too", rig.claimed(), [])
    rig.end(Failed(parent.id, 0, message="x"))
    rig.equal("a failed parent is in the way, unless the job is lax", rig.claimed(), [lax])
    rig.equal("a job behind a failed parent waits", rig.job(strict).state, "inactive")


@check("DEP-01")
def enqueued_behind_what_has_ended(rig: Rig) -> None:
    finished, failed, delayed = _parent(rig), _parent(rig), rig.enqueue("parent", delay=60)
    rig.end(Finished(finished.id, 0))
    rig.end(Failed(failed.id, 0, message="x"))
    free = rig.enqueue(parents=(finished.id,))
    rig.enqueue(parents=(failed.id,))
    lax = rig.enqueue(parents=(failed.id,), lax=True)
    rig.enqueue(parents=(finished.id, failed.id))
    rig.enqueue(parents=(delayed,), lax=True)
    rig.equal("a job enqueued behind what has ended waits for what is in its way", rig.claimed(), [free, lax])


@check("DEP-01")
def every_parent_counts(rig: Rig) -> None:
    parents = [_parent(rig) for _ in range(4)]
    child = rig.enqueue(parents=tuple(parent.id for parent in parents))
    for parent in parents[:-1]:
        rig.end(Finished(parent.id, 0))
        rig.equal("one parent is enough to be in the way", rig.claimed(), [])
    rig.end(Finished(parents[-1].id, 0))
    rig.equal("with no parent in the way, the job is claimable", rig.claimed(), [child])


@check("DEP-01")
def generations(rig: Rig) -> None:
    first = rig.enqueue()
    second = rig.enqueue(parents=(first,))
    third = rig.enqueue(parents=(second, first))
    for id in (first, second, third):
        rig.equal("generations are claimed one after another", rig.claimed(), [id])
        rig.end(Finished(id, 0))


@check("DEP-02")
def unknown_and_removed(rig: Rig) -> None:
    parent = rig.enqueue("parent")
    unknown = rig.enqueue(parents=(parent + 10_000,))
    child = rig.enqueue(parents=(parent,))
    rig.equal("a parent that does not exist is not in the way", rig.claimed(), [unknown])
    rig.backend.remove_jobs([parent])
    rig.equal("a removed parent is not in the way", rig.claimed(), [child])


@check("DEP-02")
def expired(rig: Rig) -> None:
    parent = rig.enqueue("parent", expire=10)
    child = rig.enqueue(parents=(parent,))
    rig.clock.advance(10 - rig.resolution)
    rig.equal("a parent is in the way until it expires", rig.claimed(), [])
    rig.clock.advance(rig.resolution)
    rig.equal("an expired parent is not in the way", rig.claimed(), [child])


@check("DEP-02")
def enqueued_behind_the_expired(rig: Rig) -> None:
    parent = rig.enqueue("parent", expire=10)
    rig.clock.advance(10)
    child = rig.enqueue(parents=(parent,))
    rig.equal("an expired parent is not in the way of a new job", rig.claimed(), [child])


@check("DEP-02")
def active_past_its_expiry(rig: Rig) -> None:
    parent = _parent(rig, expire=10)
    child = rig.enqueue(parents=(parent.id,))
    rig.clock.advance(20)
    rig.equal("an active parent does not expire", rig.claimed(), [])
    rig.end(Released(parent.id, 0))
    rig.equal("a parent given back after it expired is not in the way", rig.claimed(), [child])


@check("DEP-03")
def retried_parents(rig: Rig) -> None:
    for outcome in (Finished(1, 0), Failed(1, 0, message="x")):
        parent = _parent(rig)
        child = rig.enqueue(parents=(parent.id,), lax=True)
        ended = Finished(parent.id, 0) if isinstance(outcome, Finished) else Failed(parent.id, 0, message="x")
        rig.end(ended)
        rig.true("a parent is retried", rig.backend.retry_job(parent.id, 0, RetryOptions()))
        rig.equal("a parent that is retried is in the way again", rig.claimed(), [])
        rig.end(Finished(rig.claim_one(parent.id, tasks=("parent",)).id, 1))
        rig.equal("a parent that ended again is not in the way", rig.claimed(), [child])


@check("DEP-03")
def given_back_parents(rig: Rig) -> None:
    failed, declined = _parent(rig, attempts=2), _parent(rig)
    rig.enqueue(parents=(failed.id,), lax=True)
    rig.enqueue(parents=(declined.id,), lax=True)
    rig.end(Failed(failed.id, 0, message="x", retry_in=100))
    rig.end(Declined(declined.id, 0, run_after=100))
    rig.equal("a parent that goes back to the queue is in the way", rig.claimed(), [])


@check("DEP-04")
def as_listed(rig: Rig) -> None:
    parents = [rig.enqueue("parent") for _ in range(3)]
    first = rig.enqueue(parents=(parents[2], parents[0]))
    second = rig.enqueue(parents=(parents[0], 10**6))
    rig.equal("`parents` are as given", rig.job(first).parents, [parents[2], parents[0]])
    rig.equal("`parents` are as given, unknown ones too", rig.job(second).parents, [parents[0], 10**6])
    rig.equal("`children` name the job", sorted(rig.job(parents[0]).children), [first, second])
    rig.equal("`children` name the job", rig.job(parents[2]).children, [first])
    rig.equal("a job that none names has no children", rig.job(parents[1]).children, [])
    rig.backend.remove_jobs([first])
    rig.equal("a removed job is nobody's child", rig.job(parents[0]).children, [second])


@check("DEP-04")
def as_they_were(rig: Rig) -> None:
    parent = _parent(rig)
    child = rig.enqueue(parents=(parent.id,))
    rig.end(Finished(parent.id, 0))
    rig.end(Finished(rig.claim_one(child).id, 0))
    rig.equal("finished jobs stay children", rig.job(parent.id).children, [child])
    rig.equal("finished jobs stay parents", rig.job(child).parents, [parent.id])
    rig.backend.remove_jobs([parent.id])
    rig.equal("`parents` are as given when they are gone", rig.job(child).parents, [parent.id])


@check("DEP-05")
def replaced_by_a_retry(rig: Rig) -> None:
    old, new = rig.enqueue("parent"), rig.enqueue("parent")
    child = rig.enqueue(parents=(old,))
    rig.true("a job is retried", rig.backend.retry_job(child, 0, RetryOptions(parents=(new,))))
    rig.equal("retrying with parents replaces the parents", rig.job(child).parents, [new])
    rig.equal("the old parent has lost its child", rig.job(old).children, [])
    rig.equal("the new parent has the child", rig.job(new).children, [child])
    rig.claim_one(old, tasks=("parent",))
    rig.end(Finished(old, 0))
    rig.equal("the new parent is in the way", rig.claimed(), [])
    rig.claim_one(new, tasks=("parent",))
    rig.end(Finished(new, 0))
    rig.equal("only the new parent was in the way", rig.claimed(), [child])


@check("DEP-05")
def removed_by_a_retry(rig: Rig) -> None:
    parent = rig.enqueue("parent")
    child = rig.enqueue(parents=(parent,))
    rig.backend.retry_job(child, 0, RetryOptions())
    rig.equal("a retry that names no parents keeps them", rig.job(child).parents, [parent])
    rig.equal("a kept parent is in the way", rig.claimed(), [])
    rig.backend.retry_job(child, 1, RetryOptions(parents=()))
    rig.equal("a retry with no parents at all removes them", rig.job(child).parents, [])
    rig.equal("a job without parents is claimable", rig.claimed(), [child])


@check("DEP-05")
def made_lax_by_a_retry(rig: Rig) -> None:
    parent = _parent(rig)
    child = rig.enqueue(parents=(parent.id,))
    rig.end(Failed(parent.id, 0, message="x"))
    rig.equal("a failed parent is in the way", rig.claimed(), [])
    rig.backend.retry_job(child, 0, RetryOptions(lax=True))
    rig.equal("a failed parent is not in the way of a job that was made lax", rig.claimed(), [child])


@check("DEP-06")
def by_the_very_next_dequeue(rig: Rig) -> None:
    ways: dict[str, Callable[[int], None]] = {
        "is finished": lambda id: rig.end(Finished(id, 0)),
        "is replaced by nothing": lambda id: rig.end(Replaced(id, 0)),
        "fails for good": lambda id: rig.end(Failed(id, 0, message="x")),
    }
    for told, way in ways.items():
        parent = _parent(rig)
        child = rig.enqueue(parents=(parent.id,), lax=True, priority=-1)
        rig.equal("a parent is in the way", rig.claimed(), [])
        way(parent.id)
        other = rig.client()
        claimed = other.dequeue(rig.worker, DequeueOptions(tasks=("t",)))
        rig.equal(
            f"when a parent {told}, the next dequeue has the child", [job.id for job in claimed], [child]
        )


@check("DEP-01")
def every_other_hindrance_counts(rig: Rig) -> None:
    for way in (Finished, Released):
        parent = _parent(rig)
        delayed, expiring = (
            rig.enqueue(parents=(parent.id,), delay=60),
            rig.enqueue(parents=(parent.id,), expire=30),
        )
        both = rig.enqueue(parents=(parent.id, rig.enqueue("never")))
        rig.end(way(parent.id, 0))
        if way is Released:
            rig.backend.remove_jobs([parent.id])
        rig.equal("an end of a parent is no end of a delay, nor of another parent", rig.claimed(), [expiring])
        rig.end(Released(expiring, 0))
        rig.clock.advance(30)
        rig.equal("an end of a parent keeps no job from expiring", rig.claimed(), [])
        rig.clock.advance(30)
        rig.equal("an end of a parent keeps no delay from ending", rig.claimed(), [delayed])
        rig.equal("another parent is in the way", rig.job(both).state, "inactive")
        rig.backend.reset(all=True)


@check("DEP-06")
def when_many_wait(rig: Rig) -> None:
    parent = _parent(rig)
    rig.backend.enqueue([NewJob("t", parents=(parent.id,)) for _ in range(150)])
    rig.equal("children wait", rig.claimed(200), [])
    rig.end(Finished(parent.id, 0))
    got: list[int] = []
    while more := rig.claimed(200):
        got += more
    rig.equal("when a parent ends, all its children are claimable", len(got), 150)


@check("DEP-06")
def when_parents_expire_one_by_one(rig: Rig) -> None:
    first, last = rig.enqueue("parent", expire=10), rig.enqueue("parent", expire=20)
    child = rig.enqueue(parents=(first, last))
    rig.equal("parents are in the way", rig.claimed(), [])
    rig.clock.advance(10)
    rig.equal("a second parent is in the way", rig.claimed(), [])
    rig.clock.advance(10)
    rig.equal("when the last parent expires, the next dequeue has the child", rig.claimed(), [child])


@check("DEP-06")
def when_a_retry_lets_a_parent_expire(rig: Rig) -> None:
    parent = _parent(rig)
    child = rig.enqueue(parents=(parent.id,))
    rig.equal("a parent is in the way", rig.claimed(), [])
    rig.backend.retry_job(parent.id, 0, RetryOptions(expire=10))
    rig.equal("a retried parent is in the way", rig.claimed(), [])
    rig.clock.advance(10)
    rig.equal("when a retried parent expires, the next dequeue has the child", rig.claimed(), [child])


@check("DEP-06")
def when_two_end_in_one_batch(rig: Rig) -> None:
    first, second = _parent(rig), _parent(rig)
    child = rig.enqueue(parents=(first.id, second.id))
    rig.equal("parents are in the way", rig.claimed(), [])
    rig.equal("both end", rig.settle(Finished(first.id, 0), Finished(second.id, 0)), [True, True])
    rig.equal("when two parents end in one batch, the next dequeue has the child", rig.claimed(), [child])


@check("DEP-06")
def when_two_end_at_once(rig: Rig) -> None:
    clients = [rig.client(), rig.client()]
    for _ in range(rig.rounds(16)):
        parents = [_parent(rig), _parent(rig)]
        child = rig.enqueue(parents=tuple(parent.id for parent in parents))
        rig.claimed()
        rig.together(
            [
                lambda client=client, parent=parent: client.settle([Finished(parent.id, 0)])  # type: ignore[misc]
                for client, parent in zip(clients, parents, strict=True)
            ]
        )
        rig.equal("when two parents end at once, the next dequeue has the child", rig.claimed(), [child])


@check("DEP-06")
def when_it_ends_while_a_child_comes(rig: Rig) -> None:
    settler, enqueuer = rig.client(), rig.client()
    for _ in range(rig.rounds(16)):
        parent = _parent(rig)
        calls: list[Callable[[], Any]] = [
            lambda parent=parent: settler.settle([Finished(parent.id, 0)]),  # type: ignore[misc]
            lambda parent=parent: enqueuer.enqueue([NewJob("t", parents=(parent.id,))]),  # type: ignore[misc]
        ]
        made = rig.together(calls)[1]
        rig.equal("a child enqueued while its parent ends is claimable next", rig.claimed(), [made[0].id])
