"""A report for people: a table in the terminal, Markdown, and a badge."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from minion_conformance.clauses import contract

STYLES = {
    "pass": "green",
    "fail": "bold red",
    "blocked": "magenta",
    "not-run": "yellow",
    "not-asked": "dim",
    "waived": "cyan",
}
COLOURS = {"PASS": "#2e7d32", "FAIL": "#c62828", "INCOMPLETE": "#ef6c00"}
CHARACTER = 6.6
"""The width of a character on a badge, about."""


def counts(report: Mapping[str, Any]) -> Counter[str]:
    """Count the clauses by what became of them."""
    return Counter(entry["status"] for entry in report["clauses"].values())


def one_line(report: Mapping[str, Any]) -> str:
    """Say it in one line."""
    told = ", ".join(f"{number} {status.upper()}" for status, number in sorted(counts(report).items()))
    quick = ", quick" if report["quick"] else ""
    return f"{report['verdict']}: {report['backend']}, {told} ({report['seconds']} s{quick})"


def print_report(report: Mapping[str, Any], console: Console) -> None:
    """Print the table of all clauses, and the reasons for the verdict."""
    table = Table(box=None, pad_edge=False)
    for heading, options in (("clause", {}), ("of", {}), ("checks", {"justify": "right"}), ("result", {})):
        table.add_column(heading, **options)  # type: ignore[arg-type]
    for id, entry in report["clauses"].items():
        style = STYLES[entry["status"]]
        status = Text(entry["status"].upper(), style)
        table.add_row(id, Text(entry["level"], "dim"), str(len(entry["checks"])), status)
    console.print(table)
    for reason in report["reasons"]:
        console.print(Text(f"- {reason}", "red" if report["verdict"] == "FAIL" else "yellow"))
    console.print(Text(one_line(report), f"bold {STYLES['pass' if report['verdict'] == 'PASS' else 'fail']}"))


def markdown(report: Mapping[str, Any]) -> str:
    """Write a report as Markdown."""
    declared = ", ".join(name for name, value in report["capabilities"].items() if value is True) or "none"
    lines = [
        f"# Conformance of `{report['backend']}`: {report['verdict']}",
        "",
        (
            f"{one_line(report)}, contract {report['contract']}, suite {report['suite']}, "
            f"core {report['core']}, "
            f"Python {report['python']}, {report['platform']}, seed {report['seed']}, {report['started']}."
        ),
        "",
        f"Store: {report['store']}",
        "",
        f"Declared: {declared}; time_resolution {report['capabilities']['time_resolution']:g} s.",
        "",
        *[f"- {reason}" for reason in report["reasons"]],
        "",
        "| clause | of | result | facts |",
        "| --- | --- | --- | --- |",
    ]
    for clause in contract().clauses:
        entry = report["clauses"].get(clause)
        if entry is None:
            continue
        facts = [
            f"{name}: {value}"
            for check in entry["checks"].values()
            for name, value in check.get("facts", {}).items()
        ]
        lines.append(f"| {clause} | {entry['level']} | {entry['status'].upper()} | {'; '.join(facts)} |")
    return "\n".join(lines) + "\n"


def badge(report: Mapping[str, Any]) -> str:
    """Draw the badge of a report as SVG."""
    waived = counts(report)["waived"]
    told = report["verdict"].lower() + (f", {waived} waived" if waived else "")
    label = f"minion contract {report['contract']}"
    left, right = (round(len(text) * CHARACTER) + 12 for text in (label, told))
    return f"""<svg xmlns="http://www.w3.org/2000/svg" width="{left + right}" height="20" role="img">
<title>{label}: {told}</title>
<rect width="{left}" height="20" fill="#555"/>
<rect x="{left}" width="{right}" height="20" fill="{COLOURS[report["verdict"]]}"/>
<g fill="#fff" text-anchor="middle" font-family="Verdana,DejaVu Sans,sans-serif" font-size="11">
<text x="{left / 2}" y="14">{label}</text><text x="{left + right / 2}" y="14">{told}</text></g>
</svg>
"""
