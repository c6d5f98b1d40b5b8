"""What a worker claims next, and where it goes: places, limits, the fast lane, and jobs that wait behind.

A worker claims for the places that it has free. Beyond those, jobs that take milliseconds may wait behind the
ones being performed, so that a performer need not wait for a claim between two of them. What that must not
do: keep jobs from another worker that is idle (so no more than are done in ``AHEAD`` seconds), have jobs
fail for good because this worker is lost (so only those with attempts left, or a lease), or let a job of low
priority pass one of high priority (so a claim always asks for the best jobs of all tasks; if one of those
cannot wait, it is given back, and nothing is claimed ahead until it was claimed for a place of its own).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from attrs import define, frozen

from minion_core.executors import Executor, TaskInfo
from minion_core.records import DequeueOptions

if TYPE_CHECKING:
    from minion_core.records import ClaimedJob

FAST = 0.005
"""Tasks that take longer than this, in seconds, never wait behind another."""

AHEAD = 0.02
"""Seconds of work that may wait behind each job being performed."""

MOST_BEHIND = 192

PROOF = 16
"""After so many jobs in a row that could have waited, the next ones may."""


@define
class _Pace:
    """How long the jobs of a task take, in seconds: quick to believe that they are slow."""

    seconds: float

    def took(self, seconds: float) -> None:
        share = 0.5 if seconds > self.seconds else 0.05
        self.seconds += (seconds - self.seconds) * share


@frozen
class Claim:
    """What to ask the store for.

    Attributes:
        options: The question.
        places: How many of the jobs can begin at once; others wait behind.
    """

    options: DequeueOptions
    places: int


class Desk:
    """Knows what a worker may claim.

    Attributes:
        jobs: How many jobs are performed at a time.
        spare: How many more of at least ``spare_min_priority``.
        spare_min_priority: The priority that the fast lane is for.
        limits: How many jobs of a task at a time, by its name; above what the tasks themselves say.
    """

    def __init__(
        self,
        executors: Mapping[str, Executor],
        *,
        jobs: int,
        spare: int,
        spare_min_priority: int,
        queues: tuple[str, ...],
        tasks: Sequence[str] | None,
        min_priority: int | None,
        limits: Mapping[str, int],
    ) -> None:
        """Know nothing of tasks yet.

        Args:
            executors: Those that perform, by kind.
            jobs: How many jobs at a time, all executors together.
            spare: How many more of high priority.
            spare_min_priority: What priority is high.
            queues: Where to look.
            tasks: Only these, if given.
            min_priority: Only jobs of at least this priority.
            limits: For tasks by name.
        """
        self.jobs = jobs
        self.spare = spare
        self.spare_min_priority = spare_min_priority
        self.limits = dict(limits)
        self._executors = executors
        self._queues = queues
        self._only = None if tasks is None else set(tasks)
        self._min_priority = min_priority
        self._infos: dict[str, TaskInfo] = {}
        self._kinds: dict[str, list[str]] = {}
        self._in_hand: dict[str, set[tuple[int, int]]] = {}
        self._paces: dict[str, _Pace] = {}
        self._proof = 0
        self.learn()

    def learn(self) -> None:
        """Ask the executors for their tasks."""
        self._infos = {
            name: info
            for executor in self._executors.values()
            for name, info in executor.tasks().items()
            if self._only is None or name in self._only
        }
        self._kinds = {}
        for name, info in self._infos.items():
            self._kinds.setdefault(info.kind, []).append(name)

    @property
    def tasks(self) -> Sequence[str]:
        """The names of all tasks that can be performed."""
        return list(self._infos)

    def backed_up(self) -> bool:
        """Whether jobs wait behind those being performed."""
        return any(executor.busy() > executor.running() for executor in self._executors.values())

    # -- What to claim ------------------------------------------------------------------------------------

    def next_claim(self) -> Claim | None:
        """Answer what to claim now, ``None`` when there is no room."""
        free = self.jobs - sum(executor.running() for executor in self._executors.values())
        priority = self._min_priority
        ahead = self._ahead()
        if free <= 0 and not ahead and not self.backed_up():
            free += self.spare
            priority = self.spare_min_priority if priority is None else max(priority, self.spare_min_priority)
        free = max(0, free)
        names: list[str] = []
        limit = free + ahead
        for kind, tasks in self._kinds.items():
            places = self._executors[kind].places()
            room = min(free, places)
            if not room and not (ahead and (places or kind in _LINES)):
                continue
            left = [(name, more) for name in tasks if (more := self._left(name)) > 0]
            names += [name for name, _ in left]
            if left and not ahead:
                limit = min([limit, room, *(more for _, more in left)])
        if not names or limit <= 0:
            return None
        options = DequeueOptions(names, self._queues, min_priority=priority, limit=limit)
        return Claim(options, free)

    def _left(self, name: str) -> int:
        """Answer how many more jobs of a task may be performed now."""
        limit = self.limits.get(name, self._infos[name].limit)
        return _UNLIMITED if limit is None else limit - len(self._in_hand.get(name, ()))

    def _ahead(self) -> int:
        """Answer how many jobs to claim beyond the free places."""
        if self._proof < PROOF:
            return 0
        each = self._each()
        if sum(executor.running() for executor in self._executors.values()) > self.jobs:
            return 0  # told to perform fewer, or one is in the fast lane
        executors = [executor for kind, executor in self._executors.items() if kind in _LINES]
        room = sum(executor.behind(each) for executor in executors)
        # Half empty before it is filled up again: few large claims, not many small ones.
        if 2 * room < each * sum(executor.running() for executor in executors):
            return 0
        return min(room, self._proof)

    def _each(self) -> int:
        slowest = max((pace.seconds for pace in self._paces.values() if pace.seconds <= FAST), default=FAST)
        return max(1, min(MOST_BEHIND, int(AHEAD / max(slowest, 1e-6))))

    def _can_wait(self, job: ClaimedJob) -> bool:
        info = self._infos.get(job.task)
        pace = self._paces.get(job.task)
        return (
            (job.attempts > 1 or job.lease is not None)
            and pace is not None
            and pace.seconds <= FAST
            and info is not None
            and info.kind in _LINES
            and info.limit is None
            and job.task not in self.limits
        )

    # -- Where claimed jobs go ----------------------------------------------------------------------------

    def hand_out(self, claim: Claim, jobs: Sequence[ClaimedJob], claimed_at: float) -> list[ClaimedJob]:
        """Give jobs to the executors; answer those that there is no place for, and that cannot wait."""
        now: dict[str, list[ClaimedJob]] = {}
        waiting: dict[str, list[ClaimedJob]] = {}
        back: list[ClaimedJob] = []
        places = {kind: executor.places() for kind, executor in self._executors.items()}
        free = claim.places
        patient = {job.id for job in jobs if self._can_wait(job)}
        # Who cannot wait has the first places; within both, the order is that of the claim.
        for job in sorted(jobs, key=lambda job: job.id in patient):
            info = self._infos.get(job.task)
            kind = "" if info is None else info.kind
            if info is not None and free > 0 and places.get(kind, 0) > 0 and self._left(job.task) > 0:
                free -= 1
                places[kind] -= 1
                now.setdefault(kind, []).append(job)
            elif job.id in patient:
                waiting.setdefault(kind, []).append(job)
            else:
                back.append(job)
                continue
            self._in_hand.setdefault(job.task, set()).add((job.id, job.retries))
        self._proof = 0 if len(patient) < len(jobs) else min(self._proof + len(jobs), 4096)
        for kind, some in now.items():
            self._executors[kind].perform(some, claimed_at)
        for kind, some in waiting.items():
            self._executors[kind].line_up(some, claimed_at)
        return back

    def over(self, job: ClaimedJob, seconds: float | None = None) -> None:
        """Note that a job is no more in hand, and how long it took if it was performed."""
        if (same := self._in_hand.get(job.task)) is not None:
            same.discard((job.id, job.retries))
        if seconds is None:
            return
        pace = self._paces.get(job.task)
        if pace is None:
            self._paces[job.task] = _Pace(seconds)
        else:
            pace.took(seconds)

    def not_begun(self, jobs: Iterable[ClaimedJob]) -> None:
        """Note that jobs are given back that an executor had in hand: claiming ahead was too much."""
        for job in jobs:
            self.over(job)
        self._proof = 0


_LINES = frozenset({"process", "inline"})
"""The executors behind whose jobs others may wait."""

_UNLIMITED = 2**31
