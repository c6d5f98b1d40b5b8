"""Measure whether a claim feels what lies in the table: ``python benchmarks/flat.py EMPTY_URL FULL_URL``.

The second store is filled with a million finished jobs and a hundred thousand each that are delayed, blocked,
expired, in other queues, and of tasks that the worker lacks. Then the same claims and settlements are timed
in both, in turn, round by round. In between the store rests: filling it leaves more behind than any queue
does (PostgreSQL vacuums a minute later). Both stores are emptied first, so nobody must need them.
"""

from __future__ import annotations

import json
import statistics
import time

import click
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from minion_core import Backend, DequeueOptions, Finished, NewJob
from minion_core.plugins import backend_class

TASKS = [f"task {number}" for number in range(10)]
JOBS_A_ROUND = {1: 200, 100: 3_000}
CHUNK = 5_000


def fill(backend: Backend, worker: int, scale: float, progress: Progress) -> None:
    """Put everything into the table that a claim must not feel."""
    held = int(100_000 * scale)
    finished = int(1_000_000 * scale)
    bar = progress.add_task("Finished jobs", total=finished)
    options = DequeueOptions(TASKS, limit=1_000)
    for start in range(0, finished, CHUNK):
        backend.enqueue([NewJob(TASKS[number % len(TASKS)]) for number in range(start, start + CHUNK)])
        while jobs := backend.dequeue(worker, options):
            backend.settle([Finished(job.id, job.retries) for job in jobs])
        progress.advance(bar, CHUNK)
    parent = backend.enqueue([NewJob("nobody's task")])[0].id
    kinds = {
        "Delayed jobs": NewJob(TASKS[0], delay=86_400.0, priority=1),
        "Blocked jobs": NewJob(TASKS[0], parents=(parent,), priority=1),
        "Expired jobs": NewJob(TASKS[0], expire=0.001, priority=1),
        "Other queues' jobs": NewJob(TASKS[0], queue="another", priority=1),
        "Unknown tasks' jobs": NewJob("nobody's task", priority=1),
    }
    for kind, job in kinds.items():
        bar = progress.add_task(kind, total=held)
        for _ in range(0, held, CHUNK):
            backend.enqueue([job] * CHUNK)
            progress.advance(bar, CHUNK)
    # The first claim afterwards puts aside what has expired: that is still the filling.
    backend.dequeue(worker, DequeueOptions(["a task without jobs"]))


def round_of_claims(backend: Backend, worker: int, batch: int, tasks: list[str]) -> list[float]:
    """Claim and settle; answer the seconds that each pair of calls took."""
    backend.enqueue([NewJob(tasks[number % len(tasks)]) for number in range(JOBS_A_ROUND[batch])])
    options = DequeueOptions(tasks, limit=batch)
    taken = []
    for _ in range(JOBS_A_ROUND[batch] // batch):
        start = time.perf_counter()
        jobs = backend.dequeue(worker, options)
        settled = backend.settle([Finished(job.id, job.retries) for job in jobs])
        taken.append(time.perf_counter() - start)
        if len(settled) != batch or not all(answer.applied for answer in settled):
            raise SystemExit("The backend lost a job: the figures would mean nothing")
    return taken


@click.command()
@click.argument("empty_url")
@click.argument("full_url")
@click.option("--rounds", default=7, show_default=True, help="How often each figure is taken.")
@click.option("--scale", default=1.0, show_default=True, help="Fill the table more or less.")
@click.option("--rest", default=90.0, show_default=True, help="Seconds between filling and measuring.")
@click.option("--json", "as_json", is_flag=True, help="Print the figures as JSON.")
def main(empty_url: str, full_url: str, rounds: int, scale: float, rest: float, *, as_json: bool) -> None:
    """Time claims in an empty table and in a full one, both emptied first."""
    many_tasks = TASKS + [f"another task {number}" for number in range(190)]
    with backend_class(empty_url)(empty_url) as empty, backend_class(full_url)(full_url) as full:
        stores = {"empty": empty, "full": full}
        workers = {}
        for name, backend in stores.items():
            backend.reset(all=True)
            workers[name] = backend.register_worker(None, "benchmark", 0, {})
        with Progress(console=Console(stderr=True), transient=True) as progress:
            fill(full, workers["full"], scale, progress)
            for _ in progress.track(range(round(rest)), description="Resting"):
                time.sleep(1)
            taken: dict[str, dict[str, list[float]]] = {}
            for _ in progress.track(range(rounds), description="Measuring"):
                for batch in JOBS_A_ROUND:
                    for tasks in (TASKS, many_tasks):
                        figures = taken.setdefault(
                            f"batch {batch}, {len(tasks)} tasks", {"empty": [], "full": []}
                        )
                        for name, backend in stores.items():
                            figures[name] += round_of_claims(backend, workers[name], batch, tasks)
        medians = {
            what: {name: statistics.median(times) * 1e3 for name, times in by.items()}
            for what, by in taken.items()
        }
        if as_json:
            print(json.dumps({"store": full.describe(), "claim_and_settle_ms": medians}, indent=2))
            return
        table = Table(title=f"{full.describe()}: milliseconds for claim + settle, medians")
        for column in ("", "empty table", "full table", "ratio"):
            table.add_column(column, justify="left" if not column else "right")
        for what, by in medians.items():
            table.add_row(what, f"{by['empty']:.3f}", f"{by['full']:.3f}", f"{by['full'] / by['empty']:.2f}")
        Console().print(table)


if __name__ == "__main__":
    main()
