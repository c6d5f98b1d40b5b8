"""A performer that performs many ``async def`` jobs at a time, in one event loop.

A job that outlives its timeout is cancelled and has failed. One that keeps the event loop to itself, in code
that never awaits, cannot be cancelled, and keeps all the others waiting: such code belongs in a thread
(``asyncio.to_thread``) or in another executor. Functions that are not ``async def`` are run in a thread.
"""

from __future__ import annotations

import asyncio
import time

from minion_core.executors.performer import Hand
from minion_core.job import Job
from minion_core.performing import perform_async


def perform_in_event_loop(hand: Hand, capacity: int) -> None:  # noqa: ARG001  # the supervisor keeps to it
    """Perform jobs in an event loop until there are no more."""
    asyncio.run(_Loop(hand).run())


class _Loop:
    def __init__(self, hand: Hand) -> None:
        self._hand = hand
        self._running: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        self._hand.hello()
        loop = asyncio.get_running_loop()
        no_more = loop.create_future()
        loop.add_reader(self._hand.line, self._take, no_more)
        try:
            await no_more
        finally:
            loop.remove_reader(self._hand.line)
            for task in self._running:
                task.cancel()

    def _take(self, no_more: asyncio.Future[None]) -> None:
        received = self._hand.receive()
        if received is None:
            if not no_more.done():
                no_more.set_result(None)
            return
        job, claimed_at, _ = received
        task = asyncio.get_running_loop().create_task(self._perform(job, claimed_at), name=f"job {job.id}")
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _perform(self, job: Job, claimed_at: float) -> None:
        began = time.perf_counter()
        performance = await perform_async(job, claimed_at)
        self._hand.ended(job, performance, time.perf_counter() - began)
