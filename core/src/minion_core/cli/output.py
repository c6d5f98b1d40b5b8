"""What the commands print: tables and records for people, JSON for programs.

On a terminal a table has colours and fits its width, if need be by cutting what may be long: arguments and
summaries, never names and ids. Anywhere else it is plain text, so that ``minion job | grep`` finds it.
``--json`` prints the records of ``minion_core.records`` by field: times in ISO 8601, lengths in seconds.
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

from minion_core.values import NESTED_MAX

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import Console
    from rich.text import Text

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
        shrinks: Whether its values may be cut; names and ids never are.
        styles: Colours by value.
    """

    heading: str
    right: bool = False
    shrinks: bool = False
    styles: Mapping[str, str] = attrs.field(factory=dict)


GAP = "  "
LEAST, MOST = 10, 120
"""How narrow a column that can be cut may get on a terminal, and how wide it may be anywhere."""


def _shrink(columns: Sequence[Column], widths: list[int], available: int | None) -> None:
    """Cut the columns that can be to what is left of the terminal's width; names and ids stay whole."""
    widths[:] = [
        min(width, MOST) if column.shrinks else width for column, width in zip(columns, widths, strict=True)
    ]
    if available is None:
        return
    over = sum(widths) + len(GAP) * (len(widths) - 1) - available
    for index, column in enumerate(columns):
        if column.shrinks and over > 0:
            cut = min(over, max(0, widths[index] - LEAST))
            widths[index] -= cut
            over -= cut


class Output:
    """Where results go: standard output, in the form asked for; remarks go to standard error.

    Args:
        as_json: Whether programs are reading.
    """

    def __init__(self, *, as_json: bool = False) -> None:
        self.as_json = as_json
        if as_json:
            # Values may be nested 500 deep, and each level costs the encoder that indents several calls.
            sys.setrecursionlimit(max(sys.getrecursionlimit(), 10 * NESTED_MAX))

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
            return
        from rich.cells import cell_len, set_cell_size  # noqa: PLC0415 - see console
        from rich.text import Text  # noqa: PLC0415

        headings = [printable(column.heading.upper()) for column in columns]
        widths = [max(map(cell_len, texts)) for texts in zip(headings, *cells, strict=True)]
        _shrink(columns, widths, self.console.width if self.console.is_terminal else None)
        for number, row in enumerate([headings, *cells]):
            line = Text()
            for column, value, width in zip(columns, row, widths, strict=True):
                text = value if cell_len(value) <= width else f"{set_cell_size(value, width - 1)}…"
                padding = " " * (width - cell_len(text))
                style = column.styles.get(value, "") if number else "bold"
                line.append(f"{padding}{text}" if column.right else f"{text}{padding}", style).append(GAP)
            line.rstrip()
            self._print(line)

    def _print(self, line: Text) -> None:
        # Rich would break a long line anywhere; the terminal breaks it so that it can be copied whole.
        if self.console.is_terminal:
            self.console.print(line, soft_wrap=True)
        else:
            print(line.plain)  # noqa: T201

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
        from rich.text import Text  # noqa: PLC0415 - see console

        line = Text.assemble((name.ljust(width), "bold"), (value, STATE_STYLES.get(value, "")))
        line.rstrip()
        self._print(line)

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
