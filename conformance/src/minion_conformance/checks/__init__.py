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
    repair,
    schedules,
    settling,
    stats,
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
    "repair",
    "schedules",
    "settling",
    "stats",
    "waking",
    "workers",
]
