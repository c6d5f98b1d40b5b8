"""Telling those who watch over a worker that it is alive: systemd, and a file for containers.

Both are told from the main loop and by nobody else: a worker whose main loop hangs is not alive, however
many threads of it go on. A worker that waits for a store that is gone is alive: to start it anew would not
bring the store back.
"""

from __future__ import annotations

import json
import os
import socket
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

INTERVAL = 5.0
"""Seconds between two signs of life."""

DEAD_AFTER = 30.0
"""A worker whose last sign of life is older than this, in seconds, is not alive."""


class Health:
    """The signs of life of one worker."""

    def __init__(self, file: Path | None = None) -> None:
        """Tell nobody yet.

        Args:
            file: Written at each sign of life, removed at the end.
        """
        self._file = file
        self._socket = os.environ.get("NOTIFY_SOCKET")
        watchdog = os.environ.get("WATCHDOG_USEC", "")
        self._interval = min(INTERVAL, int(watchdog) / 3e6) if watchdog.isdigit() else INTERVAL
        self._next = 0.0

    def started(self) -> None:
        """Tell systemd that the worker is ready."""
        self._tell_systemd("READY=1")

    def beat(self, now: float, **told: Any) -> float | None:
        """Give a sign of life if it is time; answer when the next one is due, by ``time.monotonic()``."""
        if self._file is None and self._socket is None:
            return None
        if now >= self._next:
            self._next = now + self._interval
            status = ", ".join(f"{value} {name}" for name, value in told.items() if name != "worker")
            self._tell_systemd(f"WATCHDOG=1\nSTATUS={status}")
            self._write({**told, "pid": os.getpid(), "time": time.time()})
        return self._next

    def stopping(self) -> None:
        """Tell systemd that the worker ends."""
        self._tell_systemd("STOPPING=1")

    def ended(self) -> None:
        """Leave no file behind that says otherwise."""
        if self._file is not None:
            with suppress(OSError):
                self._file.unlink()

    def _write(self, told: dict[str, Any]) -> None:
        if self._file is not None:
            with suppress(OSError):  # who watches will see that it grows old
                draft = self._file.with_name(f"{self._file.name}.{os.getpid()}")
                draft.write_text(json.dumps(told))
                draft.replace(self._file)

    def _tell_systemd(self, message: str) -> None:
        if self._socket:
            address = f"\0{self._socket[1:]}" if self._socket.startswith("@") else self._socket
            with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
                sock.setblocking(False)
                sock.sendto(message.encode(), address)


def check(file: Path) -> tuple[bool, str]:
    """Say whether the worker that writes this file is alive, and what there is to tell."""
    try:
        told = json.loads(file.read_text())
        age = time.time() - float(told["time"])
    except FileNotFoundError:
        return False, f"there is no {file}: no worker writes it"
    except (OSError, ValueError, TypeError, KeyError):
        return False, f"{file} cannot be read, or no worker wrote it"
    who = f"worker {told.get('worker')} (pid {told.get('pid')})"
    if age > DEAD_AFTER:
        return False, f"{who} gave its last sign of life {age:.0f} s ago"
    return True, f"{who} is alive: {told.get('running')} running, {told.get('performed')} performed"
