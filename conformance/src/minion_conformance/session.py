"""One store under test: finds its class, keeps its results, and runs checks in the order of their needs."""

from __future__ import annotations

import fcntl
import hashlib
import os
import signal
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from enum import StrEnum
from importlib import import_module
from pathlib import Path
from typing import IO, Any, Self, TypeAlias

import pytest
from attrs import field, frozen
from importlib_metadata import entry_points

from minion_conformance.check import Check, Inconclusive, NotRun, Violation, all_checks
from minion_conformance.clauses import Clause, contract
from minion_conformance.crew import Crew
from minion_conformance.rig import Rig
from minion_core.backend import Backend
from minion_core.errors import MinionError
from minion_core.plugins import backend_class, safe_url, scheme_of
from minion_core.records import JobFilter

Source: TypeAlias = str | Callable[[], AbstractContextManager[str]]
"""A URL, or what makes a store and unmakes it: a function that answers a context manager over a URL."""

HOOKS = "minion.conformance"
"""Entry points of this group, named as the scheme, are classes of hooks."""

CHECK_LASTS = 120
"""Seconds after which a check that has not come back is broken off."""


class Status(StrEnum):
    """What became of a check, or of a clause."""

    PASS = "pass"  # noqa: S105, no password
    FAIL = "fail"
    BLOCKED = "blocked"
    NOT_RUN = "not-run"
    NOT_ASKED = "not-asked"


@frozen
class Waiver:
    """A clause that a backend is known not to keep: why, and up to which version of the suite it may not."""

    clause: str
    reason: str
    until: str


@frozen
class Target:
    """A store to be tested, as its author describes it."""

    source: Source
    backend: type[Backend] | None = None
    hooks: object = None
    waivers: tuple[Waiver, ...] = ()
    erase: bool = False


class NotEmpty(MinionError):
    """The store holds something, and nobody said that it may be erased."""


@frozen
class Result:
    """What became of one check."""

    check: str
    clause: str
    status: Status
    message: str = ""
    detail: str = field(default="", repr=False)
    seconds: float = 0.0
    facts: dict[str, int | float | str] = field(factory=dict)


class Session:
    """Runs checks against one store."""

    def __init__(self, target: Target, *, quick: bool = False, seed: int = 0) -> None:
        """Take a target; nothing is opened yet.

        Args:
            target: The store.
            quick: Whether to do with fewer rounds where chance decides.
            seed: What random choices are made from; 0 is the one for verdicts.
        """
        self.target = target
        self.quick = quick
        self.seed = seed
        self.results: dict[str, Result] = {}
        self._closing = ExitStack()
        self._crew: Crew | None = None
        self.url = ""
        self.store = ""

    def __enter__(self) -> Self:
        source = self.target.source
        self.url = source if isinstance(source, str) else self._closing.enter_context(source())
        self.backend = self.target.backend or backend_class(self.url)
        self.hooks = self.target.hooks or find_hooks(self.url)
        with self._alone():
            self._look()
        return self

    def _look(self) -> None:
        """See what is there, before anything is erased."""
        held = 0
        try:
            with self.backend(self.url) as client:
                self.store = client.describe()
                stats = client.stats()
                held = stats.schedules + stats.workers + len(client.list_jobs(0, 1, JobFilter()).items)
        except MinionError:
            raise
        except Exception as error:  # noqa: BLE001, the checks will say what is wrong with it
            self.store = self.store or f"it cannot say: {type(error).__name__}: {error}"
        if held and isinstance(self.target.source, str) and not self.target.erase:
            raise NotEmpty(
                f"{safe_url(self.url)} is not empty, and this suite erases all that is in it: "
                f"name an empty store, or allow it (--erase, suite(..., erase=True))"
            )

    def __exit__(self, *_exception: object) -> None:
        self._closing.close()
        if not isinstance(self.target.source, str):
            self._lock_file().unlink(missing_ok=True)

    @property
    def server(self) -> bool | None:
        """Whether a server stands between the store and its clients; ``None`` if its author does not say."""
        return getattr(self.hooks, "server", None)

    def asked(self, clause: Clause, capability: str | None = None) -> bool | None:
        """Tell whether a clause, or a check of it, is asked here; ``None`` if that is not known."""
        name = capability or clause.capability or clause.without
        if name is None:
            return True
        declared = self.server if name == "server" else getattr(self.backend.capabilities, name, None)
        return None if declared is None else declared is (bool(capability) or clause.without is None)

    def run(self, check: Check) -> Result:
        """Run a check, after those that it needs, once."""
        if check.id not in self.results:
            self.results[check.id] = self._judge(check)
        return self.results[check.id]

    def _judge(self, check: Check) -> Result:
        clause = contract().clauses[check.clause]
        asked = self.asked(clause, check.capability)
        if asked is False:
            level = f"with {check.capability}" if check.capability else clause.level
            return Result(check.id, clause.id, Status.NOT_ASKED, f"asked only of a backend {level}")
        if asked is None:
            why = f"nobody says whether the store has '{clause.capability or clause.without}'"
            return Result(check.id, clause.id, Status.NOT_RUN, why)
        broken = [need for need in clause.needs if not self._holds(need)]
        if broken:
            why = f"it cannot be judged before {', '.join(broken)} holds"
            return Result(check.id, clause.id, Status.BLOCKED, why)
        with self._alone():
            result = self._run_now(check, clause)
        if result.status != Status.PASS and self._crew is not None:
            self._crew.dismiss()  # its processes may be in the middle of something
        return result

    def _holds(self, clause: str) -> bool:
        checks = [check for check in all_checks().values() if check.clause == clause]
        return all(self.run(check).status in (Status.PASS, Status.NOT_ASKED) for check in checks)

    def _run_now(self, check: Check, clause: Clause, tries: int = 4) -> Result:
        rig = Rig(self.url, self.backend, self.hooks, self._find_crew, quick=self.quick, seed=self.seed)
        began = time.perf_counter()

        def result(status: Status, message: str = "", detail: str = "") -> Result:
            lasted = round(time.perf_counter() - began, 4)
            return Result(check.id, clause.id, status, message, detail, lasted, dict(rig.facts))

        try:
            with _deadline():
                try:
                    check.run(rig)
                finally:
                    rig.close()
        except NotRun as reason:
            if isinstance(reason, Inconclusive) and tries > 1:
                return self._run_now(check, clause, tries - 1)
            return result(Status.NOT_RUN, str(reason))
        except Violation as violation:
            return result(Status.FAIL, str(violation), self._told(check, clause, rig, str(violation)))
        except (KeyboardInterrupt, SystemExit):
            raise
        except pytest.skip.Exception as error:
            message = f"nothing is skipped inside the suite, but somebody skipped: {error}"
            return result(Status.FAIL, message, self._told(check, clause, rig, message))
        except BaseException as error:  # noqa: BLE001, whatever a backend raises is a result
            message = f"no call of this check raises: {type(error).__name__}: {error}"
            trace = traceback.format_exc(limit=-6)
            return result(Status.FAIL, message, self._told(check, clause, rig, message) + f"\n\n{trace}")
        return result(Status.PASS)

    def _told(self, check: Check, clause: Clause, rig: Rig, message: str) -> str:
        return (
            f"{clause.id} is broken: {message}\n\n"
            f"The clause ({clause.level}, {clause.area}):\n  {clause.text}\n\n"
            f"What was done, to be done again:\n"
            f"  from minion_conformance.replay import *\n"
            f"  backend, clock = replay({safe_url(self.url)!r})\n"
            + "".join(f"  {line}\n" for line in rig.history.told().splitlines())
            + f"\nThe check alone:  minion-conformance run {safe_url(self.url)} --only {check.id}"
        )

    def _find_crew(self) -> Crew:
        if self._crew is None:
            self._crew = self._closing.enter_context(Crew(self.backend, self.url))
        return self._crew

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Keep others (workers of pytest-xdist, or a second run) off the store while a check uses it."""
        path = self._lock_file()
        while True:
            with path.open("a") as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                if not _is_still(path, file):
                    continue  # whoever held it has removed it
                try:
                    yield
                finally:
                    path.unlink(missing_ok=True)
                return

    def _lock_file(self) -> Path:
        name = hashlib.sha256(self.url.encode()).hexdigest()[:24]
        return Path(tempfile.gettempdir(), f"minion-conformance-{name}.lock")


def _is_still(path: Path, file: IO[str]) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False


def find_hooks(url: str) -> object:
    """Find the hooks that a backend's package offers for a scheme; ``None`` if it offers none."""
    for point in entry_points(group=HOOKS, name=scheme_of(url)):
        made: Any = point.load()
        return made()
    return None


def load_object(path: str) -> Any:
    """Import ``module:name``."""
    module, _, name = path.partition(":")
    return getattr(import_module(module), name)


@contextmanager
def _deadline() -> Iterator[None]:
    def too_late(*_: object) -> None:
        raise TimeoutError(f"the check did not come back within {CHECK_LASTS} s")

    try:
        before = signal.signal(signal.SIGALRM, too_late)
    except ValueError:  # not in the main thread: nobody to interrupt
        yield
        return
    signal.setitimer(signal.ITIMER_REAL, CHECK_LASTS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
