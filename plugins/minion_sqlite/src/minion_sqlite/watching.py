"""Noticing that another process wrote to the file, without asking it all the time.

SQLite has no notifications. ``PRAGMA data_version`` says for certain whether anybody committed, but waking
up to ask it every few milliseconds costs an idle worker two or three hundredths of a core. On Linux the
kernel says that the log was written to (inotify), and only then is the pragma asked, in short steps until the
commit shows; elsewhere it is asked at a longer interval.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import time
from pathlib import Path

from minion_core.wakeup import is_readable

IN_MODIFY = 0x2
"""From <sys/inotify.h>."""

STEP = 0.001
"""Seconds between two looks while a commit is on its way."""

COMMIT_TAKES = 0.05
"""Seconds for which a write to the log is taken for the beginning of a commit."""

STEP_WITHOUT_KERNEL = 0.008
"""Seconds between two looks where the kernel says nothing."""


class Watch:
    """Sleeps until a file may have been written to; kept for the next wait, since it is slow to close."""

    def __init__(self) -> None:
        self._touched = 0.0
        self._kernel = _kernel()
        self._fd = (
            -1 if self._kernel is None else int(self._kernel.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC))
        )
        self._watching = False

    def look_at(self, path: Path) -> None:
        """Watch this file from now on; one that is watched already may have been made anew."""
        self._watching = (
            self._kernel is not None
            and self._fd >= 0
            and self._kernel.inotify_add_watch(self._fd, os.fsencode(path), IN_MODIFY) >= 0
        )

    def sleep(self, seconds: float) -> None:
        """Come back after so many seconds at the latest, sooner if the file is written to."""
        if not self._watching:
            time.sleep(min(seconds, STEP_WITHOUT_KERNEL))
            return
        if time.monotonic() - self._touched < COMMIT_TAKES:
            time.sleep(min(seconds, STEP))
            seconds = 0.0
        if is_readable(self._fd, timeout=seconds):
            with contextlib.suppress(BlockingIOError):
                os.read(self._fd, 65536)
            self._touched = time.monotonic()

    def close(self) -> None:
        """Let go of the kernel's part."""
        if self._fd >= 0:
            os.close(self._fd)
        self._fd, self._watching = -1, False


def _kernel() -> ctypes.CDLL | None:
    """Find the calls that ask the kernel to tell of writes; ``None`` where there are none."""
    try:
        library = ctypes.CDLL(None)
    except OSError:
        return None
    return library if hasattr(library, "inotify_init1") else None
