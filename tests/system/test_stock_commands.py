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

# Parts of commands whose feature does not exist yet. Rows with one of them must fail: when they do not any more, the
# test says so, and the entry goes. When it is empty, all that the client can say is true.
AWAITED: tuple[str, ...] = (
    "qos policy create", "--vip-qos-policy-id q", "security group create", "--vip-sg-id sg", "--additional-vip",
    "UDP", "dgram", "SCTP", "sctp", "PROMETHEUS", "metrics", "--request-sriov",
)  # fmt: skip


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


def _rows(chapter: str) -> list[Row]:
    return [step for step in CHAPTERS[chapter] if isinstance(step, Row)]


def _waits(row: Row) -> bool:
    return any(part in f"{row.command} {row.reads}" for part in AWAITED)


def _still_fails(world: World, row: Row) -> None:
    try:
        row.check(world)
    except (AssertionError, KeyError):
        return
    raise AssertionError("This works now: take its feature out of AWAITED.")


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_commands_do_what_they_say(world: World, chapter: str) -> None:
    """All rows of a chapter, in order; what is wrong with any of them is told at the end."""
    problems = []
    for step in CHAPTERS[chapter]:
        try:
            if not isinstance(step, Row):
                step(world)
            elif _waits(step):
                _still_fails(world, step)
            else:
                step.check(world)
        except (AssertionError, KeyError) as e:
            what = f"openstack {step.command}" if isinstance(step, Row) else step.__name__
            problems.append(f"{what}\n    {e!r}" if isinstance(e, KeyError) else f"{what}\n    {e}")
    assert not problems, "\n".join(problems)


def test_rows_use_all_that_the_client_knows() -> None:
    rows = [row for chapter in CHAPTERS for row in _rows(chapter)]
    assert sorted(set(known()) - used(rows)) == []
    assert len(commands()) == 82
