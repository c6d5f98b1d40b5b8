"""What the options take: JSON, and lengths of time."""

from __future__ import annotations

import json
import re
from typing import Any

import click

COUNT = click.IntRange(0)
POSITIVE = click.IntRange(1)

_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_DURATION = re.compile(r"(\d+(?:\.\d+)?|\.\d+)([smhdw]?)", re.ASCII)


def array(text: str) -> list[Any]:
    """Read a JSON array."""
    return _json(text, """an array like '[23, "bar"]'""", list)  # type: ignore[no-any-return]


def mapping(text: str) -> dict[str, Any]:
    """Read a JSON object."""
    return _json(text, """an object like '{"width": 300}'""", dict)  # type: ignore[no-any-return]


def notes(text: str) -> list[Any] | dict[str, Any]:
    """Read a JSON object of notes, or an array of their names."""
    wanted = """an object like '{"author": "me"}', or an array like '["author"]'"""
    return _json(text, wanted, dict, list)  # type: ignore[no-any-return]


def duration(text: str) -> float:
    """Read a length of time: seconds as in Minion (``90``, ``0.5``), or ``10m``, ``2h``, ``3d``, ``1w``."""
    found = _DURATION.fullmatch(text.strip())
    if found is None:
        raise click.BadParameter(f"{text!r} is no length of time; say seconds, or 10m, 2h, 3d, 1w")
    return float(found[1]) * _UNITS[found[2]]


def limits(_context: click.Context, _parameter: click.Parameter, given: tuple[str, ...]) -> dict[str, int]:
    """Read limits of tasks: ``resize=2``."""
    found: dict[str, int] = {}
    for text in given:
        name, _, number = text.rpartition("=")
        if not name or not number.isdecimal():
            raise click.BadParameter(f"{text!r} is no limit of a task; say for instance resize=2")
        found[name] = int(number)
    return found


def _json(text: str, wanted: str, *kinds: type) -> Any:
    try:
        # Python's reader takes NaN and its like, which are not JSON.
        value = json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise click.BadParameter(f"not JSON ({error}); wanted is {wanted}, quoted for the shell") from None
    if not isinstance(value, kinds):
        raise click.BadParameter(f"wanted is {wanted}")
    return value


def _refuse(constant: str) -> None:
    raise ValueError(f"JSON has no {constant}")
