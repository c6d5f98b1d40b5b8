"""The throw-away server: it comes, survives a crash, and is gone when those who started it are."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import psycopg
import pytest

from minion_conformance.servers.postgresql import PostgreSQL

START = """
from minion_conformance.servers.postgresql import PostgreSQL
server = PostgreSQL.start("-c", "work_mem=5MB")
print(server.url, server._folder, flush=True)
input()
"""


@pytest.mark.usefixtures("server")
def test_it_ends_with_a_process_that_is_killed() -> None:
    starter = subprocess.Popen(
        [sys.executable, "-c", START], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert starter.stdout is not None
    url, folder = starter.stdout.readline().split()
    with psycopg.connect(url) as connection:
        assert connection.execute("SHOW work_mem").fetchone() == ("5MB",)
    starter.kill()
    starter.communicate()
    deadline = time.monotonic() + 20
    while Path(folder).exists():
        assert time.monotonic() < deadline
        time.sleep(0.1)
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(url, connect_timeout=2)


def test_it_listens_on_loopback_only_and_keeps_what_was_committed(server: PostgreSQL) -> None:
    if not server.ours:
        pytest.skip("NOT TESTED: MINION_TEST_PG_URL names a server that must not be killed")
    with PostgreSQL.start("-c", "work_mem=6MB") as other:
        assert other.run("SHOW listen_addresses") == [("127.0.0.1",)]
        url = other.new_database()
        other.run("CREATE TABLE kept (id INT)", "INSERT INTO kept VALUES (1)", url=url)
        other.kill()
        with pytest.raises(psycopg.OperationalError):
            other.run("SELECT 1")
        other.resume()
        assert other.run("SELECT id FROM kept", url=url) == [(1,)]
        other.shut_down()
        other.resume()
        other.drop_database(url)
        with pytest.raises(psycopg.OperationalError, match="does not exist"):
            other.run("SELECT 1", url=url)
