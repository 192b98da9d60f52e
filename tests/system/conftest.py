"""The installation that the system tests share."""

from collections.abc import Callable, Iterator

import pytest
from standalone import Api, Standalone, WebServer, installation


@pytest.fixture(scope="session")
def standalone() -> Iterator[Standalone]:
    """Started once, with the demo's web servers, taking requests without a token too."""
    with installation("--demo", "--noauth") as made:
        yield made


@pytest.fixture
def api(standalone: Standalone) -> Iterator[Api]:
    """As admin. Load balancers that the test left are removed after it."""
    admin = standalone.admin()
    yield admin
    left = [lb["id"] for lb in admin.get("lbaas/loadbalancers")]
    for lb_id in left:
        admin.delete(f"lbaas/loadbalancers/{lb_id}?cascade=true")
    for lb_id in left:
        admin.until_gone(lb_id)


@pytest.fixture
def web(standalone: Standalone) -> Iterator[Callable[[str], WebServer]]:
    """Makes web servers that amphorae reach."""
    made: list[WebServer] = []

    def make(name: str) -> WebServer:
        made.append(WebServer(standalone.host_address, name))
        return made[-1]

    yield make
    for server in made:
        server.close()
