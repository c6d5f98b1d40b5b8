"""A worker whose store fails: it keeps what it has, says so once, and carries on (SAFE-03, WORK-05)."""

from __future__ import annotations

import threading
import time

import pytest

from minion_core import (
    BackendError,
    BackendUnavailable,
    Failed,
    JobFailed,
    Minion,
    NewJob,
    Worker,
)
from minion_core.plugins import backend_class


@pytest.fixture
def flaky(url):
    """A backend that fails when it is told to."""

    class Flaky(backend_class(url)):
        down = False
        lose_claims = 0
        refuse: type[BaseException] | None = None

        def _check(self):
            if self.down:
                raise BackendUnavailable("the store at mysql://me:secret@host is gone")

        def settle(self, outcomes):
            self._check()
            if self.refuse is not None and any(
                not isinstance(outcome, Failed) and outcome.result == "poison" for outcome in outcomes
            ):
                raise self.refuse("too large")
            return super().settle(outcomes)

        def dequeue(self, worker_id, options):
            self._check()
            claimed = super().dequeue(worker_id, options)
            if claimed and self.lose_claims:
                self.lose_claims -= 1
                raise BackendUnavailable("the answer was lost")
            return claimed

        def register_worker(self, *args):
            self._check()
            return super().register_worker(*args)

        def wait(self, timeout, options):
            self._check()
            return super().wait(timeout, options)

    backend = Flaky(url)
    backend.open()
    yield backend
    backend.close()


@pytest.fixture
def minion(flaky):
    minion = Minion(flaky.url).use(flaky)
    gate = threading.Event()

    @minion.task
    def work(answer):
        return answer

    @minion.task
    def at_the_gate():
        gate.wait(30)
        return "through"

    minion.gate = gate
    return minion


@pytest.fixture
def worker(minion, eventually):
    worker = Worker(minion, executor="inline", heartbeat_interval=0.1)
    thread = threading.Thread(target=worker.run)
    thread.start()
    eventually(lambda: worker.id is not None)
    yield worker
    worker.stop()
    thread.join(30)
    assert not thread.is_alive()


@pytest.mark.usefixtures("worker")
def test_an_outcome_is_kept_while_the_store_is_gone(minion, flaky, eventually, caplog):
    id = minion.enqueue("at_the_gate")
    eventually(lambda: minion.stats().active_jobs)
    flaky.down = True
    minion.gate.set()
    eventually(lambda: "The store: " in caplog.text)
    time.sleep(0.6)
    assert minion.stats().active_jobs == 1
    flaky.down = False
    assert minion.result(id, timeout=30) == "through"
    assert minion.result(minion.enqueue("work", [1]), timeout=30) == 1
    eventually(lambda: "The store: works again" in caplog.text)
    assert caplog.text.count("The store: the store at mysql") == 1
    assert "secret" not in caplog.text
    assert minion.stats().failed_jobs == 0


@pytest.mark.usefixtures("worker")
def test_a_claim_whose_answer_was_lost_is_given_back(minion, flaky):
    flaky.lose_claims = 2
    id = minion.enqueue("work", [1])
    assert minion.result(id, timeout=30) == 1
    record = next(minion.jobs(ids=[id]))
    assert (record.retries, record.attempts, record.failures) == (2, 1, 0)


@pytest.mark.parametrize("error", [BackendError, ValueError])
@pytest.mark.usefixtures("worker")
def test_an_outcome_that_the_store_refuses_fails_its_job_alone(minion, flaky, error):
    flaky.refuse = error
    poisoned = minion.enqueue("work", ["poison"])
    others = [entry.id for entry in minion.enqueue_many([NewJob("work", [n]) for n in range(5)])]
    with pytest.raises(JobFailed, match="Outcome could not be stored: too large"):
        minion.result(poisoned, timeout=30)
    assert [minion.result(id, timeout=30) for id in others] == list(range(5))


def test_a_store_that_is_gone_at_the_start_is_an_error(minion, flaky):
    flaky.down = True
    with pytest.raises(BackendUnavailable):
        Worker(minion, executor="inline").run()


@pytest.mark.parametrize(
    ("error", "options"),
    [
        (ValueError, {"jobs": 0}),
        (TypeError, {"jobs": "4"}),
        (ValueError, {"recycle": 0}),
        (ValueError, {"executor": "magic"}),
        (ValueError, {"heartbeat_interval": 0}),
        (TypeError, {"repair_interval": "often"}),
        (ValueError, {"queues": [""]}),
        (TypeError, {"nonsense": 1}),
    ],
)
def test_bad_options_are_refused(minion, error, options):
    with pytest.raises(error):
        minion.worker(**options)


def test_remote_commands(minion, worker, eventually, caplog):
    obeyed = []
    worker.add_command("note", lambda its_worker, *args: obeyed.append((its_worker, args)))
    worker.add_command("break", lambda _worker: 1 / 0)
    worker._intervals["command_interval"] = 0.1
    for command, args in [("note", [1, "b"]), ("unheard", []), ("break", [])]:
        assert minion.broadcast(command, args)
    worker._receive()
    eventually(lambda: "Remote command break failed" in caplog.text)
    assert obeyed == [(worker, (1, "b"))]
    assert "Unknown remote command: unheard" in caplog.text
