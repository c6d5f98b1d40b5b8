"""A throw-away database server for tests: private folder, own port, loopback only, gone at the end.

    with MariaDB.start() as server, server.database() as url:
        ...

An environment variable names a server to use instead, whose account may make databases.
"""

from __future__ import annotations

import atexit
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, NoReturn, Self, cast
from urllib.parse import urlsplit
from uuid import uuid4

import pytest

from minion_conformance.servers import keeper

PATIENCE = 60
"""How long, in seconds, a server may take to start or to end."""


class Missing(Exception):
    """A server cannot be had on this machine; the message says what to install, or what to set."""


class Server(ABC):
    """A server that is running, or one that an environment variable names.

    Attributes:
        title: What people call it.
        variable: The environment variable that names one.
        url: Its URL, with the database that is always there or with none.
    """

    title: ClassVar[str]
    variable: ClassVar[str]
    _default_port: ClassVar[int]
    _fast: ClassVar[Sequence[str]]
    """Options that spare the disk: what a ``kill -9`` must not lose is safe with the operating system."""
    _end_signal: ClassVar[signal.Signals] = signal.SIGTERM
    _drop: ClassVar[str] = "DROP DATABASE IF EXISTS {}"
    _shared: ClassVar[dict[type[Server], Server]] = {}

    def __init__(self, url: str, folder: Path | None = None, command: Sequence[str] = ()) -> None:
        self.url = url
        self._folder = folder
        self._command = list(command)
        self._process: subprocess.Popen[bytes] | None = None
        self._keeper: subprocess.Popen[bytes] | None = None
        self._databases: list[str] = []

    @classmethod
    def start(cls, *options: str, durable: bool = False) -> Self:
        """Start a server of our own, or take the one that the environment names.

        Args:
            options: More options for the server's command line; they always start one of our own.
            durable: Keep the server's durable defaults, for measurements.

        Raises:
            Missing: Its program is not there and cannot be installed.
        """
        named = os.environ.get(cls.variable)
        if named and not options and not durable:
            return cls(named.rstrip("/"))
        url, folder, command = cls._prepare(free_port())
        server = cls(url, folder, [*command, *(() if durable else cls._fast), *options])
        watch = [sys.executable, keeper.__file__, str(folder), str(os.getpid())]
        server._keeper = subprocess.Popen(watch, start_new_session=True)  # noqa: S603
        try:
            server.resume()
            server._furnish()
        except BaseException:
            server.stop()
            raise
        return server

    @classmethod
    def shared(cls) -> Self:
        """Answer a server for all tests of this process, started when it is first asked for."""
        if cls not in cls._shared:
            server = cls._shared[cls] = cls.start()
            atexit.register(server.stop)
        return cast("Self", cls._shared[cls])

    @classmethod
    @abstractmethod
    def installed(cls) -> str:
        """Install the server's program if need be, and answer its version.

        Raises:
            Missing: It is not there and cannot be installed.
        """

    @classmethod
    @abstractmethod
    def _prepare(cls, port: int) -> tuple[str, Path, list[str]]:
        """Make a folder with its data; answer the URL, the folder, and the command that serves it."""

    @abstractmethod
    def _furnish(self) -> None:
        """Make what a fresh server lacks, such as accounts."""

    @abstractmethod
    def _answers(self) -> bool:
        """Whether it takes connections."""

    @abstractmethod
    def connect(self, url: str | None = None, **options: Any) -> Any:
        """Open a connection of the driver's own, which commits each statement."""

    @abstractmethod
    def run(self, *statements: str, url: str | None = None) -> list[tuple[Any, ...]]:
        """Run statements one by one and answer the rows of the last."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.stop()

    @property
    def ours(self) -> bool:
        """Whether we started it, and may therefore kill it."""
        return self._folder is not None

    @property
    def port(self) -> int:
        """Its TCP port."""
        return urlsplit(self.url).port or self._default_port

    # -- Databases ----------------------------------------------------------------------------------------

    def new_database(self, definition: str = "") -> str:
        """Make an empty database and answer its URL.

        Args:
            definition: The end of its ``CREATE DATABASE``, for instance ``CHARACTER SET latin1``.
        """
        name = f"minion_test_{uuid4().hex[:12]}"
        self.run(f"CREATE DATABASE {name} {definition}")
        self._databases.append(name)
        return urlsplit(self.url)._replace(path=f"/{name}").geturl()

    @contextmanager
    def database(self, definition: str = "") -> Iterator[str]:
        """Make a database that lasts as long as the context."""
        url = self.new_database(definition)
        try:
            yield url
        finally:
            self.drop_database(url)

    def drop_database(self, url: str) -> None:
        """Drop a database that ``new_database`` made."""
        name = urlsplit(url).path.lstrip("/")
        self.run(self._drop.format(name))
        if name in self._databases:
            self._databases.remove(name)

    # -- Life ---------------------------------------------------------------------------------------------

    def resume(self) -> None:
        """Start the server on its folder, also after ``kill``; come back when it answers."""
        log = self._own_folder / "server.log"
        deadline = time.monotonic() + PATIENCE
        process = self._launch(log)
        while not self._answers():
            ended = process.poll() is not None
            told = log.read_text(errors="replace")[-3000:]
            # Sessions of a killed PostgreSQL may live on for a moment and keep its memory.
            if time.monotonic() > deadline or (ended and "still in use" not in told):
                raise Missing(f"{self.title} did not start:\n{told}")
            if ended:
                time.sleep(0.3)
                process = self._launch(log)
            time.sleep(0.05)

    def _launch(self, log: Path) -> subprocess.Popen[bytes]:
        with log.open("wb") as output:
            self._process = subprocess.Popen(  # noqa: S603
                self._command, stdout=output, stderr=output, stdin=subprocess.DEVNULL, start_new_session=True
            )
        log.with_name("server.pid").write_text(str(self._process.pid))
        return self._process

    def kill(self) -> None:
        """Kill the server as a crash would."""
        keeper.kill(self._own_folder)
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def shut_down(self) -> None:
        """Let the server end in good order, cutting off its clients; ``resume`` starts it again."""
        pid = keeper.server_of(self._own_folder)
        if pid is not None and self._process is not None:
            os.kill(pid, self._end_signal)
            self._process.wait(PATIENCE)

    def stop(self) -> None:
        """End the server and remove its folder, or drop what was made on a server that is not ours."""
        if self._folder is None:
            for name in self._databases:
                self.run(self._drop.format(name))
            return
        if self._process is not None and self._process.poll() is None:
            self.kill()
        deadline = time.monotonic() + PATIENCE
        while self._folder.exists() and time.monotonic() < deadline:
            shutil.rmtree(
                self._folder, ignore_errors=True
            )  # what a killed server had begun may go on a moment
        if self._keeper is not None:
            self._keeper.terminate()
            self._keeper.wait()

    @property
    def _own_folder(self) -> Path:
        if self._folder is None:
            raise Missing(f"{self.variable} names this server: it is not ours to start and stop")
        return self._folder


def not_tested(why: str) -> NoReturn:
    """Say loudly in a test what could not be tested; where it must be tested, in CI, fail."""
    if os.environ.get("CI"):
        pytest.fail(f"NOT TESTED: {why}")
    pytest.skip(f"NOT TESTED: {why}")


def checked(*command: str) -> str:
    """Run a command and answer what it wrote.

    Raises:
        Missing: It failed.
    """
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode != 0:
        raise Missing(f"this failed: {' '.join(command)}\n{done.stdout[-1000:]}{done.stderr[-2000:]}")
    return done.stdout


def free_port() -> int:
    """Answer a TCP port of the loopback device that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def prepare(*kinds: type[Server]) -> int:
    """Install what can be; say what there is and, loudly, what is missing, and answer 1 then."""
    missing = 0
    for kind in kinds:
        try:
            found = "the environment names one" if os.environ.get(kind.variable) else kind.installed()
            sys.stdout.write(f"{kind.title}: {found}\n")
        except Missing as error:
            missing = 1
            sys.stdout.write(f"{kind.title}: NOT TESTED. Set {kind.variable}, or {error}\n")
    return missing
