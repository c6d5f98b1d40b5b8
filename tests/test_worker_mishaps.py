"""What may go wrong, each with its one outcome; ``docs/running.md`` lists them (see test_worker.py, too)."""

from __future__ import annotations

import sqlite3
import time

import pytest

from minion_core import BackendError, JobFailed, State


def test_performers_that_die_at_their_start_take_no_job_along(
    minion, start_worker, tmp_path, monkeypatch, eventually
):
    trap = tmp_path / "trap"
    monkeypatch.setenv("FAIL_FORKS", str(trap))
    trap.touch()
    id = minion.enqueue("add", [1])
    worker = start_worker(jobs=1, spare=0)
    eventually(lambda: worker.said().count("A performer ended before its first job (exit code: 1") >= 2)
    record = next(minion.jobs(ids=[id]))
    assert (record.state, record.retries, record.failures) == (State.INACTIVE, 0, 0)
    trap.unlink()
    assert minion.result(id, timeout=30) == 2


def test_an_application_that_cannot_be_imported_ends_the_worker(minion, start_worker, tmp_path):
    (tmp_path / "broken.py").write_text("from minion_core import Minion\nminion = Minion()\n1 / 0\n")
    worker = start_worker(app=f"{tmp_path}/broken.py:minion")
    assert worker.wait() == 1
    assert "broken.py cannot be imported: ZeroDivisionError: division by zero" in worker.said()
    assert list(minion.workers()) == []


def test_output_of_a_megabyte_goes_to_the_log(minion, start_worker):
    worker = start_worker(jobs=1)
    assert minion.result(minion.enqueue("print_much", [1_000_000]), timeout=30) == 1_000_000
    assert worker.said().count("x") > 999_000


def test_the_next_job_begins_in_the_folder_of_the_worker(minion, start_worker):
    start_worker(jobs=1, spare=0)
    before = minion.result(minion.enqueue("directory"), timeout=30)
    assert minion.result(minion.enqueue("change_directory"), timeout=30) == "/"
    assert minion.result(minion.enqueue("directory"), timeout=30) == before != "/"


def test_a_job_that_finds_no_memory_fails(minion, start_worker):
    start_worker(jobs=1, recycle=1)
    id = minion.enqueue("eat_memory")
    with pytest.raises(JobFailed):
        minion.result(id, timeout=30)
    (failure,) = minion.backend.failure_log(id)
    assert failure.message.startswith("MemoryError")
    assert minion.result(minion.enqueue("add", [1]), timeout=30) == 2


def test_mishaps_are_one_line_each_in_the_log(minion, start_worker):
    worker = start_worker(jobs=2)
    tasks = [("leave", [1]), ("kill_self", []), ("add", [1, 2, 3]), ("unkeepable", []), ("system_exit", [3])]
    ids = [minion.enqueue(task, args) for task, args in tasks]
    for id in ids:
        with pytest.raises(JobFailed):
            minion.result(id, timeout=30)
    time.sleep(0.2)
    assert worker.stop() == 0
    lines = worker.said().splitlines()
    for id, (task, _) in zip(ids, tasks, strict=True):
        about = [line for line in lines if f"Job {id} " in line]
        assert len(about) == 1, about
        assert about[0].startswith(f"WARNING Job {id} ({task}): attempt 0 failed: ")


@pytest.mark.parametrize(("column", "form"), [("args", "%s"), ("kwargs", '{"a":%s}'), ("notes", '{"a":%s}')])
@pytest.mark.parametrize("array", ["[" + "9" * 5000 + "]", "[" * 5000 + "]" * 5000], ids=["digits", "depth"])
def test_json_that_python_cannot_read_fails_its_job_only(minion, start_worker, array, column, form):
    """Perl's Minion enqueues it without a murmur."""
    unreadable, readable = minion.enqueue("add", [1]), minion.enqueue("add", [2])
    with sqlite3.connect(minion.url.removeprefix("sqlite:///")) as database:
        change = f"UPDATE minion_jobs SET {column} = ?1, result = ?1 WHERE id = ?2"
        database.execute(change, (form % array, unreadable))
    start_worker(jobs=1)
    with pytest.raises(JobFailed, match="more than Python reads: nested too deeply, or a number of too many"):
        minion.result(unreadable, timeout=30)
    assert minion.result(readable, timeout=30) == 3
    job = minion.job(unreadable)
    assert array[:50] in str(getattr(job, column))
    if column == "notes":
        with pytest.raises(BackendError, match="cannot be changed"):
            job.note({"a": 1})
