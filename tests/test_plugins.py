"""Discovery of backends, and the hooks (DESIGN: plugins)."""

from __future__ import annotations

import inspect
import logging
import subprocess
import sys
import threading
from types import ModuleType, SimpleNamespace

import pytest

import minion_core
from minion_core import Backend, JobFailed, Minion, NewJob, UnknownBackend, hookimpl, hookspecs, plugins
from minion_core.plugins import Plugins, backend_class, installed_backends, safe_url
from minion_sqlite.backend import SqliteBackend


class Point(SimpleNamespace):
    """An entry point."""

    def load(self):
        if isinstance(self.found, Exception):
            raise self.found
        return self.found


def install(monkeypatch, **points):
    def entry_points(*, group):
        return (
            [Point(name=name, value=f"module_of_{name}", found=found) for name, found in points.items()]
            if (group in {"minion.backends", "minion.plugins"})
            else []
        )

    monkeypatch.setattr(plugins, "entry_points", entry_points)


def backend_plugin(answer):
    module = ModuleType("a_plugin")

    @hookimpl
    def minion_backend(scheme):
        return answer if answer is None or not callable(answer) or inspect.isclass(answer) else answer(scheme)

    module.minion_backend = minion_backend
    return module


# -- Backends --------------------------------------------------------------------------------------------


def test_the_scheme_finds_the_backend():
    assert issubclass(backend_class("sqlite:///x.db"), Backend)
    assert backend_class("SQLite:///x.db") is SqliteBackend
    assert "sqlite" in installed_backends()


def test_only_the_plugin_of_the_scheme_is_imported(monkeypatch):
    class Mine(Backend):
        pass

    install(monkeypatch, mine=backend_plugin(Mine), broken=ImportError("no driver"))
    assert backend_class("mine://host/db") is Mine
    with pytest.raises(
        UnknownBackend, match=r"broken:// \(module_of_broken\) cannot be imported: .*no driver"
    ):
        backend_class("broken://host/db")


def test_an_unknown_scheme_names_what_is_installed_and_what_to_install(monkeypatch):
    install(monkeypatch, mine=None)
    for scheme, package in [
        ("postgresql", "minion-pg"),
        ("postgres", "minion-pg"),
        ("postgresql+psycopg", "minion-pg"),
        ("mysql", "minion-mysql"),
        ("mariadb", "minion-mysql"),
        ("sqlite", "minion-sqlite"),
    ]:
        with pytest.raises(UnknownBackend) as unknown:
            backend_class(f"{scheme}://user:secret@host/db")
        assert f"pip install {package}" in str(unknown.value)
        assert "installed: mine://" in str(unknown.value)
        assert "secret" not in str(unknown.value)
    with pytest.raises(UnknownBackend) as unknown:
        backend_class("redis://host")
    assert "pip" not in str(unknown.value)


@pytest.mark.parametrize("answer", [None, "text", int])
def test_a_plugin_that_answers_no_backend(monkeypatch, answer):
    install(monkeypatch, odd=backend_plugin(answer))
    with pytest.raises(UnknownBackend, match="answers no backend class"):
        backend_class("odd://")


@pytest.mark.parametrize("url", ["", "jobs.db", "://x", "/var/jobs.db"])
def test_what_is_no_url_is_refused(url):
    with pytest.raises(ValueError, match="not the URL of a database"):
        backend_class(url)


def test_importing_the_core_imports_no_driver():
    code = (
        "import sys, minion_core; "
        "heavy = ('sqlalchemy', 'minion_sqlite', 'click', 'rich');"
        "print([name for name in sys.modules if name.startswith(heavy)])"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("url", "safe"),
    [
        ("sqlite:///jobs.db", "sqlite:///jobs.db"),
        ("postgresql://me:secret@host/db", "postgresql://me:***@host/db"),
        ("postgresql://me:se/c@r#et?@host/db", "postgresql://me:***@host/db"),
        ("postgresql://host/db?user=me&password=secret&x=1", "postgresql://host/db?user=me&password=***&x=1"),
        ("mysql://me@host:3306/db", "mysql://me@host:3306/db"),
    ],
)
def test_passwords_are_not_shown(url, safe):
    assert safe_url(url) == safe
    assert "secret" not in repr(Minion(url))


# -- Observers -------------------------------------------------------------------------------------------


class Notebook:
    """Writes down each hook that it is told."""

    def __init__(self):
        self.seen = []

    def names(self):
        return [name for name, _ in self.seen]


def _observer(name):
    arguments = [each for each in inspect.signature(getattr(hookspecs, name)).parameters if each != "self"]
    text = (
        f"def {name}(self, {', '.join(arguments)}): self.seen.append(({name!r}, dict(locals(), self=None)))"
    )
    namespace: dict = {}
    exec(text, namespace)
    return hookimpl(namespace[name])


OBSERVED = [
    name
    for name, value in vars(hookspecs).items()
    if name.startswith("minion_")
    and name not in {"minion_backend", "minion_commands", "minion_perform"}
    and callable(value)
]
for _name in OBSERVED:
    setattr(Notebook, _name, _observer(_name))


@pytest.fixture
def notebook():
    return Notebook()


@pytest.fixture
def observed(url, notebook):
    with Minion(url, plugins=[notebook], backoff=lambda _failures: 0.0) as minion:

        @minion.task
        def fine():
            return 1

        @minion.task(attempts=2)
        def broken():
            raise ValueError("no")

        @minion.task
        def declines(job):
            job.declined(60)

        @minion.task
        def splits(job):
            job.replace_with(fine.new_job())

        yield minion


def test_observers_are_told_what_becomes_of_jobs(observed, notebook):
    for task in ("fine", "broken", "declines", "splits"):
        observed.enqueue(task)
    observed.perform_jobs()
    assert notebook.names().count("minion_enqueued") == 4
    assert notebook.names().count("minion_started") == 6
    told = dict(notebook.seen)
    assert told["minion_finished"]["result"] == 1
    assert told["minion_retried"]["message"].startswith("ValueError: no")
    assert told["minion_failed"]["job"].task == "broken"
    assert told["minion_declined"]["run_after"] == 60
    assert [entry.id for entry in told["minion_replaced"]["jobs"]] == [5]
    assert notebook.names().count("minion_retried") == 1
    assert notebook.names().count("minion_failed") == 1


def test_observers_are_told_of_schedules(observed, notebook):
    observed.schedule("often", "* * * * *", "fine")
    due = observed.backend.list_schedules(0, 1, minion_core.ScheduleFilter()).items[0]
    later = Minion(observed.url, plugins=[notebook], clock=lambda: due.next_run)
    (run,) = later.dispatch_schedules()
    assert (
        "minion_schedule_dispatched",
        {"self": None, "minion": later, "name": "often", "job_id": run.job},
    ) in (notebook.seen)


def test_observers_are_told_of_a_worker(observed, notebook, eventually):
    observed.enqueue("fine")
    worker = observed.worker(executor="inline")
    thread = threading.Thread(target=worker.run)
    thread.start()
    eventually(lambda: "minion_worker_waiting" in notebook.names())
    observed.enqueue("fine")
    eventually(lambda: notebook.names().count("minion_finished") == 2)
    worker.stop()
    thread.join(10)
    wanted = ["minion_worker_started", "minion_claimed", "minion_worker_waiting", "minion_worker_busy"]
    found = [name for name in notebook.names() if name in {*wanted, "minion_worker_stopped"}]
    assert found[:4] == wanted
    assert found[-1] == "minion_worker_stopped"


def test_a_broken_observer_breaks_nothing(url, caplog):
    class Broken:
        @hookimpl
        def minion_started(self):
            raise RuntimeError("broken observer")

        @hookimpl
        def minion_enqueued(self):
            raise RuntimeError("broken observer")

    with Minion(url, plugins=[Broken()]) as minion:
        minion.add_task("fine", lambda: 1)
        id = minion.enqueue("fine")
        assert minion.perform_jobs() == 1
        assert minion.result(id) == 1
    assert [record.levelno for record in caplog.records if "failed in minion_" in record.message] == [
        logging.ERROR
    ] * 2


def test_a_plugin_that_cannot_be_imported_is_left_out(monkeypatch, caplog):
    notebook = Notebook()
    install(monkeypatch, fine=notebook, broken=ImportError("gone"))
    found = Plugins()
    found.notify("minion_started", job=None)
    assert notebook.names() == ["minion_started"]
    assert "broken (module_of_broken) cannot be loaded" in caplog.text


def test_a_wrong_plugin_is_refused():
    class WrongArgument:
        @hookimpl
        def minion_started(self, nonsense):
            pass

    class WrongWrapper:
        @hookimpl(wrapper=True)
        def minion_started(self):
            return (yield)

    for wrong in (WrongArgument(), WrongWrapper()):
        with pytest.raises(ValueError, match="minion_started"):
            Minion("sqlite://", plugins=[wrong])


def test_a_wrapper_around_performing(url):
    class Wrapper:
        @hookimpl(wrapper=True)
        def minion_perform(self, job):
            job.note(before=True)
            try:
                result = yield
            except ValueError as error:
                raise RuntimeError(f"wrapped {error}") from error
            return [result]

    with Minion(url, plugins=[Wrapper()]) as minion:
        minion.add_task("fine", lambda: None)
        minion.add_task("broken", lambda: int("x"))
        fine, broken = minion.enqueue("fine"), minion.enqueue("broken")
        minion.perform_jobs()
        assert minion.result(fine) == [None]
        assert minion.job(fine).notes == {"before": True}
        with pytest.raises(JobFailed, match="wrapped invalid literal"):
            minion.result(broken)


def test_plugins_may_add_commands(monkeypatch, caplog):
    class Commands:
        @hookimpl
        def minion_commands(self):
            return ["a command"]

    class Broken:
        @hookimpl
        def minion_commands(self):
            raise RuntimeError("no")

    install(monkeypatch, one=Commands(), two=Broken())
    assert Plugins().commands() == ["a command"]
    assert "failed in minion_commands" in caplog.text


def test_every_hook_is_documented():
    for name, value in vars(hookspecs).items():
        if name.startswith("minion_") and callable(value):
            assert inspect.getdoc(value), name


def test_all_public_names_are_exported():
    public = {
        name
        for name, value in vars(minion_core).items()
        if not name.startswith("_") and not isinstance(value, ModuleType)
    }
    assert public == set(minion_core.__all__)
    assert NewJob is minion_core.NewJob
