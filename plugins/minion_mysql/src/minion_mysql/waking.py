"""Waking across processes: a waiting connection sleeps in the server, and who has work ends its sleep.

A waiter takes one of a few named locks and sends ``SELECT SLEEP``. Whoever has committed work asks, in one
statement that touches no table, which connections hold those locks, and sends each ``KILL QUERY``. The
locks belong to live connections of this server and go with them: unlike a table of waiters they never name
a connection of the past, unlike the list of processes they cost nothing to look through, and every account
may see them. To end the sleep of another account's connection takes a right (CONNECTION_ADMIN, or
CONNECTION ADMIN on MariaDB); without it the waiter's own looking stands behind.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import pymysql
from pymysql.constants import COMMAND, ER

from minion_mysql.connections import Connection, code_of, is_quiet

if TYPE_CHECKING:
    from sqlalchemy.engine import URL

log = logging.getLogger(__name__)

PLACES = 16
"""How many waiters can be woken at once; those beyond look for themselves."""

NO_SUCH_THREAD = 1094
MAY_NOT_KILL = frozenset(
    {ER.KILL_DENIED_ERROR, ER.SPECIFIC_ACCESS_DENIED_ERROR, ER.NOT_SUPPORTED_YET, ER.PARSE_ERROR}
)


def place_names(database: str) -> list[str]:
    """Answer the names of the locks of this queue; the server has one set of names for all databases."""
    mark = sha256(database.encode()).hexdigest()[:20]
    return [f"minion-wait-{mark}-{number}" for number in range(PLACES)]


class Sleeper:
    """A connection that does nothing but sleep."""

    def __init__(self, connect: Callable[[], Connection], database: str) -> None:
        connection: Any = connect()
        self._connection = connection  # what is called of it is missing from its type stubs
        self.id: int = connection.thread_id()
        self._names = place_names(database)

    def sleep(self, seconds: float) -> None:
        """Begin to sleep, and come back at once."""
        taken = " ".join(f"WHEN GET_LOCK('{name}', 0) THEN {n}" for n, name in enumerate(self._names))
        statement = f"SELECT CASE {taken} END, SLEEP({seconds:.6f})"
        self._connection._execute_command(COMMAND.COM_QUERY, statement)  # noqa: SLF001 - the answer comes later

    def awake(self) -> None:
        """Come back when the sleep has ended, for whatever reason, and give the place up."""
        self._swallow(self._connection._read_query_result)  # noqa: SLF001
        self._swallow(lambda: self._connection.query("DO RELEASE_ALL_LOCKS()"))

    def is_quiet(self) -> bool:
        """Say whether the connection, while it does not sleep, is as it was left."""
        return is_quiet(self._connection)

    @staticmethod
    def _swallow(step: Callable[[], Any]) -> None:
        try:
            step()
        except pymysql.err.Error as error:
            if code_of(error) != ER.QUERY_INTERRUPTED:
                raise

    def close(self) -> None:
        """Hang up; the server frees the place."""
        self._connection._force_close()  # noqa: SLF001 - a sleeping one cannot be told good-bye


class Waker:
    """Finds who sleeps on a queue and ends the sleep."""

    def __init__(self, database: str) -> None:
        names = place_names(database)
        self._look = "SELECT " + ", ".join(f"IS_USED_LOCK('{name}')" for name in names)
        self._refused = False

    def wake(self, driver: Any) -> None:
        """Wake all who have a place, on a connection outside of any transaction."""
        with driver.cursor() as cursor:
            cursor.execute(self._look)
            holders: Sequence[int | None] = cursor.fetchone()
            for holder in {holder for holder in holders if holder is not None}:
                self.end_sleep(cursor, holder)

    def end_sleep(self, cursor: Any, id: int) -> None:
        """End the statement that a connection is in."""
        try:
            cursor.execute(f"KILL QUERY {id:d}")
        except pymysql.err.Error as error:
            code = code_of(error)
            if code in MAY_NOT_KILL:
                self._say_once(error)
            elif code != NO_SUCH_THREAD:
                raise

    def _say_once(self, error: pymysql.err.Error) -> None:
        if not self._refused:
            self._refused = True
            log.warning(
                "waiting workers of another account cannot be woken and will look for themselves (%s);"
                " use the same account, or grant CONNECTION_ADMIN",
                error.args[-1],
            )


class Sleepers:
    """The sleeping connections of a process, one for each thread that waits at a time."""

    def __init__(self, connect: Callable[[], Connection], url: URL) -> None:
        self._connect = connect
        self._database = url.database or ""
        self._idle: list[Sleeper] = []
        self._lock = threading.Lock()
        self._closed = False

    def take(self) -> Sleeper:
        """Answer one that nobody uses."""
        while True:
            with self._lock:
                if not self._idle:
                    break
                sleeper = self._idle.pop()
            if sleeper.is_quiet():
                return sleeper
            sleeper.close()
        return Sleeper(self._connect, self._database)

    def give_back(self, sleeper: Sleeper) -> None:
        """Keep one that is awake for the next who waits."""
        with self._lock:
            if not self._closed:
                self._idle.append(sleeper)
                return
        sleeper.close()

    def close(self) -> None:
        """Close those that nobody uses, and the others when they are given back."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for sleeper in idle:
            sleeper.close()
