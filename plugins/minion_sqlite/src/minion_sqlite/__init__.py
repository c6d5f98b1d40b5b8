"""The SQLite backend: ``Minion("sqlite:///jobs.db")``."""

from minion_core import Backend, hookimpl
from minion_sqlite.backend import SqliteBackend

__all__ = ["SqliteBackend", "minion_backend"]


@hookimpl
def minion_backend(scheme: str) -> type[Backend] | None:
    """Answer the backend for URLs that begin with ``sqlite:``."""
    return SqliteBackend if scheme == "sqlite" else None
