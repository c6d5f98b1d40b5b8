"""``minion job``: look at the queue, and change it. Options have the letters of Minion's own command."""

from __future__ import annotations

from typing import Any

import click

from minion_core.cli.action import choose
from minion_core.cli.application import Front, json_option, queue_options
from minion_core.cli.job_actions import ACTIONS, LIST, SHOW
from minion_core.cli.parameters import array, duration, mapping, notes
from minion_core.records import State

STATE = click.Choice([state.value for state in State])


@click.command(
    short_help="Look at jobs, workers and locks, and change them.",
    epilog="Lengths of time are seconds, or 10m, 2h, 3d, 1w.",
)
@queue_options
@json_option
@click.option("-A", "--attempts", type=int, metavar="N", help="How often to attempt the new or retried job.")
@click.option(
    "-a",
    "--args",
    type=array,
    metavar="JSON",
    help="Arguments of the new job, or of the command for workers.",
)
@click.option("-b", "--broadcast", metavar="COMMAND", help="Send a command to the workers given, or to all.")
@click.option("--coalesce", metavar="VALUE", help="Jobs of one value can be performed together.")
@click.option(
    "-d", "--delay", type=duration, metavar="SECONDS", help="Do not start the job before so long from now."
)
@click.option(
    "-E", "--expire", type=duration, metavar="SECONDS", help="Give the job up unless it was started by then."
)
@click.option("-e", "--enqueue", metavar="TASK", help="Enqueue a new job, and print its id.")
@click.option("-f", "--foreground", is_flag=True, help="Perform the job given here and now, for debugging.")
@click.option("--force", is_flag=True, help="Retry an active job too; what its worker does no longer counts.")
@click.option("-H", "--history", is_flag=True, help="Show how many jobs ended in each of the last 24 hours.")
@click.option("--keep-for", type=duration, metavar="SECONDS", help="Keep the new job so long after it ended.")
@click.option("--kwargs", type=mapping, metavar="JSON", help="Keyword arguments of the new job.")
@click.option("-L", "--locks", is_flag=True, help="List the locks held, those of the names given or all.")
@click.option(
    "--lease",
    type=duration,
    metavar="SECONDS",
    help="Take the new job from a worker that needs longer than this.",
)
@click.option(
    "-l", "--limit", type=click.IntRange(1), metavar="N", default=100, show_default=True, help="List so many."
)
@click.option(
    "-n",
    "--notes",
    type=notes,
    metavar="JSON",
    help="Notes of a new job, or for those given; a list finds jobs by them.",
)
@click.option(
    "-o", "--offset", type=click.IntRange(0), metavar="N", default=0, help="Pass over the first so many."
)
@click.option(
    "-P", "--parent", "parents", type=int, multiple=True, metavar="ID", help="Wait for this job; repeat."
)
@click.option("-p", "--priority", type=int, metavar="N", help="The higher, the earlier.")
@click.option(
    "-q",
    "--queue",
    "queues",
    multiple=True,
    metavar="NAME",
    help="Put the job in this queue; or list by it, repeat.",
)
@click.option("-R", "--retry", is_flag=True, help="Retry the jobs given.")
@click.option("--remove", is_flag=True, help="Remove the jobs given, unless they are active.")
@click.option("--remove-failed", is_flag=True, help="Remove all failed jobs, or those of -q, -t, -n.")
@click.option("--retry-failed", is_flag=True, help="Retry all failed jobs, or those of -q, -t, -n.")
@click.option(
    "-S",
    "--state",
    "states",
    type=click.Choice([state.value for state in State]),
    multiple=True,
    help="List by state; repeat.",
)
@click.option("-s", "--stats", is_flag=True, help="Show statistics of the queue.")
@click.option("-T", "--tasks", is_flag=True, help="List the application's tasks.")
@click.option("-t", "--task", "task_names", multiple=True, metavar="NAME", help="List by task; repeat.")
@click.option("-U", "--unlock", metavar="NAME", help="Release a lock.")
@click.option(
    "--uniqkey", metavar="KEY", help="Enqueue nothing while a job of this task and key waits or runs."
)
@click.option("-w", "--workers", is_flag=True, help="List workers, or show those given.")
@click.option("-x", "--lax", type=bool, metavar="BOOL", help="Do not wait for parents that failed, either.")
@click.argument("words", nargs=-1, metavar="[ID]...")
@click.pass_context
def job(context: click.Context, /, words: tuple[str, ...], **options: Any) -> int:
    """Look at jobs, workers and locks, and change them. Without an option it lists jobs, newest first.

    \b
    minion job -S failed -t resize                failed jobs of one task
    minion job 23                                 all about job 23
    minion job -e resize -a '["a.png"]' -p 5      a new job
    minion job -R 23                              job 23 once more
    minion job -w                                 who works
    """  # noqa: D301 - click reads the backspace
    action = choose(context, ACTIONS, LIST, SHOW)
    front = context.ensure_object(Front)
    with front.opened(tasks=action.tasks) as minion:
        return action.run(minion, front.out, options, words)
