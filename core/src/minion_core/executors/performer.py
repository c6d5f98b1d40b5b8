"""A performer: the process that performs jobs, forked from the zygote.

It takes jobs from its line and tells of their ends over a stream. What a job settles by its own verbs goes to
the store from here; what the return or an exception means is told to the supervisor, which settles it with
others. When the supervisor closes the line, or is gone, it ends. This one performs jobs one after the other;
``threads.py`` and ``event_loop.py`` perform many at a time.
"""

from __future__ import annotations

import logging
import marshal
import os
import socket
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from minion_core.executors import wire
from minion_core.executors.frames import pack
from minion_core.job import Job
from minion_core.performing import Performance, perform

if TYPE_CHECKING:
    from minion_core.minion import Minion
    from minion_core.records import ClaimedJob

logger = logging.getLogger(__name__)

_READ = 65_536


class Hand:
    """The performer's ends of the sockets between it and the supervisor.

    Attributes:
        minion: The queue.
        line: Where jobs come from; readable when there is one.
    """

    def __init__(self, line: socket.socket, stream: socket.socket, minion: Minion, worker_id: int) -> None:
        self.minion = minion
        self.line = line
        self._stream = stream
        self._worker_id = worker_id
        self._pid = os.getpid()
        self._speaking = threading.Lock()

    def hello(self) -> None:
        """Say that this process can perform."""
        self._say((wire.HELLO,))

    def receive(self) -> tuple[Job, float, bool] | None:
        """Take the next job; ``None`` when the supervisor has no more.

        Returns:
            The job, when it was claimed, and whether it is the last one.
        """
        message = self.line.recv(_READ)
        if not message:
            return None
        sent, last = marshal.loads(message)  # noqa: S302  # the supervisor's
        if wire.is_large(sent):  # so many bytes in the stream
            body = self._read(last)
            if body is None:
                return None
            sent, last = marshal.loads(body)  # noqa: S302
        claimed, claimed_at = wire.read_job(sent)
        job = Job(self.minion, claimed, self._worker_id)
        job.on_claim = lambda jobs: self._tell_claimed(wire.attempt(claimed), jobs)
        return job, claimed_at, last

    def _read(self, size: int) -> bytes | None:
        body = bytearray()
        while len(body) < size:
            data = self._stream.recv(size - len(body))
            if not data:
                return None
            body += data
        return bytes(body)

    def ended(self, job: Job, performance: Performance, seconds: float, *, given_up: bool = False) -> None:
        """Tell that a job is over.

        Args:
            job: The job.
            performance: What came of it.
            seconds: How long it took.
            given_up: Whether its code goes on all the same.
        """
        if os.getpid() != self._pid:
            # A process that the job forked came back out of it: it must not speak in the performer's name.
            os._exit(0)
        # What the job printed is to be seen now, and not when this process ends.
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except (OSError, ValueError, AttributeError):
                continue  # the job closed it, or put something else in its place
        self._say(
            (wire.ENDED, (job.id, job.retries), wire.write_outcomes(performance.outcomes), seconds, given_up)
        )

    def _tell_claimed(self, by: wire.Attempt, jobs: Sequence[ClaimedJob] | None) -> None:
        if jobs is None:
            self._say((wire.CLAIMING, by))
        else:
            self._say((wire.CLAIMED, by, [wire.write_job(job, 0.0) for job in jobs]))

    def _say(self, message: object) -> None:
        packed = pack(message)
        with self._speaking:
            self._stream.sendall(packed)


def perform_one_by_one(hand: Hand, capacity: int) -> None:  # noqa: ARG001  # it is 1
    """Perform jobs one after the other until there are no more."""
    home = os.open(".", os.O_RDONLY)  # where each job begins, wherever the one before it went
    hand.hello()
    while (received := hand.receive()) is not None:
        job, claimed_at, last = received
        began = time.perf_counter()
        performance = perform(job, claimed_at)
        hand.ended(job, performance, time.perf_counter() - began)
        if last:
            return
        with suppress(OSError):  # it was closed, or removed
            os.fchdir(home)
