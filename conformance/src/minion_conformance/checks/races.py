"""Races between processes: everyone does the same at once, and the merged history is judged."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from minion_conformance.check import Inconclusive, check
from minion_conformance.checkers import (
    Event,
    all_ended,
    claimed_once,
    each_once,
    never_more_than,
    overlaps,
    settled_once,
)
from minion_core.backend import Backend
from minion_core.records import (
    DequeueOptions,
    Failed,
    Finished,
    NewJob,
    NewSchedule,
    Outcome,
    Released,
    Replaced,
    RetryOptions,
)

if TYPE_CHECKING:
    from minion_conformance.rig import Rig

PROCESSES = 4
T = DequeueOptions(tasks=("t",), limit=3)
NEVER = 10.0**8


def _ready(rig: Rig, told: str) -> None:
    rig.use_real_time()
    rig.backend.now()
    rig.history.add(f"# {told} by {PROCESSES} processes at once")


def _judge(rig: Rig, rule: str, complaint: str | None) -> None:
    rig.true(rule, complaint is None, complaint or "")


def _show_contention(rig: Rig, events: list[Event], what: str, least: int = 3) -> None:
    met = overlaps(events, what)
    rig.facts[f"overlapping calls: {what}"] = met
    if met < (1 if rig.quick else least):
        raise Inconclusive(
            f"the processes hardly met ({met} overlapping calls of {what}): this machine shows no race"
        )


def _all_at_once(rig: Rig, work: Any, *args: Any) -> list[Any]:
    return rig.crew.together(work, [(number, *args) for number in range(PROCESSES)])


# -- Claims ----------------------------------------------------------------------------------------------


def _drain(backend: Backend, who: int, worker: int) -> list[Event]:
    events = []
    empty = 0
    while empty < 3:
        began = time.monotonic()
        claims = backend.dequeue(worker, T)
        ended = time.monotonic()
        events.append(Event(who, "dequeue", (), began, ended))
        events += [Event(who, "claimed", (job.id, job.retries), began, ended) for job in claims]
        empty = 0 if claims else empty + 1
        outcomes: list[Outcome] = []
        for job in claims:
            if job.retries == 0 and job.id % 3 == 0:
                outcomes.append(Failed(job.id, 0, message="again", retry_in=0))
            elif job.retries == 0 and job.id % 5 == 0:
                outcomes.append(Released(job.id, 0))
            else:
                outcomes.append(Finished(job.id, job.retries, result=who))
        for outcome, settled in zip(outcomes, backend.settle(outcomes), strict=True):
            if settled.applied:
                events.append(Event(who, "settled", (outcome.id, outcome.retries), ended, time.monotonic()))
    return events


def _race_for_claims(rig: Rig, total: int) -> tuple[list[int], list[Event]]:
    ids = [
        made.id
        for made in rig.backend.enqueue([NewJob("t", attempts=3, priority=n % 2) for n in range(total)])
    ]
    workers = [rig.backend.register_worker(None, "host", number, {}) for number in range(PROCESSES)]
    args = [(number, workers[number]) for number in range(PROCESSES)]
    events = [event for share in rig.crew.together(_drain, args) for event in share]
    return ids, events


@check("CLAIM-03", "multi_process")
def once_in_processes(rig: Rig) -> None:
    _ready(rig, "claiming and settling")
    ids, events = _race_for_claims(rig, rig.rounds(400))
    _judge(rig, "an attempt is claimed by at most one process", claimed_once(events))
    _judge(rig, "an attempt is settled once, by its claimer", settled_once(events))
    terminal = [job.id for job in rig.listed(states=["finished", "failed"])]
    _judge(rig, "after the drain everything has ended", all_ended(ids, [], terminal))
    rig.facts["attempts claimed"] = sum(event.what == "claimed" for event in events)
    _show_contention(rig, events, "dequeue")


# -- Keys ------------------------------------------------------------------------------------------------


def _take_keys(backend: Backend, who: int, names: list[str]) -> list[tuple[str, int, bool, Event]]:
    taken = []
    for name in names:
        began = time.monotonic()
        made = backend.enqueue([NewJob("t", [who], uniqkey=name)])[0]
        taken.append((name, made.id, made.created, Event(who, "enqueue", (), began, time.monotonic())))
    return taken


@check("ENQ-07", "multi_process")
def in_processes_at_once(rig: Rig) -> None:
    _ready(rig, "enqueueing the same keys")
    names = [f"k{number}" for number in range(rig.rounds(40))]
    taken = [entry for share in _all_at_once(rig, _take_keys, names) for entry in share]
    created = [name for name, _, new, _ in taken if new]
    _judge(rig, "of many processes one creates the job of a key", each_once(names, created))
    rig.equal("of many processes all get its id", len({(name, id) for name, id, _, _ in taken}), len(names))
    rig.equal("one job is stored for a key", len(rig.listed()), len(names))
    _show_contention(rig, [event for _, _, _, event in taken], "enqueue")


# -- Locks -----------------------------------------------------------------------------------------------


def _hold_locks(backend: Backend, who: int, limit: int, tries: int) -> list[Event]:
    events = []
    for _ in range(tries):
        began = time.monotonic()
        token = backend.lock("race", 600, limit)
        ended = time.monotonic()
        events.append(Event(who, "lock", (), began, ended))
        if token is not None:
            time.sleep(0.01)  # long enough for another one to come in between
            events.append(Event(who, "held", (token,), ended, time.monotonic()))
            backend.unlock("race", token)
    return events


@check("LOCK-01", "multi_process")
def never_more_in_processes(rig: Rig) -> None:
    _ready(rig, "locking")
    for limit in (1, 2):
        events = [
            e for share in _all_at_once(rig, _hold_locks, limit, 20 if rig.quick else 40) for e in share
        ]
        held = [event for event in events if event.what == "held"]
        _judge(rig, "never more than limit shares are out", never_more_than(limit, held, "held"))
        rig.true("shares are had", held)
        rig.equal("all shares are back", rig.backend.list_locks(0, 9).total, 0)
        _show_contention(rig, events, "lock")


# -- Schedules -------------------------------------------------------------------------------------------


def _fire(backend: Backend, who: int, id: int, runs: list[datetime]) -> list[tuple[datetime, int, Event]]:
    fired = []
    for due, then in pairwise(runs):
        began = time.monotonic()
        made = backend.fire_schedule(id, due, then, NewJob("t", [who]))
        event = Event(who, "fire", (), began, time.monotonic())
        fired.append((due, 0 if made is None else made.id, event))
    return fired


@check("SCHED-03", "multi_process")
def a_run_once_in_processes(rig: Rig) -> None:
    _ready(rig, "firing the same runs")
    start = datetime.now(UTC) - timedelta(days=1)
    runs = [start + timedelta(seconds=60 * number) for number in range(rig.rounds(40) + 1)]
    id = rig.backend.schedule(NewSchedule("race", "* * * * *", runs[0], "t"))
    fired = [entry for share in _all_at_once(rig, _fire, id, runs) for entry in share]
    done = [due for due, job, _ in fired if job]
    _judge(rig, "a due run is enqueued exactly once", each_once(runs[:-1], done))
    rig.equal("each run enqueues one job", len(rig.listed()), len(runs) - 1)
    _show_contention(rig, [event for _, _, event in fired], "fire")


# -- Inboxes and notes -----------------------------------------------------------------------------------


def _write(backend: Backend, who: int, worker: int, job: int, count: int) -> tuple[list[Any], list[Event]]:
    received, events = [], []
    for number in range(count):
        began = time.monotonic()
        if who % 2:
            backend.broadcast("n", [who, number], [worker])
        else:
            received += backend.receive(worker)
        backend.note(job, {f"{who}.{number}": number})
        events.append(Event(who, "write", (), began, time.monotonic()))
    return received, events


@check("WORK-03", "multi_process")
def none_is_lost_between_processes(rig: Rig) -> None:
    _ready(rig, "sending to, and receiving from, one inbox")
    job, count = rig.enqueue(), rig.rounds(40)
    shares = _all_at_once(rig, _write, rig.worker, job, count)
    got = [command for received, _ in shares for command in received] + rig.backend.receive(rig.worker)
    wanted = [("n", who, number) for who in range(PROCESSES) if who % 2 for number in range(count)]
    _judge(rig, "each command is received once, none is lost", each_once(wanted, [tuple(c) for c in got]))
    _show_contention(rig, [event for _, events in shares for event in events], "write")


@check("NOTE-01", "multi_process")
def at_the_same_moment_in_processes(rig: Rig) -> None:
    _ready(rig, "noting one job")
    job, count = rig.enqueue(notes={"old": 1}), rig.rounds(40)
    shares = _all_at_once(rig, _write, rig.worker, job, count)
    want = {f"{who}.{number}": number for who in range(PROCESSES) for number in range(count)}
    rig.equal("of notes made at once none is lost", rig.job(job).notes, {"old": 1, **want})
    _show_contention(rig, [event for _, events in shares for event in events], "write")


# -- Dependencies and repair -----------------------------------------------------------------------------


def _settle_one(backend: Backend, outcome: Outcome, child: NewJob | None) -> tuple[int, Event]:
    began = time.monotonic()
    made = 0
    if child is None:
        backend.settle([outcome])
    else:
        made = backend.enqueue([child])[0].id
    return made, Event(outcome.id, "end", (), began, time.monotonic())


@check("DEP-06", "multi_process")
def when_two_end_in_two_processes(rig: Rig) -> None:
    _ready(rig, "settling two parents of one job")
    events: list[Event] = []
    for _ in range(rig.rounds(24)):
        one, two = rig.active("p"), rig.active("p")
        child = rig.enqueue(parents=(one.id, two.id))
        rig.claimed()
        calls = [(Finished(one.id, 0), None), (Finished(two.id, 0), None)]
        events += [event for _, event in rig.crew.together(_settle_one, calls)]
        rig.equal("when two parents end at once, the next dequeue has the child", rig.claimed(), [child])
    _show_contention(rig, events, "end")


@check("DEP-06", "multi_process")
def when_it_ends_while_a_child_comes_from_elsewhere(rig: Rig) -> None:
    _ready(rig, "settling a parent and enqueueing a child")
    events: list[Event] = []
    for _ in range(rig.rounds(24)):
        parent = rig.active("p")
        end = Finished(parent.id, 0)
        both = rig.crew.together(
            _settle_one, [(end, None), (Finished(0, 0), NewJob("t", parents=(parent.id,)))]
        )
        events += [event for _, event in both]
        rig.equal("a child enqueued while its parent ends is claimable next", rig.claimed(), [both[1][0]])
    _show_contention(rig, events, "end")


def _repair(backend: Backend, who: int) -> tuple[list[int], Event]:
    began = time.monotonic()
    found = backend.repair(NEVER, 0.001, NEVER)
    counts = [found.workers, found.removed, found.expired, found.leases]
    return counts, Event(who, "repair", (), began, time.monotonic())


@check("REP-06", "multi_process")
def by_several_processes(rig: Rig) -> None:
    _ready(rig, "repairing")
    events: list[Event] = []
    for _ in range(rig.rounds(4)):
        total = 60
        rig.backend.enqueue([NewJob("u")] * total)
        rig.settle(*[Finished(claim.id, 0) for claim in rig.claim(total, tasks=("u",))])
        leased = [made.id for made in rig.backend.enqueue([NewJob("t", lease=0.001)] * total)]
        rig.claim(total)
        rig.backend.enqueue([NewJob("t", expire=0.001)] * total)
        time.sleep(0.01)
        shares = _all_at_once(rig, _repair)
        sums = [sum(counts) for counts in zip(*[counts for counts, _ in shares], strict=True)]
        rig.equal("several repairs do each thing once", sums, [0, total, total, total])
        for id in leased:
            ends = [failure.message for failure in rig.backend.failure_log(id)]
            rig.equal("several repairs record each end once", ends, ["Lease ended"])
        events += [event for _, event in shares]
        rig.backend.reset(all=True)
    _show_contention(rig, events, "repair", least=1)


# -- All of it -------------------------------------------------------------------------------------------


def _storm(backend: Backend, who: int, worker: int, rounds: int) -> tuple[list[int], list[Event], list[int]]:
    acknowledged: list[int] = []
    events: list[Event] = []
    removed: list[int] = []
    for number in range(rounds):
        began = time.monotonic()
        parents = tuple(acknowledged[-2:]) if number % 3 == 0 else ()
        made = backend.enqueue(
            [
                NewJob("t", attempts=2, parents=parents, lax=True),
                NewJob("t", uniqkey=f"k{number % 5}"),
                NewJob("t", priority=number % 3, lease=600),
            ]
        )
        acknowledged += [one.id for one in made if one.created]
        claims = backend.dequeue(worker, T)
        events += [Event(who, "claimed", (job.id, job.retries), began, time.monotonic()) for job in claims]
        outcomes: list[Outcome] = []
        for job in claims:
            match (job.id + job.retries) % 6:
                case 0:
                    outcomes.append(Failed(job.id, job.retries, message="x", retry_in=0))
                case 1:
                    outcomes.append(Released(job.id, job.retries))
                case 2:
                    outcomes.append(Replaced(job.id, job.retries, jobs=(NewJob("t"),)))
                case _:
                    outcomes.append(Finished(job.id, job.retries))
        for outcome, settled in zip(outcomes, backend.settle(outcomes), strict=True):
            acknowledged += [one.id for one in settled.jobs if one.created]
            if settled.applied:
                events.append(Event(who, "settled", (outcome.id, outcome.retries), began, time.monotonic()))
        if claims and number % 4 == 0:
            backend.retry_job(claims[0].id, claims[0].retries, RetryOptions(priority=1))
        if number % 7 == 0:
            removed += backend.remove_jobs(acknowledged[:1])
        if number % 10 == who:
            backend.repair(NEVER, NEVER, NEVER)
        events.append(Event(who, "round", (), began, time.monotonic()))
    return acknowledged, events, removed


@check("SAFE-06")
def a_storm(rig: Rig) -> None:
    _ready(rig, "everything")
    workers = [rig.backend.register_worker(None, "host", number, {}) for number in range(PROCESSES)]
    shares = rig.crew.together(_storm, [(n, workers[n], rig.rounds(40)) for n in range(PROCESSES)])
    acknowledged = [id for ids, _, _ in shares for id in ids]
    removed = [id for _, _, ids in shares for id in ids]
    drained, events = _race_for_claims(rig, 10)
    everything = [*events, *(event for _, events, _ in shares for event in events)]
    for job in rig.listed(states=["active"]):
        rig.settle(Finished(job.id, job.retries))
    _, more = _race_for_claims(rig, 10)
    everything += more
    rig.equal("an id is given once", len(acknowledged), len(set(acknowledged)))
    _judge(rig, "an attempt is claimed by at most one process", claimed_once(everything))
    _judge(rig, "an attempt is settled once, by its claimer", settled_once(everything))
    terminal = [job.id for job in _everything(rig) if job.state in ("finished", "failed")]
    _judge(
        rig, "after the drain everything has ended", all_ended([*acknowledged, *drained], removed, terminal)
    )
    _show_contention(rig, everything, "round")


def _everything(rig: Rig) -> list[Any]:
    from minion_core.records import JobFilter  # noqa: PLC0415, a filter of nothing

    return rig.backend.list_jobs(0, 100_000, JobFilter(), total=False).items
