"""The executors that perform in forked processes: one job in each, or many in the threads or the event loop
of one.

A performer that dies fails the jobs that it was performing, and nothing else. Performers are reused, and
replaced after so many jobs (1: a fresh process for every job, Minion's way).
"""

from __future__ import annotations

import logging
import os
import random
import selectors
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from minion_core.executors import Executor, Reports, TaskInfo, wire
from minion_core.executors.performer_link import PerformerLink
from minion_core.executors.zygote_link import ZygoteLink

if TYPE_CHECKING:
    from minion_core.records import ClaimedJob

logger = logging.getLogger(__name__)

UNTOLD_END = 2.0
"""How long, in seconds, a performer that closed its socket may live on until it is killed."""

TAKE_BACK_AFTER = 0.1
"""After how many seconds of one job those behind it are taken back."""

RESERVE_BELOW = 10
"""Performers that are replaced after fewer jobs than this are forked before they are needed."""

CRASH_DELAY_MAX = 30.0
CLOSE_TIMEOUT = 5.0


class ForkedExecutor(Executor):
    """Performs jobs of one kind of executor in performers that a zygote forks.

    Attributes:
        kind: ``process``, ``thread`` or ``asyncio``.
    """

    def __init__(
        self, kind: str, zygote: ZygoteLink, *, performers: int, capacity: int, recycle: int
    ) -> None:
        """Start nothing yet.

        Args:
            kind: How its performers perform.
            zygote: Who forks them.
            performers: How many there are.
            capacity: How many jobs each of them performs at a time.
            recycle: How many jobs a performer performs, for each that it performs at a time, before it is
                replaced.
        """
        self.kind = kind
        self.recycle = recycle
        self._zygote = zygote
        self._wanted = performers
        self._capacity = capacity
        self._one_each = kind == "process"
        self._last_job = recycle * capacity
        # A fork takes longer than a short job: those who are next wait already.
        self._reserve = performers if self._last_job < RESERVE_BELOW else 0
        self._tasks: dict[str, TaskInfo] = {}
        self._performers: dict[int, PerformerLink] = {}
        self._crashes = 0
        self._spawn_at = 0.0
        self._closing = False
        self._selector: selectors.BaseSelector
        self._reports: Reports

    # -- The interface ------------------------------------------------------------------------------------

    def start(self, selector: selectors.BaseSelector, reports: Reports) -> None:
        self._selector = selector
        self._reports = reports
        self._zygote.subscribe(self)

    def tasks(self) -> Mapping[str, TaskInfo]:
        return self._tasks

    def places(self) -> int:
        return sum(performer.free for performer in self._performers.values())

    def running(self) -> int:
        if not self._one_each:
            return self.busy()
        return sum(1 for performer in self._performers.values() if performer.jobs)

    def busy(self) -> int:
        return sum(len(performer.jobs) for performer in self._performers.values())

    def perform(self, jobs: Sequence[ClaimedJob], claimed_at: float) -> None:
        free = [performer for performer in self._performers.values() for _ in range(performer.free)]
        for job, performer in zip(jobs, free, strict=False):
            self._hand(job, performer, claimed_at)
        self._reports.unstarted(jobs[len(free) :])

    def behind(self, each: int) -> int:
        return sum(self._may_line_up(performer, each) for performer in self._performers.values())

    def line_up(self, jobs: Sequence[ClaimedJob], claimed_at: float) -> None:
        waiting = list(jobs)
        busy = [performer for performer in self._performers.values() if self._may_line_up(performer, 10**6)]
        busy.sort(key=lambda performer: len(performer.jobs))
        each = -(-len(waiting) // max(1, len(busy)))
        for performer in busy:
            share = min(each, self._may_line_up(performer, 10**6))
            for job in waiting[:share]:
                self._hand(job, performer, claimed_at)
            del waiting[:share]
        self._reports.unstarted(waiting)

    def _may_line_up(self, performer: PerformerLink, each: int) -> int:
        if not self._one_each or performer.retiring or not performer.jobs:
            return 0
        return max(0, min(each + 1 - len(performer.jobs), self._last_job - performer.handed))

    def _hand(self, job: ClaimedJob, performer: PerformerLink, claimed_at: float) -> None:
        try:
            taken = performer.hand(job, claimed_at, last=performer.handed + 1 >= self._last_job)
        except ValueError as error:
            self._reports.terminated(job, f"Job cannot be handed to a process: {error}", None)
            return
        if not taken:
            self._reports.unstarted([job])
        elif performer.handed >= self._last_job:
            performer.retiring = True

    def give_back(self) -> None:
        for performer in self._performers.values():
            self._reports.unstarted(performer.take_back())

    def claiming(self) -> bool:
        return any(performer.claiming for performer in self._performers.values())

    def kill(self) -> None:
        for performer in list(self._performers.values()):
            if performer.jobs:
                self._kill(performer)

    def _kill(self, performer: PerformerLink) -> None:
        if performer.orphan:
            _kill_group(performer.pid)
        else:
            self._zygote.order(wire.KILL, performer.number)

    def signal(self, job_id: int, number: int) -> bool:
        for performer in list(self._performers.values()):
            if self._one_each and performer.first is not None and performer.first.id == job_id:
                if performer.orphan:
                    return _send(performer.pid, number)
                order = wire.KILL if number == signal.SIGKILL else bytes([number])
                return self._zygote.order(order, performer.number)
        return False

    def tick(self, now: float) -> float | None:
        due = [self._fill(now)]
        for performer in list(self._performers.values()):
            if performer.kill_at is not None and performer.kill_at <= now:
                performer.kill_at = None
                self._kill(performer)
            due.append(performer.kill_at)
            if self._one_each and performer.jobs:
                due.append(self._watch(performer, now))
        return min((moment for moment in due if moment is not None), default=None)

    def _watch(self, performer: PerformerLink, now: float) -> float | None:
        """See to a job that takes long; answer when to look again."""
        due: float | None = None
        if len(performer.jobs) > 1:
            due = performer.since + TAKE_BACK_AFTER
            if now >= due:
                self._reports.unstarted(performer.take_back())
                due = None
        first = performer.first
        info = None if first is None else self._tasks.get(first.task)
        if first is None or info is None or info.timeout is None or performer.timed_out is not None:
            return due
        ends = performer.since + info.timeout
        if now >= ends:
            performer.timed_out = info.timeout
            self._kill(performer)
            return due
        return ends if due is None else min(due, ends)

    def close(self) -> None:
        self._closing = True
        for performer in list(self._performers.values()):
            performer.close()
            if performer.orphan:
                self._performers.pop(performer.number)
                _kill_group(performer.pid)
        deadline = time.monotonic() + CLOSE_TIMEOUT
        while self._performers and self._zygote.alive and time.monotonic() < deadline:
            for key, _ in self._selector.select(0.1):
                key.data()

    def status(self) -> dict[str, Any]:
        told: dict[str, Any] = {"recycle": self.recycle, "jobs": self._wanted * self._capacity}
        told["performers"] = [
            {"pid": performer.pid, "job": None if performer.first is None else performer.first.id}
            if self._one_each
            else {"pid": performer.pid, "jobs": [id for id, _ in performer.jobs]}
            for performer in list(self._performers.values())
            if performer.pid is not None
        ]
        return told

    def resize(self, jobs: int) -> None:
        """Perform so many jobs at a time from now on."""
        if self._one_each:
            self._wanted = jobs
            surplus = len(self._staying()) - self._wanted - self._reserve
            for performer in [each for each in self._staying() if not each.jobs][: max(0, surplus)]:
                self._retire(performer)
        else:
            self._capacity = jobs
            for performer in self._performers.values():
                performer.capacity = jobs

    def _staying(self) -> list[PerformerLink]:
        return [performer for performer in self._performers.values() if not performer.retiring]

    # -- Performers come ----------------------------------------------------------------------------------

    def _fill(self, now: float) -> float | None:
        """Have as many performers as there should be; answer when to try again."""
        if self._closing or not self._zygote.ready or not self._tasks:
            return None
        missing = self._wanted + self._reserve - len(self._staying())
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
        performer = PerformerLink(self._zygote.new_number(self), self._capacity)
        performer.tell(wire.HOW.pack(self.kind[0].encode(), self._capacity))
        if not self._zygote.order(wire.SPAWN, performer.number, performer.theirs):
            self._zygote.forget(performer.number)
            performer.not_forked()
            return False
        performer.forked(self._selector, _bind(self._said, performer), _bind(self._hung_up, performer))
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
            self._ended(performer, *message[1:])
        elif message[0] == wire.HELLO:
            # Only now: one that dies before it can perform must not take a job along.
            performer.ready = True
            self._reports.ready()
        elif message[0] == wire.CLAIMING:
            performer.claiming.add(message[1])
        elif message[0] == wire.CLAIMED:
            claimed = [wire.read_job(sent)[0] for sent in message[2]]
            performer.claiming.discard(message[1])
            performer.others.setdefault(message[1], []).extend(claimed)
            self._reports.claimed(claimed)

    def _ended(
        self,
        performer: PerformerLink,
        attempt: wire.Attempt,
        outcomes: Sequence[Any],
        seconds: float,
        given_up: bool,
    ) -> None:
        job = performer.jobs.pop(attempt, None)
        if job is None:
            raise RuntimeError(f"performer {performer.pid} ended attempt {attempt}, which it did not have")
        performer.since = time.monotonic()
        performer.claiming.discard(attempt)
        self._crashes = 0
        over = [job, *performer.others.pop(attempt, ())]
        self._reports.ended(over, wire.read_outcomes(outcomes), seconds)
        if given_up:
            # Its code goes on all the same, in a thread that nobody can end: the process goes when it can.
            performer.retiring = True
        if not performer.jobs and (performer.retiring or self._closing):
            self._retire(performer)

    def _retire(self, performer: PerformerLink) -> None:
        performer.retiring = True
        performer.close()
        if performer.orphan:
            self._performers.pop(performer.number, None)
        else:
            performer.kill_at = time.monotonic() + CLOSE_TIMEOUT

    # -- Performers go ------------------------------------------------------------------------------------

    def _hung_up(self, performer: PerformerLink) -> None:
        """Its socket is closed: it has ended, or its job has closed what it should not have."""
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
        if pid:
            self._reports.reaped(pid, exit_code, signal_number)
        # What it had not begun is no job's fault.
        self._reports.unstarted(performer.take_back())
        performer.close()
        if not pid:
            self._reports.unstarted(performer.jobs.values())  # it was never forked
            performer.jobs.clear()
        begun = len(performer.jobs)
        for job in [*performer.jobs.values(), *(job for some in performer.others.values() for job in some)]:
            message = _message(performer, exit_code, signal_number)
            self._reports.terminated(job, message, exit_code if exit_code > 0 else None)
        if not begun and not performer.retiring and not self._closing:
            self._crashed(performer, exit_code, signal_number)

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

    def zygote_ready(self, tasks: Mapping[str, TaskInfo]) -> None:
        """The application is imported, perhaps anew: performers can be forked."""
        self._tasks = {name: info for name, info in tasks.items() if info.kind == self.kind}
        for performer in list(self._performers.values()):
            # Forked from the application as it was before.
            performer.retiring = True
            self._reports.unstarted(performer.take_back())
            if not performer.jobs:
                self._retire(performer)
        self._fill(time.monotonic())
        self._reports.ready()

    def zygote_lost(self) -> None:
        """The zygote has died: its performers finish what they have in hand, and are replaced."""
        for performer in list(self._performers.values()):
            performer.retiring = performer.orphan = True
            performer.kill_at = None
            if not performer.channel.open:
                _kill_group(performer.pid)
                self.exited(performer.number, performer.pid or 0, wire.UNKNOWN, 0)
            elif not performer.jobs:
                self._retire(performer)


def _message(performer: PerformerLink, exit_code: int, signal_number: int) -> str:
    if performer.timed_out is not None and signal_number == signal.SIGKILL:
        return f"Job timed out after {performer.timed_out:g} s"
    code = "unknown" if exit_code == wire.UNKNOWN else exit_code
    return f"Job terminated unexpectedly (exit code: {code}, signal: {signal_number})"


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
