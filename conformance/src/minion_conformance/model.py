"""A state machine that does the same to the store and to the reference, and compares what they hold.

Ids differ between the two, so everything is told in places: the third job that was made, the second worker.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from typing import Any, cast

from attrs import evolve
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from minion_conformance.check import Violation
from minion_conformance.history import Recorded
from minion_conformance.rig import Rig
from minion_core.backend import Backend
from minion_core.records import (
    ClaimedJob,
    Declined,
    DequeueOptions,
    Failed,
    Finished,
    JobFilter,
    JobRecord,
    NewJob,
    Outcome,
    Released,
    Repaired,
    Replaced,
    RetryOptions,
    Settled,
    WorkerFilter,
)

NEVER = 10.0**8
PLACES = st.integers(0, 11)
"""Which job or claim of those there are, counted from the newest."""

MUST_REACH = frozenset(
    {
        "enqueued",
        "key held",
        "claimed",
        "claimed once its delay was over",
        "claimed behind a parent",
        "claimed before an older one",
        "nothing claimed",
        "finished",
        "failed",
        "failed and back",
        "declined",
        "released",
        "replaced",
        "stale outcome refused",
        "lease ended",
        "lease extended",
        "lease not extended",
        "retried",
        "retry refused",
        "removed",
        "not removed",
        "expired",
        "kept time over",
        "stuck",
        "attempt lost",
        "worker missing",
        "lock taken",
        "lock refused",
        "unlocked",
        "nothing to unlock",
        "noted",
    }
)
"""What must have happened at least once, or the comparison shows nothing."""

JOBS = st.fixed_dictionaries(
    {
        "task": st.sampled_from(["t", "t", "u"]),
        "queue": st.sampled_from(["default", "default", "q"]),
        "priority": st.sampled_from([0, 1, 2, -1]),
        "delay": st.sampled_from([0, 0, 0, 1, 5]),
        "expire": st.sampled_from([None, None, None, 3, 8]),
        "attempts": st.integers(1, 3),
        "lease": st.sampled_from([None, None, 2, 4]),
        "keep_for": st.sampled_from([None, None, 0, 3]),
        "uniqkey": st.sampled_from([None, None, "k", "l"]),
        "lax": st.booleans(),
    }
)


class Enough(BaseException):
    """The search for a shorter failure has taken long enough."""


class Found:
    """The shortest failure so far."""

    def __init__(self, patience: float) -> None:
        self.violation: Violation | None = None
        self.lines: list[str] = []
        self._patience = patience
        self._until = 0.0

    def add(self, violation: Violation, lines: Sequence[str]) -> None:
        """Take a failure, if it is shorter than those before."""
        if self.violation is None:
            self._until = time.monotonic() + self._patience
        if self.violation is None or len(lines) < len(self.lines):
            self.violation, self.lines = violation, list(lines)

    def look_at_the_time(self) -> None:
        """End the search when it has taken long enough.

        Raises:
            Enough: It has.
        """
        if self.violation is not None and time.monotonic() > self._until:
            raise Enough


def repaired(side: Backend, missing: float, removing: float, stuck: float) -> Repaired:
    """Repair until nothing is left to do: in which order one repair does its things is free."""
    found = side.repair(missing, removing, stuck)
    while True:
        more = side.repair(missing, removing, stuck)
        counts = {name: getattr(more, name) for name in _REPAIRED}
        if not any(counts.values()):
            return evolve(found, lost=more.lost)
        found = evolve(found, **{name: getattr(found, name) + count for name, count in counts.items()})


_REPAIRED = ("workers", "removed", "expired", "leases", "stuck")


class Machine(RuleBasedStateMachine):
    """Two stores, one clock. ``rig`` and ``model`` are set on a subclass, for one check."""

    rig: Rig
    model: Backend
    reached: Counter[str]
    found: Found

    @initialize()
    def begin(self) -> None:
        self.found.look_at_the_time()
        self.rig.clock.instant = self.rig.clock.instant.replace(microsecond=0)
        self.rig.history.lines.clear()
        self.sides: tuple[Backend, Backend] = (self.rig.backend, self.model)
        self.quiet = (cast("Recorded", self.rig.backend).unrecorded, self.model)
        for side in self.sides:
            side.reset(all=True)
        self.jobs: list[tuple[int, int]] = []
        self.claims: list[tuple[ClaimedJob, ClaimedJob]] = []
        self.tokens: list[tuple[str, str]] = []
        self.workers: list[tuple[int, int]] = []
        self.join_in()

    # -- Doing the same to both ---------------------------------------------------------------------------

    def same(self, told: str, store: object, model: object) -> None:
        try:
            self.rig.equal(f"{told} as the reference does", store, model)
        except Violation as violation:
            self.found.add(violation, self.rig.history.lines)
            raise

    def reach(self, what: str, holds: object = True) -> None:
        if holds:
            self.reached[what] += 1

    def place(self, side: int, id: int | None) -> int | None:
        """Tell an id of one side as the place of its job; ids of no job as they are."""
        if id is None:
            return None
        return next((place for place, pair in enumerate(self.jobs) if pair[side] == id), -1)

    def pick(self, things: Sequence[Any], which: int) -> Any:
        return things[-1 - which % len(things)] if things else None

    def made(self, store: Any, model: Any, *, told: str) -> None:
        self.same(told, [one.created for one in store], [one.created for one in model])
        for ours, theirs in zip(store, model, strict=True):
            if ours.created:
                self.jobs.append((ours.id, theirs.id))
                self.reach("enqueued")
            else:
                self.same("a held key is answered", self.place(0, ours.id), self.place(1, theirs.id))
                self.reach("key held")

    # -- Jobs ---------------------------------------------------------------------------------------------

    @rule(fields=st.lists(JOBS, min_size=1, max_size=3), parents=st.lists(PLACES, max_size=2))
    def enqueue(self, fields: list[dict[str, Any]], parents: list[int]) -> None:
        pairs = [self.pick(self.jobs, which) for which in parents if self.jobs]
        answers = [
            side.enqueue([NewJob(**one, parents=tuple(pair[number] for pair in pairs)) for one in fields])
            for number, side in enumerate(self.sides)
        ]
        self.made(*answers, told="it enqueues")

    @rule(
        limit=st.integers(2, 4),
        tasks=st.sampled_from([("t",), ("t", "u"), ("t", "u")]),
        queues=st.sampled_from([("default",), ("default", "q"), ("q",)]),
        least=st.sampled_from([None, None, 0, 1]),
        who=PLACES,
    )
    def dequeue(
        self, limit: int, tasks: tuple[str, ...], queues: tuple[str, ...], least: int | None, who: int
    ) -> None:
        options = DequeueOptions(tasks, queues, min_priority=least, limit=limit)
        worker = self.pick(self.workers, who) or (1, 1)
        before = {job.id: job for job in self.listed(1)}
        store, model = (side.dequeue(worker[number], options) for number, side in enumerate(self.sides))
        got = [
            [(self.place(side, one.id), one.retries) for one in c] for side, c in enumerate((store, model))
        ]
        self.same("it claims", *got)
        self.claims += zip(store, model, strict=True)
        self.reach("nothing claimed", not model)
        self.reach("claimed", model)
        known = [before[one.id] for one in model if one.id in before]
        self.reach("claimed once its delay was over", any(job.delayed > job.created for job in known))
        self.reach("claimed behind a parent", any(job.parents for job in known))
        ids = [one.id for one in model]
        self.reach("claimed before an older one", ids != sorted(ids))
        self.end_leases()

    def end_leases(self) -> None:
        """Let repair end the leases that this dequeue may have ended, or may not (LEASE-02)."""
        self.repair(NEVER, NEVER, NEVER, free=frozenset({"leases"}))

    def settle(self, which: int, outcomes: Sequence[Outcome]) -> Settled:
        store, model = (side.settle([outcomes[number]])[0] for number, side in enumerate(self.sides))
        self.same("it settles", store.applied, model.applied)
        self.made(store.jobs, model.jobs, told="it replaces")
        if model.applied:
            del self.claims[-1 - which % len(self.claims)]
        self.reach("stale outcome refused", not model.applied)
        return model

    def outcome(self, which: int, kind: type, **fields: Any) -> bool:
        pair = self.pick(self.claims, which)
        if pair is None:
            return False
        return self.settle(which, [kind(one.id, one.retries, **fields) for one in pair]).applied

    @rule(
        which=PLACES,
        how=st.sampled_from(["finished", "failed", "failed and back", "declined", "released", "replaced"]),
        after=st.sampled_from([0, 0, 2]),
        fields=st.lists(JOBS, min_size=1, max_size=2),
    )
    def end(self, which: int, how: str, after: float, fields: list[dict[str, Any]]) -> None:
        applied = False
        self.have_claims()
        match how:
            case "finished":
                applied = self.outcome(which, Finished, result=[which])
            case "failed":
                applied = self.outcome(which, Failed, message="no")
            case "failed and back":
                pair = self.pick(self.claims, which)
                applied = self.outcome(which, Failed, message="no", retry_in=after) and pair[1].attempts > 1
            case "declined":
                applied = self.outcome(which, Declined, run_after=after)
            case "released":
                applied = self.outcome(which, Released)
            case "replaced":
                applied = self.outcome(which, Replaced, jobs=tuple(NewJob(**one) for one in fields))
        self.reach(how, applied)

    def have_claims(self) -> None:
        if not self.jobs or self.jobs[-1][0] % 3 == 0:
            plain = [
                {"task": "t", "priority": number, "attempts": 2, "lease": lease, "keep_for": 2}
                for number, lease in enumerate((3, None))
            ]
            self.enqueue(plain, [])
        if not self.claims:
            self.dequeue(4, ("t", "u"), ("default", "q"), None, 0)

    @rule()
    def claim_and_end_all(self) -> None:
        """Take the usual way, so that much has ended."""
        self.dequeue(4, ("t", "u"), ("default", "q"), None, 0)
        while self.claims:
            how = _USUAL_WAYS[len(self.claims) % len(_USUAL_WAYS)]
            kind, fields = how
            before = len(self.claims)
            self.reach(kind.__name__.lower(), self.outcome(0, kind, **fields))
            if len(self.claims) == before:
                self.claims.pop()

    @rule(which=PLACES, seconds=st.sampled_from([1, 5]))
    def extend(self, which: int, seconds: float) -> None:
        self.have_claims()
        pair = self.pick(self.claims, which)
        if pair is not None:
            answers = [
                side.extend_lease(one.id, one.retries, seconds)
                for side, one in zip(self.sides, pair, strict=True)
            ]
            self.same("it extends a lease", *answers)
            self.reach("lease extended" if answers[1] else "lease not extended")

    @rule(
        which=PLACES,
        off=st.sampled_from([0, 0, 0, 1]),
        fields=st.fixed_dictionaries(
            {
                "attempts": st.sampled_from([None, 2]),
                "delay": st.sampled_from([0, 3]),
                "expire": st.sampled_from([None, None, 5]),
                "lax": st.sampled_from([None, True, False]),
                "priority": st.sampled_from([None, 0, 2]),
                "queue": st.sampled_from([None, "q"]),
            }
        ),
        parents=st.one_of(st.none(), st.lists(PLACES, max_size=2)),
    )
    def retry(self, which: int, off: int, fields: dict[str, Any], parents: list[int] | None) -> None:
        pair = self.pick(self.jobs, which)
        if pair is None:
            return
        found = self.model.list_jobs(0, 1, JobFilter(ids=[pair[1]])).items
        retries = (found[0].retries if found else 0) + off
        if not found:
            fields = {**fields, "expire": None}  # what has expired may be gone already, or not yet
        news = None if parents is None else [self.pick(self.jobs, one) for one in parents]
        answers = []
        for number, side in enumerate(self.sides):
            given = None if news is None else tuple(one[number] for one in news if one != pair)
            answers.append(side.retry_job(pair[number], retries, RetryOptions(**fields, parents=given)))
        self.same("it retries", *answers)
        self.reach("retried" if answers[1] else "retry refused")

    @rule(which=st.lists(PLACES, min_size=1, max_size=2))
    def remove(self, which: list[int]) -> None:
        pairs = list(dict.fromkeys(self.pick(self.jobs, one) for one in which if self.jobs))
        gone = [
            sorted(str(self.place(number, id)) for id in side.remove_jobs([pair[number] for pair in pairs]))
            for number, side in enumerate(self.sides)
        ]
        self.same("it removes", *gone)
        self.reach("removed", gone[1])
        self.reach("not removed", len(gone[1]) < len(pairs))

    @rule(which=PLACES, key=st.sampled_from(["a", "b"]), value=st.sampled_from([None, 1, {"x": None}]))
    def note(self, which: int, key: str, value: Any) -> None:
        pair = self.pick(self.jobs, which)
        if pair is not None:
            answers = [side.note(id, {key: value}) for side, id in zip(self.sides, pair, strict=True)]
            self.same("it notes", *answers)
            self.reach("noted", answers[1])

    # -- Time, repair, workers, locks ---------------------------------------------------------------------

    @rule(seconds=st.sampled_from([1, 2, 4, 9]))
    def pass_time(self, seconds: float) -> None:
        self.rig.clock.advance(seconds)

    @rule(
        missing=st.sampled_from([NEVER, 4]),
        removing=st.sampled_from([3, NEVER]),
        stuck=st.sampled_from([3, NEVER]),
    )
    def repair(
        self, missing: float, removing: float, stuck: float, free: frozenset[str] = frozenset()
    ) -> None:
        store, model = (repaired(side, missing, removing, stuck) for side in self.sides)
        for name in set(_REPAIRED) - free - {"expired"}:  # whose key was taken may be gone before
            self.same(f"repair counts `{name}`", getattr(store, name), getattr(model, name))
        lost = [
            sorted(
                (str(self.place(side, one.id)), one.retries, one.attempts, one.failures) for one in found.lost
            )
            for side, found in enumerate((store, model))
        ]
        self.same("repair finds lost attempts", *lost)
        self.reach("worker missing", model.workers)
        self.reach("kept time over", model.removed)
        self.reach("expired", model.expired)
        self.reach("lease ended", model.leases)
        self.reach("stuck", model.stuck)
        self.reach("attempt lost", model.lost)

    def join_in(self) -> None:
        store, model = (side.register_worker(None, "host", 1, {}) for side in self.sides)
        self.workers.append((store, model))

    @rule(which=PLACES, how=st.sampled_from(["join", "beat", "leave"]))
    def work_force(self, which: int, how: str) -> None:
        pair = self.pick(self.workers, which)
        if how == "join":
            self.join_in()
        elif how == "beat":
            for side, id in zip(self.sides, pair, strict=True):
                side.register_worker(id, "host", 1, {})
        else:
            answers = [side.unregister_worker(id) for side, id in zip(self.sides, pair, strict=True)]
            self.same("it unregisters a worker", *answers)

    @rule()
    def go_missing(self) -> None:
        """Let a worker end in the middle of its jobs."""
        self.have_claims()
        self.work_force(0, "leave")
        self.repair(NEVER, NEVER, NEVER)

    @rule()
    def long_pause(self) -> None:
        """Let much fall due at once."""
        self.have_claims()
        self.pass_time(9)
        self.repair(4, 3, 3)

    @rule(duration=st.sampled_from([0, 1, 4, 4]), limit=st.integers(1, 2), which=st.one_of(st.none(), PLACES))
    def locks(self, duration: float, limit: int, which: int | None) -> None:
        for _ in range(2):
            store, model = (side.lock("name", duration, limit) for side in self.sides)
            self.same("it locks", store is None, model is None)
            self.reach("lock refused", model is None)
            if store is not None and model is not None and duration:
                self.tokens.append((store, model))
                self.reach("lock taken")
        pair = (None, None) if which is None else self.pick(self.tokens, which) or (None, None)
        answers = [side.unlock("name", token) for side, token in zip(self.sides, pair, strict=True)]
        self.same("it unlocks", *answers)
        self.reach("unlocked" if answers[1] else "nothing to unlock")

    # -- Comparing ----------------------------------------------------------------------------------------

    def listed(self, side: int) -> list[JobRecord]:
        return self.quiet[side].list_jobs(0, 1000, JobFilter()).items

    def told(self, side: int) -> list[dict[str, Any]]:
        """Tell all jobs of a side in places, without what the contract leaves free."""
        jobs = self.listed(side)
        seen = {job.id for job in jobs}
        return [
            {
                "job": self.place(side, job.id),
                "children": sorted(str(self.place(side, id)) for id in job.children if id in seen),
                "parents": [self.place(side, id) for id in job.parents],
                "delayed": max(job.delayed, job.time),
                "worker": next((n for n, pair in enumerate(self.workers) if pair[side] == job.worker), None),
                **{name: getattr(job, name) for name in _COMPARED},
            }
            for job in jobs
        ]

    @invariant()
    def hold_the_same(self) -> None:
        if not hasattr(self, "quiet"):
            return
        store, model = self.told(0), self.told(1)
        self.same("it lists the jobs", [job["job"] for job in store], [job["job"] for job in model])
        for ours, theirs in zip(store, model, strict=True):
            for name, value in theirs.items():
                self.same(f"it keeps `{name}` of a job", _seen(ours[name]), _seen(value))
        shares = [[(one.name, one.expires) for one in side.list_locks(0, 99).items] for side in self.quiet]
        self.same("it lists locks", *shares)
        busy = [
            [(one.notified, len(one.jobs)) for one in side.list_workers(0, 99, WorkerFilter()).items]
            for side in self.quiet
        ]
        self.same("it lists workers", *busy)


_USUAL_WAYS: list[tuple[type, dict[str, Any]]] = [
    (Finished, {}),
    (Released, {}),
    (Failed, {"message": "no"}),
    (Declined, {"run_after": 1}),
    (Finished, {"result": [1]}),
]

_COMPARED = (
    "state",
    "retries",
    "attempts",
    "failures",
    "priority",
    "queue",
    "task",
    "lax",
    "uniqkey",
    "notes",
    "result",
    "exit_status",
    "created",
    "expires",
    "started",
    "finished",
    "grabbed_until",
)


def _seen(value: object) -> object:
    """Tell an instant no finer than a millisecond, which every store can."""
    return (
        value.replace(microsecond=value.microsecond // 1000 * 1000) if isinstance(value, datetime) else value
    )
