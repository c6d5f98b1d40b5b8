"""WORK: registration, heartbeats, inboxes."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from minion_conformance.check import check
from minion_conformance.clock import START
from minion_core.records import Finished, WorkerFilter, WorkerRecord

if TYPE_CHECKING:
    from minion_conformance.rig import Rig


def _worker(rig: Rig, id: int) -> WorkerRecord:
    found = rig.backend.list_workers(0, 10, WorkerFilter(ids=[id])).items
    rig.equal("a registered worker is listed", [worker.id for worker in found], [id])
    return found[0]


def _register(rig: Rig, status: dict[str, Any] | None = None) -> int:
    return rig.backend.register_worker(None, "host.example", 4711, status or {})


@check("WORK-01")
def registering(rig: Rig) -> None:
    status: dict[str, Any] = {"jobs": [1, 2], "text": "\u20ac", "none": None}
    id = _register(rig, status)
    worker = _worker(rig, id)
    rig.equal("host and pid are recorded", (worker.host, worker.pid), ("host.example", 4711))
    rig.near("started is now", worker.started, START)
    rig.near("notified is now", worker.notified, START)
    rig.equal("the status is recorded", worker.status, status)
    rig.true("every registration has an id of its own", _register(rig) > id > 0)


@check("WORK-01")
def heartbeat(rig: Rig) -> None:
    id, other = _register(rig, {"old": 1}), _register(rig)
    rig.clock.advance(60)
    rig.equal(
        "a heartbeat keeps the id", rig.backend.register_worker(id, "host.example", 4711, {"new": 2}), id
    )
    worker = _worker(rig, id)
    rig.near("a heartbeat keeps started", worker.started, START)
    rig.near("a heartbeat sets notified", worker.notified, START + timedelta(seconds=60))
    rig.equal("a heartbeat replaces the status", worker.status, {"new": 2})
    rig.near("another worker's heart does not beat", _worker(rig, other).notified, START)


@check("WORK-01")
def a_heartbeat_keeps_the_inbox(rig: Rig) -> None:
    id = _register(rig)
    rig.backend.broadcast("stop")
    rig.backend.register_worker(id, "host.example", 4711, {})
    rig.equal("a heartbeat keeps the inbox", rig.backend.receive(id), [["stop"]])


@check("WORK-01")
def made_again(rig: Rig) -> None:
    id = _register(rig)
    rig.backend.unregister_worker(id)
    rig.clock.advance(60)
    again = rig.backend.register_worker(id, "host.example", 4711, {"back": 1})
    rig.equal("a registration that is gone is made again under the same id", again, id)
    worker = _worker(rig, id)
    rig.equal(
        "it is recorded again", (worker.host, worker.pid, worker.status), ("host.example", 4711, {"back": 1})
    )
    rig.near("it is notified now", worker.notified, START + timedelta(seconds=60))
    rig.true("its id is given to nobody else", _register(rig) > id)


@check("WORK-02")
def listing(rig: Rig) -> None:
    ids = [_register(rig) for _ in range(5)]
    page = rig.backend.list_workers(0, 2, WorkerFilter())
    rig.equal("newest first", [worker.id for worker in page.items], [ids[4], ids[3]])
    rig.equal("with total", page.total, 5)
    rig.equal(
        "an offset", [w.id for w in rig.backend.list_workers(3, 5, WorkerFilter()).items], [ids[1], ids[0]]
    )
    rig.equal(
        "filter `before`",
        [worker.id for worker in rig.backend.list_workers(0, 9, WorkerFilter(before=ids[2])).items],
        [ids[1], ids[0]],
    )
    page = rig.backend.list_workers(0, 9, WorkerFilter(ids=[ids[1], ids[3], 10**9]))
    rig.equal("filter `ids`", ([worker.id for worker in page.items], page.total), ([ids[3], ids[1]], 2))
    page = rig.backend.list_workers(0, 9, WorkerFilter(ids=[]))
    rig.equal("an empty list matches nothing", (page.items, page.total), ([], 0))
    total = rig.backend.list_workers(0, 9, WorkerFilter(), total=False).total
    rig.equal("the total can be left out", total, None)


@check("WORK-02")
def active_jobs(rig: Rig) -> None:
    one, two = _register(rig), _register(rig)
    rig.enqueue()
    rig.enqueue()
    rig.enqueue()
    mine = [job.id for job in rig.claim(2, worker=one)]
    rig.equal("a worker has the ids of its active jobs", sorted(_worker(rig, one).jobs), mine)
    rig.equal("a worker has no other's jobs", _worker(rig, two).jobs, [])
    rig.end(Finished(mine[0], 0))
    rig.equal("a worker has no jobs that have ended", _worker(rig, one).jobs, [mine[1]])


@check("WORK-03")
def in_order_and_once(rig: Rig) -> None:
    id = _register(rig)
    rig.equal("an inbox is empty at first", rig.backend.receive(id), [])
    rig.backend.broadcast("first")
    rig.backend.broadcast("second", [1, {"a": None}, "\U0001f980"])
    rig.backend.broadcast("third", ["x"], [id])
    want = [["first"], ["second", 1, {"a": None}, "\U0001f980"], ["third", "x"]]
    rig.equal("commands are received in order", rig.backend.receive(id), want)
    rig.equal("a command is received once", rig.backend.receive(id), [])


@check("WORK-03")
def to_whom(rig: Rig) -> None:
    one, two, three = _register(rig), _register(rig), _register(rig)
    rig.equal("a broadcast to some says True", rig.backend.broadcast("some", ids=[one, three, 10**9]), True)
    rig.equal("a broadcast to all says True", rig.backend.broadcast("all"), True)
    rig.equal("a broadcast to nobody says False", rig.backend.broadcast("none", ids=[]), False)
    rig.equal("a broadcast to strangers says False", rig.backend.broadcast("none", ids=[10**9]), False)
    got = [rig.backend.receive(id) for id in (one, two, three)]
    rig.equal(
        "only the named workers get it, or all", got, [[["some"], ["all"]], [["all"]], [["some"], ["all"]]]
    )
    rig.equal("a stranger has no inbox", rig.backend.receive(10**9), [])


@check("WORK-03")
def without_workers(rig: Rig) -> None:
    rig.equal("a broadcast with no workers says False", rig.backend.broadcast("x"), False)
    id = _register(rig)
    rig.equal("a worker gets nothing of what was before it", rig.backend.receive(id), [])


@check("WORK-03")
def none_is_lost(rig: Rig) -> None:
    id = _register(rig)
    total = rig.rounds(80)
    senders = [rig.client(), rig.client()]
    receivers = [rig.client(), rig.client()]
    got: list[list[Any]] = []

    def send(number: int) -> None:
        for count in range(total):
            senders[number].broadcast("n", [number, count])

    def receive(number: int) -> None:
        for _ in range(total):
            got.extend(receivers[number].receive(id))

    rig.together([lambda: send(0), lambda: send(1), lambda: receive(0), lambda: receive(1)])
    got += rig.backend.receive(id)
    want = sorted([number, count] for number in range(2) for count in range(total))
    rig.equal("each command is received once, none is lost", sorted(c[1:] for c in got), want)


@check("WORK-04")
def unregistering(rig: Rig) -> None:
    one, two = _register(rig), _register(rig)
    rig.backend.broadcast("x")
    rig.equal("a worker is unregistered", rig.backend.unregister_worker(one), True)
    left = [worker.id for worker in rig.backend.list_workers(0, 9, WorkerFilter()).items]
    rig.equal("only that worker is gone", left, [two])
    rig.equal("what is gone is not unregistered again", rig.backend.unregister_worker(one), False)
    rig.equal("its inbox is gone", rig.backend.receive(one), [])
    rig.equal("another's inbox stays", rig.backend.receive(two), [["x"]])


@check("WORK-04")
def its_inbox_is_not_inherited(rig: Rig) -> None:
    id = _register(rig)
    rig.backend.broadcast("x")
    rig.backend.unregister_worker(id)
    rig.backend.register_worker(id, "host.example", 1, {})
    rig.equal("a worker that comes back has an empty inbox", rig.backend.receive(id), [])
