"""The tree of errors.

    MinionError
    ├── BackendError            the store did not do what was asked
    │   ├── BackendUnavailable  it could not be reached, or stopped answering
    │   └── SchemaError         its tables are newer than this code, or somebody else's
    ├── UnknownBackend          no plugin is installed for the scheme of a URL
    ├── UnknownTask             no function is registered under that name
    ├── UnknownJob              no job has that id (any more)
    ├── Unsupported             this backend does not declare that capability
    ├── ApplicationError        the application could not be imported, or is no ``Minion``
    ├── JobNotClaimable         ``foreground`` found the job taken, blocked, expired or gone
    └── JobFailed               the job whose result was waited for has failed

Errors of a driver never leave a backend: it raises one of these, chained to the driver's own. Values
that a queue cannot keep raise the built-in ``TypeError`` and ``ValueError``, before anything is stored.
No message of any of them holds a password.
"""

from __future__ import annotations

from typing import Any


class MinionError(Exception):
    """The root: ``except MinionError`` catches whatever this library raises on its own account."""


class BackendError(MinionError):
    """The store refused or failed; the message says what to do, the cause is the driver's error."""


class BackendUnavailable(BackendError):
    """The store could not be reached, or went away before it answered.

    Raised by ``enqueue`` after its commit was sent, it means that the jobs *may* have been stored; the
    message says so. Every other operation may be tried again.
    """


class SchemaError(BackendError):
    """The tables were made by a newer version or by another program; they were left alone."""


class UnknownBackend(MinionError):
    """No plugin for the URL's scheme is installed; the message names those that are."""


class UnknownTask(MinionError):
    """No task of that name is registered with this ``Minion``."""


class UnknownJob(MinionError):
    """There is no job with that id, or it was removed."""


class Unsupported(MinionError):
    """The backend declares that it cannot do this, and changed nothing."""


class ApplicationError(MinionError):
    """The application that a worker or the command line was told to use cannot be used; says why."""


class JobNotClaimable(MinionError):
    """The job could not be claimed for the foreground; it was put back where it was."""


class JobFailed(MinionError):
    """The job that was waited for is ``failed``.

    Attributes:
        job_id: Its id.
        result: What it left as its result, usually a mapping with type, message and traceback.
    """

    def __init__(self, job_id: int, result: Any) -> None:
        message = result.get("message", result) if isinstance(result, dict) else result
        super().__init__(f"Job {job_id} failed: {message}")
        self.job_id = job_id
        self.result = result

    def __reduce__(self) -> tuple[type[JobFailed], tuple[int, Any]]:
        return type(self), (self.job_id, self.result)
