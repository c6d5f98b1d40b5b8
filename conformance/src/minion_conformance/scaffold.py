"""The folder of a new backend: it installs, runs, and fails clause by clause as a list of what to do."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

from minion_conformance.report import suite_version
from minion_core.backend import Backend

PYPROJECT = """\
[build-system]
requires = ["hatchling>=1.26"]
build-backend = "hatchling.build"

[project]
name = "minion-{name}"
version = "0.1.0"
description = "A backend of the minion job queue for {name}://"
requires-python = ">=3.11"
dependencies = ["minion-core=={version}"]

[project.optional-dependencies]
test = ["minion-conformance=={version}"]

[project.entry-points."minion.backends"]
{name} = "minion_{name}"

[tool.hatch.build.targets.wheel]
packages = ["src/minion_{name}"]

[tool.pytest.ini_options]
testpaths = ["tests"]
"""

INIT = '''\
"""A backend of the minion job queue for {name}://."""

from minion_core import hookimpl
from minion_core.backend import Backend

from minion_{name}.backend import {cls}


@hookimpl
def minion_backend(scheme: str) -> type[Backend] | None:
    """Answer the backend for our scheme."""
    return {cls} if scheme == "{name}" else None
'''

TEST = '''\
"""The whole test: every clause of the contract."""

from minion_conformance import suite

TestConformance = suite("{name}://localhost/conformance")
'''

BACKEND = '''\
"""The backend. What each method promises stands in its docstring in minion_core.backend."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from minion_core.backend import Backend
from minion_core.records import (
    {records},
)


class {cls}(Backend):
    """Jobs in {name}."""

    # Declare what is true; what is not declared has a clause of its own.
    capabilities = Capabilities(
        transactional_enqueue=False,
        wakeup=False,
        concurrent_claims=False,
        multi_process=False,
        durable=False,
        server_clock=False,
        uptime=False,
        time_resolution=0.000001,
    )

    def open(self, *, migrate: bool = True) -> None:
        """Connect here."""

    def close(self) -> None:
        """Let go here."""

    def now(self) -> datetime:
        return self.clock() if self.clock else datetime.now(UTC)

    def describe(self) -> str:
        return "{name}: nothing is stored yet, everything is lost"

    @classmethod
    def migration_script(cls) -> str:
        return ""

    def migrate(self) -> list[int]:
        return []

{methods}'''

WRITTEN = {"open", "close", "now", "describe", "migration_script", "migrate"}


def write_folder(name: str, into: Path) -> Path:
    """Write the folder of a new backend.

    Args:
        name: The scheme of its URLs; the package is ``minion-NAME``.
        into: Where to put the folder.

    Raises:
        ValueError: The name is no scheme, or the folder is there already.
    """
    if not re.fullmatch(r"[a-z][a-z0-9]*", name):
        raise ValueError(f"{name!r} must be a scheme: small letters and digits, as in redis")
    folder = into / f"minion_{name}"
    if folder.exists():
        raise ValueError(f"{folder} is there already; choose another name or folder")
    cls = f"{name.capitalize()}Backend"
    methods = "\n".join(
        _method(method) for method in sorted(Backend.__abstractmethods__ - WRITTEN, key=_line)
    )
    words = set(re.findall(r"\b[A-Z][A-Za-z]+\b", methods)) - {"Any", "Sequence", "Mapping", "None"}
    records = ",\n    ".join(sorted((words & _records()) | {"Capabilities"}))
    values = {"name": name, "cls": cls, "version": suite_version(), "methods": methods, "records": records}
    for path, text in {
        "pyproject.toml": PYPROJECT,
        f"src/minion_{name}/__init__.py": INIT,
        f"src/minion_{name}/backend.py": BACKEND,
        "tests/test_conformance.py": TEST,
    }.items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text.format(**values), encoding="utf-8")
    (folder / f"src/minion_{name}/py.typed").touch()
    return folder


def _records() -> set[str]:
    import minion_core.records as module  # noqa: PLC0415, for its names alone

    return set(vars(module))


def _line(method: str) -> int:
    return inspect.getsourcelines(getattr(Backend, method))[1]


def _method(method: str) -> str:
    """Copy the head of a method from the contract, with a body that says what is missing."""
    source = inspect.getsource(getattr(Backend, method))
    head = re.search(r"    def .*?->.*?:\n", source, re.DOTALL)
    if head is None:
        raise ValueError(f"the contract's {method} cannot be read")
    return f'{head[0]}        raise NotImplementedError("{method}")\n'
