"""STAT and RESET: numbers about the whole, and a new beginning."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from attrs import asdict

from minion_conformance.check import check
from minion_conformance.clock import START
from minion_core.records import (
    Failed,
    Finished,
    JobFilter,
    NewJob,
    NewSchedule,
    RetryOptions,
    ScheduleFilter,
    WorkerFilter,
)

if TYPE_CHECKING:
    from minion_conformance.rig import Rig


def _numbers(rig: Rig) -> dict[str, Any]:
    numbers = asdict(rig.backend.stats())
    del numbers["uptime"], numbers["enqueued_jobs"]
    return numbers


ZERO = dict.fromkeys(
    (
        "active_jobs",
        "active_locks",
        "active_workers",
        "delayed_jobs",
        "failed_jobs",
        "finished_jobs",
        "inactive_jobs",
        "inactive_schedules",
        "inactive_workers",
        "schedules",
        "workers",
    ),
    0,
)


def _fill(rig: Rig) -> None:
    idle = rig.backend.register_worker(None, "idle", 1, {})
    rig.true("a worker is registered", idle)
    done, failed, _, _, gone = (rig.active() for _ in range(5))
    rig.end(Finished(done.id, 0))
    rig.end(Failed(failed.id, 0, message="x"))
    rig.end(Failed(gone.id, 0, message="x"))
    rig.backend.enqueue(
        [
            NewJob("t"),
            NewJob("t", parents=(done.id + 1000,)),
            NewJob("t", delay=10),
            NewJob("t", delay=10, expire=5),
            NewJob("t", expire=5),
        ]
    )
    rig.backend.lock("a", 60)
    rig.backend.lock("a", 60, 2)
    rig.backend.lock("b", 5)
    for name in ("a", "b", "c"):
        rig.backend.schedule(NewSchedule(name, "@daily", rig.clock.after(60), "t"))
    rig.backend.pause_schedule("b")


@check("STAT-01")
def of_an_empty_store(rig: Rig) -> None:
    rig.equal("an empty store counts nothing", _numbers(rig), ZERO)


@check("STAT-01")
def everything(rig: Rig) -> None:
    _fill(rig)
    want = {
        "active_jobs": 2,
        "active_locks": 3,
        "active_workers": 1,
        "delayed_jobs": 2,
        "failed_jobs": 2,
        "finished_jobs": 1,
        "inactive_jobs": 5,
        "inactive_schedules": 1,
        "inactive_workers": 1,
        "schedules": 3,
        "workers": 2,
    }
    rig.equal("everything is counted", _numbers(rig), want)
    rig.clock.advance(5)
    want |= {"active_locks": 2, "delayed_jobs": 1, "inactive_jobs": 3}
    rig.equal("what has expired is not counted", _numbers(rig), want)
    rig.clock.advance(5)
    rig.equal("`delayed_jobs` have their time ahead", _numbers(rig), want | {"delayed_jobs": 0})


@check("STAT-01")
def estimates(rig: Rig) -> None:
    _fill(rig)
    exact, rough = asdict(rig.backend.stats()), asdict(rig.backend.stats(exact=False))
    for name, value in exact.items():
        if name not in ("failed_jobs", "finished_jobs", "enqueued_jobs", "uptime"):
            rig.equal(f"`{name}` is exact when estimates will do", rough[name], value)
    for name in ("failed_jobs", "finished_jobs"):
        rig.true(f"`{name}` as an estimate is a number", rough[name] >= 0)


@check("STAT-01")
def enqueued_ever(rig: Rig) -> None:
    before = rig.backend.stats().enqueued_jobs
    ids = [made.id for made in rig.backend.enqueue([NewJob("t") for _ in range(50)])]
    after = rig.backend.stats().enqueued_jobs
    rig.true(
        "`enqueued_jobs` grows, roughly by what came", 25 <= after - before <= 1000, f"{before}, {after}"
    )
    rig.backend.remove_jobs(ids)
    rig.true("`enqueued_jobs` are ever", rig.backend.stats().enqueued_jobs >= after)


@check("STAT-01")
def registered_workers_only(rig: Rig) -> None:
    rig.enqueue()
    rig.claim(worker=10**6)
    numbers = _numbers(rig)
    got = (numbers["active_jobs"], numbers["active_workers"], numbers["workers"])
    rig.equal("a worker that is not registered is not counted", got, (1, 0, 0))


@check("STAT-02")
def hours(rig: Rig) -> None:
    history = rig.backend.history()
    current = START.replace(minute=0, second=0, microsecond=0)
    starts = [current - timedelta(hours=back) for back in range(23, -1, -1)]
    rig.equal("24 clock hours in UTC, oldest first, the last one current", [h.start for h in history], starts)
    rig.equal("an empty store has no history", {(h.finished_jobs, h.failed_jobs) for h in history}, {(0, 0)})


@check("STAT-02")
def by_the_end_of_jobs(rig: Rig) -> None:
    current = START.replace(minute=0, second=0, microsecond=0)
    step = timedelta(seconds=rig.resolution)
    moments = {
        current - timedelta(hours=23) - step: None,
        current - timedelta(hours=23): 0,
        current - timedelta(hours=22) - step: 0,
        current - timedelta(hours=22): 1,
        current - step: 22,
        current: 23,
        START: 23,
    }
    want = [0] * 24
    for moment, hour in moments.items():
        rig.clock.instant = moment - timedelta(hours=2)
        claim = rig.active()
        rig.clock.instant = moment
        rig.end(Finished(claim.id, 0))
        if hour is not None:
            want[hour] += 1
    rig.equal("jobs count in the hour of their end", [h.finished_jobs for h in rig.backend.history()], want)
    rig.clock.instant = current + timedelta(hours=1)
    shifted = [*want[1:], 0]
    rig.equal("an hour later all has moved", [h.finished_jobs for h in rig.backend.history()], shifted)


@check("STAT-02")
def by_their_present_state(rig: Rig) -> None:
    done, failed, again = rig.active(), rig.active(), rig.active()
    rig.end(Finished(done.id, 0))
    rig.end(Failed(failed.id, 0, message="x"))
    rig.end(Failed(again.id, 0, message="x"))
    last = rig.backend.history()[-1]
    rig.equal("finished and failed count apart", (last.finished_jobs, last.failed_jobs), (1, 2))
    rig.backend.retry_job(again.id, 0, RetryOptions())
    last = rig.backend.history()[-1]
    rig.equal("what is retried counts no more", (last.finished_jobs, last.failed_jobs), (1, 1))
    rig.backend.remove_jobs([done.id])
    rig.equal("what is removed counts no more", rig.backend.history()[-1].finished_jobs, 0)


@check("STAT-03")
def uptime_grows(rig: Rig) -> None:
    first: Any = rig.backend.stats().uptime
    rig.true("`uptime` is a number of seconds", isinstance(first, (int, float)) and first >= 0, f"{first!r}")
    time.sleep(0.02)
    second: Any = rig.backend.stats().uptime
    rig.true("`uptime` does not go back", second >= first, f"{first}, then {second}")


@check("STAT-04")
def no_uptime(rig: Rig) -> None:
    rig.equal("`uptime` is None", rig.backend.stats().uptime, None)


@check("RESET-01")
def everything_goes(rig: Rig) -> None:
    _fill(rig)
    id = rig.listed()[-1].id
    rig.backend.add_failure(id, "x")
    rig.backend.broadcast("x")
    rig.backend.reset(all=True)
    rig.equal("reset empties jobs", rig.backend.list_jobs(0, 9, JobFilter()).total, 0)
    rig.equal("reset empties failure logs", rig.backend.failure_log(id), [])
    rig.equal("reset empties workers", rig.backend.list_workers(0, 9, WorkerFilter()).total, 0)
    rig.equal("reset empties inboxes", rig.backend.receive(rig.worker), [])
    rig.equal("reset empties locks", rig.backend.list_locks(0, 9).total, 0)
    rig.equal("reset empties schedules", rig.backend.list_schedules(0, 9, ScheduleFilter()).total, 0)
    rig.equal("reset empties history", {h.failed_jobs for h in rig.backend.history()}, {0})
    rig.equal("after a reset nothing is counted", _numbers(rig), ZERO)
    new = rig.enqueue()
    rig.equal("after a reset all goes on", rig.claimed(worker=1), [new])


@check("RESET-01")
def only_locks(rig: Rig) -> None:
    _fill(rig)
    before = _numbers(rig)
    rig.backend.reset(locks=True)
    rig.equal("resetting locks empties locks, and nothing else", _numbers(rig), {**before, "active_locks": 0})
    rig.true("a lock is free after a reset", rig.backend.lock("a", 60))


@check("RESET-01")
def nothing_named(rig: Rig) -> None:
    _fill(rig)
    before = _numbers(rig)
    rig.backend.reset()
    rig.equal("a reset of nothing changes nothing", _numbers(rig), before)


@check("RESET-01")
def keys_and_dependencies_go(rig: Rig) -> None:
    parent = rig.enqueue("parent", uniqkey="k")
    rig.enqueue(parents=(parent,))
    rig.backend.reset(all=True)
    again = rig.enqueue("parent", uniqkey="k")
    rig.true("a key is free after a reset", again != parent)
    rig.equal("no child is left after a reset", rig.job(again).children, [])
