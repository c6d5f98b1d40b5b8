"""The status line of ``minion worker`` in a terminal: one line that stays below the log."""

from __future__ import annotations

import shutil
import sys
import threading
import time
from typing import TYPE_CHECKING

from minion_core.errors import BackendError

if TYPE_CHECKING:
    from minion_core.worker import Worker

INTERVAL = 0.5
COUNTING_SHARE = 0.02
"""Counting what waits may be dear: it takes no more than this share of the time."""


class StatusLine(threading.Thread):
    """Draws how a worker is getting on, again and again, at the last line of standard error."""

    def __init__(self, worker: Worker) -> None:
        super().__init__(name="minion-status", daemon=True)
        self._worker = worker
        self._ended = threading.Event()
        self._waiting: int | None = None
        self._count_at = 0.0

    def run(self) -> None:
        """Draw until ended."""
        before, since, rate = 0, time.monotonic(), 0.0
        while not self._ended.wait(INTERVAL):
            now, performed = time.monotonic(), self._worker.performed
            rate += ((performed - before) / (now - since) - rate) * 0.5
            before, since = performed, now
            self._count(now)
            self._draw(rate)

    def _count(self, now: float) -> None:
        if now < self._count_at:
            return
        try:
            self._waiting = self._worker.minion.stats(exact=False).inactive_jobs
        except BackendError:
            self._waiting = None
        took = time.monotonic() - now
        self._count_at = now + max(1.0, took / COUNTING_SHARE)

    def _draw(self, rate: float) -> None:
        worker = self._worker
        waiting = "?" if self._waiting is None else f"{self._waiting:,}"
        line = (
            f"worker {worker.id}: {rate:,.1f} jobs/s, {worker.running} running, {waiting} waiting,"
            f" {worker.performed:,} performed, {worker.failed:,} failed"
        )
        sys.stderr.write(f"\r\x1b[K{line[: shutil.get_terminal_size().columns - 1]}")
        sys.stderr.flush()

    def end(self) -> None:
        """Wipe it away."""
        self._ended.set()
        self.join(2.0)
        sys.stderr.write("\r\x1b[K")
        sys.stderr.flush()
