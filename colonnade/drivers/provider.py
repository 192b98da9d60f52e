"""Third parties' providers: found among the installed packages by their entry points, called as octavia-lib says.

octavia-lib is imported when the first of them is loaded: who has none does not pay for it.
"""

import importlib.metadata
import logging
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from colonnade.errors import Conflict, Invalid, ProviderFailed, Unsupported
from colonnade.model import OWN_PROVIDERS

log = logging.getLogger(__name__)

DRIVERS = "octavia.api.drivers"
AGENTS = "octavia.driver_agent.provider_agents"
_SAYS_NOTHING = "This feature is not implemented by the provider."

Driver = Any  # an octavia_lib ProviderDriver, of a package that carries no types


class NotEnabled(Invalid):
    """The operator's settings do not name the provider."""


class Unimplemented(Unsupported):
    """The provider has no such method."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Packages:
    """Where providers are looked for, and what they find here."""

    path: str  # a directory of packages beside the installed ones; empty: there is none
    sockets: tuple[str, str, str]  # the driver agent's: statuses, statistics, get

    def load(self, group: str, name: str) -> Callable[..., Any]:
        """What an installed package offers under this name. Raises LookupError, and what its import raises."""
        if self.path and self.path not in sys.path:
            sys.path.append(self.path)  # last: what we run with ourselves stays what it is
        found = tuple(importlib.metadata.entry_points(group=group, name=name))
        if not found:
            raise LookupError(f"no installed package offers {name} in {group}")
        loaded: Callable[..., Any] = found[0].load()
        self._lead()
        return loaded

    def _lead(self) -> None:
        """Make this process's ``DriverLibrary()`` use our sockets where its caller names none.

        Providers construct it without arguments, and the library knows one place for a whole machine; here several
        installations may live beside each other.
        """
        from octavia_lib.api.drivers import driver_lib

        driver_lib.DriverLibrary.__init__.__defaults__ = self.sockets


class Providers:
    """The providers that the settings enable. ``described`` is name: description."""

    def __init__(self, described: Mapping[str, str], packages: Packages) -> None:
        self.described, self._packages = dict(described), packages
        self._found: dict[str, Callable[[], Driver]] = {}
        self._lock = threading.Lock()

    def check(self, provider: str) -> None:
        """Raise NotEnabled unless the provider may be used."""
        if provider not in self.described:
            raise NotEnabled(f"Provider '{provider}' is not enabled.")

    def call(self, provider: str, method: str, *args: Any) -> Any:  # noqa: ANN401 - what drivers take and give
        """Call a method of the provider's driver, made anew for this. All arguments go by position: providers name
        them as they like. Takes as long as the provider does: no transaction may be open.

        Raises NotEnabled, ProviderFailed, Unsupported (Unimplemented), or Conflict.
        """
        driver = self._driver(provider)
        return answered(provider, lambda: getattr(driver, method)(*args))

    def _driver(self, provider: str) -> Driver:
        self.check(provider)
        try:
            with self._lock:
                if provider not in self._found:
                    self._found[provider] = self._packages.load(DRIVERS, provider)
            driver = self._found[provider]()
        except Exception as e:  # a package of somebody else's: whatever it raises, the provider cannot be had
            log.exception("A provider cannot be loaded.", extra={"provider": provider})
            raise Unsupported(f"Provider '{provider}' was not found.") from e
        driver.name = provider
        return driver


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


def own(provider: str) -> bool:
    """Whether the provider is the one that is built in."""
    return provider in OWN_PROVIDERS
