"""Performing a job: keep its lease, announce it, run it, conclude what that means, hand the outcome on.

Nothing here settles: an outcome is handed back to whoever asked, who settles it together with others. Verbs
that a job calls itself (``job.completed()``) have settled by then, and leave nothing to hand back.
"""

from __future__ import annotations

import logging
import time
import traceback
from pathlib import Path
from typing import Any, TypeAlias

import pluggy
from attrs import frozen

from minion_core.job import NOT_EXPLICIT, Job
from minion_core.records import Failed, Outcome

logger = logging.getLogger(__name__)

LONGEST_MESSAGE = 10_000
LONGEST_TRACEBACK = 50_000
"""A failure is kept for people to read: what is longer is cut in the middle."""

_OWN_CODE = (str(Path(__file__).parent), str(Path(pluggy.__file__).parent))

FRESH = 1.0
"""A claim younger than this, in seconds, still has its whole lease for all that matters."""


@frozen
class Returned:
    """The code returned, with this value."""

    value: Any


@frozen
class Raised:
    """The code raised."""

    error: BaseException


@frozen
class SettledItself:
    """The job called one of the verbs that end an attempt."""


@frozen
class SaidNothing:
    """A class marked ``explicit_outcome`` returned without a word."""


@frozen
class TimedOut:
    """The code was cancelled by the timeout of its task."""


Ending: TypeAlias = Returned | Raised | SettledItself | SaidNothing


@frozen
class Performance:
    """What came of performing a job.

    Attributes:
        outcomes: What is to be settled: the job's own outcome, unless it has settled already, and a failure
            for each job that it claimed besides and left unsettled.
        error: What the code raised.
    """

    outcomes: tuple[Outcome, ...] = ()
    error: BaseException | None = None


def perform(job: Job, claimed_at: float | None = None) -> Performance:
    """Perform a job that was claimed.

    Args:
        job: The job.
        claimed_at: When it was claimed, by ``time.monotonic()``; one that waited since has its lease
            extended.
    """
    if not _keep_lease(job, claimed_at):
        return Performance()
    _announce(job)
    ending = _run(job)
    outcome = _conclude(job, ending)
    return _hand_on(job, ending, outcome)


async def perform_async(job: Job, claimed_at: float | None = None) -> Performance:
    """Perform a job in the event loop that runs; its code may be ``async def`` or not.

    The timeout of its task cancels it.
    """
    import asyncio  # noqa: PLC0415  # large, and performers are forks

    if job.lease is not None and not await asyncio.to_thread(_keep_lease, job, claimed_at):
        return Performance()
    _announce(job)
    ending = await _run_async(job)
    if isinstance(ending, TimedOut):
        return timed_out(job)
    outcome = _conclude(job, ending)
    return _hand_on(job, ending, outcome)


def timed_out(job: Job) -> Performance:
    """Conclude that a job has outlived the timeout of its task; what it calls from now on is too late."""
    if job.did_something:
        return _hand_on(job, SettledItself(), None)
    timeout = job.minion.task_named(job.task).timeout or 0.0
    message = f"Job timed out after {timeout:g} s"
    _log_failure(job, message)
    outcome = job.failed_outcome(message)
    job.did_something = True
    return _hand_on(job, SettledItself(), outcome)


def _keep_lease(job: Job, claimed_at: float | None) -> bool:
    if job.lease is None or claimed_at is None or time.monotonic() - claimed_at < min(FRESH, job.lease / 10):
        return True
    if job.extend():
        return True
    logger.warning("Job %d (%s): not started, its lease ended while it waited", job.id, job.task)
    return False


def _announce(job: Job) -> None:
    logger.debug("Job %d (%s): attempt %d started", job.id, job.task, job.retries)
    job.minion.plugins.notify("minion_started", job=job)


def _run(job: Job) -> Ending:
    try:
        value = job.minion.plugins.perform(job)
    except BaseException as error:  # noqa: BLE001  # sys.exit and the like are failures of the job, too
        return _raised(job, error)
    return _returned(job, value)


async def _run_async(job: Job) -> Ending | TimedOut:
    import asyncio  # noqa: PLC0415  # large, and performers are forks

    known = job.minion.tasks.get(job.task)
    limit = asyncio.timeout(None if known is None else known.timeout)
    try:
        async with limit:
            value = await job.minion.plugins.perform_async(job)
    except BaseException as error:  # noqa: BLE001  # sys.exit and the like are failures of the job, too
        return TimedOut() if limit.expired() else _raised(job, error)
    return _returned(job, value)


def _raised(job: Job, error: BaseException) -> Ending:
    if not job.did_something:
        return Raised(error)
    logger.warning("Job %d (%s): raised after it had settled", job.id, job.task, exc_info=error)
    return SettledItself()


def _returned(job: Job, value: Any) -> Ending:
    if job.did_something:
        return SettledItself()
    if job.minion.task_named(job.task).explicit_outcome:
        return SaidNothing()
    return Returned(value)


def _conclude(job: Job, ending: Ending) -> Outcome | None:
    match ending:
        case SettledItself():
            return None
        case SaidNothing():
            _log_failure(job, NOT_EXPLICIT)
            return job.failed_outcome(NOT_EXPLICIT)
        case Raised(error):
            return _failure(job, error)
        case Returned(value):
            return _success(job, value)


def _hand_on(job: Job, ending: Ending, outcome: Outcome | None) -> Performance:
    error = ending.error if isinstance(ending, Raised) else None
    outcomes = [] if outcome is None else [outcome]
    for other in job.coalesced:
        if not other.did_something:
            reason = outcome.message if isinstance(outcome, Failed) else NOT_EXPLICIT
            outcomes.append(other.failed_outcome(reason))
    return Performance(tuple(outcomes), error)


def _success(job: Job, value: Any) -> Outcome:
    try:
        return job.finished_outcome(value)
    except (TypeError, ValueError) as error:
        message = f"Result cannot be kept: {error}"
        _log_failure(job, message)
        return job.failed_outcome(
            message, {"type": type(error).__name__, "message": message, "traceback": None}
        )


def _failure(job: Job, error: BaseException) -> Failed:
    described = describe(error)
    status = error.code if isinstance(error, SystemExit) and type(error.code) is int else None
    if status is not None and not -(2**31) <= status < 2**31:
        status = None
    message = f"{described['type']}: {described['message']}\n{described['traceback']}".rstrip()
    _log_failure(job, f"{described['type']}: {described['message']}".partition("\n")[0])
    return job.failed_outcome(message, described, exit_status=status)


def _log_failure(job: Job, why: str) -> None:
    """Say in one line that an attempt has failed."""
    logger.warning("Job %d (%s): attempt %d failed: %s", job.id, job.task, job.retries, why)


def describe(error: BaseException) -> dict[str, str]:
    """Tell an exception as a job keeps it: its type, message and traceback, as text that JSON can hold."""
    try:
        message = str(error)
    except Exception as broken:  # noqa: BLE001  # an exception class of the user's
        message = f"(its message cannot be read: {type(broken).__name__})"
    try:
        told = "".join(_users_frames(traceback.TracebackException.from_exception(error)).format())
    except Exception as broken:  # noqa: BLE001
        told = f"(its traceback cannot be read: {type(broken).__name__})"
    return {
        "type": type(error).__name__,
        "message": clean(message, LONGEST_MESSAGE),
        "traceback": clean(told, LONGEST_TRACEBACK),
    }


def _users_frames(told: traceback.TracebackException) -> traceback.TracebackException:
    """Leave out the frames of the queue itself, which say nothing about the job."""
    theirs = [frame for frame in told.stack if not frame.filename.startswith(_OWN_CODE)]
    if theirs:
        told.stack = traceback.StackSummary.from_list(theirs)
    return told


def clean(text: str, longest: int) -> str:
    """Make text that every store can keep: not too long, without NUL and lone surrogates."""
    if len(text) > longest:
        half = longest // 2
        text = f"{text[:half]}\n... {len(text) - longest} characters left out ...\n{text[-half:]}"
    return text.replace("\x00", "\\x00").encode("utf-8", "backslashreplace").decode()
