"""The remote commands that every worker obeys, those of Minion: ``jobs``, ``spare``, ``kill``, ``stop``.

Their arguments come from whoever may write to the store, so they are checked strictly, and refused with one
line in the log. They are told to all workers as a rule: a job that is performed elsewhere is no mistake.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from minion_core import values

if TYPE_CHECKING:
    from minion_core.worker import Worker

MOST = 10_000
"""More places than this are a slip of the finger."""

SIGNALS = ("INT", "TERM", "KILL", "USR1", "USR2")
"""What may be sent to a job, as in Minion."""


def jobs(worker: Worker, count: object) -> None:
    """Perform so many jobs at a time: ``["jobs", 10]``; 0 lets the worker rest."""
    worker.set_jobs(values.check_integer(count, "jobs", 0, MOST))


def spare(worker: Worker, count: object) -> None:
    """Have so many places more for jobs of high priority: ``["spare", 2]``."""
    worker.set_spare(values.check_integer(count, "spare", 0, MOST))


def kill(worker: Worker, name: object, id: object) -> None:
    """Send a signal to the process of a job: ``["kill", "INT", 10025]``."""
    if name not in SIGNALS:
        raise ValueError(f"the signal must be one of {', '.join(SIGNALS)}, not {name!r}")
    worker.signal_job(values.check_id(id, "a job's id"), signal.Signals[f"SIG{name}"])


def stop(worker: Worker, id: object) -> None:
    """End a job now, by killing its process: ``["stop", 10025]``."""
    worker.signal_job(values.check_id(id, "a job's id"), signal.SIGKILL)


COMMANDS: Mapping[str, Callable[..., None]] = {"jobs": jobs, "spare": spare, "kill": kill, "stop": stop}
