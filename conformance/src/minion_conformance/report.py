"""The report: one JSON file that says what was run, what came of it, and the verdict that follows."""

from __future__ import annotations

import json
import platform
import sys
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from attrs import asdict
from packaging.version import InvalidVersion, Version

from minion_conformance.check import all_checks
from minion_conformance.clauses import contract
from minion_conformance.session import Result, Session, Status, Waiver

PASS, FAIL, INCOMPLETE = "PASS", "FAIL", "INCOMPLETE"
"""The verdicts. INCOMPLETE: nothing is known to be broken, but something was not tried."""

FORMAT = 1
"""The version of the file's own form."""

_WORST_FIRST = (Status.FAIL, Status.BLOCKED, Status.NOT_RUN, Status.PASS, Status.NOT_ASKED)


def suite_version() -> str:
    """Answer the version of this suite."""
    return version("minion-conformance")


def describe_session(session: Session) -> dict[str, Any]:
    """Tell what was tested and with what, for the head of a report."""
    return {
        "format": FORMAT,
        "suite": suite_version(),
        "contract": contract().version,
        "core": version("minion-core"),
        "python": platform.python_version(),
        "platform": f"{sys.platform} {platform.machine()}",
        "backend": f"{session.backend.__module__}:{session.backend.__qualname__}",
        "store": session.store,
        "capabilities": asdict(session.backend.capabilities),
        "server": session.server,
        "seed": session.seed,
        "quick": session.quick,
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "waivers": [asdict(waiver) for waiver in session.target.waivers],
    }


def result_entry(result: Result) -> dict[str, Any]:
    """Write a result down as it stands in a report."""
    entry: dict[str, Any] = {"status": str(result.status), "seconds": result.seconds}
    if result.message:
        entry["message"] = result.message
    if result.facts:
        entry["facts"] = result.facts
    return entry


def make_report(head: Mapping[str, Any], results: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Put a report together.

    Args:
        head: What ``describe_session`` told.
        results: The entries of ``result_entry`` by the id of the check.
    """
    clauses: dict[str, Any] = {}
    for clause in contract().clauses.values():
        mine = {check.id: check for check in all_checks().values() if check.clause == clause.id}
        checks = {
            check.name: dict(results.get(id, {"status": "not-run", "message": "it was left out of this run"}))
            for id, check in mine.items()
        }
        clauses[clause.id] = {"level": clause.level, "status": "", "checks": checks}
    report = {**head, "clauses": clauses}
    for id, entry in clauses.items():
        entry["status"] = clause_status(entry["checks"], _waiver(report, id))
    report["seconds"] = round(sum(entry.get("seconds", 0.0) for entry in results.values()), 1)
    report["verdict"], report["reasons"] = judge(report)
    return report


def clause_status(checks: Mapping[str, Mapping[str, Any]], waiver: Waiver | None) -> str:
    """Judge a clause by its checks: the worst of them counts; one without checks was not run."""
    seen = {entry["status"] for entry in checks.values()}
    status = next((str(status) for status in _WORST_FIRST if status in seen), "not-run")
    return "waived" if waiver and status in ("fail", "not-run", "blocked") else status


def _waiver(report: Mapping[str, Any], clause: str) -> Waiver | None:
    for raw in report["waivers"]:
        if raw["clause"] == clause:
            return Waiver(**raw)
    return None


def judge(report: Mapping[str, Any]) -> tuple[str, list[str]]:
    """Judge a report by its clauses, and give the reasons for what is no pass."""
    bad = [complaint for raw in report["waivers"] for complaint in _bad_waiver(report, Waiver(**raw))]
    missing: list[str] = []
    for id, entry in report["clauses"].items():
        told = "; ".join(
            f"{name}: {one['message']}"
            for name, one in entry["checks"].items()
            if one["status"] == entry["status"] and one.get("message")
        )
        match entry["status"]:
            case "fail":
                bad.append(f"{id} is broken: {told}")
            case "blocked":
                missing.append(f"{id} is BLOCKED: {told}")
            case "not-run":
                missing.append(f"{id} is NOT-RUN: {told or 'it has no check'}")
    if not any(entry["status"] == "pass" for entry in report["clauses"].values()):
        missing.append("nothing was run at all")
    return FAIL if bad else INCOMPLETE if missing else PASS, bad + missing


def _bad_waiver(report: Mapping[str, Any], waiver: Waiver) -> Iterable[str]:
    entry = report["clauses"].get(waiver.clause)
    if entry is None:
        yield f"the waiver of {waiver.clause} is for a clause that does not exist"
        return
    if not waiver.reason.strip():
        yield f"the waiver of {waiver.clause} gives no reason"
    try:
        expired = Version(report["suite"]) > Version(waiver.until)
    except InvalidVersion:
        yield f"the waiver of {waiver.clause} names no version: {waiver.until!r}"
        return
    if expired:
        yield f"the waiver of {waiver.clause} was good until {waiver.until}; this is {report['suite']}"
    if entry["status"] in ("pass", "not-asked"):
        yield f"the waiver of {waiver.clause} has become unnecessary: take it out"


def verify(report: Mapping[str, Any]) -> list[str]:
    """Recompute a report from its checks, and answer what does not add up."""
    if report.get("format") != FORMAT:
        return [f"it is of format {report.get('format')!r}, this suite reads {FORMAT}"]
    if report["suite"] != suite_version():
        return [f"it was made by suite {report['suite']}, this is {suite_version()}: verify it with that one"]
    wrong: list[str] = []
    known = contract().clauses
    wrong += [f"{id} is no clause of this contract" for id in report["clauses"] if id not in known]
    for clause in known.values():
        entry = report["clauses"].get(clause.id)
        if entry is None:
            wrong.append(f"{clause.id} is left out")
            continue
        names = {check.name for check in all_checks().values() if check.clause == clause.id}
        if names != set(entry["checks"]):
            wrong.append(f"{clause.id} was not judged by its own checks")
        if entry["status"] != clause_status(entry["checks"], _waiver(report, clause.id)):
            wrong.append(f"{clause.id} is not {entry['status']} by its checks")
        name = clause.capability or clause.without
        declared = report["server"] if name == "server" else report["capabilities"].get(name)
        asked = name is None or declared is (clause.without is None)
        if asked and entry["status"] == "not-asked":
            wrong.append(f"{clause.id} is asked of what this backend declares, and was not run")
    if not wrong:
        verdict, reasons = judge(report)
        if verdict != report["verdict"]:
            wrong.append(f"the verdict is {verdict}, not {report['verdict']}: {'; '.join(reasons[:3])}")
    return wrong


def write_report(report: Mapping[str, Any], path: Path) -> None:
    """Write a report as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def read_report(path: Path) -> dict[str, Any]:
    """Read a report.

    Raises:
        ValueError: The file holds no report.
    """
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} cannot be read as a report: {error}") from None
    if not isinstance(report, dict) or not {"format", "clauses", "verdict"} <= report.keys():
        raise ValueError(f"{path} is JSON, but no report of minion-conformance")
    return report
