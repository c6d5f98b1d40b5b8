"""What the commands print: tables and records for people, JSON for programs.

On a terminal a table fits its width and has colours. Anywhere else it is plain text in columns, each value
whole, so that ``minion job | grep`` finds what is there. ``--json`` prints the records of
``minion_core.records`` field by field: times in ISO 8601, lengths of time in seconds.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any

import attrs

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import Console

STATE_STYLES = {"inactive": "cyan", "active": "yellow", "failed": "red", "finished": "green"}

# What a terminal would obey instead of show: names and results come from anybody who can enqueue.
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")


def printable(text: str, *, lines: bool = False) -> str:
    """Make control characters visible, so that no job's text can write its own screen.

    Args:
        text: Anything.
        lines: Let line breaks and tabs through.
    """
    text = _CONTROLS.sub(lambda match: f"\\x{ord(match[0]):02x}", text)
    return text if lines else text.replace("\n", "\\n").replace("\t", "\\t")


def plain(value: Any) -> Any:
    """Turn a record, or what holds records, into what JSON can hold, under the records' own field names."""
    if attrs.has(type(value)):
        return {
            item.name: plain(getattr(value, item.name)) for item in attrs.fields(type(value)) if item.init
        }
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return value


def compact(value: Any) -> str:
    """Show a JSON value on one line, as it would be typed."""
    return printable(json.dumps(value, ensure_ascii=False))


def instant(value: datetime | None) -> str:
    """Show a moment in UTC, to the second."""
    return "" if value is None else value.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def length(seconds: float) -> str:
    """Show a length of time in its one or two largest units, for instance ``3h 5m``."""
    if seconds < 1:
        return f"{seconds:.3g}s"
    rest = int(seconds)
    parts: list[str] = []
    for unit, size in (("d", 86_400), ("h", 3600), ("m", 60), ("s", 1)):
        count, rest = divmod(rest, size)
        if count or parts:
            parts.append(f"{count}{unit}" if count else "")
    return " ".join(part for part in parts[:2] if part)


def distance(value: datetime | None, now: datetime) -> str:
    """Show a moment and how far it is from now."""
    if value is None:
        return ""
    gap = value - now
    if abs(gap) < timedelta(seconds=1):
        return f"{instant(value)} (now)"
    words = (
        f"in {length(gap.total_seconds())}" if gap > timedelta() else f"{length(-gap.total_seconds())} ago"
    )
    return f"{instant(value)} ({words})"


@attrs.frozen
class Column:
    """A column of a table.

    Args:
        heading: What stands above it.
        right: Whether its values are numbers, aligned to the right.
        shrinks: Whether it may be cut to the terminal's width; names and ids never are.
        styles: Colours by value.
    """

    heading: str
    right: bool = False
    shrinks: bool = False
    styles: Mapping[str, str] = attrs.field(factory=dict)


class Output:
    """Where results go: standard output, in the form asked for; remarks go to standard error.

    Args:
        as_json: Whether programs are reading.
    """

    def __init__(self, *, as_json: bool = False) -> None:
        self.as_json = as_json

    @cached_property
    def console(self) -> Console:
        """Write to the terminal through this; made late, since importing rich takes its time."""
        from rich.console import Console  # noqa: PLC0415 - see above

        return Console(highlight=False, markup=False, emoji=False)

    def json(self, value: Any) -> None:
        """Print a value as JSON."""
        unicode = (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"
        print(json.dumps(plain(value), ensure_ascii=not unicode, indent=2))  # noqa: T201

    def line(self, text: str) -> None:
        """Print one line of result."""
        print(printable(text))  # noqa: T201

    def remark(self, text: str) -> None:
        """Say what happened, to people only."""
        if not self.as_json:
            print(printable(text), file=sys.stderr)  # noqa: T201

    def table(self, columns: Sequence[Column], rows: Iterable[Sequence[str]], *, empty: str) -> None:
        """Print rows under headings.

        Args:
            columns: What the values are.
            rows: One text for each column.
            empty: The remark to make when there are no rows.
        """
        cells = [[printable(value) for value in row] for row in rows]
        if not cells:
            self.remark(empty)
        elif self.console.is_terminal:
            self._drawn(columns, cells)
        else:
            self._plain(columns, cells)

    def _drawn(self, columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> None:
        from rich import box  # noqa: PLC0415 - see console
        from rich.table import Table  # noqa: PLC0415
        from rich.text import Text  # noqa: PLC0415

        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
        for column in columns:
            table.add_column(
                column.heading,
                justify="right" if column.right else "left",
                no_wrap=True,
                overflow="ellipsis" if column.shrinks else "fold",
                min_width=None if column.shrinks else max(len(row[len(table.columns)]) for row in rows),
            )
        for row in rows:
            pairs = zip(columns, row, strict=True)
            table.add_row(*(Text(value, style=column.styles.get(value, "")) for column, value in pairs))
        self.console.print(table)

    def _plain(self, columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> None:
        everything = [[column.heading.upper() for column in columns], *rows]
        widths = [max(len(row[index]) for row in everything) for index in range(len(columns))]
        for row in everything:
            texts = (
                value.rjust(width) if column.right else value.ljust(width)
                for column, value, width in zip(columns, row, widths, strict=True)
            )
            print("  ".join(texts).rstrip())  # noqa: T201

    def fields(self, pairs: Iterable[tuple[str, str]]) -> None:
        """Print names and values, one pair a line; a value of several lines stands below its name."""
        pairs = [(name, printable(value, lines=True)) for name, value in pairs]
        width = max(len(name) for name, _ in pairs) + 2
        for name, value in pairs:
            if "\n" in value:
                text = "\n".join(f"  {line}" for line in value.rstrip("\n").splitlines())
                self._field(name, f"\n{text}", 0)
            else:
                self._field(name, value, width)

    def _field(self, name: str, value: str, width: int) -> None:
        if self.console.is_terminal:
            from rich.text import Text  # noqa: PLC0415 - see console

            text = Text.assemble((name.ljust(width), "bold"), (value, STATE_STYLES.get(value, "")))
            self.console.print(text, soft_wrap=True)
        else:
            print(f"{name.ljust(width)}{value}".rstrip())  # noqa: T201

    @contextmanager
    def progress(self, what: str, total: int | None = None) -> Iterator[Callable[[int], None]]:
        """Show how far a long operation has come, on standard error and only if that is a terminal.

        Yields:
            What to call with the number of steps just done.
        """
        from rich.console import Console  # noqa: PLC0415 - see console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn  # noqa: PLC0415

        console = Console(stderr=True)
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
        shown = console.is_terminal and not self.as_json
        with Progress(*columns, console=console, transient=True, disable=not shown) as progress:
            task = progress.add_task(what, total=total)
            yield lambda steps: progress.advance(task, steps)
