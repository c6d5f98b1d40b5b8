"""A correct backend in memory: the contract in its plainest form, to compare others with.

``reference:`` or ``reference:NAME``; everything of one name is one store, as long as the process lives. It
does everything under one mutex and looks at every job each time: slow, and easy to believe. The suite's own
tests change single lines of it and show that the suite notices.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, Generic, TypeVar
from uuid import uuid4

from attrs import evolve

from minion_conformance.reference_store import Store, StoredJob, StoredWorker, at
from minion_core.backend import Backend, Clock
from minion_core.errors import BackendError, Unsupported
from minion_core.hookspecs import hookimpl
from minion_core.plugins import safe_url
from minion_core.records import (
    FOREGROUND_QUEUE,
    STUCK_IN_QUEUE,
    Capabilities,
    ClaimedJob,
    Declined,
    DequeueOptions,
    Enqueued,
    Failed,
    Failure,
    Finished,
    HistoryHour,
    JobFilter,
    JobRecord,
    LockRecord,
    LostAttempt,
    NewJob,
    NewSchedule,
    Outcome,
    Page,
    Released,
    Repaired,
    Replaced,
    RetryOptions,
    ScheduleFilter,
    ScheduleRecord,
    Settled,
    State,
    Stats,
    WorkerFilter,
    WorkerRecord,
)
from minion_core.values import check_json_object, decode_json, encode_json

T = TypeVar("T")

_stores: dict[str, Store] = {}
_stores_mutex = threading.Lock()


class _Newest(Generic[T]):
    """Cuts a page out of what matches; newest first is greatest id first."""

    def __init__(self, matching: Sequence[T], key: Callable[[T], int]) -> None:
        self.matching = sorted(matching, key=key, reverse=True)

    def page(self, offset: int, limit: int, *, total: bool) -> Page[T]:
        return Page(self.matching[offset : offset + limit], len(self.matching) if total else None)


class ReferenceBackend(Backend):
    """The contract, kept in memory."""

    capabilities = Capabilities(
        transactional_enqueue=False,
        wakeup=False,
        concurrent_claims=False,
        multi_process=False,
        durable=False,
        server_clock=False,
        uptime=True,
        time_resolution=0.000001,
    )

    def __init__(self, url: str, *, clock: Clock | None = None) -> None:
        super().__init__(url, clock=clock)
        scheme, colon, name = url.partition(":")
        if not colon or "?" in name:
            raise ValueError(f"{safe_url(url)} must be 'reference:' or 'reference:NAME', without options")
        self._name = f"{scheme}:{name.strip('/')}"
        self._opened: Store | None = None

    # -- Life ---------------------------------------------------------------------------------------------

    def open(self, *, migrate: bool = True) -> None:  # noqa: ARG002, there is nothing to migrate
        with _stores_mutex:
            self._opened = _stores.setdefault(self._name, Store())

    def close(self) -> None:
        self._opened = None

    def migrate(self) -> list[int]:
        return []

    @classmethod
    def migration_script(cls) -> str:
        return ""

    def describe(self) -> str:
        return f"the conformance suite's reference in memory ({safe_url(self.url)}), gone with this process"

    def now(self) -> datetime:
        return self.clock().astimezone(UTC) if self.clock else datetime.now(UTC)

    @contextmanager
    def _held(self) -> Iterator[tuple[Store, datetime]]:
        store = self._opened
        if store is None:
            raise BackendError(f"{safe_url(self.url)} is not open: call open() first")
        with store.mutex:
            yield store, self.now()

    # -- Jobs ---------------------------------------------------------------------------------------------

    def enqueue(self, jobs: Sequence[NewJob], *, connection: Any = None) -> list[Enqueued]:
        if connection is not None:
            raise Unsupported("the reference has no transactions of the caller's to take part in")
        self._check_jobs(jobs)
        with self._held() as (store, now):
            answer = [store.add(job, now) for job in jobs]
            store.changed.notify_all()
            return answer

    def _check_jobs(self, jobs: Sequence[object]) -> None:
        for job in jobs:
            if not isinstance(job, NewJob):
                raise TypeError(f"a job to be enqueued must be a NewJob, not {type(job).__name__}")

    def _matches(self, job: StoredJob, options: DequeueOptions) -> bool:
        return (
            job.queue in options.queues
            and job.task in options.tasks
            and (options.id is None or job.id == options.id)
            and (options.min_priority is None or job.priority >= options.min_priority)
            and (options.coalesce is None or job.coalesce == options.coalesce)
            and (options.coalesce_prefix is None or (job.coalesce or "").startswith(options.coalesce_prefix))
        )

    def dequeue(self, worker_id: int, options: DequeueOptions) -> list[ClaimedJob]:
        with self._held() as (store, now):
            for job in store.leases_ended(now):
                if self._matches(job, options):
                    store.end_lease(job, now)
            ready = [
                job
                for job in store.jobs.values()
                if store.claimable(job, now) and self._matches(job, options)
            ]
            ready.sort(key=lambda job: (-job.priority, job.id))
            return [self._claim(job, worker_id, now) for job in ready[: max(0, options.limit)]]

    def _claim(self, job: StoredJob, worker_id: int, now: datetime) -> ClaimedJob:
        job.state = State.ACTIVE
        job.worker = worker_id
        job.started = now
        job.grabbed_until = None if job.lease is None else at(now, job.lease)
        return ClaimedJob(
            id=job.id,
            task=job.task,
            args=decode_json(job.args),
            kwargs=decode_json(job.kwargs),
            retries=job.retries,
            attempts=job.attempts,
            failures=len(job.failures),
            notes=dict(job.notes),
            queue=job.queue,
            priority=job.priority,
            coalesce=job.coalesce,
            uniqkey=job.uniqkey,
            lease=job.lease,
            grabbed_until=job.grabbed_until,
        )

    def wait(self, timeout: float, options: DequeueOptions) -> None:
        end = time.monotonic() + timeout
        with self._held() as (store, _now):
            while (left := end - time.monotonic()) > 0:
                now = self.now()
                ended = {job.id for job in store.leases_ended(now)}
                if any(
                    self._matches(job, options) and (job.id in ended or store.claimable(job, now))
                    for job in store.jobs.values()
                ):
                    return
                ahead = [(due - now).total_seconds() for due in self._due(store, now)]
                store.changed.wait(min([left, self.poll_interval, *ahead]))

    def _due(self, store: Store, now: datetime) -> Iterator[datetime]:
        for job in store.jobs.values():
            for due in (job.delayed, job.expires, job.grabbed_until):
                if due is not None and due > now:
                    yield due

    def settle(self, outcomes: Sequence[Outcome]) -> list[Settled]:
        for outcome in outcomes:
            if isinstance(outcome, Replaced):
                self._check_jobs(outcome.jobs)
        with self._held() as (store, now):
            answer = [self._settle_one(store, outcome, now) for outcome in outcomes]
            store.changed.notify_all()
            return answer

    def _settle_one(self, store: Store, outcome: Outcome, now: datetime) -> Settled:
        job = store.jobs.get(outcome.id)
        if job is None or job.state != State.ACTIVE or job.retries != outcome.retries:
            return Settled(applied=False)
        match outcome:
            case Finished():
                store.end(job, State.FINISHED, now, outcome.result_json, outcome.exit_status)
            case Failed():
                self._settle_failed(store, job, outcome, now)
            case Declined():
                store.give_back(job, at(now, outcome.run_after))
            case Released():
                store.give_back(job, now)
            case Replaced():
                store.end(job, State.FINISHED, now, "null", 0)
                return Settled(applied=True, jobs=self._replace(store, job, outcome.jobs, now))
        return Settled(applied=True)

    def _settle_failed(self, store: Store, job: StoredJob, outcome: Failed, now: datetime) -> None:
        store.fail(job, outcome.message, now)
        if outcome.retry_in is not None and job.attempts > 1:
            again = at(now, outcome.retry_in)
            if job.expires is None or job.expires > again:
                job.attempts -= 1
                job.retried = now
                store.give_back(job, again)
                return
        store.end(job, State.FAILED, now, outcome.result_json, outcome.exit_status or 1)

    def _replace(
        self, store: Store, job: StoredJob, news: Sequence[NewJob], now: datetime
    ) -> tuple[Enqueued, ...]:
        heirs = [child for child in store.children(job.id) if not child.terminal]
        answer = tuple(store.add(new, now) for new in news)
        for child in heirs:
            child.parents += [
                new.id for new in answer if new.created and child.id not in store.ancestors(new.id)
            ]
        return answer

    def extend_lease(self, id: int, retries: int, seconds: float) -> bool:
        with self._held() as (store, now):
            job = store.jobs.get(id)
            if job is None or job.state != State.ACTIVE or job.retries != retries:
                return False
            job.grabbed_until = at(now, seconds)
            store.changed.notify_all()
            return True

    def retry_job(self, id: int, retries: int, options: RetryOptions) -> bool:
        with self._held() as (store, now):
            job = store.jobs.get(id)
            if job is None or job.retries != retries:
                return False
            if options.expire is None and job.expires is not None and job.expires <= now:
                return False
            if store.holder(job.task, job.uniqkey, now, but=id) is not None:
                return False
            store.give_back(job, at(now, options.delay))
            job.retried = now
            if options.attempts is not None:
                job.attempts = options.attempts
            if options.expire is not None:
                job.expires = at(now, options.expire)
            if options.lax is not None:
                job.lax = options.lax
            if options.parents is not None:
                job.parents = list(options.parents)
            if options.priority is not None:
                job.priority = options.priority
            if options.queue is not None:
                job.queue = options.queue
            store.changed.notify_all()
            return True

    def remove_jobs(self, ids: Sequence[int]) -> list[int]:
        with self._held() as (store, _now):
            gone = [id for id in dict.fromkeys(ids) if id in store.jobs]
            gone = [id for id in gone if store.jobs[id].state != State.ACTIVE]
            for id in gone:
                del store.jobs[id]
            store.changed.notify_all()
            return gone

    def note(self, id: int, changes: Mapping[str, Any]) -> bool:
        checked = decode_json(encode_json(check_json_object(changes, "notes"), "notes"))
        with self._held() as (store, _now):
            job = store.jobs.get(id)
            if job is None:
                return False
            merged = {**job.notes, **checked}
            job.notes = {key: value for key, value in merged.items() if checked.get(key, 0) is not None}
            return True

    def add_failure(self, id: int, message: str) -> bool:
        with self._held() as (store, now):
            job = store.jobs.get(id)
            if job is None:
                return False
            store.fail(job, message, now)
            return True

    def list_jobs(
        self, offset: int, limit: int, options: JobFilter, *, total: bool = True
    ) -> Page[JobRecord]:
        with self._held() as (store, now):
            matching = [
                job
                for job in store.jobs.values()
                if not store.expired(job, now)
                and (options.before is None or job.id < options.before)
                and (options.ids is None or job.id in options.ids)
                and (options.queues is None or job.queue in options.queues)
                and (options.states is None or job.state in options.states)
                and (options.tasks is None or job.task in options.tasks)
                and (options.notes is None or any(key in job.notes for key in options.notes))
            ]
            page = _Newest(matching, lambda job: job.id).page(offset, limit, total=total)
            return Page([store.job_record(job, now) for job in page.items], page.total)

    def failure_log(self, id: int) -> list[Failure]:
        with self._held() as (store, _now):
            job = store.jobs.get(id)
            return [] if job is None else list(job.failures)

    # -- Workers ------------------------------------------------------------------------------------------

    def register_worker(self, id: int | None, host: str, pid: int, status: Mapping[str, Any]) -> int:
        text = encode_json(check_json_object(status, "status"), "status")
        with self._held() as (store, now):
            id = store.next_id() if id is None else id
            worker = store.workers.get(id)
            if worker is None:
                store.workers[id] = StoredWorker(id, host, pid, now, now, text)
            else:
                worker.notified = now
                worker.status = text
            return id

    def unregister_worker(self, id: int) -> bool:
        with self._held() as (store, _now):
            return store.workers.pop(id, None) is not None

    def list_workers(
        self, offset: int, limit: int, options: WorkerFilter, *, total: bool = True
    ) -> Page[WorkerRecord]:
        with self._held() as (store, _now):
            matching = [
                WorkerRecord(
                    id=worker.id,
                    host=worker.host,
                    pid=worker.pid,
                    started=worker.started,
                    notified=worker.notified,
                    status=decode_json(worker.status),
                    jobs=self._active_jobs(store, worker.id),
                )
                for worker in store.workers.values()
                if (options.before is None or worker.id < options.before)
                and (options.ids is None or worker.id in options.ids)
            ]
            return _Newest(matching, lambda worker: worker.id).page(offset, limit, total=total)

    def _active_jobs(self, store: Store, worker: int) -> list[int]:
        return [job.id for job in store.jobs.values() if job.state == State.ACTIVE and job.worker == worker]

    def broadcast(self, command: str, args: Sequence[Any] = (), ids: Sequence[int] | None = None) -> bool:
        message = encode_json([command, *args], "the command")
        with self._held() as (store, _now):
            addressed = [worker for worker in store.workers.values() if ids is None or worker.id in ids]
            for worker in addressed:
                worker.inbox.append(message)
            return bool(addressed)

    def receive(self, id: int) -> list[list[Any]]:
        with self._held() as (store, _now):
            worker = store.workers.get(id)
            if worker is None:
                return []
            received = [decode_json(message) for message in worker.inbox]
            worker.inbox.clear()
            return received

    # -- Locks --------------------------------------------------------------------------------------------

    def lock(self, name: str, duration: float, limit: int = 1) -> str | None:
        with self._held() as (store, now):
            if len(store.unexpired_locks([name], now)) >= limit:
                return None
            if duration <= 0:
                return "0"
            id = store.next_id()
            store.locks[id] = LockRecord(id=id, name=name, expires=at(now, duration))
            return str(id)

    def unlock(self, name: str, token: str | None = None) -> bool:
        with self._held() as (store, now):
            out = store.unexpired_locks([name], now)
            if token is not None:
                out = [share for share in out if str(share.id) == token]
            if not out:
                return False
            first = min(out, key=lambda share: (share.expires, share.id))
            del store.locks[first.id]
            return True

    def list_locks(
        self, offset: int, limit: int, names: Sequence[str] | None = None, *, total: bool = True
    ) -> Page[LockRecord]:
        with self._held() as (store, now):
            shares = store.unexpired_locks(names, now)
            return _Newest(shares, lambda share: share.id).page(offset, limit, total=total)

    # -- Schedules ----------------------------------------------------------------------------------------

    def _named(self, store: Store, name: str) -> ScheduleRecord | None:
        return next((known for known in store.schedules.values() if known.name == name), None)

    def schedule(self, schedule: NewSchedule) -> int:
        with self._held() as (store, now):
            old = self._named(store, schedule.name)
            next_run = at(now, schedule.next_run)
            if old is not None and (old.cron, old.time_zone) == (schedule.cron, schedule.time_zone):
                next_run = old.next_run
            id = store.next_id() if old is None else old.id
            store.schedules[id] = ScheduleRecord(
                id=id,
                name=schedule.name,
                cron=schedule.cron,
                time_zone=schedule.time_zone,
                task=schedule.task,
                args=decode_json(schedule.args_json),
                kwargs=decode_json(schedule.kwargs_json),
                attempts=schedule.attempts,
                expire=schedule.expire,
                lax=schedule.lax,
                notes=decode_json(schedule.notes_json),
                priority=schedule.priority,
                queue=schedule.queue,
                paused=False if old is None else old.paused,
                created=now if old is None else old.created,
                next_run=next_run,
                last_run=None if old is None else old.last_run,
                last_job=None if old is None else old.last_job,
            )
            return id

    def unschedule(self, name: str) -> bool:
        with self._held() as (store, _now):
            known = self._named(store, name)
            if known is None:
                return False
            del store.schedules[known.id]
            return True

    def pause_schedule(self, name: str) -> bool:
        return self._set_paused(name, paused=True)

    def resume_schedule(self, name: str) -> bool:
        return self._set_paused(name, paused=False)

    def _set_paused(self, name: str, *, paused: bool) -> bool:
        with self._held() as (store, _now):
            known = self._named(store, name)
            if known is None:
                return False
            store.schedules[known.id] = evolve(known, paused=paused)
            return True

    def list_schedules(
        self, offset: int, limit: int, options: ScheduleFilter, *, total: bool = True
    ) -> Page[ScheduleRecord]:
        with self._held() as (store, now):
            matching = [
                known
                for known in store.schedules.values()
                if (options.before is None or known.id < options.before)
                and (options.ids is None or known.id in options.ids)
                and (options.names is None or known.name in options.names)
                and (not options.due or (not known.paused and known.next_run <= now))
            ]
            return _Newest(matching, lambda known: known.id).page(offset, limit, total=total)

    def fire_schedule(self, id: int, due: datetime, next_run: datetime, job: NewJob) -> Enqueued | None:
        self._check_jobs([job])
        with self._held() as (store, now):
            known = store.schedules.get(id)
            if known is None or known.paused or known.next_run != due or due > now:
                return None
            fired = store.add(job, now)
            store.schedules[id] = evolve(known, last_run=now, last_job=fired.id, next_run=next_run)
            store.changed.notify_all()
            return fired

    # -- The whole ----------------------------------------------------------------------------------------

    def repair(self, missing_after: float, remove_after: float, stuck_after: float) -> Repaired:
        with self._held() as (store, now):
            missing = [
                worker.id for worker in store.workers.values() if at(worker.notified, missing_after) <= now
            ]
            for worker_id in missing:
                del store.workers[worker_id]
            expired = [job.id for job in store.jobs.values() if store.expired(job, now)]
            for job_id in expired:
                del store.jobs[job_id]
            leases = list(store.leases_ended(now))
            for job in leases:
                store.end_lease(job, now)
            stuck = [job for job in store.jobs.values() if self._stuck(store, job, stuck_after, now)]
            for job in stuck:
                store.end(job, State.FAILED, now, f'"{STUCK_IN_QUEUE}"', 1)
            removed = [
                job.id for job in store.jobs.values() if self._done_with(store, job, remove_after, now)
            ]
            for job_id in removed:
                del store.jobs[job_id]
            store.changed.notify_all()
            return Repaired(
                lost=[self._lost(job) for job in store.jobs.values() if self._is_lost(store, job)],
                workers=len(missing),
                removed=len(removed),
                expired=len(expired),
                leases=len(leases),
                stuck=len(stuck),
            )

    def _done_with(self, store: Store, job: StoredJob, remove_after: float, now: datetime) -> bool:
        if not job.terminal or job.finished is None:
            return False
        if job.keep_for is None and job.state == State.FAILED:
            return False
        kept_for = remove_after if job.keep_for is None else job.keep_for
        if at(job.finished, kept_for) > now:
            return False
        return all(child.state == State.FINISHED for child in store.children(job.id))

    def _stuck(self, store: Store, job: StoredJob, stuck_after: float, now: datetime) -> bool:
        if job.state != State.INACTIVE:
            return False
        since = [job.delayed]
        for id in job.parents:
            parent = store.jobs.get(id)
            if parent is None:
                continue
            if not parent.terminal:
                return False
            if parent.finished is not None:
                since.append(parent.finished)
        return at(max(since), stuck_after) <= now

    def _is_lost(self, store: Store, job: StoredJob) -> bool:
        return (
            job.state == State.ACTIVE
            and job.grabbed_until is None
            and job.queue != FOREGROUND_QUEUE
            and job.worker not in store.workers
        )

    def _lost(self, job: StoredJob) -> LostAttempt:
        return LostAttempt(job.id, job.retries, job.task, job.attempts, len(job.failures), job.worker)

    def stats(self, *, exact: bool = True) -> Stats:  # noqa: ARG002, counting is cheap here
        with self._held() as (store, now):
            jobs = list(store.jobs.values())
            busy = sum(bool(self._active_jobs(store, id)) for id in store.workers)
            waiting = [job for job in jobs if job.state == State.INACTIVE and not store.expired(job, now)]
            return Stats(
                active_jobs=sum(job.state == State.ACTIVE for job in jobs),
                active_locks=len(store.unexpired_locks(None, now)),
                active_workers=busy,
                delayed_jobs=sum(job.delayed > now for job in waiting),
                enqueued_jobs=store.last_job,
                failed_jobs=sum(job.state == State.FAILED for job in jobs),
                finished_jobs=sum(job.state == State.FINISHED for job in jobs),
                inactive_jobs=len(waiting),
                inactive_schedules=sum(known.paused for known in store.schedules.values()),
                inactive_workers=len(store.workers) - busy,
                schedules=len(store.schedules),
                workers=len(store.workers),
                uptime=(datetime.now(UTC) - store.since).total_seconds(),
            )

    def history(self) -> list[HistoryHour]:
        with self._held() as (store, now):
            current = now.replace(minute=0, second=0, microsecond=0)
            starts = [current - timedelta(hours=back) for back in range(23, -1, -1)]
            return [
                HistoryHour(
                    start=start,
                    finished_jobs=self._ended(store, start, State.FINISHED),
                    failed_jobs=self._ended(store, start, State.FAILED),
                )
                for start in starts
            ]

    def _ended(self, store: Store, start: datetime, state: State) -> int:
        end = start + timedelta(hours=1)
        return sum(
            job.state == state and job.finished is not None and start <= job.finished < end
            for job in store.jobs.values()
        )

    def reset(self, *, all: bool = False, locks: bool = False) -> None:
        with self._held() as (store, _now):
            if all:
                store.jobs.clear()
                store.workers.clear()
                store.schedules.clear()
            if all or locks:
                store.locks.clear()
            store.changed.notify_all()


class ReferenceHooks:
    """What the suite needs besides, which only a backend's author can offer."""

    server = False
    unreachable = None

    @contextmanager
    def fresh(self, url: str) -> Iterator[str]:
        """Answer the URL of an empty place beside another one."""
        yield f"{url}-{uuid4().hex}"


@hookimpl
def minion_backend(scheme: str) -> type[Backend] | None:
    """Answer the reference for its scheme."""
    return ReferenceBackend if scheme == "reference" else None
