"""Ends a throw-away server when the process that started it is gone, however that one went.

Run as ``python keeper.py FOLDER PARENT``: a process of its own, which survives a ``kill -9`` of the tests and
then kills the server whose number stands in ``FOLDER/server.pid``, and removes the folder.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time
from pathlib import Path


def server_of(folder: Path) -> int | None:
    """Answer the process that serves from a folder; ``None`` when there is none (any more)."""
    try:
        pid = int((folder / "server.pid").read_text())
        # Numbers of processes are used again: this one must name the folder on its command line.
        return pid if folder.name.encode() in Path(f"/proc/{pid}/cmdline").read_bytes() else None
    except (OSError, ValueError):
        return None


def kill(folder: Path) -> None:
    """Kill the server of a folder and wait until it is gone."""
    while (pid := server_of(folder)) is not None:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            return
        time.sleep(0.02)


def main() -> None:
    """Watch until the parent is gone or the folder is, then clean up."""
    folder, parent = Path(sys.argv[1]), int(sys.argv[2])
    while os.getppid() == parent and folder.exists():
        time.sleep(0.3)
    kill(folder)
    shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
