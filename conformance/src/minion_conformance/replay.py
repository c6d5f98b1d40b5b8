"""What a failure's lines need to be done again: ``from minion_conformance.replay import *``."""

from __future__ import annotations

from datetime import datetime, timedelta

from minion_conformance.clock import START, Clock
from minion_core.backend import Backend
from minion_core.plugins import backend_class
from minion_core.records import (
    Declined,
    DequeueOptions,
    Failed,
    Finished,
    JobFilter,
    NewJob,
    NewSchedule,
    Released,
    Replaced,
    RetryOptions,
    ScheduleFilter,
    WorkerFilter,
)

__all__ = [
    "Declined",
    "DequeueOptions",
    "Failed",
    "Finished",
    "JobFilter",
    "NewJob",
    "NewSchedule",
    "Released",
    "Replaced",
    "RetryOptions",
    "ScheduleFilter",
    "WorkerFilter",
    "at",
    "replay",
]


def at(seconds: float) -> datetime:
    """Answer the instant so many seconds after a check begins."""
    return START + timedelta(seconds=seconds)


def replay(url: str) -> tuple[Backend, Clock]:
    """Open an emptied store with a clock that stands still. What was in it is gone."""
    clock = Clock()
    backend = backend_class(url)(url, clock=clock)
    backend.open()
    backend.reset(all=True)
    return backend, clock
