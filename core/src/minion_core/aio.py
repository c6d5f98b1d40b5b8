"""The client for ``async`` programs: the same calls, awaited.

    queue = AsyncMinion(minion)
    id = await queue.enqueue("resize", ["a.png"], {"width": 300})
    print(await queue.result(id, timeout=60))

The calls are made in threads of its own, so the event loop is free meanwhile. Arguments, answers and errors
are those of ``Minion``, where they are described. Tasks are registered with the ``Minion``, which both may
use.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, ParamSpec, Self, TypeVar

from minion_core import values
from minion_core.job import read_handle
from minion_core.minion import FIRST_LOOK, PAGE, Minion
from minion_core.records import JobFilter, WorkerFilter

if TYPE_CHECKING:
    from minion_core.job import Job
    from minion_core.records import (
        Enqueued,
        HistoryHour,
        JobRecord,
        NewJob,
        Repaired,
        Stats,
        WorkerRecord,
    )
    from minion_core.schedules import Dispatched
    from minion_core.task import Task
    from minion_core.values import Seconds

P = ParamSpec("P")
R = TypeVar("R")


class AsyncGuard:
    """A share of a lock for the length of an ``async with`` block; it answers whether there was one."""

    def __init__(self, minion: AsyncMinion, name: str, duration: Seconds, limit: int) -> None:
        self._minion = minion
        self._wanted = (name, duration, limit)
        self._token: str | None = None

    async def __aenter__(self) -> bool:
        self._token = await self._minion.lock(*self._wanted)
        return self._token is not None

    async def __aexit__(self, *_exception: object) -> None:
        if self._token is not None:
            await self._minion.unlock(self._wanted[0], self._token)


class AsyncMinion:
    """A ``Minion`` whose calls are awaited.

    Attributes:
        minion: The ``Minion`` that does the work.
    """

    def __init__(self, minion: Minion | str | None = None, *, threads: int = 4) -> None:
        """Connect to nothing yet.

        Args:
            minion: The queue, or its URL; by default ``MINION_URL`` says.
            threads: How many calls are made at the same time, at most.
        """
        self.minion = minion if isinstance(minion, Minion) else Minion(minion)
        self._pool = ThreadPoolExecutor(
            values.check_integer(threads, "threads", 1), thread_name_prefix="minion-aio"
        )

    async def call(self, function: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Await any call, a job's verb for instance: ``await queue.call(job.note, seen=True)``."""
        return await asyncio.get_running_loop().run_in_executor(
            self._pool, partial(function, *args, **kwargs)
        )

    # -- Enqueueing ---------------------------------------------------------------------------------------

    async def enqueue(
        self, task: str, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None, **fields: Any
    ) -> int:
        """Await ``Minion.enqueue``; a ``connection`` of the caller's cannot be used here."""
        return await self.call(self.minion.enqueue, task, args, kwargs, **fields)

    async def enqueue_task(self, task: Task[P, Any], /, *args: P.args, **kwargs: P.kwargs) -> int:
        """Await ``Task.enqueue``: ``await queue.enqueue_task(resize, "a.png", width=300)``."""
        return await self.call(task.enqueue, *args, **kwargs)

    async def enqueue_many(self, jobs: Iterable[NewJob]) -> list[Enqueued]:
        """Await ``Minion.enqueue_many``."""
        return await self.call(self.minion.enqueue_many, list(jobs))

    async def insert(self, job: NewJob) -> Job:
        """Await ``Minion.insert``."""
        return await self.call(self.minion.insert, job)

    # -- Looking at jobs and workers ----------------------------------------------------------------------

    async def job(self, handle: int | str) -> Job | None:
        """Await ``Minion.job``; the verbs of the job are awaited with ``call``."""
        return await self.call(self.minion.job, handle)

    async def result(
        self,
        handle: int | str,
        timeout: Seconds | None = None,  # noqa: ASYNC109  # the same call as Minion's
        interval: Seconds = 0.5,
    ) -> Any:
        """Await ``Minion.result``; between looks it occupies no thread, and it can be cancelled."""
        id = read_handle(handle)
        longest = values.positive_seconds(interval, "interval") or FIRST_LOOK
        limit = None if timeout is None else time.monotonic() + values.seconds(timeout, "timeout")
        pause = min(FIRST_LOOK, longest)
        while True:
            try:
                return await self.call(self.minion.result, id, 0)
            except TimeoutError:
                left = pause if limit is None else limit - time.monotonic()
                if left <= 0:
                    raise
            await asyncio.sleep(min(pause, left))
            pause = min(pause * 1.5, longest)

    async def jobs(self, **conditions: Any) -> AsyncIterator[JobRecord]:
        """Iterate as ``Minion.jobs`` does, with ``async for``."""
        wanted = JobFilter(**conditions)
        while page := (await self.call(self.minion.backend.list_jobs, 0, PAGE, wanted, total=False)).items:
            for record in page:
                yield record
            wanted = JobFilter(**{**conditions, "before": page[-1].id})

    async def workers(self, **conditions: Any) -> AsyncIterator[WorkerRecord]:
        """Iterate as ``Minion.workers`` does, with ``async for``."""
        wanted = WorkerFilter(**conditions)
        while page := (await self.call(self.minion.backend.list_workers, 0, PAGE, wanted, total=False)).items:
            for record in page:
                yield record
            wanted = WorkerFilter(**{**conditions, "before": page[-1].id})

    async def stats(self, *, exact: bool = True) -> Stats:
        """Await ``Minion.stats``."""
        return await self.call(self.minion.stats, exact=exact)

    async def history(self) -> list[HistoryHour]:
        """Await ``Minion.history``."""
        return await self.call(self.minion.history)

    # -- Locks --------------------------------------------------------------------------------------------

    async def lock(self, name: str, duration: Seconds, limit: int = 1) -> str | None:
        """Await ``Minion.lock``."""
        return await self.call(self.minion.lock, name, duration, limit)

    async def unlock(self, name: str, token: str | None = None) -> bool:
        """Await ``Minion.unlock``."""
        return await self.call(self.minion.unlock, name, token)

    async def is_locked(self, name: str, limit: int = 1) -> bool:
        """Await ``Minion.is_locked``."""
        return await self.call(self.minion.is_locked, name, limit)

    def guard(self, name: str, duration: Seconds, limit: int = 1) -> AsyncGuard:
        """Take a share of a lock: ``async with queue.guard("x", 60) as got``, which is true or false."""
        return AsyncGuard(self, name, duration, limit)

    # -- Schedules ----------------------------------------------------------------------------------------

    async def schedule(self, name: str, cron: str, task: str, *args: Any, **options: Any) -> int:
        """Await ``Minion.schedule``."""
        return await self.call(self.minion.schedule, name, cron, task, *args, **options)

    async def unschedule(self, name: str) -> bool:
        """Await ``Minion.unschedule``."""
        return await self.call(self.minion.unschedule, name)

    async def pause_schedule(self, name: str) -> bool:
        """Await ``Minion.pause_schedule``."""
        return await self.call(self.minion.pause_schedule, name)

    async def resume_schedule(self, name: str) -> bool:
        """Await ``Minion.resume_schedule``."""
        return await self.call(self.minion.resume_schedule, name)

    async def dispatch_schedules(self) -> list[Dispatched]:
        """Await ``Minion.dispatch_schedules``."""
        return await self.call(self.minion.dispatch_schedules)

    # -- Administration -----------------------------------------------------------------------------------

    async def broadcast(
        self, command: str, args: Sequence[Any] = (), ids: Sequence[int] | None = None
    ) -> bool:
        """Await ``Minion.broadcast``."""
        return await self.call(self.minion.broadcast, command, args, ids)

    async def repair(self) -> Repaired:
        """Await ``Minion.repair``."""
        return await self.call(self.minion.repair)

    async def reset(self, *, all: bool = False, locks: bool = False) -> None:
        """Await ``Minion.reset``."""
        await self.call(self.minion.reset, all=all, locks=locks)

    async def close(self) -> None:
        """Let go of every connection and thread."""
        await self.call(self.minion.close)
        self._pool.shutdown(wait=False)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()
