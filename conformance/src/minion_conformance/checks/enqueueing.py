"""ENQ: what is stored when a job is enqueued, and what is refused."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from minion_conformance.check import check
from minion_conformance.clock import START
from minion_conformance.rig import Rig
from minion_core import values
from minion_core.errors import Unsupported
from minion_core.records import (
    Failed,
    Finished,
    JobFilter,
    NewJob,
    Released,
    Replaced,
    RetryOptions,
    State,
)

DEEP: dict[str, Any] = {
    "empty": [[], {}, "", 0, False, None],
    "nested": [{"a": [{"b": [[[None]]]}]}],
    "integers": [0, -1, 2**31, 2**53 + 1, 2**63, -(2**64), 10**40],
    "numbers": [0.1, -1.5e300, 5e-324, 1.0],
    "text": [
        "\u00e4\u20ac",
        "\U0001f980 \U0010ffff",
        "\u2028 \x7f \x1b \\ \" ' % \n\r\t",
        "\\u0000",
        "null",
        "'; --",
    ],
    "": "an empty key",
    "a.b": 0,
    "keys": {"": 1, "a b": 2, "\u00e9": 3, "$.x": 4, '"': 5, "a.b[0]": 6},
}


@check("ENQ-01")
def defaults(rig: Rig) -> None:
    answer = rig.backend.enqueue([NewJob("t")])
    rig.equal("one job, one answer", len(answer), 1)
    rig.equal("a job that was stored is answered as created", answer[0].created, True)
    job = rig.job(answer[0].id)
    want = {
        "task": "t",
        "args": [],
        "kwargs": {},
        "attempts": 1,
        "children": [],
        "coalesce": None,
        "created": START,
        "delayed": START,
        "exit_status": None,
        "expires": None,
        "failures": 0,
        "finished": None,
        "grabbed_until": None,
        "keep_for": None,
        "lax": False,
        "lease": None,
        "notes": {},
        "parents": [],
        "priority": 0,
        "queue": "default",
        "result": None,
        "retried": None,
        "retries": 0,
        "started": None,
        "state": State.INACTIVE,
        "uniqkey": None,
        "worker": None,
    }
    for name, value in want.items():
        rig.equal(f"a new job's `{name}`", getattr(job, name), value)


@check("ENQ-01")
def fields_given(rig: Rig) -> None:
    parents = (rig.enqueue(), rig.enqueue())
    given: dict[str, Any] = {
        "args": ["a", 1],
        "kwargs": {"k": [2]},
        "attempts": 7,
        "lax": True,
        "notes": {"n": {"m": 1}},
        "priority": -3,
        "queue": "other",
        "uniqkey": "key",
        "coalesce": "value",
        "lease": 12.5,
        "keep_for": 86400.25,
    }
    job = rig.job(rig.enqueue("task", delay=30, expire=timedelta(hours=1), parents=parents, **given))
    for name, value in given.items():
        rig.equal(f"`{name}` as it was given", getattr(job, name), value)
    rig.equal("`task` as it was given", job.task, "task")
    rig.equal("`parents` as they were given", job.parents, list(parents))
    rig.near("`delayed` is now plus the delay", job.delayed, START + timedelta(seconds=30))
    rig.near("`expires` is now plus the expiry", job.expires, START + timedelta(hours=1))


@check("ENQ-01")
def created_is_now(rig: Rig) -> None:
    for step in (0.0, 1.5, 86400.0):
        rig.clock.advance(step)
        rig.near("`created` is now", rig.job(rig.enqueue()).created, rig.clock())


@check("ENQ-02")
def values_come_back(rig: Rig) -> None:
    id = rig.enqueue(args=[DEEP, *DEEP.values()], kwargs=DEEP, notes=DEEP)
    claim = rig.claim_one(id)
    for told, where in (("claimed", claim), ("listed", rig.job(id))):
        rig.equal(f"args come back equal when {told}", where.args, [DEEP, *DEEP.values()])
        rig.equal(f"kwargs come back equal when {told}", where.kwargs, DEEP)
        rig.equal(f"notes come back equal when {told}", where.notes, DEEP)
    rig.end(Finished(id, 0, result=DEEP))
    rig.equal("a result comes back equal", rig.job(id).result, DEEP)


@check("ENQ-02")
def types_come_back(rig: Rig) -> None:
    values = [1, 1.0, True, "1", None, [], {}]
    id = rig.enqueue(args=values)
    kinds = [type(value) for value in rig.job(id).args]
    rig.equal("values come back with their types", kinds, [type(value) for value in values])


@check("ENQ-02")
def results_of_all_kinds(rig: Rig) -> None:
    results: list[Any] = [None, False, 0, "", [], {}, "text", 2**70, [None]]
    for result in results:
        claim = rig.active()
        rig.end(Finished(claim.id, 0, result=result))
        rig.equal("a result comes back equal", rig.job(claim.id).result, result)


@check("ENQ-02")
def a_megabyte(rig: Rig) -> None:
    text = "0123456789abcd\u00e4\U0001f980" * 65536
    id = rig.enqueue(args=[text], notes={"text": text})
    claim = rig.claim_one(id)
    rig.true("a megabyte of text comes back in args", claim.args == [text], "it does not")
    rig.true("a megabyte of text comes back in notes", claim.notes == {"text": text}, "it does not")
    rig.end(Finished(id, 0, result=text))
    rig.true("a megabyte of text comes back as a result", rig.job(id).result == text, "it does not")


@check("ENQ-03")
def in_the_order_given(rig: Rig) -> None:
    jobs = [NewJob("t", [number], uniqkey="k" if number in (10, 20) else None) for number in range(50)]
    answer = rig.backend.enqueue(jobs)
    rig.equal("each job has an answer", len(answer), 50)
    rig.equal("answers say what was created", [a.created for a in answer], [n != 20 for n in range(50)])
    stored = {job.id: job.args[0] for job in rig.listed()}
    rig.equal(
        "answers stand in the order given",
        [stored.get(a.id) for n, a in enumerate(answer) if n != 20],
        [n for n in range(50) if n != 20],
    )
    rig.equal("the second of a key is answered with the first's id", answer[20].id, answer[10].id)


@check("ENQ-03")
def none_at_all(rig: Rig) -> None:
    rig.equal("enqueueing nothing answers nothing", rig.backend.enqueue([]), [])
    rig.equal("enqueueing nothing stores nothing", rig.listed(), [])


@check("ENQ-03")
def all_or_none(rig: Rig) -> None:
    broken: Any = "not a job"
    rig.refused(
        "enqueueing many of which one is no job raises",
        Exception,
        lambda: rig.backend.enqueue([NewJob("t"), NewJob("t", parents=(1,)), broken]),
    )
    rig.equal("when one cannot be enqueued, none is", rig.listed(), [])


@check("ENQ-03")
def a_large_batch(rig: Rig) -> None:
    answer = rig.backend.enqueue([NewJob("t", [number]) for number in range(2500)])
    rig.equal("a large batch is stored whole", rig.backend.list_jobs(0, 1, JobFilter()).total, 2500)
    rig.equal("a large batch has as many ids", len({made.id for made in answer}), 2500)
    rig.equal("a large batch stands in order", answer, sorted(answer, key=lambda made: made.id))


REFUSED: dict[str, Callable[[], object]] = {
    "NaN": lambda: NewJob("t", [math.nan]),
    "infinity": lambda: NewJob("t", notes={"x": -math.inf}),
    "bytes": lambda: NewJob("t", [b"x"]),
    "a set": lambda: NewJob("t", kwargs={"x": {1}}),
    "an object": lambda: NewJob("t", [object()]),
    "a datetime": lambda: NewJob("t", [START]),
    "keys that are no text": lambda: NewJob("t", kwargs={1: 2}),  # type: ignore[dict-item]
    "args that are no array": lambda: NewJob("t", "text"),
    "args that are an object": lambda: NewJob("t", {"a": 1}),  # type: ignore[arg-type]
    "kwargs that are an array": lambda: NewJob("t", kwargs=[1]),  # type: ignore[arg-type]
    "NUL in args": lambda: NewJob("t", ["a\0b"]),
    "NUL in a key": lambda: NewJob("t", notes={"a\0": 1}),
    "a lone surrogate": lambda: NewJob("t", ["\ud800"]),
    "a lone surrogate in a name": lambda: NewJob("t\udfff"),
    "an empty task": lambda: NewJob(""),
    "a task of 256 characters": lambda: NewJob("x" * 256),
    "a task that is no text": lambda: NewJob(1),  # type: ignore[arg-type]
    "NUL in a queue": lambda: NewJob("t", queue="a\0"),
    "an empty queue": lambda: NewJob("t", queue=""),
    "an empty key": lambda: NewJob("t", uniqkey=""),
    "a key of 256 characters": lambda: NewJob("t", uniqkey="x" * 256),
    "an empty coalesce value": lambda: NewJob("t", coalesce=""),
    "attempts of 0": lambda: NewJob("t", attempts=0),
    "attempts beyond 32 bit": lambda: NewJob("t", attempts=2**31),
    "a priority beyond 32 bit": lambda: NewJob("t", priority=-(2**31) - 1),
    "a priority that is no whole number": lambda: NewJob("t", priority=1.5),  # type: ignore[arg-type]
    "an expiry of 0": lambda: NewJob("t", expire=0),
    "a lease below 0": lambda: NewJob("t", lease=-1),
    "a lease of 0": lambda: NewJob("t", lease=0),
    "a naive datetime": lambda: NewJob("t", delay=datetime(2031, 1, 1)),  # noqa: DTZ001
    "a delay that is text": lambda: NewJob("t", delay="5"),  # type: ignore[arg-type]
    "a delay of NaN": lambda: NewJob("t", delay=math.nan),
    "a parent of 0": lambda: NewJob("t", parents=(0,)),
    "a parent that is text": lambda: NewJob("t", parents=("1",)),  # type: ignore[arg-type]
    "a parent that is True": lambda: NewJob("t", parents=(True,)),
    "a retry's attempts of 0": lambda: RetryOptions(attempts=0),
    "a retry's naive datetime": lambda: RetryOptions(delay=datetime(2031, 1, 1)),  # noqa: DTZ001
    "a retry's empty queue": lambda: RetryOptions(queue=""),
    "a result of NaN": lambda: Finished(1, 0, result=math.nan),
    "a failure's NUL": lambda: Failed(1, 0, message="a\0"),
}


@check("ENQ-04")
def what_cannot_be_kept(rig: Rig) -> None:
    for told, make in REFUSED.items():
        error = rig.refused(f"{told} is refused", (TypeError, ValueError), make)
        rig.true("a refusal says what is wrong", len(str(error)) > 10, f"{told}: {error}")


@check("ENQ-04")
def notes_that_cannot_be_kept(rig: Rig) -> None:
    id = rig.enqueue(notes={"keep": 1})
    bad: list[Any] = [
        {"x": math.nan},
        {"x": b""},
        {"x": "\0"},
        {"x\ud800": 1},
        {1: 2},
        {"x": {"y": object()}},
    ]
    for changes in bad:
        rig.refused(
            "a note that JSON cannot hold is refused",
            (TypeError, ValueError),
            lambda changes=changes: rig.backend.note(id, {"other": 1, **changes}),
        )
    rig.equal("a refused note changes nothing", rig.job(id).notes, {"keep": 1})


@check("ENQ-05")
def not_before_its_time(rig: Rig) -> None:
    for delay in (0.001, 1, 3600.5, timedelta(days=400), START + timedelta(days=2)):
        rig.clock.instant = START
        id = rig.enqueue(delay=delay)
        due = delay if isinstance(delay, datetime) else rig.clock.after(values.seconds(delay, "delay"))
        rig.clock.instant = due - timedelta(seconds=rig.resolution)
        rig.equal("a delayed job is not claimable before `delayed`", rig.claimed(), [])
        rig.clock.instant = due
        rig.equal("a delayed job is claimable from `delayed` on", rig.claimed(), [id])


@check("ENQ-05")
def many_due_at_once(rig: Rig) -> None:
    ids = [made.id for made in rig.backend.enqueue([NewJob("t", delay=60) for _ in range(300)])]
    rig.backend.enqueue([NewJob("t", delay=61) for _ in range(10)])
    rig.equal("delayed jobs are not claimable", rig.claimed(500), [])
    rig.clock.advance(60)
    claimed: list[int] = []
    while more := rig.claimed(500):
        claimed += more
    rig.equal("all jobs that fell due are claimable, and no others", claimed, ids)


@check("ENQ-05")
def a_delay_delays_only_its_own(rig: Rig) -> None:
    rig.enqueue(delay=5, priority=9)
    id = rig.enqueue()
    rig.equal("a delayed job is in nobody's way", rig.claimed(), [id])


@check("ENQ-06")
def neither_claimable_nor_listed(rig: Rig) -> None:
    id = rig.enqueue(expire=10)
    rig.clock.advance(10 - rig.resolution)
    rig.equal("a job is listed until it expires", len(rig.listed(ids=[id])), 1)
    rig.clock.advance(rig.resolution)
    rig.equal("an expired job is not listed", rig.listed(), [])
    rig.equal("an expired job does not count", rig.backend.list_jobs(0, 9, JobFilter()).total, 0)
    rig.equal("an expired job is not claimable", rig.claimed(), [])
    rig.equal("an expired job is not claimable by its id", rig.claimed(id=id), [])


@check("ENQ-06")
def claimable_until_it_expires(rig: Rig) -> None:
    id = rig.enqueue(expire=10)
    rig.clock.advance(10 - rig.resolution)
    rig.equal("a job is claimable until it expires", rig.claimed(), [id])


@check("ENQ-06")
def only_while_inactive(rig: Rig) -> None:
    done, running = rig.enqueue(expire=10), rig.enqueue(expire=10)
    rig.claimed()
    rig.end(Finished(done, 0))
    rig.clock.advance(20)
    rig.equal("what expires is listed once it was claimed", [job.id for job in rig.listed()], [running, done])
    rig.equal("an active job does not expire", rig.settle(Finished(running, 0)), [True])


@check("ENQ-06")
def given_back_too_late(rig: Rig) -> None:
    claim = rig.active(expire=10)
    rig.clock.advance(10)
    rig.end(Released(claim.id, 0))
    rig.equal("a job given back after it expired is not claimable", rig.claimed(), [])
    rig.equal("a job given back after it expired is not listed", rig.listed(), [])


@check("ENQ-07")
def one_live_holder(rig: Rig) -> None:
    first = rig.backend.enqueue([NewJob("t", [1], uniqkey="k")])[0]
    second = rig.backend.enqueue([NewJob("t", [2], uniqkey="k")])[0]
    rig.equal("the second of a key is not created", second.created, False)
    rig.equal("the second of a key is answered with the holder's id", second.id, first.id)
    rig.equal("the second of a key stores nothing", [job.args for job in rig.listed()], [[1]])
    other = rig.backend.enqueue(
        [NewJob("u", uniqkey="k"), NewJob("t", uniqkey="l"), NewJob("t"), NewJob("t")]
    )
    rig.equal("a key belongs to its task", [made.created for made in other], [True] * 4)


@check("ENQ-07")
def active_and_delayed_hold(rig: Rig) -> None:
    claim = rig.active(uniqkey="k")
    rig.equal("an active job holds its key", rig.enqueue(uniqkey="k"), claim.id)
    rig.end(Failed(claim.id, 0, message="x"))
    later = rig.enqueue(uniqkey="k", delay=100)
    rig.true("a failed job does not hold its key", later != claim.id)
    rig.equal("a delayed job holds its key", rig.enqueue(uniqkey="k"), later)


@check("ENQ-07")
def terminal_jobs_let_go(rig: Rig) -> None:
    seen = []
    for _ in range(3):
        claim = rig.active(uniqkey="k")
        seen.append(claim.id)
        rig.end(Finished(claim.id, 0))
    rig.equal("a finished job does not hold its key", len(set(seen)), 3)
    claim = rig.active(uniqkey="k")
    rig.backend.remove_jobs([claim.id])
    rig.equal("a job that could not be removed holds its key", rig.enqueue(uniqkey="k"), claim.id)
    rig.end(Released(claim.id, 0))
    rig.backend.remove_jobs([claim.id])
    rig.true("a removed job does not hold its key", rig.enqueue(uniqkey="k") != claim.id)


@check("ENQ-07")
def expired_jobs_let_go(rig: Rig) -> None:
    first = rig.enqueue(uniqkey="k", expire=10)
    rig.clock.advance(10 - rig.resolution)
    rig.equal("a job holds its key until it expires", rig.enqueue(uniqkey="k"), first)
    rig.clock.advance(rig.resolution)
    second = rig.enqueue(uniqkey="k")
    rig.true("an expired inactive job does not hold its key", second != first, f"{second} was answered")
    rig.equal("the key's new holder is listed", [job.id for job in rig.listed()], [second])
    rig.equal("the key's new holder is claimable", rig.claimed(), [second])


@check("ENQ-07")
def active_past_its_expiry_holds(rig: Rig) -> None:
    claim = rig.active(uniqkey="k", expire=10)
    rig.clock.advance(20)
    rig.equal("an active job holds its key past its expiry", rig.enqueue(uniqkey="k"), claim.id)


@check("ENQ-07")
def twice_in_one_batch(rig: Rig) -> None:
    answer = rig.backend.enqueue(
        [NewJob("t", uniqkey="k"), NewJob("t"), NewJob("t", uniqkey="k"), NewJob("t", uniqkey="l")]
    )
    created = [made.created for made in answer]
    rig.equal("the second of a key in one batch is not created", created, [True, True, False, True])
    rig.equal("the second of a key in one batch has the first's id", answer[2].id, answer[0].id)
    rig.equal("the second of a key in one batch is not stored", len(rig.listed()), 3)


@check("ENQ-07")
def in_threads_at_once(rig: Rig) -> None:
    clients = [rig.backend, *(rig.client() for _ in range(3))]
    for number in range(rig.rounds(12)):
        key = f"key {number}"
        made = rig.together(
            [lambda c=c: c.enqueue([NewJob("t", uniqkey=key)])[0] for c in clients]  # type: ignore[misc]  # noqa: B023
        )
        rig.equal("of many at once one creates the job", sum(one.created for one in made), 1)
        rig.equal("of many at once all get its id", len({one.id for one in made}), 1)


@check("ENQ-07")
def a_replacement_inherits_the_key(rig: Rig) -> None:
    claim = rig.active(uniqkey="k")
    settled = rig.backend.settle([Replaced(claim.id, 0, jobs=(NewJob("t", uniqkey="k"),))])[0]
    rig.equal("a job may carry the key of the one it replaces", [m.created for m in settled.jobs], [True])
    rig.equal("the replacement holds the key", rig.enqueue(uniqkey="k"), settled.jobs[0].id)


@check("ENQ-08")
def with_the_callers_transaction(rig: Rig) -> None:
    kept, lost = "kept", "lost"
    with rig.hook("transaction")(rig.url) as caller:
        made = rig.backend.enqueue([NewJob("t", [kept])], connection=caller.connection)
        rig.equal("nobody sees a job before its commit", rig.listed(), [])
        if rig.capabilities.concurrent_claims:
            rig.equal("no worker gets a job before its commit", rig.claimed(), [])
        caller.commit()
    rig.equal("the job appears when the caller commits", [job.args for job in rig.listed()], [[kept]])
    rig.equal("the job that appears has the id that was answered", rig.listed()[0].id, made[0].id)
    with rig.hook("transaction")(rig.url) as caller:
        rig.backend.enqueue([NewJob("t", [lost])] * 3, connection=caller.connection)
        caller.rollback()
    rig.equal("the job never existed if the caller rolls back", len(rig.listed()), 1)
    rig.equal("the committed job is claimable", rig.claimed(), [made[0].id])


@check("ENQ-08")
def a_failure_leaves_the_transaction_alone(rig: Rig) -> None:
    broken: Any = "not a job"
    with rig.hook("transaction")(rig.url) as caller:
        rig.backend.enqueue([NewJob("t")], connection=caller.connection)
        rig.refused(
            "a batch with what is no job raises",
            Exception,
            lambda: rig.backend.enqueue([broken], connection=caller.connection),
        )
        caller.commit()
    rig.equal("nothing on the caller's connection is rolled back by us", len(rig.listed()), 1)


@check("ENQ-09")
def a_connection_is_refused(rig: Rig) -> None:
    rig.refused(
        "a connection raises Unsupported",
        Unsupported,
        lambda: rig.backend.enqueue([NewJob("t")], connection=object()),
    )
    rig.equal("what is unsupported stores nothing", rig.listed(), [])
