"""Interfaces, routes and files of one amphora."""

from dataclasses import replace

import pytest
from desired import amphora, tree

from colonnade import wire
from colonnade.core.bundle import RenderOptions, render
from colonnade.errors import Broken
from colonnade.model import AdditionalVip, FixedIp, NetworkPort

OPTIONS = RenderOptions(heartbeat_targets=("127.0.0.1:5555",), heartbeat_interval=2.0, hard_stop_after_s=9)
GIVEN = {
    "listeners": [{"id": "web", "default_pool_id": "p1"}],
    "pools": [{"id": "p1", "members": [{"address": "10.1.0.5"}]}],
}


def port(id, network, *addresses, gateway="10.0.0.1", cidr="10.0.0.0/24"):
    ips = tuple(FixedIp(subnet_id=f"s-{network}", address=a, cidr=cidr, gateway_ip=gateway) for a in addresses)
    return NetworkPort(
        id=id, name=id, network_id=network, project_id="p", device_id="", device_owner="",
        mac_address="fa:16:3e:00:00:01", mtu=1450, fixed_ips=ips,
    )  # fmt: skip


VIP = port("vip", "front", "10.0.0.10")
OWN = port("own", "front", "10.0.0.20")
BACK = port("back", "back", "10.1.0.20", gateway="10.1.0.1", cidr="10.1.0.0/16")


def bundle(given=GIVEN, ports=(OWN, BACK), vip=VIP, *, serving=True):
    return render(tree(given), amphora(id="a1"), ports, vip, options=OPTIONS, serving=serving)


def test_the_network_of_the_vip_comes_first_and_alone_has_a_default_route():
    front, back = bundle(ports=(BACK, OWN)).interfaces
    assert (front.port_id, front.addresses, front.vips, front.gateways) == (
        "own", ("10.0.0.20/24",), ("10.0.0.10/32",), ("10.0.0.1",),
    )  # fmt: skip
    assert (back.port_id, back.addresses, back.vips, back.gateways) == ("back", ("10.1.0.20/16",), (), ())


def test_the_order_of_ports_does_not_matter():
    third = port("third", "a-network", "10.2.0.20")
    assert bundle(ports=(OWN, BACK, third)) == bundle(ports=(third, BACK, OWN))


def test_an_ipv6_vip_is_a_lone_address_too():
    vip = port("vip", "front", "fd00::10", cidr="fd00::/64", gateway="fd00::1")
    own = port("own", "front", "fd00::20", cidr="fd00::/64", gateway="fd00::1")
    made = bundle({**GIVEN, "vip": "fd00::10"}, (own,), vip)
    assert made.interfaces[0].vips == ("fd00::10/128",)
    assert made.interfaces[0].gateways == ("fd00::1",)
    assert "bind [fd00::10]:80" in made.files["haproxy.cfg"]


def test_two_subnets_of_one_ip_version_give_one_default_route():
    own = replace(OWN, fixed_ips=OWN.fixed_ips + port("x", "front", "10.9.0.2", gateway="10.9.0.1").fixed_ips)
    assert bundle(ports=(own,)).interfaces[0].gateways == ("10.0.0.1",)


def test_only_the_vip_of_a_port_with_more_addresses_is_served():
    made = bundle(vip=port("vip", "front", "10.0.0.10", "10.0.0.11"))
    assert made.interfaces[0].vips == ("10.0.0.10/32",)


def test_a_bundle_survives_the_wire():
    made = bundle(serving=False)
    assert wire.bundle_from_json(wire.to_json(made)) == made
    assert wire.digest(made) != wire.digest(replace(made, serving=True))


def test_settings_reach_the_bundle():
    made = bundle()
    assert (made.heartbeat_targets, made.heartbeat_interval) == (("127.0.0.1:5555",), 2.0)
    assert "hard-stop-after 9s" in made.files["haproxy.cfg"]


def test_nothing_to_serve_is_no_file():
    assert bundle({**GIVEN, "listeners": []}).files == {}


def test_an_amphora_without_a_port_at_the_vip_is_refused():
    with pytest.raises(Broken, match="no port on the network of the VIP"):
        bundle(ports=(BACK,))


def test_additional_vips_are_held_and_served_beside_the_first():
    more = {"additional_vips": (AdditionalVip(subnet_id="s6", ip_address="fd00::10", port_id="vip"),)}
    own = replace(
        OWN, fixed_ips=OWN.fixed_ips + port("x", "v6", "fd00::20", cidr="fd00::/64", gateway="fd00::1").fixed_ips
    )
    made = bundle({**GIVEN, "load_balancer": more}, (own,))
    front = made.interfaces[0]
    assert front.vips == ("10.0.0.10/32", "fd00::10/128")
    assert front.addresses == ("10.0.0.20/24", "fd00::20/64")
    assert front.gateways == ("10.0.0.1", "fd00::1")
    assert "bind 10.0.0.10:80\n    bind [fd00::10]:80\n" in made.files["haproxy.cfg"]
