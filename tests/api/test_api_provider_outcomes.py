"""Load balancers of third parties' providers: what comes of what their drivers are asked."""

import dataclasses
import functools
from typing import Any

import pytest
from lb_provider import ENABLED, a_tree, everything, ledger, reported
from lb_service import Service
from sqlalchemy import insert, select, update

from colonnade.store import handover, tables, work

RAISED = [
    ("SystemExit", 500, "Provider 'mute' reports error: SystemExit('of the whole program')"),
    ("DriverError", 500, "Provider 'mute' reports error: said to users"),
    ("NotImplementedError", 501, "Provider 'mute' does not support a requested action: said to users"),
    ("UnsupportedOptionError", 501, "Provider 'mute' does not support a requested option: said to users"),
    ("Conflict", 409, "said to users"),
    ("NotFound", 500, "Provider 'mute' reports error: said to users"),
    ("Mistake", 500, "Provider 'mute' reports error: a mistake in the driver: Mistake"),
]


@pytest.fixture
def service(provided: Service) -> Service:
    return provided


@pytest.mark.parametrize(("kind", "status", "sentence"), RAISED)
def test_a_refused_creation_has_not_happened(service: Service, kind: str, status: int, sentence: str) -> None:
    quota = {"quota": {"loadbalancer": 1, "listener": 1}}
    service.put("quotas/alice-project", quota, by="admin", expect=202)
    before = everything(service)
    body = {
        "vip_subnet_id": service.subnet.id, "provider": "mute", "name": f"raise {kind}", "tags": ["t"],
        "listeners": [{"protocol": "TCP", "protocol_port": 80, "tags": ["t"]}],
    }  # fmt: skip
    fault = service.post("loadbalancers", {"loadbalancer": body}, expect=status)
    assert fault["faultstring"] == sentence
    assert fault["faultcode"] == ("Server" if status >= 500 else "Client")
    assert everything(service) == before
    assert service.cloud.ours() == []
    with service.store.read() as conn:
        assert conn.execute(select(tables.event)).all() == []
    assert service.load_balancer(provider="mute")["provider"] == "mute"  # the quota's only place is free


@pytest.mark.parametrize(("kind", "status", "sentence"), RAISED)
def test_a_refused_change_has_not_happened(service: Service, kind: str, status: int, sentence: str) -> None:
    lb, listener, pool, member, *_, rule = a_tree(service)
    before = everything(service)
    for send, path, body in (
        (service.put, f"loadbalancers/{lb['id']}", {"loadbalancer": {"name": f"raise {kind}", "tags": ["new"]}}),
        (service.put, f"pools/{pool['id']}/members/{member['id']}", {"member": {"name": f"raise {kind}"}}),
        (service.post, f"pools/{pool['id']}/members",
         {"member": {"name": f"raise {kind}", "address": "10.2.0.8", "protocol_port": 1, "tags": ["a"]}}),
        (service.post, "pools", {"pool": {"name": f"raise {kind}", "protocol": "HTTP", "lb_algorithm": "SOURCE_IP",
                                          "loadbalancer_id": lb["id"]}}),
    ):  # fmt: skip
        fault = send(path, body, expect=status)
        assert fault["faultstring"] == sentence
        assert everything(service) == before
    events = service.get(f"loadbalancers/{lb['id']}/events")["events"]
    assert (events[0]["kind"], events[0]["sentence"]) == ("failed", sentence)
    assert listener and rule


def test_a_refused_deletion_has_not_happened(service: Service) -> None:
    lb = a_tree(service)[0]
    with service.store.write() as conn:
        conn.execute(update(tables.load_balancer).values(name="raise DriverError"))
    before = everything(service)
    service.delete(f"loadbalancers/{lb['id']}?cascade=true", expect=500)
    assert everything(service) == before


def test_what_is_pending_is_the_providers(service: Service, calls: Any) -> None:
    lb = service.load_balancer(provider="mute")
    calls()
    for send, path, body, sentence in (
        (service.put, f"loadbalancers/{lb['id']}", {"loadbalancer": {"name": "n"}},
         f"Invalid state PENDING_CREATE of loadbalancer resource {lb['id']}"),
        (functools.partial(service.put, by="admin"), f"loadbalancers/{lb['id']}/failover", None,
         f"Invalid state PENDING_CREATE of loadbalancer resource {lb['id']}"),
        (service.post, "listeners",
         {"listener": {"loadbalancer_id": lb["id"], "protocol": "TCP", "protocol_port": 1}},
         f"Load Balancer {lb['id']} is immutable and cannot be updated."),
    ):  # fmt: skip
        assert send(path, body, expect=409)["faultstring"] == sentence
    service.delete(f"loadbalancers/{lb['id']}", expect=409)
    assert calls() == []
    assert ledger(service, lb["id"]).delete_wanted is False


def test_a_pool_that_is_pending_takes_no_member(service: Service) -> None:
    lb, _, pool, *_ = a_tree(service)
    with service.store.write() as conn:
        conn.execute(update(tables.pool).values(provisioning_status="PENDING_UPDATE"))
    body = {"member": {"address": "10.2.0.8", "protocol_port": 1}}
    fault = service.post(f"pools/{pool['id']}/members", body, expect=201)
    assert fault["member"]["provisioning_status"] == "PENDING_CREATE"
    reported(service)
    with service.store.write() as conn:
        conn.execute(update(tables.pool).values(provisioning_status="PENDING_CREATE"))
    service.put(f"pools/{pool['id']}", {"pool": {"name": "n"}}, expect=409)
    assert service.get(f"loadbalancers/{lb['id']}")["loadbalancer"]["provisioning_status"] == "ACTIVE"


def test_one_in_error_can_be_written_to_and_deleted(service: Service, calls: Any) -> None:
    lb = service.load_balancer(provider="mute")
    with service.store.write() as conn:
        conn.execute(update(tables.load_balancer).values(provisioning_status="ERROR"))
    service.put(f"loadbalancers/{lb['id']}", {"loadbalancer": {"name": "again"}})
    with service.store.write() as conn:
        conn.execute(update(tables.load_balancer).values(provisioning_status="ERROR"))
    service.delete(f"loadbalancers/{lb['id']}")
    assert [method for method, _ in calls()][-2:] == ["loadbalancer_update", "loadbalancer_delete"]


def test_a_vip_that_the_provider_makes_is_the_providers(
    service: Service, calls: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EXAMPLE_VIP", "own")
    lb = service.load_balancer(provider="mute", vip_address="10.1.0.50")
    assert (lb["vip_address"], lb["vip_port_id"]) == ("10.1.0.77", lb["id"])
    assert calls()[0][1][2]["vip_address"] == "10.1.0.50"
    assert service.cloud.ours() == []
    with service.store.read() as conn:
        assert conn.execute(select(tables.load_balancer.c.vip_owned)).scalar() is False


def test_additional_vips_are_asked_for_and_taken(service: Service, calls: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    other = service.cloud.add_subnet("fd00::/64", service.subnet.network_id, "alice-project")
    more = [{"subnet_id": other.id}]
    lb = service.load_balancer(provider="mute", additional_vips=more)
    (_, vip), (_, (given,)) = calls()
    assert vip[3] == [{"network_id": service.subnet.network_id, "subnet_id": other.id}]
    (shown,) = lb["additional_vips"]
    assert given.additional_vips == [{**shown, "network_id": service.subnet.network_id}]
    monkeypatch.setenv("EXAMPLE_VIP", "own")
    lb = service.load_balancer(provider="mute", additional_vips=[{**more[0], "ip_address": "fd00::7"}])
    assert lb["additional_vips"] == [{"subnet_id": other.id, "ip_address": "fd00::7", "port_id": lb["id"]}]
    lb = {"vip_subnet_id": service.subnet.id, "provider": "mute", "additional_vips": more}
    service.post("loadbalancers", {"loadbalancer": lb}, expect=500)  # the driver gave it no address


def test_a_vip_port_of_ones_own_is_told(service: Service, calls: Any) -> None:
    port = service.cloud.ensure_vip("somebody", "alice-project", service.subnet, None)
    service.cloud.ports[port.id] = dataclasses.replace(port, name="mine", device_id="", device_owner="")
    lb = service.load_balancer(provider="mute", vip_port_id=port.id)
    assert calls()[0][1][2]["vip_port_id"] == port.id == lb["vip_port_id"]
    with service.store.read() as conn:
        assert conn.execute(select(tables.load_balancer.c.vip_owned)).scalar() is False


def test_while_it_is_handed_over_nobody_else_gets_through(service: Service) -> None:
    lb = a_tree(service)[0]
    with service.store.write() as conn:
        work.touch(conn, lb["id"], service.clock.now())
        lease = handover.begin(conn, lb["id"], "somebody", service.clock.now(), 600)
    service.put(f"loadbalancers/{lb['id']}", {"loadbalancer": {"name": "n"}}, expect=409)
    with service.store.write() as conn:
        assert handover.end(conn, lease, None)
        assert not handover.end(conn, lease, None)
    service.put(f"loadbalancers/{lb['id']}", {"loadbalancer": {"name": "n"}})


def test_one_whose_provider_was_taken_away_is_for_admins_to_forget(service: Service, calls: Any) -> None:
    lb, *_ = a_tree(service)
    service.reset(enabled_provider_drivers=ENABLED[:2])
    service.put(f"loadbalancers/{lb['id']}", {"loadbalancer": {"name": "n"}}, expect=400)
    calls()
    assert "is not enabled" in service.delete(f"loadbalancers/{lb['id']}?cascade=true", expect=400)["faultstring"]
    service.delete(f"loadbalancers/{lb['id']}", by="admin", expect=400)  # it has children
    service.delete(f"loadbalancers/{lb['id']}?cascade=true", by="admin")
    service.get(f"loadbalancers/{lb['id']}", expect=404)
    assert service.cloud.ours() == []
    assert all(rows == [] for name, rows in everything(service).items() if name != "quota")
    assert calls() == []


def test_our_own_load_balancers_are_as_before(service: Service, calls: Any) -> None:
    lb = service.load_balancer(provider="amphora")
    service.listener(lb)  # no waiting
    assert service.doorbell.wait(0) == {lb["id"]}
    assert calls() == []
    with service.store.write() as conn:
        conn.execute(insert(tables.tag).values(object_id=lb["id"], value="x"))
