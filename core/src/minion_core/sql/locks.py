"""Named locks with shares that expire."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import sqlalchemy as sa

from minion_core.records import LockRecord, Page
from minion_core.sql.work import Work, at

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement

NOTHING_TAKEN = "0"
"""The token of a lock that was only asked for: no share has the id 0."""


def lock(work: Work, name: str, duration: float, limit: int) -> str | None:
    """Take a share while nobody else counts those of this name (LOCK-01, LOCK-02)."""
    locks = work.tables.locks
    work.backend.guard_lock(work, name)
    now = work.now()
    ended = sa.select(locks.c.id).where(locks.c.name == name, locks.c.expires <= now)
    if ids := work.connection.execute(ended).scalars().all():
        work.connection.execute(sa.delete(locks).where(locks.c.id.in_(ids)))
    if work.count(locks, locks.c.name == name) >= limit:
        return None
    if duration <= 0:
        return NOTHING_TAKEN
    made = work.connection.execute(sa.insert(locks).values(name=name, expires=at(now, duration)))
    return str(made.inserted_primary_key[0]) if made.inserted_primary_key is not None else None


def unlock(work: Work, name: str, token: str | None) -> bool:
    """Release one share: that of the token, or the one that would expire first (LOCK-03)."""
    locks = work.tables.locks
    now = work.now()
    share = sa.select(locks.c.id).where(locks.c.name == name, locks.c.expires > now)
    if token is None:
        share = share.order_by(locks.c.expires, locks.c.id).limit(1)
    elif token.isdecimal() and len(token) < len(str(2**63)):
        share = share.where(locks.c.id == int(token))
    else:
        return False
    id = work.connection.execute(work.backend.lock_rows(share)).scalar()
    if id is None:
        return False
    return work.connection.execute(sa.delete(locks).where(locks.c.id == id)).rowcount > 0


def list_locks(
    work: Work, offset: int, limit: int, names: Sequence[str] | None, *, total: bool
) -> Page[LockRecord]:
    """List unexpired shares, newest first (LOCK-04)."""
    locks = work.tables.locks
    conditions: list[ColumnElement[bool]] = [locks.c.expires > work.now()]
    if names is not None:
        conditions.append(work.backend.among(locks.c.name, names))
    rows = work.connection.execute(
        sa.select(locks).where(*conditions).order_by(locks.c.id.desc()).limit(limit).offset(offset)
    )
    items = [LockRecord(row.id, row.name, row.expires) for row in rows]
    count = work.count(locks, *conditions) if total else None
    return Page(items, count)
