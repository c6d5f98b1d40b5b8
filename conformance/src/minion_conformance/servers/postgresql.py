"""Throw-away PostgreSQL servers for tests: private folder, own port, loopback only, gone at the end.

    with PostgreSQL.start() as server:
        url = server.new_database()

``MINION_TEST_PG_URL`` names a server to use instead, whose account may make databases.
``python -m minion_conformance.servers.postgresql`` prepares the programs, or says what is missing.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

from minion_conformance.servers import keeper
from minion_conformance.servers.debian import Missing, install, unstable

VARIABLE = "MINION_TEST_PG_URL"
NEWEST_VARIABLE = "MINION_TEST_PG_NEWEST_URL"
PATIENCE = 60
PROGRAMS = "usr/lib/postgresql/*/bin/postgres"
UNPRIVILEGED = ("postgres", "nobody")

# What kill -9 of the server must not lose is safe with the operating system; only a loss of power is not.
FAST = ("-c", "fsync=off", "-c", "full_page_writes=off")


class PostgreSQL:
    """A server that is running, or one that an environment variable names.

    Attributes:
        url: Its URL, with the database ``postgres``.
    """

    def __init__(self, url: str, folder: Path | None = None, command: Sequence[str] = ()) -> None:
        self.url = url
        self._folder = folder
        self._command = list(command)
        self._process: subprocess.Popen[bytes] | None = None
        self._keeper: subprocess.Popen[bytes] | None = None
        self._databases: list[str] = []

    @classmethod
    def start(cls, *options: str, durable: bool = False, newest: bool = False) -> Self:
        """Start a server of our own, or take the one that the environment names.

        Args:
            options: More options for the server's command line; they always start one of our own.
            durable: Keep the server's durable defaults, for measurements.
            newest: Take the newest release that can be had, not the one of this machine.

        Raises:
            Missing: Its program is not there and cannot be installed.
        """
        named = os.environ.get(NEWEST_VARIABLE if newest else VARIABLE)
        if named and not options and not durable:
            return cls(named)
        root, program = cls._program(newest=newest)
        port = _free_port()
        folder = Path(tempfile.mkdtemp(prefix="minion-postgresql-", dir=root / "tmp"))
        user = _unprivileged(root) if os.geteuid() == 0 else None
        if user is not None:
            os.chown(folder, user.pw_uid, user.pw_gid)
        within = Path("/") / folder.relative_to(root)
        as_user = _as_user(root, user)
        _run(
            *as_user,
            str(program.with_name("initdb")),
            *("-D", str(within / "data"), "-U", "minion", "-A", "trust", "-E", "UTF8", "--locale=C", "-N"),
        )
        command = [
            *as_user,
            str(program),
            *("-D", str(within / "data"), "-p", str(port), "-k", str(within)),
            *("-c", "listen_addresses=127.0.0.1", "-c", "max_connections=200"),
            *(() if durable else FAST),
            *options,
        ]
        server = cls(f"postgresql://minion@127.0.0.1:{port}/postgres", folder, command)
        watch = [sys.executable, keeper.__file__, str(folder), str(os.getpid())]
        server._keeper = subprocess.Popen(watch, start_new_session=True)  # noqa: S603
        try:
            server.resume()
        except BaseException:
            server.stop()
            raise
        return server

    @classmethod
    def installed(cls, *, newest: bool = False) -> str:
        """Install the server's program if need be, and answer its version."""
        root, program = cls._program(newest=newest)
        return _run(*_as_user(root, None), str(program), "--version").strip()

    @classmethod
    def _program(cls, *, newest: bool) -> tuple[Path, Path]:
        """Answer the folder that the program takes for the root of all, and its path within."""
        root = Path("/")
        if newest:
            root = unstable("postgresql", configure=False)
        elif _newest_program(root) is None:
            _make_no_cluster()
            install("postgresql")
        program = _newest_program(root)
        if program is None:
            raise Missing(f"postgresql was installed, but there is no {root / PROGRAMS}")
        return root, Path("/") / program.relative_to(root)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.stop()

    @property
    def ours(self) -> bool:
        """Whether we started it, and may therefore kill it."""
        return self._folder is not None

    @property
    def _own_folder(self) -> Path:
        if self._folder is None:
            raise Missing(f"a server of our own is needed for this, not that of {VARIABLE}")
        return self._folder

    @property
    def port(self) -> int:
        """Its TCP port."""
        return urlsplit(self.url).port or 5432

    # -- Databases ----------------------------------------------------------------------------------------

    def new_database(self, definition: str = "") -> str:
        """Make an empty database, with for instance ``TEMPLATE template0``, and answer its URL."""
        name = f"minion_test_{uuid4().hex[:12]}"
        self.run(f"CREATE DATABASE {name} {definition}")
        self._databases.append(name)
        return urlunsplit(urlsplit(self.url)._replace(path=f"/{name}"))

    def drop_database(self, url: str) -> None:
        """Drop a database that ``new_database`` made, whoever is still connected to it."""
        name = urlsplit(url).path.lstrip("/")
        self.run(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
        if name in self._databases:
            self._databases.remove(name)

    def connect(self, url: str | None = None) -> Any:
        """Open a psycopg connection that commits each statement."""
        import psycopg  # noqa: PLC0415 - only those who test on PostgreSQL need it

        return psycopg.connect(url or self.url, autocommit=True)

    def run(self, *statements: str, url: str | None = None) -> list[tuple[Any, ...]]:
        """Run statements one by one and answer the rows of the last."""
        rows: list[tuple[Any, ...]] = []
        with self.connect(url) as connection:
            for statement in statements:
                cursor = connection.execute(statement)
                rows = cursor.fetchall() if cursor.description else []
        return rows

    # -- Life ---------------------------------------------------------------------------------------------

    def resume(self) -> None:
        """Start the server on its folder, also after ``kill``; come back when it answers."""
        log = self._own_folder / "server.log"
        deadline = time.monotonic() + PATIENCE
        self._launch(log)
        while not self._answers():
            if time.monotonic() > deadline:
                raise Missing(f"PostgreSQL did not start:\n{_tail(log)}")
            if self._process is not None and self._process.poll() is not None:
                # Sessions of a killed server may live on for a moment and keep its memory.
                if "still in use" not in _tail(log):
                    raise Missing(f"PostgreSQL did not start:\n{_tail(log)}")
                time.sleep(0.3)
                self._launch(log)
            time.sleep(0.05)

    def _launch(self, log: Path) -> None:
        with log.open("wb") as output:
            self._process = subprocess.Popen(  # noqa: S603
                self._command, stdout=output, stderr=output, stdin=subprocess.DEVNULL, start_new_session=True
            )
        log.with_name("server.pid").write_text(str(self._process.pid))

    def kill(self) -> None:
        """Kill the server as a crash would."""
        keeper.kill(self._own_folder)
        if self._process is not None:
            self._process.wait()

    def shut_down(self) -> None:
        """Let the server end in good order, cutting off its clients; ``resume`` starts it again."""
        pid = keeper.server_of(self._own_folder)
        if pid is not None and self._process is not None:
            os.kill(pid, signal.SIGINT)
            self._process.wait(PATIENCE)

    def stop(self) -> None:
        """End the server and remove its folder, or drop what was made on a server that is not ours."""
        if self._folder is None:
            for name in list(self._databases):
                self.run(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
        else:
            if self._process is not None and self._process.poll() is None:
                self.kill()
            shutil.rmtree(self._folder, ignore_errors=True)
            if self._keeper is not None:
                self._keeper.wait()

    def _answers(self) -> bool:
        import psycopg  # noqa: PLC0415

        try:
            psycopg.connect(self.url, connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True


def _newest_program(root: Path) -> Path | None:
    found = sorted(root.glob(PROGRAMS), key=lambda program: int(program.parts[-3]))
    return found[-1] if found else None


def _make_no_cluster() -> None:
    """Keep Debian's package from making and starting a database of its own."""
    configuration = Path("/etc/postgresql-common/createcluster.conf")
    if os.geteuid() == 0 and not configuration.exists():
        configuration.parent.mkdir(parents=True, exist_ok=True)
        configuration.write_text("create_main_cluster = false\n")


def _unprivileged(root: Path) -> pwd.struct_passwd:
    """Find the account to serve as: PostgreSQL refuses to run as root."""
    accounts = {}
    for line in (root / "etc/passwd").read_text().splitlines():
        name, password, uid, gid, gecos, home, shell = line.split(":")
        accounts[name] = pwd.struct_passwd((name, password, int(uid), int(gid), gecos, home, shell))
    for name in UNPRIVILEGED:
        if name in accounts:
            return accounts[name]
    raise Missing("a user called postgres or nobody is needed to run PostgreSQL as")


def _as_user(root: Path, user: pwd.struct_passwd | None) -> list[str]:
    who = [] if user is None else [f"--userspec={user.pw_uid}:{user.pw_gid}", "--groups="]
    return [] if user is None and root == Path("/") else ["chroot", *who, str(root)]


def _run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode != 0:
        raise Missing(f"this failed: {' '.join(command)}\n{done.stdout[-1000:]}{done.stderr[-2000:]}")
    return done.stdout


def _tail(log: Path) -> str:
    return log.read_text(errors="replace")[-3000:]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def main() -> int:
    """Prepare this machine's release and the newest; say loudly what is missing, and answer 1 then."""
    missing = 0
    for newest, variable in ((False, VARIABLE), (True, NEWEST_VARIABLE)):
        named = os.environ.get(variable)
        try:
            found = "the environment names one" if named else PostgreSQL.installed(newest=newest)
            sys.stdout.write(f"postgresql: {found}\n")
        except Missing as error:
            missing = 1
            sys.stdout.write(f"postgresql: NOT TESTED. Set {variable}, or {error}\n")
    return missing


if __name__ == "__main__":
    sys.exit(main())
