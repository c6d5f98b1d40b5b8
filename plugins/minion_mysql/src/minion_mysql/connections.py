"""Connections with settings of our own, whatever the server's defaults are, and transactions on them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import pymysql
import sqlalchemy as sa
from pymysql.constants import CLIENT, CR, ER, SERVER_STATUS
from sqlalchemy.pool import NullPool

from minion_core.wakeup import is_readable

if TYPE_CHECKING:
    from sqlalchemy.engine import URL

MODE = "STRICT_TRANS_TABLES,NO_ENGINE_SUBSTITUTION"
"""What we want of ``sql_mode``: nothing is cut to fit, and quotes mean what they usually mean."""

LOCK_WAIT = 10
"""Seconds to wait for a row that another transaction has locked."""

SILENCE = 600
"""Seconds after which the server lets go of a client that says nothing: one that vanished in the middle of a
transaction holds what it has locked no longer than that (the default is eight hours)."""

CONNECT_TIMEOUT = 10

NAMED_LOCK = "minion_named_lock"
"""Set in a connection's ``info`` while it has a lock that a transaction's end does not free."""

TRANSIENT = frozenset(
    {
        ER.LOCK_WAIT_TIMEOUT,
        ER.LOCK_DEADLOCK,
        ER.DUP_ENTRY,  # somebody else was first between our look and our insert; the next look sees it
        ER.SP_DOES_NOT_EXIST,  # a savepoint that went with the rest, by a deadlock
        ER.TABLE_DEF_CHANGED,  # a table was made while a transaction looked for it
        1684,  # the same, where MySQL lists the tables
        ER.CHECKREAD,  # 1020: MariaDB under a snapshot; the record has changed since it was read
    }
)

UNAVAILABLE = frozenset(
    {
        0,  # pymysql: the connection is closed
        CR.CR_CONNECTION_ERROR,
        CR.CR_CONN_HOST_ERROR,
        CR.CR_UNKNOWN_HOST,
        CR.CR_SERVER_GONE_ERROR,
        CR.CR_SERVER_LOST,
        CR.CR_SERVER_LOST_EXTENDED,
        ER.CON_COUNT_ERROR,
        ER.SERVER_SHUTDOWN,
        ER.NORMAL_SHUTDOWN,
        ER.FORCING_CLOSE,
        ER.QUERY_INTERRUPTED,
        ER.OPTION_PREVENTS_STATEMENT,  # read-only: a replica, or a primary that is being replaced
        1836,  # MySQL: read-only mode
        1927,  # MariaDB: the connection was killed
        3169,  # MySQL: the session was killed
        4031,  # MySQL: disconnected for inactivity
        1047,  # MariaDB's cluster: this node is not ready
        3100,  # MySQL's group replication: this member cannot commit now
    }
)

ADVICE = {
    ER.ACCESS_DENIED_ERROR: "look at the user and the password in the URL",
    ER.DBACCESS_DENIED_ERROR: "grant this user the rights on that database",
    ER.BAD_DB_ERROR: "create the database first, or mend its name in the URL",
    ER.TABLEACCESS_DENIED_ERROR: "grant this user the right, or have `minion migrate` run by one who has it",
    ER.NET_PACKET_TOO_LARGE: "raise max_allowed_packet on the server, or store large data elsewhere",
    ER.RECORD_FILE_FULL: "the server's disk is full",
}


def code_of(error: BaseException) -> int:
    """Answer the number of a driver's error, -1 if it has none."""
    code = error.args[0] if error.args else -1
    return code if isinstance(code, int) else -1


class Connection(pymysql.connections.Connection):
    """A connection of ours: READ COMMITTED, autocommit unless a transaction was begun, UTC, utf8mb4.

    Attributes:
        max_packet: The longest statement that the server accepts, in bytes.
        id_step: The distance between ids that one statement counts out.
        server: Its version, as it says itself.
    """

    max_packet = 0
    id_step = 1
    server = ""
    server_status: int

    def query(self, sql: str | bytes, unbuffered: bool = False) -> int:
        """Send a statement; refuse here what the server would answer by hanging up."""
        if isinstance(sql, str):
            sql = sql.encode(self.encoding, "surrogateescape")
        if self.max_packet and len(sql) >= self.max_packet:
            raise pymysql.err.DataError(
                ER.NET_PACKET_TOO_LARGE,
                f"{len(sql)} bytes are more than the server accepts, max_allowed_packet={self.max_packet}",
            )
        return super().query(sql, unbuffered)

    def rollback(self) -> None:
        """Roll back if there is anything to, since SQLAlchemy asks for it after every use."""
        if self.open and self.server_status & SERVER_STATUS.SERVER_STATUS_IN_TRANS:
            super().rollback()


def connect(url: URL, options: Mapping[str, Any], **more: Any) -> Connection:
    """Connect, and set all that our statements lean on."""
    connection = Connection(
        host=url.host or "localhost",
        port=url.port or 3306,
        user=url.username,
        password=str(url.password) if url.password is not None else "",
        database=url.database,
        charset="utf8mb4",
        sql_mode=MODE,
        autocommit=True,
        client_flag=CLIENT.FOUND_ROWS,  # what an UPDATE met, not what it changed
        **{"connect_timeout": CONNECT_TIMEOUT, **options, **more},
    )
    try:
        with connection.cursor() as cursor:
            cursor.execute("SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED")
            cursor.execute(
                "SET SESSION time_zone = '+00:00',"
                f" innodb_lock_wait_timeout = {LOCK_WAIT}, wait_timeout = {SILENCE}"
            )
            cursor.execute("SELECT @@max_allowed_packet, @@auto_increment_increment, VERSION()")
            row = cursor.fetchone()
    except BaseException:
        connection.close()
        raise
    connection.max_packet, connection.id_step, connection.server = row  # type: ignore[misc]
    return connection


def is_quiet(connection: Any) -> bool:
    """Say whether an idle connection is as it was left: what a server says unasked is its farewell."""
    try:
        return bool(connection.open) and not is_readable(connection._sock)  # noqa: SLF001
    except (OSError, ValueError):
        return False


class Transaction:
    """A transaction begun in so many words, on the driver itself.

    A connection that the server lets go just now shows it here, before anything was done: it is replaced.
    """

    def __init__(self, connection: sa.Connection, *begin: str) -> None:
        self._connection = connection
        self._begin = begin

    def __enter__(self) -> None:
        try:
            self._execute(*self._begin)
        except pymysql.err.Error as error:
            if code_of(error) not in UNAVAILABLE:
                raise
            self._connection.invalidate()
            self._execute(*self._begin)

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self._execute("COMMIT")
        elif not self._roll_back():
            return
        if self._connection.info.pop(NAMED_LOCK, False):
            self._execute("DO RELEASE_ALL_LOCKS()")

    def _roll_back(self) -> bool:
        """Roll back, and say whether there is still a connection."""
        if not self._connection.invalidated:
            try:
                self._execute("ROLLBACK")
            except pymysql.err.Error:
                self._connection.invalidate()
        return not self._connection.invalidated

    def _execute(self, *statements: str) -> None:
        driver: Any = self._connection.connection.driver_connection
        for statement in statements:
            driver.query(statement)


@contextlib.contextmanager
def borrowed(connection: Any) -> Iterator[sa.Connection]:
    """Work on the caller's own connection, in its transaction (ENQ-08)."""
    from sqlalchemy.orm import Session  # noqa: PLC0415 - a third of SQLAlchemy's import, and seldom needed

    if isinstance(connection, Session):
        connection = connection.connection()
    if isinstance(connection, sa.Connection):
        _check(connection.connection.driver_connection, connection)
        yield connection
        return
    _check(connection, connection)
    if not connection.server_status & SERVER_STATUS.SERVER_STATUS_IN_TRANS:
        connection.begin()
    engine = sa.create_engine("mysql+pymysql://", creator=lambda: _Borrowed(connection), poolclass=NullPool)
    with engine.connect() as wrapped:
        yield wrapped


def _check(driver: Any, given: Any) -> None:
    if not isinstance(driver, pymysql.connections.Connection):
        raise TypeError(
            "connection must be a pymysql connection, or an SQLAlchemy connection or session on one,"
            f" not {type(given).__name__}"
        )
    if driver.charset != "utf8mb4":
        raise ValueError(f"connection must use charset='utf8mb4', not {driver.charset!r}")


class _Borrowed:
    """The caller's connection, which we neither commit, nor roll back, nor close."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    def commit(self) -> None:
        """Leave it to the caller."""

    rollback = close = commit
