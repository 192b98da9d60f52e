"""Security groups and QoS policies of the small cloud: what can be said, by whom, and whom it reaches."""

from typing import Any

import pytest
from small_cloud import Client, Cloud
from sqlalchemy import insert, select

from colonnade.clock import utc
from colonnade.model import LoadBalancer
from colonnade.store.rows import to_row
from colonnade.store.tables import event, load_balancer, work
from colonnade.wire import Admission, Limit
from tests.support import deadlock_once

V2 = "/network/v2.0"


def group(client: Client, **given: Any) -> Any:
    return client.post(f"{V2}/security-groups", {"security_group": {"name": "web", **given}}).json["security_group"]


def rule(client: Client, group_id: str, status: int = 201, **given: Any) -> Any:
    body = {"security_group_id": group_id, "direction": "ingress", "ethertype": "IPv4", **given}
    found = client.post(f"{V2}/security-group-rules", {"security_group_rule": body}, status).json
    return found["security_group_rule"] if status == 201 else found["NeutronError"]


def policy(client: Client, **given: Any) -> Any:
    return client.post(f"{V2}/qos/policies", {"policy": {"name": "slow", **given}}).json["policy"]


def limit(client: Client, policy_id: str, status: int = 201, **given: Any) -> Any:
    path = f"{V2}/qos/policies/{policy_id}/bandwidth_limit_rules"
    found = client.post(path, {"bandwidth_limit_rule": given}, status).json
    return found["bandwidth_limit_rule"] if status == 201 else found["NeutronError"]


def balancer(cloud: Cloud, **fields: Any) -> str:
    """A load balancer of nobody's, with these fields."""
    lb = LoadBalancer(id="00000000-0000-4000-8000-00000000000b", project_id="p", created_at=utc(0), **fields)
    with cloud.store.write() as conn:
        conn.execute(insert(load_balancer).values(to_row(lb)))
    return lb.id


def generation(cloud: Cloud, subject: str) -> int:
    with cloud.store.read() as conn:
        return conn.execute(select(work.c.generation).where(work.c.subject == subject)).scalar() or 0


def story(cloud: Cloud) -> list[str]:
    with cloud.store.read() as conn:
        return list(conn.execute(select(event.c.sentence).order_by(event.c.id)).scalars())


def test_a_group_lives_and_dies(demo: Client) -> None:
    made = group(demo, description="d")
    assert (made["name"], made["stateful"], made["security_group_rules"]) == ("web", True, [])
    assert made["project_id"] == made["tenant_id"]
    one = rule(demo, made["id"], protocol="TCP", port_range_min=80, port_range_max="90", remote_ip_prefix="10.0.0.1")
    assert (one["protocol"], one["port_range_max"], one["remote_ip_prefix"]) == ("tcp", 90, "10.0.0.1/32")
    path = f"{V2}/security-groups/{made['id']}"
    assert demo.get(path)["security_group"]["security_group_rules"] == [one]
    assert demo.get(f"{V2}/security-groups?name=web&fields=id")["security_groups"] == [{"id": made["id"]}]
    rules = f"{V2}/security-group-rules"
    assert demo.get(f"{rules}?security_group_id={made['id']}")["security_group_rules"] == [one]
    assert demo.get(f"{rules}/{one['id']}")["security_group_rule"] == one
    changed = demo.put(path, {"security_group": {"name": "www"}})["security_group"]
    assert changed["name"] == "www"
    demo.put(f"{path}/tags", {"tags": ["a"]})
    assert demo.get(f"{V2}/security-groups?tags=a")["security_groups"][0]["id"] == made["id"]
    demo.delete(f"{rules}/{one['id']}")
    demo.delete(f"{rules}/{one['id']}", 404)
    rule(demo, made["id"])
    demo.delete(path)
    assert demo.get(rules)["security_group_rules"] == []
    demo.get(path, 404)


RULES: list[tuple[dict[str, Any], Admission]] = [
    ({}, Admission(version=4)),
    ({"protocol": "any", "remote_ip_prefix": "0.0.0.0/0"}, Admission(version=4)),
    ({"ethertype": "IPv6", "remote_ip_prefix": "::/0"}, Admission(version=6)),
    ({"protocol": "tcp"}, Admission(version=4, protocol=6)),
    (
        {"protocol": "17", "port_range_min": 53, "port_range_max": 54},
        Admission(version=4, protocol=17, first=53, last=54),
    ),
    ({"protocol": "icmp"}, Admission(version=4, protocol=1)),
    ({"protocol": "icmp", "port_range_min": 8, "port_range_max": 0}, Admission(version=4, protocol=1, first=8, last=0)),
    ({"protocol": "icmp", "ethertype": "IPv6", "port_range_min": 128}, Admission(version=6, protocol=58, first=128)),
    ({"protocol": "ipv6-icmp", "ethertype": "IPv6"}, Admission(version=6, protocol=58)),
    ({"protocol": "sctp", "remote_ip_prefix": "10.9.9.9/8"}, Admission(version=4, protocol=132, source="10.0.0.0/8")),
    ({"protocol": "vrrp"}, Admission(version=4, protocol=112)),
]  # fmt: skip


@pytest.mark.parametrize(("given", "means"), RULES, ids=str)
def test_what_rules_admit(cloud: Cloud, demo: Client, given: dict[str, Any], means: Admission) -> None:
    made = group(demo)
    rule(demo, made["id"], **given)
    (found,) = cloud.network.security_groups([made["id"], "nobody"])
    assert (found.id, found.project_id, found.admitted) == (made["id"], made["project_id"], (means,))
    assert rule(demo, made["id"], 409, **given)["type"] == "SecurityGroupRuleExists"


@pytest.mark.parametrize(
    "given",
    [
        {"direction": "egress"}, {"direction": None}, {"ethertype": "ARP"}, {"protocol": "x"}, {"protocol": "256"},
        {"protocol": "-1"}, {"protocol": "icmpv6"}, {"protocol": "tcp", "port_range_min": 80},
        {"protocol": "tcp", "port_range_max": 80}, {"protocol": "tcp", "port_range_min": 2, "port_range_max": 1},
        {"port_range_min": 1, "port_range_max": 2}, {"protocol": "gre", "port_range_min": 1, "port_range_max": 2},
        {"protocol": "icmp", "port_range_min": 256}, {"protocol": "icmp", "port_range_max": 0},
        {"remote_ip_prefix": "fd00::/8"}, {"remote_ip_prefix": "x"}, {"remote_ip_prefix": "fe80::%a/64"},
        {"remote_group_id": "x"}, {"remote_address_group_id": "x"}, {"colour": "red"},
        {"protocol": "tcp", "port_range_min": 1, "port_range_max": 65536},
    ],
)  # fmt: skip
def test_rules_that_cannot_be(demo: Client, given: dict[str, Any]) -> None:
    made = group(demo)
    assert rule(demo, made["id"], 400, **given)["type"] == "InvalidInput"
    assert demo.get(f"{V2}/security-group-rules")["security_group_rules"] == []


def test_groups_are_their_projects_own(admin: Client, demo: Client) -> None:
    theirs = group(admin)
    path = f"{V2}/security-groups/{theirs['id']}"
    demo.get(path, 404)
    demo.delete(path, 404)
    assert demo.get(f"{V2}/security-groups")["security_groups"] == []
    assert rule(demo, theirs["id"], 404)["type"] == "SecurityGroupNotFound"
    mine = group(demo)
    added = rule(admin, mine["id"])
    assert added["project_id"] == mine["project_id"]
    demo.post(f"{V2}/security-groups", {"security_group": {"name": "x", "stateful": False}}, 400)


def test_a_rule_reaches_the_load_balancers_in_the_group(cloud: Cloud, demo: Client) -> None:
    made, other = group(demo), group(demo)
    lb = balancer(cloud, vip_sg_ids=(other["id"], made["id"]))
    one = rule(demo, made["id"])
    assert (generation(cloud, lb), cloud.bell.rung[-1]) == (1, lb)
    demo.delete(f"{V2}/security-group-rules/{one['id']}")
    assert (generation(cloud, lb), cloud.bell.rung[-1]) == (2, lb)
    assert story(cloud) == [
        "Asked to add a rule to security group web.",
        "Asked to remove a rule of security group web.",
    ]
    rule(demo, group(demo)["id"])
    assert generation(cloud, lb) == 2
    for its_id in (made["id"], other["id"]):
        error = demo.delete(f"{V2}/security-groups/{its_id}", 409).json["NeutronError"]
        assert error["type"] == "SecurityGroupInUse"


def test_a_policy_lives_and_dies(cloud: Cloud, demo: Client) -> None:
    made = policy(demo, description="d")
    assert (made["shared"], made["is_default"], made["rules"]) == (False, False, [])
    out = limit(demo, made["id"], max_kbps=1000, max_burst_kbps=100)
    assert (out["direction"], out["max_kbps"], out["max_burst_kbps"]) == ("egress", 1000, 100)
    limit(demo, made["id"], max_kbps=500, direction="ingress")
    assert limit(demo, made["id"], 409, max_kbps=9)["type"] == "QoSRuleParameterConflict"
    path = f"{V2}/qos/policies/{made['id']}"
    shown = demo.get(path)["policy"]
    assert [(r["type"], r["direction"]) for r in shown["rules"]] == [
        ("bandwidth_limit", "egress"),
        ("bandwidth_limit", "ingress"),
    ]
    found = cloud.network.qos_policy(made["id"])
    assert found is not None
    assert (found.egress, found.ingress) == (
        Limit(kilobits=1000, burst_kilobits=100),
        Limit(kilobits=500, burst_kilobits=400),
    )
    its = f"{path}/bandwidth_limit_rules/{out['id']}"
    changed = demo.put(its, {"bandwidth_limit_rule": {"max_kbps": 2000}})["bandwidth_limit_rule"]
    assert demo.get(its)["bandwidth_limit_rule"] == changed == {**out, "max_kbps": 2000}
    assert demo.put(its, {"bandwidth_limit_rule": {"direction": "ingress"}}, 409)["NeutronError"]["type"]
    assert len(demo.get(f"{path}/bandwidth_limit_rules")["bandwidth_limit_rules"]) == 2
    demo.delete(its)
    demo.delete(its, 404)
    demo.put(path, {"policy": {"name": "slower"}})
    assert [p["id"] for p in demo.get(f"{V2}/qos/policies?name=slower")["policies"]] == [made["id"]]
    demo.delete(path)
    assert cloud.network.qos_policy(made["id"]) is None
    demo.post(f"{path}/dscp_marking_rules", {}, 405)
    assert {e["alias"] for e in demo.get(f"{V2}/extensions")["extensions"]} >= {"qos", "security-group"}
    assert demo.get(f"{V2}/qos/rule-types")["rule_types"] == [{"type": "bandwidth_limit"}]


@pytest.mark.parametrize(
    "given",
    [{}, {"max_kbps": 0}, {"max_kbps": "x"}, {"max_kbps": 100_000_001}, {"max_kbps": 1, "direction": "any"},
     {"max_kbps": 1, "max_burst_kbps": -1}, {"max_kbps": 1, "colour": "red"}],
)  # fmt: skip
def test_limits_that_cannot_be(demo: Client, given: dict[str, Any]) -> None:
    assert limit(demo, policy(demo)["id"], 400, **given)["type"] == "InvalidInput"


def test_policies_are_their_projects_own_unless_shared(admin: Client, demo: Client) -> None:
    theirs, shared = policy(admin), policy(admin, shared=True)
    assert [p["id"] for p in demo.get(f"{V2}/qos/policies")["policies"]] == [shared["id"]]
    demo.get(f"{V2}/qos/policies/{theirs['id']}", 404)
    assert limit(demo, theirs["id"], 404, max_kbps=1)
    assert limit(demo, shared["id"], 403, max_kbps=1)
    demo.post(f"{V2}/qos/policies", {"policy": {"name": "x", "shared": True}}, 403)
    demo.post(f"{V2}/qos/policies", {"policy": {"name": "x", "is_default": True}}, 400)


def test_a_limit_reaches_the_load_balancers_that_follow_it(cloud: Cloud, admin: Client) -> None:
    made = policy(admin, shared=True)
    lb = balancer(cloud, vip_qos_policy_id=made["id"])
    one = limit(admin, made["id"], max_kbps=1000)
    assert (generation(cloud, lb), cloud.bell.rung[-1]) == (1, lb)
    its = f"{V2}/qos/policies/{made['id']}/bandwidth_limit_rules/{one['id']}"
    admin.put(its, {"bandwidth_limit_rule": {"max_kbps": 2000}})
    admin.delete(its)
    assert (generation(cloud, lb), cloud.bell.rung[-1]) == (3, lb)
    assert set(story(cloud)) == {"Asked to change QoS policy slow."}
    path = f"{V2}/qos/policies/{made['id']}"
    assert admin.delete(path, 409).json["NeutronError"]["type"] == "QosPolicyInUse"
    assert admin.put(path, {"policy": {"shared": False}}, 409)["NeutronError"]["type"] == "InvalidSharedSetting"


def test_a_port_may_have_a_policy(cloud: Cloud, admin: Client, demo: Client) -> None:
    mine, theirs = policy(demo), policy(admin)
    network = demo.network("private")["id"]
    port = demo.make("port", network_id=network, qos_policy_id=mine["id"])
    assert port["qos_policy_id"] == mine["id"]
    found = cloud.network.port(port["id"])
    assert found is not None
    assert found.qos_policy_id == mine["id"]
    demo.delete(f"{V2}/qos/policies/{mine['id']}", 409)
    path = f"{V2}/ports/{port['id']}"
    demo.put(path, {"port": {"qos_policy_id": theirs["id"]}}, 400)
    balancer(cloud, vip_port_id=port["id"])
    demo.put(path, {"port": {"qos_policy_id": None}}, 409)
    assert demo.make("port", 400, network_id=network, qos_policy_id=theirs["id"])["type"] == "InvalidInput"


def test_a_project_with_groups_or_policies_is_not_deleted(admin: Client, demo: Client) -> None:
    for made in (group(demo), policy(demo)):
        error = admin.delete(f"/identity/v3/projects/{made['project_id']}", 409).json["error"]["message"]
        assert ("security group" in error) or ("QoS policy" in error)


def test_a_write_that_the_database_ended_for_another_is_done_again(demo: Client, cloud: Cloud) -> None:
    made = group(demo)
    seen = deadlock_once(cloud.store)
    one = rule(demo, made["id"], protocol="tcp")
    assert seen == ["ended", "done"]
    found = demo.get(f"{V2}/security-groups/{made['id']}")["security_group"]["security_group_rules"]
    assert [r["id"] for r in found] == [one["id"]]


def test_so_is_one_of_the_network_driver(demo: Client, cloud: Cloud) -> None:
    (subnet,) = [s for s in demo.get(f"{V2}/subnets")["subnets"] if s["name"] == "private-subnet"]
    seen = deadlock_once(cloud.store)
    where = cloud.network.subnet(subnet["id"])
    assert where is not None
    port = cloud.network.ensure_vip("00000000-0000-4000-8000-00000000000b", "p", where, None, ())
    assert cloud.network.port(port.id) is not None
    assert seen[0] == "ended"
    seen = deadlock_once(cloud.store)
    cloud.network.release(port.id)
    assert cloud.network.port(port.id) is None
    assert seen[:2] == ["ended", "done"]
