"""Mutants of the SQL of the real plugin: conditions, orders and columns dropped in turn.

    python tests/conformance/sql_mutants.py        all of them; some minutes on two cores
    python tests/conformance/sql_mutants.py 17     one of them

Each runs in a process of its own, in which the module is read with the change, against the checks that need
no second process, until one fails. A mutant that changes only the cost, not the answers, says so.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import CodeType

from attrs import frozen

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
    M(SETTLE, "(row.expires is None or row.expires >= again)", "True"),
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
        "    if row.expires is not None and row.expires <= now and options.expire is None:\n        return False\n",  # noqa: E501
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
    M(UPKEEP, "                sa.and_(in_state(parent, State.INACTIVE), parent.c.expires > limit),\n", ""),
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
    M(LOCKS, "    if taken >= limit:", "    if taken > limit:"),
    M(LOCKS, "select_from(locks).where(locks.c.name == name)", "select_from(locks)"),
    M(LOCKS, "locks.c.name == name, locks.c.expires > now)", "locks.c.expires > now)"),
    M(LOCKS, "locks.c.name == name, locks.c.expires > now)", "locks.c.name == name)"),
    M(LOCKS, "order_by(locks.c.expires, locks.c.id)", "order_by(locks.c.expires.desc(), locks.c.id)"),
    M(LOCKS, "[locks.c.expires > work.now()]", "[]"),
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
    shm = Path("/dev/shm")
    with (
        tempfile.TemporaryDirectory(dir=shm if shm.is_dir() else None) as folder,
        Session(Target(f"sqlite:///{folder}/jobs.db?synchronous=normal"), quick=True) as session,
    ):
        for check in checks:
            result = session.run(check)
            if result.status == Status.FAIL:
                return f"{result.check}: {result.message}"
    return ""


def main() -> int:
    """Run them all, two at a time, and tell the survivors."""
    if len(sys.argv) > 1:
        print(run(MUTANTS[int(sys.argv[1])]).replace("\n", " ")[:240])  # noqa: T201
        return 0
    with ThreadPoolExecutor(2) as pool:
        command = [sys.executable, __file__]
        told = pool.map(
            lambda number: subprocess.run(
                [*command, str(number)], capture_output=True, text=True, check=False, timeout=600
            ),
            range(len(MUTANTS)),
        )
        survivors = 0
        for number, (mutant, done) in enumerate(zip(MUTANTS, told, strict=True)):
            says = done.stdout.strip() or (
                f"it does not load: {done.stderr[-200:]}" if done.returncode else ""
            )
            survivors += not says and not mutant.same
            verdict = says or (f"the same: {mutant.same}" if mutant.same else "SURVIVED")
            print(f"{number} {mutant.module} {mutant.old!r} -> {mutant.new!r}\n    {verdict}", flush=True)  # noqa: T201
    print(f"{len(MUTANTS)} mutants, {survivors} survivors")  # noqa: T201
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())
