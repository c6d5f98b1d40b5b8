"""The zygote: a process with one thread that imports the application once, and forks performers from itself.

It is started as ``python -m minion_core.executors.zygote FD`` with one end of a socket pair. First it is
sent how to find the application, and answers that it is ready, or why not. Then each order is five bytes:
``S`` and a number, with two sockets passed along, forks a performer of that number; ``K`` and a number kills
the process group of that performer (``ALL`` means each of them), any other byte is a signal's number to send
to it. It tells which processes it forked and how they ended. When the supervisor is gone, it ends its
performers and itself.

Why not multiprocessing's forkserver: that swallows what goes wrong when the application is imported, and
answers 255 for every performer if it dies itself; here exit codes and signals are exact.
"""

from __future__ import annotations

import gc
import logging
import marshal
import os
import select
import signal
import socket
import sys
import threading
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NoReturn, TypeAlias

from minion_core import logs
from minion_core.application import load_app
from minion_core.errors import ApplicationError
from minion_core.executors.code_watch import LOOK_AT_CODE, CodeWatch
from minion_core.executors.frames import Reader, pack
from minion_core.executors.performer import Hand, perform_one_by_one
from minion_core.executors.wire import (
    ALL,
    BROKEN,
    EXITED,
    HOW,
    KILL,
    ORDER,
    READY,
    SPAWN,
    SPAWNED,
    UNKNOWN,
)
from minion_core.plugins import load_plugin
from minion_core.task import Task

if TYPE_CHECKING:
    from minion_core.minion import Minion

logger = logging.getLogger(__name__)

Perform: TypeAlias = Callable[[Hand, int], None]


def _in_threads() -> Perform:
    from minion_core.executors.threads import perform_in_threads  # noqa: PLC0415  # seldom needed

    return perform_in_threads


def _in_event_loop() -> Perform:
    from minion_core.executors.event_loop import perform_in_event_loop  # noqa: PLC0415  # asyncio is large

    return perform_in_event_loop


_PERFORMERS: Mapping[bytes, Callable[[], Perform]] = {
    b"p": lambda: perform_one_by_one,
    b"t": _in_threads,
    b"a": _in_event_loop,
}
"""How to perform, by the first letter of the kind of executor."""

_RESET = ("SIGINT", "SIGTERM", "SIGQUIT", "SIGHUP", "SIGCHLD", "SIGALRM", "SIGUSR1", "SIGUSR2")


class Zygote:
    """Forks performers on demand and tells how they ended."""

    def __init__(self, sock: socket.socket, before: Mapping[str, Any] | None = None) -> None:
        """Do nothing yet.

        Args:
            sock: The other end is the supervisor's.
            before: What the zygote knew that this one is in the place of.
        """
        self._sock = sock
        self._config: dict[str, Any] | None = before["config"] if before else None
        self._pids: dict[int, int] = dict(before["pids"]) if before else {}
        self._watch: CodeWatch | None = None
        self._worker_id = 0
        self._minion: Minion | None = None
        self._wake, self._woken = socket.socketpair()

    def run(self) -> None:
        """Import the application, then serve until the supervisor is gone."""
        # The supervisor decides when to end; a terminal's Ctrl-C or a service manager's signal is for it.
        for name in ("SIGINT", "SIGTERM", "SIGQUIT", "SIGHUP"):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
        if not self._prepare():
            return
        self._wake.setblocking(False)
        self._woken.setblocking(False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self._wake.fileno(), warn_on_full_buffer=False)
        self._reap()  # performers that it had before its code was loaded anew, and ended meanwhile
        gc.collect()
        gc.freeze()  # or each collection in a performer would copy the pages that it shares with this process
        try:
            # Reset, and not closed, if the supervisor died before it had read all that it was told.
            with suppress(ConnectionResetError):
                while self._serve():
                    pass
        finally:
            for pid in self._pids.values():
                _kill_group(pid, signal.SIGKILL)

    def _tell(self, *message: Any) -> None:
        with suppress(BrokenPipeError, ConnectionResetError):
            self._sock.sendall(pack(message))

    # -- The application ----------------------------------------------------------------------------------

    def _prepare(self) -> bool:
        config = self._config = self._config or self._receive_config()
        if config is None:
            return False
        self._worker_id = config["worker_id"]
        sys.path[:] = config["path"]
        logs.set_up(config["log_level"], config["log_format"])
        if config["reload"]:
            self._watch = CodeWatch()
        try:
            self._minion = load_app(config["app"])
            for name in config["plugins"]:
                self._minion.plugins.register(load_plugin(name))
        except (ApplicationError, ValueError) as error:
            cause = error.__cause__
            told = "".join(traceback.format_exception(cause)) if cause else ""
            self._tell(BROKEN, str(error), told)
            if self._watch is not None:
                self._watch.wait_for_change(self._sock)
                self._start_anew()
            return False
        self._minion.url = config["url"]
        self._minion.plugins.load()  # once, and not in each performer
        others = [thread.name for thread in threading.enumerate() if thread is not threading.main_thread()]
        if others:
            logger.warning(
                "%s started threads while it was imported (%s): performers are forked without them, which may"
                " hang them; start threads at first use instead",
                config["app"],
                ", ".join(others),
            )
        self._tell(READY, _describe(self._minion.tasks.values(), config["default"]))
        return True

    def _receive_config(self) -> dict[str, Any] | None:
        reader = Reader()
        while data := self._sock.recv(65536):
            for message in reader.feed(data):
                return dict(message)
        return None

    def _start_anew(self) -> NoReturn:
        """Become a zygote of the code as it is now; its performers stay its children."""
        reading, writing = os.pipe()
        with open(writing, "wb") as pipe:  # noqa: PTH123  # a descriptor
            pipe.write(marshal.dumps({"config": self._config, "pids": self._pids}))
        os.set_inheritable(reading, True)
        os.set_inheritable(self._sock.fileno(), True)
        signal.set_wakeup_fd(-1)
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        command = [
            sys.executable,
            "-m",
            "minion_core.executors.zygote",
            str(self._sock.fileno()),
            str(reading),
        ]
        os.execv(sys.executable, command)  # noqa: S606

    # -- Performers ---------------------------------------------------------------------------------------

    def _serve(self) -> bool:
        timeout = None if self._watch is None else LOOK_AT_CODE
        readable, _, _ = select.select([self._sock, self._woken], [], [], timeout)
        if self._watch is not None and self._watch.changed():
            logger.info("The code has changed: performers are replaced")
            self._start_anew()
        if self._woken in readable:
            with suppress(BlockingIOError):
                while self._woken.recv(4096):
                    pass
            self._reap()
        if self._sock not in readable:
            return True
        order, sockets, _, _ = socket.recv_fds(self._sock, ORDER.size, 2)
        if len(order) < ORDER.size:
            return False
        letter, number = ORDER.unpack(order)
        if letter == SPAWN:
            self._spawn(number, [socket.socket(fileno=each) for each in sockets])
        elif letter == KILL:
            self._kill(number)
        elif number in self._pids:
            with suppress(ProcessLookupError):
                os.kill(self._pids[number], letter[0])
        return True

    def _kill(self, number: int) -> None:
        for each, pid in self._pids.items():
            if number in (each, ALL):
                _kill_group(pid, signal.SIGKILL)

    def _spawn(self, number: int, sockets: Sequence[socket.socket]) -> None:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()  # or the child would write it once more
        try:
            pid = os.fork()
        except OSError as error:
            logger.error("No performer could be forked: %s", error)  # noqa: TRY400  # one line
            _close(sockets)
            self._tell(EXITED, number, 0, 255, 0)
            return
        if pid == 0:
            self._become_performer(*sockets)
        with suppress(OSError):
            os.setpgid(pid, pid)  # the child does so too: whoever comes first
        _close(sockets)
        self._pids[number] = pid
        self._tell(SPAWNED, number, pid)

    def _become_performer(self, line: socket.socket, stream: socket.socket) -> None:
        code = 1
        try:
            signal.set_wakeup_fd(-1)
            for name in _RESET:
                signal.signal(getattr(signal, name), signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_SETMASK, [])
            with suppress(OSError):
                os.setpgid(0, 0)
            for inherited in (self._sock, self._wake, self._woken):
                inherited.close()
            if self._minion is not None:
                kind, capacity = HOW.unpack(line.recv(HOW.size))
                run = _PERFORMERS[kind]()
                run(Hand(line, stream, self._minion, self._worker_id), capacity)
                self._minion.close()
            code = 0
        except (BrokenPipeError, ConnectionResetError):
            code = 0  # the supervisor is gone
        except BaseException:
            logger.exception("Performer %d broke", os.getpid())
        finally:
            # No more of what the zygote would do at its end: those are not this process's affairs.
            for output in (sys.stdout, sys.stderr):
                with suppress(Exception):
                    output.flush()
            os._exit(code)

    def _reap(self) -> None:
        for number, pid in list(self._pids.items()):
            # Only its own: the application may have children, which it waits for by itself.
            try:
                ended = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:  # the application waited for it
                del self._pids[number]
                self._tell(EXITED, number, pid, UNKNOWN, 0)
                continue
            if ended is None:
                continue
            exited = ended.si_code == os.CLD_EXITED
            if not exited or ended.si_status:
                _kill_group(pid, signal.SIGKILL)  # what its job left behind; the pid is still taken
            os.waitpid(pid, 0)
            del self._pids[number]
            self._tell(
                EXITED, number, pid, ended.si_status if exited else 0, 0 if exited else ended.si_status
            )


def _describe(tasks: Iterable[Task[..., Any]], default: str) -> dict[str, tuple[Any, ...]]:
    """Tell the fields of ``TaskInfo`` for each task."""
    return {task.name: (task.kind(default), task.limit, task.timeout) for task in tasks}


def _close(sockets: Sequence[socket.socket]) -> None:
    for sock in sockets:
        sock.close()


def _kill_group(pid: int, number: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)


def _known_before(fd: int) -> Mapping[str, Any]:
    with open(fd, "rb") as pipe:  # a descriptor
        known: Mapping[str, Any] = marshal.loads(pipe.read())  # noqa: S302  # our own
    return known


if __name__ == "__main__":
    Zygote(
        socket.socket(fileno=int(sys.argv[1])),
        _known_before(int(sys.argv[2])) if len(sys.argv) > 2 else None,
    ).run()
