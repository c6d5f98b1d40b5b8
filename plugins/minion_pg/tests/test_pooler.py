"""Behind PgBouncer in transaction mode: everything works, and waking is by polling."""

from __future__ import annotations

import logging
import os
import pwd
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest

from minion_core.records import (
    DequeueOptions,
    Failed,
    Finished,
    JobFilter,
    NewJob,
    Replaced,
    RetryOptions,
)
from minion_pg import PgBackend

PROGRAM = shutil.which("pgbouncer", path=f"{os.environ['PATH']}:/usr/sbin")
T = DequeueOptions(("t",), limit=10)


@pytest.fixture
def pooled(url: str) -> Iterator[str]:
    """The URL of the same database through PgBouncer."""
    if PROGRAM is None:
        if os.environ.get("CI"):
            pytest.fail("NOT TESTED: install pgbouncer")
        pytest.skip("NOT TESTED: install pgbouncer")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = urlsplit(url)
    folder = Path("/tmp") / f"minion-pgbouncer-{port}"
    folder.mkdir()
    (folder / "users").write_text('"minion" ""\n')
    (folder / "ini").write_text(
        f"[databases]\n* = host=127.0.0.1 port={server.port}\n[pgbouncer]\nlisten_addr = 127.0.0.1\n"
        f"listen_port = {port}\nunix_socket_dir =\nauth_type = trust\nauth_file = {folder / 'users'}\n"
        "pool_mode = transaction\ndefault_pool_size = 2\nmax_client_conn = 100\n"
    )
    account = {}
    if os.geteuid() == 0:
        nobody = pwd.getpwnam("nobody")
        account = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
    bouncer = subprocess.Popen([PROGRAM, "-q", str(folder / "ini")], **account)  # type: ignore[call-overload]
    through = urlunsplit(server._replace(netloc=f"minion@127.0.0.1:{port}"))
    try:
        deadline = time.monotonic() + 10
        while True:
            try:
                psycopg.connect(through).close()
                break
            except psycopg.OperationalError:
                assert time.monotonic() < deadline
                time.sleep(0.05)
        yield through
    finally:
        bouncer.kill()
        bouncer.wait()
        shutil.rmtree(folder)


def test_everything_but_waking(pooled: str) -> None:
    with PgBackend(pooled) as backend, PgBackend(pooled) as other:
        assert "pooler" in backend.describe()
        parent = backend.enqueue([NewJob("t", [1], attempts=2)])[0].id
        child = other.enqueue([NewJob("t", [2], parents=(parent,), uniqkey="k")])[0].id
        assert not backend.enqueue([NewJob("t", uniqkey="k")])[0].created
        for _ in range(8):  # more often than a driver waits before it prepares a statement
            worker = backend.register_worker(None, "h", 1, {})
            assert [job.id for job in backend.dequeue(worker, T)] == [parent]
            retries = other.list_jobs(0, 1, JobFilter(ids=[parent])).items[0].retries
            assert other.settle([Failed(parent, retries, "no", retry_in=None)])[0].applied
            assert backend.dequeue(worker, T) == []
            assert other.retry_job(parent, retries, RetryOptions(attempts=2))
        (again,) = backend.dequeue(worker, T)
        settled = backend.settle([Replaced(parent, again.retries, jobs=(NewJob("u"),))])
        assert settled[0].jobs[0].created
        assert backend.dequeue(worker, T) == []
        (new,) = backend.dequeue(worker, DequeueOptions(("u",)))
        assert other.settle([Finished(new.id, 0)])[0].applied
        assert [job.id for job in other.dequeue(worker, T)] == [child]
        token = backend.lock("l", 50)
        assert token is not None
        assert other.lock("l", 50) is None
        assert other.unlock("l", token)
        assert backend.repair(1800, 100, 100).lost == []
        with psycopg.connect(pooled) as caller:
            backend.enqueue([NewJob("t")], connection=caller)
            caller.rollback()
        assert backend.list_jobs(0, 9, JobFilter(states=["inactive"])).total == 0


def test_waiting_falls_back_to_polling_and_says_so_once(
    pooled: str, caplog: pytest.LogCaptureFixture
) -> None:
    with PgBackend(pooled) as backend, caplog.at_level(logging.WARNING, logger="minion_pg"):
        backend.wait(0.05, T)
        backend.wait(0.05, T)
        timer = threading.Timer(0.2, lambda: backend.enqueue([NewJob("t")]))
        timer.start()
        began = time.monotonic()
        backend.wait(10, T)
        assert time.monotonic() - began < backend.poll_interval + 1
        timer.join()
        said = [record for record in caplog.records if "pooler" in record.message]
        assert len(said) == 1
