"""A performer: the process that performs jobs, one after the other, forked from the zygote.

It hears of jobs and tells of their ends over one socket. What a job settles by its own verbs goes to the
store from here; what the return or an exception means is told to the supervisor, which settles it with
others. When the supervisor closes the socket, or is gone, it ends.
"""

from __future__ import annotations

import os
import socket
import sys
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from minion_core.executors import wire
from minion_core.executors.frames import Reader, pack
from minion_core.job import Job
from minion_core.performing import Performance, perform

if TYPE_CHECKING:
    from minion_core.minion import Minion
    from minion_core.records import ClaimedJob

_READ = 262_144


class Performer:
    """Performs the jobs that arrive at a socket."""

    def __init__(self, sock: socket.socket, minion: Minion, worker_id: int) -> None:
        self._sock = sock
        self._minion = minion
        self._worker_id = worker_id
        self._reader = Reader()
        self._waiting: deque[Sequence[Any]] = deque()
        self._pid = os.getpid()

    def run(self) -> None:
        """Perform jobs until the supervisor closes the socket."""
        self._sock.sendall(pack((wire.HELLO,)))
        while self._receive():
            self._perform(self._waiting.popleft())
        self._minion.close()

    def _receive(self) -> bool:
        """Wait until there is a job; ``False`` when the supervisor wants no more."""
        while not self._waiting:
            data = self._sock.recv(_READ)
            if not data:
                return False
            for jobs in self._reader.feed(data):
                self._waiting.extend(jobs)
        return True

    def _perform(self, sent: Sequence[Any]) -> None:
        claimed, claimed_at = wire.read_job(sent)
        job = Job(self._minion, claimed, self._worker_id)
        job.on_claim = self._tell_claimed
        performance = perform(job, claimed_at)
        if os.getpid() != self._pid:
            # A process that the job forked came back out of it: it must not speak in the performer's name.
            os._exit(0)
        self._tell_ended(job, performance)

    def _tell_ended(self, job: Job, performance: Performance) -> None:
        # What the job printed is to be seen now, and not when this process ends.
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except (OSError, ValueError, AttributeError):
                continue  # the job closed it, or put something else in its place
        outcomes = wire.write_outcomes(performance.outcomes)
        self._sock.sendall(pack((wire.ENDED, job.id, outcomes)))

    def _tell_claimed(self, jobs: Sequence[ClaimedJob] | None) -> None:
        if jobs is None:
            self._sock.sendall(pack((wire.CLAIMING,)))
        else:
            self._sock.sendall(pack((wire.CLAIMED, [wire.write_job(job, 0.0) for job in jobs])))
