"""Mutants of the harness: whoever tries to get a PASS without keeping the contract does not."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve

from minion_conformance import Waiver, suite
from minion_conformance.check import Sealed, all_checks
from minion_conformance.checks import model
from minion_conformance.clauses import contract
from minion_conformance.model import MUST_REACH
from minion_conformance.reference import ReferenceBackend, ReferenceHooks
from minion_conformance.render import badge, markdown
from minion_conformance.report import (
    FAIL,
    INCOMPLETE,
    PASS,
    clause_status,
    describe_session,
    judge,
    make_report,
    result_entry,
    suite_version,
    verify,
)
from minion_conformance.session import NotEmpty, Session, Status, Target
from minion_core.records import Enqueued, NewJob

COMMAND = [sys.executable, "-m", "minion_conformance"]


def _passing(**head: Any) -> dict[str, Any]:
    """Make a report in which everything passed, without running it."""
    with Session(Target("reference:harness", waivers=head.pop("waivers", ()))) as session:
        made = {**describe_session(session), **head}
        results = {}
        for check in all_checks().values():
            asked = session.asked(_clause(check.clause), check.capability)
            results[check.id] = {"status": "pass" if asked else "not-asked", "seconds": 0.0}
    return make_report(made, results)


def _clause(id: str) -> Any:
    return contract().clauses[id]


def _pytest(folder: Path, test: str, *options: str, conftest: str = "") -> subprocess.CompletedProcess[str]:
    (folder / "test_it.py").write_text(test)
    (folder / "conftest.py").write_text(conftest)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(folder)]
    return subprocess.run(
        [*command, *options, "test_it.py"], cwd=folder, capture_output=True, text=True, check=False
    )


SUITE = "from minion_conformance import suite\nTestConformance = suite('reference:pytest')\n"
ONLY_THREE = """
def pytest_collection_modifyitems(items):
    items[:] = [item for item in items if 'STAT_02' in item.name][:3]
"""


# -- Verdicts --------------------------------------------------------------------------------------------


def test_a_report_of_passes_is_a_pass_and_adds_up() -> None:
    report = _passing()
    assert (report["verdict"], report["reasons"]) == (PASS, [])
    assert verify(json.loads(json.dumps(report))) == []
    assert "PASS" in markdown(report)
    assert "pass" in badge(report)


def test_declared_and_not_run_is_incomplete() -> None:
    class OverDeclares(ReferenceBackend):
        capabilities = evolve(ReferenceBackend.capabilities, transactional_enqueue=True)

    with Session(Target("reference:over", OverDeclares, ReferenceHooks())) as session:
        head = describe_session(session)
        results = {
            check.id: result_entry(session.run(check))
            for check in all_checks().values()
            if check.clause == "ENQ-08"
        }
    report = make_report(head, results)
    assert report["clauses"]["ENQ-08"]["status"] == "not-run"
    assert report["verdict"] == INCOMPLETE
    assert any(
        "ENQ-08 is NOT-RUN" in reason and "hook 'transaction'" in reason for reason in report["reasons"]
    )


def test_nothing_run_is_incomplete() -> None:
    head = {key: value for key, value in _passing().items() if key not in ("clauses", "verdict", "reasons")}
    report = make_report(head, {})
    assert report["verdict"] == INCOMPLETE
    assert "nothing was run at all" in report["reasons"]


def test_a_clause_without_a_check_is_not_run() -> None:
    assert clause_status({}, None) == "not-run"


@pytest.mark.parametrize(
    ("waiver", "says"),
    [
        (Waiver("REP-01", "not yet", "99"), "has become unnecessary"),
        (Waiver("WAKE-03", "not asked at all", "99"), "has become unnecessary"),
        (Waiver("NO-99", "not yet", "99"), "does not exist"),
        (Waiver("REP-01", " ", "99"), "gives no reason"),
        (Waiver("REP-01", "not yet", "0.0.1"), "was good until 0.0.1"),
        (Waiver("REP-01", "not yet", "soon"), "names no version"),
    ],
)
def test_a_bad_waiver_fails(waiver: Waiver, says: str) -> None:
    report = _passing(waivers=(waiver,))
    assert report["verdict"] == FAIL
    assert any(says in reason for reason in report["reasons"]), report["reasons"]


def test_a_good_waiver_is_told() -> None:
    report = _passing(waivers=(Waiver("REP-01", "known", suite_version()),))
    checks = report["clauses"]["REP-01"]["checks"]
    next(iter(checks.values()))["status"] = "fail"
    report["clauses"]["REP-01"]["status"] = clause_status(checks, Waiver("REP-01", "known", "99"))
    assert report["clauses"]["REP-01"]["status"] == "waived"
    assert judge(report)[0] == PASS
    assert "1 waived" in badge({**report, "verdict": PASS})


def _tampered(report: dict[str, Any], how: str) -> None:
    entry = report["clauses"]["CLAIM-02"]
    first = next(iter(entry["checks"].values()))
    match how:
        case "verdict over a failure":
            first["status"] = entry["status"] = "fail"
        case "status over a failure":
            first["status"] = "fail"
        case "clause left out":
            del report["clauses"]["CLAIM-02"]
        case "check left out":
            entry["checks"].popitem()
        case "asked, said not to be":
            first["status"] = "not-asked"
            for one in entry["checks"].values():
                one["status"] = "not-asked"
            entry["status"] = "not-asked"
        case "declared afterwards":
            report["capabilities"]["wakeup"] = True
        case "another suite":
            report["suite"] = "0.0.0"


@pytest.mark.parametrize(
    "how",
    [
        "verdict over a failure",
        "status over a failure",
        "clause left out",
        "check left out",
        "asked, said not to be",
        "declared afterwards",
        "another suite",
    ],
)
def test_a_report_that_was_changed_does_not_add_up(how: str) -> None:
    report = copy.deepcopy(_passing())
    _tampered(report, how)
    assert verify(report) != []


# -- Sessions --------------------------------------------------------------------------------------------


def test_what_needs_a_broken_basic_clause_is_blocked() -> None:
    class Forgets(ReferenceBackend):
        def enqueue(self, jobs: Any, *, connection: Any = None) -> list[Enqueued]:  # noqa: ARG002
            return [Enqueued(number + 1) for number, _ in enumerate(jobs)]

    with Session(Target("reference:forgets", Forgets, ReferenceHooks())) as session:
        results = [
            session.run(check) for check in all_checks().values() if check.clause[:3] in ("SET", "REP")
        ]
    assert {result.status for result in results} <= {Status.BLOCKED, Status.NOT_ASKED}
    assert "ENQ-01" in results[0].message


def test_a_store_that_holds_something_is_left_alone() -> None:
    with ReferenceBackend("reference:precious") as precious:
        precious.enqueue([NewJob("t")])
        with pytest.raises(NotEmpty, match="not empty"), Session(Target("reference:precious")):
            pass
        assert precious.stats().inactive_jobs == 1


def test_a_skip_inside_a_check_is_a_failure() -> None:
    class Skips(ReferenceBackend):
        def repair(self, *_args: float) -> Any:
            pytest.skip("not today")

    with Session(Target("reference:skips", Skips, ReferenceHooks())) as session:
        result = session.run(all_checks()["REP-01:missing_workers"])
    assert result.status == Status.FAIL
    assert "nothing is skipped" in result.message


def test_a_comparison_that_shows_nothing_is_vacuous(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model, "MUST_REACH", MUST_REACH | {"flew to the moon"})
    with Session(Target("reference:vacuous"), quick=True) as session:
        result = session.run(all_checks()["MODEL-01:beside_the_reference"])
    assert (result.status, result.message) == (Status.FAIL, "VACUOUS: it never came to flew to the moon")


def test_a_failure_tells_clause_history_and_how_to_do_it_again() -> None:
    class NewestFirst(ReferenceBackend):
        def failure_log(self, id: int) -> Any:
            return super().failure_log(id)[::-1]

    with Session(Target("reference:told", NewestFirst, ReferenceHooks())) as session:
        told = session.run(all_checks()["SET-07:oldest_first"]).detail
    assert "The failure log of a job lists its failures oldest first" in told
    assert "backend, clock = replay('reference:told')" in told
    assert "clock.advance(1)" in told
    assert "--only SET-07:oldest_first" in told
    lines = told.partition("to be done again:\n")[2].partition("\n\n")[0]
    exec("\n".join(line.strip() for line in lines.splitlines()), {})


# -- pytest ----------------------------------------------------------------------------------------------


def test_the_class_is_sealed() -> None:
    made: Any = suite("reference:sealed")
    name = next(iter(all_checks().values())).method
    with pytest.raises(Sealed):
        type("Mine", (made,), {})
    with pytest.raises(Sealed):
        setattr(made, name, lambda _self: None)
    with pytest.raises(Sealed):
        delattr(made, name)
    with pytest.raises(Sealed):
        pytest.mark.skip(made)


def test_marks_of_others_do_not_skip(tmp_path: Path) -> None:
    marks = (
        "import pytest\ndef pytest_collection_modifyitems(items):\n"
        "    for item in items:\n"
        "        mark = pytest.mark.skip if 'hours' in item.name else pytest.mark.xfail\n"
        "        item.add_marker(mark(reason='no'))\n"
    )
    done = _pytest(tmp_path, SUITE, "-k", "STAT_02 and (hours or by_the_end)", conftest=marks)
    assert done.returncode == 1, done.stdout
    assert "nothing is skipped in the conformance suite" in done.stdout
    assert "FAIL" in done.stdout


def test_items_that_vanish_are_missed(tmp_path: Path) -> None:
    done = _pytest(tmp_path, SUITE, conftest=ONLY_THREE)
    assert done.returncode == 1, done.stdout
    assert "INCOMPLETE" in done.stdout
    assert "CLAIM-02 is NOT-RUN" in done.stdout


def test_a_part_that_was_asked_for_is_told_as_incomplete(tmp_path: Path) -> None:
    done = _pytest(tmp_path, SUITE, "-k", "STAT_02")
    assert (done.returncode, "INCOMPLETE" in done.stdout) == (0, True), done.stdout
    done = _pytest(tmp_path, SUITE, "-k", "STAT_02", "--conformance-report", "report.json")
    assert done.returncode == 1, done.stdout
    assert json.loads((tmp_path / "report.json").read_text())["verdict"] == INCOMPLETE


def test_a_report_of_nothing_is_a_failure(tmp_path: Path) -> None:
    test = "def test_other():\n    pass\n"
    done = _pytest(tmp_path, test, "--conformance-report", "report.json")
    assert done.returncode == 1, done.stdout
    assert "no test of the conformance suite was run" in done.stdout


def test_other_peoples_runs_are_left_alone(tmp_path: Path) -> None:
    test = (
        "import sys, pytest\n"
        "def test_other():\n    assert 'minion_conformance.session' not in sys.modules\n"
        "@pytest.mark.skip\ndef test_skipped():\n    pass\n"
        "@pytest.mark.xfail\ndef test_expected():\n    assert False\n"
    )
    done = _pytest(tmp_path, test)
    assert done.returncode == 0, done.stdout
    assert "minion" not in done.stdout
    assert "1 passed, 1 skipped, 1 xfailed" in done.stdout


def test_workers_of_xdist_report_to_one_verdict(tmp_path: Path) -> None:
    done = _pytest(tmp_path, SUITE, "-n", "2", conftest=ONLY_THREE)
    assert done.returncode == 1, done.stdout
    assert "INCOMPLETE" in done.stdout


def test_without_its_plugin_it_does_not_run(tmp_path: Path) -> None:
    done = _pytest(tmp_path, SUITE, "-p", "no:minion_conformance", "-k", "STAT_02")
    assert done.returncode == 1, done.stdout
    assert "does not run without its plugin" in done.stdout


# -- The command -----------------------------------------------------------------------------------------


def _command(*args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, *args], capture_output=True, text=True, check=False)


def test_run_writes_what_verify_reads(tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    done = _command("run", "reference:", "--only", "STAT-02", "--report", str(report))
    assert done.returncode == 3, done.stdout + done.stderr
    assert "INCOMPLETE" in done.stdout
    assert _command("verify", str(report)).returncode == 3
    changed = json.loads(report.read_text()) | {"verdict": "PASS"}
    report.write_text(json.dumps(changed))
    done = _command("verify", str(report))
    assert done.returncode == 1
    assert "the verdict is INCOMPLETE, not PASS" in done.stderr


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (("run", "nonsense://x"), "no backend is installed for nonsense://"),
        (("run", "reference:", "--only", "NO-1"), "neither a clause nor a check"),
        (("run", "reference:", "--seed", "x"), "must be a number or 'random'"),
        (("run", "reference:", "--waive", "REP-01"), "must be CLAUSE=REASON@VERSION"),
        (("run", "reference:", "--backend", "no_such:Class"), "must be MODULE:NAME"),
        (("verify", "/nonexistent"), "cannot be read as a report"),
        (("new", "Bad Name"), "must be a scheme"),
    ],
)
def test_mistakes_are_told_in_a_line(args: tuple[str, ...], says: str) -> None:
    done = _command(*args)
    assert done.returncode in (1, 2)
    assert says in done.stderr
    assert "Traceback" not in done.stderr


def test_a_new_folder_fails_clause_by_clause(tmp_path: Path) -> None:
    assert _command("new", "thing", "--into", str(tmp_path)).returncode == 0
    folder = tmp_path / "minion_thing"
    sys.path.insert(0, str(folder / "src"))
    try:
        backend = import_module("minion_thing.backend").ThingBackend
        with Session(Target("thing://localhost", backend)) as session:
            results = [session.run(check) for check in all_checks().values()]
    finally:
        sys.path.remove(str(folder / "src"))
    statuses = {result.status for result in results}
    assert statuses == {Status.PASS, Status.FAIL, Status.BLOCKED, Status.NOT_ASKED, Status.NOT_RUN}
    failed = [result for result in results if result.status == Status.FAIL]
    assert "NotImplementedError" in failed[-1].message
