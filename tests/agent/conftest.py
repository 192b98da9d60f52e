"""One agent for a module; each test's amphorae are removed after it."""

import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from datagrams import Servers
from rig import Rig, running

from colonnade.agent import namespaces


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests that use the rig, or a namespace, need root."""
    for item in items:
        if {"rig", "host", "namespace"} & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.root)


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    if os.geteuid() != 0:
        pytest.fail("this test makes network namespaces: run it as root, or leave it out with -m 'not root'")
    state: Path = tmp_path_factory.mktemp("state")
    with running(state) as rig:
        rig.member("m1", rig.front, f"{rig.net}.0.10/24", f"{rig.net6}:a/64")
        rig.member("m2", rig.front, f"{rig.net}.0.11/24")
        yield rig


@pytest.fixture(scope="module")
def servers(host: Rig) -> Servers:
    """UDP members beside the web servers."""
    return Servers(host)


@pytest.fixture
def namespace() -> Iterator[str]:
    """An empty one."""
    name = f"test-{uuid.uuid4().hex[:8]}"
    namespaces.create(name)
    yield name
    namespaces.remove(name)


@pytest.fixture
def rig(host: Rig) -> Iterator[Rig]:
    yield host
    if host.agent is None:  # a test failed after it had stopped it: the next ones are not to fail for that
        host.start()
    host.forget()
