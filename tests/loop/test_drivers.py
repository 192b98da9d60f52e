"""What every driver promises, asked of the fakes and of those that do nothing; and what is noop's own."""

import random
from collections.abc import Iterator
from typing import Any

import falcon.testing
import pytest

from colonnade import wire
from colonnade.api.app import make_lb_app
from colonnade.drivers import AmphoraLink, Compute, Network
from colonnade.drivers.fake import Cloud
from colonnade.drivers.noop import NoopHost, NoopNetwork
from colonnade.model import Caller, Subnet
from colonnade.settings import Settings
from colonnade.worker.loop import Worker
from tests.loop.world import World

LB, AMPHORA = "aaaaaaaa-0000-4000-8000-000000000001", "bbbbbbbb-0000-4000-8000-000000000001"
NOBODY = [f"{n:08x}-0000-4000-8000-00000000abcd" for n in range(4)]  # ids that exist nowhere
BUNDLE = wire.Bundle(
    amphora_id=AMPHORA, loadbalancer_id=LB, serving=True, interfaces=(), files={"haproxy.cfg": "x"},
    heartbeat_targets=(),
)  # fmt: skip


def networks() -> Iterator[tuple[Network, list[Subnet]]]:
    cloud, noop = Cloud(), NoopNetwork()
    yield cloud, [cloud.add_subnet("10.0.0.0/24", NOBODY[0]), cloud.add_subnet("10.0.1.0/24", NOBODY[0])]
    yield noop, [s for s in map(noop.subnet, NOBODY[:2]) if s]


def hosts() -> Iterator[Any]:
    yield Cloud()
    yield NoopHost()


@pytest.mark.parametrize(("network", "subnets"), list(networks()), ids=["fake", "noop"])
def test_ports_are_made_once_and_found_again(network: Network, subnets: list[Subnet]) -> None:
    vip = network.ensure_vip(LB, "p", subnets[0], None)
    assert network.ensure_vip(LB, "p", subnets[0], None) == vip
    assert vip.fixed_ips[0].subnet_id == subnets[0].id
    found = network.port(vip.id)
    assert found is not None and found.network_id == vip.network_id
    port = network.ensure_plugged(AMPHORA, subnets)
    assert [f.subnet_id for f in port.fixed_ips] == [s.id for s in subnets]
    assert len({f.address for f in port.fixed_ips}) == 2
    assert network.plugged(AMPHORA) == [port] == [network.ensure_plugged(AMPHORA, subnets)]
    fewer = network.ensure_plugged(AMPHORA, subnets[:1])
    assert (fewer.id, len(fewer.fixed_ips)) == (port.id, 1)
    for _ in range(2):
        network.release(port.id)
    assert network.plugged(AMPHORA) == []


@pytest.mark.parametrize("host", list(hosts()), ids=["fake", "noop"])
def test_an_amphora_is_what_it_was_pushed_until_it_is_removed(host: Any) -> None:
    compute: Compute = host
    link: AmphoraLink = host
    url = compute.ensure(AMPHORA, "key")
    assert compute.ensure(AMPHORA, "key") == url
    before = link.observe(url, AMPHORA)
    assert before is not None and before["digest"] is None
    pushed = link.push(url, AMPHORA, wire.to_json(BUNDLE))
    assert pushed == link.observe(url, AMPHORA)
    assert pushed["digest"] == wire.digest(BUNDLE)
    for _ in range(2):
        compute.remove(AMPHORA, url)
    assert compute.names() == []
    compute.ensure(AMPHORA, "key")
    again = link.observe(url, AMPHORA)
    assert again is not None and again["digest"] is None


def test_made_up_addresses_are_the_same_for_one_and_differ_for_all() -> None:
    ids = [f"{n:08x}-0000-4000-8000-000000000000" for n in range(2000)]
    first, second = NoopNetwork(), NoopNetwork()
    given = {"vip_subnet_id": NOBODY[0]}
    found = [first.made_up(i, given) for i in ids]
    assert found == [second.made_up(i, given) for i in ids]
    assert len({p.fixed_ips[0].address for p in found if p}) == len(ids)
    assert len({p.id for p in found if p}) == len(ids)


class Nobody:
    """An identity that knows an administrator only."""

    def authenticate(self, token: str) -> Caller:
        return self.default_caller()

    def default_caller(self) -> Caller:
        return Caller(user_id="u", project_id="p", roles=frozenset({"admin"}))


class NoopWorld:
    """The API and a worker with drivers that do nothing."""

    def __init__(self, world: World) -> None:
        self.world, self.host = world, NoopHost()
        self.app = make_lb_app(
            settings=Settings(), store=world.store, network=NoopNetwork(), doorbell=world.doorbell, clock=world.clock,
            supplies=self.host, identity=Nobody(),
        )  # fmt: skip
        self.client = falcon.testing.TestClient(self.app)

    def worker(self) -> Worker:
        return Worker(
            settings=self.world.settings, store=self.world.store, network=NoopNetwork(), compute=self.host,
            link=self.host, doorbell=self.world.doorbell, clock=self.world.clock, fabric=None, rng=random.Random(0),
        )  # fmt: skip

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        headers = {"X-Auth-Token": "any"}
        reply = self.client.simulate_request(method, f"/v2/lbaas/{path}", json=body, headers=headers)
        assert reply.status_code < 300, reply.text
        return reply.json if reply.text else None

    def create(self, **given: Any) -> Any:
        return self.ask("POST", "loadbalancers", {"loadbalancer": given})["loadbalancer"]


@pytest.fixture
def noop(world: World) -> NoopWorld:
    return NoopWorld(world)


@pytest.mark.parametrize(
    "given",
    [
        {"vip_subnet_id": NOBODY[0]},
        {"vip_network_id": NOBODY[1]},
        {"vip_port_id": NOBODY[2]},
        {"vip_subnet_id": NOBODY[0], "vip_network_id": NOBODY[1]},
        {"vip_subnet_id": NOBODY[0], "vip_address": "192.0.2.7"},
        {"vip_subnet_id": NOBODY[0], "vip_network_id": NOBODY[1], "vip_address": "2001:db8::7"},
        {"vip_port_id": NOBODY[2], "vip_subnet_id": NOBODY[0], "vip_address": "192.0.2.8"},
    ],
    ids=lambda given: "+".join(given),
)
def test_ids_that_exist_nowhere_are_taken_as_given(noop: NoopWorld, given: Any) -> None:
    lb = noop.create(**given)
    assert {k: lb[k] for k in given} == given
    assert all(lb[k] for k in ("vip_address", "vip_port_id", "vip_network_id", "vip_subnet_id"))
    assert noop.worker().turn(lb["id"])
    after = noop.ask("GET", f"loadbalancers/{lb['id']}")["loadbalancer"]
    assert after["provisioning_status"] == "ACTIVE"
    assert {k: after[k] for k in lb if k.startswith("vip_")} == {k: lb[k] for k in lb if k.startswith("vip_")}


def test_a_whole_life_goes_through_the_real_loop(noop: NoopWorld) -> None:
    rule = {"type": "PATH", "compare_type": "STARTS_WITH", "value": "/x", "admin_state_up": False}
    pool = {
        "name": "p", "protocol": "HTTP", "lb_algorithm": "ROUND_ROBIN",
        "members": [{"address": "192.0.2.1", "protocol_port": 80, "subnet_id": NOBODY[3]}],
        "healthmonitor": {"type": "PING", "delay": 2, "timeout": 1, "max_retries": 2},
    }  # fmt: skip
    bare = {"name": "q", "protocol": "HTTP", "lb_algorithm": "ROUND_ROBIN",
            "members": [{"address": "192.0.2.2", "protocol_port": 80}]}  # fmt: skip
    listeners = [
        {"protocol": "HTTP", "protocol_port": 80, "default_pool": pool,
         "l7policies": [{"action": "REJECT", "rules": [rule]}]},
        {"protocol": "HTTP", "protocol_port": 81, "default_pool": bare},
    ]  # fmt: skip
    lb = noop.create(vip_subnet_id=NOBODY[0], listeners=listeners)["id"]
    worker = noop.worker()
    worker.turn(lb)
    tree = noop.world.tree(lb)
    assert tree is not None
    shown = {
        type(v).__name__: (v.provisioning_status, v.operating_status)
        for part in (tree.listeners, tree.pools, tree.health_monitors, tree.l7policies, tree.l7rules)
        for v in (tree.load_balancer, *part)
    }
    assert shown == {
        "LoadBalancer": ("ACTIVE", "OFFLINE"), "Listener": ("ACTIVE", "OFFLINE"), "Pool": ("ACTIVE", "OFFLINE"),
        "HealthMonitor": ("ACTIVE", "ONLINE"), "L7Policy": ("ACTIVE", "ONLINE"), "L7Rule": ("ACTIVE", "OFFLINE"),
    }  # fmt: skip
    assert sorted((m.address, m.operating_status) for m in tree.members) == [
        ("192.0.2.1", "OFFLINE"), ("192.0.2.2", "NO_MONITOR"),
    ]  # fmt: skip
    (amphora,) = tree.amphorae
    assert (amphora.status, amphora.ha_ip) == ("ALLOCATED", tree.load_balancer.vip_address)
    assert amphora.lb_network_ip not in (None, amphora.ha_ip)
    noop.ask("PUT", f"loadbalancers/{lb}/failover")
    noop.worker().turn(lb)  # one that started anew remembers nothing
    tree = noop.world.tree(lb)
    assert tree is not None and [a.id == amphora.id for a in tree.amphorae] == [False]
    noop.ask("DELETE", f"loadbalancers/{lb}?cascade=true")
    worker.turn(lb)
    assert noop.world.tree(lb) is None


def test_a_turn_that_changes_nothing_does_nothing(noop: NoopWorld) -> None:
    lb, worker = noop.create(vip_subnet_id=NOBODY[0])["id"], noop.worker()
    worker.turn(lb)
    before = noop.world.story(lb)
    noop.world.change(lb)
    worker.turn(lb)
    assert noop.world.story(lb)[len(before) :] == [("did", "Nothing had to be done. All is as wanted.")]


def test_groups_policies_and_more_vips_are_taken_as_given(noop: NoopWorld) -> None:
    lb = noop.create(
        vip_subnet_id=NOBODY[0], additional_vips=[{"subnet_id": NOBODY[1], "ip_address": "2001:db8::9"}],
        vip_sg_ids=[NOBODY[2]], vip_qos_policy_id=NOBODY[3],
    )  # fmt: skip
    assert (lb["vip_sg_ids"], lb["vip_qos_policy_id"]) == ([NOBODY[2]], NOBODY[3])
    assert [v["ip_address"] for v in lb["additional_vips"]] == ["2001:db8::9"]
    noop.worker().turn(lb["id"])
    assert noop.ask("GET", f"loadbalancers/{lb['id']}")["loadbalancer"]["provisioning_status"] == "ACTIVE"
