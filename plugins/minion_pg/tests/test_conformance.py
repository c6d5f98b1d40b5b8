"""The contract, clause by clause, on the PostgreSQL of this release and on the newest."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest

from minion_conformance import suite
from minion_conformance.servers.postgresql import NewestPostgreSQL, PostgreSQL
from minion_conformance.servers.server import Missing


def databases_of(kind: type[PostgreSQL]) -> Callable[[], AbstractContextManager[str]]:
    @contextmanager
    def database() -> Iterator[str]:
        with kind.start() as server:
            yield server.new_database()

    return database


def missing(kind: type[PostgreSQL]) -> str:
    """Say why a server cannot be had, if it cannot."""
    try:
        kind.installed()
    except Missing as why:
        return str(why)
    return ""


if os.environ.get("CI") or not missing(PostgreSQL):
    TestConformance = suite(databases_of(PostgreSQL))

if os.environ.get("CI") or not missing(NewestPostgreSQL):
    TestConformanceNewest = suite(databases_of(NewestPostgreSQL))


@pytest.mark.parametrize("kind", [PostgreSQL, NewestPostgreSQL])
def test_the_server_is_there(kind: type[PostgreSQL]) -> None:
    if why := missing(kind):
        pytest.skip(f"NOT TESTED: {kind.title}: {why}")
