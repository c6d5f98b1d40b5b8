"""Real servers, MariaDB and MySQL; where one cannot be had, a loud line, and a failure in CI."""

from collections.abc import Iterator

import pytest

from minion_conformance.servers.mysql import MariaDB, MySQL, MysqlServer
from minion_conformance.servers.server import Missing, not_tested
from minion_mysql import MysqlBackend

KINDS = {"mariadb": MariaDB, "mysql": MySQL}
missing: dict[str, str] = {}


@pytest.fixture(params=list(KINDS))
def server(request: pytest.FixtureRequest) -> MysqlServer:
    kind: type[MysqlServer] = KINDS[request.param]
    try:
        return kind.shared()
    except Missing as error:
        missing[request.param] = f"set {kind.variable}, or {error}"
        not_tested(f"{kind.title}: {missing[request.param]}")


@pytest.fixture
def url(server: MysqlServer) -> Iterator[str]:
    with server.database() as made:
        yield made


@pytest.fixture
def backend(url: str) -> Iterator[MysqlBackend]:
    with MysqlBackend(url) as opened:
        yield opened


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for kind, what in missing.items():
        terminalreporter.write_line(f"NOT TESTED ON {kind.upper()}: {what}", red=True, bold=True)
