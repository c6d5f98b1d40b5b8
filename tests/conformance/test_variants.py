"""Clauses that the reference is not asked for: right variants pass, wrong ones fail with the rule's words."""

from __future__ import annotations

import sys
from itertools import count
from pathlib import Path

import pytest

from minion_conformance.clauses import contract
from minion_conformance.session import Status
from minion_core.backend import Backend
from minion_sqlite.conformance import SqliteHooks

sys.path.insert(0, str(Path(__file__).parent))

import variants as v
from mutate import failures, noticed, read_mutants, run_clause
from test_core_mutants import CORE

RIGHT = [
    ("ENQ-08", v.Transactional, v.TransactionalHooks),
    ("CLAIM-04", v.Concurrent, v.HoldsClaims),
    ("SET-10", v.Served, v.ServerHooks),
    ("SAFE-03", v.Served, v.ServerHooks),
]

WRONG = [
    ("ENQ-08", v.CommitsAtOnce, v.TransactionalHooks, "nobody sees a job before its commit"),
    ("ENQ-08", v.NeverAppears, v.TransactionalHooks, "the job appears when the caller commits"),
    ("CLAIM-04", v.Concurrent, v.HoldsEverything, "another worker is not kept waiting by a claim"),
    ("SET-10", v.SettlesBlindly, v.ServerHooks, "settle says whether the row shows this very outcome"),
    ("SET-10", v.SendsAgain, v.ServerHooks, "an enqueue is never sent again"),
    ("SAFE-03", v.RaisesTheDriversError, v.ServerHooks, "enqueue without a server raises BackendUnavailable"),
    ("SAFE-03", v.StaysAway, v.ServerHooks, "BackendError"),
]

WRONG_ON_SQLITE = [
    ("BASE-08", v.OverDeclaresItsClock, "of a client whose clock is wrong is the store's"),
    ("SAFE-01", v.HalfBatches, "a kill leaves no half of a batch"),
    ("SAFE-02", v.NoFence, "a worker that was stopped and replaced cannot settle"),
    ("SAFE-06", v.ClaimsTwice, "an attempt is claimed by at most one process"),
    ("SAFE-08", v.ForgetsToStore, "what was acknowledged is there when every client was killed"),
    ("CLAIM-03", v.ClaimsTwice, "an attempt is claimed by at most one process"),
    ("LOCK-01", v.LocksByLookingFirst, "never more than limit shares are out"),
    ("SCHED-03", v.FiresByLookingFirst, "a due run is enqueued exactly once"),
    ("ENQ-07", v.KeysByLookingFirst, "of many processes one creates the job of a key"),
]


@pytest.mark.parametrize(("clause", "backend", "hooks"), RIGHT)
def test_a_right_variant_passes(clause: str, backend: type[Backend], hooks: type) -> None:
    results = run_clause(backend, clause, hooks())
    assert {result.status for result in results} == {Status.PASS}, results


@pytest.mark.parametrize(("clause", "backend", "hooks", "says"), WRONG)
def test_a_wrong_variant_fails(clause: str, backend: type[Backend], hooks: type, says: str) -> None:
    results = run_clause(backend, clause, hooks())
    assert any(says in message for message in failures(results)), results


@pytest.mark.parametrize(("clause", "backend", "says"), WRONG_ON_SQLITE)
def test_a_wrong_variant_of_sqlite_fails(
    clause: str, backend: type[Backend], says: str, tmp_path: Path
) -> None:
    numbers = count()
    results = noticed(
        lambda: run_clause(backend, clause, SqliteHooks(), f"sqlite:///{tmp_path}/{next(numbers)}.db"), says
    )
    messages = failures(results)
    assert any(says in message for message in messages), results


def test_every_clause_has_a_mutant() -> None:
    tried = {mutant.clause for mutant in read_mutants()}
    tried |= {entry[0] for entry in [*WRONG, *WRONG_ON_SQLITE]} | {entry[0] for entry in CORE}
    assert sorted(set(contract().clauses) - tried) == []
