"""SCHED: schedules as a backend keeps them, and runs that fire once."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from minion_conformance.check import check
from minion_conformance.clock import START
from minion_core.records import Finished, NewJob, NewSchedule, ScheduleFilter, ScheduleRecord

if TYPE_CHECKING:
    from minion_conformance.rig import Rig

DUE = START + timedelta(seconds=60)
NEXT = START + timedelta(seconds=120)


def _make(rig: Rig, name: str = "name", cron: str = "* * * * *", task: str = "t", **fields: Any) -> int:
    return rig.backend.schedule(NewSchedule(name, cron, fields.pop("next_run", DUE), task, **fields))


def _get(rig: Rig, name: str = "name") -> ScheduleRecord:
    found = rig.backend.list_schedules(0, 9, ScheduleFilter(names=[name])).items
    rig.equal("a schedule is listed", [known.name for known in found], [name])
    return found[0]


@check("SCHED-01")
def created(rig: Rig) -> None:
    given: dict[str, Any] = {
        "args": [1, {"a": None}],
        "kwargs": {"k": "\u20ac"},
        "attempts": 4,
        "expire": 90.5,
        "lax": True,
        "notes": {"n": [1]},
        "priority": -2,
        "queue": "q",
        "time_zone": "Europe/Berlin",
    }
    id = _make(rig, cron="*/5 1-3 * * mon", **given)
    known = _get(rig)
    rig.equal("a schedule has an id", (known.id, id > 0), (id, True))
    rig.equal("its cron and task are stored", (known.cron, known.task), ("*/5 1-3 * * mon", "t"))
    for name, value in given.items():
        rig.equal(f"its `{name}` is stored", getattr(known, name), value)
    rig.near("its next run is stored", known.next_run, DUE)
    rig.near("`created` is now", known.created, START)
    got = (known.paused, known.last_run, known.last_job)
    rig.equal("it is not paused and has not run", got, (False, None, None))


@check("SCHED-01")
def with_defaults(rig: Rig) -> None:
    _make(rig)
    known = _get(rig)
    got = (known.args, known.kwargs, known.attempts, known.expire, known.lax, known.notes)
    rig.equal("a plain schedule has a job's defaults", got, ([], {}, 1, None, False, {}))
    got2 = (known.priority, known.queue, known.time_zone)
    rig.equal("a plain schedule has a job's defaults", got2, (0, "default", "UTC"))


@check("SCHED-01")
def replaced_by_name(rig: Rig) -> None:
    id = _make(rig, args=[1], priority=5, expire=60)
    rig.clock.advance(5)
    again = _make(rig, task="u", args=[2], next_run=NEXT)
    known = _get(rig)
    rig.equal("a schedule is replaced by name", (again, known.task, known.args), (id, "u", [2]))
    rig.equal("what is not given again is gone", (known.priority, known.expire), (0, None))
    rig.near("the same cron expression keeps the next run", known.next_run, DUE)
    rig.near("replacing keeps `created`", known.created, START)
    _make(rig, cron="0 0 * * *", next_run=NEXT)
    rig.near("another cron expression sets the next run", _get(rig).next_run, NEXT)
    _make(rig, cron="0 0 * * *", time_zone="Asia/Tokyo", next_run=DUE)
    rig.near("another time zone sets the next run", _get(rig).next_run, DUE)
    rig.equal("one schedule has one name", rig.backend.list_schedules(0, 9, ScheduleFilter()).total, 1)


@check("SCHED-01")
def replacing_keeps_its_past(rig: Rig) -> None:
    id = _make(rig)
    rig.clock.advance(60)
    fired: Any = rig.backend.fire_schedule(id, DUE, NEXT, NewJob("t"))
    rig.backend.pause_schedule("name")
    rig.equal("replacing keeps the id", _make(rig, cron="0 0 * * *", next_run=NEXT), id)
    known = _get(rig)
    rig.equal("replacing keeps paused and last job", (known.paused, known.last_job), (True, fired.id))
    rig.near("replacing keeps last run", known.last_run, DUE)


@check("SCHED-01")
def made_by_many_at_once(rig: Rig) -> None:
    clients = [rig.backend, rig.client(), rig.client()]
    for number in range(rig.rounds(8)):
        new = NewSchedule(f"name {number}", "@hourly", DUE, "t")
        ids = rig.together([lambda c=c: c.schedule(new) for c in clients])  # type: ignore[misc]  # noqa: B023
        rig.equal("of many who make one schedule all get one id", len(set(ids)), 1)


@check("SCHED-02")
def a_due_run(rig: Rig) -> None:
    id = _make(rig)
    job = NewJob("t", [1], priority=3, queue="q")
    rig.clock.advance(60 - rig.resolution)
    early = rig.backend.fire_schedule(id, DUE, NEXT, job)
    rig.equal("a run that is not due does not happen", early, None)
    rig.clock.advance(rig.resolution)
    due = rig.backend.list_schedules(0, 9, ScheduleFilter(due=True)).items
    rig.equal("a schedule is due when its time has come", [known.id for known in due], [id])
    rig.clock.advance(5)
    fired: Any = rig.backend.fire_schedule(id, DUE, NEXT, job)
    rig.true("a run that is due happens", fired, "it did not")
    rig.equal("its job is answered as created", fired.created, True)
    stored = rig.job(fired.id)
    got = (stored.task, stored.args, stored.priority, stored.queue)
    rig.equal("its job is enqueued", got, ("t", [1], 3, "q"))
    known = _get(rig)
    rig.near("last run is now", known.last_run, START + timedelta(seconds=65))
    rig.equal("last job is the job", known.last_job, fired.id)
    rig.near("the next run is set", known.next_run, NEXT)
    rig.equal("its job is claimable", rig.claimed(queues=("q",)), [fired.id])


@check("SCHED-02")
def only_what_is_due(rig: Rig) -> None:
    for name, seconds in (("past", -60), ("now", 0), ("soon", 0.001), ("later", 60)):
        _make(rig, name, next_run=START + timedelta(seconds=seconds))
    _make(rig, "paused", next_run=START)
    rig.backend.pause_schedule("paused")
    found = rig.backend.list_schedules(0, 9, ScheduleFilter(due=True))
    names = sorted(known.name for known in found.items)
    rig.equal("due is what has fallen due and is not paused", (names, found.total), (["now", "past"], 2))


@check("SCHED-02")
def not_when_paused(rig: Rig) -> None:
    id = _make(rig)
    rig.backend.pause_schedule("name")
    rig.clock.advance(60)
    answer = rig.backend.fire_schedule(id, DUE, NEXT, NewJob("t"))
    rig.equal("a paused schedule does not fire", answer, None)
    rig.equal("what did not fire enqueues nothing", rig.listed(), [])
    rig.near("what did not fire keeps its next run", _get(rig).next_run, DUE)
    rig.backend.resume_schedule("name")
    answer = rig.backend.fire_schedule(id, DUE, NEXT, NewJob("t"))
    rig.true("a run that fell due in a pause happens once, afterwards", answer)
    rig.equal("it happened once", len(rig.listed()), 1)


@check("SCHED-02")
def not_when_gone(rig: Rig) -> None:
    id = _make(rig, next_run=START)
    rig.backend.unschedule("name")
    answer = rig.backend.fire_schedule(id, START, NEXT, NewJob("t"))
    rig.equal("a schedule that is gone does not fire", answer, None)
    rig.equal("what did not fire enqueues nothing", rig.listed(), [])


@check("SCHED-03")
def compared_and_set(rig: Rig) -> None:
    id = _make(rig, next_run=START)
    other = START - timedelta(seconds=60)
    answer = rig.backend.fire_schedule(id, other, NEXT, NewJob("t"))
    rig.equal("a run other than the next does not happen", answer, None)
    rig.true("the next run happens", rig.backend.fire_schedule(id, START, NEXT, NewJob("t")))
    answer = rig.backend.fire_schedule(id, START, NEXT, NewJob("t"))
    rig.equal("a run happens once", answer, None)
    rig.equal("a run enqueues one job", len(rig.listed()), 1)


@check("SCHED-03")
def exact_to_the_resolution(rig: Rig) -> None:
    moment = START - timedelta(seconds=3, microseconds=round((rig.resolution % 1) * 1_000_000))
    id = _make(rig, next_run=moment)
    listed = _get(rig).next_run
    rig.true("the next run as it is listed fires", rig.backend.fire_schedule(id, listed, NEXT, NewJob("t")))


@check("SCHED-03")
def once_in_threads(rig: Rig) -> None:
    clients = [rig.backend, *(rig.client() for _ in range(3))]
    id = _make(rig, next_run=START)
    due = START
    for number in range(rig.rounds(12)):
        then = due + timedelta(seconds=60)
        calls = [
            lambda c=client: c.fire_schedule(id, due, then, NewJob("t", [number]))  # noqa: B023
            for client in clients
        ]
        fired = [made for made in rig.together(calls) if made]
        rig.equal("of many who fire one run, one does", len(fired), 1)
        rig.clock.instant = due = then
    rig.equal("each run enqueues one job", len(rig.listed()), rig.rounds(12))


@check("SCHED-03")
def in_one_transaction_with_the_job(rig: Rig) -> None:
    id = _make(rig, next_run=START)
    broken: Any = "not a job"
    rig.refused(
        "firing what is no job raises",
        Exception,
        lambda: rig.backend.fire_schedule(id, START, NEXT, broken),
    )
    rig.near("if the job is not enqueued, the run stays due", _get(rig).next_run, START)
    rig.equal("if the job is not enqueued, there is none", (_get(rig).last_job, rig.listed()), (None, []))


@check("SCHED-03")
def its_key_is_held(rig: Rig) -> None:
    id = _make(rig, next_run=START)
    holder = rig.enqueue(uniqkey="k", delay=60)
    fired: Any = rig.backend.fire_schedule(id, START, NEXT, NewJob("t", uniqkey="k"))
    rig.equal("a run whose key is held answers the holder", (fired.id, fired.created), (holder, False))
    rig.near("a run whose key is held has happened", _get(rig).next_run, NEXT)


@check("SCHED-04")
def by_name(rig: Rig) -> None:
    _make(rig)
    _make(rig, "other")
    for told, do, paused in (
        ("paused", rig.backend.pause_schedule, True),
        ("paused twice", rig.backend.pause_schedule, True),
        ("resumed", rig.backend.resume_schedule, False),
    ):
        rig.equal(f"a schedule is {told}", (do("name"), _get(rig).paused), (True, paused))
        rig.equal("another is left alone", _get(rig, "other").paused, False)
    for do in (rig.backend.pause_schedule, rig.backend.resume_schedule, rig.backend.unschedule):
        rig.equal("False when there is no such name", do("unknown"), False)
    rig.equal("a schedule is removed", rig.backend.unschedule("name"), True)
    left = [known.name for known in rig.backend.list_schedules(0, 9, ScheduleFilter()).items]
    rig.equal("only that schedule is removed", left, ["other"])
    rig.equal("what is gone is not removed again", rig.backend.unschedule("name"), False)


@check("SCHED-04")
def listing(rig: Rig) -> None:
    ids = [_make(rig, name) for name in ("a", "b", "c")]

    def names(**options: Any) -> list[str]:
        return [known.name for known in rig.backend.list_schedules(0, 9, ScheduleFilter(**options)).items]

    rig.equal("newest first", names(), ["c", "b", "a"])
    rig.equal("filter `before`", names(before=ids[2]), ["b", "a"])
    rig.equal("filter `ids`", names(ids=[ids[0], ids[2]]), ["c", "a"])
    rig.equal("filter `names`", names(names=["b", "x"]), ["b"])
    rig.equal("filters combine", names(names=["b", "c"], before=ids[2]), ["b"])
    rig.equal("an empty list of ids matches nothing", names(ids=[]), [])
    rig.equal("an empty list of names matches nothing", names(names=[]), [])
    page = rig.backend.list_schedules(1, 1, ScheduleFilter())
    rig.equal("offset, limit and total", ([known.name for known in page.items], page.total), (["b"], 3))
    rig.equal("no total", rig.backend.list_schedules(0, 1, ScheduleFilter(), total=False).total, None)


@check("SCHED-04")
def jobs_outlive_it(rig: Rig) -> None:
    id = _make(rig, next_run=START)
    fired: Any = rig.backend.fire_schedule(id, START, NEXT, NewJob("t"))
    rig.backend.unschedule("name")
    rig.equal("its jobs outlive a schedule", rig.claimed(), [fired.id])
    rig.end(Finished(fired.id, 0))
