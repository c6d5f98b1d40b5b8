"""How claimed jobs are performed: one small interface, and a module for each way.

An executor is run by a worker's main loop: it registers what it reads from with the loop's selector, and
tells the worker through ``Reports`` what became of each job. It knows nothing of the store; the worker
settles.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import selectors

    from minion_core.records import ClaimedJob, Outcome


class Reports(Protocol):
    """What an executor tells its worker."""

    def ended(self, jobs: Sequence[ClaimedJob], outcomes: Sequence[Outcome]) -> None:
        """A job was performed, with those that it claimed besides.

        ``outcomes`` are to be settled; jobs that none of them names have settled by themselves.
        """

    def terminated(self, job: ClaimedJob, message: str, exit_status: int | None) -> None:
        """The process of a job ended before the job did; the attempt has failed."""

    def unstarted(self, jobs: Iterable[ClaimedJob]) -> None:
        """Jobs were not begun and will not be: they are to be given back."""

    def claimed(self, jobs: Iterable[ClaimedJob]) -> None:
        """A job being performed has claimed others (JOB-07)."""

    def spawned(self, pid: int) -> None:
        """A process that performs jobs was started."""

    def ready(self) -> None:
        """There may be room for jobs where there was none."""

    def reaped(self, pid: int, exit_code: int, signal: int) -> None:
        """A process that performed jobs has ended."""


class Executor(ABC):
    """Performs jobs for one worker. All methods are called from the worker's main loop."""

    @abstractmethod
    def start(self, selector: selectors.BaseSelector, reports: Reports) -> None:
        """Make ready; what is registered with the selector has a callable as its data, called when it is
        ready.

        Raises:
            ApplicationError: The application cannot be used.
        """

    @abstractmethod
    def tasks(self) -> Sequence[str]:
        """Answer the names of the tasks that it can perform."""

    @abstractmethod
    def room(self) -> int:
        """Answer how many more jobs it would take now."""

    @abstractmethod
    def busy(self) -> int:
        """Answer how many jobs it has in hand, begun or not."""

    @abstractmethod
    def perform(self, jobs: Sequence[ClaimedJob], claimed_at: float) -> None:
        """Take jobs, no more than there is room for; ``claimed_at`` is by ``time.monotonic()``."""

    @abstractmethod
    def give_back(self) -> None:
        """Report those jobs as unstarted that were not begun."""

    @abstractmethod
    def claiming(self) -> bool:
        """Say whether a job being performed may just be claiming others (JOB-07)."""

    @abstractmethod
    def kill(self) -> None:
        """End all jobs being performed, now. May be called from a signal handler."""

    @abstractmethod
    def signal(self, job_id: int, number: int) -> bool:
        """Send a signal to the process of a job; ``False`` when it is not being performed by a process."""

    @abstractmethod
    def tick(self, now: float) -> float | None:
        """Do what is due by the clock (``time.monotonic()``); answer when to be called again, at the
        latest.
        """

    @abstractmethod
    def close(self) -> None:
        """Let go of everything, at the end; jobs that are still being performed are ended."""

    @abstractmethod
    def status(self) -> dict[str, Any]:
        """Answer what the worker's status says about it."""
