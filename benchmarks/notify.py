"""Measure what notifications cost: ``python benchmarks/notify.py postgresql://user@host/database``.

Processes enqueue at full speed, a job and a commit at a time, in three ways that take turns: without any
notification, with nobody waiting, and with a worker that waits for another task of the same queue all the
time. The database is emptied first, so it must be one that nobody needs.
"""

from __future__ import annotations

import multiprocessing
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click
import psycopg
from rich.console import Console
from rich.table import Table

from minion_core import DequeueOptions, NewJob
from minion_core.plugins import backend_class

SILENT = """CREATE OR REPLACE FUNCTION minion_wake(in_queues TEXT[], of_tasks TEXT[] DEFAULT NULL)
    RETURNS VOID AS 'BEGIN END' LANGUAGE plpgsql"""
DEFINITION = "SELECT PG_GET_FUNCTIONDEF('minion_wake'::REGPROC)"


def produce(url: str, seconds: float, ready: object, counts: object) -> None:
    with backend_class(url)(url) as backend:
        backend.enqueue([NewJob("benchmark")])
        ready.wait()  # type: ignore[attr-defined]
        done, ends = 0, time.perf_counter() + seconds
        while time.perf_counter() < ends:
            backend.enqueue([NewJob("benchmark", ["some/path.png", 300])])
            done += 1
        counts.put(done / seconds)  # type: ignore[attr-defined]


def rate(url: str, processes: int, seconds: float) -> float:
    ready = multiprocessing.Barrier(processes)
    counts: multiprocessing.Queue[float] = multiprocessing.Queue()
    workers = [
        multiprocessing.Process(target=produce, args=(url, seconds, ready, counts)) for _ in range(processes)
    ]
    for worker in workers:
        worker.start()
    total: float = sum(counts.get() for _ in workers)
    for worker in workers:
        worker.join()
    return total


@contextmanager
def silence(url: str) -> Iterator[None]:
    with psycopg.connect(url, autocommit=True) as connection:
        ((definition,),) = connection.execute(DEFINITION).fetchall()
        connection.execute(SILENT)
        yield
        connection.execute(definition)


@contextmanager
def nobody(_url: str) -> Iterator[None]:
    yield


@contextmanager
def waiter(url: str) -> Iterator[None]:
    over = threading.Event()

    def wait() -> None:
        with backend_class(url)(url) as backend:
            while not over.is_set():
                backend.wait(0.5, DequeueOptions(["another task"]))

    thread = threading.Thread(target=wait)
    thread.start()
    yield
    over.set()
    thread.join()


WAYS: dict[str, Callable[[str], object]] = {
    "no notifications": silence,
    "nobody waits": nobody,
    "a worker waits": waiter,
}


@click.command()
@click.argument("url")
@click.option("--processes", default=8, show_default=True, help="How many enqueue at once.")
@click.option("--seconds", default=3.0, show_default=True, help="For how long a round.")
@click.option("--rounds", default=5, show_default=True, help="How often each figure is taken.")
def main(url: str, processes: int, seconds: float, rounds: int) -> None:
    """Measure what notifications cost at URL, which is emptied first."""
    rates: dict[str, list[float]] = {way: [] for way in WAYS}
    for _ in range(rounds):
        for way, prepare in WAYS.items():
            with backend_class(url)(url) as backend:
                backend.reset(all=True)
            with prepare(url):  # type: ignore[attr-defined]
                rates[way].append(rate(url, processes, seconds))
    table = Table("", "jobs per second", "of the first", title=f"{processes} processes enqueue at full speed")
    first = statistics.median(rates["no notifications"])
    for way, taken in rates.items():
        median = statistics.median(taken)
        table.add_row(way, f"{median:,.0f}", f"{median / first:.3f}")
    Console().print(table)


if __name__ == "__main__":
    main()
