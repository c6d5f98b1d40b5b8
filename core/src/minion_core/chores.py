"""What a worker does beside performing: threads that wait for jobs, send heartbeats, dispatch and repair.

They call the backend and nothing else of the worker's: what they find out they hand to its main loop.
"""

from __future__ import annotations

import heapq
import logging
import random
import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from attrs import frozen

from minion_core.errors import BackendError
from minion_core.outage import Outage

if TYPE_CHECKING:
    from minion_core.minion import Minion
    from minion_core.records import DequeueOptions

logger = logging.getLogger(__name__)

WAIT = 0.5
"""How long one ``wait`` of the backend lasts, so that a worker that stops need not wait longer for it."""

FRUITLESS_DELAY_MAX = 0.25


class Waiter(threading.Thread):
    """Waits for jobs while the worker has room for them and found none."""

    def __init__(self, minion: Minion, wake: Callable[[], None], timeout: float) -> None:
        """Wait for nothing yet.

        Args:
            minion: Whose backend to ask.
            wake: Called when there may be jobs.
            timeout: After so many seconds it is called in any case.
        """
        super().__init__(name="minion-waiter", daemon=True)
        self._minion = minion
        self._wake = wake
        self._timeout = timeout
        self._options: DequeueOptions | None = None
        self._wanted = threading.Event()
        self._stopped = threading.Event()
        self._fruitless = 0
        self._came_early = False

    def look_for(self, options: DequeueOptions) -> None:
        """Begin to wait: a claim of these found nothing, or less than was asked for."""
        self._options = options
        self._wanted.set()

    def found(self, *, any: bool) -> None:
        """Tell whether the claim after the last wake-up found anything."""
        # A wake-up for what others took is normal; one after the other are a storm to step back from.
        self._fruitless = 0 if any or not self._came_early else self._fruitless + 1
        self._came_early = False

    def stop(self) -> None:
        """End soon."""
        self._stopped.set()
        self._wanted.set()

    def run(self) -> None:
        """Wait, wake the worker, wait again."""
        outage = Outage(logger, "Waiting for jobs")
        while True:
            self._wanted.wait()
            self._wanted.clear()
            if self._stopped.is_set():
                return
            try:
                self._wait()
                outage.worked()
            except BackendError as error:
                outage.failed(error)
                self._stopped.wait(max(0.0, outage.retry_at - time.monotonic()))
            except Exception:
                logger.exception("Waiting for jobs failed")
                self._stopped.wait(1.0)
            self._wake()

    def _wait(self) -> None:
        if self._fruitless > 3:
            self._stopped.wait(min(FRUITLESS_DELAY_MAX, 0.001 * 2**self._fruitless))
        options = self._options
        started = time.monotonic()
        while options is not None and not self._stopped.is_set():
            before = time.monotonic()
            self._minion.backend.wait(WAIT, options)
            now = time.monotonic()
            self._came_early = now - before < WAIT * 0.9
            if self._came_early or now - started >= self._timeout:
                return


@frozen
class Chore:
    """Something to do again and again.

    Attributes:
        name: What it is called in the log.
        interval: How often, in seconds.
        spread: It comes earlier by up to this share of the interval, at random, so that workers that were
            started together don't do it together.
        at_once: Whether it is done at the start, too.
        do: Does it.
    """

    name: str
    interval: float
    do: Callable[[], None]
    spread: float = 0.1
    at_once: bool = False


class Chores(threading.Thread):
    """Does chores one after the other, each in its time; what fails is logged, and done again soon."""

    def __init__(self, name: str, chores: Sequence[Chore]) -> None:
        super().__init__(name=name, daemon=True)
        self._stopped = threading.Event()
        now = time.monotonic()
        self._due = [
            (now if chore.at_once else now + _next(chore), number, chore, Outage(logger, chore.name))
            for number, chore in enumerate(chores)
        ]
        heapq.heapify(self._due)

    def stop(self) -> None:
        """End after what is being done."""
        self._stopped.set()

    def run(self) -> None:
        """Do what is due until stopped."""
        while self._due:
            due, number, chore, outage = self._due[0]
            if self._stopped.wait(max(0.0, due - time.monotonic())):
                return
            following = time.monotonic() + _next(chore)
            try:
                chore.do()
                outage.worked()
            except BackendError as error:
                outage.failed(error)
                following = min(following, outage.retry_at)
            except Exception:
                logger.exception("%s failed", chore.name)
            heapq.heapreplace(self._due, (following, number, chore, outage))


def _next(chore: Chore) -> float:
    return chore.interval * random.uniform(1.0 - chore.spread, 1.0)  # noqa: S311
