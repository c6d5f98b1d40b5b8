"""Whether the code of the application has changed: for ``minion worker --reload``."""

from __future__ import annotations

import socket
import sys
import sysconfig
from pathlib import Path

from minion_core.wakeup import is_readable

LOOK_AT_CODE = 0.5
"""Seconds between two looks."""

MOST_FILES = 5000

_INSTALLED = tuple(
    {
        str(Path(path).resolve())
        for path in (sysconfig.get_paths()["stdlib"], sysconfig.get_paths()["purelib"])
    }
)


class CodeWatch:
    """Remembers when files were changed: those of the modules imported, and all Python of this folder."""

    def __init__(self) -> None:
        self._here = {path: _time(path) for path in _files_here()}
        self._seen: dict[Path, float] = {}

    def changed(self) -> bool:
        """Say whether a file has changed since it was first seen."""
        for module in list(sys.modules.values()):
            name = getattr(module, "__file__", None)
            if name is not None and not name.startswith(_INSTALLED):
                path = Path(name)
                self._seen.setdefault(path, self._here.get(path, _time(path)))
        return any(_time(path) != before for path, before in self._seen.items())

    def wait_for_change(self, sock: socket.socket) -> None:
        """Wait until any file of this folder has changed: the code as it is cannot be imported.

        Ends the process when the supervisor is gone.
        """
        while {path: _time(path) for path in _files_here()} == self._here and not self.changed():
            readable = is_readable(sock, timeout=LOOK_AT_CODE)
            if readable and not sock.recv(1, socket.MSG_PEEK):
                sys.exit(0)


def _files_here() -> list[Path]:
    found: list[Path] = []
    for path in Path.cwd().rglob("*.py"):
        if not any(part.startswith(".") for part in path.parts):
            found.append(path)
        if len(found) >= MOST_FILES:
            break
    return found


def _time(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0
