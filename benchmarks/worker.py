"""Measure a worker: ``python benchmarks/worker.py sqlite:////tmp/bench.db [--json]``.

The drain of a backlog of no-ops (``attempts=2``) by each executor, by fresh processes (``--recycle 1``), and
by two workers side by side; then the time from enqueue to start on an idle worker, and what that worker costs
while it waits. Workers are real processes, started by the ``minion`` command; times are those that the store
keeps. Peers that are installed drain the same backlog, each its own way, in the same run: what counts is the
ratio, since the machine's speed is anybody's guess.

The store that the URL names is emptied first, so it must be one that nobody needs.
"""

from __future__ import annotations

import json
import os
import signal
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import click
from peers import measure_peers
from rich.console import Console
from rich.table import Table

from minion_core import Minion, NewJob

minion = Minion()

ENOUGH = 120.0
"""Seconds after which a drain has failed."""


@minion.task
def noop(number: int) -> None:
    """Do nothing."""


@minion.task(executor="thread")
def noop_thread(number: int) -> None:
    """Do nothing, in a thread."""


@minion.task
async def noop_async(number: int) -> None:
    """Do nothing, in an event loop."""


@contextmanager
def workers(url: str, count: int, *options: str) -> Iterator[list[subprocess.Popen[bytes]]]:
    app = f"{Path(__file__).resolve()}:minion"
    command = [sys.executable, "-m", "minion_core", "--app", app, "--url", url]
    started = [subprocess.Popen([*command, "worker", "--log-level", "error", *options]) for _ in range(count)]
    try:
        yield started
    finally:
        for worker in started:
            worker.send_signal(signal.SIGTERM)
        for worker in started:
            worker.wait(30)


def wait_until_drained(queue: Minion) -> None:
    limit = time.monotonic() + ENOUGH
    while next(queue.jobs(states=["inactive", "active"]), None) is not None:
        if time.monotonic() > limit:
            raise SystemExit("The backlog was not drained: the figures would mean nothing")
        time.sleep(0.02)


def drain(url: str, task: str, count: int, *options: str, number: int = 1) -> dict[str, Any]:
    """Drain a backlog with the worker started before, as its first second is no throughput."""
    with Minion(url) as queue, workers(url, number, *options) as started:
        queue.reset(all=True)
        queue.enqueue_many([NewJob(task, [0], attempts=2) for _ in range(4 * number)])
        wait_until_drained(queue)
        time.sleep(0.2)
        before = sum(cpu_seconds(worker.pid) for worker in started)
        first = queue.enqueue_many([NewJob(task, [n], attempts=2) for n in range(count)])[0].id
        wait_until_drained(queue)
        spent = sum(cpu_seconds(worker.pid) for worker in started) - before
        records = [record for record in queue.jobs() if record.id >= first]
        if {record.state for record in records} != {"finished"} or len(records) != count:
            raise SystemExit("A job was lost or failed: the figures would mean nothing")
        start = min(record.started for record in records if record.started)
        end = max(record.finished for record in records if record.finished)
        shares = sorted(Counter(record.worker for record in records).values())
    return {
        "jobs_per_second": count / (end - start).total_seconds(),
        "cpu_us_per_job": spent / count * 1e6,
        "shares": shares,
    }


def latency(url: str, count: int) -> dict[str, Any]:
    """Enqueue one job at a time to an idle worker."""
    with Minion(url) as queue, workers(url, 1, "-j", "2") as (worker,):
        queue.reset(all=True)
        queue.result(queue.enqueue("noop", [0]), timeout=ENOUGH)
        waits = []
        for number in range(count):
            time.sleep(0.05)
            id = queue.enqueue("noop", [number])
            queue.result(id, timeout=ENOUGH)
            record = next(queue.jobs(ids=[id]))
            assert record.started is not None
            waits.append((record.started - record.created).total_seconds() * 1000)
        time.sleep(1)
        before, began = cpu_seconds(worker.pid), time.monotonic()
        time.sleep(5)
        idle = (cpu_seconds(worker.pid) - before) / (time.monotonic() - began)
    return {
        "median_ms": statistics.median(waits),
        "p95_ms": statistics.quantiles(waits, n=20)[-1],
        "idle_percent_of_a_core": 100 * idle,
    }


def cpu_seconds(pid: int) -> float:
    """Answer what a process and all below it have used so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    ticks = sum(map(int, fields[11:15]))  # its own, and that of children that have ended
    below = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    seconds = ticks / os.sysconf("SC_CLK_TCK")
    for child in below:
        with suppress(FileNotFoundError, ProcessLookupError):  # it has ended meanwhile
            seconds += cpu_seconds(int(child))
    return seconds


@click.command()
@click.argument("url")
@click.option("--jobs", "count", default=20_000, show_default=True, help="How many jobs a drain has.")
@click.option("--only", multiple=True, help="Only these measurements; repeat.")
@click.option("--peers/--no-peers", default=True, help="Whether installed peers are measured, too.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def main(url: str, count: int, only: tuple[str, ...], *, peers: bool, as_json: bool) -> None:
    """Measure a worker on the store that URL names, which is emptied first."""
    drains: dict[str, tuple[Any, ...]] = {
        "process, -j 4": ("noop", count, "-j", "4"),
        "process, -j 4, --recycle 1": ("noop", count // 10, "-j", "4", "--recycle", "1"),
        "thread, -j 16": ("noop_thread", count, "-j", "16"),
        "asyncio, -j 100": ("noop_async", count, "-j", "100"),
        "inline": ("noop", count, "--executor", "inline"),
    }
    figures: dict[str, Any] = {}
    for name, arguments in drains.items():
        if not only or name.split(",")[0] in only:
            figures[name] = drain(url, *arguments)
    if not only or "two" in only:
        figures["two workers, process, -j 2"] = drain(url, "noop", count, "-j", "2", number=2)
    if not only or "latency" in only:
        figures["latency"] = latency(url, 100)
    if peers:
        figures |= measure_peers(url, count)
    if as_json:
        print(json.dumps(figures, indent=2))
        return
    table = Table("what", "jobs/s", "CPU per job, µs", "shares of workers")
    for name, figure in figures.items():
        if "jobs_per_second" in figure:
            cpu = figure.get("cpu_us_per_job")
            table.add_row(
                name,
                f"{figure['jobs_per_second']:,.0f}",
                "" if cpu is None else f"{cpu:,.0f}",
                ", ".join(map(str, figure.get("shares", ()))),
            )
    console = Console()
    console.print(table)
    if told := figures.get("latency"):
        console.print(
            f"enqueue to start on an idle worker: median {told['median_ms']:.1f} ms, 95 % below"
            f" {told['p95_ms']:.1f} ms; it uses {told['idle_percent_of_a_core']:.2f} % of a core meanwhile"
        )


if __name__ == "__main__":
    main()
