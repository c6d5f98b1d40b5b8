"""What several test files need: a queue of its own for each test, and workers as real processes."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from minion_core import Minion, State

WORKER_APP = Path(__file__).parent / "worker_app.py"
COMMANDS = Path(__file__).parent / "minion_commands.py"
PATIENCE = 30.0
"""How long a test waits for what should come at once: other work may keep the machine busy."""

if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    # Started in the background by a script, and so would be deaf to Ctrl-C whatever the tests start.
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(name="eventually")
def _eventually() -> Callable[..., Any]:
    return eventually


def eventually(what: Callable[[], Any], patience: float = PATIENCE) -> Any:
    """Wait until something is true, and answer it."""
    deadline = time.monotonic() + patience
    while not (found := what()):
        assert time.monotonic() < deadline, f"not so after {patience} s: {what}"
        time.sleep(0.01)
    return found


class Clock:
    """A clock that stands still until it is turned."""

    def __init__(self) -> None:
        self.time = datetime(2026, 1, 1, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.time

    def turn(self, seconds: float) -> None:
        self.time += timedelta(seconds=seconds)


@pytest.fixture
def clock() -> Clock:
    return Clock()


class WorkerProcess:
    """A worker of ``worker_app.py`` as a process of its own."""

    def __init__(self, url: str, log: Path, missing_after: float, options: dict[str, Any]) -> None:
        self.log = log
        environment = {**os.environ, "MINION_URL": url, "MISSING_AFTER": str(missing_after)}
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, str(WORKER_APP), json.dumps(options)],
                env=environment,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self.process.pid

    def said(self) -> str:
        return self.log.read_text()

    def send(self, number: int) -> None:
        self.process.send_signal(number)

    def wait(self, timeout: float = PATIENCE) -> int:
        return self.process.wait(timeout)

    def stop(self) -> int:
        self.send(signal.SIGTERM)
        return self.wait()

    def children(self) -> list[int]:
        """Answer the pids of all processes below it, of those that run still."""
        below: list[int] = []
        look = [self.pid]
        while look:
            tasks = [task for pid in look for task in Path("/proc").glob(f"{pid}/task/*/children")]
            look = [int(pid) for task in tasks for pid in task.read_text().split()]
            below += look
        return below

    def clean_up(self) -> None:
        children = self.children() if self.process.poll() is None else []
        for pid in [self.pid, *children]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()


StartWorker = Callable[..., WorkerProcess]


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'jobs.db'}"


@pytest.fixture
def minion(url: str) -> Iterator[Minion]:
    with Minion(url) as minion:
        yield minion


@pytest.fixture
def start_worker(url: str, start_worker_on: StartWorker) -> StartWorker:
    return functools.partial(start_worker_on, url)


@pytest.fixture
def start_worker_on(tmp_path: Path) -> Iterator[StartWorker]:
    workers: list[WorkerProcess] = []

    def start(url: str, *, missing_after: float = 1800, **options: Any) -> WorkerProcess:
        log = tmp_path / f"worker-{len(workers)}.log"
        worker = WorkerProcess(url, log, missing_after, {"jobs": 2, **options})
        workers.append(worker)
        return worker

    yield start
    for worker in workers:
        worker.clean_up()


@pytest.fixture
def drained(minion: Minion) -> Callable[..., None]:
    """Wait until no job is left to do."""

    def wait(patience: float = PATIENCE) -> None:
        live = [State.INACTIVE, State.ACTIVE]
        eventually(lambda: next(minion.jobs(states=live), None) is None, patience)

    return wait


Command = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="session")
def _commands() -> Iterator[subprocess.Popen[str]]:
    server = subprocess.Popen(
        [sys.executable, str(COMMANDS)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with server:
        yield server


@pytest.fixture
def command(_commands: subprocess.Popen[str], tmp_path_factory: pytest.TempPathFactory) -> Command:
    """Run a ``minion`` command in a folder, in a process of its own (see ``minion_commands.py``)."""
    outputs = tmp_path_factory.mktemp("output")

    def run(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        clean = {name: value for name, value in os.environ.items() if not name.startswith("MINION_")}
        request = {
            "arguments": arguments,
            "folder": str(folder),
            "environment": clean | environment,
            "stdout": str(outputs / "stdout"),
            "stderr": str(outputs / "stderr"),
        }
        assert _commands.stdin is not None
        assert _commands.stdout is not None
        print(json.dumps(request), file=_commands.stdin, flush=True)
        code = int(_commands.stdout.readline())
        stdout, stderr = ((outputs / name).read_text() for name in ("stdout", "stderr"))
        return subprocess.CompletedProcess(arguments, code, stdout, stderr)

    return run
