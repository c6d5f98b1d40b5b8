"""Migrations: numbered, forward only, applied once however many processes open at the same moment."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa
from attrs import frozen

from minion_core.errors import SchemaError

TABLE = "minion_migrations"


@frozen
class Migration:
    """One step of a schema.

    Args:
        number: 1 for the first, then without gaps.
        title: What it brings, in a few words.
        statements: The SQL, a statement each, in order.
    """

    number: int
    title: str
    statements: tuple[str, ...]


def pending_migrations(connection: sa.Connection, migrations: Sequence[Migration], where: str) -> list[int]:
    """Answer the numbers of the migrations that were not applied yet.

    Raises:
        SchemaError: The schema is newer than this code knows.
    """
    applied = _applied(connection)
    newest = max((migration.number for migration in migrations), default=0)
    if applied > newest:
        raise SchemaError(
            f"The tables in {where} have schema {applied}, this code knows {newest}: install a newer version"
        )
    return [migration.number for migration in migrations if migration.number > applied]


def _applied(connection: sa.Connection) -> int:
    if not sa.inspect(connection).has_table(TABLE):
        return 0
    return connection.exec_driver_sql(f"SELECT MAX(number) FROM {TABLE}").scalar() or 0


def apply_migrations(connection: sa.Connection, migrations: Sequence[Migration], where: str) -> list[int]:
    """Apply what is pending, in the transaction at hand, which keeps other processes out."""
    pending = pending_migrations(connection, migrations, where)
    for migration in migrations:
        if migration.number in pending:
            for statement in migration.statements:
                connection.exec_driver_sql(statement)
            connection.exec_driver_sql(f"INSERT INTO {TABLE} (number) VALUES ({migration.number:d})")
    return pending


def render_migrations(migrations: Sequence[Migration]) -> str:
    """Write all migrations as a script for people to read and to run by hand."""
    return "\n".join(
        f"-- {migration.number}: {migration.title}\n"
        + "\n".join(f"{statement.strip()};" for statement in migration.statements)
        + f"\nINSERT INTO {TABLE} (number) VALUES ({migration.number});\n"
        for migration in migrations
    )
