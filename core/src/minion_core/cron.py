"""When a cron expression is due: five fields or an alias, in a time zone (SCHED-01).

The arithmetic is cronsim's, which follows Debian's cron: where the day of month and the day of week are both
restricted, either of them will do (Vixie's rule), and a run whose local time is skipped by a change of the
clocks happens right after the change, one whose local time comes twice happens once.
"""

from __future__ import annotations

from datetime import UTC, datetime, tzinfo
from functools import lru_cache
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

ALIASES = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}

FIELDS = 5


def next_run(cron: str, after: datetime, time_zone: str = "UTC") -> datetime:
    """Answer the first moment after ``after`` at which a cron expression is due, in UTC.

    Args:
        cron: Five fields (minute, hour, day of month, month, day of week) with ranges, steps, lists and
            names, or one of ``ALIASES``.
        after: An aware ``datetime``.
        time_zone: Name of the IANA time zone that the fields are read in.

    Raises:
        ValueError: The expression or the time zone is not known, or never due.
    """
    expression = _expression(cron)
    try:
        runs = CronSim(expression, after.astimezone(_zone(time_zone)))
        for run in runs:
            # In the hour that comes twice, local times count back: what is not after is not next.
            if run > after:
                return run.astimezone(UTC)
    except CronSimError as error:
        raise ValueError(f"bad cron expression {cron!r}: {error}") from None
    raise ValueError(f"bad cron expression {cron!r}: no day is ever like that")


def _expression(cron: object) -> str:
    if not isinstance(cron, str):
        raise TypeError(f"a cron expression must be text, not {type(cron).__name__}")
    text = cron.strip()
    if text.startswith("@"):
        if text.lower() not in ALIASES:
            raise ValueError(f"bad cron expression {cron!r}: the aliases are {', '.join(ALIASES)}")
        return ALIASES[text.lower()]
    if len(text.split()) != FIELDS:
        raise ValueError(
            f"bad cron expression {cron!r}: five fields are needed:"
            " minute, hour, day of month, month, day of week"
        )
    return text


@lru_cache(maxsize=64)
def _zone(name: str) -> tzinfo:
    if name == "UTC":
        return UTC
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise ValueError(
            f"unknown time zone {name!r}: an IANA name like Europe/Berlin is needed"
            " (on a machine without time zone data: pip install tzdata)"
        ) from None
