"""Throw-away MariaDB and MySQL servers for tests, see ``server.py``.

``MINION_TEST_MARIADB_URL`` and ``MINION_TEST_MYSQL_URL`` name servers to use instead.
``python -m minion_conformance.servers.mysql`` prepares both programs, or says what is missing.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import unquote, urlsplit

from minion_conformance.servers.debian import install, unstable
from minion_conformance.servers.server import Missing, Server, checked, prepare

PASSWORD = "not-a-secret"  # noqa: S105 - of an account that lives as long as the tests, on loopback


class MysqlServer(Server):
    """What both servers have in common."""

    scheme: ClassVar[str]
    _default_port = 3306
    _fast = ("--innodb-flush-log-at-trx-commit=2", "--sync-binlog=0")

    def _furnish(self) -> None:
        self._run_on(
            self._connect_as_root(),
            f"CREATE USER minion@'%' IDENTIFIED BY '{PASSWORD}'",
            "GRANT ALL PRIVILEGES ON *.* TO minion@'%' WITH GRANT OPTION",
        )

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), 1) as connection:
                return bool(connection.recv(1))
        except OSError:
            return False

    def connect(self, url: str | None = None, **options: Any) -> Any:
        import pymysql  # noqa: PLC0415 - only those who test on MySQL need it

        parts = urlsplit(url or self.url)
        options.setdefault("database", parts.path.lstrip("/") or None)
        options.setdefault("autocommit", True)
        return pymysql.connect(
            host=parts.hostname or "127.0.0.1",
            port=parts.port or self._default_port,
            user=unquote(parts.username or "root"),
            password=unquote(parts.password or ""),
            **options,
        )

    def _connect_as_root(self) -> Any:
        import pymysql  # noqa: PLC0415

        return pymysql.connect(user="root", unix_socket=f"{self._own_folder}/s", autocommit=True)

    def run(self, *statements: str, url: str | None = None) -> list[tuple[Any, ...]]:
        return self._run_on(self.connect(url), *statements)

    @staticmethod
    def _run_on(connection: Any, *statements: str) -> list[tuple[Any, ...]]:
        rows: list[tuple[Any, ...]] = []
        with connection, connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)
                rows = list(cursor.fetchall())
        return rows

    @classmethod
    def _url(cls, port: int) -> str:
        return f"{cls.scheme}://minion:{PASSWORD}@127.0.0.1:{port}"


class MariaDB(MysqlServer):
    """MariaDB, of this machine's own release (package ``mariadb-server``)."""

    title = "MariaDB"
    scheme = "mariadb"
    variable = "MINION_TEST_MARIADB_URL"

    @classmethod
    def installed(cls) -> str:
        if _program("mariadbd") is None:
            install("mariadb-server")
        program = _program("mariadbd")
        if program is None:
            raise Missing("mariadb-server was installed, but there is no mariadbd")
        return _version([program])

    @classmethod
    def _prepare(cls, port: int) -> tuple[str, Path, list[str]]:
        cls.installed()
        folder = Path(tempfile.mkdtemp(prefix="minion-mariadb-"))
        checked(
            _program("mariadb-install-db") or "mariadb-install-db",
            "--no-defaults",
            f"--datadir={folder / 'data'}",
            "--auth-root-authentication-method=normal",
            "--skip-test-db",
            *_as_root(),
        )
        return (
            cls._url(port),
            folder,
            [_program("mariadbd") or "mariadbd", *_options(folder, port), *_as_root()],
        )


class MySQL(MysqlServer):
    """MySQL: the machine's own if its ``mysqld`` is MySQL's, otherwise that of Debian's unstable suite."""

    title = "MySQL"
    scheme = "mysql"
    variable = "MINION_TEST_MYSQL_URL"

    @classmethod
    def installed(cls) -> str:
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
    def _prepare(cls, port: int) -> tuple[str, Path, list[str]]:
        root, program = cls._program()
        folder = Path(tempfile.mkdtemp(prefix="minion-mysql-", dir=root / "tmp"))
        within = Path("/") / folder.relative_to(root)
        checked(
            *program, "--no-defaults", "--initialize-insecure", f"--datadir={within / 'data'}", *_as_root()
        )
        options = [*_options(within, port), "--secure-file-priv=", "--mysqlx=OFF"]
        return cls._url(port), folder, [*program, *options, *_as_root()]


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


def _as_root() -> Sequence[str]:
    """Both refuse to run as root, unless they are told to."""
    return ["--user=root"] if os.geteuid() == 0 else []


def _program(name: str) -> str | None:
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")


def _version(command: Sequence[str]) -> str:
    done = subprocess.run([*command, "--version"], capture_output=True, text=True, check=False)  # noqa: S603
    return done.stdout.strip()


if __name__ == "__main__":
    sys.exit(prepare(MariaDB, MySQL))
