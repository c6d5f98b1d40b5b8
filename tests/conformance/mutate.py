"""Makes wrong backends out of the reference: a few lines of its text replaced by others."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from functools import cache
from importlib.resources import files
from itertools import count
from pathlib import Path
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
        says: Part of the failure's message.
        old: Lines that stand once in the reference.
        new: What to put in their place.
        also: Other texts to replace, so that the clause is asked for.
    """

    clause: str
    says: str
    old: str
    new: str
    also: tuple[tuple[str, str], ...] = ()


def read_mutants() -> list[Mutant]:
    """Read ``mutants.txt``."""
    text = Path(__file__).with_name("mutants.txt").read_text(encoding="utf-8")
    return [_read(block) for block in text.split("\n\n")[1:] if block.strip()]


def _read(block: str) -> Mutant:
    head, *lines = block.strip("\n").split("\n")
    clause, _, says = head.partition(":")
    also = [line[2:].partition(" -> ") for line in lines if line.startswith("= ")]
    old, new = ("".join(f"{line[1:]}\n" for line in lines if line.startswith(sign)) for sign in ("-", "+"))
    if not re.fullmatch(r"[A-Z]+-\d\d", clause) or not old:
        raise ValueError(f"mutants.txt: this is no mutant: {block!r}")
    return Mutant(clause, says.strip(), old, new, tuple((left, right) for left, _, right in also))


@cache
def _sources() -> dict[str, str]:
    return {
        name: files(PACKAGE).joinpath(f"{name}.py").read_text(encoding="utf-8")
        for name in ("reference_store", "reference")
    }


def _make_module(name: str, source: str) -> ModuleType:
    module = ModuleType(name)
    sys.modules[name] = module  # attrs looks there for the class's module
    exec(compile(source, name, "exec"), module.__dict__)
    return module


def wrong_backend(mutant: Mutant) -> type[Backend]:
    """Make the class of a mutant."""
    sources = _sources()
    found = {name: source.count(mutant.old) for name, source in sources.items()}
    assert sum(found.values()) == 1, f"{mutant.old!r} stands {found} times in the reference"
    number = next(_numbers)
    store = f"{PACKAGE}.reference_store"
    if found["reference_store"]:
        store = f"mutant_store_{number}"
        _make_module(store, sources["reference_store"].replace(mutant.old, mutant.new))
    text = sources["reference"].replace(f"{PACKAGE}.reference_store", store)
    for old, new in ((mutant.old, mutant.new), *mutant.also):
        text = text.replace(old, new)
    backend: type[Backend] = _make_module(f"mutant_{number}", text).ReferenceBackend
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


def noticed(run: Callable[[], list[Result]], says: str, tries: int = 8) -> list[Result]:
    """Run a clause until a failure says what it should, and answer the last results.

    What only a race shows, a race need not show each time.
    """
    results: list[Result] = []
    for _ in range(tries):
        results = run()
        if any(says in message for message in failures(results)):
            break
    return results
