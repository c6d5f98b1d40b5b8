"""Pure judgements of a history that several processes wrote: events in, a complaint or nothing out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import pairwise

from attrs import frozen


@frozen
class Event:
    """Something that a process did, from one moment to another of the machine's monotonic clock."""

    who: int
    what: str
    subject: tuple[object, ...]
    began: float
    ended: float


def claimed_once(events: Iterable[Event]) -> str | None:
    """Judge that each attempt was claimed at most once."""
    counts = Counter(event.subject for event in events if event.what == "claimed")
    twice = sorted((subject for subject, count in counts.items() if count > 1), key=str)
    return f"the attempts (id, retries) {twice[:5]} were claimed by two" if twice else None


def settled_once(events: Iterable[Event]) -> str | None:
    """Judge that each attempt was settled at most once, and only by who had claimed it."""
    events = list(events)
    owners = {event.subject: event.who for event in events if event.what == "claimed"}
    seen: set[object] = set()
    for event in events:
        if event.what != "settled":
            continue
        if event.subject in seen:
            return f"the attempt {event.subject} was settled twice"
        if owners.get(event.subject) != event.who:
            return f"the attempt {event.subject} was settled by who had not claimed it"
        seen.add(event.subject)
    return None


def all_ended(acknowledged: Iterable[int], removed: Iterable[int], terminal: Iterable[int]) -> str | None:
    """Judge that what was acknowledged and not removed is terminal after the drain."""
    lost = sorted(set(acknowledged) - set(removed) - set(terminal))
    return f"the jobs {lost[:5]} ({len(lost)} in all) were acknowledged and have not ended" if lost else None


def most_at_once(events: Iterable[Event], what: str) -> int:
    """Count how many things of a kind were going on at the same moment, at most."""
    edges: list[tuple[float, int]] = []
    for event in events:
        if event.what == what:
            edges += [(event.began, 1), (event.ended, -1)]
    most = now = 0
    for _, step in sorted(edges):
        now += step
        most = max(most, now)
    return most


def never_more_than(limit: int, events: Iterable[Event], what: str) -> str | None:
    """Judge that never more than ``limit`` things of a kind went on at the same moment."""
    most = most_at_once(events, what)
    return f"{most} were held at one moment, the limit is {limit}" if most > limit else None


def each_once(wanted: Iterable[object], got: Sequence[object]) -> str | None:
    """Judge that everything came exactly once."""
    counts, expected = Counter(got), Counter(wanted)
    twice, lost = counts - expected, expected - counts
    if twice:
        return f"{sorted(map(str, twice))[:5]} came more than once, or from nowhere"
    return f"{sorted(map(str, lost))[:5]} ({sum(lost.values())} in all) never came" if lost else None


def overlaps(events: Iterable[Event], what: str) -> int:
    """Count the calls of a kind that began before one of another process had ended: contention, shown."""
    spans = sorted((event.began, event.ended, event.who) for event in events if event.what == what)
    return sum(later[0] < earlier[1] and later[2] != earlier[2] for earlier, later in pairwise(spans))
