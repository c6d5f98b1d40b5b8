"""A clock that stands still until it is told otherwise."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

START = datetime(2031, 3, 5, 10, 20, 30, 125000, tzinfo=UTC)
"""When every check begins: ahead of any real clock, so that a peek at the real one shows."""


class Clock:
    """Answers the instant that it was set to; given to a backend as its clock."""

    def __init__(self, instant: datetime = START) -> None:
        self.instant = instant

    def __call__(self) -> datetime:
        """Answer now."""
        return self.instant

    def advance(self, seconds: float) -> datetime:
        """Move on by so many seconds, and answer the new instant."""
        self.instant += timedelta(seconds=seconds)
        return self.instant

    def after(self, seconds: float) -> datetime:
        """Answer the instant so many seconds from now."""
        return self.instant + timedelta(seconds=seconds)


class RealClock(Clock):
    """The machine's own clock, for checks that run in real time."""

    def __call__(self) -> datetime:
        """Answer now."""
        return datetime.now(UTC)
