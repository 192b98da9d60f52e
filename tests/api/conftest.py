"""The fixtures of all tests of the load-balancing API."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from lb_service import Service

from colonnade.store import schema
from colonnade.store.store import Store


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with all tables, to copy: making one takes longer than most tests here."""
    path = tmp_path_factory.mktemp("empty") / "colonnade.sqlite"
    schema.upgrade(f"sqlite:///{path}")
    return path


@pytest.fixture
def store(empty_database: Path, tmp_path: Path) -> Iterator[Store]:
    """An empty database of its own, with all tables."""
    path = tmp_path / "colonnade.sqlite"
    shutil.copy(empty_database, path)
    made = Store(f"sqlite:///{path}")
    yield made
    made.close()


@pytest.fixture
def service(store: Store) -> Service:
    """The API on an empty database; Alice has a subnet."""
    return Service(store)
