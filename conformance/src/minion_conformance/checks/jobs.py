"""JOB and WORK-05: what Minion, Job and Worker make of the store; core's own clauses, shown on this one."""

from __future__ import annotations

import logging
import threading
import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any, cast

from minion_conformance.check import check
from minion_conformance.rig import join
from minion_core import Job, JobFailed, JobNotClaimable, Minion
from minion_core.backend import Backend
from minion_core.errors import BackendUnavailable
from minion_core.records import ClaimedJob, Failed, Finished, NewJob, State

if TYPE_CHECKING:
    from minion_conformance.rig import Rig


def _minion(rig: Rig, **options: Any) -> Minion:
    made = Minion(rig.url, **options)
    made.use(rig.backend)
    made.add_task("t", lambda *args, **kwargs: {"args": list(args), "kwargs": kwargs})
    return made


def _job(rig: Rig, minion: Minion, **fields: Any) -> Job:
    id = minion.enqueue("t", **fields)
    return Job(minion, rig.claim_one(id), rig.worker)


# -- Verbs -----------------------------------------------------------------------------------------------


@check("JOB-01")
def verbs_that_end(rig: Rig) -> None:
    minion = _minion(rig)
    ways: dict[str, tuple[Any, State, Any]] = {
        "completed": (lambda job: job.completed({"a": 1}), State.FINISHED, {"a": 1}),
        "finish": (lambda job: job.finish("r"), State.FINISHED, "r"),
        "failed": (lambda job: job.failed("why", 3), State.FAILED, "why"),
        "fail": (lambda job: job.fail({"e": 1}), State.FAILED, {"e": 1}),
        "permanent_failure": (lambda job: job.permanent_failure("why", 4), State.FAILED, "why"),
        "declined": (lambda job: job.declined(30), State.INACTIVE, None),
        "retry": (lambda job: job.retry(priority=7), State.INACTIVE, None),
        "replace_with": (lambda job: job.replace_with(NewJob("new")), State.FINISHED, None),
    }
    for verb, (do, state, result) in ways.items():
        job = _job(rig, minion)
        rig.true(f"`{verb}` settles a running job", do(job))
        stored = rig.job(job.id)
        rig.equal(f"`{verb}` leaves state and result", (stored.state, stored.result), (state, result))
        rig.equal(f"`{verb}` is something", (job.did_something, job.was_declined), (True, verb == "declined"))
    rig.equal("`replace_with` enqueues", len(rig.listed(tasks=["new"])), 1)
    statuses = {job.exit_status for job in rig.listed(states=["failed"])}
    rig.equal("exit statuses are those given, 1 by default", statuses, {1, 3, 4})


@check("JOB-01")
def verbs_that_do_not(rig: Rig) -> None:
    minion = _minion(rig)
    job = _job(rig, minion, notes={"old": 1}, lease=60)
    rig.equal(
        "`note` notes", (job.note({"a": 1}, b=2, old=None), rig.job(job.id).notes), (True, {"a": 1, "b": 2})
    )
    rig.true("`add_failure` records", job.add_failure("x"))
    job.debug("a line for the log")
    rig.clock.advance(30)
    rig.equal("`extend` extends by the lease's length", job.extend(), True)
    rig.near("`extend` extends by the lease's length", rig.job(job.id).grabbed_until, rig.clock.after(60))
    rig.true("`extend` extends by what is said", job.extend(timedelta(seconds=5)))
    rig.near("`extend` extends by what is said", rig.job(job.id).grabbed_until, rig.clock.after(5))
    job.set_exit_status(9)
    rig.equal("none of these settles", (job.did_something, rig.job(job.id).state), (False, State.ACTIVE))
    job.completed()
    rig.equal("`set_exit_status` is for the end", rig.job(job.id).exit_status, 9)
    child = _job(rig, minion, parents=[job.id])
    rig.equal("`parents` are jobs", [parent.id for parent in child.parents()], [job.id])
    rig.equal("`info` is the record", child.info(), rig.job(child.id))
    rig.equal("an active job is not removed", child.remove(), False)
    child.completed()
    rig.equal("`remove` removes", (child.remove(), child.info()), (True, None))


@check("JOB-01")
def declined_by_policy(rig: Rig) -> None:
    minion = _minion(rig, decline_delay=45)
    plain, leased = _job(rig, minion), _job(rig, minion, lease=100)
    rig.clock.advance(10)
    plain.declined()
    leased.declined()
    rig.near("a job without a lease waits for decline_delay", rig.job(plain.id).delayed, rig.clock.after(45))
    rig.near("one with a lease until that would have ended", rig.job(leased.id).delayed, rig.clock.after(90))


@check("JOB-02")
def backoff(rig: Rig) -> None:
    minion = _minion(rig)
    id = minion.enqueue("t", attempts=4)
    for failures, wait in enumerate((15, 16, 31)):
        Job(minion, rig.claim_one(id)).failed("x")
        job = rig.job(id)
        rig.equal(
            "`failed` retries while attempts are left", (job.state, job.attempts), ("inactive", 3 - failures)
        )
        rig.near("after n ** 4 + 15 seconds", job.delayed, rig.clock.after(wait))
        rig.clock.advance(wait)
        Job(minion, rig.claim_one(id)).declined(0)
    Job(minion, rig.claim_one(id)).failed("x")
    rig.equal("after the last one the job is failed", rig.job(id).state, State.FAILED)
    rig.equal("every failure is recorded", rig.job(id).failures, 4)


@check("JOB-02")
def retry_delay(rig: Rig) -> None:
    minion = _minion(rig)
    minion.add_task("own", lambda: None, attempts=3, retry_delay=lambda failures: 100 + failures)
    id = minion.enqueue("own")
    for wait in (101, 102):
        Job(minion, rig.claim_one(id, tasks=("own",))).failed("x")
        rig.near(
            "after the task's retry_delay(failures), this one included",
            rig.job(id).delayed,
            rig.clock.after(wait),
        )
        rig.clock.advance(wait)
    patient = _job(rig, minion, attempts=9)
    patient.permanent_failure("x")
    rig.equal("`permanent_failure` never retries", rig.job(patient.id).state, State.FAILED)


@check("JOB-03")
def settles_once(rig: Rig) -> None:
    minion = _minion(rig)
    job = _job(rig, minion, attempts=5)
    rig.equal("nothing is settled yet", job.did_something, False)
    job.completed("first")
    before = rig.job(job.id)
    logger = logging.getLogger("minion_core.job")
    said: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: said.append(record.getMessage())  # type: ignore[method-assign]
    logger.addHandler(handler)
    propagated, logger.propagate = logger.propagate, False
    try:
        for verb, args in {
            "completed": ("late",),
            "finish": ("late",),
            "failed": ("late",),
            "fail": ("late",),
            "permanent_failure": ("late",),
            "declined": (),
            "replace_with": (NewJob("late"),),
            "retry": (),
        }.items():
            rig.equal(f"a later `{verb}` answers False", getattr(job, verb)(*args), False)
    finally:
        logger.removeHandler(handler)
        logger.propagate = propagated
    rig.equal("later verbs do nothing", rig.job(job.id), before)
    rig.equal("later verbs enqueue nothing", rig.listed(tasks=["late"]), [])
    rig.equal("each is logged as too late", sum("too late" in line for line in said), 8)


@check("JOB-03")
def declined_settles(rig: Rig) -> None:
    job = _job(rig, _minion(rig))
    job.declined(60)
    rig.equal("`declined` settles", (job.did_something, job.was_declined), (True, True))


class _Silent:
    explicit_outcome = True

    def work(self, job: Job) -> None:
        """Settle nothing."""


class _Speaking(_Silent):
    def work(self, job: Job) -> None:
        job.completed("spoken")


def _raises(*_args: object) -> None:
    raise KeyError("missing thing")


@check("JOB-04")
def outcomes_of_code(rig: Rig) -> None:
    minion = _minion(rig)
    minion.add_task("raises", _raises)
    minion.add_task("silent", _Silent)
    minion.add_task("speaking", _Speaking)
    ids = {name: minion.enqueue(name) for name in ("raises", "silent", "speaking")}
    ids["t"] = minion.enqueue("t", ["a", 1], {"k": None})
    rig.equal("what is claimable is performed", minion.perform_jobs(), 4)
    jobs = {name: rig.job(id) for name, id in ids.items()}
    want = {"args": ["a", 1], "kwargs": {"k": None}}
    rig.equal("a function that returns completes", (jobs["t"].state, jobs["t"].result), ("finished", want))
    failed = jobs["raises"]
    rig.equal("one that raises fails", (failed.state, failed.result["type"]), ("failed", "KeyError"))
    rig.true(
        "with message and traceback",
        "missing thing" in failed.result["message"] and "_raises" in failed.result["traceback"],
        str(failed.result),
    )
    log = rig.backend.failure_log(failed.id)
    rig.true("in the log, too", len(log) == 1 and "KeyError" in log[0].message, str(log))
    silent = jobs["silent"]
    log = rig.backend.failure_log(silent.id)
    told = "Job did not explicitly complete, fail, or get replaced"
    rig.equal(
        "one marked explicit_outcome that says nothing fails",
        (silent.state, log[0].message),
        ("failed", told),
    )
    rig.equal(
        "one that says so completes",
        (jobs["speaking"].state, jobs["speaking"].result),
        ("finished", "spoken"),
    )


@check("JOB-05")
def handles(rig: Rig) -> None:
    minion = _minion(rig)
    id = minion.enqueue("t", attempts=2)
    handle = minion.job(id).handle  # type: ignore[union-attr]
    rig.true("a handle is a short string", isinstance(handle, str) and len(handle) < 60, repr(handle))
    again: Any = _minion(rig).job(handle)
    rig.equal("any process can turn it back into the job", again.id, id)
    rig.equal("it is pending", (again.is_pending, again.exit_status, again.failures), (True, None, 0))
    Job(minion, rig.claim_one(id)).failed("one")
    rig.equal("it can be asked again and again", (again.is_pending, again.failures), (True, 1))
    rig.clock.advance(3600)
    Job(minion, rig.claim_one(id)).failed("two", 5)
    rig.equal("it has ended", (again.is_pending, again.exit_status, again.failures), (False, 5, 2))
    rig.equal("its log can be read", [failure.message for failure in again.failure_log()], ["one", "two"])
    rig.backend.remove_jobs([id])
    rig.equal("for as long as the job is kept", minion.job(handle), None)


@check("JOB-07")
def done_in_one_go(rig: Rig) -> None:
    minion = _minion(rig)
    seen: list[list[int]] = []

    def together(job: Job, *_args: int) -> str:
        others = job.claim_coalesced()
        seen.append([job.id, *(other.id for other in others)])
        for other in others[:-1]:
            other.completed("with the first")
        return "first"

    minion.add_task("together", together)
    ids = [minion.enqueue("together", [number], coalesce="c") for number in range(4)]
    other = minion.enqueue("together", [9], coalesce="d")
    minion.perform_jobs()
    rig.equal("jobs of one coalesce value are claimed together", seen, [ids, [other]])
    results = [(rig.job(id).state, rig.job(id).result) for id in ids[:3]]
    want = [("finished", "first"), ("finished", "with the first"), ("finished", "with the first")]
    rig.equal("each is settled on its own", results, want)
    rig.equal("what is left unsettled fails", rig.job(ids[3]).state, State.FAILED)


@check("JOB-08")
def foreground(rig: Rig) -> None:
    minion = _minion(rig)
    minion.add_task("raises", _raises)
    id = minion.enqueue("t", ["x"], delay=3600, attempts=3)
    rig.equal("it performs a job here and now", minion.foreground(id), {"args": ["x"], "kwargs": {}})
    job = rig.job(id)
    rig.equal("in the queue minion_foreground", (job.queue, job.state), ("minion_foreground", "finished"))
    id = minion.enqueue("raises", attempts=5)
    rig.refused("it raises what the job raised", KeyError, lambda: minion.foreground(id))
    rig.equal("once", rig.job(id).state, State.FAILED)


@check("JOB-08")
def foreground_of_what_cannot(rig: Rig) -> None:
    minion = _minion(rig)
    parent = minion.enqueue("t", queue="elsewhere")
    id = minion.enqueue("t", parents=[parent], attempts=4)
    rig.refused("a blocked job is not performed", JobNotClaimable, lambda: minion.foreground(id))
    job = rig.job(id)
    rig.equal("it is back where it was", (job.queue, job.state, job.attempts), ("default", "inactive", 4))
    active = _job(rig, minion)
    rig.refused("an active job is not performed", JobNotClaimable, lambda: minion.foreground(active.id))
    rig.equal("it goes on", active.completed(), True)


@check("JOB-08")
def perform_jobs(rig: Rig) -> None:
    minion = _minion(rig)
    first = minion.enqueue("t")
    minion.enqueue("t", parents=[first])
    minion.enqueue("t", delay=60)
    minion.enqueue("t", queue="other")
    rig.equal("it performs until nothing is claimable", minion.perform_jobs(), 2)
    rig.equal("result() answers", minion.result(first, timeout=0), {"args": [], "kwargs": {}})
    rig.equal("its worker is gone", rig.backend.stats().workers, 0)


# -- Policy over the store -------------------------------------------------------------------------------


@check("REP-04")
def settled_by_core(rig: Rig) -> None:
    minion = _minion(rig, missing_after=60)
    rig.enqueue(attempts=2)
    rig.enqueue()
    again, gone = rig.claim(2)
    rig.clock.advance(60)
    minion.repair()
    one, two = rig.job(again.id), rig.job(gone.id)
    rig.equal("with attempts left they are retried", (one.state, one.attempts), ("inactive", 1))
    rig.equal("without they fail", (two.state, two.result), ("failed", "Worker went away"))
    for id in (again.id, gone.id):
        log = [failure.message for failure in rig.backend.failure_log(id)]
        rig.equal("it is recorded", log, ["Worker went away"])


@check("SCHED-01")
def cron_is_cores(rig: Rig) -> None:
    minion = _minion(rig)
    at = rig.clock().replace(microsecond=0)
    wanted = {
        "*/5 * * * *": (at.replace(minute=25, second=0), "UTC"),
        "@hourly": (at.replace(hour=11, minute=0, second=0), "UTC"),
        "30 10 1 * mon": (at.replace(month=3, day=10, minute=30, second=0), "UTC"),
        "0 12 * * *": (at.replace(hour=11, minute=0, second=0), "Europe/Berlin"),
        "15,45 8-10 * jan-mar *": (at.replace(minute=45, second=0), "UTC"),
    }
    for cron, (run, zone) in wanted.items():
        minion.schedule(cron, cron, "t", time_zone=zone)
        (known,) = [one for one in rig.backend.list_schedules(0, 99, _named(cron)).items if one.name == cron]
        rig.near(f"the next run of {cron} in {zone}", known.next_run, run)
    rig.refused(
        "a bad expression is a ValueError", ValueError, lambda: minion.schedule("bad", "61 * * * *", "t")
    )
    rig.equal("nothing is stored of it", rig.backend.list_schedules(0, 99, _named("bad")).items, [])


def _named(name: str) -> Any:
    from minion_core.records import ScheduleFilter  # noqa: PLC0415, only here

    return ScheduleFilter(names=[name])


@check("SCHED-02")
def dispatched(rig: Rig) -> None:
    minion = _minion(rig)
    id = minion.schedule(
        "often", "* * * * *", "t", args=[1], kwargs={"k": 2}, queue="q", priority=3, expire=50
    )
    rig.equal("nothing is due yet", minion.dispatch_schedules(), [])
    rig.clock.advance(3600)
    runs: Any = minion.dispatch_schedules()
    rig.equal("one job for each due schedule, however many runs were missed", len(runs), 1)
    rig.equal("its id, name and job are answered", (runs[0].id, runs[0].name), (id, "often"))
    job = rig.job(runs[0].job)
    got = (job.task, job.args, job.kwargs, job.queue, job.priority)
    rig.equal("the job is as the schedule says", got, ("t", [1], {"k": 2}, "q", 3))
    rig.near("its expiry counts from its enqueueing", job.expires, rig.clock.after(50))
    (known,) = rig.backend.list_schedules(0, 1, _named("often")).items
    rig.true("the next run is after now", known.next_run > rig.clock(), str(known.next_run))
    rig.equal("it is not due again", minion.dispatch_schedules(), [])


@check("LOCK-03")
def guards(rig: Rig) -> None:
    minion = _minion(rig)
    with minion.guard("name", 60) as first, minion.guard("name", 60) as second:
        rig.equal("a guard says whether it has a share", (bool(first), bool(second)), (True, False))
        rig.true("a lock that is out is locked", minion.is_locked("name"))
    rig.equal("a guard releases its own", minion.is_locked("name"), False)
    with minion.guard("name", 5):
        rig.clock.advance(5)
        other = minion.lock("name", 60)
    rig.true("a guard that came too late releases nobody else's", other and minion.is_locked("name"))


@check("LIST-05")
def iterators(rig: Rig) -> None:
    minion = _minion(rig)
    ids = [made.id for made in minion.enqueue_many([NewJob("t") for _ in range(230)])]
    seen = []
    for number, job in enumerate(minion.jobs()):
        seen.append(job.id)
        if number % 50 == 0:
            minion.enqueue("t")
            rig.backend.remove_jobs([ids[0], job.id])
            ids = ids[1:]
    rig.equal("each job is seen at most once, newest first", seen, sorted(set(seen), reverse=True))
    rig.true("what stayed is seen", set(ids) <= set(seen), "some are missing")
    workers = [rig.backend.register_worker(None, "host", number, {}) for number in range(3)]
    rig.equal("workers, too", [worker.id for worker in minion.workers()], workers[::-1])


@check("JOB-05")
def results(rig: Rig) -> None:
    minion = _minion(rig)
    done, failed, waiting = rig.active(), rig.active(), rig.enqueue()
    rig.end(Finished(done.id, 0, result=[1]))
    rig.end(Failed(failed.id, 0, message="why"))
    rig.equal("the result of a finished job", minion.result(done.id, timeout=0), [1])
    error = rig.refused("a failed job's raises", JobFailed, lambda: minion.result(failed.id, timeout=0))
    rig.true("with its result", "why" in str(error), str(error))
    rig.refused("one that waits raises in time", TimeoutError, lambda: minion.result(waiting, timeout=0))


# -- Claims of nobody ------------------------------------------------------------------------------------


class _LosesAnswers:
    """A backend of which some answers to ``dequeue`` are lost on their way."""

    def __init__(self, backend: Backend, every: int) -> None:
        self._backend = backend
        self._every = every
        self.calls = 0
        self.lost: list[int] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backend, name)

    def dequeue(self, *args: Any) -> list[ClaimedJob]:
        claimed = self._backend.dequeue(*args)
        self.calls += bool(claimed)
        if claimed and self.calls % self._every == 0 and len(self.lost) < 3:
            self.lost += [job.id for job in claimed]
            raise BackendUnavailable("the answer was lost")
        return claimed


def _run_worker(rig: Rig, minion: Minion, ids: list[int]) -> None:
    worker = minion.worker(
        executor="inline", jobs=1, heartbeat_interval=0.1, dequeue_timeout=0.1, repair_interval=1000
    )
    thread = threading.Thread(target=worker.run, daemon=True)
    logger = logging.getLogger("minion_core")
    disabled, logger.disabled = logger.disabled, True
    thread.start()
    end = time.monotonic() + 10
    try:
        while time.monotonic() < end and len(rig.listed(states=["finished"], ids=ids)) < len(ids):
            time.sleep(0.02)
    finally:
        worker.stop()
        join([thread])
        logger.disabled = disabled


@check("WORK-05")
def no_claim_of_nobody(rig: Rig) -> None:
    rig.use_real_time()
    loses = _LosesAnswers(rig.backend, every=3)
    minion = Minion(rig.url).use(cast("Backend", loses))
    minion.add_task("t", lambda: None)
    ids = [made.id for made in minion.enqueue_many([NewJob("t") for _ in range(8)])]
    _run_worker(rig, minion, ids)
    left = {job.id: job.state for job in rig.listed() if job.state != "finished"}
    rig.true("answers were lost", loses.lost)
    rig.equal("after a failed dequeue a worker releases what it does not know of", left, {})
    records = [rig.job(id) for id in loses.lost]
    rig.equal(
        "what was released was performed later", [job.retries > 0 for job in records], [True] * len(records)
    )
    rig.equal(
        "releasing costs no attempt and records nothing",
        {(j.attempts, j.failures) for j in records},
        {(1, 0)},
    )


@check("WORK-05")
def at_each_heartbeat(rig: Rig) -> None:
    rig.use_real_time()
    minion = _minion(rig)
    ids = [made.id for made in minion.enqueue_many([NewJob("t") for _ in range(2)])]
    stray = rig.enqueue("stray")

    def begin() -> None:
        (worker,) = list(minion.workers())
        rig.claim_one(stray, worker=worker.id, tasks=("stray",))

    minion.add_task("begin", begin)
    ids.append(minion.enqueue("begin", priority=9))
    minion.add_task("stray", lambda: None)
    _run_worker(rig, minion, [*ids, stray])
    rig.equal(
        "at a heartbeat a worker releases what it does not know of", rig.job(stray).state, State.FINISHED
    )
    rig.true("what was released was performed later", rig.job(stray).retries > 0)
