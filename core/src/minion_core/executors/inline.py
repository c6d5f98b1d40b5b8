"""The inline executor: jobs are performed in the worker's own process, one at a time.

For tests and for small things: a job that hangs or dies takes the whole worker along, and timeouts are not
heeded.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from minion_core.executors import Executor, Reports, TaskInfo
from minion_core.job import Job
from minion_core.performing import perform

if TYPE_CHECKING:
    import selectors

    from minion_core.minion import Minion
    from minion_core.records import ClaimedJob

TURN = 0.01
"""After so many seconds of performing the worker has its turn, to settle and to hear signals."""


class InlineExecutor(Executor):
    """Performs jobs while the worker waits."""

    def __init__(self, minion: Minion, *, worker_id: int) -> None:
        self._minion = minion
        self._worker_id = worker_id
        self._waiting: deque[tuple[ClaimedJob, float]] = deque()
        self._others: list[ClaimedJob] = []
        self._reports: Reports

    def start(self, selector: selectors.BaseSelector, reports: Reports) -> None:  # noqa: ARG002
        self._reports = reports
        reports.ready()

    def tasks(self) -> Mapping[str, TaskInfo]:
        return {task.name: TaskInfo("inline", task.limit) for task in list(self._minion.tasks.values())}

    def places(self) -> int:
        return 0 if self._waiting else 1

    def running(self) -> int:
        return 1 if self._waiting else 0

    def busy(self) -> int:
        return len(self._waiting)

    def perform(self, jobs: Sequence[ClaimedJob], claimed_at: float) -> None:
        self._waiting.extend((job, claimed_at) for job in jobs)

    def behind(self, each: int) -> int:
        # It claims for the next turn when this one is over, so there is no use in more than one turn.
        return max(0, each - len(self._waiting))

    def line_up(self, jobs: Sequence[ClaimedJob], claimed_at: float) -> None:
        self.perform(jobs, claimed_at)

    def give_back(self) -> None:
        waiting, self._waiting = self._waiting, deque()
        self._reports.unstarted([job for job, _ in waiting])

    def tick(self, now: float) -> float | None:
        ends = now + TURN
        while self._waiting:
            self._perform(*self._waiting[0])
            if time.monotonic() >= ends:
                break
        return now if self._waiting else None

    def _perform(self, claimed: ClaimedJob, claimed_at: float) -> None:
        job = Job(self._minion, claimed, self._worker_id)
        job.on_claim = self._tell_claimed
        began = time.perf_counter()
        performance = perform(job, claimed_at)
        seconds = time.perf_counter() - began
        self._waiting.popleft()
        over = [claimed]
        if self._others:
            over += self._others
            self._others = []
        self._reports.ended(over, performance.outcomes, seconds)
        if isinstance(performance.error, KeyboardInterrupt):
            raise performance.error

    def _tell_claimed(self, jobs: Sequence[ClaimedJob] | None) -> None:
        if jobs:
            self._others.extend(jobs)
            self._reports.claimed(jobs)

    def claiming(self) -> bool:
        return False

    def kill(self) -> None:
        """Nothing can be ended but this very process."""

    def signal(self, job_id: int, number: int) -> bool:  # noqa: ARG002
        return False

    def close(self) -> None:
        """Nothing is held."""

    def status(self) -> dict[str, Any]:
        return {}
