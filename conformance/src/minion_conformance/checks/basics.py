"""Vocabulary and capabilities: ids, instants, clocks, names, numbers, times, threads."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

from attrs import fields

from minion_conformance.check import check
from minion_conformance.clock import START, Clock
from minion_conformance.crew import Hand
from minion_conformance.rig import Rig
from minion_core.records import Capabilities, DequeueOptions, Finished, JobFilter, NewJob, RetryOptions

INT32_MAX = 2**31 - 1

LOOKALIKES = (
    "t",
    "T",
    "t ",
    " t",
    "\u00e9",
    "e\u0301",
    "\u00df",
    "ss",
    "\uff34",
    "t\t",
    "\U0001f980",
    "%",
    "_",
)
"""Names that some store or other takes for the same: by case, padding, accents, folding, width, wildcards."""


@check("CAP-01")
def all_are_declared(rig: Rig) -> None:
    declared: Any = getattr(rig.backend_class, "capabilities", None)
    rig.true(
        "capabilities are declared on the class", isinstance(declared, Capabilities), f"there is {declared!r}"
    )
    for known in fields(Capabilities):
        value = getattr(declared, known.name)
        if known.name != "time_resolution":
            rig.true(
                "every capability is declared True or False",
                isinstance(value, bool),
                f"{known.name} is {value!r}",
            )
    rig.true(
        "every object has the capabilities of its class",
        rig.backend_class(rig.url).capabilities == declared,
        "they differ on one that was just made",
    )


@check("BASE-01")
def ids_grow(rig: Rig) -> None:
    ids = [rig.enqueue() for _ in range(5)]
    ids += [made.id for made in rig.backend.enqueue([NewJob("t")] * 5)]
    rig.true("ids are positive whole numbers", all(type(id) is int and id > 0 for id in ids), f"{ids}")
    rig.equal("ids grow in the order of enqueueing", ids, sorted(set(ids)))


@check("BASE-01")
def ids_are_not_used_again(rig: Rig) -> None:
    ids = [rig.enqueue() for _ in range(3)]
    rig.backend.remove_jobs(ids)
    again = rig.enqueue()
    rig.true("the id of a removed job is not used again", again > max(ids), f"{again} after {ids}")
    rig.backend.reset(all=True)
    last = rig.enqueue()
    rig.true("an id is not used again after a reset", last > again, f"{last} after {again}")


@check("BASE-01")
def worker_ids_are_not_used_again(rig: Rig) -> None:
    first = rig.backend.register_worker(None, "host", 1, {})
    rig.backend.unregister_worker(first)
    second = rig.backend.register_worker(None, "host", 1, {})
    rig.true(
        "the id of a worker that is gone is not used again", second > first > 0, f"{second} after {first}"
    )
    rig.backend.reset(all=True)
    third = rig.backend.register_worker(None, "host", 1, {})
    rig.true("a worker's id is not used again after a reset", third > second, f"{third} after {second}")


@check("BASE-02")
def delay_and_expiry_meet(rig: Rig) -> None:
    early = rig.enqueue(delay=10, expire=10)
    late = rig.enqueue(delay=10, expire=10 + rig.resolution)
    rig.clock.advance(10)
    rig.equal("a job that expires when its delay ends was never claimable", rig.claimed(), [late])
    rig.equal("a job that expires at T has expired at T", rig.find(early), None)


@check("BASE-02")
def now_itself(rig: Rig) -> None:
    id = rig.enqueue(delay=0)
    rig.equal("a job delayed to now is claimable now", rig.claimed(), [id])


@check("BASE-03")
def every_now_is_the_clocks(rig: Rig) -> None:
    for instant in (START, datetime(1999, 12, 31, 23, 59, 59, tzinfo=UTC), datetime(2069, 1, 1, tzinfo=UTC)):
        rig.clock.instant = instant
        rig.equal("now() is the clock's", rig.backend.now(), instant)
        worker = rig.backend.register_worker(None, "host", 1, {})
        id = rig.enqueue(lease=60, expire=600)
        job = rig.job(id)
        rig.near("`created` is the clock's now", job.created, instant)
        rig.near("`delayed` counts from the clock's now", job.delayed, instant)
        rig.near("`expires` counts from the clock's now", job.expires, instant + timedelta(seconds=600))
        rig.near("`time` of a listing is the clock's now", job.time, instant)
        claim = rig.claim_one(id, worker=worker)
        rig.near("`started` is the clock's now", rig.job(id).started, instant)
        rig.near("a lease counts from the clock's now", claim.grabbed_until, instant + timedelta(seconds=60))
        rig.backend.add_failure(id, "x")
        rig.near("a failure's time is the clock's now", rig.backend.failure_log(id)[0].time, instant)
        rig.end(Finished(id, claim.retries))
        rig.near("`finished` is the clock's now", rig.job(id).finished, instant)
        rig.backend.retry_job(id, claim.retries, RetryOptions(expire=5))
        rig.near("`retried` is the clock's now", rig.job(id).retried, instant)
        rig.backend.lock("name", 60)
        shares = rig.backend.list_locks(0, 1, ["name"]).items
        ends = shares[0].expires if shares else None
        rig.near("a lock counts from the clock's now", ends, instant + timedelta(seconds=60))
        rig.backend.reset(all=True)


@check("BASE-03")
def nothing_goes_by_itself(rig: Rig) -> None:
    rig.clock.instant = datetime(1999, 12, 31, 23, 59, 59, tzinfo=UTC)
    delayed, expiring = rig.enqueue(delay=0.2), rig.enqueue(expire=0.2, delay=0.1)
    leased = rig.active(task="leased", lease=0.2)
    rig.backend.lock("name", 0.2)
    time.sleep(0.25)
    rig.equal("no delay ends while the clock stands still", rig.claimed(), [])
    rig.equal(
        "no job expires while the clock stands still",
        {j.id for j in rig.listed()} >= {delayed, expiring},
        True,
    )
    rig.equal("no lease ends while the clock stands still", rig.claimed(tasks=("leased",)), [])
    rig.equal("no lock ends while the clock stands still", rig.backend.lock("name", 1), None)
    rig.equal("an attempt is held while the clock stands still", rig.settle(Finished(leased.id, 0)), [True])


@check("BASE-04")
def names_are_their_bytes(rig: Rig) -> None:
    made = {name: rig.enqueue(name, queue=name, uniqkey="k", coalesce=name) for name in LOOKALIKES}
    rig.equal("lookalike tasks hold keys apart", len(set(made.values())), len(LOOKALIKES))
    for name, id in made.items():
        rig.equal("a listing tells lookalike tasks apart", [job.id for job in rig.listed(tasks=[name])], [id])
        rig.equal(
            "a listing tells lookalike queues apart", [job.id for job in rig.listed(queues=[name])], [id]
        )
        job = rig.job(id)
        rig.equal("names come back as they are", (job.task, job.queue, job.coalesce), (name, name, name))
    for name, id in made.items():
        claimed = rig.claimed(tasks=(name,), queues=LOOKALIKES)
        rig.equal("a claim tells lookalike tasks apart", claimed, [id])


@check("BASE-04")
def queues_and_keys_are_their_bytes(rig: Rig) -> None:
    made = {name: rig.enqueue(queue=name, uniqkey=name, coalesce=name) for name in LOOKALIKES}
    rig.equal("lookalike keys are different keys", len(set(made.values())), len(LOOKALIKES))
    for name, id in made.items():
        rig.equal("a claim tells lookalike queues apart", rig.claimed(queues=(name,)), [id])
    again = {name: rig.enqueue(coalesce=name) for name in LOOKALIKES}
    for name, id in again.items():
        rig.equal("a claim tells lookalike coalesce values apart", rig.claimed(coalesce=name), [id])


@check("BASE-04")
def locks_and_schedules_are_their_bytes(rig: Rig) -> None:
    from minion_core.records import NewSchedule, ScheduleFilter  # noqa: PLC0415, only here

    for name in LOOKALIKES:
        rig.true("lookalike locks are different locks", rig.backend.lock(name, 60), f"{name!r} was not free")
        rig.backend.schedule(NewSchedule(name, "@daily", rig.clock.after(60), "t"))
    for name in LOOKALIKES:
        rig.equal("a lock has its name", [k.name for k in rig.backend.list_locks(0, 9, [name]).items], [name])
        found = rig.backend.list_schedules(0, 99, ScheduleFilter(names=[name])).items
        rig.equal("lookalike schedules are different schedules", [known.name for known in found], [name])


@check("BASE-04")
def longest_names(rig: Rig) -> None:
    for name in ("x" * 255, "\U0001f980" * 255):
        id = rig.enqueue(name, queue=name, uniqkey=name, coalesce=name)
        job = rig.job(id)
        kept = (job.task, job.queue, job.uniqkey, job.coalesce)
        rig.equal("names of 255 characters come back whole", kept, (name,) * 4)
        other = name[:-1] + "y"
        rig.true("names that differ in the last character differ", rig.enqueue(name, uniqkey=other) != id)
        rig.equal("a job of long names is claimed", rig.claimed(tasks=(name,), queues=(name,)), [id])
        rig.true("a lock may have a long name", rig.backend.lock(name, 60) and rig.backend.lock(other, 60))


@check("BASE-05")
def greatest_numbers(rig: Rig) -> None:
    priorities = (0, INT32_MAX, -1, -INT32_MAX - 1, 1)
    made = {priority: rig.enqueue(priority=priority, attempts=INT32_MAX) for priority in priorities}
    for priority, id in made.items():
        job = rig.job(id)
        rig.equal("numbers come back as they are", (job.priority, job.attempts), (priority, INT32_MAX))
    want = [made[priority] for priority in sorted(priorities, reverse=True)]
    rig.equal("priorities are put in order as numbers", rig.claimed(), want)


@check("BASE-05")
def greatest_exit_status(rig: Rig) -> None:
    for status in (INT32_MAX, -INT32_MAX - 1):
        claim = rig.active()
        rig.end(Finished(claim.id, 0, exit_status=status))
        rig.equal("an exit status comes back as it is", rig.job(claim.id).exit_status, status)


@check("BASE-06")
def times_are_aware_and_exact(rig: Rig) -> None:
    rig.true(
        "time_resolution is above 0 and 1 ms or finer",
        0 < rig.resolution <= 0.001,
        f"it is {rig.resolution}",
    )
    rig.true("now() is in UTC", rig.backend.now().utcoffset() == timedelta(0))
    moments = [START + timedelta(seconds=offset) for offset in (0.001, 0.999, 86400.5, 3e9)]
    for moment in moments:
        elsewhere = moment.astimezone(timezone(timedelta(hours=5, minutes=45)))
        job = rig.job(rig.enqueue(delay=elsewhere, expire=elsewhere + timedelta(seconds=1)))
        rig.near("a time comes back as it was given", job.delayed, moment)
        rig.near("a time comes back as it was given", job.expires, moment + timedelta(seconds=1))
        for instant in (job.created, job.delayed, job.expires, job.time):
            rig.equal("a time comes back in UTC", instant and instant.utcoffset(), timedelta(0))


@check("BASE-06")
def past_delays_are_kept(rig: Rig) -> None:
    long_ago = datetime(1971, 2, 3, 4, 5, 6, tzinfo=UTC)
    id = rig.enqueue(delay=long_ago)
    rig.near("a time of long ago comes back", rig.job(id).delayed, long_ago)
    rig.equal("a job delayed to long ago is claimable", rig.claimed(), [id])


@check("BASE-06")
def resolution_is_true(rig: Rig) -> None:
    id = rig.enqueue(delay=1)
    rig.clock.advance(1 - rig.resolution)
    rig.equal("one step of time before it is due, a job is not claimable", rig.claimed(), [])
    rig.clock.advance(rig.resolution)
    rig.equal("when it is due, a job is claimable", rig.claimed(), [id])


@check("BASE-07")
def from_any_thread(rig: Rig) -> None:
    rig.backend.enqueue([NewJob("t")] * 40)
    worker = rig.worker

    def work() -> list[int]:
        mine = []
        for _ in range(20):
            for job in rig.claim(2, worker=worker):
                rig.backend.note(job.id, {"n": 1})
                rig.settle(Finished(job.id, job.retries))
                mine.append(job.id)
        return mine

    done = [id for ids in rig.together([work] * 4) for id in ids]
    rig.equal("one object serves many threads, each job once", sorted(done), sorted(set(done)))
    rig.equal("one object serves many threads, all jobs", len(done), 40)


@check("BASE-07")
def from_any_client(rig: Rig) -> None:
    rig.enqueue()
    others = [rig.client() for _ in range(4)]
    for number, other in enumerate(others):
        id = other.enqueue([NewJob("t", notes={"by": number})])[0].id
        rig.equal("what one client stores another one sees", rig.job(id).notes, {"by": number})
    counts = rig.together([lambda other=other: other.list_jobs(0, 9, JobFilter()).total for other in others])  # type: ignore[misc]
    rig.equal("all clients see the same", counts, [5] * 4)
    others[0].close()
    others[0].close()
    rig.equal("closing one client disturbs no other", len(rig.listed()), 5)


def _client_with_a_wrong_clock(backend: object, url: str) -> tuple[datetime, datetime, datetime]:
    """Be a client that believes it is an hour later, in a process of its own."""
    import datetime as dt  # noqa: PLC0415, to be changed before the backend is made

    real = dt.datetime

    class Wrong(real):  # type: ignore[valid-type, misc]
        @classmethod
        def now(cls, tz: object = None) -> datetime:
            return real.now(tz) + timedelta(hours=1)  # type: ignore[arg-type]

    import sys  # noqa: PLC0415

    for known in list(sys.modules.values()):
        if getattr(known, "datetime", None) is real:
            known.datetime = Wrong  # type: ignore[attr-defined]
    true_time = time.time
    time.time = lambda: true_time() + 3600
    made = type(backend)(url)  # type: ignore[call-arg]
    made.open()  # type: ignore[attr-defined]
    try:
        id = made.enqueue([NewJob("wrong", expire=600)])[0].id  # type: ignore[attr-defined]
        made.dequeue(1, DequeueOptions(tasks=("wrong",)))  # type: ignore[attr-defined]
        job = made.list_jobs(0, 1, JobFilter(ids=[id])).items[0]  # type: ignore[attr-defined]
        return made.now(), job.created, job.started  # type: ignore[attr-defined]
    finally:
        made.close()  # type: ignore[attr-defined]
        dt.datetime = real  # type: ignore[misc]  # or the answer cannot be pickled


@check("BASE-08")
def a_client_an_hour_wrong(rig: Rig) -> None:
    rig.use_real_time()
    before = rig.backend.now()
    hand: Hand = rig.crew.hand()
    try:
        hand.tell(_client_with_a_wrong_clock, rig.url)
        times = hand.answer()
    finally:
        hand.kill()
    after = rig.backend.now()
    for told, when in zip(("now()", "`created`", "`started`"), times, strict=True):
        rig.true(
            f"{told} of a client whose clock is wrong is the store's",
            before - timedelta(seconds=1) <= when <= after + timedelta(seconds=1),
            f"{when} is not between {before} and {after}",
        )


@check("BASE-09")
def now_is_the_machines(rig: Rig) -> None:
    rig.use_real_time()
    before = datetime.now(UTC) - timedelta(seconds=1)
    id = rig.enqueue()
    rig.claim_one(id)
    job = rig.job(id)
    after = datetime.now(UTC) + timedelta(seconds=1)
    for told, when in (("now()", rig.backend.now()), ("`created`", job.created), ("`started`", job.started)):
        rig.true(
            f"{told} without a clock is the machine's now", when and before <= when <= after, f"it is {when}"
        )


@check("BASE-09")
def clocks_do_not_mix(rig: Rig) -> None:
    rig.use_real_time()
    rig.enqueue()
    ahead = Clock(datetime.now(UTC) + timedelta(days=1))
    other = rig.backend_class(rig.url, clock=ahead)
    with other:
        rig.near("a clock given to one object is its own", other.now(), ahead())
        real = abs((rig.backend.now() - datetime.now(UTC)).total_seconds())
        rig.true("a clock given to one object leaves others alone", real < 60, f"off by {real} s")
