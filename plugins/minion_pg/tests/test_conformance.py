"""The contract, clause by clause."""

from collections.abc import Iterator
from contextlib import contextmanager

from minion_conformance import suite
from minion_conformance.servers.postgresql import PostgreSQL


@contextmanager
def database() -> Iterator[str]:
    with PostgreSQL.start() as server:
        yield server.new_database()


TestConformance = suite(database)
