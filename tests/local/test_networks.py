"""Networks and subnets: what may be made, who sees it, when it may go."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from small_cloud import Client, Cloud
from sqlalchemy import insert, select

from colonnade.clock import utc
from colonnade.local import host_routes
from colonnade.local.network import fabric
from colonnade.model import LoadBalancer
from colonnade.store.rows import to_row
from colonnade.store.tables import load_balancer, work

V2 = "/network/v2.0"


@pytest.mark.parametrize("path", ["/network", "/network/", "/network/v2.0", "/network/v2.0/"])
def test_versions_are_told_to_anybody(cloud: Cloud, path: str) -> None:
    document = Client(cloud, None).get(path)
    found = document["version"] if "v2.0" in path else document["versions"][0]
    assert found == {"id": "v2.0", "status": "CURRENT",
                     "links": [{"rel": "self", "href": "http://falconframework.org/network/v2.0/"}]}  # fmt: skip


def test_the_first_networks(demo: Client) -> None:
    private, public = demo.network("private"), demo.network("public")
    assert (private["shared"], private["router:external"]) == (True, False)
    assert (public["shared"], public["router:external"]) == (False, True)
    subnet = demo.subnet("private-subnet")
    assert subnet["cidr"] == "10.64.0.0/16"
    assert subnet["gateway_ip"] == "10.64.0.1"
    assert subnet["allocation_pools"] == [{"start": "10.64.0.2", "end": "10.64.255.254"}]
    assert private["subnets"] == [subnet["id"]]
    assert demo.subnet("public-subnet")["network_id"] == public["id"]


def test_a_tenant_sees_own_and_shared_networks_only(cloud: Cloud, admin: Client, demo: Client) -> None:
    mine = demo.make("network", name="mine")
    hidden = admin.make("network", name="hidden")
    hidden_subnet = admin.make("subnet", network_id=hidden["id"], cidr="10.80.0.0/24")
    assert {n["name"] for n in demo.get(f"{V2}/networks")["networks"]} == {"mine", "private", "public"}
    assert {n["name"] for n in admin.get(f"{V2}/networks")["networks"]} >= {"mine", "hidden"}
    demo.get(f"{V2}/networks/{hidden['id']}", 404)
    demo.get(f"{V2}/subnets/{hidden_subnet['id']}", 404)
    demo.delete(f"{V2}/networks/{hidden['id']}", 404)
    assert demo.make("subnet", 404, network_id=hidden["id"], cidr="10.81.0.0/24")["type"] == "NetworkNotFound"
    shared = demo.network("private")["id"]
    assert demo.put(f"{V2}/networks/{shared}", {"network": {"name": "x"}}, 403)["NeutronError"]["type"]
    demo.delete(f"{V2}/networks/{shared}", 403)
    demo.make("subnet", 403, network_id=shared, cidr="10.81.0.0/24")
    assert mine["project_id"] == mine["tenant_id"] == cloud.identity.authenticate(str(demo.token)).project_id


@pytest.mark.parametrize("given", [{"shared": True}, {"router:external": True}, {"project_id": "another"}])
def test_only_admins_may(admin: Client, demo: Client, given: dict[str, Any]) -> None:
    assert demo.make("network", 403, name="n", **given)["type"] == "PolicyNotAuthorized"
    made = admin.make("network", name="n", **given)
    assert {k: made[k] for k in given} == given


@pytest.mark.parametrize(
    "given",
    [
        {"admin_state_up": False}, {"port_security_enabled": True}, {"provider:network_type": "vlan"}, {"mtu": 100},
        {"mtu": True}, {"mtu": "many"}, {"name": 7}, {"name": "x" * 256}, {"name": "a\0b"}, {"description": ["a"]},
        {"shared": "perhaps"}, {"dns_domain": "a."}, {"tags": ["a"]}, {"id": "x"},
    ],
)  # fmt: skip
def test_networks_that_cannot_be(admin: Client, given: dict[str, Any]) -> None:
    error = admin.make("network", 400, **given)
    assert error["type"] == "InvalidInput"
    assert next(iter(given)) in error["message"]


def test_names_are_data(admin: Client) -> None:
    name = "a'b\"c\n%d Ünïcödé 漢字 <script>"
    made = admin.make("network", name=name, description=name)
    assert admin.get(f"{V2}/networks/{made['id']}")["network"]["name"] == name


BAD_CIDRS = [
    ("10.1.0.1/24", "10.1.0.0/24"), ("127.0.0.0/24", "loopback"), ("169.254.1.0/24", "link-local"),
    ("224.1.0.0/24", "multicast"), ("240.0.0.0/24", "reserved"), ("0.0.0.0/8", "this host"),
    ("198.18.0.0/24", "links between"), ("10.1.0.0/31", "between 8 and 30"), ("10.1.0.0/32", "between 8 and 30"),
    ("10.0.0.0/7", "between 8 and 30"), ("0.0.0.0/0", "between 8 and 30"), ("10.1.0.0", "10.1.0.0/32"),
    ("10.1.0.0/33", "CIDR"), ("ten", "CIDR"), ("fe80::/64", "link-local"), ("ff02::/64", "multicast"),
    ("::/64", "reserved"), ("fd00::/127", "between 16 and 126"), ("fd00::1/64", "fd00::/64"),
    ("fd63:6f6c:1::/64", "links between"), ("2001:db8::/8", ""),
]  # fmt: skip


@pytest.mark.parametrize(("cidr", "why"), BAD_CIDRS)
def test_ranges_that_cannot_be(admin: Client, cidr: str, why: str) -> None:
    network = admin.make("network", name="n")["id"]
    error = admin.make("subnet", 400, network_id=network, cidr=cidr)
    assert error["type"] == "InvalidInput"
    assert why in error["message"]


@pytest.mark.parametrize(
    ("given", "status", "kind"),
    [
        ({"gateway_ip": "10.2.0.1"}, 400, "InvalidInput"),
        ({"gateway_ip": "10.1.0.0"}, 400, "InvalidInput"),
        ({"gateway_ip": "10.1.0.255"}, 400, "InvalidInput"),
        ({"gateway_ip": "fd00::1"}, 400, "InvalidInput"),
        ({"gateway_ip": "first"}, 400, "InvalidInput"),
        ({"ip_version": 6}, 400, "InvalidInput"),
        ({"ip_version": 5}, 400, "InvalidInput"),
        ({"cidr": None}, 400, "InvalidInput"),
        ({"network_id": "nowhere"}, 404, "NetworkNotFound"),
        ({"allocation_pools": [{"start": "10.1.0.9", "end": "10.1.0.5"}]}, 400, "InvalidInput"),
        ({"allocation_pools": [{"start": "10.1.0.9", "end": "10.1.1.5"}]}, 400, "InvalidInput"),
        ({"allocation_pools": [{"start": "10.1.0.9"}]}, 400, "InvalidInput"),
        ({"allocation_pools": "all"}, 400, "InvalidInput"),
        ({"gateway_ip": "10.1.0.6", "allocation_pools": [{"start": "10.1.0.5", "end": "10.1.0.9"}]}, 409,
         "GatewayConflictWithAllocationPools"),
        ({"allocation_pools": [{"start": "10.1.0.5", "end": "10.1.0.9"}, {"start": "10.1.0.9", "end": "10.1.0.10"}]},
         409, "OverlappingAllocationPools"),
        ({"enable_dhcp": True}, 400, "InvalidInput"),
        ({"dns_nameservers": ["192.0.2.1"]}, 400, "InvalidInput"),
        ({"host_routes": [{"destination": "0.0.0.0/0", "nexthop": "10.1.0.1"}]}, 400, "InvalidInput"),
        ({"subnetpool_id": "prefix_delegation"}, 400, "InvalidInput"),
        ({"ipv6_ra_mode": "slaac"}, 400, "InvalidInput"),
        ({"segment_id": "s"}, 400, "InvalidInput"),
    ],
)  # fmt: skip
def test_subnets_that_cannot_be(admin: Client, given: dict[str, Any], status: int, kind: str) -> None:
    network = admin.make("network", name="n")["id"]
    error = admin.make("subnet", status, **{"network_id": network, "cidr": "10.1.0.0/24", "ip_version": 4, **given})
    assert error["type"] == kind


def test_subnets_that_can_be(admin: Client) -> None:
    network = admin.make("network", name="n")["id"]
    plain = admin.make("subnet", network_id=network, cidr="10.1.0.0/24", ip_version=4, name="s", enable_dhcp=False)
    assert (plain["gateway_ip"], plain["ip_version"], plain["enable_dhcp"]) == ("10.1.0.1", 4, False)
    middle = admin.make("subnet", network_id=network, cidr="10.1.1.0/24", gateway_ip="10.1.1.9")
    assert middle["allocation_pools"] == [
        {"start": "10.1.1.1", "end": "10.1.1.8"}, {"start": "10.1.1.10", "end": "10.1.1.254"}
    ]  # fmt: skip
    closed = admin.make("subnet", network_id=network, cidr="10.1.2.0/24", gateway_ip=None)
    assert closed["gateway_ip"] is None
    assert closed["allocation_pools"][0]["start"] == "10.1.2.1"
    six = admin.make("subnet", network_id=network, cidr="2001:DB8:0:1::/64", ip_version=6)
    assert (six["cidr"], six["gateway_ip"]) == ("2001:db8:0:1::/64", "2001:db8:0:1::1")
    pooled = admin.make("subnet", network_id=network, cidr="10.1.3.0/24",
                        allocation_pools=[{"start": "10.1.3.1", "end": "10.1.3.5"}])  # fmt: skip
    assert pooled["gateway_ip"] == "10.1.3.6"
    assert admin.get(f"{V2}/networks/{network}")["network"]["subnets"] == [
        s["id"] for s in (plain, middle, closed, six, pooled)
    ]


def test_no_two_subnets_overlap(admin: Client, demo: Client) -> None:
    hidden = admin.make("network", name="hidden")["id"]
    admin.make("subnet", network_id=hidden, cidr="10.7.0.0/16", name="secret")
    mine = demo.make("network", name="mine")["id"]
    error = demo.make("subnet", 409, network_id=mine, cidr="10.7.3.0/24")
    assert error["type"] == "OverlappingSubnet"
    assert "secret" not in error["message"]
    assert "private-subnet" in demo.make("subnet", 409, network_id=mine, cidr="10.64.128.0/17")["message"]
    admin.make("subnet", 409, network_id=hidden, cidr="10.0.0.0/8")
    demo.make("subnet", network_id=mine, cidr="10.8.0.0/16")


def test_only_an_admin_takes_public_or_very_large_ranges(admin: Client, demo: Client) -> None:
    mine = demo.make("network", name="mine")["id"]
    for cidr in ("93.184.216.0/24", "9.9.9.0/24", "2a00:1450::/64", "10.128.0.0/9", "fd00::/40"):
        assert demo.make("subnet", 403, network_id=mine, cidr=cidr)["type"] == "PolicyNotAuthorized"
    for cidr in ("192.0.2.0/24", "172.16.0.0/16", "fd00:7::/64", "2001:db8::/64"):
        demo.make("subnet", network_id=mine, cidr=cidr)
    theirs = admin.make("network", name="theirs")["id"]
    for cidr in ("93.184.216.0/24", "10.128.0.0/9"):
        admin.make("subnet", network_id=theirs, cidr=cidr)


def test_a_subnet_does_not_take_what_the_host_reaches(build: Callable[..., Cloud], tmp_path: Path) -> None:
    (tmp_path / "route").write_text(
        "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n"
        "eth0\t00000000\t010200C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n"
        "eth0\t0000070A\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0\n"
        "cln3up\t0000080A\t0200C612\t0003\t0\t0\t0\t0000FFFF\t0\t0\t0\n"
    )
    (tmp_path / "ipv6_route").write_text(
        f"fd00{'0' * 28} 40 {'0' * 32} 00 {'0' * 32} 00000100 00000001 00000000 00000001     eth0\n"
    )
    admin = build(reached=host_routes.reader(3, tmp_path)).client("admin")
    network = admin.make("network", name="n")["id"]
    for cidr in ("10.7.3.0/24", "10.6.0.0/15", "fd00::/80"):
        assert "this host reaches elsewhere" in admin.make("subnet", 400, network_id=network, cidr=cidr)["message"]
    for cidr in ("10.8.0.0/16", "10.9.0.0/16", "fd00:1::/64"):
        admin.make("subnet", network_id=network, cidr=cidr)


def test_changes(admin: Client) -> None:
    network = admin.make("network", name="n")
    path = f"{V2}/networks/{network['id']}"
    changed = admin.put(path, {"network": {"name": "m", "description": "d", "shared": True}})["network"]
    assert (changed["name"], changed["description"], changed["shared"]) == ("m", "d", True)
    assert changed["revision_number"] > network["revision_number"]
    for refused in ({"mtu": 9000}, {"router:external": True}, {"project_id": "p"}, {"admin_state_up": False}):
        admin.put(path, {"network": refused}, 400)
    subnet = admin.make("subnet", network_id=network["id"], cidr="10.1.0.0/24")
    pools = [{"start": "10.1.0.100", "end": "10.1.0.101"}]
    path = f"{V2}/subnets/{subnet['id']}"
    assert admin.put(path, {"subnet": {"allocation_pools": pools, "name": "s"}})["subnet"]["allocation_pools"] == pools
    for refused in ({"gateway_ip": "10.1.0.7"}, {"cidr": "10.2.0.0/24"}, {"enable_dhcp": True}):
        admin.put(path, {"subnet": refused}, 400)


def test_a_network_that_others_use_stays_shared(admin: Client, demo: Client) -> None:
    private = demo.network("private")["id"]
    demo.make("port", network_id=private)
    error = admin.put(f"{V2}/networks/{private}", {"network": {"shared": False}}, 409)["NeutronError"]
    assert error["type"] == "InvalidSharedSetting"


def test_what_is_in_use_stays(admin: Client) -> None:
    network = admin.make("network", name="n")["id"]
    subnet = admin.make("subnet", network_id=network, cidr="10.1.0.0/24")["id"]
    port = admin.make("port", network_id=network)["id"]
    for kind, item in (("network", network), ("subnet", subnet)):
        error = admin.delete(f"{V2}/{kind}s/{item}", 409).json["NeutronError"]
        assert error["type"] == f"{kind.capitalize()}InUse"
    admin.delete(f"{V2}/ports/{port}")
    admin.delete(f"{V2}/networks/{network}")
    admin.get(f"{V2}/subnets/{subnet}", 404)
    admin.delete(f"{V2}/networks/{network}", 404)


def test_a_subnet_that_a_load_balancer_names_stays(cloud: Cloud, admin: Client) -> None:
    network = admin.make("network", name="n")["id"]
    subnet = admin.make("subnet", network_id=network, cidr="10.1.0.0/24")["id"]
    lb = LoadBalancer(id="lb", project_id="p", vip_subnet_id=subnet, created_at=utc(0))
    with cloud.store.write() as conn:
        conn.execute(insert(load_balancer).values(to_row(lb)))
    assert "load balancer lb" in admin.delete(f"{V2}/subnets/{subnet}", 409).json["NeutronError"]["message"]


@pytest.mark.parametrize("kind", ["networks", "subnets", "ports", "floatingips"])
def test_a_name_in_the_path_is_not_found(admin: Client, kind: str) -> None:
    error = admin.get(f"{V2}/{kind}/private", 404)["NeutronError"]
    assert error["type"] in ("NetworkNotFound", "SubnetNotFound", "PortNotFound", "FloatingIPNotFound")
    assert error["detail"] == ""


def test_filters(admin: Client) -> None:
    def names(kind: str, query: str) -> list[str]:
        return [i["name"] for i in admin.get(f"{V2}/{kind}?{query}")[kind]]

    private = admin.network("private")
    six = admin.make("subnet", network_id=private["id"], cidr="2001:db8::/64", name="six")
    assert names("networks", "router:external=True") == ["public"]
    assert names("networks", "router%3Aexternal=false&shared=1") == ["private"]
    assert names("networks", f"id={private['id']}&id=none") == ["private"]
    assert names("networks", "name=private&status=ACTIVE&admin_state_up=True") == ["private"]
    assert names("networks", f"tenant_id={private['project_id']}&name=public") == ["public"]
    assert names("networks", "status=DOWN") == []
    assert names("subnets", "ip_version=6") == ["six"]
    assert names("subnets", f"network_id={private['id']}") == ["private-subnet", "six"]
    assert names("subnets", "cidr=2001:DB8:0::/64") == ["six"]
    assert names("subnets", f"gateway_ip={six['gateway_ip']}") == ["six"]
    assert names("subnets", "cidr=10.64.0.0/16") == ["private-subnet"]
    error = admin.get(f"{V2}/networks?colour=red", 400)["NeutronError"]
    assert error["type"] == "InvalidInput"
    assert "colour" in error["message"]


def test_fields_sorting_and_pages(admin: Client) -> None:
    for name in ("c", "a", "b"):
        admin.make("network", name=name)
    path = f"{V2}/networks"
    whole = [n["name"] for n in admin.get(f"{path}?sort_key=name&sort_dir=asc")["networks"]]
    assert whole == ["a", "b", "c", "private", "public"]
    assert admin.get(f"{path}?sort_key=name&sort_dir=desc&fields=name")["networks"][0] == {"name": "public"}
    seen: list[str] = []
    query = "?sort_key=name&sort_dir=asc&limit=2&shared=False&fields=id&fields=name"
    while query:
        page = admin.get(path + query)
        seen += [n["name"] for n in page["networks"]]
        links = {link["rel"]: link["href"] for link in page.get("networks_links", [])}
        query = "?" + links["next"].partition("?")[2] if "next" in links else ""
    assert seen == ["a", "b", "c", "public"]
    back = admin.get(path + "?" + links["previous"].partition("?")[2])
    assert [n["name"] for n in back["networks"]] == ["a", "b"]
    for bad in ("limit=x", "limit=-1", "marker=none", "sort_key=colour", "sort_key=name&sort_dir=up", "sort_dir=asc"):
        admin.get(f"{path}?{bad}", 400)


def test_tags(admin: Client) -> None:
    network = admin.make("network", name="n")
    path = f"{V2}/networks/{network['id']}/tags"
    assert admin.put(path, {"tags": ["red", "blue", "red"]}) == {"tags": ["red", "blue"]}
    admin.ask("PUT", f"{path}/green", None, 201)
    admin.ask("GET", f"{path}/green", None, 204)
    admin.delete(f"{path}/blue")
    admin.delete(f"{path}/blue", 404)
    assert admin.get(path) == {"tags": ["red", "green"]}
    for query, found in (("tags=red,green", 1), ("tags=red,blue", 0), ("tags-any=red,blue", 1), ("not-tags=red", 2),
                         ("not-tags-any=green&shared=true", 1)):  # fmt: skip
        assert len(admin.get(f"{V2}/networks?{query}")["networks"]) == found, query
    for bad in ("red", [""], [7], ["a,b"], ["x" * 256]):
        admin.put(path, {"tags": bad}, 400)
    admin.delete(path)
    assert admin.get(path) == {"tags": []}


def test_bodies_that_cannot_be_read(admin: Client) -> None:
    for body in ({}, {"network": []}, {"networks": [{}]}, [], "x"):
        assert admin.post(f"{V2}/networks", body, 400).json["NeutronError"]["type"] == "InvalidInput"
    http = admin._http
    headers = {"X-Auth-Token": str(admin.token)}
    assert http.simulate_post(f"{V2}/networks", body="{", headers=headers).status_code == 400
    form = headers | {"Content-Type": "text/plain"}
    assert http.simulate_post(f"{V2}/networks", body="{}", headers=form).status_code == 415
    assert http.simulate_post(f"{V2}/networks", body=" " * 1_100_000, headers=headers).status_code == 413


def test_lists_that_are_empty(admin: Client) -> None:
    for path, key in (("routers", "routers"), ("subnetpools", "subnetpools")):
        assert admin.get(f"{V2}/{path}?name=x") == {key: []}
        admin.get(f"{V2}/{path}/x", 404)
        admin.post(f"{V2}/{path}", {}, 405)
    assert "external-net" in {e["alias"] for e in admin.get(f"{V2}/extensions")["extensions"]}
    admin.get(f"{V2}/extensions/router")
    admin.get(f"{V2}/extensions/trunk", 404)
    admin.get(f"{V2}/agents", 404)


def test_each_change_reaches_the_fabric(cloud: Cloud, admin: Client) -> None:
    def generation() -> int:
        with cloud.store.read() as conn:
            return int(conn.execute(select(work.c.generation).where(work.c.subject == "fabric")).scalar_one())

    before = generation()
    network = admin.make("network", name="n", mtu=1400)
    assert generation() == before + 1
    assert cloud.bell.rung[-1] == "fabric"
    subnet = admin.make("subnet", network_id=network["id"], cidr="10.1.0.0/24", gateway_ip=None)
    assert generation() == before + 2
    with cloud.store.read() as conn:
        found = {n.id: n for n in fabric(conn).networks}
    made = found[network["id"]]
    assert (made.group, made.mtu, made.external) == (network["project_id"], 1400, False)
    assert [(s.id, s.cidr, s.gateway) for s in made.subnets] == [(subnet["id"], "10.1.0.0/24", None)]
    public = found[admin.network("public")["id"]]
    assert (public.group, public.external, public.subnets[0].gateway) == ("*", True, "10.65.0.1")
    assert found[admin.network("private")["id"]].group == "*"
    admin.delete(f"{V2}/networks/{network['id']}")
    assert generation() == before + 3
