"""How a worker and its performers write their log: plain lines, lines below a status line, or JSON."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime

PLAIN = "%(asctime)s %(levelname)s %(message)s"

BESIDE_STATUS = f"\r\x1b[K{PLAIN}"
"""Wipes the status line of a terminal first; who draws that one draws it again."""

JSON = "json"
"""Stands for ``JsonFormatter`` where a format is text."""


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, logger, message, pid, and the traceback if there is one."""

    def format(self, record: logging.LogRecord) -> str:
        """Write a record as JSON."""
        told = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "pid": record.process,
            "message": record.getMessage(),
        }
        if record.exc_info:
            told["traceback"] = self.formatException(record.exc_info)
        return json.dumps(told, ensure_ascii=False)


def formatter(text: str) -> logging.Formatter:
    """Answer the formatter of a format."""
    return JsonFormatter() if text == JSON else logging.Formatter(text)


def set_up(level: int | str, text: str) -> None:
    """Log to standard error in this format from now on, unless somebody has set up handlers."""
    logging.basicConfig(level=level)
    root = logging.getLogger()
    root.setLevel(level)
    for handler in root.handlers:
        handler.setFormatter(formatter(text))


def format_in_use() -> str:
    """Answer the format of the root logger, for another process to log alike."""
    for handler in logging.getLogger().handlers:
        if isinstance(handler.formatter, JsonFormatter):
            return JSON
        if handler.formatter is not None and handler.formatter._fmt:  # noqa: SLF001
            return handler.formatter._fmt  # noqa: SLF001
    return logging.BASIC_FORMAT
