"""Makes a wrong backend out of the reference: one line of its text replaced by another."""

from __future__ import annotations

import sys
from importlib.resources import files
from itertools import count
from types import ModuleType

from attrs import frozen

from minion_conformance.check import all_checks
from minion_conformance.reference import ReferenceHooks
from minion_conformance.session import Result, Session, Status, Target
from minion_core.backend import Backend

PACKAGE = "minion_conformance"
_numbers = count(1)


@frozen
class Mutant:
    """A change to the reference, the clause that must fail, and what it must say.

    Attributes:
        clause: The clause that this breaks.
        old: Text that stands once in the reference.
        new: What to put in its place.
        says: Part of the failure's message.
        also: Other texts to replace, so that the clause is asked for.
    """

    clause: str
    old: str
    new: str
    says: str
    also: tuple[tuple[str, str], ...] = ()


def _make_module(name: str, source: str) -> ModuleType:
    module = ModuleType(name)
    sys.modules[name] = module  # attrs looks there for the class's module
    exec(compile(source, name, "exec"), module.__dict__)
    return module


def wrong_backend(mutant: Mutant) -> type[Backend]:
    """Make the class of a mutant."""
    sources = {
        name: files(PACKAGE).joinpath(f"{name}.py").read_text(encoding="utf-8")
        for name in ("reference_store", "reference")
    }
    found = {name: source.count(mutant.old) for name, source in sources.items()}
    assert sum(found.values()) == 1, f"{mutant.old!r} stands {found} times in the reference"
    number = next(_numbers)
    store = f"{PACKAGE}.reference_store"
    if found["reference_store"]:
        store = f"mutant_store_{number}"
        _make_module(store, sources["reference_store"].replace(mutant.old, mutant.new))
    text = sources["reference"].replace(f"{PACKAGE}.reference_store", store)
    text = text.replace(mutant.old, mutant.new)
    for old, new in mutant.also:
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    made = _make_module(f"mutant_{number}", text)
    backend: type[Backend] = made.ReferenceBackend
    return backend


def run_clause(
    backend: type[Backend], clause: str, hooks: object = None, url: str = "reference:"
) -> list[Result]:
    """Run all checks of a clause against a backend."""
    target = Target(f"{url}{next(_numbers)}", backend, hooks or ReferenceHooks(), erase=True)
    with Session(target, quick=True) as session:
        return [session.run(check) for check in all_checks().values() if check.clause == clause]


def failures(results: list[Result]) -> list[str]:
    """Answer the messages of those that failed."""
    return [result.message for result in results if result.status == Status.FAIL]
