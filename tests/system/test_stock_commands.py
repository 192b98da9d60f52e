"""All load-balancing commands of the stock client, with all their options, against a running installation."""

from collections.abc import Iterator

import pytest
from standalone import Standalone, installation
from stock_balancers import LOAD_BALANCERS, SERVING
from stock_l7 import POLICIES, RULES
from stock_listeners import LISTENERS, TLS
from stock_offers import FLAVORS, PROVIDERS, QUOTAS
from stock_pools import MEMBERS, MONITORS, POOLS
from stock_rows import Row, Step, World, commands, known, used

pytestmark = [pytest.mark.system, pytest.mark.root]

CHAPTERS: dict[str, list[Step]] = {
    "load balancers": LOAD_BALANCERS, "serving": SERVING, "listeners": LISTENERS, "tls": TLS, "pools": POOLS,
    "members": MEMBERS, "monitors": MONITORS, "policies": POLICIES, "rules": RULES, "quotas": QUOTAS,
    "providers": PROVIDERS, "flavors and zones": FLAVORS,
}  # fmt: skip

# What this host has nothing to give for: a row says how it is refused.
_REFUSED = {("loadbalancer member create", "--request-sriov")}


@pytest.fixture(scope="module")
def ordinary(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Standalone]:
    """Without --noauth, where quotas do not count. Lists come two items at a time, so that the client has to page."""
    config = tmp_path_factory.mktemp("config") / "pages.conf"
    config.write_text("[api_settings]\npagination_max_limit = 2\n")
    with installation("--demo", "--config", str(config)) as made:
        yield made


@pytest.fixture(scope="module")
def client(ordinary: Standalone) -> Iterator[World]:
    """With names for what every installation has."""
    world = World(ordinary)
    world.names["net"] = ordinary.members[0].rpartition(".")[0]
    for name, command in {"private_subnet": "subnet show private-subnet", "private": "network show private",
                          "demo": "project show demo"}.items():  # fmt: skip
        world.names[name] = world.shown(command)["id"]
    yield world
    world.close()


@pytest.fixture
def world(client: World) -> Iterator[World]:
    """For one chapter: its names and the load balancers that it leaves are gone after it."""
    before = dict(client.names)
    yield client
    for left in client.shown("loadbalancer list"):
        client.run(f"loadbalancer delete {left['id']} --cascade --wait")
    client.names = before


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_commands_do_what_they_say(world: World, chapter: str) -> None:
    """All rows of a chapter, in order; what is wrong with any of them is told at the end."""
    problems = []
    for step in CHAPTERS[chapter]:
        try:
            step(world)
        except (AssertionError, KeyError) as e:  # KeyError: a name that an earlier row was to keep
            problems.append(f"{getattr(step, 'command', step)}\n    {e!r}")
    assert not problems, "\n".join(problems)


def test_rows_use_all_that_the_client_knows() -> None:
    rows = [step for chapter in CHAPTERS.values() for step in chapter if isinstance(step, Row)]
    assert sorted(set(known()) - used(rows) - _REFUSED) == []
    assert len(commands()) == 82
