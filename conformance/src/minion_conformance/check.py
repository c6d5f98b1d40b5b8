"""A check: one function that tries one clause, and says in words what it found broken."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from attrs import frozen

from minion_conformance.clauses import contract

if TYPE_CHECKING:
    from minion_conformance.rig import Rig


class Violation(AssertionError):
    """A clause is broken; the message is the rule that does not hold, and how it was seen."""


class NotRun(Exception):
    """A check could not be run for want of something that only the author can give."""


class Inconclusive(NotRun):
    """Chance did not bring about what was to be tried; it may when tried again."""


class Sealed(TypeError):
    """Somebody tried to change the suite instead of the store."""


@frozen
class Check:
    """One function that tries one clause."""

    clause: str
    name: str
    run: Callable[[Rig], None]
    capability: str | None = None

    @property
    def id(self) -> str:
        """Its name in reports and on command lines."""
        return f"{self.clause}:{self.name}"

    @property
    def method(self) -> str:
        """Its name as a test."""
        return f"test_{self.clause.replace('-', '_')}__{self.name}"


_checks: dict[str, Check] = {}


def check(
    clause: str, capability: str | None = None
) -> Callable[[Callable[[Rig], None]], Callable[[Rig], None]]:
    """Register a function as a check of a clause.

    Args:
        clause: The id of the clause.
        capability: Run it only on a backend that declares this, whomever the clause is asked of.

    Raises:
        ValueError: There is no such clause, or it has a check of that name.
    """
    if clause not in contract().clauses:
        raise ValueError(f"there is no clause {clause}: add it to contract.toml first")

    def register(function: Callable[[Rig], None]) -> Callable[[Rig], None]:
        made = Check(clause, function.__name__, function, capability)
        if made.id in _checks:
            raise ValueError(f"{clause} has a check called {function.__name__} already")
        _checks[made.id] = made
        return function

    return register


def all_checks() -> dict[str, Check]:
    """Answer all checks by id, in the order of the contract."""
    import minion_conformance.checks  # noqa: F401, PLC0415, importing the area files registers their checks

    order = list(contract().clauses)
    return dict(sorted(_checks.items(), key=lambda entry: order.index(entry[1].clause)))
