"""The application that the tests' workers run: started as a script with the options of the worker as JSON."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import sys
import time
from pathlib import Path

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


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    minion.worker(**json.loads(sys.argv[1])).run()
