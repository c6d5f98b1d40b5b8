"""SQLite keeps the contract: every clause, shown by the conformance suite."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from minion_conformance import suite


@contextmanager
def database() -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix="minion-conformance-") as folder:
        yield f"sqlite:///{folder}/jobs.db"


TestConformance = suite(database)
