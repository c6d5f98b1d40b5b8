"""A private PostgreSQL server for the tests, databases on it, and Perl's Minion beside them."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from minion_conformance.servers.debian import unstable
from minion_conformance.servers.postgresql import PostgreSQL
from minion_conformance.servers.server import Missing, not_tested
from minion_pg import PgBackend

HERE = Path(__file__).parent


@pytest.fixture(scope="session")
def server() -> Iterator[PostgreSQL]:
    try:
        started = PostgreSQL.start()
    except Missing as missing:
        not_tested(f"PostgreSQL: {missing}")
    with started as running:
        yield running


@pytest.fixture
def url(server: PostgreSQL) -> Iterator[str]:
    made = server.new_database()
    yield made
    server.drop_database(made)


@pytest.fixture
def backend(url: str) -> Iterator[PgBackend]:
    with PgBackend(url) as opened:
        yield opened


@pytest.fixture
def sql(url: str) -> Iterator[Callable[..., list[Any]]]:
    """Run a statement beside the backend, and answer its rows."""
    with psycopg.connect(url, autocommit=True) as connection:

        def run(statement: str, *values: Any) -> list[Any]:
            cursor = connection.execute(statement.encode(), values or None)
            return cursor.fetchall() if cursor.description else []

        yield run


class PerlsMinion:
    """A release of Perl's Minion: that of this machine, or that of Debian's unstable suite."""

    def __init__(self, root: Path) -> None:
        """Look for it.

        Args:
            root: What the programs take for the root of all.

        Raises:
            Missing: It is not there.
        """
        self._enter = [] if root == Path("/") else ["chroot", str(root)]
        self._home = HERE
        ask = [*self._enter, "perl", "-MMinion", "-MMojo::Pg", "-e", "print Minion->VERSION"]
        try:
            self.version = subprocess.run(ask, capture_output=True, text=True, check=True).stdout
        except (OSError, subprocess.CalledProcessError) as error:
            raise Missing("install libminion-perl and libmojo-pg-perl") from error
        if self._enter:
            self._home = Path(tempfile.mkdtemp(prefix="minion-perl-", dir=root / "tmp"))
            for script in HERE.glob("*.pl"):
                shutil.copy(script, self._home)
        self._within = Path("/") / self._home.relative_to(root)

    def command(self, script: str, *arguments: str) -> list[str]:
        """Answer the command that runs one of the scripts beside this file."""
        return [*self._enter, "perl", str(self._within / script), *arguments]

    def close(self) -> None:
        """Take away what was copied."""
        if self._home != HERE:
            shutil.rmtree(self._home)


class Perl:
    """Perl's Minion, spoken to line by line."""

    def __init__(self, minion: PerlsMinion, url: str) -> None:
        self._process = subprocess.Popen(
            minion.command("perl_queue.pl", url),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __call__(self, on: str, method: str, *arguments: Any) -> Any:
        """Call a method of Perl's minion, backend, worker or job; an error there is one here."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([on, method, *arguments]) + "\n")
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline())
        assert "error" not in answer, answer["error"]
        return answer["answer"]

    def close(self) -> None:
        self._process.communicate()


@pytest.fixture(scope="session", params=["of this release", "newest"])
def perls_minion(request: pytest.FixtureRequest) -> Iterator[PerlsMinion]:
    try:
        newest = request.param == "newest"
        found = PerlsMinion(newest_perls_minion() if newest else Path("/"))
    except Missing as missing:
        not_tested(f"Perl's Minion, {request.param}: {missing}")
    yield found
    found.close()


def newest_perls_minion() -> Path:
    """Answer the root of a system that has the newest Minion for PostgreSQL that can be had."""
    unstable("libminion-perl", configure=False)
    return unstable("libmojo-pg-perl", configure=False)


@pytest.fixture
def speak_perl(perls_minion: PerlsMinion) -> Iterator[Callable[[str], Perl]]:
    """Start Perl's Minion on a database; it ends with the test."""
    speaking: list[Perl] = []

    def start(url: str) -> Perl:
        speaking.append(Perl(perls_minion, url))
        return speaking[-1]

    yield start
    for one in speaking:
        one.close()


@pytest.fixture
def perl(speak_perl: Callable[[str], Perl], url: str) -> Perl:
    return speak_perl(url)
