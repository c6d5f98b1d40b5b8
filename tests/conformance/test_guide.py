"""The guide for authors knows every hook, option and capability that there is."""

from __future__ import annotations

import ast
import re
from importlib.resources import files
from pathlib import Path

import pytest
from attrs import fields

from minion_conformance.cli import run
from minion_core.records import Capabilities

GUIDE = (Path(__file__).parents[2] / "docs/writing-a-backend.md").read_text(encoding="utf-8")
CHECKS = Path(str(files("minion_conformance"))) / "checks"
HOOKS = {
    name for path in CHECKS.glob("*.py") for name in re.findall(r'rig\.hook\("(\w+)"\)', path.read_text())
}


def test_all_hooks_are_in_the_guide() -> None:
    told = set(re.findall(r"`(\w+)\((?:url|backend)", GUIDE)) | {"server"}
    assert told == HOOKS | {"server", "make_newer", "make_foreign"}


@pytest.mark.parametrize("name", [known.name for known in fields(Capabilities)])
def test_all_capabilities_are_in_the_guide(name: str) -> None:
    assert f"`{name}`" in GUIDE


def test_options_in_the_guide_exist() -> None:
    known = {option for parameter in run.params for option in parameter.opts}
    told = set(re.findall(r"--[a-z]+", GUIDE)) - {"--"}
    assert told <= known, told - known


@pytest.mark.parametrize("code", re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL))
def test_its_python_is_python(code: str) -> None:
    ast.parse(code)
