"""The application that the tests' workers run: started as a script with the options of the worker as JSON."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import resource
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

from minion_core import Job, Minion

minion = Minion(missing_after=float(os.environ.get("MISSING_AFTER", "1800")), backoff=lambda _failures: 0.0)


@minion.task
def add(first: int, second: int = 1) -> int:
    return first + second


@minion.task
def pid() -> int:
    return os.getpid()


@minion.task(attempts=15)
def journal(job: Job, path: str, pause: float) -> int:
    """Write down each attempt with one atomic append."""
    with Path(path).open("ab", buffering=0) as book:
        book.write(f"{job.id} {job.retries}\n".encode())
    time.sleep(pause)
    return job.id


@minion.task
def sleep(seconds: float, started: str | None = None) -> str:
    if started:
        Path(started).write_text(str(os.getpid()))
    time.sleep(seconds)
    return "rested"


@minion.task
def leave(code: int) -> None:
    os._exit(code)


@minion.task
def system_exit(code: int) -> None:
    sys.exit(code)


@minion.task
def kill_self(number: int = signal.SIGKILL) -> None:
    os.kill(os.getpid(), number)
    time.sleep(30)


@minion.task
def fork() -> str:
    """Come back twice."""
    return "child" if os.fork() == 0 else "parent"


@minion.task
def close_everything() -> None:
    """Do what daemons do."""
    os.closerange(3, 256)
    time.sleep(30)


@minion.task
def unkeepable() -> object:
    return object()


@minion.task
def shout(size: int) -> None:
    raise ValueError("x" * size)


@minion.task
def change_directory() -> str:
    os.chdir("/")
    return str(Path.cwd())


@minion.task
async def wait_a_little(seconds: float) -> str:
    await asyncio.sleep(seconds)
    return "awaited"


@minion.task(attempts=3)
def third_time(job: Job) -> str:
    if job.retries < 2:
        raise RuntimeError(f"not yet, {job.retries}")
    return "lucky"


@minion.task
def together(job: Job, crash: bool = False) -> list[int]:
    """Do all jobs of one coalesce value in one go."""
    others = job.claim_coalesced()
    if crash:
        os._exit(3)
    for other in others[1:]:
        other.completed(f"by {job.id}")
    return [other.id for other in others]


@minion.task
def explicit(job: Job) -> str:
    job.note(seen=True)
    job.completed("said so")
    return "not this"


@minion.task(executor="thread")
def in_thread(seconds: float = 0.0) -> list[Any]:
    time.sleep(seconds)
    return [os.getpid(), threading.current_thread() is threading.main_thread()]


@minion.task
async def in_loop(job: Job, seconds: float = 0.0) -> list[Any]:
    assert job.task == "in_loop"
    await asyncio.sleep(seconds)
    return [os.getpid(), len(asyncio.all_tasks())]


@minion.task(executor="asyncio")
def not_async() -> bool:
    return threading.current_thread() is threading.main_thread()


@minion.task(executor="process")
async def alone() -> int:
    return len(asyncio.all_tasks())


@minion.task(timeout=0.3)
def too_long(seconds: float) -> str:
    """Take longer than it may, and heed no signal."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    time.sleep(seconds)
    return "in time"


@minion.task(timeout=0.3, executor="thread")
def too_long_in_thread(path: str) -> None:
    try:
        while True:
            time.sleep(0.01)
    except TimeoutError:
        Path(path).write_text("interrupted")
        raise


@minion.task(timeout=0.3)
async def too_long_in_loop(path: str) -> None:
    try:
        await asyncio.sleep(60)
    except asyncio.CancelledError:
        await asyncio.to_thread(Path(path).write_text, "cancelled")
        raise


@minion.task(limit=2)
def two_at_most(path: str) -> int:
    return at_a_time(path)


@minion.task
def at_a_time(path: str, seconds: float = 0.2) -> int:
    """Answer how many were at it when this one was."""
    mark = Path(path) / str(os.getpid())
    mark.touch()
    time.sleep(seconds / 2)
    found = len(list(Path(path).iterdir()))
    time.sleep(seconds / 2)
    mark.unlink()
    return found


@minion.task(executor="thread")
def slow_at_first(job: Job) -> int:
    """Outlive the lease of the first attempt."""
    time.sleep(0 if job.retries else 1.5)
    return job.retries


@minion.task(executor="thread")
def leave_from_thread() -> None:
    os._exit(5)


@minion.task
def advance(job: Job, gate: str) -> None:
    job.progress(3, 10, "resizing")
    while not Path(gate).exists():
        time.sleep(0.01)
    job.progress(10, 10)


@minion.task
def on_signal(started: str) -> str:
    heard: list[int] = []
    signal.signal(signal.SIGUSR1, lambda number, _frame: heard.append(number))
    Path(started).touch()
    while not heard:
        time.sleep(0.01)
    return f"heard {signal.Signals(heard[0]).name}"


@minion.task
def fast() -> None:
    pass


@minion.task
def sometimes_slow(seconds: float = 0.0) -> int:
    time.sleep(seconds)
    return os.getpid()


@minion.task
def directory() -> str:
    return str(Path.cwd())


@minion.task
def print_much(size: int) -> int:
    sys.stdout.write("x" * size)
    return size


@minion.task
def eat_memory() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (1_000_000_000, -1))
    eaten = []
    while True:
        eaten.append(bytearray(10_000_000))


if "FAIL_FORKS" in os.environ:

    def _die() -> None:
        if Path(os.environ["FAIL_FORKS"]).exists():
            os._exit(1)

    os.register_at_fork(after_in_child=_die)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    minion.worker(**json.loads(sys.argv[1])).run()
