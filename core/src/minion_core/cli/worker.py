"""``minion worker``: perform jobs until told to stop. Options have the letters of Minion's own command."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from minion_core import health, logs
from minion_core.cli.action import given, usage
from minion_core.cli.application import Front, queue_options
from minion_core.cli.parameters import duration, limits
from minion_core.cli.status_line import StatusLine
from minion_core.executors import KINDS

PASSED_ON = (
    "async_jobs",
    "command_interval",
    "dequeue_timeout",
    "dispatch_interval",
    "executor",
    "grace",
    "health_file",
    "heartbeat_interval",
    "jobs",
    "min_priority",
    "recycle",
    "repair_interval",
    "spare",
    "spare_min_priority",
    "threads",
)
"""The options that are the worker's own, and have its names."""

LEVELS = click.Choice(["debug", "info", "warning", "error"])


@click.command(
    short_help="Perform jobs until told to stop.",
    epilog="INT (Ctrl-C) and TERM: give back what was not begun, let running jobs end. A second one, or"
    " QUIT: end them now, as failed. Lengths of time are seconds, or 10m, 2h, 3d, 1w.",
)
@queue_options
@click.option(
    "--async",
    "async_jobs",
    type=int,
    metavar="N",
    help="Perform at most so many async jobs at a time; -j if not said.",
)
@click.option(
    "--check", is_flag=True, help="Say whether the worker that writes --health-file is alive, and exit."
)
@click.option(
    "-C",
    "--command-interval",
    type=duration,
    metavar="SECONDS",
    help="Look for commands so often; 10 if not said.",
)
@click.option(
    "-D",
    "--dequeue-timeout",
    type=duration,
    metavar="SECONDS",
    help="Wait for jobs so long at a time; 5 if not said.",
)
@click.option(
    "--dispatch-interval",
    type=duration,
    metavar="SECONDS",
    help="Look for due schedules so often; 10 if not said.",
)
@click.option(
    "--executor",
    type=click.Choice(KINDS),
    help="Perform tasks that don't say so: in a process each, in threads, in an event loop, or one at a time"
    " in the worker itself; process if not said.",
)
@click.option(
    "--grace",
    type=duration,
    metavar="SECONDS",
    help="Told to stop, end running jobs after so long; as long as they take if not said.",
)
@click.option("--health-file", metavar="PATH", help="Write this file every 5 seconds while all is well.")
@click.option(
    "-I",
    "--heartbeat-interval",
    type=duration,
    metavar="SECONDS",
    help="Say so often that this worker is there; 300 if not said, less if --missing-after is small.",
)
@click.option("-j", "--jobs", type=int, metavar="N", help="Perform so many jobs at a time; 4 if not said.")
@click.option(
    "-L",
    "--limit",
    "limits",
    multiple=True,
    callback=limits,
    metavar="TASK=N",
    help="Perform at most so many jobs of a task at a time; repeat.",
)
@click.option("--log-json", is_flag=True, help="Log a JSON object a line.")
@click.option(
    "--log-level", type=LEVELS, default="info", help="Log what is at least so grave; info if not said."
)
@click.option("--min-priority", type=int, metavar="N", help="Only jobs of at least this priority.")
@click.option(
    "--missing-after",
    type=duration,
    metavar="SECONDS",
    help="Take workers for lost that were not heard of for so long, and fail what they were at.",
)
@click.option(
    "--plugin",
    "plugins",
    multiple=True,
    metavar="NAME",
    help="Load this plugin, module or module:object, beside those that are installed; repeat.",
)
@click.option(
    "-q", "--queue", "queues", multiple=True, metavar="NAME", help="Only jobs of this queue; repeat."
)
@click.option(
    "-R",
    "--repair-interval",
    type=duration,
    metavar="SECONDS",
    help="Repair the queue so often, or up to twice as often; 6 hours if not said.",
)
@click.option(
    "--recycle",
    type=int,
    metavar="N",
    help="Replace a process after so many jobs; 1000 if not said, 1 is a new one each.",
)
@click.option("--reload", is_flag=True, help="For development: import the code anew when it changes.")
@click.option(
    "-s",
    "--spare",
    type=int,
    metavar="N",
    help="Keep so many places more for jobs of high priority; 1 if not said.",
)
@click.option(
    "-S",
    "--spare-min-priority",
    type=int,
    metavar="N",
    help="What priority is high; 1 if not said.",
)
@click.option("-t", "--task", "tasks", multiple=True, metavar="NAME", help="Only jobs of this task; repeat.")
@click.option(
    "--threads", type=int, metavar="N", help="Perform at most so many jobs in threads; -j if not said."
)
@click.pass_context
def worker(context: click.Context, /, log_level: str, **options: Any) -> int:
    """Perform jobs of the application's tasks, each in a process of its own, until told to stop.

    \b
    minion --app shop.jobs:minion worker -j 8 -q default -q important
    """  # noqa: D301 - click reads the backspace
    if options["check"]:
        return _check(options["health_file"])
    front = context.ensure_object(Front)
    in_terminal = sys.stderr.isatty() and not options["log_json"]
    logs.set_up(
        log_level.upper(),
        logs.JSON if options["log_json"] else logs.BESIDE_STATUS if in_terminal else logs.PLAIN,
    )
    with front.opened(tasks=True) as minion:
        chosen = given(options, *PASSED_ON)
        chosen |= {name: options[name] for name in ("queues", "tasks", "limits", "plugins") if options[name]}
        if options["missing_after"] is not None:
            minion.missing_after = options["missing_after"]
        for task in [*options["tasks"], *options["limits"]]:
            minion.task_named(task)
        with usage():
            made = minion.worker(app=front.app, reload=options["reload"], **chosen)
        line = StatusLine(made) if in_terminal else None
        if line is not None:
            line.start()
        try:
            made.run()
        finally:
            if line is not None:
                line.end()
    return 0


def _check(file: str | None) -> int:
    if not file:
        raise click.UsageError("--check needs --health-file PATH, as the worker was given it")
    alive, told = health.check(Path(file))
    click.echo(told, err=not alive)
    return 0 if alive else 1
