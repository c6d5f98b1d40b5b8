"""Waiting for jobs, in threads beside the main loop.

What a worker waits for changes with every job that begins or ends: while all places are taken only the fast
lane's jobs count, and a task at its limit does not. The ``wait`` of a backend cannot be told to wait for
something else, so a second thread waits for that, while the first one's wait runs out.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING

from attrs import evolve

from minion_core.errors import BackendError
from minion_core.outage import Outage

if TYPE_CHECKING:
    from collections.abc import Callable

    from minion_core.minion import Minion
    from minion_core.records import DequeueOptions

logger = logging.getLogger(__name__)

WAIT = 0.5
"""How long one ``wait`` of the backend lasts, so that a worker that stops need not wait longer for it."""

THREADS_MAX = 3
"""For so many different things at a time; a further one is waited for when a ``wait`` has run out."""

FRUITLESS_DELAY_MAX = 0.25


class Waiter:
    """Waits for jobs while the worker has room for them and found none."""

    def __init__(self, minion: Minion, wake: Callable[[], None], timeout: float) -> None:
        """Wait for nothing yet.

        Args:
            minion: Whose backend to ask.
            wake: Called when there may be jobs, from any thread.
            timeout: After so many seconds it is called in any case.
        """
        self._minion = minion
        self._wake = wake
        self._timeout = timeout
        self._outage = Outage(logger, "Waiting for jobs")
        self._changed = threading.Condition()
        self._stopped = threading.Event()
        self._threads: list[threading.Thread] = []
        self._wanted: DequeueOptions | None = None
        self._waiting: list[DequeueOptions] = []
        self._fruitless = 0
        self._came_early = False

    def look_for(self, options: DequeueOptions) -> None:
        """Begin to wait: a claim of these found nothing, or less than was asked for."""
        with self._changed:
            self._wanted = wanted = evolve(options, limit=1)
            if wanted in self._waiting:
                return
            if len(self._waiting) == len(self._threads) < THREADS_MAX:
                thread = threading.Thread(target=self._run, name="minion-waiter", daemon=True)
                thread.start()
                self._threads.append(thread)
            self._changed.notify()

    def found(self, *, any: bool) -> None:
        """Tell whether the claim after the last wake-up found anything."""
        # A wake-up for what others took is normal; one after the other are a storm to step back from.
        self._fruitless = 0 if any or not self._came_early else self._fruitless + 1
        self._came_early = False

    def stop(self) -> None:
        """End soon."""
        self._stopped.set()
        with self._changed:
            self._changed.notify_all()

    def join(self, timeout: float) -> None:
        """Wait until it has ended, for so many seconds at the most."""
        limit = time.monotonic() + timeout
        for thread in self._threads:
            thread.join(max(0.0, limit - time.monotonic()))

    # -- Each thread --------------------------------------------------------------------------------------

    def _run(self) -> None:
        while (options := self._next()) is not None:
            try:
                self._wait_for(options)
            finally:
                with self._changed:
                    self._waiting.remove(options)

    def _next(self) -> DequeueOptions | None:
        """Answer what to wait for, when there is something that nobody waits for; ``None`` is the end."""
        with self._changed:
            self._changed.wait_for(
                lambda: (
                    self._stopped.is_set() or (self._wanted is not None and self._wanted not in self._waiting)
                )
            )
            if self._wanted is None or self._stopped.is_set():
                return None
            self._waiting.append(self._wanted)
            return self._wanted

    def _wait_for(self, options: DequeueOptions) -> None:
        """Wait until the worker is to look, or wants something else."""
        if self._fruitless > 3:
            self._stopped.wait(min(FRUITLESS_DELAY_MAX, 0.001 * 2 ** min(self._fruitless, 8)))
        started = time.monotonic()
        while not self._stopped.is_set():
            before = time.monotonic()
            failed = not self._wait_once(options)
            now = time.monotonic()
            early = not failed and now - before < WAIT * 0.9
            with self._changed:
                if options != self._wanted:
                    return
                if not (failed or early or now - started >= self._timeout):
                    continue
                self._wanted = None
                self._came_early = early
            self._wake()
            return

    def _wait_once(self, options: DequeueOptions) -> bool:
        """Wait for a while; answer whether that worked."""
        try:
            self._minion.backend.wait(WAIT, options)
        except BackendError as error:
            with self._changed:
                self._outage.failed(error)
            self._stopped.wait(max(0.0, self._outage.retry_at - time.monotonic()))
            return False
        except Exception:
            logger.exception("Waiting for jobs failed")
            self._stopped.wait(1.0)
            return False
        with self._changed:
            self._outage.worked()
        return True
