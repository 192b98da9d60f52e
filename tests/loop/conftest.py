"""Fixtures for tests of the loop."""

import shutil
from collections.abc import Iterator

import pytest

from tests.loop import world as worlds


@pytest.fixture
def world() -> Iterator[worlds.World]:
    """A world of its own."""
    with worlds.a_world() as made:
        yield made


@pytest.fixture(scope="session", autouse=True)
def _no_template_left() -> Iterator[None]:
    yield
    for template in worlds._TEMPLATE:
        shutil.rmtree(template.parent, ignore_errors=True)
    worlds._TEMPLATE.clear()
