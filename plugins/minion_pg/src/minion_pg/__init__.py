"""The PostgreSQL backend: ``Minion("postgresql://user@host/database")``."""

from minion_core import Backend, hookimpl
from minion_pg.backend import PgBackend

__all__ = ["PgBackend", "minion_backend"]

SCHEMES = ("postgresql", "postgres")


@hookimpl
def minion_backend(scheme: str) -> type[Backend] | None:
    """Answer the backend for URLs that begin with ``postgresql:`` or ``postgres:``."""
    return PgBackend if scheme in SCHEMES else None
