"""Fixtures: a fresh small cloud for each test, copied from one that was set up once."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from small_cloud import Client, Clock, Cloud, settings_of

from colonnade.local import host_routes, setup
from colonnade.local.host_routes import Routes
from colonnade.store import local_tables
from colonnade.store.store import Store


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    state = tmp_path_factory.mktemp("template")
    (state / "db").mkdir()
    settings = settings_of(state)
    store = Store(settings.database_url)
    local_tables.metadata.create_all(store.engine)
    setup.ensure(settings, store, Clock())
    store.close()
    return state


@pytest.fixture
def build(template: Path, tmp_path: Path) -> Iterator[Callable[..., Cloud]]:
    """Makes clouds on one copy of the template; keywords are options of [api_settings], or ``reached``."""
    state = tmp_path / "state"
    shutil.copytree(template, state)
    made: list[Cloud] = []

    def make(clock: Any = None, reached: Routes = host_routes.nothing, **api: Any) -> Cloud:
        made.append(Cloud(settings_of(state, **api), clock, reached))
        return made[-1]

    yield make
    for cloud in made:
        cloud.store.close()


@pytest.fixture
def cloud(build: Callable[..., Cloud]) -> Cloud:
    return build()


@pytest.fixture
def admin(cloud: Cloud) -> Client:
    return cloud.client("admin")


@pytest.fixture
def demo(cloud: Cloud) -> Client:
    return cloud.client("demo")
