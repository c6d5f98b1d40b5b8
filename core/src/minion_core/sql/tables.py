"""The tables of a queue, as SQLAlchemy sees them, and the types that a plugin chooses for their columns.

The names and meanings of Minion's columns are Minion's own. Two columns of ``minion_jobs`` keep the claim
flat however much else lies in the table:

``hold``
    Why an inactive job cannot be claimed: 0 it may be claimable, 1 delayed, 2 blocked by a parent,
    3 expired. Only rows with 0 stand in the index that claims read. It is a hint that may only err towards
    0: the claim checks the true conditions again and corrects what it finds wanting.
``due``
    The next instant at which the clock alone changes something of the row, or null: the end of a delay,
    the expiry, the earliest expiry of a parent in the way, the end of a lease; for a terminal job the end
    of its ``keep_for``. Live rows that are due are judged anew before each claim.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from attrs import field, frozen
from sqlalchemy.types import TypeDecorator, TypeEngine

from minion_core.records import State
from minion_core.values import decode_json, encode_json

if TYPE_CHECKING:
    from sqlalchemy.engine import Dialect

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)

MAY_BE_CLAIMABLE, DELAYED, BLOCKED, EXPIRED = range(4)
"""The values of ``hold``."""


LIVE = (State.INACTIVE, State.ACTIVE)
ENDED = (State.FINISHED, State.FAILED)


def in_state(jobs: sa.FromClause, *states: State) -> sa.ColumnElement[bool]:
    """Make the condition that a job is in one of these states.

    The states stand in the statement's text: a partial index is used only where the text proves that it may
    be, which a bound value does not.
    """
    literals: list[sa.ColumnElement[str]] = [sa.literal_column(f"'{state.value}'") for state in states]
    return jobs.c.state == literals[0] if len(literals) == 1 else jobs.c.state.in_(literals)


def has_ended(jobs: sa.FromClause, state: State) -> sa.ColumnElement[bool]:
    """Make the condition that a job ended in this state, in words that show both terminal states.

    SQLite does not see that a row in one of two states satisfies an index for both.
    """
    return sa.and_(in_state(jobs, *ENDED), in_state(jobs, state))


def to_microseconds(instant: datetime) -> int:
    """Count the microseconds from 1970 to an aware ``datetime``, exactly."""
    return (instant - EPOCH) // MICROSECOND


def from_microseconds(count: int) -> datetime:
    """Turn microseconds since 1970 into an aware ``datetime`` in UTC."""
    return EPOCH + timedelta(microseconds=count)


class Instant(TypeDecorator[datetime]):
    """An instant as microseconds since 1970: no time zones, no daylight saving, plain arithmetic."""

    impl = sa.BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> int | None:
        return None if value is None else to_microseconds(value)

    def process_result_value(self, value: int | None, dialect: Dialect) -> datetime | None:
        return None if value is None else from_microseconds(value)


class Length(TypeDecorator[float]):
    """A length of time, seconds to the caller and whole microseconds in the store."""

    impl = sa.BigInteger
    cache_ok = True

    def process_bind_param(self, value: float | None, dialect: Dialect) -> int | None:
        return None if value is None else round(value * 1_000_000)

    def process_result_value(self, value: int | None, dialect: Dialect) -> float | None:
        return None if value is None else value / 1_000_000


class IdList(TypeDecorator[list[int]]):
    """A list of job ids as a JSON array."""

    impl = sa.Text
    cache_ok = True

    def process_bind_param(self, value: list[int] | None, dialect: Dialect) -> str | None:
        return None if value is None else encode_json(list(value), "parents")

    def process_result_value(self, value: str | None, dialect: Dialect) -> list[int] | None:
        return None if value is None else decode_json(value)


@frozen(kw_only=True)
class ColumnTypes:
    """What a plugin stores each kind of value as; what the toolkit hands over and gets back is the same.

    Args:
        identity: Ids that count themselves.
        instant: Aware ``datetime``.
        length: Seconds as ``float``.
        json: JSON as text, encoded and decoded by the toolkit.
        ids: A list of job ids.
        name: Text of up to 255 characters, equal only when its bytes are.
        text: Text of any length.
        state: One of the four states.
    """

    identity: TypeEngine[int] = field(factory=sa.BigInteger)
    instant: TypeEngine[datetime] = field(factory=Instant)
    length: TypeEngine[float] = field(factory=Length)
    json: TypeEngine[str] = field(factory=sa.Text)
    ids: TypeEngine[list[int]] = field(factory=IdList)
    name: TypeEngine[str] = field(factory=sa.Text)
    text: TypeEngine[str] = field(factory=sa.Text)
    state: TypeEngine[str] = field(factory=sa.Text)


class Tables:
    """The tables with a plugin's types. They are only described here: a plugin's migrations make them."""

    def __init__(self, types: ColumnTypes, *, schedules: str = "minion_schedules") -> None:
        """Describe the tables.

        Args:
            types: The types of their columns.
            schedules: The name of the table of schedules, for a store where another program uses that one.
        """
        metadata = sa.MetaData()

        def column(name: str, kind: Any, **options: Any) -> sa.Column[Any]:
            return sa.Column(name, kind, **options)

        self.jobs = sa.Table(
            "minion_jobs",
            metadata,
            column("id", types.identity, primary_key=True),
            column("args", types.json),
            column("attempts", sa.Integer),
            column("coalesce", types.name),
            column("created", types.instant),
            column("delayed", types.instant),
            column("due", types.instant),
            column("exit_status", sa.Integer),
            column("expires", types.instant),
            column("failures", sa.Integer),
            column("finished", types.instant),
            column("grabbed_until", types.instant),
            column("hold", sa.SmallInteger),
            column("keep_for", types.length),
            column("kwargs", types.json),
            column("lax", sa.Boolean),
            column("lease", types.length),
            column("notes", types.json),
            column("parents", types.ids),
            column("priority", sa.Integer),
            column("queue", types.name),
            column("result", types.json),
            column("retried", types.instant),
            column("retries", sa.Integer),
            column("started", types.instant),
            column("state", types.state),
            column("task", types.name),
            column("uniqkey", types.name),
            column("worker", sa.BigInteger),
        )
        self.parent = self.jobs.alias("parent")
        self.child = self.jobs.alias("child")
        self.edges = sa.Table(
            "minion_job_edges",
            metadata,
            column("child", sa.BigInteger, primary_key=True, autoincrement=False),
            column("parent", sa.BigInteger, primary_key=True, autoincrement=False),
        )
        self.failures = sa.Table(
            "minion_failures",
            metadata,
            column("id", types.identity, primary_key=True),
            column("job", sa.BigInteger),
            column("message", types.text),
            column("time", types.instant),
            column("worker", sa.BigInteger),
            column("retries", sa.Integer),
        )
        self.workers = sa.Table(
            "minion_workers",
            metadata,
            column("id", types.identity, primary_key=True),
            column("host", types.text),
            column("inbox", types.json),
            column("notified", types.instant),
            column("pid", sa.Integer),
            column("started", types.instant),
            column("status", types.json),
        )
        self.locks = sa.Table(
            "minion_locks",
            metadata,
            column("id", types.identity, primary_key=True),
            column("name", types.name),
            column("expires", types.instant),
        )
        self.schedules = sa.Table(
            schedules,
            metadata,
            column("id", types.identity, primary_key=True),
            column("args", types.json),
            column("attempts", sa.Integer),
            column("created", types.instant),
            column("cron", types.text),
            column("expire", types.length),
            column("kwargs", types.json),
            column("last_job", sa.BigInteger),
            column("last_run", types.instant),
            column("lax", sa.Boolean),
            column("name", types.name),
            column("next_run", types.instant),
            column("notes", types.json),
            column("paused", sa.Boolean),
            column("priority", sa.Integer),
            column("queue", types.name),
            column("task", types.name),
            column("time_zone", types.text),
        )

    @property
    def all(self) -> tuple[sa.Table, ...]:
        """All of them, those that point to others first."""
        return (self.edges, self.failures, self.jobs, self.workers, self.locks, self.schedules)
