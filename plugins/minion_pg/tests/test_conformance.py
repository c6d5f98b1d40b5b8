"""The contract, clause by clause, on the PostgreSQL of this release and on the newest."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from minion_conformance import suite
from minion_conformance.servers.debian import Missing
from minion_conformance.servers.postgresql import PostgreSQL


@contextmanager
def database() -> Iterator[str]:
    with PostgreSQL.start() as server:
        yield server.new_database()


@contextmanager
def newest_database() -> Iterator[str]:
    with PostgreSQL.start(newest=True) as server:
        yield server.new_database()


def missing(*, newest: bool) -> str:
    """Say why a server cannot be had, if it cannot."""
    try:
        PostgreSQL.installed(newest=newest)
    except Missing as why:
        return str(why)
    return ""


if os.environ.get("CI") or not missing(newest=False):
    TestConformance = suite(database)

if os.environ.get("CI") or not missing(newest=True):
    TestConformanceNewest = suite(newest_database)


@pytest.mark.parametrize("newest", [False, True])
def test_the_server_is_there(*, newest: bool) -> None:
    if why := missing(newest=newest):
        pytest.skip(f"NOT TESTED: PostgreSQL: {why}")
