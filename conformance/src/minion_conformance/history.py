"""What a check did, told as lines of Python that do it again."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from enum import Enum
from typing import Any

import attrs

from minion_conformance.clock import START, Clock
from minion_core.backend import Backend

LONGEST = 160
"""Answers longer than this are cut in a history; what was asked never is, or it could not be done again."""


def shown(value: object) -> str:
    """Write a value as Python would take it, leaving out the fields of records that have their defaults."""
    if isinstance(value, Enum):
        return repr(value.value)
    if isinstance(value, datetime):
        return f"at({(value - START).total_seconds():g})"
    if isinstance(value, list):
        return f"[{', '.join(map(shown, value))}]"
    if isinstance(value, tuple):
        return f"({''.join(f'{shown(item)}, ' for item in value)})"
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{shown(key)}: {shown(item)}' for key, item in value.items())}}}"
    if attrs.has(type(value)):
        return f"{type(value).__name__}({', '.join(_fields(value))})"
    return repr(value)


def _fields(record: Any) -> list[str]:
    told = []
    for known in attrs.fields(type(record)):
        if not known.init:
            continue
        value, default = getattr(record, known.name), known.default
        if isinstance(default, attrs.Factory):  # type: ignore[arg-type]  # a class at run time
            default = default.factory()
        if default is attrs.NOTHING or value != default:
            told.append(f"{known.name}={shown(value)}")
    return told


class History:
    """The calls of a check, in the order in which they were answered."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._seen = clock()
        self._mutex = threading.Lock()
        self.lines: list[str] = []

    def add(self, line: str) -> None:
        """Add a line; if the clock was moved since the last one, say so first."""
        with self._mutex:
            if type(self._clock) is Clock and self._clock.instant != self._seen:
                step = (self._clock.instant - self._seen).total_seconds()
                self._seen = self._clock.instant
                self.lines.append(f"clock.advance({step:g})")
            self.lines.append(line)

    def told(self, most: int = 60) -> str:
        """Tell the last lines."""
        left_out = len(self.lines) - most
        head = [f"# ... {left_out} earlier calls are left out"] if left_out > 0 else []
        return "\n".join(head + self.lines[-most:])


class Recorded:
    """A backend whose calls are written down; stands for the backend itself."""

    def __init__(self, backend: Backend, name: str, history: History) -> None:
        self._backend = backend
        self._name = name
        self._history = history

    @property
    def unrecorded(self) -> Backend:
        """The backend itself."""
        return self._backend

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self._backend, name)
        return self._recorded(name, attribute) if callable(attribute) and name != "clock" else attribute

    def _recorded(self, name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            line = f"{self._name}.{name}({_arguments(args, kwargs)})"
            try:
                answer = method(*args, **kwargs)
            except Exception as error:
                self._history.add(f"{line}  # raises {_cut(f'{type(error).__name__}: {error}')}")
                raise
            self._history.add(line if answer is None else f"{line}  # -> {_cut(shown(answer))}")
            return answer

        return call


def _arguments(args: Sequence[Any], kwargs: Mapping[str, Any]) -> str:
    return ", ".join([*map(shown, args), *(f"{key}={shown(value)}" for key, value in kwargs.items())])


def _cut(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= LONGEST else f"{line[:LONGEST]} ..."
