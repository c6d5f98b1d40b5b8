"""Connections to PostgreSQL: how they are made, what stands in between, and what their errors mean."""

from __future__ import annotations

from typing import Any

import psycopg
from psycopg import conninfo, errors, pq

from minion_core.wakeup import is_readable

SCHEMES = ("postgresql://", "postgres://")
CONNECT_TIMEOUT = 10

PLANNING = {
    "enable_bitmapscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    "enable_seqscan": "off",
    "enable_sort": "off",
    "jit": "off",
    "plan_cache_mode": "force_generic_plan",
}
"""What the hot statements are planned under. Each is to read its rows by one index and in its order; the
statistics of a queue are always wrong, for it is empty at one moment and full at the next."""

USUAL_PLANNING = "; ".join(
    f"SET LOCAL {name} = {'auto' if name == 'plan_cache_mode' else 'on'}"
    for name in PLANNING
    if name != "jit"
)
HOT_PLANNING = "; ".join(f"SET LOCAL {name} = {value}" for name, value in PLANNING.items())

SILENCE = 60
"""Seconds after which the server lets go of a client that says nothing in the middle of a transaction: one
that vanished or was stopped there holds what it has locked no longer than that."""

TRANSIENT = ("40001", "40P01", "55P03", "23505", "25P03")
"""Serialization failure, deadlock, lock not available; a row that somebody else made a moment ago, which the
next try finds; a silence in the middle of a transaction, which was rolled back."""

UNAVAILABLE = ("08", "57P", "53")
"""Classes: the connection, the server going down or starting, no resources (too many connections)."""

READ_ONLY = "25006"
"""What used to be the primary has become a standby: another connection may find the new one."""

NO_RIGHT = "42501"


def read_url(url: str) -> dict[str, Any]:
    """Read a URL as libpq does.

    Raises:
        ValueError: It cannot be read; the message holds no password.
    """
    if not url.startswith(SCHEMES):
        raise ValueError("The URL must begin with postgresql:// or postgres://")
    try:
        found = conninfo.conninfo_to_dict(url)
    except psycopg.ProgrammingError as error:
        raise ValueError(f"The PostgreSQL URL cannot be read: {str(error).strip()}") from None
    found.setdefault("connect_timeout", CONNECT_TIMEOUT)
    found.setdefault("application_name", "minion")
    return dict(found)


def show_url(parameters: dict[str, Any]) -> str:
    """Write down where the store is, for people to read: no password, no options."""
    user = f"{parameters['user']}@" if "user" in parameters else ""
    port = f":{parameters['port']}" if "port" in parameters else ""
    host = parameters.get("host", "")
    where = f"{user}{port}" if str(host).startswith("/") else f"{user}{host}{port}"
    socket = f"?host={host}" if str(host).startswith("/") else ""
    return f"postgresql://{where}/{parameters.get('dbname', '')}{socket}"


class Connector:
    """Makes connections, and finds out with the first whether a pooler stands in between.

    Attributes:
        pooled: Whether sessions are not ours: settings and prepared statements do not stay, LISTEN hears
            nothing. ``None`` until the first connection.
    """

    def __init__(self, parameters: dict[str, Any]) -> None:
        self.parameters = parameters
        self.pooled: bool | None = None

    def connect(self) -> psycopg.Connection[Any]:
        """Connect; every statement commits for itself unless a transaction is begun."""
        if self.pooled is None:
            self._look()
        if self.pooled:
            return psycopg.connect(autocommit=True, prepare_threshold=None, **self.parameters)
        return psycopg.connect(autocommit=True, **self._with_settings())

    def _look(self) -> None:
        try:
            with psycopg.connect(autocommit=True, **self._with_settings()) as connection:
                # A pooler makes up the process number that it tells its clients.
                row = connection.execute("SELECT PG_BACKEND_PID()", prepare=False).fetchone()
                self.pooled = row is None or row[0] != connection.pgconn.backend_pid
        except psycopg.OperationalError as error:
            if "unsupported startup parameter" not in str(error):
                raise
            self.pooled = True

    def _with_settings(self) -> dict[str, Any]:
        settings = {
            "default_transaction_isolation": "read\\ committed",
            "idle_in_transaction_session_timeout": f"{SILENCE}s",
            **PLANNING,
        }
        options = " ".join(f"-c {name}={value}" for name, value in settings.items())
        return {**self.parameters, "options": f"{self.parameters.get('options', '')} {options}".strip()}


def is_quiet(connection: psycopg.Connection[Any]) -> bool:
    """Say whether an idle connection is as it was left, without asking it anything.

    Whatever a server says of its own accord, on a connection that listens to nothing, is its farewell.
    """
    if connection.closed:
        return False
    try:
        return not is_readable(connection.pgconn.socket)
    except (psycopg.Error, OSError, ValueError):
        return False


def read_in(connection: psycopg.Connection[Any]) -> bool:
    """Read what a listening connection has to say; ``False`` when it has ended."""
    try:
        while is_readable(connection.pgconn.socket):
            connection.pgconn.consume_input()
            if connection.pgconn.status != pq.ConnStatus.OK:
                return False
    except (psycopg.Error, OSError, ValueError):
        return False
    return True


def is_transient(error: BaseException) -> bool:
    """Say whether the same again may succeed."""
    return isinstance(error, psycopg.Error) and (error.sqlstate or "") in TRANSIENT


def is_unavailable(error: BaseException) -> bool:
    """Say whether the server could not be reached, or went away."""
    if not isinstance(error, psycopg.Error):
        return False
    if error.sqlstate is None:
        return isinstance(error, (psycopg.OperationalError, psycopg.InterfaceError))
    return error.sqlstate.startswith(UNAVAILABLE) or error.sqlstate == READ_ONLY


def is_duplicate(error: BaseException) -> bool:
    """Say whether a unique index refused a row."""
    return isinstance(error, errors.UniqueViolation)
