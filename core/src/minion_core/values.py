"""What a job may be made of: JSON, names, numbers and times, checked before anything is stored (ENQ-04).

Every record checks itself with these when it is made, so that all backends refuse the same values with
the same words, and none of them needs to look again.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, TypeAlias

JsonValue: TypeAlias = "bool | int | float | str | Sequence[JsonValue] | Mapping[str, JsonValue] | None"

Seconds: TypeAlias = "float | timedelta"
"""A length of time: a number of seconds or a ``timedelta``."""

When: TypeAlias = "float | timedelta | datetime"
"""A moment: seconds from now, a ``timedelta`` from now, or an aware ``datetime``."""

INT32_MAX = 2**31 - 1
NAME_MAX = 255
SECONDS_MAX = 1_000 * 366 * 86_400
"""A thousand years, so that now plus any length of time can be written down by every store."""

_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode
_decode = json.JSONDecoder().decode


NESTED_MAX = 500
"""Python reads about twice of that, and less where the stack is deep already."""


def _deeper_than(limit: int, value: Any) -> bool:
    level = [value]
    for _ in range(limit + 1):
        inner = [
            each.values() if isinstance(each, dict) else each
            for each in level
            if isinstance(each, dict | list | tuple)
        ]
        level = [item for items in inner for item in items]
    return bool(level)


def encode_json(value: Any, what: str) -> str:
    """Turn a value into JSON text that every backend can keep.

    Args:
        value: What JSON can hold: no NaN, no infinity, no bytes, no objects of other classes.
        what: What to call it in the error, for instance ``args``.

    Raises:
        TypeError: The value, or something within it, is not of a JSON type.
        ValueError: It holds NaN, infinity, a NUL character, a lone surrogate, or itself, or is nested more
            than 500 deep.
    """
    try:
        text = _encode(value)
    except TypeError as error:
        raise TypeError(f"{what} must be what JSON can hold: {error}") from None
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{what} must be what JSON can hold: {error}") from None
    if text.count("[") + text.count("{") > NESTED_MAX and _deeper_than(NESTED_MAX, value):
        raise ValueError(f"{what} must be what JSON can hold: it is nested more than {NESTED_MAX} deep")
    if not text.isascii():
        _refuse_surrogates(text, what)
    # An escaped backslash followed by "u0000" looks the same to a plain search, hence the second look.
    if "\\u0000" in text and "\\u0000" in text.replace("\\\\", ""):
        raise ValueError(f"{what} must not contain NUL characters")
    return text


def decode_json(text: str) -> Any:
    """Turn JSON text back into a value."""
    return _decode(text)


def check_name(value: object, what: str) -> str:
    """Check the name of a task, queue, lock, schedule, key or coalesce value.

    Raises:
        TypeError: It is not text.
        ValueError: It is empty, longer than 255 characters, or holds NUL or a lone surrogate.
    """
    if not isinstance(value, str):
        raise TypeError(f"{what} must be text, not {type(value).__name__}")
    if not 0 < len(value) <= NAME_MAX:
        raise ValueError(f"{what} must have 1 to {NAME_MAX} characters, not {len(value)}")
    return check_text(value, what)


def check_text(value: object, what: str) -> str:
    """Check text of any length.

    Raises:
        TypeError: It is not text.
        ValueError: It holds NUL or a lone surrogate.
    """
    if not isinstance(value, str):
        raise TypeError(f"{what} must be text, not {type(value).__name__}")
    if "\x00" in value:
        raise ValueError(f"{what} must not contain NUL characters")
    if not value.isascii():
        _refuse_surrogates(value, what)
    return value


def _refuse_surrogates(text: str, what: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError(f"{what} must not contain lone surrogates") from None


def check_integer(value: object, what: str, least: int = -INT32_MAX - 1, most: int = INT32_MAX) -> int:
    """Check a whole number and its bounds, by default those of signed 32 bit.

    Raises:
        TypeError: It is not an ``int`` (``True`` and ``False`` are not).
        ValueError: It is out of bounds.
    """
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{what} must be a whole number, not {type(value).__name__}")
    if not least <= value <= most:
        raise ValueError(f"{what} must be between {least} and {most}, not {value}")
    return value


def check_id(value: object, what: str) -> int:
    """Check the id of a job, worker or schedule: a positive integer of at most 63 bits."""
    return check_integer(value, what, 1, 2**63 - 1)


def seconds(value: Seconds, what: str) -> float:
    """Read a length of time as seconds.

    Raises:
        TypeError: It is neither a number nor a ``timedelta``.
        ValueError: It is NaN, infinite, or longer than a thousand years.
    """
    if isinstance(value, timedelta):
        value = value.total_seconds()
    elif not isinstance(value, (int, float)) or isinstance(value, bool):
        raise TypeError(f"{what} must be seconds or a timedelta, not {type(value).__name__}")
    if math.isnan(value) or abs(value) > SECONDS_MAX:
        raise ValueError(f"{what} must be at most {SECONDS_MAX} seconds (a thousand years), not {value}")
    return float(value)


def positive_seconds(value: Seconds | None, what: str) -> float | None:
    """Read an optional length of time that must be above 0."""
    if value is None:
        return None
    number = seconds(value, what)
    if number <= 0:
        raise ValueError(f"{what} must be above 0 seconds, not {number:g}")
    return number


def moment(value: When, what: str) -> float | datetime:
    """Read a moment: seconds from now as a number, or an aware ``datetime`` in UTC.

    Raises:
        TypeError: It is a naive ``datetime``, or nothing that names a moment.
        ValueError: It is further away than a thousand years.
    """
    if not isinstance(value, datetime):
        return seconds(value, what)
    if value.tzinfo is None or value.utcoffset() is None:
        raise TypeError(f"{what} must be an aware datetime (with a time zone), not the naive {value}")
    try:
        return value.astimezone(UTC)
    except OverflowError:
        raise ValueError(f"{what} is too far away: {value}") from None


def check_json_array(value: object, what: str) -> Sequence[Any]:
    """Check that a value will become a JSON array: a list, a tuple, or another sequence but text."""
    if isinstance(value, (list, tuple)):
        return value
    if isinstance(value, Sequence) and not isinstance(value, (str, bytes, bytearray, memoryview)):
        return list(value)
    raise TypeError(f"{what} must be a list or a tuple, not {type(value).__name__}")


def check_json_object(value: object, what: str) -> Mapping[str, Any]:
    """Check that a value will become a JSON object: a mapping whose keys are text."""
    if not isinstance(value, Mapping):
        raise TypeError(f"{what} must be a mapping, not {type(value).__name__}")
    for key in value:
        if not isinstance(key, str):
            raise TypeError(f"the keys of {what} must be text, not {type(key).__name__}")
    return value if isinstance(value, dict) else dict(value)
