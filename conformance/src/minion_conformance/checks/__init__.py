"""The checks, one file per area of the contract; importing this registers them all."""

from minion_conformance.checks import (
    basics,
    changing,
    claiming,
    dependencies,
    enqueueing,
    leases,
    listing,
    locks,
    races,
    repair,
    schedules,
    settling,
    stats,
    survival,
    waking,
    workers,
)

__all__ = [
    "basics",
    "changing",
    "claiming",
    "dependencies",
    "enqueueing",
    "leases",
    "listing",
    "locks",
    "races",
    "repair",
    "schedules",
    "settling",
    "stats",
    "survival",
    "waking",
    "workers",
]
