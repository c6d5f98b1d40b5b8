"""What a worker does beside performing: threads that send heartbeats, receive commands, dispatch and repair.

They call the backend and nothing else of the worker's: what they find out they hand to its main loop.
"""

from __future__ import annotations

import heapq
import logging
import random
import threading
import time
from collections.abc import Callable, Sequence

from attrs import frozen

from minion_core.errors import BackendError
from minion_core.outage import Outage

logger = logging.getLogger(__name__)


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
