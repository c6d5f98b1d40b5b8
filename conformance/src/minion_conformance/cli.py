"""The command ``minion-conformance``."""

from __future__ import annotations

import logging
import random
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from minion_conformance.check import Check, all_checks
from minion_conformance.clauses import contract_page
from minion_conformance.render import badge, markdown, one_line, print_report
from minion_conformance.report import (
    FAIL,
    INCOMPLETE,
    PASS,
    describe_session,
    make_report,
    read_report,
    result_entry,
    suite_version,
    verify,
    write_report,
)
from minion_conformance.scaffold import write_folder
from minion_conformance.session import Result, Session, Status, Target, Waiver, load_object
from minion_core.errors import MinionError

EXITS = {PASS: 0, FAIL: 1, INCOMPLETE: 3}
"""The exit status of ``run`` by verdict; 2 is for mistakes on the command line."""

File = click.Path(dir_okay=False, path_type=Path)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(suite_version(), prog_name="minion-conformance")
def main() -> None:
    """Prove that a store keeps the contract of the minion job queue."""


def _waiver(text: str) -> Waiver:
    clause, equals, rest = text.partition("=")
    reason, at, until = rest.rpartition("@")
    if not (equals and at and clause and reason and until):
        raise click.BadParameter(f"{text!r} must be CLAUSE=REASON@VERSION, as in 'WAKE-02=polls only@0.3'")
    return Waiver(clause, reason, until)


def _load(option: str, path: str | None) -> Any:
    if path is None:
        return None
    try:
        return load_object(path)
    except (ImportError, AttributeError, ValueError) as error:
        raise click.BadParameter(
            f"{option} {path!r} must be MODULE:NAME, and be importable: {error}"
        ) from None


def _chosen(only: tuple[str, ...]) -> list[Check]:
    every = list(all_checks().values())
    if not only:
        return every
    chosen = [check for check in every if {check.id, check.clause} & set(only)]
    for name in only:
        if not any(name in (check.id, check.clause) for check in every):
            raise click.BadParameter(
                f"{name!r} is neither a clause nor a check; see 'minion-conformance clauses'"
            )
    return chosen


@main.command()
@click.argument("url")
@click.option("--report", type=File, help="Write the report (JSON) to this file.")
@click.option("--markdown", "markdown_file", type=File, help="Write the report as Markdown to this file.")
@click.option("--badge", "badge_file", type=File, help="Write an SVG badge to this file.")
@click.option("--quick", is_flag=True, help="Fewer rounds where chance decides: under half a minute.")
@click.option("--seed", default="0", help="What chance is made from: a number, or 'random'. Verdicts use 0.")
@click.option(
    "--only", multiple=True, metavar="CLAUSE[:CHECK]", help="Only these; the verdict is INCOMPLETE."
)
@click.option("--backend", metavar="MODULE:CLASS", help="The backend, if its entry point is not installed.")
@click.option(
    "--hooks", metavar="MODULE:CLASS", help="The author's hooks, if their entry point is not installed."
)
@click.option(
    "--waive", multiple=True, metavar="CLAUSE=REASON@VERSION", help="A clause known not to be kept."
)
@click.option("--erase", is_flag=True, help="Erase what the store holds.")
def run(
    url: str,
    *,
    report: Path | None,
    markdown_file: Path | None,
    badge_file: Path | None,
    quick: bool,
    seed: str,
    only: tuple[str, ...],
    backend: str | None,
    hooks: str | None,
    waive: tuple[str, ...],
    erase: bool,
) -> None:
    """Run the suite against the store at URL, which must be empty and is erased again and again.

    Exits with 0 for PASS, 1 for FAIL, 3 for INCOMPLETE.
    """
    logging.getLogger("minion_core").addHandler(logging.NullHandler())
    console = Console()
    chosen = _chosen(only)
    waivers = tuple(_waiver(text) for text in waive)
    made_hooks = _load("--hooks", hooks)
    target = Target(url, _load("--backend", backend), made_hooks and made_hooks(), waivers, erase)
    number = random.SystemRandom().randrange(1, 2**31) if seed == "random" else _number(seed)
    results: dict[str, dict[str, Any]] = {}
    try:
        with Session(target, quick=quick, seed=number) as session:
            head = describe_session(session)
            console.print(f"[bold]{session.store}[/] ({session.backend.__qualname__}), seed {number}")
            for place, check in enumerate(chosen, 1):
                result = session.run(check)
                results[check.id] = result_entry(result)
                _tell(console, result, place, len(chosen))
    except (MinionError, ValueError) as error:
        raise click.ClickException(str(error)) from error
    made = make_report(head, results)
    print_report(made, console)
    if report:
        write_report(made, report)
    if markdown_file:
        markdown_file.write_text(markdown(made), encoding="utf-8")
    if badge_file:
        badge_file.write_text(badge(made), encoding="utf-8")
    raise SystemExit(EXITS[made["verdict"]])


def _number(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise click.BadParameter(f"--seed must be a number or 'random', not {text!r}") from None


def _tell(console: Console, result: Result, place: int, total: int) -> None:
    if result.status == Status.FAIL:
        console.print(f"\n{result.detail}\n", markup=False, highlight=False)
    elif console.is_terminal:
        console.print(f"{place}/{total} {result.check} {result.status}", end="\x1b[K\r", markup=False)


@main.command("verify")
@click.argument("report", type=File)
def verify_command(report: Path) -> None:
    """Recompute the verdict of a REPORT from its checks.

    Exits with 1 if it does not add up, or is no PASS.
    """
    made = _read(report)
    wrong = verify(made)
    for complaint in wrong:
        click.echo(f"- {complaint}", err=True)
    if wrong:
        raise click.ClickException(f"{report} does not add up")
    click.echo(one_line(made))
    raise SystemExit(EXITS[made["verdict"]])


def _read(path: Path) -> dict[str, Any]:
    try:
        return read_report(path)
    except ValueError as error:
        raise click.ClickException(str(error)) from None


@main.command()
@click.argument("report", type=File)
@click.option("--markdown", "markdown_file", type=File, help="Write Markdown to this file.")
@click.option("--badge", "badge_file", type=File, help="Write an SVG badge to this file.")
def render(report: Path, markdown_file: Path | None, badge_file: Path | None) -> None:
    """Show a REPORT, or write it as Markdown or as a badge."""
    made = _read(report)
    if markdown_file:
        markdown_file.write_text(markdown(made), encoding="utf-8")
    if badge_file:
        badge_file.write_text(badge(made), encoding="utf-8")
    if not (markdown_file or badge_file):
        print_report(made, Console())


@main.command()
def clauses() -> None:
    """List all clauses and their checks."""
    for check in all_checks().values():
        click.echo(check.id)


@main.command("contract")
def contract_command() -> None:
    """Print the contract as Markdown."""
    click.echo(contract_page())


@main.command()
@click.argument("name")
@click.option(
    "--into", type=click.Path(file_okay=False, path_type=Path), default=Path(), help="Parent folder."
)
def new(name: str, into: Path) -> None:
    """Write the folder of a new backend for URLs NAME://...: installable, and failing clause by clause."""
    try:
        made = write_folder(name, into)
    except ValueError as error:
        raise click.ClickException(str(error)) from None
    click.echo(f"{made} is there. Next:\n\n  cd {made}\n  pip install -e . minion-conformance\n  pytest")
