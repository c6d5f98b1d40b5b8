"""CLAIM: which jobs a worker gets, in which order, and that nobody else gets them."""

from __future__ import annotations

import threading
import time
from datetime import timedelta
from typing import Any

from minion_conformance.check import check
from minion_conformance.clock import START
from minion_conformance.rig import PATIENCE, Rig, join
from minion_core.records import DequeueOptions, Finished, NewJob, State


@check("CLAIM-01")
def active_claimed_now(rig: Rig) -> None:
    id = rig.enqueue()
    rig.clock.advance(7)
    claimed = rig.claim()
    rig.equal("a job just enqueued is claimed", [job.id for job in claimed], [id])
    job = rig.job(id)
    rig.equal("a claimed job is active", job.state, State.ACTIVE)
    rig.equal("a claimed job's worker is the claimer", job.worker, rig.worker)
    rig.near("a claimed job started now", job.started, START + timedelta(seconds=7))
    rig.equal("a claim is no end", (job.finished, job.result, job.exit_status), (None, None, None))
    rig.equal("a claim costs no retry and no attempt", (job.retries, job.attempts), (0, 1))


@check("CLAIM-01")
def each_claimer_its_own(rig: Rig) -> None:
    workers = [rig.backend.register_worker(None, "host", number, {}) for number in range(3)]
    for worker in workers:
        id = rig.enqueue()
        rig.claim_one(id, worker=worker)
        rig.equal("a claimed job's worker is the claimer", rig.job(id).worker, worker)


@check("CLAIM-02")
def priority_then_age(rig: Rig) -> None:
    priorities = [0, 5, -1, 5, 0, 100, -100, 5, 0]
    ids = [rig.enqueue(priority=priority) for priority in priorities]
    want = [id for _, id in sorted(zip(priorities, ids, strict=True), key=lambda pair: (-pair[0], pair[1]))]
    got = [rig.claim_one().id for _ in ids]
    rig.equal("the highest priority first, then the smallest id", got, want)


@check("CLAIM-02")
def across_queues_and_tasks(rig: Rig) -> None:
    wanted: list[tuple[int, int]] = []
    for number in range(24):
        priority = (number * 7) % 5
        id = rig.enqueue("abcd"[number % 4], queue="xyz"[number % 3], priority=priority)
        wanted.append((-priority, id))
    got: list[int] = []
    while claimed := rig.claimed(5, tasks=("d", "a", "c", "b"), queues=("z", "x", "y")):
        got += claimed
    rig.equal(
        "the highest priority first, then the smallest id, across queues and tasks",
        got,
        [id for _, id in sorted(wanted)],
    )


@check("CLAIM-02")
def whenever_it_became_claimable(rig: Rig) -> None:
    parent = rig.enqueue("parent")
    blocked = rig.enqueue(parents=(parent,), priority=1)
    delayed = rig.enqueue(delay=10, priority=1)
    retried = rig.active(priority=1, attempts=2)
    plain = rig.enqueue(priority=1)
    rig.clock.advance(10)
    rig.end(Finished(rig.claim_one(parent, tasks=("parent",)).id, 0))
    from minion_core.records import Failed  # noqa: PLC0415, only here

    rig.end(Failed(retried.id, 0, message="x", retry_in=0))
    want = [blocked, delayed, retried.id, plain]
    rig.equal("the smallest id first, whenever it became claimable", rig.claimed(), want)


@check("CLAIM-02")
def the_oldest_of_many(rig: Rig) -> None:
    tasks = [f"t{number}" for number in range(50)]
    made = rig.backend.enqueue([*(NewJob("t0") for _ in range(60)), *(NewJob(task) for task in tasks[1:])])
    ids = sorted(job.id for job in made)
    rig.equal("the oldest of many of one task", rig.claimed(1, tasks=("t0",)), ids[:1])
    rig.equal("the oldest of many tasks, of which one has the most", rig.claimed(30, tasks=tasks), ids[1:31])


@check("CLAIM-03")
def once_in_turn(rig: Rig) -> None:
    id = rig.enqueue()
    other = rig.client()
    rig.equal("the first claimer gets the job", rig.claimed(), [id])
    again = other.dequeue(rig.worker, DequeueOptions(tasks=("t",)))
    rig.equal("an active job is not claimed again", [job.id for job in again], [])
    rig.equal("an active job is not claimed again by its id", rig.claimed(id=id), [])


@check("CLAIM-03")
def once_in_threads(rig: Rig) -> None:
    total = rig.rounds(400)
    rig.backend.enqueue([NewJob("t", priority=number % 3) for number in range(total)])
    clients = [rig.backend, *(rig.client() for _ in range(3))]
    workers = [rig.backend.register_worker(None, "host", number, {}) for number in range(4)]

    def drain(number: int) -> list[tuple[int, int]]:
        mine: list[tuple[int, int]] = []
        while claimed := clients[number].dequeue(workers[number], DequeueOptions(tasks=("t",), limit=3)):
            mine += [(job.id, job.retries) for job in claimed]
        return mine

    shares = rig.together([lambda number=number: drain(number) for number in range(4)])  # type: ignore[misc]
    attempts = [attempt for share in shares for attempt in share]
    rig.facts["claimers that got jobs"] = sum(bool(share) for share in shares)
    rig.equal("an attempt is claimed once", len(attempts), len(set(attempts)))
    rig.equal("every job is claimed", len(attempts), total)
    owner = {id: workers[number] for number, share in enumerate(shares) for id, _ in share}
    stored = {job.id: job.worker for job in rig.listed()}
    rig.equal("the store says who claimed what", stored, owner)


def _while_claim_is_held(rig: Rig) -> tuple[list[int], list[int], float]:
    with rig.hook("hold_claim")(rig.url, DequeueOptions(tasks=("t",)), rig.worker) as held:
        began = time.perf_counter()
        got = rig.claimed(1)
        return list(held), got, time.perf_counter() - began


@check("CLAIM-04")
def past_a_claim_held_open(rig: Rig) -> None:
    rig.use_real_time()
    ids = [rig.enqueue() for _ in range(3)]
    held, got, waited = _while_claim_is_held(rig)
    rig.true("the author's hook holds a claim", len(held) == 1 and held[0] in ids, f"it holds {held}")
    rig.true("another worker is not kept waiting by a claim", waited < 0.5, f"it waited {waited:.2f} s")
    rig.true("another worker gets a different job", len(got) == 1 and got != held, f"{got} beside {held}")
    rig.facts["waited beside a held claim, in ms"] = round(waited * 1000)


@check("CLAIM-09")
def served_after_a_claim(rig: Rig) -> None:
    ids = [made.id for made in rig.backend.enqueue([NewJob("t")] * 24)]
    clients = [rig.client() for _ in range(6)]

    def four(number: int) -> list[int]:
        options = DequeueOptions(tasks=("t",))
        return [job.id for _ in range(4) for job in clients[number].dequeue(number + 1, options)]

    got = rig.together([lambda number=number: four(number) for number in range(6)])  # type: ignore[misc]
    claimed = sorted(id for share in got for id in share)
    rig.equal("claims that come together are all served", claimed, ids)


@check("CLAIM-05")
def only_named_queues(rig: Rig) -> None:
    ids = {queue: rig.enqueue(queue=queue) for queue in ("default", "a", "b", "c")}
    rig.equal("without queues named, only `default`", rig.claimed(), [ids["default"]])
    rig.equal("only jobs in the named queues", rig.claimed(queues=("a", "c", "z")), [ids["a"], ids["c"]])
    rig.equal("no queue, no job", rig.claimed(queues=()), [])
    rig.equal("other queues' jobs stay", rig.claimed(queues=("b",)), [ids["b"]])


@check("CLAIM-05")
def only_named_tasks(rig: Rig) -> None:
    a, b = rig.enqueue("a", priority=9), rig.enqueue("b")
    rig.equal("no task, no job", rig.claimed(tasks=()), [])
    rig.equal("only the named tasks", rig.claimed(tasks=("b", "c")), [b])
    rig.equal("another task's jobs stay", rig.claimed(tasks=("a",)), [a])


@check("CLAIM-05")
def only_from_a_priority_on(rig: Rig) -> None:
    low, middle, high = (rig.enqueue(priority=priority) for priority in (-5, 0, 5))
    rig.equal("none below the least priority", rig.claimed(min_priority=6), [])
    rig.equal("at the least priority, too", rig.claimed(min_priority=5), [high])
    rig.equal("a least priority of 0 is one", rig.claimed(min_priority=0), [middle])
    rig.equal("a least priority below 0", rig.claimed(min_priority=-5), [low])


@check("CLAIM-05")
def only_the_given_id(rig: Rig) -> None:
    first, second = rig.enqueue(priority=9), rig.enqueue()
    rig.equal("only the given id", rig.claimed(id=second), [second])
    rig.equal("no job of an unknown id", rig.claimed(id=second + 1000), [])
    rig.equal("no job of another id", rig.claimed(), [first])
    blocked = rig.enqueue(delay=60)
    rig.equal("the given id must be claimable, too", rig.claimed(id=blocked), [])


@check("CLAIM-05")
def only_a_coalesce_value(rig: Rig) -> None:
    values = ("a", "ab", "abc", "b", "A", "a%", "a_c", "\u00e9x", None)
    ids = {value: rig.enqueue(coalesce=value) for value in values}
    rig.equal("only jobs with that coalesce value", rig.claimed(coalesce="ab"), [ids["ab"]])
    rig.equal("no job with another value", rig.claimed(coalesce="x"), [])
    rig.equal("a prefix's `%` is taken literally", rig.claimed(coalesce_prefix="a%"), [ids["a%"]])
    rig.equal("a prefix's `_` is taken literally", rig.claimed(coalesce_prefix="a_"), [ids["a_c"]])
    rig.equal("a prefix beyond ASCII", rig.claimed(coalesce_prefix="\u00e9"), [ids["\u00e9x"]])
    rig.equal(
        "only jobs with that prefix, case and all", rig.claimed(coalesce_prefix="a"), [ids["a"], ids["abc"]]
    )
    rig.equal("jobs without the value stay", rig.claimed(), [ids["b"], ids["A"], ids[None]])


@check("CLAIM-05")
def prefixes_of_strange_characters(rig: Rig) -> None:
    for prefix in ("\\", "\\%", "*", "[a]", "?", "'", "\U0010ffff", "\U0001f980", "z", "\x7f", " "):
        yes = rig.enqueue(coalesce=prefix + "1")
        exact = rig.enqueue(coalesce=prefix)
        rig.enqueue(coalesce="1" + prefix)
        got = rig.claimed(coalesce_prefix=prefix)
        rig.equal("a prefix's characters are taken literally", got, [yes, exact])


@check("CLAIM-05")
def all_conditions_at_once(rig: Rig) -> None:
    options: dict[str, Any] = {
        "queues": ("q",),
        "tasks": ("a",),
        "min_priority": 3,
        "coalesce": "c",
        "coalesce_prefix": "c",
    }
    wrong = [
        rig.enqueue("a", queue="default", priority=3, coalesce="c"),
        rig.enqueue("b", queue="q", priority=3, coalesce="c"),
        rig.enqueue("a", queue="q", priority=2, coalesce="c"),
        rig.enqueue("a", queue="q", priority=3, coalesce="cc"),
        rig.enqueue("a", queue="q", priority=3),
    ]
    right = rig.enqueue("a", queue="q", priority=3, coalesce="c")
    rig.equal("all conditions hold at once", rig.claimed(**options), [right])
    for id in wrong:
        rig.equal("all conditions hold at once, with an id", rig.claimed(id=id, **options), [])


@check("CLAIM-06")
def never_more_than_limit(rig: Rig) -> None:
    ids = [
        made.id for made in rig.backend.enqueue([NewJob("t", priority=number % 4) for number in range(40)])
    ]
    want = sorted(ids, key=lambda id: (-((id - ids[0]) % 4), id)) if ids[-1] - ids[0] == 39 else None
    got: list[int] = []
    for limit in (1, 2, 7, 30):
        claimed = rig.claimed(limit)
        rig.equal("as many as the limit, if there are", len(claimed), limit)
        got += claimed
    if want is not None:
        rig.equal("the answer stands in the order of CLAIM-02", got, want)
    priorities = {job.id: job.priority for job in rig.listed()}
    rig.equal(
        "the answer stands in the order of priority and id",
        got,
        sorted(got, key=lambda id: (-priorities[id], id)),
    )


@check("CLAIM-06")
def as_the_clock_makes_more_claimable(rig: Rig) -> None:
    plain = [rig.enqueue() for _ in range(3)]
    delayed = [rig.enqueue(delay=10, priority=1) for _ in range(3)]
    rig.clock.advance(10)
    rig.equal("jobs whose delay has just ended are claimed in their turn", rig.claimed(2), delayed[:2])
    rig.equal("and no more are taken than were asked for", rig.claimed(9), [delayed[2], *plain])


@check("CLAIM-06")
def fewer_than_limit(rig: Rig) -> None:
    ids = [rig.enqueue() for _ in range(3)]
    rig.enqueue(delay=5)
    rig.enqueue(queue="other")
    rig.equal("all that are claimable, if they are fewer", rig.claimed(100), ids)


@check("CLAIM-06")
def behind_many_that_are_not(rig: Rig) -> None:
    parent = rig.enqueue("never")
    hindered = [NewJob("t", priority=9, parents=(parent,)) for _ in range(60)]
    hindered += [NewJob("t", priority=9, delay=60) for _ in range(60)]
    hindered += [NewJob("t", priority=9, expire=1, delay=0.5) for _ in range(60)]
    rig.backend.enqueue(hindered)
    ids = [rig.enqueue() for _ in range(20)]
    rig.clock.advance(2)
    rig.equal("jobs behind many that are not claimable are found", rig.claimed(20), ids)


@check("CLAIM-06")
def behind_many_that_one_parent_less_hinders(rig: Rig) -> None:
    ending, staying = rig.active("parent"), rig.enqueue("never")
    rig.backend.enqueue([NewJob("t", priority=9, parents=(ending.id, staying)) for _ in range(60)])
    ids = [rig.enqueue() for _ in range(5)]
    rig.end(Finished(ending.id, 0))
    rig.equal("jobs behind many that are still hindered are found", rig.claimed(5), ids)


@check("CLAIM-07")
def empty_at_once(rig: Rig) -> None:
    began = time.perf_counter()
    for _ in range(5):
        rig.equal("with nothing claimable, an empty answer", rig.claim(), [])
    waited = (time.perf_counter() - began) / 5
    rig.true("an empty answer comes at once", waited < 0.3, f"it took {waited:.2f} s")


@check("CLAIM-07")
def empty_beside_a_waiter(rig: Rig) -> None:
    other = rig.client()
    waiting = threading.Thread(target=other.wait, args=(0.6, DequeueOptions(tasks=("t",))), daemon=True)
    waiting.start()
    began = time.perf_counter()
    rig.equal("with nothing claimable, an empty answer", rig.claim(), [])
    waited = time.perf_counter() - began
    join([waiting])
    rig.true(
        "an empty answer comes at once, whoever waits", waited < 0.4 < PATIENCE, f"it took {waited:.2f} s"
    )


@check("CLAIM-08")
def all_that_a_performer_needs(rig: Rig) -> None:
    id = rig.enqueue(
        args=[1, "a"],
        kwargs={"k": [None]},
        attempts=4,
        notes={"n": 1},
        queue="q",
        priority=6,
        coalesce="c",
        uniqkey="u",
        lease=90,
        expire=600,
    )
    first = rig.claim_one(id, queues=("q",))
    from minion_core.records import Failed  # noqa: PLC0415, only here

    rig.end(Failed(id, 0, message="x", retry_in=0))
    rig.backend.note(id, {"m": 2})
    rig.clock.advance(5)
    claim = rig.claim_one(id, queues=("q",))
    want = {
        "id": id,
        "task": "t",
        "args": [1, "a"],
        "kwargs": {"k": [None]},
        "retries": 1,
        "attempts": 3,
        "failures": 1,
        "notes": {"n": 1, "m": 2},
        "queue": "q",
        "priority": 6,
        "coalesce": "c",
        "uniqkey": "u",
        "lease": 90,
    }
    for name, value in want.items():
        rig.equal(f"a claimed job carries `{name}`", getattr(claim, name), value)
    rig.near("a claimed job carries the end of its lease", claim.grabbed_until, START + timedelta(seconds=95))
    rig.equal("the first attempt has 0 retries", (first.retries, first.attempts, first.failures), (0, 4, 0))


@check("CLAIM-08")
def nothing_where_nothing_is(rig: Rig) -> None:
    claim = rig.active()
    got = (claim.args, claim.kwargs, claim.notes, claim.coalesce, claim.uniqkey, claim.lease)
    rig.equal("a plain job carries its defaults", got, ([], {}, {}, None, None, None))
    rig.equal("a job without a lease has no end of it", claim.grabbed_until, None)
