"""Messages between the processes of one worker: a length, then a value that marshal can write.

Marshal is an order of magnitude faster than JSON for what is sent here, and both ends are the same
interpreter. Nothing of it comes from outside the worker.
"""

from __future__ import annotations

import logging
import marshal
import selectors
import socket
import struct
from collections.abc import Callable
from typing import Any

logger = logging.getLogger(__name__)

_LENGTH = struct.Struct("<I")
_READ = 262_144


def pack(message: Any) -> bytes:
    """Write a message.

    Raises:
        ValueError: It is nested too deeply, or longer than 4 GB.
    """
    body = marshal.dumps(message)
    if len(body) >= 2**32:
        raise ValueError("the message is longer than 4 GB")
    return _LENGTH.pack(len(body)) + body


class Reader:
    """Cuts what arrives into messages."""

    def __init__(self) -> None:
        self._pending = bytearray()

    def feed(self, data: bytes) -> list[Any]:
        """Take bytes in, answer the messages that are complete."""
        pending = self._pending
        pending += data
        messages = []
        start = 0
        while len(pending) - start >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(pending, start)
            end = start + _LENGTH.size + length
            if len(pending) < end:
                break
            messages.append(marshal.loads(memoryview(pending)[start + _LENGTH.size : end]))  # noqa: S302
            start = end
        if start:
            del pending[:start]
        return messages


class Channel:
    """One end of a connection that never blocks: the main loop's."""

    def __init__(
        self,
        sock: socket.socket,
        selector: selectors.BaseSelector,
        on_message: Callable[[Any], None],
        on_end: Callable[[], None],
    ) -> None:
        """Register with the selector.

        Args:
            sock: A connected socket.
            selector: The main loop's.
            on_message: Called with each message that arrives.
            on_end: Called once when the other end has closed.
        """
        sock.setblocking(False)
        self._sock = sock
        self._selector = selector
        self._on_message = on_message
        self._on_end = on_end
        self._reader = Reader()
        self._unsent = bytearray()
        self.open = True
        selector.register(sock, selectors.EVENT_READ, self._ready)

    def send(self, data: bytes) -> None:
        """Send what ``pack`` made, now or as soon as the other end takes it."""
        if not self.open:
            return
        self._unsent += data
        self._flush()

    def _ready(self) -> None:
        if self._unsent:
            self._flush()
        self.drain(once=True)

    def _flush(self) -> None:
        waiting = bool(self._unsent)
        try:
            while self._unsent:
                del self._unsent[: self._sock.send(self._unsent)]
            waiting = False
        except BlockingIOError:
            pass
        except OSError:
            self._unsent.clear()  # the other end is gone: reading will say so
            waiting = False
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if waiting else 0)
        if self._selector.get_key(self._sock).events != events:
            self._selector.modify(self._sock, events, self._ready)

    def drain(self, *, once: bool = False) -> None:
        """Handle what has arrived: all of it, or with ``once`` what one read gives."""
        while self.open:
            try:
                data = self._sock.recv(_READ)
            except BlockingIOError:
                return
            except OSError:
                data = b""
            try:
                messages = self._reader.feed(data)
            except (ValueError, EOFError, TypeError):
                logger.exception("What arrived is no message: the connection is closed")
                data, messages = b"", []
            if not data:
                self.close()
                self._on_end()
                return
            for message in messages:
                self._on_message(message)
            if once and len(data) < _READ:
                return

    def close(self) -> None:
        """Close it; the other end will see that."""
        if self.open:
            self.open = False
            self._selector.unregister(self._sock)
            self._sock.close()
