"""``minion schedule``: jobs enqueued by the clock. Options have the letters of Minion 12's own command."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from minion_core.cli import show
from minion_core.cli.action import (
    Action,
    Options,
    Words,
    check_task,
    choose,
    complain,
    given,
    not_there,
    remark_more,
    told,
    usage,
)
from minion_core.cli.application import Front, json_option, queue_options
from minion_core.cli.output import Output
from minion_core.cli.parameters import array, duration, mapping
from minion_core.records import ScheduleFilter

if TYPE_CHECKING:
    from minion_core.minion import Minion


@click.command(
    short_help="List, add, pause and remove schedules.",
    epilog="Lengths of time are seconds, or 10m, 2h, 3d, 1w. Workers enqueue what is due by themselves.",
)
@queue_options
@json_option
@click.option("-A", "--attempts", type=int, metavar="N", help="How often to attempt each job.")
@click.option("-a", "--args", type=array, metavar="JSON", help="Arguments of each job.")
@click.option(
    "-c", "--cron", metavar="CRON", help="When: minute hour day month weekday, or @daily and its like."
)
@click.option("-d", "--dispatch", is_flag=True, help="Enqueue now what is due, as workers do.")
@click.option(
    "-E", "--expire", type=duration, metavar="SECONDS", help="Give each job up unless it was started by then."
)
@click.option(
    "-e", "--enqueue", metavar="NAME", help="Add or replace the schedule of this name; wants -c and -t."
)
@click.option(
    "--first-run", type=duration, metavar="SECONDS", help="When a new schedule is first due; 0 is at once."
)
@click.option("--kwargs", type=mapping, metavar="JSON", help="Keyword arguments of each job.")
@click.option(
    "-l", "--limit", type=click.IntRange(1), metavar="N", default=100, show_default=True, help="List so many."
)
@click.option("-n", "--notes", type=mapping, metavar="JSON", help="Notes of each job.")
@click.option(
    "-o", "--offset", type=click.IntRange(0), metavar="N", default=0, help="Pass over the first so many."
)
@click.option("-P", "--pause", metavar="NAME", help="Enqueue nothing for this schedule until it is resumed.")
@click.option(
    "-p", "--priority", type=int, metavar="N", help="Priority of each job; the higher, the earlier."
)
@click.option("-q", "--queue", metavar="NAME", help="Queue of each job.")
@click.option("-R", "--remove", metavar="NAME", help="Remove a schedule; jobs that it enqueued stay.")
@click.option("-r", "--resume", metavar="NAME", help="Resume a schedule that was paused.")
@click.option("-t", "--task", metavar="TASK", help="Task of each job.")
@click.option(
    "--time-zone", metavar="ZONE", help="Zone that CRON is read in, for instance Europe/Berlin, not UTC."
)
@click.option("-x", "--lax", type=bool, metavar="BOOL", help="Passed on to each job.")
@click.argument("words", nargs=-1, metavar="[NAME]...")
@click.pass_context
def schedule(context: click.Context, /, words: tuple[str, ...], **options: Any) -> int:
    """List, add, pause and remove schedules. Without an option it lists them, or shows those named.

    \b
    minion schedule -e nightly -c '0 3 * * *' -t report -a '["pdf"]'
    minion schedule nightly
    minion schedule -P nightly
    """  # noqa: D301 - click reads the backspace
    action = choose(context, ACTIONS, LIST, SHOW)
    front = context.ensure_object(Front)
    with front.opened() as minion:
        return action.run(minion, front.out, options, words)


def list_schedules(minion: Minion, out: Output, options: Options, _words: Words) -> int:
    """List schedules, newest first."""
    offset, limit = options["offset"], options["limit"]
    page = minion.backend.list_schedules(offset, limit, ScheduleFilter())
    if out.as_json:
        out.json({"schedules": page.items, "total": page.total})
    else:
        show.schedules(out, page.items, minion.backend.now())
        remark_more(out, (page.total or 0) > offset + limit, offset + limit)
    return 0


def show_schedules(minion: Minion, out: Output, _options: Options, words: Words) -> int:
    """Show schedules field by field."""
    records = minion.backend.list_schedules(0, len(words), ScheduleFilter(names=list(words))).items
    found = {record.name: record for record in records}
    shown = [found[name] for name in words if name in found]
    if out.as_json:
        out.json({"schedules": shown})
    else:
        show.schedules_in_full(out, shown, minion.backend.now())
    return complain(not_there("schedule", [name for name in words if name not in found]))


def add(minion: Minion, out: Output, options: Options, _words: Words) -> int:
    """Add or replace a schedule."""
    name, cron, task = options["enqueue"], options["cron"], options["task"]
    for option, value in (("-c/--cron", cron), ("-t/--task", task)):
        if value is None:
            raise click.UsageError(
                f"a schedule wants {option}: minion schedule -e nightly -c '0 3 * * *' -t report"
            )
    check_task(minion, task)
    fields = given(
        options, "attempts", "expire", "first_run", "lax", "notes", "priority", "queue", "time_zone"
    )
    with usage():
        id = minion.schedule(name, cron, task, options["args"] or [], options["kwargs"] or {}, **fields)
    if out.as_json:
        out.json({"id": id})
    else:
        out.line(str(id))
    return 0


def dispatch(minion: Minion, out: Output, _options: Options, _words: Words) -> int:
    """Enqueue what is due."""
    dispatched = minion.dispatch_schedules()
    if out.as_json:
        out.json({"dispatched": dispatched})
    for run in () if out.as_json else dispatched:
        out.line(f"{run.name}: job {run.job}")
    if not dispatched:
        out.remark("nothing is due")
    return 0


def pause(minion: Minion, out: Output, options: Options, _words: Words) -> int:
    """Pause a schedule."""
    return _changed(out, "paused", options["pause"], minion.backend.pause_schedule(options["pause"]))


def resume(minion: Minion, out: Output, options: Options, _words: Words) -> int:
    """Resume a schedule."""
    return _changed(out, "resumed", options["resume"], minion.backend.resume_schedule(options["resume"]))


def remove(minion: Minion, out: Output, options: Options, _words: Words) -> int:
    """Remove a schedule."""
    return _changed(out, "removed", options["remove"], minion.backend.unschedule(options["remove"]))


def _changed(out: Output, done: str, name: str, happened: bool) -> int:
    return told(out, done, [name] if happened else [], [] if happened else not_there("schedule", [name]))


_NEW = frozenset(
    {
        "attempts",
        "args",
        "cron",
        "expire",
        "first_run",
        "kwargs",
        "lax",
        "notes",
        "priority",
        "queue",
        "task",
        "time_zone",
    }
)

LIST = Action("listing schedules", list_schedules, frozenset({"limit", "offset"}))
SHOW = Action("names of schedules", show_schedules, words=True)

ACTIONS = {
    "dispatch": Action("-d/--dispatch", dispatch),
    "enqueue": Action("-e/--enqueue", add, _NEW),
    "pause": Action("-P/--pause", pause),
    "remove": Action("-R/--remove", remove),
    "resume": Action("-r/--resume", resume),
}
"""By the name of the option that says so; without one it is LIST, or SHOW if names are given."""
