"""Load balancers of third parties' providers: what their drivers are asked."""

from typing import Any, NamedTuple

import pytest
from lb_provider import a_tree, everything, ledger, reported
from lb_service import Service
from octavia_lib.api.drivers import data_models
from octavia_lib.api.drivers.data_models import Unset

from colonnade.local import security
from colonnade.store import work
from tests import pki


class LoadBalancerRow(NamedTuple):
    """What local.security finds of a load balancer."""

    id: str
    project_id: str
    provider: str


@pytest.fixture
def service(provided: Service) -> Service:
    return provided


def test_a_load_balancer_is_created_by_the_driver(service: Service, calls: Any) -> None:
    lb = service.load_balancer(provider="mute", name="lb", description="d", tags=["blue"])
    assert (lb["provider"], lb["provisioning_status"]) == ("mute", "PENDING_CREATE")
    (first, vip), (second, (given,)) = calls()
    assert (first, second) == ("create_vip_port", "loadbalancer_create")
    wanted = {"vip_network_id": service.subnet.network_id, "vip_subnet_id": service.subnet.id}
    assert vip == (lb["id"], "alice-project", wanted, [])
    assert isinstance(given, data_models.LoadBalancer)
    assert given.to_dict(recurse=True) == {
        "loadbalancer_id": lb["id"], "name": "lb", "description": "d", "admin_state_up": True,
        "project_id": "alice-project", "listeners": [], "pools": [], "vip_address": lb["vip_address"],
        "vip_network_id": lb["vip_network_id"], "vip_port_id": lb["vip_port_id"],
        "vip_subnet_id": lb["vip_subnet_id"], "vip_qos_policy_id": None, "vip_sg_ids": [], "additional_vips": [],
    }  # fmt: skip
    assert (given.flavor, given.availability_zone) == (Unset, Unset)


def test_the_loop_never_hears_of_it(service: Service) -> None:
    lb = a_tree(service)[0]
    service.put(f"loadbalancers/{lb['id']}/failover", by="admin", expect=202)
    assert service.doorbell.wait(0) == set()
    with service.store.read() as conn:
        assert work.due(conn, service.clock.now() + 1e9, 100) == []
    assert (ledger(service, lb["id"]).owner, ledger(service, lb["id"]).due_at) == (None, None)
    before = ledger(service, lb["id"])
    with service.store.write() as conn:  # as those do who see that something in the world has changed
        work.disturb(conn, lb["id"], service.clock.now())
        assert not work.nudge(conn, lb["id"], service.clock.now())
        security.tell(conn, [LoadBalancerRow(lb["id"], "alice-project", "mute")], service.clock.now(), "s")
    assert ledger(service, lb["id"]) == before


def test_each_write_calls_its_method(service: Service, calls: Any) -> None:
    lb, listener, pool, member, monitor, policy, rule = a_tree(service)
    made = dict(calls())
    assert list(made) == [
        "create_vip_port", "loadbalancer_create", "listener_create", "pool_create", "member_create",
        "health_monitor_create", "l7policy_create", "l7rule_create",
    ]  # fmt: skip
    (given,) = made["listener_create"]
    assert (given.listener_id, given.loadbalancer_id, given.protocol) == (listener["id"], lb["id"], "HTTP")
    assert (given.timeout_client_data, given.connection_limit, given.insert_headers) == (50000, -1, {})
    assert (given.default_pool_id, given.default_pool, given.allowed_cidrs) == (None, None, None)
    (given,) = made["pool_create"]
    assert (given.pool_id, given.listener_id, given.members) == (pool["id"], listener["id"], [])
    assert given.session_persistence == {
        "type": "SOURCE_IP", "cookie_name": None, "persistence_timeout": None, "persistence_granularity": None,
    }  # fmt: skip
    (given,) = made["member_create"]
    assert given.to_dict() == {
        "member_id": member["id"], "pool_id": pool["id"], "name": "", "admin_state_up": True,
        "project_id": "alice-project", "address": "10.2.0.1", "protocol_port": 8080, "subnet_id": None, "weight": 1,
        "backup": False, "monitor_address": None, "monitor_port": None, "vnic_type": "normal",
    }  # fmt: skip
    (given,) = made["health_monitor_create"]
    assert (given.healthmonitor_id, given.http_method, given.expected_codes) == (monitor["id"], "GET", "200")
    (given,) = made["l7policy_create"]
    assert (given.l7policy_id, given.position, given.action, given.rules) == (policy["id"], 1, "REJECT", [])
    (given,) = made["l7rule_create"]
    assert (given.l7rule_id, given.l7policy_id, given.type, given.value) == (rule["id"], policy["id"], "PATH", "/x")

    for path, root in (
        (f"l7policies/{policy['id']}/rules/{rule['id']}", "rule"), (f"l7policies/{policy['id']}", "l7policy"),
        (f"healthmonitors/{monitor['id']}", "healthmonitor"), (f"pools/{pool['id']}/members/{member['id']}", "member"),
        (f"pools/{pool['id']}", "pool"), (f"listeners/{listener['id']}", "listener"),
        (f"loadbalancers/{lb['id']}", "loadbalancer"),
    ):  # fmt: skip
        service.put(path, {root: {"admin_state_up": False}})
        method, (old, new) = calls()[0]
        name = {"healthmonitor": "health_monitor", "rule": "l7rule"}.get(root, root)
        assert method == f"{name}_update"
        id_name = {"rule": "l7rule"}.get(root, root) + "_id"
        id = getattr(old, id_name)
        assert new.to_dict(recurse=True) == {id_name: id, "admin_state_up": False}
        assert old.admin_state_up is True
        reported(service)
        service.delete(path + ("?cascade=true" if root == "loadbalancer" else ""))
        ((method, arguments),) = calls()
        assert method == f"{name}_delete"
        assert getattr(arguments[0], id_name) == id
        assert arguments[1:] == ((True,) if root == "loadbalancer" else ())
        reported(service)


def test_what_is_deleted_is_told_with_all_that_is_in_it(service: Service, calls: Any) -> None:
    lb, listener, pool, member, monitor, _policy, rule = a_tree(service)
    calls()
    service.delete(f"pools/{pool['id']}")
    (given,) = calls()[0][1]
    assert [m.member_id for m in given.members] == [member["id"]]
    assert given.healthmonitor.healthmonitor_id == monitor["id"]
    reported(service)
    service.delete(f"loadbalancers/{lb['id']}?cascade=true")
    given, cascade = calls()[0][1]
    assert cascade is True
    assert [x.listener_id for x in given.listeners] == [listener["id"]]
    assert given.listeners[0].l7policies[0].rules[0].l7rule_id == rule["id"]


def test_a_batch_tells_the_whole_wanted_set(service: Service, calls: Any) -> None:
    pool, member = a_tree(service)[2:4]
    calls()
    one, two = {"address": "10.2.0.2", "protocol_port": 80}, {"address": "10.2.0.3", "protocol_port": 80}
    service.put(f"pools/{pool['id']}/members?additive_only=true", {"members": [one]}, expect=202)
    method, (id, members) = calls()[0]
    assert (method, id) == ("member_batch_update", pool["id"])
    assert [m.address for m in members] == ["10.2.0.1", "10.2.0.2"]
    assert members[0].member_id == member["id"]
    reported(service)
    service.put(f"pools/{pool['id']}/members", {"members": [{**one, "weight": 7}, two]}, expect=202)
    assert [(m.address, m.weight) for m in calls()[0][1][1]] == [("10.2.0.2", 7), ("10.2.0.3", 1)]
    reported(service)
    service.put(f"pools/{pool['id']}/members", {"members": [{**one, "weight": 7}, two]}, expect=202)
    assert calls() == []
    assert service.get(f"pools/{pool['id']}")["pool"]["provisioning_status"] == "ACTIVE"
    service.member(pool, address="10.2.0.9")  # nothing was left behind that would refuse it


def test_a_full_tree_is_one_call(service: Service, calls: Any) -> None:
    lb = service.load_balancer(
        provider="mute",
        listeners=[
            {
                "name": "x", "protocol": "TCP", "protocol_port": 80, "default_pool": {"name": "p"},
                "l7policies": [{
                    "action": "REDIRECT_TO_POOL", "redirect_pool": {"name": "p"},
                    "rules": [{"type": "PATH", "compare_type": "EQUAL_TO", "value": "/"}],
                }],
            }
        ],
        pools=[
            {
                "name": "p", "protocol": "TCP", "lb_algorithm": "SOURCE_IP_PORT",
                "members": [{"address": "10.2.0.1", "protocol_port": 80}],
                "healthmonitor": {"type": "TCP", "delay": 1, "timeout": 1, "max_retries": 1},
            }
        ],
    )  # fmt: skip
    given = calls()[-1][1][0]
    (listener,), (pool,) = given.listeners, given.pools
    assert listener.default_pool_id == listener.default_pool.pool_id == pool.pool_id
    assert pool.listener_id == listener.listener_id == lb["listeners"][0]["id"]
    assert [m.address for m in pool.members] == ["10.2.0.1"]
    assert (pool.healthmonitor.type, pool.lb_algorithm) == ("TCP", "SOURCE_IP_PORT")
    assert listener.l7policies[0].redirect_pool_id == pool.pool_id
    assert listener.l7policies[0].rules[0].value == "/"


def test_what_our_own_provider_cannot_is_for_the_driver_to_refuse(service: Service, calls: Any) -> None:
    lb = service.load_balancer(provider="mute")
    reported(service)
    service.listener(lb, protocol="UDP", protocol_port=53)
    reported(service)
    pool = service.pool(lb, protocol="UDP")
    reported(service)
    service.monitor(pool, type="UDP-CONNECT", delay=3)
    assert calls()[-1][1][0].type == "UDP-CONNECT"


def test_certificates_reach_the_driver_with_their_keys(service: Service, calls: Any) -> None:
    authority = pki.authority()
    cert = authority.issue("www.example.com")
    refs = {
        name: service.vault.put(f"http://keys/v1/secrets/{i * 8}-0000-4000-8000-000000000000", data, "alice-project")
        for name, i, data in (("pair", "1", cert.p12()), ("ca", "2", authority.pem))
    }
    lb = service.load_balancer(provider="mute")
    reported(service)
    fields = {
        "protocol": "TERMINATED_HTTPS", "default_tls_container_ref": refs["pair"], "sni_container_refs": [refs["pair"]],
        "client_ca_tls_container_ref": refs["ca"], "client_authentication": "OPTIONAL",
    }  # fmt: skip
    listener = service.listener(lb, **fields)
    given = calls()[-1][1][0]
    assert given.default_tls_container_data["primary_cn"] == "www.example.com"
    assert "BEGIN PRIVATE KEY" in given.default_tls_container_data["private_key"]
    assert given.default_tls_container_data["passphrase"] is None
    assert given.sni_container_data == [given.default_tls_container_data]
    assert given.client_ca_tls_container_data == authority.pem.decode()
    assert (given.client_crl_container_data, given.client_authentication) == (None, "OPTIONAL")
    assert service.vault.consumers == {lb["id"]: set(refs.values())}
    reported(service)
    del service.vault.held[refs["pair"]]
    before = everything(service)
    service.put(f"listeners/{listener['id']}", {"listener": {"sni_container_refs": []}})
    old, new = calls()[-1][1]
    assert (old.default_tls_container_data, new.sni_container_refs, new.sni_container_data) == (None, [], None)
    assert new.default_tls_container_ref is Unset
    reported(service)
    service.delete(f"listeners/{listener['id']}")
    assert calls()[-1][0] == "listener_delete"
    assert before["listener"]
