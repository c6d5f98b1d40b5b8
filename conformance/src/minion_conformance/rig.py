"""What a check works with: a fresh store, a clock, a record of its calls, words for what it expects."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, ExitStack, suppress
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar, cast

from minion_conformance.check import NotRun, Violation
from minion_conformance.clock import Clock, RealClock
from minion_conformance.history import History, Recorded, shown
from minion_core.backend import Backend
from minion_core.records import (
    Capabilities,
    ClaimedJob,
    DequeueOptions,
    JobFilter,
    JobRecord,
    NewJob,
    Outcome,
)

if TYPE_CHECKING:
    from minion_conformance.crew import Crew

T = TypeVar("T")

PATIENCE = 30.0
"""Seconds after which a thread that should have come back long ago is given up."""


class Rig:
    """One check's own store and tools. Made anew for each check, closed behind it."""

    def __init__(
        self,
        url: str,
        backend: type[Backend],
        hooks: object,
        crew: Callable[[], Crew],
        *,
        quick: bool,
        seed: int,
    ) -> None:
        """Prepare; the store is opened and emptied at first use.

        Args:
            url: Where the store is.
            backend: Its class.
            hooks: What its author offers besides.
            crew: Answers the processes that races and faults are run in.
            quick: Whether to do with fewer rounds.
            seed: What random choices are made from.
        """
        self.url = url
        self.backend_class = backend
        self.hooks = hooks
        self.quick = quick
        self.seed = seed
        self.facts: dict[str, int | float | str] = {}
        self.clock = Clock()
        self.history = History(self.clock)
        self._crew = crew
        self._closing = ExitStack()
        self._clients = 0

    def close(self) -> None:
        """Leave the store empty, and close all clients."""
        if "backend" in self.__dict__:
            with suppress(Exception):  # the check may have closed it, or worse
                cast("Recorded", self.backend).unrecorded.reset(all=True)
        self._closing.close()

    # -- Clients ------------------------------------------------------------------------------------------

    @cached_property
    def backend(self) -> Backend:
        """The first client; the store is empty when it is first asked for."""
        made = self.client()
        cast("Recorded", made).unrecorded.reset(all=True)
        return made

    def client(self, *, url: str | None = None, real: bool = False) -> Backend:
        """Open one more client of the store, with the check's clock or with none (``real``)."""
        clock = None if real or isinstance(self.clock, RealClock) else self.clock
        made = self.backend_class(url or self.url, clock=clock)
        made.open()
        self._closing.callback(made.close)
        self._clients += 1
        name = "backend" if self._clients == 1 else f"client{self._clients}"
        return cast("Backend", Recorded(made, name, self.history))

    def use_real_time(self) -> None:
        """Let the store tell the time by itself; to be called before anything else."""
        self.clock = RealClock()
        self.history = History(self.clock)

    def enter(self, manager: AbstractContextManager[T]) -> T:
        """Enter a context that lasts as long as the check."""
        return self._closing.enter_context(manager)

    @property
    def capabilities(self) -> Capabilities:
        """What the backend declares."""
        return self.backend_class.capabilities

    @property
    def resolution(self) -> float:
        """The smallest step of time that the store can tell."""
        return self.capabilities.time_resolution

    @property
    def crew(self) -> Crew:
        """Processes that open the same URL."""
        return self._crew()

    def rounds(self, whole: int) -> int:
        """Answer how often to do what chance decides: so often, or a sixth of it when in a hurry."""
        return max(1, whole // 6) if self.quick else whole

    def hook(self, name: str) -> Any:
        """Answer what only the author of the backend can do.

        Raises:
            NotRun: The author offers no such thing.
        """
        if not hasattr(self.hooks, name):
            raise NotRun(
                f"it needs the hook {name!r}, which nobody offers for {self.backend_class.__name__}: "
                f"see 'Hooks' in docs/writing-a-backend.md"
            )
        return getattr(self.hooks, name)

    # -- Verbs --------------------------------------------------------------------------------------------

    @cached_property
    def worker(self) -> int:
        """The id of a registered worker."""
        return self.backend.register_worker(None, "conformance", 1, {})

    def enqueue(self, task: str = "t", **fields: Any) -> int:
        """Enqueue one job and answer its id."""
        return self.backend.enqueue([NewJob(task, **fields)])[0].id

    def claim(self, limit: int = 1, *, worker: int | None = None, **options: Any) -> list[ClaimedJob]:
        """Claim jobs of the task ``t``, or as the options say."""
        wanted = DequeueOptions(**{"tasks": ("t",), "limit": limit, **options})
        return self.backend.dequeue(self.worker if worker is None else worker, wanted)

    def claimed(self, limit: int = 10, **options: Any) -> list[int]:
        """Claim jobs and answer their ids."""
        return [job.id for job in self.claim(limit, **options)]

    def claim_one(self, id: int | None = None, **options: Any) -> ClaimedJob:
        """Claim one job that must be claimable."""
        found = self.claim(id=id, **options)
        self.true("a claimable job is claimed", bool(found), f"job {id or ''} was not")
        return found[0]

    def active(self, task: str = "t", **fields: Any) -> ClaimedJob:
        """Enqueue a job and claim it."""
        id = self.enqueue(task, **fields)
        return self.claim_one(id, tasks=(task,), queues=(fields.get("queue", "default"),))

    def settle(self, *outcomes: Outcome) -> list[bool]:
        """Settle, and answer for each outcome whether it applied."""
        return [settled.applied for settled in self.backend.settle(outcomes)]

    def end(self, outcome: Outcome) -> None:
        """Settle an attempt that is there to be settled."""
        self.equal("an outcome of an active attempt applies", self.settle(outcome), [True])

    def listed(self, **options: Any) -> list[JobRecord]:
        """List the jobs that match, newest first."""
        return self.backend.list_jobs(0, 1000, JobFilter(**options)).items

    def find(self, id: int) -> JobRecord | None:
        """Answer a job as it is listed, if it is."""
        found = self.listed(ids=[id])
        return found[0] if found else None

    def job(self, id: int) -> JobRecord:
        """Answer a job that must be listed."""
        found = self.find(id)
        if found is None:
            raise Violation(f"a job that was enqueued is listed: job {id} is not")
        return found

    # -- Words --------------------------------------------------------------------------------------------

    def equal(self, rule: str, got: object, want: object) -> None:
        """Say that a rule holds if the one value is the other."""
        if got != want:
            raise Violation(f"{rule}: expected {shown(want)}, got {shown(got)}")

    def true(self, rule: str, holds: object, otherwise: str = "it does not hold") -> None:
        """Say that a rule holds if a condition does."""
        if not holds:
            raise Violation(f"{rule}: {otherwise}")

    def near(self, rule: str, got: datetime | None, want: datetime) -> None:
        """Say that a rule holds if an instant is another one, as exactly as the store can tell."""
        if got is None or abs((got - want).total_seconds()) > self.resolution:
            raise Violation(f"{rule}: expected {shown(want)}, got {shown(got)}")

    def refused(self, rule: str, errors: type[Exception] | tuple[type[Exception], ...], do: Any) -> Exception:
        """Say that a rule holds if a call raises one of these errors, and answer the error."""
        try:
            answer = do()
        except errors as error:
            return error
        except Exception as error:
            raise Violation(f"{rule}: it raised {type(error).__name__}: {error}") from error
        raise Violation(f"{rule}: nothing was raised, the answer was {shown(answer)}")

    # -- Threads ------------------------------------------------------------------------------------------

    def together(self, calls: Sequence[Callable[[], T]]) -> list[T]:
        """Make calls at the same moment, each in a thread of its own, and answer their answers in order."""
        barrier = threading.Barrier(len(calls))
        answers: dict[int, T] = {}
        errors: list[BaseException] = []

        def run(number: int, do: Callable[[], T]) -> None:
            try:
                barrier.wait(PATIENCE)
                answers[number] = do()
            except BaseException as error:  # noqa: BLE001, it is raised again in the check's own thread
                errors.append(error)

        threads = [
            threading.Thread(target=run, args=(number, do), daemon=True) for number, do in enumerate(calls)
        ]
        for thread in threads:
            thread.start()
        join(threads)
        if errors:
            raise errors[0]
        return [answers[number] for number in range(len(calls))]


def join(threads: Iterable[threading.Thread]) -> None:
    """Wait for threads to end.

    Raises:
        Violation: One of them did not.
    """
    for thread in threads:
        thread.join(PATIENCE)
        if thread.is_alive():
            raise Violation(f"every call comes back: one did not within {PATIENCE:g} s")
