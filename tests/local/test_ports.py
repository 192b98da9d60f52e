"""Ports and floating IPs: which addresses are given, to whom they lead, when they may go."""

import threading
from ipaddress import ip_address
from typing import Any

import pytest
from small_cloud import Client, Cloud
from sqlalchemy import event, insert, update

from colonnade.clock import utc
from colonnade.local.network import fabric
from colonnade.model import Amphora, LoadBalancer
from colonnade.store.local_tables import local_address, local_subnet
from colonnade.store.rows import to_row
from colonnade.store.tables import amphora, load_balancer

V2 = "/network/v2.0"


def address(port: dict[str, Any]) -> str:
    found: str = port["fixed_ips"][0]["ip_address"]
    return found


@pytest.fixture
def network(admin: Client) -> str:
    """A network with the subnet 10.1.0.0/28."""
    made = admin.make("network", name="n")["id"]
    admin.make("subnet", network_id=made, cidr="10.1.0.0/28")
    found: str = made
    return found


def test_addresses_go_round_so_that_none_is_used_again_soon(admin: Client, network: str) -> None:
    first, second = admin.make("port", network_id=network), admin.make("port", network_id=network)
    assert (address(first), address(second)) == ("10.1.0.2", "10.1.0.3")
    admin.delete(f"{V2}/ports/{first['id']}")
    given = [address(admin.make("port", network_id=network)) for _ in range(12)]
    assert given == [f"10.1.0.{n}" for n in range(4, 15)] + ["10.1.0.2"]
    assert admin.make("port", 409, network_id=network)["type"] == "IpAddressGenerationFailure"


def test_pools_are_honoured(admin: Client) -> None:
    network = admin.make("network", name="n")["id"]
    pools = [{"start": "10.1.0.8", "end": "10.1.0.9"}, {"start": "10.1.0.4", "end": "10.1.0.4"}]
    admin.make("subnet", network_id=network, cidr="10.1.0.0/24", allocation_pools=pools)
    outside = admin.make("port", network_id=network, fixed_ips=[{"ip_address": "10.1.0.100"}])
    assert address(outside) == "10.1.0.100"
    assert {address(admin.make("port", network_id=network)) for _ in range(3)} == {"10.1.0.4", "10.1.0.8", "10.1.0.9"}
    admin.make("port", 409, network_id=network)


@pytest.mark.parametrize(
    ("fixed_ips", "status", "kind"),
    [
        ([{"ip_address": "10.1.0.1"}], 409, "IpAddressInUse"),
        ([{"ip_address": "10.1.0.0"}], 400, "InvalidInput"),
        ([{"ip_address": "10.1.0.15"}], 400, "InvalidInput"),
        ([{"ip_address": "10.2.0.1"}], 400, "InvalidInput"),
        ([{"ip_address": "fd00::1"}], 400, "InvalidInput"),
        ([{"ip_address": "x"}], 400, "InvalidInput"),
        ([{"subnet_id": "x"}], 400, "InvalidInput"),
        ([{"colour": "x"}], 400, "InvalidInput"),
        ([{"ip_address": 7}], 400, "InvalidInput"),
        ("x", 400, "InvalidInput"),
        ([{"ip_address": "10.1.0.5"}, {"ip_address": "10.1.0.5"}], 409, "IpAddressInUse"),
    ],
)
def test_addresses_that_cannot_be_had(admin: Client, network: str, fixed_ips: Any, status: int, kind: str) -> None:
    assert admin.make("port", status, network_id=network, fixed_ips=fixed_ips)["type"] == kind
    assert admin.get(f"{V2}/ports")["ports"] == []


def test_an_address_is_had_once(admin: Client, network: str) -> None:
    port = admin.make("port", network_id=network, fixed_ips=[{"ip_address": "10.1.0.5"}])
    admin.make("port", 409, network_id=network, fixed_ips=[{"ip_address": "10.1.0.5"}])
    admin.delete(f"{V2}/ports/{port['id']}")
    admin.make("port", network_id=network, fixed_ips=[{"ip_address": "10.1.0.5"}])


def test_a_port_has_an_address_of_each_version(admin: Client, network: str) -> None:
    admin.make("subnet", network_id=network, cidr="2001:db8::/64")
    port = admin.make("port", network_id=network)
    assert [ip["ip_address"] for ip in port["fixed_ips"]] == ["10.1.0.2", "2001:db8::2"]
    exact = admin.make("port", network_id=network, fixed_ips=[{"ip_address": "2001:DB8::00FF"}])
    assert address(exact) == "2001:db8::ff"
    none = admin.make("port", network_id=network, fixed_ips=[])
    assert none["fixed_ips"] == []


@pytest.mark.parametrize(
    "given",
    [
        {"admin_state_up": False}, {"mac_address": "02:00:00:00:00:01"}, {"security_groups": ["a"]},
        {"allowed_address_pairs": [{"ip_address": "10.1.0.9"}]}, {"binding:host_id": "h"}, {"qos_policy_id": "q"},
        {"binding:vnic_type": "direct"}, {"port_security_enabled": False}, {"dns_name": "n"},
        {"extra_dhcp_opts": [{}]},
    ],
)  # fmt: skip
def test_ports_that_cannot_be(admin: Client, network: str, given: dict[str, Any]) -> None:
    error = admin.make("port", 400, network_id=network, **given)
    assert next(iter(given)) in error["message"]


def test_a_port_as_its_maker_sees_it(demo: Client) -> None:
    private = demo.network("private")["id"]
    port = demo.make("port", network_id=private, name="p", device_id="d", device_owner="mine", description="why")
    assert port["status"] == "DOWN"
    assert port["mac_address"].startswith("fa:")
    assert demo.put(f"{V2}/ports/{port['id']}", {"port": {"name": "q"}})["port"]["name"] == "q"
    demo.put(f"{V2}/ports/{port['id']}", {"port": {"fixed_ips": []}}, 400)
    for owner in ("network:dhcp", "Octavia", "compute:nova"):
        demo.make("port", 403, network_id=private, device_owner=owner)
    demo.make("port", 400, network_id=demo.network("public")["id"])
    demo.make("port", 404, network_id="nowhere")


def test_ports_are_found_by_what_they_have(admin: Client, network: str) -> None:
    port = admin.make("port", network_id=network, name="p", device_id="d", device_owner="o")
    admin.make("port", network_id=network)
    subnet = port["fixed_ips"][0]["subnet_id"]
    for query in ("name=p", "device_id=d", "device_owner=o", f"mac_address={port['mac_address'].upper()}",
                  "fixed_ips=ip_address=10.1.0.2", f"fixed_ips=ip_address=10.1.0.2&fixed_ips=subnet_id={subnet}",
                  "fixed_ips=ip_address%3D10.1.0.2", f"network_id={network}&limit=1"):  # fmt: skip
        assert [p["id"] for p in admin.get(f"{V2}/ports?{query}")["ports"]] == [port["id"]], query
    assert len(admin.get(f"{V2}/ports?fixed_ips=subnet_id={subnet}")["ports"]) == 2
    assert len(admin.get(f"{V2}/ports?device_id=")["ports"]) == 1
    admin.get(f"{V2}/ports?fixed_ips=colour=red", 400)


def test_tenants_see_their_own_ports_and_floating_ips(admin: Client, demo: Client) -> None:
    private, public = demo.network("private")["id"], demo.network("public")["id"]
    port = admin.make("port", network_id=private)
    floating = admin.make("floatingip", floating_network_id=public)
    own_port = demo.make("port", network_id=private)
    own = demo.make("floatingip", floating_network_id=public)
    assert [p["id"] for p in demo.get(f"{V2}/ports")["ports"]] == [own_port["id"]]
    assert [f["id"] for f in demo.get(f"{V2}/floatingips")["floatingips"]] == [own["id"]]
    assert len(admin.get(f"{V2}/floatingips")["floatingips"]) == 2
    demo.delete(f"{V2}/ports/{port['id']}", 404)
    demo.delete(f"{V2}/floatingips/{floating['id']}", 404)
    demo.put(f"{V2}/floatingips/{own['id']}", {"floatingip": {"port_id": port["id"]}}, 404)
    demo.make("floatingip", 403, floating_network_id=public, floating_ip_address="10.65.0.77")


def test_a_load_balancers_ports_stay(cloud: Cloud, admin: Client, demo: Client) -> None:
    subnet = cloud.network.subnet(demo.subnet("private-subnet")["id"])
    project = demo.network("private") and cloud.identity.authenticate(str(demo.token)).project_id
    assert subnet is not None
    assert project is not None
    vip = cloud.network.ensure_vip("lb1", project, subnet, None)
    own = demo.make("port", network_id=subnet.network_id)
    plugged = cloud.network.ensure_plugged("amp1", [subnet])
    rows = [LoadBalancer(id="lb1", project_id=project, vip_port_id=vip.id, created_at=utc(0)),
            LoadBalancer(id="lb2", project_id=project, vip_port_id=own["id"], created_at=utc(0))]  # fmt: skip
    with cloud.store.write() as conn:
        for row in rows:
            conn.execute(insert(load_balancer).values(to_row(row)))
        conn.execute(insert(amphora).values(to_row(Amphora(id="amp1", loadbalancer_id="lb1", created_at=utc(0)))))
    for client, port_id in ((demo, vip.id), (demo, own["id"]), (admin, plugged.id)):
        error = client.delete(f"{V2}/ports/{port_id}", 409).json["NeutronError"]
        assert error["type"] == "ServicePortInUse"
        assert "load balancer lb" in error["message"]
    demo.put(f"{V2}/ports/{vip.id}", {"port": {"device_id": ""}}, 409)
    demo.get(f"{V2}/ports/{plugged.id}", 404)
    assert admin.get(f"{V2}/ports/{plugged.id}")["port"]["status"] == "ACTIVE"


def test_a_floating_ip_leads_to_a_port(cloud: Cloud, demo: Client) -> None:
    def leads() -> dict[str, str]:
        with cloud.store.read() as conn:
            return fabric(conn).floating_ips

    port = demo.make("port", network_id=demo.network("private")["id"])
    floating = demo.make("floatingip", floating_network_id=demo.network("public")["id"])
    assert (floating["status"], floating["port_id"], floating["fixed_ip_address"]) == ("DOWN", None, None)
    assert floating["floating_ip_address"].startswith("10.65.0.")
    assert leads() == {}
    path = f"{V2}/floatingips/{floating['id']}"
    set_to = demo.put(path, {"floatingip": {"port_id": port["id"]}})["floatingip"]
    assert (set_to["status"], set_to["fixed_ip_address"]) == ("ACTIVE", address(port))
    assert set_to["port_details"]["network_id"] == port["network_id"]
    assert leads() == {floating["floating_ip_address"]: address(port)}
    assert demo.put(path, {"floatingip": {"description": "d"}})["floatingip"]["port_id"] == port["id"]
    found = demo.get(f"{V2}/floatingips?floating_ip_address={floating['floating_ip_address']}")["floatingips"]
    assert [f["id"] for f in found] == [floating["id"]]
    assert demo.put(path, {"floatingip": {"port_id": None}})["floatingip"]["status"] == "DOWN"
    assert leads() == {}
    demo.put(path, {"floatingip": {"port_id": port["id"]}})
    demo.delete(f"{V2}/ports/{port['id']}")
    assert demo.get(path)["floatingip"]["status"] == "DOWN"
    assert leads() == {}
    demo.delete(path)
    demo.get(path, 404)


def test_floating_ips_that_cannot_be(admin: Client, network: str) -> None:
    public = admin.network("public")["id"]
    admin.make("subnet", network_id=network, cidr="10.1.1.0/28", name="second")
    admin.make("subnet", network_id=network, cidr="2001:db8::/64", name="six")
    six = admin.make("port", network_id=network, fixed_ips=[{"ip_address": "2001:db8::5"}])["id"]
    two = admin.make("port", network_id=network, fixed_ips=[{"ip_address": a} for a in ("10.1.0.5", "10.1.1.5")])["id"]
    assert "not an external" in admin.make("floatingip", 400, floating_network_id=network)["message"]
    assert admin.make("floatingip", 404)["type"] == "NetworkNotFound"
    for given in ({"port_id": six}, {"port_id": two}, {"port_id": two, "fixed_ip_address": "10.1.0.6"},
                  {"fixed_ip_address": "10.1.0.5"}, {"router_id": "r"}, {"qos_policy_id": "q"}, {"dns_name": "n"},
                  {"subnet_id": "s"}, {"floating_ip_address": "10.1.0.9"}):  # fmt: skip
        admin.make("floatingip", 400, floating_network_id=public, **given)
    admin.make("floatingip", 404, floating_network_id=public, port_id="nowhere")
    for wanted in ("10.1.0.5", "10.1.1.5"):
        made = admin.make("floatingip", floating_network_id=public, port_id=two, fixed_ip_address=wanted)
        assert made["fixed_ip_address"] == wanted
    error = admin.make("floatingip", 409, floating_network_id=public, port_id=two, fixed_ip_address="10.1.0.5")
    assert error["type"] == "FloatingIPPortAlreadyAssociated"
    assert len(admin.get(f"{V2}/floatingips")["floatingips"]) == 2
    error = admin.delete(f"{V2}/networks/{public}", 409).json["NeutronError"]
    assert error["type"] == "NetworkInUse"


def test_an_admin_chooses_a_floating_address_and_they_end(admin: Client) -> None:
    outer = admin.make("network", name="outer", **{"router:external": True})["id"]
    admin.make("subnet", network_id=outer, cidr="10.66.0.0/30")
    chosen = admin.make("floatingip", floating_network_id=outer, floating_ip_address="10.66.0.2")
    assert chosen["floating_ip_address"] == "10.66.0.2"
    assert admin.make("floatingip", 409, floating_network_id=outer, floating_ip_address="10.66.0.2")
    assert admin.make("floatingip", 400, floating_network_id=outer)["type"] == "ExternalIpAddressExhausted"


def test_many_threads_never_get_one_address_twice(cloud: Cloud, admin: Client) -> None:
    private = admin.network("private")["id"]
    found: list[str] = []

    def take() -> None:
        client = Client(cloud, admin.token)
        found.extend(address(client.make("port", network_id=private)) for _ in range(15))

    threads = [threading.Thread(target=take) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == len(set(found)) == 90


def test_a_port_costs_the_same_when_thousands_are_taken(cloud: Cloud, demo: Client) -> None:
    subnet = cloud.network.subnet(demo.subnet("private-subnet")["id"])
    assert subnet is not None
    statements: list[str] = []
    event.listen(cloud.store.engine, "before_cursor_execute", lambda *args: statements.append(args[2]))
    cloud.network.ensure_plugged("first", [subnet])
    alone, count = len(statements), 5000
    taken = [str(ip_address("10.64.0.3") + n) for n in range(count)]
    with cloud.store.write() as conn:
        conn.execute(insert(local_address), [{"subnet_id": subnet.id, "address": a, "owner_id": "x"} for a in taken])
        conn.execute(update(local_subnet).where(local_subnet.c.id == subnet.id).values(last_given=taken[-1]))
    del statements[:]
    port = cloud.network.ensure_plugged("last", [subnet])
    assert port.fixed_ips[0].address == str(ip_address(taken[-1]) + 1)
    assert len(statements) == alone
