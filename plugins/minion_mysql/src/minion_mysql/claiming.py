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
from typing import TYPE_CHECKING, Any, TypeAlias

import sqlalchemy as sa
from attrs import frozen

from minion_core.records import ClaimedJob, DequeueOptions
from minion_core.sql.readiness import in_the_way, judge
from minion_core.sql.tables import LIVE, from_microseconds, in_state, to_microseconds
from minion_core.sql.transitions import sweep_all
from minion_core.sql.work import CHUNK, chunks
from minion_core.values import decode_json

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

ANYTHING_DUE = """SELECT EXISTS (SELECT 1 FROM minion_jobs FORCE INDEX (minion_jobs_due)
    WHERE state = 'inactive' AND due <= {now})
  OR EXISTS (SELECT 1 FROM minion_jobs FORCE INDEX (minion_jobs_due)
    WHERE state = 'active' AND due <= {now})"""

LOCK = """SELECT id, task, args, kwargs, retries, attempts, failures, notes, queue, priority, `coalesce`,
    uniqkey, lease, `delayed`, expires, parents, {now}
  FROM minion_jobs FORCE INDEX (PRIMARY)
  WHERE id IN %(ids)s AND state = 'inactive' AND hold = 0
  ORDER BY id LIMIT %(limit)s FOR UPDATE SKIP LOCKED"""

TAKE = """UPDATE minion_jobs FORCE INDEX (PRIMARY)
  SET state = 'active', worker = %(worker)s, started = %(now)s,
    grabbed_until = %(now)s + lease, due = %(now)s + lease
  WHERE id IN %(ids)s"""

LIKE_LITERALLY = str.maketrans({"\\": "\\\\", "%": "\\%", "_": "\\_"})


@frozen
class _Row:
    """A locked row that looked claimable, as it is now."""

    id: int
    task: bytes
    args: str
    kwargs: str
    retries: int
    attempts: int
    failures: int
    notes: str
    queue: bytes
    priority: int
    coalesce: bytes | None
    uniqkey: bytes | None
    lease: int | None
    delayed: int
    expires: int | None
    parents: str
    now: int


def clock_text(work: Work) -> str:
    """Write now as SQL: the store's clock at the statement, or what the caller's clock says."""
    return STORE_CLOCK if work.backend.clock is None else str(to_microseconds(work.now()))


def claim(work: Work, worker_id: int, options: DequeueOptions) -> list[ClaimedJob]:
    """Claim up to ``options.limit`` jobs, the best first."""
    clock = clock_text(work)
    run = _Claim(work, options, clock)
    if run.execute(ANYTHING_DUE.format(now=clock))[0][0]:
        sweep_all(work, work.now())
    taken = run.gather()
    if taken:
        # The clock was read when the last of them was locked.
        now = max(row.now for row in taken)
        run.execute(TAKE, {"worker": worker_id, "now": now, "ids": [row.id for row in taken]})
        taken.sort(key=lambda row: (-row.priority, row.id))
        return [_claimed_job(row, now) for row in taken]
    return []


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
        while len(taken) < self.options.limit:
            found, more = candidates(self.work, self.options, window, after)
            for some in self._slices(found, taken):
                taken += self._lock(some, self.options.limit - len(taken))
                if len(taken) == self.options.limit:
                    return taken
            if not more or not found:
                break
            # Others hold what was found, or it was not claimable after all: go on behind it.
            after = found[-1]
            window = min(2 * window, CHUNK)
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
            now = from_microseconds(rows[0].now)
            blocked = self._blocked([row.id for row in rows if row.parents != "[]"], now)
            good = [row for row in rows if row.id not in blocked and _is_due(row)]
            locked += [row for row in good if self._matches(row)]
            if len(good) < len(rows):
                # What the index shows and the conditions refuse goes where it belongs.
                judge(self.work, sorted({row.id for row in rows}.difference(row.id for row in good)), now)
            if len(rows) < wanted:
                break
            ids = [id for id in ids if id > rows[-1].id]
        return locked

    def _blocked(self, ids: Sequence[int], now: datetime) -> set[int]:
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


def _is_due(row: _Row) -> bool:
    return row.delayed <= row.now and (row.expires is None or row.expires > row.now)


def candidates(
    work: Work, options: DequeueOptions, limit: int, after: Candidate | None = None
) -> tuple[list[Candidate], bool]:
    """Read the best candidates that the index offers, without locking.

    Returns:
        At most ``limit`` of them, in order, and whether there may be more behind the last.
    """
    pairs = list(product(options.queues, options.tasks))
    # Ranges are read in part: the answer is right up to the end of the first range that was cut off.
    share = limit if len(pairs) == 1 else max(4, (2 if after is None else 6) * limit // len(pairs))
    conditions, values = _filters(options, after)
    rows: list[tuple[int, int, int]] = []
    for part in range(0, len(pairs), RANGES_MAX):
        ranges = pairs[part : part + RANGES_MAX]
        statement = candidates_statement(range(part, part + len(ranges)), options, conditions, share, limit)
        for number, (queue, task) in enumerate(ranges, part):
            values[f"queue{number}"] = queue
            values[f"task{number}"] = task
        with work.driver.cursor() as cursor:
            cursor.execute(statement, values)
            rows += cursor.fetchall()
    if len(pairs) > RANGES_MAX:
        rows.sort()
    more = len(rows) >= limit
    seen: Counter[int] = Counter()
    for position, (_, _, number) in enumerate(rows[:limit], 1):
        seen[number] += 1
        if seen[number] == share:
            return [row[:2] for row in rows[:position]], True
    return [row[:2] for row in rows[:limit]], more


def candidates_statement(
    numbers: Iterable[int], options: DequeueOptions, conditions: str, share: int, limit: int
) -> str:
    """Write the select that merges ranges of the index, each read in its order and no further than needed."""
    index = "minion_jobs_ready"
    ready = "ready = 1"
    if options.coalesce is not None or options.coalesce_prefix is not None:
        index, ready = "minion_jobs_coalesce", "ready_coalesce IS NOT NULL"
    if options.id is not None:
        index, ready = "PRIMARY", "ready = 1"
    return (
        " UNION ALL ".join(
            f"(SELECT turn, id, {number} FROM minion_jobs FORCE INDEX ({index})"
            f" WHERE {ready} AND queue = %(queue{number})s AND task = %(task{number})s{conditions}"
            f" ORDER BY turn, id LIMIT {share})"
            for number in numbers
        )
        + f" ORDER BY 1, 2 LIMIT {limit}"
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
    return ClaimedJob(
        row.id,
        row.task.decode(),
        [] if row.args == "[]" else decode_json(row.args),
        {} if row.kwargs == "{}" else decode_json(row.kwargs),
        row.retries,
        row.attempts,
        row.failures,
        {} if row.notes == "{}" else decode_json(row.notes),
        row.queue.decode(),
        row.priority,
        None if row.coalesce is None else row.coalesce.decode(),
        None if row.uniqkey is None else row.uniqkey.decode(),
        None if row.lease is None else row.lease / 1_000_000,
        None if row.lease is None else from_microseconds(now + row.lease),
    )


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
