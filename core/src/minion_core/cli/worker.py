"""``minion worker``: perform jobs until told to stop. Options have the letters of Minion's own command."""

from __future__ import annotations

import logging
from typing import Any

import click

from minion_core.cli.action import given, usage
from minion_core.cli.application import Front, queue_options
from minion_core.cli.parameters import duration

LOG_FORMAT = "%(asctime)s %(levelname)s %(message)s"
LEVELS = click.Choice(["debug", "info", "warning", "error"])


@click.command(
    short_help="Perform jobs until told to stop.",
    epilog="INT (Ctrl-C) and TERM: give back what was not begun, let running jobs end. A second one, or"
    " QUIT: end them now, as failed. Lengths of time are seconds, or 10m, 2h, 3d, 1w.",
)
@queue_options
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
    "-I",
    "--heartbeat-interval",
    type=duration,
    metavar="SECONDS",
    help="Say so often that this worker is there; 300 if not said, less if --missing-after is small.",
)
@click.option("-j", "--jobs", type=int, metavar="N", help="Perform so many jobs at a time; 4 if not said.")
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
@click.option("-t", "--task", "tasks", multiple=True, metavar="NAME", help="Only jobs of this task; repeat.")
@click.pass_context
def worker(context: click.Context, /, log_level: str, **options: Any) -> int:
    """Perform jobs of the application's tasks, each in a process of its own, until told to stop.

    \b
    minion --app shop.jobs:minion worker -j 8 -q default -q important
    """  # noqa: D301 - click reads the backspace
    front = context.ensure_object(Front)
    root = logging.getLogger()
    root.setLevel(log_level.upper())
    for handler in root.handlers:
        handler.setFormatter(logging.Formatter(LOG_FORMAT))
    with front.opened(tasks=True) as minion:
        names = ("command_interval", "dequeue_timeout", "dispatch_interval", "heartbeat_interval", "jobs")
        chosen = given(options, *names, "min_priority", "recycle", "repair_interval")
        chosen |= {name: options[name] for name in ("queues", "tasks") if options[name]}
        if options["missing_after"] is not None:
            minion.missing_after = options["missing_after"]
        for task in options["tasks"]:
            minion.task_named(task)
        with usage():
            made = minion.worker(app=front.app, **chosen)
        made.run()
    return 0
