"""Throw-away PostgreSQL servers for tests: ``PostgreSQL`` and ``NewestPostgreSQL``, see ``server.py``.

``MINION_TEST_PG_URL`` and ``MINION_TEST_PG_NEWEST_URL`` name servers to use instead.
``python -m minion_conformance.servers.postgresql`` prepares the programs, or says what is missing.
"""

from __future__ import annotations

import os
import pwd
import signal
import sys
import tempfile
from pathlib import Path
from typing import Any

from minion_conformance.servers.debian import install, unstable
from minion_conformance.servers.server import Missing, Server, checked, prepare

PROGRAMS = "usr/lib/postgresql/*/bin/postgres"
UNPRIVILEGED = ("postgres", "nobody")


class PostgreSQL(Server):
    """PostgreSQL of this machine's own release (package ``postgresql``)."""

    title = "PostgreSQL"
    variable = "MINION_TEST_PG_URL"
    _default_port = 5432
    _fast = ("-c", "fsync=off", "-c", "full_page_writes=off")
    _end_signal = signal.SIGINT  # TERM waits for all clients to leave
    _drop = "DROP DATABASE IF EXISTS {} WITH (FORCE)"

    @classmethod
    def installed(cls) -> str:
        root, program = cls._program()
        return checked(*_as_user(root, None), str(program), "--version").strip()

    @classmethod
    def _program(cls) -> tuple[Path, Path]:
        """Answer the folder that the program takes for the root of all, and its path within."""
        root = Path("/")
        if _newest_program(root) is None:
            _make_no_cluster()
            install("postgresql")
        return root, _program_in(root)

    @classmethod
    def _prepare(cls, port: int) -> tuple[str, Path, list[str]]:
        root, program = cls._program()
        folder = Path(tempfile.mkdtemp(prefix="minion-postgresql-", dir=root / "tmp"))
        user = _unprivileged(root) if os.geteuid() == 0 else None
        if user is not None:
            os.chown(folder, user.pw_uid, user.pw_gid)
        within = Path("/") / folder.relative_to(root)
        as_user = _as_user(root, user)
        checked(
            *as_user,
            str(program.with_name("initdb")),
            *("-D", str(within / "data"), "-U", "minion", "-A", "trust", "-E", "UTF8", "--locale=C", "-N"),
        )
        command = [
            *as_user,
            str(program),
            *("-D", str(within / "data"), "-p", str(port), "-k", str(within)),
            *("-c", "listen_addresses=127.0.0.1", "-c", "max_connections=200"),
        ]
        return f"postgresql://minion@127.0.0.1:{port}/postgres", folder, command

    def _furnish(self) -> None:
        """Do nothing: ``initdb`` has made the account."""

    def _answers(self) -> bool:
        import psycopg  # noqa: PLC0415

        try:
            psycopg.connect(self.url, connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True

    def connect(self, url: str | None = None, **options: Any) -> Any:
        import psycopg  # noqa: PLC0415 - only those who test on PostgreSQL need it

        options.setdefault("autocommit", True)
        return psycopg.connect(url or self.url, **options)

    def run(self, *statements: str, url: str | None = None) -> list[tuple[Any, ...]]:
        rows: list[tuple[Any, ...]] = []
        with self.connect(url) as connection:
            for statement in statements:
                cursor = connection.execute(statement)
                rows = cursor.fetchall() if cursor.description else []
        return rows


class NewestPostgreSQL(PostgreSQL):
    """The newest PostgreSQL that can be had: that of Debian's unstable suite."""

    title = "PostgreSQL, newest"
    variable = "MINION_TEST_PG_NEWEST_URL"

    @classmethod
    def _program(cls) -> tuple[Path, Path]:
        root = unstable("postgresql", configure=False)
        return root, _program_in(root)


def _program_in(root: Path) -> Path:
    program = _newest_program(root)
    if program is None:
        raise Missing(f"postgresql was installed, but there is no {root / PROGRAMS}")
    return Path("/") / program.relative_to(root)


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


if __name__ == "__main__":
    sys.exit(prepare(PostgreSQL, NewestPostgreSQL))
