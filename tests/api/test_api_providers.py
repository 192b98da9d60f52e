"""Load balancers of third parties' providers: what their drivers are asked, and what comes of it."""

import dataclasses
import functools
import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from lb_service import Service
from octavia_lib.api.drivers import data_models
from octavia_lib.api.drivers.data_models import Unset
from sqlalchemy import insert, select, update

from colonnade.configuration import load
from colonnade.local import security
from colonnade.settings import DriverAgent, Settings, WrongSetting
from colonnade.store import handover, tables, work
from tests import pki

PACKAGES = Path(__file__).parents[1] / "provider_package"
ENABLED = tuple(f"{name}: of the tests" for name in ("amphora", "octavia", "mute", "bare", "unloadable", "absent"))


@pytest.fixture
def service(store: Any, tmp_path: Path) -> Iterator[Service]:
    made = Service(store)
    agent = DriverAgent(provider_path=str(PACKAGES), status_socket_path=str(tmp_path / "none.sock"))
    made.settings = dataclasses.replace(made.settings, driver_agent=agent)
    made.reset(enabled_provider_drivers=ENABLED)
    yield made


@pytest.fixture
def calls(service: Service) -> Any:
    """What drivers were asked since the last look; each as (method, arguments)."""
    service.get("providers/mute/flavor_capabilities", by="admin")  # the package is imported by who loads it
    import example_provider

    example_provider.CALLS.clear()

    def since() -> list[tuple[str, tuple[Any, ...]]]:
        found = [(method, arguments) for _, method, arguments in example_provider.CALLS]
        example_provider.CALLS.clear()
        return found

    return since


class LoadBalancerRow(NamedTuple):
    """What local.security finds of a load balancer."""

    id: str
    project_id: str
    provider: str


def reported(service: Service) -> None:
    """The provider says that all is done."""
    service.settle()


def a_tree(service: Service) -> Any:
    """A load balancer of the provider mute, with all there can be, at rest."""
    lb = service.load_balancer(provider="mute", name="lb")
    reported(service)
    listener = service.listener(lb)
    reported(service)
    pool = service.pool(lb, listener_id=listener["id"], session_persistence={"type": "SOURCE_IP"})
    reported(service)
    member = service.member(pool)
    reported(service)
    monitor = service.monitor(pool)
    reported(service)
    policy = service.policy(listener)
    reported(service)
    rule = service.rule(policy)
    reported(service)
    return lb, listener, pool, member, monitor, policy, rule


def everything(service: Service) -> dict[str, list[Any]]:
    """All rows of all objects, and of the ledger but for its counters."""
    with service.store.read() as conn:
        found = {t.name: [dict(r) for r in conn.execute(select(t)).mappings()] for t in tables.OF.values()}
        found["tag"] = [dict(r) for r in conn.execute(select(tables.tag)).mappings()]
        w = tables.work.c
        found["work"] = [tuple(r) for r in conn.execute(select(w.subject, w.due_at, w.owner, w.delete_wanted))]
    return found


def ledger(service: Service, lb_id: str) -> Any:
    with service.store.read() as conn:
        return conn.execute(select(tables.work).where(tables.work.c.subject == lb_id)).one()


# --- which providers there are ---------------------------------------------------------------------------------------


def test_providers_are_those_that_are_enabled(service: Service) -> None:
    listed = service.get("providers")["providers"]
    assert [p["name"] for p in listed] == ["amphora", "octavia", "mute", "bare", "unloadable", "absent"]
    assert listed[2]["description"] == "of the tests"
    assert service.get("providers?name=mute&fields=name") == {"providers": [{"name": "mute"}]}


@pytest.mark.parametrize("line", [
    "enabled_provider_drivers = amphora: ours,nameless", "enabled_provider_drivers = a name: x,amphora: y",
    "default_provider_driver = ovn", "enabled_provider_drivers = ovn: theirs",
])  # fmt: skip
def test_settings_that_make_no_sense_stop_a_program(tmp_path: Path, line: str) -> None:
    file = tmp_path / "colonnade.conf"
    file.write_text(f"[api_settings]\n{line}\n")
    with pytest.raises(WrongSetting, match="provider_driver"):
        load([str(file)])


def test_settings_are_read_as_octavia_reads_them(tmp_path: Path) -> None:
    file = tmp_path / "colonnade.conf"
    file.write_text("[api_settings]\nenabled_provider_drivers = amphora: The old: one.,ovn:\n")
    assert load([str(file)]).providers == {"amphora": "The old: one.", "ovn": ""}
    assert load([str(file)]).reports
    assert not Settings().reports


def test_one_that_is_not_enabled_is_refused(service: Service) -> None:
    body = {"loadbalancer": {"vip_subnet_id": service.subnet.id, "provider": "example"}}
    fault = service.post("loadbalancers", body, expect=400)
    assert fault["faultstring"] == "Provider 'example' is not enabled."
    assert service.get("providers/example/flavor_capabilities", by="admin", expect=400)["faultcode"] == "Client"


@pytest.mark.parametrize("provider", ["unloadable", "absent"])
def test_one_that_cannot_be_loaded_is_501_and_leaves_nothing(service: Service, provider: str) -> None:
    before = everything(service)
    body = {"loadbalancer": {"vip_subnet_id": service.subnet.id, "provider": provider}}
    fault = service.post("loadbalancers", body, expect=501)
    assert fault["faultstring"] == f"Provider '{provider}' was not found."
    assert everything(service) == before
    assert service.cloud.ours() == []


def test_the_start_tells_of_one_that_is_not_installed(service: Service, caplog: pytest.LogCaptureFixture) -> None:
    service.reset(enabled_provider_drivers=ENABLED)
    (said,) = [r.message for r in caplog.records if r.levelname == "WARNING"]
    assert "enabled_provider_drivers names absent, which no installed package offers" in said
    assert len(service.get("providers")["providers"]) == len(ENABLED)


def test_the_default_provider_may_be_a_third_partys(service: Service, calls: Any) -> None:
    service.reset(default_provider_driver="mute")
    assert service.load_balancer()["provider"] == "mute"
    assert [method for method, _ in calls()] == ["create_vip_port", "loadbalancer_create"]


def test_capabilities_are_what_the_driver_says(service: Service) -> None:
    flavors = service.get("providers/mute/flavor_capabilities", by="admin")
    assert flavors == {
        "flavor_capabilities": [
            {"name": "size", "description": "small or large"}, {"name": "colour", "description": "any"},
        ]
    }  # fmt: skip
    assert len(service.get("providers/mute/flavor_capabilities?name=size", by="admin")["flavor_capabilities"]) == 1
    zones = service.get("providers/mute/availability_zone_capabilities", by="admin")
    assert zones == {"availability_zone_capabilities": []}
    for what in ("flavor", "availability_zone"):
        fault = service.get(f"providers/bare/{what}_capabilities", by="admin", expect=501)
        assert fault["faultstring"].startswith("Provider 'bare' does not support a requested action:")


def profile(service: Service, data: Any, expect: int = 201, provider: str = "mute") -> Any:
    body = {"name": "p", "provider_name": provider, "flavor_data": json.dumps(data)}
    return service.post("flavorprofiles", {"flavorprofile": body}, by="admin", expect=expect)


def zone_profile(service: Service, data: Any, expect: int = 201) -> Any:
    body = {"name": "p", "provider_name": "mute", "availability_zone_data": json.dumps(data)}
    return service.post(
        "availabilityzoneprofiles", {"availability_zone_profile": body}, by="admin", expect=expect
    )  # fmt: skip


def test_profiles_are_validated_by_the_driver(service: Service) -> None:
    profile(service, {"size": "large"})
    fault = profile(service, {"speed": 9}, expect=501)
    assert fault["faultstring"] == "Provider 'mute' does not support a requested option: no speed here"
    assert profile(service, {}, expect=501, provider="bare")["faultcode"] == "Server"
    zone_profile(service, {"place": "cellar", "valid_vip_networks": 5})
    assert zone_profile(service, {}, expect=500)["faultstring"] == "Provider 'mute' reports error: no place"


def test_a_flavor_and_a_zone_reach_the_driver_as_their_metadata(service: Service, calls: Any) -> None:
    made = profile(service, {"size": "large"})["flavorprofile"]
    flavor = service.post(
        "flavors", {"flavor": {"name": "f", "flavor_profile_id": made["id"]}}, by="admin"
    )["flavor"]  # fmt: skip
    made = zone_profile(service, {"place": "cellar"})["availability_zone_profile"]
    zone = {"name": "z", "availability_zone_profile_id": made["id"]}
    service.post("availabilityzones", {"availability_zone": zone}, by="admin")
    calls()
    lb = service.load_balancer(flavor_id=flavor["id"], availability_zone="z")
    assert (lb["provider"], lb["flavor_id"]) == ("mute", flavor["id"])
    given = calls()[-1][1][0]
    assert (given.flavor, given.availability_zone) == ({"size": "large"}, {"place": "cellar"})
    body = {"loadbalancer": {"vip_subnet_id": service.subnet.id, "flavor_id": flavor["id"], "provider": "amphora"}}
    service.post("loadbalancers", body, expect=400)


def test_networks_of_a_zone_hold_for_every_provider(service: Service) -> None:
    made = zone_profile(service, {"place": "x", "valid_vip_networks": [service.subnet.network_id.upper()]})
    other = service.cloud.add_subnet("10.9.0.0/24", project_id="alice-project")
    zone = {"name": "z", "availability_zone_profile_id": made["availability_zone_profile"]["id"]}
    service.post("availabilityzones", {"availability_zone": zone}, by="admin")
    service.load_balancer(availability_zone="z")
    body = {"loadbalancer": {"vip_subnet_id": other.id, "availability_zone": "z"}}
    service.post("loadbalancers", body, expect=400)


# --- what a driver is asked ------------------------------------------------------------------------------------------


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


# --- what comes of it ------------------------------------------------------------------------------------------------

RAISED = [
    ("SystemExit", 500, "Provider 'mute' reports error: SystemExit('of the whole program')"),
    ("DriverError", 500, "Provider 'mute' reports error: said to users"),
    ("NotImplementedError", 501, "Provider 'mute' does not support a requested action: said to users"),
    ("UnsupportedOptionError", 501, "Provider 'mute' does not support a requested option: said to users"),
    ("Conflict", 409, "said to users"),
    ("NotFound", 500, "Provider 'mute' reports error: said to users"),
    ("Mistake", 500, "Provider 'mute' reports error: a mistake in the driver: Mistake"),
]


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


def hurried(service: Service) -> None:
    section = dataclasses.replace(service.settings.driver_agent, call_limit_s=0.3)
    service.settings = dataclasses.replace(service.settings, driver_agent=section)
    service.reset()


def test_a_provider_that_does_not_answer_leaves_an_error_that_its_report_settles(
    service: Service, calls: Any, tmp_path: Path
) -> None:
    lb, *_ = a_tree(service)
    hurried(service)
    path = f"loadbalancers/{lb['id']}"
    fault = service.put(path, {"loadbalancer": {"name": f"wait {tmp_path / 'go'}"}}, expect=500)
    assert "has not answered within 0.3 s" in fault["faultstring"]
    shown = service.get(path)["loadbalancer"]
    assert (shown["provisioning_status"], shown["reason"]) == ("ERROR", fault["faultstring"])
    assert shown["name"].startswith("wait")
    (tmp_path / "go").touch()
    service.put(path, {"loadbalancer": {"name": "again"}})  # nobody holds it
    assert [method for method, _ in calls()][-2:] == ["loadbalancer_update", "loadbalancer_update"]


def test_a_creation_that_is_not_answered_keeps_its_vip(service: Service, tmp_path: Path) -> None:
    hurried(service)
    body = {"vip_subnet_id": service.subnet.id, "provider": "mute", "name": f"wait {tmp_path / 'go'}"}
    service.post("loadbalancers", {"loadbalancer": body}, expect=500)
    (lb,) = service.get("loadbalancers")["loadbalancers"]
    assert lb["provisioning_status"] == "ERROR"
    assert [p.id for p in service.cloud.ours()] == [lb["vip_port_id"]]
    (tmp_path / "go").touch()
    service.delete(f"loadbalancers/{lb['id']}")


def test_a_provider_that_hangs_leaves_half_of_the_threads_to_others(
    service: Service, calls: Any, tmp_path: Path
) -> None:
    import example_provider

    asked = functools.partial(service.send, "GET", "providers/mute/flavor_capabilities", by="admin")
    assert service.settings.api_settings.threads == 8
    example_provider.READY = str(tmp_path / "go")
    try:
        with ThreadPoolExecutor(4) as pool:
            waiting = [pool.submit(asked) for _ in range(4)]
            while sum(t.name == "provider-mute" for t in threading.enumerate()) < 4:
                time.sleep(0.01)
            refused = asked()
            assert (refused.status_code, refused.json["faultstring"]) == (
                503, "Provider 'mute' is asked too much at a time. Please try again."
            )  # fmt: skip
            (tmp_path / "go").touch()
            assert [w.result().status_code for w in waiting] == [200] * 4
    finally:
        (tmp_path / "go").touch()
        example_provider.READY = None
    assert asked().status_code == 200


def test_a_driver_that_does_not_get_ready_is_never_called(service: Service, calls: Any, tmp_path: Path) -> None:
    import example_provider

    lb, *_ = a_tree(service)
    hurried(service)
    before = everything(service)
    calls()
    example_provider.READY = str(tmp_path / "go")
    try:
        fault = service.put(f"loadbalancers/{lb['id']}", {"loadbalancer": {"name": "n"}}, expect=500)
    finally:
        (tmp_path / "go").touch()
        example_provider.READY = None
    assert "was not ready within 0.3 s" in fault["faultstring"]
    assert everything(service) == before
    for thread in [t for t in threading.enumerate() if t.name == "provider-mute"]:
        thread.join(5)
    assert calls() == []


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
