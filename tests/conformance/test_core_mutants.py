"""Core's own clauses: a wrong Minion, Job or Worker is caught, too, on the reference."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from mutate import failures, run_clause

from minion_conformance.reference import ReferenceBackend
from minion_core import Job, Minion
from minion_core.ledger import Ledger
from minion_core.records import Finished

CORE: list[tuple[str, type, str, Any, str]] = [
    ("JOB-01", Job, "extend", lambda *_: True, "`extend` extends by the lease's length"),
    ("JOB-01", Job, "note", lambda *_args, **_more: True, "`note` notes"),
    ("JOB-02", Minion, "retry_delay", lambda *_: 15.0, "after"),
    ("JOB-03", Job, "_too_late", lambda *_: False, "answers False"),
    ("JOB-04", Job, "finished_outcome", lambda job, _result=None: Finished(job.id, job.retries), "completes"),
    ("JOB-05", Job, "is_pending", property(lambda _: True), "it has ended"),
    ("JOB-05", Minion, "result", lambda *_args, **_more: None, "the result of a finished job"),
    ("JOB-07", Job, "claim_coalesced", lambda *_: [], "are claimed together"),
    ("JOB-08", Minion, "foreground", lambda *_: None, "it performs a job here and now"),
    ("JOB-08", Minion, "perform_jobs", lambda *_: 0, "it performs until nothing is claimable"),
    ("WORK-05", Ledger, "_give_back", lambda *_: None, "releases what it does not know of"),
    ("REP-04", Minion, "_fail_lost", lambda *_: None, "with attempts left they are retried"),
]


@pytest.mark.parametrize("mutant", CORE, ids=lambda mutant: f"{mutant[0]} {mutant[2]}")
def test_a_wrong_core_fails(mutant: tuple[str, type, str, Any, str], monkeypatch: pytest.MonkeyPatch) -> None:
    clause, owner, name, wrong, says = mutant
    monkeypatch.setattr(owner, name, wrong)
    messages = failures(run_clause(ReferenceBackend, clause))
    assert any(says in message for message in messages), messages
