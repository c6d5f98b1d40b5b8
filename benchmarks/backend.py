"""Measure a backend beside the raw driver: ``python benchmarks/backend.py sqlite:////tmp/bench.db [--json]``.

Enqueueing one at a time and in bulk, and claim + settle at batch 1, 10 and 100, each three times over: by the
backend, by the driver alone on the same tables and indexes, and by the driver alone on the plainest table
(one index for the claim). The three take turns, round by round, so that a machine whose speed drifts drifts
for all of them; what counts is the ratio of the medians.

The store that the URL names is emptied first, so it must be one that nobody needs.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable

import click
from raw import RawDriver, raw_driver
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from minion_core import Backend, DequeueOptions, Finished, NewJob
from minion_core.plugins import backend_class

TASK = "benchmark"
OPTIONS = {size: DequeueOptions([TASK], limit=size) for size in (1, 10, 100)}
ARGS = ["some/path.png", 300]


def enqueue_one(backend: Backend, count: int) -> None:
    for _ in range(count):
        backend.enqueue([NewJob(TASK, ARGS)])


def enqueue_many(backend: Backend, count: int) -> None:
    backend.enqueue([NewJob(TASK, ARGS) for _ in range(count)])


def claim_and_settle(backend: Backend, worker: int, count: int, batch: int) -> None:
    done = 0
    while done < count:
        jobs = backend.dequeue(worker, OPTIONS[batch])
        settled = backend.settle([Finished(job.id, job.retries, "ok") for job in jobs])
        if not jobs or not all(answer.applied for answer in settled):
            raise SystemExit("The backend lost a job: the figures would mean nothing")
        done += len(jobs)


def raw_claim_and_finish(raw: RawDriver, count: int, batch: int) -> None:
    done = 0
    while done < count:
        ids = raw.claim(batch)
        if not ids:
            raise SystemExit("The raw driver found no job: the figures would mean nothing")
        raw.finish(ids)
        done += len(ids)


def measure(work: Callable[[], None], count: int) -> float:
    start = time.perf_counter()
    work()
    return count / (time.perf_counter() - start)


@click.command()
@click.argument("url")
@click.option("--rounds", default=7, show_default=True, help="How often each figure is taken.")
@click.option("--scale", default=1.0, show_default=True, help="Make every count larger or smaller.")
@click.option("--json", "as_json", is_flag=True, help="Print the figures as JSON.")
def main(url: str, rounds: int, scale: float, *, as_json: bool) -> None:
    """Measure the backend of URL, whose store is emptied first."""
    backend = backend_class(url)(url)
    with backend, raw_driver(url, TASK, ARGS) as (same, plain):
        backend.reset(all=True)
        worker = backend.register_worker(None, "benchmark", 0, {})
        contenders: dict[str, Callable[[str, int], Callable[[], None]]] = {
            "backend": lambda what, count: {
                "enqueue one": lambda: enqueue_one(backend, count),
                "enqueue bulk": lambda: enqueue_many(backend, count),
            }.get(what, lambda: claim_and_settle(backend, worker, count, int(what.split()[-1]))),
        } | {
            name: lambda what, count, raw=raw: {
                "enqueue one": lambda: raw.insert_one(count),
                "enqueue bulk": lambda: raw.insert_many(count),
            }.get(what, lambda: raw_claim_and_finish(raw, count, int(what.split()[-1])))
            for name, raw in (("raw, same tables", same), ("raw, plainest table", plain))
        }
        counts = {
            "enqueue one": int(300 * scale),
            "enqueue bulk": int(5000 * scale),
            "claim + settle, batch 1": int(200 * scale),
            "claim + settle, batch 10": int(1000 * scale),
            "claim + settle, batch 100": int(4000 * scale),
        }
        rates: dict[str, dict[str, list[float]]] = {
            what: {name: [] for name in contenders} for what in counts
        }
        with Progress(console=Console(stderr=True), transient=True) as progress:
            for round_ in progress.track(range(rounds + 1), description="Measuring"):
                for name, contender in contenders.items():
                    # The others' jobs are out of the way: each has the table to itself.
                    backend.reset(all=True)
                    plain.empty()
                    backend.register_worker(worker, "benchmark", 0, {})
                    for what, count in counts.items():
                        rate = measure(contender(what, count), count)
                        if round_:  # the first round warms up
                            rates[what][name].append(rate)
        report(backend.describe(), rates, as_json=as_json)


def report(store: str, rates: dict[str, dict[str, list[float]]], *, as_json: bool) -> None:
    medians = {
        what: {name: statistics.median(taken) for name, taken in by.items()} for what, by in rates.items()
    }
    if as_json:
        print(json.dumps({"store": store, "jobs_per_second": medians, "all_rounds": rates}, indent=2))
        return
    table = Table(title=f"{store}: jobs per second, medians")
    for column in ("", "backend", "raw, same tables", "ratio", "raw, plainest table", "ratio"):
        table.add_column(column, justify="left" if not column else "right")
    for what, by in medians.items():
        own, same, plain = by["backend"], by["raw, same tables"], by["raw, plainest table"]
        table.add_row(
            what, f"{own:,.0f}", f"{same:,.0f}", f"{own / same:.2f}", f"{plain:,.0f}", f"{own / plain:.2f}"
        )
    Console().print(table)


if __name__ == "__main__":
    main()
