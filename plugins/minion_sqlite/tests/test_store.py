"""What is SQLite's own: files, options, errors in words, other programs' files, the caller's connection."""

import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session

from minion_core import BackendError, BackendUnavailable, DequeueOptions, JobFilter, NewJob, SchemaError
from minion_sqlite import SqliteBackend

PERL_SCHEMA = """
CREATE TABLE mojo_migrations (name TEXT UNIQUE NOT NULL, version INTEGER NOT NULL);
INSERT INTO mojo_migrations VALUES ('minion', 10);
CREATE TABLE minion_jobs (id INTEGER PRIMARY KEY AUTOINCREMENT, args TEXT NOT NULL, task TEXT NOT NULL);
INSERT INTO minion_jobs (args, task) VALUES ('[]', 'theirs');
"""


def open_(path: Path, query: str = "") -> SqliteBackend:
    backend = SqliteBackend(f"sqlite:///{path}{query}")
    backend.open()
    return backend


def listed(backend: SqliteBackend) -> list[str]:
    return [job.task for job in backend.list_jobs(0, 100, JobFilter()).items]


class TestOpening:
    def test_makes_the_file_with_a_log_that_lets_readers_and_a_writer_work_at_once(self, tmp_path):
        open_(tmp_path / "jobs.db").close()
        with sqlite3.connect(tmp_path / "jobs.db") as connection:
            assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)

    def test_lives_in_the_database_of_an_application(self, tmp_path):
        with sqlite3.connect(tmp_path / "shop.db") as connection:
            connection.execute("CREATE TABLE orders (id INTEGER PRIMARY KEY)")
        backend = open_(tmp_path / "shop.db")
        backend.enqueue([NewJob("ship")])
        assert listed(backend) == ["ship"]
        backend.close()

    def test_refuses_the_file_of_perl_s_minion_and_leaves_it_alone(self, tmp_path):
        path = tmp_path / "perl.db"
        with sqlite3.connect(path) as connection:
            connection.executescript(PERL_SCHEMA)
        connection.close()
        before = path.read_bytes()
        with pytest.raises(SchemaError, match=r"made by another program.*choose another file"):
            open_(path)
        assert path.read_bytes() == before

    def test_refuses_a_newer_schema_and_leaves_it_alone(self, tmp_path):
        path = tmp_path / "jobs.db"
        open_(path).close()
        with sqlite3.connect(path) as connection:
            connection.execute("INSERT INTO minion_migrations VALUES (99)")
        connection.close()
        with pytest.raises(SchemaError, match=r"schema 99.*install a newer version"):
            open_(path)

    def test_without_migrating_says_what_to_run(self, tmp_path):
        backend = SqliteBackend(f"sqlite:///{tmp_path}/jobs.db")
        with pytest.raises(SchemaError, match="minion migrate"):
            backend.open(migrate=False)
        assert backend.migrate() == [1]
        assert backend.migrate() == []
        backend.open(migrate=False)
        backend.close()

    def test_many_processes_at_the_same_moment_make_the_tables_once(self, tmp_path):
        script = (
            "import sys; from minion_core import NewJob; from minion_sqlite import SqliteBackend\n"
            "sys.stdin.readline()\n"
            "with SqliteBackend(sys.argv[1]) as backend: backend.enqueue([NewJob(sys.argv[2])])"
        )
        tasks = [f"task {number}" for number in range(8)]
        processes = [
            subprocess.Popen(
                [sys.executable, "-c", script, f"sqlite:///{tmp_path}/jobs.db", task],
                stdin=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )
            for task in tasks
        ]
        for process in processes:  # all of them wait for this line, ready to open
            process.stdin.write(b"\n")
            process.stdin.flush()
        errors = [process.communicate(timeout=60)[1] for process in processes]
        assert errors == [b""] * 8
        backend = open_(tmp_path / "jobs.db")
        assert sorted(listed(backend)) == tasks
        backend.close()


class TestMistakes:
    @pytest.mark.parametrize(
        ("url", "words"),
        [
            ("sqlite://", "names no file"),
            ("sqlite:///:memory:", "names no file"),
            ("sqlite://host/jobs.db", "names no file"),
            ("sqlite:///jobs.db?synchronous=off", "synchronous must be one of full, normal, extra"),
            ("sqlite:///jobs.db?busy_timeout=soon", "busy_timeout must be a number of seconds"),
            ("sqlite:///jobs.db?mode=ro", "Unknown options in the URL: mode"),
        ],
    )
    def test_in_the_url_are_named_before_anything_is_opened(self, url, words):
        with pytest.raises(ValueError, match=words):
            SqliteBackend(url)

    def test_a_missing_folder(self, tmp_path):
        with pytest.raises(BackendUnavailable, match=r"there is no folder .*nowhere, make it first"):
            open_(tmp_path / "nowhere" / "jobs.db")

    def test_a_file_that_is_no_database(self, tmp_path):
        path = tmp_path / "jobs.db"
        path.write_text("this is a shopping list, and a long one at that\n" * 40)
        with pytest.raises(BackendUnavailable, match="file is not a database"):
            open_(path)

    def test_a_folder_in_place_of_a_file(self, tmp_path):
        with pytest.raises(BackendUnavailable, match="unable to open database file"):
            open_(tmp_path)

    def test_a_full_disk_stores_nothing(self, tmp_path):
        backend = open_(tmp_path / "jobs.db")
        with backend.engine.connect() as connection:  # the only connection of the pool
            pages = connection.exec_driver_sql("PRAGMA page_count").scalar()
            connection.exec_driver_sql(f"PRAGMA max_page_count = {pages + 10}")
        with pytest.raises(BackendUnavailable, match="database or disk is full"):
            backend.enqueue([NewJob("a", ["x" * 10_000])] * 100)
        assert listed(backend) == []
        backend.close()

    def test_use_before_opening(self, tmp_path):
        with pytest.raises(BackendError, match=r"not open: call open\(\) first"):
            SqliteBackend(f"sqlite:///{tmp_path}/jobs.db").enqueue([NewJob("a")])

    def test_a_file_that_somebody_keeps_locked_is_waited_for_and_then_named(self, tmp_path):
        backend = open_(tmp_path / "jobs.db", "?busy_timeout=0.05")
        with sqlite3.connect(tmp_path / "jobs.db", isolation_level=None) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(
                BackendUnavailable, match=r"kept it locked for too long; to wait for more than 0\.05 s"
            ):
                backend.enqueue([NewJob("a")])
            other.execute("ROLLBACK")
        assert backend.enqueue([NewJob("a")])[0].created
        backend.close()


class TestDurability:
    @pytest.mark.parametrize(
        ("query", "level"), [("", 2), ("?synchronous=normal", 1), ("?synchronous=extra", 3)]
    )
    def test_every_connection_syncs_as_the_url_says(self, tmp_path, query, level):
        backend = open_(tmp_path / "jobs.db", query)
        with backend.engine.connect() as connection:
            assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == level
        backend.close()


class TestEnqueueingOnTheCallersConnection:
    """ENQ-08, with each kind of connection that is taken."""

    @pytest.fixture(params=["sqlite3", "sqlite3 in legacy transactions", "SQLAlchemy", "session"])
    def caller(self, request, tmp_path):
        backend = open_(tmp_path / "jobs.db")
        engine = sa.create_engine(f"sqlite:///{tmp_path}/jobs.db")
        match request.param:
            case "sqlite3":
                connection = sqlite3.connect(tmp_path / "jobs.db", isolation_level=None)
                connection.execute("BEGIN")
            case "sqlite3 in legacy transactions":
                connection = sqlite3.connect(tmp_path / "jobs.db")
            case "SQLAlchemy":
                connection = engine.connect()
            case _:
                connection = Session(engine)
        yield backend, connection
        connection.close()
        engine.dispose()
        backend.close()

    def test_is_seen_when_the_caller_commits(self, caller):
        backend, connection = caller
        answers = backend.enqueue([NewJob("a", uniqkey="k"), NewJob("b")], connection=connection)
        assert [answer.created for answer in answers] == [True, True]
        assert listed(backend) == []
        assert backend.list_jobs(0, 10, JobFilter()).total == 0
        connection.commit()
        assert listed(backend) == ["b", "a"]
        assert [job.id for job in backend.dequeue(1, DequeueOptions(["a", "b"], limit=5))] == [1, 2]

    def test_never_was_when_the_caller_rolls_back(self, caller):
        backend, connection = caller
        backend.enqueue([NewJob("a")], connection=connection)
        connection.rollback()
        assert listed(backend) == []
        assert backend.enqueue([NewJob("b")])[0].created

    def test_leaves_the_transaction_open(self, caller):
        backend, connection = caller
        backend.enqueue([NewJob("a")], connection=connection)
        backend.enqueue([NewJob("b")], connection=connection)
        connection.rollback()
        assert listed(backend) == []

    def test_anything_else_is_refused(self, tmp_path):
        backend = open_(tmp_path / "jobs.db")
        with pytest.raises(TypeError, match="sqlite3 connection, or an SQLAlchemy connection or session"):
            backend.enqueue([NewJob("a")], connection="a string")
        backend.close()


class TestManyRanges:
    def test_a_claim_for_more_tasks_than_one_statement_merges(self, tmp_path):
        backend = open_(tmp_path / "jobs.db")
        tasks = [f"task {number}" for number in range(900)]
        backend.enqueue([NewJob(task, priority=number % 7) for number, task in enumerate(tasks)])
        claimed = backend.dequeue(1, DequeueOptions(tasks, limit=1000))
        assert [(-job.priority, job.id) for job in claimed] == sorted((-(n % 7), n + 1) for n in range(900))
        backend.close()
