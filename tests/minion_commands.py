"""Runs `minion` commands for tests, each in a process of its own, forked from this one.

To start Python and import everything takes ten times as long as most commands do. A request is one line
of JSON: arguments, folder, environment, the files for standard output and error. The answer is the exit code.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from typing import Any, NoReturn

import minion_sqlite.backend  # noqa: F401 - so that commands need not import it
from minion_core.cli import root


def serve() -> None:
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            perform(json.loads(line))
        _, status = os.waitpid(pid, 0)
        sys.stdout.write(f"{os.waitstatus_to_exitcode(status)}\n")
        sys.stdout.flush()


def perform(request: dict[str, Any]) -> NoReturn:
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    sys.path[:0] = os.environ.get("PYTHONPATH", "").split(":")
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for number, name in ((1, "stdout"), (2, "stderr")):
        os.dup2(os.open(request[name], os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    try:
        code = root.run(request["arguments"])
        sys.stdout.flush()
    except BaseException:  # noqa: BLE001 - what the interpreter would do with it
        traceback.print_exc()
        code = 1
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    serve()
