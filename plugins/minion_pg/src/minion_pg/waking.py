"""Waking on PostgreSQL: one LISTEN connection a process, read by a thread of its own as soon as it speaks."""

from __future__ import annotations

import logging
import os
import select
import threading
import time
from collections.abc import Callable
from typing import Any

import psycopg

from minion_pg.connecting import read_in

logger = logging.getLogger(__name__)

CHANNEL = "minion.job"
"""Minion's own: Perl's workers listen to it too."""

LISTEN = f'LISTEN "{CHANNEL}"'

RETRY_EVERY = 1.0


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
                select.select([self._wake_read], [], [], RETRY_EVERY)

    def _read(self, connection: psycopg.Connection[Any]) -> None:
        while not self._closed:
            select.select([connection.pgconn.socket, self._wake_read], [], [])
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


def sleep(listener: Listener | None, since: int, seconds: float) -> None:
    """Sleep for so long, or until something was heard."""
    if listener is None:
        time.sleep(max(0.0, seconds))
    else:
        listener.wait(since, max(0.0, seconds))
