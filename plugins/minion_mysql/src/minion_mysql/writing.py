"""Storing and finishing on MySQL and MariaDB: the statements that a busy queue is made of."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from minion_core.sql.readiness import release_children
from minion_core.sql.tables import to_microseconds
from minion_core.sql.work import CHUNK, chunks
from minion_mysql.claiming import clock_text
from minion_mysql.connections import Connection

if TYPE_CHECKING:
    from datetime import datetime

    from minion_core.records import Finished
    from minion_core.sql import Work

INSERT = """INSERT INTO minion_jobs (args, attempts, `coalesce`, created, `delayed`, due, expires, hold,
  keep_for, kwargs, lax, lease, notes, parents, priority, queue, task, uniqkey) VALUES """

STATEMENT_MAX = 1_000_000
"""Bytes of one INSERT, unless a single job is larger."""

FENCED = """SELECT id, retries FROM minion_jobs FORCE INDEX (PRIMARY)
  WHERE id IN %(ids)s AND state = 'active' ORDER BY id FOR UPDATE"""

FINISH = """UPDATE minion_jobs FORCE INDEX (PRIMARY)
  SET state = 'finished', finished = {now}, result = {result}, exit_status = {exit_status},
    grabbed_until = NULL, due = {now} + keep_for
  WHERE id IN %(ids)s AND retries = %(retries)s AND state = 'active'"""

WITH_CHILDREN = "SELECT DISTINCT parent FROM minion_job_edges WHERE parent IN %(ids)s"


def insert_jobs(work: Work, rows: Sequence[Mapping[str, Any]]) -> list[int]:
    """Insert rows, many in one statement, and count their ids on from the first.

    The ids of one INSERT whose rows are all in its text stand in a row in every ``innodb_autoinc_lock_mode``.
    """
    driver = work.driver
    step, most = _limits(work)
    ids: list[int] = []
    for some in _statements([_values(driver, row) for row in rows], most):
        done = work.connection.exec_driver_sql(
            INSERT + ",".join(some), execution_options={"no_parameters": True}
        )
        ids += range(done.lastrowid, done.lastrowid + step * len(some), step)
    return ids


def _limits(work: Work) -> tuple[int, int]:
    driver = work.driver
    if isinstance(driver, Connection):
        return driver.id_step, min(STATEMENT_MAX, driver.max_packet - 1)
    step, packet = work.connection.exec_driver_sql(
        "SELECT @@auto_increment_increment, @@max_allowed_packet"
    ).one()
    return step, min(STATEMENT_MAX, packet - 1)


def _statements(values: Sequence[str], most: int) -> Iterator[list[str]]:
    some: list[str] = []
    length = len(INSERT)
    for value in values:
        size = 1 + (len(value) if value.isascii() else len(value.encode()))
        if some and length + size > most:
            yield some
            some, length = [], len(INSERT)
        some.append(value)
        length += size
    yield some


def _values(driver: Any, row: Mapping[str, Any]) -> str:
    created, delayed = row["created"], row["delayed"]
    now = to_microseconds(created)
    text = driver.escape
    coalesce, uniqkey, parents = row["coalesce"], row["uniqkey"], row["parents"]
    return (
        f"({text(row['args'])},{row['attempts']},{'NULL' if coalesce is None else text(coalesce)},{now},"
        f"{now if delayed is created else to_microseconds(delayed)},{_instant(row['due'])},"
        f"{_instant(row['expires'])},{row['hold']},{_length(row['keep_for'])},{text(row['kwargs'])},"
        f"{row['lax']:d},{_length(row['lease'])},{text(row['notes'])},'{parents or '[]'}',{row['priority']},"
        f"{text(row['queue'])},{text(row['task'])},{'NULL' if uniqkey is None else text(uniqkey)})"
    )


def _instant(value: datetime | None) -> int | str:
    return "NULL" if value is None else to_microseconds(value)


def _length(seconds: float | None) -> int | str:
    return "NULL" if seconds is None else round(seconds * 1_000_000)


def finish_jobs(work: Work, outcomes: Sequence[Finished]) -> tuple[list[bool], bool]:
    """Finish jobs behind their fences; answer which, and whether any of them had children.

    Nothing else was done in this transaction before. Most of the time all fences hold, so they are first
    taken to: if some do not, it is undone, and done again with a look at each.
    """
    if len({outcome.retries for outcome in outcomes}) == 1 and len(outcomes) <= CHUNK:
        with work.driver.cursor() as cursor:
            if cursor.execute(*_finish_statement(outcomes, clock_text(work))) == len(outcomes):
                return [True] * len(outcomes), _release_children_of(work, outcomes)
        work.driver.query("ROLLBACK")
        work.driver.query("START TRANSACTION")
    with work.driver.cursor() as cursor:
        cursor.execute(FENCED, {"ids": sorted(outcome.id for outcome in outcomes)})
        retries = dict(cursor.fetchall())
        ended = [outcome for outcome in outcomes if retries.get(outcome.id) == outcome.retries]
        applied = {outcome.id for outcome in ended}
        while ended:
            some = [outcome for outcome in ended if outcome.retries == ended[0].retries][:CHUNK]
            cursor.execute(*_finish_statement(some, clock_text(work)))
            done = {outcome.id for outcome in some}
            ended = [outcome for outcome in ended if outcome.id not in done]
    had_children = _release_children_of(work, [outcome for outcome in outcomes if outcome.id in applied])
    return [outcome.id in applied for outcome in outcomes], had_children


def _release_children_of(work: Work, ended: Sequence[Finished]) -> bool:
    parents: list[int] = []
    with work.driver.cursor() as cursor:
        for some in chunks(ended):
            cursor.execute(WITH_CHILDREN, {"ids": [outcome.id for outcome in some]})
            parents += [row[0] for row in cursor.fetchall()]
    if parents:
        release_children(work, parents)
    return bool(parents)


def _finish_statement(outcomes: Sequence[Finished], clock: str) -> tuple[str, dict[str, Any]]:
    """Write one UPDATE for attempts of the same ``retries``; what each leaves is picked by its place."""
    values: dict[str, Any] = {"ids": [outcome.id for outcome in outcomes], "retries": outcomes[0].retries}
    place = f"FIELD(id, {', '.join(str(outcome.id) for outcome in outcomes)})"
    pieces = {"now": clock}
    for name, items in (
        ("result", [outcome.result_json for outcome in outcomes]),
        ("exit_status", [outcome.exit_status for outcome in outcomes]),
    ):
        if len(set(items)) == 1:
            values[name] = items[0]
            pieces[name] = f"%({name})s"
        else:
            values |= {f"{name}{number}": item for number, item in enumerate(items)}
            listed = ", ".join(f"%({name}{number})s" for number in range(len(items)))
            pieces[name] = f"ELT({place}, {listed})"
    return FINISH.format(**pieces), values
