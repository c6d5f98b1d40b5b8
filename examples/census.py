"""A census of files: one job for each file, and one that waits for all of them and adds up."""

from __future__ import annotations

import hashlib
from collections import Counter
from pathlib import Path

from minion_core import Job, Minion

minion = Minion("sqlite:///demo.db")


@minion.task
def measure(path: str) -> dict[str, int | str]:
    """Hash a file and count its words."""
    content = Path(path).read_bytes()
    return {
        "sha256": hashlib.sha256(content).hexdigest(),
        "bytes": len(content),
        "words": len(content.split()),
    }


@minion.task
def summarize(job: Job) -> dict[str, int]:
    """Add up what the jobs found that this one waited for."""
    total: Counter[str] = Counter(files=0, bytes=0, words=0)
    for parent in minion.jobs(ids=[parent.id for parent in job.parents()]):
        total.update(files=1, bytes=parent.result["bytes"], words=parent.result["words"])
    return dict(total)


@minion.task(attempts=3, retry_delay=1)
def publish(job: Job) -> str:
    """Fail twice, as networks do, and succeed at the third attempt."""
    if job.retries < 2:
        raise ConnectionError("the other side does not answer")
    return f"published at attempt {job.retries + 1}"


@minion.task
def tidy() -> int:
    """Do what is due every hour: here, only count the jobs that have ended."""
    stats = minion.stats()
    return stats.finished_jobs + stats.failed_jobs
