"""Every clause of the contract, on both servers."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

from minion_conformance import suite
from minion_conformance.servers.mysql import MariaDB, MySQL, MysqlServer
from minion_mysql.conformance import MysqlHooks


class Hooks(MysqlHooks):
    """What only somebody can do who may kill the server."""

    def __init__(self, kind: type[MysqlServer]) -> None:
        self.kind = kind

    @contextmanager
    def outage(self, url: str) -> Iterator[None]:  # noqa: ARG002 - the one that all of them are on
        server = self.kind.shared()
        server.kill()
        try:
            yield
        finally:
            server.resume()


def databases_of(kind: type[MysqlServer]) -> Callable[[], AbstractContextManager[str]]:
    return lambda: kind.shared().database()


TestMariaDB = suite(databases_of(MariaDB), hooks=Hooks(MariaDB))
TestMySQL = suite(databases_of(MySQL), hooks=Hooks(MySQL))
