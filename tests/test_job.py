"""Jobs and their verbs (JOB-01 to JOB-08), in one process."""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta

import pytest

from minion_core import (
    DequeueOptions,
    Job,
    JobFailed,
    JobNotClaimable,
    Minion,
    NewJob,
    RetryOptions,
    State,
    UnknownJob,
    UnknownTask,
)


@pytest.fixture
def minion(url, clock):
    with Minion(url, clock=clock) as minion:
        yield minion


@pytest.fixture
def claim(minion):
    """Enqueue a job and claim it."""

    def claim(**fields):
        minion.tasks.get("work") or minion.add_task("work", lambda: None)
        id = minion.enqueue("work", **fields)
        return claim_again(id)

    def claim_again(id):
        worker = minion.backend.register_worker(None, "here", 1, {})
        (claimed,) = minion.backend.dequeue(worker, DequeueOptions(("work",), id=id))
        return Job(minion, claimed, worker)

    claim.again = claim_again
    return claim


# -- Verbs (JOB-01) --------------------------------------------------------------------------------------


@pytest.mark.parametrize("verb", ["completed", "finish"])
def test_completed(claim, verb):
    job = claim()
    assert getattr(job, verb)({"a": [1]}) is True
    info = job.info()
    assert (info.state, info.result, info.exit_status) == (State.FINISHED, {"a": [1]}, 0)
    assert job.did_something


def test_failed_retries_while_attempts_are_left(claim, clock):
    job = claim(attempts=2)
    assert job.failed("no luck", 5) is True
    info = job.info()
    assert (info.state, info.attempts, info.failures, info.exit_status) == (State.INACTIVE, 1, 1, None)
    assert info.delayed == clock() + timedelta(seconds=15)
    clock.turn(15)
    again = claim.again(job.id)
    assert again.failed("no luck again", 5) is True
    info = again.info()
    assert (info.state, info.result, info.exit_status) == (State.FAILED, "no luck again", 5)
    assert [failure.message for failure in job.failure_log()] == ["no luck", "no luck again"]


@pytest.mark.parametrize("status", [None, 0])
def test_the_exit_status_of_a_failure_is_never_0(claim, status):
    job = claim()
    job.failed("no", status)
    assert job.exit_status == 1


def test_permanent_failure_never_retries(claim):
    job = claim(attempts=5)
    assert job.permanent_failure("hopeless", 9) is True
    assert (job.info().state, job.exit_status, job.is_pending) == (State.FAILED, 9, False)


def test_fail_leaves_a_result(claim):
    job = claim()
    assert job.fail({"code": 7}) is True
    assert job.info().result == {"code": 7}
    assert job.failure_log()[0].message == '{"code":7}'


def test_declined_waits_for_the_end_of_the_lease(claim, clock):
    job = claim(attempts=3, lease=100)
    clock.turn(10)
    job.extend()
    assert job.declined() is True
    assert job.was_declined
    assert job.did_something
    info = job.info()
    assert (info.state, info.attempts, info.failures) == (State.INACTIVE, 3, 0)
    assert info.delayed == clock() + timedelta(seconds=100)


def test_declined_without_a_lease_waits_for_decline_delay(claim, clock):
    job = claim()
    job.declined()
    assert job.info().delayed == clock() + timedelta(seconds=60)


@pytest.mark.parametrize("moment", [30, timedelta(seconds=30), datetime(2026, 1, 1, 0, 0, 30, tzinfo=UTC)])
def test_declined_until_a_moment(claim, clock, moment):
    job = claim(lease=100)
    job.declined(moment)
    assert job.info().delayed == clock() + timedelta(seconds=30)


def test_replace_with(claim, minion):
    job = claim(uniqkey="k")
    made = job.replace_with(NewJob("work", uniqkey="k"), NewJob("other", [1]))
    assert [entry.created for entry in made] == [True, True]
    assert (job.info().state, job.exit_status) == (State.FINISHED, 0)
    assert [minion.job(entry.id).task for entry in made] == ["work", "other"]


def test_replace_with_nothing_is_done_too(claim):
    job = claim()
    assert job.replace_with() is True
    assert job.info().state == State.FINISHED


def test_replace_with_takes_new_jobs_only(claim):
    job = claim()
    with pytest.raises(TypeError, match="NewJob"):
        job.replace_with("work")
    assert not job.did_something


def test_retry_from_inside(claim):
    job = claim()
    assert job.retry(delay=5, priority=3) is True
    assert (job.info().state, job.info().priority, job.info().retries) == (State.INACTIVE, 3, 1)
    assert job.completed() is False


def test_retry_from_outside(claim, minion):
    job = claim()
    job.completed(1)
    view = minion.job(job.id)
    assert view.retry(attempts=4) is True
    assert view.info().attempts == 4
    assert minion.job(job.id).retry() is True


def test_note(claim):
    job = claim(notes={"a": 1, "b": 2})
    assert job.note({"with space": [1]}, b=None, c=3) is True
    assert job.info().notes == job.notes == {"a": 1, "with space": [1], "c": 3}
    job.completed()
    job.remove()
    assert job.note(x=1) is False


def test_set_exit_status_and_add_failure(claim):
    job = claim()
    job.set_exit_status(42)
    assert job.add_failure("not so well") is True
    job.completed()
    assert (job.exit_status, job.failures) == (42, 1)
    assert job.info().state == State.FINISHED


def test_debug(claim, caplog):
    job = claim()
    with caplog.at_level(logging.DEBUG, "minion_core.job"):
        job.debug("look here")
    assert caplog.messages == [f"Job {job.id} (work): look here"]


def test_extend(claim, clock):
    job = claim(lease=60)
    clock.turn(50)
    assert job.extend() is True
    assert job.info().grabbed_until == clock() + timedelta(seconds=60)
    assert job.extend(10) is True
    assert job.info().grabbed_until == clock() + timedelta(seconds=10)
    clock.turn(10)
    claim.again(job.id)
    assert job.extend() is False
    with pytest.raises(ValueError, match="no lease"):
        claim().extend()


def test_parents_and_children(minion):
    parents = [minion.enqueue("a"), minion.enqueue("b")]
    child = minion.insert(NewJob("c", parents=(*parents, 999)))
    assert [job.id for job in child.parents()] == parents
    assert [job.id for job in minion.job(parents[0]).children()] == [child.id]


def test_remove(claim):
    job = claim()
    assert job.remove() is False
    job.completed()
    assert job.remove() is True
    assert job.info() is None


# -- Settling once (JOB-03) ------------------------------------------------------------------------------


@pytest.mark.parametrize("first", ["completed", "declined", "failed", "retry", "replace_with"])
def test_a_job_settles_once(claim, caplog, first):
    job = claim(attempts=3)
    assert getattr(job, first)(*(["no"] if first == "failed" else []))
    before = job.info()
    assert job.completed() is False
    assert job.failed("late") is False
    assert job.permanent_failure("late") is False
    assert job.declined() is False
    assert job.replace_with(NewJob("work")) is False
    assert job.retry() is False
    assert job.info() == before
    assert caplog.text.count("came too late") == 6


def test_an_attempt_that_is_over_cannot_be_settled(claim, minion, caplog):
    job = claim()
    minion.backend.retry_job(job.id, 0, RetryOptions())
    assert job.completed() is False
    assert "the attempt is over" in caplog.text
    assert minion.job(job.id).info().state == State.INACTIVE


def test_a_result_that_cannot_be_kept_settles_nothing(claim):
    job = claim()
    with pytest.raises(TypeError):
        job.completed(object())
    assert not job.did_something
    assert job.completed() is True


# -- Handles (JOB-05) ------------------------------------------------------------------------------------


def test_a_handle_is_the_job_anywhere(claim, url, clock):
    job = claim()
    with Minion(url, clock=clock) as other:
        same = other.job(job.handle)
        assert (same.id, same.is_pending, same.exit_status, same.failures) == (job.id, True, None, 0)
        job.failed("no", 3)
        assert (same.is_pending, same.exit_status, same.failures) == (False, 3, 1)
        assert [failure.message for failure in same.failure_log()] == ["no"]
        job.remove()
        assert (same.is_pending, same.exit_status, same.failures, same.failure_log()) == (False, None, 0, [])


@pytest.mark.parametrize(
    "handle", ["", "5", "minion-", "minion-0", "minion-x", "minion-99999999999999999999"]
)
def test_what_is_no_handle_is_refused(minion, handle):
    with pytest.raises(ValueError, match=r"handle|must be between"):
        minion.job(handle)


@pytest.mark.parametrize("handle", [None, 1.5, True, [1]])
def test_what_is_no_id_is_refused(minion, handle):
    with pytest.raises(TypeError):
        minion.job(handle)


# -- Performing (JOB-02, JOB-04) -------------------------------------------------------------------------


def perform(minion, task, *args, **fields):
    id = minion.enqueue(task, args, **fields)
    assert minion.perform_jobs(id=id) >= 1
    return next(minion.jobs(ids=[id]))


def test_what_returns_is_finished(minion):
    minion.add_task("work", lambda *args: list(args))
    record = perform(minion, "work", 1, "b")
    assert (record.state, record.result, record.exit_status) == (State.FINISHED, [1, "b"], 0)


def test_what_raises_has_failed(minion):
    @minion.task
    def work():
        raise LookupError("nothing\x00there \ud800")

    record = perform(minion, "work")
    assert record.state == State.FAILED
    assert record.result["type"] == "LookupError"
    assert record.result["message"] == "nothing\\x00there \\ud800"
    assert 'raise LookupError("nothing' in record.result["traceback"]
    assert "minion_core" not in record.result["traceback"]
    (failure,) = minion.backend.failure_log(record.id)
    assert failure.message.startswith("LookupError: nothing\\x00there")
    assert "Traceback" in failure.message


def test_an_exception_that_cannot_be_told_is_told(minion):
    class UnspeakableError(Exception):
        def __str__(self):
            raise RuntimeError("no")

    @minion.task
    def work():
        raise UnspeakableError

    record = perform(minion, "work")
    assert record.result["type"] == "UnspeakableError"
    assert "cannot be read" in record.result["message"]


@pytest.mark.parametrize(
    ("code", "status"), [(3, 3), (0, 1), (None, 1), ("text", 1), (True, 1), (2**40, 1), (-1, -1)]
)
def test_sys_exit_is_a_failure(minion, code, status):
    @minion.task
    def work():
        raise SystemExit(code)

    record = perform(minion, "work")
    assert (record.state, record.exit_status, record.result["type"]) == (State.FAILED, status, "SystemExit")


@pytest.mark.parametrize("value", [object(), {1: 2, (1,): 3}, float("nan"), "\ud800", b"x", {"a": {1, 2}}])
def test_a_result_that_json_cannot_hold_is_a_failure(minion, value):
    minion.add_task("work", lambda: value)
    record = perform(minion, "work")
    assert record.state == State.FAILED
    assert record.result["message"].startswith("Result cannot be kept: ")


def test_arguments_that_do_not_fit_are_a_failure(minion):
    minion.add_task("work", lambda a, *, b: None)  # noqa: ARG005
    for args, kwargs in [([], {}), ([1, 2], {}), ([1], {"c": 1})]:
        id = minion.enqueue("work", args, kwargs)
        minion.perform_jobs()
        with pytest.raises(JobFailed, match="arguments do not fit task work"):
            minion.result(id)


def test_a_type_error_of_the_code_itself_stays_what_it_is(minion):
    minion.add_task("work", lambda: len(5))
    with pytest.raises(JobFailed, match="has no len"):
        minion.result(perform(minion, "work").id)


def test_the_backoff_counts_failures_only(claim, clock):
    job = claim(attempts=5)
    job.declined(0)
    job = claim.again(job.id)
    job.failed("one")
    assert job.info().delayed == clock() + timedelta(seconds=15)
    clock.turn(15)
    job = claim.again(job.id)
    job.failed("two")
    assert job.info().delayed == clock() + timedelta(seconds=16)


@pytest.mark.parametrize(("retry_delay", "delay"), [(7, 7), (0, 0), (lambda failures: failures * 10, 20)])
def test_the_task_says_when_to_retry(minion, claim, clock, retry_delay, delay):
    minion.add_task("work", lambda: None, attempts=5, retry_delay=retry_delay)
    job = claim()
    job.add_failure("before")
    minion.backend.retry_job(job.id, 0, RetryOptions())
    job = claim.again(job.id)
    job.failed("now")
    assert job.info().delayed == clock() + timedelta(seconds=delay)


def test_a_broken_retry_delay_is_logged(minion, claim, clock, caplog):
    minion.add_task("work", lambda: None, attempts=5, retry_delay=lambda failures: failures / 0)
    job = claim()
    job.failed("now")
    assert job.info().delayed == clock() + timedelta(seconds=15)
    assert "retry_delay of task work failed" in caplog.text


def test_a_job_that_waited_has_its_lease_extended(minion, claim, monkeypatch):
    from minion_core import performing  # noqa: PLC0415

    minion.add_task("work", lambda job: job.info().grabbed_until.isoformat())
    job = claim(lease=60)
    minion._clock.turn(30)
    monkeypatch.setattr(performing.time, "monotonic", lambda: 130.0)
    (outcome,) = performing.perform(job, 100.0).outcomes
    assert outcome.result == (minion._clock() + timedelta(seconds=60)).isoformat()


def test_a_job_whose_lease_ended_while_it_waited_is_not_begun(minion, claim):
    from minion_core import performing  # noqa: PLC0415

    begun = []
    minion.add_task("work", begun.append)
    job = claim(lease=60)
    minion._clock.turn(60)
    claim.again(job.id)
    assert performing.perform(job, -1000.0).outcomes == ()
    assert begun == []


# -- Classes as in TheSchwartz ---------------------------------------------------------------------------


def test_a_class_with_work(minion, clock):
    @minion.task
    class Resize:
        max_retries = 2
        grab_for = 600
        keep_exit_status_for = 3600

        def retry_delay(self, failures):
            return failures * 100

        def work(self, job):
            if job.retries == 0:
                raise RuntimeError("first time")
            job.completed(job.args)

    id = minion.enqueue("Resize", ["a.png"])
    record = next(minion.jobs(ids=[id]))
    assert (record.attempts, record.lease, record.keep_for) == (3, 600, 3600)
    assert minion.perform_jobs() == 1
    record = next(minion.jobs(ids=[id]))
    assert (record.attempts, record.delayed) == (2, clock() + timedelta(seconds=100))
    clock.turn(100)
    assert minion.perform_jobs() == 1
    assert minion.result(id) == ["a.png"]


def test_a_class_may_answer_by_methods(minion):
    @minion.task
    class Resize:
        @staticmethod
        def max_retries():
            return 4

        @classmethod
        def grab_for(cls):
            return 5

        def work(self, job):
            return job.task

    id = Resize.enqueue()
    record = next(minion.jobs(ids=[id]))
    assert (record.attempts, record.lease) == (5, 5)
    minion.perform_jobs()
    assert minion.result(id) == "Resize"


def test_an_explicit_class_has_to_say_what_became_of_the_job(minion):
    @minion.task
    class Silent:
        explicit_outcome = True

        def work(self, job):
            return job.id

    record = perform(minion, "Silent")
    assert record.state == State.FAILED
    assert record.result == "Job did not explicitly complete, fail, or get replaced"


def test_a_class_needs_work(minion):
    with pytest.raises(TypeError, match=r"needs a method work\(self, job\)"):
        minion.add_task("odd", dict)


# -- In one go (JOB-07) ----------------------------------------------------------------------------------


def test_coalesced_jobs(minion):
    @minion.task
    def mail(job, _number):
        others = job.claim_coalesced(limit=2)
        others[0].completed("with the first")
        others[1].failed("bounced")
        return [other.args for other in others]

    entries = minion.enqueue_many(
        NewJob("mail", [number], coalesce=domain) for number, domain in enumerate(["a.org", "b.org"] * 4)
    )
    ids = [entry.id for entry in entries]
    assert minion.perform_jobs(id=ids[0]) == 1
    assert minion.result(ids[0]) == [[2], [4]]
    assert minion.result(ids[2]) == "with the first"
    assert minion.job(ids[4]).info().result == "bounced"
    assert minion.job(ids[6]).info().state == State.INACTIVE
    assert minion.stats().inactive_jobs == 5


def test_coalesced_jobs_left_unsettled_fail(minion):
    @minion.task
    def mail(job):
        job.claim_coalesced(prefix="a")
        raise RuntimeError("broke")

    ids = [entry.id for entry in minion.enqueue_many(NewJob("mail", coalesce=f"a{n}") for n in range(3))]
    minion.perform_jobs(id=ids[0])
    assert [record.state for record in minion.jobs()] == [State.FAILED] * 3


def test_only_a_job_that_is_performed_claims_others(minion, claim):
    with pytest.raises(RuntimeError, match="being performed"):
        minion.insert(NewJob("work", coalesce="x")).claim_coalesced()
    with pytest.raises(ValueError, match="no coalesce value"):
        claim().claim_coalesced()


# -- Foreground and perform_jobs (JOB-08) ----------------------------------------------------------------


def test_foreground(minion):
    minion.add_task("work", lambda x: x * 2)
    id = minion.enqueue("work", [21], attempts=5, queue="elsewhere", delay=100)
    assert minion.foreground(id) == 42
    record = next(minion.jobs(ids=[id]))
    assert (record.state, record.queue, record.attempts) == (State.FINISHED, "minion_foreground", 1)
    assert list(minion.workers()) == []


def test_foreground_raises_what_the_job_raised(minion):
    minion.add_task("work", lambda text: int(text) + 1)
    id = minion.enqueue("work", ["x"], attempts=5)
    with pytest.raises(ValueError, match="invalid literal"):
        minion.foreground(id)
    assert next(minion.jobs(ids=[id])).state == State.FAILED


def test_foreground_leaves_alone_what_it_cannot_claim(minion, claim):
    minion.add_task("work", lambda: None)
    parent = minion.enqueue("other")
    child = minion.enqueue("work", parents=[parent], attempts=5)
    before = next(minion.jobs(ids=[child]))
    with pytest.raises(JobNotClaimable, match=f"its parent {parent} is inactive"):
        minion.foreground(child)
    assert next(minion.jobs(ids=[child])) == before
    with pytest.raises(JobNotClaimable, match="is performing it"):
        minion.foreground(claim().id)
    with pytest.raises(UnknownTask, match="'other'"):
        minion.foreground(parent)
    with pytest.raises(UnknownJob, match="999"):
        minion.foreground(999)


def test_foreground_puts_back_what_got_blocked_meanwhile(minion, monkeypatch):
    from minion_core import foreground  # noqa: PLC0415

    minion.add_task("work", lambda: None)
    parent = minion.enqueue("other")
    child = minion.enqueue("work", parents=[parent], attempts=5, delay=50, queue="elsewhere", priority=2)
    before = next(minion.jobs(ids=[child]))
    monkeypatch.setattr(foreground, "_in_the_way", lambda *_: None)
    with pytest.raises(JobNotClaimable, match="came in its way"):
        minion.foreground(child)
    after = next(minion.jobs(ids=[child]))
    for name in ("state", "queue", "attempts", "delayed", "priority", "parents"):
        assert getattr(after, name) == getattr(before, name), name


def test_perform_jobs_goes_on_until_nothing_is_claimable(minion):
    @minion.task
    def work(job, more):
        if more:
            minion.enqueue("work", [more - 1], priority=job.priority)

    minion.enqueue("work", [2])
    minion.enqueue("work", [0], queue="elsewhere")
    minion.enqueue("work", [0], delay=100)
    minion.enqueue("unknown")
    assert minion.perform_jobs() == 3
    assert minion.perform_jobs(queues=["elsewhere"], min_priority=1) == 0
    assert minion.perform_jobs(queues=["elsewhere"]) == 1
    assert list(minion.workers()) == []


def test_an_interrupt_ends_perform_jobs(minion):
    @minion.task
    def work():
        raise KeyboardInterrupt

    ids = [minion.enqueue("work"), minion.enqueue("work")]
    with pytest.raises(KeyboardInterrupt):
        minion.perform_jobs()
    assert [next(minion.jobs(ids=[id])).state for id in ids] == [State.FAILED, State.INACTIVE]
    assert list(minion.workers()) == []
