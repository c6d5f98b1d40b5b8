"""What a user installs is enough: the core and one plugin, in an empty virtual environment."""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = [
    ROOT / "core",
    *sorted(path.parent for path in ROOT.glob("plugins/*/pyproject.toml")),
    ROOT / "conformance",
]
PACKAGES = [path for path in PACKAGES if (path / "pyproject.toml").exists()]


def do(*command: str, cwd: Path, **environment: str) -> str:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("MINION_", "PYTHON"))}
    answer = subprocess.run(
        command, cwd=cwd, env=clean | environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert answer.returncode == 0, f"{command}: {answer.stdout}{answer.stderr}"
    return answer.stdout


def test_core_and_sqlite_are_enough(tmp_path):
    for package in ("core", "plugins/minion_sqlite"):
        # A copy, so that building leaves nothing behind here.
        shutil.copytree(
            ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__", "build")
        )
    do(sys.executable, "-m", "venv", "empty", cwd=tmp_path)
    binaries = tmp_path / "empty" / "bin"
    python, minion = str(binaries / "python"), str(binaries / "minion")
    do(python, "-m", "pip", "install", "--quiet", "./core", cwd=tmp_path)
    assert (
        "none is installed; pip install minion-sqlite"
        in subprocess.run(
            [minion, "backends"], cwd=tmp_path, capture_output=True, text=True, check=True
        ).stderr
    )
    do(python, "-m", "pip", "install", "--quiet", "./plugins/minion_sqlite", cwd=tmp_path)
    (tmp_path / "app.py").write_text(
        'from minion_core import Minion\nminion = Minion("sqlite:///jobs.db")\n'
        "@minion.task\ndef add(a, b):\n    return a + b\n"
    )
    id = do(minion, "--app", "app", "job", "-e", "add", "-a", "[2, 3]", cwd=tmp_path).strip()
    worker = subprocess.Popen(
        [minion, "--app", "app", "worker", "-j", "1"], cwd=tmp_path, stderr=subprocess.PIPE
    )
    try:
        wait = f"from app import minion; print(minion.result({id}, timeout=60))"
        assert do(python, "-c", wait, cwd=tmp_path) == "5\n"
    finally:
        worker.terminate()
        worker.communicate()
    assert worker.returncode == 0
    [backend] = json.loads(do(minion, "backends", "--json", cwd=tmp_path))["backends"]
    assert (backend["scheme"], backend["error"]) == ("sqlite", None)


@pytest.mark.parametrize("package", PACKAGES, ids=lambda path: path.name)
def test_a_package_has_what_all_have(package):
    project = tomllib.loads((package / "pyproject.toml").read_text())["project"]
    name = project["name"].replace("-", "_")
    assert project["version"] == version("minion-core")
    assert project["requires-python"] == ">=3.11"
    assert (package / "src" / name / "py.typed").exists()
    assert (package / project["readme"]).exists()


@pytest.mark.parametrize("package", PACKAGES, ids=lambda path: path.name)
def test_a_package_names_what_it_imports(package):
    project = tomllib.loads((package / "pyproject.toml").read_text())["project"]
    extras = [item for group in project.get("optional-dependencies", {}).values() for item in group]
    named = {
        project["name"],
        *(re.split(r"[\[<>=!~; ]", item)[0] for item in project["dependencies"] + extras),
    }
    if any(item.startswith("minion-core[sql]") for item in project["dependencies"]):
        named.add("sqlalchemy")
    modules = {name.replace("-", "_") for name in named} | sys.stdlib_module_names
    for path in (package / "src").rglob("*.py"):
        assert _imported(path) <= modules, path


def _imported(path: Path) -> set[str]:
    """What must be there for a module to be imported; what functions import may be missing."""
    found: set[str] = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Import):
            found.update(alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            found.add(str(node.module).partition(".")[0])
    return found


def test_every_dependency_is_named_with_its_reason():
    design = (ROOT / "docs" / "design.md").read_text()
    for package in PACKAGES:
        project = tomllib.loads((package / "pyproject.toml").read_text())["project"]
        extras = [item for group in project.get("optional-dependencies", {}).values() for item in group]
        for item in project["dependencies"] + extras:
            name = re.split(r"[\[<>=!~; ]", item)[0]
            if not name.startswith("minion-"):
                assert re.search(rf"^\|[^|]*\b{name}\b[^|]*\| \w", design, re.MULTILINE), (
                    f"docs/design.md: {name}"
                )
