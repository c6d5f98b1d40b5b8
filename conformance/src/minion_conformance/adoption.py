"""The one line: ``TestConformance = suite("redis://localhost/15")``."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from typing import Any

import pytest

from minion_conformance.check import Check, Sealed, all_checks
from minion_conformance.session import Source, Status, Target, Waiver
from minion_core.backend import Backend

PROPERTY = "minion_conformance"
"""The name under which a test's report carries its result."""


class _Seal(type):
    """Keeps a class as it was made: no subclass, no override, no mark."""

    def __new__(cls, name: str, bases: tuple[type, ...], namespace: dict[str, Any]) -> _Seal:
        if bases:
            raise Sealed(
                f"{bases[0].__name__} is sealed: what a backend does not keep, waive by name and reason"
            )
        return super().__new__(cls, name, bases, namespace)

    def __setattr__(cls, name: str, value: object) -> None:
        raise Sealed(
            f"{cls.__name__} is sealed: {name} cannot be set; see Waiver in docs/writing-a-backend.md"
        )

    def __delattr__(cls, name: str) -> None:
        raise Sealed(f"{cls.__name__} is sealed: {name} cannot be deleted")


def suite(
    source: Source,
    *,
    backend: type[Backend] | None = None,
    hooks: object = None,
    waivers: Iterable[Waiver] = (),
    erase: bool = False,
) -> type:
    """Make the class of tests that proves a backend.

    Args:
        source: The URL of an empty store, which is erased again and again; or a function that answers a
            context manager over such a URL, for databases that must be made and dropped.
        backend: The backend's class, if its entry point is not installed.
        hooks: What only its author can do; by default those that its package names in an entry point.
        waivers: Clauses that it is known not to keep.
        erase: Whether the store may hold something that can be erased.
    """
    target = Target(source, backend, hooks, tuple(waivers), erase)
    namespace: dict[str, Any] = {
        "__module__": sys._getframe(1).f_globals.get("__name__", __name__),  # noqa: SLF001, as namedtuple does
        "__doc__": "Every clause of the contract; see minion-conformance.",
        "conformance_target": target,
    }
    for check in all_checks().values():
        namespace[check.method] = _method(check, target)
    return _Seal("TestConformance", (), namespace)


def _method(check: Check, target: Target) -> Callable[[object, pytest.FixtureRequest], None]:
    def test(_self: object, request: pytest.FixtureRequest) -> None:
        from minion_conformance.plugin import sessions_of  # noqa: PLC0415, pytest imports that one itself

        session, entry = sessions_of(request.config).run(target, check)
        request.node.user_properties.append((PROPERTY, entry))
        result = session.results[check.id]
        if result.status not in (Status.PASS, Status.NOT_ASKED):
            told = result.detail or f"{check.clause} is {result.status.upper()}: {result.message}"
            pytest.fail(told, pytrace=False)

    test.__name__ = check.method
    test.__qualname__ = f"TestConformance.{check.method}"
    test.__doc__ = f"{check.clause}: {check.name.replace('_', ' ')}."
    return test
