"""Finding the application: `module:attribute`, scripts, and the module that made a `Minion`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from minion_core import ApplicationError, Minion, load_app
from minion_core.application import locate_app

APP = "from minion_core import Minion\nminion = Minion('sqlite:///x.db')\nother = 5\n"


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]


def write(name, text):
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_module_and_attribute():
    write("app_one.py", APP)
    minion = load_app("app_one:minion")
    assert isinstance(minion, Minion)
    assert load_app("app_one") is minion
    assert locate_app(minion) == "app_one:minion"


def test_in_a_package_and_deeper():
    write("app_pkg/__init__.py", "")
    write("app_pkg/jobs.py", APP + "class box: inner = minion\n")
    assert load_app("app_pkg.jobs:box.inner") is load_app("app_pkg.jobs:minion")


def test_a_script():
    write("scripts/app_script.py", APP + "if __name__ == '__main__': raise RuntimeError\n")
    assert isinstance(load_app("scripts/app_script.py:minion"), Minion)
    assert isinstance(load_app("scripts/app_script.py"), Minion)


@pytest.mark.parametrize(
    ("app", "message"),
    [
        ("app_missing:minion", "there is no module 'app_missing'"),
        ("app_two.sub:minion", "there is no module 'app_two.sub'"),
        ("app_two:missing", "app_two has no attribute 'missing'"),
        ("app_two:other", "app_two:other is of class int, and should be a Minion"),
        ("app_two:", "not an application"),
        (":minion", "not an application"),
        ("missing.py:minion", "there is no script missing.py"),
        ("app_needs:minion", "app_needs cannot be imported: No module named 'not_there'"),
        ("app_raises:minion", "app_raises cannot be imported: RuntimeError: at import"),
        ("app_raises.py:minion", "app_raises.py cannot be imported: RuntimeError: at import"),
        ("app_exits:minion", "app_exits cannot be imported: SystemExit: 3"),
        ("app_syntax:minion", "app_syntax cannot be imported: SyntaxError"),
    ],
)
def test_what_cannot_be_used(app, message):
    write("app_two.py", APP)
    write("app_needs.py", "import not_there\n")
    write("app_raises.py", "raise RuntimeError('at import')\n")
    write("app_exits.py", "raise SystemExit(3)\n")
    write("app_syntax.py", "def\n")
    with pytest.raises(ApplicationError, match="^" + message):
        load_app(app)


def test_what_was_made_in_a_function_cannot_be_located():
    with pytest.raises(ApplicationError, match="make it at the top level of a module"):
        locate_app(Minion("sqlite:///x.db"))


def run(*arguments, **more):
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, check=False, timeout=30, **more
    )


MAIN = APP + "from minion_core.application import locate_app\nprint(locate_app(minion))\n"


def test_a_script_that_is_run_locates_itself(tmp_path):
    write("app_main.py", MAIN)
    assert run("app_main.py").stdout == f"{tmp_path / 'app_main.py'}:minion\n"


def test_a_module_that_is_run_locates_itself():
    write("app_run/__init__.py", "")
    write("app_run/main.py", MAIN)
    assert run("-m", "app_run.main").stdout == "app_run.main:minion\n"


def test_an_interactive_session_cannot_be_located():
    answer = run("-c", MAIN)
    assert "put it in a file" in answer.stderr


def test_a_worker_says_why_the_application_cannot_be_imported():
    write(
        "app_worker.py",
        APP
        + "import os\nif os.getenv('BREAK') and __name__ != '__main__': raise RuntimeError('only there')\n"
        "if __name__ == '__main__':\n    os.environ['BREAK'] = '1'\n    minion.worker().run()\n",
    )
    answer = run("app_worker.py")
    assert answer.returncode == 1
    assert "ApplicationError: " in answer.stderr
    assert "cannot be imported: RuntimeError: only there" in answer.stderr
    assert "Traceback" in answer.stderr
    with Minion("sqlite:///x.db") as minion:
        assert list(minion.workers()) == []
