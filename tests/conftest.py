"""Fixtures for all tests."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from colonnade.store.store import Store


def pytest_addoption(parser: pytest.Parser) -> None:
    """Here, and not beside the tests that use it: pytest reads options of this file whatever it is given to run."""
    parser.addoption("--update-golden", action="store_true", help="rewrite the files under tests/golden")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """An empty database of its own, with all tables."""
    from colonnade.store import schema

    url = f"sqlite:///{tmp_path / 'colonnade.sqlite'}"
    schema.upgrade(url)
    made = Store(url)
    yield made
    made.close()
