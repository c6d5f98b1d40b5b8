"""One command, several things to do: which one is meant, which options go with it, and how it is told."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeAlias

import click
from attrs import frozen
from click.core import ParameterSource

from minion_core.cli.output import Output, printable
from minion_core.records import NewJob

if TYPE_CHECKING:
    from minion_core.minion import Minion

Options: TypeAlias = Mapping[str, Any]
Words: TypeAlias = Sequence[str]
Run: TypeAlias = "Callable[[Minion, Output, Options, Words], int]"

_EVERYWHERE = frozenset({"app", "url", "as_json", "words"})


@frozen
class Action:
    """One thing to do.

    Args:
        option: The option that says so, for messages.
        run: Does it, and answers the exit code.
        options: Names of the options that mean something beside it.
        words: Whether ids or names may follow.
        tasks: Whether it needs the application's tasks.
    """

    option: str
    run: Run
    options: frozenset[str] = frozenset()
    words: bool = False
    tasks: bool = False


def choose(context: click.Context, actions: Mapping[str, Action], listing: Action, showing: Action) -> Action:
    """Find the one thing to do, and refuse options that mean nothing beside it.

    Who gave an option expects that it does something; Minion passes over it silently.

    Args:
        context: The command as it was given.
        actions: By the name of the option that says so.
        listing: What to do if no option says, and there are no ids or names.
        showing: What to do if no option says, and there are some.
    """
    options, words = context.params, context.params["words"]
    named = [name for name in actions if options[name]]
    if len(named) > 1:
        one, other = (actions[name].option for name in named[:2])
        raise click.UsageError(f"{one} and {other} are two things to do; say one", context)
    action = actions[named[0]] if named else showing if words else listing
    for param in context.command.params:
        name = str(param.name)
        given = context.get_parameter_source(name) is ParameterSource.COMMANDLINE
        if given and name not in _EVERYWHERE | action.options and actions.get(name) is not action:
            uses = [other.option for other in (listing, showing, *actions.values()) if name in other.options]
            beside = f"beside {action.option}" if named else f"for {action.option}"
            raise click.UsageError(
                f"{'/'.join(param.opts)} means nothing {beside}; it goes with {', '.join(uses)}"
            )
    if words and not action.words:
        raise click.UsageError(f"{action.option} takes no ids or names, but there is {words[0]!r}", context)
    return action


# -- What was typed --------------------------------------------------------------------------------------


@contextmanager
def usage() -> Iterator[None]:
    """Tell a value that the queue refuses as a mistake of the command line."""
    try:
        yield
    except (TypeError, ValueError) as error:
        raise click.UsageError(str(error)) from error


def ids_of(words: Words, option: str = "") -> list[int]:
    """Read ids, each once."""
    if not words:
        raise click.UsageError(f"{option} needs an id, for instance: minion job {option} 23")
    for word in words:
        if not (word.isascii() and word.isdigit() and 0 < int(word) < 2**63):
            raise click.UsageError(f"{word!r} is no id; minion job lists jobs, minion job -w lists workers")
    return list(dict.fromkeys(map(int, words)))


def check_task(minion: Minion, task: str) -> None:
    """Refuse a task that the application does not have; without an application, any name may be right."""
    known = sorted(minion.tasks)
    if not known or task in known:
        return
    close = difflib.get_close_matches(task, known, 1)
    hint = f"did you mean {close[0]!r}?" if close else f"it has {', '.join(known)}."
    raise click.UsageError(
        f"the application has no task named {task!r}; {hint} "
        "For another application's workers, say --url instead of --app"
    )


def new_job(minion: Minion, task: str, args: list[Any], kwargs: dict[str, Any], fields: Options) -> NewJob:
    """Make a job, with the defaults of its task if the application is there."""
    check_task(minion, task)
    with usage():
        if task in minion.tasks:
            return minion.tasks[task].make_job(args, kwargs, fields)
        return NewJob(task, args, kwargs, **fields)


def object_notes(options: Options) -> dict[str, Any] | None:
    """Answer the notes to be stored, which must be an object."""
    notes = options["notes"]
    if isinstance(notes, list):
        raise click.UsageError("""-n takes an object here, for instance '{"author": "me"}'""")
    return notes  # type: ignore[no-any-return]


def given(options: Options, *names: str) -> dict[str, Any]:
    """Answer those of the options that were given."""
    return {name: options[name] for name in names if options[name] is not None}


# -- What is answered ------------------------------------------------------------------------------------


def told(out: Output, done: str, names: Sequence[int | str], mistakes: Sequence[str] = ()) -> int:
    """Tell what was done to which, and what was not; answer the exit code."""
    if out.as_json:
        out.json({done: list(names)})
    elif names:
        out.line(f"{done} {', '.join(map(str, names))}")
    return complain(mistakes)


def complain(mistakes: Sequence[str]) -> int:
    """Tell what was not done, each in a line; answer the exit code."""
    for mistake in mistakes:
        print(f"minion: {printable(mistake)}", file=sys.stderr)  # noqa: T201
    return 1 if mistakes else 0


def not_there(what: str, names: Sequence[int | str]) -> list[str]:
    """Say that things do not exist."""
    return [f"there is no {what} {name}" for name in names]


def remark_more(out: Output, more: bool, offset: int) -> None:
    """Say how the list goes on."""
    if more:
        out.remark(f"there are more: -o {offset}")
