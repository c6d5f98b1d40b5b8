"""A performer that performs many jobs at a time, each in a thread.

A job that outlives its timeout has failed, and ``TimeoutError`` is raised in its thread at the next line of
Python that it runs; code that waits in the kernel or in C cannot be ended. So the supervisor gives such a
process no more jobs, and replaces it when the others in it are over.
"""

from __future__ import annotations

import ctypes
import queue
import threading
import time

from minion_core.executors.performer import Hand
from minion_core.job import Job
from minion_core.performing import Performance, perform, timed_out
from minion_core.wakeup import is_readable


class _Running:
    """A job in a thread."""

    def __init__(self, job: Job, claimed_at: float) -> None:
        self.job = job
        self.claimed_at = claimed_at
        self.began = time.perf_counter()
        known = job.minion.tasks.get(job.task)
        timeout = None if known is None else known.timeout
        self.ends = None if timeout is None else time.monotonic() + timeout
        self.thread: threading.Thread | None = None
        self.over = False


class _Pool:
    """Threads that come when there is no idle one."""

    def __init__(self, hand: Hand) -> None:
        self._hand = hand
        self._todo: queue.SimpleQueue[_Running] = queue.SimpleQueue()
        self._idle = 0
        self._lock = threading.Lock()
        self._running: set[_Running] = set()

    def add(self, running: _Running) -> None:
        with self._lock:
            self._running.add(running)
            grow = self._idle == 0
            self._idle -= not grow
        self._todo.put(running)
        if grow:
            threading.Thread(target=self._work, name="minion-job", daemon=True).start()

    def _work(self) -> None:
        while True:
            running = self._todo.get()
            running.thread = threading.current_thread()
            try:
                performance = perform(running.job, running.claimed_at)
                self._finished(running, performance)
            except TimeoutError:
                if not running.over:  # else raised by us, a moment too late to meet the job's own code
                    raise
            with self._lock:
                self._idle += 1

    def _finished(self, running: _Running, performance: Performance) -> None:
        with self._lock:
            if running.over:
                return
            running.over = True
            self._running.discard(running)
        self._hand.ended(running.job, performance, time.perf_counter() - running.began)

    def next_end(self) -> float | None:
        with self._lock:
            return min((each.ends for each in self._running if each.ends is not None), default=None)

    def end_overdue(self) -> None:
        now = time.monotonic()
        with self._lock:
            overdue = [each for each in self._running if each.ends is not None and each.ends <= now]
            for running in overdue:
                running.over = True
                self._running.discard(running)
        for running in overdue:
            performance = timed_out(running.job)
            self._hand.ended(running.job, performance, time.perf_counter() - running.began, given_up=True)
            if running.thread is not None and running.thread.ident is not None:
                raised = ctypes.py_object(TimeoutError)
                ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(running.thread.ident), raised)


def perform_in_threads(hand: Hand, capacity: int) -> None:  # noqa: ARG001  # the supervisor keeps to it
    """Perform jobs in threads until there are no more."""
    hand.minion.backend  # noqa: B018  # opened before there are threads
    hand.hello()
    pool = _Pool(hand)
    while True:
        ends = pool.next_end()
        timeout = None if ends is None else max(0.0, ends - time.monotonic())
        readable = is_readable(hand.line, timeout=timeout)
        pool.end_overdue()
        if not readable:
            continue
        received = hand.receive()
        if received is None:
            return
        job, claimed_at, _ = received
        pool.add(_Running(job, claimed_at))
