"""What plugins may offer, observe and wrap.

A plugin is a module or an object with functions of these names, marked with ``hookimpl``::

    from minion_core import hookimpl

    @hookimpl
    def minion_failed(job, message, result):
        print(f"job {job.id} failed: {message}")

It is named in an entry point of the group ``minion.plugins``, or given to ``Minion(plugins=[...])``. A hook
takes only those of its arguments that it names. *Observers* are told what happened in the process that made
it happen; what they raise is logged and changes nothing. Outcomes are told once the store has taken them.
``minion_perform`` is no observer but takes part: see there.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pluggy

if TYPE_CHECKING:
    from datetime import datetime

    import click

    from minion_core.backend import Backend
    from minion_core.job import Job
    from minion_core.minion import Minion
    from minion_core.records import ClaimedJob, Enqueued, NewJob
    from minion_core.worker import Worker

hookspec = pluggy.HookspecMarker("minion")
hookimpl = pluggy.HookimplMarker("minion")
"""Marks the functions of a plugin."""


# -- What plugins offer -----------------------------------------------------------------------------------


@hookspec(firstresult=True)
def minion_backend(scheme: str) -> type[Backend] | None:
    """Answer the backend class for a URL's scheme, ``None`` for those of others."""


@hookspec
def minion_commands() -> Sequence[click.Command]:  # type: ignore[empty-body]
    """Answer commands to add to the ``minion`` command line."""


@hookspec(firstresult=True)
def minion_perform(job: Job) -> Any:
    """Wrap the performing of a job: tracing, timing, a database session per job.

    Implement it as a wrapper, in the process that performs::

        @hookimpl(wrapper=True)
        def minion_perform(job):
            with session():
                return (yield)

    What the wrapper raises, the job has raised; what it returns is the job's result.
    """


# -- What plugins observe ---------------------------------------------------------------------------------


@hookspec
def minion_enqueued(minion: Minion, jobs: Sequence[NewJob], enqueued: Sequence[Enqueued]) -> None:
    """Jobs were enqueued; ``enqueued`` says for each its id and whether it was created."""


@hookspec
def minion_claimed(worker: Worker, jobs: Sequence[ClaimedJob]) -> None:
    """A worker claimed jobs, and will hand them to its performers."""


@hookspec
def minion_started(job: Job) -> None:
    """A job is about to be performed, in this process."""


@hookspec
def minion_finished(job: Job, result: Any) -> None:
    """A job was finished."""


@hookspec
def minion_failed(job: Job, message: str, result: Any) -> None:
    """A job failed for good."""


@hookspec
def minion_retried(job: Job, message: str | None, delay: float | datetime) -> None:
    """A job goes back to the queue, after a failure (``message``) or because it asked to (``None``)."""


@hookspec
def minion_declined(job: Job, run_after: float | datetime) -> None:
    """A job was declined, and can be claimed again at ``run_after``."""


@hookspec
def minion_replaced(job: Job, jobs: Sequence[Enqueued]) -> None:
    """A job was finished by replacing it with others."""


@hookspec
def minion_worker_started(worker: Worker) -> None:
    """A worker was registered and is about to claim its first job."""


@hookspec
def minion_worker_stopped(worker: Worker) -> None:
    """A worker has ended and was unregistered."""


@hookspec
def minion_worker_waiting(worker: Worker) -> None:
    """A worker found no more jobs to claim, and performs none."""


@hookspec
def minion_worker_busy(worker: Worker) -> None:
    """A worker that was waiting has claimed a job again."""


@hookspec
def minion_performer_spawned(worker: Worker, pid: int) -> None:
    """A worker has a new process that performs jobs."""


@hookspec
def minion_performer_reaped(worker: Worker, pid: int, exit_code: int, signal: int) -> None:
    """A process that performed jobs has ended, by itself (``signal`` 0) or by a signal."""


@hookspec
def minion_schedule_dispatched(minion: Minion, name: str, job_id: int) -> None:
    """A due run of a schedule was enqueued."""
