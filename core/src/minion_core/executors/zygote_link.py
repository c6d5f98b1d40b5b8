"""The supervisor's side of the zygote: it is started, given orders, listened to, and started anew if it
dies.
"""

from __future__ import annotations

import logging
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, Protocol

from minion_core import logs
from minion_core.errors import ApplicationError
from minion_core.executors import TaskInfo, wire
from minion_core.executors.frames import Channel, pack

logger = logging.getLogger(__name__)

RESTART_DELAY_MAX = 30.0
CLOSE_TIMEOUT = 5.0


class Listener(Protocol):
    """Who is told what the zygote says; of performers, what concerns its own."""

    def spawned(self, number: int, pid: int) -> None:
        """A performer was forked."""

    def exited(self, number: int, pid: int, exit_code: int, signal_number: int) -> None:
        """A performer has ended."""

    def zygote_ready(self, tasks: Mapping[str, TaskInfo]) -> None:
        """The application is imported, perhaps anew: performers can be forked."""

    def zygote_lost(self) -> None:
        """The zygote has died; nobody will tell how its performers end."""


class ZygoteLink:
    """One zygote at a time.

    Attributes:
        ready: Whether it has imported the application.
        alive: Whether there is one.
    """

    def __init__(self, app: str, url: str, worker_id: int, **more: Any) -> None:
        """Start nothing yet.

        Args:
            app: Where the application is: ``module:attribute``.
            url: Where the queue is; passed on over a socket, so that no password shows in a process list.
            worker_id: In whose name jobs that are being performed claim others.
            **more: What else it is told: ``default``, the kind of executor for tasks that name none,
                ``plugins``, those to register, and ``reload``, whether it watches the code.
        """
        self._config = {"app": app, "url": url, "worker_id": worker_id, **more}
        self.ready = False
        self.alive = False
        self._listeners: list[Listener] = []
        self._owners: dict[int, Listener] = {}
        self._last_number = 0
        self._was_ready = False
        self._failures = 0
        self._restart_at: float | None = None
        self._selector: selectors.BaseSelector
        self._listener: Listener
        self._sock: socket.socket
        self._channel: Channel
        self._process: subprocess.Popen[bytes]

    def subscribe(self, listener: Listener) -> None:
        """Tell a listener from now on."""
        self._listeners.append(listener)

    def new_number(self, owner: Listener) -> int:
        """Answer the number of a performer to be forked, whose owner hears of it."""
        self._last_number += 1
        self._owners[self._last_number] = owner
        return self._last_number

    def forget(self, number: int) -> None:
        """Tell nobody of a performer that was not forked."""
        self._owners.pop(number, None)

    def start(self, selector: selectors.BaseSelector) -> None:
        """Start it; it says by itself when it is ready."""
        self._selector = selector
        self._sock, theirs = socket.socketpair()
        with theirs:
            # In a process group of its own, out of reach of the terminal's Ctrl-C.
            self._process = subprocess.Popen(  # noqa: S603  # our own module
                [sys.executable, "-m", "minion_core.executors.zygote", str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                process_group=0,
            )
        self._channel = Channel(self._sock, selector, self._said, self._ended)
        self.alive = True
        self._channel.send(pack({**self._config, **_surroundings()}))

    def order(self, letter: bytes, number: int, passed: Sequence[int] = ()) -> bool:
        """Give an order; ``False`` when nobody is there to take it."""
        if not self.alive or (letter == wire.SPAWN and not self.ready):
            return False
        sent = wire.ORDER.pack(letter, number)
        try:
            if not passed:
                return self._sock.send(sent) == len(sent)
            return socket.send_fds(self._sock, [sent], list(passed)) == len(sent)
        except OSError:
            return False  # full or gone; if gone, reading will say so

    def tick(self, now: float) -> float | None:
        """Start it anew when that is due; answer when it will be."""
        if self._restart_at is not None and now >= self._restart_at:
            self._restart_at = None
            self.start(self._selector)
        return self._restart_at

    def close(self) -> None:
        """End it, and with it what performers are left."""
        self._restart_at = None
        if not self.alive:
            return
        self.alive = self.ready = False
        self._channel.close()
        try:
            self._process.wait(CLOSE_TIMEOUT)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    # -- What it says -------------------------------------------------------------------------------------

    def _said(self, message: Sequence[Any]) -> None:
        match message:
            case (wire.READY, tasks):
                self.ready = self._was_ready = True
                known = {name: TaskInfo(*info) for name, info in tasks.items()}
                for listener in self._listeners:
                    listener.zygote_ready(known)
            case (wire.BROKEN, error, told):
                logger.error("The application cannot be used: %s\n%s", error, told.rstrip())
                if not self._was_ready:
                    raise ApplicationError(error)
            case (wire.SPAWNED, number, pid):
                if (owner := self._owners.get(number)) is not None:
                    owner.spawned(number, pid)
            case (wire.EXITED, number, pid, exit_code, signal_number):
                self._failures = 0
                if (owner := self._owners.pop(number, None)) is not None:
                    owner.exited(number, pid, exit_code, signal_number)

    def _ended(self) -> None:
        self.alive = self.ready = False
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(CLOSE_TIMEOUT)
        if self._process.returncode is None:  # it closed its socket and lives on
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()
        self._failures += 1
        delay = min(RESTART_DELAY_MAX, 0.1 * 2**self._failures)
        logger.error(
            "The process that forks performers has ended (%s); the next in %.1f s", self._how(), delay
        )
        self._restart_at = time.monotonic() + delay
        for listener in self._listeners:
            listener.zygote_lost()
        if not self._was_ready and self._failures > 3:
            raise ApplicationError(f"the worker's processes cannot be started ({self._how()})")

    def _how(self) -> str:
        code = self._process.returncode
        return f"signal {-code}" if code < 0 else f"exit code {code}"


def _surroundings() -> dict[str, Any]:
    """Let the application be found, and log, as it does here."""
    return {
        "path": list(sys.path),
        "log_level": logging.getLogger().level,
        "log_format": logs.format_in_use(),
    }
