"""One transaction at work: what every function of the toolkit is handed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeVar

import sqlalchemy as sa
from attrs import define

if TYPE_CHECKING:
    from minion_core.sql.backend import SqlBackend
    from minion_core.sql.tables import Tables

T = TypeVar("T")

CHUNK = 500
"""How many rows one statement names or one round of upkeep takes at most."""

FOREVER = datetime.max.replace(tzinfo=UTC)


@define
class Work:
    """A transaction, the tables, and the plugin whose seams fill what differs between stores."""

    connection: sa.Connection
    backend: SqlBackend
    tables: Tables

    @property
    def driver(self) -> Any:
        """The driver's own connection, for statements too hot for anything in between."""
        return self.connection.connection.driver_connection

    def now(self) -> datetime:
        """Read the clock; to be asked after the locks that a decision waits for."""
        return self.backend.read_clock(self)

    def count(self, table: sa.FromClause, *conditions: sa.ColumnElement[bool]) -> int:
        """Count the rows that match."""
        select = sa.select(sa.func.count()).select_from(table).where(*conditions)
        return self.connection.execute(select).scalar_one()


def at(now: datetime, when: float | datetime) -> datetime:
    """Turn a moment (seconds from now, or an instant) into an instant that can be stored."""
    if isinstance(when, datetime):
        return when
    if when == 0:
        return now
    try:
        return now + timedelta(seconds=when)
    except OverflowError:
        return FOREVER


def chunks(values: Sequence[T], size: int = CHUNK) -> Iterator[Sequence[T]]:
    """Cut a long sequence into pieces that one statement can hold."""
    for start in range(0, len(values), size):
        yield values[start : start + size]


def earliest(*instants: datetime | None) -> datetime | None:
    """Answer the earliest of some instants, passing over those that are not set."""
    return min((instant for instant in instants if instant is not None), default=None)
