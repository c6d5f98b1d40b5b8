"""A job and its verbs, those of Minion and of TheSchwartz.

A ``Job`` comes from a claim, and is then an attempt being performed; or from ``Minion.job`` and its like,
and is then a view of a job in the store. Verbs that end an attempt name it by id and ``retries``: they
answer ``False`` and change nothing when that attempt is over.
"""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from minion_core import values
from minion_core.records import (
    ClaimedJob,
    Declined,
    DequeueOptions,
    Enqueued,
    Failed,
    Failure,
    Finished,
    JobFilter,
    JobRecord,
    NewJob,
    Outcome,
    Replaced,
    RetryOptions,
    Settled,
    State,
)

if TYPE_CHECKING:
    from minion_core.minion import Minion
    from minion_core.values import Seconds, When

logger = logging.getLogger(__name__)

NOT_EXPLICIT = "Job did not explicitly complete, fail, or get replaced"

_HANDLE = re.compile(r"minion-([1-9][0-9]{0,18})")


def read_handle(handle: int | str) -> int:
    """Answer the id that a handle stands for; an id is its own handle.

    Raises:
        TypeError: It is neither.
        ValueError: It is text that is no handle, or a number that is no id.
    """
    if not isinstance(handle, str):
        return values.check_id(handle, "a job's id")
    found = _HANDLE.fullmatch(handle)
    if found is None:
        raise ValueError(f"{handle!r} is not the handle of a job (minion-42 would be one)")
    return values.check_id(int(found[1]), "a job's id")


class Job:
    """One attempt at a job.

    Attributes:
        minion: Whose job it is.
        id: Its id.
        task: Name of its task.
        args: Positional arguments.
        kwargs: Keyword arguments.
        retries: How often it went back to the queue before this attempt.
        attempts: How many attempts are left, this one included.
        notes: What was noted when it was claimed or read, and by this object since.
        queue: Name of its queue.
        priority: Its priority.
        coalesce: The value that it shares with those to be done in one go (JOB-07).
        uniqkey: Its key.
        lease: For how many seconds a claim of it is held, ``None`` when it has no lease.
        worker_id: The worker that claimed it, ``None`` for a job that was only read.
        did_something: Whether this object has settled the attempt.
        was_declined: Whether it did so by declining it.
    """

    def __init__(self, minion: Minion, claimed: ClaimedJob | JobRecord, worker_id: int | None = None) -> None:
        self.minion = minion
        self.id = claimed.id
        self.task = claimed.task
        self.args = claimed.args
        self.kwargs = claimed.kwargs
        self.retries = claimed.retries
        self.attempts = claimed.attempts
        self.notes = claimed.notes
        self.queue = claimed.queue
        self.priority = claimed.priority
        self.coalesce = claimed.coalesce
        self.uniqkey = claimed.uniqkey
        self.lease = claimed.lease
        self.worker_id = worker_id
        self.did_something = False
        self.was_declined = False
        self.failures_before = claimed.failures
        """How many failures were recorded when it was claimed or read; ``failures`` asks the store."""
        self.coalesced: list[Job] = []
        """The jobs claimed by ``claim_coalesced`` so far."""
        self._exit_status: int | None = None
        self._performing = isinstance(claimed, ClaimedJob)
        self.on_claim: Callable[[Sequence[ClaimedJob] | None], None] | None = None
        """Told before (``None``) and after jobs are claimed by this one; set by executors (JOB-07)."""

    def __repr__(self) -> str:
        return f"<Job {self.id} {self.task} attempt {self.retries}>"

    # -- Ending the attempt -------------------------------------------------------------------------------

    def completed(self, result: Any = None) -> bool:
        """Finish the job; ``False`` when the attempt was over before.

        Args:
            result: What it leaves, what JSON can hold.

        Raises:
            TypeError: JSON cannot hold the result.
            ValueError: JSON cannot hold the result.
        """
        return self._settle("completed", lambda: self.finished_outcome(result))

    def finish(self, result: Any = None) -> bool:
        """Finish the job, in Minion's word for ``completed``."""
        return self._settle("finish", lambda: self.finished_outcome(result))

    def failed(self, message: str, exit_status: int | None = None) -> bool:
        """Fail the attempt; the job is attempted again while attempts are left (JOB-02).

        Args:
            message: What to record in the failure log.
            exit_status: What the job leaves if it ends with this; 0 and ``None`` become 1.
        """
        return self._settle("failed", lambda: self.failed_outcome(message, exit_status=exit_status))

    def fail(self, result: Any = "Unknown error") -> bool:
        """Fail the attempt, in Minion's way: with a result, which is also what the failure log records."""
        message = result if isinstance(result, str) else values.encode_json(result, "the result")
        return self._settle("fail", lambda: self.failed_outcome(message, result))

    def permanent_failure(self, message: str, exit_status: int | None = None) -> bool:
        """Fail the job for good, however many attempts are left."""
        return self._settle(
            "permanent_failure",
            lambda: self.failed_outcome(message, exit_status=exit_status, retry=False),
        )

    def declined(self, run_after: When | None = None) -> bool:
        """Give the job back: no failure is recorded, no attempt is used up.

        Args:
            run_after: When it can be claimed again; by default when its lease would have ended, or without
                one after the ``decline_delay`` of the ``Minion``.
        """
        if run_after is None:
            run_after = self.minion.decline_delay
            if self.lease is not None:
                record = self.info()
                if record is not None and record.grabbed_until is not None:
                    run_after = record.grabbed_until
        moment = run_after
        if not self._settle("declined", lambda: Declined(self.id, self.retries, moment)):
            return False
        self.was_declined = True
        return True

    def replace_with(self, *jobs: NewJob) -> list[Enqueued] | bool:
        """Finish this job and enqueue others, all in one transaction.

        Answers what became of the new jobs (true, if there are any), or ``False`` when the attempt was over.
        """
        made: list[Enqueued] = []
        for job in jobs:
            if not isinstance(job, NewJob):
                raise TypeError(f"replace_with takes NewJob values, not {type(job).__name__}")
        done = self._settle("replace_with", lambda: Replaced(self.id, self.retries, tuple(jobs)), made)
        return made if done and made else done

    def retry(self, **options: Any) -> bool:
        """Return the job to the queue, from any state; from inside a running job this ends the attempt.

        Args:
            **options: New values: ``attempts``, ``delay``, ``expire``, ``lax``, ``parents``, ``priority``,
                ``queue``.
        """
        if self._too_late("retry"):
            return False
        wanted = RetryOptions(**options)
        done = self.minion.backend.retry_job(self.id, self.retries, wanted)
        self._settled("retry", applied=done)
        if done:
            self.minion.plugins.notify("minion_retried", job=self, message=None, delay=wanted.delay)
        return done

    def _settle(self, verb: str, make: Callable[[], Outcome], made: list[Enqueued] | None = None) -> bool:
        if self._too_late(verb):
            return False
        outcome = make()
        settled = self.minion.backend.settle([outcome])[0]
        self._settled(verb, applied=settled.applied)
        if made is not None:
            made.extend(settled.jobs)
        self.announce(outcome, settled)
        return settled.applied

    def _too_late(self, verb: str) -> bool:
        if self.did_something:
            logger.warning("Job %d (%s): %s came too late, it has settled already", self.id, self.task, verb)
        return self.did_something

    def _settled(self, verb: str, *, applied: bool) -> None:
        # What was only read may be tried again: it does not own the attempt.
        self.did_something = applied or self._performing
        if not applied:
            logger.warning("Job %d (%s): %s changed nothing, the attempt is over", self.id, self.task, verb)

    # -- Outcomes: policy (JOB-02) ------------------------------------------------------------------------

    def finished_outcome(self, result: Any = None) -> Finished:
        """Make the outcome of a success."""
        return Finished(self.id, self.retries, result, self._exit_status or 0)

    def failed_outcome(
        self, message: str, result: Any = None, *, exit_status: int | None = None, retry: bool = True
    ) -> Failed:
        """Make the outcome of a failure; with ``retry`` it is attempted again while attempts are left."""
        retry_in = None
        if retry and self.attempts > 1:
            retry_in = self.minion.retry_delay(self.task, self.failures_before)
        status = self._exit_status if exit_status is None else exit_status
        return Failed(self.id, self.retries, message, result, status, retry_in)

    def announce(self, outcome: Outcome, settled: Settled) -> None:
        """Tell the plugins of an outcome that the store has taken."""
        if not settled.applied:
            return
        plugins = self.minion.plugins
        match outcome:
            case Finished():
                plugins.notify("minion_finished", job=self, result=outcome.result)
            case Failed(message=message, retry_in=float(delay)) if self.attempts > 1:
                plugins.notify("minion_retried", job=self, message=message, delay=delay)
            case Failed():
                plugins.notify("minion_failed", job=self, message=outcome.message, result=outcome.result)
            case Declined():
                plugins.notify("minion_declined", job=self, run_after=outcome.run_after)
            case Replaced():
                plugins.notify("minion_replaced", job=self, jobs=settled.jobs)

    # -- While it is performed ----------------------------------------------------------------------------

    def call(self) -> Any:
        """Call the task's code with this job, and answer what it returned.

        Raises:
            UnknownTask: No task of that name is registered.
        """
        return self.minion.task_named(self.task).perform(self)

    async def call_async(self) -> Any:
        """Do as ``call`` does, in the event loop that runs; what is not ``async def`` runs in a thread.

        Raises:
            UnknownTask: No task of that name is registered.
        """
        import asyncio  # noqa: PLC0415  # large, and performers are forks

        task = self.minion.task_named(self.task)
        if not task.is_async:
            return await asyncio.to_thread(task.perform, self)
        return await task.begin(self)

    def progress(self, done: float, total: float | None = None, message: str | None = None) -> bool:
        """Tell how far the job is, in its note ``progress``: seen by ``minion job ID`` and ``info()``.

        Args:
            done: How much is done.
            total: Of how much in all, if that is known.
            message: What it is doing.

        Raises:
            TypeError: An amount is no number, or the message no text.
            ValueError: An amount is not finite.
        """
        told: dict[str, Any] = {"done": _amount(done, "done")}
        if total is not None:
            told["total"] = _amount(total, "total")
        if message is not None:
            told["message"] = values.check_text(message, "the message")
        return self.note(progress=told)

    def note(self, changes: Mapping[str, Any] | None = None, /, **more: Any) -> bool:
        """Merge into the job's notes; ``None`` removes a key. ``False`` when the job is gone."""
        merged = {**(changes or {}), **more}
        if not self.minion.backend.note(self.id, merged):
            return False
        notes = {**self.notes, **merged}
        self.notes = {key: value for key, value in notes.items() if value is not None}
        return True

    def extend(self, seconds: Seconds | None = None) -> bool:
        """Move the end of the lease to so many seconds from now, by default its own length.

        Answers ``False`` when the attempt is over: somebody else may be performing the job.

        Raises:
            ValueError: No length was given, and the job has no lease.
        """
        length = self.lease if seconds is None else values.positive_seconds(seconds, "the lease")
        if length is None:
            raise ValueError(f"job {self.id} has no lease to extend; say for how many seconds")
        return self.minion.backend.extend_lease(self.id, self.retries, length)

    def set_exit_status(self, status: int) -> None:
        """Set the exit status that this job leaves when it ends; a failure's 0 becomes 1."""
        self._exit_status = values.check_integer(status, "the exit status")

    def add_failure(self, message: str) -> bool:
        """Record a failure without ending the attempt."""
        return self.minion.backend.add_failure(self.id, values.check_text(message, "the message"))

    def debug(self, message: str) -> None:
        """Write a line to the log, at level DEBUG."""
        logger.debug("Job %d (%s): %s", self.id, self.task, message)

    def claim_coalesced(
        self, value: str | None = None, *, prefix: str | None = None, limit: int = 100
    ) -> list[Job]:
        """Claim more jobs of this task, to be done together with this one (JOB-07).

        Each of them is settled on its own, by its own verbs; those that this one leaves unsettled when it
        ends fail, like all of them if this process dies.

        Args:
            value: Those with this ``coalesce`` value; by default the same as this job's.
            prefix: Those whose ``coalesce`` begins so, instead.
            limit: How many at most.

        Raises:
            ValueError: Neither is given, and this job has no ``coalesce`` value.
            RuntimeError: The job is not being performed.
        """
        if not self._performing or self.worker_id is None:
            raise RuntimeError("only a job that is being performed can claim others")
        if value is None and prefix is None and (value := self.coalesce) is None:
            raise ValueError(f"job {self.id} has no coalesce value; say which one to look for")
        options = DequeueOptions(
            (self.task,), (self.queue,), limit=limit, coalesce=value, coalesce_prefix=prefix
        )
        if self.on_claim is not None:
            self.on_claim(None)
        claimed: list[ClaimedJob] = []
        try:
            claimed = self.minion.backend.dequeue(self.worker_id, options)
        finally:
            if self.on_claim is not None:
                self.on_claim(claimed)
        jobs = [Job(self.minion, job, self.worker_id) for job in claimed]
        self.coalesced.extend(jobs)
        return jobs

    # -- Asking the store ---------------------------------------------------------------------------------

    @property
    def handle(self) -> str:
        """A short text that ``Minion.job`` of any process turns back into this job."""
        return f"minion-{self.id}"

    @property
    def exit_status(self) -> int | None:
        """The exit status that the job left, ``None`` before it ended, and after it was removed."""
        record = self.info()
        return None if record is None else record.exit_status

    @property
    def failures(self) -> int:
        """How many failures are recorded."""
        record = self.info()
        return 0 if record is None else record.failures

    @property
    def is_pending(self) -> bool:
        """Whether the job is still to be done: waiting or active."""
        record = self.info()
        return record is not None and record.state in (State.INACTIVE, State.ACTIVE)

    def failure_log(self) -> list[Failure]:
        """Answer the recorded failures, oldest first."""
        return self.minion.backend.failure_log(self.id)

    def info(self) -> JobRecord | None:
        """Answer the job as it stands in the store, ``None`` when it is gone."""
        found = self.minion.backend.list_jobs(0, 1, JobFilter(ids=[self.id]), total=False).items
        return found[0] if found else None

    def parents(self) -> list[Job]:
        """Answer the parents that are still there, in the order in which they were given."""
        record = self.info()
        return [] if record is None else self.minion.jobs_by_id(record.parents)

    def children(self) -> list[Job]:
        """Answer the jobs that name this one as a parent."""
        record = self.info()
        return [] if record is None else self.minion.jobs_by_id(record.children)

    def remove(self) -> bool:
        """Remove the job; ``False`` when it is active, or gone."""
        return self.minion.backend.remove_jobs([self.id]) == [self.id]


def _amount(value: object, what: str) -> int | float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{what} must be a number, not {type(value).__name__}")
    if not math.isfinite(value):
        raise ValueError(f"{what} must be finite, not {value}")
    return value
