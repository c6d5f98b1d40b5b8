"""RETRY, REMOVE, NOTE: what people do to jobs."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from minion_conformance.check import check
from minion_conformance.clock import START
from minion_core.records import Failed, Finished, Released, RetryOptions, State

if TYPE_CHECKING:
    from minion_conformance.rig import Rig


@check("RETRY-01")
def in_any_state(rig: Rig) -> None:
    inactive, active, failed, done = rig.enqueue(delay=500), rig.active(), rig.active(), rig.active()
    rig.end(Failed(failed.id, 0, message="x"))
    rig.end(Finished(done.id, 0))
    rig.clock.advance(5)
    for id in (inactive, active.id, failed.id, done.id):
        rig.equal("a job in any state is retried", rig.backend.retry_job(id, 0, RetryOptions(delay=10)), True)
        job = rig.job(id)
        rig.equal("it is inactive, with one more retry", (job.state, job.retries), (State.INACTIVE, 1))
        rig.near("`retried` is now", job.retried, START + timedelta(seconds=5))
        rig.near("`delayed` is now plus the delay", job.delayed, START + timedelta(seconds=15))
    rig.clock.advance(10 - rig.resolution)
    rig.equal("a retried job is not claimable before", rig.claimed(), [])
    rig.clock.advance(rig.resolution)
    rig.equal("a retried job is claimable then", rig.claimed(), [inactive, active.id, failed.id, done.id])


@check("RETRY-01")
def without_a_delay(rig: Rig) -> None:
    id = rig.enqueue(delay=500)
    rig.backend.retry_job(id, 0, RetryOptions())
    rig.equal("a retry without a delay is for now", rig.claimed(), [id])


@check("RETRY-01")
def until_an_instant(rig: Rig) -> None:
    id = rig.enqueue()
    rig.backend.retry_job(id, 0, RetryOptions(delay=START + timedelta(hours=1), expire=7200))
    job = rig.job(id)
    rig.near("a retry's delay may be an instant", job.delayed, START + timedelta(hours=1))
    rig.near("a retry's expiry counts from now", job.expires, START + timedelta(hours=2))


@check("RETRY-01")
def keeps_what_is_not_given(rig: Rig) -> None:
    parent = rig.enqueue("parent")
    given: dict[str, Any] = {
        "attempts": 3,
        "lax": True,
        "priority": 4,
        "queue": "q",
        "notes": {"n": 1},
        "args": [1],
        "kwargs": {"k": 1},
        "uniqkey": "u",
        "coalesce": "c",
        "lease": 5,
        "keep_for": 6,
        "parents": (parent,),
    }
    id = rig.enqueue(expire=100, **given)
    rig.backend.retry_job(id, 0, RetryOptions())
    job = rig.job(id)
    for name, value in given.items():
        got = getattr(job, name)
        rig.equal(f"a retry keeps `{name}`", tuple(got) if name == "parents" else got, value)
    rig.near("a retry keeps the expiry", job.expires, START + timedelta(seconds=100))


@check("RETRY-01")
def takes_what_is_given(rig: Rig) -> None:
    id = rig.enqueue(lax=True, priority=5)
    options = RetryOptions(attempts=8, expire=60, lax=False, parents=(10**6,), priority=0, queue="q")
    rig.clock.advance(5)
    rig.backend.retry_job(id, 0, options)
    job = rig.job(id)
    got = (job.attempts, job.lax, job.parents, job.priority, job.queue)
    rig.equal("a retry takes new values, also 0, False and empty ones", got, (8, False, [10**6], 0, "q"))
    rig.near("a new expiry counts from now", job.expires, START + timedelta(seconds=65))
    rig.equal("it is claimed from its new queue", rig.claimed(queues=("q",)), [id])


@check("RETRY-01")
def only_with_the_right_retries(rig: Rig) -> None:
    claim = rig.active()
    rig.end(Failed(claim.id, 0, message="x"))
    before = rig.job(claim.id)
    rig.equal("not with more retries", rig.backend.retry_job(claim.id, 1, RetryOptions()), False)
    rig.equal("not an unknown job", rig.backend.retry_job(10**9, 0, RetryOptions()), False)
    rig.equal("a refused retry changes nothing", rig.job(claim.id), before)
    rig.backend.retry_job(claim.id, 0, RetryOptions())
    rig.equal("not with fewer retries", rig.backend.retry_job(claim.id, 0, RetryOptions()), False)
    rig.equal("a refused retry adds no retry", rig.job(claim.id).retries, 1)


@check("RETRY-01")
def not_once_expired(rig: Rig) -> None:
    waiting, done, early = rig.enqueue(expire=10), rig.active(expire=10), rig.active(expire=10)
    rig.end(Finished(done.id, 0))
    rig.end(Finished(early.id, 0))
    rig.clock.advance(10 - rig.resolution)
    rig.equal("until it expires a job is retried", rig.backend.retry_job(early.id, 0, RetryOptions()), True)
    rig.clock.advance(rig.resolution)
    for id in (waiting, done.id):
        answer = rig.backend.retry_job(id, 0, RetryOptions())
        rig.equal("a job whose expiry has passed is not retried", answer, False)
        answer = rig.backend.retry_job(id, 0, RetryOptions(expire=60))
        rig.equal("a job whose expiry has passed is retried with a new one", answer, True)
        rig.equal("it is listed again", rig.job(id).retries, 1)
    rig.equal("they are claimable again", sorted(rig.claimed()), [waiting, done.id])


@check("RETRY-01")
def an_active_job_is_taken_away(rig: Rig) -> None:
    claim = rig.active()
    rig.backend.retry_job(claim.id, 0, RetryOptions())
    rig.equal("its worker cannot settle it", rig.settle(Finished(claim.id, 0)), [False])
    rig.equal("its worker is no more", rig.job(claim.id).worker, None)


@check("RETRY-02")
def a_key_that_is_held(rig: Rig) -> None:
    first = rig.active(uniqkey="k")
    rig.end(Finished(first.id, 0))
    second = rig.enqueue(uniqkey="k")
    before = rig.job(first.id)
    answer = rig.backend.retry_job(first.id, 0, RetryOptions())
    rig.equal("a terminal job whose key another live job holds is not retried", answer, False)
    rig.equal("a refused retry changes nothing", rig.job(first.id), before)
    rig.claim_one(second)
    answer = rig.backend.retry_job(first.id, 0, RetryOptions())
    rig.equal("a terminal job whose key an active job holds is not retried", answer, False)
    rig.end(Finished(second, 0))
    rig.equal("once the key is free it is", rig.backend.retry_job(first.id, 0, RetryOptions()), True)
    rig.equal("a retried job holds its key again", rig.enqueue(uniqkey="k"), first.id)
    rig.equal("the holder itself can be retried", rig.backend.retry_job(first.id, 1, RetryOptions()), True)


@check("RETRY-02")
def a_key_that_expired(rig: Rig) -> None:
    first = rig.active(uniqkey="k")
    rig.end(Failed(first.id, 0, message="x"))
    rig.enqueue(uniqkey="k", expire=10)
    rig.clock.advance(10)
    answer = rig.backend.retry_job(first.id, 0, RetryOptions())
    rig.equal("an expired inactive job holds no key against a retry", answer, True)


@check("RETRY-02")
def the_expired_come_back(rig: Rig) -> None:
    first = rig.enqueue(uniqkey="k", expire=10)
    rig.clock.advance(10)
    second = rig.enqueue(uniqkey="k")
    answer = rig.backend.retry_job(first, 0, RetryOptions(expire=60))
    rig.equal("an expired job whose key is held is not retried", answer, False)
    rig.equal("one live job holds the key", [job.id for job in rig.listed()], [second])


@check("RETRY-02")
def retried_while_another_comes(rig: Rig) -> None:
    from minion_core.records import NewJob  # noqa: PLC0415, only here

    clients = [rig.client(), rig.client()]
    for number in range(rig.rounds(12)):
        key = f"k{number}"
        old = rig.active(uniqkey=key)
        rig.end(Finished(old.id, 0))
        rig.together(
            [
                lambda old=old: clients[0].retry_job(old.id, 0, RetryOptions()),  # type: ignore[misc]
                lambda key=key: clients[1].enqueue([NewJob("t", uniqkey=key)])[0].created,  # type: ignore[misc]
            ]
        )
        live = [job.id for job in rig.listed(states=["inactive", "active"]) if job.uniqkey == key]
        rig.equal("a retry and an enqueue at once leave one holder of a key", len(live), 1)
        rig.claimed()


@check("REMOVE-01")
def all_but_active_ones(rig: Rig) -> None:
    inactive, active, failed, done = rig.enqueue(delay=5), rig.active(), rig.active(), rig.active()
    other = rig.enqueue(delay=5)
    rig.end(Failed(failed.id, 0, message="x"))
    rig.end(Finished(done.id, 0))
    ids = [inactive, active.id, failed.id, done.id, 10**9]
    gone = rig.backend.remove_jobs(ids)
    rig.equal("inactive, failed and finished jobs are removed", sorted(gone), [inactive, failed.id, done.id])
    rig.equal("active ones stay", [job.id for job in rig.listed()], [other, active.id])
    rig.equal("an active job goes on", rig.settle(Finished(active.id, 0)), [True])
    rig.equal("what is gone is not removed again", rig.backend.remove_jobs(ids), [active.id])


@check("REMOVE-01")
def none_and_many(rig: Rig) -> None:
    from minion_core.records import NewJob  # noqa: PLC0415, only here

    rig.equal("removing nothing removes nothing", rig.backend.remove_jobs([]), [])
    ids = [made.id for made in rig.backend.enqueue([NewJob("t") for _ in range(2500)])]
    rig.equal("many are removed at once", sorted(rig.backend.remove_jobs(ids)), ids)
    rig.equal("none of them is left", rig.listed(), [])


@check("REMOVE-01")
def the_removed_is_gone(rig: Rig) -> None:
    claim = rig.active()
    rig.end(Released(claim.id, 0))
    rig.backend.remove_jobs([claim.id])
    rig.equal("what is removed is not claimable", rig.claimed(), [])
    rig.equal("what is removed is not retried", rig.backend.retry_job(claim.id, 1, RetryOptions()), False)


@check("NOTE-01")
def merges_top_level_keys(rig: Rig) -> None:
    id = rig.enqueue(notes={"keep": {"deep": 1}, "change": {"a": 1, "b": 2}, "drop": 1})
    rig.equal("a job is noted", rig.backend.note(id, {"change": {"c": 3}, "drop": None, "new": [1]}), True)
    want: dict[str, Any] = {"keep": {"deep": 1}, "change": {"c": 3}, "new": [1]}
    rig.equal("top-level keys are merged, None removes", rig.job(id).notes, want)
    rig.backend.note(id, {"zero": 0, "false": False, "empty": {}, "text": "", "inner": {"x": None}})
    want |= {"zero": 0, "false": False, "empty": {}, "text": "", "inner": {"x": None}}
    rig.equal("0, False and empty values are values", rig.job(id).notes, want)
    rig.equal("no change is a change, too", rig.backend.note(id, {}), True)
    rig.equal("dropping what is not there drops nothing", rig.backend.note(id, {"nothing": None}), True)
    rig.equal("the rest is kept", rig.job(id).notes, want)


@check("NOTE-01")
def whatever_its_state(rig: Rig) -> None:
    claim = rig.active()
    rig.backend.note(claim.id, {"a": 1})
    rig.end(Finished(claim.id, 0))
    rig.equal("a finished job is noted", rig.backend.note(claim.id, {"b": 2}), True)
    rig.equal("notes of any state are kept", rig.job(claim.id).notes, {"a": 1, "b": 2})
    rig.equal("an unknown job is not", rig.backend.note(10**9, {"a": 1}), False)
    rig.backend.remove_jobs([claim.id])
    rig.equal("a removed job is not", rig.backend.note(claim.id, {"a": 1}), False)


@check("NOTE-01")
def any_text_is_a_key(rig: Rig) -> None:
    keys = [
        "",
        " ",
        "a.b",
        "$",
        "$.a",
        "a[0]",
        '"',
        "'",
        "\\",
        "\u00e9",
        "\U0001f980",
        "x" * 2000,
        "%s",
        ":n",
        "?",
    ]
    id = rig.enqueue()
    for number, key in enumerate(keys):
        rig.backend.note(id, {key: number})
    rig.equal("any text is a key", rig.job(id).notes, {key: number for number, key in enumerate(keys)})
    for key in keys:
        rig.equal("jobs are found by any key", [job.id for job in rig.listed(notes=[key])], [id])
    rig.backend.note(id, dict.fromkeys(keys))
    rig.equal("any key is removed", rig.job(id).notes, {})


@check("NOTE-01")
def values_come_back(rig: Rig) -> None:
    from minion_conformance.checks.enqueueing import DEEP  # noqa: PLC0415, shared

    id = rig.enqueue()
    rig.backend.note(id, DEEP)
    rig.backend.note(id, {"more": 10**30})
    rig.equal("noted values come back equal", rig.job(id).notes, {**DEEP, "more": 10**30})


@check("NOTE-01")
def at_the_same_moment(rig: Rig) -> None:
    clients = [rig.backend, *(rig.client() for _ in range(3))]
    for _ in range(rig.rounds(12)):
        id = rig.enqueue(notes={"old": 1})
        calls = [
            lambda c=client, n=number: c.note(id, {f"key {n}": n})  # noqa: B023
            for number, client in enumerate(clients)
        ]
        rig.together(calls)
        want = {"old": 1, **{f"key {number}": number for number in range(4)}}
        rig.equal("of notes made at once none is lost", rig.job(id).notes, want)
