"""The demonstration, ``make demo``: a real worker takes a census of this checkout, and you can watch."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

from rich.progress import Progress

from examples.census import measure, minion, publish, summarize
from minion_core import ScheduleFilter


def main() -> None:
    """Enqueue everything, start a worker, watch it, and print what the queue says afterwards."""
    started = time.monotonic()
    listed = subprocess.run(["git", "ls-files"], check=True, capture_output=True, text=True)
    files = [name for name in listed.stdout.splitlines() if Path(name).is_file()]
    measured = [job.id for job in minion.enqueue_many([measure.new_job(name) for name in files])]
    summary = summarize.options(parents=measured).enqueue()
    published = publish.options(parents=[summary]).enqueue()
    minion.unschedule("tidy")
    minion.schedule("tidy", "@hourly", "tidy", first_run=0)

    with Path("demo.log").open("w") as log:
        command = [sys.executable, "-m", "minion_core", "--app", "examples.census", "worker", "--jobs", "4"]
        worker = subprocess.Popen(command, stderr=log)
    try:
        watch([*measured, summary, published], worker)
        report(files, measured, summary, published)
    finally:
        worker.terminate()
        worker.wait()
    print(f"All that took {time.monotonic() - started:.1f} seconds. The queue is still there, in demo.db:")
    print("  .venv/bin/minion --app examples.census job")


def watch(jobs: list[int], worker: subprocess.Popen[bytes]) -> None:
    """Show how many of the jobs have ended, until all have."""
    with Progress() as progress:
        bar = progress.add_task(f"{len(jobs)} jobs", total=len(jobs))
        while not progress.finished:
            ended = sum(1 for _ in minion.jobs(ids=jobs, states=["finished", "failed"]))
            progress.update(bar, completed=ended)
            if worker.poll() is not None:
                sys.exit("The worker has ended; demo.log says why.")
            time.sleep(0.05)


def report(files: list[str], measured: list[int], summary: int, published: int) -> None:
    """Print results, all of them read back from the queue."""
    found = {job.id: job.result for job in minion.jobs(ids=measured)}
    largest = sorted(zip(files, measured, strict=True), key=lambda pair: -found[pair[1]]["words"])[:5]
    for name, id in largest:
        print(f"{found[id]['words']:>8,} words  {found[id]['sha256'][:12]}  {name}")
    total = minion.result(summary)
    print(f"{total['words']:>8,} words in {total['files']} files of {total['bytes']:,} bytes")
    print(f"The summary was {minion.result(published)}, after:")
    for failure in minion.backend.failure_log(published):
        print(f"  {failure.message.splitlines()[0]}")
    (tidy,) = minion.backend.list_schedules(0, 1, ScheduleFilter(names=["tidy"])).items
    print(f"The schedule {tidy.name!r} ran as job {tidy.last_job}; next at {tidy.next_run:%H:%M} UTC.")


if __name__ == "__main__":
    main()
