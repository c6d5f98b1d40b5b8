"""The ``minion`` command itself, and what it says to who made a mistake.

Exit codes: 0 it was done, 1 it was not (not found, refused, failed), 2 the command line was wrong,
130 it was interrupted by Ctrl-C.
"""

from __future__ import annotations

import io
import logging
import os
import sys
from collections.abc import Sequence
from functools import cached_property

import click

from minion_core.cli.application import Front, json_option, queue_options
from minion_core.cli.job import job
from minion_core.cli.output import printable
from minion_core.cli.schedule import schedule
from minion_core.cli.store import backends, migrate
from minion_core.cli.worker import worker
from minion_core.errors import MinionError
from minion_core.plugins import Plugins

FAILED = 1
MISUSED = 2
INTERRUPTED = 130


class _Commands(click.Group):
    """Our own commands, and those that plugins add; plugins are loaded only when they are asked for."""

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        """Find a command by its name."""
        return super().get_command(context, name) or self._added.get(name)

    def list_commands(self, context: click.Context) -> list[str]:
        """Name all commands."""
        return sorted({*super().list_commands(context), *self._added})

    def resolve_command(
        self, context: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command that is meant, or say which ones there are."""
        if self.get_command(context, args[0]) is None and not args[0].startswith("-"):
            raise click.UsageError(
                f"no command {args[0]!r}; there are {', '.join(self.list_commands(context))}"
            )
        return super().resolve_command(context, args)

    @cached_property
    def _added(self) -> dict[str, click.Command]:
        return {str(command.name): command for command in Plugins().commands()}


@click.group(
    cls=_Commands,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    epilog="--app, --url and --json may also stand behind the command. Each has its own --help.",
)
@queue_options
@json_option
@click.version_option(package_name="minion-core", prog_name="minion")
@click.pass_context
def minion(context: click.Context, /) -> None:
    """A job queue in the database you already have.

    \b
    minion --app shop.jobs:minion worker        perform jobs
    minion --app shop.jobs:minion job           look at jobs, and change them
    """  # noqa: D301 - click reads the backspace
    front = context.ensure_object(Front)
    front.app = front.app or os.environ.get("MINION_APP") or None
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


for command in (backends, job, migrate, schedule, worker):
    minion.add_command(command)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command, and leave with its exit code."""
    sys.exit(run(arguments))


def run(arguments: Sequence[str] | None = None) -> int:
    """Run the command, turn each mistake into one line on standard error, and answer the exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    handler = logging.StreamHandler()
    handler.setFormatter(_OneLine())
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    try:
        code = minion.main(arguments, prog_name="minion", standalone_mode=False)
        sys.stdout.flush()
    except click.UsageError as error:
        return _complain(_usage(error), MISUSED)
    except click.ClickException as error:
        return _complain(error.format_message(), FAILED)
    except MinionError as error:
        return _complain(str(error), FAILED)
    except (click.Abort, KeyboardInterrupt):
        return INTERRUPTED
    except BrokenPipeError:
        # Who read our output has seen enough; the interpreter would complain when it flushes at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    return code if isinstance(code, int) else 0


class _OneLine(logging.Formatter):
    """What is logged, for a command that ends at once: an error's name instead of its traceback."""

    def format(self, record: logging.LogRecord) -> str:
        """Make the line."""
        error = record.exc_info[1] if record.exc_info else None
        message = f"{record.getMessage()}: {error!r}" if error else record.getMessage()
        return f"minion: {printable(message)}"


def _usage(error: click.UsageError) -> str:
    message = error.format_message().rstrip(".")
    # What we find wrong ourselves says what to do instead; what click finds, does not.
    if type(error) is click.UsageError or isinstance(error, click.BadParameter) or error.ctx is None:
        return message
    return f"{message} ({error.ctx.command_path} --help lists what there is)"


def _complain(message: str, code: int) -> int:
    print(f"minion: {printable(' '.join(message.split()))}", file=sys.stderr)  # noqa: T201
    return code
