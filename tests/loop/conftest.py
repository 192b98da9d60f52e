"""Fixtures for tests of the loop."""

from collections.abc import Iterator

import pytest

from tests.loop import world as worlds


@pytest.fixture
def world() -> Iterator[worlds.World]:
    """A world of its own."""
    with worlds.a_world() as made:
        yield made
