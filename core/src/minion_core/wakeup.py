"""What wakes who sleeps: a worker's main loop by its threads and by signals, others by a descriptor."""

from __future__ import annotations

import queue
import select
import selectors
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any, TypeAlias

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGQUIT)

POLL_MAX = 2**31 - 1
"""Milliseconds."""

OnSignal: TypeAlias = Callable[[int, FrameType | None], None]


def is_readable(*files: Any, timeout: float | None = 0.0) -> bool:
    """Wait until one of several files can be read without waiting, is at its end, or is closed.

    A process may have more open than the 1,024 that ``select.select`` knows.

    Args:
        files: Descriptors, or what has one.
        timeout: For how many seconds to wait, three weeks at the most; ``None`` is as long as it takes.
    """
    if not hasattr(select, "poll"):
        return bool(select.select(files, [], [], timeout)[0])
    poll = select.poll()
    for file in files:
        poll.register(file, select.POLLIN)
    return bool(poll.poll(None if timeout is None else min(timeout * 1000, POLL_MAX)))


class Wakeup:
    """A queue of things to do for a loop that sleeps in a selector."""

    def __init__(self) -> None:
        self._posted: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._bell: socket.socket | None = None

    def post(self, what: Callable[[], None]) -> None:
        """Have the loop do something, soon; from any thread, or from a signal's handler."""
        self._posted.put(what)
        if self._bell is not None:
            with suppress(OSError):  # full: it is awake; closed: it has ended
                self._bell.send(b"\0")

    @contextmanager
    def listening(self, selector: selectors.BaseSelector, on_signal: OnSignal) -> Iterator[None]:
        """Wake the loop of a selector; handle signals that tell it to stop, if this is the main thread."""
        ear, self._bell = socket.socketpair()
        ear.setblocking(False)
        self._bell.setblocking(False)
        selector.register(ear, selectors.EVENT_READ, lambda: self._heard(ear))
        before: dict[int, Any] = {}
        before_fd = -1
        if threading.current_thread() is threading.main_thread():
            before_fd = signal.set_wakeup_fd(self._bell.fileno(), warn_on_full_buffer=False)
            before = {number: signal.signal(number, on_signal) for number in STOP_SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
            if before:
                signal.set_wakeup_fd(before_fd)
            bell, self._bell = self._bell, None
            bell.close()
            ear.close()

    def _heard(self, ear: socket.socket) -> None:
        with suppress(BlockingIOError):
            while ear.recv(4096):
                pass
        with suppress(queue.Empty):
            while True:
                self._posted.get_nowait()()
