"""Performing jobs in the calling process: ``foreground`` for one, ``perform_jobs`` for all (JOB-08)."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from minion_core.errors import JobNotClaimable, UnknownJob
from minion_core.job import Job
from minion_core.performing import Performance, perform
from minion_core.records import FOREGROUND_QUEUE, DequeueOptions, JobRecord, RetryOptions, State

if TYPE_CHECKING:
    from minion_core.minion import Minion


def foreground(minion: Minion, id: int) -> Any:
    """See ``Minion.foreground``."""
    job = minion.job(id)
    record = None if job is None else job.info()
    if job is None or record is None:
        raise UnknownJob(f"there is no job {id} (any more)")
    minion.task_named(record.task)
    reason = _in_the_way(job, record)
    if reason is not None:
        raise JobNotClaimable(f"job {id} cannot be performed now: {reason}")
    if not minion.backend.retry_job(id, record.retries, RetryOptions(attempts=1, queue=FOREGROUND_QUEUE)):
        raise JobNotClaimable(f"job {id} cannot be performed now: it changed, or another job holds its key")
    with _worker(minion) as worker_id:
        options = DequeueOptions((record.task,), (FOREGROUND_QUEUE,), id=id)
        claimed = minion.backend.dequeue(worker_id, options)
        if not claimed:
            _put_back(minion, record)
            raise JobNotClaimable(f"job {id} cannot be performed now: something came in its way")
        attempt = Job(minion, claimed[0], worker_id)
        performance = perform(attempt, time.monotonic())
        _settle([attempt, *attempt.coalesced], performance)
    if performance.error is not None:
        raise performance.error
    left = attempt.info()
    return None if left is None else left.result


def _in_the_way(job: Job, record: JobRecord) -> str | None:
    if record.state == State.ACTIVE:
        return f"worker {record.worker} is performing it"
    for parent in job.parents():
        state = parent.info()
        if state is None or state.state == State.FINISHED or (state.state == State.FAILED and record.lax):
            continue
        return f"its parent {parent.id} is {state.state}"
    return None


def _put_back(minion: Minion, record: JobRecord) -> None:
    minion.backend.retry_job(
        record.id,
        record.retries + 1,
        RetryOptions(attempts=record.attempts, delay=record.delayed, queue=record.queue),
    )


def perform_jobs(
    minion: Minion,
    *,
    queues: Sequence[str] = ("default",),
    tasks: Sequence[str] | None = None,
    id: int | None = None,
    min_priority: int | None = None,
) -> int:
    """See ``Minion.perform_jobs``."""
    performed = 0
    with _worker(minion) as worker_id:
        while True:
            options = DequeueOptions(
                tuple(minion.tasks) if tasks is None else tasks, queues, id=id, min_priority=min_priority
            )
            claimed = minion.backend.dequeue(worker_id, options)
            if not claimed:
                return performed
            job = Job(minion, claimed[0], worker_id)
            performance = perform(job, time.monotonic())
            _settle([job, *job.coalesced], performance)
            performed += 1
            if isinstance(performance.error, KeyboardInterrupt):
                raise performance.error


@contextmanager
def _worker(minion: Minion) -> Iterator[int]:
    id = minion.backend.register_worker(None, socket.gethostname(), os.getpid(), {"type": "foreground"})
    try:
        yield id
    finally:
        minion.backend.unregister_worker(id)


def _settle(jobs: Sequence[Job], performance: Performance) -> None:
    if not performance.outcomes:
        return
    by_id = {job.id: job for job in jobs}
    settled = jobs[0].minion.backend.settle(performance.outcomes)
    for outcome, answer in zip(performance.outcomes, settled, strict=True):
        by_id[outcome.id].announce(outcome, answer)
