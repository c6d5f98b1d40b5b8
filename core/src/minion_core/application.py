"""The application: the module that makes the ``Minion`` and registers the tasks, found by
``module:attribute``.

Workers import it once more, in the clean process that they fork performers from. So its ``Minion`` must be an
attribute of a module, or of a script given by its path (``jobs.py:minion``).
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from minion_core.errors import ApplicationError

if TYPE_CHECKING:
    from minion_core.minion import Minion

HOW = "say module:attribute, for instance myproject.jobs:minion, or jobs.py:minion"

_SCRIPT = "__minion_main__"
"""Under this name scripts are imported, so that their ``if __name__ == "__main__"`` stays asleep."""


def load_app(app: str) -> Minion:
    """Import an application and answer its ``Minion``.

    The current directory is importable, as it is for ``python -m``.

    Args:
        app: ``module:attribute`` or ``path/to/script.py:attribute``; without an attribute it is ``minion``.

    Raises:
        ApplicationError: There is no such module or attribute, or the attribute is no ``Minion``. If the
            module raised while it was imported, that error is the cause.
    """
    from minion_core.minion import Minion  # noqa: PLC0415  # minion imports this module

    where, _, attribute = app.rpartition(":") if ":" in app else (app, "", "minion")
    if not where or not attribute:
        raise ApplicationError(f"not an application: {app!r}; {HOW}")
    module = _import_script(where) if where.endswith(".py") else _import_module(where)
    found: Any = module
    for name in attribute.split("."):
        try:
            found = getattr(found, name)
        except AttributeError:
            raise ApplicationError(f"{where} has no attribute {attribute!r}; {HOW}") from None
    if not isinstance(found, Minion):
        raise ApplicationError(f"{app} is of class {type(found).__name__}, and should be a Minion")
    return found


def _import_module(name: str) -> ModuleType:
    if os.getcwd() not in sys.path and "" not in sys.path:  # noqa: PTH109  # as sys.path has it
        sys.path.insert(0, os.getcwd())  # noqa: PTH109
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        # Of the application itself, or of something that it imports?
        if error.name and (name == error.name or name.startswith(f"{error.name}.")):
            raise ApplicationError(f"there is no module {error.name!r} to import; {HOW}") from None
        raise ApplicationError(f"{name} cannot be imported: {error}") from error
    except (Exception, SystemExit) as error:
        raise ApplicationError(f"{name} cannot be imported: {type(error).__name__}: {error}") from error


def _import_script(path: str) -> ModuleType:
    name = _SCRIPT if Path(path).stem == "__main__" else Path(path).stem
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None or not Path(path).is_file():
        raise ApplicationError(f"there is no script {path}; {HOW}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    sys.path.insert(0, str(Path(path).resolve().parent))
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        raise ApplicationError(f"{path} cannot be imported: {type(error).__name__}: {error}") from error
    return module


def locate_app(minion: Minion) -> str:
    """Answer the application that makes this very ``Minion``, for a worker that was given none.

    Raises:
        ApplicationError: It is not an attribute of the module that made it, or that module has no file.
    """
    name = minion.made_in
    module = sys.modules.get(name)
    attribute = (
        next((key for key, value in vars(module).items() if value is minion), None) if module else None
    )
    if module is None or attribute is None:
        raise ApplicationError(
            "the processes of a worker import the application, and this Minion cannot be found in the"
            f" module that made it ({name}): make it at the top level of a module, or"
            f" {HOW} (app=... or --app)"
        )
    if name != "__main__":
        return f"{name}:{attribute}"
    if module.__spec__ is not None:
        return f"{module.__spec__.name}:{attribute}"  # python -m name
    path = getattr(module, "__file__", None)
    if path is None:
        raise ApplicationError(
            f"an interactive session cannot be imported by a worker: put it in a file; {HOW}"
        )
    return f"{Path(path).resolve()}:{attribute}"
