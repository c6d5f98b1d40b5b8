"""Waking on PostgreSQL: one LISTEN connection a process, read by a thread of its own as soon as it speaks."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import psycopg

from minion_core.errors import BackendError
from minion_core.records import DequeueOptions
from minion_core.wakeup import is_readable
from minion_pg import claiming
from minion_pg.connecting import read_in

logger = logging.getLogger(__name__)

CHANNEL = "minion.job"
"""Minion's own: Perl's workers listen to it too."""

LISTEN = f'LISTEN "{CHANNEL}"'

RETRY_EVERY = 1.0
"""Seconds after which a connection that cannot listen is tried again."""

LOOK_AGAIN = 0.03
"""Seconds after which who began to wait looks once more, for what was being stored at that moment."""

LOOK_AT_CLOCK = 0.01
"""Seconds between two looks at a clock of the caller's, which may leap."""

SHORTEST = 0.001


class Listener:
    """Hears notifications and lets waiting threads know.

    The connection is read all the time, also while nobody waits: a session that listens and does not read
    would hold up the server's queue of notifications. It never begins a transaction.
    """

    def __init__(self, connect: Callable[[], psycopg.Connection[Any]]) -> None:
        self._connect = connect
        self._heard = threading.Condition()
        self._count = 0
        self._closed = False
        self._listening = threading.Event()
        self._wake_read, self._wake_write = os.pipe()
        self._thread = threading.Thread(target=self._run, name="minion-listen", daemon=True)
        self._thread.start()

    @property
    def count(self) -> int:
        """How many notifications were heard so far."""
        return self._count

    def is_listening(self, patience: float = 0.0) -> bool:
        """Say whether notifications are heard now."""
        return self._listening.wait(patience)

    def wait(self, since: int, timeout: float) -> bool:
        """Come back when more than ``since`` notifications were heard, or after ``timeout`` seconds."""
        with self._heard:
            return self._heard.wait_for(lambda: self._count > since or self._closed, timeout)

    def close(self) -> None:
        """Stop listening."""
        with self._heard:
            if self._closed:
                return
            self._closed = True
            self._heard.notify_all()
        os.write(self._wake_write, b"x")
        self._thread.join()
        os.close(self._wake_read)
        os.close(self._wake_write)

    def _run(self) -> None:
        while not self._closed:
            try:
                with self._connect() as connection:
                    connection.execute(LISTEN.encode(), prepare=False)
                    self._listening.set()
                    # Whoever waited while nobody listened looks once more.
                    self._tell()
                    self._read(connection)
            except (psycopg.Error, OSError) as error:
                logger.info("Not listening for notifications, trying again: %s", " ".join(str(error).split()))
            finally:
                self._listening.clear()
            if not self._closed:
                is_readable(self._wake_read, timeout=RETRY_EVERY)

    def _read(self, connection: psycopg.Connection[Any]) -> None:
        while not self._closed:
            is_readable(connection.pgconn.socket, self._wake_read, timeout=None)
            if self._closed or not read_in(connection):
                return
            heard = False
            while connection.pgconn.notifies() is not None:
                heard = True
            if heard:
                self._tell()

    def _tell(self) -> None:
        with self._heard:
            self._count += 1
            self._heard.notify_all()


ANNOUNCE = """INSERT INTO minion_waiters (id, queues, tasks, until)
    VALUES (COALESCE(%s, NEXTVAL('minion_waiters_id_seq')), %s, %s,
        STATEMENT_TIMESTAMP() + %s * INTERVAL '1 second')
    ON CONFLICT (id) DO UPDATE SET until = EXCLUDED.until RETURNING id"""

LEAVE = "DELETE FROM minion_waiters WHERE id = %s"


def wait(
    run: Callable[..., Any],
    read_clock: Callable[[], datetime | None],
    listener: Listener | None,
    options: DequeueOptions,
    *,
    timeout: float,
    poll_interval: float,
) -> None:
    """Come back when a claim may find a job, or at the timeout.

    Args:
        run: Runs a function of a connection.
        read_clock: Answers the caller's clock, or ``None`` when the store's counts.
        listener: Hears notifications, where there are any.
        options: What is waited for.
        timeout: For how many seconds.
        poll_interval: After how many seconds to look, whatever is heard.
    """
    ends = time.monotonic() + timeout
    look, values = claiming.look_statement(options), claiming.parameters(options, None)
    until_look = LOOK_AGAIN
    waiter: int | None = None

    def see(driver: Any) -> tuple[bool, timedelta | None, int | None]:
        if driver.execute(look, values).fetchone()[0]:
            return True, None, waiter
        listed, may = waiter, False
        if listener is not None:
            # Written down before the last look: who stores a job after it knows that somebody waits.
            lists = (waiter, list(options.queues), list(options.tasks), timeout + poll_interval)
            listed = driver.execute(ANNOUNCE, lists).fetchone()[0]
            may = driver.execute(look, values).fetchone()[0]
        return may, driver.execute(claiming.NEXT_DUE, values).fetchone()[0], listed

    told = False
    try:
        while True:
            heard = listener.count if listener is not None else 0
            values["now"] = read_clock()
            may, due, waiter = run(see)
            left = ends - time.monotonic()
            if may or left <= 0:
                return
            pause = min(left, poll_interval, until_look)
            until_look = poll_interval
            if due is not None:
                pause = min(pause, max(due / timedelta(seconds=1), SHORTEST))
            if values["now"] is not None:
                pause = min(pause, LOOK_AT_CLOCK)
            if listener is None:
                time.sleep(pause)
            else:
                told = listener.wait(heard, pause)
    finally:
        # Who was told has been taken from the list by whoever told.
        if waiter is not None and not told:
            with contextlib.suppress(BackendError):
                run(lambda driver: driver.execute(LEAVE, (waiter,)))
