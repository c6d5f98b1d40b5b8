"""The MySQL and MariaDB backend: ``Minion("mysql://user:password@host/database")``."""

from minion_core import Backend, hookimpl
from minion_mysql.backend import MysqlBackend

__all__ = ["MysqlBackend", "minion_backend"]


@hookimpl
def minion_backend(scheme: str) -> type[Backend] | None:
    """Answer the backend for URLs that begin with ``mysql:`` or ``mariadb:``."""
    return MysqlBackend if scheme in ("mysql", "mariadb") else None
