"""SAFE: kills, stops, outages, openings, refusals."""

from __future__ import annotations

import os
import random
import signal
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from minion_conformance.check import Inconclusive, check
from minion_conformance.crew import Hand
from minion_core.backend import Backend
from minion_core.errors import BackendError, BackendUnavailable, MinionError, SchemaError
from minion_core.records import (
    DequeueOptions,
    Failed,
    Finished,
    JobFilter,
    NewJob,
    Outcome,
    Replaced,
)

if TYPE_CHECKING:
    from minion_conformance.rig import Rig

T = DequeueOptions(tasks=("t",), limit=20)
NEVER = 10.0**8
BATCH = 20


# -- Killed ----------------------------------------------------------------------------------------------


def _until_killed(backend: Backend, what: str, log: str, worker: int) -> None:
    """Do one thing over and over, and write down when each call begins and what it answered."""
    file = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    number = 0
    while True:
        number += 1
        claims = backend.dequeue(worker, T) if what == "settle" else []
        if what == "settle" and not claims:
            backend.enqueue([NewJob("t")] * 200)
            continue
        os.write(file, f"began {number}\n".encode())
        answer: object = None
        if what == "enqueue":
            answer = [made.id for made in backend.enqueue([NewJob("t", [worker, number])] * BATCH)]
        elif what == "dequeue":
            answer = [job.id for job in backend.dequeue(worker, T)]
            if not answer:
                backend.enqueue([NewJob("t")] * 200)
        elif what == "settle":
            news = (NewJob("new"), NewJob("new"))
            settled = backend.settle([Replaced(job.id, job.retries, jobs=news) for job in claims])
            answer = [job.id for job, one in zip(claims, settled, strict=True) if one.applied]
        elif what == "repair":
            backend.enqueue([NewJob("gone", expire=0.000_001)] * 200)
            answer = backend.repair(NEVER, NEVER, NEVER).expired
        elif what == "lock":
            answer = backend.lock(f"{worker} {number}", 3600)
        os.write(file, f"ended {number} {answer!r}\n".encode())


def _kill_inside(rig: Rig, what: str, worker: int, chance: random.Random) -> tuple[bool, list[str]]:
    """Kill a process in the middle of something, and answer whether it was, and what it had done."""
    log = Path(rig.enter(tempfile.TemporaryDirectory()), "log")
    hand: Hand = rig.crew.hand()
    hand.tell(_until_killed, what, str(log), worker)
    end = time.monotonic() + 20
    while time.monotonic() < end and (not log.exists() or b"ended" not in log.read_bytes()):
        time.sleep(0.002)
    time.sleep(chance.uniform(0.0, 0.02))
    hand.kill()
    lines = log.read_text().splitlines() if log.exists() else []
    rig.history.add(f"# a process that does {what!r} was killed; its last words: {lines[-1:]}")
    return bool(lines) and lines[-1].startswith("began"), lines


def _answers(lines: list[str]) -> list[Any]:
    import ast  # noqa: PLC0415, only here

    return [ast.literal_eval(line.split(" ", 2)[2]) for line in lines if line.startswith("ended")]


def _kills(rig: Rig, what: str, judge: Callable[[Rig, list[Any], int], None]) -> None:
    rig.use_real_time()
    rig.backend.now()
    wanted, inside, tries = (1, 0, 0) if rig.quick else (3, 0, 0)
    chance = random.Random(rig.seed or what)  # noqa: S311, nothing secret
    while inside < wanted and tries < wanted * 8:
        tries += 1
        worker = rig.backend.register_worker(None, "killed", tries, {})
        hit, lines = _kill_inside(rig, what, worker, chance)
        inside += hit
        judge(rig, _answers(lines), worker)
        rig.backend.reset(all=True)
    rig.facts[f"killed inside {what}"] = inside
    if inside < wanted:
        raise Inconclusive(f"of {tries} kills only {inside} were inside {what}: too few")


def _drains(rig: Rig, worker: int) -> None:
    """See that repair and one worker end whatever a killed one left."""
    rig.backend.unregister_worker(worker)
    for lost in rig.backend.repair(NEVER, NEVER, NEVER).lost:
        rig.settle(Failed(lost.id, lost.retries, message="Worker went away", retry_in=0))
    while claims := rig.claim(500, tasks=("t", "new")):
        rig.settle(*[Finished(claim.id, claim.retries) for claim in claims])
    left = {state: len(rig.listed(states=[state])) for state in ("inactive", "active")}
    rig.equal("a kill leaves nothing stuck after repair", left, {"inactive": 0, "active": 0})


@check("SAFE-01")
def inside_enqueue(rig: Rig) -> None:
    def judge(rig: Rig, answers: list[Any], worker: int) -> None:
        stored: dict[int, list[int]] = {}
        for job in _all(rig):
            stored.setdefault(job.args[1], []).append(job.id)
        acknowledged = {id for ids in answers for id in ids}
        kept = {id for ids in stored.values() for id in ids}
        rig.equal("a kill loses nothing that was acknowledged", sorted(acknowledged - kept)[:5], [])
        halves = {number: len(ids) for number, ids in stored.items() if len(ids) != BATCH}
        rig.equal("a kill leaves no half of a batch", halves, {})
        _drains(rig, worker)

    _kills(rig, "enqueue", judge)


@check("SAFE-01")
def inside_dequeue(rig: Rig) -> None:
    def judge(rig: Rig, answers: list[Any], worker: int) -> None:
        claimed = [id for ids in answers for id in ids]
        rig.equal("an attempt is claimed once", len(claimed), len(set(claimed)))
        active = {job.id for job in _all(rig) if job.state == "active" and job.worker == worker}
        rig.equal("a kill loses no claim that was acknowledged", sorted(set(claimed) - active)[:5], [])
        rig.true("a kill leaves at most one claim that was not", len(active) - len(claimed) in (0, BATCH))
        rig.backend.unregister_worker(worker)
        lost = {attempt.id for attempt in rig.backend.repair(NEVER, NEVER, NEVER).lost}
        rig.equal("repair finds every claim of a killed worker", lost, active)
        _drains(rig, worker)

    _kills(rig, "dequeue", judge)


@check("SAFE-01")
def inside_settle(rig: Rig) -> None:
    def judge(rig: Rig, answers: list[Any], worker: int) -> None:
        jobs = _all(rig)
        acknowledged = {id for ids in answers for id in ids}
        finished = {job.id for job in jobs if job.state == "finished" and job.task == "t"}
        rig.equal("a kill loses no outcome that was acknowledged", sorted(acknowledged - finished)[:5], [])
        news = sum(job.task == "new" for job in jobs)
        rig.equal("a kill leaves no job replaced by half of its jobs", news, 2 * len(finished))
        _drains(rig, worker)

    _kills(rig, "settle", judge)


@check("SAFE-01")
def inside_repair(rig: Rig) -> None:
    def judge(rig: Rig, answers: list[Any], worker: int) -> None:
        rig.true("a killed repair is done again", answers, "it never ended once")
        rig.backend.repair(NEVER, NEVER, NEVER)
        left = rig.backend.stats()
        rig.equal(
            "a kill leaves nothing that repair cannot find", (left.inactive_jobs, left.active_jobs), (0, 0)
        )
        _drains(rig, worker)

    _kills(rig, "repair", judge)


@check("SAFE-01")
def inside_lock(rig: Rig) -> None:
    def judge(rig: Rig, answers: list[Any], worker: int) -> None:
        out = {str(share.id) for share in rig.backend.list_locks(0, 10**6).items}
        rig.equal("a kill loses no lock that was acknowledged", sorted(set(answers) - out)[:5], [])
        rig.true("a kill leaves at most one lock that was not", len(out) - len(answers) in (0, 1))
        began = time.monotonic()
        rig.true("a kill leaves no lock on the store", rig.backend.lock(f"free {worker}", 60))
        rig.true(
            "a kill leaves no lock on the store", time.monotonic() - began < 10, "the next one waited 10 s"
        )

    _kills(rig, "lock", judge)


def _all(rig: Rig) -> list[Any]:
    return rig.backend.list_jobs(0, 100_000, JobFilter(), total=False).items


# -- Stopped ---------------------------------------------------------------------------------------------


def _claim_one(backend: Backend, worker: int) -> tuple[int, int]:
    job = backend.dequeue(worker, DequeueOptions(tasks=("t",)))[0]
    return job.id, job.retries


def _finish(backend: Backend, id: int, retries: int) -> list[bool]:
    late: list[Outcome] = [Finished(id, retries, result="late"), Failed(id, retries, message="late")]
    return [settled.applied for settled in backend.settle(late)]


@check("SAFE-02")
def stopped_and_replaced(rig: Rig) -> None:
    rig.use_real_time()
    stopped = rig.backend.register_worker(None, "stopped", 1, {})
    rig.enqueue(attempts=2)
    (hand,) = rig.crew.hands(1)
    hand.tell(_claim_one, stopped)
    id, retries = hand.answer()
    process = hand.process.pid or 0
    os.kill(process, signal.SIGSTOP)
    try:
        hand.tell(_finish, id, retries)
        rig.backend.unregister_worker(stopped)
        (lost,) = rig.backend.repair(NEVER, NEVER, NEVER).lost
        rig.end(Failed(lost.id, lost.retries, message="Worker went away", retry_in=0))
        again = rig.claim_one(id)
    finally:
        os.kill(process, signal.SIGCONT)
    rig.equal("a worker that was stopped and replaced cannot settle", hand.answer(), [False, False])
    rig.equal("the attempt of who replaced it goes on", rig.settle(Finished(id, again.retries)), [True])
    rig.equal("its result is the one that counts", rig.job(id).result, None)


@check("SAFE-02")
def stopped_past_its_lease(rig: Rig) -> None:
    rig.use_real_time()
    rig.enqueue(lease=0.05)
    (hand,) = rig.crew.hands(1)
    hand.tell(_claim_one, 10**6)
    id, retries = hand.answer()
    time.sleep(0.06)
    again = rig.claim_one(id)
    hand.tell(_finish, id, retries)
    rig.equal("a worker whose lease ended cannot settle", hand.answer(), [False, False])
    rig.equal("the attempt of who replaced it goes on", rig.settle(Finished(id, again.retries)), [True])


# -- Out of reach ----------------------------------------------------------------------------------------


@check("SAFE-03")
def away_and_back(rig: Rig) -> None:
    rig.use_real_time()
    before = [rig.enqueue() for _ in range(3)]
    claim = rig.claim_one()
    other = rig.client()
    other.list_jobs(0, 1, JobFilter())
    with rig.hook("outage")(rig.url):
        for told, do in (
            ("enqueue", lambda: rig.backend.enqueue([NewJob("t")])),
            ("dequeue", lambda: other.dequeue(rig.worker, T)),
            ("settle", lambda: rig.backend.settle([Finished(claim.id, 0)])),
        ):
            rig.refused(f"{told} without a server raises BackendUnavailable", BackendUnavailable, do)
    rig.equal("afterwards the same client goes on", rig.settle(Finished(claim.id, 0)), [True])
    listed = sorted(job.id for job in other.list_jobs(0, 9, JobFilter()).items)
    rig.equal("what was acknowledged is there, and nothing else", listed, before)
    rig.equal("claiming goes on", rig.claimed(), before[1:])


@check("SET-10")
def the_answer_is_lost(rig: Rig) -> None:
    rig.use_real_time()
    claim = rig.active()
    lose = rig.hook("lose_answer")
    with lose(rig.backend):
        rig.equal(
            "settle says whether the row shows this very outcome", rig.settle(Finished(claim.id, 0)), [True]
        )
    with lose(rig.backend):
        error = rig.refused(
            "an enqueue whose answer was lost raises BackendUnavailable",
            BackendUnavailable,
            lambda: rig.backend.enqueue([NewJob("once")]),
        )
    rig.true("it says that the jobs may have been stored", "may" in str(error), f"it says: {error}")
    rig.true("an enqueue is never sent again", len(rig.listed(tasks=["once"])) <= 1, "there are two")


# -- Opened ----------------------------------------------------------------------------------------------


def _open_and_enqueue(backend: Backend, url: str) -> int:
    with type(backend)(url) as opened:
        return opened.enqueue([NewJob("t")])[0].id


@check("SAFE-04")
def made_once(rig: Rig) -> None:
    rig.use_real_time()
    for _ in range(rig.rounds(4)):
        url = rig.enter(rig.hook("fresh")(rig.url))
        openers = [lambda url=url: _open_and_enqueue(rig.backend_class(url), url)] * 4
        ids = rig.together(openers)
        rig.equal("of many who open an empty place each finds a store", len(set(ids)), 4)
        client = rig.client(url=url)
        rig.equal("it is one store", client.list_jobs(0, 9, JobFilter()).total, 4)
        rig.equal("nothing is left to migrate", client.migrate(), [])


@check("SAFE-04", "multi_process")
def made_once_by_processes(rig: Rig) -> None:
    rig.use_real_time()
    for _ in range(rig.rounds(4)):
        url = rig.enter(rig.hook("fresh")(rig.url))
        ids = rig.crew.together(_open_and_enqueue, [(url,)] * 4)
        rig.equal("of many processes that open an empty place each finds a store", len(set(ids)), 4)
        rig.equal("it is one store", rig.client(url=url).list_jobs(0, 9, JobFilter()).total, 4)


def _has_schema(rig: Rig) -> bool:
    has = bool(rig.backend_class.migration_script().strip())
    rig.facts["has a schema"] = int(has)
    return has


@check("SAFE-04")
def not_made_unasked(rig: Rig) -> None:
    if not _has_schema(rig):
        return
    url = rig.enter(rig.hook("fresh")(rig.url))
    client = rig.backend_class(url)
    rig.refused(
        "opening without migrating an empty place raises", SchemaError, lambda: client.open(migrate=False)
    )
    client.close()
    with rig.backend_class(url) as made:
        rig.equal("opening with migrating makes it", made.list_jobs(0, 9, JobFilter()).total, 0)
    with rig.backend_class(url) as again:
        rig.equal("once made it is not made again", again.migrate(), [])


@check("SAFE-04")
def newer_or_anothers(rig: Rig) -> None:
    if not _has_schema(rig):
        return
    for told, name in (("a newer schema", "make_newer"), ("another program's schema", "make_foreign")):
        url = rig.enter(rig.hook("fresh")(rig.url))
        rig.hook(name)(url)
        before = rig.hook("fingerprint")(url)
        client = rig.backend_class(url)
        error = rig.refused(f"{told} is refused", SchemaError, client.open)
        client.close()
        rig.true("the refusal is clear", len(str(error)) > 20, f"it says: {error}")
        rig.equal(f"{told} is left alone", rig.hook("fingerprint")(url), before)


# -- Refused ---------------------------------------------------------------------------------------------


@check("SAFE-05")
def a_url_that_cannot_be_read(rig: Rig) -> None:
    url = f"{rig.url}{'&' if '?' in rig.url else '?'}no_such_option=1"
    error = rig.refused(
        "an unknown option in a URL is a ValueError", ValueError, lambda: rig.backend_class(url)
    )
    rig.true("the message names the option", "no_such_option" in str(error), f"it says: {error}")


@check("SAFE-05")
def no_password_is_told(rig: Rig) -> None:
    scheme = rig.url.partition(":")[0]
    url = f"{scheme}://somebody:s3cret@127.0.0.1:9/nowhere"
    told = ""
    try:
        client = rig.backend_class(url)
        told += repr(client)
        client.open()
        told += client.describe()
        client.close()
    except (MinionError, ValueError) as error:
        told += f"{error!r} {error}"
    rig.true("no message and no repr holds a password", "s3cret" not in told, told)


@check("SAFE-05")
def a_store_that_cannot_be_reached(rig: Rig) -> None:
    unreachable = rig.hook("unreachable")
    url = unreachable(rig.url) if callable(unreachable) else unreachable
    if url is None:
        rig.facts["always within reach"] = 1
        return
    client = rig.backend_class(url)
    error = rig.refused("a store out of reach raises BackendUnavailable", BackendUnavailable, client.open)
    client.close()
    rig.true("the message says where it was looked for", len(str(error)) > 15, f"it says: {error}")
    closed = rig.client()
    closed.close()
    rig.refused(
        "using what is closed raises one of ours, or works",
        (BackendError, _Works),
        lambda: _works(lambda: closed.list_jobs(0, 1, JobFilter())),
    )


class _Works(Exception):
    """A call that came back."""


def _works(do: Callable[[], object]) -> None:
    do()
    raise _Works


@check("SAFE-05")
def it_says_what_it_found(rig: Rig) -> None:
    told = rig.backend.describe()
    rig.true("describe() is one line of text", told.strip() and "\n" not in told.strip(), repr(told))
    rig.true("migration_script() is text", isinstance(rig.backend_class.migration_script(), str))


# -- One process, and durability -------------------------------------------------------------------------


@check("SAFE-07")
def one_store_in_one_process(rig: Rig) -> None:
    id = rig.enqueue()
    other = rig.client()
    rig.equal(
        "clients of one URL share one store", [j.id for j in other.list_jobs(0, 9, JobFilter()).items], [id]
    )
    rig.equal("what one claims the other sees", (rig.claimed(), other.stats().active_jobs), ([id], 1))


def _enqueue_many(backend: Backend, number: int) -> list[int]:
    return [backend.enqueue([NewJob("t", [count])])[0].id for count in range(number)]


@check("SAFE-08")
def after_everybody_died(rig: Rig) -> None:
    rig.use_real_time()
    rig.backend.reset(all=True)
    rig.close()
    hand: Hand = rig.crew.hand()
    hand.tell(_enqueue_many, 20)
    ids = hand.answer()
    rig.crew.dismiss()
    hand.kill()
    listed = sorted(job.id for job in rig.client().list_jobs(0, 100, JobFilter()).items)
    rig.equal("what was acknowledged is there when every client was killed", listed, ids)


@check("SAFE-09")
def it_says_what_may_be_lost(rig: Rig) -> None:
    told = rig.backend.describe()
    words = ("lost", "gone", "volatile", "not durable", "memory", "lose")
    rig.true("describe() says what may be lost", any(word in told.lower() for word in words), repr(told))
