"""Claiming on MySQL and MariaDB: read candidates, lock them by primary key, look again, take.

A locking read that sorts, or that walks an index other than the primary one, locks more than it answers and
meets other transactions in the wrong order. So candidates are read without a lock, one range of
``minion_jobs_ready`` for each pair of queue and task, and only then locked by their ids, those that others
hold left out. What the locked rows say then is what counts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from itertools import groupby, product
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import sqlalchemy as sa
from attrs import frozen

from minion_core.records import ClaimedJob, DequeueOptions
from minion_core.sql.jobs import claimed_job
from minion_core.sql.readiness import in_the_way, judge
from minion_core.sql.tables import LIVE, from_microseconds, in_state, to_microseconds
from minion_core.sql.transitions import sweep_all
from minion_core.sql.work import CHUNK, chunks

if TYPE_CHECKING:
    from minion_core.sql import Work

Candidate: TypeAlias = tuple[int, int]
"""``turn`` and id, in the order of CLAIM-02."""

RANGES_MAX = 250
"""How many ranges one statement merges."""

SPARE = 16
"""How many candidates more than wanted are read, since others may have locked the first ones."""

STORE_CLOCK = "TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(6))"
"""Microseconds since 1970 at the beginning of the statement."""

ANYTHING_DUE = " UNION ALL ".join(
    "(SELECT NULL, NULL, -1 FROM minion_jobs FORCE INDEX (minion_jobs_due)"
    f" WHERE state = '{state}' AND due <= {{now}} LIMIT 1)"
    for state in LIVE
)
"""Stands before all candidates, since null comes first."""

LOCK = """SELECT id, task, NULLIF(args, '[]'), NULLIF(kwargs, '{{}}'), retries, attempts, failures,
    NULLIF(notes, '{{}}'), queue, priority, `coalesce`, uniqkey, lease,
    NULLIF(parents, '[]') IS NOT NULL, `delayed` > {now} OR expires <= {now}
  FROM minion_jobs FORCE INDEX (PRIMARY)
  WHERE id IN %(ids)s AND state = 'inactive' AND hold = 0
  ORDER BY id LIMIT %(limit)s FOR UPDATE SKIP LOCKED"""

TAKE = """UPDATE minion_jobs FORCE INDEX (PRIMARY)
  SET state = 'active', worker = %(worker)s, started = {now},
    grabbed_until = {now} + lease, due = {now} + lease
  WHERE id IN %(ids)s"""

LIKE_LITERALLY = str.maketrans({"\\": "\\\\", "%": "\\%", "_": "\\_"})


class _Row(NamedTuple):
    """A locked row that looked claimable, as it is now; null for what is empty."""

    id: int
    task: bytes
    args: str | None
    kwargs: str | None
    retries: int
    attempts: int
    failures: int
    notes: str | None
    queue: bytes
    priority: int
    coalesce: bytes | None
    uniqkey: bytes | None
    lease: int | None
    has_parents: int
    is_not_due: int | None


def clock_text(work: Work) -> str:
    """Write now as SQL: the store's clock at the statement, or what the caller's clock says."""
    return STORE_CLOCK if work.backend.clock is None else str(to_microseconds(work.now()))


def claim(work: Work, worker_id: int, options: DequeueOptions) -> list[ClaimedJob]:
    """Claim up to ``options.limit`` jobs, the best first."""
    run = _Claim(work, options, clock_text(work))
    taken = run.gather()
    if not taken:
        return []
    now = 0
    clock = run.clock
    if any(row.lease is not None for row in taken):
        # The end of the lease that is answered must be the one that is stored.
        now = to_microseconds(work.now())
        clock = str(now)
    run.execute(TAKE.format(now=clock), {"worker": worker_id, "ids": [row.id for row in taken]})
    taken.sort(key=lambda row: (-row.priority, row.id))
    return [_claimed_job(row, now) for row in taken]


@frozen
class _Claim:
    work: Work
    options: DequeueOptions
    clock: str

    def execute(self, statement: str, values: Any = None) -> Sequence[Any]:
        """Send a statement by the driver itself."""
        with self.work.driver.cursor() as cursor:
            cursor.execute(statement, values)
            rows: Sequence[Any] = cursor.fetchall()
            return rows

    def gather(self) -> list[_Row]:
        """Lock rows until there are as many as wanted, or nothing more is offered."""
        taken: list[_Row] = []
        window = self.options.limit + SPARE
        after: Candidate | None = None
        found, more, due = candidates(self.work, self.options, window, clock=self.clock)
        if due:
            sweep_all(self.work, self.work.now())
            found, more, _ = candidates(self.work, self.options, window)
        while found:
            for some in self._slices(found, taken):
                taken += self._lock(some, self.options.limit - len(taken))
                if len(taken) == self.options.limit:
                    return taken
            if not more:
                break
            # Others hold what was found, or it was not claimable after all: go on behind it.
            after = found[-1]
            window = min(2 * window, CHUNK)
            found, more, _ = candidates(self.work, self.options, window, after)
        return taken

    def _slices(self, found: list[Candidate], taken: list[_Row]) -> Iterator[Sequence[int]]:
        """Cut candidates so that rows locked in the order of their ids are locked in that of CLAIM-02."""
        wanted = self.options.limit - len(taken)
        if found and found[0][0] != found[min(wanted, len(found)) - 1][0]:
            # Of different priorities: first exactly the best ones.
            yield sorted(id for _, id in found[:wanted])
            found = found[wanted:]
        for _, equal in groupby(found, key=lambda candidate: candidate[0]):
            yield [id for _, id in equal]

    def _lock(self, ids: Sequence[int], limit: int) -> list[_Row]:
        locked: list[_Row] = []
        statement = LOCK.format(now=self.clock)
        while len(locked) < limit and ids:
            wanted = limit - len(locked)
            values = {"ids": list(ids), "limit": wanted}
            rows = [_Row(*row) for row in self.execute(statement, values)]
            if not rows:
                break
            blocked = self._blocked([row.id for row in rows if row.has_parents])
            good = [row for row in rows if not row.is_not_due and row.id not in blocked]
            locked += [row for row in good if self._matches(row)]
            if len(good) < len(rows):
                # What the index shows and the conditions refuse goes where it belongs.
                refused = {row.id for row in rows}.difference(row.id for row in good)
                judge(self.work, sorted(refused), self.work.now())
            if len(rows) < wanted:
                break
            ids = [id for id in ids if id > rows[-1].id]
        return locked

    def _blocked(self, ids: Sequence[int]) -> set[int]:
        if not ids:
            return set()
        now = self.work.now()
        jobs, edges = self.work.tables.jobs, self.work.tables.edges
        child, parent = jobs.alias("child"), jobs.alias("parent")
        return {
            id
            for some in chunks(ids)
            for id in self.work.connection.execute(
                sa.select(edges.c.child)
                .join(child, child.c.id == edges.c.child)
                .join(parent, parent.c.id == edges.c.parent)
                .where(edges.c.child.in_(some), in_the_way(parent, child.c.lax, now))
            ).scalars()
        }

    def _matches(self, row: _Row) -> bool:
        """Look again at what a retry may have changed since the candidate was read."""
        options = self.options
        return (
            row.queue.decode() in options.queues
            and row.task.decode() in options.tasks
            and (options.min_priority is None or row.priority >= options.min_priority)
        )


def candidates(
    work: Work,
    options: DequeueOptions,
    limit: int,
    after: Candidate | None = None,
    *,
    clock: str | None = None,
) -> tuple[list[Candidate], bool, bool]:
    """Read the best candidates that the index offers, without locking.

    Returns:
        At most ``limit`` of them, in order; whether there may be more behind the last; and, if a clock was
        given, whether it has made anything due.
    """
    pairs = list(product(options.queues, options.tasks))
    # Ranges are read in part: the answer is right up to the end of the first range that was cut off.
    share = limit if len(pairs) == 1 else max(4, (2 if after is None else 6) * limit // len(pairs))
    conditions, values = _filters(options, after)
    rows: list[tuple[int, int, int]] = []
    due = False
    for part in range(0, len(pairs), RANGES_MAX):
        ranges = pairs[part : part + RANGES_MAX]
        numbers = range(part, part + len(ranges))
        statement = candidates_statement(
            numbers, options, conditions, share=share, limit=limit, clock="" if part else clock or ""
        )
        for number, (queue, task) in enumerate(ranges, part):
            values[f"queue{number}"] = queue
            values[f"task{number}"] = task
        with work.driver.cursor() as cursor:
            cursor.execute(statement, values)
            rows += cursor.fetchall()
        while rows and rows[0][2] < 0:
            due = True
            del rows[0]
    if len(pairs) > RANGES_MAX:
        rows.sort()
    more = len(rows) >= limit
    seen: Counter[int] = Counter()
    for position, (_, _, number) in enumerate(rows[:limit], 1):
        seen[number] += 1
        if seen[number] == share:
            return [row[:2] for row in rows[:position]], True, due
    return [row[:2] for row in rows[:limit]], more, due


def candidates_statement(
    numbers: Iterable[int],
    options: DequeueOptions,
    conditions: str,
    *,
    share: int,
    limit: int,
    clock: str,
) -> str:
    """Write the select that merges ranges of the index, each read in its order and no further than needed."""
    index = "minion_jobs_ready"
    ready = "ready = 1"
    if options.coalesce is not None or options.coalesce_prefix is not None:
        index, ready = "minion_jobs_coalesce", "ready_coalesce IS NOT NULL"
    if options.id is not None:
        index, ready = "PRIMARY", "ready = 1"
    return (
        (f"{ANYTHING_DUE.format(now=clock)} UNION ALL " if clock else "")
        + " UNION ALL ".join(
            f"(SELECT turn, id, {number} FROM minion_jobs FORCE INDEX ({index})"
            f" WHERE {ready} AND queue = %(queue{number})s AND task = %(task{number})s{conditions}"
            f" ORDER BY turn, id LIMIT {share})"
            for number in numbers
        )
        + f" ORDER BY 1, 2 LIMIT {limit + (2 if clock else 0)}"
    )


def _filters(options: DequeueOptions, after: Candidate | None) -> tuple[str, dict[str, Any]]:
    conditions = ""
    values: dict[str, Any] = {}
    if options.id is not None:
        conditions += " AND id = %(id)s"
        values["id"] = options.id
    if options.min_priority is not None:
        conditions += " AND turn <= %(turn)s"
        values["turn"] = -options.min_priority
    if options.coalesce is not None:
        conditions += " AND ready_coalesce = %(coalesce)s"
        values["coalesce"] = options.coalesce
    if options.coalesce_prefix is not None:
        conditions += " AND ready_coalesce LIKE %(prefix)s"
        values["prefix"] = options.coalesce_prefix.translate(LIKE_LITERALLY) + "%"
    if after is not None:
        conditions += " AND (turn > %(after_turn)s OR turn = %(after_turn)s AND id > %(after_id)s)"
        values["after_turn"], values["after_id"] = after
    return conditions, values


def _claimed_job(row: _Row, now: int) -> ClaimedJob:
    columns = (
        row.id,
        row.task.decode(),
        row.args or "[]",
        row.kwargs or "{}",
        row.retries,
        row.attempts,
        row.failures,
        row.notes or "{}",
        row.queue.decode(),
        row.priority,
        None if row.coalesce is None else row.coalesce.decode(),
        None if row.uniqkey is None else row.uniqkey.decode(),
    )
    if row.lease is None:
        return claimed_job(columns, None, None)
    return claimed_job(columns, row.lease / 1_000_000, from_microseconds(now + row.lease))


def may_be_claimable(work: Work, options: DequeueOptions) -> bool:
    """Look whether the index offers anything that matches."""
    return bool(candidates(work, options, 1)[0])


def next_due(work: Work) -> datetime | None:
    """Answer the next instant at which the clock changes something of a live job."""
    with work.driver.cursor() as cursor:
        cursor.execute(NEXT_DUE)
        instants = [instant for instant in cursor.fetchone() if instant is not None]
    return from_microseconds(min(instants)) if instants else None


NEXT_DUE = "SELECT " + ", ".join(
    "(SELECT due FROM minion_jobs FORCE INDEX (minion_jobs_due)"
    f" WHERE state = '{state}' AND due IS NOT NULL ORDER BY due LIMIT 1)"
    for state in LIVE
)


def lock_due(work: Work, now: datetime) -> Sequence[sa.Row[Any]]:
    """Lock live rows that are due by their ids, after a look that locks nothing."""
    jobs = work.tables.jobs
    locked: list[sa.Row[Any]] = []
    for state in LIVE:
        after: tuple[datetime, int] | None = None
        while len(locked) < CHUNK:
            due = sa.and_(in_state(jobs, state), jobs.c.due <= now)
            page = due if after is None else sa.and_(due, _behind(jobs, after))
            found = work.connection.execute(
                sa.select(jobs.c.due, jobs.c.id)
                .with_hint(jobs, "FORCE INDEX (minion_jobs_due)")
                .where(page)
                .order_by(jobs.c.due, jobs.c.id)
                .limit(CHUNK - len(locked))
            ).all()
            if not found:
                break
            after = found[-1][0], found[-1][1]
            select = sa.select(jobs.c.id, jobs.c.state).where(jobs.c.id.in_([row.id for row in found]), due)
            locked += work.connection.execute(
                work.backend.lock_rows(select.order_by(jobs.c.id), skip_locked=True)
            )
    return locked


def _behind(jobs: sa.FromClause, after: tuple[datetime, int]) -> sa.ColumnElement[bool]:
    due, id = after
    return sa.or_(jobs.c.due > due, sa.and_(jobs.c.due == due, jobs.c.id > id))
