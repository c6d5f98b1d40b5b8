"""``minion backends`` and ``minion migrate``: what databases there are for, and their tables."""

from __future__ import annotations

from typing import Any

import click

from minion_core import plugins
from minion_core.cli.action import usage
from minion_core.cli.application import Front, json_option, queue_options
from minion_core.cli.output import Column, Output
from minion_core.cli.output import plain as as_plain

OK = "ok"


@click.command(short_help="List the databases that this installation can use.")
@queue_options
@json_option
@click.pass_context
def backends(context: click.Context, /) -> int:
    """List the databases that this installation can use, and what each of them is capable of."""
    out = context.ensure_object(Front).out
    found = [_examine(scheme, point) for scheme, point in plugins.installed_backends().items()]
    if out.as_json:
        out.json({"backends": found})
        return 0
    columns = [Column("scheme"), Column("package"), Column("version"), Column("state")]
    rows = [[item["scheme"], item["package"], item["version"], item["error"] or OK] for item in found]
    out.table(
        columns, rows, empty="none is installed; pip install minion-sqlite is the one that needs no server"
    )
    able = [item for item in found if item["capabilities"]]
    if able:
        out.line("")
        names = list(able[0]["capabilities"])
        rows = [
            [name.replace("_", " "), *(_word(item["capabilities"][name]) for item in able)] for name in names
        ]
        out.table([Column("capability"), *(Column(item["scheme"]) for item in able)], rows, empty="")
    return 0


def _examine(scheme: str, point: Any) -> dict[str, Any]:
    found = {
        "scheme": scheme,
        "package": point.dist.name if point.dist else point.value,
        "version": point.dist.version if point.dist else "",
        "module": point.value,
        "capabilities": None,
        "error": None,
    }
    try:
        found["capabilities"] = as_plain(plugins.backend_class(f"{scheme}://").capabilities)
    except Exception as error:  # noqa: BLE001 - a plugin's import may raise anything, and the others are to be listed
        found["error"] = str(error)
    return found


def _word(value: Any) -> str:
    return ("yes" if value else "no") if isinstance(value, bool) else f"{value:g} s"


@click.command(short_help="Bring the tables of the database up to date.")
@queue_options
@json_option
@click.option("--print", "printed", is_flag=True, help="Only print what would be done; connect to nothing.")
@click.pass_context
def migrate(context: click.Context, /, printed: bool) -> int:
    """Bring the tables of the database up to date. It is safe to run while workers are at work."""
    front = context.ensure_object(Front)
    with front.minion() as minion:
        with usage():
            found = plugins.backend_class(minion.url)
            backend = found(minion.url)
        if printed:
            return _print_script(front.out, found.migration_script())
        try:
            applied = backend.migrate()
            description = backend.describe()
        finally:
            backend.close()
    if front.as_json:
        front.out.json({"applied": applied, "store": description})
    else:
        done = f"applied {', '.join(map(str, applied))}" if applied else "up to date already"
        front.out.line(f"{description}: {done}")
    return 0


def _print_script(out: Output, script: str) -> int:
    if out.as_json:
        out.json({"script": script})
    else:
        print(script.rstrip() or "-- this store has no tables")  # noqa: T201
    return 0
