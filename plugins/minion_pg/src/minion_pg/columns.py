"""The types of Minion's columns on PostgreSQL, and JSON that comes back from ``jsonb`` as it went in."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql
from sqlalchemy.types import TypeDecorator

from minion_core.records import State
from minion_core.sql import ColumnTypes

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sqlalchemy.engine import Dialect

_EXPONENT = re.compile(r"\d[eE]")
_TOKENS = re.compile(r'"(?:[^"\\]|\\.)*"|-?\d+(?:\.\d+)?[eE][-+]?\d+')


def jsonb(text: str) -> str:
    """Write JSON so that ``jsonb`` keeps its floats: it takes ``1e+100`` for an integer."""
    return _TOKENS.sub(_positional, text) if _EXPONENT.search(text) else text


def _positional(match: re.Match[str]) -> str:
    token = match[0]
    if token.startswith('"'):
        return token
    digits = f"{Decimal(token):f}"
    return digits if "." in digits else f"{digits}.0"


def numbers(items: Iterable[float | bool | None]) -> str:
    """Write an array of numbers or truths; psycopg's way to hand over a list costs three times as much."""
    # The sum is a plain number, also of what is one by inheritance and calls itself otherwise.
    return f"{{{','.join(['NULL' if item is None else str(item + 0) for item in items])}}}"


def texts(items: Iterable[str | None]) -> str:
    """Write an array of texts likewise."""
    written = [
        "NULL" if item is None else '"' + item.replace("\\", "\\\\").replace('"', '\\"') + '"'
        for item in items
    ]
    return f"{{{','.join(written)}}}"


class Json(TypeDecorator[str]):
    """JSON as text to the toolkit, ``jsonb`` in the store."""

    impl = sa.Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        return None if value is None else jsonb(value)

    def bind_expression(self, bindvalue: sa.BindParameter[str]) -> sa.ColumnElement[Any]:
        return sa.cast(bindvalue, postgresql.JSONB)

    def column_expression(self, column: sa.ColumnElement[str]) -> sa.ColumnElement[Any]:
        return sa.cast(column, sa.Text)


class Instant(TypeDecorator[datetime]):
    """An instant; sessions may have any time zone, callers get UTC."""

    impl = sa.TIMESTAMP(timezone=True)
    cache_ok = True

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return None if value is None else value.astimezone(UTC)


class Ids(TypeDecorator[list[int]]):
    """A list of ids, as Minion keeps it."""

    impl = postgresql.ARRAY(sa.BigInteger)
    cache_ok = True


TYPES = ColumnTypes(
    instant=Instant(),
    length=sa.Double(),
    json=Json(),
    ids=Ids(),
    state=postgresql.ENUM(*(state.value for state in State), name="minion_state", create_type=False),
)
