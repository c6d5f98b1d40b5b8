"""A task: a named piece of code, and what its jobs get unless told otherwise.

Three kinds of code can be a task: a function, called with the job's arguments; a function whose first
parameter is called ``job``, which gets the ``Job`` before them; and a class with ``work(self, job)`` as in
TheSchwartz, whose attributes or methods ``max_retries``, ``retry_delay``, ``grab_for`` and
``keep_exit_status_for`` are read, too.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar

from minion_core import values
from minion_core.records import NewJob

if TYPE_CHECKING:
    from minion_core.job import Job
    from minion_core.minion import Minion

logger = logging.getLogger(__name__)

P = ParamSpec("P")
R = TypeVar("R")

JOB_DEFAULTS = frozenset(
    {"attempts", "delay", "expire", "keep_for", "lax", "lease", "notes", "priority", "queue"}
)
"""The fields of a new job that a task may give a default for."""

JOB_FIELDS = JOB_DEFAULTS | {"parents", "uniqkey", "coalesce"}
"""The fields of a new job that a caller may give beside task and arguments."""

EXECUTORS = ("process", "thread", "asyncio")


class Task(Generic[P, R]):
    """Code registered under a name; still callable as the function that it was made from.

    Attributes:
        name: What jobs call it by.
        function: The function or class.
        defaults: Fields that its jobs get unless given.
        retry_delay: Seconds before the next attempt, or a callable that is given the number of failures, this
            one included, and answers them; ``None`` leaves it to the ``backoff`` of the ``Minion``.
        explicit_outcome: Whether a job that neither raised nor settled has failed (JOB-04).
        timeout: Seconds after which an attempt has failed and its process is killed; ``None`` is no limit.
        limit: How many jobs of this task one worker performs at a time; ``None`` is no limit.
        executor: Which executor performs its jobs; ``None`` leaves it to the worker (see ``kind``).
        takes_job: Whether the function gets the ``Job`` before the arguments.
    """

    def __init__(
        self,
        minion: Minion,
        name: str,
        function: Callable[..., R],
        *,
        retry_delay: float | Callable[[int], float] | None = None,
        timeout: float | None = None,
        limit: int | None = None,
        executor: str | None = None,
        **defaults: Any,
    ) -> None:
        """Register nothing yet; see ``Minion.add_task``.

        Raises:
            TypeError: The code cannot be called, or an option is not known or of the wrong type.
            ValueError: An option is out of bounds.
        """
        self.minion = minion
        self.name = values.check_name(name, "the task's name")
        self.function = function
        self.explicit_outcome = False
        self._performer: Any = None
        self._signature: inspect.Signature | None = None
        if inspect.isclass(function):
            defaults = self._read_class(function) | defaults
            retry_delay = self._class_retry_delay() if retry_delay is None else retry_delay
            self.takes_job = True
        elif callable(function):
            self._signature = _signature(function)
            self.takes_job = (
                next(iter(self._signature.parameters), None) == "job" if self._signature else False
            )
        else:
            raise TypeError(f"the task {name!r} must be a function or a class, not {type(function).__name__}")
        unknown = defaults.keys() - JOB_DEFAULTS
        if unknown:
            raise TypeError(f"the task {name!r} has no option {', '.join(sorted(unknown))}")
        NewJob(self.name, **defaults)  # checks them
        self.defaults: Mapping[str, Any] = defaults
        self.retry_delay = retry_delay if callable(retry_delay) else _delay(retry_delay)
        self.timeout = values.positive_seconds(timeout, "timeout")
        self.limit = None if limit is None else values.check_integer(limit, "limit", 1)
        if executor is not None and executor not in EXECUTORS:
            raise ValueError(f"executor must be one of {', '.join(EXECUTORS)}, not {executor!r}")
        self.executor = executor
        self.__doc__ = function.__doc__
        self.__name__ = getattr(function, "__name__", name)
        self.__module__ = getattr(function, "__module__", __name__)
        self.__wrapped__ = function

    def __repr__(self) -> str:
        return f"<Task {self.name}>"

    def __call__(self, *args: Any, **kwargs: Any) -> R:
        """Call the function itself, here and now: no job is made."""
        return self.function(*args, **kwargs)

    # -- Enqueueing ---------------------------------------------------------------------------------------

    def enqueue(self, *args: P.args, **kwargs: P.kwargs) -> int:
        """Enqueue a job with these arguments, and answer its id.

        Raises:
            TypeError: The arguments do not fit the function, or JSON cannot hold them.
            ValueError: JSON cannot hold them.
            BackendError: The store refused it, or could not be reached.
        """
        return self.minion.enqueue_new([self.new_job(*args, **kwargs)])[0].id

    def options(self, *, connection: Any = None, **fields: Any) -> TaskOptions[P]:
        """Answer this task with other fields for its jobs: ``resize.options(delay=5).enqueue("a.png")``.

        Args:
            connection: The caller's own database connection, to enqueue in its transaction (ENQ-08).
            **fields: Fields of ``NewJob``, such as ``delay``, ``priority``, ``parents``, ``uniqkey``.

        Raises:
            TypeError: A field is not known.
        """
        check_fields(fields)
        return TaskOptions(self, fields, connection)

    def new_job(self, *args: P.args, **kwargs: P.kwargs) -> NewJob:
        """Make a job with these arguments without enqueueing it, for ``enqueue_many`` and
        ``replace_with``.
        """
        return self.make_job(args, kwargs, {})

    def make_job(self, args: Sequence[Any], kwargs: Mapping[str, Any], fields: Mapping[str, Any]) -> NewJob:
        """Make a job; ``fields`` stand above the defaults of the task.

        Raises:
            TypeError: The arguments do not fit the function.
        """
        self.check_arguments(args, kwargs)
        return NewJob(self.name, args, kwargs, **{**self.defaults, **fields})

    def check_arguments(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        """Check that arguments fit the function.

        Raises:
            TypeError: They do not; the message says how.
        """
        if self._signature is None:
            return
        try:
            self._signature.bind(*((None,) if self.takes_job else ()), *args, **kwargs)
        except TypeError as error:
            raise TypeError(f"arguments do not fit task {self.name}: {error}") from None

    # -- Performing ---------------------------------------------------------------------------------------

    def kind(self, default: str) -> str:
        """Answer which executor performs its jobs in a worker whose own is ``default``.

        That which it names, or for ``async def`` the event loop if the worker's own is ``process``.
        """
        if self.executor is not None:
            return self.executor
        return "asyncio" if default == "process" and self.is_async else default

    @property
    def is_async(self) -> bool:
        """Whether its code is ``async def``."""
        code = self.function if self._performer is None else self._performer.work
        return inspect.iscoroutinefunction(code)

    def perform(self, job: Job) -> Any:
        """Call the code for a job, and answer what it returned; ``async def`` runs to its end."""
        result = self.begin(job)
        if not inspect.isawaitable(result):
            return result
        import asyncio  # noqa: PLC0415  # large, and performers are forks

        return asyncio.run(_finish(result))

    def begin(self, job: Job) -> Any:
        """Call the code for a job, and answer what it returned; for ``async def`` that is to be awaited."""
        given: tuple[object, ...] = (job.args, job.kwargs, job.notes)
        if str in map(type, given):
            raise ValueError(
                "arguments or notes of the job are more than Python reads: nested too deeply, or a number of"
                " too many digits"
            )
        if self._performer is not None:
            return self._performer().work(job)
        arguments = (job, *job.args) if self.takes_job else job.args
        try:
            return self.function(*arguments, **job.kwargs)
        except TypeError as error:
            # Raised by the call itself and not within it: say what does not fit, as for enqueue.
            if _depth(error) <= 1:
                self.check_arguments(job.args, job.kwargs)
            raise

    def delay_before_retry(self, failures: int, fallback: Callable[[int], float]) -> float:
        """Answer the seconds before the next attempt (JOB-02).

        Args:
            failures: How many failures came before this one.
            fallback: The backoff of the ``Minion``, given that number.
        """
        if self.retry_delay is None:
            return fallback(failures)
        if not callable(self.retry_delay):
            return self.retry_delay
        try:
            return max(0.0, values.seconds(self.retry_delay(failures + 1), "retry_delay"))
        except Exception:
            logger.exception("The retry_delay of task %s failed, the usual backoff is used", self.name)
            return fallback(failures)

    # -- Classes as in TheSchwartz ------------------------------------------------------------------------

    def _read_class(self, worker: type[Any]) -> dict[str, Any]:
        if not callable(getattr(worker, "work", None)):
            raise TypeError(
                f"the class {worker.__name__} of task {self.name!r} needs a method work(self, job)"
            )
        self._performer = worker
        self.explicit_outcome = bool(getattr(worker, "explicit_outcome", False))
        found: dict[str, Any] = {}
        if (retries := self._ask("max_retries")) is not None:
            found["attempts"] = values.check_integer(retries, "max_retries", 0) + 1
        if lease := self._ask("grab_for"):
            found["lease"] = lease
        if (keep_for := self._ask("keep_exit_status_for")) is not None:
            found["keep_for"] = keep_for
        return found

    def _ask(self, name: str) -> Any:
        if not hasattr(self._performer, name):
            return None
        answer = getattr(self._performer(), name)
        return answer() if callable(answer) else answer

    def _class_retry_delay(self) -> float | Callable[[int], float] | None:
        answer: Any = getattr(self._performer, "retry_delay", None)
        if not callable(answer):
            return None if answer is None else float(answer)
        return lambda failures: float(self._performer().retry_delay(failures))


class TaskOptions(Generic[P]):
    """A task with some fields of its jobs given; made by ``Task.options``."""

    def __init__(self, task: Task[P, Any], fields: Mapping[str, Any], connection: Any = None) -> None:
        self._task = task
        self._fields = fields
        self._connection = connection

    def enqueue(self, *args: P.args, **kwargs: P.kwargs) -> int:
        """Enqueue a job with these arguments and the fields given, and answer its id."""
        job = self._task.make_job(args, kwargs, self._fields)
        return self._task.minion.enqueue_new([job], connection=self._connection)[0].id

    def new_job(self, *args: P.args, **kwargs: P.kwargs) -> NewJob:
        """Make a job with these arguments and the fields given, without enqueueing it."""
        return self._task.make_job(args, kwargs, self._fields)


def check_fields(fields: Mapping[str, Any]) -> None:
    """Check that all of these are fields of a job.

    Raises:
        TypeError: One is not; the message names those that are.
    """
    unknown = fields.keys() - JOB_FIELDS
    if unknown:
        raise TypeError(
            f"a job has no field {', '.join(sorted(unknown))} (known: {', '.join(sorted(JOB_FIELDS))})"
        )


def _delay(value: float | None) -> float | None:
    if value is not None and values.seconds(value, "retry_delay") < 0:
        raise ValueError(f"retry_delay must not be below 0 seconds, not {value:g}")
    return value


def _signature(function: Callable[..., Any]) -> inspect.Signature | None:
    try:
        return inspect.signature(function)
    except (TypeError, ValueError):
        return None  # some builtins have none


def _depth(error: BaseException) -> int:
    depth, traceback = 0, error.__traceback__
    while traceback is not None:
        depth, traceback = depth + 1, traceback.tb_next
    return depth


async def _finish(awaitable: Any) -> Any:
    return await awaitable
