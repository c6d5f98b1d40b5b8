"""How claimed jobs are performed: one small interface, and a module for each way.

An executor is run by a worker's main loop: it registers what it reads from with the loop's selector, and
tells the worker through ``Reports`` what became of each job. It knows nothing of the store; the worker
settles. How many jobs are performed at a time is the worker's affair, too: an executor has *places*, one for
each job that it could perform now, and some let jobs that take milliseconds wait *behind* those.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from attrs import frozen

if TYPE_CHECKING:
    import selectors

    from minion_core.records import ClaimedJob, Outcome

KINDS = ("process", "thread", "asyncio", "inline")


@frozen
class TaskInfo:
    """What a worker has to know of a task.

    Attributes:
        kind: The executor that performs it.
        limit: How many of its jobs the worker performs at a time, ``None`` is no limit.
        timeout: After how many seconds an attempt has failed, ``None`` is never.
    """

    kind: str
    limit: int | None = None
    timeout: float | None = None


class Reports(Protocol):
    """What an executor tells its worker."""

    def ended(self, jobs: Sequence[ClaimedJob], outcomes: Sequence[Outcome], seconds: float) -> None:
        """A job was performed in so many seconds, with those that it claimed besides.

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
    def tasks(self) -> Mapping[str, TaskInfo]:
        """Answer the tasks that it can perform."""

    @abstractmethod
    def places(self) -> int:
        """Answer how many more jobs it could begin to perform now."""

    @abstractmethod
    def running(self) -> int:
        """Answer how many places are taken."""

    @abstractmethod
    def busy(self) -> int:
        """Answer how many jobs it has in hand, begun or not."""

    @abstractmethod
    def perform(self, jobs: Sequence[ClaimedJob], claimed_at: float) -> None:
        """Perform jobs, no more than there are places; ``claimed_at`` is by ``time.monotonic()``."""

    def behind(self, each: int) -> int:
        """Answer how many more jobs may wait behind those being performed, ``each`` for each of those."""
        return 0 * each

    def line_up(self, jobs: Sequence[ClaimedJob], claimed_at: float) -> None:
        """Let jobs wait behind those being performed; called only by who was told that they may."""
        raise NotImplementedError

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
