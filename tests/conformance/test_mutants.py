"""Each mutant fails on the clause that it breaks, and the failure says which rule does not hold."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from mutate import Mutant, failures, noticed, read_mutants, run_clause, wrong_backend


@pytest.mark.parametrize("mutant", read_mutants(), ids=lambda mutant: mutant.clause)
def test_a_mutant_fails_on_its_clause(mutant: Mutant) -> None:
    wrong = wrong_backend(mutant)
    results = noticed(lambda: run_clause(wrong, mutant.clause), mutant.says)
    messages = failures(results)
    assert messages, f"{mutant.clause} does not notice {mutant.new!r} in place of {mutant.old!r}: {results}"
    assert any(mutant.says in message for message in messages), messages
