"""What the processes of a worker say to each other: orders, jobs and outcomes.

What a performer has to settle goes to the supervisor as plain tuples, with results that are JSON text
already.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, TypeAlias

from minion_core.records import ClaimedJob, Failed, Finished, Outcome
from minion_core.values import decode_json

# What a performer says to the supervisor, by its first item.
HELLO, ENDED, CLAIMING, CLAIMED = range(4)

# What the zygote says to the supervisor.
READY, BROKEN, SPAWNED, EXITED = range(4)

# What the supervisor orders the zygote to do: a letter, and the number of a performer.
ORDER = struct.Struct("<cI")
SPAWN = b"S"
KILL = b"K"
ALL = 2**32 - 1

HOW = struct.Struct("<cH")
"""What a performer is told first, in a message of its own: its kind by its first letter, and how many jobs it
performs at a time."""

UNKNOWN = -1
"""The exit code of a performer whose end nobody saw."""


Attempt: TypeAlias = tuple[int, int]
"""The id of a job, and its ``retries``."""


def attempt(job: ClaimedJob) -> Attempt:
    """Answer which attempt a claim is."""
    return job.id, job.retries


def attempt_of(sent: Sequence[Any]) -> Attempt:
    """Answer the same of a job that ``write_job`` has written."""
    return sent[0], sent[4]


def is_large(sent: Sequence[Any]) -> bool:
    """Say whether this is only the attempt of a job, which comes through the stream since it is too large."""
    return len(sent) == 2  # a job has more fields


def write_job(job: ClaimedJob, claimed_at: float) -> tuple[Any, ...]:
    """Turn a claimed job, and when it was claimed, into what can be sent."""
    return (
        job.id,
        job.task,
        job.args,
        job.kwargs,
        job.retries,
        job.attempts,
        job.failures,
        job.notes,
        job.queue,
        job.priority,
        job.coalesce,
        job.uniqkey,
        job.lease,
        None if job.grabbed_until is None else job.grabbed_until.timestamp(),
        claimed_at,
    )


def read_job(sent: Sequence[Any]) -> tuple[ClaimedJob, float]:
    """Turn what was sent back into a claimed job, and when it was claimed."""
    *fields, claimed_at = sent
    if fields[-1] is not None:
        fields[-1] = datetime.fromtimestamp(fields[-1], UTC)
    return ClaimedJob(*fields), claimed_at


def write_outcomes(outcomes: Iterable[Outcome]) -> list[tuple[Any, ...]]:
    """Turn the outcomes of a performance into what can be sent."""
    sent: list[tuple[Any, ...]] = []
    for outcome in outcomes:
        match outcome:
            case Finished():
                sent.append((outcome.id, outcome.retries, outcome.result_json, outcome.exit_status))
            case Failed():
                sent.append(
                    (
                        outcome.id,
                        outcome.retries,
                        outcome.result_json,
                        outcome.exit_status,
                        outcome.message,
                        outcome.retry_in,
                    )
                )
            case _:
                raise TypeError(f"a performance does not end with {type(outcome).__name__}")
    return sent


def read_outcomes(sent: Iterable[Sequence[Any]]) -> list[Outcome]:
    """Turn what was sent back into outcomes."""
    outcomes: list[Outcome] = []
    for fields in sent:
        match fields:
            case (id, retries, result_json, exit_status):
                outcomes.append(Finished(id, retries, _result(result_json), exit_status))
            case (id, retries, result_json, exit_status, message, retry_in):
                outcomes.append(Failed(id, retries, message, _result(result_json), exit_status, retry_in))
    return outcomes


def _result(text: str) -> Any:
    return None if text == "null" else decode_json(text)
