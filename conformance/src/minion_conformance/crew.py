"""Processes that open the same URL: forked from one clean process that has imported the backend already."""

from __future__ import annotations

import multiprocessing
import os
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any, Self

from minion_conformance.check import Violation
from minion_core.backend import Backend

Work = Callable[..., Any]
"""A function of a module, called in a process of the crew with an opened backend, and further arguments."""


class Hand:
    """One process with its own client of the store; does what it is told, one thing at a time."""

    def __init__(self, backend: type[Backend], url: str) -> None:
        """Start the process; its client is opened with the store's own clock."""
        context = multiprocessing.get_context("forkserver")
        self._pipe, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs, backend, url), daemon=True)
        self.process.start()
        theirs.close()

    def tell(self, work: Work, *args: Any) -> None:
        """Have something done, and do not wait for it."""
        self._pipe.send((work, args))

    def answer(self, patience: float = 60.0) -> Any:
        """Wait for what became of it.

        Raises:
            Violation: It raised, or did not come back.
            EOFError: The process has ended.
        """
        if not self._pipe.poll(patience):
            raise Violation(f"every call comes back: one in another process did not within {patience:g} s")
        done, answer = self._pipe.recv()
        if not done:
            raise Violation(f"no call in another process raises: {answer}")
        return answer

    def kill(self) -> None:
        """End the process as ``kill -9`` does; it may have ended already."""
        self.process.kill()
        self.process.join()
        with suppress(OSError):
            self._pipe.close()


class Crew:
    """Hands that are kept from check to check, and replaced when they were killed."""

    def __init__(self, backend: type[Backend], url: str) -> None:
        """Prepare; processes are started when they are first asked for."""
        self._backend = backend
        self._url = url
        self._hands: list[Hand] = []
        multiprocessing.get_context("forkserver").set_forkserver_preload([__name__, backend.__module__])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.dismiss()

    def dismiss(self) -> None:
        """End all processes; new ones are started when they are asked for."""
        for hand in self._hands:
            hand.kill()
        self._hands.clear()

    def hand(self) -> Hand:
        """Start a hand for one purpose; whoever asked for it ends it."""
        return Hand(self._backend, self._url)

    def hands(self, number: int) -> Sequence[Hand]:
        """Answer so many living hands."""
        self._hands = [hand for hand in self._hands if hand.process.is_alive()]
        while len(self._hands) < number:
            self._hands.append(self.hand())
        return self._hands[:number]

    def together(self, work: Work, each: Sequence[tuple[Any, ...]]) -> list[Any]:
        """Have the same thing done at once by as many processes as there are sets of arguments."""
        hands = self.hands(len(each))
        for hand in hands:
            hand.tell(_ready)
        for hand in hands:
            hand.answer()
        for hand, args in zip(hands, each, strict=True):
            hand.tell(work, *args)
        return [hand.answer() for hand in hands]


def _ready(_backend: Backend) -> int:
    return os.getpid()


def _serve(pipe: Connection, backend: type[Backend], url: str) -> None:
    with backend(url) as opened:
        while True:
            try:
                work, args = pipe.recv()
            except EOFError:
                return
            try:
                answer = True, work(opened, *args)
            except Exception as error:  # noqa: BLE001, it is told to whoever asked
                answer = False, f"{type(error).__name__}: {error}\n{traceback.format_exc(limit=-4)}"
            pipe.send(answer)
