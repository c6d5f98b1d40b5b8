"""LIST: pages of jobs, filters, totals."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from attrs import fields

from minion_conformance.check import check
from minion_core.records import Failed, Finished, JobFilter, JobRecord, NewJob, Released

if TYPE_CHECKING:
    from minion_conformance.rig import Rig


def _ids(rig: Rig, **options: Any) -> list[int]:
    return [job.id for job in rig.listed(**options)]


@check("LIST-01")
def newest_first(rig: Rig) -> None:
    ids = [rig.enqueue(priority=number % 3) for number in range(7)]
    page = rig.backend.list_jobs(0, 3, JobFilter())
    rig.equal("newest first", [job.id for job in page.items], ids[:-4:-1])
    rig.equal("total is how many match in all", page.total, 7)
    page = rig.backend.list_jobs(5, 10, JobFilter())
    rig.equal("an offset passes over the newest", [job.id for job in page.items], [ids[1], ids[0]])
    rig.equal("total does not depend on the page", page.total, 7)
    page = rig.backend.list_jobs(7, 10, JobFilter())
    rig.equal("beyond the end there is nothing", (page.items, page.total), ([], 7))
    page = rig.backend.list_jobs(0, 0, JobFilter())
    rig.equal("a limit of 0 is nothing, and a total", (page.items, page.total), ([], 7))


@check("LIST-01")
def total_of_what_matches(rig: Rig) -> None:
    for number in range(9):
        rig.enqueue("ab"[number % 2], expire=1 if number == 8 else None)
    rig.clock.advance(2)
    page = rig.backend.list_jobs(1, 2, JobFilter(tasks=["a"]))
    rig.equal("total counts what matches the filter", (len(page.items), page.total), (2, 4))


@check("LIST-01")
def of_an_empty_store(rig: Rig) -> None:
    page = rig.backend.list_jobs(0, 10, JobFilter())
    rig.equal("an empty store lists nothing", (page.items, page.total), ([], 0))


@check("LIST-02")
def each_filter(rig: Rig) -> None:
    a = rig.enqueue("a", queue="x", notes={"n": 1})
    b = rig.enqueue("b", queue="y", notes={"m": None, "n": 0})
    c = rig.enqueue("a", queue="y", notes={"o": 1})
    d = rig.enqueue("c", queue="z")
    rig.equal("`before` takes ids below", _ids(rig, before=c), [b, a])
    rig.equal("`ids` takes only these", _ids(rig, ids=[c, a, 10**9]), [c, a])
    rig.equal("`queues` takes only these", _ids(rig, queues=["y", "z", "w"]), [d, c, b])
    rig.equal("`tasks` takes only these", _ids(rig, tasks=["a"]), [c, a])
    rig.equal("`notes` takes jobs with any of these keys", _ids(rig, notes=["n", "o"]), [c, b, a])
    rig.equal("a key counts whatever its value", _ids(rig, notes=["n"]), [b, a])
    rig.equal("values are not keys", _ids(rig, notes=["1"]), [])


@check("LIST-02")
def states(rig: Rig) -> None:
    done, failed, active = (rig.active() for _ in range(3))
    waiting = rig.enqueue()
    rig.end(Finished(done.id, 0))
    rig.end(Failed(failed.id, 0, message="x"))
    want = {"finished": done.id, "failed": failed.id, "active": active.id, "inactive": waiting}
    for state, id in want.items():
        rig.equal(f"`states` takes only {state} jobs", _ids(rig, states=[state]), [id])
    rig.equal("several states", _ids(rig, states=["finished", "inactive"]), [waiting, done.id])


@check("LIST-02")
def they_combine(rig: Rig) -> None:
    ids = [
        rig.enqueue("ab"[number % 2], queue="xy"[number // 2 % 2], notes={"kl"[number // 4 % 2]: 1})
        for number in range(16)
    ]
    options: dict[str, Any] = {
        "before": ids[12],
        "ids": ids[2:],
        "tasks": ["a"],
        "queues": ["x"],
        "notes": ["k"],
        "states": ["inactive"],
    }
    rig.equal("filters combine", _ids(rig, **options), [ids[8]])
    options["states"] = ["active"]
    rig.equal("filters combine", _ids(rig, **options), [])


@check("LIST-02")
def none_and_empty(rig: Rig) -> None:
    id = rig.enqueue(notes={"n": 1})
    every = dict.fromkeys(("before", "ids", "notes", "queues", "states", "tasks"))
    rig.equal("None is no filter", _ids(rig, **every), [id])
    for name in ("ids", "notes", "queues", "states", "tasks"):
        page = rig.backend.list_jobs(0, 10, JobFilter(**{name: []}))  # type: ignore[arg-type]
        rig.equal(f"an empty list of {name} matches nothing", (page.items, page.total), ([], 0))


@check("LIST-02")
def many_ids(rig: Rig) -> None:
    made = [one.id for one in rig.backend.enqueue([NewJob("t") for _ in range(1500)])]
    page = rig.backend.list_jobs(0, 5, JobFilter(ids=made[:1400]))
    rig.equal("a long list of ids is a filter like any", (page.items[0].id, page.total), (made[1399], 1400))


@check("LIST-03")
def all_fields(rig: Rig) -> None:
    parent = rig.enqueue("parent")
    id = rig.enqueue(parents=(parent,), lease=5, keep_for=6, uniqkey="u", coalesce="c", expire=60, delay=1)
    for record in (rig.job(id), rig.job(parent)):
        for known in fields(JobRecord):
            rig.true("a listed job has every field", hasattr(record, known.name), f"{known.name} is missing")
        rig.equal("states are of their type", type(record.state).__name__, "State")
    rig.near("`time` is now", rig.job(id).time, rig.clock())
    rig.clock.advance(17)
    rig.near("`time` is now, each time", rig.job(parent).time, rig.clock())


@check("LIST-03")
def types(rig: Rig) -> None:
    claim = rig.active(lease=5, keep_for=6, parents=(10**6,), lax=True, notes={})
    job = rig.job(claim.id)
    kinds: dict[str, type | tuple[type, ...]] = {
        "id": int,
        "args": list,
        "kwargs": dict,
        "attempts": int,
        "children": list,
        "failures": int,
        "keep_for": (int, float),
        "lax": bool,
        "lease": (int, float),
        "notes": dict,
        "parents": list,
        "priority": int,
        "retries": int,
        "worker": int,
    }
    for name, kind in kinds.items():
        value = getattr(job, name)
        rig.true(f"`{name}` is of its type", isinstance(value, kind), f"it is {value!r}")


@check("LIST-04")
def without_a_total(rig: Rig) -> None:
    rig.enqueue()
    for total, want in ((False, None), (True, 1)):
        rig.equal(
            "the total is left out when it is not asked for",
            rig.backend.list_jobs(0, 5, JobFilter(), total=total).total,
            want,
        )
    page = rig.backend.list_jobs(0, 5, JobFilter(), total=False)
    rig.equal("without a total the page is the same", len(page.items), 1)


@check("LIST-05")
def paging_by_before(rig: Rig) -> None:
    made = [one.id for one in rig.backend.enqueue([NewJob("t") for _ in range(30)])]
    seen: list[int] = []
    before: int | None = None
    while page := rig.backend.list_jobs(0, 4, JobFilter(before=before), total=False).items:
        seen += [job.id for job in page]
        before = seen[-1]
        rig.enqueue()
        rig.backend.remove_jobs([made[len(seen) % 30]])
        rig.backend.remove_jobs([seen[0]])
    rig.equal("each is seen at most once, newest first", seen, sorted(set(seen), reverse=True))
    rig.true("what comes meanwhile is not seen", max(seen) <= made[-1])
    left = {job.id for job in rig.listed() if job.id <= made[-1]}
    rig.equal("what stays is seen", left - set(seen), set())


@check("LIST-05")
def after_a_change(rig: Rig) -> None:
    claims = [rig.active() for _ in range(3)]
    rig.end(Released(claims[0].id, 0))
    rig.equal("a change of state moves no job", _ids(rig), [claim.id for claim in reversed(claims)])
