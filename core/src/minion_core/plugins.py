"""Discovery: from the scheme of a URL to a backend class, and the plugins that observe.

Both groups of entry points are read with importlib-metadata. Of the backends only the one that a URL asks for
is imported: a broken driver of one database must not break the users of another.
"""

from __future__ import annotations

import importlib
import logging
import re
from typing import TYPE_CHECKING, Any, cast

import pluggy
from importlib_metadata import EntryPoint, entry_points

from minion_core import hookspecs
from minion_core.backend import Backend
from minion_core.errors import UnknownBackend

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable

logger = logging.getLogger(__name__)

BACKENDS = "minion.backends"
PLUGINS = "minion.plugins"

KNOWN_PACKAGES = {
    "sqlite": "minion-sqlite",
    "postgres": "minion-pg",
    "postgresql": "minion-pg",
    "mysql": "minion-mysql",
    "mariadb": "minion-mysql",
}
"""Which package to install for the schemes of this project's own plugins."""

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):")
_PASSWORD = re.compile(r"(//[^/?#@:]*:).*(?=@)")
_SECRET_OPTION = re.compile(r"(?i)([?&][^=&]*(?:password|passwd|secret)[^=&]*=)[^&#]*")


def safe_url(url: str) -> str:
    """Answer a URL with its passwords replaced by ``***``, for messages and logs."""
    return _SECRET_OPTION.sub(r"\1***", _PASSWORD.sub(r"\1***", url))


def scheme_of(url: str) -> str:
    """Answer the scheme of a URL, in lower case.

    Raises:
        ValueError: There is none.
    """
    found = _SCHEME.match(url)
    if found is None:
        raise ValueError(f"not the URL of a database: {safe_url(url)!r} (try sqlite:///jobs.db)")
    return found[1].lower()


def installed_backends() -> dict[str, EntryPoint]:
    """Answer the entry points of all installed backends by scheme, without importing any."""
    return {point.name: point for point in sorted(entry_points(group=BACKENDS), key=lambda point: point.name)}


def backend_class(url: str) -> type[Backend]:
    """Find the backend class for a URL; only the plugin of its scheme is imported.

    Raises:
        UnknownBackend: No plugin is installed for the scheme, or the one that is cannot be imported.
        ValueError: The URL has no scheme.
    """
    scheme = scheme_of(url)
    installed = installed_backends()
    # SQLAlchemy's habit of naming a driver behind the scheme (postgresql+psycopg) finds the plugin, too.
    point = installed.get(scheme) or installed.get(scheme.partition("+")[0])
    if point is None:
        raise UnknownBackend(_unknown(scheme, installed))
    try:
        plugin = point.load()
    except Exception as error:
        raise UnknownBackend(
            f"the plugin for {scheme}:// ({point.value}) cannot be imported: {type(error).__name__}: {error}"
        ) from error
    manager = _manager()
    manager.register(plugin, point.name)
    found = manager.hook.minion_backend(scheme=point.name)
    if not (isinstance(found, type) and issubclass(found, Backend)):
        raise UnknownBackend(f"the plugin {point.value} answers no backend class for {point.name}://")
    return found


def _unknown(scheme: str, installed: dict[str, EntryPoint]) -> str:
    names = ", ".join(f"{name}://" for name in installed) or "none"
    message = f"no backend is installed for {scheme}:// (installed: {names})"
    package = KNOWN_PACKAGES.get(scheme.partition("+")[0])
    return f"{message}; pip install {package}" if package else message


def _manager() -> pluggy.PluginManager:
    manager = pluggy.PluginManager("minion")
    manager.add_hookspecs(hookspecs)
    return manager


def load_plugin(name: str) -> object:
    """Import a plugin that is named by hand: a module, or an object in one (``package.module:object``).

    Raises:
        ValueError: There is no such module or object, or it cannot be imported.
    """
    module, _, attribute = name.partition(":")
    try:
        found: object = importlib.import_module(module)
        for part in attribute.split(".") if attribute else ():
            found = getattr(found, part)
    except Exception as error:
        told = f"{type(error).__name__}: {error}"
        raise ValueError(f"the plugin {name!r} cannot be imported: {told}") from error
    return found


class Plugins:
    """The plugins of one ``Minion``: those installed, found at first use, and those registered by hand.

    An observer that cannot be imported, or raises, is logged and never breaks a job.
    """

    def __init__(self, plugins: Iterable[object] = (), *, discover: bool = True) -> None:
        """Register plugins.

        Args:
            plugins: Modules or objects with marked functions, asked before those that are installed.
            discover: Whether to load those of the entry points, too.
        """
        self._manager = _manager()
        self._discover = discover
        for plugin in plugins:
            self.register(plugin)

    def register(self, plugin: object) -> None:
        """Add a plugin; one that is there already stays as it is.

        Raises:
            ValueError: It has a hook with an argument that the hook does not give, or wraps an observer.
        """
        if self._manager.is_registered(plugin):
            return
        try:
            self._manager.register(plugin)
        except pluggy.PluginValidationError as error:
            raise ValueError(f"the plugin {plugin!r} cannot be registered: {error}") from error
        for hook in self._manager.get_hookcallers(plugin) or ():
            wraps = any(
                found.plugin is plugin and (found.wrapper or found.hookwrapper)
                for found in hook.get_hookimpls()
            )
            if wraps and hook.name != "minion_perform":
                self._manager.unregister(plugin)
                raise ValueError(
                    f"the plugin {plugin!r} wraps {hook.name}: only minion_perform can be wrapped"
                )

    @property
    def hooks(self) -> pluggy.HookRelay:
        """All hooks, the installed plugins loaded."""
        self.load()
        return self._manager.hook

    def load(self) -> None:
        """Load the installed plugins, unless that was done; to look for them takes many milliseconds."""
        if self._discover:
            self._discover = False
            self._load_installed()

    def _load_installed(self) -> None:
        for point in entry_points(group=PLUGINS):
            try:
                self.register(point.load())
            except Exception:
                logger.exception("Plugin %s (%s) cannot be loaded and is left out", point.name, point.value)

    def observed(self, hook: str) -> bool:
        """Say whether anybody observes a hook."""
        return bool(getattr(self.hooks, hook).get_hookimpls())

    def notify(self, hook: str, **arguments: Any) -> None:
        """Tell the observers of a hook, each on its own; what one raises is logged."""
        for observer in reversed(getattr(self.hooks, hook).get_hookimpls()):
            try:
                observer.function(*[arguments[name] for name in observer.argnames])
            except Exception:
                logger.exception("Plugin %s failed in %s", observer.plugin_name, hook)

    def perform(self, job: Any) -> Any:
        """Call the wrappers around performing a job; the innermost performs it by ``job.call()``."""
        hook = self.hooks.minion_perform
        if not hook.get_hookimpls():
            return job.call()
        return hook.call_extra([lambda job: job.call()], {"job": job})

    async def perform_async(self, job: Any) -> Any:
        """Do as ``perform`` does, in an event loop: wrappers are entered before the job's code and left after
        it, however often it awaits in between.
        """
        entered: list[Generator[None, Any, Any]] = []
        raised: BaseException | None = None
        value: Any = None
        try:
            for wrapper in reversed(self.hooks.minion_perform.get_hookimpls()):
                if wrapper.wrapper:
                    inside = cast(
                        "Generator[None, Any, Any]", wrapper.function(*[job for _ in wrapper.argnames])
                    )
                    next(inside)
                    entered.append(inside)
            value = await job.call_async()
        except BaseException as error:  # noqa: BLE001  # the wrappers are told, and may make something else of it
            raised = error
        for inside in reversed(entered):
            try:
                inside.send(value) if raised is None else inside.throw(raised)
            except StopIteration as over:
                raised, value = None, over.value
            except BaseException as error:  # noqa: BLE001
                raised = error
            else:
                inside.close()
                raised = RuntimeError("a wrapper of minion_perform yielded twice")
        if raised is not None:
            raise raised
        return value

    def commands(self) -> list[Any]:
        """Answer the commands that plugins add to the command line; a broken plugin is logged."""
        found: list[Any] = []
        for offer in reversed(self.hooks.minion_commands.get_hookimpls()):
            try:
                found.extend(cast("Iterable[Any]", offer.function()))
            except Exception:
                logger.exception("Plugin %s failed in minion_commands", offer.plugin_name)
        return found
