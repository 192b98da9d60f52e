"""Fixtures for all tests."""

from collections.abc import Iterator

import hypothesis
import pytest
from databases import DATABASES, KINDS

from colonnade.store.store import Store

# The same examples on every run and machine: what is found is found by who changes something. To look for more:
# --hypothesis-profile=search. No deadline: how long an example takes says what else the machine does.
_HURRY = [hypothesis.HealthCheck.too_slow]  # nor how long it takes to make one
hypothesis.settings.register_profile(
    "same", derandomize=True, database=None, deadline=None, suppress_health_check=_HURRY
)
hypothesis.settings.register_profile("search", deadline=None, max_examples=1000)
hypothesis.settings.load_profile("same")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Here, and not beside the tests that use it: pytest reads options of this file whatever it is given to run."""
    parser.addoption("--update-golden", action="store_true", help="rewrite the files under tests/golden")
    parser.addoption("--database", choices=KINDS, default="sqlite", help="what tests of the store, API and loop run on")


def pytest_configure(config: pytest.Config) -> None:
    DATABASES.kind = config.getoption("--database")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """What says nothing of the database is said once."""
    if DATABASES.kind != "sqlite":
        config.hook.pytest_deselected(items=[i for i in items if i.get_closest_marker("any_database")])
        items[:] = [i for i in items if not i.get_closest_marker("any_database")]


def pytest_unconfigure() -> None:
    DATABASES.close()


@pytest.fixture
def store() -> Iterator[Store]:
    """An empty database of its own, with all tables."""
    with DATABASES.fresh() as url:
        made = Store(url)
        yield made
        made.close()
