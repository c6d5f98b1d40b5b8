"""Keeping ``hold`` and ``due`` right: which jobs the claim's index shows, and what the clock changes.

The hint errs towards 0 only, and that is kept by three rules. A job is judged when it is stored or when
its own row is locked, with parents read after that lock. Whatever ends, returns or removes a parent puts
``hold = 0`` on all its children, without asking whether other parents are in the way. And the claim checks
the true conditions, and has what it finds wanting judged again.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from minion_core.records import State
from minion_core.sql.tables import BLOCKED, DELAYED, EXPIRED, LIVE, MAY_BE_CLAIMABLE, in_state
from minion_core.sql.work import Work, chunks, earliest

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement


def in_the_way(parent: sa.FromClause, lax: ColumnElement[bool], now: datetime) -> ColumnElement[bool]:
    """State DEP-01 as a condition on a parent's row; ``lax`` is its child's."""
    return sa.or_(
        in_state(parent, State.ACTIVE),
        sa.and_(
            in_state(parent, State.INACTIVE),
            sa.or_(parent.c.expires.is_(None), parent.c.expires > now),
        ),
        sa.and_(in_state(parent, State.FAILED), sa.not_(lax)),
    )


def hold_and_due(
    now: datetime,
    delayed: datetime,
    expires: datetime | None,
    *,
    blocked: bool = False,
    unblocked_by_clock: datetime | None = None,
) -> tuple[int, datetime | None]:
    """Judge an inactive job: what keeps it from being claimed, and when the clock changes that."""
    if expires is not None and expires <= now:
        return EXPIRED, None
    if blocked:
        return BLOCKED, earliest(expires, unblocked_by_clock)
    if delayed > now:
        return DELAYED, earliest(delayed, expires)
    return MAY_BE_CLAIMABLE, expires


def judge(work: Work, ids: Sequence[int], now: datetime) -> int:
    """Judge inactive jobs whose rows are locked, and answer for how many the hint changed."""
    jobs = work.tables.jobs
    changes: list[dict[str, Any]] = []
    for some in chunks(ids):
        rows = work.connection.execute(
            sa.select(
                jobs.c.id, jobs.c.delayed, jobs.c.expires, jobs.c.hold, jobs.c.due, jobs.c.parents
            ).where(jobs.c.id.in_(some), in_state(jobs, State.INACTIVE))
        ).all()
        blocked = _blocked(work, [row.id for row in rows if row.parents], now)
        for row in rows:
            hold, due = hold_and_due(
                now,
                row.delayed,
                row.expires,
                blocked=row.id in blocked,
                unblocked_by_clock=blocked.get(row.id),
            )
            if (hold, due) != (row.hold, row.due):
                changes.append({"b_id": row.id, "b_hold": hold, "b_due": due})
    if changes:
        work.connection.execute(
            sa.update(jobs)
            .where(jobs.c.id == sa.bindparam("b_id"))
            .values(hold=sa.bindparam("b_hold"), due=sa.bindparam("b_due")),
            changes,
        )
    return len(changes)


def _blocked(work: Work, ids: Sequence[int], now: datetime) -> dict[int, datetime | None]:
    """Answer which of these jobs have a parent in their way, and the earliest expiry among those parents."""
    if not ids:
        return {}
    edges, child, parent = work.tables.edges, work.tables.child, work.tables.parent
    earliest_expiry = sa.func.min(
        sa.case((in_state(parent, State.INACTIVE), parent.c.expires)), type_=parent.c.expires.type
    )
    rows = work.connection.execute(
        sa.select(edges.c.child, earliest_expiry.label("earliest"))
        .join(child, child.c.id == edges.c.child)
        .join(parent, parent.c.id == edges.c.parent)
        .where(edges.c.child.in_(ids), in_the_way(parent, child.c.lax, now))
        .group_by(edges.c.child)
    )
    return {row.child: row.earliest for row in rows}


def next_due(work: Work) -> datetime | None:
    """Answer the next instant at which the clock changes something of a live job."""
    jobs = work.tables.jobs
    return work.connection.execute(
        sa.select(sa.func.min(jobs.c.due, type_=jobs.c.due.type)).where(
            jobs.c.due.is_not(None), in_state(jobs, *LIVE)
        )
    ).scalar()


def release_children(work: Work, parents: Collection[int]) -> None:
    """Put ``hold = 0`` on all inactive children of these jobs, in the order of their ids."""
    jobs, edges = work.tables.jobs, work.tables.edges
    for some in chunks(sorted(parents)):
        children = work.connection.execute(
            sa.select(edges.c.child).where(edges.c.parent.in_(some)).distinct()
        ).scalars()
        for group in chunks(sorted(children)):
            inactive = sa.and_(jobs.c.id.in_(group), in_state(jobs, State.INACTIVE))
            # Not only those that are held: another transaction may be about to hold one, for a parent
            # whose end it could not see. Its lock is waited for here.
            work.connection.execute(
                work.backend.lock_rows(sa.select(jobs.c.id).where(inactive).order_by(jobs.c.id))
            )
            work.connection.execute(
                sa.update(jobs)
                .where(inactive, jobs.c.hold != MAY_BE_CLAIMABLE)
                .values(hold=MAY_BE_CLAIMABLE, due=jobs.c.expires)
            )
