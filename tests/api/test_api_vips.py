"""A load balancer's VIPs beside the first, and where the operator lets VIPs be."""

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest
from lb_service import Service, nobody_has
from sqlalchemy import update

from colonnade.errors import Later
from colonnade.model import FixedIp, NetworkPort, QosPolicy, SecurityGroup, Subnet
from colonnade.settings import Networking
from colonnade.store import query, tables


@pytest.fixture
def six(service: Service) -> Subnet:
    """An IPv6 subnet beside Alice's."""
    return service.cloud.add_subnet("fd00:1::/64", service.subnet.network_id, "alice-project")


@pytest.fixture
def four(service: Service) -> Subnet:
    """Another IPv4 subnet beside Alice's."""
    return service.cloud.add_subnet("10.2.0.0/24", service.subnet.network_id, "alice-project")


def test_additional_vips_are_taken_shown_and_kept(service: Service, six: Subnet, four: Subnet) -> None:
    wanted = [{"subnet_id": six.id, "ip_address": "fd00:1:0:0:0:0:0:9"}, {"subnet_id": four.id, "ip_address": None}]
    lb = service.load_balancer(additional_vips=wanted)
    (port,) = service.cloud.ports.values()
    first, second, third = (f.address for f in port.fixed_ips)
    assert (lb["vip_address"], lb["vip_subnet_id"]) == (first, service.subnet.id)
    assert lb["additional_vips"] == [
        {"subnet_id": six.id, "ip_address": "fd00:1::9", "port_id": port.id},
        {"subnet_id": four.id, "ip_address": third, "port_id": port.id},
    ]
    assert second == "fd00:1::9"
    assert service.get(f"loadbalancers/{lb['id']}")["loadbalancer"]["additional_vips"] == lb["additional_vips"]
    assert service.get("loadbalancers")["loadbalancers"][0]["additional_vips"] == lb["additional_vips"]
    changed = service.put(f"loadbalancers/{lb['id']}", {"loadbalancer": {"name": "x"}})["loadbalancer"]
    assert changed["additional_vips"] == lb["additional_vips"]


def test_the_network_may_be_named_and_the_first_vip_keeps_clear_of_the_others(
    service: Service, six: Subnet, four: Subnet
) -> None:
    body = {"vip_network_id": service.subnet.network_id, "additional_vips": [{"subnet_id": service.subnet.id}]}
    lb = service.post("loadbalancers", {"loadbalancer": body})["loadbalancer"]
    assert lb["vip_subnet_id"] == four.id
    body["additional_vips"] += [{"subnet_id": s.id} for s in (six, four)]
    why = service.post("loadbalancers", {"loadbalancer": body}, expect=400)["faultstring"]
    assert "none is left" in why


REFUSED: list[tuple[Any, int, str]] = [
    ([{"subnet_id": "SAME"}], 400, "has a VIP already"),
    ([{"subnet_id": "SIX"}, {"subnet_id": "SIX"}], 400, "has a VIP already"),
    ([{"subnet_id": "FAR"}], 400, "not on the VIP's network"),
    ([{"subnet_id": "FOREIGN"}], 400, "not found"),
    ([{"subnet_id": nobody_has()}], 400, "not found"),
    ([{"subnet_id": "x"}], 400, "UUID format"),
    ([{}], 400, "Mandatory field missing"),
    ([{"ip_address": "fd00:1::9"}], 400, "Mandatory field missing"),
    ([{"subnet_id": "SIX", "ip_address": "10.1.0.9"}], 400, "is not in subnet"),
    ([{"subnet_id": "SIX", "ip_address": "x"}], 400, "IPv4 or IPv6"),
    ([{"subnet_id": "SIX", "port_id": nobody_has()}], 400, "goes with vip_port_id only"),
    ([{"subnet_id": "SIX", "colour": "red"}], 400, "Unknown attribute"),
    ([{"subnet_id": "SIX"}] * 21, 400, "at most 20"),
    ({"subnet_id": "SIX"}, 400, "additional_vips"),
    ("SIX", 400, "additional_vips"),
    ([{"subnet_id": "SIX", "ip_address": "fd00:1::7"}], 409, "in use"),
]  # fmt: skip


@pytest.mark.parametrize(("vips", "expect", "why"), REFUSED, ids=str)
def test_additional_vips_that_cannot_be(service: Service, six: Subnet, vips: Any, expect: int, why: str) -> None:
    service.load_balancer(additional_vips=[{"subnet_id": six.id, "ip_address": "fd00:1::7"}])
    far = service.cloud.add_subnet("10.9.0.0/24", project_id="alice-project")
    foreign = service.cloud.add_subnet("10.3.0.0/24", service.subnet.network_id, "bob-project")
    words = {"SAME": service.subnet.id, "SIX": six.id, "FAR": far.id, "FOREIGN": foreign.id}
    given = [{k: words.get(v, v) for k, v in vip.items()} for vip in vips] if isinstance(vips, list) else vips
    body = {"vip_subnet_id": service.subnet.id, "additional_vips": given}
    answer = service.post("loadbalancers", {"loadbalancer": body}, expect=expect)
    assert why in answer["faultstring"]
    assert len(service.cloud.ports) == 1


def test_additional_vips_are_not_changed(service: Service, six: Subnet) -> None:
    lb = service.load_balancer()
    body = {"loadbalancer": {"additional_vips": [{"subnet_id": six.id}]}}
    service.put(f"loadbalancers/{lb['id']}", body, expect=400)


def _port(service: Service, *fixed: tuple[Subnet, str]) -> NetworkPort:
    """A port of Alice's with these addresses."""
    ips = tuple(FixedIp(subnet_id=s.id, address=a, cidr=s.cidr, gateway_ip=s.gateway_ip) for s, a in fixed)
    port = NetworkPort(
        id=nobody_has("7"), name="mine", network_id=service.subnet.network_id, project_id="alice-project",
        device_id="", device_owner="", mac_address="02:00:00:00:00:07", mtu=1500, fixed_ips=ips,
    )  # fmt: skip
    service.cloud.ports[port.id] = port
    return port


def test_a_port_that_its_user_brought_has_its_addresses_already(service: Service, six: Subnet) -> None:
    port = _port(service, (service.subnet, "10.1.0.50"), (six, "fd00:1::50"))
    body: dict[str, Any] = {"vip_port_id": port.id, "vip_subnet_id": service.subnet.id}

    def post(vip: dict[str, Any], expect: int) -> Any:
        return service.post("loadbalancers", {"loadbalancer": {**body, "additional_vips": [vip]}}, expect=expect)

    assert "no address" in post({"subnet_id": nobody_has()}, 400)["faultstring"]
    assert "no address fd00:1::51" in post({"subnet_id": six.id, "ip_address": "fd00:1::51"}, 400)["faultstring"]
    assert "is not the VIP's port" in post({"subnet_id": six.id, "port_id": nobody_has()}, 400)["faultstring"]
    assert "has a VIP already" in post({"subnet_id": service.subnet.id}, 400)["faultstring"]
    lb = post({"subnet_id": six.id, "port_id": port.id}, 201)["loadbalancer"]
    assert lb["additional_vips"] == [{"subnet_id": six.id, "ip_address": "fd00:1::50", "port_id": port.id}]


def test_allowed_cidrs_are_of_the_ip_version_of_some_vip(service: Service, six: Subnet) -> None:
    both = service.load_balancer(additional_vips=[{"subnet_id": six.id}])
    listener = service.listener(both, allowed_cidrs=["10.0.0.0/8", "fd00::/8"])
    assert listener["allowed_cidrs"] == ["10.0.0.0/8", "fd00::/8"]
    body = {"loadbalancer_id": service.load_balancer()["id"], "protocol": "HTTP", "protocol_port": 80}
    service.post("listeners", {"listener": {**body, "allowed_cidrs": ["fd00::/8"]}}, expect=400)


def test_a_whole_tree_comes_with_them(service: Service, six: Subnet) -> None:
    listener = {"protocol": "HTTP", "protocol_port": 80, "allowed_cidrs": ["fd00::/8"]}
    lb = service.load_balancer(additional_vips=[{"subnet_id": six.id}], listeners=[listener])
    assert len(lb["additional_vips"]) == len(lb["listeners"]) == 1


def _with(service: Service, **options: Any) -> None:
    service.settings = replace(service.settings, networking=Networking(**options))
    service.reset()


@pytest.mark.parametrize("field", ["vip_network_id", "vip_subnet_id", "vip_port_id"])
def test_the_operator_says_how_vips_may_be_named(service: Service, field: str) -> None:
    port = _port(service, (service.subnet, "10.1.0.50"))
    value = {"vip_network_id": service.subnet.network_id, "vip_subnet_id": service.subnet.id, "vip_port_id": port.id}
    service.post("loadbalancers", {"loadbalancer": {field: value[field]}})
    service.cloud.ports.pop(port.id)
    port = _port(service, (service.subnet, "10.1.0.51"))
    _with(service, **{f"allow_{field}": False})
    answer = service.post("loadbalancers", {"loadbalancer": {field: value[field]}}, expect=400)
    assert answer["faultstring"] == (
        f"Validation failure: use of {field} is disallowed by the configuration of this deployment."
    )


def test_the_operator_says_where_vips_may_be(service: Service) -> None:
    other = service.cloud.add_subnet("10.9.0.0/24", project_id="alice-project")
    port = _port(service, (service.subnet, "10.1.0.50"))
    ways = [{"vip_subnet_id": service.subnet.id}, {"vip_network_id": service.subnet.network_id},
            {"vip_port_id": port.id}]  # fmt: skip
    for options in ({"valid_vip_networks": (other.network_id.upper(),)},
                    {"denylist_vip_networks": (service.subnet.network_id,)}):  # fmt: skip
        _with(service, **options)
        for way in ways:
            answer = service.post("loadbalancers", {"loadbalancer": way}, expect=400)
            assert "is not allowed by the configuration of this deployment" in answer["faultstring"]
        service.load_balancer(vip_subnet_id=other.id)


def test_a_network_service_that_does_not_answer_is_a_503_where_networks_are_restricted(service: Service) -> None:
    def trouble(_effect: str, _moment: str) -> None:
        raise Later("Neutron sleeps.")

    _with(service, denylist_vip_networks=(nobody_has(),))
    service.cloud.trouble = trouble
    answer = service.post("loadbalancers", {"loadbalancer": {"vip_subnet_id": service.subnet.id}}, expect=503)
    assert "Neutron sleeps." in answer["faultstring"]


GROUP, OTHER, THEIRS, POLICY, SHARED, FOREIGN = (nobody_has(c) for c in "abcdef")


@pytest.fixture
def grouped(service: Service) -> Service:
    """Alice has two security groups and a QoS policy; Bob has one of each, and shares another policy."""
    for its_id, project in ((GROUP, "alice-project"), (OTHER, "alice-project"), (THEIRS, "bob-project")):
        service.cloud.groups[its_id] = SecurityGroup(id=its_id, project_id=project)
    for its_id, project in ((POLICY, "alice-project"), (FOREIGN, "bob-project"), (SHARED, "bob-project")):
        service.cloud.policies[its_id] = QosPolicy(id=its_id, project_id=project, shared=its_id == SHARED)
    return service


def _put(service: Service, lb: Any, expect: int = 200, **fields: Any) -> Any:
    found = service.put(f"loadbalancers/{lb['id']}", {"loadbalancer": fields}, expect=expect)
    return found["loadbalancer"] if expect == 200 else found["faultstring"]


def test_groups_and_a_policy_are_set_changed_and_cleared(grouped: Service) -> None:
    lb = grouped.load_balancer(vip_sg_ids=[GROUP, OTHER, GROUP], vip_qos_policy_id=POLICY)
    assert (lb["vip_sg_ids"], lb["vip_qos_policy_id"]) == ([GROUP, OTHER], POLICY)
    assert grouped.get(f"loadbalancers/{lb['id']}")["loadbalancer"] == lb
    assert [v["id"] for v in grouped.get(f"loadbalancers?vip_qos_policy_id={POLICY}")["loadbalancers"]] == [lb["id"]]
    changed = _put(grouped, lb, vip_sg_ids=[OTHER], vip_qos_policy_id=SHARED)
    assert (changed["vip_sg_ids"], changed["vip_qos_policy_id"]) == ([OTHER], SHARED)
    assert changed["provisioning_status"] == "PENDING_CREATE"
    assert _put(grouped, lb, name="x")["vip_sg_ids"] == [OTHER]
    assert _put(grouped, lb, vip_sg_ids=None, vip_qos_policy_id=None)["vip_sg_ids"] == []
    _put(grouped, lb, vip_sg_ids=[GROUP])
    cleared = _put(grouped, lb, vip_sg_ids=[])
    assert (cleared["vip_sg_ids"], cleared["vip_qos_policy_id"]) == ([], None)


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"vip_sg_ids": [nobody_has()]}, f"Security group {nobody_has()} not found."),
        ({"vip_sg_ids": [GROUP, THEIRS]}, f"Security group {THEIRS} not found."),
        ({"vip_sg_ids": ["x"]}, "UUID format"), ({"vip_sg_ids": GROUP}, "vip_sg_ids"),
        ({"vip_sg_ids": [GROUP] * 21}, "at most 20"), ({"vip_qos_policy_id": "x"}, "UUID format"),
        ({"vip_qos_policy_id": nobody_has()}, f"QoS policy {nobody_has()} not found."),
        ({"vip_qos_policy_id": FOREIGN}, f"QoS policy {FOREIGN} not found."),
    ],
)  # fmt: skip
def test_groups_and_policies_that_are_not_there(grouped: Service, fields: Any, why: str) -> None:
    lb = grouped.load_balancer()
    assert why in _put(grouped, lb, 400, **fields)
    body = {"vip_subnet_id": grouped.subnet.id, **fields}
    assert why in grouped.post("loadbalancers", {"loadbalancer": body}, expect=400)["faultstring"]
    assert len(grouped.cloud.ports) == 1


def test_an_admin_may_name_any(grouped: Service) -> None:
    lb = grouped.load_balancer()
    body = {"loadbalancer": {"vip_sg_ids": [THEIRS], "vip_qos_policy_id": FOREIGN}}
    grouped.put(f"loadbalancers/{lb['id']}", body, by="admin")


def test_groups_and_allowed_cidrs_exclude_one_another(grouped: Service) -> None:
    lb = grouped.load_balancer()
    listener = grouped.listener(lb, allowed_cidrs=["10.0.0.0/8"])
    assert listener["id"] in _put(grouped, lb, 400, vip_sg_ids=[GROUP])
    grouped.put(f"listeners/{listener['id']}", {"listener": {"allowed_cidrs": None}})
    _put(grouped, lb, vip_sg_ids=[GROUP])
    why = grouped.put(f"listeners/{listener['id']}", {"listener": {"allowed_cidrs": ["10.0.0.0/8"]}}, expect=400)
    assert "vip_sg_ids" in why["faultstring"]
    body = {"loadbalancer_id": lb["id"], "protocol": "HTTP", "protocol_port": 81, "allowed_cidrs": ["10.0.0.0/8"]}
    grouped.post("listeners", {"listener": body}, expect=400)
    whole = {"vip_subnet_id": grouped.subnet.id, "vip_sg_ids": [GROUP],
             "listeners": [{"protocol": "HTTP", "protocol_port": 80, "allowed_cidrs": ["10.0.0.0/8"]}]}  # fmt: skip
    grouped.post("loadbalancers", {"loadbalancer": whole}, expect=400)
    assert len(grouped.cloud.ports) == 1
    _put(grouped, lb, vip_sg_ids=None)
    grouped.post("listeners", {"listener": body})


def test_groups_do_not_go_with_sriov(grouped: Service) -> None:
    profile = grouped.post("flavorprofiles", {"flavorprofile": {
        "name": "p", "provider_name": "amphora", "flavor_data": "{}"}}, by="admin")["flavorprofile"]  # fmt: skip
    flavor = grouped.post(
        "flavors", {"flavor": {"name": "f", "flavor_profile_id": profile["id"]}}, by="admin"
    )["flavor"]  # fmt: skip
    with grouped.store.write() as conn:  # no host here could give it
        conn.execute(update(tables.flavor_profile).values(flavor_data='{"sriov_vip": true}'))
    lb = grouped.load_balancer(flavor_id=flavor["id"])
    assert lb["vip_vnic_type"] == "direct"
    assert "SR-IOV" in _put(grouped, lb, 400, vip_sg_ids=[GROUP])
    body = {"vip_subnet_id": grouped.subnet.id, "flavor_id": flavor["id"], "vip_sg_ids": [GROUP]}
    assert "SR-IOV" in grouped.post("loadbalancers", {"loadbalancer": body}, expect=400)["faultstring"]
    assert grouped.load_balancer(vip_sg_ids=[GROUP])["vip_vnic_type"] == "normal"


def test_a_ports_policy_is_the_default(grouped: Service) -> None:
    port = _port(grouped, (grouped.subnet, "10.1.0.50"))
    grouped.cloud.ports[port.id] = replace(port, qos_policy_id=POLICY)
    lb = grouped.load_balancer(vip_port_id=port.id, vip_subnet_id=None)
    assert lb["vip_qos_policy_id"] == POLICY
    other = replace(port, id=nobody_has("8"), qos_policy_id=POLICY)
    grouped.cloud.ports[other.id] = other
    lb = grouped.load_balancer(vip_port_id=other.id, vip_subnet_id=None, vip_qos_policy_id=None)
    assert lb["vip_qos_policy_id"] is None


def test_sctp_members_are_of_the_ip_version_of_some_vip(service: Service, six: Subnet) -> None:
    both = service.load_balancer(additional_vips=[{"subnet_id": six.id}])
    service.member(service.pool(both, protocol="SCTP"), address="fd00:2::1")
    alone = service.pool(service.load_balancer(), protocol="SCTP")
    body = {"member": {"address": "fd00:2::1", "protocol_port": 80}}
    service.post(f"pools/{alone['id']}/members", body, expect=501)


def test_a_port_is_one_load_balancers_whoever_asks_at_the_same_moment(service: Service) -> None:
    """Only SQLite has writers take turns."""
    port = _port(service, (service.subnet, "10.1.0.99"))
    together = threading.Barrier(4)

    def ask(_: int) -> Any:
        together.wait(60)
        return service.send("POST", "loadbalancers", {"loadbalancer": {"vip_port_id": port.id}})

    with ThreadPoolExecutor(4) as pool:
        replies = list(pool.map(ask, range(4)))
    assert sorted(r.status_code for r in replies) == [201, 400, 400, 400]
    assert all(f"VIP port {port.id} is already used by device lb-" in r.text for r in replies if r.status_code == 400)


def test_the_database_holds_it_even_where_nobody_looked(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    port = _port(service, (service.subnet, "10.1.0.99"))
    first = service.load_balancer(vip_port_id=port.id, vip_subnet_id=None)
    look, looks = query.port_user, []

    def late(conn: Any, port_id: str) -> str | None:
        looks.append(port_id)
        return look(conn, port_id) if len(looks) > 1 else None

    monkeypatch.setattr(query, "port_user", late)
    body = {"vip_port_id": port.id}
    fault = service.post("loadbalancers", {"loadbalancer": body}, expect=400)["faultstring"]
    assert fault == f"Validation failure: VIP port {port.id} is already used by device lb-{first['id']}."
    assert [lb["id"] for lb in service.get("loadbalancers")["loadbalancers"]] == [first["id"]]
