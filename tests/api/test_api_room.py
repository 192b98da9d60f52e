"""One load balancer holds so much and no more, and its heartbeat fits a datagram."""

import uuid
from typing import Any

import pytest
from lb_service import Service

from colonnade import wire
from colonnade.api import room


def members(count: int) -> list[dict[str, Any]]:
    return [{"address": f"10.2.{n // 250}.{n % 250 + 1}", "protocol_port": 80} for n in range(count)]


def test_a_batch_that_does_not_fit_is_refused_and_nothing_happens(service: Service) -> None:
    pool = service.pool(service.load_balancer())
    path = f"pools/{pool['id']}/members"
    error = service.put(path, {"members": members(room.MOST + 1)}, expect=409)
    assert "Share them out" in error["faultstring"]
    assert service.get(path)["members"] == []


def test_members_count_once_for_each_listener(service: Service) -> None:
    lb = service.load_balancer()
    pool = service.pool(lb)
    fits = room.MOST - room.LISTENER
    service.put(f"pools/{pool['id']}/members", {"members": members(fits)}, expect=202)
    first = service.listener(lb, default_pool_id=pool["id"])
    one_more = {"member": {"address": "10.3.0.1", "protocol_port": 80}}
    service.post(f"pools/{pool['id']}/members", one_more, expect=409)
    second = {"loadbalancer_id": lb["id"], "protocol": "HTTP", "protocol_port": 81, "default_pool_id": pool["id"]}
    service.post("listeners", {"listener": second}, expect=409)
    service.put(f"listeners/{first['id']}", {"listener": {"name": "changes go on"}})
    service.put(f"pools/{pool['id']}/members", {"members": members(10)}, expect=202)
    service.post("listeners", {"listener": second})


def test_a_tree_that_does_not_fit_is_refused(service: Service) -> None:
    pool = {"name": "p", "protocol": "HTTP", "lb_algorithm": "ROUND_ROBIN", "members": members(room.MOST + 1)}
    body = {"vip_subnet_id": service.subnet.id, "pools": [pool]}
    service.post("loadbalancers", {"loadbalancer": body}, expect=409)


def test_rules_take_room_too(service: Service) -> None:
    rule = {"type": "PATH", "compare_type": "EQUAL_TO", "value": "/"}
    policies = [{"action": "REJECT", "rules": [rule] * 50}] * (room.MOST // 50)
    listener = {"protocol": "HTTP", "protocol_port": 80, "l7policies": policies}
    body = {"vip_subnet_id": service.subnet.id, "listeners": [listener]}
    service.post("loadbalancers", {"loadbalancer": body}, expect=409)
    lb = service.load_balancer()
    policy = {"listener_id": service.listener(lb)["id"], "action": "REJECT"}
    path = f"l7policies/{service.post('l7policies', {'l7policy': policy})['l7policy']['id']}/rules"
    pool = service.pool(lb)
    service.put(f"pools/{pool['id']}/members", {"members": members(room.MOST - room.LISTENER - 1)}, expect=202)
    service.post(path, {"rule": rule})
    assert "each L7 rule one" in service.post(path, {"rule": rule}, expect=409)["faultstring"]


@pytest.mark.parametrize(("field", "value"), [("tags", [f"t{n}" for n in range(257)])])
def test_lists_of_a_load_balancer_have_limits(service: Service, field: str, value: Any) -> None:
    lb = service.load_balancer()
    error = service.put(f"loadbalancers/{lb['id']}", {"loadbalancer": {field: value}}, expect=400)
    assert "at most 256 items" in error["faultstring"]


def test_allowed_cidrs_have_a_limit(service: Service) -> None:
    listener = service.listener(service.load_balancer())
    cidrs = [f"10.{n // 250}.{n % 250}.0/24" for n in range(1001)]
    service.put(f"listeners/{listener['id']}", {"listener": {"allowed_cidrs": cidrs}}, expect=400)
    service.put(f"listeners/{listener['id']}", {"listener": {"allowed_cidrs": cidrs[:-1]}})


def test_many_tags_in_a_filter_are_refused(service: Service) -> None:
    for name in ("tags", "tags-any", "not-tags", "not-tags-any"):
        service.get(f"loadbalancers?{name}={','.join(str(n) for n in range(100))}")
        service.get(f"loadbalancers?{name}={','.join(str(n) for n in range(3000))}", expect=400)


@pytest.mark.parametrize("listeners", [1, 20, 200])
def test_the_heartbeat_of_a_full_load_balancer_fits(listeners: int) -> None:
    ids = [str(uuid.uuid4()) for _ in range(listeners)]
    each = (room.MOST - room.LISTENER * listeners) // listeners
    state = wire.MemberState(status="UP", check="* L4OK")
    found = {f"{uuid.uuid4()}:{i}": {str(uuid.uuid4()): state for _ in range(each)} for i in ids}
    counters = {
        i: wire.Counters(
            status="OPEN", bytes_in=uuid.uuid4().int >> 84, bytes_out=uuid.uuid4().int >> 84,
            total_connections=uuid.uuid4().int >> 98,
        )
        for i in ids
    }  # fmt: skip
    beat = wire.Heartbeat(
        amphora_id=str(uuid.uuid4()), sequence=2**50, time=1.8e9, epoch=uuid.uuid4().hex, digest="a" * 64,
        listeners=counters, pools=dict.fromkeys(found, "UP"), members=found,
    )  # fmt: skip
    assert len(wire.pack(beat, b"k" * 32)) < wire.MAX_DATAGRAM


def test_members_count_for_each_listener_whose_policy_aims_at_their_pool(service: Service) -> None:
    lb = service.load_balancer()
    pool = service.pool(lb)
    service.listener(lb, default_pool_id=pool["id"])
    other = service.listener(lb, protocol_port=81)
    many = {"members": members(room.MOST // 2)}
    service.put(f"pools/{pool['id']}/members", many, expect=202)
    aimed = {"listener_id": other["id"], "action": "REDIRECT_TO_POOL", "redirect_pool_id": pool["id"]}
    policy = service.post("l7policies", {"l7policy": aimed})["l7policy"]
    rule = {"rule": {"type": "PATH", "compare_type": "EQUAL_TO", "value": "/"}}
    service.post(f"l7policies/{policy['id']}/rules", rule, expect=409)
