"""Each kind of object: created, shown, changed, deleted; what a reply holds; what a write marks PENDING and says."""

from datetime import datetime
from typing import Any

import pytest
from lb_service import Service, nobody_has
from sqlalchemy import insert, select, update

from colonnade.errors import Broken, Later
from colonnade.model import Amphora
from colonnade.store import rows, tables
from colonnade.types import AmphoraStatus, Role

COMMON = {
    "id", "project_id", "tenant_id", "name", "admin_state_up", "provisioning_status", "operating_status", "reason",
    "created_at", "updated_at", "tags",
}  # fmt: skip
KEYS = {
    "loadbalancers": COMMON | {
        "description", "vip_address", "vip_port_id", "vip_subnet_id", "vip_network_id", "vip_qos_policy_id",
        "vip_vnic_type", "vip_sg_ids", "additional_vips", "provider", "flavor_id", "availability_zone", "listeners",
        "pools",
    },
    "listeners": COMMON | {
        "description", "protocol", "protocol_port", "connection_limit", "default_pool_id", "default_tls_container_ref",
        "sni_container_refs", "insert_headers", "timeout_client_data", "timeout_member_connect", "timeout_member_data",
        "timeout_tcp_inspect", "client_ca_tls_container_ref", "client_authentication", "client_crl_container_ref",
        "allowed_cidrs", "tls_ciphers", "tls_versions", "alpn_protocols", "hsts_max_age", "hsts_include_subdomains",
        "hsts_preload", "loadbalancers", "l7policies",
    },
    "pools": COMMON | {
        "description", "protocol", "lb_algorithm", "session_persistence", "tls_enabled", "tls_container_ref",
        "ca_tls_container_ref", "crl_container_ref", "tls_ciphers", "tls_versions", "alpn_protocols", "loadbalancers",
        "listeners", "members", "healthmonitor_id",
    },
    "healthmonitors": COMMON | {
        "type", "delay", "timeout", "max_retries", "max_retries_down", "http_method", "url_path", "expected_codes",
        "http_version", "domain_name", "pools",
    },
    "members": COMMON | {
        "address", "protocol_port", "weight", "backup", "subnet_id", "monitor_address", "monitor_port", "vnic_type",
    },
}  # fmt: skip


@pytest.fixture
def made(service: Service) -> Any:
    """One load balancer with one of each, all ACTIVE."""
    service.lb = service.load_balancer(name="web")  # type: ignore[attr-defined]
    service.a_pool = service.pool(service.lb, name="p")  # type: ignore[attr-defined]
    service.a_listener = service.listener(service.lb, name="l", default_pool_id=service.a_pool["id"])  # type: ignore[attr-defined]
    service.a_member = service.member(service.a_pool, name="m")  # type: ignore[attr-defined]
    service.a_monitor = service.monitor(service.a_pool, name="h")  # type: ignore[attr-defined]
    service.settle()
    service.doorbell.wait(0)
    return service


def _paths(made: Any) -> dict[str, str]:
    return {
        "loadbalancers": f"loadbalancers/{made.lb['id']}",
        "listeners": f"listeners/{made.a_listener['id']}",
        "pools": f"pools/{made.a_pool['id']}",
        "members": f"pools/{made.a_pool['id']}/members/{made.a_member['id']}",
        "healthmonitors": f"healthmonitors/{made.a_monitor['id']}",
    }


def _statuses(made: Any) -> dict[str, str]:
    return {k: made.statuses(path)[0].removeprefix("PENDING_") for k, path in _paths(made).items()}


def test_replies_have_exactly_their_keys(made: Any) -> None:
    for plural, path in _paths(made).items():
        shown = next(iter(made.get(path).values()))
        assert set(shown) == KEYS[plural], plural
        assert made.get(path.rpartition("/")[0])[plural] == [shown]
        assert datetime.fromisoformat(shown["created_at"]).microsecond == 0
        assert "." not in shown["created_at"]
        assert shown["updated_at"] is None or plural == "loadbalancers"


def test_links_between_objects(made: Any) -> None:
    refs = {k: [{"id": v["id"]}] for k, v in (("lb", made.lb), ("l", made.a_listener), ("p", made.a_pool))}
    lb = made.get(_paths(made)["loadbalancers"])["loadbalancer"]
    assert (lb["listeners"], lb["pools"]) == (refs["l"], refs["p"])
    pool = made.get(_paths(made)["pools"])["pool"]
    assert (pool["listeners"], pool["loadbalancers"]) == (refs["l"], refs["lb"])
    assert (pool["members"], pool["healthmonitor_id"]) == ([{"id": made.a_member["id"]}], made.a_monitor["id"])
    assert made.get(_paths(made)["listeners"])["listener"]["loadbalancers"] == refs["lb"]
    assert made.get(_paths(made)["healthmonitors"])["healthmonitor"]["pools"] == refs["p"]
    lonely = made.pool(made.lb)
    assert "healthmonitor_id" not in lonely


def test_a_load_balancer_lives_and_dies(service: Service) -> None:
    lb = service.load_balancer(name="web", description="two\nlines", tags=["a", "b", "a"])
    assert lb["provisioning_status"] == "PENDING_CREATE"
    assert (lb["tags"], lb["provider"]) == (["a", "b"], "amphora")
    assert service.get(f"loadbalancers/{lb['id']}")["loadbalancer"] == lb
    service.settle()
    changed = service.put(f"loadbalancers/{lb['id']}", {"loadbalancer": {"name": "www", "admin_state_up": None}})
    assert (changed["loadbalancer"]["name"], changed["loadbalancer"]["admin_state_up"]) == ("www", False)
    assert changed["loadbalancer"]["provisioning_status"] == "PENDING_UPDATE"
    assert changed["loadbalancer"]["updated_at"] is not None
    service.delete(f"loadbalancers/{lb['id']}")
    assert service.statuses(f"loadbalancers/{lb['id']}") == ["PENDING_DELETE"]
    service.settle()
    service.get(f"loadbalancers/{lb['id']}", expect=404)


P, A, D = "UPDATE", "ACTIVE", "DELETE"
SETS = [
    ("PUT", "loadbalancers", [P, A, A, A, A]),
    ("PUT", "listeners", [P, P, A, A, A]),
    ("DELETE", "listeners", [P, D, A, A, A]),
    ("PUT", "pools", [P, P, P, A, A]),
    ("DELETE", "pools", [P, P, D, D, D]),
    ("PUT", "members", [P, P, P, P, A]),
    ("DELETE", "members", [P, P, P, D, A]),
    ("PUT", "healthmonitors", [P, P, P, A, P]),
    ("DELETE", "healthmonitors", [P, P, P, A, D]),
]


@pytest.mark.parametrize(("method", "plural", "after"), SETS)
def test_a_write_marks_what_is_above_it(made: Any, method: str, plural: str, after: list[str]) -> None:
    root = plural[:-1]
    reply = made.send(method, _paths(made)[plural], {root: {"name": "new"}} if method == "PUT" else None)
    assert reply.status_code in (200, 204)
    assert list(_statuses(made).values()) == after
    assert made.doorbell.wait(0) == {made.lb["id"]}


def test_creation_marks_what_is_above_it(made: Any) -> None:
    made.member(made.a_pool, address="10.2.0.2")
    assert list(_statuses(made).values()) == [P, P, P, A, A]
    made.settle()
    made.listener(made.lb, protocol_port=81)
    assert list(_statuses(made).values()) == [P, A, A, A, A]
    made.settle()
    other = made.pool(made.lb)
    assert list(_statuses(made).values()) == [P, A, A, A, A]
    made.settle()
    made.monitor(other)
    assert made.statuses(f"pools/{other['id']}") == ["PENDING_UPDATE"]


def test_writes_are_accepted_while_busy(service: Service) -> None:
    lb = service.load_balancer()
    listener = service.listener(lb)
    for name in ("a", "b", "c"):
        service.put(f"listeners/{listener['id']}", {"listener": {"name": name}})
        service.put(f"loadbalancers/{lb['id']}", {"loadbalancer": {"name": name}})
    assert service.statuses(f"loadbalancers/{lb['id']}", f"listeners/{listener['id']}") == ["PENDING_CREATE"] * 2
    with service.store.read() as conn:
        assert conn.execute(select(tables.work.c.generation).where(tables.work.c.subject == lb["id"])).scalar() == 8


def test_a_load_balancer_that_goes_refuses_writes(made: Any) -> None:
    made.delete(f"loadbalancers/{made.lb['id']}?cascade=True")
    sentence = f"Load Balancer {made.lb['id']} is immutable and cannot be updated."
    for plural, path in _paths(made).items():
        refused = made.put(path, {plural[:-1]: {"name": "x"}}, expect=409)
        assert refused["faultstring"] == sentence
    made.delete(f"loadbalancers/{made.lb['id']}?cascade=true", expect=409)
    made.put(f"loadbalancers/{made.lb['id']}/failover", by="admin", expect=409)
    assert list(_statuses(made).values()) == [D, A, A, A, A]


def test_deleting_works_in_error_and_again(made: Any) -> None:
    for _ in range(2):
        with made.store.write() as conn:
            conn.execute(update(tables.load_balancer).values(provisioning_status="ERROR", reason="The host is gone."))
        assert made.get(f"loadbalancers/{made.lb['id']}")["loadbalancer"]["reason"] == "The host is gone."
        made.delete(f"loadbalancers/{made.lb['id']}?cascade=1")
        assert made.statuses(f"loadbalancers/{made.lb['id']}") == ["PENDING_DELETE"]


def test_children_that_stay_hinder_deletion(made: Any) -> None:
    path = f"loadbalancers/{made.lb['id']}"
    said = made.delete(path, expect=400)["faultstring"]
    assert "it has children" in said
    assert "--cascade" in said
    made.delete(f"{path}?cascade=False", expect=400)
    made.delete(f"listeners/{made.a_listener['id']}")
    made.delete(path, expect=400)
    made.delete(f"pools/{made.a_pool['id']}")
    made.delete(path)


def test_deleting_a_pool_frees_its_listeners(made: Any) -> None:
    made.delete(f"pools/{made.a_pool['id']}")
    assert made.get(_paths(made)["listeners"])["listener"]["default_pool_id"] is None


def test_failover_raises_the_incarnation(made: Any) -> None:
    made.put(f"loadbalancers/{made.lb['id']}/failover", by="admin", expect=202)
    with made.store.read() as conn:
        assert conn.execute(select(tables.load_balancer.c.incarnation)).scalar() == 2
    assert made.statuses(f"loadbalancers/{made.lb['id']}") == ["PENDING_UPDATE"]


@pytest.mark.parametrize(
    ("plural", "given", "null"),
    [
        ("loadbalancers", {"name": "n", "description": "d"}, {"name": "", "description": ""}),
        ("listeners", {"connection_limit": 9, "insert_headers": {"X-Forwarded-For": "true"}, "timeout_client_data": 7},
         {"connection_limit": -1, "insert_headers": {}, "timeout_client_data": 50000}),
        ("listeners", {"allowed_cidrs": ["10.0.0.0/8"]}, {"allowed_cidrs": None}),
        ("listeners", {"admin_state_up": True}, {"admin_state_up": False}),
        ("pools", {"session_persistence": {"type": "SOURCE_IP"}}, {"session_persistence": None}),
        ("members", {"weight": 7, "backup": True, "monitor_port": 9, "monitor_address": "10.0.0.1"},
         {"weight": 1, "backup": False, "monitor_port": None, "monitor_address": None}),
        ("healthmonitors", {"max_retries_down": 5, "http_method": "HEAD", "url_path": "/x", "expected_codes": "204"},
         {"max_retries_down": 3, "http_method": "GET", "url_path": "/", "expected_codes": "200"}),
        ("healthmonitors", {"http_version": 1.1, "domain_name": "a.b"}, {"http_version": None, "domain_name": None}),
    ],
)  # fmt: skip
def test_null_means_the_default(made: Any, plural: str, given: dict[str, Any], null: dict[str, Any]) -> None:
    path, root = _paths(made)[plural], plural[:-1]
    changed = made.put(path, {root: given})[root]
    if "session_persistence" not in given:
        assert {k: changed[k] for k in given} == given
    changed = made.put(path, {root: dict.fromkeys(given)})[root]
    assert {k: changed[k] for k in null} == null
    assert made.get(path)[root] == changed


def test_session_persistence_keeps_its_type_and_has_four_keys(made: Any) -> None:
    path = _paths(made)["pools"]
    wanted = {"type": "APP_COOKIE", "cookie_name": "a"}
    made.put(path, {"pool": {"session_persistence": wanted}})
    changed = made.put(path, {"pool": {"session_persistence": {"cookie_name": "b"}}})["pool"]
    assert changed["session_persistence"] == {
        "type": "APP_COOKIE", "cookie_name": "b", "persistence_timeout": None, "persistence_granularity": None,
    }  # fmt: skip
    assert made.get(path)["pool"] == changed


def test_session_persistence_changes_in_what_is_named(made: Any) -> None:
    """While its type stays; another type begins anew."""
    pool = made.pool(
        made.lb, protocol="UDP",
        session_persistence={"type": "SOURCE_IP", "persistence_timeout": 30, "persistence_granularity": "255.0.0.0"},
    )  # fmt: skip
    path, all_of = f"pools/{pool['id']}", {**pool["session_persistence"]}
    for given in ({"persistence_timeout": 60}, {"type": "SOURCE_IP", "persistence_granularity": None}):
        changed = made.put(path, {"pool": {"session_persistence": given}})["pool"]["session_persistence"]
        all_of |= given
        assert changed == all_of
    path = _paths(made)["pools"]
    made.put(path, {"pool": {"session_persistence": {"type": "APP_COOKIE", "cookie_name": "a"}}})
    other = made.put(path, {"pool": {"session_persistence": {"type": "HTTP_COOKIE"}}})["pool"]
    assert other["session_persistence"]["cookie_name"] is None


def test_values_are_kept_in_their_normal_form(made: Any) -> None:
    member = made.member(made.a_pool, address="FD00:0::0:1", protocol_port="81", weight="3", backup="yes")
    assert (member["address"], member["protocol_port"], member["weight"], member["backup"]) == ("fd00::1", 81, 3, True)
    again = {"member": {"address": "fd00::1", "protocol_port": 81}}
    made.post(f"pools/{made.a_pool['id']}/members", again, expect=409)
    listener = made.listener(made.lb, protocol_port=82, allowed_cidrs=["10.1.2.3/8"])
    assert listener["allowed_cidrs"] == ["10.0.0.0/8"]


def test_members_begin_as_their_pool_is_watched(made: Any) -> None:
    assert made.a_member["operating_status"] == "NO_MONITOR"
    assert made.member(made.a_pool, address="10.2.0.9")["operating_status"] == "OFFLINE"


def test_a_member_is_found_in_its_own_pool_only(made: Any) -> None:
    other = made.pool(made.lb)
    for method, body in (("GET", None), ("PUT", {"member": {}}), ("DELETE", None)):
        reply = made.send(method, f"pools/{other['id']}/members/{made.a_member['id']}", body)
        assert (reply.status_code, reply.json["faultstring"]) == (404, f"Member {made.a_member['id']} not found.")
        reply = made.send(method, f"pools/{nobody_has()}/members/{made.a_member['id']}", body)
        assert (reply.status_code, reply.json["title"]) == (404, "Bad Request")


@pytest.mark.parametrize(
    ("path", "kind"),
    [("loadbalancers", "Load Balancer"), ("listeners", "Listener"), ("pools", "Pool"),
     ("healthmonitors", "Health Monitor"), ("l7policies", "L7Policy")],
)  # fmt: skip
def test_what_is_not_there_is_404(service: Service, path: str, kind: str) -> None:
    root = {"l7policies": "l7policy"}.get(path, path[:-1])
    for its_id in (nobody_has(), "some-name"):
        for method, body in (("GET", None), ("PUT", {root: {}}), ("DELETE", None)):
            reply = service.send(method, f"{path}/{its_id}", body)
            assert (reply.status_code, reply.json["faultstring"]) == (404, f"{kind} {its_id} not found.")


def test_events_tell_the_story_newest_first(made: Any) -> None:
    path = f"loadbalancers/{made.lb['id']}/events"
    events = made.get(path)["events"]
    assert [e["sentence"] for e in events[::-1]] == [
        f"Asked to create load balancer web (VIP {made.lb['vip_address']}).",
        "Asked to create pool p (HTTP, ROUND_ROBIN).",
        "Asked to create listener l (HTTP on port 80).",
        "Asked to create member m (10.2.0.1:8080, weight 1) of pool p.",
        "Asked to create health monitor h (HTTP every 1 s) of pool p.",
    ]
    assert set(events[0]) == {"id", "created_at", "kind", "object_type", "object_id", "sentence", "help"}
    assert (events[0]["kind"], events[0]["object_type"]) == ("asked", "healthmonitor")
    assert events[0]["object_id"] == made.a_monitor["id"]
    assert len(events[0]["created_at"]) == len("2026-11-22T21:48:38.123")
    first = made.get(f"{path}?limit=2")
    assert first["events"] == events[:2]
    rest = made.get(first["events_links"][0]["href"].partition("falconframework.org")[2])
    assert rest["events"] == events[2:4]
    made.get(f"{path}?marker=x", expect=400)


def test_the_status_tree(made: Any) -> None:
    for word in ("status", "statuses"):
        tree = made.get(f"loadbalancers/{made.lb['id']}/{word}")["statuses"]["loadbalancer"]
        pool = tree["listeners"][0]["pools"][0]
        assert (tree["id"], pool["id"]) == (made.lb["id"], made.a_pool["id"])
        assert (pool["health_monitor"]["id"], pool["health_monitor"]["type"]) == (made.a_monitor["id"], "HTTP")
        member = pool["members"][0]
        assert (member["id"], member["address"], member["protocol_port"]) == (made.a_member["id"], "10.2.0.1", 8080)
        assert member["provisioning_status"] == "ACTIVE"


def _counters(listener_id: str, lb_id: str, amphora_id: str, number: int) -> dict[str, Any]:
    names = ("bytes_in", "bytes_out", "total_connections", "request_errors")
    return {
        "listener_id": listener_id, "amphora_id": amphora_id, "loadbalancer_id": lb_id, "epoch": "e",
        "active_connections": number, **{f"base_{n}": number for n in names}, **{f"last_{n}": number for n in names},
    }  # fmt: skip


def test_statistics_are_sums_and_active_connections_are_of_now(made: Any) -> None:
    lb_id, listener = made.lb["id"], made.a_listener["id"]
    amphorae = [
        Amphora(id=nobody_has("1"), loadbalancer_id=lb_id, status=AmphoraStatus.ALLOCATED, role=Role.STANDALONE,
                created_at=datetime(2026, 1, 1), heartbeat_key="secret"),
        Amphora(id=nobody_has("2"), loadbalancer_id=lb_id, status=AmphoraStatus.DELETED,
                created_at=datetime(2026, 1, 1)),
    ]  # fmt: skip
    assert made.get(f"loadbalancers/{lb_id}/stats")["stats"] == dict.fromkeys(STATS, 0)
    with made.store.write() as conn:
        conn.execute(insert(tables.amphora), [rows.to_row(a) for a in amphorae])
        values = [_counters(listener, lb_id, amphorae[0].id, 10), _counters(listener, lb_id, amphorae[1].id, 1),
                  _counters(nobody_has("9"), lb_id, amphorae[0].id, 100)]  # fmt: skip
        conn.execute(insert(tables.listener_statistics), values)
    assert made.get(f"listeners/{listener}/stats")["stats"] == {**dict.fromkeys(STATS, 22), "active_connections": 10}
    whole = made.get(f"loadbalancers/{lb_id}/stats")["stats"]
    assert whole == {**dict.fromkeys(STATS, 222), "active_connections": 110}
    found = made.get(f"/v2/octavia/amphorae/{amphorae[0].id}/stats", by="admin")["amphora_stats"]
    assert sorted(v["bytes_in"] for v in found) == [20, 200]
    made.get(f"/v2/octavia/amphorae/{nobody_has()}/stats", by="admin", expect=404)


STATS = ("bytes_in", "bytes_out", "active_connections", "total_connections", "request_errors")


def test_amphorae(made: Any) -> None:
    amphora = Amphora(
        id=nobody_has("1"), loadbalancer_id=made.lb["id"], status=AmphoraStatus.ALLOCATED, role=Role.STANDALONE,
        created_at=datetime(2026, 1, 1), heartbeat_key="secret", agent_url="unix:///x",
    )  # fmt: skip
    with made.store.write() as conn:
        conn.execute(insert(tables.amphora), [rows.to_row(amphora)])
    shown = made.get(f"/v2/octavia/amphorae/{amphora.id}", by="admin")["amphora"]
    assert set(shown) == {
        "id", "loadbalancer_id", "compute_id", "lb_network_ip", "vrrp_ip", "ha_ip", "vrrp_port_id", "ha_port_id",
        "cert_expiration", "cert_busy", "role", "status", "vrrp_interface", "vrrp_id", "vrrp_priority", "cached_zone",
        "created_at", "updated_at", "image_id", "compute_flavor",
    }  # fmt: skip
    finds = {
        "": 1, f"?loadbalancer_id={made.lb['id']}": 1, "?status=ERROR": 0, "?role=STANDALONE": 1,
        "?project_id=alice-project": 1, "?project_id=bob-project": 0,
    }  # fmt: skip
    for query, count in finds.items():
        assert len(made.get(f"/v2.0/octavia/amphorae{query}", by="admin")["amphorae"]) == count, query
    made.get(f"/v2/octavia/amphorae/{nobody_has()}", by="admin", expect=404)
    made.put(f"/v2/octavia/amphorae/{nobody_has()}/failover", by="admin", expect=404)


def test_as_many_codes_as_a_monitor_may_expect_are_kept(service: Service) -> None:
    codes = ",".join(map(str, range(200, 216)))
    pool = service.pool(service.load_balancer())
    assert service.monitor(pool, type="HTTP", expected_codes=codes)["expected_codes"] == codes


@pytest.mark.parametrize(("error", "status"), [(Later("Neutron sleeps."), 503), (Broken("No address is free."), 400)])
def test_the_networks_troubles_are_told(service: Service, error: Exception, status: int) -> None:
    def trouble(effect: str, moment: str) -> None:
        raise error

    service.cloud.trouble = trouble
    body = {"loadbalancer": {"vip_subnet_id": service.subnet.id}}
    assert str(error) in service.post("loadbalancers", body, expect=status)["faultstring"]
