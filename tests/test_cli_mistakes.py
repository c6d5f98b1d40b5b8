"""Each mistake of a user is one line on standard error that says what to do, and an exit code."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

Answer = subprocess.CompletedProcess[str]

MINION = [sys.executable, "-m", "minion_core"]

FILES = {
    "app.py": """
from minion_core import Minion
minion = Minion("sqlite:///jobs.db")
number = 3
@minion.task
def resize(path, width=100):
    return path
""",
    "needs_more.py": "import there_is_no_such_thing\n",
    "misspelt.py": "x = (\n",
    "raises.py": "def load():\n    return 1 / 0\nload()\n",
    "script.py": "import sys\nsys.exit(3)\n",
    "broken_plugin.py": "import a_driver_that_is_not_installed\n",
    "broken-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: broken\nVersion: 1.0\n",
    "broken-1.0.dist-info/entry_points.txt": "[minion.backends]\nbroken = broken_plugin\n",
    "garbage.db": "this is no database" * 100,
}

APP = ("--app", "app")

# What was typed, what the line must say, and the exit code.
MISTAKES = {
    "no queue named": ((), ("job",), "--app pkg.module:minion or --url sqlite:///jobs.db", 2),
    "no application for a worker": ((), ("--url", "sqlite:///jobs.db", "worker"), "say --app", 2),
    "no application for tasks": ((), ("job", "-T"), "say --app", 2),
    "no such module": ((), ("--app", "nix:minion", "job"), "no module 'nix'", 1),
    "no such name": ((), ("--app", "app:nix", "job"), "no attribute 'nix'", 1),
    "not a Minion": ((), ("--app", "app:number", "job"), "int", 1),
    "app needs a module": ((), ("--app", "needs_more", "job"), "needs_more.py, line 1", 1),
    "app has a syntax error": ((), ("--app", "misspelt", "job"), "misspelt.py, line 1", 1),
    "app raises": ((), ("--app", "raises", "job"), "ZeroDivisionError: division by zero (", 1),
    "app ends the program": ((), ("--app", "script", "worker"), "SystemExit: 3", 1),
    "unknown scheme": (
        (),
        ("--url", "nix://me:secret@host/x", "job"),
        "installed for nix:// (installed: ",
        1,
    ),
    "plugin not installed": ((), ("--url", "mariadb:", "--url", "oracle://h/x", "job"), "oracle://", 1),
    "plugin broken": ((), ("--url", "broken://me:secret@host", "job"), "a_driver_that_is_not_installed", 1),
    "no URL": ((), ("--url", "jobs.db", "job"), "try sqlite:///jobs.db", 2),
    "unknown option in the URL": ((), ("--url", "sqlite:///x.db?nix=1", "job"), "nix", 2),
    "no such folder": ((), ("--url", "sqlite:///no/such/jobs.db", "job"), "no folder", 1),
    "a folder": ((), ("--url", "sqlite:////tmp", "job"), "/tmp", 1),
    "no database": ((), ("--url", "sqlite:///garbage.db", "job"), "garbage.db", 1),
    "no database to migrate": ((), ("--url", "sqlite:///garbage.db", "migrate"), "garbage.db", 1),
    "bad JSON": (APP, ("job", "-e", "resize", "-a", "[1"), """like '[23, "bar"]'""", 2),
    "NaN": (APP, ("job", "-e", "resize", "-a", "[NaN]"), "JSON has no NaN", 2),
    "not an array": (APP, ("job", "-e", "resize", "-a", "{}"), "an array", 2),
    "not an object": (APP, ("job", "-e", "resize", "--kwargs", "[]"), "an object", 2),
    "notes that are no object": (APP, ("job", "-e", "resize", "-a", "[1]", "-n", "[]"), "an object", 2),
    "notes that are no list": (APP, ("job", "-n", "{}"), "an array", 2),
    "a NUL": (APP, ("job", "-e", "resize", "-a", '["\\u0000"]'), "NUL", 2),
    "unknown task": (APP, ("job", "-e", "rezise"), "did you mean 'resize'?", 2),
    "task quite unknown": (APP, ("job", "-e", "nix"), "it has resize", 2),
    "arguments that do not fit": (APP, ("job", "-e", "resize", "-a", "[1, 2, 3]"), "resize", 2),
    "attempts of 0": (APP, ("job", "-e", "resize", "-a", "[1]", "-A", "0"), "attempts", 2),
    "no length of time": (APP, ("job", "-e", "resize", "-d", "soon"), "or 10m, 2h, 3d, 1w", 2),
    "unknown job": (APP, ("job", "99"), "there is no job 99", 1),
    "unknown job to retry": (APP, ("job", "-R", "99"), "there is no job 99", 1),
    "unknown job to remove": (APP, ("job", "--remove", "99"), "there is no job 99", 1),
    "unknown job to perform": (APP, ("job", "-f", "99"), "there is no job 99", 1),
    "unknown worker": (APP, ("job", "-w", "99"), "there is no worker 99", 1),
    "unknown lock": (APP, ("job", "-U", "nix"), "minion job -L lists", 1),
    "nobody to hear it": (APP, ("job", "-b", "stop"), "minion job -w lists", 1),
    "no id": (APP, ("job", "last"), "'last' is no id", 2),
    "id too large": (APP, ("job", "9" * 30), "is no id", 2),
    "nothing to retry": (APP, ("job", "-R"), "minion job -R 23", 2),
    "two at once": (APP, ("job", "-s", "-e", "resize"), "two things to do", 2),
    "an option that does nothing": (
        APP,
        ("job", "23", "-p", "5"),
        "it goes with -e/--enqueue, -R/--retry",
        2,
    ),
    "ids that do nothing": (APP, ("job", "-s", "23"), "takes no ids", 2),
    "unknown state": (APP, ("job", "-S", "dead"), "'inactive', 'active'", 2),
    "unknown option": (APP, ("job", "--nix"), "minion job --help", 2),
    "unknown command": (APP, ("jobs",), "there are backends, job, migrate", 2),
    "bad cron": (APP, ("schedule", "-e", "n", "-c", "0 3", "-t", "resize"), "five fields", 2),
    "bad time zone": (
        APP,
        ("schedule", "-e", "n", "-c", "@daily", "-t", "resize", "--time-zone", "X"),
        "'X'",
        2,
    ),
    "half a schedule": (APP, ("schedule", "-e", "n", "-c", "@daily"), "-t/--task", 2),
    "schedule of an unknown task": (
        APP,
        ("schedule", "-e", "n", "-c", "@daily", "-t", "rezise"),
        "'resize'",
        2,
    ),
    "unknown schedule": (APP, ("schedule", "nix"), "no schedule nix", 1),
    "no jobs at a time": (APP, ("worker", "-j", "0"), "jobs", 2),
    "worker for an unknown task": (APP, ("worker", "-t", "nix"), "'nix'", 1),
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


@pytest.fixture
def run(folder: Path, command: Callable[..., Answer]) -> Callable[..., Answer]:
    return lambda *arguments: command(folder, *arguments, PYTHONPATH=str(folder))


@pytest.mark.parametrize("mistake", MISTAKES.values(), ids=MISTAKES.keys())
def test_one_line_says_what_to_do(run, mistake):
    front, arguments, words, code = mistake
    answer = run(*front, *arguments)
    [line] = answer.stderr.splitlines()
    assert line.startswith("minion: ")
    assert words in line
    assert "secret" not in line
    assert answer.returncode == code
    assert answer.stdout == ""


def test_backends_lists_a_broken_plugin_with_its_error(run):
    answer = run("backends")
    assert answer.returncode == 0
    [line] = [line for line in answer.stdout.splitlines() if line.startswith("broken")]
    assert "a_driver_that_is_not_installed" in line


def test_a_read_only_database_is_told(run, folder):
    assert run(*APP, "job", "-e", "resize", "-a", "[1]").returncode == 0
    if os.geteuid() == 0:
        answer = run("--url", "sqlite:////proc/jobs.db", "job")
    else:
        (folder / "jobs.db").chmod(0)
        answer = run(*APP, "job")
    [line] = answer.stderr.splitlines()
    assert line.startswith("minion: sqlite:///")
    assert answer.returncode == 1


def test_ctrl_c_is_quiet(folder):
    (folder / "slow.py").write_text("import time\nprint('importing', flush=True)\ntime.sleep(60)\n")
    command = [*MINION, "--app", "slow", "job"]
    with subprocess.Popen(
        command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "importing\n"
        time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        _, complaint = process.communicate(timeout=30)
    assert (process.returncode, complaint.strip()) == (130, "")
