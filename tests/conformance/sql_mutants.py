"""Mutants of the SQL of the real plugins: conditions, orders, columns, locks and commits dropped in turn.

    python tests/conformance/sql_mutants.py              all of them; half an hour on two cores
    python tests/conformance/sql_mutants.py minion_pg    those of the modules whose names begin so
    python tests/conformance/sql_mutants.py 17           one of them

What all SQL stores share is changed on SQLite, the rest on its own server. Each mutant runs in a process of
its own, in which the module is read with the change, against the checks that need no second process, until
one fails. A mutant that changes only the cost, not the answers, says so.
"""

# ruff: noqa: E501, lines of other files are quoted as they are
from __future__ import annotations

import importlib.abc
import importlib.machinery
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from types import CodeType

from attrs import frozen

from minion_conformance.servers.mysql import MariaDB
from minion_conformance.servers.postgresql import PostgreSQL
from minion_conformance.servers.server import Server
from minion_core.errors import MinionError

AREAS = [
    "basics",
    "claiming",
    "enqueueing",
    "dependencies",
    "settling",
    "changing",
    "leases",
    "repair",
    "locks",
    "listing",
    "workers",
    "schedules",
    "stats",
    "model",
]


@frozen
class SqlMutant:
    """A change to a module; ``same`` says why nobody can tell, for those that change only the cost."""

    module: str
    old: str
    new: str
    same: str = ""


CLAIM, WRITE = "minion_sqlite.claiming", "minion_sqlite.writing"
UPKEEP, SETTLE = "minion_core.sql.upkeep", "minion_core.sql.settling"
MOVE, READY, LOCKS = "minion_core.sql.transitions", "minion_core.sql.readiness", "minion_core.sql.locks"
SWEPT = "the sweep before the claim has taken what expired out of its index; the condition stands behind it"

PG_CLAIM, PG_SETTLE, PG_STORE = "minion_pg.claiming", "minion_pg.settling", "minion_pg.storing"
PG_BACKEND = "minion_pg.backend"
MY_CLAIM, MY_WRITE = "minion_mysql.claiming", "minion_mysql.writing"
MY_CONNECTIONS = "minion_mysql.connections"
HELD = "what is delayed is held back by the hint, which is judged anew wherever a job is freed"
ASKED_AGAIN = "the locked row is asked again for its queue and task"
RACES = "the row is locked and looked at again only for what another process may have changed meanwhile"

M = SqlMutant
MUTANTS = [
    # The claim.
    M(CLAIM, "delayed <= :now AND (expires", "(expires"),
    M(CLAIM, '"""delayed <= :now', '"""delayed < :now'),
    M(CLAIM, "AND (expires IS NULL OR expires > :now)\n", "\n", SWEPT),
    M(CLAIM, "OR expires > :now)\n", "OR expires >= :now)\n", SWEPT),
    M(CLAIM, "parent.state = 'active'\n      OR ", ""),
    M(CLAIM, "OR (parent.state = 'inactive' AND (parent.expires IS NULL OR parent.expires > :now))\n", ""),
    M(CLAIM, " AND (parent.expires IS NULL OR parent.expires > :now)", ""),
    M(CLAIM, "OR parent.expires > :now))", "OR parent.expires >= :now))"),
    M(CLAIM, "OR (parent.state = 'failed' AND NOT minion_jobs.lax)", ""),
    M(CLAIM, " AND NOT minion_jobs.lax", ""),
    M(CLAIM, "edge.child = minion_jobs.id AND ", ""),
    M(CLAIM, "SET state = 'active', worker", "SET worker"),
    M(CLAIM, "worker = :worker, ", ""),
    M(CLAIM, "started = :now, ", ""),
    M(CLAIM, "grabbed_until = :now + lease, ", ""),
    M(CLAIM, ", due = :now + lease", ""),
    M(CLAIM, " AND {TRULY_CLAIMABLE}", ""),
    M(CLAIM, "WHERE state = 'inactive' AND hold = 0", "WHERE hold = 0"),
    M(CLAIM, " AND hold = 0", ""),
    M(CLAIM, " AND queue = :queue{number} AND", " AND"),
    M(CLAIM, " AND task = :task{number}", ""),
    M(CLAIM, " ORDER BY priority DESC, id LIMIT", " ORDER BY id LIMIT"),
    M(CLAIM, " ORDER BY priority DESC, id LIMIT", " ORDER BY priority DESC, id DESC LIMIT"),
    M(CLAIM, " ORDER BY priority DESC, id LIMIT", " ORDER BY priority, id LIMIT"),
    M(CLAIM, 'filters.append("id = :id")', 'filters.append("id >= :id")'),
    M(CLAIM, "priority >= :min_priority", "priority > :min_priority"),
    M(CLAIM, '"coalesce" = :coalesce', '"coalesce" LIKE :coalesce'),
    M(CLAIM, 'substr("coalesce", 1, :length) = :prefix', "\"coalesce\" LIKE :prefix || '%'"),
    M(CLAIM, "    claimed.sort(key=lambda job: (-job.priority, job.id))\n", ""),
    M(CLAIM, "        sweep_all(work, now)\n", "        pass\n"),
    M(CLAIM, "WHERE due <= ?", "WHERE due < ?"),
    M(CLAIM, "state IN ('inactive', 'active') LIMIT", "state IN ('inactive') LIMIT"),
    M(CLAIM, "state IN ('inactive', 'active') LIMIT", "state IN ('active') LIMIT"),
    M(CLAIM, "            moved = judge(", "            moved = 0 * judge("),
    M("minion_sqlite.backend", 'self._driver.execute("COMMIT")', 'self._driver.execute("ROLLBACK")'),
    # Finishing.
    M(WRITE, " AND retries = ?5", ""),
    M(WRITE, " AND state = 'active'", ""),
    M(WRITE, "finished = ?1, ", ""),
    M(WRITE, "result = ?2, ", ""),
    M(WRITE, "exit_status = ?3, ", ""),
    M(WRITE, "grabbed_until = NULL,\n", "\n"),
    M(WRITE, "due = ?1 + keep_for", "due = NULL"),
    M(WRITE, "        release_children(work, [row[0] for row in parents])\n", "        pass\n"),
    # Every other outcome.
    M(
        SETTLE,
        "or row.state != State.ACTIVE or row.retries != outcome.retries:",
        "or row.retries != outcome.retries:",
    ),
    M(
        SETTLE,
        "or row.state != State.ACTIVE or row.retries != outcome.retries:",
        "or row.state != State.ACTIVE:",
    ),
    M(SETTLE, "        del rows[outcome.id]\n", ""),
    M(SETTLE, "and row.attempts > 1 and", "and"),
    M(SETTLE, "Return(row, again, row.attempts - 1)", "Return(row, again, row.attempts)"),
    M(SETTLE, "(row.expires is None or row.expires > again)", "True"),
    M(SETTLE, "    log_failures(work, failures, now)\n", ""),
    M(SETTLE, "        _hand_down(work, outcome.id, [job.id for job in new])\n", ""),
    M(SETTLE, "                in_state(jobs, *LIVE),\n", ""),
    M(
        SETTLE,
        "[end.row.id for end in ends] + [back.row.id for back in returns]",
        "[back.row.id for back in returns]",
    ),
    M(
        SETTLE,
        "    if row.expires is not None and row.expires <= now and options.expire is None:\n        return False\n",
        "",
    ),
    M(SETTLE, "        enqueueing.remove_edges(work, [id])\n", ""),
    M(SETTLE, "    judge(work, [id], now)\n    release_children(work, [id])\n", ""),
    M(SETTLE, "values(grabbed_until=until, due=until)", "values(grabbed_until=until)"),
    M(MOVE, "            worker=None,\n", ""),
    M(
        MOVE,
        "            grabbed_until=None,\n            exit_status=None,\n",
        "            exit_status=None,\n",
    ),
    M(MOVE, "            exit_status=None,\n", ""),
    M(MOVE, '"b_retries": back.row.retries + 1', '"b_retries": back.row.retries'),
    M(MOVE, '            due=sa.bindparam("b_due"),\n            retried', "            retried"),
    M(
        MOVE,
        '            due=sa.bindparam("b_due"),\n            grabbed_until=None,\n',
        "            grabbed_until=None,\n",
    ),
    M(MOVE, ".values(failures=jobs.c.failures + 1)", ".values(failures=1)"),
    M(MOVE, ", failures.c.message == LEASE_ENDED)", ")"),
    M(MOVE, ">= LEASE_ENDS_ALLOWED}", "> LEASE_ENDS_ALLOWED}"),
    M(MOVE, "    release_children(work, rows)\n", ""),
    M(MOVE, "jobs.c.due <= now, in_state", "jobs.c.due < now, in_state"),
    # Hints.
    M(
        READY,
        "        return BLOCKED, earliest(expires, unblocked_by_clock)",
        "        return BLOCKED, expires",
    ),
    M(READY, "        return DELAYED, earliest(delayed, expires)", "        return DELAYED, expires"),
    M(READY, ".values(hold=MAY_BE_CLAIMABLE, due=jobs.c.expires)", ".values(due=jobs.c.expires)"),
    M(READY, ".where(inactive, jobs.c.hold != MAY_BE_CLAIMABLE)", ".where(inactive, jobs.c.hold == DELAYED)"),
    # Repair.
    M(UPKEEP, "workers.c.notified <= at", "workers.c.notified < at"),
    M(UPKEEP, "jobs.c.finished <= at", "jobs.c.finished < at"),
    M(UPKEEP, "has_ended(jobs, State.FINISHED), old,", "in_state(jobs, *ENDED), old,"),
    M(UPKEEP, ", jobs.c.keep_for.is_(None))", ")"),
    M(UPKEEP, "old, jobs.c.keep_for.is_(None)), unless=_needed(work)", "old, jobs.c.keep_for.is_(None))"),
    M(UPKEEP, "_remove(work, over, unless=_needed(work))", "_remove(work, over)"),
    M(
        UPKEEP,
        "jobs.c.due <= work.now())\n    return _remove(work, over",
        "jobs.c.due < work.now())\n    return _remove(work, over",
    ),
    M(UPKEEP, ", sa.not_(in_state(child, State.FINISHED)))", ")"),
    M(
        UPKEEP,
        "sa.and_(in_state(jobs, State.INACTIVE), jobs.c.expires <= work.now())",
        "jobs.c.expires <= work.now()",
    ),
    M(UPKEEP, "jobs.c.expires <= work.now()))", "jobs.c.expires < work.now()))"),
    M(
        UPKEEP,
        "            in_state(jobs, State.ACTIVE),\n            jobs.c.queue",
        "            jobs.c.queue",
    ),
    M(UPKEEP, "            jobs.c.queue != FOREGROUND_QUEUE,\n", ""),
    M(UPKEEP, "            jobs.c.grabbed_until.is_(None),\n", ""),
    M(UPKEEP, "            sa.not_(registered),\n", ""),
    M(UPKEEP, "                in_the_way(parent, sa.true(), now),\n", ""),
    M(UPKEEP, "                sa.and_(in_state(parent, *ENDED), parent.c.finished > limit),\n", ""),
    M(
        UPKEEP,
        "                sa.and_(in_state(parent, State.INACTIVE), parent.c.expires > limit),\n",
        "",
        "what has expired was removed a moment before; this is for what expires in that moment",
    ),
    M(UPKEEP, "        jobs.c.delayed <= limit,\n", ""),
    M(UPKEEP, "jobs.c.delayed <= limit", "jobs.c.delayed < limit"),
    M(UPKEEP, "        sa.not_(too_fresh),\n", ""),
    M(UPKEEP, "    release_children(work, [end.row.id for end in ends])\n", ""),
    # Locks.
    M(
        LOCKS,
        "locks.c.name == name, locks.c.expires <= now)",
        "locks.c.expires <= now)",
        "ended shares are nobody's",
    ),
    M(LOCKS, "locks.c.name == name, locks.c.expires <= now)", "locks.c.name == name, locks.c.expires < now)"),
    M(LOCKS, "== name) >= limit:", "== name) > limit:"),
    M(LOCKS, "work.count(locks, locks.c.name == name)", "work.count(locks)"),
    M(LOCKS, "locks.c.name == name, locks.c.expires > now)", "locks.c.expires > now)"),
    M(LOCKS, "locks.c.name == name, locks.c.expires > now)", "locks.c.name == name)"),
    M(LOCKS, "order_by(locks.c.expires, locks.c.id)", "order_by(locks.c.expires.desc(), locks.c.id)"),
    M(LOCKS, "[locks.c.expires > work.now()]", "[]"),
    # -- PostgreSQL: the claim.
    M(PG_CLAIM, "            FOR UPDATE SKIP LOCKED\n", "            FOR UPDATE\n"),
    M(PG_CLAIM, "            FOR UPDATE SKIP LOCKED\n", ""),
    M(PG_CLAIM, "job.delayed <= {NOW} AND (job.expires", "(job.expires", HELD),
    M(PG_CLAIM, "job.delayed <= {NOW} AND", "job.delayed < {NOW} AND"),
    M(PG_CLAIM, "            parent.state::TEXT = 'active'\n            OR (", "            ("),
    M(PG_CLAIM, " AND (parent.expires IS NULL OR parent.expires > {NOW})", ""),
    M(PG_CLAIM, "parent.expires > {NOW}", "parent.expires >= {NOW}"),
    M(PG_CLAIM, "            OR (parent.state::TEXT = 'failed' AND NOT job.lax)", ""),
    M(PG_CLAIM, "'failed' AND NOT job.lax", "'failed'"),
    M(PG_CLAIM, "WHERE due <= {NOW} AND due IS NOT NULL", "WHERE due < {NOW} AND due IS NOT NULL"),
    M(
        PG_CLAIM,
        "AND state IN ('inactive', 'active')\"\"\"\n\n\ndef param",
        'AND state = \'inactive\'"""\n\n\ndef param',
    ),
    M(
        PG_CLAIM,
        "AND state IN ('inactive', 'active')\"\"\"\n\n\ndef param",
        'AND state = \'active\'"""\n\n\ndef param',
    ),
    M(PG_CLAIM, "job.priority >= %(min", "job.priority > %(min"),
    M(PG_CLAIM, '"coalesce" = %(coal', '"coalesce" LIKE %(coal'),
    M(PG_CLAIM, "WHERE job.id = %(id)s AND job.state", "WHERE job.state"),
    M(
        PG_CLAIM,
        '                AND job.queue = ANY (%(queues)s) AND job.task = ANY (%(tasks)s){conditions}"""',
        '{conditions}"""',
        RACES,
    ),
    M(PG_CLAIM, " AND job.queue = %(q{number})s AND", " AND", ASKED_AGAIN),
    M(PG_CLAIM, " AND job.task = %(t{number})s{", "{", ASKED_AGAIN),
    M(PG_CLAIM, '        " ORDER BY job.priority DESC, job.id"\n', '        " ORDER BY job.id"\n'),
    M(
        PG_CLAIM,
        '        " ORDER BY job.priority DESC, job.id"\n',
        '        " ORDER BY job.priority DESC, job.id DESC"\n',
    ),
    M(PG_CLAIM, '" ORDER BY priority DESC, id"', '" ORDER BY id"'),
    M(PG_CLAIM, '" ORDER BY priority DESC, id"', '" ORDER BY priority DESC, id DESC"'),
    M(
        PG_CLAIM,
        "            WHERE job.id = candidate.id AND job.state::TEXT = 'inactive' AND job.hold + 0 = 0\n",
        "            WHERE job.id = candidate.id\n",
        RACES,
    ),
    M(PG_CLAIM, "        WHERE NOT EXISTS (SELECT 1 FROM overdue)\n", ""),
    M(PG_CLAIM, "            state = 'active', worker = %(worker)s,", "            worker = %(worker)s,"),
    M(PG_CLAIM, "worker = %(worker)s, ", ""),
    M(PG_CLAIM, "started = {NOW}, ", ""),
    M(PG_CLAIM, "            grabbed_until = {NOW} + lease * INTERVAL '1 second', due", "            due"),
    M(PG_CLAIM, ", due = {NOW} + lease * INTERVAL '1 second'", ""),
    M(PG_CLAIM, "WHERE job.id = seen.id AND seen.claimable", "WHERE job.id = seen.id"),
    M(
        PG_BACKEND,
        "            self._driver.commit()\n            return\n",
        "            self._driver.rollback()\n            return\n",
    ),
    # Settling.
    M(PG_BACKEND, "(outcome.id, outcome.retries) in applied", "outcome.id in {id for id, _ in applied}"),
    M(PG_SETTLE, "fence = job.retries + 1", "fence = job.fence"),
    M(PG_SETTLE, 'driver.execute(RELEASE, {"ids": numbers([id for id, _ in applied]), "now": now})', "pass"),
    M(
        PG_SETTLE,
        "job.retries = given.retries AND {IS_ACTIVE}\n        RETURNING job.id, job.retries\n    ), ended AS (SELECT",
        "{IS_ACTIVE}\n        RETURNING job.id, job.retries\n    ), ended AS (SELECT",
    ),
    M(
        PG_SETTLE,
        "job.retries = given.retries AND {IS_ACTIVE}\n        RETURNING job.id, job.retries\n    ), ended AS (SELECT",
        "job.retries = given.retries\n        RETURNING job.id, job.retries\n    ), ended AS (SELECT",
    ),
    M(PG_SETTLE, "state = 'finished', finished = {NOW}, ", "state = 'finished', "),
    M(PG_SETTLE, "result = given.result::JSONB,\n            exit", "exit"),
    M(PG_SETTLE, "exit_status = given.exit_status, grabbed", "grabbed"),
    M(
        PG_SETTLE,
        "exit_status = given.exit_status, grabbed_until = NULL, touched",
        "exit_status = given.exit_status, touched",
    ),
    M(
        PG_SETTLE,
        "touched = touched + 1,\n            due = {NOW} + keep_for * INTERVAL '1 second'\n        FROM given",
        "touched = touched + 1\n        FROM given",
    ),
    M(
        PG_SETTLE,
        "{RELEASED} FROM ended",
        "NULL FROM ended",
    ),
    M(PG_SETTLE, "given.retry_in IS NOT NULL AND job.attempts > 1", "given.retry_in IS NOT NULL"),
    M(
        PG_SETTLE,
        "given.retry_in IS NOT NULL AND job.attempts > 1\n                AND (job.expires IS NULL OR job.expires > {NOW} + given.retry_in * INTERVAL '1 second')\n",
        "given.retry_in IS NOT NULL AND job.attempts > 1\n",
    ),
    M(PG_SETTLE, "job.expires > {NOW} + given.retry_in", "job.expires >= {NOW} + given.retry_in"),
    M(
        PG_SETTLE,
        "        WHERE job.retries = given.retries AND {IS_ACTIVE}\n        FOR UPDATE OF job\n",
        "        WHERE {IS_ACTIVE}\n        FOR UPDATE OF job\n",
    ),
    M(
        PG_SETTLE,
        "        WHERE job.retries = given.retries AND {IS_ACTIVE}\n        FOR UPDATE OF job\n",
        "        WHERE job.retries = given.retries\n        FOR UPDATE OF job\n",
    ),
    M(PG_SETTLE, "        FOR UPDATE OF job\n", "", RACES),
    M(
        PG_SETTLE,
        "exit_status = failing.exit_status, grabbed_until = NULL, failures = failures + 1,",
        "exit_status = failing.exit_status, grabbed_until = NULL,",
    ),
    M(PG_SETTLE, "attempts = attempts - 1, failures = failures + 1,", "failures = failures + 1,"),
    M(PG_SETTLE, "attempts = attempts - 1, failures = failures + 1,", "attempts = attempts - 1,"),
    M(PG_SETTLE, "            delayed = failing.again,\n", ""),
    M(PG_SETTLE, "retries = job.retries + 1, fence = job.retries + 1", "fence = job.retries + 1"),
    M(PG_SETTLE, '"""worker = NULL, ', '"""'),
    M(PG_SETTLE, '"""worker = NULL, grabbed_until = NULL, ', '"""worker = NULL, '),
    M(PG_SETTLE, "exit_status = NULL, retried = {NOW}, ", "exit_status = NULL, "),
    M(PG_SETTLE, "state = 'inactive', {BACK}, delayed = given.again,", "state = 'inactive', {BACK},"),
    M(
        PG_SETTLE,
        "FROM given WHERE job.id = given.id AND job.retries = given.retries AND {IS_ACTIVE}\n        RETURNING job.id, given.retries, job.queue",
        "FROM given WHERE job.id = given.id AND {IS_ACTIVE}\n        RETURNING job.id, given.retries, job.queue",
    ),
    M(
        PG_SETTLE,
        "FROM given WHERE job.id = given.id AND job.retries = given.retries AND {IS_ACTIVE}\n        RETURNING job.id, given.retries, job.queue",
        "FROM given WHERE job.id = given.id AND job.retries = given.retries\n        RETURNING job.id, given.retries, job.queue",
    ),
    M(PG_SETTLE, "    if row is None or row.retries != retries:\n", "    if row is None:\n"),
    M(
        PG_SETTLE,
        "    if row.expires is not None and row.expires <= now and options.expire is None:\n        return False\n",
        "",
    ),
    M(PG_SETTLE, "        remove_edges(work, [id])\n", ""),
    M(PG_SETTLE, "        add_edges(work, {id: options.parents})\n", ""),
    # -- MySQL and MariaDB: the claim.
    M(MY_CLAIM, "FOR UPDATE SKIP LOCKED", "FOR UPDATE"),
    M(MY_CLAIM, " FOR UPDATE SKIP LOCKED", ""),
    M(MY_CLAIM, "`delayed` > {now} OR expires <= {now}\n", "expires <= {now}\n"),
    M(MY_CLAIM, "`delayed` > {now} OR expires <= {now}\n", "`delayed` >= {now} OR expires <= {now}\n"),
    M(
        MY_CLAIM,
        "  WHERE id IN %(ids)s AND state = 'inactive' AND hold = 0\n",
        "  WHERE id IN %(ids)s\n",
        RACES,
    ),
    M(MY_CLAIM, "SET state = 'active', worker", "SET worker"),
    M(MY_CLAIM, "worker = %(worker)s, ", ""),
    M(MY_CLAIM, "started = {now},\n", "\n"),
    M(MY_CLAIM, "    grabbed_until = {now} + lease, due", "    due"),
    M(MY_CLAIM, ", due = {now} + lease\n", "\n"),
    M(MY_CLAIM, "state = '{state}' AND due <= {{now}}", "state = '{state}' AND due < {{now}}"),
    M(MY_CLAIM, '    for state in LIVE\n)\n"""Stands', '    for state in LIVE[:1]\n)\n"""Stands'),
    M(MY_CLAIM, "            sweep_all(self.work, self.work.now())\n", "            pass\n"),
    M(MY_CLAIM, "    taken.sort(key=lambda row: (-row.priority, row.id))\n", ""),
    M(MY_CLAIM, " and row.id not in blocked]", "]"),
    M(MY_CLAIM, "in_the_way(parent, child.c.lax, now)", "in_the_way(parent, sa.true(), now)"),
    M(MY_CLAIM, " AND queue = %(queue{number})s AND", " AND", ASKED_AGAIN),
    M(MY_CLAIM, " AND task = %(task{number})s{", "{", ASKED_AGAIN),
    M(MY_CLAIM, '" ORDER BY turn, id LIMIT {share})"', '" ORDER BY id LIMIT {share})"'),
    M(MY_CLAIM, '" ORDER BY turn, id LIMIT {share})"', '" ORDER BY turn, id DESC LIMIT {share})"'),
    M(MY_CLAIM, 'f" ORDER BY 1, 2 LIMIT', 'f" ORDER BY 2 LIMIT'),
    M(MY_CLAIM, "if seen[number] == share:", "if False:"),
    M(MY_CLAIM, '" AND id = %(id)s"', '" AND id >= %(id)s"'),
    M(MY_CLAIM, "turn <= %(turn)s", "turn < %(turn)s"),
    M(MY_CLAIM, "ready_coalesce = %(coal", "ready_coalesce LIKE %(coal"),
    M(MY_CLAIM, "options.coalesce_prefix.translate(LIKE_LITERALLY)", "options.coalesce_prefix"),
    M(
        MY_CLAIM,
        "turn = %(after_turn)s AND id > %(after_id)s",
        "turn = %(after_turn)s AND id >= %(after_id)s",
    ),
    M(MY_CONNECTIONS, '            self._execute("COMMIT")\n', '            self._execute("ROLLBACK")\n'),
    # Finishing.
    M(
        MY_WRITE,
        'WHERE id IN %(ids)s AND retries = %(retries)s AND state = \'active\'"""',
        'WHERE id IN %(ids)s AND state = \'active\'"""',
    ),
    M(
        MY_WRITE,
        'WHERE id IN %(ids)s AND retries = %(retries)s AND state = \'active\'"""',
        'WHERE id IN %(ids)s AND retries = %(retries)s"""',
    ),
    M(MY_WRITE, "SET state = 'finished', finished = {now}, ", "SET state = 'finished', "),
    M(MY_WRITE, "result = {result}, ", ""),
    M(MY_WRITE, "exit_status = {exit_status},\n    grabbed_until", "grabbed_until"),
    M(MY_WRITE, "    grabbed_until = NULL, due", "    due"),
    M(MY_WRITE, "due = {now} + keep_for", "due = NULL"),
    M(MY_WRITE, "retries.get(outcome.id) == outcome.retries]", "outcome.id in retries]"),
    M(MY_WRITE, "        release_children(work, parents)\n", "        pass\n"),
]


def source_of(module: str) -> tuple[Path, str]:
    """Answer the file of a module, and its text."""
    package, _, name = module.rpartition(".")
    spec = importlib.machinery.PathFinder.find_spec(package.partition(".")[0])
    assert spec is not None
    assert spec.submodule_search_locations
    path = Path(spec.submodule_search_locations[0], *package.split(".")[1:], f"{name}.py")
    return path, path.read_text(encoding="utf-8")


class Changed(importlib.machinery.SourceFileLoader):
    """Reads one module with a change."""

    mutant: SqlMutant

    def get_code(self, fullname: str) -> CodeType | None:  # noqa: ARG002, there is one
        text = Path(self.path).read_text(encoding="utf-8")
        return compile(text.replace(self.mutant.old, self.mutant.new), self.path, "exec")


class Finder(importlib.abc.MetaPathFinder):
    """Gives the changed module to whoever imports it."""

    def __init__(self, mutant: SqlMutant) -> None:
        self.mutant = mutant

    def find_spec(self, fullname: str, path: object, target: object = None) -> object:  # type: ignore[override]  # noqa: ARG002
        if fullname != self.mutant.module:
            return None
        loader = Changed(fullname, str(source_of(fullname)[0]))
        loader.mutant = self.mutant
        return importlib.machinery.ModuleSpec(fullname, loader, origin=loader.path)


def run(mutant: SqlMutant) -> str:
    """Run the checks against a mutant, in this process, and answer the first that fails."""
    sys.meta_path.insert(0, Finder(mutant))
    from minion_conformance.check import all_checks  # noqa: PLC0415, only now, with the change
    from minion_conformance.session import Session, Status, Target  # noqa: PLC0415

    checks = [check for check in all_checks().values() if check.run.__module__.rpartition(".")[2] in AREAS]
    checks.sort(key=lambda check: AREAS.index(check.run.__module__.rpartition(".")[2]))
    try:
        with store_for(mutant) as url, Session(Target(url), quick=True) as session:
            for check in checks:
                result = session.run(check)
                if result.status == Status.FAIL:
                    return f"{result.check}: {result.message}"
    except MinionError as error:
        return f"not even a check can be made: {error}"
    return ""


SERVERS: dict[str, type[Server]] = {"minion_pg": PostgreSQL, "minion_mysql": MariaDB}


def store_for(mutant: SqlMutant) -> AbstractContextManager[str]:
    """Make an empty store of the kind that a mutant is about."""
    kind = SERVERS.get(mutant.module.partition(".")[0])
    return sqlite() if kind is None else kind.shared().database()


@contextmanager
def sqlite() -> Iterator[str]:
    """Make an SQLite file, in memory where that is possible."""
    shm = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=shm if shm.is_dir() else None) as folder:
        yield f"sqlite:///{folder}/jobs.db?synchronous=normal"


def main() -> int:
    """Run them, two at a time, and tell the survivors."""
    chosen = sys.argv[1] if len(sys.argv) > 1 else ""
    if chosen.isdecimal():
        print(run(MUTANTS[int(chosen)]).replace("\n", " ")[:240])  # noqa: T201
        return 0
    numbers = [number for number, mutant in enumerate(MUTANTS) if mutant.module.startswith(chosen)]
    if stale := [n for n in numbers if MUTANTS[n].old not in source_of(MUTANTS[n].module)[1]]:
        print(f"these change nothing any more: {stale}")  # noqa: T201
        return 1
    survivors = 0
    with ExitStack() as stack, ThreadPoolExecutor(2) as pool:
        environment = dict(os.environ)
        for package in {MUTANTS[number].module.partition(".")[0] for number in numbers} & set(SERVERS):
            server = stack.enter_context(SERVERS[package].start())
            environment[server.variable] = server.url
        command = [sys.executable, __file__]
        told = pool.map(
            lambda number: subprocess.run(
                [*command, str(number)],
                capture_output=True,
                text=True,
                check=False,
                timeout=900,
                env=environment,
            ),
            numbers,
        )
        for number, done in zip(numbers, told, strict=True):
            mutant = MUTANTS[number]
            says = done.stdout.strip()
            survivors += not says and not mutant.same
            verdict = says or (f"the same: {mutant.same}" if mutant.same else "SURVIVED")
            if done.returncode:
                survivors += 1
                verdict = f"BROKEN: {done.stderr[-300:]}"
            print(f"{number} {mutant.module} {mutant.old!r} -> {mutant.new!r}\n    {verdict}", flush=True)  # noqa: T201
    print(f"{len(numbers)} mutants, {survivors} survivors")  # noqa: T201
    return 1 if survivors or not numbers else 0


if __name__ == "__main__":
    sys.exit(main())
