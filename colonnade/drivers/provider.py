"""Third parties' providers: found among the installed packages by their entry points, called as octavia-lib says.

octavia-lib is imported when the first of them is loaded: who has none does not pay for it.
"""

import importlib.metadata
import logging
import sys
import threading
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from colonnade.errors import ApiError, Busy, Conflict, Invalid, ProviderFailed, Unsupported
from colonnade.model import foreign
from colonnade.settings import Settings

log = logging.getLogger(__name__)

DRIVERS = "octavia.api.drivers"
AGENTS = "octavia.driver_agent.provider_agents"
_MOST_LEFT = 32
_SAYS_NOTHING = "This feature is not implemented by the provider."

Driver = Any  # an octavia_lib ProviderDriver, of a package that carries no types


class NotEnabled(Invalid):
    """The operator's settings do not name the provider."""


class Unanswered(ProviderFailed):
    """The provider was asked, and nobody waits for its answer any more: it may still do what it was asked."""


class Unimplemented(Unsupported):
    """The provider has no such method."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Packages:
    """Where providers are looked for, and what they find here."""

    path: str  # a directory of packages beside the installed ones; empty: there is none
    sockets: tuple[str, str, str]  # the driver agent's: statuses, statistics, get
    files: tuple[str, ...] = ()  # the configuration, for options of their own

    @classmethod
    def of(cls, settings: Settings) -> "Packages":
        """By the settings."""
        path = settings.driver_agent.provider_path
        return cls(path=path, sockets=settings.provider_sockets, files=settings.files)

    def load(self, group: str, name: str) -> Callable[..., Any]:
        """What an installed package offers under this name. Raises LookupError, and what its import raises."""
        if self.path and self.path not in sys.path:
            sys.path.append(self.path)  # last: what we run with ourselves stays what it is
        found = tuple(importlib.metadata.entry_points(group=group, name=name))
        if not found:
            raise LookupError(f"no installed package offers {name} in {group}")
        loaded: Callable[..., Any] = found[0].load()
        self._lead()
        self._configure()
        return loaded

    def lack(self, group: str, names: Collection[str]) -> list[str]:
        """Those of the names that no installed package offers. Nothing is imported, nor can be from ``path`` later, for
        root asks, too; nothing is raised."""
        if not names:
            return []
        places = [*sys.path, self.path] if self.path else sys.path
        try:
            packages = importlib.metadata.distributions(path=places)
            offered = {e.name for package in packages for e in package.entry_points.select(group=group)}
            return [name for name in names if name not in offered]
        except Exception:  # a broken package of somebody else's must not keep us from starting
            log.exception("What installed packages offer cannot be read.", extra={"group": group})
            return []

    def _configure(self) -> None:
        """Providers register their options with oslo.config's one object for a whole process, and expect it to have
        read the configuration."""
        from oslo_config import cfg

        if "config_file" not in cfg.CONF:  # nobody has asked it to read any
            cfg.CONF([], project="colonnade", default_config_files=list(self.files), default_config_dirs=[])

    def _lead(self) -> None:
        """Make this process's ``DriverLibrary()`` use our sockets where its caller names none.

        Providers construct it without arguments, and the library knows one place for a whole machine; here several
        installations may live beside each other.
        """
        from octavia_lib.api.drivers import driver_lib

        driver_lib.DriverLibrary.__init__.__defaults__ = self.sockets


def missing(settings: Settings) -> list[str]:
    """A sentence about each provider, and each provider's agent, that the settings enable and no package offers."""
    packages, own = Packages.of(settings), settings.driver_agent
    where = f"beside Colonnade's own{f' or in {own.provider_path}' if own.provider_path else ', or set provider_path'}"
    do = f"Install its package {where} (docs/providers.md), or take it out."
    theirs = [name for name in settings.providers if foreign(name)]
    return [
        f"[api_settings] enabled_provider_drivers names {name}, which no installed package offers: who asks for it is "
        f"answered 501. {do}"
        for name in packages.lack(DRIVERS, theirs)
    ] + [
        f"[driver_agent] enabled_provider_agents names {name}, which no installed package offers: it cannot run. {do}"
        for name in packages.lack(AGENTS, own.enabled_provider_agents)
    ]


class Providers:
    """The providers that the settings enable. ``described`` is name: description; ``at_once``: so many calls are
    waited for at a time, for who waits is a thread that answers nobody else."""

    def __init__(
        self, described: Mapping[str, str], packages: Packages, limit_s: float, *, at_once: int
    ) -> None:  # fmt: skip
        self.described, self._packages, self._limit_s = dict(described), packages, limit_s
        self._places = threading.BoundedSemaphore(at_once)
        self._left: list[_Call] = []  # calls that were not waited for any longer
        self._found: dict[str, Callable[[], Driver]] = {}

    def check(self, provider: str) -> None:
        """Raise NotEnabled unless the provider may be used."""
        if provider not in self.described:
            raise NotEnabled(f"Provider '{provider}' is not enabled.")

    def call(self, provider: str, method: str, *args: Any) -> Any:  # noqa: ANN401 - what drivers take and give
        """Call a method of the provider's driver, made anew for this. All arguments go by position: providers name
        them as they like. It may take ``limit_s``: no transaction may be open.

        Raises NotEnabled, ProviderFailed (Unanswered: it may still do it), Unsupported (Unimplemented), Conflict, or
        Busy when too many earlier calls still hang, or are being waited for.
        """
        self.check(provider)
        self._left = [call for call in self._left if not call.done.is_set()]
        if len(self._left) >= _MOST_LEFT:
            raise Busy(f"Provider '{provider}' does not answer: earlier calls hang. Please try again.")
        if not self._places.acquire(blocking=False):
            raise Busy(f"Provider '{provider}' is asked too much at a time. Please try again.")
        try:
            return self._waited_for(_Call(provider, lambda: self._driver(provider), method, args))
        finally:
            self._places.release()

    def _waited_for(self, call: "_Call") -> Any:  # noqa: ANN401 - what drivers give
        # Not in the thread that answers the request: one that hangs in a provider would never answer another.
        threading.Thread(target=call.run, name=f"provider-{call.provider}", daemon=True).start()
        if not call.done.wait(self._limit_s):
            self._left.append(call)
            call.leave(self._limit_s)
        return call.outcome()

    def _driver(self, provider: str) -> Driver:
        try:
            if provider not in self._found:
                self._found[provider] = self._packages.load(DRIVERS, provider)
            driver = self._found[provider]()
        except Exception as e:  # a package of somebody else's: whatever it raises, the provider cannot be had
            log.exception("A provider cannot be loaded.", extra={"provider": provider})
            raise Unsupported(f"Provider '{provider}' was not found.") from e
        driver.name = provider
        return driver


class _Call:
    """One call, in a thread of its own. ``done`` is set at its end, and is what can be waited for: to join the thread
    cannot. A package that imports eventlet has Python read ``threading`` anew, in this thread, and the copy takes over
    the lock by which the thread's end is told."""

    def __init__(self, provider: str, make: Callable[[], Driver], method: str, args: tuple[Any, ...]) -> None:
        self.provider, self._make, self._method, self._args = provider, make, method, args
        self.done = threading.Event()
        self._lock = threading.Lock()
        self._begun = self._over = False
        self._value: Any = None
        self._error: ApiError | None = None

    def run(self) -> None:
        """Make the driver and call it, unless nobody waits any more by then."""
        try:
            driver = self._make()
            with self._lock:
                if self._over:
                    return
                self._begun = True
            value = answered(self.provider, lambda: getattr(driver, self._method)(*self._args))
        except ApiError as e:
            self._end(None, e)
        except BaseException as e:  # SystemExit, say: this thread is the provider's, and ends here
            log.exception("A provider ended its thread.", extra={"provider": self.provider})
            self._end(None, ProviderFailed(f"Provider '{self.provider}' reports error: {e!r}"))
        else:
            self._end(value, None)
        finally:
            self.done.set()

    def leave(self, limit_s: float) -> None:
        """Wait no longer. What has not been called yet never will be."""
        said = f"Provider '{self.provider}' reports error:"
        lost = Unanswered(f"{said} it has not answered within {limit_s:g} s; what becomes of it is not known.")
        unready = ProviderFailed(f"{said} it was not ready within {limit_s:g} s.")
        with self._lock:
            if not self._over:
                self._over, self._error = True, lost if self._begun else unready

    def _end(self, value: Any, error: ApiError | None) -> None:  # noqa: ANN401 - what drivers give
        with self._lock:
            if not self._over:
                self._over, self._value, self._error = True, value, error

    def outcome(self) -> Any:  # noqa: ANN401
        """What it returned; raises what it raised."""
        if self._error is not None:
            raise self._error
        return self._value


def answered(provider: str, call: Callable[[], Any]) -> Any:  # noqa: ANN401 - what drivers give
    """What a driver's method returns; what it raises as what the API answers."""
    from octavia_lib.api.drivers import exceptions as lib

    try:
        return call()
    except (lib.NotImplementedError, NotImplementedError) as e:
        said = getattr(e, "user_fault_string", _SAYS_NOTHING)
        raise Unimplemented(f"Provider '{provider}' does not support a requested action: {said}") from e
    except lib.UnsupportedOptionError as e:
        _note(provider, e)
        sentence = f"Provider '{provider}' does not support a requested option: {e.user_fault_string}"
        raise Unsupported(sentence) from e
    except lib.Conflict as e:
        _note(provider, e)
        raise Conflict(str(e.user_fault_string)) from e
    except Exception as e:  # DriverError, NotFound, and whatever a package of somebody else's raises
        log.exception("A provider failed.", extra={"provider": provider, "said": _for_operators(e)})
        said = getattr(e, "user_fault_string", None) or e
        raise ProviderFailed(f"Provider '{provider}' reports error: {said}") from e


def _note(provider: str, e: Exception) -> None:
    log.info("A provider refused.", extra={"provider": provider, "said": _for_operators(e)})


def _for_operators(e: Exception) -> str:
    return str(getattr(e, "operator_fault_string", None) or e)
