"""What goes wrong between here and the database: one clear line each, and no password in it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest

from minion_core.errors import BackendError, BackendUnavailable, SchemaError
from minion_core.records import DequeueOptions, Finished, JobFilter, NewJob
from minion_pg import PgBackend, connecting


def failure(url: str, *, kind: type[BackendError] = BackendError, migrate: bool = True) -> str:
    backend = PgBackend(url)
    with pytest.raises(kind) as caught:
        backend.open(migrate=migrate)
    message = str(caught.value)
    assert "\n" not in message
    assert "s3cret" not in message + repr(caught.value) + repr(backend)
    return message


def with_user(url: str, user: str, database: str | None = None) -> str:
    parts = urlsplit(url)
    path = parts.path if database is None else f"/{database}"
    return urlunsplit(parts._replace(netloc=f"{user}:s3cret@{parts.hostname}:{parts.port}", path=path))


def test_unreachable() -> None:
    message = failure("postgresql://me:s3cret@127.0.0.1:1/db", kind=BackendUnavailable)
    assert "postgresql://me@127.0.0.1:1/db" in message
    assert "efused" in message


def test_no_such_host() -> None:
    assert "nowhere.invalid" in failure("postgresql://me:s3cret@nowhere.invalid/db", kind=BackendUnavailable)


def test_missing_database(url: str) -> None:
    assert '"missing" does not exist' in failure(with_user(url, "minion", "missing"), kind=BackendUnavailable)


def test_wrong_password(server: Any, url: str) -> None:
    if not server.ours:
        pytest.skip("NOT TESTED: it changes who may log in, which only a server of our own may suffer")
    server.run("DROP ROLE IF EXISTS guarded", "CREATE ROLE guarded LOGIN PASSWORD 'right'")
    ((file,),) = server.run("SHOW hba_file")
    server.run(
        f"COPY (SELECT 'host all guarded 127.0.0.1/32 scram-sha-256' UNION ALL"
        f" SELECT 'local all all trust' UNION ALL SELECT 'host all all 127.0.0.1/32 trust') TO '{file}'",
        "SELECT PG_RELOAD_CONF()",
    )
    message = failure(with_user(url, "guarded"), kind=BackendUnavailable)
    assert "password" in message


def test_no_right_to_create_tables(server: Any, url: str) -> None:
    server.run("DROP ROLE IF EXISTS reader", "CREATE ROLE reader LOGIN")
    server.run("REVOKE CREATE ON SCHEMA public FROM PUBLIC", url=url)
    as_reader = with_user(url, "reader")
    message = failure(as_reader, kind=SchemaError)
    assert "permission denied" in message
    assert "minion migrate" in message
    with PgBackend(url):
        pass
    message = failure(as_reader)
    assert "permission denied" in message
    server.run(
        "GRANT SELECT, INSERT, UPDATE, DELETE, TRUNCATE ON ALL TABLES IN SCHEMA public TO reader",
        "GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA public TO reader",
        url=url,
    )
    with PgBackend(as_reader) as backend:
        id = backend.enqueue([NewJob("t")])[0].id
        assert [job.id for job in backend.dequeue(1, DequeueOptions(("t",)))] == [id]
        assert backend.settle([Finished(id, 0)])[0].applied
        assert backend.lock("l", 1) is not None


def test_missing_tables_are_not_made_unasked(url: str) -> None:
    assert "minion migrate" in failure(url, kind=SchemaError, migrate=False)


def test_server_too_old(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("minion_pg.backend.OLDEST_SERVER", 99)
    assert "99 or newer is needed" in failure(url, kind=SchemaError)


def test_schema_too_new(url: str, sql: Callable[..., list[Any]]) -> None:
    with PgBackend(url):
        sql("INSERT INTO minion_migrations VALUES (4711)")
    assert "4711" in failure(url, kind=SchemaError)
    sql("DELETE FROM minion_migrations WHERE number = 4711")
    sql("UPDATE mojo_migrations SET version = 26")
    assert "26" in failure(url, kind=SchemaError)


def test_schema_of_an_old_minion_or_of_another_program(url: str, sql: Callable[..., list[Any]]) -> None:
    sql("CREATE TABLE minion_jobs (id INT)")
    assert "neither ours nor Minion's" in failure(url, kind=SchemaError)
    sql("CREATE TABLE mojo_migrations (name TEXT PRIMARY KEY, version BIGINT)")
    sql("INSERT INTO mojo_migrations VALUES ('minion', 17)")
    assert "17" in failure(url, kind=SchemaError)


def test_an_isolation_that_a_pooler_keeps(url: str, monkeypatch: pytest.MonkeyPatch, server: Any) -> None:
    name = urlsplit(url).path.lstrip("/")
    server.run(f"ALTER DATABASE {name} SET default_transaction_isolation = 'serializable'")
    with PgBackend(url) as backend:
        assert backend.enqueue([NewJob("t")])[0].created, "sessions of our own are set right"
    monkeypatch.setattr(connecting.Connector, "_look", lambda self: setattr(self, "pooled", True))
    assert "default_transaction_isolation" in failure(url, kind=SchemaError)


@pytest.mark.parametrize(
    "bad", ["postgresql://h/d?no_such_option=1", "postgresql://me:s3cret@h:port/d", "mysql://x"]
)
def test_urls_that_cannot_be_read(bad: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - whatever it says, but not the password
        PgBackend(bad)
    assert "s3cret" not in str(caught.value)


def test_listening_where_there_is_no_listen(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("minion_pg.waking.LISTEN", "NO SUCH COMMAND")
    with PgBackend(url) as backend:
        backend.poll_interval = 0.1
        backend.wait(0.3, DequeueOptions(("t",)))
        backend.enqueue([NewJob("t")])
        backend.wait(5, DequeueOptions(("t",)))
        assert backend.list_jobs(0, 1, JobFilter()).total == 1


def test_a_message_has_no_statement_in_it(backend: PgBackend, url: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("ALTER TABLE minion_jobs ADD CHECK (task <> 'forbidden')")
    with pytest.raises(BackendError, match="violates check constraint") as caught:
        backend.enqueue([NewJob("forbidden")])
    assert "INSERT" not in str(caught.value)


def test_a_server_that_became_a_standby_is_left_for_another_connection(backend: PgBackend) -> None:
    for act in (
        lambda: backend.enqueue([NewJob("t")]),
        lambda: backend.note(1, {"a": 1}),
        lambda: backend.enqueue([NewJob("t", uniqkey="k")]),
    ):
        backend._once(lambda driver: driver.execute("SET default_transaction_read_only = on"))
        with pytest.raises(BackendUnavailable, match="read-only"):
            act()
        act()
