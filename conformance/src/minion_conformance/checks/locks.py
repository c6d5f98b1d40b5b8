"""LOCK: shares of a name, for a time."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from minion_conformance.check import check
from minion_conformance.clock import START

if TYPE_CHECKING:
    from minion_conformance.rig import Rig


def _take(rig: Rig, name: str = "name", duration: float = 60, limit: int = 1) -> str:
    token: Any = rig.backend.lock(name, duration, limit)
    rig.true("a free share is taken", isinstance(token, str) and token, f"{token!r} was answered")
    return str(token)


@check("LOCK-01")
def one_share(rig: Rig) -> None:
    _take(rig)
    rig.equal("a lock that is out is not taken", rig.backend.lock("name", 60), None)
    other = rig.client().lock("name", 60)
    rig.equal("a lock that is out is not taken, whoever asks", other, None)
    _take(rig, "other")


@check("LOCK-01")
def until_it_expires(rig: Rig) -> None:
    _take(rig, duration=60)
    rig.clock.advance(60 - rig.resolution)
    rig.equal("a lock is held until its time", rig.backend.lock("name", 60), None)
    rig.clock.advance(rig.resolution)
    _take(rig)


@check("LOCK-01")
def shares(rig: Rig) -> None:
    tokens = [_take(rig, limit=3) for _ in range(3)]
    rig.equal("every share has a token of its own", len(set(tokens)), 3)
    rig.equal("never more than limit", rig.backend.lock("name", 60, 3), None)
    rig.equal("the limit is the asker's", rig.backend.lock("name", 60, 1), None)
    _take(rig, limit=4)
    rig.equal("never more than limit", rig.backend.lock("name", 60, 4), None)


@check("LOCK-01")
def shares_expire_each(rig: Rig) -> None:
    _take(rig, duration=10, limit=2)
    _take(rig, duration=20, limit=2)
    rig.clock.advance(10)
    _take(rig, duration=5, limit=2)
    rig.equal("one share that ended is one that is free", rig.backend.lock("name", 60, 2), None)


@check("LOCK-01")
def never_more_in_threads(rig: Rig) -> None:
    clients = [rig.backend, *(rig.client() for _ in range(3))]
    for number in range(rig.rounds(12)):
        name, limit = f"lock {number}", 1 + number % 3
        calls = [
            lambda c=client: c.lock(name, 60, limit)  # noqa: B023
            for client in clients
        ]
        tokens = [token for token in rig.together(calls) if token]
        rig.equal("of many at once as many as limit get a share", len(set(tokens)), limit)


@check("LOCK-02")
def a_duration_of_0(rig: Rig) -> None:
    rig.true("a duration of 0 says that one could be taken", rig.backend.lock("name", 0) is not None)
    rig.equal("a duration of 0 takes nothing", rig.backend.list_locks(0, 9).total, 0)
    token = rig.backend.lock("name", 0)
    rig.equal("its token releases nothing", rig.backend.unlock("name", token), False)
    _take(rig)
    rig.equal("a duration of 0 says that none could be taken", rig.backend.lock("name", 0), None)
    rig.true("a duration of 0 goes by the limit", rig.backend.lock("name", 0, 2) is not None)
    rig.equal("its token releases nothing of others", rig.backend.unlock("name", token), False)
    rig.clock.advance(60)
    rig.true("a lock that ended could be taken", rig.backend.lock("name", 0) is not None)


@check("LOCK-03")
def by_token(rig: Rig) -> None:
    first, second, third = (_take(rig, duration=duration, limit=3) for duration in (30, 20, 10))
    rig.equal("the share of a token is released", rig.backend.unlock("name", first), True)
    ends = [share.expires - START for share in rig.backend.list_locks(0, 9).items]
    rig.equal("no other share is", ends, [timedelta(seconds=10), timedelta(seconds=20)])
    rig.equal("a share is released once", rig.backend.unlock("name", first), False)
    rig.equal("a token is one of its name", rig.backend.unlock("other", second), False)
    rig.equal("no token of nobody", rig.backend.unlock("name", "999999999"), False)
    rig.equal("no token of strange text", rig.backend.unlock("name", "x' or 1"), False)
    rig.clock.advance(10)
    rig.equal("a share that ended is not released", rig.backend.unlock("name", third), False)
    rig.equal("one that did not is", rig.backend.unlock("name", second), True)


@check("LOCK-03")
def the_one_that_expires_first(rig: Rig) -> None:
    for duration in (30, 10, 20, 5):
        _take(rig, duration=duration, limit=4)
    _take(rig, "other", 1)
    rig.clock.advance(5)
    for left in ([30, 20], [30], []):
        rig.equal("without a token a share is released", rig.backend.unlock("name"), True)
        ends = [
            (share.expires - START).total_seconds() for share in rig.backend.list_locks(0, 9, ["name"]).items
        ]
        rig.equal("the unexpired one that would expire first", sorted(ends, reverse=True), left)
    rig.equal("False when there is none", rig.backend.unlock("name"), False)
    rig.equal("False for an unknown name", rig.backend.unlock("unknown"), False)


@check("LOCK-03")
def free_again(rig: Rig) -> None:
    token = _take(rig)
    rig.backend.unlock("name", token)
    _take(rig)


@check("LOCK-04")
def listing(rig: Rig) -> None:
    _take(rig, "a", 10)
    _take(rig, "b", 20)
    _take(rig, "a", 30, 2)
    page = rig.backend.list_locks(0, 9)
    rig.equal(
        "newest first, with total", ([share.name for share in page.items], page.total), (["a", "b", "a"], 3)
    )
    rig.near("with the end of each", page.items[0].expires, START + timedelta(seconds=30))
    rig.true("with ids that grow", page.items[0].id > page.items[1].id > page.items[2].id > 0)
    page = rig.backend.list_locks(0, 1, ["a"])
    rig.equal("filter `names`", ([share.name for share in page.items], page.total), (["a"], 2))
    rig.equal("an offset", [share.name for share in rig.backend.list_locks(1, 9).items], ["b", "a"])
    page = rig.backend.list_locks(0, 9, [])
    rig.equal("an empty list matches nothing", (page.items, page.total), ([], 0))
    rig.equal("the total can be left out", rig.backend.list_locks(0, 9, total=False).total, None)
    rig.clock.advance(10)
    page = rig.backend.list_locks(0, 9)
    rig.equal("unexpired shares only", ([share.name for share in page.items], page.total), (["a", "b"], 2))


@check("LOCK-04")
def ids_are_tokens(rig: Rig) -> None:
    _take(rig)
    id = rig.backend.list_locks(0, 1).items[0].id
    rig.equal("a listed id releases its share", rig.backend.unlock("name", str(id)), True)
