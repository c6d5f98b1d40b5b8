"""What is particular to MySQL and MariaDB: their settings, their limits, their mistakes."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from contextlib import ExitStack, closing
from datetime import UTC, datetime

import pymysql
import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session

from minion_conformance.servers.mysql import PASSWORD, MysqlServer
from minion_core.errors import BackendError, BackendUnavailable, SchemaError
from minion_core.records import (
    DequeueOptions,
    Failed,
    Finished,
    JobFilter,
    NewJob,
)
from minion_core.sql import Work
from minion_mysql import MysqlBackend, connections
from minion_mysql.conformance import PERLS_TABLES

EVERYTHING = JobFilter()
TEXT = "Grüße 🦆 𝄞 \\ ' \" % \n"


def as_user(server: MysqlServer, url: str, *rights: str, user: str = "guest") -> str:
    """Make an account with these rights on the database only, and answer the URL with it."""
    name = sa.make_url(url).database
    server.run(
        f"DROP USER IF EXISTS {user}@'%'",
        f"CREATE USER {user}@'%' IDENTIFIED BY '{PASSWORD}'",
        *(f"GRANT {right} ON {name}.* TO {user}@'%'" for right in rights),
    )
    return sa.make_url(url).set(username=user).render_as_string(hide_password=False)


# -- Settings of the server --------------------------------------------------------------------------------

MODES = [
    "",
    "ANSI_QUOTES,NO_BACKSLASH_ESCAPES,PIPES_AS_CONCAT",
    "TRADITIONAL,ONLY_FULL_GROUP_BY,NO_AUTO_VALUE_ON_ZERO",
]


def use_everything(backend: MysqlBackend) -> None:
    """One round through the verbs that write."""
    parent = backend.enqueue([NewJob("all", [TEXT], {TEXT: 1}, notes={TEXT: TEXT}, uniqkey="Key ")])[0].id
    backend.enqueue(
        [NewJob("all", parents=(parent,), coalesce="100%_", lease=60, expire=600, keep_for=5)] * 3
    )
    worker = backend.register_worker(None, TEXT, 1, {"text": TEXT})
    (job,) = backend.dequeue(worker, DequeueOptions(("all",), limit=5))
    assert (job.args, job.kwargs, job.notes, job.uniqkey) == ([TEXT], {TEXT: 1}, {TEXT: TEXT}, "Key ")
    assert backend.settle([Finished(job.id, 0, TEXT)])[0].applied
    assert backend.note(parent, {TEXT: 2, "more": TEXT})
    jobs = backend.dequeue(worker, DequeueOptions(("all",), limit=5, coalesce_prefix="100%_"))
    assert len(jobs) == 3
    assert all(done.applied for done in backend.settle([Failed(job.id, 0, TEXT) for job in jobs]))
    listed = backend.list_jobs(0, 9, JobFilter(notes=[TEXT])).items
    assert [(record.id, record.result) for record in listed] == [(parent, TEXT)]
    assert backend.failure_log(jobs[0].id)[0].message == TEXT
    token = backend.lock(TEXT, 60)
    assert token
    assert backend.unlock(TEXT, token)
    backend.repair(1800, 0, 1800)


@pytest.mark.parametrize("mode", MODES)
def test_any_sql_mode_character_set_and_time_zone_of_the_server(server, mode):
    if not server.ours:
        pytest.skip("settings of a server that is not ours are left alone")
    before = server.run("SELECT @@GLOBAL.sql_mode, @@GLOBAL.time_zone, @@GLOBAL.autocommit")[0]
    server.run(
        f"SET GLOBAL sql_mode = '{mode}'", "SET GLOBAL time_zone = '+05:30'", "SET GLOBAL autocommit = 0"
    )
    try:
        with server.database("CHARACTER SET latin1") as url, MysqlBackend(url) as backend:
            use_everything(backend)
            assert abs((backend.now() - datetime.now(UTC)).total_seconds()) < 60
    finally:
        server.run(
            f"SET GLOBAL sql_mode = '{before[0]}'",
            f"SET GLOBAL time_zone = '{before[1]}'",
            f"SET GLOBAL autocommit = {before[2]}",
        )


@pytest.mark.parametrize("lock_mode", [0, 1, 2])
def test_ids_of_many_jobs_are_counted_right(server, lock_mode):
    """Also where the server leaves gaps between ids, as clusters do, and whatever its way of counting is."""
    options = [f"--innodb-autoinc-lock-mode={lock_mode}", "--auto-increment-increment=7"]
    options += ["--log-bin=binary", "--server-id=1", "--binlog-format=ROW"]
    if server.scheme == "mysql":
        options += ["--gtid-mode=ON", "--enforce-gtid-consistency=ON"]
    with type(server).start(*options) as special, special.database() as url, MysqlBackend(url) as backend:
        made = backend.enqueue([NewJob("t", [number]) for number in range(50)])
        backend.enqueue([NewJob("other")])
        listed = {job.id: job.args for job in backend.list_jobs(0, 99, JobFilter(tasks=["t"])).items}
        assert listed == {answer.id: [number] for number, answer in enumerate(made)}
        use_everything(backend)


def test_ids_and_counters_beyond_32_bits(backend, server, url):
    server.run(
        *(f"ALTER TABLE minion_{table} AUTO_INCREMENT = {2**40}" for table in ("jobs", "workers", "locks")),
        url=url,
    )
    worker = backend.register_worker(None, "host", 1, {})
    parent, child = (backend.enqueue([NewJob("t")])[0].id for _ in range(2))
    assert min(worker, parent) >= 2**40
    assert int(backend.lock("lock", 60) or 0) >= 2**40
    backend.enqueue([NewJob("t", parents=(parent, child))])
    jobs = backend.dequeue(worker, DequeueOptions(("t",), limit=5))
    backend.settle([Finished(job.id, 0) for job in jobs])
    assert len(backend.dequeue(worker, DequeueOptions(("t",), limit=5))) == 1
    assert backend.stats().enqueued_jobs >= 2**40


def test_ids_are_not_used_again_after_reset_and_restart(server):
    if not server.ours:
        pytest.skip("a server that is not ours is not restarted")
    with server.database() as url, MysqlBackend(url) as backend:
        last = backend.enqueue([NewJob("t")] * 5)[-1].id
        backend.reset(all=True)
        server.shut_down()
        server.resume()
        assert backend.enqueue([NewJob("t")])[0].id > last


def test_a_cache_of_prepared_names_does_not_confuse_blanks_and_case(backend):
    names = ("a", "a ", "A", "ä", "a\u0308", "\u00e4 ")
    made = {name: backend.enqueue([NewJob(name, queue=name, uniqkey=name)])[0] for name in names}
    assert all(answer.created for answer in made.values())
    for name in names:
        (job,) = backend.dequeue(1, DequeueOptions((name,), queues=(name,), limit=9))
        assert job.id == made[name].id


def test_notes_that_the_servers_json_cannot_read(backend):
    deep: list[object] = []
    for _ in range(150):
        deep = [deep]
    keys = ['a"b', "back\\slash", "new\nline", "ü🦆", "a.b", "$", " ", "%", "_", "K", "deep", "big"]
    backend.enqueue([NewJob("t", notes={key: 1, "x": {"inner": 1}}) for key in keys[:-2]])
    made = backend.enqueue([NewJob("t", notes={"deep": deep}), NewJob("t", notes={"big": 10**400})])
    for key in keys:
        assert backend.list_jobs(0, 9, JobFilter(notes=[key])).total == 1, key
    backend.remove_jobs([answer.id for answer in made])
    for key in ("inner", "k", "a", "", "1"):
        assert backend.list_jobs(0, 9, JobFilter(notes=[key])).total == 0, key


# -- The caller's own connection ---------------------------------------------------------------------------


def test_enqueue_in_a_transaction_of_sqlalchemys(backend, url):
    engine = sa.create_engine(sa.make_url(url).set(drivername="mysql+pymysql"))
    with engine.begin() as connection:
        backend.enqueue([NewJob("t", uniqkey="k")], connection=connection)
        assert backend.list_jobs(0, 9, EVERYTHING).total == 0
    with Session(engine) as session:
        backend.enqueue([NewJob("t", [TEXT])] * 3, connection=session)
        session.rollback()
        assert backend.list_jobs(0, 9, EVERYTHING).total == 1
        assert not backend.enqueue([NewJob("t", uniqkey="k")], connection=session)[0].created
        backend.enqueue([NewJob("t", [TEXT])], connection=session)
        session.commit()
    engine.dispose()
    assert backend.list_jobs(0, 9, EVERYTHING).total == 2


def test_what_is_no_connection_of_ours_is_refused(backend, url):
    parsed = sa.make_url(url)
    with pytest.raises(TypeError, match="pymysql"):
        backend.enqueue([NewJob("t")], connection=object())
    latin = pymysql.connect(
        host=parsed.host,
        port=parsed.port or 3306,
        user=parsed.username,
        password=PASSWORD,
        database=parsed.database,
        charset="latin1",
    )
    with closing(latin), pytest.raises(ValueError, match="utf8mb4"):
        backend.enqueue([NewJob("t")], connection=latin)


# -- Mistakes ----------------------------------------------------------------------------------------------


def test_mistakes_are_told_in_one_line_without_the_password(url):
    parsed = sa.make_url(url)
    cases = [
        (parsed.set(port=9), BackendUnavailable, "Can't connect"),
        (parsed.set(password="wrong-secret"), BackendError, "look at the user and the password"),
        (parsed.set(database="no_such_database"), BackendError, "create the database first"),
    ]
    for wrong, kind, says in cases:
        with pytest.raises(kind, match=says) as caught:
            MysqlBackend(wrong.render_as_string(hide_password=False)).open()
        text = str(caught.value)
        assert "\n" not in text
        assert "secret" not in text
        assert "***" in text


def test_urls_that_cannot_be_read():
    with pytest.raises(ValueError, match="names no database"):
        MysqlBackend("mysql://user:secret@host")
    with pytest.raises(ValueError, match="no_such_option"):
        MysqlBackend("mysql://user@host/jobs?no_such_option=1")
    with pytest.raises(ValueError, match="number of seconds"):
        MysqlBackend("mysql://user@host/jobs?read_timeout=soon")
    assert "secret" not in repr(MysqlBackend("mysql://user:secret@host/jobs"))


def test_an_account_that_may_not_make_tables(server, url):
    limited = as_user(server, url, "SELECT, INSERT, UPDATE, DELETE")
    with pytest.raises(BackendError, match="minion migrate"):
        MysqlBackend(limited).open()
    with MysqlBackend(url) as backend:
        backend.enqueue([NewJob("t")])
    with MysqlBackend(limited) as backend:
        use_everything(backend)


def test_a_server_that_is_too_old(url, monkeypatch):
    for said, needed in (("5.7.44-log", "8.0.1"), ("10.5.29-MariaDB", "10.6.0")):
        backend = MysqlBackend(url)
        connect = backend._connect

        def pretend(said=said, connect=connect):
            connection = connect()
            connection.server = said
            return connection

        monkeypatch.setattr(backend, "_connect", pretend)
        with pytest.raises(SchemaError, match=f"too old.*{needed}"):
            backend.open()


def test_perls_tables_are_refused_and_left_alone(server, url):
    server.run(*PERLS_TABLES, url=url)
    before = server.run("SHOW TABLES", url=url)
    with pytest.raises(SchemaError, match="another program"):
        MysqlBackend(url).open()
    with pytest.raises(SchemaError, match="another program"):
        MysqlBackend(url).migrate()
    assert server.run("SHOW TABLES", url=url) == before
    assert server.run("SELECT task FROM minion_jobs", url=url)[0][0] == "theirs"


def test_a_newer_schema_is_refused(server, url):
    MysqlBackend(url).migrate()
    server.run("INSERT INTO minion_migrations VALUES (99)", url=url)
    with pytest.raises(SchemaError, match="newer version"):
        MysqlBackend(url).open()


def test_what_max_allowed_packet_refuses_stores_nothing(backend):
    with backend.engine.connect() as connection:
        packet = connection.exec_driver_sql("SELECT @@max_allowed_packet").scalar_one()
    small, large = NewJob("t", ["small"]), NewJob("t", ["x" * (packet + 1)])
    with pytest.raises(BackendError, match="max_allowed_packet") as caught:
        backend.enqueue([small, large])
    assert not isinstance(caught.value, BackendUnavailable)
    assert backend.list_jobs(0, 9, EVERYTHING).total == 0
    nearly = ["x" * (packet // 2)]
    assert (
        len({answer.id for answer in backend.enqueue([NewJob("t", nearly), small, NewJob("t", nearly)])}) == 3
    )
    job = backend.dequeue(1, DequeueOptions(("t",), limit=1))[0]
    with pytest.raises(BackendError, match="max_allowed_packet"):
        backend.settle([Finished(job.id, 0, "x" * packet)])
    assert backend.settle([Finished(job.id, 0)])[0].applied


def test_a_migration_that_was_cut_short_goes_on(server):
    first = MysqlBackend.migrations[0]
    for cut in range(1, len(first.statements)):
        with server.database() as half:
            server.run(*first.statements[:cut], url=half)
            with MysqlBackend(half) as backend:
                assert backend.enqueue([NewJob("t")])[0].created


# -- Waking ------------------------------------------------------------------------------------------------


WAIT = """
import sys, time
from minion_core.records import DequeueOptions
from minion_mysql import MysqlBackend

with MysqlBackend(sys.argv[1]) as backend:
    backend.poll_interval = 20.0
    for _ in sys.stdin:
        backend.wait(20, DequeueOptions(("t",)))
        print(time.time(), flush=True)
"""


def test_enqueueing_wakes_who_waits_in_another_process(backend, url):
    with subprocess.Popen(
        [sys.executable, "-c", WAIT, url], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as waiter:
        for _ in range(3):
            waiter.stdin.write("wait\n")
            waiter.stdin.flush()
            time.sleep(1)
            began = time.time()
            id = backend.enqueue([NewJob("t")])[0].id
            assert float(waiter.stdout.readline()) - began < 5
            backend.remove_jobs([id])
        waiter.stdin.close()


def test_who_may_not_kill_says_so_once(server, url, caplog):
    with MysqlBackend(url) as mine:
        mine.poll_interval = 0.5
        guest_url = as_user(server, url, "SELECT, INSERT, UPDATE, DELETE")
        with MysqlBackend(guest_url) as guest:
            waiting = mine._sleepers.take()
            waiting.sleep(20)
            for _ in range(2):
                assert guest.enqueue([NewJob("t")])[0].created
            waiting.close()
    told = [record for record in caplog.records if "CONNECTION_ADMIN" in record.getMessage()]
    assert len(told) == 1


def test_idle_connections_that_the_server_let_go_are_replaced_and_nobody_hears_of_it(
    url, backend, monkeypatch
):
    def fill_the_pool(using: MysqlBackend) -> None:
        with ExitStack() as stack:
            for _ in range(3):
                stack.enter_context(using.engine.connect())

    monkeypatch.setattr(connections, "SILENCE", 2)
    with MysqlBackend(url) as silent:
        for _ in range(2):
            fill_the_pool(silent)
            silent.wait(0.1, DequeueOptions(("nothing",)))
            time.sleep(2.5)
        backend.poll_interval = 60
        waiting = threading.Thread(target=backend.wait, args=(60, DequeueOptions(("t",))))
        waiting.start()
        time.sleep(0.5)
        silent.wait(0.1, DequeueOptions(("nothing",)))
        assert silent.enqueue([NewJob("t")])[0].created
        waiting.join(20)
        assert not waiting.is_alive(), "it was not woken"


def test_who_falls_silent_in_a_transaction_does_not_hold_its_locks_for_long(url, backend, monkeypatch):
    monkeypatch.setattr(connections, "SILENCE", 2)
    id = backend.enqueue([NewJob("t")])[0].id

    def fall_silent(work: Work) -> None:
        work.connection.exec_driver_sql("SELECT id FROM minion_jobs WHERE id = %s FOR UPDATE", (id,))
        began = time.monotonic()
        assert backend.note(id, {"a": 1})
        assert 1 < time.monotonic() - began < 30
        work.connection.exec_driver_sql("SELECT 1")

    with MysqlBackend(url) as silent, pytest.raises(BackendUnavailable):
        silent.write(fall_silent)
