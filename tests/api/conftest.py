"""The fixtures of all tests of the load-balancing API."""

import pytest
from lb_service import Service

from colonnade.store.store import Store


@pytest.fixture
def service(store: Store) -> Service:
    """The API on an empty database; Alice has a subnet."""
    return Service(store)
