"""The network driver on the database: what drivers.Network promises."""

import threading

import pytest
from small_cloud import Client, Cloud

from colonnade.errors import Broken, Conflict, Invalid
from colonnade.local.network import LocalNetwork
from colonnade.model import NetworkPort, Subnet


@pytest.fixture
def subnet(cloud: Cloud, demo: Client) -> Subnet:
    found = cloud.network.subnet(demo.subnet("private-subnet")["id"])
    assert found is not None
    return found


def test_subnets_are_found(cloud: Cloud, subnet: Subnet) -> None:
    assert (subnet.cidr, subnet.gateway_ip, subnet.shared) == ("10.64.0.0/16", "10.64.0.1", True)
    assert cloud.network.subnets(subnet.network_id) == [subnet]
    assert cloud.network.subnet("nowhere") is None
    assert cloud.network.subnets("nowhere") is None


def test_a_network_without_subnets_is_a_network(cloud: Cloud, admin: Client) -> None:
    assert cloud.network.subnets(admin.make("network", name="n")["id"]) == []


def test_a_vip_is_made_once(cloud: Cloud, subnet: Subnet) -> None:
    port = cloud.network.ensure_vip("lb", "project", subnet, None)
    assert (port.name, port.device_id, port.device_owner) == ("octavia-lb-lb", "lb-lb", "Octavia")
    assert (port.project_id, port.network_id, port.mtu) == ("project", subnet.network_id, 1500)
    (fixed,) = port.fixed_ips
    assert (fixed.address, fixed.cidr, fixed.gateway_ip) == ("10.64.0.2", "10.64.0.0/16", "10.64.0.1")
    assert cloud.network.ensure_vip("lb", "project", subnet, None) == port
    assert cloud.network.port(port.id) == port


def test_a_vip_with_an_address(cloud: Cloud, subnet: Subnet) -> None:
    port = cloud.network.ensure_vip("lb", "project", subnet, "10.64.7.7")
    assert port.fixed_ips[0].address == "10.64.7.7"
    with pytest.raises(Conflict):
        cloud.network.ensure_vip("other", "project", subnet, "10.64.7.7")
    for outside in ("10.65.0.9", "10.64.0.0", "10.64.255.255", "x"):
        with pytest.raises(Invalid):
            cloud.network.ensure_vip("other", "project", subnet, outside)
    assert cloud.network.ours() == [port]


def test_a_full_subnet_is_broken_and_says_what_helps(cloud: Cloud, admin: Client) -> None:
    network = admin.make("network", name="n")["id"]
    small = cloud.network.subnet(admin.make("subnet", network_id=network, cidr="10.1.0.0/30")["id"])
    assert small is not None
    cloud.network.ensure_vip("a", "p", small, None)
    with pytest.raises(Broken) as refused:
        cloud.network.ensure_vip("b", "p", small, None)
    assert refused.value.help


def test_no_vip_on_an_external_network(cloud: Cloud, demo: Client) -> None:
    public = cloud.network.subnet(demo.subnet("public-subnet")["id"])
    assert public is not None
    with pytest.raises(Invalid):
        cloud.network.ensure_vip("lb", "p", public, None)
    with pytest.raises(Broken):
        cloud.network.ensure_plugged("amp", [public])


def test_an_amphora_has_one_port_for_each_network_with_an_address_on_each_subnet(cloud: Cloud, admin: Client) -> None:
    network = admin.make("network", name="n")["id"]
    subnets = []
    for cidr in ("10.1.0.0/24", "2001:db8::/64", "10.2.0.0/24"):
        found = cloud.network.subnet(admin.make("subnet", network_id=network, cidr=cidr)["id"])
        assert found is not None
        subnets.append(found)

    def addresses(port: NetworkPort) -> set[str]:
        return {ip.address for ip in port.fixed_ips}

    port = cloud.network.ensure_plugged("amp", subnets[:2])
    assert port.name == f"octavia-lb-vrrp-amp-{network}"
    assert (port.device_id, port.device_owner) == ("amp", "compute:nova")
    assert [ip.address for ip in port.fixed_ips] == ["10.1.0.2", "2001:db8::2"]
    assert cloud.network.ensure_plugged("amp", subnets[:2]) == port
    more = cloud.network.ensure_plugged("amp", subnets)
    assert more.id == port.id
    assert addresses(more) == {"10.1.0.2", "2001:db8::2", "10.2.0.2"}
    less = cloud.network.ensure_plugged("amp", subnets[1:])
    assert addresses(less) == {"2001:db8::2", "10.2.0.2"}
    assert cloud.network.plugged("amp") == [less]
    assert cloud.network.plugged("other") == []
    cloud.network.release(port.id)
    cloud.network.release(port.id)
    assert cloud.network.plugged("amp") == []
    assert cloud.network.port(port.id) is None


def test_a_deleted_subnet_is_broken(cloud: Cloud, admin: Client) -> None:
    network = admin.make("network", name="n")["id"]
    gone = cloud.network.subnet(admin.make("subnet", network_id=network, cidr="10.1.0.0/24")["id"])
    assert gone is not None
    admin.delete(f"/network/v2.0/subnets/{gone.id}")
    with pytest.raises(Broken):
        cloud.network.ensure_plugged("amp", [gone])


def test_two_who_make_one_port_make_one(cloud: Cloud, subnet: Subnet) -> None:
    found: list[NetworkPort] = []

    def make() -> None:
        network = LocalNetwork(cloud.store, cloud.clock)
        found.extend(network.ensure_plugged(f"amp{n}", [subnet]) for n in range(10))

    threads = [threading.Thread(target=make) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({p.id for p in found}) == len({p.fixed_ips[0].address for p in found}) == 10


def test_releasing_a_vip_lets_go_of_its_floating_ip(cloud: Cloud, admin: Client, subnet: Subnet) -> None:
    port = cloud.network.ensure_vip("lb", "p", subnet, None)
    made = admin.make("floatingip", floating_network_id=admin.network("public")["id"], port_id=port.id)
    cloud.network.release(port.id)
    found = admin.get(f"/network/v2.0/floatingips/{made['id']}")["floatingip"]
    assert (found["status"], found["port_id"]) == ("DOWN", None)


def test_ports_of_users_are_not_ours(cloud: Cloud, demo: Client, subnet: Subnet) -> None:
    demo.make("port", network_id=subnet.network_id, name="octavia-lb-x", device_id="lb-x")
    made = [cloud.network.ensure_vip("lb", "p", subnet, None), cloud.network.ensure_plugged("amp", [subnet])]
    assert sorted(cloud.network.ours(), key=lambda p: p.id) == sorted(made, key=lambda p: p.id)


def test_a_vip_on_two_subnets_is_one_port_and_goes_whole(cloud: Cloud, admin: Client) -> None:
    network = admin.make("network", name="n")["id"]
    made = [admin.make("subnet", network_id=network, cidr=c, ip_version=v)["id"]
            for c, v in (("10.1.0.0/24", 4), ("fd00:9::/64", 6))]  # fmt: skip
    four, six = (cloud.network.subnet(i) for i in made)
    assert four is not None
    assert six is not None
    port = cloud.network.ensure_vip("lb", "p", four, None, [(six, "fd00:9::7")])
    assert [(f.subnet_id, f.address) for f in port.fixed_ips] == [(four.id, "10.1.0.2"), (six.id, "fd00:9::7")]
    assert cloud.network.ensure_vip("lb", "p", four, None, [(six, "fd00:9::7")]) == port
    with pytest.raises(Conflict):
        cloud.network.ensure_vip("other", "p", four, None, [(six, "fd00:9::7")])
    assert [p.id for p in cloud.network.ours()] == [port.id]
    admin.delete(f"/network/v2.0/subnets/{six.id}", 409)
    cloud.network.release(port.id)
    admin.delete(f"/network/v2.0/networks/{network}")
