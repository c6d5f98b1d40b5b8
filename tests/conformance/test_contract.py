"""The page about the contract is printed from the registry, and every clause has a check."""

from __future__ import annotations

from pathlib import Path

from minion_conformance.check import all_checks
from minion_conformance.clauses import contract, contract_page

ROOT = Path(__file__).parents[2]


def test_the_page_is_the_registry() -> None:
    page = (ROOT / "docs/contract.md").read_text(encoding="utf-8")
    assert page.strip() == contract_page().strip(), "print it: minion-conformance contract > docs/contract.md"


def test_every_clause_has_a_check() -> None:
    checked = {check.clause for check in all_checks().values()}
    assert sorted(set(contract().clauses) - checked) == []


def test_clauses_need_clauses_that_exist() -> None:
    known = contract().clauses
    for clause in known.values():
        assert set(clause.needs) <= set(known), clause.id
