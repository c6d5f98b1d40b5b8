"""The `minion` command as a user meets it: real processes, their output and exit codes."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import attrs
import pytest

from minion_core import DequeueOptions, JobRecord, Minion

MINION = [sys.executable, "-m", "minion_core"]

APP = """
from minion_core import Minion

minion = Minion("sqlite:///jobs.db")


@minion.task
def resize(path, width=100):
    '''Make an image smaller.'''
    return {"path": path, "width": width}


@minion.task("boom", attempts=3, retry_delay=0)
def explode():
    raise ValueError("no luck")
"""

Answer = subprocess.CompletedProcess[str]
Run = Callable[..., Answer]


@pytest.fixture
def run(tmp_path: Path, command: Run) -> Run:
    (tmp_path / "app.py").write_text(APP)

    def run(*arguments: str, app: str | None = "app", **environment: str) -> Answer:
        return command(tmp_path, *(("--app", app) if app else ()), *arguments, **environment)

    return run


@pytest.fixture
def queue(tmp_path: Path) -> Iterator[Minion]:
    """The same queue, without the application."""
    with Minion(f"sqlite:///{tmp_path}/jobs.db") as minion:
        yield minion


def read(answer: Answer) -> Any:
    assert answer.returncode == 0, answer.stderr
    return json.loads(answer.stdout)


def stored(queue: Minion, id: int) -> JobRecord:
    [job] = queue.jobs(ids=[id])
    return job


# -- Jobs --------------------------------------------------------------------------------------------------


def test_enqueue_prints_the_id_and_takes_every_field(run, queue):
    parent = queue.enqueue("resize", ["a.png"])
    answer = run(
        "job", "-e", "resize", "-a", '["b.png"]', "--kwargs", '{"width": 7}', "-A", "4", "-d", "1h",
        "-E", "2h", "-x", "1", "-n", '{"author": "me"}', "-P", str(parent), "-p", "5", "-q", "slow",
        "--uniqkey", "b",
        "--coalesce", "c", "--lease", "90", "--keep-for", "1w",
    )  # fmt: skip
    assert answer.returncode == 0, answer.stderr
    job = stored(queue, int(answer.stdout))
    assert (job.args, job.kwargs, job.notes, job.parents) == (
        ["b.png"],
        {"width": 7},
        {"author": "me"},
        [parent],
    )
    assert (job.attempts, job.priority, job.queue, job.lax) == (4, 5, "slow", True)
    assert (job.uniqkey, job.coalesce, job.lease, job.keep_for) == ("b", "c", 90, 604_800)
    assert job.delayed == job.created + timedelta(hours=1)
    assert job.expires == job.created + timedelta(hours=2)


def test_enqueue_takes_the_defaults_of_the_task(run, queue):
    assert stored(queue, int(run("job", "-e", "boom").stdout)).attempts == 3


def test_enqueue_with_a_key_that_is_held_answers_the_holder_and_says_so(run, queue):
    first = queue.enqueue("boom", uniqkey="k")
    answer = run("job", "-e", "boom", "--uniqkey", "k")
    assert answer.stdout == f"{first}\n"
    assert f"job {first} waits or runs with the key 'k'" in answer.stderr
    assert read(run("job", "-e", "boom", "--uniqkey", "k", "--json")) == {"id": first, "created": False}


def test_a_database_is_enough_to_enqueue_for_another_application(run, queue):
    answer = run("--url", "sqlite:///jobs.db", "job", "-e", "somewhere.else", app=None)
    assert stored(queue, int(answer.stdout)).task == "somewhere.else"


def test_the_environment_names_application_and_database(run):
    assert run("job", "-e", "boom", app=None, MINION_APP="app").returncode == 0
    listed = run("job", "--json", app=None, MINION_URL="sqlite:///jobs.db")
    assert [job["task"] for job in read(listed)["jobs"]] == ["boom"]


def test_url_goes_before_what_the_application_says(run, tmp_path):
    assert run("--url", "sqlite:///other.db", "job", "-e", "boom").returncode == 0
    assert (tmp_path / "other.db").exists()
    assert not (tmp_path / "jobs.db").exists()


def test_lists_newest_first_with_filters_and_pages(run, queue):
    ids = [queue.enqueue("resize", ["x"], queue=name) for name in ("a", "b", "b")]
    boom = queue.enqueue("boom", notes={"mark": 1})
    queue.enqueue("resize", ["x"], queue="c")

    def listed(*arguments: str) -> list[int]:
        return [job["id"] for job in read(run("job", "--json", *arguments))["jobs"]]

    assert listed("-q", "b") == [ids[2], ids[1]]
    assert listed("-q", "a", "-q", "b", "-S", "failed", "-S", "inactive") == [ids[2], ids[1], ids[0]]
    assert listed("-t", "boom") == [boom]
    assert listed("-n", '["mark", "other"]') == [boom]
    assert listed("-l", "2", "-o", "2") == [ids[2], ids[1]]
    assert read(run("job", "--json", "-l", "1"))["total"] == 5
    table = run("job", "-l", "2")
    assert "there are more: -o 2" in table.stderr
    assert len(table.stdout.splitlines()) == 3


def test_a_table_that_is_no_terminal_is_plain_and_whole(run, queue):
    name = "q" * 200
    id = queue.enqueue("resize", ["a.png"], queue=name)
    heading, row = run("job", COLUMNS="40").stdout.splitlines()
    assert heading.split() == ["ID", "STATE", "QUEUE", "TASK", "PRIORITY", "LEFT", "AGE", "ARGUMENTS"]
    assert row.split()[:4] == [str(id), "inactive", name, "resize"]
    assert "\x1b" not in row


@pytest.mark.usefixtures("run")
def test_a_narrow_terminal_loses_neither_ids_nor_names(queue, tmp_path):
    id = queue.enqueue("resize", ["x" * 300], queue="quite.a.long.name.of.a.queue")
    shown = _on_a_terminal(tmp_path, "--app", "app", "job")
    text = re.sub(r"\x1b\[[0-9;]*m", "", shown)
    assert text != shown  # there were colours
    assert f"{id}  inactive  quite.a.long.name.of.a.queue  resize" in text
    assert "…" in text


def _on_a_terminal(folder: Path, *arguments: str) -> str:
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "60"}
    process = subprocess.Popen(
        [*MINION, *arguments], cwd=folder, env=environment, stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    shown = b""
    while True:
        try:
            some = os.read(ours, 65536)
        except OSError:  # Linux says so when the other side is closed
            break
        if not some:
            break
        shown += some
    os.close(ours)
    assert process.wait() == 0
    return shown.decode()


def test_text_of_others_cannot_command_the_terminal(run, queue):
    id = queue.enqueue("a\x1b[31mb", ["\x1b]0;owned\x07\n\x9b31m"], notes={"\x1b[2J": "\u202e"})
    for answer in (run("job"), run("job", str(id))):
        assert answer.returncode == 0
        assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", answer.stdout)


def test_show_tells_what_there_is_and_the_failures(run, queue):
    id, other = queue.enqueue("boom"), queue.enqueue("boom")
    assert run("job", "-f", str(id)).returncode == 1
    shown = run("job", str(id)).stdout
    assert re.search(r"^state +failed$", shown, re.MULTILINE)
    assert "ValueError: no luck" in shown
    assert "failure log" in shown
    assert "coalesce" not in shown
    one, two = read(run("job", str(id), str(other), "--json"))["jobs"]
    assert one["result"]["type"] == "ValueError"
    assert [failure["retries"] for failure in one["failure_log"]] == [1]
    assert set(two) == {field.name for field in attrs.fields(JobRecord)} | {"failure_log"}
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", two["created"])


def test_foreground_prints_the_result_or_the_jobs_own_traceback(run, queue):
    done = run("job", "-f", str(queue.enqueue("resize", ["a.png"], {"width": 5})))
    assert (done.returncode, done.stdout) == (0, '{"path": "a.png", "width": 5}\n')
    failed = run("job", "-f", str(queue.enqueue("boom")))
    assert failed.returncode == 1
    assert "app.py" in failed.stderr
    assert "minion_core/" not in failed.stderr


def test_retry_takes_new_values(run, queue):
    id = queue.enqueue("boom")
    answer = run(
        "job",
        "-R",
        str(id),
        "-A",
        "9",
        "-d",
        "1h",
        "-E",
        "2h",
        "-p",
        "-3",
        "-q",
        "later",
        "-x",
        "0",
        "-P",
        "7",
    )
    assert (answer.returncode, answer.stdout) == (0, f"retried {id}\n")
    job = stored(queue, id)
    assert (job.attempts, job.priority, job.queue, job.parents, job.retries) == (9, -3, "later", [7], 1)
    assert job.retried is not None
    assert job.delayed == job.retried + timedelta(hours=1)


def test_an_active_job_is_retried_only_by_force(run, queue):
    id = queue.enqueue("boom")
    worker = queue.backend.register_worker(None, "here", 1, {})
    queue.backend.dequeue(worker, DequeueOptions(("boom",)))
    refused = run("job", "-R", str(id))
    assert (refused.returncode, refused.stdout) == (1, "")
    assert f"job {id} is active; --force" in refused.stderr
    assert f"job {id} is active" in run("job", "--remove", str(id)).stderr
    assert run("job", "-R", str(id), "--force").returncode == 0
    assert stored(queue, id).state == "inactive"


def test_workers_are_listed_shown_and_sent_commands(run, queue):
    status = {"jobs": 4, "queues": ["default"], "performed": 7}
    worker = queue.backend.register_worker(None, "here", 123, status)
    listed = read(run("job", "-w", "--json"))
    assert (listed["total"], listed["workers"][0]["host"], listed["workers"][0]["status"]) == (
        1,
        "here",
        status,
    )
    assert re.search(rf"^ *{worker} +here +123 +0/4 +7 +default", run("job", "-w").stdout, re.MULTILINE)
    assert re.search(r"^status: performed +7$", run("job", "-w", str(worker)).stdout, re.MULTILINE)
    assert run("job", "-b", "jobs", "-a", "[2]", str(worker)).returncode == 0
    assert queue.backend.receive(worker) == [["jobs", 2]]
    assert run("job", "-b", "jobs", "-a", "[2]", "99").returncode == 1
    assert run("job", "-w", "99").stderr == "minion: there is no worker 99\n"


def test_remove_says_which_and_fails_for_the_rest(run, queue):
    one, two = queue.enqueue("boom"), queue.enqueue("boom")
    answer = run("job", "--remove", str(one), str(two), "99")
    assert answer.returncode == 1
    assert answer.stdout == f"removed {one}, {two}\n"
    assert answer.stderr == "minion: there is no job 99\n"


def test_all_failed_jobs_at_once(run, queue):
    queue.add_task("boom", lambda: 1 / 0)
    for name in ("a", "a", "b"):
        queue.enqueue("boom", queue=name)
    queue.perform_jobs(queues=["a", "b"])
    assert read(run("job", "--retry-failed", "-q", "a", "--json")) == {"retried": 2}
    assert run("job", "--remove-failed", "-t", "nothing").stdout == "removed 0 jobs\n"
    assert run("job", "--remove-failed").stdout == "removed 1 job\n"
    assert [job.queue for job in queue.jobs()] == ["a", "a"]


def test_notes_are_merged(run, queue):
    id = queue.enqueue("boom", notes={"a": 1, "b": 2})
    assert run("job", "-n", '{"b": null, "c": [3]}', str(id)).stdout == f"noted {id}\n"
    assert stored(queue, id).notes == {"a": 1, "c": [3]}
    assert run("job", "-n", '{"b": 1}', "99").returncode == 1


def test_stats_and_history(run, queue):
    queue.enqueue("boom", delay=3600)
    assert read(run("job", "-s", "--json"))["delayed_jobs"] == 1
    assert re.search(r"^delayed jobs +1 ", run("job", "-s").stdout, re.MULTILINE)
    hours = read(run("job", "-H", "--json"))["history"]
    assert len(hours) == 24
    assert set(hours[0]) == {"start", "finished_jobs", "failed_jobs"}
    assert len(run("job", "-H").stdout.splitlines()) == 25


def test_tasks(run):
    tasks = read(run("job", "-T", "--json"))["tasks"]
    assert [(task["name"], task["summary"]) for task in tasks] == [
        ("boom", ""),
        ("resize", "Make an image smaller."),
    ]
    assert "app.explode" in run("job", "-T").stdout


def test_locks(run, queue):
    assert queue.lock("one", 3600)
    assert queue.lock("two", 3600)
    assert [lock["name"] for lock in read(run("job", "-L", "--json"))["locks"]] == ["two", "one"]
    assert "two" not in run("job", "-L", "one").stdout
    assert run("job", "-U", "one").returncode == 0
    assert run("job", "-U", "one").returncode == 1
    assert run("job", "-L", "one").stdout == ""


# -- Schedules ---------------------------------------------------------------------------------------------


def test_schedules_from_first_to_last(run, queue):
    added = run(
        "schedule", "-e", "nightly", "-c", "0 3 * * *", "-t", "resize", "-a", '["a"]',
        "--kwargs", '{"width": 2}', "-A", "2", "-E", "1h", "-n", '{"n": 1}', "-p", "4", "-q", "slow",
        "-x", "1", "--time-zone", "Europe/Berlin",
    )  # fmt: skip
    assert added.returncode == 0, added.stderr
    [shown] = read(run("schedule", "nightly", "--json"))["schedules"]
    assert (shown["id"], shown["cron"], shown["time_zone"]) == (
        int(added.stdout),
        "0 3 * * *",
        "Europe/Berlin",
    )
    assert (shown["args"], shown["kwargs"], shown["notes"]) == (["a"], {"width": 2}, {"n": 1})
    assert (shown["attempts"], shown["expire"], shown["priority"], shown["queue"]) == (2, 3600, 4, "slow")
    assert re.search(r"^time zone +Europe/Berlin$", run("schedule", "nightly").stdout, re.MULTILINE)
    assert run("schedule", "-P", "nightly").stdout == "paused nightly\n"
    assert "paused" in run("schedule").stdout
    assert run("schedule", "-r", "nightly").returncode == 0
    assert run("schedule", "-d").stderr == "nothing is due\n"
    assert run("schedule", "-e", "soon", "-c", "@hourly", "-t", "boom", "--first-run", "0").returncode == 0
    [dispatched] = read(run("schedule", "-d", "--json"))["dispatched"]
    assert dispatched["name"] == "soon"
    assert stored(queue, dispatched["job"]).attempts == 3
    assert read(run("schedule", "--json"))["total"] == 2
    assert run("schedule", "-R", "nightly").stdout == "removed nightly\n"
    for letter in ("-R", "-P", "-r"):
        gone = run("schedule", letter, "nightly")
        assert (gone.returncode, gone.stderr) == (1, "minion: there is no schedule nightly\n")
    assert run("schedule", "nightly").returncode == 1


# -- Backends and migrations -------------------------------------------------------------------------------


def test_backends_lists_what_is_installed(run):
    found = {item["scheme"]: item for item in read(run("backends", "--json", app=None))["backends"]}
    assert found["sqlite"]["package"] == "minion-sqlite"
    assert found["sqlite"]["error"] is None
    assert found["sqlite"]["capabilities"]["durable"] is True
    assert "minion-sqlite" in run("backends", app=None).stdout


def test_migrate_says_what_it_did(run, tmp_path):
    printed = run("migrate", "--print")
    assert "CREATE TABLE minion_jobs" in printed.stdout
    assert not (tmp_path / "jobs.db").exists()
    assert read(run("migrate", "--json"))["applied"] == [1]
    assert read(run("migrate", "--json"))["applied"] == []
    assert "up to date" in run("migrate").stdout


def test_without_a_command_it_says_what_there_is(run):
    answer = run(app=None)
    assert answer.returncode == 0
    assert re.findall(r"^  (\w+)  ", answer.stdout, re.MULTILINE) == [
        "backends",
        "job",
        "migrate",
        "schedule",
        "worker",
    ]
    assert run("--version", app=None).stdout.startswith("minion, version ")


PLUGIN = """
import click
from minion_core import hookimpl

@click.command()
def dance():
    "Dance."
    click.echo("dancing")

@hookimpl
def minion_commands():
    return [dance]
"""


def test_plugins_add_commands_and_broken_ones_do_not_disturb(run, tmp_path):
    (tmp_path / "dancing.py").write_text(PLUGIN)
    (tmp_path / "dancing-1.0.dist-info").mkdir()
    (tmp_path / "dancing-1.0.dist-info" / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: dancing\nVersion: 1.0\n"
    )
    points = "[minion.plugins]\ndancing = dancing\nbroken = no_such_module\n"
    (tmp_path / "dancing-1.0.dist-info" / "entry_points.txt").write_text(points)
    assert run("dance", PYTHONPATH=str(tmp_path)).stdout == "dancing\n"
    listed = run("--help", PYTHONPATH=str(tmp_path))
    assert re.search(r"^  dance +Dance\.$", listed.stdout, re.MULTILINE)
    assert len(listed.stderr.splitlines()) == 1
    assert "no_such_module" in listed.stderr
    assert run("backends", PYTHONPATH=str(tmp_path)).stderr == ""


# -- Wherever the options stand, whoever reads -------------------------------------------------------------


def test_front_options_may_stand_on_either_side(run):
    assert run("job", "-e", "boom", "--app", "app", app=None).returncode == 0
    assert read(run("--json", "job"))["total"] == 1


@pytest.mark.usefixtures("run")
def test_a_reader_that_has_seen_enough_is_no_error(queue, tmp_path):
    queue.enqueue("resize", ["x" * 300_000])
    command = f"{sys.executable} -m minion_core --app app job --json | head -c 1"
    answer = subprocess.run(command, shell=True, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert (answer.stdout, answer.stderr) == ("{", "")


@pytest.mark.usefixtures("run")
def test_output_that_the_locale_cannot_write_is_escaped(queue, tmp_path):
    queue.enqueue("resize", ["日本"])

    def run(*arguments: str) -> str:
        environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
        command = [*MINION, "--app", "app", *arguments]
        return subprocess.run(command, cwd=tmp_path, env=environment, stdout=-1, text=True, check=True).stdout

    assert "\\u65e5" in run("job")
    assert json.loads(run("job", "--json"))["jobs"][0]["args"] == ["日本"]


def test_what_is_nested_as_deep_as_can_be_is_listed(run, queue):
    deep: Any = "bottom"
    for _ in range(499):
        deep = [deep]
    id = queue.enqueue("resize", deep)
    (job,) = read(run("job", str(id), "--json"))["jobs"]
    assert job["args"] == deep
    assert "bottom" in run("job", str(id)).stdout
