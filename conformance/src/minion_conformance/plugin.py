"""The pytest plugin of the conformance suite: it touches only the suite's own items."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:  # nothing of the suite is imported in other people's test runs
    from minion_conformance.check import Check
    from minion_conformance.session import Session, Target

PROPERTY = "minion_conformance"


class Sessions:
    """The stores under test in this process, opened at first use."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._open: dict[int, tuple[Session, dict[str, Any]]] = {}
        self._closing = ExitStack()

    def run(self, target: Target, check: Check) -> tuple[Session, dict[str, Any]]:
        """Run a check, and answer its session and what its test's report shall carry."""
        from minion_conformance.report import describe_session, result_entry  # noqa: PLC0415

        if id(target) not in self._open:
            session = self._closing.enter_context(self._session(target))
            self._open[id(target)] = session, describe_session(session)
        session, head = self._open[id(target)]
        result = session.run(check)
        return session, {"head": head, "check": check.id, "result": result_entry(result)}

    def _session(self, target: Target) -> Session:
        from minion_conformance.session import Session  # noqa: PLC0415

        option = self._config.getoption
        return Session(target, quick=option("conformance_quick"), seed=option("conformance_seed"))

    def close(self) -> None:
        """Close all stores."""
        self._closing.close()


class Gathered:
    """What the reports of the suite's tests carried, by suite; also those of workers of pytest-xdist."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._heads: dict[str, dict[str, Any]] = {}
        self._results: dict[str, dict[str, dict[str, Any]]] = {}
        self._reports: dict[str, dict[str, Any]] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Take what a test's report carries."""
        for name, entry in report.user_properties:
            if name != PROPERTY or not isinstance(entry, dict):
                continue
            suite = report.nodeid.rpartition("::")[0]
            self._heads.setdefault(suite, entry["head"])
            result = dict(entry["result"])
            if report.failed and result["status"] in ("pass", "not-asked"):
                result |= {"status": "fail", "message": str(report.longrepr)}
            known = self._results.setdefault(suite, {})
            if known.get(entry["check"], {}).get("status") != "fail":
                known[entry["check"]] = result

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Judge, and let the run fail if the verdict is not PASS."""
        wanted = self._config.getoption("conformance_report")
        if not self._heads:
            if wanted:
                self._fail(session)
            return
        from minion_conformance.report import PASS, make_report, write_report  # noqa: PLC0415

        for number, (suite, head) in enumerate(self._heads.items()):
            report = self._reports[suite] = make_report(head, self._results[suite])
            if wanted:
                write_report(
                    report, wanted if not number else wanted.with_stem(f"{wanted.stem}-{number + 1}")
                )
            if report["verdict"] != PASS and (wanted or not self._narrowed()):
                self._fail(session)

    def _fail(self, session: pytest.Session) -> None:
        if session.exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def _narrowed(self) -> bool:
        """Tell whether whoever runs this asked for a part of the tests only."""
        names = ("keyword", "markexpr", "deselect", "lf", "maxfail", "stepwise")
        chosen = any(self._config.getoption(name, None) for name in names)
        return chosen or any("::" in argument for argument in self._config.args)

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        """Say the verdict of each suite, and its reasons."""
        if not self._reports:
            if self._config.getoption("conformance_report"):
                terminalreporter.section("minion conformance", red=True)
                terminalreporter.line("a report was asked for, and no test of the conformance suite was run")
            return
        from minion_conformance.render import one_line  # noqa: PLC0415

        terminalreporter.section("minion conformance")
        for suite, report in self._reports.items():
            terminalreporter.line(f"{suite}: {one_line(report)}", bold=True, red=report["verdict"] != "PASS")
            for reason in report["reasons"][:20]:
                terminalreporter.line(f"  - {reason.splitlines()[0]}")


_sessions = pytest.StashKey[Sessions]()


def sessions_of(config: pytest.Config) -> Sessions:
    """Answer the stores under test in this process.

    Raises:
        pytest.UsageError: The plugin was switched off.
    """
    found = config.stash.get(_sessions, None)
    if found is None:
        raise pytest.UsageError(
            "the suite does not run without its plugin: leave out -p no:minion_conformance"
        )
    return found


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options of the suite."""
    group = parser.getgroup("minion-conformance", "conformance of backends of the minion job queue")
    group.addoption("--conformance-report", metavar="FILE", type=Path, help="write the report (JSON) to FILE")
    group.addoption("--conformance-quick", action="store_true", help="fewer rounds where chance decides")
    group.addoption("--conformance-seed", type=int, default=0, metavar="N", help="what chance is made from")


def pytest_configure(config: pytest.Config) -> None:
    """Prepare; a worker of pytest-xdist gathers nothing, its reports go to the process that started it."""
    config.stash[_sessions] = Sessions(config)
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(Gathered(config), "minion_conformance_gathered")


def pytest_unconfigure(config: pytest.Config) -> None:
    """Close all stores."""
    found = config.stash.get(_sessions, None)
    if found is not None:
        found.close()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, Any, Any]:
    """Fail a test of ours that somebody skipped, or expects to fail."""
    report = yield
    if not hasattr(getattr(item, "cls", None), "conformance_target"):
        return report
    if report.skipped or hasattr(report, "wasxfail"):
        told = getattr(report, "wasxfail", None) or report.longrepr
        if hasattr(report, "wasxfail"):
            del report.wasxfail
        report.outcome = "failed"
        report.longrepr = f"nothing is skipped in the conformance suite; waive a clause instead ({told})"
    return report
