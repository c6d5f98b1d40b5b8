"""Which queue a command works on: that of an application (``--app``), or of any database (``--url``)."""

from __future__ import annotations

import os
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import attrs
import click

from minion_core import application
from minion_core.cli.action import usage
from minion_core.cli.output import Output
from minion_core.errors import ApplicationError
from minion_core.minion import Minion

F = TypeVar("F", bound=Callable[..., Any])

NO_QUEUE = (
    "which queue? Say --app pkg.module:minion or --url sqlite:///jobs.db (or set MINION_APP or MINION_URL)"
)
NO_APP = "this needs an application's tasks; say --app pkg.module:minion (or set MINION_APP)"


@attrs.define
class Front:
    """What the options before (or after) the command's name said.

    Args:
        app: Where the application's ``Minion`` is, as ``pkg.module:name``.
        url: Where the database is.
        as_json: Whether to print JSON.
    """

    app: str | None = None
    url: str | None = None
    as_json: bool = False

    @property
    def out(self) -> Output:
        """Where to print."""
        return Output(as_json=self.as_json)

    @contextmanager
    def opened(self, *, tasks: bool = False) -> Iterator[Minion]:
        """Open the queue for the length of a ``with`` block.

        Args:
            tasks: Whether the application's tasks are needed, or any database will do.
        """
        with self.application() if tasks else self.minion() as minion:
            with usage():
                minion.backend  # noqa: B018 - opens it, which a URL that cannot be read prevents
            yield minion

    def minion(self) -> Minion:
        """Answer the application's ``Minion``, or one without tasks for the database.

        Raises:
            click.UsageError: Neither was named.
            ApplicationError: The application cannot be had.
        """
        if self.app:
            return self.application()
        if not (self.url or os.environ.get("MINION_URL")):
            raise click.UsageError(NO_QUEUE)
        return Minion(self.url)

    def application(self) -> Minion:
        """Answer the application's ``Minion``, at the database that ``--url`` names, if it does.

        Raises:
            click.UsageError: None was named.
            ApplicationError: It cannot be had.
        """
        if not self.app:
            raise click.UsageError(NO_APP)
        try:
            minion = application.load_app(self.app)
        except ApplicationError as error:
            if error.__cause__ is None:
                raise
            place = _place(error.__cause__)
            module = self.app.partition(":")[0]
            how = f"python {module}" if module.endswith(".py") else f"python -c 'import {module}'"
            raise ApplicationError(f"{error} ({place}{how} shows all of it)") from error
        if self.url:
            minion.url = self.url
        return minion


def _place(error: BaseException) -> str:
    """Say where in the application's own code an import broke."""
    if isinstance(error, SyntaxError):
        return ""  # it says so itself
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if _is_theirs(frame.filename)]
    return f"{frames[-1].filename}, line {frames[-1].lineno}; " if frames else ""


def _is_theirs(filename: str) -> bool:
    return "importlib" not in filename and filename != application.__file__


def _merge(context: click.Context, param: click.Parameter, value: Any) -> None:
    if value:
        setattr(context.ensure_object(Front), str(param.name), value)


def json_option(command: F) -> F:
    """Let ``--json`` stand on either side of the command's name."""
    help = "Print JSON, for programs."
    return click.option("--json", "as_json", is_flag=True, help=help, expose_value=False, callback=_merge)(
        command
    )


def queue_options(command: F) -> F:
    """Let ``--app`` and ``--url`` stand on either side of the command's name."""
    for option in (
        click.option(
            "--url",
            metavar="URL",
            help="The database; MINION_URL if not said.",
            expose_value=False,
            callback=_merge,
        ),
        click.option(
            "--app",
            metavar="MODULE:NAME",
            help="The application's Minion, for instance shop.jobs:minion; MINION_APP if not said.",
            expose_value=False,
            callback=_merge,
        ),
    ):
        command = option(command)
    return command
