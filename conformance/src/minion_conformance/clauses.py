"""The registry of clauses, read from ``contract.toml``, and the page printed from it."""

from __future__ import annotations

import tomllib
from functools import cache
from importlib.resources import files
from typing import Any

from attrs import field, frozen


@frozen
class Clause:
    """One promise of the contract.

    Attributes:
        id: Its name, for ever: ``CLAIM-02``.
        text: What is promised, in Markdown.
        area: Title of the section that it stands in.
        capability: Asked only of backends that declare this.
        without: Asked only of backends that declare that they lack this.
        basic: Whether others cannot be judged when it fails.
        core: Whether it is kept by Minion, Job and Worker, and only shown on the store.
        needs: Cannot be judged when one of these clauses fails.
        since: The version of the contract that it came with.
    """

    id: str
    text: str
    area: str
    capability: str | None = None
    without: str | None = None
    basic: bool = False
    core: bool = False
    needs: tuple[str, ...] = field(default=(), converter=tuple[str, ...])
    since: int = 1

    @property
    def level(self) -> str:
        """Say of whom it is asked, in a word or two."""
        if self.capability:
            return f"with {self.capability}"
        if self.without:
            return f"without {self.without}"
        return "core" if self.core else "basic" if self.basic else "required"


@frozen
class Area:
    """A section of the contract."""

    title: str
    intro: str
    clauses: tuple[Clause, ...]


@frozen
class Contract:
    """The whole contract: its version, its sections and their clauses."""

    version: int
    intro: str
    areas: tuple[Area, ...]

    @property
    def clauses(self) -> dict[str, Clause]:
        """All clauses by id, in the order of the contract."""
        return {clause.id: clause for area in self.areas for clause in area.clauses}


VOCABULARY = "Vocabulary"
"""Title of the section whose clauses are judged even if jobs can hardly be enqueued."""

BASICS = ("CAP-01", "ENQ-01", "CLAIM-01", "SET-02")
"""The basic clauses, in the order in which each needs those before it."""


def _clause(area: str, entry: dict[str, Any]) -> Clause:
    text = " ".join(entry.pop("text").split())
    clause = Clause(area=area, text=text, **entry)
    if clause.needs:
        return clause
    before = BASICS.index(clause.id) if clause.id in BASICS else 1 if area == VOCABULARY else len(BASICS)
    needs = BASICS[:before]
    return Clause(area=area, text=text, **{**entry, "needs": needs})


@cache
def contract() -> Contract:
    """Read the contract."""
    raw = tomllib.loads(files(__package__).joinpath("contract.toml").read_text(encoding="utf-8"))
    areas = tuple(
        Area(
            title=area["title"],
            intro=area["intro"].strip(),
            clauses=tuple(_clause(area["title"], dict(entry)) for entry in area.get("clause", ())),
        )
        for area in raw["area"]
    )
    return Contract(version=raw["version"], intro=raw["intro"].strip(), areas=areas)


def contract_page() -> str:
    """Print ``docs/contract.md``."""
    known = contract()
    lines = ["# The contract", "", f"Version {known.version}. {known.intro}", ""]
    for area in known.areas:
        lines += [f"## {area.title}", ""]
        if area.intro:
            lines += [area.intro, ""]
        lines += [f"- **{clause.id}** {clause.text}" for clause in area.clauses]
        lines += [""] if area.clauses else []
    return "\n".join(lines)
