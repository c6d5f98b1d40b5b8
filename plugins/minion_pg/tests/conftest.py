"""A private PostgreSQL server for the tests, databases on it, and Perl's Minion beside them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from minion_conformance.servers.postgresql import PostgreSQL
from minion_conformance.servers.server import Missing
from minion_pg import PgBackend

HERE = Path(__file__).parent


def not_tested(why: str) -> None:
    """Say loudly what could not be tested; where it must be tested, fail."""
    if os.environ.get("CI"):
        pytest.fail(f"NOT TESTED: {why}")
    pytest.skip(f"NOT TESTED: {why}")


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


class Perl:
    """Perl's Minion, spoken to line by line."""

    def __init__(self, url: str) -> None:
        self._process = subprocess.Popen(
            ["perl", str(HERE / "perl_queue.pl"), url],
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


def has_perls_minion() -> bool:
    """Say whether Perl's Minion for PostgreSQL is installed."""
    if shutil.which("perl") is None:
        return False
    done = subprocess.run(["perl", "-MMinion", "-MMojo::Pg", "-e1"], capture_output=True, check=False)
    return done.returncode == 0


@pytest.fixture(scope="session")
def perls_minion() -> None:
    if not has_perls_minion():
        not_tested("Perl's Minion: install libminion-perl and libmojo-pg-perl")


@pytest.fixture
def speak_perl(perls_minion: None) -> Iterator[Callable[[str], Perl]]:  # noqa: ARG001 - it may skip
    """Start Perl's Minion on a database; it ends with the test."""
    speaking: list[Perl] = []

    def start(url: str) -> Perl:
        speaking.append(Perl(url))
        return speaking[-1]

    yield start
    for one in speaking:
        one.close()


@pytest.fixture
def perl(speak_perl: Callable[[str], Perl], url: str) -> Perl:
    return speak_perl(url)
