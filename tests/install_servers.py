"""Installs what the tests of the server backends need, where this machine allows it; says what is missing.

As root on Debian or Ubuntu: PostgreSQL of this release and the newest one, MariaDB, MySQL, PgBouncer, and
Perl's Minion, of this release and the newest one, for the tests that share a queue with it. Elsewhere it only
says what to install. With ``--say`` it repeats what it found missing before. Exits with 1 when something is
missing and ``CI`` is set.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from minion_conformance.servers.debian import install, unstable
from minion_conformance.servers.mysql import MariaDB, MySQL
from minion_conformance.servers.postgresql import NewestPostgreSQL, PostgreSQL
from minion_conformance.servers.server import Missing, checked

FOUND = Path(sys.prefix) / "servers-missing"


def perls_minion() -> str:
    """Install Perl's Minion and answer its version."""
    ask = ["perl", "-MMinion", "-MMojo::Pg", "-e", "print Minion->VERSION"]
    if shutil.which("perl") is None or subprocess.run(ask, capture_output=True, check=False).returncode:
        install("libminion-perl libmojo-pg-perl")
    return f"Minion {subprocess.run(ask, capture_output=True, text=True, check=False).stdout}"


def newest_perls_minion() -> str:
    """Install the newest of them in a folder of its own, and answer its version."""
    for package in ("libminion-perl", "libmojo-pg-perl"):
        root = unstable(package, configure=False)
    ask = ["chroot", str(root), "perl", "-MMinion", "-MMojo::Pg", "-e", "print Minion->VERSION"]
    return f"Minion {checked(*ask)}"


def pgbouncer() -> str:
    """Install PgBouncer and answer where it is."""
    path = f"{os.environ['PATH']}:/usr/sbin"
    if shutil.which("pgbouncer", path=path) is None:
        install("pgbouncer")
    return str(shutil.which("pgbouncer", path=path))


WANTED: dict[str, tuple[str | None, Callable[[], str]]] = {
    **{
        kind.title: (kind.variable, kind.installed) for kind in (PostgreSQL, NewestPostgreSQL, MariaDB, MySQL)
    },
    "PgBouncer": (None, pgbouncer),
    "Perl's Minion": (None, perls_minion),
    "Perl's Minion, newest": (None, newest_perls_minion),
}


def main() -> int:
    """Install and tell, or repeat what was told."""
    if "--say" in sys.argv:
        sys.stdout.write(FOUND.read_text() if FOUND.exists() else "")
        return 0
    missing = ""
    for name, (variable, prepare) in WANTED.items():
        try:
            named = variable and os.environ.get(variable)
            sys.stdout.write(f"{name}: {'as the environment says' if named else prepare()}\n")
        except Missing as error:
            instead = f"set {variable}, or " if variable else ""
            missing += f"*** {name}: NOT TESTED. To test it, {instead}{error}\n"
    sys.stdout.write(missing)
    FOUND.write_text(missing)
    return 1 if missing and os.environ.get("CI") else 0


if __name__ == "__main__":
    sys.exit(main())
