"""The fixtures of all tests of the load-balancing API."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from lb_provider import ENABLED, PACKAGES
from lb_service import Service

from colonnade.settings import DriverAgent
from colonnade.store.store import Store


@pytest.fixture
def service(store: Store) -> Service:
    """The API on an empty database; Alice has a subnet."""
    return Service(store)


@pytest.fixture
def provided(store: Store, tmp_path: Path) -> Service:
    """The same with the tests' provider: its package is found, and some of its drivers are enabled."""
    made = Service(store)
    agent = DriverAgent(provider_path=str(PACKAGES), status_socket_path=str(tmp_path / "none.sock"))
    made.settings = dataclasses.replace(made.settings, driver_agent=agent)
    made.reset(enabled_provider_drivers=ENABLED)
    return made


@pytest.fixture
def calls(provided: Service) -> Callable[[], list[tuple[str, tuple[Any, ...]]]]:
    """What drivers were asked since the last look; each as (method, arguments)."""
    provided.get("providers/mute/flavor_capabilities", by="admin")  # the package is imported by who loads it
    import example_provider

    example_provider.CALLS.clear()

    def since() -> list[tuple[str, tuple[Any, ...]]]:
        found = [(method, arguments) for _, method, arguments in example_provider.CALLS]
        example_provider.CALLS.clear()
        return found

    return since
