"""Schedules: what a cron expression enqueues, and dispatching the runs that are due (SCHED-01, SCHED-02)."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from attrs import frozen

from minion_core.cron import next_run
from minion_core.records import NewJob, NewSchedule, ScheduleFilter, ScheduleRecord
from minion_core.values import moment

if TYPE_CHECKING:
    from collections.abc import Iterator

    from minion_core.minion import Minion
    from minion_core.values import When

logger = logging.getLogger(__name__)

SCHEDULE_FIELDS = frozenset({"attempts", "expire", "lax", "notes", "priority", "queue"})
"""The fields that a schedule gives its jobs."""

PAGE = 100


@frozen
class Dispatched:
    """A due run of a schedule that was enqueued.

    Attributes:
        id: The id of the schedule.
        name: Its name.
        job: The id of the job.
    """

    id: int
    name: str
    job: int


def new_schedule(
    minion: Minion,
    name: str,
    cron: str,
    task: str,
    *,
    args: Sequence[Any],
    kwargs: Mapping[str, Any] | None,
    time_zone: str,
    first_run: When | None = None,
    **fields: Any,
) -> NewSchedule:
    """Make the record of a schedule; see ``Minion.schedule``."""
    unknown = fields.keys() - SCHEDULE_FIELDS
    if unknown:
        known = ", ".join(sorted(SCHEDULE_FIELDS))
        raise TypeError(f"a schedule has no field {', '.join(sorted(unknown))} (known: {known})")
    registered = minion.tasks.get(task)
    if registered is not None:
        usual = {key: value for key, value in registered.defaults.items() if key in SCHEDULE_FIELDS}
        fields = {**usual, **fields}
    if isinstance(fields.get("expire"), timedelta):
        fields["expire"] = fields["expire"].total_seconds()
    now = minion.backend.now()
    first = next_run(cron, now, time_zone)
    if first_run is not None:
        given = moment(first_run, "first_run")
        first = given if isinstance(given, datetime) else now + timedelta(seconds=given)
    return NewSchedule(
        name, cron.strip(), first, task, args, {} if kwargs is None else kwargs, time_zone=time_zone, **fields
    )


def dispatch(minion: Minion) -> list[Dispatched]:
    """Enqueue one job for each due schedule; see ``Minion.dispatch_schedules``."""
    dispatched = []
    for due in _due(minion):
        try:
            following = next_run(due.cron, minion.backend.now(), due.time_zone)
            job = _job_of(minion, due)
        except (TypeError, ValueError) as error:
            logger.error("Schedule %s cannot be dispatched: %s", due.name, error)  # noqa: TRY400  # one line
            continue
        enqueued = minion.backend.fire_schedule(due.id, due.next_run, following, job)
        if enqueued is None:
            continue
        minion.plugins.notify("minion_enqueued", minion=minion, jobs=[job], enqueued=[enqueued])
        minion.plugins.notify("minion_schedule_dispatched", minion=minion, name=due.name, job_id=enqueued.id)
        dispatched.append(Dispatched(due.id, due.name, enqueued.id))
    return dispatched


def _due(minion: Minion) -> Iterator[ScheduleRecord]:
    wanted = ScheduleFilter(due=True)
    while page := minion.backend.list_schedules(0, PAGE, wanted, total=False).items:
        yield from page
        if len(page) < PAGE:
            return
        wanted = ScheduleFilter(due=True, before=page[-1].id)


def _job_of(minion: Minion, due: ScheduleRecord) -> NewJob:
    registered = minion.tasks.get(due.task)
    defaults = {} if registered is None else registered.defaults
    # A schedule keeps no lease and no keep_for: those of the task apply.
    usual = {key: defaults[key] for key in ("keep_for", "lease") if key in defaults}
    return NewJob(
        due.task,
        due.args,
        due.kwargs,
        attempts=due.attempts,
        expire=due.expire,
        lax=due.lax,
        notes=due.notes,
        priority=due.priority,
        queue=due.queue,
        **usual,
    )
