"""The inline executor: jobs are performed in the worker's own process, one at a time.

For tests and for small things: a job that hangs or dies takes the whole worker along.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from minion_core.executors import Executor, Reports
from minion_core.job import Job
from minion_core.performing import perform

if TYPE_CHECKING:
    import selectors

    from minion_core.minion import Minion
    from minion_core.records import ClaimedJob


class InlineExecutor(Executor):
    """Performs a job while the worker waits."""

    def __init__(self, minion: Minion, *, worker_id: int) -> None:
        self._minion = minion
        self._worker_id = worker_id
        self._in_hand = 0
        self._others: list[ClaimedJob] = []
        self._reports: Reports

    def start(self, selector: selectors.BaseSelector, reports: Reports) -> None:  # noqa: ARG002
        self._reports = reports
        reports.ready()

    def tasks(self) -> Sequence[str]:
        return list(self._minion.tasks)

    def room(self) -> int:
        return 0 if self._in_hand else 1

    def busy(self) -> int:
        return self._in_hand

    def perform(self, jobs: Sequence[ClaimedJob], claimed_at: float) -> None:
        for claimed in jobs:
            self._in_hand = 1
            job = Job(self._minion, claimed, self._worker_id)
            job.on_claim = self._tell_claimed
            performance = perform(job, claimed_at)
            self._in_hand = 0
            others, self._others = self._others, []
            self._reports.ended([claimed, *others], performance.outcomes)
            if isinstance(performance.error, KeyboardInterrupt):
                raise performance.error

    def _tell_claimed(self, jobs: Sequence[ClaimedJob] | None) -> None:
        if jobs:
            self._others.extend(jobs)
            self._reports.claimed(jobs)

    def give_back(self) -> None:
        """Nothing waits: what was taken is performed at once."""

    def claiming(self) -> bool:
        return False

    def kill(self) -> None:
        """Nothing can be ended but this very process."""

    def signal(self, job_id: int, number: int) -> bool:  # noqa: ARG002
        return False

    def tick(self, now: float) -> float | None:  # noqa: ARG002
        return None

    def close(self) -> None:
        """Nothing is held."""

    def status(self) -> dict[str, Any]:
        return {}
