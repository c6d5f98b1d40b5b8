"""All that performs for one worker: executors of each kind, the zygote behind, the desk before them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from minion_core.executors import Executor, Reports
from minion_core.executors.forked import ForkedExecutor
from minion_core.executors.inline import InlineExecutor
from minion_core.executors.zygote_link import ZygoteLink

if TYPE_CHECKING:
    import selectors

    from minion_core.desk import Desk
    from minion_core.minion import Minion


class Crew:
    """The executors of one worker.

    Attributes:
        desk: Decides what is claimed for them.
    """

    def __init__(
        self,
        minion: Minion,
        app: str,
        worker_id: int,
        *,
        executor: str,
        jobs: int,
        spare: int,
        threads: int | None,
        async_jobs: int | None,
        recycle: int,
        reload: bool,
        plugins: Sequence[str],
        desk: Callable[[Mapping[str, Executor]], Desk],
    ) -> None:
        """Start nothing yet; see ``Worker`` for the options."""
        self._threads = threads
        self._async_jobs = async_jobs
        self._executors: dict[str, Executor] = {}
        self._zygote: ZygoteLink | None = None
        if executor == "inline":
            self._executors["inline"] = InlineExecutor(minion, worker_id=worker_id)
        else:
            self._zygote = ZygoteLink(
                app, minion.url, worker_id, default=executor, reload=reload, plugins=tuple(plugins)
            )
            for kind, size in self._sizes(jobs, spare).items():
                # A process for each job, or one process for all jobs of the kind.
                performers, capacity = (size, 1) if kind == "process" else (1, size)
                self._executors[kind] = ForkedExecutor(
                    kind, self._zygote, performers=performers, capacity=capacity, recycle=recycle
                )
        self.desk = desk(self._executors)

    def _sizes(self, jobs: int, spare: int) -> dict[str, int]:
        """Answer how many jobs each executor has places for."""
        most = jobs + spare
        return {
            "process": most,
            "thread": most if self._threads is None else min(self._threads, most),
            "asyncio": most if self._async_jobs is None else min(self._async_jobs, most),
        }

    def start(self, selector: selectors.BaseSelector, reports: Reports) -> None:
        """Start all executors, then the zygote."""
        for executor in self._executors.values():
            executor.start(selector, reports)
        if self._zygote is not None:
            self._zygote.start(selector)

    def resize(self, jobs: int, spare: int) -> None:
        """Perform so many jobs at a time from now on."""
        self.desk.jobs, self.desk.spare = jobs, spare
        for kind, size in self._sizes(jobs, spare).items():
            executor = self._executors.get(kind)
            if isinstance(executor, ForkedExecutor):
                executor.resize(size)

    def tick(self, now: float) -> Iterable[float | None]:
        """Have everything done that is due; answer when each wants to be called again."""
        due = [executor.tick(now) for executor in self._executors.values()]
        return due if self._zygote is None else [*due, self._zygote.tick(now)]

    def busy(self) -> int:
        """Answer how many jobs are in hand, begun or not."""
        return sum(executor.busy() for executor in self._executors.values())

    def running(self) -> int:
        """Answer how many jobs are being performed."""
        return sum(executor.running() for executor in self._executors.values())

    def claiming(self) -> bool:
        """Say whether a job being performed may just be claiming others (JOB-07)."""
        return any(executor.claiming() for executor in self._executors.values())

    def give_back(self) -> None:
        """Give back the jobs that were not begun."""
        for executor in self._executors.values():
            executor.give_back()

    def kill(self) -> None:
        """End all jobs being performed, now. May be called from a signal handler."""
        for executor in self._executors.values():
            executor.kill()

    def signal(self, job_id: int, number: int) -> bool:
        """Send a signal to the process of a job; ``False`` when no process performs it alone."""
        return any(executor.signal(job_id, number) for executor in self._executors.values())

    def close(self) -> None:
        """Let go of everything."""
        for executor in self._executors.values():
            executor.close()
        if self._zygote is not None:
            self._zygote.close()

    def status(self) -> dict[str, Any]:
        """Answer what the worker's status says about its executors."""
        return {kind: executor.status() for kind, executor in self._executors.items()}
