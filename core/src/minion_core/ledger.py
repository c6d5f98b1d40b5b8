"""What a worker holds: the attempts that it has claimed, and the outcomes that wait to be settled.

An attempt is held from its claim until the store has taken its outcome. Outcomes are never dropped because
the store does not answer: they wait until it does. Attempts that the store shows as this worker's and that
are not held here were claimed and lost on the way, and are given back (WORK-05).
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, TypeAlias

from minion_core.errors import BackendError, BackendUnavailable
from minion_core.job import Job
from minion_core.performing import clean
from minion_core.plugins import safe_url
from minion_core.records import (
    ClaimedJob,
    Failed,
    JobFilter,
    JobRecord,
    Outcome,
    Released,
    Settled,
    State,
    WorkerFilter,
)

if TYPE_CHECKING:
    from minion_core.minion import Minion
    from minion_core.outage import Outage

logger = logging.getLogger(__name__)

LARGEST_SETTLE = 500
"""How many outcomes go into one ``settle`` at most, so that its transaction stays short."""

LONGEST_MESSAGE = 1000

OUTCOME_HOOKS = (
    "minion_finished",
    "minion_failed",
    "minion_retried",
    "minion_declined",
    "minion_replaced",
)

Entry: TypeAlias = tuple[ClaimedJob, Outcome]


class Ledger:
    """The attempts and outcomes of one worker.

    Attributes:
        reconcile_at: When to look for attempts that nobody holds, by ``time.monotonic()``; ``None`` is not
            now.
    """

    def __init__(self, minion: Minion, worker_id: int, outage: Outage) -> None:
        """Hold nothing yet.

        Args:
            minion: The queue.
            worker_id: The worker's id.
            outage: What the main loop knows about a store that may be gone.
        """
        self._minion = minion
        self._worker_id = worker_id
        self._outage = outage
        self._held: set[tuple[int, int]] = set()
        self._waiting: deque[Entry] = deque()
        self._observed = any(minion.plugins.observed(hook) for hook in OUTCOME_HOOKS)
        self.reconcile_at: float | None = None

    def __len__(self) -> int:
        """How many outcomes wait to be settled."""
        return len(self._waiting)

    def claimed(self, jobs: Iterable[ClaimedJob]) -> None:
        """Hold attempts that were claimed."""
        self._held.update((job.id, job.retries) for job in jobs)

    def ended(self, jobs: Iterable[ClaimedJob], outcomes: Iterable[Outcome]) -> None:
        """Take the outcomes of jobs that are over; those that none names have settled by themselves."""
        by_attempt = {(job.id, job.retries): job for job in jobs}
        for outcome in outcomes:
            job = by_attempt.pop((outcome.id, outcome.retries), None)
            if job is not None:
                self._waiting.append((job, outcome))
        self._held.difference_update(by_attempt)

    def failed(self, job: ClaimedJob, message: str, exit_status: int | None = None) -> None:
        """Take a failure that the job itself could not tell of; it is retried while attempts are left."""
        logger.warning("Job %d (%s): attempt %d failed: %s", job.id, job.task, job.retries, message)
        self._waiting.append((job, self._failure(job, message, exit_status)))

    def released(self, jobs: Iterable[ClaimedJob]) -> None:
        """Give back jobs that were not begun."""
        self._waiting.extend((job, Released(job.id, job.retries)) for job in jobs)

    def _failure(self, job: ClaimedJob, message: str, exit_status: int | None = None) -> Failed:
        retry_in = self._minion.retry_delay(job.task, job.failures) if job.attempts > 1 else None
        return Failed(job.id, job.retries, message, exit_status=exit_status, retry_in=retry_in)

    # -- Settling -----------------------------------------------------------------------------------------

    def settle(self) -> int:
        """Settle what waits, as far as the store takes it; answer how many outcomes that were."""
        before = len(self._waiting)
        while self._waiting and time.monotonic() >= self._outage.retry_at:
            batch = [self._waiting.popleft() for _ in range(min(len(self._waiting), LARGEST_SETTLE))]
            left = self._settle_batch(batch)
            self._waiting.extendleft(reversed(left))
            if left:
                break
        return before - len(self._waiting)

    def _settle_batch(self, batch: Sequence[Entry]) -> Sequence[Entry]:
        """Settle a batch; answer what has to be tried again later."""
        try:
            answers = self._minion.backend.settle([outcome for _, outcome in batch])
        except BackendUnavailable as error:
            self._outage.failed(error)
            return batch
        except Exception:  # noqa: BLE001  # one bad outcome must not hold up all the others
            return self._settle_singly(batch)
        self._outage.worked()
        for (job, outcome), answer in zip(batch, answers, strict=True):
            self._settled(job, outcome, answer)
        return ()

    def _settle_singly(self, batch: Sequence[Entry]) -> Sequence[Entry]:
        for position, (job, outcome) in enumerate(batch):
            try:
                self._settle_one(job, outcome)
            except BackendError as error:
                # Gone, or so broken that not even a failure can be stored: a full disk, say.
                self._outage.failed(error)
                return batch[position:]
        self._outage.worked()
        return ()

    def _settle_one(self, job: ClaimedJob, outcome: Outcome) -> None:
        try:
            answer = self._minion.backend.settle([outcome])[0]
        except BackendUnavailable:
            raise
        except Exception as error:  # noqa: BLE001  # whatever it is, the job is to tell of it
            message = f"Outcome could not be stored: {safe_url(clean(str(error), LONGEST_MESSAGE))}"
            logger.error("Job %d (%s): %s", job.id, job.task, message)  # noqa: TRY400  # one line
            outcome = self._failure(job, message)
            answer = self._minion.backend.settle([outcome])[0]
        self._settled(job, outcome, answer)

    def _settled(self, job: ClaimedJob, outcome: Outcome, answer: Settled) -> None:
        self._held.discard((job.id, job.retries))
        if not answer.applied:
            logger.warning(
                "Job %d (%s): attempt %d was over before its outcome came", job.id, job.task, job.retries
            )
        elif self._observed and not isinstance(outcome, Released):
            Job(self._minion, job, self._worker_id).announce(outcome, answer)

    # -- No claim is held by nobody (WORK-05) -------------------------------------------------------------

    def reconcile(self, hear_out: Callable[[], bool]) -> None:
        """Give back the attempts that the store shows as this worker's and that it does not hold.

        Args:
            hear_out: Reads all that performers have said, and answers whether one may just be claiming.
        """
        now = time.monotonic()
        if self.reconcile_at is None or now < max(self.reconcile_at, self._outage.retry_at):
            return
        self.reconcile_at = None
        try:
            strays = self._strays()
            # A job being performed may have claimed them. It says so before and after: once all performers
            # are heard out, what they claimed before we looked is known, or known to be under way.
            if strays and hear_out():
                self.reconcile_at = now + 1.0
                return
            self._give_back([record for record in strays if (record.id, record.retries) not in self._held])
        except BackendError as error:
            self._outage.failed(error)
            self.reconcile_at = self._outage.retry_at

    def _strays(self) -> list[JobRecord]:
        backend = self._minion.backend
        rows = backend.list_workers(0, 1, WorkerFilter(ids=[self._worker_id]), total=False).items
        held = {id for id, _ in self._held}
        ids = [id for row in rows for id in row.jobs if id not in held]
        if not ids:
            return []
        wanted = JobFilter(ids=ids, states=[State.ACTIVE])
        found = backend.list_jobs(0, len(ids), wanted, total=False).items
        return [record for record in found if record.worker == self._worker_id]

    def _give_back(self, strays: Sequence[JobRecord]) -> None:
        if not strays:
            return
        answers = self._minion.backend.settle([Released(record.id, record.retries) for record in strays])
        for record, answer in zip(strays, answers, strict=True):
            if answer.applied:
                logger.warning("Job %d (%s): claimed but never begun, given back", record.id, record.task)
