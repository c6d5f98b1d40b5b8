"""Throw-away MariaDB and MySQL servers for tests: private folder, own port, loopback only, gone at the end.

    with MariaDB.start() as server:
        url = server.new_database()

``MINION_TEST_MARIADB_URL`` and ``MINION_TEST_MYSQL_URL`` name servers to use instead, whose account may make
databases. ``python -m minion_conformance.servers.mysql`` prepares both programs, or says what is missing.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self, cast
from urllib.parse import unquote, urlsplit, urlunsplit
from uuid import uuid4

from minion_conformance.servers import keeper
from minion_conformance.servers.debian import Missing, install, unstable

PATIENCE = 60
PASSWORD = "not-a-secret"  # noqa: S105 - of an account that lives as long as the tests, on loopback

# What kill -9 of the server must not lose is safe with the operating system; only a loss of power is not.
FAST = ("--innodb-flush-log-at-trx-commit=2", "--sync-binlog=0")


class Server:
    """A server that is running, or one that an environment variable names.

    Attributes:
        url: Its URL, without a database.
    """

    scheme: ClassVar[str]
    variable: ClassVar[str]

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
        port = _free_port()
        folder, command = cls._prepare(port)
        parts = [*command, *(() if durable else FAST), *options]
        server = cls(f"{cls.scheme}://minion:{PASSWORD}@127.0.0.1:{port}", folder, parts)
        watch = [sys.executable, keeper.__file__, str(folder), str(os.getpid())]
        server._keeper = subprocess.Popen(watch, start_new_session=True)  # noqa: S603
        try:
            server.resume()
            server.run(
                f"CREATE USER minion@'%' IDENTIFIED BY '{PASSWORD}'",
                "GRANT ALL PRIVILEGES ON *.* TO minion@'%' WITH GRANT OPTION",
                as_root=True,
            )
        except BaseException:
            server.stop()
            raise
        return server

    @classmethod
    def shared(cls) -> Self:
        """Answer a server for all tests of this process, started when it is first asked for."""
        if cls not in _shared:
            _shared[cls] = cls.start()
            atexit.register(_shared[cls].stop)
        return cast("Self", _shared[cls])

    @classmethod
    def installed(cls) -> str:
        """Install the server's program if need be, and answer its version."""
        raise NotImplementedError

    @classmethod
    def _prepare(cls, port: int) -> tuple[Path, list[str]]:
        """Make a data folder; answer it and the command that serves it."""
        raise NotImplementedError

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
        return urlsplit(self.url).port or 3306

    # -- Databases ----------------------------------------------------------------------------------------

    def new_database(self, definition: str = "") -> str:
        """Make an empty database, with for instance ``CHARACTER SET latin1``, and answer its URL."""
        name = f"minion_test_{uuid4().hex[:12]}"
        self.run(f"CREATE DATABASE {name} {definition}")
        self._databases.append(name)
        parts = urlsplit(self.url)
        return urlunsplit((parts.scheme, parts.netloc, f"/{name}", parts.query, ""))

    @contextlib.contextmanager
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
        self.run(f"DROP DATABASE IF EXISTS {name}")
        if name in self._databases:
            self._databases.remove(name)

    def connect(self, url: str | None = None, **options: Any) -> Any:
        """Open a pymysql connection, to a database of this server or to none."""
        import pymysql  # noqa: PLC0415 - only those who test on MySQL need it

        parts = urlsplit(url or self.url)
        options.setdefault("database", parts.path.lstrip("/") or None)
        options.setdefault("autocommit", True)
        return pymysql.connect(
            host=parts.hostname or "127.0.0.1",
            port=parts.port or 3306,
            user=unquote(parts.username or "root"),
            password=unquote(parts.password or ""),
            **options,
        )

    def run(self, *statements: str, as_root: bool = False, url: str | None = None) -> list[tuple[Any, ...]]:
        """Run statements one by one and answer the rows of the last."""
        connection = self._connect_as_root() if as_root else self.connect(url)
        rows: list[tuple[Any, ...]] = []
        try:
            with connection.cursor() as cursor:
                for statement in statements:
                    cursor.execute(statement)
                    rows = list(cursor.fetchall())
        finally:
            connection.close()
        return rows

    def _connect_as_root(self) -> Any:
        import pymysql  # noqa: PLC0415

        return pymysql.connect(user="root", unix_socket=f"{self._folder}/s", autocommit=True)

    # -- Life ---------------------------------------------------------------------------------------------

    def resume(self) -> None:
        """Start the server on its folder, also after ``kill``; come back when it answers."""
        folder = self._own_folder()
        log = folder / "server.log"
        with log.open("ab") as output:
            self._process = subprocess.Popen(  # noqa: S603
                self._command, stdout=output, stderr=output, stdin=subprocess.DEVNULL, start_new_session=True
            )
        (folder / "server.pid").write_text(str(self._process.pid))
        deadline = time.monotonic() + PATIENCE
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise Missing(f"{self.scheme}: the server did not start:\n{log.read_text()[-3000:]}")
            time.sleep(0.05)

    def kill(self) -> None:
        """Kill the server as a crash would."""
        process = self._own_process()
        process.kill()
        process.wait()

    def shut_down(self) -> None:
        """Let the server end in good order; ``resume`` starts it again."""
        process = self._own_process()
        process.terminate()
        process.wait(PATIENCE)

    def stop(self) -> None:
        """End the server and remove its folder, or drop what was made on a server that is not ours."""
        if self._folder is None:
            for name in self._databases:
                self.run(f"DROP DATABASE IF EXISTS {name}")
        else:
            if self._process is not None and self._process.poll() is None:
                self.kill()
            shutil.rmtree(self._folder, ignore_errors=True)
            if self._keeper is not None:
                self._keeper.wait()

    def _own_folder(self) -> Path:
        if self._folder is None:
            raise RuntimeError(f"{self.variable} names this server: it is not ours to start and stop")
        return self._folder

    def _own_process(self) -> subprocess.Popen[bytes]:
        self._own_folder()
        if self._process is None:
            raise RuntimeError("the server was not started")
        return self._process

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), 1) as connection:
                return bool(connection.recv(1))
        except OSError:
            return False


_shared: dict[type[Server], Server] = {}


class MariaDB(Server):
    """MariaDB, of this machine's own release (package ``mariadb-server``)."""

    scheme = "mariadb"
    variable = "MINION_TEST_MARIADB_URL"

    @classmethod
    def installed(cls) -> str:  # noqa: D102 - see Server
        if _program("mariadbd") is None:
            install("mariadb-server")
        program = _program("mariadbd")
        if program is None:
            raise Missing("mariadb-server was installed, but there is no mariadbd")
        return _version([program])

    @classmethod
    def _prepare(cls, port: int) -> tuple[Path, list[str]]:
        cls.installed()
        folder = Path(tempfile.mkdtemp(prefix="minion-mariadb-"))
        user = ["--user=root"] if os.geteuid() == 0 else []
        _check_run(
            [
                _program("mariadb-install-db") or "mariadb-install-db",
                "--no-defaults",
                f"--datadir={folder / 'data'}",
                "--auth-root-authentication-method=normal",
                "--skip-test-db",
                *user,
            ]
        )
        return folder, [_program("mariadbd") or "mariadbd", *_options(folder, port), *user]


class MySQL(Server):
    """MySQL: the machine's own if its ``mysqld`` is MySQL's, otherwise that of Debian's unstable suite."""

    scheme = "mysql"
    variable = "MINION_TEST_MYSQL_URL"

    @classmethod
    def installed(cls) -> str:  # noqa: D102
        _root, program = cls._program()
        return _version(program)

    @classmethod
    def _program(cls) -> tuple[Path, list[str]]:
        """Answer the folder that the program takes for the root of all, and the command."""
        own = _program("mysqld")
        if own is not None and "MariaDB" not in _version([own]):
            return Path("/"), [own]
        folder = unstable("mysql-server-core")
        return folder, ["chroot", str(folder), "/usr/sbin/mysqld"]

    @classmethod
    def _prepare(cls, port: int) -> tuple[Path, list[str]]:
        root, program = cls._program()
        folder = Path(tempfile.mkdtemp(prefix="minion-mysql-", dir=root / "tmp"))
        within = Path("/") / folder.relative_to(root)
        user = ["--user=root"] if os.geteuid() == 0 else []
        _check_run(
            [*program, "--no-defaults", "--initialize-insecure", f"--datadir={within / 'data'}", *user]
        )
        options = _options(within, port)
        return folder, [*program, *options, "--secure-file-priv=", "--mysqlx=OFF", *user]


def _options(folder: Path, port: int) -> list[str]:
    return [
        "--no-defaults",
        f"--datadir={folder / 'data'}",
        f"--socket={folder / 's'}",
        f"--pid-file={folder / 'own.pid'}",
        f"--port={port}",
        "--bind-address=127.0.0.1",
        "--skip-name-resolve",
        "--max-connections=500",
        "--innodb-buffer-pool-size=256M",
    ]


def _program(name: str) -> str | None:
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")


def _version(command: Sequence[str]) -> str:
    done = subprocess.run([*command, "--version"], capture_output=True, text=True, check=False)  # noqa: S603
    return done.stdout.strip()


def _check_run(command: Sequence[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode != 0:
        raise Missing(f"this failed: {' '.join(command)}\n{done.stdout[-1000:]}{done.stderr[-2000:]}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def main() -> int:
    """Prepare both; say loudly what is missing, and answer 1 then."""
    missing = 0
    for server in (MariaDB, MySQL):
        named = os.environ.get(server.variable)
        try:
            found = "the environment names one" if named else server.installed()
            sys.stdout.write(f"{server.scheme}: {found}\n")
        except Missing as error:
            missing = 1
            sys.stdout.write(f"{server.scheme}: NOT TESTED. Set {server.variable}, or {error}\n")
    return missing


if __name__ == "__main__":
    sys.exit(main())
