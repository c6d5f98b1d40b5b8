"""The client for async programs: the same calls, awaited, with the event loop free meanwhile."""

from __future__ import annotations

import asyncio
import inspect

import pytest

from minion_core import JobFailed, Minion, NewJob, State
from minion_core.aio import AsyncMinion


@pytest.fixture
def app(minion):
    @minion.task
    def double(number: int) -> int:
        return 2 * number

    @minion.task
    def fail():
        raise ValueError("no")

    return minion


def run(app, what):
    async def main():
        async with AsyncMinion(app) as queue:
            await what(queue)

    asyncio.run(main())


def test_jobs_are_enqueued_and_their_results_awaited(app):
    async def what(queue):
        first = await queue.enqueue("double", [2], priority=3)
        second = await queue.enqueue_task(app.tasks["double"], 5)
        many = await queue.enqueue_many([NewJob("double", [n]) for n in range(150)])
        failing = (await queue.insert(NewJob("fail"))).id
        waiting = asyncio.create_task(queue.result(first, timeout=30))
        with pytest.raises(TimeoutError):
            await queue.result(second, timeout=0.05)
        assert not waiting.done()
        assert await queue.call(app.perform_jobs) == 153
        assert await waiting == 4
        assert await queue.result(second) == 10
        with pytest.raises(JobFailed, match="no"):
            await queue.result(failing)
        listed = [record.id async for record in queue.jobs(states=[State.FINISHED])]
        assert listed == sorted([first, second, *(entry.id for entry in many)], reverse=True)
        assert (await queue.job(first)).id == first
        assert (await queue.stats()).finished_jobs == 152
        assert len(await queue.history()) == 24

    run(app, what)


def test_waiting_for_a_result_can_be_cancelled_and_keeps_no_thread(app):
    async def what(queue):
        ids = [await queue.enqueue("double", [n]) for n in range(20)]
        waiting = [asyncio.create_task(queue.result(id)) for id in ids]
        await asyncio.sleep(0.1)
        assert (await asyncio.wait_for(queue.stats(), 5)).inactive_jobs == 20
        for task in waiting:
            task.cancel()
        assert all(
            isinstance(each, asyncio.CancelledError)
            for each in await asyncio.gather(*waiting, return_exceptions=True)
        )

    run(app, what)


def test_locks_schedules_and_administration(app):
    async def what(queue):
        async with queue.guard("x", 60) as got, queue.guard("x", 60) as again:
            assert (got, again) == (True, False)
            assert await queue.is_locked("x")
        assert not await queue.is_locked("x")
        await queue.schedule("soon", "@hourly", "double", [1], first_run=0)
        assert await queue.pause_schedule("soon")
        assert await queue.resume_schedule("soon")
        assert [run.name for run in await queue.dispatch_schedules()] == ["soon"]
        assert await queue.unschedule("soon")
        assert not await queue.broadcast("jobs", [3])
        assert [worker async for worker in queue.workers()] == []
        assert (await queue.repair()).lost == []
        await queue.reset(all=True)

    run(app, what)


def test_it_has_all_calls_of_the_other_face():
    elsewhere = {"add_task", "task", "task_named", "worker", "foreground", "perform_jobs"}
    elsewhere |= {"use", "enqueue_new", "jobs_by_id", "retry_delay"}
    calls = {name for name, value in vars(Minion).items() if inspect.isfunction(value) and name[0] != "_"}
    assert calls - elsewhere <= set(dir(AsyncMinion))
