"""What ``minion job`` can do, one function each, and which options mean something beside it."""

from __future__ import annotations

import traceback
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

import click

from minion_core.cli import show
from minion_core.cli.action import (
    Action,
    Options,
    Words,
    complain,
    given,
    ids_of,
    new_job,
    not_there,
    object_notes,
    remark_more,
    told,
    usage,
)
from minion_core.cli.output import Output, compact
from minion_core.errors import BackendError, JobNotClaimable, UnknownJob, UnknownTask
from minion_core.records import JobFilter, JobRecord, RetryOptions, State, WorkerFilter

if TYPE_CHECKING:
    from types import TracebackType

    from minion_core.minion import Minion

AT_A_TIME = 500
"""How many jobs a change of all failed ones asks the store for at once."""


# -- Asking ----------------------------------------------------------------------------------------------


def list_jobs(minion: Minion, out: Output, options: Options, _words: Words) -> int:
    """List jobs, newest first."""
    offset, limit = options["offset"], options["limit"]
    if out.as_json:
        page = minion.backend.list_jobs(offset, limit, _filter(options))
        out.json({"jobs": page.items, "total": page.total})
        return 0
    # One more than asked for tells whether there are more; counting them all may be dear.
    found = minion.backend.list_jobs(offset, limit + 1, _filter(options), total=False).items
    show.jobs(out, found[:limit])
    remark_more(out, len(found) > limit, offset + limit)
    return 0


def show_jobs(minion: Minion, out: Output, options: Options, words: Words) -> int:
    """Show jobs field by field, or note something on them."""
    ids = ids_of(words)
    if notes := object_notes(options):
        with usage():
            noted = [id for id in ids if minion.backend.note(id, notes)]
        return told(out, "noted", noted, not_there("job", [id for id in ids if id not in noted]))
    records = minion.backend.list_jobs(0, len(ids), JobFilter(ids=ids), total=False).items
    found = {record.id: record for record in records}
    shown = [(found[id], minion.backend.failure_log(id)) for id in ids if id in found]
    if out.as_json:
        out.json({"jobs": [show.job_fields(record, log) for record, log in shown]})
    else:
        for number, (record, log) in enumerate(shown):
            show.job(out, record, log, first=number == 0)
    return complain(not_there("job", [id for id in ids if id not in found]))


def list_workers(minion: Minion, out: Output, options: Options, words: Words) -> int:
    """List workers, or show some field by field."""
    backend = minion.backend
    if words:
        ids = ids_of(words)
        found = {
            worker.id: worker for worker in backend.list_workers(0, len(ids), WorkerFilter(ids=ids)).items
        }
        shown = [found[id] for id in ids if id in found]
        if out.as_json:
            out.json({"workers": shown})
        else:
            show.workers_in_full(out, shown, backend.now())
        return complain(not_there("worker", [id for id in ids if id not in found]))
    page = backend.list_workers(options["offset"], options["limit"], WorkerFilter())
    if out.as_json:
        out.json({"workers": page.items, "total": page.total})
    else:
        show.workers(out, page.items, backend.now())
        end = options["offset"] + options["limit"]
        remark_more(out, (page.total or 0) > end, end)
    return 0


def list_locks(minion: Minion, out: Output, options: Options, words: Words) -> int:
    """List the shares of locks that are held."""
    page = minion.backend.list_locks(options["offset"], options["limit"], list(words) or None)
    if out.as_json:
        out.json({"locks": page.items, "total": page.total})
    else:
        show.locks(out, page.items, minion.backend.now())
        end = options["offset"] + options["limit"]
        remark_more(out, (page.total or 0) > end, end)
    return 0


def list_tasks(minion: Minion, out: Output, _options: Options, _words: Words) -> int:
    """List what the application can perform."""
    known = sorted(minion.tasks.values(), key=lambda task: task.name)
    if out.as_json:
        out.json({"tasks": [show.task_fields(task) for task in known]})
    else:
        show.tasks(out, known)
    return 0


def stats(minion: Minion, out: Output, _options: Options, _words: Words) -> int:
    """Show statistics."""
    found = minion.backend.stats()
    if out.as_json:
        out.json(found)
    else:
        show.stats(out, found)
    return 0


def history(minion: Minion, out: Output, _options: Options, _words: Words) -> int:
    """Show the last 24 hours."""
    hours = minion.backend.history()
    if out.as_json:
        out.json({"history": hours})
    else:
        show.history(out, hours)
    return 0


# -- Changing --------------------------------------------------------------------------------------------


def enqueue(minion: Minion, out: Output, options: Options, _words: Words) -> int:
    """Enqueue one job."""
    object_notes(options)
    fields = given(options, *_NEW_OR_RETRIED, *_ONLY_NEW) | _parents_and_queue(options)
    job = new_job(minion, options["enqueue"], options["args"] or [], options["kwargs"] or {}, fields)
    [made] = minion.enqueue_new([job])
    if out.as_json:
        out.json(made)
    else:
        out.line(str(made.id))
        if not made.created:
            out.remark(f"not created: job {made.id} waits or runs with the key {job.uniqkey!r}")
    return 0


def retry(minion: Minion, out: Output, options: Options, words: Words) -> int:
    """Return jobs to the queue."""
    with usage():
        changes = RetryOptions(**given(options, *_NEW_OR_RETRIED), **_parents_and_queue(options))
    retried: list[int] = []
    mistakes: list[str] = []
    for id in ids_of(words, "-R"):
        found = minion.backend.list_jobs(0, 1, JobFilter(ids=[id]), total=False).items
        if not found:
            mistakes += not_there("job", [id])
        elif found[0].state == State.ACTIVE and not options["force"]:
            mistakes.append(
                f"job {id} is active; --force retries it, and what its worker does no longer counts"
            )
        elif minion.backend.retry_job(id, found[0].retries, changes):
            retried.append(id)
        else:
            mistakes.append(f"job {id} was not retried: {_why_not(found[0])}")
    return told(out, "retried", retried, mistakes)


def _why_not(record: JobRecord) -> str:
    if record.uniqkey is not None:
        return f"another job that waits or runs holds its key {record.uniqkey!r}"
    if record.expires is not None and record.expires <= record.time:
        return "it has expired; give it a new time with -E"
    return "it was changed just now; try again"


def remove(minion: Minion, out: Output, _options: Options, words: Words) -> int:
    """Remove jobs."""
    ids = ids_of(words, "--remove")
    removed = set(minion.backend.remove_jobs(ids))
    left = [id for id in ids if id not in removed]
    active = {
        record.id for record in minion.backend.list_jobs(0, len(left), JobFilter(ids=left), total=False).items
    }
    mistakes = [f"job {id} is active; stop it first, or wait" for id in left if id in active]
    mistakes += not_there("job", [id for id in left if id not in active])
    return told(out, "removed", [id for id in ids if id in removed], mistakes)


def retry_failed(minion: Minion, out: Output, options: Options, _words: Words) -> int:
    """Retry all failed jobs."""
    count = 0
    with out.progress("Retrying", _count_failed(minion, options)) as advance:
        for batch in _failed(minion, options):
            for record in batch:
                count += minion.backend.retry_job(record.id, record.retries, RetryOptions())
                advance(1)
    return _counted(out, "retried", count)


def remove_failed(minion: Minion, out: Output, options: Options, _words: Words) -> int:
    """Remove all failed jobs."""
    count = 0
    with out.progress("Removing", _count_failed(minion, options)) as advance:
        for batch in _failed(minion, options):
            count += len(minion.backend.remove_jobs([record.id for record in batch]))
            advance(len(batch))
    return _counted(out, "removed", count)


def _count_failed(minion: Minion, options: Options) -> int | None:
    return minion.backend.list_jobs(0, 1, _filter(options, states=[State.FAILED])).total


def _failed(minion: Minion, options: Options) -> Iterator[list[Any]]:
    jobs = minion.jobs(**_filters(options, states=[State.FAILED]))
    while batch := list(islice(jobs, AT_A_TIME)):
        yield batch


def foreground(minion: Minion, out: Output, _options: Options, words: Words) -> int:
    """Perform a job in this process; what it raises is shown in full."""
    ids = ids_of(words, "-f")
    if len(ids) > 1:
        raise click.UsageError("-f performs one job; say one id")
    try:
        result = minion.foreground(ids[0])
    except (UnknownJob, UnknownTask, JobNotClaimable, BackendError):
        raise
    except (Exception, SystemExit) as error:  # noqa: BLE001 - a job may raise anything
        traceback.print_exception(error.with_traceback(_theirs(error.__traceback__)))
        return complain([f"job {ids[0]} failed"])
    if out.as_json:
        out.json({"performed": ids, "result": result})
    else:
        out.line(compact(result))
    return 0


def _theirs(frames: TracebackType | None) -> TracebackType | None:
    """Leave out our own frames, down to the job's code."""
    inner = frames
    while inner is not None and inner.tb_frame.f_globals.get("__name__", "").startswith(
        ("minion_core.", "pluggy.")
    ):
        inner = inner.tb_next
    return inner or frames


def broadcast(minion: Minion, out: Output, options: Options, words: Words) -> int:
    """Send a command to workers."""
    ids = ids_of(words) if words else None
    with usage():
        heard = minion.backend.broadcast(options["broadcast"], options["args"] or [], ids)
    if out.as_json:
        out.json({"delivered": heard})
    return 0 if heard else complain(["no worker got it; minion job -w lists those that there are"])


def unlock(minion: Minion, out: Output, options: Options, _words: Words) -> int:
    """Release a lock."""
    name = options["unlock"]
    released = minion.backend.unlock(name)
    if out.as_json:
        out.json({"released": released})
    return (
        0 if released else complain([f"nobody holds a lock named {name!r}; minion job -L lists those held"])
    )


# -- Shared --------------------------------------------------------------------------------------------


def _filters(options: Options, states: Sequence[str] | None = None) -> dict[str, Any]:
    notes = options["notes"]
    if isinstance(notes, dict) or not all(isinstance(name, str) for name in notes or ()):
        raise click.UsageError("-n to list by takes an array of names, for instance '[\"author\"]'")
    return {
        "notes": notes,
        "queues": list(options["queues"]) or None,
        "states": states or list(options["states"]) or None,
        "tasks": list(options["task_names"]) or None,
    }


def _filter(options: Options, states: Sequence[str] | None = None) -> JobFilter:
    return JobFilter(**_filters(options, states))


def _parents_and_queue(options: Options) -> dict[str, Any]:
    if len(options["queues"]) > 1:
        raise click.UsageError("a job is in one queue; say -q once")
    fields: dict[str, Any] = {"queue": options["queues"][0]} if options["queues"] else {}
    return fields | ({"parents": options["parents"]} if options["parents"] else {})


def _counted(out: Output, done: str, count: int) -> int:
    if out.as_json:
        out.json({done: count})
    else:
        out.line(f"{done} {count} {'job' if count == 1 else 'jobs'}")
    return 0


# -- The table -------------------------------------------------------------------------------------------

_NEW_OR_RETRIED = ("attempts", "delay", "expire", "lax", "priority")
_ONLY_NEW = ("coalesce", "keep_for", "lease", "notes", "uniqkey")

_CHANGED = frozenset({*_NEW_OR_RETRIED, "parents", "queues"})
_FILTERS = frozenset({"notes", "queues", "task_names"})
_PAGE = frozenset({"limit", "offset"})

LIST = Action("listing jobs", list_jobs, _FILTERS | _PAGE | {"states"})
SHOW = Action("ids of jobs", show_jobs, frozenset({"notes"}), words=True)

ACTIONS = {
    "broadcast": Action("-b/--broadcast", broadcast, frozenset({"args"}), words=True),
    "enqueue": Action("-e/--enqueue", enqueue, _CHANGED | {"args", "kwargs", *_ONLY_NEW}),
    "foreground": Action("-f/--foreground", foreground, words=True, tasks=True),
    "history": Action("-H/--history", history),
    "locks": Action("-L/--locks", list_locks, _PAGE, words=True),
    "remove": Action("--remove", remove, words=True),
    "remove_failed": Action("--remove-failed", remove_failed, _FILTERS),
    "retry": Action("-R/--retry", retry, _CHANGED | {"force"}, words=True),
    "retry_failed": Action("--retry-failed", retry_failed, _FILTERS),
    "stats": Action("-s/--stats", stats),
    "tasks": Action("-T/--tasks", list_tasks, tasks=True),
    "unlock": Action("-U/--unlock", unlock),
    "workers": Action("-w/--workers", list_workers, _PAGE, words=True),
}
"""By the name of the option that says so; without one it is LIST, or SHOW if ids are given."""
