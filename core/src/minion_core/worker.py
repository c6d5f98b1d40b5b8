"""A worker: claims jobs, has them performed, settles what came of them, until it is told to stop.

One main loop does all that matters in one thread: it reads what the performers say, settles their outcomes
in one batch, claims as many jobs as there is room for in another, and sleeps until something happens. While
it settles, further outcomes gather: under load batches grow by themselves, and an idle worker answers at
once. What it claims is decided at the desk (``desk.py``), executors perform (``executors/``), and threads
beside it wait for jobs (``waiting.py``), send heartbeats, dispatch schedules and repair (``chores.py``).
"""

from __future__ import annotations

import logging
import os
import selectors
import signal
import socket
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from importlib.metadata import version
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from minion_core import values
from minion_core.application import locate_app
from minion_core.chores import Chore, Chores
from minion_core.commands import COMMANDS
from minion_core.desk import Claim, Desk
from minion_core.errors import BackendError
from minion_core.executors import KINDS
from minion_core.executors.crew import Crew
from minion_core.health import Health
from minion_core.ledger import Ledger
from minion_core.outage import Outage
from minion_core.plugins import load_plugin
from minion_core.records import ClaimedJob, Failed, Outcome
from minion_core.waiting import Waiter
from minion_core.wakeup import Wakeup

if TYPE_CHECKING:
    from minion_core.minion import Minion
    from minion_core.values import Seconds

logger = logging.getLogger(__name__)

GATHER = 0.005
"""For so long, in seconds, outcomes wait for others while performers have enough to do."""

GATHER_MOST = 256

LAST_SETTLE = 30.0
"""How long, in seconds, a worker that is told to stop tries to reach a store that is gone."""


class Worker:
    """A worker for one queue.

    Attributes:
        minion: The queue.
        id: Its id while it runs, ``None`` otherwise.
        jobs: How many jobs it performs at a time.
        queues: The queues that it looks in.
        performed: How many jobs it has performed.
        failed: How many of those attempts have failed.
    """

    def __init__(
        self,
        minion: Minion,
        *,
        jobs: int = 4,
        spare: int = 1,
        spare_min_priority: int = 1,
        queues: Sequence[str] = ("default",),
        tasks: Sequence[str] | None = None,
        min_priority: int | None = None,
        app: str | None = None,
        executor: str = "process",
        threads: int | None = None,
        async_jobs: int | None = None,
        limits: Mapping[str, int] | None = None,
        recycle: int = 1000,
        heartbeat_interval: Seconds | None = None,
        command_interval: Seconds = 10,
        dispatch_interval: Seconds = 10,
        repair_interval: Seconds = 21_600,
        dequeue_timeout: Seconds = 5,
        grace: Seconds | None = None,
        reload: bool = False,
        plugins: Sequence[str] = (),
        health_file: str | Path | None = None,
    ) -> None:
        """Start nothing yet.

        Args:
            minion: The queue.
            jobs: How many jobs to perform at a time, by all executors together.
            spare: How many more of high priority, when all those places are taken.
            spare_min_priority: The priority that the spare places are for.
            queues: The queues to look in.
            tasks: Only jobs of these tasks; by default of all that are registered.
            min_priority: Only jobs of at least this priority.
            app: The application that performers import, as ``module:attribute``; by default the module that
                made ``minion``, if it is an attribute there.
            executor: Who performs the jobs of tasks that don't say: ``process``, ``thread``, ``asyncio``; or
                ``inline`` for tests, where all are performed one at a time in this very process.
            threads: How many jobs the executor ``thread`` performs at a time; by default up to ``jobs``.
            async_jobs: How many jobs the executor ``asyncio`` performs at a time; by default up to ``jobs``.
            limits: How many jobs of a task at a time, by the task's name; above what tasks themselves say.
            recycle: After how many jobs a process is replaced; 1 is a fresh process for each job.
            heartbeat_interval: Seconds between heartbeats; by default 300, or less if ``missing_after`` is
                small.
            command_interval: Seconds between looks for remote commands.
            dispatch_interval: Seconds between looks for schedules that are due.
            repair_interval: Seconds between repairs, at the longest; some are shorter, at random.
            dequeue_timeout: After so many seconds without a job it looks once more, whatever woke it.
            grace: How many seconds running jobs have when it is told to stop, until they are ended;
                ``None`` is as long as they take.
            reload: Import the application anew when its code changes, for development.
            plugins: Plugins beside those that are installed, by the name of a module, or
                ``module:object``; the performers have them, too.
            health_file: A file to write every few seconds while the main loop is alive (``health.py``).

        Raises:
            TypeError: An option is of the wrong type.
            ValueError: An option is out of bounds.
        """
        self.minion = minion
        self.id: int | None = None
        self.jobs = values.check_integer(jobs, "jobs", 1)
        self.queues = tuple(values.check_name(name, "a queue's name") for name in queues)
        self.performed = 0
        self.failed = 0
        self.spare = values.check_integer(spare, "spare", 0)
        self.spare_min_priority = values.check_integer(spare_min_priority, "spare_min_priority")
        if executor not in KINDS:
            raise ValueError(f"executor must be one of {', '.join(KINDS)}, not {executor!r}")
        self.executor = executor
        self.grace = values.positive_seconds(grace, "grace")
        self._reload = reload
        self._plugins = tuple(plugins)
        for name in self._plugins:
            minion.plugins.register(load_plugin(name))
        self._health = Health(None if health_file is None else Path(health_file))
        self._threads = threads if threads is None else values.check_integer(threads, "threads", 1)
        self._async_jobs = (
            async_jobs if async_jobs is None else values.check_integer(async_jobs, "async_jobs", 1)
        )
        self._limits = {
            values.check_name(name, "a task's name"): values.check_integer(limit, f"the limit of {name}", 0)
            for name, limit in (limits or {}).items()
        }
        self._only_tasks = None if tasks is None else tuple(tasks)
        self._min_priority = min_priority
        self._app = app
        self._recycle = values.check_integer(recycle, "recycle", 1)
        usual = max(0.05, min(300.0, minion.missing_after / 6))
        self._intervals = {
            "heartbeat_interval": _interval(usual if heartbeat_interval is None else heartbeat_interval),
            "command_interval": _interval(command_interval),
            "dispatch_interval": _interval(dispatch_interval),
            "repair_interval": _interval(repair_interval),
            "dequeue_timeout": _interval(dequeue_timeout),
        }
        self._commands: dict[str, Callable[..., None]] = dict(COMMANDS)
        self._wakeup = Wakeup()
        self._outage = Outage(logger, "The store")
        self._look = False
        self._stops = 0
        self._stopping = False
        self._give_up_at: float | None = None
        self._kill_at: float | None = None
        self._idle = False
        self._status_changed = False
        self._warned = False
        self._gathering: float | None = None
        self._ledger: Ledger
        self._crew: Crew
        self._selector: selectors.BaseSelector
        self._waiter: Waiter

    def __repr__(self) -> str:
        return f"<Worker {self.id} of {self.minion!r}>"

    # -- Running ------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Work until told to stop by SIGINT, SIGTERM, SIGQUIT or ``stop``.

        The first INT or TERM stops claiming, gives back what was not begun, and lets running jobs end; a
        second one, or QUIT, ends them now. Signals are heeded if this is the main thread.

        Raises:
            ApplicationError: The application cannot be imported.
            BackendError: The store could not be reached at the start; later the worker waits for it.
        """
        backend = self.minion.backend
        app = "" if self.executor == "inline" else self._app or locate_app(self.minion)
        self._stops, self._stopping, self._look, self._idle = 0, False, True, False
        self._give_up_at = self._kill_at = None
        self.id = backend.register_worker(None, socket.gethostname(), os.getpid(), {"type": "Python"})
        self._ledger = Ledger(self.minion, self.id, self._outage)
        self._crew = self._make_crew(app, self.id)
        self._waiter = Waiter(self.minion, self._woken, self._intervals["dequeue_timeout"])
        chores: list[Chores] = []
        with (
            selectors.DefaultSelector() as self._selector,
            self._wakeup.listening(self._selector, self._on_signal),
        ):
            try:
                self._crew.start(self._selector, self)
                self._beat()
                for thread in self._chores():
                    thread.start()
                    chores.append(thread)
                logger.info(
                    "Worker %d started (pid %d): %d jobs at a time, queues %s",
                    self.id,
                    os.getpid(),
                    self.jobs,
                    ", ".join(self.queues),
                )
                self.minion.plugins.notify("minion_worker_started", worker=self)
                self._health.started()
                self._loop()
            finally:
                self._end(chores)

    @property
    def running(self) -> int:
        """How many jobs are being performed."""
        return self._crew.running()

    def stop(self, *, now: bool = False) -> None:
        """Stop as SIGTERM does, or with ``now`` as SIGQUIT does. May be called from any thread."""
        self._wakeup.post(lambda: self._told_to_stop(now=now))

    def _make_crew(self, app: str, id: int) -> Crew:
        return Crew(
            self.minion,
            app,
            id,
            executor=self.executor,
            jobs=self.jobs,
            spare=self.spare,
            threads=self._threads,
            async_jobs=self._async_jobs,
            recycle=self._recycle,
            reload=self._reload,
            plugins=self._plugins,
            desk=partial(
                Desk,
                jobs=self.jobs,
                spare=self.spare,
                spare_min_priority=self.spare_min_priority,
                queues=self.queues,
                tasks=self._only_tasks,
                min_priority=self._min_priority,
                limits=self._limits,
            ),
        )

    def _loop(self) -> None:
        while True:
            if self._kill_at is not None and time.monotonic() >= self._kill_at:
                self._kill_at = None
                logger.warning("Stopping: %d jobs outlived their grace and are ended", self._crew.busy())
                self._crew.kill()
            if not self._gather() and self._ledger.settle():
                self._look = True  # there may be room, and children that waited for these
            if self._stopping and not self._crew.busy() and (not self._ledger or self._gave_up()):
                return
            self._ledger.reconcile(self._hear_out)
            if not self._stopping:
                self._claim()
            for key, _ in self._selector.select(self._pause()):
                key.data()

    def _gather(self) -> bool:
        """Say whether outcomes are to wait for others: there is no hurry while performers have work."""
        if not self._ledger or self._stopping or not self._crew.desk.backed_up():
            self._gathering = None
            return False
        now = time.monotonic()
        if self._gathering is None:
            self._gathering = now + GATHER
        if now < self._gathering and len(self._ledger) < GATHER_MOST:
            return True
        self._gathering = None
        return False

    def _pause(self) -> float:
        """Answer for how long there is nothing to do, unless something happens."""
        now = time.monotonic()
        alive_at = self._health.beat(now, worker=self.id, running=self.running, performed=self.performed)
        due = [alive_at, self._give_up_at, self._kill_at, *self._crew.tick(now)]
        if self._ledger.reconcile_at is not None:
            due.append(max(self._ledger.reconcile_at, self._outage.retry_at))
        if self._outage.retry_at > now and (self._ledger or self._look):
            due.append(self._outage.retry_at)
        elif self._ledger:
            due.append(now if self._gathering is None else self._gathering)
        return max(0.0, min((moment for moment in due if moment is not None), default=now + 60.0) - now)

    def _gave_up(self) -> bool:
        if self._give_up_at is None:
            self._give_up_at = time.monotonic() + LAST_SETTLE
        if time.monotonic() < self._give_up_at:
            return False
        logger.error(
            "The store cannot be reached: %d outcomes are lost, repair will see to them", len(self._ledger)
        )
        return True

    def _end(self, chores: Iterable[Chores]) -> None:
        threads: list[Waiter | Chores] = [self._waiter, *chores]
        for thread in threads:
            thread.stop()
        self._crew.close()
        for thread in threads:
            thread.join(2.0)
        with suppress(BackendError):
            self._ledger.settle()
            if self.id is not None:
                self.minion.backend.unregister_worker(self.id)
        self._health.ended()
        logger.info("Worker %s stopped after %d jobs", self.id, self.performed)
        self.minion.plugins.notify("minion_worker_stopped", worker=self)
        self.id = None

    # -- Claiming -----------------------------------------------------------------------------------------

    def _claim(self) -> None:
        while self._look and time.monotonic() >= self._outage.retry_at:
            claim = self._crew.desk.next_claim()
            if claim is None:
                return
            claimed_at = time.monotonic()
            try:
                claimed = self.minion.backend.dequeue(self._id, claim.options)
            except BackendError as error:
                self._outage.failed(error)
                # Its commit may have been done, and its answer lost (WORK-05).
                self._ledger.reconcile_at = self._outage.retry_at
                return
            self._outage.worked()
            self._waiter.found(any=bool(claimed))
            self._look = len(claimed) == claim.options.limit
            if claimed:
                self._hand_out(claim, claimed, claimed_at)
            if not self._look:
                self._waiter.look_for(claim.options)
            self._tell_idle(idle=not claimed and not self._crew.busy())

    def _hand_out(self, claim: Claim, claimed: Sequence[ClaimedJob], claimed_at: float) -> None:
        self._ledger.claimed(claimed)
        self._tell_idle(idle=False)
        self.minion.plugins.notify("minion_claimed", worker=self, jobs=claimed)
        self._ledger.released(self._crew.desk.hand_out(claim, claimed, claimed_at))

    def _tell_idle(self, *, idle: bool) -> None:
        if idle != self._idle:
            self._idle = idle
            self.minion.plugins.notify("minion_worker_waiting" if idle else "minion_worker_busy", worker=self)

    # -- What executors tell ------------------------------------------------------------------------------

    def ended(self, jobs: Sequence[ClaimedJob], outcomes: Sequence[Outcome], seconds: float) -> None:
        """A job was performed in so many seconds, with those that it claimed besides."""
        self.performed += 1
        self.failed += bool(outcomes) and type(outcomes[0]) is Failed
        self._crew.desk.over(jobs[0], seconds)
        self._ledger.ended(jobs, outcomes)
        self._look = True

    def terminated(self, job: ClaimedJob, message: str, exit_status: int | None) -> None:
        """The process of a job ended before the job did; the attempt has failed."""
        self.performed += 1
        self.failed += 1
        self._crew.desk.over(job)
        self._ledger.failed(job, message, exit_status)

    def unstarted(self, jobs: Iterable[ClaimedJob]) -> None:
        """Jobs were not begun and will not be: they are given back."""
        if back := list(jobs):
            self._crew.desk.not_begun(back)
            self._ledger.released(back)

    def claimed(self, jobs: Iterable[ClaimedJob]) -> None:
        """A job being performed has claimed others (JOB-07)."""
        self._ledger.claimed(jobs)

    def ready(self) -> None:
        """There may be room for jobs where there was none."""
        self._look = True
        self._crew.desk.learn()
        if not self._warned and not self._crew.desk.tasks:
            self._warned = True
            logger.warning("The application has registered no task that this worker could perform")

    def spawned(self, pid: int) -> None:
        """A process that performs jobs was started."""
        self._status_changed = True
        self.minion.plugins.notify("minion_performer_spawned", worker=self, pid=pid)

    def reaped(self, pid: int, exit_code: int, signal: int) -> None:
        """A process that performed jobs has ended."""
        self.minion.plugins.notify(
            "minion_performer_reaped", worker=self, pid=pid, exit_code=exit_code, signal=signal
        )

    def _hear_out(self) -> bool:
        while ready := self._selector.select(0):
            for key, _ in ready:
                key.data()
        return self._crew.claiming()

    # -- Chores -------------------------------------------------------------------------------------------

    def _chores(self) -> list[Chores]:
        every = self._intervals
        return [
            Chores(
                "minion-heart",
                [
                    Chore("Heartbeat", every["heartbeat_interval"], self._beat),
                    Chore("Receiving commands", every["command_interval"], self._receive),
                ],
            ),
            # Apart from the heart: a repair of millions of rows may take longer than a heartbeat may.
            Chores(
                "minion-upkeep",
                [
                    Chore("Dispatching schedules", every["dispatch_interval"], self._dispatch, at_once=True),
                    Chore("Repair", every["repair_interval"], self._repair, spread=0.5, at_once=True),
                ],
            ),
        ]

    def _beat(self) -> None:
        self._status_changed = False
        self.minion.backend.register_worker(self._id, socket.gethostname(), os.getpid(), self.status())
        self._wakeup.post(self._check_claims)

    def _check_claims(self) -> None:
        self._ledger.reconcile_at = time.monotonic()

    def _receive(self) -> None:
        if self._status_changed:
            self._beat()
        for command, *args in self.minion.backend.receive(self._id):
            self._wakeup.post(partial(self._obey, command, args))

    def _dispatch(self) -> None:
        for run in self.minion.dispatch_schedules():
            logger.info("Schedule %s: enqueued job %d", run.name, run.job)

    def _repair(self) -> None:
        self.minion.repair()

    def status(self) -> dict[str, Any]:
        """Answer what the store keeps about this worker."""
        return {
            "type": "Python",
            "version": version("minion-core"),
            "jobs": self.jobs,
            "spare": self.spare,
            "spare_min_priority": self.spare_min_priority,
            "executor": self.executor,
            "queues": list(self.queues),
            "min_priority": self._min_priority,
            "limits": dict(self._crew.desk.limits),
            "performed": self.performed,
            "executors": self._crew.status(),
            **self._intervals,
        }

    # -- Remote commands ----------------------------------------------------------------------------------

    def add_command(self, name: str, obey: Callable[..., None]) -> None:
        """Add a remote command, or put one in the place of ours.

        Args:
            name: What ``broadcast`` calls it.
            obey: Called in the main loop with this worker and the arguments, which came from outside and are
                to be checked: ``ValueError`` and ``TypeError`` refuse them, in one line of the log.
        """
        self._commands[values.check_name(name, "the command")] = obey

    def _obey(self, command: str, args: Sequence[Any]) -> None:
        obey = self._commands.get(command)
        if obey is None:
            logger.warning("Unknown remote command: %s", command)
            return
        try:
            obey(self, *args)
        except (TypeError, ValueError) as error:
            logger.warning("Remote command %s refused: %s", command, error)
        except Exception:
            logger.exception("Remote command %s failed", command)
        else:
            logger.info("Remote command %s obeyed", command)

    def set_jobs(self, jobs: int) -> None:
        """Perform so many jobs at a time from now on, and none for 0, but for the fast lane's.

        Only for the main loop: a remote command.
        """
        self._resize(jobs, self.spare)

    def set_spare(self, spare: int) -> None:
        """Have so many places more for jobs of high priority. Only for the main loop: a remote command."""
        self._resize(self.jobs, spare)

    def _resize(self, jobs: int, spare: int) -> None:
        self.jobs, self.spare = jobs, spare
        self._crew.resize(jobs, spare)
        self._look = self._status_changed = True

    def signal_job(self, id: int, number: int) -> bool:
        """Send a signal to the process of a job that is being performed; ``False`` when there is none.

        Only for the main loop: a remote command.
        """
        return self._crew.signal(id, number)

    # -- Being woken, being told to stop ------------------------------------------------------------------

    @property
    def _id(self) -> int:
        if self.id is None:
            raise RuntimeError("the worker is not running")
        return self.id

    def _woken(self) -> None:
        self._wakeup.post(self._look_again)

    def _look_again(self) -> None:
        self._look = True

    def _told_to_stop(self, *, now: bool = False) -> None:
        if not self._stopping:
            self._stopping = True
            self._health.stopping()
            self._crew.give_back()
            running = self._crew.busy()
            if running and not now:
                logger.warning("Stopping: %d jobs are still running (once more to end them now)", running)
                self._kill_at = None if self.grace is None else time.monotonic() + self.grace
        if now:
            self._crew.kill()

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        self._stops += 1
        now = self._stops > 1 or number == signal.SIGQUIT
        if now:
            # At once, even while the main loop waits for a store that does not answer.
            self._crew.kill()
        self._wakeup.post(lambda: self._told_to_stop(now=now))


def _interval(value: Seconds) -> float:
    number = values.positive_seconds(value, "an interval")
    assert number is not None  # noqa: S101  # only None gives None
    return number
