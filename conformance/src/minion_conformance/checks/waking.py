"""WAKE: a worker that waits, in real time; each wait is a fraction of a second."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from minion_conformance.check import check
from minion_conformance.rig import join
from minion_core.backend import Backend
from minion_core.records import DequeueOptions, Finished, NewJob, Released, RetryOptions

if TYPE_CHECKING:
    from minion_conformance.rig import Rig

T = DequeueOptions(tasks=("t",))
SLACK = 0.25
"""Seconds that a busy machine may be late."""


def _waited(backend: Backend, timeout: float, options: DequeueOptions = T) -> float:
    began = time.perf_counter()
    backend.wait(timeout, options)
    return time.perf_counter() - began


def _woken(rig: Rig, do: Callable[[], object], timeout: float = 5.0, options: DequeueOptions = T) -> float:
    """Answer how long after something was done a waiting client came back."""
    waiter = rig.client(real=True)
    back: list[float] = []

    def wait() -> None:
        waiter.wait(timeout, options)
        back.append(time.perf_counter())

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    time.sleep(0.15)
    rig.equal("a wait lasts while nothing is claimable", back, [])
    did = time.perf_counter()
    do()
    join([thread])
    return back[0] - did


@check("WAKE-01")
def at_the_timeout(rig: Rig) -> None:
    rig.use_real_time()
    rig.backend.now()
    for timeout in (0.0, 0.12):
        waited = _waited(rig.backend, timeout)
        rig.true(
            "a wait with nothing to come lasts its time",
            waited >= timeout * 0.9,
            f"{waited:.3f} s of {timeout}",
        )
        rig.true("a wait ends at its timeout", waited < timeout + SLACK, f"{waited:.3f} s of {timeout}")


@check("WAKE-01")
def at_once_when_claimable(rig: Rig) -> None:
    rig.use_real_time()
    rig.enqueue()
    waited = _waited(rig.backend, 3)
    rig.true("a wait ends at once when a job is claimable", waited < SLACK, f"after {waited:.2f} s")


@check("WAKE-01")
def only_for_what_matches(rig: Rig) -> None:
    rig.use_real_time()
    rig.enqueue("other")
    rig.enqueue(queue="other")
    rig.enqueue(priority=-1)
    options = DequeueOptions(tasks=("t",), min_priority=0)
    backs, end = 0, time.perf_counter() + 0.4
    while (left := end - time.perf_counter()) > 0.02:
        rig.equal("nothing matches", rig.claimed(min_priority=0), [])
        rig.backend.wait(left, options)
        backs += 1
    rig.true(
        "jobs that do not match do not end a wait again and again", backs <= 3, f"{backs} times in 0.4 s"
    )


@check("WAKE-01")
def not_again_and_again(rig: Rig) -> None:
    rig.use_real_time()
    parent = rig.enqueue("parent")
    rig.enqueue(parents=(parent,))
    rig.enqueue(delay=60)
    rig.claim_one(rig.enqueue("active"), tasks=("active",))
    backs, end = 0, time.perf_counter() + 0.4
    while (left := end - time.perf_counter()) > 0.02:
        rig.equal("nobody can claim them", rig.claimed(tasks=("t", "active")), [])
        rig.backend.wait(left, DequeueOptions(tasks=("t", "active")))
        backs += 1
    rig.true(
        "jobs that nobody can claim do not end a wait again and again", backs <= 3, f"{backs} times in 0.4 s"
    )


@check("WAKE-01")
def by_polling(rig: Rig) -> None:
    rig.use_real_time()
    rig.true(
        "there is a poll behind it all", 0 < rig.backend.poll_interval <= 5, f"{rig.backend.poll_interval} s"
    )
    blocked, taken = rig.active("parent"), rig.active()
    rig.enqueue(parents=(blocked.id,))
    ways: list[Callable[[], object]] = [
        lambda: rig.end(Finished(blocked.id, 0)),
        lambda: rig.backend.retry_job(taken.id, 0, RetryOptions()),
    ]
    for way in ways:
        late = _woken(rig, way)
        rig.claim_one()
        most = rig.backend.poll_interval + SLACK
        rig.true(
            "what becomes claimable ends a wait within poll_interval", late < most, f"after {late:.2f} s"
        )


@check("WAKE-02")
def a_delay_that_ends(rig: Rig) -> None:
    rig.use_real_time()
    rig.enqueue(delay=0.3)
    waited = _waited(rig.backend, 4)
    rig.true("the end of a delay wakes when it comes", waited < 0.3 + SLACK, f"{waited:.2f} s instead of 0.3")
    rig.true("the end of a delay wakes when it has come", len(rig.claimed()) == 1, "nothing was claimable")


@check("WAKE-02")
def a_lease_that_ends(rig: Rig) -> None:
    rig.use_real_time()
    rig.active(lease=0.3)
    waited = _waited(rig.backend, 4)
    rig.true("the end of a lease wakes when it comes", waited < 0.3 + SLACK, f"{waited:.2f} s instead of 0.3")
    rig.true("the end of a lease wakes when it has come", len(rig.claimed()) == 1, "nothing was claimable")


@check("WAKE-02")
def a_parent_that_expires(rig: Rig) -> None:
    rig.use_real_time()
    parent = rig.enqueue("parent", expire=0.3)
    rig.enqueue(parents=(parent,))
    rig.claimed()
    waited = _waited(rig.backend, 4)
    rig.true(
        "the expiry of a parent wakes when it comes", waited < 0.3 + SLACK, f"{waited:.2f} s instead of 0.3"
    )
    rig.true(
        "the expiry of a parent wakes when it has come", len(rig.claimed()) == 1, "nothing was claimable"
    )


@check("WAKE-02")
def what_comes_meanwhile(rig: Rig) -> None:
    rig.use_real_time()
    rig.backend.now()
    late = _woken(rig, lambda: rig.enqueue(delay=0.2), timeout=4)
    most = max(0.2 + SLACK, rig.backend.poll_interval + SLACK)
    rig.true("a delay that was begun meanwhile wakes when it ends", late < most, f"after {late:.2f} s")


def _enqueue_one(backend: Backend) -> None:
    backend.enqueue([NewJob("t")])


def _wake_limit(rig: Rig) -> float:
    return min(0.5, rig.backend.poll_interval / 2)


@check("WAKE-03")
def by_another_client(rig: Rig) -> None:
    rig.use_real_time()
    rig.backend.now()
    other = rig.client()
    late = _woken(rig, lambda: _enqueue_one(other))
    rig.facts["woken by a client, in ms"] = round(late * 1000, 1)
    rig.true("enqueueing wakes before the next poll", late < _wake_limit(rig), f"it woke after {late:.2f} s")
    claim = rig.claim_one()
    late = _woken(rig, lambda: rig.end(Released(claim.id, 0)))
    rig.true(
        "giving back wakes within a poll", late < rig.backend.poll_interval + SLACK, f"after {late:.2f} s"
    )


@check("WAKE-03", "multi_process")
def by_another_process(rig: Rig) -> None:
    rig.use_real_time()
    rig.backend.now()
    (hand,) = rig.crew.hands(1)
    times = []
    for _ in range(3):
        late = _woken(rig, lambda: hand.tell(_enqueue_one))
        hand.answer()
        times.append(late)
        rig.claim_one()
    rig.facts["woken by a process, in ms"] = round(min(times) * 1000, 1)
    best = sorted(times)[1]
    rig.true(
        "enqueueing in another process wakes before the next poll", best < _wake_limit(rig), f"{best:.2f} s"
    )


@check("WAKE-04")
def within_a_poll(rig: Rig) -> None:
    rig.use_real_time()
    rig.backend.now()
    other = rig.client()
    late = _woken(rig, lambda: _enqueue_one(other))
    most = rig.backend.poll_interval + SLACK
    rig.true("a job of another client ends a wait within poll_interval", late < most, f"after {late:.2f} s")
