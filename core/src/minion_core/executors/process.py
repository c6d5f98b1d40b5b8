"""The process executor: jobs are performed in forked processes, each with its own memory, signals and pid.

A performer that dies fails the job that it was performing, and nothing else. Performers are reused, and
replaced after so many jobs (1: a fresh process for every job, Minion's way).
"""

from __future__ import annotations

import logging
import os
import random
import selectors
import signal
import socket
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from minion_core.executors import Executor, Reports, wire
from minion_core.executors.frames import Channel, pack
from minion_core.executors.zygote_link import ZygoteLink

if TYPE_CHECKING:
    from minion_core.records import ClaimedJob

logger = logging.getLogger(__name__)

UNTOLD_END = 2.0
"""How long, in seconds, a performer that closed its socket may live on until it is killed."""

CRASH_DELAY_MAX = 30.0
CLOSE_TIMEOUT = 5.0


class PerformerLink:
    """What the supervisor knows of one performer."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.pid: int | None = None
        self.channel: Channel
        self.jobs: deque[ClaimedJob] = deque()
        """Those in its hands; the first is being performed."""
        self.others: list[ClaimedJob] = []
        """Those that the job being performed has claimed (JOB-07)."""
        self.claiming = False
        self.handed = 0
        self.retiring = False
        """Whether it gets no more jobs."""
        self.orphan = False
        """Whether the zygote that forked it has died, so that nobody will tell of its end."""
        self.kill_at: float | None = None


class ProcessExecutor(Executor):
    """Performs up to ``jobs`` jobs at a time, each in a process of its own."""

    def __init__(self, app: str, url: str, *, worker_id: int, jobs: int = 4, recycle: int = 1000) -> None:
        """Start nothing yet.

        Args:
            app: Where the application is: ``module:attribute``.
            url: Where the queue is; passed on over a socket, so that no password shows in a process list.
            worker_id: In whose name jobs that are being performed claim others.
            jobs: How many processes.
            recycle: How many jobs a process performs before it is replaced.
        """
        self.jobs = jobs
        self.recycle = recycle
        self._zygote = ZygoteLink(app, url, worker_id)
        self._performers: dict[int, PerformerLink] = {}
        self._idle: list[PerformerLink] = []
        self._last_number = 0
        self._crashes = 0
        self._spawn_at = 0.0
        self._closing = False
        self._selector: selectors.BaseSelector
        self._reports: Reports

    # -- The interface ------------------------------------------------------------------------------------

    def start(self, selector: selectors.BaseSelector, reports: Reports) -> None:
        self._selector = selector
        self._reports = reports
        self._zygote.start(selector, self)

    def tasks(self) -> Sequence[str]:
        return self._zygote.tasks

    def room(self) -> int:
        return max(0, min(len(self._idle), self.jobs - self.busy()))

    def busy(self) -> int:
        return sum(len(performer.jobs) for performer in self._performers.values())

    def perform(self, jobs: Sequence[ClaimedJob], claimed_at: float) -> None:
        for job in jobs:
            try:
                message = pack([wire.write_job(job, claimed_at)])
            except ValueError as error:
                self._reports.terminated(job, f"Job cannot be handed to a process: {error}", None)
                continue
            performer = self._idle.pop()
            performer.jobs.append(job)
            performer.handed += 1
            performer.channel.send(message)

    def give_back(self) -> None:
        for performer in self._performers.values():
            # What was sent to a performer behind its first job would have to be called back; nothing is.
            assert len(performer.jobs) <= 1  # noqa: S101

    def claiming(self) -> bool:
        return any(performer.claiming for performer in self._performers.values())

    def kill(self) -> None:
        self._zygote.order(wire.KILL, wire.ALL)
        for performer in list(self._performers.values()):
            if performer.orphan:
                _kill_group(performer.pid)

    def signal(self, job_id: int, number: int) -> bool:
        for performer in self._performers.values():
            if performer.jobs and performer.jobs[0].id == job_id:
                if performer.orphan:
                    return _send(performer.pid, number)
                order = wire.KILL if number == signal.SIGKILL else bytes([number])
                return self._zygote.order(order, performer.number)
        return False

    def tick(self, now: float) -> float | None:
        due = [self._zygote.tick(now)]
        for performer in list(self._performers.values()):
            if performer.kill_at is not None and performer.kill_at <= now:
                performer.kill_at = None
                self._zygote.order(wire.KILL, performer.number)
            due.append(performer.kill_at)
        due.append(self._fill(now))
        return min((moment for moment in due if moment is not None), default=None)

    def close(self) -> None:
        self._closing = True
        for performer in list(self._performers.values()):
            performer.channel.close()
            if performer.orphan:
                self._performers.pop(performer.number)
                _kill_group(performer.pid)
        deadline = time.monotonic() + CLOSE_TIMEOUT
        while self._performers and self._zygote.alive and time.monotonic() < deadline:
            for key, _ in self._selector.select(0.1):
                key.data()
        self._zygote.close()

    def status(self) -> dict[str, Any]:
        return {
            "recycle": self.recycle,
            "performers": [
                {"pid": performer.pid, "job": performer.jobs[0].id if performer.jobs else None}
                for performer in list(self._performers.values())
                if performer.pid is not None
            ],
        }

    # -- Performers come ----------------------------------------------------------------------------------

    def _fill(self, now: float) -> float | None:
        """Have as many performers as there should be; answer when to try again."""
        if self._closing or not self._zygote.ready:
            return None
        missing = self.jobs - sum(not performer.retiring for performer in self._performers.values())
        if missing <= 0:
            return None
        if now < self._spawn_at:
            return self._spawn_at
        for _ in range(missing):
            if not self._spawn():
                self._spawn_at = now + 1.0
                return self._spawn_at
        return None

    def _spawn(self) -> bool:
        self._last_number += 1
        performer = PerformerLink(self._last_number)
        ours, theirs = socket.socketpair()
        with theirs:
            if not self._zygote.order(wire.SPAWN, performer.number, theirs):
                ours.close()
                return False
        performer.channel = Channel(
            ours,
            self._selector,
            _bind(self._said, performer),
            _bind(self._hung_up, performer),
        )
        self._performers[performer.number] = performer
        return True

    def spawned(self, number: int, pid: int) -> None:
        """The zygote has forked a performer."""
        if number in self._performers:
            self._performers[number].pid = pid
        self._reports.spawned(pid)

    # -- What performers say ------------------------------------------------------------------------------

    def _said(self, performer: PerformerLink, message: Sequence[Any]) -> None:
        if message[0] == wire.ENDED:
            self._ended(performer, message[1], message[2])
        elif message[0] == wire.HELLO:
            # Only now: one that dies before it can perform must not take a job along.
            self._idle.append(performer)
            self._reports.ready()
        elif message[0] == wire.CLAIMING:
            performer.claiming = True
        elif message[0] == wire.CLAIMED:
            claimed = [wire.read_job(sent)[0] for sent in message[1]]
            performer.claiming = False
            performer.others.extend(claimed)
            self._reports.claimed(claimed)

    def _ended(self, performer: PerformerLink, id: int, outcomes: Sequence[Any]) -> None:
        job = performer.jobs.popleft()
        if job.id != id:
            raise RuntimeError(f"performer {performer.pid} ended job {id} and should perform {job.id}")
        over = [job, *performer.others]
        performer.others = []
        performer.claiming = False
        self._crashes = 0
        self._reports.ended(over, wire.read_outcomes(outcomes))
        if performer.jobs:
            return
        if performer.retiring or performer.handed >= self.recycle or self._closing:
            self._retire(performer)
        elif performer.channel.open:
            self._idle.append(performer)

    def _retire(self, performer: PerformerLink) -> None:
        performer.retiring = True
        performer.channel.close()
        if performer.orphan:
            self._performers.pop(performer.number, None)

    # -- Performers go ------------------------------------------------------------------------------------

    def _hung_up(self, performer: PerformerLink) -> None:
        """Its socket is closed: it has ended, or its job has closed what it should not have."""
        self._leave_idle(performer)
        if performer.orphan:
            _kill_group(performer.pid)
            self.exited(performer.number, performer.pid or 0, wire.UNKNOWN, 0)
        else:
            performer.kill_at = time.monotonic() + UNTOLD_END

    def exited(self, number: int, pid: int, exit_code: int, signal_number: int) -> None:
        """A performer has ended: what it had in hand is over."""
        performer = self._performers.get(number)
        if performer is None:
            return
        performer.channel.drain()  # what it said last may not have been read yet
        self._performers.pop(number, None)
        performer.channel.close()
        self._leave_idle(performer)
        if pid:
            self._reports.reaped(pid, exit_code, signal_number)
        if not pid or performer.channel.unread:
            # It was never forked, or ended before it had read what it should do: no job's fault.
            self._reports.unstarted(performer.jobs)
            performer.jobs.clear()
        if performer.jobs:
            code = "unknown" if exit_code == wire.UNKNOWN else exit_code
            message = f"Job terminated unexpectedly (exit code: {code}, signal: {signal_number})"
            for job in (performer.jobs.popleft(), *performer.others):
                self._reports.terminated(job, message, exit_code if exit_code > 0 else None)
            self._reports.unstarted(performer.jobs)
        elif not performer.retiring and not self._closing:
            self._crashed(performer, exit_code, signal_number)

    def _leave_idle(self, performer: PerformerLink) -> None:
        with suppress(ValueError):
            self._idle.remove(performer)

    def _crashed(self, performer: PerformerLink, exit_code: int, signal_number: int) -> None:
        """One has ended without a job in hand: if that goes on, forking more at full speed helps nobody."""
        if performer.handed:
            return
        self._crashes += 1
        delay = min(CRASH_DELAY_MAX, 0.1 * 2**self._crashes) * random.uniform(0.8, 1.2)  # noqa: S311
        self._spawn_at = time.monotonic() + delay
        logger.error(
            "A performer ended before its first job (exit code: %d, signal: %d); the next in %.1f s",
            exit_code,
            signal_number,
            delay,
        )

    # -- The zygote ---------------------------------------------------------------------------------------

    def zygote_ready(self) -> None:
        """The application is imported: performers can be forked."""
        self._fill(time.monotonic())

    def zygote_lost(self) -> None:
        """The zygote has died: its performers finish what they have in hand, and are replaced."""
        for performer in list(self._performers.values()):
            performer.retiring = performer.orphan = True
            performer.kill_at = None
            self._leave_idle(performer)
            if not performer.channel.open:
                _kill_group(performer.pid)
                self.exited(performer.number, performer.pid or 0, wire.UNKNOWN, 0)
            elif not performer.jobs:
                self._retire(performer)


def _bind(method: Callable[..., None], performer: PerformerLink) -> Callable[..., None]:
    return lambda *arguments: method(performer, *arguments)


def _send(pid: int | None, number: int) -> bool:
    if pid is None:
        return False
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True


def _kill_group(pid: int | None) -> None:
    if pid is not None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(pid, signal.SIGKILL)
